// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/driver.hpp"
#include "backend/receive_ring.hpp"
#include "backend/registered_memory.hpp"
#include "backend/ring.hpp"
#include "backend/work_pool.hpp"

#include <cstdint>

// The io_uring driver. One io_uring_enter a turn submits everything, runs deferred work and waits.
//
// A record that the driver has is in one of these places:
//   in the kernel                  no bit, or op_in_cancels while a cancellation is to be submitted
//                                  (op_in_repeats: again, after a pause)
//   in `again` (op_in_again)       to be submitted anew with the next wait
//   in `ended` (op_in_ended)       cancelled while in `again`; its completion is due
// op_polls says that its next (or present) submission is a poll for readiness instead of the operation
// itself: for descriptors that somebody made non-blocking, and for received streams without a ring of
// buffers.

namespace whorl::detail {

inline constexpr std::uint16_t op_polls = op_backend_1;
inline constexpr std::uint16_t op_in_cancels = op_backend_2;
inline constexpr std::uint16_t op_in_again = 1 << 14;
inline constexpr std::uint16_t op_in_ended = 1 << 15;
inline constexpr std::uint16_t op_in_repeats = op_in_cancels | op_in_again;
inline constexpr std::uint16_t op_backend_all =
    op_polls | op_in_cancels | op_in_again | op_in_ended;

// A watch for priority data. io_uring leaves EPOLLPRI out when it looks at a wake-up, so that such a
// poll sleeps for ever (seen on Linux 6.18); an epoll of the watch's own, named by the payload, hears it
// and is polled instead. The bit stays while the watch lives.
inline constexpr std::uint16_t op_has_inner = op_polls;

class UringDriver final : public Driver {
  public:
    UringDriver(const DriverContext& context, std::uint32_t features_off) noexcept
        : context_(context), ring_(context.system.ring_calls()), features_off_(features_off) {}
    ~UringDriver() override;

    Error open(BackendReport& report) noexcept;

    Error bind() noexcept override;
    Error wait(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept override;
    bool quiet() noexcept override;
    bool peek() noexcept override;
    void cancel(OpRecord& record) noexcept override;
    void flush() noexcept override;
    void forget(Descriptor&) noexcept override {}
    void forget_watch(OpRecord& record) noexcept override;
    bool buffers_ready() const noexcept override { return buffers_.ready(); }
    bool bulk_buffers_ready() const noexcept override { return bulk_.ready(); }
    Error watch_wake(int event_fd) noexcept override;
    Result<int> notify_fd() noexcept override;
    // What the kernel has refused to take is offered to it again at once, and what handlers have
    // cancelled since the turn's call is told to it.
    Instant wakes_at() const noexcept override {
        const bool unsaid = ring_.pending() != 0 || !cancels_.empty() || !ended_.empty();
        if (unsaid) return Instant::min();
        return repeats_.empty() ? instant_never : repeat_at_;
    }
    std::uint32_t features() const noexcept override { return features_; }

  private:
    // User data that names no record: index 0 is never handed out.
    static constexpr std::uint64_t data_nothing = 0;
    static constexpr std::uint64_t data_wake = std::uint64_t{1} << 32;
    static constexpr std::uint64_t data_work = std::uint64_t{2} << 32;
    // A cancellation's data names the record by the even generation before its own.
    static constexpr std::uint64_t data_of_cancel(std::uint64_t handle) noexcept {
        return handle - (std::uint64_t{1} << 32);
    }
    static constexpr std::uint64_t handle_of_cancel(std::uint64_t data) noexcept {
        return data + (std::uint64_t{1} << 32);
    }
    static constexpr bool is_cancel(std::uint64_t data) noexcept {
        return (data >> 32) % 2 == 0 && static_cast<std::uint32_t>(data) != 0;
    }
    static constexpr std::uint32_t idle_turns_max = 64;
    static constexpr Nanoseconds cancel_pause{1'000'000};

    bool has(Feature feature) const noexcept { return (features_ & feature_bit(feature)) != 0; }
    std::uint32_t choose_features() noexcept;
    Error reopen() noexcept;
    void register_index() noexcept;
    Error wait_with_rest(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept;
    Error wait_staged(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept;
    bool may_stay_out() noexcept {
        if (ring_.pending() != 0 || ring_.wants_enter() || !ring_.deferred()) return false;
        return ++idle_turns_ < idle_turns_max;
    }
    bool nothing_visible() const noexcept;
    void notify() noexcept;
    void notify_heard() noexcept;
    void notify_of_rest() noexcept;
    void watch_rest() noexcept;
    // A free entry; null only if the kernel takes nothing now.
    io_uring_sqe* entry() noexcept {
        io_uring_sqe* sqe = ring_.entry();
        return sqe != nullptr ? sqe : entry_after_flush();
    }
    io_uring_sqe* entry_after_flush() noexcept;

    void stage_all(OpList& submissions, CompletionBatch& batch) noexcept;
    void stage_again() noexcept;
    void stage_cancels(std::uint32_t budget) noexcept;
    Nanoseconds resume_repeats(Nanoseconds timeout) noexcept;
    void leave_cancels(OpRecord& record) noexcept;
    void stage_wake() noexcept;
    // Says all but whose the entry is.
    void stage(OpRecord& record, io_uring_sqe* sqe) noexcept;
    bool answer_by_call(OpRecord& record, OpList& submissions, CompletionBatch& batch) noexcept;
    static constexpr bool is_plain_call(OpKind kind) noexcept {
        return kind == OpKind::shutdown || kind == OpKind::connect_unix ||
               kind == OpKind::send_batch;
    }
    std::int32_t plain_call(OpRecord& record) noexcept;
    void stage_operation(OpRecord& record, int fd, io_uring_sqe* sqe) noexcept;
    void stage_recv_stream(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept;
    void stage_message_stream(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept;
    void stage_send_message(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept;
    void stage_watch(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept;
    int inner_aim(OpRecord& record) noexcept;
    static unsigned poll_mask(const OpRecord& record) noexcept;
    static void clear_bits(OpRecord& record) noexcept;
    static bool bits_consistent(const OpRecord& record) noexcept;

    void collect(CompletionBatch& batch) noexcept;
    void collect_ended(CompletionBatch& batch) noexcept;
    void collect_record(OpRecord& record, const io_uring_cqe& cqe, CompletionBatch& batch) noexcept;
    bool polls_for_blocks(OpKind kind) const noexcept;
    ssize_t receive_message(int fd, PoolBlock& block, int flags) noexcept;
    void collect_transfer(OpRecord& record, CompletionBatch& batch) noexcept;
    void collect_inner(OpRecord& record, CompletionBatch& batch) noexcept;
    void collect_other(const io_uring_cqe& cqe) noexcept;
    void collect_cancel(const io_uring_cqe& cqe) noexcept;
    void collect_wake(const io_uring_cqe& cqe) noexcept;
    void collect_work(const io_uring_cqe& cqe) noexcept;
    void collect_polled_stream(OpRecord& record, CompletionBatch& batch) noexcept;
    void push(OpRecord& record, std::int32_t result, bool more, PoolBlock* block,
              CompletionBatch& batch) noexcept;
    void again(OpRecord& record) noexcept;

    // --- zero-copy sends (uring_zero_copy.cpp)
    bool zero_copy_possible(OpKind kind) const noexcept;
    void stage_zero_copy(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept;
    void zero_copy_abort(OpRecord& record) noexcept;
    void collect_zero_copy(OpRecord& record, const io_uring_cqe& cqe,
                           CompletionBatch& batch) noexcept;

    // --- files (uring_files.cpp)
    bool in_ring(OpRecord& record) const noexcept;
    void stage_file(OpRecord& record, io_uring_sqe* sqe) noexcept;
    void stage_read(OpRecord& record, int fd, std::uint64_t offset, io_uring_sqe* sqe) noexcept;
    void stage_write(OpRecord& record, int fd, std::uint64_t offset, io_uring_sqe* sqe) noexcept;
    bool registration_possible() const noexcept;
    static void stage_on_range(OpRecord& record, int fd, io_uring_sqe* sqe) noexcept;

    // --- what blocks (uring_work.cpp)
    void work_start(OpRecord& record, CompletionBatch& batch) noexcept;
    bool work_cancel(OpRecord& record) noexcept;
    void work_stage() noexcept;
    bool work_heard() const noexcept { return work_out_ == 0 || work_armed_; }
    void work_collect(CompletionBatch& batch) noexcept;

    void buffers_start() noexcept;
    void bulk_start() noexcept;
    ReceiveRing& buffers_for(const OpRecord& record) noexcept {
        return (record.flags & op_bulk) != 0 && bulk_.started() ? bulk_ : buffers_;
    }
    PoolBlock* block_of(std::uint32_t id) noexcept {
        return (ReceiveRing::group_of(id) == 0 ? buffers_ : bulk_).take(id);
    }

    DriverContext context_;
    Ring ring_;
    std::uint32_t features_off_;
    std::uint32_t features_ = 0;
    unsigned long thread_ = 0;
    OpList cancels_;
    OpList repeats_;       // cancellations that found nothing, until the pause has passed
    Instant repeat_at_{};  // its end, while there are any
    OpList again_;
    OpList ended_;

    ReceiveRing buffers_{ring_, context_.pool, 0};
    ReceiveRing bulk_{ring_, context_.pool, 1};
    RegisteredMemory registered_{ring_, context_.pool, context_.statistics};
    std::uint32_t streams_ = 0;  // received streams that the driver has

    WorkPool* work_ = nullptr;    // made with the first record that needs it
    std::uint32_t work_out_ = 0;  // records that it has
    bool work_armed_ = false;     // its eventfd is polled
    bool work_left_ = false;      // more may have ended than the last batch had room for

    int wake_fd_ = -1;
    int notify_fd_ = -1;
    bool wake_armed_ = false;
    bool wake_multishot_ = true;
    bool bulk_refused_ = false;
    bool rest_ = true;              // wait() may have more to do than to submit and to collect
    std::uint32_t idle_turns_ = 0;  // since the kernel was entered last
};

}  // namespace whorl::detail
