// SPDX-License-Identifier: MIT
// An echo server on standalone Asio, after its own async_tcp_echo_server example, with what its
// documentation names for a single-threaded program: ASIO_CONCURRENCY_HINT_UNSAFE, so no locks, and
// handlers small enough for the library's own recycling of their memory. Built twice: on epoll, and
// with ASIO_HAS_IO_URING and ASIO_DISABLE_EPOLL.
#include <asio.hpp>
#include <memory>

#include "echo.hpp"

namespace {

#if defined(ASIO_HAS_IO_URING)
constexpr const char* server_name = "asio:io_uring";
#else
constexpr const char* server_name = "asio";
#endif

using asio::ip::tcp;

// One stream: a receive, then the whole answer, then the next receive. It owns itself.
class Session {
  public:
    Session(tcp::socket socket, std::size_t buffer_size)
        : socket_(std::move(socket)), buffer_(new char[buffer_size]), size_(buffer_size) {}
    void receive() {
        socket_.async_read_some(asio::buffer(buffer_.get(), size_),
                                [this](const asio::error_code& error, std::size_t got) {
                                    if (error) delete this;
                                    else send(got);
                                });
    }

  private:
    void send(std::size_t got) {
        asio::async_write(socket_, asio::buffer(buffer_.get(), got),
                          [this](const asio::error_code& error, std::size_t) {
                              if (error) delete this;
                              else receive();
                          });
    }
    tcp::socket socket_;
    std::unique_ptr<char[]> buffer_;  // its own: it is with the receive while the stream is idle
    std::size_t size_;
};

class Server {
  public:
    Server(const bench::Options& options, asio::io_context& context)
        : buffer_size_(options.buffer_size), stop_(context, bench::stop_descriptor()),
          acceptor_(context), retry_(context) {
        acceptor_.assign(tcp::v4(), bench::listen_on(options, 0));
        stop_.async_wait(asio::posix::stream_descriptor::wait_read,
                         [&context](const asio::error_code&) { context.stop(); });
        accept();
    }
    int listening() { return acceptor_.native_handle(); }

  private:
    void accept() {
        acceptor_.async_accept([this](const asio::error_code& error, tcp::socket socket) {
            if (error == asio::error::operation_aborted) return;
            if (error) return accept_later();  // out of descriptors
            (new Session(std::move(socket), buffer_size_))->receive();
            accept();
        });
    }
    void accept_later() {
        retry_.expires_after(std::chrono::milliseconds(10));
        retry_.async_wait([this](const asio::error_code& error) {
            if (!error) accept();
        });
    }

    std::size_t buffer_size_;
    asio::posix::stream_descriptor stop_;
    tcp::acceptor acceptor_;
    asio::steady_timer retry_;
};

}  // namespace

int main(int argc, char** argv) {
    const bench::Options options = bench::parse_options(argc, argv, {});
    asio::io_context context(ASIO_CONCURRENCY_HINT_UNSAFE);
    Server server(options, context);
    bench::announce(server.listening());
    context.run();
    bench::print_report(server_name);
    std::fflush(stdout);
    std::_Exit(0);  // sessions that are still open are the kernel's to close
}
