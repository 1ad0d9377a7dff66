// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/unix.hpp>

#include "io/message.hpp"
#include "loop/core.hpp"

#include <whorl/control_message.hpp>
#include <whorl/socket.hpp>

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace whorl {

namespace {

using detail::SystemFd;

constexpr std::size_t path_at = offsetof(sockaddr_un, sun_path);

int type_of(UnixKind kind) noexcept {
    return kind == UnixKind::stream ? SOCK_STREAM : SOCK_SEQPACKET;
}

int open_socket(detail::System& system, int type) noexcept {
    return system.socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
}

// Whether a socket file is there on which nobody listens.
bool is_stale(detail::System& system, const UnixAddress& address, int type) noexcept {
    if (address.is_abstract()) return false;
    const int probe = open_socket(system, type | SOCK_NONBLOCK);
    if (probe < 0) return false;
    const int done = system.connect(probe, address.data(), address.length());
    system.close(probe);
    return done == -ECONNREFUSED;
}

Error bind_to(SystemFd fd, const UnixAddress& address, int type, bool replace_stale) noexcept {
    int done = fd.system->bind(fd.number, address.data(), address.length());
    if (done == -EADDRINUSE && replace_stale && is_stale(*fd.system, address, type)) {
        // A file that is no socket refuses connections as well; that one stays.
        if (fd.system->unlink_socket(address.name().data()) == 0) {
            done = fd.system->bind(fd.number, address.data(), address.length());
        }
    }
    return Error::from_errno(done);
}

Result<std::uint64_t> claim(detail::LoopCore& core, int fd, detail::DescriptorKind kind) noexcept {
    Result<detail::Descriptor*> claimed = core.descriptor_claim(fd, kind);
    if (!claimed) return claimed.error();
    (*claimed)->family = AF_UNIX;
    return core.descriptors.handle_of(*claimed);
}

template <class Done>
Done sent(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    Done done{delivery.error, delivery.bytes, std::move(frame.buffer)};
    delivery.core->message_release(frame);
    return done;
}

}  // namespace

// --- addresses

Result<UnixAddress> UnixAddress::file(std::string_view path) noexcept {
    if (path.size() > name_max) return Error::from_errno(ENAMETOOLONG);
    if (path.empty() || path.find('\0') != std::string_view::npos) return Error::invalid_argument;
    UnixAddress made;
    const sa_family_t family = AF_UNIX;
    std::memcpy(made.storage_, &family, sizeof family);
    std::memcpy(made.storage_ + path_at, path.data(), path.size());
    made.length_ = static_cast<std::uint16_t>(path_at + path.size() + 1);
    return made;
}

Result<UnixAddress> UnixAddress::abstract(std::string_view name) noexcept {
    if (name.size() > name_max) return Error::from_errno(ENAMETOOLONG);
    if (name.empty()) return Error::invalid_argument;
    UnixAddress made;
    const sa_family_t family = AF_UNIX;
    std::memcpy(made.storage_, &family, sizeof family);
    std::memcpy(made.storage_ + path_at + 1, name.data(), name.size());
    made.length_ = static_cast<std::uint16_t>(path_at + 1 + name.size());
    return made;
}

Result<UnixAddress> UnixAddress::from_sockaddr(const void* address, std::size_t length) noexcept {
    sa_family_t family = AF_UNSPEC;
    if (length < sizeof family || length > sizeof(sockaddr_un)) return Error::address_invalid;
    std::memcpy(&family, address, sizeof family);
    if (family != AF_UNIX) return Error::address_invalid;
    if (length <= path_at) return UnixAddress();
    const char* name = static_cast<const char*>(address) + path_at;
    const std::size_t size = length - path_at;
    if (name[0] == 0) return abstract({name + 1, size - 1});
    return file({name, strnlen(name, size)});
}

bool UnixAddress::is_abstract() const noexcept { return length_ != 0 && storage_[path_at] == 0; }

std::string_view UnixAddress::name() const noexcept {
    if (length_ == 0) return {};
    return {storage_ + path_at + (is_abstract() ? 1 : 0), length_ - path_at - 1};
}

// --- connections

Result<Listener> listen_unix(Loop& loop, const UnixAddress& address,
                             const UnixListenOptions& options) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    if (!address || options.backlog < 1) return Error::invalid_argument;
    const int type = type_of(options.kind);
    const int fd = open_socket(core.system, type);
    if (fd < 0) return Error::from_errno(fd);
    Error error;
    if (options.private_file) error = Error::from_errno(core.system.socket_mode(fd, 0600));
    if (!error) error = bind_to({&core.system, fd}, address, type, options.replace_stale);
    if (!error) error = Error::from_errno(core.system.listen(fd, options.backlog));
    if (!error) {
        const Result<std::uint64_t> handle = claim(core, fd, detail::DescriptorKind::listener);
        if (handle) return Listener::from_value(*handle);
        error = handle.error();
    }
    core.system.close(fd);
    return error;
}

Error remove_socket_file(Loop& loop, const UnixAddress& address) noexcept {
    if (!address || address.is_abstract()) return Error::invalid_argument;
    return Error::from_errno(loop.core().system.unlink_socket(address.name().data()));
}

// What the world refuses arrives in the completion.
Error ConnectUnix::open(Loop& loop, detail::OpRecord& record) noexcept {
    detail::LoopCore& core = loop.core();
    if (Error error = core.message_claim(record)) return error;
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    const Result<std::uint64_t> handle = claim(core, -1, detail::DescriptorKind::socket);
    if (!handle) {
        core.message_release(frame);
        return handle.error();
    }
    detail::Descriptor& descriptor = *core.descriptors.find(*handle);
    descriptor.state = detail::DescriptorState::connecting;
    ++descriptor.operations;
    record.descriptor = core.descriptors.index_of(&descriptor);
    std::memcpy(&frame.wire.address, address.data(), address.length());
    frame.address_size = address.length();
    frame.control_size = 0;
    // The payload is a timer's while it waits for room.
    record.progress = reinterpret_cast<std::uintptr_t>(&frame);
    descriptor.fd = open_socket(core.system, type_of(type) | SOCK_NONBLOCK);
    if (descriptor.fd < 0) core.complete_locally(record, Error::from_errno(descriptor.fd));
    return {};
}

ConnectUnix::Done ConnectUnix::finish(detail::OpRecord& record,
                                      detail::Delivery& delivery) noexcept {
    delivery.core->message_release(detail::connect_frame(record));
    return {delivery.error, Socket::from_value(delivery.handle)};
}

Result<SocketPair> socket_pair(Loop& loop, UnixKind kind) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    int fds[2] = {-1, -1};
    const int made = core.system.socketpair(AF_UNIX, type_of(kind) | SOCK_CLOEXEC, 0, fds);
    if (made < 0) return Error::from_errno(made);
    const Result<std::uint64_t> first = claim(core, fds[0], detail::DescriptorKind::socket);
    if (!first) {
        core.system.close(fds[0]);
        core.system.close(fds[1]);
        return first.error();
    }
    const Result<std::uint64_t> second = claim(core, fds[1], detail::DescriptorKind::socket);
    if (!second) {
        core.system.close(fds[1]);
        static_cast<void>(core.descriptor_shut(*first, nullptr));
        return second.error();
    }
    return SocketPair{Socket::from_value(*first), Socket::from_value(*second)};
}

Result<PeerCredentials> peer_credentials(Loop& loop, Socket socket) noexcept {
    Result<SystemFd> fd = detail::descriptor_number(loop, socket.value());
    if (!fd) return fd.error();
    ucred found{};
    socklen_t size = sizeof found;
    const int done = fd->system->getsockopt(fd->number, SOL_SOCKET, SO_PEERCRED, &found, &size);
    if (done < 0) return Error::from_errno(done);
    return PeerCredentials{found.pid, found.uid, found.gid};
}

Result<UnixAddress> local_unix_address(Loop& loop, Listener listener) noexcept {
    Result<SystemFd> fd = detail::descriptor_number(loop, listener.value());
    if (!fd) return fd.error();
    sockaddr_un address{};
    socklen_t size = sizeof address;
    const int done =
        fd->system->getsockname(fd->number, reinterpret_cast<sockaddr*>(&address), &size);
    if (done < 0) return Error::from_errno(done);
    return UnixAddress::from_sockaddr(&address, size);
}

// --- descriptor passing

void ReceivedDescriptors::close_all() noexcept {
    for (std::uint32_t index = 0; index < count_; ++index) {
        const int number = std::exchange(numbers_[index], -1);
        if (number >= 0) system_->close(number);
    }
    count_ = 0;
}

Error SendDescriptors::open(Loop& loop, detail::OpRecord& record) const noexcept {
    if (Error error = loop.core().message_claim(record)) return error;
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    ControlBuilder builder(frame.wire.control, sizeof frame.wire.control);
    const bool fits = builder.add(SOL_SOCKET, SCM_RIGHTS, descriptors, count * sizeof(int));
    WHORL_ASSERT(fits);
    frame.control_size = static_cast<std::uint32_t>(builder.size());
    return {};
}

void SendDescriptors::store(detail::OpRecord& record) noexcept {
    record.as<detail::MessagePayload>().frame->buffer = std::move(buffer);
}

SendDescriptors::Done SendDescriptors::finish(detail::OpRecord& record,
                                              detail::Delivery& delivery) noexcept {
    return sent<Done>(record, delivery);
}

Error ReceiveDescriptors::open(Loop& loop, detail::OpRecord& record) noexcept {
    return loop.core().message_claim(record);
}

// Room for exactly so many: a control message's padding would hold one more.
void ReceiveDescriptors::store(detail::OpRecord& record) noexcept {
    detail::store_receive(record, std::move(buffer), 0, CMSG_LEN(most * sizeof(int)));
}

ReceiveDescriptors::Done ReceiveDescriptors::finish(detail::OpRecord& record,
                                                    detail::Delivery& delivery) noexcept {
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    Done done{delivery.error, std::move(frame.buffer), {}, false};
    done.descriptors.set_system(delivery.core->system);
    if (frame.answered) {
        frame.answered = false;
        detail::for_each_descriptor(frame, [&](int number) { done.descriptors.add(number); });
        done.truncated = (frame.wire.message.msg_flags & MSG_CTRUNC) != 0;
    }
    delivery.core->message_release(frame);
    return done;
}

// --- datagrams

Result<UnixDatagram> open_unix_datagram(Loop& loop, const UnixAddress& address) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    const int fd = open_socket(core.system, SOCK_DGRAM);
    if (fd < 0) return Error::from_errno(fd);
    Error error;
    if (address) error = bind_to({&core.system, fd}, address, SOCK_DGRAM, false);
    if (!error) {
        const Result<std::uint64_t> handle = claim(core, fd, detail::DescriptorKind::socket);
        if (handle) return UnixDatagram::from_value(*handle);
        error = handle.error();
    }
    core.system.close(fd);
    return error;
}

Error connect_unix_datagram(Loop& loop, UnixDatagram socket, const UnixAddress& peer) noexcept {
    Result<SystemFd> fd = detail::descriptor_number(loop, socket.value());
    if (!fd) return fd.error();
    if (!peer) return Error::invalid_argument;
    int done = -EINTR;  // it does not wait, but a tracer or sandbox may interrupt it
    while (done == -EINTR) done = fd->system->connect(fd->number, peer.data(), peer.length());
    return Error::from_errno(done);
}

Error RecvFromUnix::open(Loop& loop, detail::OpRecord& record) noexcept {
    return loop.core().message_claim(record);
}

void RecvFromUnix::store(detail::OpRecord& record) noexcept {
    detail::store_receive(record, std::move(buffer), flags, 0);
}

RecvFromUnix::Done RecvFromUnix::finish(detail::OpRecord& record,
                                        detail::Delivery& delivery) noexcept {
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    const msghdr& message = frame.wire.message;
    Done done{delivery.error, std::move(frame.buffer), UnixAddress(), false};
    if (!delivery.error) {
        done.address = UnixAddress::from_sockaddr(&frame.wire.address, message.msg_namelen)
                           .value_or(UnixAddress());
        done.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    }
    delivery.core->message_release(frame);
    return done;
}

Error SendToUnix::open(Loop& loop, detail::OpRecord& record) const noexcept {
    if (Error error = loop.core().message_claim(record)) return error;
    detail::MessageFrame& frame = *record.as<detail::MessagePayload>().frame;
    std::memcpy(&frame.wire.address, address.data(), address.length());
    frame.address_size = address.length();
    if (address) record.extra = MSG_DONTWAIT;
    return {};
}

void SendToUnix::store(detail::OpRecord& record) noexcept {
    record.as<detail::MessagePayload>().frame->buffer = std::move(buffer);
}

SendToUnix::Done SendToUnix::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    return sent<Done>(record, delivery);
}

}  // namespace whorl
