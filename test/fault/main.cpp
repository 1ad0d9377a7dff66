// SPDX-License-Identifier: MIT
// Goal: every system call and every allocation of a scenario fails once, with every errno that it may
// have, and the library reports it or carries on, loses nothing, leaks nothing and works afterwards.
// Method: seccomp traps the calls of this very program (syscall_faults.hpp), on the real backends; a
// scenario (scenarios.cpp) is run with the first call of a kind failing, then with the second, until a
// run passes without a fault. See docs/testing.md.
#include "fault/sweep.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fault {
namespace {

constexpr int skipped = 77;
constexpr Kind kinds[] = {Kind::io_uring, Kind::io_uring_plain, Kind::libev, Kind::automatic};

int usage() noexcept {
    std::fprintf(stderr,
                 "usage: test-fault --scenario NAME --backend NAME [--call NAME [--errno NAME "
                 "[--at N]]] [--canary NAME] [--verbose]\n"
                 "       test-fault --coverage | --list\n");
    return 2;
}

struct Options {
    const char* scenario = nullptr;
    const char* backend = nullptr;
    const char* call = nullptr;
    const char* error = nullptr;
    const char* at = nullptr;
    const char* canary = nullptr;
    bool verbose = false;
    bool coverage = false;
    bool list = false;
};

bool parse(int count, char** words, Options& options) noexcept {
    const struct {
        const char* name;
        const char** value;
    } valued[] = {{"--scenario", &options.scenario},
                  {"--backend", &options.backend},
                  {"--call", &options.call},
                  {"--errno", &options.error},
                  {"--at", &options.at},
                  {"--canary", &options.canary}};
    for (int index = 1; index < count; ++index) {
        const char* word = words[index];
        if (std::strcmp(word, "--verbose") == 0) options.verbose = true;
        else if (std::strcmp(word, "--coverage") == 0) options.coverage = true;
        else if (std::strcmp(word, "--list") == 0) options.list = true;
        else {
            bool known = false;
            for (const auto& option : valued) {
                if (std::strcmp(word, option.name) != 0 || index + 1 == count) continue;
                *option.value = words[++index];
                known = true;
                break;
            }
            if (!known) return false;
        }
    }
    return true;
}

const Scenario* scenario_find(const char* name) noexcept {
    for (int index = 0; index < scenarios_count; ++index) {
        if (std::strcmp(scenarios[index].name, name) == 0) return &scenarios[index];
    }
    return nullptr;
}

bool canary_find(const char* name, Canary& canary) noexcept {
    const struct {
        const char* name;
        Canary canary;
    } known[] = {{"leak_descriptor", Canary::leak_descriptor},
                 {"leak_memory", Canary::leak_memory},
                 {"swallow", Canary::swallow},
                 {"lose_completion", Canary::lose_completion},
                 {"hang", Canary::hang}};
    for (const auto& entry : known) {
        if (std::strcmp(entry.name, name) != 0) continue;
        canary = entry.canary;
        return true;
    }
    return false;
}

// Valgrind makes system calls of its own on the program's behalf, past any filter of the program.
bool under_valgrind() noexcept {
    const char* preloaded = std::getenv("LD_PRELOAD");
    return preloaded != nullptr && std::strstr(preloaded, "vgpreload") != nullptr;
}

int skip(const char* reason) noexcept {
    std::printf("skipped: %s\n", reason);
    return skipped;
}

int run_sweeps(Sweep what, bool all_calls) noexcept {
    const Census counted = census(*what.scenario, what.kind);
    if (counted.refusal != nullptr) {
        if (std::getenv("WHORL_TEST_NO_SKIP") == nullptr) return skip(counted.refusal);
        std::printf("FAILED: refused: %s\n", counted.refusal);
        return 1;
    }
    if (!counted.sound) {
        std::printf("FAILED: %s on %s does not pass without a fault\n", what.scenario->name,
                    kind_name(what.kind));
        return 1;
    }
    Tally sum;
    int swept = 0;
    for (int call = 0; call < calls_count; ++call) {
        if (!all_calls && call != what.call) continue;
        if (all_calls && (counted.counts[call] == 0 || !can_fail(calls[call]))) continue;
        Sweep one = what;
        one.call = call;
        const Tally tally = sweep(one);
        sum.runs += tally.runs;
        sum.faults += tally.faults;
        sum.failures += tally.failures;
        ++swept;
        if (what.verbose) {
            std::printf("%s: made %u times, %u faults\n", calls[call].name, counted.counts[call],
                        tally.faults);
        }
    }
    std::printf("%s on %s: %d calls, %u runs, %u faults, %u failures\n", what.scenario->name,
                kind_name(what.kind), swept, sum.runs, sum.faults, sum.failures);
    if (sum.faults == 0) std::printf("FAILED: no fault has happened\n");
    return sum.failures == 0 && sum.faults != 0 ? 0 : 1;
}

// Every call that the table expects on a backend is made there by some scenario: none is forgotten.
int run_coverage() noexcept {
    std::uint32_t made[2][64] = {};
    bool refused[2] = {};
    for (int index = 0; index < scenarios_count; ++index) {
        for (const Kind kind : {Kind::io_uring, Kind::libev}) {
            const int backend = kind == Kind::libev ? 1 : 0;
            const Census counted = census(scenarios[index], kind);
            if (counted.refusal != nullptr) {
                std::printf("%s is refused: %s\n", kind_name(kind), counted.refusal);
                refused[backend] = true;
                continue;
            }
            if (!counted.sound) {
                std::printf("FAILED: %s on %s does not pass without a fault\n",
                            scenarios[index].name, kind_name(kind));
                return 1;
            }
            for (int call = 0; call < calls_count; ++call)
                made[backend][call] += counted.counts[call];
        }
    }
    if (refused[0] && refused[1]) return skip("no backend can be tried");
    int missing = 0;
    for (int call = 0; call < calls_count; ++call) {
        std::printf("%-18s io_uring %6u  libev %6u\n", calls[call].name, made[0][call],
                    made[1][call]);
        for (const unsigned backend : {on_uring, on_libev}) {
            const int column = backend == on_libev ? 1 : 0;
            const bool wanted = (calls[call].expected & backend) != 0 && !refused[column];
            if (!wanted || made[column][call] != 0 || !can_fail(calls[call])) continue;
            std::printf("FAILED: no scenario makes this call\n");
            ++missing;
        }
    }
    return missing == 0 ? 0 : 1;
}

int run_list() noexcept {
    for (int index = 0; index < scenarios_count; ++index) {
        std::printf("scenario %s\n", scenarios[index].name);
    }
    for (const Kind kind : kinds) std::printf("backend %s\n", kind_name(kind));
    for (int index = 0; index < calls_count; ++index) {
        std::printf("call %s:", calls[index].name);
        for (const int* error = calls[index].errors; *error != 0; ++error) {
            std::printf(" %s", error_name(*error));
        }
        std::printf("\n");
    }
    return 0;
}

int run(int count, char** words) noexcept {
    Options options;
    if (!parse(count, words, options)) return usage();
    if (options.list) return run_list();
    if (under_valgrind()) return skip("valgrind and seccomp traps do not go together");
    if (options.coverage) return run_coverage();
    if (options.scenario == nullptr || options.backend == nullptr) return usage();
    Sweep what{
        scenario_find(options.scenario), Kind::io_uring, -1, 0, 0, Canary::none, options.verbose};
    if (what.scenario == nullptr) return usage();
    bool known = false;
    for (const Kind kind : kinds) {
        if (std::strcmp(kind_name(kind), options.backend) != 0) continue;
        what.kind = kind;
        known = true;
    }
    if (options.call != nullptr) what.call = call_find(options.call);
    if (options.error != nullptr) what.error = error_parse(options.error);
    if (options.at != nullptr) what.at = static_cast<std::uint32_t>(std::atoi(options.at));
    if (options.call != nullptr && what.call < 0) return usage();
    if (options.error != nullptr && what.error == 0) return usage();
    if (options.canary != nullptr && !canary_find(options.canary, what.canary)) return usage();
    return known ? run_sweeps(what, options.call == nullptr) : usage();
}

}  // namespace
}  // namespace fault

int main(int count, char** words) {
    static char text[8192];  // not from the heap, whose blocks are counted
    std::setvbuf(stdout, text, _IOLBF, sizeof text);
    return fault::run(count, words);
}
