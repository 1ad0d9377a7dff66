// SPDX-License-Identifier: MIT
// docs/migrating/asio.md: the program before, on Asio.
#include "lines.hpp"

#include <signal.h>

#include <asio.hpp>

#include <chrono>
#include <memory>

namespace {

// [connection]
// Kept alive by the handlers that hold it.
class Connection : public std::enable_shared_from_this<Connection> {
  public:
    Connection(asio::ip::tcp::socket socket, int idle_ms)
        : socket_(std::move(socket)), idle_(socket_.get_executor()), idle_ms_(idle_ms) {}

    void start() {
        push_timeout();
        read();
    }

  private:
    void read() {
        socket_.async_read_some(
            asio::buffer(bytes_),
            [self = shared_from_this()](const asio::error_code& error, std::size_t got) {
                self->push_timeout();
                if (error && error != asio::error::eof) return self->end();
                self->in_.append(self->bytes_, got);
                const bool going = answer_lines(self->in_, self->out_) && !error;
                self->write(going);
            });
    }
    void write(bool going) {
        asio::async_write(
            socket_, asio::buffer(out_),
            [self = shared_from_this(), going](const asio::error_code& error, std::size_t) {
                self->out_.clear();
                if (error || !going) return self->end();
                self->push_timeout();
                self->read();
            });
    }
    void push_timeout() {
        idle_.expires_after(std::chrono::milliseconds(idle_ms_));  // cancels the wait before
        idle_.async_wait([weak = weak_from_this()](const asio::error_code& error) {
            const auto self = weak.lock();
            if (!error && self) self->end();
        });
    }
    void end() {
        asio::error_code ignored;
        socket_.close(ignored);
        idle_.cancel();
    }

    asio::ip::tcp::socket socket_;
    asio::steady_timer idle_;
    int idle_ms_;
    char bytes_[4096];
    std::string in_, out_;
};

void accept(asio::ip::tcp::acceptor& acceptor, int idle_ms) {
    acceptor.async_accept(
        [&acceptor, idle_ms](const asio::error_code& error, asio::ip::tcp::socket socket) {
            if (!error) std::make_shared<Connection>(std::move(socket), idle_ms)->start();
            accept(acceptor, idle_ms);
        });
}
// [end]

}  // namespace

// [main]
int main(int count, char** words) {
    const Words given(count, words);
    asio::io_context context(1);
    asio::signal_set signals(context, SIGTERM);
    signals.async_wait([&context](const asio::error_code&, int) { context.stop(); });
    const auto port = static_cast<unsigned short>(given.port);
    asio::ip::tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), port});
    accept(acceptor, given.idle_ms);
    listening(acceptor.local_endpoint().port());
    context.run();
    return 0;
}
// [end]
