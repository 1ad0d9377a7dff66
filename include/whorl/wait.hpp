// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/export.hpp>
#include <whorl/loop.hpp>

// For modules of whorl: an operation that waits for something in the program itself (a message, an event,
// a permit). It never reaches a backend. Everything else is as with any operation: its slot and handler,
// deadlines, cancel, drain, the end of the loop.
//
// An operation type of kind OpKind::wait stores a WaitPayload and calls wait_arm() in its store(). Then it
// is `armed`, until whoever it waits for ends it with LoopCore::complete_locally(), or delivers to it in
// place, or until it is cancelled.

namespace whorl::detail {

// What is to be done with a waiting operation that ends otherwise than by what it waits for.
struct WaitKind {
    // It was cancelled or its deadline has passed: takes it out of whatever list it is in.
    void (*leave)(LoopCore& core, OpRecord& record) noexcept;
    // It ends without its handler: destroys what the payload owns.
    void (*drop)(OpRecord& record) noexcept;
    // Instead of `leave`, where it cannot end at once: sees to it that whoever it waits for ends it soon.
    void (*ask)(LoopCore& core, OpRecord& record) noexcept = nullptr;
};

struct WaitPayload {
    const WaitKind* kind;
    void* object;  // what it waits for
    void* extra;   // the kind's own
    std::uint64_t number;
};

inline void wait_arm(OpRecord& record, const WaitPayload& payload) noexcept {
    record.store(WaitPayload(payload));
    record.state = OpState::armed;
}

// A message that a waiting operation holds: the one that it brought, or the one that ended its waiting. It
// is dropped when the operation ends without its handler.
struct Carried {
    Carried* next = nullptr;  // whoever has it
    void (*drop)(Carried* message) noexcept = nullptr;
};

// Operations of one loop that wait for the same thing, first come, first served. What they wait for has a
// queue as a member. Lifetime: its end ends them with `cancelled`. Thread: the loop's.
class WHORL_EXPORT WaitQueue {
  public:
    WaitQueue() noexcept = default;
    // `left(owner)` is called when one has left the queue because it was cancelled.
    WaitQueue(void (*left)(void* owner) noexcept, void* owner) noexcept
        : left_(left), owner_(owner) {}
    WaitQueue(const WaitQueue&) = delete;
    WaitQueue& operator=(const WaitQueue&) = delete;
    ~WaitQueue() { end_all(Error::cancelled); }

    // Arms the record as the last of the queue. Limits: one loop for all (asserted) until it is empty.
    void join(Loop& loop, OpRecord& record, std::uint64_t number = 0,
              Carried* brought = nullptr) noexcept;
    // Arms the record and ends it at once; its handler runs in the next dispatch.
    static void pass(Loop& loop, OpRecord& record, Error error = {},
                     Carried* message = nullptr) noexcept;

    bool empty() const noexcept { return head_ == 0; }
    // What the first one gave as its number. Limits: not empty (asserted).
    std::uint64_t front_number() noexcept;
    // Takes what the first one brought. Limits: not empty (asserted).
    Carried* take_front() noexcept;
    // Ends the first one, and hands it the message, if there is one. Limits: not empty (asserted).
    void end_front(Error error, Carried* message = nullptr) noexcept;
    void end_all(Error error) noexcept;
    // What an operation holds that has ended; for its finish(). Null: nothing.
    static Carried* take(OpRecord& record) noexcept;

  private:
    static void leave(LoopCore& core, OpRecord& record) noexcept;
    static void drop(OpRecord& record) noexcept;
    static const WaitKind kind;
    void remove(OpRecord& record) noexcept;

    LoopCore* core_ = nullptr;
    std::uint32_t head_ = 0;
    std::uint32_t tail_ = 0;
    void (*left_)(void* owner) noexcept = nullptr;
    void* owner_ = nullptr;
};

}  // namespace whorl::detail
