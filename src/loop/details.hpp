// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include "backend/driver.hpp"

#include <whorl/loop_details.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/slow_handler.hpp>

#include <cstdint>

// What a page says of single handlers and handles (loop_details.hpp).

namespace whorl::detail {

struct HandlerRun;
struct LoopCore;

// Slow handlers are added when they happen. Handles are looked at in steps, each of a bounded number of
// slots, so that a loop with a hundred thousand connections does not stop for all of them at once; when
// all have been seen, those that are still there and were the largest become the rows.
// Thread: the loop's.
class Details {
  public:
    explicit Details(const LoopOptions& options) noexcept;
    Details(const Details&) = delete;
    Details& operator=(const Details&) = delete;

    // A handler that was slow. `ended_ns` is on the loop's clock. Allocates, to find the handler's name.
    void slow(const HandlerRun& run, std::uint64_t ran_ns, std::uint64_t ended_ns,
              const SlowHandlerCounts& counts) noexcept;
    // The next step, when it is time for one; `all`: a whole look, now. True: the rows are new.
    bool look(LoopCore& core, std::uint64_t now_ns, bool all) noexcept;
    const LoopDetails& figures() const noexcept { return figures_; }

  private:
    // Of a row of slow handlers: its place, by addresses that are the same for the same.
    struct Place {
        const char* file;
        const void* code;
    };
    struct Candidate {
        std::uint64_t key;  // the larger, the sooner; 0: not at all
        std::uint64_t recent;
        std::uint32_t index;
        std::uint32_t generation;
    };
    std::uint32_t row_of(const HandlerRun& run) noexcept;
    void look_begins(std::uint64_t now_ns) noexcept;
    void look_ends(LoopCore& core, std::uint64_t now_ns) noexcept;
    void consider(LoopCore& core, const Descriptor& descriptor) noexcept;
    void offer(HandleOrder order, const Candidate& candidate) noexcept;

    LoopDetails figures_{};

    Place places_[LoopDetails::slow_max] = {};
    std::uint64_t named_ns_ = 0;  // when a handler's name was looked for last

    // The present look.
    Candidate best_[handle_orders][LoopDetails::handles_max] = {};
    std::uint32_t counts_[handle_orders] = {};
    std::uint32_t next_ = 0;  // the slot it goes on with; 0: none is under way
    std::uint64_t seen_ = 0;  // handles
    std::uint64_t begun_ns_ = 0;
    std::uint64_t stepped_ns_ = 0;
};

}  // namespace whorl::detail
