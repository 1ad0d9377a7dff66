// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/unix.hpp>

#include <unistd.h>

#include <cstdint>
#include <cstring>

// The words of a hot restart, records of a seqpacket socket. Each begins with a RestartWord; `offer` is
// followed by the names of the descriptors that come with it, each a byte for its size and its bytes. The
// first descriptor of all is the restart socket, without a name. Both ends are on one machine, so numbers
// are in its order. A change that an older end would misread gets another version.

namespace whorl::detail {

enum class RestartKind : std::uint16_t {
    hello = 1,     // from the successor, first of all
    offer = 2,     // to it; value: the descriptors in all, the restart socket included
    ready = 3,     // from it: it accepts
    released = 4,  // to it: it is alone
    refused = 5,   // to it; value: a RestartRefusal
};

enum class RestartRefusal : std::uint32_t { busy = 1, version = 2, timed_out = 3, failed = 4 };

struct RestartWord {
    char magic[8] = {'w', 'h', 'o', 'r', 'l', 'r', 's', 't'};
    std::uint16_t version = 1;
    RestartKind kind = RestartKind::hello;
    std::uint32_t value = 0;
};
static_assert(sizeof(RestartWord) == 16);

// A record of one message stays far below what a socket's buffer holds.
inline constexpr std::size_t restart_record_max = 16384;

inline Buffer restart_word(RestartKind kind, std::uint32_t value = 0) noexcept {
    RestartWord word;
    word.kind = kind;
    word.value = value;
    return Buffer::copy_of(Bytes{reinterpret_cast<const char*>(&word), sizeof word});
}

// False: these are no bytes of this protocol, whatever its version.
inline bool restart_parse(Bytes bytes, RestartWord& word) noexcept {
    const RestartWord expected;
    if (bytes.size < sizeof word) return false;
    std::memcpy(&word, bytes.data, sizeof word);
    return std::memcmp(word.magic, expected.magic, sizeof word.magic) == 0;
}

inline bool restart_same_user(const PeerCredentials& peer) noexcept {
    return peer.uid == ::geteuid() || peer.uid == 0;
}

// A reference to a state that counts them; on one thread.
template <class State>
class RestartRef {
  public:
    explicit RestartRef(State* state) noexcept : state_(state) { ++state_->references; }
    RestartRef(RestartRef&& other) noexcept : state_(other.state_) { other.state_ = nullptr; }
    RestartRef(const RestartRef&) = delete;
    RestartRef& operator=(const RestartRef&) = delete;
    RestartRef& operator=(RestartRef&&) = delete;
    ~RestartRef() {
        if (state_ != nullptr) drop(state_);
    }
    State* operator->() const noexcept { return state_; }

  private:
    // Out of line: gcc takes a count that it cannot follow for a use after free.
    [[gnu::noinline]] static void drop(State* state) noexcept {
        if (--state->references == 0) delete state;
    }

    State* state_;
};

}  // namespace whorl::detail
