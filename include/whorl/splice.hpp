// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer_chain.hpp>
#include <whorl/export.hpp>
#include <whorl/handle.hpp>
#include <whorl/loop.hpp>

#include <cstdint>
#include <utility>

// Moving bytes between a pipe and another descriptor without a copy to the program, and several buffers
// written as one. For descriptors, order and errors see pipe.hpp; either end may be a socket of the loop:
// as_pipe(socket).

namespace whorl {

// The socket as an end of a Splice or Tee, or a descriptor that Read and Write take. Both handles name the
// same descriptor: closing one makes the other stale.
constexpr Pipe as_pipe(Socket socket) noexcept { return Pipe::from_value(socket.value()); }

// Moves `size` bytes from one descriptor to the other, of which at least one is a pipe, in as many rounds as
// it takes; fewer when `from` ends before. It reads in its turn among what reads `from`, and writes in its
// turn among what writes `to`. With an error, `bytes` is what had been moved. Closing either end cancels it.
// What is neither a pipe nor a socket is waited for when it is slow (a file on a disk).
// Limits: a `to` that blocks gets pieces of 4 KiB, as in Write; size above zero, else invalid_argument. It
//   cannot follow another operation (invalid_argument); others may follow it.
// Errors: EINVAL (neither is a pipe; both are one pipe; `to` is open for appending); EPIPE (nobody reads);
//   EBADF (from submit: not open for it); stale_handle; as Read and Write.
// Cost: a poll of either end and a system call for each round; two slots. Source: splice(2).
struct Splice {
    Pipe from;               // read from
    Pipe to;                 // written to; another one than `from`
    std::uint64_t size = 0;  // bytes, at most

    // What was moved.
    struct Done {
        Error error;          // none when all of it was moved, or `from` has ended
        std::uint64_t bytes;  // moved; fewer than `size` without an error: `from` has ended
    };

    static constexpr detail::OpKind kind = detail::OpKind::splice;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return to.value(); }
    Error check() const noexcept { return size != 0 ? Error() : Error(Error::invalid_argument); }
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) const noexcept;
    static void store(detail::OpRecord&) noexcept {}
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Copies what is in the pipe `from`, up to `size` bytes, to the pipe `to`, and leaves it there: once, as
// much as is there and fits. No error and no bytes: `from` has ended.
// Errors, limits, cost: as Splice; EINVAL unless both are pipes. Source: tee(2).
struct Tee {
    Pipe from;               // read from, and kept as it is
    Pipe to;                 // written to; another pipe than `from`
    std::uint64_t size = 0;  // bytes, at most

    // What was copied.
    struct Done {
        Error error;          // none, also when `from` has ended
        std::uint64_t bytes;  // copied; 0 without an error: `from` has ended
    };

    static constexpr detail::OpKind kind = detail::OpKind::tee;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return to.value(); }
    Error check() const noexcept { return size != 0 ? Error() : Error(Error::invalid_argument); }
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) const noexcept;
    static void store(detail::OpRecord&) noexcept {}
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Writes all buffers of a chain, gathered, in as many rounds as it takes; any number of buffers. What fits
// PIPE_BUF (4096 bytes) and 64 buffers arrives in one piece.
// Errors: as Write; ENOMEM from submit. Source: writev(2), pipe(7).
struct WriteChain {
    Pipe pipe;          // to write to
    BufferChain chain;  // the buffers in the order in which they are written

    // What was written.
    struct Done {
        Error error;          // none when all of it was written
        std::uint64_t bytes;  // written, of all buffers together
        BufferChain chain;    // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::write_chain;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return pipe.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT static Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

}  // namespace whorl
