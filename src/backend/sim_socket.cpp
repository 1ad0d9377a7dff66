// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_kernel.hpp"

#include <whorl/assert.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

// Stream sockets of the simulated kernel: TCP as Linux shows it to a program, without its packets.
// Not simulated: TIME_WAIT (a port is free as soon as nothing is bound to it), simultaneous open, and
// urgent data beyond one byte.

namespace whorl::detail {

// --- addresses

SimAddress SimAddress::from(const sockaddr* address, socklen_t length) noexcept {
    SimAddress made;
    made.length = std::min<socklen_t>(length, sizeof made.storage);
    std::memcpy(&made.storage, address, made.length);
    return made;
}

// An IPv6 address may lack its scope (RFC 2133); a name may be that of nobody.
socklen_t SimAddress::length_min(int family) noexcept {
    if (family == AF_UNIX) return sizeof(sa_family_t) + 1;
    return family == AF_INET ? sizeof(sockaddr_in) : offsetof(sockaddr_in6, sin6_scope_id);
}

// sin_port and sin6_port lie at the same place.
std::uint16_t SimAddress::port() const noexcept {
    return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
}
void SimAddress::set_port(std::uint16_t port) noexcept {
    reinterpret_cast<sockaddr_in&>(storage).sin_port = htons(port);
}

bool SimAddress::any() const noexcept {
    if (storage.ss_family == AF_INET) {
        return reinterpret_cast<const sockaddr_in&>(storage).sin_addr.s_addr == INADDR_ANY;
    }
    const in6_addr& host = reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr;
    return std::memcmp(&host, &in6addr_any, sizeof host) == 0;
}

bool SimAddress::same_host(const SimAddress& other) const noexcept {
    if (storage.ss_family != other.storage.ss_family) return false;
    if (storage.ss_family == AF_INET) {
        return reinterpret_cast<const sockaddr_in&>(storage).sin_addr.s_addr ==
               reinterpret_cast<const sockaddr_in&>(other.storage).sin_addr.s_addr;
    }
    return std::memcmp(&reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr,
                       &reinterpret_cast<const sockaddr_in6&>(other.storage).sin6_addr,
                       sizeof(in6_addr)) == 0;
}

namespace {

SimAddress unspecified(int family) noexcept {
    SimAddress made;
    made.storage.ss_family = static_cast<sa_family_t>(family);
    made.length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (family == AF_UNIX) made.length = sizeof(sa_family_t);
    return made;
}

}  // namespace

// --- life and death

SimSocket::SimSocket(SimKernel& kernel, int family, int type) noexcept
    : SimFile(kernel), family_(family), type_(type), local_(unspecified(family)),
      send_buffer_(kernel.options().send_buffer), receive_buffer_(kernel.options().receive_buffer) {
    kernel_.network_add(*this);
}

// The last descriptor and the last operation are gone.
SimSocket::~SimSocket() {
    kernel_.network_remove(*this);
    for (const std::shared_ptr<SimSocket>& waiting : backlog_) waiting->linger_ = {1, 0};
    if (in_ == nullptr) return;
    in_->reader = nullptr;
    out_->writer = nullptr;
    if (family_ == AF_UNIX) {
        leave_unix();
        return;
    }
    const bool aborts = (linger_.l_onoff != 0 && linger_.l_linger == 0) || in_->readable() != 0;
    if (aborts) {
        auto* other = static_cast<SimSocket*>(out_->reader);
        if (other != nullptr && !out_->broken()) {
            // By way of the network: what was sent before is overtaken and lost, as by a real RST.
            out_->send_reset(other->weak_from_this(), delay(0));
        }
    } else if (!shut_write_ && !out_->broken()) {
        out_->put_end(delay(0));
    }
}

// The other end reads what was sent, then hears that what it had sent was not read, then the end.
void SimSocket::leave_unix() {
    auto* other = static_cast<SimSocket*>(out_->reader);
    if (other == nullptr) return;
    if (in_->readable() != 0) other->error_ = ECONNRESET;
    if (!shut_write_) out_->put_end(Nanoseconds::zero());
    other->changed();
}

Nanoseconds SimSocket::delay(std::size_t bytes) {
    return family_ == AF_UNIX ? Nanoseconds::zero() : kernel_.flight_time(bytes);
}

void SimSocket::join(SimSocket& a, SimSocket& b) {
    a.out_ = b.in_ = std::make_shared<SimChannel>(a.kernel_, a.send_buffer_ + b.receive_buffer_);
    b.out_ = a.in_ = std::make_shared<SimChannel>(a.kernel_, b.send_buffer_ + a.receive_buffer_);
    a.out_->of_network = a.in_->of_network = a.family_ != AF_UNIX;
    a.out_->writer = a.in_->reader = &a;
    b.out_->writer = b.in_->reader = &b;
    a.out_->records = a.in_->records = a.keeps_messages();
    a.role_ = b.role_ = Role::connected;
}

void SimSocket::reset(int error) {
    if (role_ == Role::failed || in_ == nullptr) return;
    error_ = in_->end_arrived() && error == ECONNRESET ? EPIPE : error;
    role_ = Role::failed;
    in_->break_off();
    out_->break_off();
    kernel_.trace("reset socket port %u", local_.port());
    changed();
}

void SimSocket::abort() {
    SimFilePtr other;
    if (out_ != nullptr && out_->reader != nullptr) other = out_->reader->shared_from_this();
    const bool stopped = out_ != nullptr && out_->stopped();
    reset(0);
    if (other == nullptr) return;
    if (stopped) out_->send_reset(other, Nanoseconds::zero());
    else static_cast<SimSocket&>(*other).reset(ECONNRESET);
}

// --- listening and connecting

bool SimSocket::reuses(const SimSocket& other, bool port) const noexcept {
    if (port && reuse_port_ && other.reuse_port_) return true;
    return reuse_address_ && other.reuse_address_ && other.role_ != Role::listening;
}

int SimSocket::bind(const SimAddress& address) {
    if (family_ == AF_UNIX) return bound_ ? -EINVAL : bind_unix(address);
    if (bound_ || role_ != Role::fresh) return -EINVAL;
    if (address.storage.ss_family != family_) return -EAFNOSUPPORT;
    if (!kernel_.is_local(address)) return -EADDRNOTAVAIL;
    SimAddress wanted = address;
    if (wanted.port() == 0) wanted.set_port(kernel_.free_port());
    if (wanted.port() == 0) return -EADDRINUSE;
    const SimSocket* holder = kernel_.bound_to(wanted, *this);
    if (holder != nullptr && !reuses(*holder, true)) return -EADDRINUSE;
    local_ = wanted;
    bound_ = true;
    return 0;
}

int SimSocket::listen(int backlog) {
    if (role_ == Role::listening) {
        backlog_max_ = backlog;
        return 0;
    }
    if (role_ != Role::fresh) return -EINVAL;
    if (!bound_ && family_ == AF_UNIX) return -EINVAL;
    if (!bound_) {
        local_.set_port(kernel_.free_port());
        if (local_.port() == 0) return -EADDRINUSE;
        bound_ = true;
    }
    const SimSocket* other = family_ != AF_UNIX ? kernel_.listener_for(local_) : nullptr;
    if (other != nullptr && !(reuse_port_ && other->reuse_port_)) return -EADDRINUSE;
    backlog_max_ = backlog;
    role_ = Role::listening;
    kernel_.trace("listen port %u backlog %d", local_.port(), backlog);
    return 0;
}

int SimSocket::connect(const SimAddress& address) {
    if (family_ == AF_UNIX) return connect_unix(address);
    if (role_ == Role::connecting) return -EALREADY;
    if (role_ == Role::connected) {
        if (told_) return -EISCONN;
        told_ = true;
        return 0;
    }
    if (role_ == Role::failed) {
        const int error = take_error();
        role_ = Role::fresh;
        return error != 0 ? -error : -ECONNABORTED;
    }
    if (role_ == Role::listening) return -EISCONN;
    if (address.storage.ss_family != family_) return -EAFNOSUPPORT;
    if (!bound_) {
        local_.set_port(kernel_.free_port());
        if (local_.port() == 0) return -EADDRNOTAVAIL;
        bound_ = true;
    }
    peer_ = kernel_.host_for(address, address.port());  // to any host is to this one
    role_ = Role::connecting;
    kernel_.trace("connect port %u to %u", local_.port(), peer_.port());
    send_syn(Nanoseconds::zero(), std::chrono::seconds(1));
    return -EINPROGRESS;
}

// A SYN is on its way; asked again after `retry` while nobody answers.
void SimSocket::send_syn(Nanoseconds elapsed, Nanoseconds retry) {
    const auto arrive = [this, weak = weak_from_this(), elapsed, retry] {
        const SimFilePtr self = weak.lock();
        if (self == nullptr || role_ != Role::connecting) return;
        SimSocket* listener = kernel_.listener_for(peer_);
        const bool lost = kernel_.partitioned || !kernel_.is_local(peer_);
        const Instant back = kernel_.clock() + delay(0);
        const auto answer = [this, weak, elapsed, retry](int error) {
            return [this, weak, elapsed, retry, error] {
                if (const SimFilePtr alive = weak.lock()) answered(elapsed, retry, error);
            };
        };
        if (!lost && listener == nullptr) {
            kernel_.at(back, answer(ECONNREFUSED));
        } else if (!lost && listener->offer(std::static_pointer_cast<SimSocket>(self))) {
            kernel_.at(back, answer(0));
        } else {
            unanswered(elapsed, retry);
        }
    };
    kernel_.at(kernel_.clock() + delay(0), arrive);
}

// Asks again after `retry`: where it is a server's answer that was lost, that is repeated.
void SimSocket::unanswered(Nanoseconds elapsed, Nanoseconds retry) {
    const bool last = elapsed + retry >= kernel_.options().connect_timeout;
    kernel_.at(kernel_.clock() + retry, [this, weak = weak_from_this(), elapsed, retry, last] {
        const SimFilePtr alive = weak.lock();
        if (alive == nullptr || role_ != Role::connecting) return;
        if (last) give_up(ETIMEDOUT);
        else if (in_ == nullptr) send_syn(elapsed + retry, retry * 2);
        else answered(elapsed + retry, retry * 2, 0);
    });
}

void SimSocket::answered(Nanoseconds elapsed, Nanoseconds retry, int error) {
    if (role_ != Role::connecting) return;
    if (kernel_.partitioned) return unanswered(elapsed, retry);
    if (error != 0) return give_up(error);
    role_ = Role::connected;
    changed();
}

void SimSocket::give_up(int error) {
    error_ = error;
    role_ = Role::failed;
    if (in_ != nullptr) {
        // The server believes in a connection; it hears otherwise when it sends.
        in_->reader = nullptr;
        out_->writer = nullptr;
        in_ = out_ = nullptr;
    }
    changed();
}

bool SimSocket::offer(const std::shared_ptr<SimSocket>& client) {
    if (backlog_.size() > static_cast<std::size_t>(backlog_max_)) return false;
    const auto server = std::make_shared<SimSocket>(kernel_, family_, type_);
    server->options_ = options_;
    server->send_buffer_ = send_buffer_;
    server->receive_buffer_ = receive_buffer_;
    server->linger_ = linger_;
    server->reuse_address_ = reuse_address_;
    if (client->local_.any())
        client->local_ = kernel_.host_for(client->peer_, client->local_.port());
    server->local_ = kernel_.seen_as(client->peer_, family_);
    server->peer_ = kernel_.seen_as(client->local_, family_);
    server->bound_ = true;
    server->told_ = true;
    join(*client, *server);
    client->role_ = Role::connecting;  // until the answer is there
    backlog_.push_back(server);
    changed();
    return true;
}

std::shared_ptr<SimSocket> SimSocket::accept(int& error) {
    error = role_ == Role::listening ? -EAGAIN : -EINVAL;
    if (role_ != Role::listening || backlog_.empty()) return nullptr;
    error = 0;
    std::shared_ptr<SimSocket> next = std::move(backlog_.front());
    backlog_.pop_front();
    kernel_.trace("accept port %u from %u", local_.port(), next->peer_.port());
    return next;
}

int SimSocket::shutdown(int how) {
    if (role_ == Role::listening) {
        if (how == SHUT_WR) return 0;  // it never wrote
        role_ = Role::fresh;
        backlog_.clear();
        changed();
        return 0;
    }
    if (role_ == Role::fresh && family_ == AF_UNIX) return 0;
    if (role_ != Role::connected) return -ENOTCONN;
    kernel_.trace("shutdown port %u to %u how %d", local_.port(), peer_.port(), how);
    // Both sides have said their end: TCP has no connection any more.
    if (shut_write_ && in_->end_arrived() && family_ != AF_UNIX) return -ENOTCONN;
    if (how != SHUT_WR) shut_read_ = true;
    if (how != SHUT_RD && !shut_write_) {
        shut_write_ = true;
        out_->put_end(delay(0));
    }
    changed();
    return 0;
}

// --- data

unsigned SimSocket::poll_bits() const noexcept {
    if (role_ == Role::listening) return backlog_.empty() ? 0 : POLLIN;
    if (role_ == Role::connecting) return 0;
    if (role_ == Role::fresh) return POLLOUT | POLLHUP;
    if (role_ == Role::failed) {
        return POLLIN | POLLOUT | POLLHUP | POLLRDHUP | (error_ != 0 ? POLLERR : 0u);
    }
    unsigned bits = in_->readable() != 0 ? POLLIN : 0;
    if (in_->end_arrived() || shut_read_) bits |= POLLIN | POLLRDHUP;
    if ((in_->end_arrived() || shut_read_) && shut_write_) bits |= POLLHUP;
    if (family_ == AF_UNIX && out_->reader == nullptr) bits |= POLLHUP | POLLOUT;
    if (error_ != 0) bits |= POLLERR | POLLIN;
    if (shut_write_ || out_->room() > lost_) bits |= POLLOUT;
    if (in_->urgent) bits |= POLLPRI;
    return bits;
}

ssize_t SimSocket::read(void* data, std::size_t size, int flags) {
    // What came before a reset can still be read.
    if (role_ == Role::failed && (in_ == nullptr || in_->readable() == 0)) {
        const bool ended = in_ != nullptr && in_->end_arrived();
        return error_ != 0 && !ended ? -take_error() : 0;
    }
    if (role_ != Role::connected && role_ != Role::failed) {
        return type_ == SOCK_STREAM && family_ == AF_UNIX ? -EINVAL : -ENOTCONN;
    }
    return receive(static_cast<char*>(data), size, flags);
}

ssize_t SimSocket::receive(char* data, std::size_t size, int flags) {
    if ((flags & MSG_OOB) != 0) {
        if (keeps_messages()) return -EOPNOTSUPP;
        if (!in_->urgent) return -EINVAL;
        if (size != 0) *data = in_->urgent_byte;
        in_->urgent = false;
        return size != 0 ? 1 : 0;
    }
    if (in_->readable() != 0) {
        // MSG_TRUNC on a stream: taken and thrown away.
        if ((flags & MSG_TRUNC) != 0) data = nullptr;
        const bool peeks = (flags & MSG_PEEK) != 0;
        const auto taken = static_cast<ssize_t>(in_->take(data, in_->within_rights(size), peeks));
        // Files that came with bytes that somebody took without asking for them.
        while (!in_->rights.empty() && in_->rights.front().position < in_->drawn) {
            in_->rights.pop_front();
        }
        return taken;
    }
    if (error_ != 0) return -take_error();
    // A receive of nothing waits for something, but in a Unix socket.
    const bool nothing = size == 0 && family_ == AF_UNIX;
    return in_->end_arrived() || shut_read_ || nothing ? 0 : -EAGAIN;
}

// Nobody is there: what is sent is answered with a reset. Until that has arrived no more is taken than
// there is room for.
ssize_t SimSocket::write_to_nobody(std::size_t size) {
    const std::size_t room = out_->room();
    const std::size_t count = std::min(size, room > lost_ ? room - lost_ : 0);
    if (size == 0) return 0;
    if (!std::exchange(resets_, true)) {  // also for what is still on its way there
        in_->send_reset(weak_from_this(), delay(count));
    }
    if (count == 0) return -EAGAIN;
    lost_ += count;
    return static_cast<ssize_t>(count);
}

// The last byte is the urgent one, if all before it find room.
ssize_t SimSocket::write_urgently(const char* data, std::size_t size) {
    if (keeps_messages()) return -EOPNOTSUPP;
    const std::size_t before = std::min(size - 1, out_->room());
    if (before != 0) out_->put(data, before, delay(before));
    if (before == size - 1) out_->put_urgent(data[before], delay(1));
    else if (before == 0) return -EAGAIN;
    return static_cast<ssize_t>(before == size - 1 ? size : before);
}

ssize_t SimSocket::write(const void* data, std::size_t size, int flags) {
    if (role_ == Role::failed) return error_ != 0 ? -take_error() : -EPIPE;
    if (role_ == Role::connecting) return -EAGAIN;
    if (role_ != Role::connected) return family_ == AF_UNIX ? -ENOTCONN : -EPIPE;
    if (shut_write_) return -EPIPE;
    if (out_->reader == nullptr && family_ == AF_UNIX) return -EPIPE;
    if (out_->reader == nullptr) return write_to_nobody(size);
    if (size == 0) return 0;
    if ((flags & MSG_OOB) != 0) return write_urgently(static_cast<const char*>(data), size);
    std::size_t count = std::min(size, out_->room());
    if (keeps_messages() && size > out_->capacity) return -EMSGSIZE;
    if (keeps_messages() && count < size) return -EAGAIN;
    if (count == 0 || out_->breaking) return -EAGAIN;
    const std::uint64_t cut = out_->reader != nullptr ? out_->reset_after : 0;
    if (cut != 0) count = std::min<std::size_t>(count, cut > out_->passed ? cut - out_->passed : 0);
    if (count != 0) out_->put(static_cast<const char*>(data), count, delay(count));
    if (cut == 0 || out_->passed < cut) return static_cast<ssize_t>(count);
    // A fault script: the connection breaks here, after what was sent has arrived.
    out_->breaking = true;
    const SimFilePtr other = out_->reader->shared_from_this();
    const Instant arrived = std::max(out_->last_due(), kernel_.clock());
    kernel_.at(arrived + kernel_.options().latency_max, [other, self = shared_from_this()] {
        static_cast<SimSocket&>(*other).reset(ECONNRESET);
        static_cast<SimSocket&>(*self).reset(ECONNRESET);
    });
    return count != 0 ? static_cast<ssize_t>(count) : -EAGAIN;
}

}  // namespace whorl::detail
