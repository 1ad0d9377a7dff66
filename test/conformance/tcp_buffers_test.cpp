// SPDX-License-Identifier: MIT
// Goal: received streams share the pool. Exhaustion pauses and never breaks them, they go on when a
// buffer comes home and not by a timer; one stream cannot take every buffer; a buffer outlives its
// socket and its loop. Method: pools of a few buffers, programs that hoard, floods beside trickles.
#include "conformance/tcp_tools.hpp"

#include <atomic>
#include <memory>

namespace whorl::conformance {
namespace {

class TcpBuffers : public TcpTools {
  protected:
    // The smallest pool of 16 KiB buffers: one chunk of 256 KiB.
    static constexpr std::size_t few = 16;
    static void few_buffers(LoopOptions& options) {
        options.buffer_bytes_max = std::size_t{256} << 10;
        options.recv_buffer_size = 16384;
    }
    // All buffers that the pool gives now.
    static std::vector<Buffer> hoard(Loop& loop, std::size_t most) {
        std::vector<Buffer> buffers;
        while (buffers.size() < most) {
            Buffer buffer = loop.buffer(16384);
            if (!buffer) break;
            buffers.push_back(std::move(buffer));
        }
        return buffers;
    }
};
WHORL_CONFORMANCE(TcpBuffers);

struct Crowd {
    std::vector<Peer> peers;
    std::vector<Socket> sockets;
    std::vector<End> ends;
    std::size_t complete(std::size_t size) const {
        std::size_t count = 0;
        for (const End& end : ends) count += end.text.size() >= size ? 1u : 0u;
        return count;
    }
};

TEST_P(TcpBuffers, hundred_streams_share_a_few) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop(few_buffers);
    constexpr std::size_t count = 100, size = 40'000;
    Crowd crowd;
    crowd.ends.resize(count);
    for (std::size_t index = 0; index < count; ++index) {
        Pair pair = make_local_pair(loop);
        crowd.peers.push_back(std::move(pair.peer));
        crowd.sockets.push_back(pair.socket);
    }
    for (std::size_t index = 0; index < count; ++index) {
        crowd.peers[index].send(pattern(size, index));
        ASSERT_TRUE(loop.submit(RecvStream{crowd.sockets[index]}, into(crowd.ends[index])));
    }
    run_until(loop, [&] { return crowd.complete(size) == count; });
    for (std::size_t index = 0; index < count; ++index) {
        EXPECT_TRUE(crowd.ends[index].text == pattern(size, index));
        EXPECT_EQ(crowd.ends[index].finals, 0) << "no stream ends for want of a buffer";
    }
    EXPECT_LE(loop.statistics().buffer_bytes_mapped, std::size_t{256} << 10);
    close_all(loop, crowd.sockets);
    for (End& end : crowd.ends) EXPECT_EQ(end.error, Error::cancelled);
    expect_clean(loop);
}

// The program holds everything; the streams wait without a timer and without spinning, and go on with
// the first buffer that is dropped, inside or outside of run().
TEST_P(TcpBuffers, exhausted_pool_pauses_streams_until_a_buffer_comes_home) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop(few_buffers);
    std::vector<Buffer> held = hoard(loop, few);
    EXPECT_EQ(held.size(), few);
    constexpr std::size_t count = 30, size = 20'000;
    Crowd crowd;
    crowd.ends.resize(count);
    for (std::size_t index = 0; index < count; ++index) {
        Pair pair = make_local_pair(loop);
        pair.peer.send(pattern(size, index));
        crowd.peers.push_back(std::move(pair.peer));
        crowd.sockets.push_back(pair.socket);
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(crowd.ends[index])));
    }
    EXPECT_FALSE(loop.run_for(5ms));
    EXPECT_EQ(crowd.complete(1), 0u);
    EXPECT_GT(loop.statistics().recv_starved, 0u);
    EXPECT_EQ(loop.next_deadline(), instant_never) << "no timer";
    expect_idle(loop, 20ms, "the loop spins without buffers");
    held.pop_back();
    run_until(loop, [&] { return crowd.complete(size) == count; });
    for (std::size_t index = 0; index < count; ++index) {
        EXPECT_TRUE(crowd.ends[index].text == pattern(size, index));
        EXPECT_EQ(crowd.ends[index].finals, 0);
    }
    close_all(loop, crowd.sockets);
    expect_clean(loop);
}

// Streams that starved without having data must not stand between the buffers and those that have.
TEST_P(TcpBuffers, idle_streams_do_not_keep_buffers_from_busy_ones) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop(few_buffers);
    std::vector<Buffer> held = hoard(loop, few);
    constexpr std::size_t count = 200, size = 100;
    Crowd crowd;
    crowd.ends.resize(count);
    for (std::size_t index = 0; index < count; ++index) {
        Pair pair = make_local_pair(loop);
        crowd.peers.push_back(std::move(pair.peer));
        crowd.sockets.push_back(pair.socket);
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(crowd.ends[index])));
    }
    turns(loop, 5);
    held.resize(few / 2);  // as many come home as the kernel's ring takes
    turns(loop, 5);
    for (std::size_t index = count - 20; index < count; ++index) {
        crowd.peers[index].send(pattern(size, index));
    }
    run_until(loop, [&] { return crowd.complete(size) == 20; });
    for (std::size_t index = count - 20; index < count; ++index) {
        EXPECT_TRUE(crowd.ends[index].text == pattern(size, index));
    }
    close_all(loop, crowd.sockets);
    expect_clean(loop);
}

TEST_P(TcpBuffers, trickles_progress_beside_a_flood) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop(few_buffers);
    Pair flood = make_pair(loop);
    std::atomic<bool> enough{false};
    os::Thread flooder([&, fd = flood.peer.fd()] {
        const std::string block(1 << 20, 'f');
        while (!enough) {
            if (os::send(fd, block.data(), block.size(), MSG_NOSIGNAL) <= 0) return;
        }
    });
    std::uint64_t flooded = 0;
    ASSERT_TRUE(loop.submit(RecvStream{flood.socket},
                            [&](Loop&, RecvStream::Done done) { flooded += done.buffer.size(); }));
    run_until(loop, [&] { return flooded != 0; });
    constexpr std::size_t count = 20, rounds = 50;
    Crowd crowd;
    crowd.ends.resize(count);
    for (std::size_t index = 0; index < count; ++index) {
        Pair pair = make_local_pair(loop);
        crowd.peers.push_back(std::move(pair.peer));
        crowd.sockets.push_back(pair.socket);
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(crowd.ends[index])));
    }
    for (std::size_t round = 1; round <= rounds; ++round) {
        for (Peer& peer : crowd.peers) peer.send("drop");
        const std::uint64_t start = loop.statistics().turns;
        run_until(loop, [&] { return crowd.complete(4 * round) == count; });
        EXPECT_LE(loop.statistics().turns - start, 400u) << "a trickle waits for a few turns only";
    }
    enough = true;
    EXPECT_FALSE(loop.close(flood.socket));
    close_all(loop, crowd.sockets);
    flooder.join();
    EXPECT_GT(flooded, 0u);
    expect_clean(loop);
}

TEST_P(TcpBuffers, stream_pauses_at_its_share_and_goes_on_when_buffers_are_dropped) {
    WHORL_SKIP_IF_REFUSED();
    for (std::uint32_t share : {1u, 2u, 8u}) {
        Loop loop = make_loop([&](LoopOptions& options) {
            options.recv_buffers_per_stream = share;
            options.recv_buffer_size = 1024;
            options.recv_bulk_buffer_size = 0;
            options.recv_ring_depth = std::min(options.recv_ring_depth, 16u);
        });
        Pair pair = make_local_pair(loop);
        const std::string text = pattern(100'000);
        pair.peer.send(text);
        std::string got;
        std::vector<Buffer> held;
        std::size_t held_high = 0;
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
            got += done.buffer.text();
            if (!done.more) return;
            held.push_back(std::move(done.buffer));
            held_high = std::max(held_high, held.size());
        }));
        bool inside = false;
        while (got.size() < text.size()) {
            const std::size_t before = got.size();
            turns(loop, 20);
            const std::size_t paused_at = got.size();
            if (paused_at < text.size()) {
                EXPECT_GE(held.size(), share);
                EXPECT_GT(loop.statistics().recv_paused, 0u);
            }
            turns(loop, 20);
            EXPECT_EQ(got.size(), paused_at) << "it pauses";
            ASSERT_GT(got.size(), before) << "it went on";
            // Dropped from a handler, and from outside of run().
            if (inside) {
                ASSERT_FALSE(loop.post([&](Loop&) { held.clear(); }));
                turns(loop, 1);
            } else {
                held.clear();
            }
            inside = !inside;
        }
        EXPECT_TRUE(got == text);
        // The kernel may fill what lies ready, once and again, before it hears of the pause.
        EXPECT_LE(held_high, share + 2 * 16);
        held.clear();
        close_and_wait(loop, pair.socket);
        expect_clean(loop);
    }
}

TEST_P(TcpBuffers, paused_and_starved_streams_end_at_once) {
    WHORL_SKIP_IF_REFUSED();
    for (bool starved : {false, true}) {
        Loop loop = make_loop([&](LoopOptions& options) {
            few_buffers(options);
            if (!starved) options.recv_buffers_per_stream = 1;
        });
        std::vector<Buffer> held;
        if (starved) held = hoard(loop, few);
        for (int way = 0; way < 3; ++way) {
            Pair pair = make_local_pair(loop);
            pair.peer.send(pattern(50'000));
            int finals = 0;
            Error error;
            const SubmitOptions options = way == 2 ? within(5ms) : SubmitOptions();
            const Result<Operation> made =
                loop.submit(RecvStream{pair.socket}, options, [&](Loop&, RecvStream::Done done) {
                    if (done.more) return held.push_back(std::move(done.buffer));
                    ++finals;
                    error = done.error;
                });
            ASSERT_TRUE(made);
            turns(loop, 10);
            if (way == 0) {
                EXPECT_EQ(loop.cancel(*made), Cancelled::cancelling);
            } else if (way == 1) {
                EXPECT_FALSE(loop.close(pair.socket));
            }
            run_until(loop, [&] { return finals == 1; });
            EXPECT_EQ(error, way == 2 ? Error::timed_out : Error::cancelled);
            if (!starved) held.clear();
            close_all(loop, {pair.socket});
        }
        held.clear();
        expect_clean(loop);
    }
}

TEST_P(TcpBuffers, outlive_the_socket_and_the_loop) {
    WHORL_SKIP_IF_REFUSED();
    std::vector<Buffer> held;
    const std::string text = pattern(100'000);
    {
        Loop loop = make_loop();
        Pair pair = make_local_pair(loop);
        pair.peer.send(text);
        std::size_t got = 0;
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
            got += done.buffer.size();
            held.push_back(std::move(done.buffer));
        }));
        run_until(loop, [&] { return got == text.size(); });
        close_and_wait(loop, pair.socket);
        Pair next = make_local_pair(loop);  // another one in the same slot
        EXPECT_EQ(next.socket.index(), pair.socket.index());
        held.push_back(loop.buffer(100));
        held.erase(held.begin() + 1);
        const std::string first(held[0].text());
        EXPECT_TRUE(text.compare(0, first.size(), first) == 0);
        close_and_wait(loop, next.socket);
        expect_clean(loop);
    }
    const std::string first(held[0].text());
    EXPECT_FALSE(first.empty());
    EXPECT_TRUE(text.compare(0, first.size(), first) == 0);
    held.clear();
}

TEST_P(TcpBuffers, destroyed_loop_drops_what_was_in_flight) {
    WHORL_SKIP_IF_REFUSED();
    const auto token = std::make_shared<int>(0);
    Peer peer;
    {
        Loop loop = make_loop();
        Pair pair = make_narrow_pair(loop);
        const auto never = [token](Loop&, auto) { ADD_FAILURE() << "called"; };
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(blocked_size)}, never));
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(10)}, never));
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, never));
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, never));
        turns(loop, 2);
        EXPECT_EQ(token.use_count(), 6);
        peer = std::move(pair.peer);
    }
    EXPECT_EQ(token.use_count(), 1) << "handlers are destroyed, not called";
    while (!peer.receive(65536).empty()) {
    }
}

// A block carries the stream that it was received on; whoever has it next must not be taken for that.
TEST_P(TcpBuffers, a_block_that_a_stream_had_is_anybody_s_afterwards) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop(few_buffers);
    Pair pair = make_local_pair(loop);
    End end;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(end)));
    for (std::size_t round = 1; round <= 40; ++round) {  // every block has been on the stream
        pair.peer.send("x");
        run_until(loop, [&] { return end.text.size() == round; });
        hoard(loop, few).clear();
    }
    pair.peer.send("y");
    run_until(loop, [&] { return end.text.size() == 41; });
    close_all(loop, {pair.socket});
    expect_clean(loop);
}

TEST_P(TcpBuffers, a_paused_stream_waits_until_half_of_its_share_is_home) {
    WHORL_SKIP_IF_REFUSED();
    constexpr std::size_t share = 8;
    Loop loop = make_loop([&](LoopOptions& options) {
        options.recv_buffers_per_stream = share;
        options.recv_buffer_size = 256;
        options.recv_bulk_buffer_size = 0;
        options.recv_ring_depth = 2;
        options.recv_ring_depth_max = 2;
    });
    Pair pair = make_local_pair(loop);
    pair.peer.send(pattern(20'000));
    std::vector<Buffer> held;
    std::size_t received = 0;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
        received += done.buffer.size();
        if (!done.buffer.empty()) held.push_back(std::move(done.buffer));
    }));
    run_until(loop, [&] { return held.size() >= share; });
    turns(loop, 20);
    const std::size_t paused_at = received;
    while (held.size() > share / 2 + 1) {
        held.pop_back();
        turns(loop, 5);
        ASSERT_EQ(received, paused_at) << "with " << held.size() << " held";
    }
    held.pop_back();
    run_until(loop, [&] { return received > paused_at; });
    close_all(loop, {pair.socket});
}

// What lies with the kernel is the loop's; what was delivered is the program's, whatever becomes of the
// loop, and whether or not the kernel had got another buffer for it.
TEST_P(TcpBuffers, delivered_blocks_survive_a_loop_that_ran_out_of_them) {
    WHORL_SKIP_IF_REFUSED();
    std::vector<Buffer> held;
    std::vector<Buffer> others;  // so that the kernel gets none of them at the end
    {
        Loop loop = make_loop(few_buffers);
        Pair pair = make_local_pair(loop);
        others = hoard(loop, few - 2);
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
            if (!done.buffer.empty()) held.push_back(std::move(done.buffer));
        }));
        for (int count = 0; count < 4; ++count) {
            pair.peer.send("hello");
            turns(loop, 5);
        }
        run_until(loop, [&] { return loop.statistics().recv_starved != 0; });
        ASSERT_FALSE(held.empty());
    }
    for (const Buffer& buffer : held) EXPECT_EQ(buffer.text().substr(0, 5), "hello");
}

}  // namespace
}  // namespace whorl::conformance
