// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_datagram.hpp"
#include "backend/sim_kernel.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

// Socket options of the simulated kernel: socket(7) and tcp(7), as far as programs see a difference.

namespace whorl::detail {

namespace {

int int_of(const void* value) noexcept {
    int number = 0;
    std::memcpy(&number, value, sizeof number);
    return number;
}

int give(const void* from, std::size_t held, void* value, socklen_t* size) noexcept {
    const std::size_t count = std::min<std::size_t>(*size, held);
    std::memcpy(value, from, count);
    *size = static_cast<socklen_t>(count);
    return 0;
}

int give_int(int number, void* value, socklen_t* size) noexcept {
    return give(&number, sizeof number, value, size);
}

// What Linux doubles and bounds (net.core.rmem_max and wmem_max are not simulated).
std::size_t buffer_size(int asked, std::size_t smallest) noexcept {
    const std::size_t doubled = static_cast<std::size_t>(std::max(asked, 0)) * 2;
    return std::max(doubled, smallest);
}

constexpr std::size_t receive_buffer_min = 2304;
constexpr std::size_t send_buffer_min = 4608;

bool known(int level, int name) noexcept {
    if (level == SOL_SOCKET) return name == SO_KEEPALIVE || name == SO_BROADCAST;
    if (level != IPPROTO_TCP) return false;
    return name == TCP_NODELAY || name == TCP_KEEPIDLE || name == TCP_KEEPINTVL ||
           name == TCP_KEEPCNT || name == TCP_USER_TIMEOUT || name == TCP_DEFER_ACCEPT ||
           name == TCP_QUICKACK;
}

bool in_range(int name, int number) noexcept {
    switch (name) {
        case TCP_KEEPIDLE:
        case TCP_KEEPINTVL:
            return number >= 1 && number <= 32767;
        case TCP_KEEPCNT:
            return number >= 1 && number <= 127;
        case TCP_USER_TIMEOUT:
            return number >= 0;
        default:
            return true;
    }
}

int default_of(int level, int name) noexcept {
    if (level != IPPROTO_TCP) return 0;
    if (name == TCP_KEEPIDLE) return 7200;
    if (name == TCP_KEEPINTVL) return 75;
    return name == TCP_KEEPCNT ? 9 : 0;
}

// Levels that a socket of this family has not.
int level_refused(int family, int level, bool sets) noexcept {
    if (level == SOL_SOCKET) return 0;
    if (family == AF_UNIX) return -EOPNOTSUPP;
    if (level == IPPROTO_IP || (level == IPPROTO_IPV6 && family == AF_INET6)) return 0;
    return sets || family == AF_INET6 ? -ENOPROTOOPT : -EOPNOTSUPP;
}

bool is_flag(int level, int name) noexcept {
    if (level == IPPROTO_TCP) return name == TCP_NODELAY;
    if (level == IPPROTO_IPV6) return name == IPV6_V6ONLY;
    return level == SOL_SOCKET && (name == SO_KEEPALIVE || name == SO_BROADCAST ||
                                   name == SO_REUSEADDR || name == SO_REUSEPORT);
}

}  // namespace

int SimSocket::set_option(int level, int name, const void* value, socklen_t size) {
    const bool own = level == IPPROTO_TCP && family_ != AF_UNIX;
    if (const int error = own ? 0 : level_refused(family_, level, true)) return error;
    if (size < sizeof(int)) return -EINVAL;
    const int number = int_of(value);
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY) {
        if (bound_) return -EINVAL;
        only_v6_ = number != 0;
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_LINGER) {
        if (size < sizeof linger_) return -EINVAL;
        std::memcpy(&linger_, value, sizeof linger_);
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_REUSEADDR) return reuse_address_ = number != 0, 0;
    if (level == SOL_SOCKET && name == SO_REUSEPORT) return reuse_port_ = number != 0, 0;
    if (level == SOL_SOCKET && name == SO_RCVBUF) {
        receive_buffer_ = buffer_size(number, receive_buffer_min);
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_SNDBUF) {
        send_buffer_ = buffer_size(number, send_buffer_min);
        return 0;
    }
    if (!known(level, name)) return -ENOPROTOOPT;
    if (level == IPPROTO_TCP && !in_range(name, number)) return -EINVAL;
    options_[{level, name}] = is_flag(level, name) ? number != 0 : number;
    return 0;
}

int SimSocket::get_option(int level, int name, void* value, socklen_t* size) {
    const bool own = level == IPPROTO_TCP && family_ != AF_UNIX;
    if (const int error = own ? 0 : level_refused(family_, level, false)) return error;
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY) return give_int(only_v6_, value, size);
    if (level == SOL_SOCKET) {
        switch (name) {
            case SO_TYPE:
                return give_int(type_, value, size);
            case SO_DOMAIN:
                return give_int(family_, value, size);
            case SO_ACCEPTCONN:
                return give_int(role_ == Role::listening ? 1 : 0, value, size);
            case SO_ERROR:
                return give_int(take_error(), value, size);
            case SO_LINGER:
                return give(&linger_, sizeof linger_, value, size);
            case SO_REUSEADDR:
                return give_int(reuse_address_, value, size);
            case SO_REUSEPORT:
                return give_int(reuse_port_, value, size);
            case SO_PEERCRED: {
                const ucred everybody{1, 0, 0};  // one process lives here
                return give(&everybody, sizeof everybody, value, size);
            }
            case SO_RCVBUF:
                return give_int(static_cast<int>(receive_buffer_), value, size);
            case SO_SNDBUF:
                return give_int(static_cast<int>(send_buffer_), value, size);
            default:
                break;
        }
    }
    if (!known(level, name)) return -ENOPROTOOPT;
    const auto found = options_.find({level, name});
    return give_int(found != options_.end() ? found->second : default_of(level, name), value, size);
}

// --- datagrams

namespace {

// Those of socket(7) that can be set; what they do is simulated for the first five.
bool datagram_option_settable(int name) noexcept {
    static constexpr int names[] = {
        SO_REUSEADDR, SO_REUSEPORT, SO_BROADCAST, SO_RCVBUF,      SO_SNDBUF,
        SO_KEEPALIVE, SO_LINGER,    SO_PASSCRED,  SO_TIMESTAMPNS, SO_ATTACH_REUSEPORT_CBPF};
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// Whether the option asks to receive the messages of what is no group.
bool joins_no_group(int level, int name, const void* value, socklen_t size) noexcept {
    if (level == IPPROTO_IP && name == IP_ADD_MEMBERSHIP) {
        ip_mreq request{};
        if (size < sizeof request) return true;
        std::memcpy(&request, value, sizeof request);
        return !IN_MULTICAST(ntohl(request.imr_multiaddr.s_addr));
    }
    if (level == IPPROTO_IPV6 && name == IPV6_ADD_MEMBERSHIP) {
        ipv6_mreq request{};
        if (size < sizeof request) return true;
        std::memcpy(&request, value, sizeof request);
        return !IN6_IS_ADDR_MULTICAST(&request.ipv6mr_multiaddr);
    }
    return false;
}

}  // namespace

int SimDatagram::option(int level, int name) const noexcept {
    const auto found = options_.find({level, name});
    return found != options_.end() ? found->second : 0;
}

int SimDatagram::set_option(int level, int name, const void* value, socklen_t size) {
    if (const int error = level_refused(family_, level, true)) return error;
    if (size < sizeof(int)) return -EINVAL;
    if (joins_no_group(level, name, value, size)) return -EINVAL;
    const int number = int_of(value);
    if (level == SOL_SOCKET) {
        if (!datagram_option_settable(name)) return -ENOPROTOOPT;
        if (name == SO_RCVBUF) receive_buffer_ = buffer_size(number, receive_buffer_min);
        if (name == SO_SNDBUF) send_buffer_ = buffer_size(number, send_buffer_min);
    }
    options_[{level, name}] = is_flag(level, name) ? number != 0 : number;
    return 0;
}

int SimDatagram::get_option(int level, int name, void* value, socklen_t* size) {
    if (const int error = level_refused(family_, level, false)) return error;
    if (level == SOL_SOCKET) {
        switch (name) {
            case SO_TYPE:
                return give_int(SOCK_DGRAM, value, size);
            case SO_DOMAIN:
                return give_int(family_, value, size);
            case SO_ACCEPTCONN:
                return give_int(0, value, size);
            case SO_ERROR:
                return give_int(take_error(), value, size);
            case SO_RCVBUF:
                return give_int(static_cast<int>(receive_buffer_), value, size);
            case SO_SNDBUF:
                return give_int(static_cast<int>(send_buffer_), value, size);
            default:
                if (!datagram_option_settable(name)) return -ENOPROTOOPT;
                break;
        }
    }
    return give_int(option(level, name), value, size);
}

}  // namespace whorl::detail
