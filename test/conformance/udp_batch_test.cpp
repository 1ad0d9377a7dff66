// SPDX-License-Identifier: MIT
// Goal: a batch sends its datagrams whole, in order and each to its address, any number of them; it ends at
// the first that is refused and says which; and every other end is the contract's.
// Method: counts on both sides of what one system call takes (64), empty and large ones among them.
#include "conformance/contract.hpp"
#include "conformance/udp_tools.hpp"

#include <whorl/udp_batch.hpp>

#include <optional>

namespace whorl::conformance {
namespace {

class UdpBatch : public UdpTest {
  protected:
    static SendBatch::Done finished(Loop& loop, SendBatch&& operation) {
        std::optional<SendBatch::Done> done;
        const auto made = loop.submit(std::move(operation), [&](Loop&, SendBatch::Done given) {
            EXPECT_FALSE(done.has_value());
            done.emplace(std::move(given));
        });
        EXPECT_TRUE(made) << made.error().text();
        run_until(loop, [&] { return done.has_value(); });
        if (!done) std::abort();
        return std::move(*done);
    }
    static std::string text_of(std::uint32_t index) {
        return std::to_string(index) + std::string(index % 7 * 20, 'x');
    }
    static Buffer bytes(const std::string& text) {
        return text.empty() ? Buffer() : Buffer::copy_of(Bytes{text.data(), text.size()});
    }
};
WHORL_CONFORMANCE(UdpBatch);

TEST_P(UdpBatch, any_number_to_two_addresses) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd one = peer(), other = peer();
    DatagramBatch kept;
    for (const std::uint32_t count : {0u, 1u, 2u, 63u, 64u, 65u, 130u}) {
        SendBatch send{socket, std::move(kept)};
        send.batch.clear();
        for (std::uint32_t index = 0; index < count; ++index) {
            const Address to = address_of(index % 3 == 0 ? other : one);
            ASSERT_TRUE(send.batch.push_back(bytes(text_of(index)), to));
        }
        SendBatch::Done done = finished(loop, std::move(send));
        EXPECT_FALSE(done.error) << done.error.text();
        EXPECT_EQ(done.sent, count);
        EXPECT_EQ(done.batch.count(), count);
        // They may come out of order in a harsh world, as datagrams do.
        std::multiset<std::string> expected, got;
        for (std::uint32_t index = 0; index < count; ++index) {
            expected.insert(text_of(index));
            got.insert(receive(index % 3 == 0 ? other : one));
        }
        EXPECT_EQ(got, expected);
        kept = std::move(done.batch);
    }
    EXPECT_FALSE(loop.close(socket));
    ASSERT_FALSE(loop.poll());
    expect_clean(loop);
}

TEST_P(UdpBatch, to_the_connected_peer_and_empty_ones) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd one = peer();
    ASSERT_FALSE(connect_udp(loop, socket, address_of(one)));
    SendBatch send{socket, {}};
    ASSERT_TRUE(send.batch.push_back(bytes("")));
    ASSERT_TRUE(send.batch.push_back(bytes(std::string(65'507, 'l'))));
    const SendBatch::Done done = finished(loop, std::move(send));
    EXPECT_FALSE(done.error) << done.error.text();
    EXPECT_EQ(done.sent, 2u);
    EXPECT_EQ(receive(one).size() + receive(one).size(), 65'507u);
    EXPECT_FALSE(loop.close(socket));
    ASSERT_FALSE(loop.poll());
    expect_clean(loop);
}

TEST_P(UdpBatch, ends_at_the_first_that_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd one = peer();
    for (const std::uint32_t bad : {0u, 1u, 64u, 70u}) {
        SendBatch send{socket, {}};
        for (std::uint32_t index = 0; index < 80; ++index) {
            const std::size_t size = index == bad ? 65'508 : 1;
            ASSERT_TRUE(send.batch.push_back(bytes(std::string(size, 's')), address_of(one)));
        }
        const SendBatch::Done done = finished(loop, std::move(send));
        EXPECT_EQ(done.error, Error::from_errno(EMSGSIZE));
        EXPECT_EQ(done.sent, bad);
        for (std::uint32_t index = 0; index < bad; ++index) EXPECT_EQ(receive(one), "s");
    }
    // Neither an address nor a peer.
    SendBatch nowhere{socket, {}};
    ASSERT_TRUE(nowhere.batch.push_back(bytes("x")));
    const SendBatch::Done done = finished(loop, std::move(nowhere));
    EXPECT_EQ(done.error, Error::from_errno(EDESTADDRREQ));
    EXPECT_EQ(done.sent, 0u);
    EXPECT_FALSE(loop.close(socket));
    ASSERT_FALSE(loop.poll());
    expect_clean(loop);
}

// A datagram socket has room again at once, so none of these waits: they end before the turn, behind
// another, or with their loop.
TEST_P(UdpBatch, cancelled_timed_out_closed_under_and_destroyed) {
    WHORL_SKIP_IF_REFUSED();
    const Fd one = peer();
    const Address to = address_of(one);
    Loop loop = make_loop();
    UdpSocket socket = open(loop);
    const auto make = [&] {
        SendBatch send{socket, {}};
        EXPECT_TRUE(send.batch.push_back(bytes("x"), to));
        return send;
    };
    Contract(loop, make).cancelled_before_the_turn();
    Ending late;
    ASSERT_TRUE(loop.submit(make(), within(0ns), ending(late)));
    run_until(loop, [&] { return late.finals == 1; });
    EXPECT_EQ(late.error, Error::timed_out);
    Ending first, second;
    ASSERT_TRUE(loop.submit(make(), ending(first)));
    ASSERT_TRUE(loop.submit(make(), ending(second)));
    bool closed = false;
    ASSERT_FALSE(loop.close(socket, [&](Loop&) { closed = true; }));
    run_until(loop, [&] { return closed; });
    EXPECT_EQ(first.error, Error::cancelled);
    EXPECT_EQ(second.error, Error::cancelled);
    EXPECT_EQ(loop.submit(make(), [](Loop&, auto) {}).error(), Error::stale_handle);
    expect_clean(loop);
    const auto witness = std::make_shared<int>(0);
    for (int turns = 0; turns < 2; ++turns) {
        Loop other = make_loop();
        socket = open(other);
        ASSERT_TRUE(other.submit(make(), [witness](Loop&, const SendBatch::Done&) {}));
        ASSERT_TRUE(other.submit(make(), [witness](Loop&, const SendBatch::Done&) {}));
        for (int turn = 0; turn < turns; ++turn) ASSERT_FALSE(other.poll());
    }
    EXPECT_EQ(witness.use_count(), 1);
}

}  // namespace
}  // namespace whorl::conformance
