// SPDX-License-Identifier: MIT
#include "fuzz/ground.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>

namespace fuzz {

namespace {

class Real : public Ground {
  public:
    Real(whorl::Backend backend, const char* name) : backend_(backend) {
        whorl::LoopOptions options;
        whorl::BackendReport report;
        options.backend = backend;
        usable_ = whorl::Loop::create(options, report).has_value();
        if (!usable_) std::printf("left out: %s: %s\n", name, report.text);
    }
    bool usable() const { return usable_; }

    whorl::Result<whorl::Loop> make_loop(const whorl::LoopOptions& given) override {
        whorl::LoopOptions options = given;
        options.backend = backend_;
        return whorl::Loop::create(options);
    }
    whorl::Instant now() override { return whorl::clock_now(); }
    whorl::Error pass(whorl::Loop& loop, whorl::Nanoseconds time) override {
        return loop.run_for(time);
    }
    whorl::Address listen_address() override { return whorl::Address::loopback_v4(0); }
    bool socket_pair(int type, int (&ends)[2]) override {
        return ::socketpair(AF_UNIX, type, 0, ends) == 0;
    }
    void close(int fd) override { ::close(fd); }
    void send(int fd, const void* data, std::size_t size) override {
        static_cast<void>(::send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT));
    }
    void receive(int fd, void* data, std::size_t size) override {
        static_cast<void>(::recv(fd, data, size, MSG_DONTWAIT));
    }
    void shut_down(int fd) override { ::shutdown(fd, SHUT_RDWR); }

  private:
    whorl::Backend backend_;
    bool usable_ = false;
};

}  // namespace

Ground* real_ground(std::uint64_t choice) {
    static Real io_uring(whorl::Backend::io_uring, "io_uring");
    static Real libev(whorl::Backend::libev, "libev");
    Real& chosen = choice % 2 == 0 ? io_uring : libev;
    return chosen.usable() ? &chosen : nullptr;
}

}  // namespace fuzz
