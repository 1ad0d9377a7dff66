// SPDX-License-Identifier: MIT
// Every single fault in every scenario: a scenario is run in a kind world, and each choice that the world
// had is noted. Then it is run again for every choice and every other way that it could have gone, with
// all others kind; a fault that has ways of its own (which error, how short, how late) is run in each of
// them. Last, everything is cancelled, closed, drained and destroyed after each step.
//
//   single_faults [scenario]      all, or those whose name begins so
//
// program.hpp says what is checked in every run.
#include "scenarios.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace world_test {
namespace {

using Tape = std::vector<std::uint32_t>;
using whorl::testing::SimulationOptions;

// What is done to the program after a step, besides the faults.
enum class Interruption { none, cancel, close, drain, destroy };

struct Run {
    const Scenario* scenario = nullptr;
    Tape tape;
    Program::Ending ending = Program::Ending::cancel;
    Interruption interruption = Interruption::none;
    std::uint64_t step = 0;
};

struct Seen {
    Tape bounds;
    std::uint64_t steps = 0;
};

// Every chance is drawn; the tape, not the dice, says what comes of it.
SimulationOptions all_chances() {
    SimulationOptions options;
    options.seed = 0;
    options.send_buffer = 2048;
    options.receive_buffer = 2048;
    options.short_transfer = options.late_completion = options.reordering = 0.5;
    options.stream_end = options.cancel_loses = options.operation_error = options.call_error = 0.5;
    return options;
}

void interrupt(Program& program, Interruption interruption) {
    if (interruption == Interruption::drain && program.alive(0)) program.drain(0);
    if (interruption == Interruption::destroy && program.alive(0)) program.destroy(0);
    if (interruption == Interruption::cancel) {
        const auto count = static_cast<std::uint32_t>(program.ops.size());
        for (std::uint32_t index = 0; index < count; ++index) program.cancel(index);
    }
    if (interruption == Interruption::close) {
        const auto count = static_cast<std::uint32_t>(program.holders.size());
        for (std::uint32_t index = 0; index < count; ++index) {
            if (!program.holders[index].closed) program.close(index, index % 2 == 0);
        }
    }
}

[[noreturn]] void report(const Run& run, const World& world) {
    std::printf("%s%s, ending %d, interruption %d after step %llu, choices:",
                world.failure().text().c_str(), run.scenario->name, static_cast<int>(run.ending),
                static_cast<int>(run.interruption), static_cast<unsigned long long>(run.step));
    for (std::size_t index = 0; index < run.tape.size(); ++index) {
        if (run.tape[index] != 0) std::printf(" %zu:%u", index, run.tape[index]);
    }
    std::printf("\n");
    std::exit(1);
}

struct Counts {
    Table table;
    std::uint64_t runs = 0;
    std::uint64_t choices = 0;
};

Seen execute(const Run& run, Counts& counts) {
    World world(all_chances());
    whorl::detail::SimChoices& choices = world.state().kernel.choices;
    choices.replay(run.tape);
    choices.record(true);
    std::uint64_t step = 0;
    {
        Program program(world, counts.table);
        program.scripted_breaks = true;  // an injected error may be one
        world.invariant("the interruption", [&] {
            if (++step == run.step) interrupt(program, run.interruption);
            return true;
        });
        run.scenario->run(program);
        program.finish(run.ending);
    }
    ++counts.runs;
    if (world.failed()) report(run, world);
    return {choices.bounds(), step};
}

// The other ways that a choice could have gone.
Tape others(std::uint32_t bound) {
    Tape ways;
    for (std::uint32_t way = 1; way < bound && bound <= 8; ++way) ways.push_back(way);
    if (bound > 8) ways = {1, bound / 2, bound - 1};
    return ways;
}

void fault_at(Run run, std::size_t index, const Tape& kind_bounds, Counts& counts) {
    for (const std::uint32_t way : others(kind_bounds[index])) {
        run.tape.assign(index, 0);
        run.tape.push_back(way);
        const Tape bounds = execute(run, counts).bounds;
        // What is drawn next and was not there before says how the fault is.
        if (bounds.size() <= index + 1 || bounds[index + 1] == 2) continue;
        if (index + 1 < kind_bounds.size() && bounds[index + 1] == kind_bounds[index + 1]) continue;
        run.tape.push_back(0);
        for (const std::uint32_t detail : others(bounds[index + 1])) {
            run.tape.back() = detail;
            execute(run, counts);
        }
    }
}

void explore(const Scenario& scenario, Counts& counts) {
    for (std::uint32_t ending = 0; ending < Program::endings; ++ending) {
        Run run;
        run.scenario = &scenario;
        run.ending = static_cast<Program::Ending>(ending);
        const Seen kind = execute(run, counts);
        for (std::uint64_t step = 1; step <= kind.steps; ++step) {
            run.step = step;
            for (const Interruption each : {Interruption::cancel, Interruption::close,
                                            Interruption::drain, Interruption::destroy}) {
                run.interruption = each;
                execute(run, counts);
            }
        }
        run.step = 0;
        run.interruption = Interruption::none;
        counts.choices += kind.bounds.size();
        for (std::size_t index = 0; index < kind.bounds.size(); ++index) {
            fault_at(run, index, kind.bounds, counts);
        }
    }
}

int run(const char* prefix) {
    Counts counts;
    const std::clock_t start = std::clock();
    std::size_t scenarios_run = 0;
    for (std::size_t index = 0; index < scenario_count; ++index) {
        if (std::strncmp(scenarios[index].name, prefix, std::strlen(prefix)) != 0) continue;
        const std::uint64_t before = counts.runs;
        explore(scenarios[index], counts);
        ++scenarios_run;
        std::printf("%-28s %llu runs\n", scenarios[index].name,
                    static_cast<unsigned long long>(counts.runs - before));
    }
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    std::printf("single faults: %zu scenarios, %llu choices, %llu runs, %.1f s of processor time\n",
                scenarios_run, static_cast<unsigned long long>(counts.choices),
                static_cast<unsigned long long>(counts.runs), seconds);
    return scenarios_run != 0 ? 0 : 1;
}

}  // namespace
}  // namespace world_test

int main(int argc, char** argv) { return world_test::run(argc > 1 ? argv[1] : ""); }
