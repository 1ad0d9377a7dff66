// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"
#include "loop/meter.hpp"

#include <whorl/assert.hpp>
#include <whorl/hooks.hpp>

// The end: everything is cancelled by its own handle (cancelling by descriptor or "any" is quadratic
// in the kernel: 9,000 pending receives took 430 to 700 ms against 13 ms), and every record is reaped
// before anything is freed. Closing the ring alone does not stop the kernel from writing into buffers.

namespace whorl::detail {

namespace {
// Refusals of the driver that a destruction bears before it gives up, and leaks.
constexpr int destroy_refusals_max = 3;
}  // namespace

void LoopCore::end_everything(bool call_handlers) noexcept {
    if (!call_handlers) descriptor_shut_all();
    operations.for_each_live([this, call_handlers](OpRecord& record) {
        ++end_steps;
        const std::uint64_t handle = handle_of(record);
        switch (record.kind) {
            case OpKind::timer:
                static_cast<void>(timer_cancel(handle));
                break;
            case OpKind::watch:
                static_cast<void>(watch_cancel(handle, false));
                break;
            case OpKind::hook:
                if (!call_handlers) static_cast<void>(hook_cancel(record));
                break;
            case OpKind::deadline:
            case OpKind::close:
            case OpKind::chain:
                break;
            default:
                cancel_record(record, op_cancelled);
                break;
        }
    });
}

Error LoopCore::drain(Nanoseconds bound) {
    if (in_turn) panic("run, poll, process or drain called from inside a handler of the same loop");
    check_thread();
    struct Draining {  // a handler may throw: the loop takes submissions again then
        LoopCore& core;
        explicit Draining(LoopCore& owner) noexcept : core(owner) { core.draining = true; }
        ~Draining() { core.draining = false; }
    };
    const Draining guard(*this);
    const Instant deadline = add_saturating(system.now(), bound);
    for (;;) {
        if (streams != nullptr) streams->drain();
        // In later rounds: what the batch still carried, such as accepted connections.
        end_everything(true);
        stopping = false;  // a handler's stop() ends a run(), not this
        const std::uint32_t left = operations.live() - hooks_before_count - hooks_after_count;
        if (left == 0 && !work_is_ready()) {
            descriptor_shut_all();  // those that no handler has closed
            return {};
        }
        const Instant time = system.now();
        if (time >= deadline) return Error::drain_incomplete;
        if (Error error = turn(deadline - time)) return error;
    }
}

namespace {
// Whether the kernel may write to, or read from, memory of ours on behalf of an operation it has.
bool lends_memory(OpKind kind) noexcept {
    switch (kind) {
        case OpKind::nop:
        case OpKind::accept:
        case OpKind::accept_stream:
        case OpKind::watch:
            return false;
        default:
            return true;
    }
}
}  // namespace

// Another thread than the loop's destroys it. It cannot reap what the kernel has, so that must be
// nothing that memory was lent to; the rest ends with the ring.
void LoopCore::destroy_elsewhere() noexcept {
    operations.for_each_live([this](const OpRecord& record) {
        if (record.state == OpState::kernel && lends_memory(record.kind)) wrong_thread();
    });
    bound = false;
    pool->set_thread();
    operations.for_each_live([this](OpRecord& record) {
        if (record.state != OpState::kernel) return;
        // Nobody waits for its end, but the driver must not name it any more.
        driver->cancel(record);
        record.state = OpState::ended;
        free_record(record);
    });
}

bool LoopCore::destroy() noexcept {
    // The parent's loop in a child of fork(2): kernel objects and ring memory are not this process's.
    if (forks != forks_seen) return false;
    if (in_turn) panic("a loop was destroyed from inside one of its own handlers");
    if (meter != nullptr) meter->publish(*this, LoopState::ended);
    remote_close();
    guest = false;  // its host waits no more
    dropping = true;
    draining = true;
    stopping = false;
    if (driver == nullptr) return true;
    if (bound && thread != thread_token()) destroy_elsewhere();
    if (statistics.turns == 0 && operations.live() != 0) {
        log_message(LogLevel::warning,
                    "a loop was destroyed that has never run, with %u operations that wait for it: "
                    "call Loop::run(), or process() in a foreign loop",
                    operations.live());
    }
    end_everything(false);
    // What comes to light later, such as connections in the batch, is asked to end before a wait that may
    // last, and not after each of many short turns.
    bool all_asked = true;
    const Instant deadline = add_saturating(system.now(), options.shutdown_bound);
    int refusals = 0;
    while (operations.live() != 0 || posts.count() != 0 || !batch.empty()) {
        if (bound && batch.empty()) {
            const Nanoseconds left = deadline - system.now();
            if (left <= Nanoseconds::zero()) break;
            batch.count = 0;
            batch.taken = 0;
            const bool sleeps = all_asked && !work_is_ready();
            const Nanoseconds wait = sleeps ? left : Nanoseconds::zero();
            if (driver->wait(submissions, wait, batch) && ++refusals == destroy_refusals_max) break;
        }
        const std::uint32_t before = operations.live() + posts.count();
        dispatch();
        const bool moved = operations.live() + posts.count() != before;
        if (!bound && !moved && all_asked) break;
        if (!moved && !all_asked) end_everything(false);
        all_asked = !moved;
    }
    if (operations.live() == 0) return true;
    log_message(LogLevel::warning,
                "a loop was destroyed while the kernel still held %u operations after "
                "%lld ms; their buffers are leaked, not freed (raise LoopOptions::shutdown_bound)",
                operations.live(),
                static_cast<long long>(options.shutdown_bound.count() / 1'000'000));
    return false;
}

}  // namespace whorl::detail
