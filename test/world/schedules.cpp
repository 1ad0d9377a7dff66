// SPDX-License-Identifier: MIT
// Random programs of operations in worlds that are as unkind as the contract allows: every kind of
// operation, cancelled, closed, timed out, drained and destroyed at random points, on one loop or two,
// with small tables and pools. program.hpp says what is checked.
//
//   schedules [--ring] [first seed [count [trace|canary]]]      one hundredth of the seeds is run twice
//
// The loops' backend is the simulator, or with --ring the io_uring driver on the simulated ring, at each
// level, with and without each feature, with tiny queues, and a ring that refuses submissions.
//
// It prints how many schedules a second, how many faults each had, and how often each way to end was
// seen for each kind of operation; a way that the contract makes possible and that was not seen is a
// failure when 2,000 schedules or more were run.
#include "program.hpp"
#include "schedule_table.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace world_test {
namespace {

using whorl::testing::SimulationOptions;

// What a seed's world and loops are like: each unkindness is there or not, weak or strong.
struct Setting {
    explicit Setting(std::uint64_t seed) : random(seed * 0x9E3779B97F4A7C15u + 1) {
        options.seed = seed;
        options.latency_max = Nanoseconds(pick({0, 1'000, 50'000, 2'000'000}));
        options.send_buffer = static_cast<std::size_t>(pick({256, 1024, 4096, 65536}));
        options.receive_buffer = static_cast<std::size_t>(pick({256, 2048, 8192}));
        options.time_per_call = Nanoseconds(pick({0, 0, 40, 3'000}));
        options.short_transfer = chance(0.8);
        options.late_completion = chance(0.6);
        options.reordering = chance(0.9);
        options.stream_end = chance(0.5);
        options.cancel_loses = chance(0.7);
        options.operation_error = random.below(3) == 0 ? chance(0.1) : 0;
        options.call_error = random.below(8) == 0 ? 0.1 : 0;
        loops = 1 + random.below(2);
        loop.ops_max = static_cast<std::uint32_t>(pick({16, 40, 120, 400}));
        loop.handles_max = static_cast<std::uint32_t>(pick({5, 12, 40}));
        loop.posts_max = static_cast<std::uint32_t>(pick({2, 100}));
        loop.recv_buffer_size = static_cast<std::uint32_t>(pick({256, 4096, 16384}));
        // The pool maps 64 or 256 KiB at a time for a size: room for one of each size in use.
        loop.buffer_bytes_max = loop.recv_buffer_size == 16384 ? 448 << 10 : 192 << 10;
        loop.recv_bulk_buffer_size = static_cast<std::uint32_t>(pick({0, 1024, 16384}));
        loop.recv_bulk_ring_depth = 2;
        loop.recv_ring_depth = 2;
        loop.recv_ring_depth_max = 8;
        loop.recv_buffers_per_stream = static_cast<std::uint32_t>(pick({1, 2, 8}));
        loop.completions_per_turn = static_cast<std::uint32_t>(pick({1, 2, 16}));
        loop.posts_per_turn = static_cast<std::uint32_t>(pick({1, 16}));
        loop.timers_per_turn = static_cast<std::uint32_t>(pick({1, 16}));
    }

    void on_ring() {
        using whorl::testing::RingLevel;
        constexpr std::uint32_t features_all = 2 * feature_bit(whorl::Feature::no_iowait);
        const RingLevel levels[] = {RingLevel::linux_5_15, RingLevel::linux_6_1,
                                    RingLevel::linux_6_18};
        loop.backend = whorl::Backend::io_uring;
        options.ring_level = levels[random.below(3)];
        options.ring_refusal = chance(0.3);
        if (random.below(3) == 0) {
            loop.submission_queue_depth = 2;
            loop.completion_queue_depth = 4;
        }
        if (random.below(3) == 0) loop.features_off = random.below(features_all);
    }

    whorl::detail::SimChoices random;
    SimulationOptions options;
    whorl::LoopOptions loop;
    std::uint32_t loops = 1;
    bool canary = false;

  private:
    std::int64_t pick(std::initializer_list<std::int64_t> values) {
        return *(values.begin() + random.below(static_cast<std::uint32_t>(values.size())));
    }
    double chance(double most) {
        const double strengths[] = {0, most, most, most / 2};
        return strengths[random.below(4)];
    }
};

class Schedule {
  public:
    Schedule(World& world, Table& table, const Setting& setting)
        : world_(world), program_(world, table) {
        for (std::uint32_t count = 0; count < setting.loops; ++count) {
            program_.add_loop(setting.loop);
        }
        program_.canary = setting.canary;
        program_.scripted_breaks = setting.options.operation_error > 0;
        program_.hold_max = draw(8);
        program_.inside = [](Program&, void* schedule) {
            static_cast<Schedule*>(schedule)->in_handler();
        };
        program_.inside_context = this;
    }

    void run() {
        for (int tries = 0; tries < 4 && program_.listener_port == 0; ++tries) {
            program_.listen(draw(loops_max()), static_cast<int>(draw(4)));
        }
        for (std::uint32_t left = 40 + draw(60); left > 0 && !world_.failed(); --left) {
            for (std::uint32_t count = 1 + draw(4); count > 0; --count) act();
            let_go_on();
        }
        program_.finish(static_cast<Program::Ending>(draw(Program::endings)));
    }

  private:
    std::uint32_t draw(std::uint32_t bound) { return world_.draw(bound); }
    std::uint32_t loops_max() { return program_.alive(1) ? 2 : 1; }

    void let_go_on() {
        switch (draw(4)) {
            case 0:
                return;
            case 1: {
                const std::uint32_t index = draw(loops_max());
                program_.check(!program_.loop(index).poll(), "a turn failed");
                return;
            }
            case 2:
                return world_.advance(Nanoseconds(draw(20'000)));
            default:
                return world_.advance(Nanoseconds(draw(400'000)));
        }
    }

    // What a handler may do: all that may be done outside, too.
    void in_handler() {
        if (budget_ == 0 || draw(3) != 0) return;
        --budget_;
        act();
    }

    Nanoseconds within() {
        const std::uint32_t drawn = draw(12);
        if (drawn == 0) return Nanoseconds(0);
        return drawn < 3 ? Nanoseconds(draw(500'000)) : Program::never;
    }

    // One of the sockets (listeners) that are open, or none; now and then one that is closed.
    std::uint32_t holder(bool listens) {
        const auto count = static_cast<std::uint32_t>(program_.holders.size());
        for (std::uint32_t tries = 0; count != 0 && tries < 4; ++tries) {
            const std::uint32_t index = draw(count);
            const Holder& found = program_.holders[index];
            if (found.listens != listens || !program_.alive(found.loop)) continue;
            if (!found.closed || draw(8) == 0) return index;
        }
        return none;
    }
    std::uint32_t any_op() {
        const auto count = static_cast<std::uint32_t>(program_.ops.size());
        for (std::uint32_t tries = 0; count != 0 && tries < 6; ++tries) {
            const std::uint32_t index = count - 1 - draw(std::min(count, 24u));
            if (program_.ops[index].live) return index;
        }
        return none;
    }
    std::uint32_t size() { return draw(4) == 0 ? draw(5'000) : 1 + draw(200); }

    void act() {
        const std::uint32_t loop = draw(loops_max());
        const std::uint32_t what = draw(100);
        if (what < 58) transfer(what);
        else if (what < 72) connections(what - 58, loop);
        else if (what < 82) cancels(what - 72);
        else if (what < 92) times(what - 82, loop);
        else world_acts(what - 92, loop);
    }

    void transfer(std::uint32_t what) {
        const std::uint32_t socket = holder(false);
        if (socket == none) return connections(0, draw(loops_max()));
        if (what < 14) program_.send(Kind::send_all, socket, size(), within());
        else if (what < 22) program_.send(Kind::send, socket, size(), within());
        else if (what < 30) program_.send(Kind::send_chain, socket, size(), within());
        else if (what < 42) program_.recv_stream(socket, within());
        else if (what < 50) program_.recv(socket, 1 + draw(400), 0, within());
        else if (what < 52) program_.recv(socket, 1 + draw(40), MSG_PEEK, within());
        else if (what < 55) program_.recv(socket, 1 + draw(400), MSG_WAITALL, within());
        else if (what < 57) program_.shutdown(socket, within());
        else program_.misuse(socket);
    }

    void connections(std::uint32_t what, std::uint32_t loop) {
        const std::uint32_t listener = holder(true);
        if (what < 5) program_.connect(loop, port(), within());
        else if (what < 6) program_.connect(loop, draw(2) == 0 ? 9 : port(), within());
        else if (what < 8) program_.peer(port(), size(), static_cast<int>(draw(4)));
        else if (listener == none) program_.listen(loop, static_cast<int>(draw(4)));
        else if (what < 10) program_.accept(listener, within());
        else program_.accept_stream(listener, within());
    }
    std::uint16_t port() { return program_.listener_port != 0 ? program_.listener_port : 9; }

    void cancels(std::uint32_t what) {
        const std::uint32_t op = any_op();
        if (what < 7) {
            if (op == none) return;
            program_.cancel(op);
            if (draw(4) == 0) program_.cancel(op);
            return;
        }
        const std::uint32_t closing = holder(what == 9 && draw(4) == 0);
        if (closing != none) program_.close(closing, draw(2) == 0);
    }

    void times(std::uint32_t what, std::uint32_t loop) {
        const std::uint32_t op = any_op();
        switch (what) {
            case 0:
            case 1:
                program_.timer(loop, Nanoseconds(draw(500'000)));
                return;
            case 2:
                if (draw(3) == 0) program_.every(loop, Nanoseconds(100'000 + draw(2'000'000)));
                return;
            case 3:
            case 4:
                if (draw(3) == 0) program_.remote_post(loop);
                else program_.post(loop);
                return;
            case 5:
                program_.watch(loop);
                return;
            case 6:
                if (draw(4) == 0) program_.hook(loop);
                return;
            case 7:
                program_.nop(loop, within());
                return;
            case 8:
                return program_.wake_watches();
            default:
                if (op != none) program_.move(op, Nanoseconds(draw(300'000)));
        }
    }

    void world_acts(std::uint32_t what, std::uint32_t loop) {
        switch (what) {
            case 0:
                return draw(2) == 0 ? world_.partition() : world_.heal();
            case 1:
                if (draw(4) == 0) world_.heal();
                return;
            case 2:
            case 3:
                return break_one();
            case 4:
                return draw(3) == 0 ? world_.descriptors_spare(draw(3))
                                    : world_.descriptors_unlimited();
            case 5:
                program_.held.clear();
                if (depth_allows() && draw(8) == 0) program_.drain(loop);
                return;
            case 6:
                if (depth_allows() && draw(12) == 0 && loops_max() == 2) program_.destroy(1);
                return;
            default:
                return;
        }
    }
    bool depth_allows() const { return !program_.in_handler(); }

    void break_one() {
        const std::uint32_t socket = holder(false);
        if (socket == none) return;
        const Holder& holder = program_.holders[socket];
        if (holder.closed) return;
        world_.reset_after(program_.loop(holder.loop), holder.socket, draw(300));
    }

    World& world_;
    Program program_;
    std::uint32_t budget_ = 200;
};

struct Total {
    Table table;
    std::uint64_t faults = 0;
    std::uint64_t events = 0;
    std::uint64_t runs = 0;
};

enum class Mode { quiet, trace, canary };

struct Plan {
    bool ring = false;
    std::uint64_t first = 1;
    std::uint64_t count = 8000;
    Mode mode = Mode::quiet;
};

std::uint64_t run_seed(std::uint64_t seed, Total& total, const Plan& plan, Mode mode) {
    Setting setting(seed);
    if (plan.ring) setting.on_ring();
    setting.canary = mode == Mode::canary;
    World world(setting.options);
    if (mode == Mode::trace) world.trace_to(stdout);
    Schedule(world, total.table, setting).run();
    ++total.runs;
    total.faults += world.faults();
    total.events += world.events();
    if (world.failed()) {
        std::printf("%s", world.failure().text().c_str());
        std::printf("repeat with: schedules %s%llu 1 trace\n", plan.ring ? "--ring " : "",
                    static_cast<unsigned long long>(seed));
        std::exit(1);
    }
    return world.trace_hash();
}

int run(const Plan& plan) {
    Total total;
    const std::clock_t start = std::clock();
    for (std::uint64_t seed = plan.first; seed - plan.first < plan.count; ++seed) {
        const std::uint64_t hash = run_seed(seed, total, plan, plan.mode);
        if (seed % 100 != 0) continue;
        if (run_seed(seed, total, plan, Mode::quiet) != hash) {
            std::printf("seed %llu gave two different traces\n",
                        static_cast<unsigned long long>(seed));
            return 1;
        }
    }
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    const auto runs = static_cast<double>(total.runs);
    const int missing = print_table(total.table, plan.ring);
    std::printf(
        "schedules: %llu in %.1f s of processor time, %.0f a second, %.0f a minute; each "
        "%.0f faults and %.0f events\n",
        static_cast<unsigned long long>(total.runs), seconds, runs / seconds, runs / seconds * 60,
        static_cast<double>(total.faults) / runs, static_cast<double>(total.events) / runs);
    return missing == 0 || plan.count < 2000 ? 0 : 1;
}

}  // namespace
}  // namespace world_test

int main(int argc, char** argv) {
    using world_test::Mode;
    world_test::Plan plan;
    plan.ring = argc > 1 && std::strcmp(argv[1], "--ring") == 0;
    if (plan.ring) {
        --argc;
        ++argv;
    }
    if (argc > 1) plan.first = std::strtoull(argv[1], nullptr, 0);
    if (argc > 2) plan.count = std::strtoull(argv[2], nullptr, 0);
    const char* const mode = argc > 3 ? argv[3] : "";
    if (std::strcmp(mode, "trace") == 0) plan.mode = Mode::trace;
    if (std::strcmp(mode, "canary") == 0) plan.mode = Mode::canary;
    return world_test::run(plan);
}
