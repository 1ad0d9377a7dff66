// SPDX-License-Identifier: MIT
// The two ends of an echo, as objects: echo_server.cpp and echo_client.cpp make programs of them, and
// test/world/examples_test.cpp tests them in a simulated world.
#pragma once

#include <whorl/whorl.hpp>

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

// One connection. It owns itself: the close handler, which is the last to run, deletes it.
class Echo {
  public:
    explicit Echo(whorl::Socket socket) : socket_(socket) {}

    void start(whorl::Loop& loop) {
        if (!loop.submit(whorl::RecvStream{socket_}, this)) finish(loop);
    }
    // Bytes have arrived: send them back from the very buffer they came in.
    void operator()(whorl::Loop& loop, whorl::RecvStream::Done done) {
        if (done.more) {
            if (!loop.submit(whorl::SendAll{socket_, std::move(done.buffer)}, this)) finish(loop);
        } else if (done.error || !loop.submit(whorl::Shutdown{socket_}, this)) {
            finish(loop);
        }  // else the peer has ended its side: what is still to be sent goes first
    }
    void operator()(whorl::Loop& loop, whorl::SendAll::Done done) {
        if (done.error) finish(loop);
    }
    void operator()(whorl::Loop& loop, whorl::Shutdown::Done) { finish(loop); }

  private:
    // Closing twice is refused as stale, so it does not matter who asks first.
    void finish(whorl::Loop& loop) {
        (void)loop.close(socket_, [this](whorl::Loop&) { delete this; });
    }

    whorl::Socket socket_;
};

// Sends a text, half-closes, and compares what comes back.
class EchoClient {
  public:
    // The text stays readable through a second buffer over the same memory while it is sent. What comes
    // back is printed to `out`, unless that is null.
    EchoClient(std::string text, std::FILE* out)
        : text_(whorl::adopt(std::move(text))), out_(out) {}

    void connected(whorl::Loop& loop, whorl::Connect::Done done) {
        if (done.error) return fail("connect", done.error);
        socket_ = done.socket;
        // All three go to the kernel together; on each side of the socket they keep their order.
        (void)loop.submit(whorl::RecvStream{socket_}, whorl::bind<&EchoClient::received>(this));
        (void)loop.submit(whorl::SendAll{socket_, text_.share()},
                          whorl::bind<&EchoClient::sent>(this));
        (void)loop.submit(whorl::Shutdown{socket_}, [](whorl::Loop&, whorl::Shutdown::Done) {});
    }
    void sent(whorl::Loop& loop, whorl::SendAll::Done done) {
        if (!done.error) return;
        fail("send", done.error);
        (void)loop.close(socket_);
    }
    void received(whorl::Loop& loop, whorl::RecvStream::Done done) {
        const std::string_view bytes = done.buffer.text();
        if (done.more && text_.text().substr(at_, bytes.size()) == bytes) {
            at_ += bytes.size();
            if (out_ != nullptr) std::fwrite(bytes.data(), 1, bytes.size(), out_);
            return;
        }
        complete_ = !done.error && !done.more && at_ == text_.size();
        if (done.error) fail("receive", done.error);
        else if (!complete_ && out_ != nullptr)
            std::fprintf(stderr, "echo_client: wrong from byte %zu on\n", at_);
        (void)loop.close(socket_);
    }
    bool complete() const { return complete_; }

  private:
    void fail(const char* what, whorl::Error error) const {
        if (out_ != nullptr) std::fprintf(stderr, "echo_client: %s: %s\n", what, error.text());
    }

    whorl::Buffer text_;
    std::FILE* out_;
    whorl::Socket socket_;
    std::size_t at_ = 0;
    bool complete_ = false;
};
