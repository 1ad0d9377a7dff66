// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/file_calls.hpp"
#include "backend/sim_kernel.hpp"
#include "backend/sim_ring.hpp"

#include <whorl/assert.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <initializer_list>

// The system calls of the simulated kernel, and its descriptors.

namespace whorl::detail {

// --- descriptors

SimFilePtr SimKernel::file(int fd) const noexcept {
    const auto index = static_cast<std::size_t>(fd);
    return fd >= 0 && index < files_.size() ? files_[index] : nullptr;
}

std::shared_ptr<SimSocket> SimKernel::socket_of(int fd, int& error) const noexcept {
    const SimFilePtr found = file(fd);
    error = found == nullptr ? -EBADF : 0;
    if (found == nullptr) return nullptr;
    if (std::strcmp(found->name(), "socket") != 0) {
        error = -ENOTSOCK;
        return nullptr;
    }
    return std::static_pointer_cast<SimSocket>(found);
}

// The lowest free number, as in Linux: a number is used again at once.
int SimKernel::install(SimFilePtr file, int lowest) noexcept {
    auto index = static_cast<std::size_t>(std::max(lowest, lowest_descriptor_));
    while (index < files_.size() && files_[index] != nullptr) ++index;
    if (index >= descriptor_limit()) return -EMFILE;
    if (index >= files_.size()) files_.resize(index + 1);
    files_[index] = std::move(file);
    return static_cast<int>(index);
}

void SimKernel::open_standard() {
    lowest_descriptor_ = 0;
    for (int number = 0; number < 3; ++number) install(std::make_shared<SimNull>(*this));
}

std::vector<int> SimKernel::open_descriptors() const {
    std::vector<int> found;
    for (std::size_t index = 0; index < files_.size(); ++index) {
        if (files_[index] != nullptr) found.push_back(static_cast<int>(index));
    }
    return found;
}

int SimKernel::close(int fd) noexcept {
    if (file(fd) == nullptr) return -EBADF;
    trace("close %d", fd);
    // Moved out first: what ends with it must find the number free.
    const SimFilePtr last = std::move(files_[static_cast<std::size_t>(fd)]);
    files_[static_cast<std::size_t>(fd)] = nullptr;
    return 0;
}

int SimKernel::dup(int fd) noexcept {
    const SimFilePtr found = file(fd);
    return found != nullptr ? install(found) : -EBADF;
}

int SimKernel::dup3(int fd, int number, int flags) noexcept {
    if ((flags & ~O_CLOEXEC) != 0 || fd == number) return -EINVAL;
    const SimFilePtr found = file(fd);
    if (found == nullptr || number < 0) return -EBADF;
    if (static_cast<std::uint32_t>(number) >= descriptor_limit()) return -EBADF;
    static_cast<void>(close(number));
    return install(found, number);
}

int SimKernel::fcntl(int fd, int command, int argument) noexcept {
    const SimFilePtr found = file(fd);
    if (found == nullptr) return -EBADF;
    switch (command) {
        case F_GETFD:
            return FD_CLOEXEC;
        case F_SETFD:
            return 0;
        case F_GETFL:
            return found->access() | (found->nonblocking ? O_NONBLOCK : 0);
        case F_SETFL:
            found->nonblocking = (argument & O_NONBLOCK) != 0;
            return 0;
        case F_DUPFD:
        case F_DUPFD_CLOEXEC:
            if (argument < 0 || static_cast<std::uint32_t>(argument) >= descriptor_limit())
                return -EINVAL;
            return install(found, argument);
        default:
            return -EINVAL;
    }
}

// Now and then a call fails with one of the errors that its manual page names.
int SimKernel::fault_in_call(const char* call, std::initializer_list<int> errors) noexcept {
    if (!faulty(options_.call_error)) return 0;
    const int error = *(errors.begin() + choices.below(static_cast<std::uint32_t>(errors.size())));
    trace("%s fails with %d", call, error);
    return -error;
}

// --- sockets

namespace {

bool is_long_enough(const SimSocket& socket, socklen_t length) noexcept {
    return length >= SimAddress::length_min(socket.family());
}

// What socket(2) says of a kind of socket, in the order of Linux.
int kind_refused(int family, int kind, int protocol) noexcept {
    if (kind < 0 || kind > SOCK_PACKET) return -EINVAL;
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX) return -EAFNOSUPPORT;
    const bool streams = kind == SOCK_STREAM, datagrams = kind == SOCK_DGRAM;
    if (family == AF_UNIX) {
        if (protocol != 0 && protocol != AF_UNIX) return -EPROTONOSUPPORT;
        return streams || datagrams || kind == SOCK_SEQPACKET ? 0 : -ESOCKTNOSUPPORT;
    }
    if (!streams && !datagrams) return -ESOCKTNOSUPPORT;
    const int only = streams ? IPPROTO_TCP : IPPROTO_UDP;
    return protocol == 0 || protocol == only ? 0 : -EPROTONOSUPPORT;
}

}  // namespace

int SimKernel::socket(int family, int type, int protocol) noexcept {
    const int kind = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (const int error = kind_refused(family, kind, protocol)) return error;
    if (const int error = fault_in_call("socket", {EMFILE, ENFILE, ENOBUFS, ENOMEM})) return error;
    SimFilePtr made;
    if (kind == SOCK_DGRAM && family == AF_UNIX) made = std::make_shared<SimUnixDatagram>(*this);
    else if (kind == SOCK_DGRAM) made = std::make_shared<SimDatagram>(*this, family);
    else made = std::make_shared<SimSocket>(*this, family, kind);
    made->nonblocking = (type & SOCK_NONBLOCK) != 0;
    return install(made);
}

int SimKernel::bind(int fd, const sockaddr* address, socklen_t length) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) {
        if ((error = fault_in_call("bind", {EADDRINUSE, EACCES})) != 0) return error;
        return datagram->bind(address, length);
    }
    const auto found = socket_of(fd, error);
    if (found == nullptr) return error;
    if (!is_long_enough(*found, length)) return -EINVAL;
    if ((error = fault_in_call("bind", {EADDRINUSE, EACCES})) != 0) return error;
    return found->bind(SimAddress::from(address, length));
}

int SimKernel::listen(int fd, int backlog) noexcept {
    int error = 0;
    if (datagram_of(fd) != nullptr) return -EOPNOTSUPP;
    const auto found = socket_of(fd, error);
    if (found == nullptr) return error;
    if ((error = fault_in_call("listen", {EADDRINUSE})) != 0) return error;
    return found->listen(backlog);
}

int SimKernel::shutdown(int fd, int how) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) return datagram->shutdown(how);
    const auto found = socket_of(fd, error);
    if (found == nullptr) return error;
    if (how < SHUT_RD || how > SHUT_RDWR) return -EINVAL;
    // Under a simulated ring this call is the operation.
    if (const int scripted = take_scripted_fault(OpKind::shutdown)) return -scripted;
    return found->shutdown(how);
}

int SimKernel::connect(int fd, const sockaddr* address, socklen_t length) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) return datagram->connect(address, length);
    const auto found = socket_of(fd, error);
    if (found == nullptr) return error;
    if (!is_long_enough(*found, length)) return -EINVAL;
    return found->connect(SimAddress::from(address, length));
}

namespace {

int copy_out(const SimAddress& from, sockaddr* address, socklen_t* length) noexcept {
    if (address != nullptr) std::memcpy(address, &from.storage, std::min(*length, from.length));
    if (length != nullptr) *length = from.length;
    return 0;
}

}  // namespace

int SimKernel::accept4(int fd, sockaddr* address, socklen_t* length, int flags) noexcept {
    int error = 0;
    if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return -EINVAL;
    if (datagram_of(fd) != nullptr) return -EOPNOTSUPP;
    const auto found = socket_of(fd, error);
    if (found == nullptr) return error;
    const int number = accept(*found);
    if (number < 0) return number;
    const auto made = socket_of(number, error);
    made->nonblocking = (flags & SOCK_NONBLOCK) != 0;
    copy_out(made->peer(), address, length);
    return number;
}

// As in Linux, the number comes first: without one the connection stays in the backlog.
int SimKernel::accept(SimSocket& listener) noexcept {
    if (listener.role() == SimSocket::Role::listening && (listener.poll_bits() & POLLIN) != 0) {
        const int number = install(std::make_shared<SimEventFd>(*this, 0));
        if (number < 0) return number;
        files_[static_cast<std::size_t>(number)] = nullptr;
    }
    int error = 0;
    const std::shared_ptr<SimSocket> made = listener.accept(error);
    return made != nullptr ? install(made) : error;
}

int SimKernel::getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) return copy_out(datagram->local(), address, length);
    const auto found = socket_of(fd, error);
    return found != nullptr ? copy_out(found->local(), address, length) : error;
}

int SimKernel::getpeername(int fd, sockaddr* address, socklen_t* length) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) {
        if (datagram->peer().length == 0) return -ENOTCONN;
        return copy_out(datagram->peer(), address, length);
    }
    const auto found = socket_of(fd, error);
    if (found == nullptr) return error;
    if (found->role() != SimSocket::Role::connected) return -ENOTCONN;
    return copy_out(found->peer(), address, length);
}

int SimKernel::setsockopt(int fd, int level, int name, const void* value, socklen_t size) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) {
        if ((error = fault_in_call("setsockopt", {ENOBUFS, ENOMEM})) != 0) return error;
        return datagram->set_option(level, name, value, size);
    }
    const auto found = socket_of(fd, error);
    if (found == nullptr) return error;
    if ((error = fault_in_call("setsockopt", {ENOBUFS, ENOMEM})) != 0) return error;
    return found->set_option(level, name, value, size);
}

int SimKernel::getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) {
        return datagram->get_option(level, name, value, size);
    }
    const auto found = socket_of(fd, error);
    return found != nullptr ? found->get_option(level, name, value, size) : error;
}

// --- data

ssize_t SimKernel::recv(int fd, void* data, std::size_t size, int flags) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) return datagram->read(data, size, flags);
    const auto found = socket_of(fd, error);
    return found != nullptr ? found->read(data, size, flags) : error;
}

ssize_t SimKernel::send(int fd, const void* data, std::size_t size, int flags) noexcept {
    int error = 0;
    if (const auto datagram = datagram_of(fd)) return datagram->write(data, size, flags);
    const auto found = socket_of(fd, error);
    return found != nullptr ? found->write(data, size, flags) : error;
}

ssize_t SimKernel::recvmsg(int fd, msghdr* message, int flags) noexcept {
    const SimFilePtr found = file(fd);
    return found != nullptr ? found->receive_message(*message, flags) : -EBADF;
}

ssize_t SimKernel::sendmsg(int fd, const msghdr* message, int flags) noexcept {
    const SimFilePtr found = file(fd);
    return found != nullptr ? found->send_message(*message, flags) : -EBADF;
}

ssize_t SimKernel::read(int fd, void* data, std::size_t size) noexcept {
    const SimFilePtr found = file(fd);
    if (found == nullptr) return -EBADF;
    int none = 0;
    const bool socket = socket_of(fd, none) != nullptr || datagram_of(fd) != nullptr;
    return socket && size == 0 ? 0 : found->read(data, size, 0);  // unlike recv(2)
}

ssize_t SimKernel::write(int fd, const void* data, std::size_t size) noexcept {
    const SimFilePtr found = file(fd);
    return found != nullptr ? found->write(data, size, 0) : -EBADF;
}

int SimKernel::pipe2(int fds[2], int flags) noexcept {
    const auto channel = std::make_shared<SimChannel>(*this, 65536);
    const auto reader = std::make_shared<SimPipeEnd>(*this, channel, true);
    const auto writer = std::make_shared<SimPipeEnd>(*this, channel, false);
    reader->nonblocking = writer->nonblocking = (flags & O_NONBLOCK) != 0;
    return install_pair(reader, writer, fds);
}

int SimKernel::set_blocking(int fd) noexcept {
    const SimFilePtr found = file(fd);
    if (found == nullptr) return -EBADF;
    found->nonblocking = false;
    return 0;
}

int SimKernel::socketpair(int family, int type, int protocol, int fds[2]) noexcept {
    const int kind = type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (const int error = kind_refused(family, kind, protocol)) return error;
    // Two datagram sockets are not simulated.
    if (family != AF_UNIX || kind == SOCK_DGRAM) return -EOPNOTSUPP;
    if (const int error = fault_in_call("socketpair", {EMFILE, ENFILE})) return error;
    const auto first = std::make_shared<SimSocket>(*this, family, kind);
    const auto second = std::make_shared<SimSocket>(*this, family, kind);
    SimSocket::join(*first, *second);
    first->nonblocking = second->nonblocking = (type & SOCK_NONBLOCK) != 0;
    return install_pair(first, second, fds);
}

int SimKernel::install_pair(const SimFilePtr& first, const SimFilePtr& second, int fds[2]) {
    fds[0] = install(first);
    if (fds[0] < 0) return fds[0];
    fds[1] = install(second);
    if (fds[1] >= 0) return 0;
    const int error = fds[1];
    close(fds[0]);
    return error;
}

// --- eventfd, epoll, poll

int SimKernel::eventfd(unsigned initial, int flags) noexcept {
    if (const int error = fault_in_call("eventfd", {EMFILE, ENFILE, ENOMEM})) return error;
    const auto made = std::make_shared<SimEventFd>(*this, initial);
    made->nonblocking = (flags & EFD_NONBLOCK) != 0;
    return install(made);
}

int SimKernel::epoll_create1(int) noexcept { return install(std::make_shared<SimEpoll>(*this)); }

int SimKernel::epoll_ctl(int epoll, int action, int fd, epoll_event* event) noexcept {
    const SimFilePtr outer = file(epoll);
    const SimFilePtr inner = file(fd);
    if (outer == nullptr || inner == nullptr) return -EBADF;
    if (std::strcmp(outer->name(), "epoll") != 0 || outer == inner) return -EINVAL;
    const epoll_event asked = event != nullptr ? *event : epoll_event{};
    return static_cast<SimEpoll&>(*outer).control(action, fd, asked, inner);
}

int SimKernel::epoll_wait_now(int epoll, epoll_event* events, int count) noexcept {
    const SimFilePtr found = file(epoll);
    if (found == nullptr) return -EBADF;
    if (std::strcmp(found->name(), "epoll") != 0 || count <= 0) return -EINVAL;
    return static_cast<SimEpoll&>(*found).take(events, count);
}

int SimKernel::poll_now(pollfd* entries, nfds_t count) noexcept {
    int ready = 0;
    for (nfds_t index = 0; index < count; ++index) {
        pollfd& entry = entries[index];
        entry.revents = 0;
        if (entry.fd < 0) continue;
        const SimFilePtr found = file(entry.fd);
        const unsigned bits = found != nullptr ? found->poll_bits() : POLLNVAL;
        const auto asked = static_cast<unsigned short>(entry.events);
        entry.revents = static_cast<short>(bits & (asked | POLLERR | POLLHUP | POLLNVAL));
        if (entry.revents != 0) ++ready;
    }
    return ready;
}

FileCalls& SimKernel::file_calls() noexcept {
    if (file_calls_ == nullptr) file_calls_ = make_sim_file_calls(*this);
    return *file_calls_;
}

RingCalls& SimKernel::ring_calls() noexcept {
    if (ring_calls_ == nullptr) ring_calls_ = make_sim_ring_calls(*this);
    return *ring_calls_;
}

}  // namespace whorl::detail
