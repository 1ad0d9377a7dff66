// SPDX-License-Identifier: MIT
// A WebSocket server that says back what it hears: `/` any subprotocol of echo.v1, and a page at other paths
// that says how. web_socket_echo.cpp makes a program of it.
#pragma once

#include <whorl/web_socket.hpp>
#include <whorl/whorl.hpp>

#include <utility>

struct WebEcho {
    void message(whorl::web_socket::Connection& connection, whorl::web_socket::Kind kind,
                 whorl::Buffer message) {
        // A peer that sends and does not read: no more from it until it has.
        if (!connection.send(kind, std::move(message))) connection.pause();
    }
    void writable(whorl::web_socket::Connection& connection) { connection.resume(); }
};

struct WebDoor {
    void request(whorl::http::Exchange& exchange) {
        if (!whorl::web_socket::asked(exchange.request())) {
            exchange.respond({200, "text/plain"}, "Speak WebSocket to me.\n");
            return;
        }
        whorl::web_socket::AcceptOptions options;
        options.protocols = "echo.v1";
        options.limits.message_max = options.limits.frame_max = std::uint64_t{64} << 20;
        (void)whorl::web_socket::accept(exchange, WebEcho{}, options);  // refusals are answered
    }
};

class WebEchoServer {
  public:
    whorl::Error start(whorl::Loop& loop, const whorl::Address& address) {
        whorl::AcceptorOptions options;
        options.stream.queue_max = std::size_t{128} << 20;  // a message or two of 64 MiB
        const auto make = [](const whorl::Accepted&) { return WebDoor{}; };
        const auto acceptor = whorl::http::serve(loop, address, make, {}, options);
        if (!acceptor) return acceptor.error();
        acceptor_ = *acceptor;
        return {};
    }
    whorl::Listener listener() const { return acceptor_->listener(); }

  private:
    whorl::Acceptor* acceptor_ = nullptr;
};
