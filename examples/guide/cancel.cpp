// SPDX-License-Identifier: MIT
// docs/guide/cancel.md: deadlines, cancellation, closing, draining.
#include "expect.hpp"

#include <whorl/cancel_source.hpp>
#include <whorl/whorl.hpp>

#include <string>
#include <utility>

using namespace std::chrono_literals;

namespace {

struct Pair {
    whorl::Listener listener;
    whorl::Socket ours, theirs;
};

Pair connected(whorl::Loop& loop) {
    Pair pair;
    whorl::Result<whorl::Listener> listener = whorl::listen(loop, whorl::Address::loopback_v4(0));
    if (!listener) expect(listener.error());
    pair.listener = *listener;
    (void)loop.submit(whorl::Accept{*listener}, [&pair](whorl::Loop&, whorl::Accept::Done done) {
        pair.theirs = done.socket;
    });
    (void)loop.submit(
        whorl::Connect{*whorl::local_address(loop, *listener)},
        [&pair](whorl::Loop&, whorl::Connect::Done done) { pair.ours = done.socket; });
    expect(loop.run());
    expect(pair.ours && pair.theirs, "connected");
    return pair;
}

void deadline(whorl::Loop& loop, whorl::Socket socket) {
    bool seen = false;
    // [within]
    (void)loop.submit(whorl::Recv{socket, loop.buffer(100)}, whorl::within(5ms),
                      [&seen](whorl::Loop&, whorl::Recv::Done done) {
                          seen =
                              done.error == whorl::Error::timed_out && done.buffer;  // it came home
                      });
    // [end]
    expect(loop.run());
    expect(seen, "timed out, with its buffer");
}

void cancelled(whorl::Loop& loop, whorl::Socket socket) {
    int ends = 0;
    // [cancel]
    const auto receiving = loop.submit(
        whorl::Recv{socket, loop.buffer(100)}, [&ends](whorl::Loop&, whorl::Recv::Done done) {
            ++ends;  // once, whatever happens
            expect(done.error == whorl::Error::cancelled || !done.error, "or what it had reached");
        });
    if (!receiving) return expect(receiving.error());
    switch (loop.cancel(*receiving)) {
        case whorl::Cancelled::cancelling:          // it will end
        case whorl::Cancelled::already_completing:  // it has ended, its handler is about to run
        case whorl::Cancelled::not_found:           // it ended long ago
            break;
    }
    // [end]
    expect(loop.run());
    expect(ends == 1, "one end");
}

void closing(whorl::Loop& loop, whorl::Socket socket) {
    std::string order;
    // [close]
    (void)loop.submit(whorl::Recv{socket, loop.buffer(100)},
                      [&order](whorl::Loop&, whorl::Recv::Done) { order += "recv "; });
    expect(loop.close(socket, [&order](whorl::Loop&) { order += "closed"; }));
    expect(loop.close(socket) == whorl::Error::stale_handle, "closing twice is harmless");
    // [end]
    expect(loop.run());
    expect(order == "recv closed", "operations end first");
}

void source(whorl::Loop& loop, whorl::Socket socket) {
    int ended = 0;
    // [source]
    whorl::CancelSource request(loop);
    expect(request.attach(loop.submit(whorl::Recv{socket, loop.buffer(100)},
                                      [&ended](whorl::Loop&, whorl::Recv::Done) { ++ended; })));
    expect(request.attach(loop.after(1h, [](whorl::Loop&, whorl::Expired) {})));
    request.cancel();  // both, and whatever is attached later
    // [end]
    expect(loop.run());
    expect(ended == 1, "the operation has its one end, the timer none");
}

void draining(whorl::Loop& loop, whorl::Listener listener) {
    bool told = false;
    (void)loop.submit(whorl::Accept{listener}, [&told](whorl::Loop&, whorl::Accept::Done done) {
        told = done.error == whorl::Error::cancelled;
    });
    // [drain]
    whorl::Error error = loop.drain(5s);  // everything ends, with its handler called
    // [end]
    expect(error);
    expect(told, "heard of it");
}

}  // namespace

int main() {
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) expect(loop.error());
    const Pair pair = connected(*loop);
    deadline(*loop, pair.ours);
    cancelled(*loop, pair.ours);
    source(*loop, pair.ours);
    closing(*loop, pair.ours);
    draining(*loop, pair.listener);
}
