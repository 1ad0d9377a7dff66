// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/address.hpp>
#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/export.hpp>
#include <whorl/udp.hpp>

#include <cstdint>
#include <utility>

// Several datagrams in one operation, up to 64 in one system call. Datagrams of one size to one address are
// cheaper still as one SendTo with control.segment_size (GSO). Receiving needs no batches: a RecvFromStream
// on io_uring takes any number of datagrams without a system call for each.

namespace whorl {

// Datagrams and where each goes to. Lifetime: owns its buffers; it keeps its room when cleared, so a batch
// that is handed back and used again allocates nothing. Thread: as its buffers.
class WHORL_EXPORT DatagramBatch {
  public:
    // Appends a datagram; without an address it goes to the connected peer.
    // Owns: the buffer, when it answers true. Errors: false when memory is exhausted.
    bool push_back(Buffer&& buffer, const Address& address = {}) noexcept;
    // Drops all datagrams and their buffers; the room stays.
    void clear() noexcept;

    std::uint32_t count() const noexcept { return buffers_.count(); }  // datagrams in it
    bool empty() const noexcept { return buffers_.empty(); }
    // A datagram's bytes, in the order of push_back(). Limits: index < count().
    Buffer& operator[](std::uint32_t index) noexcept { return buffers_[index]; }

  private:
    friend struct SendBatch;
    BufferChain buffers_;
    Buffer addresses_;
};

// Sends the datagrams of a batch in order, each whole or not at all, in as many rounds as it takes. It ends
// at the first that is refused: `sent` went out before it, and batch[sent] is the one with the error; the
// rest was not tried.
// Errors: as SendTo; ENOMEM from submit. Source: sendmmsg(2).
// Cost: one system call for 64 datagrams, made when the turn submits; no more than SendTo when there is no room.
struct SendBatch {
    UdpSocket socket;     // to send on
    DatagramBatch batch;  // taken when it is submitted, and handed back in Done

    // How far it came.
    struct Done {
        Error error;          // of batch[sent]; none when all were sent
        std::uint64_t sent;   // datagrams that went out
        DatagramBatch batch;  // the one given, unchanged: clear() it before it is filled anew
    };

    static constexpr detail::OpKind kind = detail::OpKind::send_batch;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT static Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

}  // namespace whorl
