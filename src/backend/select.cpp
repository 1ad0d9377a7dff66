// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/select.hpp"

#include "backend/ring_limit.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

// Which backend, and why. Any refusal of io_uring leads to the fallback, except running out of
// descriptors, which the fallback could not cure.

namespace whorl::detail {

namespace {

std::size_t read_file(const char* path, char* text, std::size_t size) noexcept {
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = 0;
    if (fd >= 0) {
        got = ::read(fd, text, size - 1);
        ::close(fd);
    }
    if (got < 0) got = 0;
    text[got] = 0;
    return static_cast<std::size_t>(got);
}

void report_surroundings(BackendReport& report) noexcept {
    char text[4096];
    if (read_file("/proc/sys/kernel/io_uring_disabled", text, sizeof text) != 0) {
        report.sysctl_io_uring_disabled = std::atoi(text);
    }
    read_file("/proc/self/status", text, sizeof text);
    if (const char* line = std::strstr(text, "\nSeccomp:")) {
        report.seccomp_mode = std::atoi(line + std::strlen("\nSeccomp:"));
    }
    rlimit limit{};
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) report.memlock_bytes = limit.rlim_cur;
}

// The likely cause and its cure, for one errno of one step.
const char* likely_cause(const BackendReport& report) noexcept {
    switch (report.failed_errno) {
        case EPERM:
            if (report.sysctl_io_uring_disabled > 0) {
                return "kernel.io_uring_disabled forbids it; set it to 0, or join the group of "
                       "kernel.io_uring_group";
            }
            return "likely a seccomp filter, as container runtimes install by default; allow "
                   "io_uring_setup, io_uring_enter and io_uring_register in its profile";
        case EACCES:
            return "likely a security module such as SELinux; allow io_uring for this domain";
        case ENOSYS:
            return "a kernel before 5.11 or without io_uring, or a seccomp profile that answers so "
                   "(Podman's does); allow the three io_uring calls there";
        case ENOMEM:
            return "locked memory is short; raise RLIMIT_MEMLOCK (ulimit -l) or lower "
                   "LoopOptions::submission_queue_depth";
        case EMFILE:
        case ENFILE:
            return "no descriptor is free; raise RLIMIT_NOFILE (ulimit -n)";
        case ENOSPC:
            return "no more can be watched; raise fs.epoll.max_user_watches";
        default:
            return "not a usual refusal; please report it with the kernel's version";
    }
}

void append_refusal(const char* prefix, BackendReport& report) noexcept {
    const Error error = Error::from_errno(report.failed_errno);
    const std::size_t length = std::strlen(report.text);
    std::snprintf(report.text + length, sizeof report.text - length,
                  "%s%s was refused (%s: %s): %s", prefix, report.failed_step, error.name(),
                  error.text(), likely_cause(report));
}

// WHORL_BACKEND replaces `automatic`. Returns false for a word that is no backend.
bool backend_from_environment(Backend& backend) noexcept {
    const char* word = secure_getenv("WHORL_BACKEND");
    if (word == nullptr || *word == 0 || backend != Backend::automatic) return true;
    if (std::strcmp(word, "io_uring") == 0) backend = Backend::io_uring;
    else if (std::strcmp(word, "libev") == 0) backend = Backend::libev;
    else if (std::strcmp(word, "automatic") != 0) return false;
    return true;
}

// WHORL_DISABLE=name,name adds to the features switched off. Unknown names are ignored: the variable
// may be meant for a later version.
std::uint32_t features_from_environment() noexcept {
    const char* words = secure_getenv("WHORL_DISABLE");
    if (words == nullptr) return 0;
    std::uint32_t off = 0;
    std::string_view rest(words);
    while (!rest.empty()) {
        const std::size_t comma = rest.find(',');
        const std::string_view word = rest.substr(0, comma);
#define WHORL_FEATURE_MATCH(name, text) \
    if (word == #name) off |= feature_bit(Feature::name);
        WHORL_FEATURE_LIST(WHORL_FEATURE_MATCH)
#undef WHORL_FEATURE_MATCH
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    }
    return off;
}

// io_uring as the kernel offers it, less what is known not to work there.
Result<Driver*> select_uring(const DriverContext& context, const KernelVersion& kernel,
                             const char* why, BackendReport& report) noexcept {
    const std::uint32_t distrusted = kernel_judge(kernel).features_off;
    const std::uint32_t off = context.options.features_off | features_from_environment() |
                              ~ring_limit_features(context.options.ring_limit);
    report.features_distrusted = distrusted & ~off;
    Result<Driver*> made = make_uring_driver(context, off | distrusted, report);
    if (!made) return made;
    report.chosen = Backend::io_uring;
    std::snprintf(report.text, sizeof report.text, "io_uring: %s", why);
    const std::size_t length = std::strlen(report.text);
    kernel_explain(kernel, report.features_distrusted, report.text + length,
                   sizeof report.text - length);
    return made;
}

Result<Driver*> select_libev(const DriverContext& context, BackendReport& report) noexcept {
    Result<Driver*> made = make_libev_driver(context, report);
    if (made) {
        report.chosen = Backend::libev;
        return made;
    }
    if (made.error().is_errno()) {
        append_refusal(report.text[0] == 0 ? "libev: " : "; ", report);
        return made;
    }
    const std::size_t length = std::strlen(report.text);
    std::snprintf(report.text + length, sizeof report.text - length, "%s%s: %s",
                  length == 0 ? "libev: " : "; ", report.failed_step, made.error().text());
    return made;
}

// A loop in a simulated world: on the simulator, or on the io_uring driver over a simulated ring.
Result<Driver*> select_simulated(const DriverContext& context, BackendReport& report) noexcept {
    const LoopOptions& options = context.options;
    const auto say = [&report](const char* text) {
        std::snprintf(report.text, sizeof report.text, "%s", text);
    };
    if (options.world == nullptr) {
        say("the simulator needs a world; make the loop by testing::World::make_loop()");
        return Error::invalid_argument;
    }
    if (options.backend == Backend::libev) {
        say("libev: it cannot run in a simulated world; use simulator or io_uring");
        return Error::invalid_argument;
    }
    if (options.backend != Backend::io_uring) {
        report.chosen = Backend::simulator;
        say("simulator: as asked for");
        return make_sim_driver(context);
    }
    Result<Driver*> made = make_uring_driver(context, options.features_off, report);
    if (made) {
        report.chosen = Backend::io_uring;
        say("io_uring: on a simulated ring");
        return made;
    }
    append_refusal("io_uring: ", report);
    return Error::backend_unavailable;
}

}  // namespace

Result<Driver*> select_driver(const DriverContext& context, const KernelVersion& kernel,
                              BackendReport& report) noexcept {
    report = BackendReport{};
    if (context.options.world != nullptr || context.options.backend == Backend::simulator) {
        return select_simulated(context, report);
    }
    report_surroundings(report);
    Backend wanted = context.options.backend;
    if (!backend_from_environment(wanted)) {
        std::snprintf(report.text, sizeof report.text,
                      "WHORL_BACKEND names no backend; use automatic, io_uring or libev");
        return Error::invalid_argument;
    }
    if (wanted == Backend::libev) {
        Result<Driver*> made = select_libev(context, report);
        if (made) std::snprintf(report.text, sizeof report.text, "libev: as asked for");
        return made;
    }
    const bool asked_for = wanted == Backend::io_uring;
    const char* prefix = asked_for ? "io_uring: " : "libev: io_uring cannot be used; ";
    if (const KernelQuirk* quirk = kernel_judge(kernel).refused) {
        report.failed_step = "io_uring on this kernel";
        std::snprintf(report.text, sizeof report.text, "%son this kernel %s (%s)", prefix,
                      quirk->reason, quirk->source);
        if (asked_for) return Error::backend_unavailable;
        report.fell_back = true;
        return select_libev(context, report);
    }
    Result<Driver*> made =
        select_uring(context, kernel, asked_for ? "as asked for" : "available", report);
    if (made) return made;
    const Error refusal = made.error();
    const bool out_of_descriptors = refusal.value() == EMFILE || refusal.value() == ENFILE;
    if (asked_for || out_of_descriptors) {
        append_refusal("io_uring: ", report);
        return out_of_descriptors ? refusal : Error(Error::backend_unavailable);
    }
    report.fell_back = true;
    append_refusal(prefix, report);
    return select_libev(context, report);
}

}  // namespace whorl::detail
