// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/driver.hpp"
#include "backend/sim_kernel.hpp"

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

// The simulator: a driver whose operations happen in a simulated kernel, at once, as soon as they can,
// or later, in any order and in any parts that the contract allows, as the seed decides.
//
// A record that the driver has is in one of these places:
//   waiting      its file is watched; when that changes it is tried again
//   candidate    its file has changed since; the next wait() tries it
//   done         its final completion is in done_, or an event of the kernel will put it there
//
// Invariants:
//   1. Operations are tried, and buffers taken from the pool, only inside wait(). What happens at other
//      times (events, other threads of the world) only notes.
//   2. Completions of one operation stay in order, whatever else is reordered or late.

namespace whorl::detail {

class SimDriver final : public Driver, private SimWatcher {
  public:
    explicit SimDriver(const DriverContext& context) noexcept
        : context_(context), kernel_(*context.options.world) {
        ++kernel_.drivers;
    }
    ~SimDriver() override;

    Error bind() noexcept override { return {}; }
    Error wait(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept override;
    void cancel(OpRecord& record) noexcept override;
    void flush() noexcept override {}
    void forget(Descriptor&) noexcept override {}
    void forget_watch(OpRecord&) noexcept override {}
    Error watch_wake(int event_fd) noexcept override;
    Result<int> notify_fd() noexcept override;

  private:
    // What the simulated kernel knows of one operation, by the record's index.
    struct Pending {
        SimFilePtr file;           // null: the driver does not wait for it
        std::uint64_t handle = 0;  // of the record
        Instant last_due{};        // of its completions so far
        std::uint32_t flight = 0;  // counts the records that used this place
        std::uint32_t late = 0;    // completions that an event of the kernel will bring
        bool candidate = false;
        bool full = false;    // waits until blocks have been delivered
        bool losing = false;  // cancelled too late: tried once more before it gives up
    };
    static constexpr std::int32_t would_block = INT32_MIN;
    static constexpr std::uint32_t parts_per_try = 4;

    void start(OpRecord& record) noexcept;
    void start_blocking(OpRecord& record) noexcept;
    void attempt(std::uint32_t index) noexcept;
    void attempt_candidates() noexcept;
    bool may_fill(std::uint32_t index) noexcept;
    void blocks_delivered() noexcept;
    std::int32_t call(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_connect(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_accept(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_accept_stream(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_recv(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_recv_stream(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_send(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_send_chain(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_shutdown(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_connect_unix(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_recv_message(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_message_stream(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_send_message(OpRecord& record, SimFile& file) noexcept;
    std::int32_t call_blocking(OpRecord& record) noexcept;
    std::int32_t call_process(OpRecord& record) noexcept;
    std::int32_t call_watch(OpRecord& record, SimFile& file) noexcept;
    std::int32_t fault(const OpRecord& record, SimFile& file) noexcept;
    std::size_t shortened(std::size_t size) noexcept;
    void scribble(OpRecord& record) noexcept;

    void complete(OpRecord& record, std::int32_t result, bool more = false,
                  PoolBlock* block = nullptr) noexcept;
    void settle(const Completion& completion) noexcept;
    void end_waiting(std::uint32_t index) noexcept;
    void collect(CompletionBatch& batch) noexcept;
    void notify() noexcept;
    void file_changed(SimFile& file, std::uint64_t token) override;

    DriverContext context_;
    SimKernel& kernel_;
    std::deque<Pending> pending_;
    std::vector<std::uint32_t> candidates_;
    std::vector<std::uint32_t> full_;  // streams that wait until blocks have been delivered
    std::uint32_t filled_ = 0;         // blocks of received streams that are not delivered
    std::deque<Completion> done_;
    SimFilePtr wake_;
    SimFilePtr notify_;
    int notify_fd_ = -1;
    bool woken_ = false;
    std::uint64_t settled_ = 0;
    // Events of the kernel may outlive the driver; they look here first.
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace whorl::detail
