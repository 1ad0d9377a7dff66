// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/loop.hpp>
#include <whorl/wait.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// Messages to everybody inside one loop. Who reads too slowly loses the oldest, and is told how many.
//
//   auto prices = whorl::Broadcast<Price>::create(1024);
//   whorl::BroadcastReader<Price> reader(*prices);       // from now on
//   loop.submit(whorl::AwaitBroadcast{reader}, [&](whorl::Loop&, whorl::AwaitBroadcast::Done) {
//       while (const Price* price = reader.next()) …
//   });
//   prices->publish(price);

namespace whorl {

template <class T>
class BroadcastReader;

namespace detail {

// What does not depend on the message.
struct BroadcastState : Allocated<BroadcastState> {
    std::uint64_t published = 0;
    std::uint64_t capacity = 0;
    bool closed = false;
    WaitQueue queue;
};

}  // namespace detail

// The last messages that were published. Lifetime: its readers go first, and those who wait (their end is
// close()). Thread: the loop's.
template <class T>
class Broadcast {
  public:
    static_assert(std::is_nothrow_move_constructible_v<T>, "a message moves without throwing");

    // Errors: invalid_argument (not 1 to 2^30 messages), ENOMEM. Cost: the memory of `capacity` messages.
    static Result<Broadcast> create(std::size_t capacity) noexcept {
        if (capacity == 0 || capacity > std::size_t{1} << 30) return Error::invalid_argument;
        auto* state = new (std::nothrow) detail::BroadcastState;
        if (state == nullptr) return Error::from_errno(ENOMEM);
        state->capacity = capacity;
        auto* slots = static_cast<T*>(detail::object_take(capacity * sizeof(T), alignof(T)));
        Broadcast made(state, slots);
        if (slots == nullptr) return Error::from_errno(ENOMEM);
        return made;
    }
    Broadcast(Broadcast&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)),
          slots_(std::exchange(other.slots_, nullptr)) {}
    Broadcast& operator=(Broadcast&& other) noexcept {
        std::swap(state_, other.state_);
        std::swap(slots_, other.slots_);
        return *this;
    }
    ~Broadcast() {
        if (state_ == nullptr) return;
        close();
        const std::uint64_t kept = std::min(state_->published, state_->capacity);
        for (std::uint64_t index = 0; index < kept; ++index) slots_[index].~T();
        detail::object_give(slots_, state_->capacity * sizeof(T), alignof(T));
        delete state_;
    }

    // Publishes a message, in place of the oldest when it is full, and ends everybody's waiting.
    // Errors: channel_closed (the message has not been moved from). Cost: O(1), and for each that waits.
    Error publish(T&& message) noexcept {
        if (state_->closed) return Error::channel_closed;
        T* slot = slots_ + state_->published % state_->capacity;
        if (state_->published >= state_->capacity) slot->~T();
        ::new (static_cast<void*>(slot)) T(std::move(message));
        ++state_->published;
        state_->queue.end_all(Error());
        return {};
    }
    // Publishes a copy. Errors, cost: as above. Limits: a copy that throws ends the program.
    Error publish(const T& message) noexcept { return publish(T(message)); }
    // Nothing more will come. What was published can still be read.
    void close() noexcept {
        state_->closed = true;
        state_->queue.end_all(Error::channel_closed);
    }
    // How many have been published since it was made.
    std::uint64_t published() const noexcept { return state_->published; }

  private:
    friend class BroadcastReader<T>;
    Broadcast(detail::BroadcastState* state, T* slots) noexcept : state_(state), slots_(slots) {}

    detail::BroadcastState* state_;
    T* slots_;
};

// Reads from the message that comes next when it is made. Copied: both go on from there. Thread: the loop's.
template <class T>
class BroadcastReader {
  public:
    // The broadcast may move meanwhile; it may not end (see Broadcast).
    explicit BroadcastReader(const Broadcast<T>& from) noexcept
        : state_(from.state_), slots_(from.slots_), next_(from.state_->published) {}

    // The next message, or null. Lifetime: until something is published.
    const T* next() noexcept {
        const std::uint64_t oldest =
            state_->published - std::min(state_->published, state_->capacity);
        if (next_ < oldest) lost_ += oldest - std::exchange(next_, oldest);
        if (next_ == state_->published) return nullptr;
        return slots_ + next_++ % state_->capacity;
    }
    // Messages that were overwritten before this reader came to them, as next() found.
    std::uint64_t lost() const noexcept { return lost_; }
    // Messages that it has still to read, those included that it will have lost.
    std::uint64_t behind() const noexcept { return state_->published - next_; }
    // Whether it was closed and all that is left has been read or lost.
    bool ended() const noexcept { return state_->closed && behind() == 0; }

  private:
    friend struct AwaitBroadcast;
    detail::BroadcastState* state_;
    T* slots_;
    std::uint64_t next_;
    std::uint64_t lost_ = 0;
};

// Waits until the reader has something to read; at once when it has.
// Owns: nothing. Calls: the handler once, from dispatch: no error, channel_closed (and it has read all),
//   cancelled, timed_out.
// Errors: as Loop::submit. Cost: no allocation.
struct AwaitBroadcast {
    struct Done {
        Error error;
    };
    // Looks at the reader when it is submitted; the reader must be there until then.
    template <class T>
    explicit AwaitBroadcast(const BroadcastReader<T>& reader) noexcept
        : state(*reader.state_), next(reader.next_) {}
    detail::BroadcastState& state;
    const std::uint64_t& next;  // the message that the reader reads next

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        if (state.published != next) detail::WaitQueue::pass(loop, record);
        else if (state.closed) detail::WaitQueue::pass(loop, record, Error::channel_closed);
        else state.queue.join(loop, record);
        return {};
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

}  // namespace whorl
