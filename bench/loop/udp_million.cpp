// SPDX-License-Identifier: MIT
// A million datagrams (or as many as are asked for) there and back over loopback, through one loop: every
// one carries its number, and every one must come back once. 512 are under way; what is lost is told.
//
//   bench_udp_million io_uring|libev [datagrams] [one|batch]
#include <whorl/udp.hpp>
#include <whorl/udp_batch.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr std::uint64_t window = 512;
constexpr std::uint32_t batch_size = 64;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "bench_udp_million: %s\n", what);
    std::exit(1);
}

// Sends what it is given: one by one, or gathered in batches.
class Sender {
  public:
    Sender(whorl::UdpSocket socket, bool gathers) : socket_(socket), gathers_(gathers) {}

    void send(whorl::Loop& loop, whorl::Buffer&& buffer, const whorl::Address& to) {
        if (gathers_) {
            if (!waiting_.push_back(std::move(buffer), to)) fail("memory");
            if (waiting_.count() >= batch_size) flush(loop);
            return;
        }
        const auto made = loop.submit(whorl::SendTo{socket_, std::move(buffer), to},
                                      [](whorl::Loop&, const whorl::SendTo::Done& done) {
                                          if (done.error) fail("a send failed");
                                      });
        if (!made) fail("submit");
    }
    void flush(whorl::Loop& loop) {
        if (waiting_.empty()) return;
        whorl::SendBatch operation{socket_, std::move(waiting_)};
        waiting_ = {};
        if (!loop.submit(std::move(operation),
                         [](whorl::Loop&, const whorl::SendBatch::Done& done) {
                             if (done.error) fail("a batch failed");
                         })) {
            fail("submit");
        }
    }

  private:
    whorl::UdpSocket socket_;
    bool gathers_;
    whorl::DatagramBatch waiting_;
};

class Echo {
  public:
    Echo(whorl::Loop& loop, std::uint64_t total, bool gathers)
        : loop_(loop), total_(total), seen_(static_cast<std::size_t>(total)), server_(open()),
          client_(open()), answers_(server_, gathers), questions_(client_, gathers),
          to_(*whorl::local_address(loop, server_)) {}

    void run() {
        receive(server_, &Echo::answer);
        receive(client_, &Echo::count);
        if (!loop_.hook(whorl::HookPoint::before_wait, [this](whorl::Loop& loop) {
                ask();
                answers_.flush(loop);
                questions_.flush(loop);
            })) {
            fail("hook");
        }
        // Nothing for a second: what is missing then is lost.
        std::uint64_t before = 0;
        if (!loop_.every(std::chrono::seconds(1),
                         [this, &before](whorl::Loop& loop, whorl::Expired) {
                             if (back_ == before) loop.stop();
                             before = back_;
                         })) {
            fail("timer");
        }
        if (loop_.run(whorl::RunUntil::stopped)) fail("run");
    }
    std::uint64_t back() const { return back_; }
    std::uint64_t twice() const { return twice_; }

  private:
    whorl::UdpSocket open() {
        whorl::UdpOptions options;
        options.receive_buffer = 4 << 20;
        const auto made = whorl::open_udp(loop_, whorl::Address::loopback_v4(0), options);
        if (!made) fail("open");
        return *made;
    }
    void receive(whorl::UdpSocket socket, void (Echo::*take)(whorl::RecvFromStream::Done&&)) {
        const auto handler = [this, take](whorl::Loop&, whorl::RecvFromStream::Done done) {
            if (done.buffer) (this->*take)(std::move(done));
        };
        if (!loop_.submit(whorl::RecvFromStream{socket}, handler)) fail("receive");
    }
    void answer(whorl::RecvFromStream::Done&& done) {
        answers_.send(loop_, std::move(done.buffer), done.address);
    }
    void count(whorl::RecvFromStream::Done&& done) {
        std::uint64_t number = 0;
        if (done.buffer.size() != 32) fail("a datagram has another size");
        std::memcpy(&number, done.buffer.data(), sizeof number);
        if (number >= total_) fail("a datagram has another number");
        if (seen_[static_cast<std::size_t>(number)]) ++twice_;
        else ++back_;
        seen_[static_cast<std::size_t>(number)] = true;
        if (back_ == total_) loop_.stop();
    }
    void ask() {
        while (asked_ < total_ && asked_ - back_ < window) {
            whorl::Buffer buffer = loop_.buffer(32);
            if (!buffer) return;
            buffer.resize(32);
            std::memset(buffer.data(), 0, 32);
            std::memcpy(buffer.data(), &asked_, sizeof asked_);
            questions_.send(loop_, std::move(buffer), to_);
            ++asked_;
        }
    }

    whorl::Loop& loop_;
    std::uint64_t total_;
    std::vector<bool> seen_;
    whorl::UdpSocket server_;
    whorl::UdpSocket client_;
    Sender answers_;
    Sender questions_;
    whorl::Address to_;
    std::uint64_t asked_ = 0;
    std::uint64_t back_ = 0;
    std::uint64_t twice_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    whorl::LoopOptions options;
    const std::string backend = argc > 1 ? argv[1] : "io_uring";
    options.backend = backend == "libev" ? whorl::Backend::libev : whorl::Backend::io_uring;
    options.recv_buffers_per_stream = 4096;
    const std::uint64_t total = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1'000'000;
    const bool gathers = argc <= 3 || std::strcmp(argv[3], "one") != 0;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(options);
    if (!made) return 77;
    Echo echo(*made, total, gathers);
    const auto start = std::chrono::steady_clock::now();
    echo.run();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    std::printf(
        "%s, %s: %llu of %llu back, %llu twice, %.0f a second there and back\n", backend.c_str(),
        gathers ? "batches" : "one by one", static_cast<unsigned long long>(echo.back()),
        static_cast<unsigned long long>(total), static_cast<unsigned long long>(echo.twice()),
        static_cast<double>(echo.back()) / time.count());
    return echo.back() == total && echo.twice() == 0 ? 0 : 1;
}
