// SPDX-License-Identifier: MIT
// Floor: 7
#include "core/world_state.hpp"

#include <whorl/assert.hpp>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

// Many seeds, and what is left of one that fails.

namespace whorl::testing {

namespace {

using Tape = std::vector<std::uint32_t>;

constexpr char two_traces[] = "the same seed gave two different traces";
constexpr char not_again[] =
    "; not again with the same seed: something in the test or the program depends on more than the "
    "seed";

struct Outcome {
    Failure failure;
    bool failed = false;
    std::uint64_t hash = 0;
    std::uint64_t faults = 0;
    std::uint64_t events = 0;
    Tape tape;
};

// What is set to nothing is not set.
const char* word_of(const char* name) noexcept {
    const char* word = std::getenv(name);
    return word != nullptr && *word != '\0' ? word : nullptr;
}

// A number in decimal, as failures print it.
std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* word = word_of(name);
    if (word == nullptr) return otherwise;
    std::uint64_t number = 0;
    const char* end = word + std::strlen(word);
    const std::from_chars_result read = std::from_chars(word, end, number);
    if (read.ec != std::errc() || read.ptr != end) {
        detail::panic("%s=%s in the environment: give a number, as 17", name, word);
    }
    return number;
}

std::size_t unkind_in(const Tape& tape) {
    const auto kind = std::count(tape.begin(), tape.end(), 0u);
    return tape.size() - static_cast<std::size_t>(kind);
}

}  // namespace

// One world a run; what makes a failure short.
struct Explorer {
    const Script<void(World&)>& scenario;

    // With a tape instead of the seed's choices, or recording these.
    Outcome run(const SimulationOptions& options, const Tape* tape, bool record) const {
        World world(options, tape);
        WorldState& state = world.state();
        state.kernel.choices.record(record);
        scenario(world);
        Outcome outcome;
        outcome.failed = world.failed();
        outcome.failure = world.failure();
        outcome.hash = world.trace_hash();
        outcome.faults = world.faults();
        outcome.events = world.events();
        if (record) outcome.tape = state.kernel.choices.tape();
        return outcome;
    }

    // Whether the run with this tape fails in the same way.
    bool fails(const SimulationOptions& options, const Tape& tape, Outcome& last) const {
        Outcome outcome = run(options, &tape, false);
        if (!outcome.failed || outcome.failure.what != last.failure.what) return false;
        last = std::move(outcome);
        last.tape = tape;
        return true;
    }

    void shrink(const SimulationOptions& options, std::uint32_t runs, Outcome& last) const {
        if (runs == 0 || !fails(options, Tape(last.tape), last)) return;
        cut(options, runs, last);
        zero(options, runs, last);
        cut(options, runs, last);
    }

    // Shorter from the end: half of what may still be cut, as long as it fails.
    void cut(const SimulationOptions& options, std::uint32_t& runs, Outcome& last) const {
        std::size_t step = last.tape.size();
        while (step != 0 && runs != 0) {
            step = std::min(step, last.tape.size());
            const Tape shorter(last.tape.begin(),
                               last.tape.end() - static_cast<std::ptrdiff_t>(step));
            --runs;
            if (step == 0 || !fails(options, shorter, last)) step /= 2;
        }
    }

    // Ranges put to the kind choice, halves first, single choices last (delta debugging, Zeller 1999).
    void zero(const SimulationOptions& options, std::uint32_t& runs, Outcome& last) const {
        std::size_t size = std::max<std::size_t>(last.tape.size() / 2, 1);
        for (;; size /= 2) {
            for (std::size_t first = 0; first < last.tape.size() && runs != 0; first += size) {
                Tape calmer = last.tape;
                const std::size_t end = std::min(first + size, calmer.size());
                const auto from = calmer.begin() + static_cast<std::ptrdiff_t>(first);
                const auto to = calmer.begin() + static_cast<std::ptrdiff_t>(end);
                if (std::all_of(from, to, [](std::uint32_t value) { return value == 0; })) continue;
                std::fill(from, to, 0u);
                --runs;
                static_cast<void>(fails(options, calmer, last));
            }
            if (size == 1 || runs == 0) return;
        }
    }
};

std::string Found::text() const {
    if (!failed) {
        return std::to_string(seeds) + " seeds, " + std::to_string(events) + " events, " +
               std::to_string(faults) + " faults: nothing failed\n";
    }
    return failure.text() + "  seed " + std::to_string(seed) + " made " + std::to_string(choices) +
           " choices; " + std::to_string(choices_left) + " unkind ones are left\n";
}

Found explore(const Script<void(World&)>& scenario, const Exploration& exploration) {
    const Explorer explorer{scenario};
    Found found;
    const bool one = word_of("WHORL_SEED") != nullptr;
    const std::uint64_t first = from_environment("WHORL_SEED", exploration.first_seed);
    const std::uint64_t count = one ? 1 : from_environment("WHORL_SEEDS", exploration.count);
    for (std::uint64_t seed = first; seed - first < count; ++seed) {
        SimulationOptions options = exploration.options(seed);
        options.seed = seed;
        Outcome outcome = explorer.run(options, nullptr, false);
        ++found.seeds;
        found.faults += outcome.faults;
        found.events += outcome.events;
        if (!outcome.failed && (seed % 100 == 0 || one)) {
            if (explorer.run(options, nullptr, false).hash != outcome.hash) {
                outcome.failed = true;
                outcome.failure.what = two_traces;
                outcome.failure.seed = seed;
            }
        }
        if (!outcome.failed) continue;
        outcome = [&] {
            Outcome recorded = explorer.run(options, nullptr, true);
            if (recorded.failed) return recorded;
            // Shown by its traces, or by this.
            if (outcome.failure.what != two_traces) outcome.failure.what += not_again;
            return outcome;
        }();
        found.failed = true;
        found.seed = seed;
        found.choices = outcome.tape.size();
        explorer.shrink(options, exploration.shrink_runs, outcome);
        found.failure = outcome.failure;
        found.choices_left = unkind_in(outcome.tape);
        found.tape = std::move(outcome.tape);
        if (exploration.print) std::fputs(found.text().c_str(), stderr);
        return found;
    }
    return found;
}

Failure replay(const Script<void(World&)>& scenario, const SimulationOptions& options,
               const std::vector<std::uint32_t>& tape) {
    return Explorer{scenario}.run(options, &tape, false).failure;
}

}  // namespace whorl::testing
