// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/process_info.hpp>

#include <cstdint>

// Child processes: made, waited for, signalled, and let go.
//
//   whorl::SpawnOptions options;
//   options.program = "ls";
//   options.output = whorl::ChildStream::pipe();
//   loop.submit(whorl::Spawn{options}, [](whorl::Loop& loop, whorl::Spawn::Done done) { … });
//
// A child is named by a handle and known to the library by a pidfd, so that a signal or a wait never
// reaches a later process of the same number. SIGCHLD is not used: its handler and disposition stay the
// program's. A program that reaps all children (waitpid(-1), SIGCHLD ignored, SA_NOCLDWAIT) takes their
// status from WaitChild, which says ECHILD then.
//
// Closing a child (Loop::close) that has not been waited for lets it run, unless kill_on_close was
// asked for, which kills it (SIGKILL; the child alone, not its own children). The loop reaps it when it
// ends, in the background and without a zombie; Statistics::handles counts it until then. A close
// handler does not wait for that. When the loop itself ends, or is drained, it kills those of
// kill_on_close, waits for their end at most LoopOptions::shutdown_bound each, and leaves others that run:
// they are the program's to reap, as any child. The same holds when no slot is free.
// Limits: Linux 5.4.
// Source: pidfd_open(2), waitid(2), pidfd_send_signal(2).

namespace whorl {

// What a child has as its standard input, output or error.
class ChildStream {
  public:
    // The parent's own; none when the parent has closed it, or marked it close-on-exec.
    static constexpr ChildStream inherited() noexcept { return {How::inherited, -1}; }
    // /dev/null.
    static constexpr ChildStream null() noexcept { return {How::null, -1}; }
    // A new pipe, the other end of which comes with Done.
    static constexpr ChildStream pipe() noexcept { return {How::pipe, -1}; }
    // This descriptor, duplicated at submission: it stays the caller's and may be closed at once.
    static constexpr ChildStream descriptor(int fd) noexcept { return {How::descriptor, fd}; }

    // What the functions above choose between.
    enum class How : std::uint8_t { inherited, null, pipe, descriptor };
    // Which of the functions has made it.
    constexpr How how() const noexcept { return how_; }
    // The caller's descriptor; -1 unless `how` is descriptor.
    constexpr int fd() const noexcept { return fd_; }

  private:
    constexpr ChildStream(How how, int fd) noexcept : how_(how), fd_(fd) {}
    How how_;
    int fd_;
};

// A descriptor of the caller's, and the number by which the child knows it.
struct ChildDescriptor {
    int fd;  // in the parent
    int as;  // in the child, from 3 on
};

// What to run, and how. Strings and arrays are copied at submission.
struct SpawnOptions {
    // Of `user` and `group`: the parent's.
    static constexpr std::uint32_t unchanged = UINT32_MAX;
    // Of `descriptors`.
    static constexpr std::uint32_t descriptors_max = 16;
    // The highest that a descriptor may have in the child.
    static constexpr int descriptor_number_max = 1023;

    // A path, or a name without a slash, which is searched for in the parent's PATH.
    const char* program = nullptr;
    // The program's arguments, its name first, a null pointer last. Null: the program's name alone.
    const char* const* arguments = nullptr;
    // NAME=value, a null pointer last. Null: the parent's at submission.
    const char* const* environment = nullptr;
    const char* directory = nullptr;                // null: the parent's
    ChildStream input = ChildStream::inherited();   // its descriptor 0
    ChildStream output = ChildStream::inherited();  // its descriptor 1
    ChildStream error = ChildStream::inherited();   // its descriptor 2
    // More than the standard ones. Each is duplicated at submission and stays the caller's; in the child
    // it stands at its number from 3 to descriptor_number_max, whatever had that in the parent.
    const ChildDescriptor* descriptors = nullptr;
    std::uint32_t descriptor_count = 0;  // at most descriptors_max
    bool session = false;                // a new session, and so a group of its own: setsid(2)
    // A process group: -1 the parent's, 0 one of its own, or that of this number: setpgid(2).
    std::int32_t process_group = -1;
    // Real, effective and saved IDs. With either, the supplementary groups are dropped.
    std::uint32_t user = unchanged;
    std::uint32_t group = unchanged;  // as `user`
    bool kill_on_close = false;       // closing the handle kills it
};

// Makes a child that runs a program.
// Child: its signals have their default dispositions and none is blocked. It gets descriptors 0 to 2
//   and those of `descriptors` as the options say and no other, whoever forgot O_CLOEXEC elsewhere. It
//   keeps the parent's umask, limits and nice value. The directory is entered with the new credentials.
//   A file that is no executable (ENOEXEC) is not handed to a shell.
// Owns: copies of the strings and duplicates of the descriptors, until the completion.
// Calls: the handler once, when the program has been started, or has not been: `step` says then what
//   failed. No process and no zombie is left of what failed.
// Cancel: before a thread has begun, it ends with `cancelled` and there is no child. Later the
//   completion is the one that comes, with its child.
// Errors: of the step `program` (and of `directory`): ENOENT, EACCES, ENOTDIR, ENOEXEC, ELOOP,
//   ENAMETOOLONG, E2BIG, ETXTBSY, ENOMEM; `credentials`: EPERM (without CAP_SETUID and CAP_SETGID, for
//   one's own IDs, too); `group`: EPERM (no such group in this session); `streams`: EMFILE (limit below
//   3), EINVAL or EBADF (limit below a number of `descriptors`); `process`: EAGAIN (RLIMIT_NPROC, pids
//   cgroup), ENOMEM, EMFILE (no pidfd); `prepare`: EMFILE, ENFILE, EBADF (a descriptor that is not open),
//   slots_exhausted.
//   From submit: invalid_argument (no program; session together with process_group; too many
//   descriptors; a number that is below 3, above descriptor_number_max or there twice), E2BIG (more
//   than 2 MiB of strings), ENOMEM.
// Limits: the child dies with nobody: PR_SET_PDEATHSIG would tie it to a thread of the pool.
// Cost: it blocks a thread of the loop's work pool, not the loop, until the program is being executed:
//   clone(2) with shared memory, about 100 system calls of the child, and reading the program from its
//   disk; however large the parent is. With `user` or `group` the parent's page tables are copied.
//   A buffer of the pool. Source: clone(2), execve(2).
struct Spawn {
    SpawnOptions options;  // copied at submission

    struct Done {
        Error error;
        SpawnStep step;     // what failed; none without an error, and when it was cancelled
        Child child;        // null with an error
        Pipe input;         // to write to the child's input; null when it is no pipe
        Pipe output;        // to read from
        Pipe error_output;  // to read from
    };

    static constexpr detail::OpKind kind = detail::OpKind::spawn;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    WHORL_EXPORT Error check() const noexcept;
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) const noexcept;
    static void store(detail::OpRecord&) noexcept {}
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Waits until a child has ended, and reaps it. The handle stays open, for close().
// Cancel: a child that has ended stays to be waited for.
// Errors: ECHILD (it has been reaped before: by another WaitChild, or by somebody else in this process).
// Cost: a buffer of the pool; a poll, and one system call. Source: waitid(2).
struct WaitChild {
    Child child;  // from Spawn

    struct Done {
        Error error;
        ChildExit exit;  // how it ended; with an error nothing
    };

    static constexpr detail::OpKind kind = detail::OpKind::wait_child;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return child.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT static Error open(Loop& loop, detail::OpRecord& record) noexcept;
    static void store(detail::OpRecord&) noexcept {}
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Sends a signal to a child; 0 only asks whether that is allowed. No error when it has ended and has
// not been waited for. Thread: loop thread only (asserted).
// Errors: stale_handle, ESRCH (it has been reaped), EPERM (it has become another user's), EINVAL.
// Cost: a system call. Source: pidfd_send_signal(2).
WHORL_EXPORT Error send_signal(Loop& loop, Child child, int number) noexcept;

// A child's process ID, for messages: it is somebody else's once the child has been reaped.
// Thread: loop thread only (asserted). Errors: stale_handle. Cost: none.
WHORL_EXPORT Result<std::int32_t> process_id(Loop& loop, Child child) noexcept;

}  // namespace whorl
