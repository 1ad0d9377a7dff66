// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/export.hpp>

#include <cerrno>
#include <cstdint>

namespace whorl {

// The one list of whorl's own errors: (name, number, text). Everything below 4096 is an errno value
// that came from the kernel unchanged. The texts say what to do.
#define WHORL_ERROR_LIST(X)                                                                        \
    X(cancelled, 4096, "cancelled: the operation was cancelled or its handle closed")              \
    X(timed_out, 4097, "timed out: the deadline given with the operation passed")                  \
    X(stale_handle, 4098, "stale handle: what it named has ended or was closed")                   \
    X(slots_exhausted, 4099, "slots exhausted: raise LoopOptions::ops_max or handles_max")         \
    X(loop_closed, 4101, "loop closed: it is draining or gone and takes nothing new")              \
    X(invalid_argument, 4102, "invalid argument: see the operation's header for its limits")       \
    X(queue_full, 4103, "queue full: raise LoopOptions::posts_max or work_max, or ask for less")   \
    X(backend_unavailable, 4104, "backend unavailable: see backend_report() for the reason")       \
    X(libev_missing, 4105, "libev.so.4 could not be loaded: install the package libev4")           \
    X(nothing_to_wait_for, 4106, "nothing to wait for: no operation, timer or watch is pending")   \
    X(drain_incomplete, 4107, "drain incomplete: the time bound passed with operations in flight") \
    X(address_invalid, 4108, "address invalid: expected 1.2.3.4:port or [v6%scope]:port")          \
    X(end_of_file, 4112, "end of file: it ends before the buffer is full")                         \
    X(misaligned, 4113,                                                                            \
      "misaligned: with O_DIRECT, offset, size and address are multiples of file_alignment()")     \
    X(watches_exhausted, 4120, "watches exhausted: raise the sysctl fs.inotify.max_user_watches")  \
    X(observers_exhausted, 4121,                                                                   \
      "observers exhausted: raise the sysctl fs.inotify.max_user_instances or RLIMIT_NOFILE")      \
    X(name_unknown, 4122, "name unknown: no such host, or it has no address of this kind")         \
    X(service_unknown, 4123, "service unknown: no such name or port for this kind of socket")      \
    X(name_not_answered, 4124, "name not answered: the name server is away; try again later")      \
    X(name_refused, 4125, "name refused: the name server answered with a failure")                 \
    X(name_no_record, 4126, "name without record: it exists, but has nothing of this kind")        \
    X(name_malformed, 4127, "name malformed: the name server's answer is not what DNS allows")     \
    X(channel_closed, 4130, "channel closed: its other end is gone")                               \
    X(cpu_unavailable, 4131,                                                                       \
      "cpu unavailable: offline, or taskset or the cpuset forbids it; Topology has the others")    \
    X(cpu_repeated, 4132, "cpu repeated: CoreSetOptions::cpus names each processor once")          \
    X(cpus_miscounted, 4133,                                                                       \
      "cpus miscounted: give one for each loop, or leave CoreSetOptions::loops at 0")              \
    X(frame_too_large, 4140, "frame too large: the peer sent more than the framing's maximum")     \
    X(frame_malformed, 4141, "frame malformed: the bytes are no frame of this framing")            \
    X(frame_truncated, 4142, "frame truncated: the stream ended inside a frame")                   \
    X(write_overflow, 4143, "write overflow: more was written than StreamOptions::queue_max")      \
    X(over_budget, 4144, "over budget: the loop's streams hold more than StreamBudget::max")       \
    X(handler_threw, 4145, "handler threw: an exception left a callback of the stream")            \
    X(replay_ended, 4146, "replay ended: the recorded run went no further; see Replay::text()")    \
    X(replay_diverged, 4147,                                                                       \
      "replay diverged: the program did something else than when it was recorded; Replay::text()") \
    X(run_log_damaged, 4148, "run log damaged: cut off, changed, or of another version")           \
    X(tls_truncated, 4150, "TLS truncated: the connection ended without the peer's close_notify")  \
    X(tls_malformed, 4151, "TLS malformed: what the peer sent is not TLS, or was changed")         \
    X(tls_mismatch, 4152, "TLS mismatch: no version, cipher or protocol suits both sides")         \
    X(tls_alert, 4153, "TLS alert: the peer refused; tls::reason() has its alert")                 \
    X(tls_expired, 4154, "TLS expired: the peer's certificate is not valid at this time")          \
    X(tls_wrong_name, 4155, "TLS wrong name: the certificate is for another host")                 \
    X(tls_untrusted, 4156, "TLS untrusted: no trusted authority has signed the certificate")       \
    X(tls_no_certificate, 4157, "TLS no certificate: the peer has shown none")                     \
    X(tls_refused, 4158, "TLS refused: the certificate may not be used; see tls::reason()")        \
    X(tls_setup, 4159, "TLS setup: a certificate, key or name is unusable; see tls::Report")

// A reason: zero is success, below 4096 an errno value, from 4096 on whorl's own (WHORL_ERROR_LIST).
// Four bytes, trivially copyable; true in a condition when it *is* an error.
class [[nodiscard]] Error {
  public:
    // Whorl's own errors. A number never changes its meaning; text() tells it.
    enum Code : std::int32_t {
        ok = 0,  // success
#define WHORL_ERROR_ENUMERATOR(name, number, text) name = number,
        WHORL_ERROR_LIST(WHORL_ERROR_ENUMERATOR)
#undef WHORL_ERROR_ENUMERATOR
    };

    constexpr Error() noexcept = default;
    // Implicit on purpose: `return Error::cancelled;` and `error == Error::cancelled` read well.
    constexpr Error(Code code) noexcept : value_(code) {}  // NOLINT(google-explicit-constructor)

    // From a positive errno value or the negated one that kernel interfaces return.
    static constexpr Error from_errno(int number) noexcept {
        Error error;
        error.value_ = number < 0 ? -number : number;
        return error;
    }

    // From value(); for carrying an error through an integer.
    static constexpr Error from_value(std::int32_t value) noexcept {
        Error error;
        error.value_ = value;
        return error;
    }

    // Whether it is an error.
    constexpr explicit operator bool() const noexcept { return value_ != 0; }
    // 0, an errno value, or a Code; see from_value().
    constexpr std::int32_t value() const noexcept { return value_; }
    // Whether it is an errno value, not success and not one of whorl's own.
    constexpr bool is_errno() const noexcept { return value_ > 0 && value_ < 4096; }

    // A short name such as "cancelled" or "ECONNRESET"; never null. Thread: any. Cost: a look-up.
    WHORL_EXPORT const char* name() const noexcept;
    // A sentence such as "Connection reset by peer"; never null. Thread: any. Cost: a look-up.
    WHORL_EXPORT const char* text() const noexcept;

    friend constexpr bool operator==(Error a, Error b) noexcept { return a.value_ == b.value_; }
    friend constexpr bool operator!=(Error a, Error b) noexcept { return a.value_ != b.value_; }
    friend constexpr bool operator==(Error a, Code b) noexcept { return a.value_ == b; }
    friend constexpr bool operator!=(Error a, Code b) noexcept { return a.value_ != b; }

  private:
    std::int32_t value_ = 0;
};

static_assert(sizeof(Error) == 4, "an error travels in a register");

}  // namespace whorl
