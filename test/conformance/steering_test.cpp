// SPDX-License-Identifier: MIT
// Goal: new connections go to the listener that the steering names, by processor and by hash, and every
// error has its cause; a simulated world says that it has no steering.
// Method: the client's thread is bound to one processor after the other, where the loopback device delivers
// what it sends; the accepts of each listener are counted.
#include "conformance/tcp_tools.hpp"

#include <whorl/steering.hpp>

#include <sched.h>

#include <fstream>

namespace whorl::conformance {
namespace {

class SteeringTest : public TcpTools {
  protected:
    static constexpr std::uint32_t each = 4;  // connections

    // Listeners on one port, and what each has accepted.
    struct Group {
        Group(Loop& given, std::uint32_t count) : loop(given), accepted(count) {
            ListenOptions options;
            options.reuse_port = true;
            Address address = Address::loopback_v4(0);
            for (std::uint32_t index = 0; index < count; ++index) {
                const Result<Listener> listener = listen(loop, address, options);
                EXPECT_TRUE(listener) << listener.error().text();
                if (!listener) return;
                address = *local_address(loop, *listener);
                listeners.push_back(*listener);
                EXPECT_TRUE(loop.submit(AcceptStream{*listener},
                                        [this, index](Loop& inner, AcceptStream::Done done) {
                                            if (!done.socket) return;
                                            ++accepted[index];
                                            EXPECT_FALSE(inner.close(done.socket));
                                        }));
            }
            port = address.port();
        }
        ~Group() {
            for (Listener listener : listeners) static_cast<void>(loop.close(listener));
            run_until(loop, [&] { return loop.statistics().handles == 0; });
        }
        std::uint32_t sum() const {
            std::uint32_t all = 0;
            for (const std::uint32_t count : accepted) all += count;
            return all;
        }
        // How many of `each` new connections each listener gets.
        std::vector<std::uint32_t> connect() {
            std::fill(accepted.begin(), accepted.end(), 0u);
            std::vector<Peer> peers;
            for (std::uint32_t count = 0; count < each; ++count) {
                peers.push_back(Peer::connect_to(port));
            }
            run_until(loop, [&] { return sum() == each; });
            return accepted;
        }
        // That all of them go to one.
        void expect_all_at(std::uint32_t index) {
            std::vector<std::uint32_t> expected(accepted.size());
            expected[index] = each;
            EXPECT_EQ(connect(), expected);
        }

        Loop& loop;
        std::vector<Listener> listeners;
        std::vector<std::uint32_t> accepted;
        std::uint16_t port = 0;
    };

    // Whether what a processor sends to the loopback device is received by it.
    static bool loopback_stays() {
        std::ifstream file("/sys/class/net/lo/queues/rx-0/rps_cpus");
        std::string mask;
        if (!(file >> mask)) return false;
        return mask.find_first_not_of("0,") == std::string::npos;
    }
    // Calls `then(cpu)` on each processor that this thread may use.
    template <class Then>
    static void on_each_processor(Then then) {
        cpu_set_t before;
        ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (!CPU_ISSET(cpu, &before)) continue;
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            if (::sched_setaffinity(0, sizeof one, &one) != 0) continue;  // it went away
            SCOPED_TRACE(cpu);
            then(static_cast<std::uint32_t>(cpu));
        }
        ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
    }
};
WHORL_CONFORMANCE(SteeringTest);

TEST_P(SteeringTest, by_processor_modulo_or_as_the_table_says) {
    WHORL_SKIP_IF_REFUSED();
    if (GetParam().world) return;  // see refusals
    const bool stays = loopback_stays();
    for (std::uint32_t count = 1; count <= 3; ++count) {
        SCOPED_TRACE(count);
        Loop loop = make_loop();
        Group group(loop, count);
        ASSERT_FALSE(steer(loop, group.listeners.back(), {SteerBy::cpu, count, nullptr}));
        on_each_processor([&](std::uint32_t cpu) {
            if (stays) group.expect_all_at(cpu % count);
            else group.connect();
            // This one is the last listener's, the others are nobody's.
            std::vector<std::uint32_t> cpus(count, 100'000);
            cpus.back() = cpu;
            ASSERT_FALSE(steer(loop, group.listeners.front(), {SteerBy::cpu, count, cpus.data()}));
            if (stays) group.expect_all_at(count - 1);
            cpus.back() = 100'000;
            ASSERT_FALSE(steer(loop, group.listeners.front(), {SteerBy::cpu, count, cpus.data()}));
            if (stays) group.expect_all_at(cpu % count);
            ASSERT_FALSE(steer(loop, group.listeners.front(), {SteerBy::cpu, count, nullptr}));
        });
    }
}

TEST_P(SteeringTest, by_hash_it_stays_within_the_count) {
    WHORL_SKIP_IF_REFUSED();
    if (GetParam().world) return;
    Loop loop = make_loop();
    Group group(loop, 3);
    ASSERT_FALSE(steer(loop, group.listeners[1], {SteerBy::hash, 1, nullptr}));
    group.expect_all_at(0);
    ASSERT_FALSE(steer(loop, group.listeners[1], {SteerBy::hash, 2, nullptr}));
    EXPECT_EQ(group.connect()[2], 0u);
    // More than there are: the kernel spreads those itself, and none is refused.
    ASSERT_FALSE(steer(loop, group.listeners[1], {SteerBy::hash, 1024, nullptr}));
    group.connect();
}

TEST_P(SteeringTest, the_last_takes_the_number_of_one_that_is_closed) {
    WHORL_SKIP_IF_REFUSED();
    if (GetParam().world) return;
    Loop loop = make_loop();
    Group group(loop, 3);
    ASSERT_FALSE(steer(loop, group.listeners[0], {SteerBy::cpu, 1, nullptr}));
    group.expect_all_at(0);
    bool closed = false;
    ASSERT_FALSE(loop.close(group.listeners[0], [&](Loop&) { closed = true; }));
    run_until(loop, [&] { return closed; });
    group.expect_all_at(2);
}

TEST_P(SteeringTest, is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        Group group(loop, 1);
        const auto error = [&](Listener listener, std::uint32_t listeners) {
            return steer(loop, listener, {SteerBy::hash, listeners, nullptr});
        };
        EXPECT_EQ(error(group.listeners[0], 0), Error::invalid_argument);
        EXPECT_EQ(error(group.listeners[0], 1025), Error::invalid_argument);
        EXPECT_EQ(error(Listener(), 1), Error::stale_handle);
        if (GetParam().world) {
            EXPECT_EQ(error(group.listeners[0], 1), Error::from_errno(ENOPROTOOPT));
        } else {
            EXPECT_FALSE(error(group.listeners[0], 1024));
        }
    }
    if (GetParam().world) return;
    const Listener alone = listen_here(loop);
    EXPECT_EQ(steer(loop, alone, {SteerBy::cpu, 1, nullptr}), Error::from_errno(EINVAL));
    EXPECT_FALSE(loop.close(alone));
    run_until(loop, [&] { return loop.statistics().handles == 0; });
}

}  // namespace
}  // namespace whorl::conformance
