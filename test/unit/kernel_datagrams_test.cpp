// SPDX-License-Identifier: MIT
// Goal: datagram and local sockets of the simulated kernel refuse what Linux refuses, with the same
// error, and cut what it cuts.
// Method: the same calls in the same order to the machine's kernel and to a simulated one.
#include "unit/kernel_pair.hpp"

#include <sys/un.h>

namespace whorl::kernel_pair {
namespace {

constexpr int datagram = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
constexpr int stream = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
constexpr int quiet = MSG_NOSIGNAL | MSG_DONTWAIT;

// A message of one part, and room for an address and control data.
class Message {
  public:
    explicit Message(std::string bytes = "hello") : bytes_(std::move(bytes)) {
        part_ = {bytes_.data(), bytes_.size()};
        head.msg_iov = &part_;
        head.msg_iovlen = 1;
    }
    template <class Address>
    Message&& to(const Address& address, std::size_t length = sizeof(Address)) {
        std::memcpy(&name_, &address, sizeof address);
        head.msg_name = &name_;
        head.msg_namelen = static_cast<socklen_t>(length);
        return std::move(*this);
    }
    Message&& with_room_for_name(socklen_t length = sizeof(sockaddr_storage)) {
        head.msg_name = &name_;
        head.msg_namelen = length;
        return std::move(*this);
    }
    Message&& with_files(const std::vector<int>& files, int type = SCM_RIGHTS) {
        head.msg_control = control_;
        head.msg_controllen = CMSG_SPACE(files.size() * sizeof(int));
        cmsghdr* item = CMSG_FIRSTHDR(&head);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = type;
        item->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
        std::memcpy(CMSG_DATA(item), files.data(), files.size() * sizeof(int));
        return std::move(*this);
    }
    Message&& with_room_for_files(std::size_t count) {
        head.msg_control = control_;
        head.msg_controllen = CMSG_LEN(count * sizeof(int));
        return std::move(*this);
    }
    // How many files came, which are closed.
    std::size_t files() {
        const cmsghdr* item = CMSG_FIRSTHDR(&head);
        if (item == nullptr) return 0;
        const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t index = 0; index < count; ++index) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(item) + index * sizeof fd, sizeof fd);
            os::close(fd);
        }
        return count;
    }
    std::uint16_t port() const {
        return ntohs(reinterpret_cast<const sockaddr_in&>(name_).sin_port);
    }

    msghdr head{};

  private:
    std::string bytes_;
    iovec part_{};
    sockaddr_storage name_{};
    alignas(cmsghdr) char control_[256] = {};
};

int bound(Notes& notes, int family = AF_INET) {
    const int fd = notes.made("socket", notes.system.socket(family, datagram, 0));
    const sockaddr_in here = v4(0);
    const sockaddr_in6 here6 = v6(0);
    if (family == AF_INET) notes.tell("bind", notes.system.bind(fd, plain(here), sizeof here));
    else notes.tell("bind", notes.system.bind(fd, plain(here6), sizeof here6));
    return fd;
}

void send(Notes& notes, std::string_view what, int fd, Message&& message) {
    notes.ask(what, os::sendmsg(fd, &message.head, quiet));
    settle();
}

void receive(Notes& notes, std::string_view what, int fd, Message&& message, int flags = 0) {
    const int all = flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    if (notes.tell(what, notes.system.recvmsg(fd, &message.head, all)) < 0) return;
    notes.tell("flags", message.head.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
    if (message.head.msg_name != nullptr) notes.tell("name", message.head.msg_namelen);
    if (message.head.msg_control != nullptr) {
        notes.tell("files", static_cast<std::int64_t>(message.files()));
    }
}

TEST(KernelDatagrams, are_refused_on_their_way_out) {
    compare([](Notes& notes) {
        const int fd = notes.made("socket", notes.system.socket(AF_INET, datagram, 0));
        const int sixth = notes.made("IPv6", notes.system.socket(AF_INET6, datagram, 0));
        const int there = bound(notes);
        const sockaddr_in good = v4(port_of(there)), no_port = v4(0);
        sockaddr_in odd = good;
        odd.sin_family = 200;
        const sockaddr_in broadcast = v4(9, INADDR_BROADCAST);
        send(notes, "to nobody", fd, Message());
        send(notes, "to nobody of IPv6", sixth, Message());
        send(notes, "short", fd, Message().to(good, 8));
        send(notes, "short IPv6", sixth, Message().to(v6(port_of(there)), 16));
        send(notes, "of no family", fd, Message().to(odd));
        send(notes, "of IPv6", fd, Message().to(v6(port_of(there))));
        send(notes, "no port", fd, Message().to(no_port));
        send(notes, "to all", fd, Message().to(broadcast));
        send(notes, "largest", fd, Message(std::string(65507, 'x')).to(good));
        send(notes, "too big", fd, Message(std::string(65508, 'x')).to(good));
        send(notes, "too big for IPv6", sixth, Message(std::string(65528, 'x')).to(v6(9)));
        send(notes, "nothing", fd, Message("").to(good));
        notes.tell("connect to all", notes.system.connect(fd, plain(broadcast), sizeof broadcast));
        const int one = 1;
        notes.system.setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
        send(notes, "no name of a length", fd, Message().to(good, 0));
        notes.tell("connect short", notes.system.connect(fd, plain(good), 8));
        notes.tell("connect shorter", notes.system.connect(fd, plain(good), 1));
        notes.tell("connect to no family", notes.system.connect(fd, plain(odd), sizeof odd));
        notes.tell("connect to IPv6", notes.system.connect(fd, plain(v6(9)), sizeof(sockaddr_in6)));
        notes.tell("connect IPv6 short",
                   notes.system.connect(sixth, plain(v6(9)), sizeof(sockaddr_in)));
    });
}

TEST(KernelDatagrams, bind_refuses) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const int fd = notes.made("socket", system.socket(AF_INET, datagram, 0));
        const sockaddr_in here = v4(0), foreign = v4(0, 0xC0000201);
        const sockaddr_in6 here6 = v6(0);
        notes.tell("short", system.bind(fd, plain(here), 8));
        notes.tell("of IPv6", system.bind(fd, plain(here6), sizeof here6));
        notes.tell("of somebody else", system.bind(fd, plain(foreign), sizeof foreign));
        notes.tell("bind", system.bind(fd, plain(here), sizeof here));
        notes.tell("twice", system.bind(fd, plain(here), sizeof here));
        const sockaddr_in taken = v4(port_of(fd)), all = v4(port_of(fd), INADDR_ANY);
        const sockaddr_in6 all6 = v6(port_of(fd), in6addr_any), host6 = v6(port_of(fd));
        const int second = notes.made("second", system.socket(AF_INET, datagram, 0));
        notes.tell("taken", system.bind(second, plain(taken), sizeof taken));
        notes.tell("all", system.bind(second, plain(all), sizeof all));
        const int sixth = notes.made("IPv6", system.socket(AF_INET6, datagram, 0));
        notes.tell("all of both", system.bind(sixth, plain(all6), sizeof all6));
        notes.tell("one of IPv6", system.bind(sixth, plain(host6), sizeof host6));
        const int one = 1;
        for (const int name : {SO_REUSEADDR, SO_REUSEPORT}) {
            const int first = notes.made("first", system.socket(AF_INET, datagram, 0));
            const int other = notes.made("other", system.socket(AF_INET, datagram, 0));
            system.setsockopt(first, SOL_SOCKET, name, &one, sizeof one);
            notes.tell("bind", system.bind(first, plain(here), sizeof here));
            const sockaddr_in same = v4(port_of(first));
            notes.tell("only one asks", system.bind(other, plain(same), sizeof same));
            system.setsockopt(other, SOL_SOCKET, name, &one, sizeof one);
            notes.tell("both ask", system.bind(other, plain(same), sizeof same));
        }
    });
}

TEST(KernelDatagrams, are_cut_peeked_at_and_told_of) {
    compare([](Notes& notes) {
        const int there = bound(notes), fd = bound(notes);
        const sockaddr_in address = v4(port_of(there));
        char bytes[8] = {};
        receive(notes, "nothing yet", there, Message());
        send(notes, "send", fd, Message("0123456789").to(address));
        receive(notes, "peek", there, Message("...").with_room_for_name(), MSG_PEEK);
        receive(notes, "peek at the size", there, Message("..."), MSG_PEEK | MSG_TRUNC);
        receive(notes, "cut", there, Message("...").with_room_for_name(4));
        receive(notes, "nothing left", there, Message());
        send(notes, "send", fd, Message("0123456789").to(address));
        notes.tell("its size", notes.system.recv(there, bytes, 3, MSG_TRUNC));
        send(notes, "send", fd, Message("").to(address));
        Message from;
        from.with_room_for_name();
        notes.tell("nothing at all", notes.system.recvmsg(there, &from.head, 0));
        notes.tell("from who sent it", from.port() == port_of(fd) ? 1 : 0);
        notes.tell("read of nothing", notes.system.read(there, bytes, sizeof bytes));
        send(notes, "send", fd, Message("again").to(address));
        notes.tell("read nothing", notes.system.read(there, bytes, 0));
        notes.tell("receive nothing", notes.system.recv(there, bytes, 0, 0));
        notes.tell("receive", notes.system.recv(there, bytes, sizeof bytes, 0));
        iovec parts[] = {{bytes, 2}, {bytes + 2, 0}, {bytes + 4, 4}};
        msghdr several{};
        several.msg_iov = parts;
        several.msg_iovlen = 3;
        send(notes, "send", fd, Message("abc").to(address));
        notes.tell("in parts", notes.system.recvmsg(there, &several, 0));
        notes.text("what", std::string_view(bytes, 2));
        notes.text("and", std::string_view(bytes + 4, 1));
    });
}

TEST(KernelDatagrams, of_those_who_are_connected) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const int a = bound(notes), b = bound(notes), c = bound(notes);
        const sockaddr_in to_a = v4(port_of(a)), to_b = v4(port_of(b));
        notes.tell("connect", system.connect(a, plain(to_b), sizeof to_b));
        send(notes, "from a stranger", c, Message().to(to_a));
        receive(notes, "is not heard", a, Message());
        send(notes, "from the peer", b, Message().to(to_a));
        receive(notes, "is", a, Message());
        send(notes, "to another than the peer", a, Message().to(v4(port_of(c))));
        receive(notes, "arrives", c, Message());
        notes.close(b);
        send(notes, "to nobody", a, Message());
        pollfd entry{a, POLLIN | POLLOUT, 0};
        notes.tell("poll", system.poll_now(&entry, 1));
        notes.tell("finds", entry.revents);
        send(notes, "is told of it", a, Message());
        settle();
        receive(notes, "again", a, Message());
        sockaddr_storage name{};
        socklen_t length = sizeof name;
        auto* address = reinterpret_cast<sockaddr*>(&name);
        notes.tell("peer", system.getpeername(a, address, &length));
        name = {};
        name.ss_family = AF_UNSPEC;
        notes.tell("let go", system.connect(a, address, sizeof(sockaddr_in)));
        notes.tell("no peer", system.getpeername(a, address, &length));
        send(notes, "to nobody", a, Message());
        send(notes, "to nobody, unconnected", a, Message().to(to_b));
        receive(notes, "nobody says so", a, Message());
        notes.tell("still bound", port_of(a) == ntohs(to_a.sin_port) ? 1 : 0);
        const int fresh = notes.made("fresh", system.socket(AF_INET, datagram, 0));
        notes.tell("connect", system.connect(fresh, plain(to_a), sizeof to_a));
        notes.tell("has a port", port_of(fresh) != 0 ? 1 : 0);
        name = {};
        name.ss_family = AF_UNSPEC;
        notes.tell("let go", system.connect(fresh, address, sizeof(sockaddr_in)));
        notes.tell("has none", port_of(fresh) != 0 ? 1 : 0);
        const int unread = bound(notes);
        send(notes, "to all hosts of one", a, Message().to(v4(port_of(unread), INADDR_ANY)));
        receive(notes, "comes", unread, Message());
        const sockaddr_in any = v4(port_of(unread), INADDR_ANY);
        notes.tell("connect to any", system.connect(fresh, plain(any), sizeof any));
        notes.ask("send", os::send(fresh, "any", 3, quiet));
        settle();
        receive(notes, "comes", unread, Message());
        length = sizeof name;
        notes.tell("its peer", system.getpeername(fresh, address, &length));
        const auto& host = reinterpret_cast<const sockaddr_in&>(name);
        notes.tell("host", ntohl(host.sin_addr.s_addr));
        const int all = notes.made("all", system.socket(AF_INET, datagram, 0));
        const sockaddr_in anywhere = v4(0, INADDR_ANY);
        notes.tell("bind", system.bind(all, plain(anywhere), sizeof anywhere));
        const int one = 1, second = notes.made("second", system.socket(AF_INET, datagram, 0));
        const sockaddr_in exact = v4(port_of(all));
        for (const int fd : {all, second})
            system.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        notes.tell("the exact address, too", system.bind(second, plain(exact), sizeof exact));
        send(notes, "to the exact one", a, Message().to(exact));
        receive(notes, "does not come to all", all, Message());
        receive(notes, "comes", second, Message());
        send(notes, "to another host", a, Message().to(v4(port_of(all), 0x7F000002)));
        receive(notes, "comes to all", all, Message());
        receive(notes, "not to the exact one", second, Message());
    });
}

TEST(KernelDatagrams, between_the_families) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const int zero = 0;
        const int both = notes.made("both", system.socket(AF_INET6, datagram, 0));
        system.setsockopt(both, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
        const sockaddr_in6 all = v6(0, in6addr_any);
        notes.tell("bind", system.bind(both, plain(all), sizeof all));
        const int fourth = bound(notes), sixth = bound(notes, AF_INET6);
        send(notes, "IPv4 to both", fourth, Message().to(v4(port_of(both))));
        receive(notes, "comes", both, Message().with_room_for_name());
        send(notes, "IPv6 to both", sixth, Message().to(v6(port_of(both))));
        receive(notes, "comes", both, Message().with_room_for_name());
        send(notes, "IPv6 to IPv4", sixth, Message().to(v6(port_of(fourth))));
        receive(notes, "does not", fourth, Message());
        send(notes, "IPv4 to IPv6", fourth, Message().to(v4(port_of(sixth))));
        receive(notes, "does not", sixth, Message());
        send(notes, "IPv4 address from IPv6 alone", sixth, Message().to(v4(port_of(fourth))));
    });
}

// --- local ones

sockaddr_un named(std::string_view name) {
    sockaddr_un made{};
    made.sun_family = AF_UNIX;
    // In the abstract names, of this process.
    const std::string whole = std::string(name) + "-" + std::to_string(getpid());
    std::memcpy(made.sun_path + 1, whole.data(), whole.size());
    return made;
}

int local(Notes& notes, int type, const sockaddr_un& name) {
    const int fd = notes.made("socket", notes.system.socket(AF_UNIX, type, 0));
    notes.tell("bind", notes.system.bind(fd, plain(name), sizeof name));
    return fd;
}

TEST(KernelLocal, names_are_refused) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const sockaddr_un one = named("one"), two = named("two");
        sockaddr_un odd = one;
        odd.sun_family = AF_INET;
        for (const int type : {stream, datagram}) {
            const int fd = notes.made("socket", system.socket(AF_UNIX, type, 0));
            notes.tell("short", system.bind(fd, plain(one), 1));
            notes.tell("another family", system.bind(fd, plain(odd), sizeof odd));
            notes.tell("bind", system.bind(fd, plain(one), sizeof one));
            notes.tell("twice", system.bind(fd, plain(two), sizeof two));
            const int other = notes.made("socket", system.socket(AF_UNIX, type, 0));
            notes.tell("taken", system.bind(other, plain(one), sizeof one));
            notes.tell("connect to no name", system.connect(other, plain(two), sizeof two));
            notes.tell("connect, another family", system.connect(other, plain(odd), sizeof odd));
            notes.tell("connect, short", system.connect(other, plain(one), 1));
            sockaddr_un missing{};
            missing.sun_family = AF_UNIX;
            std::strcpy(missing.sun_path, "/tmp/whorl-nothing-is-here");
            notes.tell("connect to no file", system.connect(other, plain(missing), sizeof missing));
            notes.close(fd);
            notes.tell("connect to one who has left",
                       system.connect(other, plain(one), sizeof one));
            notes.tell("its name is free", system.bind(other, plain(one), sizeof one));
            notes.close(other);
        }
    });
}

TEST(KernelLocal, connections_are_refused) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const sockaddr_un name = named("listener");
        const int there = local(notes, stream, name);
        const int fd = notes.made("socket", system.socket(AF_UNIX, stream, 0));
        const int packets = notes.made("packets", system.socket(AF_UNIX, SOCK_SEQPACKET, 0));
        notes.tell("nobody listens", system.connect(fd, plain(name), sizeof name));
        notes.tell("listen", system.listen(there, 0));
        notes.tell("other kind", system.connect(packets, plain(name), sizeof name));
        notes.tell("a listener connects", system.connect(there, plain(name), sizeof name));
        notes.tell("connect", system.connect(fd, plain(name), sizeof name));
        notes.tell("twice", system.connect(fd, plain(name), sizeof name));
        const int second = notes.made("socket", system.socket(AF_UNIX, stream, 0));
        notes.tell("no room", system.connect(second, plain(name), sizeof name));
        sockaddr_storage peer{};
        socklen_t length = sizeof peer;
        auto* address = reinterpret_cast<sockaddr*>(&peer);
        notes.tell("peer", system.getpeername(fd, address, &length));
        notes.tell("length", length);
        length = sizeof peer;
        notes.tell("own name", system.getsockname(fd, address, &length));
        notes.tell("length", length);
        char byte = 'x';
        notes.ask("send before it is accepted", os::send(fd, &byte, 1, quiet));
        notes.ask("accept with flags that are none", os::accept4(there, nullptr, nullptr, 1));
        const int server =
            notes.made_by_os("accept", os::accept4(there, nullptr, nullptr, SOCK_CLOEXEC));
        notes.tell("receive", system.recv(server, &byte, 1, MSG_DONTWAIT));
        notes.tell("bind late", system.bind(fd, plain(name), sizeof name));
        notes.tell("bind late, free", system.bind(fd, plain(named("free")), sizeof name));
    });
}

TEST(KernelLocal, datagrams) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const sockaddr_un at_a = named("a"), at_b = named("b"), at_none = named("none");
        const int a = local(notes, datagram, at_a), b = local(notes, datagram, at_b);
        const int streams = local(notes, stream, named("streams"));
        const int nameless = notes.made("socket", system.socket(AF_UNIX, datagram, 0));
        send(notes, "to nobody", a, Message());
        send(notes, "to no name", a, Message().to(at_none));
        send(notes, "to a stream", a, Message().to(named("streams")));
        send(notes, "by name", a, Message("12345").to(at_b));
        receive(notes, "comes", b, Message("...").with_room_for_name());
        send(notes, "from the nameless", nameless, Message("12345").to(at_b));
        receive(notes, "comes", b, Message("......").with_room_for_name());
        notes.tell("connect", system.connect(b, plain(at_a), sizeof at_a));
        send(notes, "to another's", nameless, Message().to(at_b));
        send(notes, "to its own", a, Message().to(at_b));
        receive(notes, "comes", b, Message());
        receive(notes, "nothing more", b, Message());
        for (int index = 0; index < 12; ++index) send(notes, "fill", b, Message());
        pollfd entry{b, POLLIN | POLLOUT, 0};
        notes.tell("poll", system.poll_now(&entry, 1));
        receive(notes, "one", a, Message());
        send(notes, "room again", b, Message());
        notes.tell("connect to no name", system.connect(b, plain(at_none), sizeof at_none));
        notes.tell("connect to a stream",
                   system.connect(b, plain(named("streams")), sizeof at_none));
        sockaddr_storage none{};
        none.ss_family = AF_UNSPEC;
        notes.tell("let go", system.connect(b, plain(none), sizeof(sa_family_t)));
        send(notes, "to nobody", b, Message());
        notes.tell("connect again", system.connect(b, plain(at_a), sizeof at_a));
        notes.close(a);
        send(notes, "to one who has left", b, Message());
        notes.close(streams);
    });
}

TEST(KernelLocal, files_travel) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        int fds[2] = {-1, -1};
        notes.tell("pair", system.socketpair(AF_UNIX, stream, 0, fds));
        const int a = notes.made("a", fds[0]), b = notes.made("b", fds[1]);
        send(notes, "one that is none", a, Message().with_files({12345}));
        send(notes, "control data of no kind", a, Message().with_files({0}, 77));
        send(notes, "two", a, Message().with_files({a, b}));
        receive(notes, "come", b, Message().with_room_for_files(8));
        send(notes, "three", a, Message().with_files({a, b, a}));
        receive(notes, "two find room", b, Message().with_room_for_files(2));
        send(notes, "one", a, Message().with_files({a}));
        receive(notes, "finds no room", b, Message());
        send(notes, "none", a, Message());
        receive(notes, "with room", b, Message().with_room_for_files(2));
        send(notes, "bytes", a, Message("abc"));
        send(notes, "and a file", a, Message("def").with_files({a}));
        receive(notes, "what came before it", b, Message("........").with_room_for_files(2));
        receive(notes, "what came with it", b, Message("........").with_room_for_files(2));
        send(notes, "a file", a, Message("def").with_files({a}));
        char bytes[4];
        notes.tell("is not asked for", system.recv(b, bytes, 4, MSG_DONTWAIT));
        send(notes, "bytes", a, Message("abc"));
        receive(notes, "come alone", b, Message().with_room_for_files(2));
        receive(notes, "nothing", b, Message());
        const int fresh = notes.made("fresh", system.socket(AF_UNIX, stream, 0));
        send(notes, "unconnected", fresh, Message().with_files({a}));
        receive(notes, "unconnected", fresh, Message());
        const int network = notes.made("network", system.socket(AF_INET, datagram, 0));
        send(notes, "over the network", network, Message().with_files({a}));
    });
}

}  // namespace
}  // namespace whorl::kernel_pair
