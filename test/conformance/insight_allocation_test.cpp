// SPDX-License-Identifier: MIT
// Goal: looking into a loop allocates nothing for each operation, post or timer. Method: every way to
// the heap is counted; a first round warms up.
#include "conformance/counted_heap.hpp"
#include "conformance/support.hpp"

#include <cstdlib>

namespace whorl::conformance {
namespace {

class InsightAllocation : public LoopTest {};
WHORL_CONFORMANCE_REAL(InsightAllocation);  // a world allocates as it likes

TEST_P(InsightAllocation, none_in_steady_state) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        options.insight = true;
        options.recorder_events = 256;
    });
    std::uint64_t calls = 0;
    // Nothing in here is GoogleTest's: its assertions allocate.
    const auto work = [&] {
        for (int round = 0; round < 200; ++round) {
            for (int index = 0; index < 8; ++index) {
                if (!loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; })) std::abort();
                if (loop.post([&](Loop&) { ++calls; })) std::abort();
                if (!loop.after(0ns, [&](Loop&, Expired) { ++calls; })) std::abort();
            }
            if (loop.run()) std::abort();
        }
    };
    work();
    // libev takes memory for its timers once: at the first wait that has a bound, which a machine that is held
    // up may not have come to yet.
    if (!loop.after(1ms, [](Loop&, Expired) {})) std::abort();
    if (loop.run()) std::abort();
    const std::uint64_t before = allocations;
    work();
    EXPECT_EQ(allocations - before, 0u);
    EXPECT_EQ(calls, 2u * 200 * 24);
}

}  // namespace
}  // namespace whorl::conformance
