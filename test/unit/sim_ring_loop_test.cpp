// SPDX-License-Identifier: MIT
// Goal: the production io_uring driver keeps the operation contract on a ring that does everything
// that Linux may do: one end for each operation, no byte lost or doubled, every buffer home, nothing
// left behind.
// Method: a loop on the simulated ring, server and clients in one: kind worlds and many harsh seeds,
// with every level of the ring and with tiny queues. A lost completion makes the world stand still,
// which ends the program; a driver that frees too early is written to after the end (ASan).
#include "unit/sim_ring_stage.hpp"

#include <poll.h>

#include <functional>

namespace whorl::sim_ring_test {
namespace {

// A server that sends back what it receives, by streams; it ends each connection that its peer ends.
class Echo {
  public:
    explicit Echo(Loop& loop) {
        const Result<Listener> made = listen(loop, Address::loopback_v4(0));
        EXPECT_TRUE(made);
        listener_ = *made;
        address = *local_address(loop, listener_);
        EXPECT_TRUE(loop.submit(AcceptStream{listener_}, this));
    }
    void operator()(Loop& loop, AcceptStream::Done done) {
        if (!done.more) ++accept_ends;
        if (!done.socket) return;
        ++accepted;
        const Socket socket = done.socket;
        const Result<Operation> started =
            loop.submit(RecvStream{socket}, [socket](Loop& inner, RecvStream::Done part) {
                received(inner, socket, std::move(part));
            });
        if (!started) static_cast<void>(loop.close(socket));
    }
    void end(Loop& loop) { EXPECT_FALSE(loop.close(listener_)); }

    Address address;
    int accepted = 0;
    int accept_ends = 0;

  private:
    static void received(Loop& loop, Socket socket, RecvStream::Done part) {
        if (part.buffer.size() != 0) {
            SendAll reply{socket, std::move(part.buffer)};
            // What a failed one has left out must not be followed by what comes after it.
            static_cast<void>(
                loop.submit(std::move(reply), [socket](Loop& inner, SendAll::Done done) {
                    if (done.error) static_cast<void>(inner.close(socket));
                }));
        }
        if (part.more) return;
        const ShutdownSide side = ShutdownSide::send;  // after all that is to be sent
        const Result<Operation> ending = loop.submit(
            Shutdown{socket, side},
            [socket](Loop& inner, Shutdown::Done) { static_cast<void>(inner.close(socket)); });
        if (!ending) static_cast<void>(loop.close(socket));
    }
    Listener listener_;
};

// Sends `text`, ends its side, and collects what comes back until the other side ends.
class Client {
  public:
    Client(Loop& loop, const Address& address, std::string text) : sent(std::move(text)) {
        EXPECT_TRUE(loop.submit(Connect{address}, this));
    }
    void operator()(Loop& loop, Connect::Done done) {
        error = done.error;
        if (done.error) return finish(loop);
        socket = done.socket;
        Buffer bytes = Buffer::copy_of(Bytes{sent.data(), sent.size()});
        EXPECT_TRUE(loop.submit(SendAll{socket, std::move(bytes)}, this));
        receive(loop);
    }
    void operator()(Loop& loop, SendAll::Done done) {
        EXPECT_EQ(done.error ? 0 : done.bytes, done.error ? 0 : sent.size());
        if (done.error) error = done.error;
        static_cast<void>(loop.submit(Shutdown{socket}, [](Loop&, Shutdown::Done) {}));
    }
    void operator()(Loop& loop, Recv::Done done) {
        if (done.error) error = done.error;
        received += done.buffer.text();
        if (done.error || done.buffer.empty()) return finish(loop);
        receive(loop);
    }
    bool finished = false;
    Error error;
    Socket socket;
    std::string sent;
    std::string received;

  private:
    void receive(Loop& loop) {
        Recv next{socket, Buffer::allocate(700)};
        if (!loop.submit(std::move(next), this)) finish(loop);
    }
    void finish(Loop& loop) {
        finished = true;
        if (socket) static_cast<void>(loop.close(socket));
    }
};

TEST(SimRingLoop, echo) {
    on_every_stage([](SimKernel& kernel, Loop& loop) {
        Echo echo(loop);
        std::vector<std::unique_ptr<Client>> clients;
        for (std::uint64_t number = 0; number < 4; ++number) {
            const std::size_t size = 1 + kernel.choices.below(9000);
            clients.push_back(
                std::make_unique<Client>(loop, echo.address, pattern(size, number * 7919)));
        }
        const auto finished = [&] {
            return std::all_of(clients.begin(), clients.end(),
                               [](const auto& client) { return client->finished; });
        };
        while (!finished()) ASSERT_FALSE(loop.run_once());
        echo.end(loop);
        ASSERT_FALSE(loop.run());
        for (const auto& client : clients) {
            ASSERT_FALSE(client->error) << client->error.name();
            ASSERT_EQ(client->received, client->sent);
        }
        EXPECT_EQ(echo.accepted, 4);
        EXPECT_EQ(echo.accept_ends, 1);
        expect_clean(loop);
    });
}

TEST(SimRingLoop, cancel) {
    on_every_stage([](SimKernel& kernel, Loop& loop) {
        Lines lines = make_lines(kernel, loop, 3);
        for (int step = 0; step < 40; ++step) {
            Line& line = *lines[kernel.choices.below(3) % 3];
            switch (kernel.choices.below(6)) {
                case 0:
                    line.receive(loop, 1 + kernel.choices.below(3000),
                                 kernel.choices.below(2) != 0 ? MSG_WAITALL : 0);
                    break;
                case 1:
                    line.write(1 + kernel.choices.below(3000));
                    break;
                case 2:
                    line.cancel_some(loop);
                    break;
                case 3:
                    line.stream(loop);
                    break;
                default:
                    ASSERT_FALSE(loop.poll());
                    if (step % 3 == 0) kernel.advance(Nanoseconds(kernel.choices.below(100'000)));
            }
        }
        for (auto& line : lines) line->hang_up();  // what is not cancelled ends with its stream
        ASSERT_FALSE(loop.run());
        for (auto& line : lines) {
            EXPECT_EQ(line->ended, line->submitted);
            EXPECT_LE(line->received, line->written);
            EXPECT_FALSE(loop.close(line->socket));
        }
        ASSERT_FALSE(loop.run());
        expect_clean(loop);
    });
}

// Of what a send was cancelled in the middle of, its completion says how much had gone.
// A guest's host is woken to repeat a cancellation, but not without pause: its process() is called now
// and then while the kernel, which has an Accept in hand, holds on to it for 20 milliseconds.
TEST(SimRingLoop, a_cancel_that_is_repeated_lets_the_host_sleep) {
    Stage stage = stage_for(0, RingLevel::linux_6_18, false);
    stage.world.cancel_loses = 1;
    stage.world.late_completion = 1;
    stage.world.lateness_max_us = 20'000;
    int ended = 0;
    int turns_most = 0;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        stage.world.seed = seed;
        SimKernel kernel(stage.world);
        Loop loop = make_loop(kernel, stage);
        pollfd notified{*loop.notify_fd(), POLLIN, 0};
        const Result<Listener> listener = listen(loop, Address::loopback_v4(0));
        ASSERT_TRUE(listener);
        const Result<Operation> accept =
            loop.submit(Accept{*listener}, [&](Loop&, Accept::Done) { ++ended; });
        ASSERT_TRUE(accept);
        ASSERT_FALSE(loop.process());
        ASSERT_EQ(loop.cancel(*accept), Cancelled::cancelling);
        int turns = 0;
        while (ended < static_cast<int>(seed) && turns < 1000) {
            if (kernel.poll_now(&notified, 1) == 0) {
                const Instant due = loop.next_deadline();
                ASSERT_NE(due, instant_never) << "the host would sleep for ever";
                kernel.wait([&] { return kernel.poll_now(&notified, 1) != 0; }, due);
            }
            ASSERT_FALSE(loop.process());
            ++turns;
        }
        EXPECT_EQ(ended, static_cast<int>(seed));
        turns_most = std::max(turns_most, turns);
        EXPECT_FALSE(loop.close(*listener));
        ASSERT_FALSE(loop.run());
    }
    EXPECT_LE(turns_most, 80);  // no more than three a millisecond, and some
    EXPECT_GT(turns_most, 5) << "nothing was repeated: the test is void";
}

TEST(SimRingLoop, cancelled_sends_tell_what_was_sent) {
    on_every_stage([](SimKernel& kernel, Loop& loop) {
        Lines lines = make_lines(kernel, loop, 2);
        for (int step = 0; step < 12; ++step) {
            Line& line = *lines[static_cast<std::size_t>(step) % 2];
            line.queued = line.told;
            line.send(loop, 1 + kernel.choices.below(blocking(kernel)));
            ASSERT_FALSE(loop.poll());
            for (std::uint32_t count = kernel.choices.below(4); count > 0; --count) {
                line.read();
                ASSERT_FALSE(loop.poll());
            }
            line.cancel_some(loop);
            while (line.ended != line.submitted) {
                if (step % 4 == 3) line.read();  // so that it may yet succeed
                static_cast<void>(loop.cancel(Operation{}));
                line.cancel_some(loop);
                ASSERT_FALSE(loop.poll());
                kernel.advance(10us);
            }
        }
        for (auto& line : lines) {
            for (int round = 0; round < 1000 && line->arrived < line->told; ++round) {
                line->read();
                kernel.advance(100us);
            }
            EXPECT_EQ(line->arrived, line->told);
            EXPECT_FALSE(loop.close(line->socket));
        }
        ASSERT_FALSE(loop.run());
        expect_clean(loop);
    });
}

TEST(SimRingLoop, close_with_operations_in_flight) {
    on_every_stage([](SimKernel& kernel, Loop& loop) {
        Lines lines = make_lines(kernel, loop, 3);
        int closed = 0;
        for (auto& line : lines) {
            line->receive(loop, 900, MSG_WAITALL);
            if (kernel.choices.below(2) != 0) line->receive(loop, 300, 0);
            line->stream(loop);
            line->send(loop, blocking(kernel));
            line->write(kernel.choices.below(1200));
        }
        for (std::uint32_t turns = kernel.choices.below(4); turns > 0; --turns) {
            ASSERT_FALSE(loop.poll());
            for (auto& line : lines) line->read();
        }
        for (auto& line : lines) {
            EXPECT_FALSE(loop.close(line->socket, [&](Loop&) {
                EXPECT_EQ(line->ended, line->submitted) << "closed before the last end";
                ++closed;
            }));
        }
        ASSERT_FALSE(loop.run());
        EXPECT_EQ(closed, 3);
        for (auto& line : lines) {
            for (int round = 0; round < 20; ++round) {
                kernel.advance(1ms);
                line->read();
            }
            EXPECT_EQ(line->arrived, line->told);
        }
        expect_clean(loop);
    });
}

// Streams that share fewer buffers than they need, held by the program for a while.
TEST(SimRingLoop, streams_with_few_buffers) {
    on_every_stage([](SimKernel& kernel, Loop& loop) {
        constexpr std::uint64_t size = 6000;
        Lines lines = make_lines(kernel, loop, 3);
        std::vector<Buffer> held;
        for (auto& line : lines) {
            Line* one = line.get();
            ++one->submitted;
            ASSERT_TRUE(
                loop.submit(RecvStream{one->socket}, [one, &held](Loop&, RecvStream::Done done) {
                    EXPECT_EQ(done.buffer.text(), pattern(done.buffer.size(), one->received));
                    one->received += done.buffer.size();
                    if (!done.more) ++one->ended;
                    held.push_back(std::move(done.buffer));
                }));
        }
        const auto ended = [&] {
            return std::all_of(lines.begin(), lines.end(),
                               [](const auto& line) { return line->ended == line->submitted; });
        };
        for (int turn = 0; turn < 20000 && !ended(); ++turn) {
            for (auto& line : lines) {
                if (line->peer < 0) continue;
                line->write(std::min<std::uint64_t>(size - line->written, 2000));
                if (line->written == size) line->hang_up();
            }
            ASSERT_FALSE(loop.poll());
            kernel.advance(10us);
            if (turn % 8 == 7) held.clear();
        }
        held.clear();
        for (auto& line : lines) {
            EXPECT_EQ(line->received, size);
            EXPECT_FALSE(loop.close(line->socket));
        }
        ASSERT_FALSE(loop.run());
        expect_clean(loop);
    });
}

// Everything that can be in flight is, when the loop is destroyed.
void start_everything(SimKernel& kernel, Loop& loop, Lines& lines) {
    const Result<Listener> listener = listen(loop, Address::loopback_v4(0));
    ASSERT_TRUE(listener);
    const Address here = *local_address(loop, *listener);
    ASSERT_TRUE(loop.submit(AcceptStream{*listener}, [](Loop&, AcceptStream::Done) {}));
    ASSERT_TRUE(loop.submit(Connect{here}, [](Loop&, Connect::Done) {}));
    const Address nowhere = *Address::parse("192.0.2.1:9");
    ASSERT_TRUE(loop.submit(Connect{nowhere}, [](Loop&, Connect::Done) {}));
    for (auto& line : lines) {
        const std::uint32_t choice = kernel.choices.below(2);
        if (choice == 0) line->stream(loop);
        else line->receive(loop, 2000, 0);
        line->send(loop, blocking(kernel));
        line->write(kernel.choices.below(3000));
        ASSERT_TRUE(loop.watch(line->peer, Interest::readable, [](Loop&, Watched) {}));
    }
    ASSERT_TRUE(loop.remote());
    ASSERT_TRUE(loop.after(1h, [](Loop&, Expired) {}));
}

TEST(SimRingLoop, destroy_with_everything_pending) {
    on_every_stage([](SimKernel& kernel, Loop& loop) {
        Lines lines = make_lines(kernel, loop, 3);
        start_everything(kernel, loop, lines);
        for (std::uint32_t turns = kernel.choices.below(6); turns > 0; --turns) {
            ASSERT_FALSE(loop.poll());
        }
    });
}

TEST(SimRingLoop, drain_with_everything_pending) {
    on_every_stage([](SimKernel& kernel, Loop& loop) {
        Lines lines = make_lines(kernel, loop, 3);
        start_everything(kernel, loop, lines);
        for (std::uint32_t turns = kernel.choices.below(6); turns > 0; --turns) {
            ASSERT_FALSE(loop.poll());
        }
        ASSERT_FALSE(loop.drain(1s));
        for (auto& line : lines) EXPECT_EQ(line->ended, line->submitted);
        expect_clean(loop);
    });
}

// Errors at any time: every operation still ends once, and what is told is true.
TEST(SimRingLoop, operations_that_fail) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Stage stage = stage_for(seed, RingLevel::linux_6_18, seed % 3 == 1);
        stage.world.operation_error = 0.02;
        SCOPED_TRACE(::testing::Message() << "seed " << seed);
        SimKernel kernel(stage.world);
        {
            Loop loop = make_loop(kernel, stage);
            Echo echo(loop);
            std::vector<std::unique_ptr<Client>> clients;
            for (std::uint64_t number = 0; number < 4; ++number) {
                clients.push_back(
                    std::make_unique<Client>(loop, echo.address, pattern(5000, number * 7919)));
            }
            bool all = false;
            for (int turn = 0; turn < 20000 && !all; ++turn) {
                ASSERT_FALSE(loop.run_for(100us));
                all = std::all_of(clients.begin(), clients.end(),
                                  [](const auto& client) { return client->finished; });
            }
            for (const auto& client : clients) {
                EXPECT_EQ(client->received, client->sent.substr(0, client->received.size()));
            }
            ASSERT_FALSE(loop.drain(1s));
            expect_clean(loop);
        }
        EXPECT_TRUE(kernel.open_descriptors().empty());
    }
}

// Other threads of the world wake the loop.
TEST(SimRingLoop, posts_from_other_threads) {
    on_every_stage([](SimKernel& kernel, Loop& loop) {
        const Result<Remote> remote = loop.remote();
        ASSERT_TRUE(remote);
        int ran = 0;
        const std::uint32_t thread = kernel.spawn([&kernel, remote = *remote, &ran] {
            for (int count = 0; count < 20; ++count) {
                EXPECT_TRUE(remote.post([&ran](Loop&) { ++ran; }));
                kernel.advance(Nanoseconds(kernel.choices.below(20'000)));
            }
        });
        while (ran < 20) ASSERT_FALSE(loop.run_for(1s));
        kernel.join(thread);
    });
}

// A guest's host sleeps until it is told: also of what the kernel has refused to take.
TEST(SimRingLoop, a_guest_is_woken_for_what_was_refused) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Stage stage = stage_for(0, RingLevel::linux_6_18, seed % 2 == 0);
        stage.world.seed = seed;
        stage.world.ring_refusal = 0.5;
        SCOPED_TRACE(::testing::Message() << "seed " << seed);
        SimKernel kernel(stage.world);
        Loop loop = make_loop(kernel, stage);
        const Result<int> fd = loop.notify_fd();
        ASSERT_TRUE(fd);
        int ended = 0;
        for (int count = 0; count < 20; ++count) {
            ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++ended; }));
        }
        const std::function<bool()> told = [&] {
            return (kernel.file(*fd)->poll_bits() & POLLIN) != 0;
        };
        for (int turn = 0; turn < 1000 && ended < 20; ++turn) {
            const Instant bound = kernel.clock() + 1s;
            const Instant deadline = std::min(loop.next_deadline(), bound);
            const bool woken = kernel.wait(told, deadline);
            ASSERT_TRUE(woken || deadline < bound) << "nothing wakes the host";
            ASSERT_FALSE(loop.process());
        }
        EXPECT_EQ(ended, 20);
    }
}

// The same of a host that polls and sleeps as long as next_deadline() says, such as a world.
TEST(SimRingLoop, a_host_that_polls_does_not_sleep_over_what_was_refused) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Stage stage = stage_for(0, RingLevel::linux_6_18, seed % 2 == 0);
        stage.world.seed = seed;
        stage.world.ring_refusal = 0.5;
        SCOPED_TRACE(::testing::Message() << "seed " << seed);
        SimKernel kernel(stage.world);
        Loop loop = make_loop(kernel, stage);
        int ended = 0;
        for (int round = 0; round < 20; ++round) {
            ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++ended; }));
            for (int turn = 0; turn < 1000 && ended == round; ++turn) {
                ASSERT_LE(loop.next_deadline(), kernel.clock()) << "nothing wakes the host";
                ASSERT_FALSE(loop.poll());
            }
            ASSERT_EQ(ended, round + 1);
            EXPECT_EQ(loop.next_deadline(), instant_never);
        }
    }
}

// The kernel's answers to the cancels take no room in a turn, so each turn brings one of the ends that are there: a
// host that polls would take a turn that brings nothing for the last one.
TEST(SimRingLoop, each_turn_brings_an_end_while_there_is_one) {
    constexpr int count = 10;
    for (RingLevel level : {RingLevel::linux_5_15, RingLevel::linux_6_1, RingLevel::linux_6_18}) {
        SCOPED_TRACE(::testing::Message() << "level " << static_cast<int>(level));
        Stage stage = stage_for(0, level, false);
        stage.options.completions_per_turn = 1;
        SimKernel kernel(stage.world);
        Loop loop = make_loop(kernel, stage);
        std::vector<std::unique_ptr<Line>> lines;
        for (int line = 0; line < count; ++line) {
            lines.push_back(std::make_unique<Line>(kernel, loop));
            lines.back()->receive(loop, 10, 0);
        }
        const auto ended = [&lines] {
            return std::count_if(lines.begin(), lines.end(),
                                 [](const auto& line) { return line->ended == 1; });
        };
        ASSERT_FALSE(loop.poll());
        ASSERT_EQ(ended(), 0);
        for (const auto& line : lines) line->cancel_some(loop);
        ASSERT_FALSE(loop.poll());
        const auto before = ended();
        kernel.advance(1s);  // all of them have ended
        for (auto more = before + 1; more <= count; ++more) {
            ASSERT_FALSE(loop.poll());
            ASSERT_EQ(ended(), more);
        }
    }
}

// The poll that hears posts may end at any time; the guest must not sleep without it.
TEST(SimRingLoop, a_guest_is_woken_by_posts_although_its_poll_ends) {
    Stage stage = stage_for(0, RingLevel::linux_6_18, false);
    stage.world.stream_end = 1;
    SimKernel kernel(stage.world);
    Loop loop = make_loop(kernel, stage);
    const Result<int> fd = loop.notify_fd();
    const Result<Remote> remote = loop.remote();
    ASSERT_TRUE(fd && remote);
    const std::function<bool()> told = [&] {
        return (kernel.file(*fd)->poll_bits() & POLLIN) != 0;
    };
    const auto rest = [&] {  // until the host would sleep
        for (int turn = 0; turn < 20; ++turn) {
            const bool due = loop.next_deadline() <= kernel.clock();
            if (!due && !kernel.wait(told, kernel.clock() + 1ms)) return;
            ASSERT_FALSE(loop.process());
        }
    };
    int ran = 0;
    for (int count = 1; count <= 10; ++count) {
        rest();
        kernel.join(kernel.spawn([&] { EXPECT_TRUE(remote->post([&ran](Loop&) { ++ran; })); }));
        ASSERT_TRUE(kernel.wait(told, kernel.clock() + 1s)) << "nothing wakes the host";
        rest();
        ASSERT_EQ(ran, count);
    }
}

// The same seed is the same run; another one is not.
TEST(SimRingLoop, a_seed_is_a_run) {
    const auto hash_of = [](std::uint64_t seed) {
        Stage stage = stage_for(seed, RingLevel::linux_6_18, false);
        SimKernel kernel(stage.world);
        {
            Loop loop = make_loop(kernel, stage);
            Lines lines = make_lines(kernel, loop, 3);
            start_everything(kernel, loop, lines);
            for (int turn = 0; turn < 50; ++turn) EXPECT_FALSE(loop.run_for(20us));
        }
        return kernel.trace_hash();
    };
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        EXPECT_EQ(hash_of(seed), hash_of(seed));
        EXPECT_NE(hash_of(seed), hash_of(seed + 1));
    }
}

}  // namespace
}  // namespace whorl::sim_ring_test
