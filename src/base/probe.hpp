// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

// Probes that bpftrace(8), perf(1) and SystemTap attach to: an instruction that does nothing, and a note
// in the program of where the arguments are. They are there when the header was when whorl was built
// (Debian: systemtap-sdt-dev). Source: sys/sdt.h; docs/insight.md lists them.

#if defined(WHORL_USDT)
#include <sys/sdt.h>
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"  // inside of its macros
#endif
#define WHORL_PROBE2(name, a, b) DTRACE_PROBE2(whorl, name, a, b)
#define WHORL_PROBE3(name, a, b, c) DTRACE_PROBE3(whorl, name, a, b, c)
#define WHORL_PROBE4(name, a, b, c, d) DTRACE_PROBE4(whorl, name, a, b, c, d)
#define WHORL_PROBE6(name, a, b, c, d, e, f) DTRACE_PROBE6(whorl, name, a, b, c, d, e, f)
#else
namespace whorl::detail {
template <class... Arguments>
constexpr void probe_ignores(const Arguments&...) noexcept {}
}  // namespace whorl::detail
#define WHORL_PROBE_IGNORED(...)                                \
    do {                                                        \
        if (false) ::whorl::detail::probe_ignores(__VA_ARGS__); \
    } while (false)
#define WHORL_PROBE2(name, a, b) WHORL_PROBE_IGNORED(a, b)
#define WHORL_PROBE3(name, a, b, c) WHORL_PROBE_IGNORED(a, b, c)
#define WHORL_PROBE4(name, a, b, c, d) WHORL_PROBE_IGNORED(a, b, c, d)
#define WHORL_PROBE6(name, a, b, c, d, e, f) WHORL_PROBE_IGNORED(a, b, c, d, e, f)
#endif
