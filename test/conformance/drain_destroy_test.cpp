// SPDX-License-Identifier: MIT
// Goal: destroying a loop with everything in flight calls no handler, destroys all of them, brings
// buffers home and closes descriptors, and the kernel writes nowhere afterwards. Method: tokens in
// handlers, buffers with deleters that write into them, and peers that never stop sending.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"
#include "loop/core.hpp"

#include <whorl/unix.hpp>

#include <atomic>
#include <utility>

namespace whorl::conformance {
namespace {

class DrainDestroy : public TcpTest {};
WHORL_CONFORMANCE(DrainDestroy);

// A buffer of its own heap block that notices what is written into it after it has come home.
class Trap {
  public:
    explicit Trap(std::size_t size) : bytes_(size, 'u') {}
    Buffer buffer() {
        Buffer made = adopt(bytes_.data(), bytes_.size(), [this](void*) {
            home_ = true;
            std::fill(bytes_.begin(), bytes_.end(), '\0');
        });
        made.resize(0);
        return made;
    }
    bool home() const { return home_; }
    bool untouched() const {
        return std::all_of(bytes_.begin(), bytes_.end(), [](char byte) { return byte == '\0'; });
    }

  private:
    std::vector<char> bytes_;
    bool home_ = false;
};

// How often a loop's end has looked at a record, when a handler is destroyed.
class Steps {
  public:
    Steps(Loop& loop, std::uint64_t& seen) : core_(&loop.core()), seen_(seen) {}
    Steps(Steps&& other) noexcept
        : core_(std::exchange(other.core_, nullptr)), seen_(other.seen_) {}
    Steps& operator=(Steps&&) = delete;
    ~Steps() {
        if (core_ != nullptr) seen_ = core_->end_steps;
    }

  private:
    detail::LoopCore* core_;
    std::uint64_t& seen_;
};

TEST_P(DrainDestroy, looks_at_each_operation_a_few_times_however_short_its_turns) {
    WHORL_SKIP_IF_REFUSED();
    constexpr std::uint64_t operations = 150, posts = 600;
    std::uint64_t seen = 0;
    {
        Loop loop = make_loop([](LoopOptions& options) {
            options.completions_per_turn = 1;
            options.posts_per_turn = 1;
        });
        for (std::uint64_t number = 0; number < operations; ++number) {
            const Result<SocketPair> pair = socket_pair(loop);
            ASSERT_TRUE(pair) << pair.error().name();
            ASSERT_TRUE(loop.submit(Recv{pair->first, Buffer::allocate(1)},
                                    [steps = Steps(loop, seen)](Loop&, const Recv::Done&) {}));
        }
        EXPECT_FALSE(loop.poll());  // they are under way
        for (std::uint64_t number = 0; number < posts; ++number) {
            ASSERT_FALSE(loop.post([steps = Steps(loop, seen)](Loop&) {}));
        }
    }
    EXPECT_GE(seen, operations);
    EXPECT_LE(seen, 8 * operations);
}

TEST_P(DrainDestroy, everything_in_flight_ends_silently) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    Trap receive(4096), send(8 << 20);
    Ends ends = Ends::pipe();
    Peer receiving, streaming, sending;
    std::uint16_t port = 0;
    {
        Loop loop = make_loop();
        const Listener listener = listen_here(loop);
        port = port_of(loop, listener);
        Pair a = make_pair(loop), b = make_pair(loop), c = make_pair(loop, {}, 4096);
        const auto token = [&] { return witness.copy(); };
        ASSERT_TRUE(loop.submit(AcceptStream{listener},
                                [t = token()](Loop&, AcceptStream::Done) { FAIL(); }));
        ASSERT_TRUE(loop.submit(Recv{a.socket, receive.buffer()},
                                [t = token()](Loop&, Recv::Done) { FAIL(); }));
        for (int index = 0; index < 3; ++index) {
            ASSERT_TRUE(loop.submit(Recv{a.socket, loop.buffer(1000)},
                                    [t = token()](Loop&, Recv::Done) { FAIL(); }));
        }
        ASSERT_TRUE(loop.submit(RecvStream{b.socket}, within(1h),
                                [t = token()](Loop&, RecvStream::Done) { FAIL(); }));
        Buffer bytes = send.buffer();
        bytes.resize(bytes.capacity());
        ASSERT_TRUE(loop.submit(SendAll{c.socket, std::move(bytes)},
                                [t = token()](Loop&, SendAll::Done) { FAIL(); }));
        BufferChain chain;
        Buffer part = loop.buffer(100);
        part.resize(100);
        ASSERT_TRUE(chain.push_back(std::move(part)));
        ASSERT_TRUE(loop.submit(SendChain{c.socket, std::move(chain)},
                                [t = token()](Loop&, SendChain::Done) { FAIL(); }));
        ASSERT_TRUE(loop.submit(Connect{Address::loopback_v4(port)},
                                [t = token()](Loop&, Connect::Done) { FAIL(); }));
        ASSERT_TRUE(loop.after(1h, [t = token()](Loop&, Expired) { FAIL(); }));
        ASSERT_TRUE(loop.watch(ends.in.get(), Interest::readable,
                               [t = token()](Loop&, Watched) { FAIL(); }));
        receiving = std::move(a.peer);
        streaming = std::move(b.peer);
        sending = std::move(c.peer);
        // A turn that hands everything over and dispatches nothing.
        Result<Operation> hook =
            loop.hook(HookPoint::after_wait, [](Loop& inner) { inner.stop(); });
        ASSERT_TRUE(hook);
        EXPECT_FALSE(loop.run());
        ASSERT_FALSE(loop.post([t = token()](Loop&) { FAIL(); }));
        ASSERT_FALSE(loop.close(b.socket, [t = token()](Loop&) { FAIL(); }));
        EXPECT_EQ(witness.others(), 13);
    }
    EXPECT_TRUE(witness.alone()) << witness.others() << " handlers are still there";
    EXPECT_TRUE(receive.home() && send.home()) << "a buffer did not come home";
    receiving.send("too late");
    EXPECT_TRUE(receive.untouched()) << "the kernel wrote into a buffer that was given back";
    sending.receive(100);
}

TEST_P(DrainDestroy, data_that_keeps_arriving_is_written_nowhere) {
    WHORL_SKIP_IF_REFUSED();
    for (std::uint64_t round = 0; round < scaled(100) + 10; ++round) {
        std::atomic<bool> enough{false};
        std::vector<os::Thread> writers;
        std::vector<std::unique_ptr<Trap>> traps;
        Witness witness;
        {
            Loop loop = make_loop();
            for (int index = 0; index < 2; ++index) {
                Pair pair = make_pair(loop);
                if (index == 0) {
                    for (int part = 0; part < 4; ++part) {
                        traps.push_back(std::make_unique<Trap>(16384));
                        ASSERT_TRUE(loop.submit(Recv{pair.socket, traps.back()->buffer()},
                                                [t = witness.copy()](Loop&, Recv::Done) {}));
                    }
                } else {
                    ASSERT_TRUE(loop.submit(RecvStream{pair.socket},
                                            [t = witness.copy()](Loop&, RecvStream::Done) {}));
                }
                writers.emplace_back([peer = std::move(pair.peer), &enough] {
                    const std::string block(1000, 'w');
                    while (!enough) {
                        if (os::send(peer.fd(), block.data(), block.size(), MSG_NOSIGNAL) <= 0)
                            break;
                    }
                });
            }
            for (std::uint64_t turn = 0; turn < round % 5; ++turn) ASSERT_FALSE(loop.poll());
        }
        for (const auto& trap : traps) {
            EXPECT_TRUE(trap->home());
            EXPECT_TRUE(trap->untouched()) << "the kernel wrote into a buffer that was given back";
        }
        enough = true;
        for (os::Thread& writer : writers) writer.join();
        for (const auto& trap : traps) EXPECT_TRUE(trap->untouched());
        EXPECT_TRUE(witness.alone());
        if (HasFailure()) break;
    }
}

TEST_P(DrainDestroy, accepted_connections_that_nobody_heard_of_are_closed) {
    WHORL_SKIP_IF_REFUSED();
    for (int turns = 0; turns < 4; ++turns) {
        std::vector<Peer> peers;
        {
            Loop loop = make_loop();
            const Listener listener = listen_here(loop);
            ASSERT_TRUE(loop.submit(AcceptStream{listener}, [](Loop&, AcceptStream::Done) {}));
            if (turns > 0) {
                ASSERT_FALSE(loop.poll());
            }
            for (int index = 0; index < 6; ++index) {
                peers.push_back(Peer::connect_to(port_of(loop, listener)));
            }
            if (turns > 1) {
                ASSERT_FALSE(loop.poll());
            }
            if (turns > 2) {
                loop.stop();
                ASSERT_FALSE(loop.run());
            }
        }
        for (Peer& peer : peers) EXPECT_EQ(peer.receive(1), "");
    }
}

TEST_P(DrainDestroy, thousands_in_flight_end_quickly) {
    WHORL_SKIP_IF_REFUSED();
    const std::uint64_t count = scaled(9000);
    Witness witness;
    Ends ends = Ends::pipe();
    Instant start{};
    {
        Loop loop = make_loop();
        for (std::uint64_t index = 0; index < count; ++index) {
            ASSERT_TRUE(loop.watch(ends.in.get(), Interest::readable,
                                   [t = witness.copy()](Loop&, Watched) { FAIL(); }));
        }
        ASSERT_FALSE(loop.poll());
        ASSERT_FALSE(loop.poll());
        start = os::now();
    }
    const Nanoseconds time = os::now() - start;
    EXPECT_TRUE(witness.alone());
    std::printf("  %-28s %llu watches ended in %lld us\n", GetParam().name,
                static_cast<unsigned long long>(count),
                static_cast<long long>(time.count() / 1000));
}

TEST_P(DrainDestroy, buffers_may_outlive_their_loop) {
    WHORL_SKIP_IF_REFUSED();
    Buffer kept, received;
    {
        Loop loop = make_loop();
        Pair pair = make_pair(loop);
        kept = loop.buffer(1000);
        pair.peer.send("kept");
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
            if (done.more) received = std::move(done.buffer);
        }));
        run_until(loop, [&] { return !received.empty(); });
    }
    EXPECT_EQ(received.text(), "kept");
    EXPECT_TRUE(kept.append(Bytes{received.data(), received.size()}));
    EXPECT_EQ(kept.text(), "kept");
}

TEST_P(DrainDestroy, two_loops_of_which_one_goes_while_the_other_works) {
    WHORL_SKIP_IF_REFUSED();
    Loop stays = make_loop();
    Pair pair = make_pair(stays);
    std::string got;
    ASSERT_TRUE(stays.submit(RecvStream{pair.socket},
                             [&](Loop&, RecvStream::Done done) { got += done.buffer.text(); }));
    const std::string text = pattern(100'000);
    for (int round = 0; round < 20; ++round) {
        Loop goes = make_loop();
        Pair other = make_pair(goes);
        ASSERT_TRUE(goes.submit(Recv{other.socket, goes.buffer(100)}, [](Loop&, Recv::Done) {}));
        ASSERT_FALSE(goes.poll());
        pair.peer.send(text.substr(static_cast<std::size_t>(round) * 5000, 5000));
        ASSERT_FALSE(stays.poll());
    }
    run_until(stays, [&] { return got.size() == text.size(); });
    EXPECT_TRUE(got == text);
    close_and_wait(stays, pair.socket);
    expect_clean(stays);
}

}  // namespace
}  // namespace whorl::conformance
