// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/error.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/result.hpp>
#include <whorl/slow_handler.hpp>

#include <signal.h>
#include <time.h>

#include <atomic>
#include <cstdint>

namespace whorl::detail {

struct HandlerRun;
class Recorder;

// Looks after the handlers of one loop with a timer that signals its thread (slow_handler.hpp). Everything
// is shared between that thread and a signal handler that interrupts it, never between threads: `number_`
// is odd while a handler runs, and what describes the handler is written before it becomes so.
//
// One is never freed, only used again: a signal that was on its way when its timer was deleted finds a
// watch that does not have its generation, and does nothing.
class SlowWatch : public Allocated<SlowWatch> {
  public:
    // Errors: EBUSY (the signal has a handler already), slots_exhausted (256 of a process), ENOMEM.
    static Result<SlowWatch*> create(const LoopOptions& options, Recorder* recorder) noexcept;
    SlowWatch(const SlowWatch&) = delete;
    SlowWatch& operator=(const SlowWatch&) = delete;

    // On the loop's thread. Errors: of timer_create(2).
    Error start(long thread) noexcept;
    void give_back() noexcept;

    void handler_begins(const HandlerRun& run, std::uint64_t time_ns) noexcept;
    // Reports it when it was slow; returns how long it ran, and 0 when it was not.
    std::uint64_t handler_ends(std::uint64_t time_ns) noexcept;
    void waits() noexcept { waiting_.store(true, std::memory_order_relaxed); }
    void works() noexcept {
        waiting_.store(false, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        if (!ticking_.load(std::memory_order_relaxed)) tick_every(tick_ns_);
    }

    SlowHandlerCounts counts() const noexcept;

    // Null: what it is at first, on stderr.
    void report_slow(SlowReport report, void* context) noexcept;
    void report_stuck(SlowReport report, void* context) noexcept;

    SlowReport slow_report = nullptr;
    void* slow_context = nullptr;
    SlowReport stuck_report = nullptr;
    void* stuck_context = nullptr;
    bool wants_slow() const noexcept { return slow_ns_ != UINT64_MAX; }
    bool wants_stuck() const noexcept { return stuck_ns_ != UINT64_MAX; }

  private:
    SlowWatch() noexcept = default;
    static void on_signal(int number, siginfo_t* info, void* context) noexcept;
    static Error install(int signal) noexcept;
    void configure(const LoopOptions& options, Recorder* recorder) noexcept;
    void tick_every(std::uint64_t time_ns) noexcept;
    void tick() noexcept;
    void tell_stuck(std::uint64_t ran_ns) noexcept;
    void tell_slow(std::uint64_t ran_ns, bool sampled) noexcept;
    SlowHandler describe(std::uint64_t ran_ns, bool sampled) const noexcept;

    // Fixed while one loop has it.
    std::uint32_t index_ = 0;
    int signal_ = 0;
    std::uint64_t slow_ns_ = UINT64_MAX;
    std::uint64_t stuck_ns_ = UINT64_MAX;
    std::uint64_t sample_ns_ = 0;
    std::uint64_t tick_ns_ = 0;
    std::uint64_t pause_ns_ = 0;
    Recorder* recorder_ = nullptr;
    timer_t timer_{};
    bool started_ = false;

    // Shared with the signal handler.
    std::atomic<std::uint32_t> generation_{0};
    std::atomic<std::uint64_t> number_{0};
    std::atomic<bool> waiting_{true};
    std::atomic<bool> ticking_{false};
    std::atomic<std::uint64_t> samples_{0};
    std::atomic<std::uint64_t> stuck_{0};
    std::uint64_t begun_ns_ = 0;
    std::uint64_t sampled_number_ = 0;  // whose stack it is
    std::uint64_t sampled_ns_ = 0;
    std::uint64_t stuck_number_ = 0;  // the one that was told of last
    std::size_t stack_count_ = 0;
    void* stack_[slow_stack_max] = {};
    // Of the handler that runs.
    Site site_;
    const void* code_ = nullptr;
    std::uint64_t handle_ = 0;
    std::uint32_t place_ = 0;
    std::uint8_t kind_ = 0;

    // The loop's alone.
    std::uint64_t slow_ = 0;
    std::uint64_t suppressed_ = 0;
    std::uint64_t suppressed_since_ = 0;
    std::uint64_t reported_at_ns_ = 0;
};

// "recv", "post", …: of an operation or what else has handlers.
const char* name_of_kind(std::uint8_t kind) noexcept;

}  // namespace whorl::detail
