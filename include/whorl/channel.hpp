// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/atomic.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/remote.hpp>
#include <whorl/spsc_ring.hpp>
#include <whorl/wait.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// Messages from one thread into a loop.
//
//   auto made = whorl::Channel<Order>::create(1024);
//   whorl::Sender<Order> orders = std::move(made->sender);        // to the producing thread or loop
//   loop.submit(whorl::Receive<Order>{std::move(made->receiver)},  // on the receiving one
//               [](whorl::Loop& loop, whorl::Receive<Order>::Done done) {
//                   while (Order* order = done.next()) handle(*order);
//                   if (!done.more) …                  // the sender has closed, or cancelled
//               });
//
// Order is kept. The channel is bounded: a full one hands the message back, and AwaitSpace tells once when
// there is room again. Nothing blocks, so loops that send to each other cannot deadlock at any capacity.
// A loop that sleeps is woken once, by the one system call of Remote::post; one that is awake, never.
//
// The end, from either side:
//   The Sender goes (close(), or its end): everything sent before is delivered, then the receive ends with
//     channel_closed.
//   The Receiver goes (its end, as when its loop is destroyed): send() answers channel_closed from then
//     on; what was sent and not delivered is destroyed, and Sender::undelivered() says how many.
//   A loop goes: with it the operations that it has, and so the ends that these own. The other end, and
//     what it has, stays usable. Ends and loops may go in any order, on any thread of their own.

namespace whorl {

template <class T>
class Sender;
template <class T>
class Receiver;
template <class T>
struct Receive;
class AwaitSpace;

namespace detail {

struct RemoteState;
struct ChannelState;

// Who may be told of messages.
enum class Bell : std::uint8_t {
    away,    // nobody: no loop receives
    idle,    // the receiving loop, by its post
    posted,  // it has been told, and will look
};
// Whether the sender wants to be told of room.
enum class Space : std::uint8_t { none, wanted, posted };

struct ChannelPost : RemotePost {
    ChannelState* channel;
};

// What the ends share, but for the ring. The protocols are explained in channel.cpp.
struct WHORL_EXPORT ChannelState : Allocated<ChannelState> {
    ChannelState() noexcept;
    ChannelState(const ChannelState&) = delete;
    ChannelState& operator=(const ChannelState&) = delete;
    virtual ~ChannelState();

    // The ring, whatever its messages are.
    virtual bool ring_empty() noexcept = 0;  // on the receiver's side
    virtual bool ring_found() noexcept = 0;
    virtual bool ring_ended() noexcept = 0;
    virtual void ring_give_back() noexcept = 0;
    virtual bool ring_room() noexcept = 0;  // on the sender's side
    virtual bool ring_refuses() noexcept = 0;
    // The receiver goes: closes its side, and destroys what nobody will take.
    virtual void end_receiver() noexcept = 0;

    // Tells the receiving loop that there is something. The sender calls it when the bell is idle.
    void ring_bell() noexcept;
    // After the ring was given room, or closed: tells the sender if it waits for that.
    void tell_of_space() noexcept;
    void drop_reference() noexcept;

    // Read by the sender with each flush, written by both sides around a sleep.
    alignas(ring_line) Atomic<Bell> bell{Bell::away};
    ChannelPost receiver_post{};
    RemoteState* receiver_home = nullptr;  // fixed with the first receive

    // The receiving loop's.
    std::uint64_t receive = 0;  // the operation that receives; stale for none

    // Written around each wait for room.
    alignas(ring_line) Atomic<Space> space{Space::none};
    ChannelPost sender_post{};
    RemoteState* sender_home = nullptr;  // fixed with the first wait
    std::uint64_t await = 0;             // the operation that waits; stale for none

    // Rarely written: one for each end, for each post under way, and for the operation that waits.
    alignas(ring_line) Atomic<std::uint32_t> references{2};
    Atomic<std::uint64_t> delivered{0};  // in all, once the receiver is gone
};

template <class T>
struct ChannelOf final : ChannelState {
    bool ring_empty() noexcept override { return ring.front() == nullptr; }
    bool ring_found() noexcept override { return ring.found_ordered(); }
    bool ring_ended() noexcept override { return ring.producer_closed(); }
    void ring_give_back() noexcept override { ring.give_back_ordered(); }
    bool ring_room() noexcept override { return ring.room_ordered(); }
    bool ring_refuses() noexcept override { return ring.consumer_closed(); }

    void end_receiver() noexcept override {
        delivered.store(ring.popped(), std::memory_order_release);
        ring.close_consumer();
        while (ring.front() != nullptr) ring.pop();
        tell_of_space();
        drop_reference();
    }

    SpscRing<T> ring;
};

// Arm a record. Nothing is refused any more when they have succeeded.
WHORL_EXPORT Error receive_open(Loop& loop, OpRecord& record, ChannelState& channel) noexcept;
WHORL_EXPORT Error await_open(Loop& loop, OpRecord& record, ChannelState& channel) noexcept;
WHORL_EXPORT void await_finish(OpRecord& record) noexcept;

}  // namespace detail

// The end that messages are put into. Move-only. Lifetime: its end closes it. Thread: one at a time, of
// any kind; a thread without a loop may send as well.
template <class T>
class Sender {
  public:
    Sender() noexcept = default;
    Sender(Sender&& other) noexcept : channel_(std::exchange(other.channel_, nullptr)) {}
    Sender& operator=(Sender&& other) noexcept {
        Sender moved(std::move(other));
        std::swap(channel_, moved.channel_);
        return *this;
    }
    ~Sender() { close(); }

    // Sends a message. When it is refused, `message` has not been moved from.
    // Errors: queue_full (there is no room: AwaitSpace tells when), channel_closed (the receiver is gone,
    //   or this end is).
    // Cost: 10 to 20 ns; a system call only when the receiving loop sleeps and nobody has woken it yet.
    Error send(T&& message) noexcept {
        if (Error error = write(std::move(message))) return error;
        flush();
        return {};
    }
    // Moves the first of `count` messages out, as many as there is room for, and tells the receiver
    // once. Returns how many; none when the channel is closed.
    std::size_t send_batch(T* messages, std::size_t count) noexcept {
        std::size_t done = 0;
        while (done < count && !write(std::move(messages[done]))) ++done;
        if (done != 0) flush();
        return done;
    }
    // As send(), without telling the receiver: flush() must follow, before waiting for anything.
    // Cost: 2 to 8 ns.
    Error write(T&& message) noexcept {
        if (channel_ == nullptr || channel_->ring.consumer_closed()) return Error::channel_closed;
        if (!channel_->ring.try_write(std::move(message))) return Error::queue_full;
        return {};
    }
    // Tells the receiver of what write() put in. Cost: none when nothing is new to it.
    void flush() noexcept {
        if (channel_ == nullptr) return;
        channel_->ring.publish_ordered();
        const detail::Bell bell = channel_->bell.load(std::memory_order_seq_cst);
        if (bell == detail::Bell::idle) channel_->ring_bell();
    }

    // Nothing more will come; what was sent is still delivered. As the sender's end does.
    void close() noexcept {
        if (channel_ == nullptr) return;
        channel_->ring.publish_ordered();
        channel_->ring.close_producer();
        const detail::Bell bell = channel_->bell.load(std::memory_order_seq_cst);
        if (bell == detail::Bell::idle) channel_->ring_bell();
        std::exchange(channel_, nullptr)->drop_reference();
    }
    // Whether sending makes no sense any more.
    bool closed() const noexcept { return channel_ == nullptr || channel_->ring.consumer_closed(); }
    // How many messages were sent and never delivered. Known when the receiver is gone, and 0 before.
    std::uint64_t undelivered() const noexcept {
        if (channel_ == nullptr || !channel_->ring.consumer_closed()) return 0;
        return channel_->ring.pushed() - channel_->delivered.load(std::memory_order_acquire);
    }
    // Whether it is an end of a channel: false once moved from or closed.
    explicit operator bool() const noexcept { return channel_ != nullptr; }

  private:
    template <class>
    friend struct Channel;
    friend class AwaitSpace;
    explicit Sender(detail::ChannelOf<T>* channel) noexcept : channel_(channel) {}

    detail::ChannelOf<T>* channel_ = nullptr;
};

// The end that messages come out of. Move-only. Lifetime: its end closes the channel; what was not
// delivered is destroyed. Thread: one at a time. From its first Receive on it belongs to that loop's
// thread, until the loop is gone.
template <class T>
class Receiver {
  public:
    Receiver() noexcept = default;
    Receiver(Receiver&& other) noexcept : channel_(std::exchange(other.channel_, nullptr)) {}
    Receiver& operator=(Receiver&& other) noexcept {
        Receiver moved(std::move(other));
        std::swap(channel_, moved.channel_);
        return *this;
    }
    ~Receiver() { close(); }

    // Takes the oldest message, if there is one, without a loop: for a thread that has none and polls, and
    // for what is left after a Receive was cancelled.
    // False: there is none now; when ended() was true before, there will be none.
    bool try_receive(T& into) noexcept {
        if (channel_ == nullptr || !channel_->ring.try_pop(into)) return false;
        channel_->ring.give_back_ordered();
        channel_->tell_of_space();
        return true;
    }
    // The sender is gone. What it sent before may still be in the channel.
    bool ended() const noexcept { return channel_ == nullptr || channel_->ring.producer_closed(); }
    // Nothing is received any more; what is left is destroyed. As the receiver's end does.
    void close() noexcept {
        if (channel_ != nullptr) std::exchange(channel_, nullptr)->end_receiver();
    }
    // Whether it is an end of a channel: false once moved from or closed.
    explicit operator bool() const noexcept { return channel_ != nullptr; }

  private:
    template <class>
    friend struct Channel;
    template <class>
    friend struct Receive;
    explicit Receiver(detail::ChannelOf<T>* channel) noexcept : channel_(channel) {}

    detail::ChannelOf<T>* channel_ = nullptr;
};

// Both ends of a new channel.
template <class T>
struct Channel {
    // Errors: invalid_argument, ENOMEM. Limits: a capacity of 1 to 2^30 messages, a power of two; T moves
    //   without throwing. Cost: one allocation, and the ring's memory.
    static Result<Channel> create(std::uint32_t capacity) noexcept {
        auto* channel = new (std::nothrow) detail::ChannelOf<T>;
        if (channel == nullptr) return Error::from_errno(ENOMEM);
        Channel made{Sender<T>(channel), Receiver<T>(channel)};
        if (Error error = channel->ring.reserve(capacity)) return error;
        return made;
    }

    Sender<T> sender;      // for one thread
    Receiver<T> receiver;  // for one loop
};

// Receives messages on a loop, until the sender closes.
// Owns: the receiver; it comes back in the final completion, whatever the outcome.
// Calls: the handler with `more`, at most once a turn, when there are messages: as many as next() answers,
//   at most `messages_max`. What the handler does not take comes with the next turn. Then once at the end:
//   channel_closed (everything sent has been delivered), cancelled, timed_out.
// Cancel: no message is lost; the rest is in the receiver that comes back. The loop's end destroys the
//   receiver, and so closes the channel.
// Errors: invalid_argument from submit (no receiver, messages_max 0, or one that has been received from on
//   another loop), ENOMEM and EMFILE from submit (as Loop::remote()).
// Cost: a turn's messages cost one call of the handler and one exchange with the sender's side.
template <class T>
struct Receive {
    class Done {
      public:
        // None with `more`; otherwise why it ended.
        Error error;
        bool more = false;     // messages, and the operation goes on
        Receiver<T> receiver;  // in the final one

        // The next message; null when there is none for now. It is the handler's to use, and to move
        // from, until the next call or the handler's return.
        T* next() noexcept {
            if (std::exchange(held_, false)) ring_->pop();
            if (left_ == 0) return nullptr;
            --left_;
            T* message = ring_->front();
            held_ = message != nullptr;
            return message;
        }

        Done(Done&& other) noexcept
            : error(other.error), more(other.more), receiver(std::move(other.receiver)),
              ring_(other.ring_), left_(std::exchange(other.left_, 0)),
              held_(std::exchange(other.held_, false)) {}
        Done& operator=(Done&&) = delete;
        ~Done() {
            if (held_) ring_->pop();
        }

      private:
        friend struct Receive;
        Done(SpscRing<T>* ring, std::uint32_t left) noexcept
            : more(true), ring_(ring), left_(left) {}
        Done(Error given, Receiver<T>&& back) noexcept : error(given), receiver(std::move(back)) {}

        SpscRing<T>* ring_ = nullptr;
        std::uint32_t left_ = 0;
        bool held_ = false;
    };

    // At most `most` messages to a call of the handler.
    explicit Receive(Receiver<T>&& given, std::uint32_t most = 256) noexcept
        : receiver(std::move(given)), messages_max(most) {}

    Receiver<T> receiver;        // comes back in Done
    std::uint32_t messages_max;  // of one call, from 1 on

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    Error check() const noexcept {
        return receiver && messages_max != 0 ? Error() : Error::invalid_argument;
    }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::receive_open(loop, record, *receiver.channel_);
    }
    void store(detail::OpRecord& record) noexcept {
        record.as<detail::WaitPayload>().number = messages_max;
        receiver.channel_ = nullptr;
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        const auto& payload = record.as<detail::WaitPayload>();
        auto& channel =
            static_cast<detail::ChannelOf<T>&>(*static_cast<detail::ChannelState*>(payload.object));
        if (!delivery.more) return Done(delivery.error, Receiver<T>(&channel));
        return Done(&channel.ring, static_cast<std::uint32_t>(payload.number));
    }
};

// Waits until a sender has room, or its receiver is gone: `AwaitSpace{sender}`.
// Owns: nothing. It may outlive the sender, and then still ends in one of these ways.
// Calls: the handler once. An error of channel_closed: sending makes no sense any more.
// Errors: invalid_argument from submit (no sender; another wait of this sender is under way; or one that has
//   waited on another loop), ENOMEM and EMFILE from submit.
// Cost: nothing while there is no room; the receiver tells when it has taken what it had.
class AwaitSpace {
  public:
    struct Done {
        Error error;
    };
    // The sender is looked at here and not kept.
    template <class T>
    explicit AwaitSpace(const Sender<T>& sender) noexcept : channel_(sender.channel_) {}

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    Error check() const noexcept { return channel_ != nullptr ? Error() : Error::invalid_argument; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::await_open(loop, record, *channel_);
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        detail::await_finish(record);
        return {delivery.error};
    }

  private:
    detail::ChannelState* channel_;
};

}  // namespace whorl
