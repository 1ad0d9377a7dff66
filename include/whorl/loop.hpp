// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/backend_report.hpp>
#include <whorl/buffer.hpp>
#include <whorl/error.hpp>
#include <whorl/events.hpp>
#include <whorl/export.hpp>
#include <whorl/handle.hpp>
#include <whorl/handler.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/op_record.hpp>
#include <whorl/result.hpp>
#include <whorl/site.hpp>
#include <whorl/statistics.hpp>
#include <whorl/time.hpp>

#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// The loop: takes operations with the buffers they own and the handlers that wait for them, and gives
// both back at completion. docs/CONTRACTS.md states the whole contract; in short:
//
//   1. Every accepted submission ends in exactly one final completion; a multishot delivers any number
//      with `more == true` before it.
//   2. A buffer comes home in the completion, whatever the outcome. A refused submission has moved
//      nothing out of its arguments.
//   3. A handler is called from the loop's dispatch only: never inside submit, cancel or close.
//   4. An operation's slot is free before its final handler runs, so that the handler may submit,
//      cancel, close or destroy anything, the object it belongs to included (the loop excepted).
//   5. Handles never lie: a stale one is answered stale_handle, in release builds too.

namespace whorl {

class Remote;
class StatisticsPage;
class Histogram;
enum class LatencyPhase : std::uint8_t;

namespace detail {
struct LoopCore;

// Of the record of a periodic timer, whose first tick counts from now.
constexpr std::uint16_t timer_flags(Missed missed) noexcept {
    if (missed == Missed::skip) return op_unfiled;
    return op_unfiled | (missed == Missed::burst ? op_burst : op_delay);
}
}  // namespace detail

// An event loop. Lifetime: destroying it cancels everything in flight, waits until the kernel has let
// go of every buffer (at most LoopOptions::shutdown_bound; what is still held then is leaked and
// reported on stderr, never freed), destroys handlers without calling them and closes descriptors.
// Thread: made on any thread; from the first turn on it belongs to the thread that ran it, and every
// call from another thread, Remote's excepted, is an assertion that names both. Another thread may
// destroy it when nothing but accepts and watches is under way: drain() on its own thread first. Any
// number per thread and per process. Moving a Loop is cheap and keeps handles valid; not from inside
// its handlers. In a child of fork(2) the loop stays the parent's: calls are assertions, and destroying
// it there does nothing.
class WHORL_EXPORT Loop {
  public:
    // Makes a loop.
    // Errors: backend_unavailable (io_uring was asked for and refused; the overload with a
    //   report says why), libev_missing, invalid_argument (an option outside its limits), ENOMEM, EMFILE,
    //   ENOSPC (libev: fs.epoll.max_user_watches is used up).
    //   `automatic` falls back to libev for every refusal of io_uring except EMFILE and ENFILE.
    // Cost: a few system calls; about 100 µs.
    static Result<Loop> create(const LoopOptions& options = {}) noexcept;
    // As create(); `report` is filled in on failure, too.
    static Result<Loop> create(const LoopOptions& options, BackendReport& report) noexcept;

    Loop(Loop&& other) noexcept;
    Loop& operator=(Loop&& other) noexcept;
    ~Loop();

    // Submits an operation: `loop.submit(Recv{socket, std::move(buffer)}, handler)`.
    // Owns: the operation's buffers and the handler, from success until the completion. When it is
    //   refused, neither has been moved from; name the operation in a variable to keep what it holds.
    // Calls: handler(Loop&, Op::Done), from dispatch: once, or for a multishot once per event.
    // Errors: stale_handle (its descriptor is closed), slots_exhausted, loop_closed (draining),
    //   invalid_argument (see the operation), ENOMEM.
    // Cost: no allocation, no system call; it reaches the kernel with the turn's one call.
    // `site`, here and below, is the place of the call, which the loop remembers when
    //   LoopOptions::insight or something that needs it is on.
    template <class Op, class Handler>
    Result<Operation> submit(Op&& operation, Handler&& handler, Site site = Site::here()) noexcept {
        return submit_with(std::forward<Op>(operation), nullptr, std::forward<Handler>(handler),
                           site);
    }
    // The same with options: within(), until(), following().
    template <class Op, class Handler>
    Result<Operation> submit(Op&& operation, const SubmitOptions& options, Handler&& handler,
                             Site site = Site::here()) noexcept {
        return submit_with(std::forward<Op>(operation), &options, std::forward<Handler>(handler),
                           site);
    }

    // Asks that an operation end. Allowed any number of times, from everywhere on the loop's thread.
    // The operation still ends in its one final completion. Cost: O(1).
    Cancelled cancel(Operation operation) noexcept;

    // Runs `handler(Loop&, Expired)` once, no earlier than `delay` after this call and at most a tick
    // (1.024 µs) plus slack later while the loop is not busy. A delay of zero or less runs it in the
    // next turn, after I/O. Errors: slots_exhausted, loop_closed, ENOMEM. Cost: 10–30 ns.
    template <class Handler>
    Result<Timer> after(Nanoseconds delay, Handler&& handler, Site site = Site::here()) noexcept {
        return arm(delay.count(), 0, detail::op_unfiled, std::forward<Handler>(handler), site);
    }
    // The same at an instant of the loop's clock.
    template <class Handler>
    Result<Timer> at(Instant deadline, Handler&& handler, Site site = Site::here()) noexcept {
        return arm(deadline.time_since_epoch().count(), 0, 0, std::forward<Handler>(handler), site);
    }
    // Runs the handler every `interval`, first after one interval, without drift.
    // Limits: interval above zero, else invalid_argument.
    template <class Handler>
    Result<Timer> every(Nanoseconds interval, Handler&& handler,
                        Site site = Site::here()) noexcept {
        return every(interval, Missed::skip, std::forward<Handler>(handler), site);
    }
    // The same, saying what becomes of times that the loop was too busy for.
    template <class Handler>
    Result<Timer> every(Nanoseconds interval, Missed missed, Handler&& handler,
                        Site site = Site::here()) noexcept {
        if (interval <= Nanoseconds::zero()) return Error::invalid_argument;
        return arm(interval.count(), interval.count(), detail::timer_flags(missed),
                   std::forward<Handler>(handler), site);
    }

    // Cancels a timer. True: its handler will never run (again) and is destroyed now, or right after
    // it returns when this is called from inside it. False: it has fired or is unknown. Cost: O(1).
    bool cancel(Timer timer) noexcept;
    // Moves a timer to `delay` from now; a periodic one goes on from there. The handle stays valid.
    // Errors: stale_handle. Cost: 10–60 ns.
    Error move(Timer timer, Nanoseconds delay) noexcept;
    // When a timer is due. Errors: stale_handle. Cost: O(1).
    Result<Instant> deadline(Timer timer) const noexcept;

    // Runs `handler(Loop&)` later on this loop: first in, first out; one turn runs those that were
    // posted before it, at most posts_per_turn. Errors: queue_full, loop_closed, ENOMEM.
    // Cost: 2–4 ns; memory is reused.
    template <class Handler>
    Error post(Handler&& handler, Site site = Site::here()) noexcept;

    // Watches a descriptor that stays the caller's, level-triggered: the handler
    // (`handler(Loop&, Watched)`) runs as long as the condition holds, once per turn. Any number of
    // watches on one descriptor. Errors: slots_exhausted, loop_closed, invalid_argument (fd < 0),
    //   ENOMEM. Cost: no allocation.
    template <class Handler>
    Result<Watch> watch(int fd, Interest interest, Handler&& handler,
                        Site site = Site::here()) noexcept;
    // Changes what a watch waits for; none pauses it. Errors: stale_handle.
    Error modify(Watch watch, Interest interest) noexcept;
    // Ends a watch. True: its handler will never run again and is destroyed now, or right after it
    // returns when this is called from inside it; the kernel has let go of the descriptor, which may
    // be closed at once. False: it is unknown or gone. Cost: one system call on io_uring.
    bool cancel(Watch watch) noexcept;

    // Runs `handler(Loop&)` in every turn, before or after the wait. At most 64 hooks.
    // Errors: slots_exhausted, loop_closed. It goes with cancel(Operation).
    template <class Handler>
    Result<Operation> hook(HookPoint point, Handler&& handler, Site site = Site::here()) noexcept;

    // Closes a descriptor. Its handle is stale for new submissions at once; every operation on it ends
    // (error cancelled, unless it had reached something else); the descriptor itself is closed only
    // when the kernel has let go of the last buffer; then `handler(Loop&)` runs. Until then neither
    // the slot nor the descriptor's number is reused. Without a handler it cannot fail otherwise.
    // Errors: stale_handle; with a handler also slots_exhausted (nothing was closed then).
    // Note: unsent data follows SO_LINGER; the default lets the kernel send it in the background.
    template <class Tag>
    Error close(Handle<Tag> handle) noexcept {
        static_assert(detail::names_descriptor<Tag>,
                      "close takes a Socket, Listener or File; use cancel");
        return close_descriptor(handle.value(), nullptr);
    }
    // The same, and `handler` hears when the descriptor is closed.
    template <class Tag, class Handler>
    Error close(Handle<Tag> handle, Handler&& handler, Site site = Site::here()) noexcept;

    // Runs turns until stop(), or until nothing is left to wait for (RunUntil::idle).
    // Errors: only when the backend can no longer work. A handler's exception leaves run() with the
    //   loop intact; run() may be called again and goes on where it was.
    Error run(RunUntil until = RunUntil::idle);
    // One turn: waits until there is something to do and does it.
    // Errors: nothing_to_wait_for, instead of waiting for ever.
    Error run_once();
    // One turn without waiting.
    Error poll();
    // Turns for `time`, or until stop(); it waits for the whole time even when nothing is pending.
    Error run_for(Nanoseconds time);
    // run() returns after the present handler; nothing is lost, the next run() goes on. Called while
    // nothing runs, it ends the next run() at once.
    void stop() noexcept;

    // Ends everything: cancels every operation, timer and watch, runs what was posted and calls the
    // handlers of what ends, until nothing is left or `bound` has passed; then closes the descriptors
    // that no handler has closed. New submissions are refused meanwhile (loop_closed), closing is not.
    // The loop can be used again afterwards.
    // Errors: drain_incomplete (what is left stays pending).
    Error drain(Nanoseconds bound);

    // A thread-safe way in. Errors: ENOMEM, EMFILE. Cost: the first call makes an eventfd.
    Result<Remote> remote() noexcept;

    // Guest mode: whorl inside a foreign loop. Poll notify_fd() for reading, call process() when it is
    // readable and when next_deadline() has come. The descriptor stays the loop's. Ask for it before
    // the first turn, because io_uring is set up differently for a guest.
    // Errors: EBUSY (the loop has run already), the errno of what was refused.
    Result<int> notify_fd() noexcept;
    // Everything that is due, without waiting: as poll(), for a few turns.
    Error process();
    // When process() must be called even if nothing becomes readable; Instant::min() for at once,
    // instant_never for no timer.
    Instant next_deadline() noexcept;

    // A buffer from the loop's pool with at least `capacity` bytes of room and size 0; more than
    // 64 KiB comes from the heap. Errors: a null buffer at buffer_bytes_max. Cost: about 5 ns.
    Buffer buffer(std::size_t capacity) noexcept;

    // The clock reading of this turn, made when it is first asked for; between two turns a new one each time.
    // Not for deadlines of new timers. Cost: none, or one clock reading (a turn without timers, no turn).
    Instant now() const noexcept;
    // Whether an operation has not had its final completion yet.
    bool alive(Operation operation) const noexcept;
    // The counters, brought up to date by this call. The reference is the loop's.
    const Statistics& statistics() const noexcept;
    // With LoopOptions::statistics_page: a reader of this loop's page, to be moved to another thread
    // (statistics_page.hpp). Errors: invalid_argument (the option is off), ENOMEM.
    Result<StatisticsPage> statistics_page() const noexcept;
    // With LoopOptions::operation_latency: the latencies of one phase of one kind, by its name ("recv",
    // "send_all", "timer", "post"); latency_of<Recv>() in operation_latency.hpp names it by its type.
    // Null: off, no such kind, or none yet. It stays where it is, and is the loop's: to keep what it
    // says, merge() it into one of your own.
    const Histogram* latency(const char* kind, LatencyPhase phase) const noexcept;
    // All of them begin anew.
    void reset_latency() noexcept;
    // Writes the page now, whenever it was written last. Errors: invalid_argument (the option is off).
    Error publish_statistics() noexcept;
    // Which backend it has, with which features, and why not another. The reference is the loop's.
    const BackendReport& backend_report() const noexcept;
    // "io_uring" or "libev".
    const char* backend_name() const noexcept;

    // Writes the flight recorder (recorder_format.hpp) to an open descriptor. Errors: invalid_argument
    //   (LoopOptions::recorder_events is 0), of write(2). Cost: it waits for the disk; the symbols of
    //   handlers seen for the first time are read.
    Error dump_recorder(int fd) noexcept;
    // The same to a new file that only the owner may read. Errors: those and of open(2).
    Error dump_recorder(const char* path) noexcept;

    // For operations and modules of whorl itself.
    detail::LoopCore& core() noexcept { return *core_; }

  private:
    explicit Loop(detail::LoopCore* core) noexcept;

    // Claims a record, moving nothing yet. `target` is the descriptor's handle, 0 for none; without
    // options it has no deadline and keeps run() going.
    Error claim(detail::OpKind kind, std::uint64_t target, const SubmitOptions* options,
                detail::OpRecord*& claimed) noexcept;
    // The same without options for what takes a side of its descriptor.
    Error claim_on(detail::OpKind kind, std::uint64_t target, detail::OpRecord*& claimed) noexcept;
    Operation commit(detail::OpRecord& record, Site site) noexcept;
    void abandon(detail::OpRecord& record) noexcept;
    // Arms a timer whose handler is put into its record afterwards. `flags` of the record: op_unfiled for a
    // time from now, and what is done about missed ticks.
    detail::ArmedTimer claim_timer(detail::Thunk thunk, std::int64_t time, std::int64_t interval,
                                   std::uint16_t flags, Site site) noexcept;
    Watch commit_watch(detail::OpRecord& record, int fd, Interest interest, Site site) noexcept;
    Operation commit_hook(detail::OpRecord& record, HookPoint point, Site site) noexcept;
    Error close_descriptor(std::uint64_t handle, detail::OpRecord* record, Site site = {}) noexcept;
    detail::PostRoom claim_post(void (*run)(Loop& loop, void* closure, bool call),
                                Site site) noexcept;
    void release(detail::OpRecord& record) noexcept;
    void release_timer(detail::OpRecord& record) noexcept;

    template <class Op, class Handler>
    Result<Operation> submit_with(Op&& operation, const SubmitOptions* options, Handler&& handler,
                                  Site site) noexcept;
    template <class Handler>
    Result<Timer> arm(std::int64_t time, std::int64_t interval, std::uint16_t flags,
                      Handler&& handler, Site site) noexcept;
    template <class Event, class Stored>
    static void event_thunk(Loop& loop, detail::OpRecord& record, detail::Delivery* delivery);
    template <class Op, class Stored>
    static void operation_thunk(Loop& loop, detail::OpRecord& record, detail::Delivery* delivery);
    template <class Stored>
    static void post_thunk(Loop& loop, void* closure, bool call);

    detail::LoopCore* core_;
};

// The thin templates of Loop: they build the handler in its slot and know its type again when it is
// called. Everything else is compiled once, in the library.
//
// An operation type Op provides:
//   static constexpr detail::OpKind kind;
//   struct Done;                                         what its handler gets
//   std::uint64_t target() const;                        its descriptor's handle value, 0 for none
//   Error check() const;                                 limits, before anything is moved
//   static constexpr bool opens;                         whether it has an open()
//   Error open(Loop&, detail::OpRecord&);                claims what it needs, moving nothing
//   void store(detail::OpRecord&);                       moves its buffers into the record
//   static Done finish(detail::OpRecord&, detail::Delivery&);   and out of it again

namespace detail {

// What an event handler (timer, watch, hook, close) gets, made from a delivery.
struct ExpiredEvent {
    static Expired make(OpRecord& record, const Delivery& delivery) noexcept;
    static constexpr bool with_value = true;
};
struct WatchedEvent {
    static Watched make(OpRecord& record, const Delivery& delivery) noexcept;
    static constexpr bool with_value = true;
};
struct PlainEvent {
    static constexpr bool with_value = false;
};

WHORL_EXPORT Watched watched_of(OpRecord& record, const Delivery& delivery) noexcept;

inline Expired ExpiredEvent::make(OpRecord&, const Delivery& delivery) noexcept {
    Expired expired;
    expired.timer = Timer::from_value(delivery.handle);
    expired.deadline = Instant(Nanoseconds(delivery.time_ns));
    expired.missed = delivery.bytes;
    return expired;
}
inline Watched WatchedEvent::make(OpRecord& record, const Delivery& delivery) noexcept {
    return watched_of(record, delivery);
}

template <class Event, class Stored>
void event_call(Stored& stored, Loop& loop, OpRecord& record, Delivery& delivery) {
    if constexpr (Event::with_value) handler_call(stored, loop, Event::make(record, delivery));
    else handler_call(stored, loop);
}

template <class Stored>
Stored& stored_in(OpRecord& record) noexcept {
    return *std::launder(reinterpret_cast<Stored*>(record.closure));
}

}  // namespace detail

template <class Op, class Handler>
Result<Operation> Loop::submit_with(Op&& operation, const SubmitOptions* options, Handler&& handler,
                                    Site site) noexcept {
    using Plain = std::decay_t<Op>;
    using Stored = detail::StoredHandler<Handler>;
    static_assert(!std::is_lvalue_reference_v<Op>, "whorl: submit takes over: std::move it in");
    detail::handler_check<Stored, Loop&, detail::DoneOf<Plain>>();
    if (Error error = operation.check()) return error;
    detail::OpRecord* claimed = nullptr;
    const std::uint64_t target = operation.target();
    const bool plain = detail::takes_side(Plain::kind) && options == nullptr;
    if (Error error = plain ? claim_on(Plain::kind, target, claimed)
                            : claim(Plain::kind, target, options, claimed)) {
        return error;
    }
    detail::OpRecord& record = *claimed;
    if constexpr (Plain::opens) {
        if (Error error = operation.open(*this, record)) {
            abandon(record);
            return error;
        }
    }
    operation.store(record);
    ::new (static_cast<void*>(record.closure)) Stored(std::forward<Handler>(handler));
    record.thunk = &operation_thunk<Plain, Stored>;
    return commit(record, site);
}

template <class Op, class Stored>
void Loop::operation_thunk(Loop& loop, detail::OpRecord& record, detail::Delivery* delivery) {
    Stored& stored = detail::stored_in<Stored>(record);
    if (delivery == nullptr) {
        stored.~Stored();
        return;
    }
    using Done = typename Op::Done;
    if (delivery->more) {
        const auto finish = [&] { return Op::finish(record, *delivery); };
        return detail::handler_call_made<Done>(stored, loop, finish);
    }
    Stored handler(std::move(stored));
    stored.~Stored();  // NOLINT(bugprone-use-after-move)
    detail::handler_call_made<Done>(handler, loop, [&] {
        Done done = Op::finish(record, *delivery);
        loop.release(record);
        return done;
    });
}

// Timers, watches and hooks run in place while they go on; a final one leaves its slot first.
template <class Event, class Stored>
void Loop::event_thunk(Loop& loop, detail::OpRecord& record, detail::Delivery* delivery) {
    Stored& stored = detail::stored_in<Stored>(record);
    if (delivery == nullptr) {
        stored.~Stored();
        return;
    }
    if (delivery->more) {
        detail::event_call<Event>(stored, loop, record, *delivery);
        return;
    }
    Stored handler(std::move(stored));
    stored.~Stored();  // NOLINT(bugprone-use-after-move)
    if constexpr (std::is_same_v<Event, detail::ExpiredEvent>) {
        loop.release_timer(record);
        detail::handler_call(handler, loop, Event::make(record, *delivery));
    } else if constexpr (Event::with_value) {
        auto event = Event::make(record, *delivery);
        loop.release(record);
        detail::handler_call(handler, loop, std::move(event));
    } else {
        loop.release(record);
        detail::handler_call(handler, loop);
    }
}

template <class Handler>
Result<Timer> Loop::arm(std::int64_t time, std::int64_t interval, std::uint16_t flags,
                        Handler&& handler, Site site) noexcept {
    using Stored = detail::StoredHandler<Handler>;
    detail::handler_check<Stored, Loop&, Expired>();
    const detail::ArmedTimer armed =
        claim_timer(&event_thunk<detail::ExpiredEvent, Stored>, time, interval, flags, site);
    if (armed.record == nullptr) return Error::from_value(static_cast<std::int32_t>(armed.value));
    ::new (static_cast<void*>(armed.record->closure)) Stored(std::forward<Handler>(handler));
    return Timer::from_value(armed.value);
}

template <class Handler>
Result<Watch> Loop::watch(int fd, Interest interest, Handler&& handler, Site site) noexcept {
    using Stored = detail::StoredHandler<Handler>;
    detail::handler_check<Stored, Loop&, Watched>();
    if (fd < 0) return Error::invalid_argument;
    detail::OpRecord* claimed = nullptr;
    if (Error error = claim(detail::OpKind::watch, 0, nullptr, claimed)) return error;
    detail::OpRecord& record = *claimed;
    ::new (static_cast<void*>(record.closure)) Stored(std::forward<Handler>(handler));
    record.thunk = &event_thunk<detail::WatchedEvent, Stored>;
    return commit_watch(record, fd, interest, site);
}

template <class Handler>
Result<Operation> Loop::hook(HookPoint point, Handler&& handler, Site site) noexcept {
    using Stored = detail::StoredHandler<Handler>;
    detail::handler_check<Stored, Loop&>();
    SubmitOptions options;
    options.background = true;
    detail::OpRecord* claimed = nullptr;
    if (Error error = claim(detail::OpKind::hook, 0, &options, claimed)) return error;
    detail::OpRecord& record = *claimed;
    ::new (static_cast<void*>(record.closure)) Stored(std::forward<Handler>(handler));
    record.thunk = &event_thunk<detail::PlainEvent, Stored>;
    return commit_hook(record, point, site);
}

template <class Tag, class Handler>
Error Loop::close(Handle<Tag> handle, Handler&& handler, Site site) noexcept {
    using Stored = detail::StoredHandler<Handler>;
    static_assert(detail::names_descriptor<Tag>,
                  "close takes a Socket, Listener or File; use cancel");
    detail::handler_check<Stored, Loop&>();
    detail::OpRecord* claimed = nullptr;
    if (Error error = claim(detail::OpKind::close, handle.value(), nullptr, claimed)) return error;
    detail::OpRecord& record = *claimed;
    ::new (static_cast<void*>(record.closure)) Stored(std::forward<Handler>(handler));
    record.thunk = &event_thunk<detail::PlainEvent, Stored>;
    return close_descriptor(handle.value(), &record, site);
}

template <class Stored>
void Loop::post_thunk(Loop& loop, void* closure, bool call) {
    Stored& stored = *std::launder(static_cast<Stored*>(closure));
    if (!call) {
        stored.~Stored();
        return;
    }
    Stored handler(std::move(stored));
    stored.~Stored();  // NOLINT(bugprone-use-after-move)
    detail::handler_call(handler, loop);
}

template <class Handler>
Error Loop::post(Handler&& handler, Site site) noexcept {
    using Stored = detail::StoredHandler<Handler>;
    detail::handler_check<Stored, Loop&>();
    const detail::PostRoom room = claim_post(&post_thunk<Stored>, site);
    if (room.closure == nullptr) return room.error;
    ::new (room.closure) Stored(std::forward<Handler>(handler));
    return {};
}

}  // namespace whorl
