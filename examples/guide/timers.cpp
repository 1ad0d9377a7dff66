// SPDX-License-Identifier: MIT
// docs/guide/timers.md: one-shot, moved and periodic timers. It runs in a simulated world, where an hour
// takes no time; in a program the loop comes from Loop::create().
#include "expect.hpp"

#include <whorl/testing.hpp>
#include <whorl/whorl.hpp>

using namespace std::chrono_literals;
using whorl::testing::World;

namespace {

void one_shot(whorl::Loop& loop) {
    // [one_shot]
    const whorl::Result<whorl::Timer> timer =
        loop.after(100ms, [](whorl::Loop&, whorl::Expired) { expect(false, "cancelled"); });
    if (!timer) return expect(timer.error());    // slots_exhausted, loop_closed
    const bool was_armed = loop.cancel(*timer);  // true: the handler will never run
    const bool again = loop.cancel(*timer);      // false: there is no such timer
    // [end]
    expect(was_armed && !again, "cancelled once");
}

// [idle]
// A connection's idle timeout: one timer, pushed away whenever something happens.
class Idle {
  public:
    void start(whorl::Loop& loop) {
        const auto timer =
            loop.after(30s, [this](whorl::Loop&, whorl::Expired) { expired = true; });
        if (timer) timer_ = *timer;
    }
    void heard(whorl::Loop& loop) { (void)loop.move(timer_, 30s); }  // stale once it has fired
    bool expired = false;

  private:
    whorl::Timer timer_;
};
// [end]

// [periodic]
// What happens to ticks that the loop was too busy for: skip counts them, burst fires them one after the
// other, delay begins a new interval.
struct Report {
    std::uint64_t ticks = 0, missed = 0;
    void operator()(whorl::Loop&, whorl::Expired expired) {
        ++ticks;
        missed += expired.missed;
    }
};
// [end]

}  // namespace

int main() {
    World world;
    whorl::Loop& loop = world.add_loop();
    one_shot(loop);

    Idle idle;
    idle.start(loop);
    world.advance(29s);
    idle.heard(loop);
    world.advance(29s);
    expect(!idle.expired, "moved");
    world.advance(2s);
    expect(idle.expired, "fired");

    Report report;
    // [every]
    const auto timer = loop.every(10ms, whorl::Missed::skip, &report);
    // [end]
    expect(timer.error());
    world.advance(105ms);
    expect(report.ticks == 10 && report.missed == 0, "no drift");

    bool fired = false;
    // [absolute]
    const whorl::Instant midnight = world.now() + 6h;  // in a program: of whorl::clock_now()
    (void)loop.at(midnight, [&fired](whorl::Loop&, whorl::Expired) { fired = true; });
    // [end]
    loop.cancel(*timer);
    expect(world.run_until([&] { return fired; }, 7h), "at its time");
}
