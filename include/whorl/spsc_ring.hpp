// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/atomic.hpp>
#include <whorl/error.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// A bounded ring between two threads: one puts messages in, the other takes them out, in order, without
// locks and without system calls. It tells nobody; Channel (channel.hpp) wakes a loop.
//
// Two layouts with one interface, because they are good at different things; SpscRing<T> chooses.
//
//   SpscSlotRing   a slot is a line of {sequence, message}. The sequence travels with the message, so in
//                  a ring that is nearly empty a message costs the consumer one line of the other core's
//                  cache, not two. For messages of most of a line.
//   SpscIndexRing  messages stand side by side, and an index says how far. A line carries several
//                  messages, and a batch one index. For small messages; and for large ones, of which
//                  the index is the smallest part.
//
// A consumer that only looks at sequences walks on the producer's heels and takes away the lines that it
// is about to write: 42 ns a message instead of 7. So after a few messages in a row the slot ring's
// consumer looks at the index, too, and goes as far as that says without looking at any sequence.
//
// Who writes what:
//
//   producer   the slots, `tail_` or the sequences, producer_closed_, and what is in Producer
//   consumer   `head_`, consumer_closed_, and what is in Consumer
//
// Memory order. A slot has two owners in turn.
//   1. To the consumer: the producer constructs the message, then stores its sequence, or the tail, with
//      release. The consumer loads that with acquire before it touches the message.
//   2. Back to the producer: the consumer destroys the message, then, for many at once, stores `head_`
//      with release. The producer loads it with acquire before it writes to a slot for the second time.
//   3. The end: a side sets its flag with release when it is done. Who finds the flag with acquire, and
//      *then* nothing in the ring, has had everything.
//   4. Sleeping: "I have published; is there somebody to wake?" against "I say that I sleep; is there
//      something?" are two stores and two loads, crosswise. Acquire and release let both loads come
//      first. So publish_ordered() and found_ordered() are seq_cst, and so must be the accesses to
//      the word that says who sleeps (channel.cpp).
// Each side keeps the last value that it has seen of the other's index, and looks again only when that
// says full, or empty. test/interleave runs both layouts in every order, and with each of these weakened.

namespace whorl {

namespace detail {

// Lines are fetched in pairs (the adjacent-line prefetcher), so what different threads write stands two
// lines apart.
inline constexpr std::size_t ring_apart = 128;
inline constexpr std::size_t ring_line = 64;

// Room for a power of two of slots.
template <class Slot>
class RingSlots {
  public:
    RingSlots() noexcept = default;
    RingSlots(const RingSlots&) = delete;
    RingSlots& operator=(const RingSlots&) = delete;
    ~RingSlots() {
        if (first_ == nullptr) return;
        for (std::size_t index = 0; index <= mask_; ++index) first_[index].~Slot();
        object_give(first_, sizeof(Slot) * (mask_ + 1), ring_apart);
    }
    Error reserve(std::uint32_t capacity) noexcept {
        WHORL_ASSERT(first_ == nullptr);
        const bool power_of_two = (capacity & (capacity - 1)) == 0;
        if (capacity == 0 || !power_of_two || capacity > 1u << 30) return Error::invalid_argument;
        void* memory = object_take(sizeof(Slot) * capacity, ring_apart);
        if (memory == nullptr) return Error::from_errno(ENOMEM);
        first_ = static_cast<Slot*>(memory);
        for (std::size_t index = 0; index < capacity; ++index) ::new (first_ + index) Slot;
        mask_ = capacity - 1;
        return {};
    }
    Slot* first() const noexcept { return first_; }
    std::uint64_t mask() const noexcept { return mask_; }

  private:
    Slot* first_ = nullptr;
    std::uint64_t mask_ = 0;
};

// The side of the ring that puts in, and the one that takes out: their own copies of everything.
template <class Slot>
struct alignas(ring_apart) RingProducer {
    std::uint64_t tail = 0;
    std::uint64_t head_seen = 0;
    Slot* slots = nullptr;
    std::uint64_t mask = 0;
    bool room(const Atomic<std::uint64_t>& head) noexcept {
        if (tail - head_seen <= mask) return true;
        head_seen = head.load(std::memory_order_acquire);
        return tail - head_seen <= mask;
    }
};
template <class Slot>
struct alignas(ring_apart) RingConsumer {
    std::uint64_t head = 0;
    std::uint64_t tail_seen = 0;  // of an index ring
    std::uint64_t returned = 0;   // what the producer knows of head
    std::uint64_t quarter = 0;
    Slot* slots = nullptr;
    std::uint64_t mask = 0;
};

// What both layouts do alike, written once. `Ring` says how a message becomes visible.
template <class Ring, class T, class Slot>
class RingBase {
    static_assert(std::is_nothrow_move_constructible_v<T>, "a message moves without throwing");
    static_assert(std::is_nothrow_destructible_v<T>, "a message is destroyed without throwing");
    static_assert(alignof(T) <= ring_line, "a message needs no more alignment than 64");

  public:
    using Message = T;
    RingBase() noexcept = default;
    RingBase(const RingBase&) = delete;
    RingBase& operator=(const RingBase&) = delete;

    // Makes room for `capacity` messages. Call once, before anything else; then hand each end to its
    // thread. Errors: invalid_argument, ENOMEM. Limits: a power of two, 1 to 2^30.
    Error reserve(std::uint32_t capacity) noexcept {
        if (Error error = memory_.reserve(capacity)) return error;
        producer_.slots = consumer_.slots = memory_.first();
        producer_.mask = consumer_.mask = memory_.mask();
        consumer_.quarter = capacity < 4 ? 1 : capacity / 4;
        return {};
    }
    std::uint64_t capacity() const noexcept { return memory_.mask() + 1; }

    // --- The producer's thread

    // Puts a message in, visible at once. False: the ring is full, and `message` has not been moved from.
    // It may be full for a moment longer than it is: room comes back a quarter of the ring at a time, or
    // when the consumer finds nothing. Cost: one line to the other core, a second one once a quarter.
    bool try_push(T&& message) noexcept {
        if (!self().try_write(std::move(message))) return false;
        self().publish();
        return true;
    }
    // Moves the first of `count` messages in, as many as there is room for, and makes them visible
    // together. Returns how many; the rest is as it was.
    std::size_t push_batch(T* messages, std::size_t count) noexcept {
        std::size_t done = 0;
        while (done < count && self().try_write(std::move(messages[done]))) ++done;
        if (done != 0) self().publish();
        return done;
    }
    // How many have been put in, ever.
    std::uint64_t pushed() const noexcept { return producer_.tail; }
    // Whether there is room, by a look at what the consumer has returned (4 above).
    bool room_ordered() noexcept {
        producer_.head_seen = head_.load(std::memory_order_seq_cst);
        return producer_.tail - producer_.head_seen <= producer_.mask;
    }
    // Nothing more will come. The consumer still finds what is in the ring.
    void close_producer() noexcept { producer_closed_.store(true, std::memory_order_seq_cst); }
    // The consumer takes nothing more; what is put in from now on is destroyed with the ring.
    bool consumer_closed() const noexcept {
        return consumer_closed_.load(std::memory_order_seq_cst);
    }

    // --- The consumer's thread

    // The oldest message; null when there is none. It stays there until pop().
    T* front() noexcept {
        if (T* message = self().peek()) return message;
        if (consumer_.head != consumer_.returned) give_back();
        return nullptr;
    }
    // Destroys the oldest message, which front() has answered.
    void pop() noexcept {
        self().message_at(consumer_.head).~T();
        ++consumer_.head;
        if (consumer_.head - consumer_.returned >= consumer_.quarter) give_back();
    }
    // Moves the oldest message to `into`. False: there is none.
    bool try_pop(T& into) noexcept {
        T* message = front();
        if (message == nullptr) return false;
        into = std::move(*message);
        pop();
        return true;
    }
    std::size_t pop_batch(T* into, std::size_t count) noexcept {
        std::size_t done = 0;
        while (done < count && try_pop(into[done])) ++done;
        return done;
    }
    // How many have been taken out, ever.
    std::uint64_t popped() const noexcept { return consumer_.head; }
    // Tells the producer of all room at once.
    void give_back() noexcept {
        consumer_.returned = consumer_.head;
        head_.store(consumer_.head, std::memory_order_release);
    }
    // The same, before whatever seq_cst access comes next (4 above).
    void give_back_ordered() noexcept {
        consumer_.returned = consumer_.head;
        head_.store(consumer_.head, std::memory_order_seq_cst);
    }
    // The producer has closed. Ask this first and front() afterwards: null then means the end.
    bool producer_closed() const noexcept {
        return producer_closed_.load(std::memory_order_seq_cst);
    }
    void close_consumer() noexcept { consumer_closed_.store(true, std::memory_order_seq_cst); }

  protected:
    ~RingBase() = default;
    Ring& self() noexcept { return static_cast<Ring&>(*this); }
    // With both ends at rest: what nobody has taken, published or not.
    void destroy_messages() noexcept {
        for (; consumer_.head != producer_.tail; ++consumer_.head) {
            self().message_at(consumer_.head).~T();
        }
    }

    RingProducer<Slot> producer_;                        // the producer's own
    alignas(ring_apart) Atomic<std::uint64_t> tail_{0};  // written by the producer
    alignas(ring_apart) Atomic<std::uint64_t> head_{0};  // written by the consumer
    RingConsumer<Slot> consumer_;                        // the consumer's own
    // Written once each.
    alignas(ring_apart) Atomic<bool> producer_closed_{false};
    Atomic<bool> consumer_closed_{false};
    RingSlots<Slot> memory_;
};

template <class T>
struct alignas(ring_line) SequenceSlot {
    Atomic<std::uint64_t> sequence{0};  // position + 1 of the message in it
    alignas(T) unsigned char message[sizeof(T)];
};
template <class T>
struct alignas(alignof(T)) PlainSlot {
    unsigned char message[sizeof(T)];
};

}  // namespace detail

// A line for each message, or several lines.
// Lifetime: messages that nobody has taken are destroyed with it; both ends must be at rest then.
// Thread: one for the producer's functions and one for the consumer's.
// `Streak`: after so many messages in a row the consumer looks at the index.
template <class T, std::uint32_t Streak = 4>
class SpscSlotRing : public detail::RingBase<SpscSlotRing<T, Streak>, T, detail::SequenceSlot<T>> {
    using Base = detail::RingBase<SpscSlotRing<T, Streak>, T, detail::SequenceSlot<T>>;
    friend Base;

  public:
    ~SpscSlotRing() { this->destroy_messages(); }

    // As try_push; it may become visible only with the next publish(). (Here it is at once.)
    bool try_write(T&& message) noexcept {
        auto& producer = this->producer_;
        if (!producer.room(this->head_)) return false;
        auto& slot = producer.slots[producer.tail & producer.mask];
        ::new (static_cast<void*>(slot.message)) T(std::move(message));
        slot.sequence.store(++producer.tail, std::memory_order_release);
        return true;
    }
    // Says how far the producer is, to who looks at the index. Cost: a store.
    void publish() noexcept { this->tail_.store(this->producer_.tail, std::memory_order_release); }
    // Publishes, before whatever seq_cst access comes next (4 above).
    void publish_ordered() noexcept {
        this->tail_.store(this->producer_.tail, std::memory_order_seq_cst);
    }
    // The consumer's look in that order: whether there is a message. (It may have taken one by its
    // sequence before the index was stored.)
    bool found_ordered() noexcept {
        return this->tail_.load(std::memory_order_seq_cst) > this->consumer_.head;
    }

  private:
    T& message_at(std::uint64_t position) noexcept {
        auto& slot = this->consumer_.slots[position & this->consumer_.mask];
        return *std::launder(reinterpret_cast<T*>(slot.message));
    }
    T* peek() noexcept {
        auto& consumer = this->consumer_;
        auto& slot = consumer.slots[consumer.head & consumer.mask];
        if (consumer.head >= consumer.tail_seen) {
            if (slot.sequence.load(std::memory_order_acquire) != consumer.head + 1) {
                streak_ = 0;
                return nullptr;
            }
            if (++streak_ >= Streak) {
                consumer.tail_seen = this->tail_.load(std::memory_order_acquire);
            }
        }
        return std::launder(reinterpret_cast<T*>(slot.message));
    }

    alignas(detail::ring_apart) std::uint32_t streak_ = 0;  // the consumer's
};

// Messages side by side. Lifetime and thread: as SpscSlotRing.
template <class T>
class SpscIndexRing : public detail::RingBase<SpscIndexRing<T>, T, detail::PlainSlot<T>> {
    using Base = detail::RingBase<SpscIndexRing<T>, T, detail::PlainSlot<T>>;
    friend Base;

  public:
    ~SpscIndexRing() { this->destroy_messages(); }

    // As try_push; visible with the next publish().
    bool try_write(T&& message) noexcept {
        auto& producer = this->producer_;
        if (!producer.room(this->head_)) return false;
        auto& slot = producer.slots[producer.tail & producer.mask];
        ::new (static_cast<void*>(slot.message)) T(std::move(message));
        ++producer.tail;
        return true;
    }
    // Makes what was written visible to the consumer. Cost: a store.
    void publish() noexcept { this->tail_.store(this->producer_.tail, std::memory_order_release); }
    // Publishes, before whatever seq_cst access comes next (4 above).
    void publish_ordered() noexcept {
        this->tail_.store(this->producer_.tail, std::memory_order_seq_cst);
    }
    // The consumer's look in that order: whether there is a message.
    bool found_ordered() noexcept {
        this->consumer_.tail_seen = this->tail_.load(std::memory_order_seq_cst);
        return this->consumer_.tail_seen != this->consumer_.head;
    }

  private:
    T& message_at(std::uint64_t position) noexcept {
        auto& slot = this->consumer_.slots[position & this->consumer_.mask];
        return *std::launder(reinterpret_cast<T*>(slot.message));
    }
    T* peek() noexcept {
        auto& consumer = this->consumer_;
        if (consumer.head == consumer.tail_seen) {
            consumer.tail_seen = this->tail_.load(std::memory_order_acquire);
            if (consumer.head == consumer.tail_seen) return nullptr;
        }
        return &message_at(consumer.head);
    }
};

// The layout for messages of this size: a line each where the sequence fits in beside the message and
// not much of the line is lost.
template <class T>
using SpscRing =
    std::conditional_t<(sizeof(T) > 16 && sizeof(detail::SequenceSlot<T>) == detail::ring_line),
                       SpscSlotRing<T>, SpscIndexRing<T>>;

}  // namespace whorl
