// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/control_message.hpp>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cstring>

namespace whorl {

namespace {

constexpr std::size_t header_size = sizeof(cmsghdr);

constexpr std::size_t aligned(std::size_t size) noexcept {
    constexpr std::size_t step = sizeof(std::size_t);
    return (size + step - 1) / step * step;
}
static_assert(header_size == aligned(header_size), "data follows the header directly");

// The data as a Value; false when it is shorter. Longer data is of a later kernel and is cut.
template <class Value>
bool read_as(Bytes data, Value& value) noexcept {
    if (data.size < sizeof value) return false;
    std::memcpy(&value, data.data, sizeof value);
    return true;
}

Address address_of(const in_addr& host) noexcept {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_addr = host;
    return Address::from_sockaddr(&made, sizeof made).value_or(Address());
}

Address address_of(const in6_addr& host) noexcept {
    sockaddr_in6 made{};
    made.sin6_family = AF_INET6;
    made.sin6_addr = host;
    return Address::from_sockaddr(&made, sizeof made).value_or(Address());
}

// IPv4 gives the byte itself, IPv6 an int.
void read_traffic_class(Bytes data, DatagramInfo& info) noexcept {
    std::uint8_t byte = 0;
    int number = 0;
    if (read_as(data, number)) info.traffic_class = static_cast<std::int16_t>(number & 0xFF);
    else if (read_as(data, byte)) info.traffic_class = byte;
}

void read_ip(const ControlMessage& message, DatagramInfo& info) noexcept {
    if (message.type == IP_TOS) return read_traffic_class(message.data, info);
    in_pktinfo packet{};
    if (message.type != IP_PKTINFO || !read_as(message.data, packet)) return;
    info.destination = address_of(packet.ipi_addr);
    info.interface_index = static_cast<std::uint32_t>(packet.ipi_ifindex);
}

void read_ipv6(const ControlMessage& message, DatagramInfo& info) noexcept {
    if (message.type == IPV6_TCLASS) return read_traffic_class(message.data, info);
    in6_pktinfo packet{};
    if (message.type != IPV6_PKTINFO || !read_as(message.data, packet)) return;
    info.destination = address_of(packet.ipi6_addr);
    info.interface_index = packet.ipi6_ifindex;
}

void read_socket(const ControlMessage& message, DatagramInfo& info) noexcept {
    timespec time{};
    if (message.type != SCM_TIMESTAMPNS || !read_as(message.data, time)) return;
    const bool sane = time.tv_sec >= 0 && time.tv_sec < 9'000'000'000 && time.tv_nsec >= 0 &&
                      time.tv_nsec < 1'000'000'000;
    if (sane) info.timestamp = std::chrono::seconds(time.tv_sec) + Nanoseconds(time.tv_nsec);
}

void read_udp(const ControlMessage& message, DatagramInfo& info) noexcept {
    int size = 0;
    if (message.type != UDP_GRO || !read_as(message.data, size)) return;
    if (size > 0 && size <= UINT16_MAX) info.segment_size = static_cast<std::uint16_t>(size);
}

}  // namespace

// --- raw

bool ControlReader::next(ControlMessage& message) noexcept {
    if (malformed_ || rest_.size == 0) return false;
    cmsghdr header{};
    if (!read_as(rest_, header) || header.cmsg_len < header_size || header.cmsg_len > rest_.size) {
        malformed_ = true;
        return false;
    }
    message.level = header.cmsg_level;
    message.type = header.cmsg_type;
    message.data = Bytes{rest_.data + header_size, header.cmsg_len - header_size};
    const std::size_t passed = std::min(aligned(header.cmsg_len), rest_.size);
    rest_ = Bytes{rest_.data + passed, rest_.size - passed};
    return true;
}

std::size_t ControlBuilder::space(std::size_t size) noexcept { return header_size + aligned(size); }

bool ControlBuilder::add(int level, int type, const void* data, std::size_t size) noexcept {
    const std::size_t room = capacity_ - size_;
    if (size > room || space(size) > room) return false;
    cmsghdr header{};
    header.cmsg_len = header_size + size;
    header.cmsg_level = level;
    header.cmsg_type = type;
    unsigned char* place = data_ + size_;
    std::memset(place, 0, space(size));
    std::memcpy(place, &header, sizeof header);
    if (size != 0) std::memcpy(place + header_size, data, size);
    size_ += space(size);
    return true;
}

// --- datagrams

DatagramInfo parse_datagram_info(Bytes control) noexcept {
    DatagramInfo info;
    ControlReader reader(control);
    ControlMessage message;
    while (reader.next(message)) {
        if (message.level == IPPROTO_IP) read_ip(message, info);
        else if (message.level == IPPROTO_IPV6) read_ipv6(message, info);
        else if (message.level == SOL_SOCKET) read_socket(message, info);
        else if (message.level == SOL_UDP) read_udp(message, info);
    }
    info.truncated = reader.malformed();
    return info;
}

bool build_datagram_control(ControlBuilder& builder, const DatagramControl& control,
                            int family) noexcept {
    bool fits = true;
    const bool v6 = family == AF_INET6;
    if (control.source || control.interface_index != 0) {
        if (v6) {
            in6_pktinfo packet{};
            packet.ipi6_ifindex = control.interface_index;
            if (control.source.is_v6()) {
                sockaddr_in6 source{};
                std::memcpy(&source, control.source.data(), sizeof source);
                packet.ipi6_addr = source.sin6_addr;
            }
            fits = builder.add(IPPROTO_IPV6, IPV6_PKTINFO, packet);
        } else {
            in_pktinfo packet{};
            packet.ipi_ifindex = static_cast<int>(control.interface_index);
            if (control.source.is_v4()) {
                sockaddr_in source{};
                std::memcpy(&source, control.source.data(), sizeof source);
                packet.ipi_spec_dst = source.sin_addr;
            }
            fits = builder.add(IPPROTO_IP, IP_PKTINFO, packet);
        }
    }
    if (control.traffic_class >= 0) {
        const int traffic_class = control.traffic_class;
        fits = fits && builder.add(v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TCLASS : IP_TOS,
                                   traffic_class);
    }
    if (control.segment_size != 0) {
        fits = fits && builder.add(SOL_UDP, UDP_SEGMENT, control.segment_size);
    }
    return fits;
}

}  // namespace whorl
