// SPDX-License-Identifier: MIT
// Goal: what travels beside a datagram is sent and received: segments, destination and interface,
// traffic class, time; and groups are joined and left.
// Method: the loopback of this machine, by RecvFrom and by the stream; a world has none of it.
#include "conformance/udp_tools.hpp"

#include <net/if.h>

namespace whorl::conformance {
namespace {

class UdpControl : public UdpTest {
  protected:
    // Sends, and answers what the other end got, once by each way of receiving.
    static Datagrams exchange(Loop& loop, UdpSocket from, SendTo operation, UdpSocket to,
                              bool by_stream, std::size_t count = 1) {
        Datagrams got;
        Operation stream;
        if (by_stream) stream = *loop.submit(RecvFromStream{to}, into(got));
        operation.socket = from;
        EXPECT_FALSE(send_one(loop, std::move(operation)));
        if (by_stream) {
            run_until(loop, [&] { return got.texts.size() >= count; });
            EXPECT_EQ(loop.cancel(stream), Cancelled::cancelling);
            run_until(loop, [&] { return got.finals == 1; });
            return got;
        }
        Datagrams all;
        while (all.texts.size() < count) {
            receive_one(loop, to, got);
            if (got.texts.empty()) break;
            all.texts.push_back(got.texts[0]);
            all.infos.push_back(got.infos[0]);
        }
        return all;
    }
    static SendTo sending(Loop& loop, UdpSocket to, const std::string& text) {
        SendTo operation{UdpSocket(), bytes(text), address_of(loop, to)};
        return operation;
    }
};
WHORL_CONFORMANCE_REAL(UdpControl);

TEST_P(UdpControl, tells_where_it_was_sent_to_by_what_and_when) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    UdpOptions options;
    options.packet_info = options.traffic_class = options.timestamps = true;
    const std::uint32_t loopback = if_nametoindex("lo");
    for (const bool v6 : {false, true}) {
        const Address any = v6 ? Address::any_v6(0) : Address::any_v4(0);
        const Address here = v6 ? Address::loopback_v6(0) : Address::loopback_v4(0);
        const UdpSocket to = open(loop, options, any), from = open(loop, {}, here);
        Address target = here;
        target.set_port(address_of(loop, to).port());
        for (const bool by_stream : {false, true}) {
            SendTo operation{from, bytes("text"), target};
            operation.control.traffic_class = 0xB9;  // expedited, and ECN 1
            const Datagrams got = exchange(loop, from, std::move(operation), to, by_stream);
            ASSERT_EQ(got.infos.size(), 1u);
            const DatagramInfo& info = got.infos[0];
            EXPECT_EQ(info.destination, here);
            EXPECT_EQ(info.interface_index, loopback);
            EXPECT_EQ(info.traffic_class, 0xB9);
            EXPECT_EQ(info.ecn(), 1);
            EXPECT_GT(info.timestamp, std::chrono::hours(24 * 365 * 50));
            EXPECT_FALSE(info.truncated);
        }
        close_and_wait(loop, to);
        close_and_wait(loop, from);
    }
    expect_clean(loop);
}

TEST_P(UdpControl, tells_nothing_that_was_not_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket to = open(loop), from = open(loop);
    const Datagrams got = exchange(loop, from, sending(loop, to, "x"), to, false);
    ASSERT_EQ(got.infos.size(), 1u);
    EXPECT_FALSE(got.infos[0].destination);
    EXPECT_EQ(got.infos[0].traffic_class, -1);
    EXPECT_EQ(got.infos[0].timestamp, 0ns);
    EXPECT_EQ(got.infos[0].segment_size, 0);
    close_and_wait(loop, to);
    close_and_wait(loop, from);
    expect_clean(loop);
}

TEST_P(UdpControl, a_source_is_chosen_or_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket to = open(loop), from = open(loop, {}, Address::any_v4(0));
    SendTo operation = sending(loop, to, "x");
    operation.control.source = Address::ipv4(127, 0, 0, 5, 0);
    operation.socket = from;
    EXPECT_FALSE(send_one(loop, std::move(operation)));
    Datagrams got;
    receive_one(loop, to, got);
    EXPECT_EQ(got.senders[0], Address::ipv4(127, 0, 0, 5, address_of(loop, from).port()));
    SendTo wrong{from, bytes("x"), address_of(loop, to)};
    wrong.control.source = Address::loopback_v6(0);
    EXPECT_EQ(send_one(loop, std::move(wrong)), Error::invalid_argument);
    close_and_wait(loop, to);
    close_and_wait(loop, from);
    expect_clean(loop);
}

// The kernel cuts what it is given, and with gro puts together again what it can.
TEST_P(UdpControl, segments_are_cut_and_put_together) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.recv_buffer_size = 65536; });
    const std::string text = pattern(10'500);
    for (const bool gro : {false, true}) {
        for (const bool by_stream : {false, true}) {
            UdpOptions options;
            options.gro = gro;
            options.receive_buffer = 1 << 20;
            const UdpSocket to = open(loop, options), from = open(loop);
            SendTo operation = sending(loop, to, text);
            operation.control.segment_size = 1000;
            const std::size_t count = gro ? 1 : 11;
            Datagrams got = exchange(loop, from, std::move(operation), to, by_stream, count);
            std::string all;
            for (std::size_t index = 0; index < got.texts.size(); ++index) {
                const std::size_t size = got.texts[index].size();
                if (!gro) {
                    EXPECT_EQ(size, index < 10 ? 1000u : 500u);
                }
                if (size > 1000) {
                    EXPECT_EQ(got.infos[index].segment_size, 1000);
                }
                all += got.texts[index];
            }
            EXPECT_TRUE(all == text) << gro << by_stream << " " << all.size();
            close_and_wait(loop, to);
            close_and_wait(loop, from);
        }
    }
    expect_clean(loop);
}

TEST_P(UdpControl, groups_are_joined_and_left) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::uint32_t loopback = if_nametoindex("lo");
    UdpOptions options;
    options.reuse_address = true;
    for (const bool v6 : {false, true}) {
        const Address any = v6 ? Address::any_v6(0) : Address::any_v4(0);
        const Address group = *Address::parse(v6 ? "[ff01::77]:0" : "239.255.77.77:0");
        const UdpSocket to = open(loop, options, any), from = open(loop, {}, any);
        ASSERT_FALSE(join_group(loop, to, group, loopback));
        EXPECT_EQ(join_group(loop, to, group, loopback), Error::from_errno(EADDRINUSE));
        EXPECT_TRUE(join_group(loop, to, Address::loopback_v4(0), loopback));
        MulticastOptions how;
        how.hops = 0;
        how.interface_index = loopback;
        ASSERT_FALSE(set_multicast(loop, from, how));
        // The loopback has a route for groups of IPv4, and for those of IPv6 not everywhere.
        if (!v6) {
            Address there = group;
            there.set_port(address_of(loop, to).port());
            EXPECT_FALSE(send_one(loop, {from, bytes("to all"), there}));
            Datagrams got;
            receive_one(loop, to, got);
            ASSERT_EQ(got.texts.size(), 1u);
            EXPECT_EQ(got.texts[0], "to all");
        }
        ASSERT_FALSE(leave_group(loop, to, group, loopback));
        EXPECT_EQ(leave_group(loop, to, group, loopback), Error::from_errno(EADDRNOTAVAIL));
        how.hops = 256;
        EXPECT_EQ(set_multicast(loop, from, how), Error::from_errno(EINVAL));
        EXPECT_FALSE(set_hops(loop, from, 1));
        EXPECT_EQ(set_hops(loop, from, 0), Error::from_errno(EINVAL));
        close_and_wait(loop, to);
        close_and_wait(loop, from);
    }
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
