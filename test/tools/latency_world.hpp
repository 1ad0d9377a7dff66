// SPDX-License-Identifier: MIT
// A server in a simulated world, whose delays are exactly what a test says.
#pragma once

#include <whorl/pipe.hpp>
#include <whorl/socket.hpp>
#include <whorl/tcp.hpp>
#include <whorl/testing.hpp>
#include <whorl/udp.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "latency/client.hpp"
#include "latency/outcome.hpp"
#include "latency/plan.hpp"

namespace latency_test {

using namespace std::chrono_literals;
using latency::Client;
using latency::Kind;
using latency::Outcome;
using latency::Plan;
using whorl::Instant;
using whorl::Loop;
using whorl::Nanoseconds;
using whorl::testing::World;

// When something that came at an instant is to be answered; instant_never: not at all.
using Answering = std::function<Instant(Instant)>;

inline Answering after(Nanoseconds delay) {
    return [delay](Instant came) { return came + delay; };
}

// Answers after `delay`; what comes within the stall is answered so long after its end.
inline Answering stalled(Instant begin, Nanoseconds length, Nanoseconds delay) {
    return [=](Instant came) {
        return (came >= begin && came < begin + length ? begin + length : came) + delay;
    };
}

class Server {
  public:
    Server(World& world, Answering answering)
        : loop_(world.add_loop()), answering_(std::move(answering)) {}

    whorl::Address listen() {
        const auto listener = whorl::listen(loop_, whorl::Address::loopback_v4(0));
        EXPECT_TRUE(listener);
        EXPECT_TRUE(loop_.submit(whorl::AcceptStream{*listener},
                                 [this](Loop&, whorl::AcceptStream::Done done) {
                                     if (done.socket) receive(done.socket);
                                 }));
        return *whorl::local_address(loop_, *listener);
    }

    whorl::Address listen_datagrams() {
        const auto socket = whorl::open_udp(loop_, whorl::Address::loopback_v4(0));
        EXPECT_TRUE(socket);
        datagrams_ = *socket;
        EXPECT_TRUE(loop_.submit(
            whorl::RecvFromStream{datagrams_}, [this](Loop&, whorl::RecvFromStream::Done done) {
                if (done.error) return;
                whorl::SendTo answer{datagrams_, std::move(done.buffer), done.address};
                (void)loop_.submit(std::move(answer), [](Loop&, whorl::SendTo::Done) {});
            }));
        return *whorl::local_address(loop_, datagrams_);
    }

    bool closes = false;    // ends a connection instead of answering
    bool corrupts = false;  // answers other bytes

  private:
    void receive(whorl::Socket socket) {
        (void)loop_.submit(whorl::RecvStream{socket},
                           [this, socket](Loop&, whorl::RecvStream::Done done) {
                               if (!done.buffer.empty()) hold(socket, done.buffer.text());
                               if (!done.more || closes) (void)loop_.close(socket);
                           });
    }
    void hold(whorl::Socket socket, std::string_view text) {
        const Instant when = answering_(loop_.now());
        if (when == whorl::instant_never) return;
        auto bytes = std::make_unique<std::string>(text);
        if (corrupts) bytes->back() = static_cast<char>(~bytes->back());
        (void)loop_.at(when, [this, socket, kept = std::move(bytes)](Loop&, const whorl::Expired&) {
            whorl::SendAll all{socket, whorl::Buffer::copy_of(whorl::Bytes(*kept))};
            (void)loop_.submit(std::move(all), [](Loop&, whorl::SendAll::Done) {});
        });
    }

    Loop& loop_;
    Answering answering_;
    whorl::UdpSocket datagrams_;
};

// A second at a thousand messages a second, without a warm-up.
inline Plan make_plan(const whorl::Address& address, Kind kind = Kind::tcp) {
    Plan plan;
    plan.target.kind = kind;
    plan.target.text = "world";
    plan.target.address = address;
    plan.warmup = 0s;
    plan.duration = 1s;
    return plan;
}

// Runs it to its end. The loop reads the world's clock.
inline void measure(World& world, Outcome& outcome,
                    const std::function<void(Client&)>& meanwhile = {}) {
    Loop& loop = world.add_loop();
    Client client(loop, outcome, [](Loop& inside) { return inside.now(); });
    client.start();
    if (meanwhile) meanwhile(client);
    EXPECT_TRUE(world.run_until([&] { return client.finished(); }));
    EXPECT_FALSE(world.failed()) << world.failure().text();
    world.remove_loop(loop);
}

}  // namespace latency_test
