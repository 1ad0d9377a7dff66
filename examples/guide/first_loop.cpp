// SPDX-License-Identifier: MIT
// docs/guide/first-loop.md: a loop, what it runs, and how it ends.
#include "expect.hpp"

#include <whorl/whorl.hpp>

#include <cstdio>

using namespace std::chrono_literals;

namespace {

// [create]
whorl::Loop create() {
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create({}, report);
    if (!loop) {
        std::fprintf(stderr, "no loop: %s (%s)\n", loop.error().text(), report.text);
        std::exit(1);
    }
    return std::move(*loop);
}
// [end]

void runs_until_idle() {
    whorl::Loop loop = create();
    // [run]
    int ticks = 0;
    const auto timer = loop.every(1ms, [&ticks](whorl::Loop& now, whorl::Expired expired) {
        if (++ticks == 3) now.cancel(expired.timer);
    });
    if (!timer) return expect(timer.error());
    expect(loop.post([](whorl::Loop&) { std::puts("first of all"); }));

    whorl::Error error = loop.run();  // until nothing is left that could call a handler
    // [end]
    expect(error);
    expect(ticks == 3, "three ticks");
}

void answers() {
    whorl::Loop loop = create();
    // [submit]
    whorl::Result<whorl::Listener> listener = whorl::listen(loop, whorl::Address::loopback_v4(0));
    if (!listener) return expect(listener.error());
    whorl::Result<whorl::Address> address = whorl::local_address(loop, *listener);
    if (!address) return expect(address.error());

    (void)loop.submit(whorl::Accept{*listener}, [](whorl::Loop& now, whorl::Accept::Done done) {
        if (done.error) return std::puts(done.error.text()), void();
        (void)now.submit(
            whorl::SendAll{done.socket, whorl::Buffer::of_static(whorl::Bytes("hello\n"))},
            [socket = done.socket](whorl::Loop& later, whorl::SendAll::Done) {
                (void)later.close(socket);
            });
    });
    // [end]

    bool greeted = false;
    // [client]
    (void)loop.submit(
        whorl::Connect{*address}, [&greeted](whorl::Loop& now, whorl::Connect::Done done) {
            if (done.error) return;
            (void)now.submit(
                whorl::Recv{done.socket, now.buffer(64)},
                [&greeted, socket = done.socket](whorl::Loop& later, whorl::Recv::Done received) {
                    greeted = received.buffer.text() == "hello\n";
                    (void)later.close(socket);
                });
        });
    // [end]
    expect(loop.run());
    expect(greeted, "the client was greeted");
}

void stops() {
    whorl::Loop loop = create();
    // [stop]
    (void)loop.after(1h, [](whorl::Loop&, whorl::Expired) { std::puts("not today"); });
    (void)loop.after(1ms, [](whorl::Loop& now, whorl::Expired) { now.stop(); });
    expect(loop.run());      // ends at stop(); the other timer is still armed
    expect(loop.drain(1s));  // cancels what is left, and calls the handlers that must hear of it
    // [end]
    expect(loop.statistics().operations == 0, "nothing is left");
}

}  // namespace

int main() {
    runs_until_idle();
    answers();
    stops();
}
