// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/udp.hpp>

#include "io/message.hpp"
#include "loop/core.hpp"

#include <whorl/socket.hpp>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace whorl {

namespace {

using detail::SystemFd;

Error set_int(SystemFd fd, int level, int name, int value) noexcept {
    const int size = sizeof value;
    return Error::from_errno(fd.system->setsockopt(fd.number, level, name, &value, size));
}

// One line for each option that is not the system's default.
struct Setting {
    bool wanted;
    int level;
    int name;
    int value;
};

Error apply(SystemFd fd, int family, const UdpOptions& options) noexcept {
    const bool v6 = family == AF_INET6;
    // An IPv6 socket that takes IPv4 as well hears of those by the IPv4 options.
    const bool v4 = !v6 || !options.v6_only;
    const Setting settings[] = {
        {v6, IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only ? 1 : 0},
        {options.reuse_address, SOL_SOCKET, SO_REUSEADDR, 1},
        {options.reuse_port, SOL_SOCKET, SO_REUSEPORT, 1},
        {options.broadcast, SOL_SOCKET, SO_BROADCAST, 1},
        {options.packet_info && v6, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1},
        {options.packet_info && v4, IPPROTO_IP, IP_PKTINFO, 1},
        {options.traffic_class && v6, IPPROTO_IPV6, IPV6_RECVTCLASS, 1},
        {options.traffic_class && v4, IPPROTO_IP, IP_RECVTOS, 1},
        {options.timestamps, SOL_SOCKET, SO_TIMESTAMPNS, 1},
        {options.gro, SOL_UDP, UDP_GRO, 1},
        {options.receive_buffer > 0, SOL_SOCKET, SO_RCVBUF, options.receive_buffer},
        {options.send_buffer > 0, SOL_SOCKET, SO_SNDBUF, options.send_buffer},
    };
    for (const Setting& setting : settings) {
        if (!setting.wanted) continue;
        if (Error error = set_int(fd, setting.level, setting.name, setting.value)) return error;
    }
    return {};
}

Error connect_to(Loop& loop, UdpSocket socket, const sockaddr* address,
                 std::uint32_t length) noexcept {
    Result<SystemFd> fd = detail::descriptor_number(loop, socket.value());
    if (!fd) return fd.error();
    int done = -EINTR;  // it does not wait, but a tracer or sandbox may interrupt it
    while (done == -EINTR) done = fd->system->connect(fd->number, address, length);
    return Error::from_errno(done);
}

// What a received message's frame or block says of its sender and beside its bytes.
Address sender_of(const void* address, std::size_t size) noexcept {
    return Address::from_sockaddr(address, size).value_or(Address());
}

Error group_call(Loop& loop, UdpSocket socket, const Address& group, std::uint32_t interface_index,
                 bool join) noexcept {
    Result<SystemFd> fd = detail::descriptor_number(loop, socket.value());
    if (!fd) return fd.error();
    int done = -EINVAL;
    if (group.is_v6()) {
        ipv6_mreq request{};
        sockaddr_in6 address{};
        std::memcpy(&address, group.data(), sizeof address);
        request.ipv6mr_multiaddr = address.sin6_addr;
        request.ipv6mr_interface = interface_index;
        done = fd->system->setsockopt(fd->number, IPPROTO_IPV6,
                                      join ? IPV6_ADD_MEMBERSHIP : IPV6_DROP_MEMBERSHIP, &request,
                                      sizeof request);
    } else if (group.is_v4()) {
        ip_mreqn request{};
        sockaddr_in address{};
        std::memcpy(&address, group.data(), sizeof address);
        request.imr_multiaddr = address.sin_addr;
        request.imr_ifindex = static_cast<int>(interface_index);
        done = fd->system->setsockopt(fd->number, IPPROTO_IP,
                                      join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &request,
                                      sizeof request);
    }
    return Error::from_errno(done);
}

// The family of an open datagram socket.
int family_of(Loop& loop, UdpSocket socket) noexcept {
    const detail::Descriptor* descriptor = loop.core().descriptor_find(socket.value());
    return descriptor != nullptr ? descriptor->family : AF_UNSPEC;
}

}  // namespace

Result<UdpSocket> open_udp(Loop& loop, const Address& address, const UdpOptions& options) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    if (address.length() == 0) return Error::invalid_argument;
    const int family = address.family();
    const int fd = core.system.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return Error::from_errno(fd);
    Error error = apply({&core.system, fd}, family, options);
    if (!error) error = Error::from_errno(core.system.bind(fd, address.data(), address.length()));
    if (!error) {
        Result<detail::Descriptor*> claimed =
            core.descriptor_claim(fd, detail::DescriptorKind::socket);
        if (claimed) {
            (*claimed)->family = static_cast<std::uint16_t>(family);
            return UdpSocket::from_value(core.descriptors.handle_of(*claimed));
        }
        error = claimed.error();
    }
    core.system.close(fd);
    return error;
}

Error connect_udp(Loop& loop, UdpSocket socket, const Address& peer) noexcept {
    if (peer.length() == 0) return Error::invalid_argument;
    return connect_to(loop, socket, peer.data(), peer.length());
}

// Linux takes a port that it has chosen itself away as well; it is asked for again.
Error disconnect_udp(Loop& loop, UdpSocket socket) noexcept {
    const Result<Address> before = local_address(loop, socket);
    if (!before) return before.error();
    sockaddr nobody{};
    nobody.sa_family = AF_UNSPEC;
    if (Error error = connect_to(loop, socket, &nobody, sizeof nobody)) return error;
    const Result<Address> after = local_address(loop, socket);
    if (!after) return after.error();
    if (after->port() == before->port()) return {};
    Result<SystemFd> fd = detail::descriptor_number(loop, socket.value());
    if (!fd) return fd.error();
    return Error::from_errno(fd->system->bind(fd->number, before->data(), before->length()));
}

Result<Address> local_address(Loop& loop, UdpSocket socket) noexcept {
    return local_address(loop, Socket::from_value(socket.value()));
}
Result<Address> peer_address(Loop& loop, UdpSocket socket) noexcept {
    return peer_address(loop, Socket::from_value(socket.value()));
}

// --- receiving

Error RecvFrom::open(Loop& loop, detail::OpRecord& record) noexcept {
    return loop.core().message_claim(record);
}

void RecvFrom::store(detail::OpRecord& record) noexcept {
    detail::store_receive(record, std::move(buffer), flags, detail::message_control_room);
}

RecvFrom::Done RecvFrom::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    const msghdr& message = frame.wire.message;
    Done done{delivery.error, std::move(frame.buffer), Address(), false, DatagramInfo()};
    if (!delivery.error) {
        done.address = sender_of(&frame.wire.address, message.msg_namelen);
        done.truncated = (message.msg_flags & MSG_TRUNC) != 0;
        done.info = parse_datagram_info(Bytes{frame.wire.control, message.msg_controllen});
        done.info.truncated |= (message.msg_flags & MSG_CTRUNC) != 0;
    }
    delivery.core->message_release(frame);
    return done;
}

Error RecvFromStream::open(Loop& loop, detail::OpRecord&) noexcept {
    const bool usable = loop.core().options.recv_buffer_size >= detail::message_block_min;
    return usable ? Error() : Error(Error::invalid_argument);
}

RecvFromStream::Done RecvFromStream::finish(detail::OpRecord&,
                                            detail::Delivery& delivery) noexcept {
    Done done{delivery.error, delivery.take_buffer(), Address(),
              false,          DatagramInfo(),         delivery.more};
    if (!done.buffer) return done;
    const detail::ReceivedMessage message(done.buffer);
    done.address = sender_of(message.address().data, message.address().size);
    done.truncated = (message.flags() & MSG_TRUNC) != 0;
    done.info = parse_datagram_info(message.control());
    done.info.truncated |= (message.flags() & MSG_CTRUNC) != 0;
    return done;
}

// --- sending

Error SendTo::open(Loop& loop, detail::OpRecord& record) const noexcept {
    const int family = family_of(loop, socket);
    const bool strange = control.source && control.source.family() != family;
    if (strange) return Error::invalid_argument;
    if (Error error = loop.core().message_claim(record)) return error;
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    std::memcpy(&frame.wire.address, address.data(), address.length());
    frame.address_size = address.length();
    ControlBuilder builder(frame.wire.control, sizeof frame.wire.control);
    const bool fits = build_datagram_control(builder, control, family);
    WHORL_ASSERT(fits);
    frame.control_size = static_cast<std::uint32_t>(builder.size());
    return {};
}

void SendTo::store(detail::OpRecord& record) noexcept {
    record.as<detail::MessagePayload>().frame->buffer = std::move(buffer);
}

SendTo::Done SendTo::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    Done done{delivery.error, delivery.bytes, std::move(frame.buffer)};
    delivery.core->message_release(frame);
    return done;
}

// --- multicast

Error join_group(Loop& loop, UdpSocket socket, const Address& group,
                 std::uint32_t interface_index) noexcept {
    return group_call(loop, socket, group, interface_index, true);
}
Error leave_group(Loop& loop, UdpSocket socket, const Address& group,
                  std::uint32_t interface_index) noexcept {
    return group_call(loop, socket, group, interface_index, false);
}

Error set_multicast(Loop& loop, UdpSocket socket, const MulticastOptions& options) noexcept {
    Result<SystemFd> fd = detail::descriptor_number(loop, socket.value());
    if (!fd) return fd.error();
    const bool v6 = family_of(loop, socket) == AF_INET6;
    const int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    if (options.hops < 0 || options.hops > 255) return Error::from_errno(EINVAL);
    if (Error error =
            set_int(*fd, level, v6 ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL, options.hops))
        return error;
    const int loops = options.loop_back ? 1 : 0;
    if (Error error = set_int(*fd, level, v6 ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP, loops))
        return error;
    const auto index = static_cast<int>(options.interface_index);
    if (v6) return set_int(*fd, level, IPV6_MULTICAST_IF, index);
    ip_mreqn by{};
    by.imr_ifindex = index;
    return Error::from_errno(
        fd->system->setsockopt(fd->number, level, IP_MULTICAST_IF, &by, sizeof by));
}

Error set_hops(Loop& loop, UdpSocket socket, int hops) noexcept {
    Result<SystemFd> fd = detail::descriptor_number(loop, socket.value());
    if (!fd) return fd.error();
    if (hops < 1 || hops > 255) return Error::from_errno(EINVAL);
    const bool v6 = family_of(loop, socket) == AF_INET6;
    return set_int(*fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_UNICAST_HOPS : IP_TTL, hops);
}

}  // namespace whorl
