// SPDX-License-Identifier: MIT
// The scenarios of guest_test.hpp inside Asio, whose run() a handler's exception may leave.
#include "guests/guest_test.hpp"

#include <whorl/adapters/asio_guest.hpp>

#include <deque>
#include <stdexcept>

namespace {

class Asio {
  public:
    ~Asio() {
        for (asio::posix::stream_descriptor& each : descriptors_) each.release();
    }
    whorl::Error attach(whorl::Loop& loop) {
        try {
            return guest_.attach(loop, context_);
        } catch (const std::bad_alloc&) {
            return whorl::Error::from_errno(ENOMEM);
        }
    }
    void detach() { guest_.detach(); }
    whorl::Error error() const { return guest_.error(); }
    void watch(int fd, std::function<void()> call) {
        wait(descriptors_.emplace_back(context_, fd), calls_.emplace_back(std::move(call)));
    }
    void after(int ms, std::function<void()> call) {
        asio::steady_timer& timer = timers_.emplace_back(context_, std::chrono::milliseconds(ms));
        timer.async_wait([call = std::move(call)](asio::error_code stopped) {
            if (!stopped) call();
        });
    }
    void run() {
        context_.restart();
        context_.run();
    }
    void stop() { context_.stop(); }
    asio::io_context& context() { return context_; }

  private:
    static void wait(asio::posix::stream_descriptor& of, std::function<void()>& call) {
        of.async_wait(asio::posix::stream_descriptor::wait_read, [&](asio::error_code stopped) {
            if (stopped) return;
            call();
            wait(of, call);
        });
    }
    asio::io_context context_{1};
    std::deque<std::function<void()>> calls_;
    std::deque<asio::posix::stream_descriptor> descriptors_;
    std::deque<asio::steady_timer> timers_;
    whorl::adapters::AsioGuest guest_;
};

using namespace std::chrono_literals;

WHORL_GUEST_TESTS(Asio)

TEST_P(Guest, a_handlers_exception_leaves_run_and_nothing_is_lost) {
    ASSERT_FALSE(host->attach(*loop));
    int ran = 0;
    ASSERT_TRUE(
        loop->after(1ms, [](whorl::Loop&, whorl::Expired) { throw std::runtime_error("mine"); }));
    ASSERT_TRUE(loop->after(2ms, [&](whorl::Loop&, whorl::Expired) {
        ++ran;
        host->stop();
    }));
    EXPECT_THROW(host->run(), std::runtime_error);
    host->after(20'000, [this] {
        ADD_FAILURE() << "the timer behind it was forgotten";
        host->stop();
    });
    host->run();
    EXPECT_EQ(ran, 1);
}

// Asio takes a descriptor once.
TEST_P(Guest, a_loop_that_is_attached_already_is_refused) {
    ASSERT_FALSE(host->attach(*loop));
    whorl::adapters::AsioGuest other;
    EXPECT_EQ(other.attach(*loop, host->context()), whorl::Error::from_errno(EEXIST));
    EXPECT_FALSE(other.error()) << "nothing is there";
    other.detach();
    host->detach();
    ASSERT_FALSE(other.attach(*loop, host->context()));
    other.detach();
    ping_pong(20);
}

}  // namespace
