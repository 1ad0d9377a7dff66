// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/loop.hpp>
#include <whorl/wait.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

// Messages inside one loop, without atomics. Between loops or threads: channel.hpp.
//
//   whorl::LocalChannel<Job> jobs(64);
//   loop.submit(whorl::ReceiveLocal{jobs}, handler);                   // one message, oldest first
//   if (jobs.send(std::move(job))) …                                   // queue_full: the job is still ours
//   loop.submit(whorl::SendLocal{jobs, std::move(job)}, handler);      // waits for room

namespace whorl {

template <class T>
class LocalChannel;

namespace detail {

// Memory for the messages of one channel, reused. It stays until the last message of a channel that is gone
// has found its end. Cost: one allocation for each message that is alive at once, at the most.
class WHORL_EXPORT CarriedPool : public Allocated<CarriedPool> {
  public:
    static CarriedPool* make(std::size_t size) noexcept;
    CarriedPool(const CarriedPool&) = delete;
    CarriedPool& operator=(const CarriedPool&) = delete;
    void* take() noexcept;  // null: no memory
    void give(void* memory) noexcept;
    void leave() noexcept;  // the channel is gone

  private:
    explicit CarriedPool(std::size_t size) noexcept : size_(size) {}
    ~CarriedPool();
    void release() noexcept;

    std::size_t size_;
    void* free_ = nullptr;          // each begins with the next
    std::uint64_t references_ = 1;  // the channel, and each message
};

template <class T>
struct LocalMessage final : Carried {
    LocalMessage(CarriedPool& home, T&& given) noexcept
        : Carried{nullptr, &end}, pool(home), value(std::move(given)) {}
    static void end(Carried* message) noexcept {
        auto* self = static_cast<LocalMessage*>(message);
        CarriedPool& home = self->pool;
        self->~LocalMessage();
        home.give(self);
    }
    CarriedPool& pool;
    T value;
};

template <class T>
std::optional<T> local_unwrap(Carried* message) noexcept {
    if (message == nullptr) return std::nullopt;
    std::optional<T> value(std::move(static_cast<LocalMessage<T>*>(message)->value));
    message->drop(message);
    return value;
}

}  // namespace detail

// A queue of messages. Each message goes to one receiver, in the order of sending; who waits is served in the
// order of coming. Lifetime: its end is close(), and destroys the messages that nobody took. Thread: the loop's.
// Limits: T moves without throwing and is aligned to 16 bytes at most.
template <class T>
class LocalChannel {
  public:
    // As a capacity: it is never full, but there may be no memory.
    static constexpr std::size_t unbounded = SIZE_MAX;
    static_assert(std::is_nothrow_move_constructible_v<T>, "a message moves without throwing");
    static_assert(alignof(T) <= alignof(std::max_align_t));

    // Limits: a capacity of 1 at least (asserted).
    explicit LocalChannel(std::size_t capacity = unbounded) noexcept : capacity_(capacity) {
        WHORL_ASSERT(capacity != 0);
    }
    LocalChannel(const LocalChannel&) = delete;
    LocalChannel& operator=(const LocalChannel&) = delete;
    ~LocalChannel() {
        close();
        while (head_ != nullptr) detail::local_unwrap<T>(take());
        if (pool_ != nullptr) pool_->leave();
    }

    // Sends now. When it is refused, `message` has not been moved from.
    // Errors: queue_full (SendLocal waits), channel_closed, ENOMEM.
    // Cost: no allocation once there have been as many messages at once.
    Error send(T&& message) noexcept {
        if (closed_) return Error::channel_closed;
        if (full()) return Error::queue_full;
        detail::Carried* made = wrap(std::move(message));
        if (made == nullptr) return Error::from_errno(ENOMEM);
        if (!receivers_.empty()) receivers_.end_front(Error(), made);
        else put(made);
        return {};
    }
    // Takes the oldest message, if there is one.
    std::optional<T> receive() noexcept {
        if (head_ == nullptr) return std::nullopt;
        return detail::local_unwrap<T>(take());
    }
    // Nothing more is sent: who waits to send, or to receive, ends with channel_closed. The messages that are
    // in it can still be received. Again: nothing.
    void close() noexcept {
        closed_ = true;
        senders_.end_all(Error::channel_closed);
        receivers_.end_all(Error::channel_closed);
    }

    std::size_t size() const noexcept { return size_; }          // messages that nobody has taken
    std::size_t capacity() const noexcept { return capacity_; }  // messages; `unbounded` by default
    bool closed() const noexcept { return closed_; }  // by close(); there may be messages in it

  private:
    template <class>
    friend struct SendLocal;
    template <class>
    friend struct ReceiveLocal;

    bool full() const noexcept { return size_ >= capacity_; }
    detail::Carried* wrap(T&& message) noexcept {
        using Message = detail::LocalMessage<T>;
        if (pool_ == nullptr) pool_ = detail::CarriedPool::make(sizeof(Message));
        void* memory = pool_ == nullptr ? nullptr : pool_->take();
        if (memory == nullptr) return nullptr;
        return ::new (memory) Message(*pool_, std::move(message));
    }
    void put(detail::Carried* message) noexcept {
        message->next = nullptr;
        (head_ == nullptr ? head_ : tail_->next) = message;
        tail_ = message;
        ++size_;
    }
    // The oldest; whoever waits for room gets it.
    detail::Carried* take() noexcept {
        detail::Carried* taken = head_;
        head_ = taken->next;
        --size_;
        if (!senders_.empty()) {
            put(senders_.take_front());
            senders_.end_front(Error());
        }
        return taken;
    }

    detail::WaitQueue senders_;    // empty unless it is full
    detail::WaitQueue receivers_;  // empty unless it is empty
    detail::Carried* head_ = nullptr;
    detail::Carried* tail_ = nullptr;
    detail::CarriedPool* pool_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_;
    bool closed_ = false;
};

// Sends a message, and waits for room where there is none.
// Owns: the message. Calls: the handler once, from dispatch: no error (it is in the channel, or taken), or
//   channel_closed, cancelled, timed_out, ENOMEM; then Done has the message again.
// Errors: as Loop::submit; then the message is still the operation's. Cost: as LocalChannel::send.
template <class T>
struct SendLocal {
    // The message is in the channel, or comes back.
    struct Done {
        Error error;               // none when it was sent
        std::optional<T> message;  // with an error: the message; else nothing
    };
    // This message, which is moved in, to this channel.
    SendLocal(LocalChannel<T>& given, T given_message) noexcept
        : channel(given), message(std::move(given_message)) {}
    LocalChannel<T>& channel;  // its end ends the operation with channel_closed
    T message;                 // to send; moved from when submit has succeeded

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) noexcept {
        detail::Carried* made = channel.wrap(std::move(message));
        if (made == nullptr) return Error::from_errno(ENOMEM);
        if (channel.closed_) {
            detail::WaitQueue::pass(loop, record, Error::channel_closed, made);
        } else if (channel.full()) {
            channel.senders_.join(loop, record, 0, made);
        } else {
            if (!channel.receivers_.empty()) channel.receivers_.end_front(Error(), made);
            else channel.put(made);
            detail::WaitQueue::pass(loop, record);
        }
        return {};
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, detail::local_unwrap<T>(detail::WaitQueue::take(record))};
    }
};

// Receives one message, and waits for it where there is none.
// Owns: nothing. Calls: the handler once, from dispatch: with a message and no error, or channel_closed (and
//   nothing is left), cancelled, timed_out. A cancel or deadline that comes after the message was given changes
//   nothing. When the loop ends before the handler was called, the message is destroyed.
// Errors: as Loop::submit. Cost: no allocation.
template <class T>
struct ReceiveLocal {
    // A message, or why there is none.
    struct Done {
        Error error;               // none with a message
        std::optional<T> message;  // there is one exactly when there is no error
    };
    // From this channel.
    explicit ReceiveLocal(LocalChannel<T>& given) noexcept : channel(given) {}
    LocalChannel<T>& channel;  // its end ends the operation with channel_closed

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        if (channel.head_ != nullptr) {
            detail::WaitQueue::pass(loop, record, Error(), channel.take());
        } else if (channel.closed_) {
            detail::WaitQueue::pass(loop, record, Error::channel_closed);
        } else {
            channel.receivers_.join(loop, record);
        }
        return {};
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, detail::local_unwrap<T>(detail::WaitQueue::take(record))};
    }
};

// One value that is set once, and one that waits for it: a channel of one message.
//
//   whorl::OneShot<Answer> answer;
//   loop.submit(answer.await(), whorl::within(1s), handler);   // channel_closed: it was given up
//   answer.set(std::move(result));
template <class T>
class OneShot {
  public:
    OneShot() noexcept : channel_(1) {}
    // False: it was set or given up before, and `value` has not been moved from; or there is no memory.
    bool set(T&& value) noexcept {
        const bool taken = !channel_.send(std::move(value));
        if (taken) channel_.close();
        return taken;
    }
    // There will be no value. As its end does.
    void give_up() noexcept { channel_.close(); }
    // The operation that waits for it; at once where it was set before. One of several gets the value, the
    // others channel_closed.
    ReceiveLocal<T> await() noexcept { return ReceiveLocal<T>(channel_); }

  private:
    LocalChannel<T> channel_;
};

}  // namespace whorl
