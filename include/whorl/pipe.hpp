// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <cstdint>
#include <utility>

// Pipes, terminals and every other descriptor that bytes are read from or written to, one after the
// other: standard input and output whatever they are (a pipe, a terminal, a file, /dev/null), eventfds,
// FIFOs, character devices, sockets of others. For a file with offsets see the file operations; here a
// file is read and written at its own position.
//
// Order on a descriptor, and the errors that every operation may end with, are as in tcp.hpp. Writing to
// a pipe that nobody reads is EPIPE; the library never raises SIGPIPE for it, see Write.
//
// A terminal or pipe that others have as well (a shell, a parent) keeps its file status flags as they
// are: none is made non-blocking. A Read is made when the descriptor is readable, so another process
// that takes the bytes in between makes the loop wait for the next ones; where that may happen, make the
// descriptor non-blocking. A blocking pipe is written in pieces of 4 KiB, which never block. A slow
// file (of a network, of a disk) is waited for: use the file operations there.

namespace whorl {

namespace detail {
// EBADF when the record's descriptor was not opened for what the record does.
WHORL_EXPORT Error pipe_usable(Loop& loop, OpRecord& record) noexcept;
}  // namespace detail

// Takes over a descriptor. Owns: the descriptor, on success; it is closed with the handle or the loop.
// Standard input and output: adopt a duplicate, or closing the loop closes them.
// Calls: nothing. Thread: loop thread only (asserted).
// Errors: EBADF, slots_exhausted, loop_closed. Cost: one system call. Source: fstat(2).
WHORL_EXPORT Result<Pipe> adopt_pipe(Loop& loop, int fd) noexcept;
// A duplicate of `fd`, which stays the caller's: for standard input and output. Errors: EMFILE, EBADF, as
// adopt_pipe. Source: fcntl(2) F_DUPFD_CLOEXEC.
WHORL_EXPORT Result<Pipe> duplicate_pipe(Loop& loop, int fd) noexcept;

// Both ends of a pipe. Each is closed on its own.
struct PipeEnds {
    Pipe reading;  // ends when `writing` and all its duplicates are closed
    Pipe writing;  // refuses with EPIPE when `reading` is closed
};
// A new pipe. Calls: nothing. Thread: loop thread only (asserted).
// Errors: EMFILE, ENFILE, slots_exhausted, loop_closed. Source: pipe(2).
WHORL_EXPORT Result<PipeEnds> make_pipe(Loop& loop) noexcept;

// Reads once, from data() on into the whole capacity of a buffer, whose size becomes the number of bytes
// read. No error and an empty buffer: the end (of the file, or of a pipe that nobody writes to any more).
// Limits: the buffer must be writable and have room, else invalid_argument.
// Errors: EBADF (from submit: not open for reading), EISDIR, EIO (a terminal of another session, or whose
//   other side is closed), EINVAL (a descriptor that cannot be read so, or a buffer too small for it: an
//   eventfd takes 8 bytes). Source: read(2).
struct Read {
    Pipe pipe;      // to read from
    Buffer buffer;  // what was in it is overwritten

    // What was read.
    struct Done {
        Error error;    // none, also at the end
        Buffer buffer;  // the one given, always; empty at the end
    };

    static constexpr detail::OpKind kind = detail::OpKind::read;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return pipe.value(); }
    Error check() const noexcept {
        const bool usable = buffer.capacity() != 0 && buffer.writable();
        return usable ? Error() : Error(Error::invalid_argument);
    }
    static Error open(Loop& loop, detail::OpRecord& record) noexcept {
        return detail::pipe_usable(loop, record);
    }
    void store(detail::OpRecord& record) noexcept { record.store(std::move(buffer)); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, record.take<Buffer>()};
    }
};

// Writes once; `bytes` may be fewer than the buffer holds. The buffer comes back unchanged. With nothing
// to write it succeeds without asking the kernel.
// Errors: EPIPE (nobody reads); EBADF (from submit: not open for writing); EINVAL (less than 8 bytes to
//   an eventfd); EIO (a terminal whose other side is closed); ENOSPC and EFBIG (a file).
// Cost: three system calls and a wait; SIGPIPE is blocked in the loop's thread during the call, and
//   what was raised is taken back. Source: write(2), pipe(7), sigtimedwait(2).
struct Write {
    Pipe pipe;      // to write to
    Buffer buffer;  // not to be changed through other references meanwhile

    // What was written.
    struct Done {
        Error error;          // none, also when fewer bytes were written than given
        std::uint64_t bytes;  // written: taken by the kernel, not by who reads
        Buffer buffer;        // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::write;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return pipe.value(); }
    static Error check() noexcept { return {}; }
    static Error open(Loop& loop, detail::OpRecord& record) noexcept {
        return detail::pipe_usable(loop, record);
    }
    void store(detail::OpRecord& record) noexcept { record.store(std::move(buffer)); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.bytes, record.take<Buffer>()};
    }
};

// Writes a whole buffer, in as many rounds as it takes. With an error, `bytes` is what had been written.
// Errors: as Write.
struct WriteAll {
    Pipe pipe;      // to write to
    Buffer buffer;  // not to be changed through other references meanwhile

    // What was written.
    struct Done {
        Error error;          // none when all of it was written
        std::uint64_t bytes;  // written: taken by the kernel, not by who reads
        Buffer buffer;        // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::write_all;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return pipe.value(); }
    static Error check() noexcept { return {}; }
    static Error open(Loop& loop, detail::OpRecord& record) noexcept {
        return detail::pipe_usable(loop, record);
    }
    void store(detail::OpRecord& record) noexcept { record.store(std::move(buffer)); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.bytes, record.take<Buffer>()};
    }
};

}  // namespace whorl
