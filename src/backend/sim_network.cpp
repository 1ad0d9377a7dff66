// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_kernel.hpp"

#include <whorl/assert.hpp>

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

// Who is where in the simulated network of streams, and how long what is sent is under way.

namespace whorl::detail {

void SimKernel::network_remove(SimSocket& socket) noexcept {
    sockets_.erase(std::find(sockets_.begin(), sockets_.end(), &socket));
}

namespace {

bool covers(const SimSocket& socket, const SimAddress& address) noexcept {
    const SimAddress& local = socket.local();
    if (local.port() != address.port() || local.storage.ss_family == AF_UNIX) return false;
    if (local.same_host(address)) return true;
    const bool same_family = local.storage.ss_family == address.storage.ss_family;
    return same_family ? local.any() : local.any() && socket.takes_v4();
}

}  // namespace

// The exact address is better than any.
SimSocket* SimKernel::listener_for(const SimAddress& address) const noexcept {
    SimSocket* best = nullptr;
    for (SimSocket* socket : sockets_) {
        if (socket->role() != SimSocket::Role::listening || !covers(*socket, address)) continue;
        if (best == nullptr || socket->local().same_host(address)) best = socket;
    }
    return best;
}

SimSocket* SimKernel::bound_to(const SimAddress& address, const SimSocket& wants) const noexcept {
    for (SimSocket* socket : sockets_) {
        if (socket == &wants || socket->family() == AF_UNIX) continue;
        if (socket->local().port() != address.port()) continue;
        // A connection's port is its own only together with its peer.
        if (socket->role() == SimSocket::Role::connected) continue;
        if (covers(*socket, address)) return socket;
        const bool meets = socket->family() == wants.family() || wants.takes_v4();
        if (address.any() && meets) return socket;
    }
    return nullptr;
}

std::uint16_t SimKernel::port_in_turn() noexcept {
    const std::uint16_t port = port_next_;
    port_next_ = port >= port_last ? port_first : static_cast<std::uint16_t>(port + 1);
    return port;
}

std::uint16_t SimKernel::free_port() noexcept {
    for (int left = port_last - port_first + 1; left != 0; --left) {
        const std::uint16_t port = port_in_turn();
        const auto same = [port](const SimSocket* other) { return other->local().port() == port; };
        if (std::none_of(sockets_.begin(), sockets_.end(), same)) return port;
    }
    return 0;
}

Nanoseconds SimKernel::flight_time(std::size_t bytes) {
    if (options_.latency_min > options_.latency_max) {
        panic("SimulationOptions: latency_min is above latency_max; set both");
    }
    Nanoseconds time = options_.latency_min;
    const auto spread = static_cast<std::uint64_t>((options_.latency_max - time).count());
    if (spread != 0) {
        // A choice is of 32 bits: of more than four seconds, in coarser steps.
        const std::uint64_t step = spread / UINT32_MAX + 1;
        const auto bound = static_cast<std::uint32_t>(spread / step);
        time += Nanoseconds(static_cast<std::int64_t>(choices.below(bound) * step));
    }
    if (options_.bytes_per_second != 0) {
        time += Nanoseconds(static_cast<std::int64_t>(
            static_cast<double>(bytes) * 1e9 / static_cast<double>(options_.bytes_per_second)));
    }
    return time;
}

void SimKernel::partition() {
    partitioned = true;
    trace("partition");
}

void SimKernel::heal() {
    partitioned = false;
    trace("heal");
    for (SimSocket* socket : sockets_) {
        if (socket->outgoing() != nullptr) socket->outgoing()->resume();
        if (socket->incoming() != nullptr) socket->incoming()->resume();
    }
}

// The addresses reserved for documentation belong to nobody (RFC 5737, RFC 3849); every other one is
// this host's.
bool SimKernel::is_local(const SimAddress& address) const noexcept {
    if (address.storage.ss_family == AF_INET) {
        const std::uint32_t host =
            ntohl(reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr.s_addr);
        const std::uint32_t net = host & 0xFFFFFF00u;
        return net != 0xC0000200u && net != 0xC6336400u && net != 0xCB007100u;
    }
    const in6_addr& host = reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr;
    static constexpr unsigned char documentation[4] = {0x20, 0x01, 0x0d, 0xb8};
    return std::memcmp(&host, documentation, sizeof documentation) != 0;
}

// The address that this end of a connection to `peer` has; with the port of `peer`, where that leads.
SimAddress SimKernel::host_for(const SimAddress& peer, std::uint16_t port) const noexcept {
    SimAddress made = peer;
    if (made.any()) {
        if (made.storage.ss_family == AF_INET) {
            reinterpret_cast<sockaddr_in&>(made.storage).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        } else {
            reinterpret_cast<sockaddr_in6&>(made.storage).sin6_addr = in6addr_loopback;
        }
    }
    made.set_port(port);
    return made;
}

// How a socket of `family` names the address: an IPv6 one sees IPv4 as ::ffff:a.b.c.d.
SimAddress SimKernel::seen_as(const SimAddress& address, int family) const noexcept {
    if (family != AF_INET6 || address.storage.ss_family != AF_INET) return address;
    const auto& from = reinterpret_cast<const sockaddr_in&>(address.storage);
    sockaddr_in6 mapped{};
    mapped.sin6_family = AF_INET6;
    mapped.sin6_port = from.sin_port;
    mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xFF;
    std::memcpy(&mapped.sin6_addr.s6_addr[12], &from.sin_addr, 4);
    return SimAddress::from(reinterpret_cast<const sockaddr*>(&mapped), sizeof mapped);
}

}  // namespace whorl::detail
