// SPDX-License-Identifier: MIT
// Goal: descriptors, pipes, eventfds and epolls of the simulated kernel answer and refuse as Linux does,
// also when no descriptor is left; and its calls fail as told.
// Method: the same calls in the same order to the machine's kernel and to a simulated one.
#include "unit/kernel_pair.hpp"

namespace whorl::kernel_pair {
namespace {

std::pair<int, int> pipe_of(Notes& notes) {
    int fds[2] = {-1, -1};
    notes.tell("pipe2", notes.system.pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    return {notes.made("reader", fds[0]), notes.made("writer", fds[1])};
}

std::pair<int, int> socket_pair(Notes& notes, int type = SOCK_STREAM) {
    int fds[2] = {-1, -1};
    const int kind = type | SOCK_NONBLOCK | SOCK_CLOEXEC;
    notes.tell("socketpair", notes.system.socketpair(AF_UNIX, kind, 0, fds));
    return {notes.made("first", fds[0]), notes.made("second", fds[1])};
}

void poll(Notes& notes, int fd, int events) {
    pollfd entry{fd, static_cast<short>(events), 0};
    notes.tell("poll", notes.system.poll_now(&entry, 1));
    notes.tell("finds", entry.revents);
}

constexpr int all_events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;

TEST(KernelDescriptors, numbers) {
    compare([](Notes& notes) {
        const int fd = notes.made("eventfd", notes.system.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
        notes.tell("close none", notes.system.close(-1));
        notes.tell("close what is not open", notes.system.close(12345));
        notes.ask("dup none", os::dup(-1));
        notes.tell("duplicate none", notes.system.duplicate(12345));
        notes.ask("dup3 none", os::dup3(-1, 50, O_CLOEXEC));
        notes.ask("dup3 to none", os::dup3(fd, -1, O_CLOEXEC));
        notes.ask("dup3 to itself", os::dup3(fd, fd, O_CLOEXEC));
        notes.ask("dup3 with flags that are none", os::dup3(fd, 50, O_APPEND));
        notes.ask("dup3", os::dup3(fd, 50, O_CLOEXEC));
        notes.ask("dup3 over it", os::dup3(fd, 50, O_CLOEXEC));
        notes.ask("close", os::close(50));
        notes.ask("fcntl of none", os::fcntl(-1, F_GETFD));
        notes.ask("fcntl of no kind", os::fcntl(fd, 9999));
        notes.ask("its flags", os::fcntl(fd, F_GETFD));
        notes.ask("set them", os::fcntl(fd, F_SETFD, FD_CLOEXEC));
        notes.ask("blocking", os::fcntl(fd, F_SETFL, 0));
        notes.ask("its mode", os::fcntl(fd, F_GETFL));
        notes.ask("not blocking", os::fcntl(fd, F_SETFL, O_NONBLOCK));
        notes.ask("its mode", os::fcntl(fd, F_GETFL));
        notes.tell("blocking again", notes.system.set_blocking(fd));
        notes.tell("blocking none", notes.system.set_blocking(-1));
        notes.ask("its mode", os::fcntl(fd, F_GETFL));
        const int higher = notes.made_by_os("from 60", os::fcntl(fd, F_DUPFD_CLOEXEC, 60));
        notes.tell("is", higher >= 60 ? 1 : 0);
        notes.ask("from below none", os::fcntl(fd, F_DUPFD_CLOEXEC, -1));
        const auto [reader, writer] = pipe_of(notes);
        notes.ask("a reader's mode", os::fcntl(reader, F_GETFL) & O_ACCMODE);
        notes.ask("a writer's mode", os::fcntl(writer, F_GETFL) & O_ACCMODE);
        notes.tell("access of none", notes.system.pipe_access(-1));
        poll(notes, -1, POLLIN);
        poll(notes, 12345, POLLIN);
    });
}

TEST(KernelDescriptors, eventfds) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const int fd = notes.made("eventfd", system.eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
        std::uint64_t value = 0;
        notes.tell("read little", system.read(fd, &value, 4));
        notes.tell("write little", system.write(fd, &value, 4));
        notes.tell("read", system.read(fd, &value, sizeof value));
        notes.tell("value", static_cast<std::int64_t>(value));
        notes.tell("read nothing", system.read(fd, &value, sizeof value));
        poll(notes, fd, all_events);
        value = UINT64_MAX;
        notes.tell("write all", system.write(fd, &value, sizeof value));
        value = UINT64_MAX - 1;
        notes.tell("write nearly all", system.write(fd, &value, sizeof value));
        poll(notes, fd, all_events);
        value = 1;
        notes.tell("one too many", system.write(fd, &value, sizeof value));
        notes.tell("read", system.read(fd, &value, sizeof value));
        poll(notes, fd, all_events);
    });
}

TEST(KernelDescriptors, epolls) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const int epoll = notes.made("epoll", system.epoll_create1(EPOLL_CLOEXEC));
        const auto [reader, writer] = pipe_of(notes);
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = 7;
        epoll_event found[4] = {};
        char byte = 'x';
        notes.tell("of none", system.epoll_ctl(-1, EPOLL_CTL_ADD, reader, &event));
        notes.tell("add none", system.epoll_ctl(epoll, EPOLL_CTL_ADD, 12345, &event));
        notes.tell("of a pipe", system.epoll_ctl(reader, EPOLL_CTL_ADD, writer, &event));
        notes.tell("of itself", system.epoll_ctl(epoll, EPOLL_CTL_ADD, epoll, &event));
        notes.tell("change none", system.epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &event));
        notes.tell("remove none", system.epoll_ctl(epoll, EPOLL_CTL_DEL, reader, &event));
        notes.tell("add", system.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event));
        notes.tell("add twice", system.epoll_ctl(epoll, EPOLL_CTL_ADD, reader, &event));
        notes.tell("of no kind", system.epoll_ctl(epoll, 99, reader, &event));
        notes.tell("read", system.read(epoll, &byte, 1));
        notes.tell("write", system.write(epoll, &byte, 1));
        notes.ask("nothing", os::epoll_wait(epoll, found, 4, 0));
        notes.ask("of none", os::epoll_wait(-1, found, 4, 0));
        notes.ask("of a pipe", os::epoll_wait(reader, found, 4, 0));
        notes.ask("no room", os::epoll_wait(epoll, found, 0, 0));
        notes.tell("write", system.write(writer, &byte, 1));
        poll(notes, epoll, POLLIN);
        notes.ask("something", os::epoll_wait(epoll, found, 4, 0));
        notes.tell("is", static_cast<std::int64_t>(found[0].data.u64));
        notes.ask("still", os::epoll_wait(epoll, found, 4, 0));
        event.events = EPOLLIN | EPOLLET;
        notes.tell("by edges", system.epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &event));
        notes.ask("once", os::epoll_wait(epoll, found, 4, 0));
        notes.ask("no more", os::epoll_wait(epoll, found, 4, 0));
        notes.tell("write", system.write(writer, &byte, 1));
        notes.ask("again", os::epoll_wait(epoll, found, 4, 0));
        event.events = EPOLLOUT;
        notes.tell("add", system.epoll_ctl(epoll, EPOLL_CTL_ADD, writer, &event));
        event.events = EPOLLIN;
        notes.tell("by level", system.epoll_ctl(epoll, EPOLL_CTL_MOD, reader, &event));
        notes.ask("both", os::epoll_wait(epoll, found, 4, 0));
        notes.ask("one of both", os::epoll_wait(epoll, found, 1, 0));
        notes.tell("remove", system.epoll_ctl(epoll, EPOLL_CTL_DEL, reader, nullptr));
        notes.close(reader);
        notes.ask("it broke", os::epoll_wait(epoll, found, 4, 0));
        notes.tell("finds", found[0].events);
        notes.close(writer);
        notes.ask("what is closed is forgotten", os::epoll_wait(epoll, found, 4, 0));
        const int event_fd = notes.made("eventfd", system.eventfd(1, EFD_CLOEXEC));
        notes.tell("add", system.epoll_ctl(epoll, EPOLL_CTL_ADD, event_fd, &event));
        notes.close(epoll);
    });
}

TEST(KernelDescriptors, pipes) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const auto [reader, writer] = pipe_of(notes);
        char byte = 'x';
        notes.tell("read the writer", system.read(writer, &byte, 1));
        notes.tell("write the reader", system.write_quietly(reader, &byte, 1));
        notes.tell("read nothing", system.read(reader, &byte, 1));
        notes.tell("read of size 0", system.read(reader, &byte, 0));
        notes.tell("write of size 0", system.write(writer, &byte, 0));
        poll(notes, reader, all_events);
        poll(notes, writer, all_events);
        const std::string page(4096, 'p');
        for (int index = 0; index < 16; ++index) {
            notes.tell("fill", system.write(writer, page.data(), page.size()));
        }
        notes.tell("full", system.write(writer, &byte, 1));
        notes.tell("full for nothing", system.write(writer, &byte, 0));
        poll(notes, writer, all_events);
        std::string much(8192, '\0');
        notes.tell("drain a page", system.read(reader, much.data(), 4096));
        poll(notes, writer, all_events);
        notes.tell("more than there is room", system.write(writer, much.data(), much.size()));
        notes.close(writer);
        poll(notes, reader, all_events);
        for (int index = 0; index < 8; ++index) {
            notes.tell("drain", system.read(reader, much.data(), much.size()));
        }
        notes.tell("the end", system.read(reader, &byte, 1));
        poll(notes, reader, all_events);
        const auto [gone, broken] = pipe_of(notes);
        notes.close(gone);
        notes.tell("nobody reads", system.write_quietly(broken, &byte, 1));
        notes.tell("nobody reads nothing", system.write_quietly(broken, &byte, 0));
        poll(notes, broken, all_events);
        const iovec parts[] = {{&byte, 1}, {&byte, 0}, {&byte, 1}};
        notes.tell("writev of none", system.writev_quietly(-1, parts, 3));
        notes.tell("writev to nobody", system.writev_quietly(broken, parts, 3));
    });
}

TEST(KernelDescriptors, splicing) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        const auto [reader, writer] = pipe_of(notes);
        const auto [other_reader, other_writer] = pipe_of(notes);
        const auto [first, second] = socket_pair(notes);
        const int event_fd = notes.made("eventfd", system.eventfd(0, EFD_NONBLOCK));
        const std::string text = "0123456789";
        notes.tell("from none", system.splice(-1, writer, 10));
        notes.tell("to none", system.splice(reader, 12345, 10));
        notes.tell("tee from none", system.tee(-1, writer, 10));
        notes.tell("tee to none", system.tee(reader, 12345, 10));
        notes.tell("without a pipe", system.splice(first, event_fd, 10));
        notes.tell("tee of a socket", system.tee(first, writer, 10));
        notes.tell("tee to a socket", system.tee(reader, first, 10));
        notes.tell("from an empty pipe", system.splice(reader, other_writer, 10));
        notes.tell("tee of an empty pipe", system.tee(reader, other_writer, 10));
        notes.tell("into itself", system.splice(reader, writer, 10));
        notes.tell("tee into itself", system.tee(reader, writer, 10));
        notes.tell("write", system.write(writer, text.data(), text.size()));
        notes.tell("tee", system.tee(reader, other_writer, 4));
        notes.tell("splice", system.splice(reader, other_writer, 3));
        notes.tell("to a socket", system.splice(reader, first, 100));
        char bytes[32] = {};
        notes.tell("read", system.read(other_reader, bytes, sizeof bytes));
        notes.text("what", std::string_view(bytes, 7));
        notes.tell("receive", system.recv(second, bytes, sizeof bytes, 0));
        notes.text("what", std::string_view(bytes, 7));
        notes.tell("from an empty socket", system.splice(second, other_writer, 10));
        notes.ask("send", os::send(first, "abc", 3, MSG_NOSIGNAL));
        notes.tell("from a socket", system.splice(second, other_writer, 10));
        notes.tell("read", system.read(other_reader, bytes, sizeof bytes));
        const std::string page(4096, 'p');
        for (int index = 0; index < 16; ++index) {
            notes.tell("fill", system.write(other_writer, page.data(), page.size()));
        }
        notes.tell("write", system.write(writer, text.data(), text.size()));
        notes.tell("into a full pipe", system.splice(reader, other_writer, 10));
        notes.tell("tee into a full pipe", system.tee(reader, other_writer, 10));
        notes.close(other_reader);
        notes.tell("into a broken pipe", system.splice(reader, other_writer, 10));
        notes.close(writer);
        notes.tell("the rest", system.splice(reader, first, 100));
        notes.tell("the end", system.splice(reader, first, 100));
        notes.close(second);
        const auto [last, open] = pipe_of(notes);
        notes.tell("write", system.write(open, text.data(), text.size()));
        notes.tell("to a socket that is alone", system.splice(last, first, 10));
    });
}

TEST(KernelDescriptors, none_left) {
    compare([](Notes& notes) {
        detail::System& system = notes.system;
        rlimit before{}, limit{};
        os::getrlimit(RLIMIT_NOFILE, &before);
        const auto [first, second] = socket_pair(notes);
        const int listener = notes.made("listener", system.socket(AF_INET, SOCK_STREAM, 0));
        const sockaddr_in here = v4(0);
        notes.tell("bind", system.bind(listener, plain(here), sizeof here));
        notes.tell("listen", system.listen(listener, 4));
        os::fcntl(listener, F_SETFL, O_NONBLOCK);
        const int client = notes.made("client", system.socket(AF_INET, SOCK_STREAM, 0));
        const sockaddr_in there = v4(port_of(listener));
        os::fcntl(client, F_SETFL, O_NONBLOCK);
        static_cast<void>(system.connect(client, plain(there), sizeof there));
        settle();
        char byte = 'x', control[CMSG_SPACE(2 * sizeof(int))] = {};
        iovec part{&byte, 1};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        cmsghdr* item = CMSG_FIRSTHDR(&message);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(2 * sizeof(int));
        const int files[2] = {first, second};
        std::memcpy(CMSG_DATA(item), files, sizeof files);
        notes.ask("send two files", os::sendmsg(first, &message, MSG_NOSIGNAL));
        limit = before;
        limit.rlim_cur = 100;
        notes.ask("setrlimit", os::setrlimit(RLIMIT_NOFILE, &limit));
        std::vector<int> filled;
        for (int fd = os::dup(first); fd >= 0; fd = os::dup(first)) filled.push_back(fd);
        notes.tell("no number", -errno);
        const int one = filled.back();
        notes.ask("but one", os::close(one));
        int fds[2] = {-1, -1};
        notes.tell("pipe2", system.pipe2(fds, O_CLOEXEC));
        notes.tell("socketpair", system.socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
        message.msg_controllen = sizeof control;
        notes.tell("receive two",
                   system.recvmsg(second, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
        notes.tell("flags", message.msg_flags & MSG_CTRUNC);
        item = CMSG_FIRSTHDR(&message);
        notes.tell("length", item != nullptr ? static_cast<std::int64_t>(item->cmsg_len) : -1);
        notes.tell("socket", system.socket(AF_INET, SOCK_STREAM, 0));
        notes.tell("eventfd", system.eventfd(0, 0));
        notes.tell("epoll", system.epoll_create1(0));
        notes.ask("accept", os::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK));
        notes.tell("open", notes.files.openat2(AT_FDCWD, "/tmp", {O_RDONLY, 0, 0}));
        notes.tell("inotify", notes.files.inotify_init1(0));
        notes.ask("dup3 to a high number", os::dup3(first, 100, O_CLOEXEC));
        notes.ask("from a high number", os::fcntl(first, F_DUPFD_CLOEXEC, 100));
        os::setrlimit(RLIMIT_NOFILE, &before);
        for (const int fd : filled) os::close(fd);
        notes.made_by_os("accept", os::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK));
        notes.ask("no other", os::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK));
    });
}

// --- only the simulated one

TEST(KernelFaults, calls_fail_as_their_manual_pages_say) {
    SimulationOptions options;
    detail::SimKernel kernel(options);
    const int stream = kernel.socket(AF_INET, SOCK_STREAM, 0);
    const int datagram = kernel.socket(AF_INET, SOCK_DGRAM, 0);
    const sockaddr_in here = v4(0);
    const int one = 1;
    int fds[2] = {-1, -1};
    kernel.options().call_error = 1;
    const auto among = [](int answer, std::initializer_list<int> errors) {
        return std::find(errors.begin(), errors.end(), -answer) != errors.end();
    };
    const std::initializer_list<int> numbers{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    const std::initializer_list<int> addresses{EADDRINUSE, EACCES};
    const std::initializer_list<int> memory{ENOBUFS, ENOMEM};
    for (int round = 0; round < 20; ++round) {
        EXPECT_TRUE(among(kernel.socket(AF_INET, SOCK_STREAM, 0), numbers));
        EXPECT_TRUE(among(kernel.eventfd(0, 0), numbers));
        EXPECT_TRUE(among(kernel.socketpair(AF_UNIX, SOCK_STREAM, 0, fds), numbers));
        EXPECT_TRUE(among(kernel.bind(stream, plain(here), sizeof here), addresses));
        EXPECT_TRUE(among(kernel.bind(datagram, plain(here), sizeof here), addresses));
        EXPECT_TRUE(among(kernel.listen(stream, 1), addresses));
        for (const int fd : {stream, datagram}) {
            EXPECT_TRUE(
                among(kernel.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one), memory));
        }
    }
    EXPECT_EQ(kernel.open_descriptors().size(), 2u);
    kernel.options().call_error = 0;
    EXPECT_EQ(kernel.bind(stream, plain(here), sizeof here), 0) << "nothing has been changed";
}

}  // namespace
}  // namespace whorl::kernel_pair
