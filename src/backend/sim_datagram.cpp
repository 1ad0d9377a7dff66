// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_datagram.hpp"

#include "backend/sim_kernel.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

// UDP as Linux shows it to a program. Not simulated: control data, multicast, fragments that are lost
// one by one.

namespace whorl::detail {

namespace {

constexpr std::size_t size_max_v4 = 65507;
constexpr std::size_t size_max_v6 = 65527;

bool is_broadcast(const SimAddress& address) noexcept {
    if (address.storage.ss_family != AF_INET) return false;
    return reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr.s_addr ==
           htonl(INADDR_BROADCAST);
}

SimAddress any_of(int family) noexcept {
    SimAddress made;
    made.storage.ss_family = static_cast<sa_family_t>(family);
    made.length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (family == AF_UNIX) made.length = sizeof(sa_family_t);
    return made;
}

}  // namespace

std::string gathered(const msghdr& message) {
    std::string bytes;
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        const iovec& piece = message.msg_iov[part];
        if (piece.iov_len != 0) bytes.append(static_cast<char*>(piece.iov_base), piece.iov_len);
    }
    return bytes;
}

std::size_t scattered(const std::string& bytes, const msghdr& message) {
    std::size_t done = 0;
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        const iovec& piece = message.msg_iov[part];
        const std::size_t count = std::min(piece.iov_len, bytes.size() - done);
        if (count != 0) std::memcpy(piece.iov_base, bytes.data() + done, count);
        done += count;
    }
    return done;
}

SimDatagram::SimDatagram(SimKernel& kernel, int family) noexcept
    : SimFile(kernel), local_(any_of(family)), family_(family),
      send_buffer_(kernel.options().send_buffer), receive_buffer_(kernel.options().receive_buffer) {
    kernel_.datagrams_add(*this);
}

SimDatagram::~SimDatagram() { kernel_.datagrams_remove(*this); }

bool SimDatagram::covers(const SimAddress& address) const noexcept {
    if (!bound_ || local_.port() != address.port()) return false;
    if (local_.same_host(address)) return true;
    const bool same_family = local_.storage.ss_family == address.storage.ss_family;
    const bool takes_v4 = family_ == AF_INET6 && option(IPPROTO_IPV6, IPV6_V6ONLY) == 0;
    return local_.any() && (same_family || takes_v4);
}

int SimDatagram::bind(const sockaddr* address, socklen_t length) {
    if (bound_ || length < SimAddress::length_min(family_)) return -EINVAL;
    SimAddress wanted = SimAddress::from(address, length);
    if (wanted.storage.ss_family != family_) return -EAFNOSUPPORT;
    if (!kernel_.is_local(wanted)) return -EADDRNOTAVAIL;
    const bool chosen = wanted.port() == 0;
    if (chosen) wanted.set_port(kernel_.free_datagram_port());
    if (wanted.port() == 0) return -EADDRINUSE;
    const SimDatagram* holder = kernel_.datagram_for(wanted, this);
    if (holder != nullptr) {
        const auto both = [&](int name) {
            return option(SOL_SOCKET, name) != 0 && holder->option(SOL_SOCKET, name) != 0;
        };
        if (!both(SO_REUSEPORT) && !both(SO_REUSEADDR)) return -EADDRINUSE;
    }
    local_ = wanted;
    bound_ = true;
    port_chosen_ = chosen;
    kernel_.trace("bind datagrams to port %u", local_.port());
    return 0;
}

// False: no port is left.
bool SimDatagram::bind_to_any() {
    if (bound_) return true;
    local_.set_port(kernel_.free_datagram_port());
    if (local_.port() == 0) return false;
    bound_ = true;
    port_chosen_ = true;
    return true;
}

int SimDatagram::connect(const sockaddr* address, socklen_t length) {
    if (length < sizeof(sa_family_t)) return -EINVAL;
    const SimAddress wanted = SimAddress::from(address, length);
    if (wanted.storage.ss_family == AF_UNSPEC) {
        peer_ = SimAddress();
        if (!port_chosen_) return 0;
        // As in Linux, who did not choose the port loses it.
        local_.set_port(0);
        bound_ = false;
        return 0;
    }
    const bool crosses = family_ == AF_INET6 && wanted.storage.ss_family == AF_INET;
    if (!crosses && length < SimAddress::length_min(family_)) return -EINVAL;
    if (wanted.storage.ss_family != family_) return -EAFNOSUPPORT;
    if (is_broadcast(wanted) && option(SOL_SOCKET, SO_BROADCAST) == 0) return -EACCES;
    if (!bind_to_any()) return -EAGAIN;
    peer_ = kernel_.host_for(wanted, wanted.port());  // any host is this one
    error_ = 0;
    return 0;
}

// It is shut also where that is answered with an error, as in Linux.
int SimDatagram::shutdown(int how) {
    if (how < SHUT_RD || how > SHUT_RDWR) return -EINVAL;
    if (how != SHUT_WR) shut_read_ = true;
    if (how != SHUT_RD) shut_write_ = true;
    changed();
    return peer_.length == 0 && family_ != AF_UNIX ? -ENOTCONN : 0;
}

// --- data

unsigned SimDatagram::poll_bits() const noexcept {
    unsigned bits = POLLOUT;
    if (shut_read_) bits |= POLLIN | POLLRDHUP;
    if (shut_read_ && shut_write_) bits |= POLLHUP;
    if (!arrived_.empty()) bits |= POLLIN;
    if (error_ != 0) bits |= POLLERR;
    return bits;
}

ssize_t SimDatagram::read(void* data, std::size_t size, int flags) {
    iovec part{data, size};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    return receive_message(message, flags);
}

ssize_t SimDatagram::write(const void* data, std::size_t size, int flags) {
    iovec part{const_cast<void*>(data), size};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    return send_message(message, flags);
}

ssize_t SimDatagram::receive_message(msghdr& message, int flags) {
    if (error_ != 0) return -take_error();
    if (arrived_.empty()) return -EAGAIN;
    const Datagram& first = arrived_.front();
    const std::size_t done = scattered(first.bytes, message);
    message.msg_flags = done < first.bytes.size() ? MSG_TRUNC : 0;
    if (message.msg_name != nullptr) {
        const SimAddress from = kernel_.seen_as(first.from, family_);
        std::memcpy(message.msg_name, &from.storage, std::min(message.msg_namelen, from.length));
        message.msg_namelen = from.length;
    }
    message.msg_controllen = 0;
    const bool whole = (flags & MSG_TRUNC) != 0;
    const auto answer = static_cast<ssize_t>(whole ? first.bytes.size() : done);
    if ((flags & MSG_PEEK) != 0) return answer;
    arrived_bytes_ -= first.bytes.size();
    arrived_.pop_front();
    return answer;
}

// An IPv6 socket that is to send to an IPv4 address finds no way there.
int SimDatagram::address_refused(const SimAddress& to) const noexcept {
    const int family = to.storage.ss_family;
    if (to.length < sizeof(sockaddr_in)) return -EINVAL;
    if (family_ == AF_INET) return family == AF_INET ? 0 : -EAFNOSUPPORT;
    if (family == AF_INET) return -ENETUNREACH;
    return family == AF_INET6 && to.length >= SimAddress::length_min(AF_INET6) ? 0 : -EINVAL;
}

ssize_t SimDatagram::send_message(const msghdr& message, int) {
    if (error_ != 0) return -take_error();
    SimAddress to = peer_;
    if (message.msg_name != nullptr && message.msg_namelen != 0) {
        to = SimAddress::from(static_cast<const sockaddr*>(message.msg_name), message.msg_namelen);
        if (const int error = address_refused(to)) return error;
    }
    if (to.length == 0) return -EDESTADDRREQ;
    if (to.port() == 0) return -EINVAL;
    const std::string bytes = gathered(message);
    if (bytes.size() > (family_ == AF_INET ? size_max_v4 : size_max_v6)) return -EMSGSIZE;
    if (is_broadcast(to) && option(SOL_SOCKET, SO_BROADCAST) == 0) return -EACCES;
    if (!bind_to_any()) return -EAGAIN;
    if (shut_write_) return -EPIPE;
    depart(kernel_.host_for(to, to.port()), bytes);
    return static_cast<ssize_t>(bytes.size());
}

void SimDatagram::depart(const SimAddress& to, const std::string& bytes) {
    kernel_.trace("datagram port %u to %u size %zu", local_.port(), to.port(), bytes.size());
    if (kernel_.partitioned || !kernel_.is_local(to)) return;
    if (kernel_.faulty(kernel_.options().datagram_loss)) {
        kernel_.trace("is lost");
        return;
    }
    SimAddress from = local_;
    if (from.any()) from = kernel_.host_for(to, local_.port());
    const auto letter = std::make_shared<const Letter>(Letter{{bytes, from}, to});
    const int copies = kernel_.faulty(kernel_.options().datagram_copy) ? 2 : 1;
    for (int copy = 0; copy < copies; ++copy) {
        const Instant due = kernel_.clock() + kernel_.flight_time(bytes.size());
        const auto land = [&kernel = kernel_, sender = weak_from_this(), letter] {
            SimDatagram::land(kernel, sender, *letter);
        };
        if (due <= kernel_.clock()) land();
        else kernel_.at(due, land);
    }
}

// A datagram has come to its address. Where nobody is, that is told to who sent it.
void SimDatagram::land(SimKernel& kernel, const std::weak_ptr<SimFile>& sender,
                       const Letter& letter) {
    if (kernel.partitioned) return;
    if (SimDatagram* there = kernel.datagram_for(letter.to, nullptr)) {
        // A socket that is connected to somebody else is not there.
        const SimAddress from = kernel.seen_as(letter.datagram.from, there->family_);
        const SimAddress& peer = there->peer_;
        const bool known = peer.same_host(from) && peer.port() == from.port();
        if (peer.length == 0 || known) return there->arrive(letter.datagram);
    }
    kernel.at(kernel.clock() + kernel.flight_time(0), [sender] {
        if (const SimFilePtr file = sender.lock()) static_cast<SimDatagram&>(*file).refused();
    });
}

void SimDatagram::refused() {
    if (peer_.length == 0) return;
    error_ = ECONNREFUSED;
    changed();
}

void SimDatagram::arrive(Datagram datagram) {
    if (family_ != AF_UNIX && arrived_bytes_ >= receive_buffer_)
        return kernel_.trace("dropped at port %u", local_.port());
    arrived_bytes_ += datagram.bytes.size();
    arrived_.push_back(std::move(datagram));
    changed();
}

// --- the network

SimDatagram* SimKernel::datagram_for(const SimAddress& address,
                                     const SimDatagram* but) const noexcept {
    SimDatagram* best = nullptr;
    for (SimDatagram* socket : datagrams_) {
        const bool fits = socket != but &&
                          (socket->covers(address) || (address.any() && but != nullptr &&
                                                       socket->local().port() == address.port()));
        // The exact address is better than any.
        if (fits && (best == nullptr || socket->local().same_host(address))) best = socket;
    }
    return best;
}

void SimKernel::datagrams_remove(SimDatagram& socket) noexcept {
    datagrams_.erase(std::find(datagrams_.begin(), datagrams_.end(), &socket));
}

std::shared_ptr<SimDatagram> SimKernel::datagram_of(int fd) const noexcept {
    const SimFilePtr found = file(fd);
    if (found == nullptr || std::strcmp(found->name(), "datagram") != 0) return nullptr;
    return std::static_pointer_cast<SimDatagram>(found);
}

std::uint16_t SimKernel::free_datagram_port() noexcept {
    for (int left = port_last - port_first + 1; left != 0; --left) {
        const std::uint16_t port = port_in_turn();
        const auto same = [port](const SimDatagram* other) {
            return other->local().port() == port;
        };
        if (std::none_of(datagrams_.begin(), datagrams_.end(), same)) return port;
    }
    return 0;
}

}  // namespace whorl::detail
