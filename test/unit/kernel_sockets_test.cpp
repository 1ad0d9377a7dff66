// SPDX-License-Identifier: MIT
// Goal: stream sockets of the simulated kernel refuse what Linux refuses, with the same error.
// Method: the same calls in the same order to the machine's kernel and to a simulated one.
#include "unit/kernel_pair.hpp"

#include <netinet/tcp.h>

namespace whorl::kernel_pair {
namespace {

constexpr int stream = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
constexpr int records = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;

int listener(Notes& notes, int backlog = 4) {
    const int fd = notes.made("socket", notes.system.socket(AF_INET, stream, 0));
    const sockaddr_in here = v4(0);
    notes.tell("bind", notes.system.bind(fd, plain(here), sizeof here));
    notes.tell("listen", notes.system.listen(fd, backlog));
    return fd;
}

int dialed(Notes& notes, int to) {
    const int fd = notes.made("socket", notes.system.socket(AF_INET, stream, 0));
    const sockaddr_in there = v4(port_of(to));
    notes.tell("connect", notes.system.connect(fd, plain(there), sizeof there));
    settle();
    return fd;
}

// The client and the server of a connection.
std::pair<int, int> connection(Notes& notes) {
    const int from = listener(notes);
    const int client = dialed(notes, from);
    const int server = notes.made_by_os(
        "accept", os::accept4(from, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    return {client, server};
}

std::pair<int, int> unix_pair(Notes& notes, int type = stream) {
    int fds[2] = {-1, -1};
    notes.tell("socketpair", notes.system.socketpair(AF_UNIX, type, 0, fds));
    return {notes.made("first", fds[0]), notes.made("second", fds[1])};
}

// Every call that wants a stream socket, on something else.
void all_calls(Notes& notes, int fd) {
    const sockaddr_in any = v4(0);
    sockaddr_storage name{};
    socklen_t length = sizeof name;
    int value = 1;
    socklen_t size = sizeof value;
    char byte = 0;
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    mmsghdr several{};
    several.msg_hdr = message;
    detail::System& system = notes.system;
    auto* address = reinterpret_cast<sockaddr*>(&name);
    notes.tell("bind", system.bind(fd, plain(any), sizeof any));
    notes.tell("listen", system.listen(fd, 1));
    notes.tell("connect", system.connect(fd, plain(any), sizeof any));
    notes.ask("accept", os::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK));
    notes.tell("shutdown", system.shutdown(fd, SHUT_RDWR));
    notes.tell("getsockname", system.getsockname(fd, address, &length));
    notes.tell("getpeername", system.getpeername(fd, address, &length));
    notes.tell("setsockopt", system.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, size));
    notes.tell("getsockopt", system.getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size));
    notes.tell("recv", system.recv(fd, &byte, 1, MSG_DONTWAIT));
    notes.ask("send", os::send(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
    notes.tell("recvmsg", system.recvmsg(fd, &message, MSG_DONTWAIT));
    notes.ask("sendmsg", os::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
    notes.tell("sendmmsg", system.sendmmsg(fd, &several, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

TEST(KernelSockets, calls_on_what_is_no_socket) {
    compare([](Notes& notes) {
        all_calls(notes, -1);
        all_calls(notes, 12345);
        all_calls(notes, notes.made("eventfd", notes.system.eventfd(0, EFD_NONBLOCK)));
        int fds[2] = {-1, -1};
        notes.tell("pipe2", notes.system.pipe2(fds, O_NONBLOCK | O_CLOEXEC));
        all_calls(notes, notes.made("reader", fds[0]));
        all_calls(notes, notes.made("writer", fds[1]));
        all_calls(notes, notes.made("epoll", notes.system.epoll_create1(EPOLL_CLOEXEC)));
    });
}

TEST(KernelSockets, kinds_that_do_not_exist) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        notes.made("no family", system.socket(250, SOCK_STREAM, 0));
        notes.made("negative family", system.socket(-1, SOCK_STREAM, 0));
        notes.made("records of IPv4", system.socket(AF_INET, SOCK_SEQPACKET, 0));
        notes.made("reliable datagrams", system.socket(AF_INET, SOCK_RDM, 0));
        notes.made("reliable local ones", system.socket(AF_UNIX, SOCK_RDM, 0));
        notes.made("no type", system.socket(AF_INET, 0, 0));
        notes.made("type 15", system.socket(AF_INET, 15, 0));
        notes.made("streams of UDP", system.socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
        notes.made("datagrams of TCP", system.socket(AF_INET6, SOCK_DGRAM, IPPROTO_TCP));
        notes.made("a protocol by name", system.socket(AF_INET, SOCK_STREAM, IPPROTO_TCP));
        notes.made("another", system.socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP));
        notes.made("records", system.socket(AF_UNIX, records, 0));
        int fds[2] = {-1, -1};
        notes.tell("a pair of IPv4", system.socketpair(AF_INET, SOCK_STREAM, 0, fds));
        notes.tell("a pair of no family", system.socketpair(250, SOCK_STREAM, 0, fds));
        notes.tell("a pair of no type", system.socketpair(AF_UNIX, SOCK_RDM, 0, fds));
    });
}

TEST(KernelSockets, bind_refuses) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const sockaddr_in here = v4(0), foreign = v4(0, 0xC0000201);
        const sockaddr_in6 here6 = v6(0);
        sockaddr_in odd = here;
        odd.sin_family = 200;
        const int fd = notes.made("socket", system.socket(AF_INET, stream, 0));
        notes.tell("short", system.bind(fd, plain(here), sizeof here - 1));
        notes.tell("another family", system.bind(fd, plain(here6), sizeof here6));
        notes.tell("no family", system.bind(fd, plain(odd), sizeof odd));
        notes.tell("of somebody else", system.bind(fd, plain(foreign), sizeof foreign));
        notes.tell("bind", system.bind(fd, plain(here), sizeof here));
        notes.tell("twice", system.bind(fd, plain(here), sizeof here));
        const int second = notes.made("second", system.socket(AF_INET, stream, 0));
        const sockaddr_in taken = v4(port_of(fd)), all = v4(port_of(fd), INADDR_ANY);
        notes.tell("taken", system.bind(second, plain(taken), sizeof taken));
        notes.tell("taken by one of all", system.bind(second, plain(all), sizeof all));
        const int sixth = notes.made("IPv6", system.socket(AF_INET6, stream, 0));
        notes.tell("short IPv6", system.bind(sixth, plain(here6), sizeof(sockaddr_in)));
        notes.tell("IPv4 to IPv6", system.bind(sixth, plain(here), sizeof here));
        const sockaddr_in6 all6 = v6(port_of(fd), in6addr_any);
        notes.tell("all of both", system.bind(sixth, plain(all6), sizeof all6));
        const int one = 1;
        notes.tell("only", system.setsockopt(sixth, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
        notes.tell("all of IPv6", system.bind(sixth, plain(all6), sizeof all6));
        notes.tell("only, late",
                   system.setsockopt(sixth, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
    });
}

TEST(KernelSockets, addresses_used_again) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        struct Case {
            const char* name;
            int first, second;  // options of each: 1 address, 2 port
            bool listens;
        };
        const Case cases[] = {
            {"neither", 0, 0, false},       {"one address", 1, 0, false},
            {"other address", 0, 1, false}, {"both addresses", 1, 1, false},
            {"listening", 1, 1, true},      {"one port", 2, 0, false},
            {"other port", 0, 2, false},    {"both ports", 2, 2, true},
            {"one each", 1, 2, false},
        };
        for (const Case& each : cases) {
            const int first = notes.made("socket", system.socket(AF_INET, stream, 0));
            const int second = notes.made("socket", system.socket(AF_INET, stream, 0));
            const int one = 1;
            for (const auto& [fd, options] :
                 {std::pair(first, each.first), std::pair(second, each.second)}) {
                if ((options & 1) != 0)
                    system.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
                if ((options & 2) != 0)
                    system.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
            }
            const sockaddr_in here = v4(0);
            notes.tell("bind", system.bind(first, plain(here), sizeof here));
            if (each.listens) notes.tell("listen", system.listen(first, 1));
            const sockaddr_in same = v4(port_of(first));
            notes.tell(each.name, system.bind(second, plain(same), sizeof same));
            if (each.listens) notes.tell("listen, too", system.listen(second, 1));
            if (!each.listens) {
                notes.tell("first listens", system.listen(first, 1));
                notes.tell("second listens", system.listen(second, 1));
            }
        }
    });
}

TEST(KernelSockets, listening) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const int fd = notes.made("socket", system.socket(AF_INET, stream, 0));
        notes.ask("accept of what does not listen", os::accept4(fd, nullptr, nullptr, 0));
        notes.tell("listen on a port of its own", system.listen(fd, 1));
        notes.tell("listen again", system.listen(fd, 5));
        notes.ask("accept without a peer", os::accept4(fd, nullptr, nullptr, 0));
        const sockaddr_in there = v4(port_of(fd));
        notes.tell("a listener connects", system.connect(fd, plain(there), sizeof there));
        char byte = 0;
        notes.tell("a listener reads", system.recv(fd, &byte, 1, 0));
        notes.ask("a listener writes", os::send(fd, &byte, 1, MSG_NOSIGNAL));
        notes.tell("shut for writing", system.shutdown(fd, SHUT_WR));
        notes.tell("shut", system.shutdown(fd, SHUT_RD));
        notes.ask("accept after it", os::accept4(fd, nullptr, nullptr, 0));
        notes.tell("shut again", system.shutdown(fd, SHUT_RD));
        const int local = notes.made("local", system.socket(AF_UNIX, stream, 0));
        notes.tell("listen without a name", system.listen(local, 1));
        const auto [client, server] = connection(notes);
        notes.tell("listen of a connection", system.listen(client, 1));
        const int datagrams = notes.made("datagrams", system.socket(AF_INET, SOCK_DGRAM, 0));
        notes.tell("listen to datagrams", system.listen(datagrams, 1));
        notes.ask("accept of datagrams", os::accept4(datagrams, nullptr, nullptr, 0));
        notes.tell("shut datagrams how", system.shutdown(datagrams, 3));
        notes.tell("shut datagrams", system.shutdown(datagrams, SHUT_WR));
        const sockaddr_in anybody = v4(9);
        notes.tell("connect", system.connect(datagrams, plain(anybody), sizeof anybody));
        notes.ask("send after it", os::send(datagrams, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
        notes.tell("shut both ways", system.shutdown(datagrams, SHUT_RDWR));
        pollfd entry{datagrams, POLLIN | POLLOUT | POLLRDHUP, 0};
        notes.tell("poll", system.poll_now(&entry, 1));
        notes.tell("finds", entry.revents);
        notes.close(server);
    });
}

TEST(KernelSockets, connecting) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const int from = listener(notes);
        const sockaddr_in there = v4(port_of(from));
        const sockaddr_in6 there6 = v6(port_of(from));
        const int fd = notes.made("socket", system.socket(AF_INET, stream, 0));
        notes.tell("short", system.connect(fd, plain(there), sizeof there - 1));
        notes.tell("another family", system.connect(fd, plain(there6), sizeof there6));
        notes.tell("connect", system.connect(fd, plain(there), sizeof there));
        settle();
        notes.tell("has connected", system.connect(fd, plain(there), sizeof there));
        notes.tell("once more", system.connect(fd, plain(there), sizeof there));
        const sockaddr_in any = v4(port_of(from), INADDR_ANY);
        const int nearest = notes.made("nearest", system.socket(AF_INET, stream, 0));
        notes.tell("connect to any", system.connect(nearest, plain(any), sizeof any));
        settle();
        notes.tell("is this host", system.connect(nearest, plain(any), sizeof any));
        sockaddr_in peer{};
        socklen_t peer_size = sizeof peer;
        auto* peer_address = reinterpret_cast<sockaddr*>(&peer);
        notes.tell("its peer", system.getpeername(nearest, peer_address, &peer_size));
        notes.tell("host", ntohl(peer.sin_addr.s_addr));
        const int sixth = notes.made("IPv6", system.socket(AF_INET6, stream, 0));
        notes.tell("short IPv6", system.connect(sixth, plain(there6), sizeof(sockaddr_in)));
        const int nobody = notes.made("nobody", system.socket(AF_INET, stream, 0));
        const int free = listener(notes);
        const sockaddr_in none = v4(port_of(free));
        notes.close(free);
        settle();
        notes.tell("connect to nobody", system.connect(nobody, plain(none), sizeof none));
        settle();
        int value = 0;
        socklen_t size = sizeof value;
        notes.tell("its error", system.getsockopt(nobody, SOL_SOCKET, SO_ERROR, &value, &size));
        notes.tell("is", -value);
        notes.tell("once told", system.getsockopt(nobody, SOL_SOCKET, SO_ERROR, &value, &size));
        notes.tell("is gone", -value);
        notes.tell("connect again", system.connect(nobody, plain(none), sizeof none));
        settle();
        notes.tell("and again", system.connect(nobody, plain(none), sizeof none));
        settle();
        notes.tell("and again", system.connect(nobody, plain(none), sizeof none));
        settle();
        sockaddr_storage name{};
        socklen_t length = sizeof name;
        auto* address = reinterpret_cast<sockaddr*>(&name);
        notes.tell("peer of nobody", system.getpeername(nobody, address, &length));
        notes.tell("peer", system.getpeername(fd, address, &length));
        notes.tell("length", length);
        length = 4;
        notes.tell("peer, cut", system.getpeername(fd, address, &length));
        notes.tell("length", length);
    });
}

TEST(KernelSockets, sending_and_receiving_unconnected) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        char byte = 0;
        for (const int family : {AF_INET, AF_INET6, AF_UNIX}) {
            const int fd = notes.made("socket", system.socket(family, stream, 0));
            notes.tell("recv", system.recv(fd, &byte, 1, 0));
            notes.ask("send", os::send(fd, &byte, 1, MSG_NOSIGNAL));
            notes.tell("read", system.read(fd, &byte, 1));
            notes.tell("write", system.write_quietly(fd, &byte, 1));
            notes.tell("shutdown", system.shutdown(fd, SHUT_WR));
            pollfd entry{fd, POLLIN | POLLOUT | POLLRDHUP, 0};
            notes.tell("poll", system.poll_now(&entry, 1));
            notes.tell("finds", entry.revents);
        }
    });
}

TEST(KernelSockets, ends_of_a_connection) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const auto [client, server] = connection(notes);
        char bytes[8] = "1234567";
        const auto poll = [&notes, &system](int fd) {
            pollfd entry{fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
            notes.tell("poll", system.poll_now(&entry, 1));
            notes.tell("finds", entry.revents);
        };
        notes.tell("shutdown how", system.shutdown(client, 3));
        notes.tell("shutdown negative", system.shutdown(client, -1));
        notes.ask("send nothing", os::send(client, bytes, 0, MSG_NOSIGNAL));
        notes.ask("send", os::send(client, bytes, 6, MSG_NOSIGNAL));
        settle();
        poll(server);
        notes.tell("peek", system.recv(server, bytes, 3, MSG_PEEK));
        notes.tell("throw away", system.recv(server, bytes, 3, MSG_TRUNC));
        notes.tell("read nothing", system.recv(server, bytes, 0, 0));
        notes.tell("read", system.recv(server, bytes, 8, 0));
        notes.text("what", std::string_view(bytes, 3));
        notes.tell("receive nothing of nothing", system.recv(server, bytes, 0, 0));
        notes.tell("read nothing of nothing", system.read(server, bytes, 0));
        notes.tell("read of nothing", system.recv(server, bytes, 8, 0));
        notes.tell("urgent of nothing", system.recv(server, bytes, 1, MSG_OOB));
        notes.ask("send urgently", os::send(client, "xy", 2, MSG_OOB | MSG_NOSIGNAL));
        settle();
        poll(server);
        notes.tell("urgent", system.recv(server, bytes, 1, MSG_OOB));
        notes.text("what", std::string_view(bytes, 1));
        notes.tell("urgent again", system.recv(server, bytes, 1, MSG_OOB));
        notes.tell("before it", system.recv(server, bytes, 8, 0));
        notes.tell("shut", system.shutdown(client, SHUT_WR));
        notes.ask("send after it", os::send(client, bytes, 1, MSG_NOSIGNAL));
        notes.tell("shut again", system.shutdown(client, SHUT_WR));
        settle();
        poll(server);
        notes.tell("the end", system.recv(server, bytes, 8, 0));
        notes.tell("the other side shuts", system.shutdown(server, SHUT_RDWR));
        settle();
        poll(client);
        notes.tell("both have", system.shutdown(client, SHUT_RDWR));
        notes.tell("the end", system.recv(client, bytes, 8, 0));
        notes.ask("send", os::send(server, bytes, 1, MSG_NOSIGNAL));
    });
}

TEST(KernelSockets, resets) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        char bytes[8] = "1234567";
        const linger now{1, 0};
        for (const bool unread : {false, true}) {
            const auto [client, server] = connection(notes);
            notes.ask("send", os::send(client, bytes, 6, MSG_NOSIGNAL));
            notes.ask("answer", os::send(server, bytes, 4, MSG_NOSIGNAL));
            settle();
            if (!unread) {
                notes.tell("read", system.recv(server, bytes, 8, 0));
                notes.tell("linger",
                           system.setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof now));
            }
            notes.close(server);
            settle();
            pollfd entry{client, POLLIN | POLLOUT | POLLRDHUP, 0};
            notes.tell("poll", system.poll_now(&entry, 1));
            notes.tell("finds", entry.revents);
            notes.ask("send", os::send(client, bytes, 1, MSG_NOSIGNAL));
            notes.ask("send again", os::send(client, bytes, 1, MSG_NOSIGNAL));
            notes.tell("shutdown", system.shutdown(client, SHUT_WR));
        }
        const auto [client, server] = connection(notes);
        notes.close(server);
        settle();
        notes.ask("send to nobody", os::send(client, bytes, 1, MSG_NOSIGNAL));
        settle();
        notes.ask("send after the answer", os::send(client, bytes, 1, MSG_NOSIGNAL));
        notes.tell("the end", system.recv(client, bytes, 8, 0));
    });
}

TEST(KernelSockets, local_pairs) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        char bytes[64] = "1234567";
        const auto [first, second] = unix_pair(notes);
        const auto [third, fourth] = unix_pair(notes, records);
        notes.ask("send", os::send(first, bytes, 6, MSG_NOSIGNAL));
        notes.ask("a record", os::send(third, bytes, 6, MSG_NOSIGNAL));
        notes.ask("another", os::send(third, bytes, 5, MSG_NOSIGNAL));
        notes.ask("urgently", os::send(third, bytes, 5, MSG_NOSIGNAL | MSG_OOB));
        notes.tell("read", system.recv(second, bytes, 4, 0));
        notes.tell("peek at a record", system.recv(fourth, bytes, 2, MSG_PEEK));
        notes.tell("the first, cut", system.recv(fourth, bytes, 4, 0));
        notes.tell("the next", system.recv(fourth, bytes, 64, 0));
        notes.tell("none", system.recv(fourth, bytes, 64, 0));
        notes.tell("listen", system.listen(first, 1));
        const std::string big(1 << 20, 'x');
        notes.ask("too big a record", os::send(third, big.data(), big.size(), MSG_NOSIGNAL));
        notes.close(first);
        pollfd entry{second, POLLIN | POLLOUT | POLLRDHUP, 0};
        notes.tell("poll", system.poll_now(&entry, 1));
        notes.tell("finds", entry.revents);
        notes.tell("the rest", system.recv(second, bytes, 64, 0));
        notes.tell("the end", system.recv(second, bytes, 64, 0));
        notes.ask("send", os::send(second, bytes, 1, MSG_NOSIGNAL));
        notes.ask("unread", os::send(third, bytes, 1, MSG_NOSIGNAL));
        notes.close(fourth);
        notes.tell("is told", system.recv(third, bytes, 64, 0));
        notes.tell("then the end", system.recv(third, bytes, 64, 0));
        notes.tell("shutdown", system.shutdown(third, SHUT_RDWR));
        notes.tell("shutdown again", system.shutdown(third, SHUT_RDWR));
    });
}

}  // namespace
}  // namespace whorl::kernel_pair
