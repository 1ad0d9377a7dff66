// SPDX-License-Identifier: MIT
// Goal: connections are lent, given back and lent again within their limits; who waits is served in order, told
// why not, and can be cancelled; a kept connection that is of no use any more is dropped without a word.
// Method: servers in the same loop whose connections the test sees; clients that give back or lose theirs.
#include "conformance/connection_pool_tools.hpp"

namespace whorl::conformance {
namespace {

// Knows no name.
class Refusing final : public HostResolver {
  public:
    Result<Operation> find(Loop&, const ResolveQuery&, detail::ResolveListener* listener) override {
        delete listener;
        return Error::service_unknown;
    }
};

class Pooling : public PoolTools {};
WHORL_CONFORMANCE(Pooling);

TEST_P(Pooling, one_that_is_given_back_is_taken_again) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    {
        ConnectionPool pool = make_pool(loop);
        Taken first, second, other;
        Stream& stream = taken_now(loop, pool, site.port, first);
        EXPECT_FALSE(first.reused);
        ask(loop, stream);
        EXPECT_EQ(pool.statistics().lent, 1u);
        pool.give_back(stream);
        EXPECT_EQ(pool.statistics().lent, 0u);
        EXPECT_EQ(pool.statistics().idle, 1u);
        EXPECT_EQ(&taken_now(loop, pool, site.port, second), &stream);
        EXPECT_TRUE(second.reused);
        ask(loop, stream);
        EXPECT_NE(&taken_now(loop, pool, site.port, other), &stream) << "it is lent";
        EXPECT_EQ(pool.statistics().made, 2u);
        EXPECT_EQ(pool.statistics().reused, 1u);
        EXPECT_EQ(pool.statistics().lent, 2u);
        pool.discard(stream);
        pool.give_back(*other.stream);
        run_until(loop, [&] { return pool.statistics().lent == 0; });
        EXPECT_EQ(pool.statistics().idle, 1u);
        EXPECT_EQ(site.accepted, 2);
    }
    expect_nothing_left(loop, {&site});
}

TEST_P(Pooling, who_waits_for_a_host_is_served_in_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    {
        PoolOptions options;
        options.per_host_max = 1;
        options.waiting_max = 4;
        ConnectionPool pool = make_pool(loop, options);
        Taken first, second, late, cancelled, last, refused;
        Stream& stream = taken_now(loop, pool, site.port, first);
        take(loop, pool, site.port, second);
        ASSERT_TRUE(
            loop.submit(TakeConnection{pool, "127.0.0.1", site.port}, within(1ms), late.handler()));
        const Operation gone = take(loop, pool, site.port, cancelled);
        take(loop, pool, site.port, last);
        EXPECT_EQ(
            loop.submit(TakeConnection{pool, "127.0.0.1", site.port}, refused.handler()).error(),
            Error::queue_full);
        EXPECT_EQ(loop.cancel(gone), Cancelled::cancelling);
        run_until(loop, [&] { return late.calls == 1 && cancelled.calls == 1; });
        EXPECT_EQ(late.error, Error::timed_out);
        EXPECT_EQ(cancelled.error, Error::cancelled);
        EXPECT_EQ(second.calls, 0);
        EXPECT_EQ(pool.statistics().waiting, 2u);
        ask(loop, stream);
        pool.give_back(stream);
        EXPECT_EQ(second.calls, 0) << "never inline";
        run_until(loop, [&] { return second.calls == 1; });
        EXPECT_EQ(second.stream, &stream);
        EXPECT_TRUE(second.reused);
        EXPECT_EQ(last.calls, 0);
        stream.close();  // by whatever means: there is room for another
        run_until(loop, [&] { return last.calls == 1; });
        EXPECT_FALSE(last.error) << last.error.name();
        EXPECT_FALSE(last.reused);
        EXPECT_EQ(site.accepted, 2);
        EXPECT_EQ(pool.statistics().lent, 1u);
    }
    for (Stream* each : site.open) each->abort();
    expect_nothing_left(loop, {&site});
}

TEST_P(Pooling, the_total_is_shared_and_kept_ones_give_way) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site one, two;
    serve_site(loop, one);
    serve_site(loop, two);
    {
        PoolOptions options;
        options.total_max = 2;
        ConnectionPool pool = make_pool(loop, options);
        Taken a, b, c, d;
        Stream& kept = taken_now(loop, pool, one.port, a);
        Stream& lent = taken_now(loop, pool, one.port, b);
        pool.give_back(kept);
        EXPECT_EQ(pool.statistics().idle, 1u);
        taken_now(loop, pool, two.port, c);  // instead of the kept one
        EXPECT_EQ(pool.statistics().idle, 0u);
        EXPECT_EQ(pool.statistics().lent, 2u);
        take(loop, pool, two.port, d);
        pool.give_back(lent);  // wanted for another host: not kept
        run_until(loop, [&] { return d.calls == 1; });
        EXPECT_FALSE(d.error) << d.error.name();
        EXPECT_EQ(pool.statistics().lent, 2u);
        EXPECT_EQ(pool.statistics().made, 4u);
        run_until(loop, [&] { return one.open.empty() && two.accepted == 2; });
        pool.give_back(*c.stream);
        pool.give_back(*d.stream);
    }
    expect_nothing_left(loop, {&one, &two});
}

TEST_P(Pooling, kept_ones_are_few_and_for_a_time) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    {
        PoolOptions options;
        options.idle_max = 1;
        options.idle = 5ms;
        ConnectionPool pool = make_pool(loop, options);
        Taken first, second;
        Stream& older = taken_now(loop, pool, site.port, first);
        Stream& newer = taken_now(loop, pool, site.port, second);
        pool.give_back(older);
        pool.give_back(newer);
        EXPECT_EQ(pool.statistics().idle, 1u);
        run_until(loop, [&] { return site.accepted == 2 && site.open.empty(); });
        run_until(loop, [&] { return pool.statistics().lent + pool.statistics().idle == 0; });
        EXPECT_EQ(pool.statistics().dropped, 1u) << "the other one was in surplus";
        PoolOptions none;
        none.idle_max = 0;
        ConnectionPool keeps_none = make_pool(loop, none);
        Taken third;
        keeps_none.give_back(taken_now(loop, keeps_none, site.port, third));
        EXPECT_EQ(keeps_none.statistics().idle, 0u);
        run_until(loop, [&] { return keeps_none.statistics().lent == 0; });
    }
    expect_nothing_left(loop, {&site});
}

TEST_P(Pooling, kept_ones_that_end_or_speak_are_dropped) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool speaks : {false, true}) {
        Loop loop = make_loop();
        Site site;
        serve_site(loop, site);
        {
            ConnectionPool pool = make_pool(loop);
            Taken first, second;
            Stream& stream = taken_now(loop, pool, site.port, first);
            ask(loop, stream);
            pool.give_back(stream);
            if (speaks) site.open[0]->write("nobody asked");
            else site.open[0]->close();
            run_until(loop, [&] { return pool.statistics().dropped == 1; });
            EXPECT_EQ(pool.statistics().idle, 0u);
            taken_now(loop, pool, site.port, second);
            EXPECT_FALSE(second.reused);
            ask(loop, *second.stream);
            EXPECT_EQ(site.accepted, 2);
            pool.give_back(*second.stream);
            pool.clear();
            EXPECT_EQ(pool.statistics().idle, 0u);
        }
        expect_nothing_left(loop, {&site});
    }
}

TEST_P(Pooling, what_is_not_whole_is_not_kept) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    {
        ConnectionPool pool = make_pool(loop);
        Taken first;
        Stream& stream = taken_now(loop, pool, site.port, first);
        stream.write("not sent yet");
        pool.give_back(stream);
        EXPECT_EQ(pool.statistics().idle, 0u);
        EXPECT_TRUE(stream.closing());
        run_until(loop, [&] { return pool.statistics().lent == 0; });
    }
    expect_nothing_left(loop, {&site});
}

TEST_P(Pooling, one_that_is_lost_before_its_handler_is_an_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    {
        PoolOptions options;
        options.per_host_max = 1;
        ConnectionPool pool = make_pool(loop, options);
        Taken first, second;
        Stream& stream = taken_now(loop, pool, site.port, first);
        take(loop, pool, site.port, second);
        pool.give_back(stream);  // it is the second's
        stream.abort();
        run_until(loop, [&] { return second.calls == 1; });
        EXPECT_EQ(second.error, Error::from_errno(ECONNRESET)) << second.error.name();
        run_until(loop, [&] { return pool.statistics().lent == 0; });
    }
    expect_nothing_left(loop, {&site});
}

TEST_P(Pooling, everybody_is_told_that_nobody_is_there) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        const HeldPort nobody;
        PoolOptions options;
        options.per_host_max = 2;
        ConnectionPool pool = make_pool(loop, options);
        Taken taken[5];
        for (Taken& each : taken) take(loop, pool, nobody.address().port(), each);
        EXPECT_EQ(pool.statistics().connecting, 2u);
        for (Taken& each : taken) {
            run_until(loop, [&] { return each.calls == 1; });
            EXPECT_EQ(each.error, Error::from_errno(ECONNREFUSED)) << each.error.name();
        }
        EXPECT_EQ(pool.statistics().connecting + pool.statistics().waiting, 0u);
        Refusing refusing;
        options.resolver = &refusing;
        ConnectionPool other = make_pool(loop, options);
        Taken refused;
        ASSERT_TRUE(loop.submit(TakeConnection{other, "name.test", 1}, refused.handler()));
        EXPECT_EQ(refused.calls, 0) << "never inline";
        run_until(loop, [&] { return refused.calls == 1; });
        EXPECT_EQ(refused.error, Error::service_unknown);
    }
    expect_nothing_left(loop, {});
}

TEST_P(Pooling, the_end_of_the_pool) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Site site;
    serve_site(loop, site);
    Taken lent, handed, waits, kept, connecting;
    {
        const Blackhole hole;
        os::let_arrive();  // those that fill its backlog
        PoolOptions options;
        options.per_host_max = 2;
        ConnectionPool pool = make_pool(loop, options);
        taken_now(loop, pool, site.port, lent);
        taken_now(loop, pool, site.port, kept);
        take(loop, pool, site.port, handed);
        take(loop, pool, site.port, waits);
        take(loop, pool, hole.address().port(), connecting);
        pool.give_back(*kept.stream);  // for `handed`, whose handler has not run
    }
    run_until(loop, [&] { return handed.calls + waits.calls + connecting.calls == 3; });
    EXPECT_EQ(handed.error, Error::cancelled);
    EXPECT_EQ(waits.error, Error::cancelled);
    EXPECT_EQ(connecting.error, Error::cancelled);
    ask(loop, *lent.stream);  // stays
    lent.stream->close();
    expect_nothing_left(loop, {&site});
}

TEST_P(Pooling, the_end_of_its_loop) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool drained : {false, true}) {
        Taken lent, kept, waits, connecting;
        const Blackhole hole;
        os::let_arrive();
        {
            Loop loop = make_loop();
            Site site;
            serve_site(loop, site);
            PoolOptions options;
            options.per_host_max = 2;
            options.total_max = 3;
            ConnectionPool pool = make_pool(loop, options);
            taken_now(loop, pool, site.port, lent);
            taken_now(loop, pool, site.port, kept);
            take(loop, pool, hole.address().port(), connecting);
            take(loop, pool, site.port, waits);
            if (drained) {
                ASSERT_FALSE(loop.drain(10s));
                EXPECT_TRUE(waits.error == Error::cancelled || waits.error == Error::loop_closed);
                EXPECT_TRUE(connecting.error == Error::cancelled ||
                            connecting.error == Error::loop_closed);
                EXPECT_EQ(stream_statistics(loop).streams, 0u);
                EXPECT_EQ(pool.statistics().lent + pool.statistics().connecting, 0u);
            }
        }
        EXPECT_EQ(waits.calls, drained ? 1 : 0);
        EXPECT_EQ(connecting.calls, drained ? 1 : 0);
    }
}

TEST_P(Pooling, is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int option = 0; option < 3; ++option) {
        PoolOptions options;
        if (option == 0) options.per_host_max = 0;
        if (option == 1) options.total_max = 0;
        if (option == 2) options.waiting_max = 0;
        EXPECT_EQ(ConnectionPool::create(loop, options).error(), Error::invalid_argument);
    }
    {
        ConnectionPool pool = make_pool(loop);
        Taken taken;
        const auto refusal = [&](std::string_view host, std::uint16_t port) {
            return loop.submit(TakeConnection{pool, host, port}, taken.handler()).error();
        };
        EXPECT_EQ(refusal("", 1), Error::invalid_argument);
        EXPECT_EQ(refusal(std::string(254, 'a'), 1), Error::invalid_argument);
        EXPECT_EQ(refusal("127.0.0.1", 0), Error::invalid_argument);
        EXPECT_EQ(taken.calls, 0);
    }
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
