// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/atomic.hpp>
#include <whorl/export.hpp>
#include <whorl/free_slots.hpp>
#include <whorl/loop.hpp>
#include <whorl/remote.hpp>
#include <whorl/wait.hpp>

#include <cerrno>
#include <cstdint>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

// Messages from any number of threads and loops into one loop. From one sender only: channel.hpp, which is
// cheaper.
//
//   auto mailbox = whorl::Mailbox<Job>::create(loop, 1024);
//   whorl::MailSender<Job> jobs = mailbox->sender();             // copies of it go to any threads
//   loop.submit(whorl::ReceiveMail{*mailbox}, [](whorl::Loop&, whorl::ReceiveMail<Job>::Done done) {
//       if (done.message) handle(*done.message);                // `more`: there may be others
//   });
//   …
//   if (jobs.send(std::move(job))) …                             // queue_full: the job is still ours
//
// Each message arrives once. Those of one thread arrive in its order, and so do those of two threads when one
// has told the other that it has sent. A mailbox is bounded, and nothing blocks.
//
// The end:
//   The Mailbox goes (close(), or its end), or its loop: send() answers channel_closed from then on. What
//     was sent and not received is destroyed: on the loop's thread while there is a loop; with the loop
//     what was on its way, and with the Mailbox what had come.
//   The senders go: nothing; the Mailbox can make others at any time.

namespace whorl {

template <class T>
class Mailbox;
template <class T>
struct ReceiveMail;

namespace detail {

struct MailState;
struct RemoteState;

// A message on its way. It lies in its mailbox, and travels as a post of the loop.
struct Mail : RemotePost {
    MailState* state;
    std::uint32_t slot;
};

// What a mailbox and its senders share, but for the messages. mailbox.cpp says how it goes.
struct WHORL_EXPORT MailState : Allocated<MailState> {
    MailState() noexcept;
    MailState(const MailState&) = delete;
    MailState& operator=(const MailState&) = delete;
    virtual ~MailState();
    virtual void destroy_message(Mail& mail) noexcept = 0;

    // Any thread. False: the loop is gone, and the message still the caller's.
    bool push(Mail& mail) noexcept;
    bool refuses() const noexcept;
    void add_reference() noexcept { references.fetch_add(1, std::memory_order_relaxed); }
    void drop_reference() noexcept;

    // The loop's thread.
    Error open_on(Loop& loop) noexcept;
    void close() noexcept;
    Mail* take() noexcept;

    // Written by all threads.
    alignas(64) FreeSlots slots;
    alignas(64) Atomic<std::uint32_t> references{1};  // the ends, mail on its way, an operation

    // Written once.
    alignas(64) Atomic<bool> closed{false};
    RemoteState* home = nullptr;
    LoopCore* core = nullptr;  // to be used while the home is not closed

    // The loop's.
    Mail rest{};  // a post that delivers what had come before somebody received
    bool rest_posted = false;
    Mail* first = nullptr;  // came, and nobody has received it
    Mail* last = nullptr;
    std::uint64_t receive = 0;  // the operation that receives; stale for none
};

template <class T>
struct MailOf : Mail {
    T* message() noexcept { return std::launder(reinterpret_cast<T*>(&storage)); }
    alignas(T) unsigned char storage[sizeof(T)];  // NOLINT(bugprone-sizeof-expression)
};

template <class T>
struct MailStateOf final : MailState {
    ~MailStateOf() override { drop_array(mails); }
    void destroy_message(Mail& mail) noexcept override {
        static_cast<MailOf<T>&>(mail).message()->~T();
        slots.give(mail.slot);
    }
    std::optional<T> unwrap(Mail* mail) noexcept {
        if (mail == nullptr) return std::nullopt;
        std::optional<T> message(std::move(*static_cast<MailOf<T>&>(*mail).message()));
        destroy_message(*mail);
        return message;
    }
    MailOf<T>* mails = nullptr;
};

WHORL_EXPORT void mail_prepare(Mail& mail, MailState& state, std::uint32_t slot) noexcept;
WHORL_EXPORT Error mail_receive(Loop& loop, OpRecord& record, MailState& state) noexcept;

}  // namespace detail

// Puts messages into a mailbox. Copies are independent of each other; all have the same mailbox.
// Lifetime: any. Thread: any, several at once also with the same one; assigning to it is one thread's.
template <class T>
class MailSender {
  public:
    MailSender() noexcept = default;
    MailSender(const MailSender& other) noexcept : state_(other.state_) {
        if (state_ != nullptr) state_->add_reference();
    }
    MailSender(MailSender&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    MailSender& operator=(MailSender other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~MailSender() {
        if (state_ != nullptr) state_->drop_reference();
    }

    // Sends a message. When it is refused, it is still in `message`.
    // Errors: queue_full (as many are under way or not yet received as the mailbox holds), channel_closed
    //   (the mailbox or its loop is gone, or this names none).
    // Cost: a few atomic steps, no allocation; a system call only when the loop sleeps and nobody has
    //   woken it yet.
    Error send(T&& message) const noexcept {
        if (closed()) return Error::channel_closed;
        const std::uint32_t slot = state_->slots.take();
        if (slot == detail::FreeSlots::none) return Error::queue_full;
        detail::MailOf<T>& mail = state_->mails[slot];
        ::new (static_cast<void*>(&mail.storage)) T(std::move(message));
        if (state_->push(mail)) return {};
        message = std::move(*mail.message());
        state_->destroy_message(mail);
        return Error::channel_closed;
    }
    // Whether sending makes no sense any more. False may be out of date by the time it is read.
    bool closed() const noexcept { return state_ == nullptr || state_->refuses(); }
    // Whether it names a mailbox, be that closed or not.
    explicit operator bool() const noexcept { return state_ != nullptr; }

  private:
    friend class Mailbox<T>;
    explicit MailSender(detail::MailStateOf<T>* state) noexcept : state_(state) {}
    detail::MailStateOf<T>* state_ = nullptr;
};

// Where the messages come. Move-only. Lifetime: its end closes it. Thread: the loop's; when that is gone, any
// one.
template <class T>
class Mailbox {
  public:
    static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T>,
                  "a message moves without throwing");

    // Makes a mailbox of this loop, with room for `capacity` messages.
    // Errors: invalid_argument, ENOMEM, EMFILE (as Loop::remote()). Limits: a capacity of 1 to 2^24.
    // Cost: memory for all its messages.
    static Result<Mailbox> create(Loop& loop, std::uint32_t capacity) noexcept {
        if (capacity == 0 || capacity > 1u << 24) return Error::invalid_argument;
        auto* state = new (std::nothrow) detail::MailStateOf<T>;
        if (state == nullptr) return Error::from_errno(ENOMEM);
        Mailbox made(state);
        if (Error error = state->open_on(loop)) return error;
        if (Error error = state->slots.reserve(capacity)) return error;
        state->mails = detail::make_array<detail::MailOf<T>>(capacity);
        if (state->mails == nullptr) return Error::from_errno(ENOMEM);
        for (std::uint32_t slot = 0; slot < capacity; ++slot) {
            detail::mail_prepare(state->mails[slot], *state, slot);
        }
        return made;
    }
    Mailbox(Mailbox&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Mailbox& operator=(Mailbox&& other) noexcept {
        Mailbox moved(std::move(other));
        std::swap(state_, moved.state_);
        return *this;
    }
    ~Mailbox() { close(); }

    // A sender to this mailbox; of a closed one, a sender that is closed. Thread: as the mailbox.
    MailSender<T> sender() const noexcept {
        if (state_ != nullptr) state_->add_reference();
        return MailSender<T>(state_);
    }
    // Takes the oldest message that has come and was not received, as after a ReceiveMail was cancelled.
    std::optional<T> take() noexcept {
        if (state_ == nullptr) return std::nullopt;
        return state_->unwrap(state_->take());
    }
    // Nothing more is received; a ReceiveMail ends with channel_closed. Again: nothing.
    void close() noexcept {
        if (state_ == nullptr) return;
        state_->close();
        std::exchange(state_, nullptr)->drop_reference();
    }
    // Whether it is open: not after close(), or when it was moved from.
    explicit operator bool() const noexcept { return state_ != nullptr; }

  private:
    friend struct ReceiveMail<T>;
    explicit Mailbox(detail::MailStateOf<T>* state) noexcept : state_(state) {}
    detail::MailStateOf<T>* state_;
};

// Receives the messages of a mailbox: `ReceiveMail{mailbox}`.
// Owns: nothing. It may outlive the Mailbox, whose end ends it.
// Calls: the handler once for each message, with `more`, from dispatch, within posts_per_turn; then once
//   without a message: channel_closed (the Mailbox is closed), cancelled, timed_out.
// Cancel: no message is lost; what comes meanwhile stays in the Mailbox, for the next ReceiveMail or take().
// Errors: invalid_argument from submit (a Mailbox that is closed or another loop's, or one that is being
//   received from). Cost: no allocation.
template <class T>
struct ReceiveMail {
    // A message, or the end.
    struct Done {
        Error error;               // none with `more`, else why it ended
        bool more = false;         // the handler will be called again
        std::optional<T> message;  // with `more`
    };
    // From this mailbox, which is looked at in submit and in no later call.
    explicit ReceiveMail(Mailbox<T>& given) noexcept : mailbox(given) {}
    Mailbox<T>& mailbox;  // it may go while the operation is under way

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    Error check() const noexcept {
        return mailbox.state_ != nullptr ? Error() : Error(Error::invalid_argument);
    }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::mail_receive(loop, record, *mailbox.state_);
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        auto& state = static_cast<detail::MailStateOf<T>&>(
            *static_cast<detail::MailState*>(record.as<detail::WaitPayload>().object));
        if (delivery.more) return {Error(), true, state.unwrap(state.take())};
        Done done{delivery.error, false, std::nullopt};
        state.drop_reference();
        return done;
    }
};

}  // namespace whorl
