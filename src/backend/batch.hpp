// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

// Datagrams that are sent as one operation.

namespace whorl::detail {

// Where one of them goes to; size 0: to the connected peer.
struct BatchAddress {
    unsigned char bytes[28];
    std::uint32_t size;
};

// Kept by the loop and reused. What the kernel reads, `headers` and `parts`, is written anew for each
// round, beginning with the first datagram that was not sent yet.
struct BatchFrame : Allocated<BatchFrame> {
    static constexpr std::uint32_t at_a_time = 64;
    BatchFrame* next;
    BufferChain buffers;
    Buffer addresses;  // a BatchAddress for each buffer
    std::uint32_t count;
    mmsghdr headers[at_a_time];
    iovec parts[at_a_time];
};

struct BatchPayload {
    BatchFrame* frame;
};

}  // namespace whorl::detail
