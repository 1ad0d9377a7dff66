// SPDX-License-Identifier: MIT
// Timers: one-shot, periodic with each policy for missed ticks, cancelled, moved; and a deadline on
// an operation. It prints what fires and when, and ends by itself when no timer is left.
//
//   timers          WHORL_BACKEND=libev timers
#include <whorl/whorl.hpp>

#include <chrono>
#include <cstdio>

using namespace std::chrono_literals;

namespace {

struct Clock {
    whorl::Instant start = whorl::clock_now();
    long long ms() const { return (whorl::clock_now() - start) / 1ms; }
    long long ms(whorl::Instant instant) const { return (instant - start) / 1ms; }
};

// Ticks every 20 ms and keeps the loop busy for 70 ms at its second tick.
class Ticker {
  public:
    Ticker(const Clock& clock, const char* policy) : clock_(clock), policy_(policy) {}

    void operator()(whorl::Loop& loop, whorl::Expired expired) {
        ++ticks_;
        std::printf("%4lld ms  %s: tick %d, due at %lld ms, %llu missed\n", clock_.ms(), policy_,
                    ticks_, clock_.ms(expired.deadline),
                    static_cast<unsigned long long>(expired.missed));
        if (ticks_ == 2) {
            const whorl::Instant end = whorl::clock_now() + 70ms;
            while (whorl::clock_now() < end) {
            }
        }
        // From inside its own handler, too: it will not run again.
        if (ticks_ == 6) loop.cancel(expired.timer);
    }

  private:
    const Clock& clock_;
    const char* policy_;
    int ticks_ = 0;
};

int fail(const char* what, whorl::Error error) {
    std::fprintf(stderr, "timers: %s: %s\n", what, error.text());
    return 1;
}

}  // namespace

int main() {
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create({}, report);
    if (!made) return fail(report.text, made.error());
    whorl::Loop& loop = *made;
    std::printf("backend %s\n", loop.backend_report().text);
    const Clock clock;

    // Never early, and counted from the call, however long the present handler goes on.
    (void)loop.after(30ms, [&clock](whorl::Loop&, whorl::Expired expired) {
        std::printf("%4lld ms  one-shot, due at %lld ms\n", clock.ms(), clock.ms(expired.deadline));
    });

    const whorl::Result<whorl::Timer> cancelled =
        loop.after(10ms, [](whorl::Loop&, whorl::Expired) { std::puts("must not fire"); });
    if (!cancelled) return fail("after", cancelled.error());
    std::printf("%4lld ms  cancelled: %s\n", clock.ms(), loop.cancel(*cancelled) ? "yes" : "no");
    std::printf("%4lld ms  cancelled again: %s\n", clock.ms(),
                loop.cancel(*cancelled) ? "yes" : "no");

    // The timeout of a connection in one line: push it away whenever something happens.
    const whorl::Result<whorl::Timer> moved =
        loop.after(40ms, [&clock](whorl::Loop&, whorl::Expired) {
            std::printf("%4lld ms  moved twice, fired once\n", clock.ms());
        });
    if (!moved) return fail("after", moved.error());
    for (const whorl::Nanoseconds delay : {45ms, 60ms}) {
        if (whorl::Error error = loop.move(*moved, delay)) return fail("move", error);
    }

    // One after the other, since each of them keeps the loop busy for a while.
    Ticker skip(clock, "skip"), burst(clock, "burst"), delay(clock, "delay");
    (void)loop.after(100ms, [&skip](whorl::Loop& now, whorl::Expired) {
        (void)now.every(20ms, whorl::Missed::skip, &skip);
    });
    (void)loop.after(400ms, [&burst](whorl::Loop& now, whorl::Expired) {
        (void)now.every(20ms, whorl::Missed::burst, &burst);
    });
    (void)loop.after(700ms, [&delay](whorl::Loop& now, whorl::Expired) {
        (void)now.every(20ms, whorl::Missed::delay, &delay);
    });

    // A deadline stands on any operation. Nobody connects here, so this accept ends with timed_out.
    const whorl::Result<whorl::Listener> listener =
        whorl::listen(loop, whorl::Address::loopback_v4(0));
    if (!listener) return fail("listen", listener.error());
    (void)loop.submit(whorl::Accept{*listener}, whorl::within(80ms),
                      [&clock](whorl::Loop&, whorl::Accept::Done done) {
                          std::printf("%4lld ms  accept: %s\n", clock.ms(), done.error.name());
                      });

    if (whorl::Error error = loop.run()) return fail("run", error);
    std::printf("%4lld ms  nothing left to wait for\n", clock.ms());
    return 0;
}
