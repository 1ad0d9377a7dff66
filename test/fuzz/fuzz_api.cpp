// SPDX-License-Identifier: MIT
// Goal: no sequence of calls of the API breaks its contract.
// Method: the machine of machine.hpp, on whichever backend the first byte says.
#include "fuzz/fuzz.hpp"
#include "fuzz/machine.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace fuzz {

namespace {

constexpr std::uint32_t steps_max = 150;

// The lowest descriptor that is free: the same before and after, or one was left open.
int lowest_free() {
    const int fd = ::fcntl(0, F_DUPFD_CLOEXEC, 0);
    ::close(fd);
    return fd;
}

}  // namespace

const char* const target_name = "fuzz_api";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    return draw_any(random, data, size_max < 600 ? size_max : 600);
}

int target(const std::uint8_t* data, std::size_t size) {
    model::Run run(target_name);
    model::Random random(data, size);
    Ground* ground = real_ground(random.below(256));
    if (ground == nullptr) return 0;
    const int free_before = lowest_free();
    {
        Machine machine(run, random, *ground);
        for (std::uint32_t step = 0; step < steps_max && !random.exhausted(); ++step) {
            machine.step();
        }
        machine.finish();
    }
    run.expect(lowest_free() == free_before, "a descriptor was left open");
    return 0;
}

}  // namespace fuzz
