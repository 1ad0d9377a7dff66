// SPDX-License-Identifier: MIT
#include "soak/peers.hpp"

namespace soak {

using namespace std::chrono_literals;
using whorl::Loop;

namespace {
constexpr auto idle_max = 3s;
constexpr std::size_t block = 4096;
}  // namespace

// Echoes: every other connection by single receives, the rest by a received stream. Whichever way it
// ends, it is closed, and deletes itself when its close handler has run.
class Server::Connection {
  public:
    Connection(Server& server, whorl::Socket socket, bool stream)
        : server_(server), socket_(socket), stream_(stream) {
        server_.connections_.insert(this);
    }
    ~Connection() { server_.connections_.erase(this); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    void begin(Loop& loop) {
        if (!stream_) return receive(loop);
        if (!loop.submit(whorl::RecvStream{socket_}, whorl::within(4 * idle_max), this))
            close(loop);
    }
    void operator()(Loop& loop, whorl::Recv::Done done) {
        if (done.error || done.buffer.empty()) return close(loop);
        send(loop, std::move(done.buffer));
    }
    void operator()(Loop& loop, whorl::RecvStream::Done done) {
        if (!done.buffer.empty()) send(loop, std::move(done.buffer));
        if (done.more) return;
        ended_ = true;
        if (done.error || sends_ == 0) close(loop);
    }
    void operator()(Loop& loop, whorl::SendAll::Done done) {
        --sends_;
        if (done.error) return close(loop);
        if (!stream_) return receive(loop);
        if (ended_ && sends_ == 0) close(loop);
    }
    void operator()(Loop&) { delete this; }  // closed

  private:
    void receive(Loop& loop) {
        whorl::Buffer buffer = loop.buffer(block);
        if (!buffer) buffer = whorl::Buffer::allocate(block);
        whorl::Recv op{socket_, std::move(buffer)};
        if (!loop.submit(std::move(op), whorl::within(idle_max), this)) close(loop);
    }
    void send(Loop& loop, whorl::Buffer buffer) {
        whorl::SendAll op{socket_, std::move(buffer)};
        if (loop.submit(std::move(op), whorl::within(idle_max), this)) ++sends_;
        else close(loop);
    }
    void close(Loop& loop) {
        static_cast<void>(loop.close(socket_, this));  // again: it is stale already
    }

    Server& server_;
    whorl::Socket socket_;
    int sends_ = 0;
    bool stream_;
    bool ended_ = false;
};

// What drain() has closed without a word.
Server::~Server() {
    while (!connections_.empty()) delete *connections_.begin();
}

whorl::Result<whorl::Address> Server::open() {
    whorl::Result<whorl::Listener> listener = whorl::listen(loop_, whorl::Address::any_v4(0));
    if (!listener) return listener.error();
    if (auto accept = loop_.submit(whorl::AcceptStream{*listener}, this); !accept) {
        return accept.error();
    }
    return whorl::local_address(loop_, *listener);
}

void Server::operator()(Loop& loop, whorl::AcceptStream::Done done) {
    if (done.error) {
        if (done.more) ++counts_.accept_errors;
        return;
    }
    if (!done.socket) return;
    ++counts_.accepted;
    (new Connection(*this, done.socket, number_++ % 2 == 1))->begin(loop);
}

}  // namespace soak
