// SPDX-License-Identifier: MIT
// Goal: a loop that is made on one thread and runs or ends on another leaves nothing with the first.
// The ring was registered with the thread that made it, which then kept it until its own end, and had
// no room for another after sixteen.
// Method: more loops than a thread can register leave it; the next one has all features.
#include "conformance/fixture.hpp"

#include <thread>

namespace whorl::conformance {
namespace {

class RingIndex : public LoopTest {
  protected:
    static constexpr int loops = 40;

    // All loops are made here before the first one goes.
    template <class There>
    void send_away(There there) {
        std::vector<Loop> made;
        for (int count = 0; count < loops; ++count) made.push_back(make_loop());
        std::thread([&] {
            for (Loop& loop : made) there(loop);
            made.clear();
        }).join();
        const Loop next = make_loop();  // compares its features with those of a first loop
        EXPECT_EQ(next.backend_report().features, features_expected(GetParam().options));
    }
};

TEST_P(RingIndex, is_free_when_loops_run_elsewhere) {
    WHORL_SKIP_IF_REFUSED();
    send_away([](Loop& loop) {
        int calls = 0;
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
        ASSERT_FALSE(loop.run());
        EXPECT_EQ(calls, 1);
    });
}

TEST_P(RingIndex, is_free_when_loops_end_elsewhere_without_having_run) {
    WHORL_SKIP_IF_REFUSED();
    send_away([](Loop&) {});
}

TEST_P(RingIndex, is_used_by_as_many_loops_as_have_room_and_not_missed_by_others) {
    WHORL_SKIP_IF_REFUSED();
    std::vector<Loop> made;
    for (int count = 0; count < loops; ++count) made.push_back(make_loop());
    for (int round = 0; round < 2; ++round) {
        for (Loop& loop : made) {
            int calls = 0;
            ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
            ASSERT_FALSE(loop.run());
            EXPECT_EQ(calls, 1);
        }
    }
    std::uint32_t with = 0;
    for (const Loop& loop : made) {
        with +=
            loop.backend_report().features >> static_cast<unsigned>(Feature::registered_ring) & 1;
    }
    const bool registers =
        (features_expected(GetParam().options) & feature_bit(Feature::registered_ring)) != 0;
    EXPECT_EQ(with > 0, registers);
    made.clear();
    make_loop();
}

WHORL_CONFORMANCE_REAL(RingIndex);

}  // namespace
}  // namespace whorl::conformance
