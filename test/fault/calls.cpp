// SPDX-License-Identifier: MIT
#include "fault/calls.hpp"

#include <whorl/error.hpp>

#include <liburing.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

namespace fault {

namespace {

// Errors that a manual page names and that are not here can only mean a bug of ours, and end the
// process by design: timerfd_settime(2) is asserted to succeed; epoll_wait(2) with anything but EINTR
// and epoll_ctl(2) with EBADF, EINVAL and ELOOP make libev abort. EPERM of epoll_ctl(2) is about files
// that epoll does not know; a socket is none. eventfds are written without blocking, so that write(2)
// has nothing to say but EAGAIN, for a counter that is full: the loop is awake then. EPERM of fcntl(2)
// is about files that may only be appended to.
constexpr int of_socket[] = {EACCES,  EAFNOSUPPORT, EINVAL,          EMFILE, ENFILE,
                             ENOBUFS, ENOMEM,       EPROTONOSUPPORT, EXDEV,  0};
constexpr int of_bind[] = {EACCES,        EADDRINUSE, EBADF, EINVAL, ENOTSOCK,
                           EADDRNOTAVAIL, ENOMEM,     EXDEV, 0};
constexpr int of_listen[] = {EADDRINUSE, EBADF, ENOTSOCK, EOPNOTSUPP, EXDEV, 0};
constexpr int of_connect[] = {
    EACCES,   EPERM,        EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN,
    EBADF,    ECONNREFUSED, EINTR,      EISCONN,       ENETUNREACH,  EHOSTUNREACH,
    ENOTSOCK, EPROTOTYPE,   ETIMEDOUT,  EXDEV,         trick_delay,  0};
constexpr int of_accept[] = {
    EAGAIN,      EBADF,     ECONNABORTED, EINTR,       EINVAL,     EMFILE,
    ENFILE,      ENOBUFS,   ENOMEM,       ENOTSOCK,    EOPNOTSUPP, EPERM,
    EPROTO,      ENETDOWN,  ENOPROTOOPT,  EHOSTDOWN,   ENONET,     EHOSTUNREACH,
    ENETUNREACH, ETIMEDOUT, EXDEV,        trick_delay, 0};
constexpr int of_recv[] = {EAGAIN,  EBADF,  ECONNREFUSED, ECONNRESET,  EINTR,
                           EINVAL,  ENOMEM, ENOTCONN,     ENOTSOCK,    ETIMEDOUT,
                           ENOBUFS, EXDEV,  trick_short,  trick_delay, 0};
constexpr int of_send[] = {EACCES, EAGAIN,      EBADF,       ECONNRESET, EDESTADDRREQ,
                           EINTR,  EINVAL,      EISCONN,     EMSGSIZE,   ENOBUFS,
                           ENOMEM, ENOTCONN,    ENOTSOCK,    EOPNOTSUPP, EPIPE,
                           EXDEV,  trick_short, trick_delay, 0};
constexpr int of_read[] = {EAGAIN, EBADF, EINTR, EINVAL, EIO, EISDIR, EXDEV, trick_delay, 0};
constexpr int of_write[] = {EINTR, trick_delay, 0};
constexpr int of_shutdown[] = {EBADF, EINVAL, ENOTCONN, ENOTSOCK, EXDEV, 0};
constexpr int of_close[] = {EBADF, EINTR, EIO, ENOSPC, EDQUOT, EXDEV, trick_delay, 0};
constexpr int of_option[] = {EBADF, EINVAL, ENOPROTOOPT, ENOTSOCK, EXDEV, 0};
constexpr int of_name[] = {EBADF, EINVAL, ENOBUFS, ENOTSOCK, ENOTCONN, EXDEV, 0};
constexpr int of_fcntl[] = {EACCES, EBADF, EINVAL, EMFILE, EXDEV, 0};
constexpr int of_socketpair[] = {EAFNOSUPPORT,    EMFILE, ENFILE, EOPNOTSUPP,
                                 EPROTONOSUPPORT, EXDEV,  0};
constexpr int of_signalfd[] = {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, EXDEV, 0};
constexpr int of_eventfd[] = {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, EXDEV, 0};
constexpr int of_timerfd[] = {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, EPERM, EXDEV, 0};
constexpr int of_timerfd_settime[] = {trick_delay, 0};
constexpr int of_epoll_create[] = {EINVAL, EMFILE, ENFILE, ENOMEM, EXDEV, 0};
constexpr int of_epoll_ctl[] = {ENOMEM, ENOSPC, EXDEV, 0};
constexpr int of_epoll_wait[] = {EINTR, trick_delay, 0};
constexpr int of_poll[] = {EINTR, EINVAL, ENOMEM, EXDEV, 0};
constexpr int of_setup[] = {EACCES, EINVAL, EMFILE, ENFILE, ENODEV,
                            ENOMEM, ENOSYS, EPERM,  EXDEV,  0};
constexpr int of_enter[] = {EAGAIN,     EBADF,  EBADFD, EBUSY, EINTR,       EINVAL,      ENXIO,
                            EOPNOTSUPP, ENOMEM, EPERM,  EXDEV, trick_short, trick_delay, 0};
constexpr int of_register[] = {EACCES, EBADF, EBADFD,     EBUSY, EINVAL, EMFILE,
                               ENOMEM, ENXIO, EOPNOTSUPP, EPERM, EXDEV,  0};
constexpr int of_mmap[] = {EACCES, EAGAIN, EINVAL, ENFILE, ENODEV, ENOMEM, EPERM, EXDEV, 0};
constexpr int of_munmap[] = {EINVAL, ENOMEM, 0};
constexpr int of_madvise[] = {EAGAIN, EINVAL, ENOMEM, EXDEV, 0};
constexpr int of_mprotect[] = {EACCES, EINVAL, ENOMEM, EXDEV, 0};
constexpr int of_openat[] = {EACCES, EINTR, ELOOP, EMFILE, ENFILE, ENOENT, ENOMEM, EPERM, EXDEV, 0};
constexpr int of_open[] = {EACCES,       EDQUOT, EINTR,  EINVAL,      ELOOP,  EMFILE,
                           ENAMETOOLONG, ENFILE, ENOENT, ENOMEM,      ENOSPC, ENOTDIR,
                           EPERM,        EROFS,  EXDEV,  trick_delay, 0};
constexpr int of_statx[] = {EACCES, EBADF, EINTR, ELOOP, ENOENT, ENOMEM, ENOTDIR, EXDEV, 0};
constexpr int of_pread[] = {EBADF,  EINTR, EINVAL,      EIO,         EISDIR,
                            ENOMEM, EXDEV, trick_short, trick_delay, 0};
constexpr int of_pwrite[] = {EBADF,  EDQUOT, EFBIG, EINTR,       EINVAL,      EIO, ENOMEM,
                             ENOSPC, EPERM,  EXDEV, trick_short, trick_delay, 0};
constexpr int of_fsync[] = {EBADF,  EDQUOT, EINTR, EINVAL,      EIO,
                            ENOSPC, EROFS,  EXDEV, trick_delay, 0};
constexpr int of_rename[] = {EACCES, EBUSY, EDQUOT, EINTR, EINVAL,      ENOENT, ENOMEM,
                             ENOSPC, EPERM, EROFS,  EXDEV, trick_delay, 0};
constexpr int of_getdents[] = {EBADF, EINTR, EINVAL, ENOENT, ENOTDIR, EXDEV, trick_delay, 0};
constexpr int of_poll_add[] = {EAGAIN, EBADF, EINTR, EINVAL, ENOMEM, EXDEV, trick_async, 0};
constexpr int of_recv_entry[] = {EAGAIN,      EBADF,       ECONNRESET, EINTR,     EINVAL,
                                 ENOBUFS,     ENOMEM,      ENOTCONN,   ETIMEDOUT, EXDEV,
                                 trick_short, trick_async, 0};
constexpr int of_send_entry[] = {EAGAIN,      EBADF,       ECONNRESET, EINTR, EINVAL,
                                 ENOBUFS,     ENOMEM,      ENOTCONN,   EPIPE, EXDEV,
                                 trick_short, trick_async, 0};
constexpr int of_accept_entry[] = {EAGAIN, EBADF,  ECONNABORTED, EINTR,  EINVAL,
                                   EMFILE, ENFILE, ENOBUFS,      ENOMEM, EPERM,
                                   EPROTO, EXDEV,  trick_async,  0};
constexpr int of_connect_entry[] = {
    EACCES,      EADDRINUSE, EADDRNOTAVAIL, EAGAIN, ECONNREFUSED, EINTR, EINVAL,
    ENETUNREACH, ENOMEM,     ETIMEDOUT,     EXDEV,  trick_async,  0};
constexpr int of_nop_entry[] = {EINVAL, ENOMEM, EXDEV, trick_async, 0};
constexpr int of_allocation[] = {trick_once, trick_on, 0};

constexpr unsigned on_both = on_uring | on_libev;
constexpr CallKind system = CallKind::system;
constexpr CallKind entry = CallKind::submission;

}  // namespace

const Call calls[] = {
    {"socket", system, SYS_socket, of_socket, on_both},
    {"bind", system, SYS_bind, of_bind, on_both},
    {"listen", system, SYS_listen, of_listen, on_both},
    {"connect", system, SYS_connect, of_connect, on_libev},
    {"accept4", system, SYS_accept4, of_accept, on_libev},
    {"recvfrom", system, SYS_recvfrom, of_recv, on_libev},
    {"recvmsg", system, SYS_recvmsg, of_recv, on_libev},
    {"sendto", system, SYS_sendto, of_send, on_libev},
    {"sendmsg", system, SYS_sendmsg, of_send, on_libev},
    {"read", system, SYS_read, of_read, on_both},
    {"write", system, SYS_write, of_write, on_both},
    {"readv", system, SYS_readv, of_read, 0},
    {"writev", system, SYS_writev, of_write, 0},
    {"shutdown", system, SYS_shutdown, of_shutdown, on_both},
    {"close", system, SYS_close, of_close, on_both},
    {"setsockopt", system, SYS_setsockopt, of_option, on_both},
    {"getsockopt", system, SYS_getsockopt, of_option, on_both},
    {"getsockname", system, SYS_getsockname, of_name, on_both},
    {"getpeername", system, SYS_getpeername, of_name, on_both},
    {"fcntl", system, SYS_fcntl, of_fcntl, on_libev},
    {"socketpair", system, SYS_socketpair, of_socketpair, on_both},
    {"signalfd4", system, SYS_signalfd4, of_signalfd, on_both},
    {"eventfd2", system, SYS_eventfd2, of_eventfd, on_both},
    {"timerfd_create", system, SYS_timerfd_create, of_timerfd, on_libev},
    {"timerfd_settime", system, SYS_timerfd_settime, of_timerfd_settime, on_libev},
    {"epoll_create1", system, SYS_epoll_create1, of_epoll_create, on_both},
    {"epoll_ctl", system, SYS_epoll_ctl, of_epoll_ctl, on_both},
    {"epoll_wait", system, SYS_epoll_wait, of_epoll_wait, on_libev},
    {"epoll_pwait", system, SYS_epoll_pwait, of_epoll_wait, 0},
    {"epoll_pwait2", system, 441, of_epoll_wait, 0},
    {"poll", system, SYS_poll, of_poll, on_both},
    {"ppoll", system, SYS_ppoll, of_poll, 0},
    {"io_uring_setup", system, SYS_io_uring_setup, of_setup, on_uring},
    {"io_uring_enter", system, SYS_io_uring_enter, of_enter, on_uring},
    {"io_uring_register", system, SYS_io_uring_register, of_register, on_uring},
    {"mmap", system, SYS_mmap, of_mmap, on_both},
    {"munmap", system, SYS_munmap, of_munmap, on_both},
    {"madvise", system, SYS_madvise, of_madvise, on_uring},
    {"mprotect", system, SYS_mprotect, of_mprotect, on_both},
    {"openat", system, SYS_openat, of_openat, on_both},
    {"openat2", system, SYS_openat2, of_open, on_libev},
    {"statx", system, SYS_statx, of_statx, on_libev},
    {"preadv", system, SYS_preadv, of_pread, on_libev},
    {"pwritev2", system, SYS_pwritev2, of_pwrite, on_libev},
    {"fsync", system, SYS_fsync, of_fsync, on_libev},
    {"renameat", system, SYS_renameat, of_rename, on_libev},
    {"getdents64", system, SYS_getdents64, of_getdents, on_both},
    {"entry:openat2", entry, IORING_OP_OPENAT2, of_open, on_uring},
    {"entry:statx", entry, IORING_OP_STATX, of_statx, on_uring},
    // Where the option for registered buffers is off (io_uring_plain).
    {"entry:read", entry, IORING_OP_READ, of_pread, 0},
    {"entry:write", entry, IORING_OP_WRITE, of_pwrite, 0},
    {"entry:read_fixed", entry, IORING_OP_READ_FIXED, of_pread, on_uring},
    {"entry:write_fixed", entry, IORING_OP_WRITE_FIXED, of_pwrite, on_uring},
    {"entry:fsync", entry, IORING_OP_FSYNC, of_fsync, on_uring},
    {"entry:renameat", entry, IORING_OP_RENAMEAT, of_rename, on_uring},
    {"entry:nop", entry, IORING_OP_NOP, of_nop_entry, on_uring},
    {"entry:poll_add", entry, IORING_OP_POLL_ADD, of_poll_add, on_uring},
    {"entry:accept", entry, IORING_OP_ACCEPT, of_accept_entry, on_uring},
    {"entry:connect", entry, IORING_OP_CONNECT, of_connect_entry, on_uring},
    {"entry:recv", entry, IORING_OP_RECV, of_recv_entry, on_uring},
    {"entry:send", entry, IORING_OP_SEND, of_send_entry, on_uring},
    {"entry:recvmsg", entry, IORING_OP_RECVMSG, of_recv_entry, on_uring},
    {"entry:sendmsg", entry, IORING_OP_SENDMSG, of_send_entry, on_uring},
    {"allocation", CallKind::allocation, -1, of_allocation, on_both},
};
const int calls_count = sizeof calls / sizeof calls[0];

int call_find(const char* name) noexcept {
    for (int index = 0; index < calls_count; ++index) {
        if (std::strcmp(calls[index].name, name) == 0) return index;
    }
    return -1;
}

namespace {
int find_number(CallKind kind, long number) noexcept {
    for (int index = 0; index < calls_count; ++index) {
        if (calls[index].kind == kind && calls[index].number == number) return index;
    }
    return -1;
}
}  // namespace

int call_of_system(long number) noexcept { return find_number(CallKind::system, number); }
int call_of_opcode(int opcode) noexcept { return find_number(CallKind::submission, opcode); }

namespace {

constexpr int out_of_slots = whorl::Error::slots_exhausted;
constexpr int no_backend = whorl::Error::backend_unavailable;
constexpr int no_libev = whorl::Error::libev_missing;

constexpr Expectation hidden{Outcome::hidden, {}};
constexpr Expectation reported{Outcome::reported, {}};
constexpr Expectation either{Outcome::either, {}};

bool one_of(int error, const int* errors) noexcept {
    for (; *errors != 0; ++errors) {
        if (*errors == error) return true;
    }
    return false;
}

// accept(2) tells the trouble of a connection that is gone: it is skipped and counted.
constexpr int of_lost_connection[] = {ECONNABORTED, EPERM,     EPROTO, ENETDOWN,
                                      ENOPROTOOPT,  EHOSTDOWN, ENONET, EHOSTUNREACH,
                                      ENETUNREACH,  ETIMEDOUT, 0};

constexpr int of_shortage[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, 0};

Expectation of_transfer(long number, int error) noexcept {
    if (error == EINTR) return hidden;
    if (error == EAGAIN) return number == SYS_connect ? reported : hidden;
    return reported;
}

Expectation of_submission(long opcode, int error) noexcept {
    if (error == EINTR || error == EAGAIN) return opcode == IORING_OP_POLL_ADD ? either : hidden;
    if (opcode == IORING_OP_ACCEPT && one_of(error, of_lost_connection)) return hidden;
    if (opcode == IORING_OP_ACCEPT && one_of(error, of_shortage)) return either;
    // A received stream takes it for an empty ring and asks again; the wake-up's poll is armed again;
    // a polled operation reports it.
    if (opcode == IORING_OP_RECV && error == ENOBUFS) return either;
    if (opcode == IORING_OP_POLL_ADD || opcode == IORING_OP_NOP) return either;
    return reported;
}

}  // namespace

Expectation expectation(const Call& call, int error, bool libev) noexcept {
    if (error == trick_short || error == trick_delay || error == trick_async) return hidden;
    if (call.kind == CallKind::submission) return of_submission(call.number, error);
    switch (call.number) {
        case SYS_close:
            return {Outcome::hidden, {no_libev}};  // the loader minds
        case SYS_munmap:
        case SYS_madvise:
        case SYS_write:
        case SYS_epoll_wait:
            return hidden;
        case SYS_accept4:
            if (one_of(error, of_lost_connection)) return hidden;
            // A stream tells it, and goes on; one that is cancelled already has no need to.
            if (one_of(error, of_shortage)) return either;
            return of_transfer(call.number, error);
        case SYS_recvfrom:
            if (error == ENOBUFS) return either;
            return of_transfer(call.number, error);
        case SYS_connect:
        case SYS_sendto:
        case SYS_sendmsg:
        case SYS_recvmsg:
            return of_transfer(call.number, error);
        case SYS_epoll_ctl:  // libev keeps the reason to itself
            return {Outcome::either, {ENOSPC}};
        case SYS_poll:  // a watch that is served, not made, asks again
            return either;
        case SYS_epoll_create1:
            return {Outcome::either, {ENOMEM}};
        case SYS_fcntl:
            return libev ? reported : either;
        case SYS_io_uring_enter:
            if (error == EAGAIN || error == EBUSY || error == EINTR) return hidden;
            return {Outcome::either, {no_backend}};
        case SYS_io_uring_setup:
        case SYS_io_uring_register:
            return {Outcome::either, {no_backend}};
        case SYS_mmap:
        case SYS_mprotect:
        case -1:  // memory
            return {Outcome::either, {ENOMEM, out_of_slots, no_backend, no_libev}};
        case SYS_read:
        case SYS_openat:  // the loader's and /proc's
            return {Outcome::either, {no_libev}};
        case SYS_openat2:  // as a sandbox answers that does not know it: openat(2) is asked instead
            return error == EINTR || error == EPERM ? hidden : reported;
        case SYS_statx:
        case SYS_preadv:
        case SYS_pwritev2:
        case SYS_fsync:
        case SYS_renameat:  // what libc makes of renameat2() without flags
        case SYS_getdents64:
            return error == EINTR ? hidden : reported;
        default:
            return reported;
    }
}

}  // namespace fault
