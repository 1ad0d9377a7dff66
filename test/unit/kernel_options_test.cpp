// SPDX-License-Identifier: MIT
// Goal: options of sockets of the simulated kernel are taken, refused and told as Linux does.
// Method: tables of options, set and read back in the machine's kernel and in a simulated one.
#include "unit/kernel_pair.hpp"

#include <netinet/tcp.h>

namespace whorl::kernel_pair {
namespace {

struct Option {
    const char* name;
    int level, number;
};

constexpr Option options[] = {
    {"SO_TYPE", SOL_SOCKET, SO_TYPE},
    {"SO_DOMAIN", SOL_SOCKET, SO_DOMAIN},
    {"SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN},
    {"SO_ERROR", SOL_SOCKET, SO_ERROR},
    {"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR},
    {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE},
    {"SO_BROADCAST", SOL_SOCKET, SO_BROADCAST},
    {"SO_LINGER", SOL_SOCKET, SO_LINGER},
    {"IPV6_V6ONLY", IPPROTO_IPV6, IPV6_V6ONLY},
    {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},
    {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE},
    {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL},
    {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT},
    {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT},
    {"nothing", SOL_SOCKET, 9999},
    {"nothing of TCP", IPPROTO_TCP, 9999},
};

// The option's value, as one note.
void told(Notes& notes, int fd, const Option& option) {
    char value[16] = {};
    socklen_t size = sizeof value;
    const int answer = notes.system.getsockopt(fd, option.level, option.number, value, &size);
    if (answer < 0) {
        notes.tell(option.name, answer);
        return;
    }
    std::string words;
    for (std::size_t at = 0; at + sizeof(int) <= size; at += sizeof(int)) {
        int number = 0;
        std::memcpy(&number, value + at, sizeof number);
        words += std::to_string(number) + " ";
    }
    notes.text(option.name, words);
}

TEST(KernelOptions, of_streams_when_fresh) {
    compare([](Notes& notes) {
        for (const int family : {AF_INET, AF_INET6}) {
            const int fd = notes.made("socket", notes.system.socket(family, SOCK_STREAM, 0));
            for (const Option& option : options) {
                // Its default is a matter of the machine's configuration.
                if (option.number == IPV6_V6ONLY && option.level == IPPROTO_IPV6) continue;
                told(notes, fd, option);
            }
        }
    });
}

TEST(KernelOptions, of_streams_set_and_read_back) {
    compare([](Notes& notes) {
        for (const int family : {AF_INET, AF_INET6}) {
            const int fd = notes.made("socket", notes.system.socket(family, SOCK_STREAM, 0));
            for (const Option& option : options) {
                for (const int value : {1, 0, 7, 100, 40000, -1}) {
                    notes.tell(option.name, notes.system.setsockopt(fd, option.level, option.number,
                                                                    &value, sizeof value));
                    if (option.number != SO_LINGER) told(notes, fd, option);
                }
                const char little = 1;
                notes.tell("short", notes.system.setsockopt(fd, option.level, option.number,
                                                            &little, sizeof little));
            }
            const linger slow{1, 5};
            notes.tell("SO_LINGER",
                       notes.system.setsockopt(fd, SOL_SOCKET, SO_LINGER, &slow, sizeof slow));
            told(notes, fd, {"SO_LINGER", SOL_SOCKET, SO_LINGER});
            int value = 0;
            socklen_t size = 2;
            notes.tell("cut", notes.system.getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size));
            notes.tell("size", size);
        }
    });
}

TEST(KernelOptions, of_local_sockets) {
    compare([](Notes& notes) {
        const int one = 1;
        for (const int type : {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}) {
            const int fd = notes.made("socket", notes.system.socket(AF_UNIX, type, 0));
            for (const Option& option : options) {
                if (option.level == SOL_SOCKET && option.number == SO_LINGER) continue;
                told(notes, fd, option);
                notes.tell(option.name, notes.system.setsockopt(fd, option.level, option.number,
                                                                &one, sizeof one));
            }
        }
    });
}

TEST(KernelOptions, of_datagrams) {
    compare([](Notes& notes) {
        for (const int family : {AF_INET, AF_INET6}) {
            const int fd = notes.made("socket", notes.system.socket(family, SOCK_DGRAM, 0));
            for (const Option& option : options) {
                const bool only_v6 = option.level == IPPROTO_IPV6;
                if (option.number == SO_LINGER) continue;
                if (!only_v6) told(notes, fd, option);
                for (const int value : {1, 0, 7}) {
                    notes.tell(option.name, notes.system.setsockopt(fd, option.level, option.number,
                                                                    &value, sizeof value));
                    if (!only_v6 || family == AF_INET6) told(notes, fd, option);
                }
                const char little = 1;
                notes.tell("short", notes.system.setsockopt(fd, option.level, option.number,
                                                            &little, sizeof little));
            }
        }
    });
}

TEST(KernelOptions, groups_that_are_none) {
    compare([](Notes& notes) {
        const int fourth = notes.made("IPv4", notes.system.socket(AF_INET, SOCK_DGRAM, 0));
        const int sixth = notes.made("IPv6", notes.system.socket(AF_INET6, SOCK_DGRAM, 0));
        ip_mreq host{};
        host.imr_multiaddr.s_addr = host.imr_interface.s_addr = htonl(INADDR_LOOPBACK);
        notes.tell("join a host", notes.system.setsockopt(fourth, IPPROTO_IP, IP_ADD_MEMBERSHIP,
                                                          &host, sizeof host));
        notes.tell("short",
                   notes.system.setsockopt(fourth, IPPROTO_IP, IP_ADD_MEMBERSHIP, &host, 4));
        ipv6_mreq host6{};
        host6.ipv6mr_multiaddr = in6addr_loopback;
        notes.tell("join a host of IPv6",
                   notes.system.setsockopt(sixth, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &host6,
                                           sizeof host6));
        notes.tell("of IPv6 with IPv4",
                   notes.system.setsockopt(fourth, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &host6,
                                           sizeof host6));
    });
}

TEST(KernelOptions, buffers_are_doubled_and_bounded_below) {
    compare([](Notes& notes) {
        for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
            const int fd = notes.made("socket", notes.system.socket(AF_INET, type, 0));
            for (const int name : {SO_RCVBUF, SO_SNDBUF}) {
                for (const int value : {1, 4096, 10000, 0}) {
                    notes.tell("set",
                               notes.system.setsockopt(fd, SOL_SOCKET, name, &value, sizeof value));
                    told(notes, fd, {"buffer", SOL_SOCKET, name});
                }
            }
        }
    });
}

}  // namespace
}  // namespace whorl::kernel_pair
