// SPDX-License-Identifier: MIT
// Goal: a received stream that fills its buffers goes on with large ones, and with small ones again when
// what arrives would fit them; not a byte is lost on the way, and its share is counted in bytes.
// Method: floods and trickles on one connection, the sizes of what is delivered, exhausted pools.
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class TcpBulk : public TcpTools {
  protected:
    static constexpr std::size_t small = 4096, large = 65536;
    static void sizes(LoopOptions& options) {
        options.recv_buffer_size = small;
        options.recv_bulk_buffer_size = large;
    }
    // What one stream has delivered.
    struct Delivered {
        std::string text;
        std::size_t largest = 0;
        int finals = 0;
    };
    static auto into_delivered(Delivered& delivered) {
        return [&delivered](Loop&, RecvStream::Done done) {
            delivered.text += done.buffer.text();
            delivered.largest = std::max(delivered.largest, done.buffer.size());
            if (!done.more) ++delivered.finals;
        };
    }
    // Sends `text` in pieces that the connection has room for.
    static void flood(Loop& loop, Pair& pair, Delivered& delivered, std::string_view text) {
        const std::size_t goal = delivered.text.size() + text.size();
        while (!text.empty()) {
            const std::string_view piece = text.substr(0, 100'000);
            pair.peer.send(std::string(piece));
            text.remove_prefix(piece.size());
            const std::size_t sent = goal - text.size();
            run_until(loop, [&] { return delivered.text.size() == sent; });
        }
    }
};
WHORL_CONFORMANCE(TcpBulk);

TEST_P(TcpBulk, a_stream_that_fills_its_buffers_gets_large_ones_and_goes_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop(sizes);
    Pair pair = make_local_pair(loop);
    Delivered delivered;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into_delivered(delivered)));
    std::string sent = pattern(400'000);
    flood(loop, pair, delivered, sent);
    EXPECT_GT(delivered.largest, small);
    EXPECT_LE(delivered.largest, large);
    EXPECT_GE(loop.statistics().recv_resized, 1u);
    const std::uint64_t resized = loop.statistics().recv_resized;
    for (int count = 0; count < 40; ++count) {
        flood(loop, pair, delivered, "a small message");
        sent += "a small message";
    }
    EXPECT_GT(loop.statistics().recv_resized, resized) << "and back";
    EXPECT_TRUE(delivered.text == sent);
    EXPECT_EQ(delivered.finals, 0) << "it is the same operation all the time";
    close_all(loop, {pair.socket});
    EXPECT_EQ(delivered.finals, 1);
    expect_clean(loop);
}

TEST_P(TcpBulk, small_messages_never_change_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop(sizes);
    Pair pair = make_local_pair(loop);
    Delivered delivered;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into_delivered(delivered)));
    for (int count = 0; count < 50; ++count) flood(loop, pair, delivered, pattern(small - 1));
    EXPECT_EQ(loop.statistics().recv_resized, 0u);
    EXPECT_LE(delivered.largest, small);
    close_all(loop, {pair.socket});
    expect_clean(loop);
}

TEST_P(TcpBulk, without_large_buffers_every_part_is_small) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool pool_too_small : {false, true}) {
        Loop loop = make_loop([&](LoopOptions& options) {
            options.recv_buffer_size = 16384;
            if (pool_too_small) options.buffer_bytes_max = std::size_t{256} << 10;
            else options.recv_bulk_buffer_size = 0;
        });
        Pair pair = make_local_pair(loop);
        Delivered delivered;
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into_delivered(delivered)));
        const std::string sent = pattern(300'000);
        flood(loop, pair, delivered, sent);
        EXPECT_TRUE(delivered.text == sent);
        EXPECT_LE(delivered.largest, 16384u);
        EXPECT_EQ(loop.statistics().recv_resized, 0u);
        close_all(loop, {pair.socket});
        expect_clean(loop);
    }
}

// Its share is as many bytes as before: two large ones instead of 32 small ones.
TEST_P(TcpBulk, a_bulk_stream_pauses_at_its_share_of_bytes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        sizes(options);
        options.recv_buffers_per_stream = 32;
    });
    Pair pair = make_local_pair(loop);
    Delivered delivered;
    std::vector<Buffer> held;
    bool holds = false;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
        delivered.text += done.buffer.text();
        delivered.largest = std::max(delivered.largest, done.buffer.size());
        if (holds && done.more) held.push_back(std::move(done.buffer));
    }));
    std::string sent = pattern(300'000);
    flood(loop, pair, delivered, sent);
    ASSERT_GT(delivered.largest, small);
    holds = true;
    const std::string more = pattern(60'000, 7);
    for (std::size_t at = 0; at < more.size(); at += 5000) {
        pair.peer.send(more.substr(at, 5000));
        turns(loop, 1);
    }
    run_until(loop, [&] { return loop.statistics().recv_paused != 0; });
    turns(loop, 20);
    // The kernel may fill what lies ready before it hears of the pause.
    EXPECT_LE(held.size(), 2 + 2 * LoopOptions().recv_bulk_ring_depth);
    sent += more;
    while (delivered.text.size() < sent.size()) {
        held.clear();
        turns(loop, 5);
    }
    EXPECT_TRUE(delivered.text == sent);
    held.clear();
    close_all(loop, {pair.socket});
    expect_clean(loop);
}

// Many bulk streams want more large buffers than there are: they take turns, and none is lost.
TEST_P(TcpBulk, many_bulk_streams_share_a_few_large_buffers) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        sizes(options);
        options.recv_bulk_ring_depth = 2;
        options.buffer_bytes_max = std::size_t{1} << 20;
    });
    constexpr std::size_t count = 24, size = 150'000;
    std::vector<Pair> pairs;
    std::vector<Delivered> delivered(count);
    for (std::size_t index = 0; index < count; ++index) pairs.push_back(make_local_pair(loop));
    for (std::size_t index = 0; index < count; ++index) {
        ASSERT_TRUE(loop.submit(RecvStream{pairs[index].socket}, into_delivered(delivered[index])));
    }
    for (std::size_t part = 0; part < 3; ++part) {
        for (std::size_t index = 0; index < count; ++index) {
            pairs[index].peer.send(pattern(size / 3, index));
        }
        const std::size_t goal = (part + 1) * (size / 3);
        run_until(loop, [&] {
            return std::all_of(delivered.begin(), delivered.end(),
                               [&](const Delivered& one) { return one.text.size() == goal; });
        });
    }
    for (std::size_t index = 0; index < count; ++index) {
        const std::string part = pattern(size / 3, index);
        EXPECT_TRUE(delivered[index].text == part + part + part);
        EXPECT_EQ(delivered[index].finals, 0);
    }
    EXPECT_GT(loop.statistics().recv_resized, 0u);
    std::vector<Socket> sockets;
    for (const Pair& pair : pairs) sockets.push_back(pair.socket);
    close_all(loop, sockets);
    expect_clean(loop);
}

// Streams that found no large buffer are handed over again as there are some, and not all at once, or each
// message would find none several times.
TEST_P(TcpBulk, many_bulk_streams_do_not_all_try_again_at_once) {
    WHORL_SKIP_IF_REFUSED();
    constexpr std::size_t count = 64, rounds = 8;
    Loop loop = make_loop([](LoopOptions& options) {
        sizes(options);
        options.recv_ring_depth = 64;
        options.recv_bulk_ring_depth = 8;
    });
    std::vector<Pair> pairs;
    std::vector<Delivered> delivered(count);
    for (std::size_t index = 0; index < count; ++index) pairs.push_back(make_local_pair(loop));
    for (std::size_t index = 0; index < count; ++index) {
        ASSERT_TRUE(loop.submit(RecvStream{pairs[index].socket}, into_delivered(delivered[index])));
    }
    const auto exchange = [&](std::size_t round) {
        for (Pair& pair : pairs) pair.peer.send(pattern(small, round));
        run_until(loop, [&] {
            return std::all_of(delivered.begin(), delivered.end(), [&](const Delivered& one) {
                return one.text.size() == round * small;
            });
        });
    };
    for (std::size_t round = 1; round <= 4; ++round) exchange(round);
    // In a harsh world messages come in parts that fill no buffer.
    const bool all_bulk = loop.statistics().recv_resized == count;
    const std::uint64_t before = loop.statistics().recv_starved;
    for (std::size_t round = 5; round <= 4 + rounds; ++round) exchange(round);
    const bool small_turns = GetParam().options.completions_per_turn < count;
    if (all_bulk && !small_turns) {
        EXPECT_LE(loop.statistics().recv_starved - before, 2 * rounds * count);
    }
    std::vector<Socket> sockets;
    for (const Pair& pair : pairs) sockets.push_back(pair.socket);
    close_all(loop, sockets);
    expect_clean(loop);
}

// A cancel, a close and a deadline that cross the change end the stream once.
TEST_P(TcpBulk, ends_while_it_changes) {
    WHORL_SKIP_IF_REFUSED();
    for (int way = 0; way < 3; ++way) {
        for (int wait = 0; wait < 4; ++wait) {
            Loop loop = make_loop(sizes);
            Pair pair = make_local_pair(loop);
            int finals = 0;
            Error error;
            const Result<Operation> made =
                loop.submit(RecvStream{pair.socket}, way == 2 ? within(1ms) : SubmitOptions(),
                            [&](Loop&, RecvStream::Done done) {
                                if (done.more) return;
                                ++finals;
                                error = done.error;
                            });
            ASSERT_TRUE(made);
            turns(loop, 1);
            pair.peer.send(pattern(3 * small));
            turns(loop, wait);
            if (way == 0) static_cast<void>(loop.cancel(*made));
            if (way == 1) static_cast<void>(loop.close(pair.socket));
            run_until(loop, [&] { return finals == 1; });
            EXPECT_EQ(error, way == 2 ? Error::timed_out : Error::cancelled);
            if (way != 1) close_all(loop, {pair.socket});
            expect_clean(loop);
        }
    }
}

}  // namespace
}  // namespace whorl::conformance
