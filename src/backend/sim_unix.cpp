// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_datagram.hpp"
#include "backend/sim_kernel.hpp"

#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

// Unix sockets of the simulated kernel: their names, connections by name, descriptors that travel, and
// datagrams. Nothing of a file system is simulated but the names that sockets were bound to.

namespace whorl::detail {

// --- names

namespace {

// An abstract name begins with a zero byte, that of a file ends with one.
std::string name_of(const SimAddress& address) {
    constexpr std::size_t path_at = offsetof(sockaddr_un, sun_path);
    if (address.length <= path_at) return {};
    const char* path = reinterpret_cast<const char*>(&address.storage) + path_at;
    const std::size_t size = address.length - path_at;
    return {path, path[0] == 0 ? size : strnlen(path, size)};
}

// Each kind of socket has abstract names of its own; a file is of one kind.
int of_other_kind(const SimAddress& address) {
    return name_of(address)[0] == 0 ? -ECONNREFUSED : -EPROTOTYPE;
}

}  // namespace

int SimKernel::unix_bind(const SimAddress& address, SimFile& file) {
    const std::string name = name_of(address);
    if (name.empty()) return -EINVAL;
    const auto found = unix_names_.find(name);
    const bool abstract = name[0] == 0;
    if (found != unix_names_.end() && !(abstract && found->second.expired())) return -EADDRINUSE;
    unix_names_[name] = file.weak_from_this();
    trace("bind name of %zu bytes", name.size());
    return 0;
}

SimFilePtr SimKernel::unix_find(const SimAddress& address, int& error) const {
    const std::string name = name_of(address);
    const auto found = unix_names_.find(name);
    error = !name.empty() && name[0] == 0 ? -ECONNREFUSED : -ENOENT;
    if (found == unix_names_.end()) return nullptr;
    error = -ECONNREFUSED;
    return found->second.lock();
}

int SimKernel::unlink_socket(const char* path) noexcept {
    return unix_names_.erase(path) != 0 ? 0 : -ENOENT;
}

// --- connections

int SimSocket::bind_unix(const SimAddress& address) {
    if (address.storage.ss_family != AF_UNIX) return -EINVAL;
    if (const int error = kernel_.unix_bind(address, *this)) return error;
    local_ = address;
    bound_ = true;
    return 0;
}

int SimSocket::connect_unix(const SimAddress& address) {
    if (address.storage.ss_family != AF_UNIX) return -EINVAL;
    int error = 0;
    const SimFilePtr found = kernel_.unix_find(address, error);
    if (found == nullptr) return error;
    const int other_kind = of_other_kind(address);
    if (std::strcmp(found->name(), "socket") != 0) return other_kind;
    auto& listener = static_cast<SimSocket&>(*found);
    if (listener.type_ != type_) return other_kind;
    if (listener.role_ != Role::listening) return -ECONNREFUSED;
    if (listener.backlog_.size() > static_cast<std::size_t>(listener.backlog_max_)) return -EAGAIN;
    // In the order of Linux: who is there comes before whether one may ask.
    if (role_ != Role::fresh) return role_ == Role::connected ? -EISCONN : -EINVAL;
    const auto server = std::make_shared<SimSocket>(kernel_, AF_UNIX, type_);
    join(*this, *server);
    peer_ = server->local_ = listener.local_;
    server->peer_ = local_;
    server->bound_ = server->told_ = told_ = true;
    listener.backlog_.push_back(server);
    kernel_.trace("connect by name");
    listener.changed();
    return 0;
}

// --- messages

ssize_t SimSocket::send_message(const msghdr& message, int flags) {
    std::vector<SimFilePtr> files;
    for (const cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
         item = CMSG_NXTHDR(const_cast<msghdr*>(&message), const_cast<cmsghdr*>(item))) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) return -EINVAL;
        if (family_ != AF_UNIX) return -EINVAL;
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= item->cmsg_len; at += sizeof(int)) {
            int number = -1;
            std::memcpy(&number, reinterpret_cast<const char*>(item) + at, sizeof number);
            files.push_back(kernel_.file(number));
            if (files.back() == nullptr) return -EBADF;
        }
    }
    const std::string bytes = gathered(message);
    const std::uint64_t position = out_ != nullptr ? out_->passed : 0;
    const ssize_t sent = write(bytes.data(), bytes.size(), flags);
    if (sent > 0 && !files.empty()) {
        out_->rights.push_back({position, out_->passed, std::move(files)});
    }
    return sent;
}

ssize_t SimSocket::receive_message(msghdr& message, int flags) {
    std::size_t room = 0;
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        room += message.msg_iov[part].iov_len;
    }
    std::vector<SimFilePtr> files;
    std::size_t readable = 0;
    if (in_ != nullptr) {
        readable = in_->readable();
        if (const SimChannel::Rights* reached = in_->rights_within(room)) files = reached->files;
    }
    std::string bytes(std::min(room, readable + 1), '\0');
    const ssize_t got = read(bytes.data(), bytes.size(), flags);
    if (got < 0) return got;
    bytes.resize(static_cast<std::size_t>(got));
    static_cast<void>(scattered(bytes, message));
    message.msg_namelen = 0;
    message.msg_flags = 0;
    give_files(message, files);
    return got;
}

// As many as there is room for, in the message and among the descriptors; the others are dropped.
void SimSocket::give_files(msghdr& message, const std::vector<SimFilePtr>& files) {
    const std::size_t room = message.msg_controllen;
    std::size_t given = 0;
    auto* item = static_cast<char*>(message.msg_control);
    while (item != nullptr && given < files.size() && CMSG_LEN((given + 1) * sizeof(int)) <= room) {
        const int number = kernel_.install(files[given]);
        if (number < 0) break;
        std::memcpy(item + CMSG_LEN(given * sizeof(int)), &number, sizeof number);
        ++given;
    }
    if (given < files.size()) message.msg_flags |= MSG_CTRUNC;
    message.msg_controllen = 0;
    if (given == 0) return;
    cmsghdr header{};
    header.cmsg_len = CMSG_LEN(given * sizeof(int));
    header.cmsg_level = SOL_SOCKET;
    header.cmsg_type = SCM_RIGHTS;
    std::memcpy(item, &header, sizeof header);
    message.msg_controllen = std::min(room, CMSG_SPACE(given * sizeof(int)));
}

// --- datagrams

std::shared_ptr<SimUnixDatagram> SimUnixDatagram::from(const SimFilePtr& file) noexcept {
    if (file == nullptr || std::strcmp(file->name(), "datagram") != 0) return nullptr;
    if (static_cast<const SimDatagram&>(*file).family() != AF_UNIX) return nullptr;
    return std::static_pointer_cast<SimUnixDatagram>(file);
}

int SimUnixDatagram::bind(const sockaddr* address, socklen_t length) {
    const SimAddress wanted = SimAddress::from(address, length);
    if (named_) return -EINVAL;
    if (wanted.storage.ss_family != AF_UNIX) return -EINVAL;
    if (const int error = kernel_.unix_bind(wanted, *this)) return error;
    local_ = wanted;
    named_ = true;
    return 0;
}

int SimUnixDatagram::connect(const sockaddr* address, socklen_t length) {
    const SimAddress wanted = SimAddress::from(address, length);
    if (wanted.storage.ss_family == AF_UNSPEC) {
        peer_ = SimAddress();
        peer_socket_.reset();
        return 0;
    }
    if (wanted.storage.ss_family != AF_UNIX || length < SimAddress::length_min(AF_UNIX))
        return -EINVAL;
    int error = 0;
    const SimFilePtr found = kernel_.unix_find(wanted, error);
    if (found == nullptr) return error;
    if (from(found) == nullptr) return of_other_kind(wanted);
    peer_ = wanted;
    peer_socket_ = found;
    return 0;
}

unsigned SimUnixDatagram::poll_bits() const noexcept {
    const std::shared_ptr<SimUnixDatagram> peer = from(peer_socket_.lock());
    const bool full = peer != nullptr && peer->waiting() > unread_max;
    return (waiting() != 0 ? POLLIN : 0u) | (full ? 0u : POLLOUT);
}

std::shared_ptr<SimUnixDatagram> SimUnixDatagram::receiver(const msghdr& message,
                                                           int& error) const {
    if (message.msg_name == nullptr || message.msg_namelen == 0) {
        error = peer_.length == 0 ? -ENOTCONN : -ECONNREFUSED;
        return from(peer_socket_.lock());
    }
    const SimAddress wanted =
        SimAddress::from(static_cast<const sockaddr*>(message.msg_name), message.msg_namelen);
    const SimFilePtr found = kernel_.unix_find(wanted, error);
    if (found != nullptr) error = of_other_kind(wanted);
    return from(found);
}

ssize_t SimUnixDatagram::send_message(const msghdr& message, int) {
    int error = 0;
    const std::shared_ptr<SimUnixDatagram> to = receiver(message, error);
    if (to == nullptr) return error;
    if (sends_no_more()) return -EPIPE;
    const SimFilePtr only = to->peer_socket_.lock();
    if (only != nullptr && only.get() != this) return -EPERM;
    const std::string bytes = gathered(message);
    if (bytes.size() > kernel_.options().send_buffer) return -EMSGSIZE;
    if (to->waiting() > unread_max) {
        to->senders_.push_back(weak_from_this());
        return -EAGAIN;
    }
    to->arrive({bytes, named_ ? local_ : SimAddress()});
    return static_cast<ssize_t>(bytes.size());
}

ssize_t SimUnixDatagram::receive_message(msghdr& message, int flags) {
    const ssize_t got = SimDatagram::receive_message(message, flags);
    if (got < 0) return got;
    for (const std::weak_ptr<SimFile>& sender : std::exchange(senders_, {})) {
        if (const SimFilePtr file = sender.lock()) file->changed();
    }
    return got;
}

}  // namespace whorl::detail
