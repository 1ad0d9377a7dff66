// SPDX-License-Identifier: MIT
// Goal: a stream of datagrams delivers each one whole, in buffers of the pool, pauses when those are
// used up and goes on when they come home, and outlives what the network has to say.
// Method: more datagrams than buffers; buffers that are kept; ports that nobody has.
#include "conformance/udp_tools.hpp"

namespace whorl::conformance {
namespace {

class UdpStream : public UdpTest {
  protected:
    static void end(Loop& loop, Operation stream, Datagrams& got) {
        EXPECT_EQ(loop.cancel(stream), Cancelled::cancelling);
        run_until(loop, [&] { return got.finals == 1; });
        EXPECT_EQ(got.error, Error::cancelled);
    }
};
WHORL_CONFORMANCE(UdpStream);

TEST_P(UdpStream, delivers_each_datagram_whole) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    Datagrams got;
    const Operation stream = *loop.submit(RecvFromStream{socket}, into(got));
    std::vector<std::string> sent;
    for (const std::size_t size : {1u, 0u, 2u, 0u, 0u, 1472u, 9000u, 16064u, 0u, 3u}) {
        sent.push_back(pattern(size, sent.size()));
        send(other, sent.back());
        run_until(loop, [&] { return got.texts.size() == sent.size(); });
    }
    EXPECT_TRUE(got.texts == sent);
    for (const Address& sender : got.senders) EXPECT_EQ(sender, address_of(other));
    for (const bool truncated : got.truncated) EXPECT_FALSE(truncated);
    // What no block holds is cut, and that is told.
    send(other, pattern(20'000));
    run_until(loop, [&] { return got.texts.size() == sent.size() + 1; });
    EXPECT_TRUE(got.truncated.back());
    EXPECT_EQ(got.texts.back(), pattern(16384 - 320));
    end(loop, stream, got);
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpStream, loses_nothing_of_a_thousand) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    Datagrams got;
    const Operation stream = *loop.submit(RecvFromStream{socket}, into(got));
    std::multiset<std::string> sent;
    for (int index = 0; index < 1000; ++index) {
        sent.insert(std::to_string(index));
        send(other, std::to_string(index));
        // As many under way as a socket holds for sure.
        if (index % 20 == 19) run_until(loop, [&] { return got.texts.size() == sent.size(); });
    }
    EXPECT_EQ(std::multiset<std::string>(got.texts.begin(), got.texts.end()), sent);
    end(loop, stream, got);
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpStream, pauses_while_its_share_is_kept_and_goes_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.recv_buffers_per_stream = 4; });
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    Datagrams got;
    got.keep = true;
    const Operation stream = *loop.submit(RecvFromStream{socket}, into(got));
    const auto look = [&] {
        for (int turn = 0; turn < 5; ++turn) {
            os::let_arrive();
            EXPECT_FALSE(loop.poll());
        }
    };
    // What was under way when the share was used up still comes.
    for (int index = 0; index < 6; ++index) send(other, std::to_string(index));
    run_until(loop, [&] { return got.texts.size() >= 4; });
    look();
    const std::size_t paused = got.texts.size();
    for (int index = 6; index < 12; ++index) send(other, std::to_string(index));
    look();
    EXPECT_EQ(got.texts.size(), paused);
    while (got.texts.size() < 12) {
        const std::size_t before = got.texts.size();
        got.held.clear();
        run_until(loop, [&] { return got.texts.size() > before; });
    }
    const std::set<std::string> different(got.texts.begin(), got.texts.end());
    EXPECT_EQ(different.size(), 12u);
    got.held.clear();
    end(loop, stream, got);
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpStream, starves_without_memory_and_goes_on_when_some_comes_home) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        options.buffer_bytes_max = 1u << 20;
        options.recv_ring_depth = 2;
        options.recv_ring_depth_max = 2;
    });
    std::vector<Buffer> all;
    while (Buffer buffer = loop.buffer(16384)) {
        if (all.size() > 100) break;
        all.push_back(std::move(buffer));
    }
    ASSERT_LE(all.size(), 100u);
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    Datagrams got;
    const Operation stream = *loop.submit(RecvFromStream{socket}, into(got));
    send(other, "text");
    for (int turn = 0; turn < 5; ++turn) {
        os::let_arrive();
        EXPECT_FALSE(loop.poll());
    }
    EXPECT_EQ(got.finals, 0);
    EXPECT_TRUE(got.texts.empty());
    all.clear();
    run_until(loop, [&] { return got.texts.size() == 1; });
    EXPECT_EQ(got.texts[0], "text");
    end(loop, stream, got);
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpStream, outlives_what_the_network_reports) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Fd other = peer();
    const Address there = address_of(other);
    const UdpSocket socket = open(loop);
    ASSERT_FALSE(connect_udp(loop, socket, there));
    other.close();
    Datagrams got;
    const Operation stream = *loop.submit(RecvFromStream{socket}, into(got));
    EXPECT_FALSE(loop.poll());
    EXPECT_FALSE(send_one(loop, {socket, bytes("nobody hears")}));
    run_until(loop, [&] { return !got.errors.empty(); });
    EXPECT_EQ(got.errors[0], Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(got.finals, 0);
    ASSERT_FALSE(disconnect_udp(loop, socket));
    const Fd next = peer(address_of(loop, socket));
    send(next, "text");
    run_until(loop, [&] { return !got.texts.empty(); });
    EXPECT_EQ(got.texts[0], "text");
    EXPECT_EQ(got.errors.size(), 1u) << "it is told once";
    end(loop, stream, got);
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpStream, small_blocks_are_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.recv_buffer_size = 1023; });
    const UdpSocket socket = open(loop);
    const Result<Operation> made =
        loop.submit(RecvFromStream{socket}, [](Loop&, RecvFromStream::Done) {});
    EXPECT_EQ(made.error(), Error::invalid_argument);
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpStream, is_cancelled_times_out_and_is_closed_under) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const auto stream = [&] { return RecvFromStream{socket}; };
    Contract(loop, stream).cancelled_in_every_way();
    Contract(loop, stream).closed_under(socket);
    expect_clean(loop);
}

TEST_P(UdpStream, a_loop_is_destroyed_under_it) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    Fd other;
    {
        Loop loop = make_loop();
        const UdpSocket socket = open(loop);
        other = peer(address_of(loop, socket));
        const auto stream = [&] { return RecvFromStream{socket}; };
        Contract(loop, stream).left_pending(witness.copy());
        send(other, "under way");
    }
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
