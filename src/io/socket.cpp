// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/socket.hpp>

#include "loop/core.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace whorl {

namespace {

using detail::SystemFd;

Error set_int(SystemFd fd, int level, int name, int value) noexcept {
    const int size = sizeof value;
    return Error::from_errno(fd.system->setsockopt(fd.number, level, name, &value, size));
}

Error get_int(SystemFd fd, int level, int name, int& value) noexcept {
    socklen_t size = sizeof value;
    return Error::from_errno(fd.system->getsockopt(fd.number, level, name, &value, &size));
}

Error get_flag(SystemFd fd, int level, int name, bool& on) noexcept {
    int value = 0;
    const Error error = get_int(fd, level, name, value);
    on = value != 0;
    return error;
}

using NameOf = int (detail::System::*)(int, sockaddr*, socklen_t*) noexcept;

Result<Address> address_of(Loop& loop, std::uint64_t handle, NameOf name_of) noexcept {
    Result<SystemFd> fd = detail::descriptor_number(loop, handle);
    if (!fd) return fd.error();
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    const int done =
        (fd->system->*name_of)(fd->number, reinterpret_cast<sockaddr*>(&storage), &size);
    if (done < 0) return Error::from_errno(done);
    return Address::from_sockaddr(&storage, size);
}

Result<std::uint64_t> adopt_descriptor(Loop& loop, int fd, bool listening) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    int type = 0, listens = 0;
    if (Error error = get_int({&core.system, fd}, SOL_SOCKET, SO_TYPE, type)) return error;
    if (Error error = get_int({&core.system, fd}, SOL_SOCKET, SO_ACCEPTCONN, listens)) return error;
    const bool connected = type == SOCK_STREAM || type == SOCK_SEQPACKET;
    if (!connected || (listens != 0) != listening) return Error::invalid_argument;
    const auto kind = listening ? detail::DescriptorKind::listener : detail::DescriptorKind::socket;
    Result<detail::Descriptor*> claimed = core.descriptor_claim(fd, kind);
    if (!claimed) return claimed.error();
    return core.descriptors.handle_of(*claimed);
}

}  // namespace

namespace detail {

Result<SystemFd> descriptor_number(Loop& loop, std::uint64_t handle) noexcept {
    LoopCore& core = loop.core();
    core.check_thread();
    const Descriptor* descriptor = core.descriptor_find(handle);
    if (descriptor == nullptr) return Error::stale_handle;
    return SystemFd{&core.system, descriptor->fd};
}

Error option_set(SystemFd fd, const NoDelay& option) noexcept {
    return set_int(fd, IPPROTO_TCP, TCP_NODELAY, option.on ? 1 : 0);
}
Error option_get(SystemFd fd, NoDelay& option) noexcept {
    return get_flag(fd, IPPROTO_TCP, TCP_NODELAY, option.on);
}

Error option_set(SystemFd fd, const KeepAlive& option) noexcept {
    if (Error error = set_int(fd, SOL_SOCKET, SO_KEEPALIVE, option.on ? 1 : 0)) return error;
    if (!option.on) return {};
    const auto idle = static_cast<int>(option.idle.count());
    const auto interval = static_cast<int>(option.interval.count());
    if (Error error = set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle)) return error;
    if (Error error = set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval)) return error;
    return set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, option.probes);
}
Error option_get(SystemFd fd, KeepAlive& option) noexcept {
    int idle = 0, interval = 0;
    if (Error error = get_flag(fd, SOL_SOCKET, SO_KEEPALIVE, option.on)) return error;
    if (Error error = get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle)) return error;
    if (Error error = get_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval)) return error;
    option.idle = std::chrono::seconds(idle);
    option.interval = std::chrono::seconds(interval);
    return get_int(fd, IPPROTO_TCP, TCP_KEEPCNT, option.probes);
}

Error option_set(SystemFd fd, const ReceiveBuffer& option) noexcept {
    return set_int(fd, SOL_SOCKET, SO_RCVBUF, option.bytes);
}
Error option_get(SystemFd fd, ReceiveBuffer& option) noexcept {
    return get_int(fd, SOL_SOCKET, SO_RCVBUF, option.bytes);
}

Error option_set(SystemFd fd, const SendBuffer& option) noexcept {
    return set_int(fd, SOL_SOCKET, SO_SNDBUF, option.bytes);
}
Error option_get(SystemFd fd, SendBuffer& option) noexcept {
    return get_int(fd, SOL_SOCKET, SO_SNDBUF, option.bytes);
}

Error option_set(SystemFd fd, const Linger& option) noexcept {
    linger value{};
    value.l_onoff = option.on ? 1 : 0;
    value.l_linger = static_cast<int>(option.time.count());
    const int size = sizeof value;
    return Error::from_errno(fd.system->setsockopt(fd.number, SOL_SOCKET, SO_LINGER, &value, size));
}
Error option_get(SystemFd fd, Linger& option) noexcept {
    linger value{};
    socklen_t size = sizeof value;
    const int done = fd.system->getsockopt(fd.number, SOL_SOCKET, SO_LINGER, &value, &size);
    if (done < 0) return Error::from_errno(done);
    option.on = value.l_onoff != 0;
    option.time = std::chrono::seconds(value.l_linger);
    return {};
}

Error option_set(SystemFd fd, const UserTimeout& option) noexcept {
    return set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(option.time.count()));
}
Error option_get(SystemFd fd, UserTimeout& option) noexcept {
    int value = 0;
    const Error error = get_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, value);
    option.time = std::chrono::milliseconds(value);
    return error;
}

Error option_set(SystemFd fd, const ReuseAddress& option) noexcept {
    return set_int(fd, SOL_SOCKET, SO_REUSEADDR, option.on ? 1 : 0);
}
Error option_get(SystemFd fd, ReuseAddress& option) noexcept {
    return get_flag(fd, SOL_SOCKET, SO_REUSEADDR, option.on);
}

Error option_set(SystemFd fd, const ReusePort& option) noexcept {
    return set_int(fd, SOL_SOCKET, SO_REUSEPORT, option.on ? 1 : 0);
}
Error option_get(SystemFd fd, ReusePort& option) noexcept {
    return get_flag(fd, SOL_SOCKET, SO_REUSEPORT, option.on);
}

}  // namespace detail

Result<Address> local_address(Loop& loop, Listener listener) noexcept {
    return address_of(loop, listener.value(), &detail::System::getsockname);
}
Result<Address> local_address(Loop& loop, Socket socket) noexcept {
    return address_of(loop, socket.value(), &detail::System::getsockname);
}
Result<Address> peer_address(Loop& loop, Socket socket) noexcept {
    return address_of(loop, socket.value(), &detail::System::getpeername);
}

Result<Socket> adopt_socket(Loop& loop, int fd) noexcept {
    Result<std::uint64_t> handle = adopt_descriptor(loop, fd, false);
    return handle ? Result<Socket>(Socket::from_value(*handle)) : Result<Socket>(handle.error());
}
Result<Listener> adopt_listener(Loop& loop, int fd) noexcept {
    Result<std::uint64_t> handle = adopt_descriptor(loop, fd, true);
    return handle ? Result<Listener>(Listener::from_value(*handle))
                  : Result<Listener>(handle.error());
}

Result<int> detach(Loop& loop, Socket socket) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    detail::Descriptor* descriptor = core.descriptor_find(socket.value());
    if (descriptor == nullptr) return Error::stale_handle;
    if (descriptor->operations != 0) return Error::from_errno(EBUSY);
    const int fd = descriptor->fd;
    core.driver->let_go(*descriptor);
    core.descriptors.release(descriptor);
    return int{fd};
}

}  // namespace whorl
