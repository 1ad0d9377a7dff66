// SPDX-License-Identifier: MIT
// Goal: an exception out of any kind of handler leaves the running call with the loop intact, and the
// next call goes on where it was. Method: every kind of handler throws once; what was pending beside
// it must still arrive, and everything must be free afterwards.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <stdexcept>

namespace whorl::conformance {
namespace {

struct Thrown : std::runtime_error {
    Thrown() : std::runtime_error("thrown by a handler") {}
};

class LoopException : public TcpTest {
  protected:
    // Runs until a handler throws, and says whether it did before the loop had nothing left.
    static bool run_throws(Loop& loop) {
        try {
            EXPECT_FALSE(loop.run());
        } catch (const Thrown&) {
            return true;
        }
        return false;
    }
    // Something of each kind beside the thrower; all must run, whatever happened before.
    struct Company {
        int calls = 0;
        static constexpr int kinds = 4;
        void join(Loop& loop) {
            EXPECT_TRUE(loop.submit(Nop{}, [this](Loop&, Nop::Done) { ++calls; }));
            EXPECT_TRUE(loop.after(0ns, [this](Loop&, Expired) { ++calls; }));
            EXPECT_FALSE(loop.post([this](Loop&) { ++calls; }));
            Result<Operation> cancelled = loop.submit(Nop{}, [this](Loop&, Nop::Done) { ++calls; });
            loop.cancel(*cancelled);
        }
    };
};
WHORL_CONFORMANCE(LoopException);

TEST_P(LoopException, of_a_completion) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    Company company;
    company.join(loop);
    ASSERT_TRUE(loop.submit(Nop{}, [token = witness.copy()](Loop&, Nop::Done) { throw Thrown(); }));
    company.join(loop);
    EXPECT_TRUE(run_throws(loop));
    EXPECT_TRUE(witness.alone()) << "the handler that threw was not destroyed";
    EXPECT_FALSE(run_throws(loop));
    EXPECT_EQ(company.calls, 2 * Company::kinds);
    expect_clean(loop);
}

TEST_P(LoopException, of_every_completion_in_a_batch) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    for (int index = 0; index < 40; ++index) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) {
            ++calls;
            throw Thrown();
        }));
    }
    for (int thrown = 1; thrown <= 40; ++thrown) {
        EXPECT_TRUE(run_throws(loop));
        EXPECT_EQ(calls, thrown);
    }
    EXPECT_FALSE(run_throws(loop));
    expect_clean(loop);
}

TEST_P(LoopException, of_what_ended_inside_the_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Company company;
    Result<Operation> nop = loop.submit(Nop{}, [](Loop&, Nop::Done done) {
        EXPECT_EQ(done.error, Error::cancelled);
        throw Thrown();
    });
    ASSERT_TRUE(nop);
    loop.cancel(*nop);
    company.join(loop);
    EXPECT_TRUE(run_throws(loop));
    EXPECT_FALSE(run_throws(loop));
    EXPECT_EQ(company.calls, Company::kinds);
    expect_clean(loop);
}

TEST_P(LoopException, of_a_one_shot_timer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    Company company;
    ASSERT_TRUE(loop.after(0ns, [token = witness.copy()](Loop&, Expired) { throw Thrown(); }));
    company.join(loop);
    EXPECT_TRUE(run_throws(loop));
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(run_throws(loop));
    EXPECT_EQ(company.calls, Company::kinds);
    expect_clean(loop);
}

TEST_P(LoopException, of_a_periodic_timer_which_goes_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    int calls = 0;
    Result<Timer> timer = loop.every(1ms, [&, token = witness.copy()](Loop&, Expired) {
        if (++calls < 4) throw Thrown();
    });
    ASSERT_TRUE(timer);
    for (int thrown = 1; thrown < 4; ++thrown) {
        EXPECT_TRUE(run_throws(loop));
        EXPECT_EQ(calls, thrown);
    }
    run_until(loop, [&] { return calls >= 6; });
    EXPECT_FALSE(witness.alone());
    EXPECT_TRUE(loop.cancel(*timer));
    EXPECT_TRUE(witness.alone());
    expect_clean(loop);
}

TEST_P(LoopException, of_a_periodic_timer_that_has_just_cancelled_itself) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    ASSERT_TRUE(loop.every(1ms, [token = witness.copy()](Loop& inner, Expired event) {
        EXPECT_TRUE(inner.cancel(event.timer));
        throw Thrown();
    }));
    EXPECT_TRUE(run_throws(loop));
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(run_throws(loop));
    expect_clean(loop);
}

TEST_P(LoopException, of_a_post) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    Company company;
    ASSERT_FALSE(loop.post([token = witness.copy()](Loop&) { throw Thrown(); }));
    company.join(loop);
    EXPECT_TRUE(run_throws(loop));
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(run_throws(loop));
    EXPECT_EQ(company.calls, Company::kinds);
    expect_clean(loop);
}

TEST_P(LoopException, of_a_remote_post) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    Company company;
    int remote_calls = 0;
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    EXPECT_TRUE(remote->post([token = witness.copy()](Loop&) { throw Thrown(); }));
    EXPECT_TRUE(remote->post([&](Loop&) { ++remote_calls; }));
    company.join(loop);
    EXPECT_TRUE(run_throws(loop));
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(run_throws(loop));
    EXPECT_EQ(remote_calls, 1);
    EXPECT_EQ(company.calls, Company::kinds);
    expect_clean(loop);
}

TEST_P(LoopException, of_a_watch_which_goes_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    Company company;
    int calls = 0;
    ends.out.write("stays readable");
    Result<Watch> watch =
        loop.watch(ends.in.get(), Interest::readable, [&](Loop& inner, Watched w) {
            if (++calls == 3) {
                EXPECT_TRUE(inner.cancel(w.watch));
            }
            throw Thrown();
        });
    ASSERT_TRUE(watch);
    company.join(loop);
    for (int thrown = 1; thrown <= 3; ++thrown) {
        EXPECT_TRUE(run_throws(loop));
        EXPECT_EQ(calls, thrown);
    }
    EXPECT_FALSE(run_throws(loop));
    EXPECT_EQ(company.calls, Company::kinds);
    expect_clean(loop);
}

TEST_P(LoopException, of_hooks) {
    WHORL_SKIP_IF_REFUSED();
    for (const HookPoint point : {HookPoint::before_wait, HookPoint::after_wait}) {
        Loop loop = make_loop();
        Company company;
        int calls = 0;
        Result<Operation> hook = loop.hook(point, [&](Loop&) {
            if (++calls == 1) throw Thrown();
        });
        ASSERT_TRUE(hook);
        company.join(loop);
        EXPECT_TRUE(run_throws(loop));
        EXPECT_FALSE(run_throws(loop));
        EXPECT_FALSE(loop.poll());
        EXPECT_GE(calls, 2) << "it does not go on";
        EXPECT_EQ(company.calls, Company::kinds);
        EXPECT_EQ(loop.cancel(*hook), Cancelled::cancelling);
        expect_clean(loop);
    }
}

TEST_P(LoopException, of_a_close_handler) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Company company;
    Pair pair = make_pair(loop);
    ASSERT_FALSE(loop.close(pair.socket, [](Loop&) { throw Thrown(); }));
    company.join(loop);
    EXPECT_TRUE(run_throws(loop));
    EXPECT_EQ(pair.peer.receive(1), "");
    EXPECT_FALSE(run_throws(loop));
    EXPECT_EQ(company.calls, Company::kinds);
    expect_clean(loop);
}

TEST_P(LoopException, of_an_accept_stream_which_goes_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    std::vector<Socket> sockets;
    int finals = 0;
    ASSERT_TRUE(loop.submit(AcceptStream{listener}, [&](Loop&, AcceptStream::Done done) {
        if (done.socket) sockets.push_back(done.socket);
        if (!done.more) ++finals;
        throw Thrown();
    }));
    std::vector<Peer> peers;
    for (int index = 0; index < 5; ++index)
        peers.push_back(Peer::connect_to(port_of(loop, listener)));
    for (std::size_t thrown = 1; thrown <= 5; ++thrown) {
        ASSERT_TRUE(run_throws(loop));
        EXPECT_EQ(sockets.size(), thrown);
    }
    for (const Socket socket : sockets) EXPECT_FALSE(loop.close(socket));
    EXPECT_FALSE(loop.close(listener));
    EXPECT_TRUE(run_throws(loop));
    EXPECT_EQ(finals, 1);
    EXPECT_FALSE(run_throws(loop));
    expect_clean(loop);
}

TEST_P(LoopException, of_a_received_stream_which_goes_on_and_loses_no_byte) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const std::string text = pattern(200'000);
    std::string got;
    int finals = 0, thrown = 0;
    os::Thread writer([&] {
        pair.peer.send(text);
        pair.peer.finish_sending();
    });
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
        got += done.buffer.text();
        if (!done.more) ++finals;
        throw Thrown();
    }));
    while (finals == 0 && run_throws(loop)) ++thrown;
    writer.join();
    EXPECT_EQ(finals, 1);
    EXPECT_GE(thrown, 2);
    EXPECT_TRUE(got == text);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
    EXPECT_EQ(loop.statistics().operations, 0u);
}

TEST_P(LoopException, leaves_every_way_of_running) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto arm = [&] { ASSERT_FALSE(loop.post([](Loop&) { throw Thrown(); })); };
    arm();
    EXPECT_THROW(static_cast<void>(loop.run_once()), Thrown);
    arm();
    EXPECT_THROW(static_cast<void>(loop.poll()), Thrown);
    arm();
    EXPECT_THROW(static_cast<void>(loop.run_for(1h)), Thrown);
    arm();
    EXPECT_THROW(static_cast<void>(loop.process()), Thrown);
    arm();
    EXPECT_THROW(static_cast<void>(loop.drain(1s)), Thrown);
    EXPECT_FALSE(loop.run());
    int calls = 0;
    ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));  // drain is over: taken again
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
}

TEST_P(LoopException, a_handler_that_stops_and_throws_does_not_end_the_next_run) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    ASSERT_FALSE(loop.post([](Loop& inner) {
        inner.stop();
        throw Thrown();
    }));
    ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
    EXPECT_TRUE(run_throws(loop));
    EXPECT_FALSE(run_throws(loop));
    EXPECT_EQ(calls, 1);
}

TEST_P(LoopException, a_guest_that_threw_is_still_woken_by_other_threads) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<int> notify = loop.notify_fd();
    ASSERT_TRUE(notify);
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    ASSERT_FALSE(loop.process());
    ASSERT_FALSE(loop.post([](Loop&) { throw Thrown(); }));
    EXPECT_THROW(static_cast<void>(loop.process()), Thrown);
    while (loop.next_deadline() == Instant::min()) ASSERT_FALSE(loop.process());
    // Back to a quiet descriptor, after an exception in the very last turn before the host waits.
    ASSERT_FALSE(loop.post([](Loop&) { throw Thrown(); }));
    EXPECT_THROW(static_cast<void>(loop.process()), Thrown);
    int calls = 0;
    os::Thread poster([&] { EXPECT_TRUE(remote->post([&](Loop&) { ++calls; })); });
    pollfd wait{*notify, POLLIN, 0};
    EXPECT_EQ(os::poll(&wait, 1, 5000), 1) << "the post did not wake the host";
    poster.join();
    for (int turn = 0; turn < 10 && calls == 0; ++turn) {
        ASSERT_EQ(os::poll(&wait, 1, 5000), 1);
        ASSERT_FALSE(loop.process());
    }
    EXPECT_EQ(calls, 1);
}

TEST_P(LoopException, a_loop_goes_away_with_the_rest_of_the_batch_undelivered) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    {
        Loop loop = make_loop();
        Pair pair = make_pair(loop);
        pair.peer.send("never heard");
        for (int index = 0; index < 8; ++index) {
            ASSERT_TRUE(
                loop.submit(Nop{}, [token = witness.copy()](Loop&, Nop::Done) { throw Thrown(); }));
        }
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(1000)},
                                [token = witness.copy()](Loop&, Recv::Done) {}));
        EXPECT_TRUE(run_throws(loop));
    }
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
