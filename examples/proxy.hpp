// SPDX-License-Identifier: MIT
// A TCP proxy: each connection is passed on to the first target that answers, both ways, until both ends
// have closed. tcp_proxy.cpp makes a program of it, and test/world/streams_test.cpp tests it.
#pragma once

#include <whorl/whorl.hpp>

#include <chrono>
#include <utility>
#include <vector>

class Proxy {
  public:
    explicit Proxy(std::vector<whorl::Address> targets) : targets_(std::move(targets)) {}

    whorl::Error start(whorl::Loop& loop, const whorl::Address& address) {
        const auto listener = whorl::listen(loop, address);
        if (!listener) return listener.error();
        listener_ = *listener;
        return loop.submit(whorl::AcceptStream{listener_}, this).error();
    }
    whorl::Listener listener() const { return listener_; }
    int open() const { return open_; }

    void operator()(whorl::Loop& loop, whorl::AcceptStream::Done done) {
        if (!done.socket) return;
        whorl::ConnectorOptions options;
        options.total = std::chrono::seconds(10);
        const whorl::Socket client = done.socket;
        const auto connected = [this, client](whorl::Loop& then, const whorl::Connected& result) {
            pass(then, client, result);
        };
        if (!whorl::connect_any(loop, targets_.data(), targets_.size(), options, connected)) {
            (void)loop.close(client);
        }
    }

  private:
    void pass(whorl::Loop& loop, whorl::Socket client, const whorl::Connected& server) {
        if (server.error) {
            (void)loop.close(client);
            return;
        }
        ++open_;
        const auto ended = [this](whorl::Loop&, const whorl::Relayed&) { --open_; };
        whorl::RelayOptions options;
        options.stream.deadlines.idle = std::chrono::hours(1);
        if (!whorl::relay(loop, client, server.socket, options, ended)) return;
        --open_;
        (void)loop.close(client);
        (void)loop.close(server.socket);
    }

    std::vector<whorl::Address> targets_;
    whorl::Listener listener_;
    int open_ = 0;
};
