// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/op_record.hpp>

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

}  // namespace whorl::detail
