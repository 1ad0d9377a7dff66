// SPDX-License-Identifier: MIT
// Goal: what is only made for those who do not wait any more is given up, and nothing else; names are compared
// as names are; what is given back in any state is kept or let go as it deserves.
// Method: servers in the same loop, a place where nobody answers, and clients that lose interest.
#include "conformance/connection_pool_tools.hpp"

namespace whorl::conformance {
namespace {

class PoolingCancelled : public PoolTools {};
WHORL_CONFORMANCE(PoolingCancelled);

TEST_P(PoolingCancelled, as_many_attempts_go_on_as_there_are_who_wait) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Taken taken[5], first, second;
    {
        const Blackhole hole;
        os::let_arrive();  // those that fill its backlog
        const std::uint16_t port = hole.address().port();
        PoolOptions options;
        options.per_host_max = 3;
        ConnectionPool pool = make_pool(loop, options);
        Operation waiting[5];
        for (int index = 0; index < 5; ++index)
            waiting[index] = take(loop, pool, port, taken[index]);
        EXPECT_EQ(pool.statistics().connecting, 3u);
        EXPECT_EQ(pool.statistics().waiting, 5u);
        constexpr std::uint32_t going_on[] = {3, 3, 2, 1, 0};
        for (int index = 0; index < 5; ++index) {
            EXPECT_NE(loop.cancel(waiting[index]), Cancelled::not_found);
            run_until(loop, [&] { return taken[index].calls == 1; });
            EXPECT_EQ(taken[index].error, Error::cancelled);
            run_until(loop, [&] { return pool.statistics().connecting == going_on[index]; });
        }
        EXPECT_EQ(pool.statistics().waiting, 0u);
        // Who comes while one is being given up gets one of its own.
        const Operation given_up = take(loop, pool, port, first);
        EXPECT_NE(loop.cancel(given_up), Cancelled::not_found);
        take(loop, pool, port, second);
        run_until(loop, [&] { return first.calls == 1; });
        run_until(loop, [&] { return pool.statistics().connecting == 1; });
        EXPECT_EQ(second.calls, 0) << second.error.name();
    }
    expect_nothing_left(loop, {});
    EXPECT_EQ(second.error, Error::cancelled) << "its pool has ended";
}

TEST_P(PoolingCancelled, who_goes_on_waiting_is_served) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    {
        PoolOptions options;
        options.per_host_max = 3;
        ConnectionPool pool = make_pool(loop, options);
        for (int leave = 1; leave <= 3; ++leave) {
            SCOPED_TRACE(leave);
            Taken taken[3], comes;
            Operation waiting[3];
            for (int index = 0; index < 3; ++index) {
                waiting[index] = take(loop, pool, site.port, taken[index]);
            }
            // At once, so that what is given up has not ended when the next one leaves.
            for (int index = 0; index < leave; ++index) {
                EXPECT_NE(loop.cancel(waiting[index]), Cancelled::not_found);
            }
            take(loop, pool, site.port, comes);
            run_until(loop, [&] {
                return taken[0].calls + taken[1].calls + taken[2].calls + comes.calls == 4;
            });
            for (int index = 0; index < 3; ++index) {
                const Error error = taken[index].error;
                EXPECT_EQ(error, index < leave ? Error(Error::cancelled) : Error()) << index;
            }
            EXPECT_FALSE(comes.error) << comes.error.name();
            for (const Taken& each : taken) {
                if (each.stream != nullptr) pool.give_back(*each.stream);
            }
            if (comes.stream != nullptr) pool.give_back(*comes.stream);
            pool.clear();
            run_until(loop, [&] {
                const PoolStatistics now = pool.statistics();
                return now.lent + now.idle + now.connecting + now.waiting == 0;
            });
        }
    }
    expect_nothing_left(loop, {&site});
}

TEST_P(PoolingCancelled, who_waits_for_the_total_and_gives_up_is_forgotten) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site one, other;
    serve_site(loop, one);
    serve_site(loop, other);
    Taken lent, waits, serves, left;
    {
        PoolOptions options;
        options.total_max = 1;
        ConnectionPool pool = make_pool(loop, options);
        Stream& stream = taken_now(loop, pool, one.port, lent);
        const Operation blocked = take(loop, pool, other.port, waits);
        EXPECT_NE(loop.cancel(blocked), Cancelled::not_found);
        run_until(loop, [&] { return waits.calls == 1; });
        EXPECT_EQ(waits.error, Error::cancelled);
        // The next one for the same host comes in its place.
        take(loop, pool, other.port, serves);
        pool.give_back(stream);
        run_until(loop, [&] { return serves.calls == 1; });
        EXPECT_FALSE(serves.error);
        EXPECT_EQ(pool.statistics().idle, 0u);
        take(loop, pool, one.port, left);  // blocked until the pool ends
        EXPECT_EQ(pool.statistics().waiting, 1u);
    }
    for (Site* site : {&one, &other}) {
        for (Stream* stream : site->open) stream->close();
    }
    expect_nothing_left(loop, {&one, &other});
    EXPECT_EQ(left.error, Error::cancelled);
}

TEST_P(PoolingCancelled, names_are_equal_whatever_their_letters) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    {
        ConnectionPool pool = make_pool(loop);
        const auto take_by = [&](const char* name) {
            Taken taken;
            EXPECT_TRUE(loop.submit(TakeConnection{pool, name, site.port}, taken.handler()));
            run_until(loop, [&] { return taken.calls == 1; });
            EXPECT_FALSE(taken.error) << taken.error.text();
            if (taken.error) std::abort();
            return taken;
        };
        const Taken first = take_by("localhost");
        EXPECT_FALSE(first.reused);
        pool.give_back(*first.stream);
        for (const char* name : {"LOCALHOST", "LocalHost"}) {
            const Taken again = take_by(name);
            EXPECT_TRUE(again.reused) << name;
            EXPECT_EQ(again.stream, first.stream);
            pool.give_back(*again.stream);
        }
        const Taken number = take_by("127.0.0.1");
        EXPECT_FALSE(number.reused) << "another name";
        EXPECT_EQ(pool.statistics().made, 2u);
        pool.give_back(*number.stream);
        pool.clear();
    }
    expect_nothing_left(loop, {&site});
}

TEST_P(PoolingCancelled, what_is_given_back_in_any_state) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    {
        PoolOptions options;
        options.per_host_max = 1;
        ConnectionPool pool = make_pool(loop, options);
        // Never used, and already waited for: it is not one that is used again.
        Taken unused, next;
        Stream& stream = taken_now(loop, pool, site.port, unused);
        take(loop, pool, site.port, next);
        pool.give_back(stream);
        run_until(loop, [&] { return next.calls == 1; });
        EXPECT_EQ(next.stream, &stream);
        EXPECT_FALSE(next.reused);
        // Used, and paused by its user: it reads on.
        ask(loop, stream);
        stream.pause();
        Taken after;
        take(loop, pool, site.port, after);
        pool.give_back(stream);
        run_until(loop, [&] { return after.calls == 1; });
        EXPECT_TRUE(after.reused);
        EXPECT_FALSE(stream.paused());
        ask(loop, stream);
        // Closing: there is nothing to keep.
        stream.close();
        pool.give_back(stream);
        EXPECT_EQ(pool.statistics().idle, 0u);
        run_until(loop, [&] { return pool.statistics().lent == 0; });
    }
    expect_nothing_left(loop, {&site});
}

}  // namespace
}  // namespace whorl::conformance
