// SPDX-License-Identifier: MIT
// docs/guide/handlers.md: the forms of a handler, and who owns the object behind it.
#include "expect.hpp"

#include <whorl/cancel_source.hpp>
#include <whorl/whorl.hpp>

#include <array>
#include <memory>
#include <string>
#include <utility>

using namespace std::chrono_literals;

namespace {

// [object]
// An object with one overload for each event: `this` is the handler.
class Lines {
  public:
    explicit Lines(whorl::Socket socket) : socket_(socket) {}

    void start(whorl::Loop& loop) {
        if (!loop.submit(whorl::RecvStream{socket_}, this)) finish(loop);
    }
    void operator()(whorl::Loop& loop, whorl::RecvStream::Done done) {
        if (!done.more) return finish(loop);
        if (!loop.submit(whorl::SendAll{socket_, std::move(done.buffer)}, this)) finish(loop);
    }
    void operator()(whorl::Loop& loop, whorl::SendAll::Done done) {
        if (done.error) finish(loop);
    }

  private:
    // close() ends every operation of the socket first, and each of them calls its handler: the close
    // handler is the last that needs this object. A second close() is refused as stale.
    void finish(whorl::Loop& loop) {
        (void)loop.close(socket_, [this](whorl::Loop&) { delete this; });
    }

    whorl::Socket socket_;
};
// [end]

// [bind]
class Client {
  public:
    void start(whorl::Loop& loop, const whorl::Address& address) {
        (void)loop.submit(whorl::Connect{address}, whorl::bind<&Client::connected>(this));
    }
    void connected(whorl::Loop& loop, whorl::Connect::Done done) {
        expect(done.error);
        socket_ = done.socket;
        (void)loop.submit(whorl::SendAll{socket_, whorl::Buffer::of_static(whorl::Bytes("hello"))},
                          [](whorl::Loop&, whorl::SendAll::Done) {});
        (void)loop.submit(whorl::Recv{socket_, loop.buffer(64)},
                          whorl::bind<&Client::answered>(this));
    }
    void answered(whorl::Loop& loop, whorl::Recv::Done done) {
        answer = done.buffer.text();
        (void)loop.close(socket_);
    }
    std::string answer;

  private:
    whorl::Socket socket_;
};
// [end]

void large(whorl::Loop& loop) {
    // [boxed]
    std::array<char, 200> state = {};
    auto handler = [state](whorl::Loop&, whorl::Expired) { expect(state[0] == 0, "unchanged"); };
    (void)loop.after(1ms, whorl::boxed(std::move(handler)));  // without boxed(): does not compile
    // [end]
}

// [shared]
// Where the program has shared pointers already, a handler may hold one: it is released when the handler
// has run for the last time, or when its loop ends.
struct Session : std::enable_shared_from_this<Session> {
    int beats = 0;
    void start(whorl::Loop& loop) {
        (void)loop.every(1ms,
                         [self = shared_from_this()](whorl::Loop& now, whorl::Expired expired) {
                             if (++self->beats == 2) now.cancel(expired.timer);
                         });
    }
};
// [end]

// [source]
// An object that may go before what it has started: a CancelSource ends timers and watches at once, so
// that no handler of them runs afterwards.
class Watchdog {
  public:
    explicit Watchdog(whorl::Loop& loop) : started_(loop) {
        expect(
            started_.attach(loop.every(1h, [this](whorl::Loop&, whorl::Expired) { ++barked_; })));
    }
    ~Watchdog() { started_.cancel(); }

  private:
    whorl::CancelSource started_;
    int barked_ = 0;
};
// [end]

// [tracked]
// Destroyed while a handler still points to it, a Tracked object ends the program with a message, in every
// build.
class Poller : public whorl::Tracked {
  public:
    void start(whorl::Loop& loop) {
        const auto timer = loop.every(1ms, this);
        if (timer) timer_ = *timer;
    }
    void operator()(whorl::Loop& loop, whorl::Expired) {
        if (++polls == 3) loop.cancel(timer_);
    }
    int polls = 0;

  private:
    whorl::Timer timer_;
};
// [end]

}  // namespace

int main() {
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) expect(loop.error());
    whorl::Result<whorl::Listener> listener = whorl::listen(*loop, whorl::Address::loopback_v4(0));
    if (!listener) expect(listener.error());
    (void)loop->submit(whorl::Accept{*listener}, [](whorl::Loop& now, whorl::Accept::Done done) {
        expect(done.error);
        (new Lines(done.socket))->start(now);
    });
    Client client;
    client.start(*loop, *whorl::local_address(*loop, *listener));
    large(*loop);
    std::weak_ptr<Session> session;
    {
        const auto made = std::make_shared<Session>();
        made->start(*loop);
        session = made;
    }
    expect(!session.expired(), "the timer's handler owns it");
    { const Watchdog watchdog(*loop); }
    Poller poller;
    poller.start(*loop);
    expect(poller.handlers() == 1, "it must live");
    expect(loop->run());
    expect(poller.polls == 3 && poller.handlers() == 0, "it may go");
    expect(client.answer == "hello", "answered");
    expect(session.expired(), "released with the timer");
}
