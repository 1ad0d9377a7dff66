// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/tcp.hpp>

#include "loop/core.hpp"

#include <whorl/socket.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <new>

namespace whorl {

namespace {

using detail::SystemFd;

Error set_flag(SystemFd fd, int level, int name, int value) noexcept {
    const int size = sizeof value;
    return Error::from_errno(fd.system->setsockopt(fd.number, level, name, &value, size));
}

Error apply(SystemFd fd, const SocketOptions& options) noexcept {
    if (options.nodelay) {
        if (Error error = set_flag(fd, IPPROTO_TCP, TCP_NODELAY, 1)) return error;
    }
    if (options.receive_buffer > 0) {
        if (Error error = set_flag(fd, SOL_SOCKET, SO_RCVBUF, options.receive_buffer)) return error;
    }
    if (options.send_buffer > 0) {
        if (Error error = set_flag(fd, SOL_SOCKET, SO_SNDBUF, options.send_buffer)) return error;
    }
    if (options.keepalive_seconds <= 0) return {};
    KeepAlive keepalive;
    keepalive.idle = std::chrono::seconds(options.keepalive_seconds);
    keepalive.interval = std::chrono::seconds((options.keepalive_seconds + 2) / 3);
    keepalive.probes = 9;
    return detail::option_set(fd, keepalive);
}

Error open_listener(SystemFd fd, const Address& address, const ListenOptions& options) noexcept {
    if (options.reuse_address) {
        if (Error error = set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return error;
    }
    if (options.reuse_port) {
        if (Error error = set_flag(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return error;
    }
    if (address.family() == AF_INET6) {
        const int only = options.v6_only ? 1 : 0;
        if (Error error = set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, only)) return error;
    }
    if (Error error = apply(fd, options.accepted)) return error;
    const int bound = fd.system->bind(fd.number, address.data(), address.length());
    if (bound < 0) return Error::from_errno(bound);
    return Error::from_errno(fd.system->listen(fd.number, options.backlog));
}

Error open_connection(SystemFd fd, const ConnectOptions& options) noexcept {
    if (Error error = apply(fd, options.socket)) return error;
    if (options.local.length() == 0) return {};
    if (Error error = set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return error;
    const auto length = static_cast<socklen_t>(options.local.length());
    return Error::from_errno(fd.system->bind(fd.number, options.local.data(), length));
}

}  // namespace

Result<Listener> listen(Loop& loop, const Address& address, const ListenOptions& options) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    if (address.length() == 0 || options.backlog < 1) return Error::invalid_argument;
    const int fd = core.system.socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return Error::from_errno(fd);
    Error error = open_listener({&core.system, fd}, address, options);
    if (!error) {
        Result<detail::Descriptor*> claimed =
            core.descriptor_claim(fd, detail::DescriptorKind::listener);
        if (claimed) return Listener::from_value(core.descriptors.handle_of(*claimed));
        error = claimed.error();
    }
    core.system.close(fd);
    return error;
}

Error Connect::check() const noexcept {
    return address.length() != 0 ? Error() : Error(Error::invalid_argument);
}

// Claims a descriptor's slot and makes the socket. What the world refuses arrives in the completion.
Error Connect::open(Loop& loop, detail::OpRecord& record) noexcept {
    detail::LoopCore& core = loop.core();
    Result<detail::Descriptor*> claimed = core.descriptor_claim(-1, detail::DescriptorKind::socket);
    if (!claimed) return claimed.error();
    detail::Descriptor& descriptor = **claimed;
    descriptor.state = detail::DescriptorState::connecting;
    ++descriptor.operations;
    record.descriptor = core.descriptors.index_of(&descriptor);
    descriptor.fd = core.system.socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    Error error;
    if (descriptor.fd < 0) error = Error::from_errno(descriptor.fd);
    else error = open_connection({&core.system, descriptor.fd}, options);
    if (error) core.complete_locally(record, error);
    return {};
}

void Connect::store(detail::OpRecord& record) noexcept {
    detail::ConnectTarget target{};
    WHORL_ASSERT(address.length() <= sizeof target.address);
    std::memcpy(target.address, address.data(), address.length());
    target.length = address.length();
    record.store(std::move(target));
}

Error SendChain::open(Loop& loop, detail::OpRecord& record) noexcept {
    detail::LoopCore& core = loop.core();
    detail::GatherFrame* frame = core.frames;
    if (frame != nullptr) core.frames = frame->next;
    else frame = new (std::nothrow) detail::GatherFrame;
    if (frame == nullptr) return Error::from_errno(ENOMEM);
    record.store(detail::ChainPayload{BufferChain(), frame});
    return {};
}

void SendChain::store(detail::OpRecord& record) noexcept {
    record.extra = static_cast<std::uint32_t>(flags);
    record.as<detail::ChainPayload>().chain = std::move(chain);
}

SendChain::Done SendChain::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    auto payload = record.take<detail::ChainPayload>();
    detail::LoopCore& core = *delivery.core;
    payload.frame->next = core.frames;
    core.frames = payload.frame;
    return {delivery.error, delivery.bytes, std::move(payload.chain)};
}

void Shutdown::store(detail::OpRecord& record) noexcept {
    switch (side) {
        case ShutdownSide::receive:
            record.extra = SHUT_RD;
            break;
        case ShutdownSide::send:
            record.extra = SHUT_WR;
            break;
        case ShutdownSide::both:
            record.extra = SHUT_RDWR;
            break;
    }
}

}  // namespace whorl
