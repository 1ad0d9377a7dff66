// SPDX-License-Identifier: MIT
// A UDP echo server on standalone Asio, after its own async_udp_echo_server example, without locks. Built
// twice, on epoll and on io_uring.
#include <asio.hpp>

#include "udp.hpp"

namespace {

#if defined(ASIO_HAS_IO_URING)
constexpr const char* server_name = "asio:io_uring";
#else
constexpr const char* server_name = "asio";
#endif

using asio::ip::udp;

class Server {
  public:
    Server(const bench::Options& options, asio::io_context& context)
        : stop_(context, bench::stop_descriptor()),
          socket_(context, udp::v4(), bench::bind_udp(options)) {
        stop_.async_wait(asio::posix::stream_descriptor::wait_read,
                         [&context](const asio::error_code&) { context.stop(); });
        receive();
    }
    int socket() { return socket_.native_handle(); }

  private:
    void receive() {
        socket_.async_receive_from(asio::buffer(data_), from_,
                                   [this](const asio::error_code& error, std::size_t got) {
                                       if (error) receive();
                                       else send(got);
                                   });
    }
    void send(std::size_t got) {
        socket_.async_send_to(asio::buffer(data_, got), from_,
                              [this](const asio::error_code&, std::size_t) { receive(); });
    }
    asio::posix::stream_descriptor stop_;
    udp::socket socket_;
    udp::endpoint from_;
    char data_[2048];
};

}  // namespace

int main(int argc, char** argv) {
    const bench::Options options = bench::parse_options(argc, argv, {});
    asio::io_context context(ASIO_CONCURRENCY_HINT_UNSAFE);
    Server server(options, context);
    bench::announce(server.socket());
    context.run();
    bench::print_report(server_name);
    std::fflush(stdout);
    std::_Exit(0);
}
