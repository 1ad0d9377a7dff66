// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include "backend/driver.hpp"
#include "backend/message.hpp"
#include "backend/payload.hpp"
#include "base/process.hpp"
#include "loop/post_queue.hpp"

#include <whorl/allocated.hpp>
#include <whorl/loop.hpp>
#include <whorl/timer_wheel.hpp>

#include <cstdint>

// The loop's state and the machine that runs it. One turn:
//
//   file timers → hooks → submit + wait + collect (one call of the driver) → hooks
//     → dispatch: completions, what ended inside the loop, timers, remote posts, posts
//
// Invariants:
//   1. Handlers are called from dispatch (and hooks from turn) only, at depth one.
//   2. A record is in one place at a time: a list, the wheel, the backend, or the batch; `state` says
//      which, and the table in op_record.hpp who moves it.
//   3. A descriptor is closed when its last operation has been dispatched, never before.
//   4. What is left when a handler throws or stops the loop stays in the batch and the lists, and the
//      next turn goes on with it.

namespace whorl::detail {

struct RemoteState;
struct RemotePost;
struct LoopLocal;
struct Insight;
class Meter;

// One tick of the wheel is 1024 ns.
constexpr std::uint64_t tick_at_or_after(std::int64_t ns) noexcept {
    return ns <= 0 ? 0 : (static_cast<std::uint64_t>(ns) + 1023) >> 10;
}
constexpr std::uint64_t tick_before(std::int64_t ns) noexcept {
    return ns <= 0 ? 0 : static_cast<std::uint64_t>(ns) >> 10;
}

// Hooks of both points together; each runs in every turn.
inline constexpr std::uint32_t hooks_max = 64;

// What a higher floor keeps as long as the loop: it ends what it has when the loop drains (asked in each
// of its rounds), and is destroyed with the loop, when no handler and no operation is left.
struct LoopModule : Allocated<LoopModule> {
    LoopModule() noexcept = default;
    LoopModule(const LoopModule&) = delete;
    LoopModule& operator=(const LoopModule&) = delete;
    virtual ~LoopModule() = default;
    virtual void drain() = 0;
};

struct LoopCore : Allocated<LoopCore> {
    // `seam` is the core's, unless the options name it.
    LoopCore(const LoopOptions& given, RunSeam* seam) noexcept;
    ~LoopCore();
    LoopCore(const LoopCore&) = delete;
    LoopCore& operator=(const LoopCore&) = delete;

    // --- set up and torn down by (loop.cpp, drain.cpp)
    Error open(BackendReport& result) noexcept;
    // Ends everything without calling handlers. False: the kernel still holds buffers; leak the core.
    bool destroy() noexcept;
    Error drain(Nanoseconds bound);
    void end_everything(bool call_handlers) noexcept;

    // --- the turn (turn.cpp)
    Error turn(Nanoseconds wait_max);
    Nanoseconds timer_timeout(Nanoseconds wait_max) noexcept;
    Error turn_wait(Nanoseconds wait_max) noexcept;
    Error turn_sleep(Nanoseconds timeout, Nanoseconds wait_max) noexcept;
    Error turn_spinning(Nanoseconds timeout, Nanoseconds wait_max) noexcept;
    Error turn_spin(Nanoseconds& timeout) noexcept;
    Error enter_driver(Nanoseconds timeout) noexcept;
    Error turn_collected(Error error) noexcept;
    void turn_hooks(OpList& hooks, std::uint32_t count);
    Instant clock() noexcept;
    bool idle() const noexcept;
    bool work_is_ready() const noexcept;
    Instant next_deadline() noexcept;
    Error bind() noexcept;
    void check_thread() const noexcept {
        if (bound && thread != thread_token()) wrong_thread();
        if (forks != forks_seen) wrong_process();
    }
    [[noreturn]] void wrong_thread() const noexcept;
    [[noreturn]] void wrong_process() const noexcept;

    // --- submission and cancellation (submit.cpp)
    Error claim(OpKind kind, std::uint64_t target, const SubmitOptions* options,
                OpRecord*& claimed) noexcept;
    Error claim_on(OpKind kind, std::uint64_t target, OpRecord*& claimed) noexcept;
    Error claim_options(OpRecord& record, const SubmitOptions& options) noexcept;
    Error claim_deadline(OpRecord& record, const SubmitOptions& options) noexcept;
    Operation commit(OpRecord& record, Site site) noexcept;
    Operation commit_slowly(OpRecord& record) noexcept;
    void committed(OpRecord& record, Site site) noexcept;
    void place(OpRecord& record) noexcept;
    void place_behind(OpRecord& record, OpList& queue) noexcept;
    void start(OpRecord& record) noexcept;
    void list(OpRecord& record) noexcept;
    void list_plain(OpRecord& record) noexcept;
    void complete_locally(OpRecord& record, Error error) noexcept;
    Cancelled cancel_operation(std::uint64_t handle) noexcept;
    void cancel_record(OpRecord& record, std::uint16_t reason) noexcept;
    bool wait_leave(OpRecord& record, bool asked) noexcept;
    void release(OpRecord& record) noexcept;
    void release_alone(OpRecord& record) noexcept;
    void release_with_deadline(OpRecord& record) noexcept;
    void drop_payload(OpRecord& record) noexcept;
    void drop_handler(OpRecord& record) noexcept { record.thunk(*loop, record, nullptr); }
    void describe(OpRecord& record) noexcept;
    void frame_fill(OpRecord& record) noexcept;
    void note_work() noexcept;

    // --- operations that follow another (chain.cpp)
    Error chain_join(OpRecord& record, std::uint64_t before) noexcept;
    void chain_leave(OpRecord& record) noexcept;
    void chain_start(OpRecord& record) noexcept;
    void chain_settle(OpRecord& record, Error error) noexcept;
    void chain_release(OpRecord& record) noexcept;
    void chain_end(OpRecord& head) noexcept;
    void cancel_apart_on(const Descriptor& descriptor) noexcept;

    // --- dispatch (dispatch.cpp, advance.cpp)
    void dispatch();
    void dispatch_completion(const Completion& completion);
    void dispatch_ready();
    void dispatch_timers();
    void dispatch_posts();
    void finish(OpRecord& record, Error error, std::int32_t result, std::uint64_t handle = 0);
    void deliver_in_place(OpRecord& record, Delivery& delivery);
    Error error_of(const OpRecord& record, std::int32_t result) const noexcept;
    void advance_plain(OpRecord& record, const Completion& completion);
    void advance_connect(OpRecord& record, const Completion& completion);
    void advance_accept(OpRecord& record, const Completion& completion);
    void advance_accept_stream(OpRecord& record, const Completion& completion);
    void advance_recv(OpRecord& record, const Completion& completion);
    void advance_recv_stream(OpRecord& record, const Completion& completion);
    void advance_message_stream(OpRecord& record, const Completion& completion);
    void advance_block(OpRecord& record, const Completion& completion, std::size_t head,
                       bool resize);
    void advance_stream_bare(OpRecord& record, const Completion& completion);
    void stream_rearm(OpRecord& record, bool more, bool share_taken) noexcept;
    void advance_message(OpRecord& record, const Completion& completion);
    void advance_connect_unix(OpRecord& record, const Completion& completion);
    void advance_send_all(OpRecord& record, const Completion& completion);
    // (batches.cpp)
    Error batch_claim(OpRecord& record) noexcept;
    void batch_release(BatchFrame& frame) noexcept;
    void batch_fill(OpRecord& record) noexcept;
    void advance_batch(OpRecord& record, const Completion& completion);
    // (splices.cpp)
    Error splice_open(OpRecord& record, std::uint64_t from, std::uint64_t size) noexcept;
    void splice_source_ended(OpRecord& record, Error error) noexcept;
    void splice_end(OpRecord& record) noexcept;
    void advance_splice_source(OpRecord& record, const Completion& completion);
    void advance_splice(OpRecord& record, const Completion& completion);
    void advance_zero_copy(OpRecord& record, const Completion& completion);
    void advance_watch(OpRecord& record, const Completion& completion);
    // (processes.cpp)
    void advance_process(OpRecord& record, const Completion& completion);
    void advance_signal_stream(OpRecord& record, const Completion& completion);
    void advance_spawn(OpRecord& record, const Completion& completion);
    void child_adopt(OpRecord& record) noexcept;
    void process_drop(OpRecord& record, const Completion& completion) noexcept;
    bool process_close(Descriptor& descriptor) noexcept;
    bool child_reap_later(Descriptor& descriptor) noexcept;
    void spawn_settle(OpRecord& record, bool keep_pipes) noexcept;
    // (files.cpp)
    void advance_file(OpRecord& record, const Completion& completion);
    void advance_open_file(OpRecord& record, const Completion& completion);
    void advance_read_at(OpRecord& record, const Completion& completion);
    void advance_write_all_at(OpRecord& record, const Completion& completion);
    void cancel_on_file(const Descriptor& descriptor) noexcept;
    static void settle_read(OpRecord& record) noexcept;
    bool accept_descriptor(int fd, std::uint64_t& handle) noexcept;
    void accept_withdraw(OpRecord& record, bool more);
    void accept_pause(OpRecord& record, Error error);
    void stream_resubmit(OpRecord& record) noexcept;
    void drop_completion(OpRecord* record, const Completion& completion) noexcept;

    // --- descriptors (descriptors.cpp)
    Result<Descriptor*> descriptor_claim(int fd, DescriptorKind kind) noexcept;
    Descriptor* descriptor_find(std::uint64_t handle) noexcept;
    Error descriptor_shut(std::uint64_t handle, OpRecord* close_record) noexcept;
    void descriptor_shut_all() noexcept;
    void descriptor_close(Descriptor& descriptor) noexcept;
    void descriptor_leave(std::uint32_t place, std::uint32_t operation) noexcept;
    void descriptor_settle(Descriptor& descriptor) noexcept;
    void side_leave(std::uint32_t& active, OpList& queue, std::uint32_t index) noexcept;
    void side_advance(std::uint32_t& active, OpList& queue) noexcept;

    // --- received streams and the pool (streams.cpp)
    static void buffer_returned(void* context, PoolBlock& block) noexcept;
    bool starved_may_resume() const noexcept;
    bool recv_hopeless() noexcept;
    void resume_starved() noexcept;
    void bulk_limit() noexcept;
    bool bulk_possible() const noexcept;
    bool stream_misfits(OpRecord& record) noexcept;
    void stream_resize(OpRecord& record) noexcept;
    void stream_list(OpRecord& record) noexcept;
    // How many of its buffers the program may hold.
    std::uint32_t stream_share(const OpRecord& record) const noexcept {
        return (record.flags & op_bulk) != 0 ? bulk_share : options.recv_buffers_per_stream;
    }

    // --- messages with addresses and control data (messages.cpp)
    Error message_claim(OpRecord& record) noexcept;
    void message_fill(OpRecord& record) noexcept;
    void message_release(MessageFrame& frame) noexcept;
    void message_drop(OpRecord& record, const Completion& completion) noexcept;

    // --- timers and watches (timers.cpp, watches.cpp)
    ArmedTimer timer_arm(Thunk thunk, std::int64_t time, std::int64_t interval, std::uint16_t flags,
                         Site site) noexcept;
    void timer_release(OpRecord& record) noexcept;
    OpRecord* timer_find(std::uint64_t handle) noexcept;
    bool timer_cancel(std::uint64_t handle) noexcept;
    Error timer_move(std::uint64_t handle, Nanoseconds delay) noexcept;
    void timer_file(OpRecord& record, std::int64_t deadline_ns) noexcept;
    void timer_unfile(OpRecord& record) noexcept;
    void timers_file() noexcept;
    void timer_expire(OpRecord& record);
    void timer_fire(OpRecord& record);
    void timer_fire_periodic(OpRecord& record);
    void deadline_expire(OpRecord& record) noexcept;
    void deadline_release(OpRecord& record) noexcept;
    Watch watch_commit(OpRecord& record, int fd, Interest interest, Site site) noexcept;
    OpRecord* watch_find(std::uint64_t handle) noexcept;
    Error watch_modify(std::uint64_t handle, Interest interest) noexcept;
    bool watch_cancel(std::uint64_t handle, bool flush) noexcept;
    Operation hook_commit(OpRecord& record, HookPoint point, Site site) noexcept;
    Cancelled hook_cancel(OpRecord& record) noexcept;
    void hook_unlink(OpRecord& record) noexcept;
    void free_record(OpRecord& record) noexcept;

    // --- other threads (remote.cpp)
    Error remote_open() noexcept;
    void remote_close() noexcept;
    bool remote_sleep() noexcept;
    void remote_awake() noexcept;
    void dispatch_remote();
    void remote_run_taken();
    // The same of a run that is recorded or repeated (remote_run.cpp).
    void dispatch_remote_recorded();
    void remote_wait_for(std::int64_t count) noexcept;
    void remote_drop_early() noexcept;
    bool remote_pending() const noexcept;
    bool remote_asks() const noexcept;  // the same, or to stop
    void remote_wake() noexcept;
    void guest_sleep() noexcept;
    void destroy_elsewhere() noexcept;

    // --- statistics, and the page that others read (loop.cpp, meter.cpp)
    const Statistics& statistics_now() const noexcept;
    Error meter_open() noexcept;

    // --- what lives as long as the loop (locals.cpp)
    void locals_end() noexcept;

    std::uint64_t handle_of(const OpRecord& record) const noexcept {
        return operations.handle_of(&record);
    }
    DriverContext context() noexcept {
        return {operations, descriptors, *pool, statistics, options, system};
    }

    // Fixed after open().
    Loop* loop = nullptr;
    Insight* insight = nullptr;  // insight.hpp; null when nobody wants to see inside
    RunSeam* run = nullptr;      // where the run is recorded or repeated; null: it is neither
    LoopOptions options;
    System& system;
    BackendReport report;
    Driver* driver = nullptr;
    BufferPool* pool = nullptr;
    unsigned long thread = 0;
    long thread_id = 0;
    bool bound = false;
    Meter* meter = nullptr;        // with LoopOptions::statistics_page
    std::uint32_t bulk_share = 0;  // recv_buffers_per_stream, of large ones
    std::uint32_t forks = 0;       // forks_seen of the process that made the loop
    bool spins = false;            // with LoopOptions::busy_poll, in real time

    // Changed in every turn.
    Instant now{};  // the turn's clock reading, once now_read
    bool now_read = true;
    CompletionBatch batch;
    OpList submissions;  // to be handed to the driver in this turn
    OpList ready;        // ended inside the loop; to be dispatched
    OpList unfiled;      // relative timers armed or moved since the last filing; what was moved is
                         // still in the wheel, by its old deadline
    OpList starved;      // received streams without a buffer
    OpList hooks_before;
    OpList hooks_after;
    TimerWheel wheel;
    PostQueue posts;
    RemotePost* remote_taken = nullptr;  // taken from other threads, in order, not yet run
    RemotePost* remote_early = nullptr;  // the same, but the recorded run had them later
    std::uint32_t ready_count = 0;
    std::uint32_t alive = 0;  // records that keep run() going
    std::uint32_t works = 0;  // Work operations alive
    std::uint32_t apart = 0;  // records that are in no list of the descriptor they may name
    std::uint32_t hooks_before_count = 0;
    std::uint32_t hooks_after_count = 0;
    std::uint32_t executing = 0;  // record whose handler runs in place, 0 for none
    bool in_turn = false;
    bool watched = false;  // a guest's host, or insight, is to hear of what is committed
    bool stopping = false;
    bool draining = false;
    bool dropping = false;        // handlers are destroyed instead of called
    std::uint64_t end_steps = 0;  // records that end_everything() has looked at, for its test
    bool guest = false;           // somebody else waits on notify_fd()
    bool guest_new = false;       // and no turn has told the kernel yet what to wake it for

    // Changed at submission and completion.
    mutable Statistics statistics;
    Slab<OpRecord> operations;
    Slab<Descriptor> descriptors;
    GatherFrame* frames = nullptr;
    MessageFrame* message_frames = nullptr;
    BatchFrame* batch_frames = nullptr;
    RemoteState* remote = nullptr;
    LoopModule* streams = nullptr;  // made with the first stream
    LoopLocal** locals = nullptr;   // of each PerLoop, by its key
    std::uint32_t locals_count = 0;
    LoopLocal* local_newest = nullptr;
};

// What runs for every turn or operation is inline: it is short and crosses the files of this floor.

// The turn's one reading of the clock, made when somebody wants it: without a timer, nobody may. Between two
// turns any time may pass, so there each look is at the clock.
inline Instant LoopCore::clock() noexcept {
    if (!now_read || !in_turn) {
        now = system.now();
        now_read = true;
    }
    return now;
}

inline bool LoopCore::work_is_ready() const noexcept {
    return !ready.empty() || posts.count() != 0 || !batch.empty() ||
           (remote != nullptr && remote_pending()) || (!starved.empty() && starved_may_resume());
}

// Nothing that could ever call a handler again, apart from other threads.
inline bool LoopCore::idle() const noexcept { return alive == 0 && !work_is_ready(); }

// Wakes the host of a guest loop when work arises outside of a turn.
inline void LoopCore::note_work() noexcept {
    if (guest && !in_turn) remote_wake();
}

inline Descriptor* LoopCore::descriptor_find(std::uint64_t handle) noexcept {
    Descriptor* descriptor = descriptors.find(handle);
    if (descriptor == nullptr || descriptor->state != DescriptorState::open) return nullptr;
    return descriptor;
}

// Puts a record, of which the system call needs no description, on the list that the next turn hands to
// the driver.
inline void LoopCore::list_plain(OpRecord& record) noexcept {
    record.state = OpState::listed;
    submissions.push_back(operations, record);
}

// The same for any.
inline void LoopCore::list(OpRecord& record) noexcept {
    WHORL_ASSERT(record.state != OpState::listed && record.state != OpState::ready);
    record.flags &= static_cast<std::uint16_t>(~(op_final_seen | op_pausing | op_fed));
    if (is_described(record.kind)) describe(record);
    list_plain(record);
}

// The record's turn on its side has come.
inline void LoopCore::start(OpRecord& record) noexcept {
    if (nothing_to_send(record)) complete_locally(record, Error());
    else list(record);
}

inline void LoopCore::side_leave(std::uint32_t& active, OpList& queue,
                                 std::uint32_t index) noexcept {
    if (active != index) return;
    active = 0;
    if (!queue.empty()) side_advance(active, queue);
}

// To the backend, or behind those that have its side of the descriptor.
inline void LoopCore::place(OpRecord& record) noexcept {
    const Side side = side_of(record.kind);
    if (side == Side::none) return list(record);
    Descriptor& descriptor = descriptors.at(record.descriptor);
    std::uint32_t& active = side == Side::read ? descriptor.read_active : descriptor.write_active;
    if (active == 0) {
        active = operations.index_of(&record);
        return start(record);
    }
    place_behind(record, side == Side::read ? descriptor.read_queue : descriptor.write_queue);
}

// An operation leaves its descriptor: the next one on its side goes to the backend.
inline void LoopCore::descriptor_leave(std::uint32_t place, std::uint32_t operation) noexcept {
    Descriptor& descriptor = descriptors.at(place);
    WHORL_ASSERT(descriptor.operations > 0);
    --descriptor.operations;
    bool more = descriptor.operations == 0 && descriptor.state == DescriptorState::closing;
    if (descriptor.read_active == operation) {
        descriptor.read_active = 0;
        more |= !descriptor.read_queue.empty();
    }
    if (descriptor.write_active == operation) {
        descriptor.write_active = 0;
        more |= !descriptor.write_queue.empty();
    }
    if (more) descriptor_settle(descriptor);
}

// Ends a record: its slot is free and its handle stale afterwards. The payload and the handler have
// been moved out or destroyed before.
inline void LoopCore::release(OpRecord& record) noexcept {
    if (record.deadline != 0) return release_with_deadline(record);
    release_alone(record);
}

inline void LoopCore::release_alone(OpRecord& record) noexcept {
    if ((record.flags & op_background) == 0) {
        WHORL_ASSERT(alive > 0);
        --alive;
    }
    record.state = OpState::ended;
    operations.release(&record);
    if (record.kind == OpKind::watch) return;  // which has a descriptor's number
    if (record.descriptor != 0) {
        descriptor_leave(record.descriptor, operations.index_of(&record));
    } else if (record.kind == OpKind::work) {
        --works;
    }
}

// Hands a final completion to its handler. The thunk releases the record before it calls.
inline void LoopCore::finish(OpRecord& record, Error error, std::int32_t result,
                             std::uint64_t handle) {
    if (record.deadline != 0) chain_settle(record, error);
    Delivery delivery;
    delivery.core = this;
    delivery.error = error;
    delivery.result = result;
    delivery.bytes = record.progress;
    delivery.handle = handle;
    ++statistics.handlers;
    record.thunk(*loop, record, &delivery);
}

}  // namespace whorl::detail
