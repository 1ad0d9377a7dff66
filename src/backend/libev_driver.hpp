// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/driver.hpp"
#include "backend/libev_library.hpp"
#include "backend/work_pool.hpp"

#include <whorl/slab.hpp>

#include <cstdint>

// The libev driver: the system call first, readiness when that would block.
//
// An operation is tried at once. Only when the kernel answers "would block" does its record become the
// armed operation of its side, and the descriptor's one ev_io waits for what the armed sides need.
// The two streams are armed without a try: a fresh connection rarely has data yet, and a listener's
// burst is over. They stay armed across deliveries, so that an echo costs epoll_wait, recv and send.
//
// A record that the driver has is in one of these places:
//   backlog_          handed over and not yet tried, because the batch was full
//   armed             Watcher::read or Watcher::write of its descriptor (a watch: its own Watcher's
//                     read) holds its index
//   the work pool     op_in_pool
//   cancelled_        op_ending; its -ECANCELED is due in the next wait()
//
// Invariants:
//   1. libev's callbacks run only inside wait(), do system calls and fill the batch; nothing else.
//   2. A Watcher's ev_io is active exactly for the sides that are armed. A watch's stays active
//      between a completion and the record's return, and is stopped when it fires in between.
//   3. ev_run() is entered only while the batch has room and deferred_ is empty.
//   4. What did not fit the batch is remembered in order (deferred_) and served before the kernel is
//      asked again: epoll reports the same descriptors first each time, and the last ones of many
//      busy connections would starve.

namespace whorl::detail {

inline constexpr std::uint16_t op_watched =
    op_backend_1;  // a watch whose payload names its Watcher
inline constexpr std::uint16_t op_in_pool = op_backend_1;  // one of the blocking kinds
inline constexpr std::uint16_t op_ending = op_backend_2;   // in cancelled_

class LibevDriver final : public Driver {
  public:
    LibevDriver(const DriverContext& context, const LibevLibrary& library) noexcept
        : context_(context), libev_(library) {}
    ~LibevDriver() override;

    Error open(BackendReport& report) noexcept;

    // Nothing of libev or epoll belongs to a thread.
    Error bind() noexcept override { return {}; }
    Error wait(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept override;
    bool quiet() noexcept override;
    void cancel(OpRecord& record) noexcept override;
    // epoll does not keep files open, and a cancelled operation has been disarmed already.
    void flush() noexcept override {}
    void forget(Descriptor& descriptor) noexcept override;
    void let_go(Descriptor& descriptor) noexcept override;
    void forget_watch(OpRecord& record) noexcept override;
    Error watch_wake(int event_fd) noexcept override;
    Result<int> notify_fd() noexcept override;

  private:
    // What waits for readiness on behalf of one descriptor or of one watch.
    struct Watcher : SlabSlot {  // `link`: the next in deferred_
        ev_io io;
        LibevDriver* driver;
        std::uint32_t read;  // the armed operation of each side, 0 for none
        std::uint32_t write;
        std::uint32_t wanted;  // a watch: the POLL bits that its ev_io stands for
        int deferred;          // events to be served, not 0 exactly while in deferred_
        int inner_fd;          // a watch of what libev cannot see: an epoll of its own, else -1
        bool is_watch;
        bool is_forgotten;    // to be released when it leaves deferred_
        bool is_nonblocking;  // a listener that was switched
    };
    using WaitingIo = void (*)(struct ev_loop*, ev_io*, int);

    // How many completions one wait() brings at most: each received one brings a buffer of its own, and
    // more of them than fit the cache together make every message dearer (1.29 of plain epoll with 256
    // at 1,000 connections, 1.11 with 64).
    static constexpr std::uint32_t completions_at_a_time = 64;
    static constexpr std::uint32_t quiet_turns_max = 32;

    // How much one descriptor may take at a time before others get their turn.
    static constexpr std::uint32_t accepts_per_event = 64;
    static constexpr std::uint32_t blocks_per_event = 4;

    // --- waiting (libev_driver.cpp)
    void take(OpList& submissions) noexcept;
    void deliver_cancelled() noexcept;
    void run_backlog() noexcept;
    void serve_deferred() noexcept;
    void run_libev(int flags) noexcept;
    void wait_for_events(Nanoseconds timeout) noexcept;
    void timer_aim(Instant deadline) noexcept;
    void timer_set(Instant deadline) noexcept;
    void notify_host() noexcept;
    Error notify_attach() noexcept;
    int backend_fd() noexcept;
    void watch_rebuild() noexcept;
    void own_refused(ev_io& io) noexcept;
    static void on_timer(struct ev_loop*, ev_io* io, int events) noexcept;
    static void on_wake(struct ev_loop*, ev_io* io, int events) noexcept;
    static void on_release(struct ev_loop*) noexcept;
    static void on_rebuild(struct ev_loop*, ev_fork* watcher, int) noexcept;

    // --- readiness (libev_readiness.cpp)
    Watcher* watcher_claim(WaitingIo callback) noexcept;
    Watcher* watcher_of(Descriptor& descriptor) noexcept;
    Watcher* watcher_of(OpRecord& watch) noexcept;
    void watcher_release(Watcher& watcher) noexcept;
    void arm(OpRecord& record) noexcept;
    bool disarm(OpRecord& record) noexcept;
    void rearm(Watcher& watcher) noexcept;
    void defer(Watcher& watcher, int events) noexcept;
    void serve(Watcher& watcher, int events) noexcept;
    void serve_failure(Watcher& watcher) noexcept;
    void start_watch(OpRecord& record) noexcept;
    int aim_watch(Watcher& watcher, int fd, std::uint32_t wanted) noexcept;
    void serve_watch(Watcher& watcher, int events) noexcept;
    static void on_descriptor(struct ev_loop*, ev_io* io, int events) noexcept;
    static void on_watch(struct ev_loop*, ev_io* io, int events) noexcept;

    // --- what blocks (libev_work.cpp)
    void work_start(OpRecord& record) noexcept;
    Error work_open() noexcept;
    void work_collect() noexcept;
    static void on_work(struct ev_loop*, ev_io* io, int events) noexcept;

    // --- operations (libev_operations.cpp)
    void start(OpRecord& record) noexcept;
    Error prepare_connect(OpRecord& record) noexcept;
    Error prepare_listener(OpRecord& record) noexcept;
    std::int32_t attempt(OpRecord& record) noexcept;
    void serve_operation(std::uint32_t& side) noexcept;
    void serve_accept_stream(std::uint32_t& side) noexcept;
    void serve_recv_stream(std::uint32_t& side) noexcept;
    bool receive_block(std::uint32_t& side) noexcept;
    void push(OpRecord& record, std::int32_t result, std::uint32_t flags = 0,
              PoolBlock* block = nullptr) noexcept;
    void finish(std::uint32_t& side, std::int32_t result) noexcept;
    int fd_of(const OpRecord& record) noexcept {
        return context_.descriptors.at(record.descriptor).fd;
    }

    // Fixed after open().
    DriverContext context_;
    LibevLibrary libev_;
    struct ev_loop* loop_ = nullptr;
    int timer_fd_ = -1;
    int wake_fd_ = -1;
    int notify_fd_ = -1;  // the host's descriptor when this loop is a guest
    ev_io timer_io_{};
    ev_io wake_io_{};
    ev_fork rebuild_{};
    int epoll_fd_ = -1;  // libev's own, once it was asked for; not ours to close

    WorkPool* work_ = nullptr;  // made with the first record that needs it
    ev_io work_io_{};

    // Changed by wait() and cancel().
    std::uint32_t work_out_ = 0;  // records that the pool has
    bool work_left_ = false;      // more may have ended than the last batch had room for
    Slab<Watcher> watchers_;
    OpList backlog_;
    OpList cancelled_;
    std::uint32_t deferred_head_ = 0;
    std::uint32_t deferred_tail_ = 0;
    CompletionBatch* batch_ = nullptr;      // while in wait()
    Instant timer_target_ = instant_never;  // when the timer fires; instant_never: it is off
    bool timer_fired_ = false;              // and its descriptor is still readable
    bool woken_ = false;
    Error refused_;                  // the kernel would not watch a descriptor of ours
    bool rebuilt_ = false;           // libev has made a new epoll descriptor
    bool skipped_ = false;           // the last wait() did not look at the kernel
    std::uint32_t quiet_turns_ = 0;  // waits left out since somebody did
    bool crowded_ = false;           // submissions had the first call on a batch that became full
};

}  // namespace whorl::detail
