// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/allocated.hpp>

#include "backend/driver.hpp"

#include <cstdint>

// Threads for what blocks: the callables of Work, and files on a backend that has no better way.
//
// A driver hands a record over with submit() and hears by an eventfd that some have ended; take()
// gives them back one by one. While a record is here, its memory is the pool's (lend.hpp), and its
// `link` names its job; everything else of it stays the loop's.
//
// There is one pool for each loop, made with its first record: no state is shared between loops, a
// slow disk under one does not hold up another, and who destroys a loop knows what is waited for.

namespace whorl::detail {

class WorkPool : public Allocated<WorkPool> {
  public:
    struct Finished {
        OpRecord* record;
        std::int32_t result;
    };

    WorkPool() = default;
    WorkPool(const WorkPool&) = delete;
    WorkPool& operator=(const WorkPool&) = delete;
    // Nothing may be queued or running; waits for the threads to end.
    virtual ~WorkPool() = default;

    // Has `record` performed; `fd` is the number of its descriptor, or AT_FDCWD. Thread: the loop's.
    // Errors: ENOMEM, EAGAIN (there is no thread, and none can be made): the record was not taken.
    virtual Error submit(OpRecord& record, int fd) noexcept = 0;
    // True: it had not begun, and the pool does not have it any more. Thread: the loop's.
    virtual bool cancel(OpRecord& record) noexcept = 0;
    // The next record that has ended. False: there is none, and the eventfd will be written to when
    // there is one. Thread: the loop's.
    virtual bool take(Finished& finished) noexcept = 0;
    // Readable (or written to, for who does not read it) after a record has ended.
    virtual int event_fd() const noexcept = 0;
};

// Threads, or events of the simulated world that the loop lives in. Errors: ENOMEM, EMFILE.
Result<WorkPool*> make_work_pool(const DriverContext& context) noexcept;
Result<WorkPool*> make_sim_work_pool(const DriverContext& context) noexcept;

}  // namespace whorl::detail
