// SPDX-License-Identifier: MIT
// Goal: control messages are written as the kernel reads them and read back whatever the bytes say.
// Method: against the kernel's own CMSG_ macros; every length that is wrong; random bytes in a block of
// their exact size, so that a byte too many is found by the sanitizer.
#include <gtest/gtest.h>
#include <whorl/control_message.hpp>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace whorl {
namespace {

TEST(ControlMessage, is_written_as_the_macros_read_it) {
    alignas(cmsghdr) unsigned char space[256];
    ControlBuilder builder(space, sizeof space);
    const int first[3] = {7, 8, 9};
    const std::uint16_t second = 1200;
    ASSERT_TRUE(builder.add(SOL_SOCKET, SCM_RIGHTS, first));
    ASSERT_TRUE(builder.add(SOL_UDP, UDP_SEGMENT, second));
    EXPECT_EQ(builder.size(), CMSG_SPACE(sizeof first) + CMSG_SPACE(sizeof second));
    EXPECT_EQ(ControlBuilder::space(sizeof first), CMSG_SPACE(sizeof first));
    msghdr message{};
    message.msg_control = space;
    message.msg_controllen = builder.size();
    cmsghdr* item = CMSG_FIRSTHDR(&message);
    ASSERT_NE(item, nullptr);
    EXPECT_EQ(item->cmsg_len, CMSG_LEN(sizeof first));
    EXPECT_EQ(std::memcmp(CMSG_DATA(item), first, sizeof first), 0);
    item = CMSG_NXTHDR(&message, item);
    ASSERT_NE(item, nullptr);
    EXPECT_EQ(item->cmsg_type, UDP_SEGMENT);
    EXPECT_EQ(CMSG_NXTHDR(&message, item), nullptr);
    ControlReader reader(Bytes{space, builder.size()});
    ControlMessage read;
    ASSERT_TRUE(reader.next(read));
    EXPECT_EQ(read.level, SOL_SOCKET);
    EXPECT_EQ(read.data.size, sizeof first);
    ASSERT_TRUE(reader.next(read));
    EXPECT_EQ(read.data.size, sizeof second);
    EXPECT_FALSE(reader.next(read));
    EXPECT_FALSE(reader.malformed());
}

TEST(ControlMessage, finds_no_room_without_changing_anything) {
    alignas(cmsghdr) unsigned char space[64] = {};
    for (std::size_t room = 0; room <= sizeof space; ++room) {
        ControlBuilder builder(space, room);
        const std::uint64_t value = 1;
        EXPECT_EQ(builder.add(1, 2, value), room >= CMSG_SPACE(sizeof value)) << room;
        EXPECT_LE(builder.size(), room);
        EXPECT_FALSE(builder.add(1, 2, &value, SIZE_MAX));
        EXPECT_FALSE(builder.add(1, 2, &value, SIZE_MAX - 20));
    }
}

TEST(ControlMessage, lengths_that_make_no_sense_end_the_reading) {
    for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{15},
                                     std::size_t{33}, SIZE_MAX, SIZE_MAX - 7, SIZE_MAX / 2}) {
        unsigned char space[32] = {};
        cmsghdr header{};
        header.cmsg_len = length;
        std::memcpy(space, &header, sizeof header);
        ControlReader reader(Bytes{space, sizeof space});
        ControlMessage message;
        EXPECT_FALSE(reader.next(message)) << length;
        EXPECT_TRUE(reader.malformed());
        EXPECT_FALSE(reader.next(message));
        EXPECT_TRUE(parse_datagram_info(Bytes{space, sizeof space}).truncated);
    }
    // The last one's padding may be missing.
    alignas(cmsghdr) unsigned char space[64];
    ControlBuilder builder(space, sizeof space);
    ASSERT_TRUE(builder.add(1, 2, std::uint8_t{3}));
    ControlReader reader(Bytes{space, CMSG_LEN(1)});
    ControlMessage message;
    EXPECT_TRUE(reader.next(message));
    EXPECT_FALSE(reader.next(message));
    EXPECT_FALSE(reader.malformed());
}

TEST(ControlMessage, what_is_known_of_a_datagram_is_read) {
    alignas(cmsghdr) unsigned char space[256];
    ControlBuilder builder(space, sizeof space);
    in_pktinfo packet{};
    packet.ipi_ifindex = 3;
    packet.ipi_addr.s_addr = htonl(0x7F000002);
    const timespec time{1'700'000'000, 5};
    ASSERT_TRUE(builder.add(IPPROTO_IP, IP_PKTINFO, packet));
    ASSERT_TRUE(builder.add(IPPROTO_IP, IP_TOS, std::uint8_t{0xB9}));
    ASSERT_TRUE(builder.add(SOL_SOCKET, SCM_TIMESTAMPNS, time));
    ASSERT_TRUE(builder.add(SOL_UDP, UDP_GRO, int{1200}));
    ASSERT_TRUE(builder.add(99, 99, time));  // not known: passed over
    const DatagramInfo info = parse_datagram_info(Bytes{space, builder.size()});
    EXPECT_EQ(info.destination, Address::ipv4(127, 0, 0, 2, 0));
    EXPECT_EQ(info.interface_index, 3u);
    EXPECT_EQ(info.traffic_class, 0xB9);
    EXPECT_EQ(info.ecn(), 1);
    EXPECT_EQ(info.timestamp, std::chrono::seconds(1'700'000'000) + Nanoseconds(5));
    EXPECT_EQ(info.segment_size, 1200);
    EXPECT_FALSE(info.truncated);
    EXPECT_EQ(DatagramInfo().ecn(), -1);
}

TEST(ControlMessage, what_is_asked_for_is_built_for_either_family) {
    for (const int family : {AF_INET, AF_INET6}) {
        alignas(cmsghdr) unsigned char space[128];
        ControlBuilder builder(space, sizeof space);
        DatagramControl control;
        control.source = family == AF_INET ? Address::loopback_v4(1) : Address::loopback_v6(1);
        control.interface_index = 1;
        control.traffic_class = 2;
        control.segment_size = 1000;
        ASSERT_TRUE(build_datagram_control(builder, control, family));
        const DatagramInfo info = parse_datagram_info(Bytes{space, builder.size()});
        EXPECT_EQ(info.interface_index, 1u);
        EXPECT_EQ(info.ecn(), 2);
    }
    unsigned char little[8];
    ControlBuilder none(little, sizeof little);
    EXPECT_TRUE(build_datagram_control(none, {}, AF_INET));
    EXPECT_EQ(none.size(), 0u);
    DatagramControl control;
    control.segment_size = 1;
    EXPECT_FALSE(build_datagram_control(none, control, AF_INET));
}

// Longer data is of a later kernel.
TEST(ControlMessage, what_is_too_short_or_of_another_type_is_not_known) {
    in_pktinfo packet{};
    packet.ipi_ifindex = 7;
    in6_pktinfo packet6{};
    packet6.ipi6_ifindex = 7;
    const timespec time{7, 0};
    const int seven = 7;
    struct Known {
        int level, type;
        const void* data;
        std::size_t size, least;
    };
    const Known known[] = {{IPPROTO_IP, IP_PKTINFO, &packet, sizeof packet, sizeof packet},
                           {IPPROTO_IPV6, IPV6_PKTINFO, &packet6, sizeof packet6, sizeof packet6},
                           {SOL_SOCKET, SCM_TIMESTAMPNS, &time, sizeof time, sizeof time},
                           {SOL_UDP, UDP_GRO, &seven, sizeof seven, sizeof seven},
                           {IPPROTO_IP, IP_TOS, &seven, sizeof seven, 1},
                           {IPPROTO_IPV6, IPV6_TCLASS, &seven, sizeof seven, 1}};
    for (const Known& each : known) {
        for (std::size_t size = 0; size <= each.size + 8; ++size) {
            for (const bool other : {false, true}) {
                SCOPED_TRACE(std::to_string(each.level) + " " + std::to_string(each.type) + " " +
                             std::to_string(size));
                unsigned char data[64] = {};
                std::memcpy(data, each.data, std::min(size, each.size));
                alignas(cmsghdr) unsigned char space[128];
                ControlBuilder builder(space, sizeof space);
                ASSERT_TRUE(builder.add(each.level, other ? 9999 : each.type, data, size));
                const DatagramInfo info = parse_datagram_info(Bytes{space, builder.size()});
                const bool told = info.interface_index == 7 || info.traffic_class == 7 ||
                                  info.segment_size == 7 || info.timestamp.count() != 0;
                EXPECT_EQ(told, size >= each.least && !other);
                EXPECT_FALSE(info.truncated);
            }
        }
    }
}

TEST(ControlMessage, numbers_that_make_no_sense_are_not_told) {
    const auto info_of = [](int level, int type, const auto& value) {
        alignas(cmsghdr) unsigned char space[64];
        ControlBuilder builder(space, sizeof space);
        EXPECT_TRUE(builder.add(level, type, value));
        return parse_datagram_info(Bytes{space, builder.size()});
    };
    for (const int size : {-1, 0, 65536, INT_MIN, INT_MAX}) {
        EXPECT_EQ(info_of(SOL_UDP, UDP_GRO, size).segment_size, 0) << size;
    }
    EXPECT_EQ(info_of(SOL_UDP, UDP_GRO, 65535).segment_size, 65535);
    const timespec times[] = {{-1, 0}, {9'000'000'000, 0}, {1, -1}, {1, 1'000'000'000}};
    for (const timespec& time : times) {
        EXPECT_EQ(info_of(SOL_SOCKET, SCM_TIMESTAMPNS, time).timestamp.count(), 0);
    }
    const timespec last{1, 999'999'999};
    EXPECT_EQ(info_of(SOL_SOCKET, SCM_TIMESTAMPNS, last).timestamp,
              std::chrono::nanoseconds(1'999'999'999));
}

// Either all that is asked for has room, or it is refused.
TEST(ControlMessage, what_is_asked_for_is_built_whole_or_not) {
    for (const int family : {AF_INET, AF_INET6}) {
        for (unsigned asked = 0; asked < 16; ++asked) {
            SCOPED_TRACE(asked);
            DatagramControl control;
            if ((asked & 1) != 0) control.source = Address::loopback_v4(1);
            if ((asked & 2) != 0) control.interface_index = 2;
            if ((asked & 4) != 0) control.traffic_class = 3;
            if ((asked & 8) != 0) control.segment_size = 4;
            alignas(cmsghdr) unsigned char space[128];
            ControlBuilder whole(space, sizeof space);
            ASSERT_TRUE(build_datagram_control(whole, control, family));
            for (std::size_t room = 0; room <= whole.size(); ++room) {
                alignas(cmsghdr) unsigned char less[128];
                ControlBuilder builder(less, room);
                EXPECT_EQ(build_datagram_control(builder, control, family), room == whole.size());
            }
            ControlReader reader(Bytes{space, whole.size()});
            ControlMessage read;
            unsigned found = 0;
            while (reader.next(read)) {
                if (read.level == SOL_UDP) found |= 8;
                else if (read.type == IP_TOS || read.type == IPV6_TCLASS) found |= 4;
                else found |= asked & 3;
            }
            EXPECT_EQ(found, asked);
        }
    }
}

TEST(ControlMessage, random_bytes_are_read_within_their_bounds) {
    std::mt19937 random(1);
    for (int round = 0; round < 200'000; ++round) {
        const std::size_t size = random() % 100;
        const std::unique_ptr<unsigned char[]> bytes(new unsigned char[size]);
        for (std::size_t index = 0; index < size; ++index) {
            bytes[index] = static_cast<unsigned char>(random() % 4 == 0 ? random() : random() % 40);
        }
        // Headers whose upper bytes are zero get past the first check.
        for (std::size_t at = 1; at < 8 && at < size && random() % 2 == 0; ++at) bytes[at] = 0;
        ControlReader reader(Bytes{bytes.get(), size});
        ControlMessage message;
        std::size_t sum = 0;
        while (reader.next(message)) {
            ASSERT_GE(message.data.data, reinterpret_cast<std::byte*>(bytes.get()));
            ASSERT_LE(message.data.data + message.data.size,
                      reinterpret_cast<std::byte*>(bytes.get()) + size);
            for (const std::byte byte : message.data) sum += static_cast<std::size_t>(byte);
        }
        ASSERT_LT(sum, 25'600u);
        static_cast<void>(parse_datagram_info(Bytes{bytes.get(), size}));
    }
}

}  // namespace
}  // namespace whorl
