// SPDX-License-Identifier: MIT
#include <whorl/whorl.hpp>

#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "findings.hpp"

namespace doctor {

namespace {

using whorl::Backend;
using whorl::BackendReport;
using whorl::Feature;
using whorl::Loop;
using whorl::LoopOptions;
using whorl::Result;

const char* name_of(Feature feature) {
    switch (feature) {
#define DOCTOR_NAME(name, text) \
    case Feature::name:         \
        return #name;
        WHORL_FEATURE_LIST(DOCTOR_NAME)
#undef DOCTOR_NAME
    }
    return "unknown";
}

const char* text_of(Feature feature) {
    switch (feature) {
#define DOCTOR_TEXT(name, text) \
    case Feature::name:         \
        return text;
        WHORL_FEATURE_LIST(DOCTOR_TEXT)
#undef DOCTOR_TEXT
    }
    return "";
}

// What it costs to be without, as docs/benchmarks.md and docs/decisions tell.
const char* loss_of(Feature feature) {
    switch (feature) {
        case Feature::multishot_accept:
            return "a submission for every connection that is accepted";
        case Feature::multishot_recv:
            return "a submission for every message that is received";
        case Feature::buffer_ring:
            return "received streams wait for readiness first: a submission and a call more a "
                   "message";
        case Feature::defer_taskrun:
            return "completions interrupt the program; more context switches under load";
        case Feature::registered_ring:
            return "a look-up of the ring's descriptor with each call into the kernel";
        case Feature::no_iowait:
            return "an idle loop is shown as waiting for a disk (iowait) in top and vmstat; it "
                   "costs "
                   "nothing else";
    }
    return "";
}

// A message through a socket pair and back, by operations of whorl.
bool bytes_come_through(Loop& loop) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return false;
    const Result<whorl::Socket> near = whorl::adopt_socket(loop, ends[0]);
    bool came = false;
    if (near) {
        const auto sent = [](Loop&, whorl::SendAll::Done) {};
        const auto got = [&](Loop& inner, whorl::Recv::Done done) {
            came = !done.error && done.buffer.text() == "back";
            inner.stop();
        };
        const bool asked =
            loop.submit(whorl::SendAll{*near, whorl::Buffer::copy_of(whorl::Bytes{"forth", 5})},
                        sent) &&
            loop.submit(whorl::Recv{*near, loop.buffer(16)}, whorl::within(std::chrono::seconds(2)),
                        got);
        if (asked && !loop.poll() && ::write(ends[1], "back", 4) == 4) (void)!loop.run();
        char text[8];
        came =
            came && ::read(ends[1], text, sizeof text) == 5 && std::memcmp(text, "forth", 5) == 0;
    }
    ::close(ends[1]);
    return came;
}

void examine_features(Report& report, const BackendReport& backend) {
    const char* disabled = std::getenv("WHORL_DISABLE");
    for (unsigned index = 0; index < 32; ++index) {
        const auto feature = static_cast<Feature>(index);
        if (*text_of(feature) == 0) break;
        const std::uint32_t bit = whorl::feature_bit(feature);
        const std::string subject = std::string("feature.") + name_of(feature);
        if ((backend.features & bit) != 0) {
            report.add(subject.c_str(), Level::good, text_of(feature));
            continue;
        }
        std::string what = std::string("off: ") + loss_of(feature);
        const bool asked =
            disabled != nullptr && std::strstr(disabled, name_of(feature)) != nullptr;
        if (asked) {
            report.add(subject.c_str(), Level::note, what, "WHORL_DISABLE names it; unset that");
        } else if ((backend.features_distrusted & bit) != 0) {
            report.add(subject.c_str(), Level::note, what,
                       "this kernel has it and is known to get it wrong; take a newer one");
        } else {
            report.add(subject.c_str(), feature == Feature::no_iowait ? Level::note : Level::poor,
                       what, "this kernel does not offer it; " + std::string(text_of(feature)));
        }
    }
}

// True when a loop on this backend works.
bool examine(Report& report, Backend backend) {
    LoopOptions options;
    options.backend = backend;
    BackendReport found;
    Result<Loop> loop = Loop::create(options, found);
    const char* name = whorl::name_of(backend);
    if (!loop) {
        const bool main = backend == Backend::io_uring;
        report.add(name, main ? Level::poor : Level::note, found.text);
        if (main) {
            utsname system{};
            ::uname(&system);
            Cause cause = cause_of(found, kernel_of(system.release));
            report.add("io_uring.cause", Level::poor, cause.word, cause.cure);
        }
        return false;
    }
    if (!bytes_come_through(*loop)) {
        report.add(name, Level::bad, "a loop was made, but bytes do not come through",
                   "please report it with the kernel's version");
        return false;
    }
    report.add(name, Level::good, "works: bytes come through");
    if (backend == Backend::io_uring) examine_features(report, loop->backend_report());
    return true;
}

}  // namespace

std::string version() {
    return std::to_string(WHORL_VERSION_MAJOR) + "." + std::to_string(WHORL_VERSION_MINOR) + "." +
           std::to_string(WHORL_VERSION_PATCH);
}

int examine_backends(Report& report) {
    utsname system{};
    ::uname(&system);
    report.add("whorl", Level::note, version());
    report.add("kernel", Level::note,
               std::string(system.sysname) + " " + system.release + " " + system.machine);
    const bool has_uring = examine(report, Backend::io_uring);
    const bool has_libev = examine(report, Backend::libev);

    BackendReport chosen;
    const Result<Loop> loop = Loop::create({}, chosen);
    const char* words = std::getenv("WHORL_BACKEND");
    if (!loop) {
        report.add("automatic", Level::bad, chosen.text);
        return 2;
    }
    const bool is_uring = chosen.chosen == Backend::io_uring;
    const bool asked = words != nullptr && *words != 0;
    report.add("automatic", is_uring || asked ? Level::good : Level::poor, chosen.text,
               asked ? "WHORL_BACKEND decides; unset it to have the choice made" : "");
    if (!has_uring && !has_libev) return 2;
    return is_uring ? 0 : 1;
}

}  // namespace doctor
