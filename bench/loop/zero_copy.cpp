// SPDX-License-Identifier: MIT
// What a zero-copy send costs against an ordinary one, by size: one connection over loopback (or what
// routes an address given), a peer thread that reads, 8 sends under way. Prints megabytes a second, the
// processor time of the sending thread for each megabyte, and how many sends the kernel copied after all.
//
//   bench_zero_copy [megabytes] [io_uring|libev]
#include <whorl/socket.hpp>
#include <whorl/tcp.hpp>
#include <whorl/zero_copy.hpp>

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "bench_zero_copy: %s\n", what);
    std::exit(1);
}

double thread_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Sender {
  public:
    Sender(whorl::Loop& loop, whorl::Socket socket, std::size_t size, std::uint64_t count)
        : loop_(loop), socket_(socket), left_(count), size_(size) {}

    template <class Op>
    void run() {
        for (int index = 0; index < 8; ++index) {
            whorl::Buffer buffer = whorl::Buffer::allocate(size_);
            buffer.resize(size_);
            std::memset(buffer.data(), 'z', size_);
            next<Op>(std::move(buffer));
        }
        if (loop_.run()) fail("run");
    }
    std::uint64_t copied() const { return copied_; }

  private:
    template <class Op>
    void next(whorl::Buffer buffer) {
        if (left_ == 0) return;
        --left_;
        const auto made = loop_.submit(Op{socket_, std::move(buffer)},
                                       [this](whorl::Loop&, typename Op::Done done) {
                                           if (done.error) fail("a send failed");
                                           note(done);
                                           next<Op>(std::move(done.buffer));
                                       });
        if (!made) fail("submit");
    }
    void note(const whorl::SendAll::Done&) {}
    void note(const whorl::SendZeroCopy::Done& done) { copied_ += done.copied ? 1 : 0; }

    whorl::Loop& loop_;
    whorl::Socket socket_;
    std::uint64_t left_;
    std::size_t size_;
    std::uint64_t copied_ = 0;
};

// A connection of the loop, and the peer's descriptor.
int connect_pair(whorl::Loop& loop, whorl::Socket& socket) {
    const auto listener = whorl::listen(loop, whorl::Address::loopback_v4(0));
    if (!listener) fail("listen");
    const auto address = whorl::local_address(loop, *listener);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, address->data(), address->length()) != 0) fail("connect");
    const auto made =
        loop.submit(whorl::Accept{*listener},
                    [&](whorl::Loop&, whorl::Accept::Done done) { socket = done.socket; });
    if (!made || loop.run()) fail("accept");
    if (loop.close(*listener)) fail("close");
    return fd;
}

template <class Op>
void measure(whorl::Backend backend, const char* name, std::size_t size, std::uint64_t bytes) {
    whorl::LoopOptions options;
    options.backend = backend;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(options);
    if (!made) std::exit(77);
    whorl::Loop& loop = *made;
    whorl::Socket socket;
    const int fd = connect_pair(loop, socket);
    std::uint64_t got = 0;
    std::thread reader([&] {
        std::vector<char> memory(1 << 20);
        for (;;) {
            const ssize_t part = ::read(fd, memory.data(), memory.size());
            if (part <= 0) return;
            got += static_cast<std::uint64_t>(part);
        }
    });
    const std::uint64_t count = bytes / size + 1;
    Sender sender(loop, socket, size, count);
    const Clock::time_point start = Clock::now();
    const double before = thread_seconds();
    sender.run<Op>();
    const double used = thread_seconds() - before;
    const double time = std::chrono::duration<double>(Clock::now() - start).count();
    if (loop.close(socket) || loop.poll()) fail("close");
    reader.join();
    ::close(fd);
    if (got != count * size) fail("bytes are missing");
    const double megabytes = static_cast<double>(got) / 1e6;
    std::printf("%8zu %-9s %8.0f MB/s %8.1f us/MB %8llu of %llu copied\n", size, name,
                megabytes / time, used * 1e6 / megabytes,
                static_cast<unsigned long long>(sender.copied()),
                static_cast<unsigned long long>(count));
}

}  // namespace

int main(int argc, char** argv) {
    const std::uint64_t bytes = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200) * 1'000'000;
    const bool libev = argc > 2 && std::strcmp(argv[2], "libev") == 0;
    const whorl::Backend backend = libev ? whorl::Backend::libev : whorl::Backend::io_uring;
    for (const std::size_t size : {1024u, 4096u, 16'384u, 65'536u, 262'144u, 1u << 20}) {
        measure<whorl::SendAll>(backend, "plain", size, bytes);
        measure<whorl::SendZeroCopy>(backend, "zero copy", size, bytes);
    }
    return 0;
}
