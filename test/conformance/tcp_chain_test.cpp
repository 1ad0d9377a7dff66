// SPDX-License-Identifier: MIT
// Goal: a chain is sent whole, in order, and comes home, with any number of parts: more than one
// gathered call takes (64), more than the kernel takes (IOV_MAX, 1024), empty ones among them.
// Method: counts on both sides of every border, wide and narrow connections.
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class TcpChain : public TcpTools {
  protected:
    // Parts of different sizes, every fifth one empty; together pattern(result).
    static std::size_t fill(BufferChain& chain, std::uint32_t count, std::size_t size,
                            std::vector<Place>& places) {
        std::size_t total = 0;
        for (std::uint32_t index = 0; index < count; ++index) {
            const std::size_t part = index % 5 == 4 ? 0 : size + index % 3;
            Buffer buffer = Buffer::allocate(part + 1);
            const std::string text = pattern(part, total);
            EXPECT_TRUE(buffer.append(Bytes{text.data(), text.size()}));
            places.emplace_back(buffer);
            EXPECT_TRUE(chain.push_back(std::move(buffer)));
            total += part;
        }
        return total;
    }
    static void expect_home(BufferChain& chain, const std::vector<Place>& places) {
        ASSERT_EQ(chain.count(), places.size());
        for (std::uint32_t index = 0; index < chain.count(); ++index) {
            EXPECT_TRUE(places[index].holds(chain[index])) << index;
        }
    }
    static void send_and_check(Loop& loop, Pair& pair, std::uint32_t count, std::size_t size) {
        SendChain chain{pair.socket, {}};
        std::vector<Place> places;
        const std::size_t total = fill(chain.chain, count, size, places);
        End end;
        ASSERT_TRUE(loop.submit(std::move(chain), into(end)));
        turns(loop, 2);
        std::string got;
        os::Thread reader([&] { got = pair.peer.receive(total); });
        run_until(loop, [&] { return end.finals == 1; });
        reader.join();
        EXPECT_FALSE(end.error) << end.error.text();
        EXPECT_EQ(end.bytes, total);
        EXPECT_TRUE(got == pattern(total)) << count;
        expect_home(end.chain, places);
    }
};
WHORL_CONFORMANCE(TcpChain);

TEST_P(TcpChain, any_number_of_parts) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    for (std::uint32_t count :
         {1u, 2u, 5u, 63u, 64u, 65u, 128u, 129u, 1023u, 1024u, 1025u, 3000u}) {
        send_and_check(loop, pair, count, 10);
    }
    send_and_check(loop, pair, 100, 70'000);
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(pair.peer.receive(1), "");
    expect_clean(loop);
}

TEST_P(TcpChain, short_sends_go_on_inside_a_part) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    send_and_check(loop, pair, 65, 3'001);
    send_and_check(loop, pair, 3, 100'000);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpChain, comes_home_from_every_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int way = 0; way < 4; ++way) {
        Pair pair = make_narrow_pair(loop);
        SendChain chain{pair.socket, {}};
        std::vector<Place> places;
        const std::size_t total = fill(chain.chain, 100, 50'000, places);
        End end;
        const SubmitOptions options = way == 0 ? within(5ms) : SubmitOptions();
        const Result<Operation> made = loop.submit(std::move(chain), options, into(end));
        ASSERT_TRUE(made);
        turns(loop, 2);
        if (way == 1) {
            EXPECT_EQ(loop.cancel(*made), Cancelled::cancelling);
        } else if (way == 2) {
            EXPECT_FALSE(loop.close(pair.socket));
        } else if (way == 3) {
            pair.peer.reset();
        }
        run_until(loop, [&] { return end.finals == 1; });
        if (way == 3) {
            EXPECT_TRUE(end.error.value() == ECONNRESET || end.error.value() == EPIPE);
        } else {
            EXPECT_EQ(end.error, way == 0 ? Error::timed_out : Error::cancelled);
        }
        EXPECT_LT(end.bytes, total);
        expect_home(end.chain, places);
        close_all(loop, {pair.socket});
        if (way != 3) {
            EXPECT_TRUE(pair.peer.receive(total) == pattern(end.bytes));
        }
    }
    expect_clean(loop);
}

// A chain that is handed back keeps its room: cleared and filled again it is sent like a new one.
TEST_P(TcpChain, handed_back_is_used_again) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    BufferChain kept;
    for (std::uint32_t round = 1; round < 80; ++round) {
        SendChain chain{pair.socket, std::move(kept)};
        chain.chain.clear();
        std::vector<Place> places;
        const std::size_t total = fill(chain.chain, round, 5, places);
        End end;
        ASSERT_TRUE(loop.submit(std::move(chain), into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(end.bytes, total);
        EXPECT_TRUE(pair.peer.receive(total) == pattern(total));
        expect_home(end.chain, places);
        kept = std::move(end.chain);
    }
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpChain, many_queued_chains_keep_their_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    std::string expected;
    int next = 0;
    constexpr int count = 100;
    for (int index = 0; index < count; ++index) {
        SendChain chain{pair.socket, {}};
        for (int part = 0; part < 3; ++part) {
            ASSERT_TRUE(chain.chain.push_back(filled(700, expected.size())));
            expected += pattern(700, expected.size());
        }
        ASSERT_TRUE(loop.submit(std::move(chain), [&, index](Loop&, SendChain::Done done) {
            EXPECT_FALSE(done.error);
            EXPECT_EQ(done.bytes, 2'100u);
            EXPECT_EQ(next++, index);
        }));
    }
    turns(loop, 3);
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(expected.size()); });
    run_until(loop, [&] { return next == count; });
    reader.join();
    EXPECT_TRUE(got == expected);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
