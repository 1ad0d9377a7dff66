// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_kernel.hpp"

#include "backend/process_calls.hpp"

#include "backend/file_calls.hpp"
#include "backend/ring.hpp"

#include <whorl/assert.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

// The clock, the events, the threads and the trace of the simulated kernel.

namespace whorl::detail {

SimKernel::SimKernel(const testing::SimulationOptions& options)
    : choices(options.seed), options_(options), now_(Instant(options.time_start)) {
    WHORL_ASSERT(options.time_per_call >= Nanoseconds::zero());
    tasks_.push_back(std::make_unique<Task>());
}

SimKernel::~SimKernel() {
    for (std::size_t index = 1; index < tasks_.size(); ++index) {
        WHORL_ASSERT(tasks_[index]->finished);  // join() what was spawned
        if (tasks_[index]->thread.joinable()) tasks_[index]->thread.join();
    }
    // Files tell each other of their end, and may ask the kernel for the time; it must still be whole.
    drop_events();
    files_.clear();
    process_calls_.reset();
    drop_events();
}

// An event may hold a file, whose end may make events.
void SimKernel::drop_events() {
    while (events_.size() != 0) events_.clear();
}

// --- time

Instant SimKernel::now() noexcept {
    now_ += options_.time_per_call;
    return now_;
}

// One thing that is due; false when there is none.
bool SimKernel::run_due() {
    if (!events_.run_due(now_)) return false;
    ++counters.events;
    return true;
}

bool SimKernel::wait(const std::function<bool()>& done, Instant deadline) {
    ++counters.waits;
    while (run_due()) {
    }
    Task& self = *tasks_[running_];
    const std::uint32_t me = running_;
    self.done = &done;
    self.deadline = deadline;
    for (;;) {
        const std::uint32_t chosen = choose_runnable();
        if (chosen == me) break;
        if (chosen != no_task) {
            switch_to(chosen);
            break;  // whoever gave the turn back has found that we can go on
        }
        Instant next = next_event();
        for (const auto& task : tasks_) {
            if (task->done != nullptr) next = std::min(next, task->deadline);
        }
        if (next == instant_never) stuck();
        now_ = std::max(now_, next);
        while (run_due()) {
        }
    }
    self.done = nullptr;
    return done();
}

void SimKernel::settle() {
    now_ += options_.time_per_call;
    const std::function<bool()> at_once = [] { return true; };
    static_cast<void>(wait(at_once, now_));
}

void SimKernel::advance(Nanoseconds time) {
    const std::function<bool()> never = [] { return false; };
    static_cast<void>(wait(never, add_saturating(now_, time)));
}

void SimKernel::advance_to(Instant when) {
    if (when > now_) advance(when - now_);
    else settle();
}

// --- threads

// One of those that can go on, or no_task.
std::uint32_t SimKernel::choose_runnable() {
    std::uint32_t found[64];
    std::uint32_t count = 0;
    for (std::uint32_t step = 0; step < tasks_.size() && count < 64; ++step) {
        // The thread that waits now comes first, so that the kind choice is not to switch.
        const auto index = static_cast<std::uint32_t>((running_ + step) % tasks_.size());
        const Task& task = *tasks_[index];
        if (task.done != nullptr && (task.deadline <= now_ || (*task.done)())) {
            found[count++] = index;
        }
    }
    if (count == 0) return no_task;
    return found[choices.below(count)];
}

// Gives the turn to another thread, and returns when it comes back.
void SimKernel::switch_to(std::uint32_t index) {
    ++counters.switches;
    const std::uint32_t me = running_;
    std::unique_lock<std::mutex> lock(baton_);
    running_ = index;
    tasks_[index]->turn.notify_one();
    tasks_[me]->turn.wait(lock, [this, me] { return running_ == me; });
}

std::uint32_t SimKernel::spawn(std::function<void()> body) {
    // The place of a thread that was joined is used again.
    std::uint32_t index = 1;
    while (index < tasks_.size() && tasks_[index]->thread.joinable()) ++index;
    WHORL_ASSERT(index < 64);
    if (index == tasks_.size()) tasks_.push_back(nullptr);
    tasks_[index] = std::make_unique<Task>();
    Task& task = *tasks_[index];
    task.done = &always_;
    task.deadline = now_;
    task.thread = std::thread([this, &task, index, run = std::move(body)]() mutable {
        task_body(task, index, std::move(run));
    });
    return index;
}

// Before its first turn a thread may touch nothing but its own task: others may be made meanwhile.
void SimKernel::task_body(Task& self, std::uint32_t index, std::function<void()> body) {
    {
        std::unique_lock<std::mutex> lock(baton_);
        self.turn.wait(lock, [this, index] { return running_ == index; });
    }
    self.done = nullptr;
    body();
    body = nullptr;  // what it holds ends while the turn is still ours
    self.finished = true;
    // The turn goes to somebody who can go on; join() at the latest.
    std::uint32_t next = choose_runnable();
    while (next == no_task) {
        Instant event = next_event();
        for (const auto& task : tasks_) {
            if (task->done != nullptr) event = std::min(event, task->deadline);
        }
        if (event == instant_never) stuck();
        now_ = std::max(now_, event);
        while (run_due()) {
        }
        next = choose_runnable();
    }
    const std::unique_lock<std::mutex> lock(baton_);
    running_ = next;
    tasks_[next]->turn.notify_one();
}

void SimKernel::join(std::uint32_t thread) {
    WHORL_ASSERT(thread != 0 && thread < tasks_.size());
    Task& task = *tasks_[thread];
    const std::function<bool()> done = [&task] { return task.finished; };
    static_cast<void>(wait(done, instant_never));
    if (task.thread.joinable()) task.thread.join();
}

void SimKernel::stuck() {
    for (const std::string& line : trace_lines()) std::fprintf(stderr, "%s\n", line.c_str());
    std::fprintf(stderr,
                 "whorl: the simulated world stands still: every thread waits for what can never "
                 "happen (seed %llu, at %lld ns)\n",
                 static_cast<unsigned long long>(options_.seed),
                 static_cast<long long>(now_.time_since_epoch().count()));
    std::abort();
}

// --- choices and the trace

void SimKernel::script_fault(OpKind kind, int error, std::uint32_t times) {
    scripted_.push_back({kind, error, times});
}

int SimKernel::take_scripted_fault(OpKind kind, OpKind or_kind) noexcept {
    for (ScriptedFault& fault : scripted_) {
        if ((fault.kind != kind && fault.kind != or_kind) || fault.times == 0) continue;
        --fault.times;
        ++counters.faults;
        return fault.error;
    }
    return 0;
}

bool SimKernel::faulty(double chance) {
    if (!choices.happens(chance)) return false;
    ++counters.faults;
    return true;
}

}  // namespace whorl::detail
