// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/export.hpp>
#include <whorl/handle.hpp>
#include <whorl/loop.hpp>

#include <sys/socket.h>

#include <cstdint>
#include <utility>

// Sending without a copy in the kernel: the network card reads the buffer itself. The kernel answers
// twice, when it has taken the bytes and when it has let go of them; an operation here ends with the
// second, so that its buffer comes home when nobody reads it any more. Over TCP that is when the peer has
// acknowledged the bytes. Sends submitted after it go on meanwhile, in order, and may end before it.
//
// A peer that does not read keeps the buffer out. Cancelling the operation, its deadline, closing its
// socket and ending the loop bring it home, and reset the connection when bytes of it are not yet
// acknowledged: to lose none, close when it has ended. The socket option UserTimeout bounds the wait as well.
//
// When it pays: for large buffers (from about 16 KiB) through a network card that gathers. Over loopback,
// and most virtual links, the kernel copies after all, and the second answer is a pure loss: bench
// `bench_zero_copy` measures it, and `copied` tells.
//
// Where it cannot be had (libev, Linux before 6.0, Unix sockets, no memory to pin) the bytes are sent as
// SendAll does, with the same contract and `copied` true. libev's alternative, MSG_ZEROCOPY, tells its
// notifications on the socket's error queue, which others read as well, so it is not used.

namespace whorl {

// Sends a whole buffer, in as many rounds as it takes. With an error, `bytes` is what had certainly been
// sent.
// `copied`: at least a part was copied, as far as the kernel tells (Linux 6.7; before, false).
// Errors: as SendAll. Source: io_uring_prep_send_zc(3).
struct SendZeroCopy {
    Socket socket;  // to send on
    Buffer buffer;  // not to be changed through other references until the completion
    int flags = 0;  // MSG_MORE

    // What was sent; the kernel has let go of the buffer.
    struct Done {
        Error error;          // none when all of it was sent
        std::uint64_t bytes;  // sent
        Buffer buffer;        // the one given, always
        bool copied;          // the kernel has made a copy after all
    };

    static constexpr detail::OpKind kind = detail::OpKind::send_zero_copy;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    void store(detail::OpRecord& record) noexcept {
        record.extra = static_cast<std::uint32_t>(flags | MSG_ZEROCOPY);
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        const bool copied = record.extra >> 63 != 0;
        return {delivery.error, delivery.bytes, record.take<Buffer>(), copied};
    }
};

// Sends all buffers of a chain, gathered, in as many rounds as it takes; any number of buffers.
// Errors: as SendZeroCopy; ENOMEM from submit. Source: io_uring_prep_sendmsg_zc(3).
struct SendChainZeroCopy {
    Socket socket;      // to send on
    BufferChain chain;  // the buffers in the order in which they are sent
    int flags = 0;      // MSG_MORE

    // What was sent; the kernel has let go of the buffers.
    struct Done {
        Error error;          // none when all of it was sent
        std::uint64_t bytes;  // sent, of all buffers together
        BufferChain chain;    // the one given, always
        bool copied;          // the kernel has made a copy after all
    };

    static constexpr detail::OpKind kind = detail::OpKind::chain_zero_copy;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT static Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

}  // namespace whorl
