// SPDX-License-Identifier: MIT
// Numbers through a channel to another loop, on a thread of its own, and through a second channel back. A
// channel keeps its order, so that the answers come in theirs; at most `depth` are under way, and both
// channels have room for as many, so that none is ever full.
#include <whorl/channel.hpp>

#include <sched.h>

#include <system_error>
#include <thread>

#include "client.hpp"

namespace latency {

using whorl::Loop;
using Number = std::uint64_t;

namespace {

constexpr Number hello = ~Number{0};  // the other loop receives: the first that comes

std::uint32_t room_for(std::uint32_t depth) {
    std::uint32_t room = 2;  // the greeting's as well
    while (room < depth) room *= 2;
    return room;
}

}  // namespace

struct Client::Peer {
    struct Pair {
        whorl::Receiver<Number> in;
        whorl::Sender<Number> out;
    };

    void run() noexcept;
    bool pin() noexcept;
    whorl::Error answer(Loop& loop, Pair&& pair) noexcept;

    std::vector<Pair> pairs;
    whorl::LoopOptions options;
    int cpu = -1;
    bool busy_poll = false;
    std::size_t open = 0;  // the thread's
    std::string failure;   // the thread's; read when it has ended
    std::thread thread;
};

void Client::FreePeer::operator()(Peer* peer) const noexcept {
    peer->pairs.clear();  // of a thread that was never started
    if (peer->thread.joinable()) peer->thread.join();
    delete peer;
}

bool Client::Peer::pin() noexcept {
    if (cpu < 0) return true;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(cpu), &set);
    return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

// Ends when the client has closed its senders. Whatever goes wrong closes ours, and so tells the client.
void Client::Peer::run() noexcept {
    std::vector<Pair> mine = std::move(pairs);
    if (!pin()) {
        failure = "--peer-cpu: that processor may not be used";
        return;
    }
    whorl::Result<Loop> loop = Loop::create(options);
    if (!loop) {
        failure = loop.error().text();
        return;
    }
    for (Pair& pair : mine) {
        if (const whorl::Error error = answer(*loop, std::move(pair))) {
            failure = error.text();
            return;
        }
    }
    while (open > 0) {
        if (const whorl::Error error = busy_poll ? loop->poll() : loop->run_once()) {
            failure = error.text();
            return;
        }
    }
}

whorl::Error Client::Peer::answer(Loop& loop, Pair&& pair) noexcept {
    (void)pair.out.send(Number{hello});
    const auto receiving = loop.submit(
        whorl::Receive<Number>{std::move(pair.in)},
        [this, out = std::move(pair.out)](Loop&, whorl::Receive<Number>::Done done) mutable {
            while (Number* number = done.next()) (void)out.write(std::move(*number));
            out.flush();
            if (done.more) return;
            out.close();
            --open;
        });
    if (!receiving) return receiving.error();
    ++open;
    return {};
}

void Client::open_channels() {
    peer_.reset(new Peer);
    peer_->options.backend = loop_.backend_report().chosen;
    peer_->cpu = plan_.peer_cpu;
    peer_->busy_poll = plan_.busy_poll;
    const std::uint32_t room = room_for(plan_.depth);
    for (std::uint32_t index = 0; index < plan_.connections; ++index) {
        auto there = whorl::Channel<Number>::create(room);
        auto back = whorl::Channel<Number>::create(room);
        if (!there) return fail("channel", there.error());
        if (!back) return fail("channel", back.error());
        links_[index].sender = std::move(there->sender);
        peer_->pairs.push_back({std::move(there->receiver), std::move(back->sender)});
        const auto receiving =
            loop_.submit(whorl::Receive<Number>{std::move(back->receiver)},
                         [this, index](Loop&, whorl::Receive<Number>::Done done) {
                             received_numbers(index, done);
                         });
        if (!receiving) return fail("channel", receiving.error());
    }
    try {
        peer_->thread = std::thread([peer = peer_.get()] { peer->run(); });
    } catch (const std::system_error& error) {
        fail(std::string("thread: ") + error.what(), {});
    }
}

void Client::received_numbers(std::uint32_t index, whorl::Receive<Number>::Done& done) {
    if (phase_ == Phase::finished) return;
    const whorl::Instant now = clock_(loop_);
    while (const Number* number = done.next()) {
        if (*number == hello) ready();
        else if (*number == links_[index].completed) complete(index, *number, now);
        else return fail("the channel has lost, doubled or misplaced a message", {});
        if (phase_ == Phase::finished) return;
    }
    if (!done.more) {
        if (peer_->thread.joinable()) peer_->thread.join();
        return fail("the other loop ended: " + peer_->failure, {});
    }
    issue_held(index);
    end_if_all_came();
}

void Client::send_number(std::uint32_t index, std::uint64_t message) {
    if (const whorl::Error error = links_[index].sender.send(Number{message})) fail("send", error);
}

}  // namespace latency
