// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/loop_options.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

// Kernels whose io_uring has something and gets it wrong, which no probe can see: a table by version,
// in kernel_quirks.cpp. What it names is not used; what whorl does then is the same, a little slower.

namespace whorl::detail {

// Distributions mend a kernel and keep its number: "6.8.0-45-generic" is any 6.8. The patch level is
// then unknown.
struct KernelVersion {
    std::uint16_t major = 0;  // 0: not to be recognized, and no entry applies
    std::uint16_t minor = 0;
    std::uint16_t patch = 0;
    bool patch_known = false;
};

// From what uname() says: its `release`, and its `version`, where Debian writes the patch level.
KernelVersion kernel_version(std::string_view release, std::string_view version) noexcept;
// Of the kernel that runs this.
KernelVersion kernel_version_running() noexcept;

struct KernelQuirk {
    KernelVersion from;
    KernelVersion before;
    std::uint32_t features;  // feature_bit()s that do not work; 0: io_uring as a whole
    const char* reason;
    const char* source;
};

// What is known of a kernel. Where the patch level is not known, a feature that some of the series get
// wrong is left alone, but io_uring is given up only if all of them are bad.
struct KernelVerdict {
    std::uint32_t features_off = 0;
    const KernelQuirk* refused = nullptr;  // io_uring must not be used, for this reason
};
KernelVerdict kernel_judge(const KernelVersion& kernel) noexcept;

// Writes why `features`, some of kernel_judge().features_off, are not used: "; without
// multishot_accept, which …". Returns what snprintf would: the length that was wanted.
std::size_t kernel_explain(const KernelVersion& kernel, std::uint32_t features, char* text,
                           std::size_t size) noexcept;

}  // namespace whorl::detail
