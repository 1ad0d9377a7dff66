// SPDX-License-Identifier: MIT
// Goal: a message that was sent is delivered once, in order, or destroyed once when the receiver goes; who
// waits for messages or for room is told, and woken once for each sleep; the end from either side is seen
// after everything before it; nothing shared is used after it is gone.
// Method: the real Loop, Remote, channel and ring, on the model's system (model_loop.cpp), and a plain thread
// at the other end; every order of their steps. The mutants in mutate.py must each be found.
#include "interleave/model_loop.hpp"

#include <whorl/channel.hpp>

#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

namespace {

using interleave::explorer;
using whorl::AwaitSpace;
using whorl::Error;
using whorl::Loop;
using whorl::Receive;

constexpr std::uint32_t none = ~0u;

struct Ledger {
    std::uint32_t accepted = 0;   // by send()
    std::uint32_t delivered = 0;  // to the receiver, in order
    std::uint32_t destroyed = 0;
    std::uint32_t ends = 0;
    std::uint32_t told = 0;  // of room
    Error error;
};
Ledger ledger;

// Memory of the sender's that it hands over.
struct Load {
    interleave::Plain<std::uint32_t> text;
};

class Message {
  public:
    explicit Message(std::uint32_t number) : load_(new (std::nothrow) Load) {
        load_->text.write(number);
    }
    Message(Message&& other) noexcept : load_(std::exchange(other.load_, nullptr)) {}
    Message& operator=(Message&& other) noexcept {
        std::swap(load_, other.load_);
        return *this;
    }
    ~Message() {
        if (load_ == nullptr) return;
        ++ledger.destroyed;
        delete load_;
    }
    std::uint32_t number() const { return load_->text.read(); }

  private:
    Load* load_;
};

using Channel = whorl::Channel<Message>;
using Sender = whorl::Sender<Message>;
using Receiver = whorl::Receiver<Message>;

void begin() {
    ledger = Ledger();
    explorer().name_locations({});
    interleave::watch_sleeps(1);
}

Channel make_channel(std::uint32_t capacity) {
    whorl::Result<Channel> made = Channel::create(capacity);
    explorer().check(made.has_value(), "Channel::create");
    return std::move(*made);
}

void take(Message& message) {
    explorer().check(message.number() == ledger.delivered, "out of order, or lost");
    ++ledger.delivered;
}

// What a loop does with messages.
struct Taker {
    Receiver* back;  // where the receiver goes in the end; null: it is dropped
    void operator()(Loop&, Receive<Message>::Done done) const {
        explorer().check(ledger.ends == 0, "called after the end");
        while (Message* message = done.next()) take(*message);
        if (done.more) return;
        ++ledger.ends;
        ledger.error = done.error;
        if (back != nullptr) *back = std::move(done.receiver);
    }
};

void send(Sender& sender, std::uint32_t count) {
    for (std::uint32_t number = 0; number < count; ++number) {
        Message message(number);
        if (sender.send(std::move(message))) return;
        ++ledger.accepted;
    }
}

// A thread that sends `count` and closes.
void spawn_sender(Sender&& sender, std::uint32_t count) {
    auto* owned = new (std::nothrow) Sender(std::move(sender));
    explorer().spawn([owned, count] {
        send(*owned, count);
        delete owned;
    });
}

// --- the scenarios

void received() {
    begin();
    Loop loop = interleave::make_loop();
    Channel channel = make_channel(2);
    explorer().check(
        loop.submit(Receive<Message>{std::move(channel.receiver)}, Taker{nullptr}).has_value(),
        "submit");
    spawn_sender(std::move(channel.sender), 1);
    explorer().check(!loop.run(), "run");
    explorer().check(ledger.ends == 1 && ledger.error == Error::channel_closed, "the end");
    explorer().check(ledger.delivered == 1, "closed before everything was delivered");
}

// One message a turn: the rest comes by the channel's own post.
void one_at_a_time() {
    begin();
    Loop loop = interleave::make_loop();
    Channel channel = make_channel(2);
    send(channel.sender, 2);
    explorer().check(
        loop.submit(Receive<Message>{std::move(channel.receiver), 1}, Taker{nullptr}).has_value(),
        "submit");
    auto* owned = new (std::nothrow) Sender(std::move(channel.sender));
    explorer().spawn([owned] { delete owned; });
    explorer().check(!loop.run(), "run");
    explorer().check(ledger.delivered == 2, "closed before everything was delivered");
}

// The loop goes among the messages.
void loop_goes() {
    begin();
    {
        Loop loop = interleave::make_loop();
        Channel channel = make_channel(2);
        explorer().check(
            loop.submit(Receive<Message>{std::move(channel.receiver)}, Taker{nullptr}).has_value(),
            "submit");
        spawn_sender(std::move(channel.sender), 2);
        explorer().check(!loop.poll(), "poll");
    }
    explorer().at_end([] {
        explorer().check(ledger.destroyed >= ledger.accepted, "a message was not destroyed");
    });
}

// Cancelled while the sender ends; what was sent before comes with the receiver, and it may receive again.
void cancelled() {
    begin();
    Loop loop = interleave::make_loop();
    Channel channel = make_channel(1);
    Receiver back;
    whorl::Result<whorl::Operation> receive =
        loop.submit(Receive<Message>{std::move(channel.receiver)}, Taker{&back});
    explorer().check(!loop.poll(), "poll");
    send(channel.sender, 1);
    auto* owned = new (std::nothrow) Sender(std::move(channel.sender));
    explorer().spawn([owned] { delete owned; });
    static_cast<void>(loop.cancel(*receive));
    while (ledger.ends == 0) explorer().check(!loop.poll(), "poll");
    explorer().check(ledger.error == Error::cancelled && back, "it did not come back");
    ledger.ends = 0;
    explorer().check(loop.submit(Receive<Message>{std::move(back)}, Taker{nullptr}).has_value(),
                     "submit");
    explorer().check(!loop.run(), "run");
    explorer().check(ledger.delivered == 1, "a message was lost");
}

// An end that goes when both threads have let go of it, so that it tells nobody earlier.
template <class End>
struct Held {
    End end;
    interleave::Atomic<std::uint32_t> references{2};
    void drop() {
        if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }
};

// The sender stays open: nothing but the look after its message wakes the loop.
void sent_and_open() {
    begin();
    Loop loop = interleave::make_loop();
    Channel channel = make_channel(1);
    auto* held = new (std::nothrow) Held<Sender>;
    held->end = std::move(channel.sender);
    const auto taker = [](Loop& inner, Receive<Message>::Done done) {
        while (Message* message = done.next()) take(*message);
        inner.stop();
    };
    explorer().check(loop.submit(Receive<Message>{std::move(channel.receiver)}, taker).has_value(),
                     "submit");
    explorer().spawn([held] {
        send(held->end, 1);
        held->drop();
    });
    explorer().check(!loop.run(), "run");
    explorer().check(ledger.delivered == 1, "a message was lost");
    held->drop();
}

// The loop sends and waits for room, which another thread makes.
void room() {
    begin();
    Loop loop = interleave::make_loop();
    Channel channel = make_channel(1);
    send(channel.sender, 1);
    auto* held = new (std::nothrow) Held<Receiver>;
    held->end = std::move(channel.receiver);
    explorer().spawn([held] {
        Message message(none);
        explorer().check(held->end.try_receive(message), "a message was lost");
        take(message);
        held->drop();
    });
    Error error = Error::queue_full;
    const auto try_again = [&] {
        Message message(1);
        error = channel.sender.send(std::move(message));
    };
    try_again();
    while (error == Error::queue_full) {
        explorer().check(
            loop.submit(AwaitSpace{channel.sender}, [](Loop&, AwaitSpace::Done) { ++ledger.told; })
                .has_value(),
            "submit");
        explorer().check(!loop.run(), "run");
        try_again();
        explorer().check(error != Error::queue_full, "told of room, and there is none");
    }
    held->drop();
}

// The sender's loop goes while it waits for room.
void waiter_goes() {
    begin();
    Channel channel = make_channel(1);
    send(channel.sender, 1);
    auto* receiver = new (std::nothrow) Receiver(std::move(channel.receiver));
    {
        Loop loop = interleave::make_loop();
        explorer().check(
            loop.submit(AwaitSpace{channel.sender}, [](Loop&, AwaitSpace::Done) {}).has_value(),
            "submit");
        explorer().spawn([receiver] {
            Message message(none);
            explorer().check(receiver->try_receive(message), "a message was lost");
            delete receiver;
        });
        explorer().check(!loop.poll(), "poll");
    }
}

struct Scenario {
    const char* name;
    void (*body)();
};
constexpr Scenario scenarios[] = {
    {"waiter_goes", waiter_goes}, {"one_at_a_time", one_at_a_time}, {"room", room},
    {"cancelled", cancelled},     {"sent_and_open", sent_and_open}, {"loop_goes", loop_goes},
    {"received", received},
};

}  // namespace

int main(int argc, char** argv) {
    explorer().name_program(argv[0]);
    for (const Scenario& scenario : scenarios) {
        if (argc > 1 && std::strcmp(argv[1], scenario.name) != 0) continue;
        // A sanitizer makes it ten times slower, and the state space does not change.
        if (interleave::sanitized && scenario.body == received) continue;
        if (argc > 2) explorer().repeat(scenario.name, scenario.body, argv[2]);
        else explorer().explore(scenario.name, scenario.body);
    }
    return 0;
}
