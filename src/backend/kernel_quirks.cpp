// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/kernel_quirks.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <iterator>

namespace whorl::detail {

namespace {

constexpr std::uint32_t accepts = feature_bit(Feature::multishot_accept);
constexpr std::uint32_t receives = feature_bit(Feature::multishot_recv);

constexpr KernelVersion version(std::uint16_t major, std::uint16_t minor, std::uint16_t patch = 0) {
    return {major, minor, patch, true};
}

// Only what a fix, a report by the maintainers or our own tests prove. A fix is named by the title of
// its commit, and the versions with it are those of the stable series that Debian's changelogs list;
// series that nobody maintains any more count as unmended. The worst of a feature stands first.
constexpr KernelQuirk quirks[] = {
    {version(6, 0), version(6, 1, 7), 0,
     "a cancellation may not find a polled request, which never ends",
     "commit \"io_uring/poll: add hash if ready poll request can't complete inline\""},
    {version(6, 1, 120), version(6, 1, 128), 0,
     "completions may not wake the thread that waits for them",
     "commit \"io_uring: fix waiters missing wake ups\", Debian bug 1093243"},

    {version(6, 6), version(6, 9), accepts, "may answer with descriptors that are none",
     "liburing issue 1062"},
    {version(5, 19), version(6, 1, 135), accepts, "may lose a connection when the queue is full",
     "commit \"io_uring/net: fix accept multishot handling\""},
    {version(6, 2), version(6, 12, 24), accepts, "may lose a connection when the queue is full",
     "commit \"io_uring/net: fix accept multishot handling\""},
    {version(6, 13), version(6, 15), accepts, "may lose a connection when the queue is full",
     "commit \"io_uring/net: fix accept multishot handling\""},

    {version(6, 1, 7), version(6, 1, 8), receives, "takes every buffer for one message",
     "liburing issue 778"},
    // af_unix tells how much is left since 6.17, so that nobody looks again for the end; 6.18.44 is the
    // first that our test has passed on.
    {version(6, 17), version(6, 18, 44), receives, "may lose the end of a Unix stream",
     "liburing issue 1549"},
    {version(6, 19), version(7, 0), receives, "may lose the end of a Unix stream",
     "liburing issue 1549"},
};

constexpr std::uint64_t rank(const KernelVersion& kernel, std::uint16_t patch) {
    return std::uint64_t{kernel.major} << 32 | std::uint64_t{kernel.minor} << 16 | patch;
}

bool applies(const KernelQuirk& quirk, const KernelVersion& kernel) noexcept {
    const std::uint64_t from = rank(quirk.from, quirk.from.patch);
    const std::uint64_t before = rank(quirk.before, quirk.before.patch);
    const std::uint64_t first = rank(kernel, kernel.patch_known ? kernel.patch : 0);
    const std::uint64_t last = rank(kernel, kernel.patch_known ? kernel.patch : 0xFFFF);
    if (kernel.major == 0) return false;
    if (quirk.features == 0) return from <= first && last < before;
    return from <= last && first < before;
}

bool digit(char letter) noexcept { return letter >= '0' && letter <= '9'; }

// Takes a number and what precedes it, a dot for all but the first, from the front of `text`.
bool take_number(std::string_view& text, bool dotted, std::uint16_t& number) noexcept {
    std::string_view rest = text;
    if (dotted) {
        if (rest.empty() || rest.front() != '.') return false;
        rest.remove_prefix(1);
    }
    if (rest.empty() || !digit(rest.front())) return false;
    std::uint32_t value = 0;
    for (; !rest.empty() && digit(rest.front()); rest.remove_prefix(1)) {
        value =
            std::min<std::uint32_t>(value * 10 + static_cast<unsigned>(rest.front() - '0'), 0xFFFF);
    }
    number = static_cast<std::uint16_t>(value);
    text = rest;
    return true;
}

}  // namespace

KernelVersion kernel_version(std::string_view release, std::string_view version) noexcept {
    KernelVersion kernel;
    if (!take_number(release, false, kernel.major) || !take_number(release, true, kernel.minor)) {
        return {};
    }
    kernel.patch_known = take_number(release, true, kernel.patch);
    // A distribution's own number follows a patch level of 0 that says nothing.
    const bool numbered = release.size() >= 2 && release.front() == '-' && digit(release[1]);
    if (kernel.patch == 0 && numbered) kernel.patch_known = false;
    if (kernel.patch_known) return kernel;
    // "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"
    constexpr std::string_view mark = "Debian ";
    const std::size_t place = version.find(mark);
    if (place == std::string_view::npos) return kernel;
    version.remove_prefix(place + mark.size());
    KernelVersion told;
    if (!take_number(version, false, told.major) || !take_number(version, true, told.minor) ||
        !take_number(version, true, told.patch) || told.major != kernel.major ||
        told.minor != kernel.minor) {
        return kernel;
    }
    told.patch_known = true;
    return told;
}

KernelVersion kernel_version_running() noexcept {
    utsname name{};
    if (uname(&name) != 0) return {};
    return kernel_version(name.release, name.version);
}

KernelVerdict kernel_judge(const KernelVersion& kernel) noexcept {
    KernelVerdict verdict;
    for (const KernelQuirk& quirk : quirks) {
        if (!applies(quirk, kernel)) continue;
        verdict.features_off |= quirk.features;
        if (quirk.features == 0 && verdict.refused == nullptr) verdict.refused = &quirk;
    }
    return verdict;
}

std::size_t kernel_explain(const KernelVersion& kernel, std::uint32_t features, char* text,
                           std::size_t size) noexcept {
    std::size_t length = 0;
    if (size != 0) text[0] = 0;
    const auto explain = [&](Feature feature, const char* name) {
        const std::uint32_t bit = feature_bit(feature);
        const auto* quirk =
            std::find_if(std::begin(quirks), std::end(quirks), [&](const KernelQuirk& entry) {
                return (entry.features & bit) != 0 && applies(entry, kernel);
            });
        if ((features & bit) == 0 || quirk == std::end(quirks)) return;
        const std::size_t start = std::min(length, size);
        const int wanted =
            std::snprintf(text + start, size - start, "; without %s, which on this kernel %s (%s)",
                          name, quirk->reason, quirk->source);
        length += static_cast<std::size_t>(wanted < 0 ? 0 : wanted);
    };
#define WHORL_FEATURE_EXPLAIN(name, what) explain(Feature::name, #name);
    WHORL_FEATURE_LIST(WHORL_FEATURE_EXPLAIN)
#undef WHORL_FEATURE_EXPLAIN
    return length;
}

}  // namespace whorl::detail
