// SPDX-License-Identifier: MIT
// Goal: each call that needs descriptors says EMFILE when there are not enough, leaves none behind, and
// works when there are. Method: none is free, then one, then two, until the call succeeds.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <sys/resource.h>

#include <functional>

namespace whorl::conformance {
namespace {

// Every descriptor below the limit is taken but for `free` of them.
class Scarcity {
  public:
    explicit Scarcity(std::size_t free) {
        os::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit low = before_;
        low.rlim_cur = static_cast<rlim_t>(*os::open_descriptors().rbegin()) + 1 + free;
        for (;;) {  // what lies below the highest
            const int fd = os::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
            if (fd < 0 || static_cast<rlim_t>(fd) + free >= low.rlim_cur) {
                if (fd >= 0) os::close(fd);
                break;
            }
            taken_.emplace_back(fd);
        }
        EXPECT_EQ(os::setrlimit(RLIMIT_NOFILE, &low), 0);
    }
    Scarcity(const Scarcity&) = delete;
    Scarcity& operator=(const Scarcity&) = delete;
    ~Scarcity() { os::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    rlimit before_{};
    std::vector<Fd> taken_;
};

class LimitsDescriptors : public TcpTools {
  protected:
    // The numbers in use, found without using one.
    static std::set<int> in_use() {
        std::set<int> numbers;
        for (int number = 0; number < 1024; ++number) {
            if (fd_is_open(number)) numbers.insert(number);
        }
        return numbers;
    }
    // Returns with how many free descriptors `call` succeeds at last.
    static std::size_t needed(const std::function<Error()>& call) {
        for (std::size_t free = 0; free < 10; ++free) {
            const Scarcity scarcity(free);
            const std::set<int> before = in_use();
            const Error error = call();
            if (!error) return free;
            EXPECT_EQ(error.value(), EMFILE) << error.name();
            EXPECT_EQ(in_use(), before) << "with " << free << " free";
        }
        ADD_FAILURE() << "never succeeds";
        return 0;
    }
    template <class Value>
    static Error error_of(const Result<Value>& result) {
        return result ? Error() : result.error();
    }
};
WHORL_CONFORMANCE(LimitsDescriptors);

TEST_P(LimitsDescriptors, remote) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Remote> remote = Error::from_errno(EMFILE);
    EXPECT_GE(needed([&] {
                  remote = loop.remote();
                  return error_of(remote);
              }),
              1u);
    bool ran = false;
    ASSERT_TRUE(remote->post([&](Loop&) { ran = true; }));
    run_until(loop, [&] { return ran; });
}

TEST_P(LimitsDescriptors, notify_fd) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ASSERT_TRUE(loop.remote());  // what a guest is woken by; it is the loop's from then on
    EXPECT_GE(needed([&] { return error_of(loop.notify_fd()); }), 1u);
    bool fired = false;
    ASSERT_TRUE(loop.after(0ns, [&](Loop&, Expired) { fired = true; }));
    const Instant end = os::now() + 10s;
    while (!fired && os::now() < end) ASSERT_FALSE(loop.process());
    EXPECT_TRUE(fired);
}

TEST_P(LimitsDescriptors, listen) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Listener listener;
    EXPECT_EQ(needed([&] {
                  const Result<Listener> made = whorl::listen(loop, Address::loopback_v4(0));
                  if (made) listener = *made;
                  return error_of(made);
              }),
              1u);
    EXPECT_EQ(loop.statistics().handles, 1u);
    ASSERT_FALSE(loop.close(listener));
}

TEST_P(LimitsDescriptors, connect) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    const Address address = Address::loopback_v4(port_of(loop, listener));
    Socket socket;
    EXPECT_EQ(needed([&] {
                  End end;
                  EXPECT_TRUE(loop.submit(Connect{address}, into(end)));
                  run_until(loop, [&] { return end.finals == 1; });
                  socket = end.socket;
                  return end.error;
              }),
              1u);
    EXPECT_EQ(loop.statistics().handles, 2u);
    ASSERT_FALSE(loop.close(socket));
    ASSERT_FALSE(loop.close(listener));
    ASSERT_FALSE(loop.drain(5s));
}

TEST_P(LimitsDescriptors, a_watch_for_priority_data) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Ends ends = Ends::sockets();
    const std::size_t free = needed([&] {
        Error error;
        bool told = false;
        const auto watched = [&](Loop&, Watched seen) {
            error = seen.error;
            told = true;
        };
        const Interest both = Interest::writable | Interest::priority;
        const Result<Watch> watch = loop.watch(ends.in.get(), both, watched);
        EXPECT_TRUE(watch);
        run_until(loop, [&] { return told; });
        loop.cancel(*watch);
        turns(loop, 2);
        return error;
    });
    // libev does not know priority data, and io_uring's own poll does not hear it: an epoll of its own.
    if (GetParam().world) EXPECT_LE(free, 1u);
    else EXPECT_EQ(free, 1u);
}

}  // namespace
}  // namespace whorl::conformance
