// SPDX-License-Identifier: MIT
// Why io_uring is refused: what the library's report leaves open is told apart by what else is known of the
// machine. One errno has several causes, and their cures have nothing in common.
#include <whorl/backend_report.hpp>

#include <cerrno>
#include <cstdio>

#include "findings.hpp"

namespace doctor {

namespace {

using whorl::BackendReport;

constexpr int filtered = 2;  // Seccomp: of /proc/self/status

constexpr char allow_calls[] =
    "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile "
    "(docs/seccomp-io_uring.json)";

Cause not_permitted(const BackendReport& report) {
    if (report.sysctl_io_uring_disabled == 1) {
        return {"sysctl",
                "kernel.io_uring_disabled is 1: set it to 0, or run in the group of "
                "kernel.io_uring_group"};
    }
    if (report.sysctl_io_uring_disabled >= 2) {
        return {"sysctl", "kernel.io_uring_disabled is 2: set it to 0 (sysctl -w, /etc/sysctl.d)"};
    }
    if (report.seccomp_mode == filtered) return {"seccomp", allow_calls};
    return {"unknown",
            "no sysctl and no seccomp filter forbids it here: look for a security module"};
}

Cause not_there(const BackendReport& report, Kernel kernel) {
    if (kernel.before(5, 11)) {
        return {"old kernel", "5.11 is the first that whorl uses io_uring of; take a newer one"};
    }
    if (report.seccomp_mode == filtered) return {"seccomp", allow_calls};
    return {"kernel without io_uring", "its CONFIG_IO_URING is off; take another build of it"};
}

}  // namespace

Kernel kernel_of(const char* release) {
    Kernel kernel;
    (void)std::sscanf(release, "%d.%d", &kernel.major, &kernel.minor);
    return kernel;
}

Cause cause_of(const BackendReport& report, Kernel kernel) {
    switch (report.failed_errno) {
        case EPERM:
            return not_permitted(report);
        case ENOSYS:
            return not_there(report, kernel);
        case EACCES:
            return {"security module", "allow io_uring for this domain (SELinux, AppArmor)"};
        case ENOMEM:
            return {"locked memory", "raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)"};
        case EMFILE:
            return {"descriptors", "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE=)"};
        case ENFILE:
            return {"descriptors of the machine", "raise fs.file-max"};
        default:
            return {"unknown", "please report it with the kernel's version"};
    }
}

}  // namespace doctor
