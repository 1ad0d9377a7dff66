// SPDX-License-Identifier: MIT
#include "fault/sweep.hpp"

#include "fault/allocation_faults.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <new>

namespace fault {

namespace {

using whorl::BackendReport;
using whorl::Loop;

constexpr int run_seconds_max = 15;
constexpr std::uint32_t at_max = 3000;
constexpr int exit_hang = 4;
constexpr int exit_refused = 5;
constexpr int exit_unsupported = 6;
constexpr int exit_unsound = 7;
constexpr std::uint32_t failures_max = 3;  // of one errno of one call; then the next one
constexpr int deaths_max = 2;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool memory_is_sanitized = true;
#elif defined(__has_feature)
constexpr bool memory_is_sanitized = __has_feature(address_sanitizer);
#else
constexpr bool memory_is_sanitized = false;
#endif

// What the child tells, and where it is: it may die at any point.
struct Shared {
    Tally tally;
    int error;
    std::uint32_t at;
    Census census;
    char refusal[512];
};

// --- What there is now, besides memory

struct Possessions {
    static constexpr int numbers = 256;
    bool open[numbers] = {};
    Memory memory;
    int ring_maps = 0;
};

// How many mappings are of rings.
int ring_maps_now() noexcept {
    static char text[256 * 1024];
    const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    std::size_t size = 0;
    ssize_t got = 0;
    while (size < sizeof text - 1 && (got = ::read(fd, text + size, sizeof text - 1 - size)) > 0) {
        size += static_cast<std::size_t>(got);
    }
    ::close(fd);
    text[size] = 0;
    int count = 0;
    for (const char* at = text; (at = std::strstr(at, "[io_uring]")) != nullptr; ++at) ++count;
    return count;
}

Possessions possessions_now() noexcept {
    const Pause pause;
    Possessions now;
    pollfd asked[Possessions::numbers];
    for (int number = 0; number < Possessions::numbers; ++number) asked[number] = {number, 0, 0};
    ::poll(asked, Possessions::numbers, 0);
    for (int number = 0; number < Possessions::numbers; ++number) {
        now.open[number] = (asked[number].revents & POLLNVAL) == 0;
    }
    now.ring_maps = ring_maps_now();
    now.memory = memory_now();
    return now;
}

void compare(const Possessions& before, World& world) noexcept {
    const Possessions now = possessions_now();
    for (int number = 0; number < Possessions::numbers; ++number) {
        if (now.open[number] && !before.open[number]) world.wrong("a descriptor was left open");
        if (!now.open[number] && before.open[number])
            world.wrong("a descriptor of others was closed");
    }
    // glibc's loader loses the name of a library that it fails to read.
    const bool loader_failed =
        world.errors_count() != 0 && world.error(0) == whorl::Error::libev_missing;
    if (now.memory.blocks != before.memory.blocks && !loader_failed) {
        world.wrong("memory was left allocated");
    }
    if (now.memory.bytes_mapped != before.memory.bytes_mapped)
        world.wrong("memory was left mapped");
    if (now.ring_maps != before.ring_maps) world.wrong("a ring was left mapped");
}

// --- One run

void run_once(const Sweep& what, World& world) noexcept {
    if (what.scenario->opens || world.open()) what.scenario->run(world);
    world.drain();
    {
        const Pause pause;
        world.echo_again();
    }
    world.destroy();
    const Pause pause;
    world.settle();
}

// What is wrong with a run's end, null when nothing is.
const char* judge(const Sweep& what, int error, bool has_fired, const World& world) noexcept {
    if (world.complaint() != nullptr) return world.complaint();
    const bool has_error = world.errors_count() != 0;
    if (!has_fired) {
        if (has_error) return "an error without a fault";
        return world.finished() ? nullptr : "it ended without a word";
    }
    const Expectation expected = expectation(calls[what.call], error, what.kind == Kind::libev);
    if (has_error) {
        const int first = world.error(0).value();
        for (const int mapped : expected.mapped) {
            if (mapped != 0 && first == mapped) return nullptr;
        }
        if (expected.outcome == Outcome::hidden) return "an error that should have been hidden";
        return first == error ? nullptr : "the error is not the one that was injected";
    }
    if (!world.finished()) return "the error was swallowed: neither finished nor reported";
    // Destruction tells nobody, and `automatic` takes the other backend.
    const bool silent = world.leaves_pending() || what.kind == Kind::automatic;
    const bool wanted = expected.outcome == Outcome::reported && !silent;
    return wanted ? "the error was not reported" : nullptr;
}

void print_failure(const Sweep& what, int error, std::uint32_t at, const char* why) noexcept {
    const char* scenario = what.scenario->name;
    const char* kind = kind_name(what.kind);
    const char* call = calls[what.call].name;
    std::printf("FAILED: %s on %s: %s number %u fails with %s: %s\n", scenario, kind, call, at,
                error_name(error), why);
    std::printf("  reproduce: test-fault --scenario %s --backend %s --call %s --errno %s --at %u\n",
                scenario, kind, call, error_name(error), at);
}

// --- The child

Shared* shared = nullptr;

void on_alarm(int) noexcept { ::_exit(exit_hang); }

// One fault; false when the run passed without it.
bool attempt(const Sweep& what, int error, std::uint32_t at, Possessions& before) noexcept {
    shared->error = error;
    shared->at = at;
    ::alarm(what.canary == Canary::hang ? 1 : run_seconds_max);
    World world(what.kind, what.canary);
    plan({what.call, error, at, error == trick_on});
    run_once(what, world);
    const bool has_fired = fired();
    plan({});
    compare(before, world);
    before = possessions_now();  // a leak is told once
    ++shared->tally.runs;
    if (has_fired) ++shared->tally.faults;
    const char* why = judge(what, error, has_fired, world);
    if (why != nullptr) {
        ++shared->tally.failures;
        print_failure(what, error, at, why);
    }
    if (why != nullptr || what.verbose) {
        std::printf("  %s, %s%s", has_fired ? "fault" : "no fault",
                    world.finished() ? "finished" : "not finished",
                    world.errors_count() != 0 ? ", told:" : "");
        for (int index = 0; index < world.errors_count(); ++index) {
            std::printf(" %s %s", world.where(index), world.error(index).name());
        }
        std::printf(" (%s %s %u)\n", calls[what.call].name, error_name(error), at);
        std::fflush(stdout);
    }
    return has_fired;
}

// Traps what the call needs. The calls that a sanitizer makes for itself stay as they are.
void install_for(int only) noexcept {
    long numbers[64];
    int count = 0;
    const bool all = only < 0;
    for (int index = 0; index < calls_count; ++index) {
        if (calls[index].kind == CallKind::system && (all || index == only)) {
            // The census needs to see a ring's memory; that much a sanitizer bears.
            if (!can_fail(calls[index]) && calls[index].number != SYS_mmap) continue;
            numbers[count++] = calls[index].number;
        }
    }
    if (!all && calls[only].kind == CallKind::submission) {
        for (const long number : {SYS_io_uring_setup, SYS_mmap, SYS_io_uring_enter}) {
            numbers[count++] = number;
        }
    }
    if (count == 0) return;
    switch (install(numbers, count)) {
        case Installed::yes:
            return;
        case Installed::refused:
            ::_exit(exit_refused);
        case Installed::unsupported:
            ::_exit(exit_unsupported);
    }
}

// What happens once in a process is done before anything is compared.
void prepare(const Scenario& scenario, int call) noexcept {
    struct sigaction action {};
    action.sa_handler = &on_alarm;
    sigaction(SIGALRM, &action, nullptr);
    // The loader keeps what it allocates when it loads a library for the first times. Elsewhere than in
    // the scenario about it, the library stays: the loader's calls would only make each run longer.
    for (int round = 0; round < 3; ++round) {
        void* library = ::dlopen("libev.so.4", RTLD_NOW | RTLD_LOCAL);
        const bool stays = std::strcmp(scenario.name, "create") != 0;
        if (library != nullptr && !stays) ::dlclose(library);
    }
    allocation_faults_prepare();
    install_for(call);
    ::alarm(2 * run_seconds_max);
}

bool warm_up(const Scenario& scenario, Kind kind) noexcept {
    bool sound = true;
    for (int round = 0; round < 2 && sound; ++round) {
        World world(kind, Canary::none);
        plan({});
        run_once({&scenario, kind, -1, 0, 0, Canary::none, false}, world);
        sound = world.finished() && world.complaint() == nullptr && world.errors_count() == 0;
    }
    return sound;
}

[[noreturn]] void child_sweep(const Sweep& what, int error_index, std::uint32_t first) noexcept {
    prepare(*what.scenario, what.call);
    if (!warm_up(*what.scenario, what.kind)) ::_exit(exit_unsound);
    Possessions before = possessions_now();
    const int* errors = calls[what.call].errors;
    for (; errors[error_index] != 0; ++error_index) {
        const int error = errors[error_index];
        if (what.error != 0 && what.error != error) continue;
        if (error == trick_async && what.scenario->cancels) continue;
        std::uint32_t failures_before = shared->tally.failures;
        for (std::uint32_t at = what.at != 0 ? what.at : first; at <= at_max; ++at) {
            if (!attempt(what, error, at, before) || what.at != 0) break;
            if (shared->tally.failures - failures_before >= failures_max) break;
        }
        first = 1;
    }
    std::fflush(stdout);
    ::_exit(0);
}

Shared* share() noexcept {
    void* memory =
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return ::new (memory) Shared();
}

// Where a sweep goes on after its child has died there.
int index_of_error(int call, int error) noexcept {
    int index = 0;
    while (calls[call].errors[index] != 0 && calls[call].errors[index] != error) ++index;
    return index;
}

}  // namespace

// A sanitizer calls these for itself, and ends the process when it is refused.
bool can_fail(const Call& call) noexcept {
    if (!memory_is_sanitized || call.kind != CallKind::system) return true;
    return call.number != SYS_mmap && call.number != SYS_munmap && call.number != SYS_mprotect;
}

Tally sweep(const Sweep& what) noexcept {
    shared = share();
    int error_index = 0;
    std::uint32_t first = 1;
    int deaths = 0;
    for (;;) {
        std::fflush(stdout);
        const pid_t child = ::fork();
        if (child == 0) child_sweep(what, error_index, first);
        int status = 0;
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
        ++shared->tally.failures;
        char why[100];
        if (WIFSIGNALED(status)) {
            std::snprintf(why, sizeof why, "died of signal %d", WTERMSIG(status));
        } else if (WEXITSTATUS(status) == exit_hang) {
            std::snprintf(why, sizeof why, "hangs");
        } else {
            std::snprintf(why, sizeof why, "exit status %d", WEXITSTATUS(status));
        }
        if (shared->at == 0) {
            std::printf("FAILED: %s on %s: %s before the first fault\n", what.scenario->name,
                        kind_name(what.kind), why);
            break;
        }
        print_failure(what, shared->error, shared->at, why);
        if (what.at != 0) break;
        const int died_in = index_of_error(what.call, shared->error);
        deaths = died_in == error_index ? deaths + 1 : 1;
        error_index = deaths < deaths_max ? died_in : died_in + 1;
        first = deaths < deaths_max ? shared->at + 1 : 1;
        if (deaths == deaths_max) deaths = 0;
        if (calls[what.call].errors[error_index] == 0) break;
    }
    return shared->tally;
}

// --- The census

namespace {

[[noreturn]] void child_census(const Scenario& scenario, Kind kind) noexcept {
    BackendReport report;
    if (!Loop::create(options_of(kind), report)) {
        std::snprintf(shared->refusal, sizeof shared->refusal, "%s", report.text);
        ::_exit(exit_refused);
    }
    prepare(scenario, -1);
    Census& counted = shared->census;
    counted.sound = warm_up(scenario, kind);
    World world(kind, Canary::none);
    const int allocation = call_find("allocation");
    plan({allocation, trick_once, UINT32_MAX});
    run_once({&scenario, kind, -1, 0, 0, Canary::none, false}, world);
    for (int index = 0; index < calls_count; ++index) {
        const Call& call = calls[index];
        switch (call.kind) {
            case CallKind::system:
                counted.counts[index] = calls_of(call.number);
                break;
            case CallKind::submission:
                counted.counts[index] = submissions_of(static_cast<int>(call.number));
                break;
            case CallKind::allocation:
                counted.counts[index] = calls_seen();
                break;
        }
    }
    ::_exit(0);
}

}  // namespace

Census census(const Scenario& scenario, Kind kind) noexcept {
    shared = share();
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) child_census(scenario, kind);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    Census counted = shared->census;
    if (WIFEXITED(status) && WEXITSTATUS(status) == exit_refused) {
        counted.refusal = shared->refusal[0] != 0 ? shared->refusal : "seccomp filters are refused";
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == exit_unsupported) {
        counted.refusal = "system calls are not trapped on this machine (x86-64 only)";
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        std::printf("the census ended with the wait status 0x%x\n", static_cast<unsigned>(status));
        counted.sound = false;
    }
    return counted;
}

}  // namespace fault
