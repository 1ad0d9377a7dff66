// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include "stream/buffer_queue.hpp"

#include <whorl/allocated.hpp>
#include <whorl/buffer.hpp>
#include <whorl/bytes.hpp>
#include <whorl/error.hpp>
#include <whorl/loop.hpp>
#include <whorl/result.hpp>
#include <whorl/stream.hpp>
#include <whorl/time.hpp>

#include <algorithm>
#include <cstddef>

namespace whorl {

namespace detail {

// What a layer makes for one stream: it turns bytes into other bytes, and knows of no socket. The stream
// calls it from dispatch, one call at a time, and sends what it has put into `sealed`.
//
// Invariants:
//   1. `ready` becomes true once and stays so. Before it nothing is sealed.
//   2. After an error, and after end() for what is sealed, it is not called again.
struct StreamFilter : Allocated<StreamFilter> {
    explicit StreamFilter(Loop& its_loop) noexcept : loop(&its_loop) {}
    StreamFilter(const StreamFilter&) = delete;
    StreamFilter& operator=(const StreamFilter&) = delete;
    virtual ~StreamFilter() = default;

    struct Unsealed {
        Error error;
        bool full = false;    // the output is, and there may be more
        bool at_end = false;  // the peer has ended its side
    };
    // Takes what came from the peer off `input`, and appends what it means to `output`, until one of
    // them has no more. Without input, the first time: begins.
    virtual Unsealed unseal(Bytes& input, Buffer& output) noexcept = 0;
    virtual Error seal(Bytes plain) noexcept = 0;
    // Our side has ended: says so to the peer.
    virtual void end() noexcept = 0;
    // Which kind of layer it is: an address that only that one has.
    virtual const void* kind() const noexcept = 0;

    // Appends to `sealed`. False: no memory.
    bool put(Bytes bytes) noexcept {
        while (!bytes.empty()) {
            if (!back_is_ours || sealed.empty() ||
                sealed.back().capacity() == sealed.back().size()) {
                const std::size_t room = bytes.size > block_small ? block_large : block_small;
                Buffer block = loop->buffer(room);
                if (!block) block = Buffer::allocate(room);  // the pool is at its limit
                if (!block || !sealed.push_back(std::move(block))) return false;
                back_is_ours = true;
            }
            Buffer& back = sealed.back();
            const std::size_t part = std::min(bytes.size, back.capacity() - back.size());
            if (!back.append({bytes.data, part})) return false;
            bytes = {bytes.data + part, bytes.size - part};
            sealed_new += part;
        }
        return true;
    }

    static constexpr std::size_t block_small = std::size_t{4} << 10;
    static constexpr std::size_t block_large = std::size_t{16} << 10;

    Loop* loop;
    BufferQueue sealed;
    std::size_t sealed_new = 0;  // put, and not yet counted by the stream
    bool back_is_ours = false;   // what `sealed` ends with may be appended to
    bool begun = false;
    bool ready = false;
    bool failed = false;
    bool ended = false;
    Instant began{};
    Nanoseconds handshake{0};  // how long it may take to become ready; 0: for ever
};

}  // namespace detail

// Makes filters; nobody but a module implements it.
class StreamLayer {
  public:
    // Errors: ENOMEM, and what the layer says.
    virtual Result<detail::StreamFilter*> make(Loop& loop) noexcept = 0;

  protected:
    StreamLayer() noexcept = default;
    ~StreamLayer() = default;
};

}  // namespace whorl
