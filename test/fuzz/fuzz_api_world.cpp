// SPDX-License-Identifier: MIT
// Goal: no sequence of calls of the API breaks its contract, whatever the kernel may choose to do.
// Method: the machine of machine.hpp in a simulated world, on the simulator or on the io_uring driver and a
// simulated ring. Bytes say what the world is like, too: unlike on a real kernel, an input that fails
// fails again. One input in sixteen runs twice and must leave the same trace.
#include "fuzz/fuzz.hpp"
#include "fuzz/machine.hpp"
#include "fuzz/world_ground.hpp"

namespace fuzz {

namespace {

using whorl::Nanoseconds;
using whorl::testing::RingLevel;
using whorl::testing::SimulationOptions;

constexpr std::uint32_t steps_max = 150;

// Each unkindness is there or not, weak or strong.
SimulationOptions options_from(model::Random& random) {
    const auto chance = [&random](double most) {
        const double strengths[] = {0, most, most / 2, most / 8};
        return strengths[random.below(4)];
    };
    SimulationOptions options;
    options.seed = random.below(256);
    options.time_per_call = Nanoseconds(40);
    options.latency_max = Nanoseconds(random.one_in(2) ? 50'000 : 0);
    options.send_buffer = random.one_in(2) ? 1024 : 65536;
    options.receive_buffer = random.one_in(2) ? 512 : 65536;
    options.short_transfer = chance(0.8);
    options.late_completion = chance(0.6);
    options.reordering = chance(0.9);
    options.stream_end = chance(0.5);
    options.cancel_loses = chance(0.8);
    options.operation_error = chance(0.2);
    options.ring_refusal = chance(0.3);
    constexpr RingLevel levels[] = {RingLevel::linux_5_15, RingLevel::linux_6_1,
                                    RingLevel::linux_6_18, RingLevel::linux_6_18};
    options.ring_level = levels[random.below(4)];
    return options;
}

std::uint64_t run_once(const std::uint8_t* data, std::size_t size, bool& again) {
    model::Run run(target_name);
    model::Random random(data, size);
    const bool ring = random.one_in(2);
    const SimulationOptions options = options_from(random);
    again = options.seed % 16 == 0;
    WorldGround ground(options, ring ? whorl::Backend::io_uring : whorl::Backend::simulator);
    {
        Machine machine(run, random, ground);
        for (std::uint32_t step = 0; step < steps_max && !random.exhausted(); ++step) {
            machine.step();
        }
        machine.finish();
    }
    run.expect(ground.world.descriptors() == 0, "a descriptor was left open");
    return ground.world.trace_hash();
}

}  // namespace

const char* const target_name = "fuzz_api_world";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    return draw_any(random, data, size_max < 600 ? size_max : 600);
}

int target(const std::uint8_t* data, std::size_t size) {
    bool again = false;
    const std::uint64_t hash = run_once(data, size, again);
    if (!again) return 0;
    model::Run run(target_name);
    run.expect(run_once(data, size, again) == hash, "the same bytes took other steps");
    return 0;
}

}  // namespace fuzz
