// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/host_memory.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <whorl/whorl.hpp>

#include <functional>
#include <string>
#include <thread>
#include <vector>

// Goal: whorl inside a foreign loop by its adapter: messages flow both ways, timers and posts wake the
// host, an idle guest does not, and after detach(), or where the guest was refused, the host goes on alone.
// Method: the same scenarios in every host. A test program defines `Host` with
//   attach(loop), detach(), error()         the adapter
//   watch(fd, call), after(ms, call)        the host's own sources; a call stays until the host's end
//   run(), stop()
// and ends with WHORL_GUEST_TESTS(Host).

namespace whorl::guests {

using namespace std::chrono_literals;

using Memory = ::Host;  // the library's, in front of the name that the tests give theirs

inline Result<Loop> make_guest(Backend backend, std::string& refusal, LoopOptions options = {}) {
    options.backend = backend;
    BackendReport report;
    Result<Loop> made = Loop::create(options, report);
    if (!made) refusal = report.text;
    return made;
}

template <class Host>
class GuestTest : public ::testing::TestWithParam<Backend> {
  protected:
    void SetUp() override {
        std::string refusal;
        Result<Loop> made = make_guest(GetParam(), refusal);
        if (!made) GTEST_SKIP() << refusal;
        loop = std::make_unique<Loop>(std::move(*made));
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
        const Result<Socket> adopted = adopt_socket(*loop, ends[0]);
        ASSERT_TRUE(adopted);
        socket = *adopted;
        host = std::make_unique<Host>();
    }
    void TearDown() override {
        if (loop == nullptr) return;
        host->detach();
        EXPECT_FALSE(loop->drain(1s));
        host.reset();
        loop.reset();
        ::close(ends[1]);
    }

    // The guest sends back what it receives.
    void echo() {
        ASSERT_TRUE(loop->submit(RecvStream{socket}, [this](Loop& inner, RecvStream::Done done) {
            if (done.error || done.buffer.empty()) return;
            EXPECT_TRUE(
                inner.submit(SendAll{socket, std::move(done.buffer)}, [](Loop&, SendAll::Done) {}));
        }));
    }

    // The host plays with the guest: it sends a number when the one before it has come back.
    void ping_pong(int rounds) {
        echo();
        ASSERT_FALSE(host->attach(*loop));
        int round = 0;
        host->watch(ends[1], [&, this] {
            int back = -1;
            ASSERT_EQ(::read(ends[1], &back, sizeof back), static_cast<ssize_t>(sizeof back));
            EXPECT_EQ(back, round);
            if (++round == rounds) return host->stop();
            ASSERT_EQ(::write(ends[1], &round, sizeof round), static_cast<ssize_t>(sizeof round));
        });
        host->after(20'000, [this] {
            ADD_FAILURE() << "the host was not woken";
            host->stop();
        });
        ASSERT_EQ(::write(ends[1], &round, sizeof round), static_cast<ssize_t>(sizeof round));
        host->run();
        EXPECT_EQ(round, rounds);
    }

    void timers() {
        ASSERT_FALSE(host->attach(*loop));
        std::vector<int> fired;
        Instant due[20];
        for (int index = 0; index < 20; ++index) {
            const auto delay = std::chrono::microseconds(1500 * (20 - index));
            due[index] = clock_now() + delay;
            ASSERT_TRUE(loop->after(delay, [&, index](Loop&, Expired) {
                EXPECT_GE(clock_now(), due[index]) << "early";
                fired.push_back(index);
                if (fired.size() == 20) host->stop();
            }));
        }
        host->after(20'000, [this] {
            ADD_FAILURE() << "the host slept over a timer";
            host->stop();
        });
        host->run();
        ASSERT_EQ(fired.size(), 20u);
        for (int index = 0; index < 20; ++index)
            EXPECT_EQ(fired[static_cast<std::size_t>(index)], 19 - index);
    }

    // The host's callbacks submit to the guest, outside of any turn of it.
    void submitted_by_the_host() {
        ASSERT_FALSE(host->attach(*loop));
        std::string received;
        host->after(1, [&, this] {
            ASSERT_TRUE(
                loop->submit(Recv{socket, loop->buffer(16)}, [&, this](Loop&, Recv::Done done) {
                    received = done.buffer.text();
                    host->stop();
                }));
        });
        host->after(5, [this] { ASSERT_EQ(::write(ends[1], "late", 4), 4); });
        host->after(20'000, [this] {
            ADD_FAILURE() << "what was submitted never reached the kernel";
            host->stop();
        });
        host->run();
        EXPECT_EQ(received, "late");
    }

    void posts_from_a_thread() {
        ASSERT_FALSE(host->attach(*loop));
        Result<Remote> remote = loop->remote();
        ASSERT_TRUE(remote);
        int ran = 0;
        std::thread thread([&, copy = *remote]() mutable {
            for (int count = 0; count < 500; ++count) {
                EXPECT_TRUE(copy.post([&, this](Loop&) {
                    if (++ran == 500) host->stop();
                }));
                if (count % 50 == 0) std::this_thread::yield();
            }
        });
        host->after(20'000, [this] {
            ADD_FAILURE() << "a post was lost";
            host->stop();
        });
        host->run();
        thread.join();
        EXPECT_EQ(ran, 500);
    }

    void idle_guest_sleeps() {
        echo();
        ASSERT_FALSE(host->attach(*loop));
        std::uint64_t before = 0;
        host->after(20, [&, this] { before = loop->statistics().turns; });
        host->after(120, [this] { host->stop(); });
        host->run();
        EXPECT_LE(loop->statistics().turns - before, 20u) << "the host turns an idle guest";
    }

    void detached() {
        echo();
        ASSERT_FALSE(host->attach(*loop));
        ASSERT_FALSE(host->attach(*loop)) << "once more, in the place of the first";
        host->after(1, [this] { host->detach(); });
        bool alone = false;
        host->after(10, [&, this] {
            alone = true;
            host->stop();
        });
        host->run();
        EXPECT_TRUE(alone);
        EXPECT_FALSE(host->error());
        const std::uint64_t turns = loop->statistics().turns;
        ASSERT_EQ(::write(ends[1], "x", 1), 1);
        host->after(10, [this] { host->stop(); });
        host->run();
        EXPECT_EQ(loop->statistics().turns, turns) << "a detached guest was turned";
        EXPECT_FALSE(loop->poll());  // and still works by itself
    }

    // Nothing was attached, and the host does what is its own.
    void expect_alone() {
        bool alone = false;
        host->after(1, [&, this] {
            alone = true;
            host->stop();
        });
        host->run();
        EXPECT_TRUE(alone);
    }

    void refused_after_its_first_turn() {
        ASSERT_FALSE(loop->poll());
        EXPECT_EQ(host->attach(*loop), Error::from_errno(EBUSY));
        expect_alone();
    }

    // Each allocation in turn, until all of them are granted.
    void refused_without_memory() {
        ASSERT_FALSE(hooked);
        std::uint64_t refusals = 0;
        for (;; ++refusals) {
            Memory::refuse(refusals);
            const Error error = host->attach(*loop);
            Memory::refuse_none();
            if (!error) break;
            EXPECT_EQ(error, Error::from_errno(ENOMEM)) << error.name();
            expect_alone();
        }
        EXPECT_GT(refusals, 0u);
        ping_pong(20);
    }

    // A loop whose first turn fails: the system has no timer for its watchdog.
    void refused_by_its_first_turn() {
        LoopOptions options;
        options.stuck_handler = 1s;
        std::string refusal;
        Result<Loop> watched = make_guest(GetParam(), refusal, options);
        ASSERT_TRUE(watched) << refusal;
        rlimit before{};
        ASSERT_EQ(::getrlimit(RLIMIT_SIGPENDING, &before), 0);
        const rlimit none{0, before.rlim_max};
        ASSERT_EQ(::setrlimit(RLIMIT_SIGPENDING, &none), 0);
        const Error first = host->attach(*watched);
        const Error told = host->error();
        ASSERT_EQ(::setrlimit(RLIMIT_SIGPENDING, &before), 0);
        EXPECT_EQ(first, Error::from_errno(EAGAIN));
        EXPECT_EQ(told, first);
        expect_alone();
        ASSERT_FALSE(host->attach(*watched)) << "there is one now";
        EXPECT_FALSE(host->error());
        int fired = 0;
        ASSERT_TRUE(watched->after(1ms, [&, this](Loop&, Expired) {
            ++fired;
            host->stop();
        }));
        host->run();
        EXPECT_EQ(fired, 1);
        host->detach();
    }

    std::unique_ptr<Loop> loop;
    std::unique_ptr<Host> host;
    Socket socket;
    int ends[2] = {-1, -1};
};

inline std::string backend_of(const ::testing::TestParamInfo<Backend>& info) {
    return name_of(info.param);
}

}  // namespace whorl::guests

#define WHORL_GUEST_TESTS(Host)                                                                  \
    class Guest : public whorl::guests::GuestTest<Host> {};                                      \
    INSTANTIATE_TEST_SUITE_P(Backends, Guest,                                                    \
                             ::testing::Values(whorl::Backend::io_uring, whorl::Backend::libev), \
                             whorl::guests::backend_of);                                         \
    TEST_P(Guest, messages_flow_both_ways) { ping_pong(2000); }                                  \
    TEST_P(Guest, timers_fire_in_order_and_not_early) { timers(); }                              \
    TEST_P(Guest, the_host_submits_outside_of_turns) { submitted_by_the_host(); }                \
    TEST_P(Guest, posts_from_a_thread_wake_the_host) { posts_from_a_thread(); }                  \
    TEST_P(Guest, an_idle_guest_lets_the_host_sleep) { idle_guest_sleeps(); }                    \
    TEST_P(Guest, the_host_goes_on_alone_after_detach) { detached(); }                           \
    TEST_P(Guest, a_loop_that_has_run_is_refused) { refused_after_its_first_turn(); }            \
    TEST_P(Guest, memory_may_be_refused) { refused_without_memory(); }                           \
    TEST_P(Guest, a_loop_that_cannot_run_is_refused) { refused_by_its_first_turn(); }
