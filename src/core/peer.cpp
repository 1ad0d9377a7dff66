// SPDX-License-Identifier: MIT
// Floor: 7
#include "core/world_state.hpp"

#include <whorl/assert.hpp>
#include <whorl/socket.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

// Peers written by hand, and connections as fault scripts see them.

namespace whorl::testing {

using detail::SimAddress;
using detail::SimSocket;

namespace {

Address address_of(const SimAddress& address) noexcept {
    Result<Address> made = Address::from_sockaddr(&address.storage, address.length);
    return made ? *made : Address();
}
SimAddress address_in(const Address& address) noexcept {
    WHORL_ASSERT(address);
    return SimAddress::from(address.data(), address.length());
}

// Both sides hear of it, as when something between them gives up.
void break_both(SimSocket& socket) {
    detail::SimChannel* out = socket.outgoing();
    detail::SimFilePtr other;
    if (out != nullptr && out->reader != nullptr) other = out->reader->shared_from_this();
    socket.reset(ECONNRESET);
    if (other != nullptr) static_cast<SimSocket&>(*other).reset(ECONNRESET);
}

void break_after(SimSocket& socket, std::uint64_t bytes) {
    detail::SimChannel* out = socket.outgoing();
    if (out == nullptr) return;
    if (bytes == 0) break_both(socket);
    else out->reset_after = out->passed + std::min(bytes, UINT64_MAX - out->passed);
}

}  // namespace

// --- the state of a peer

void PeerState::join(std::shared_ptr<SimSocket> given) {
    socket = std::move(given);
    socket->watch(*this, 0);
    address = address_of(socket->local());
    if (connected) apply_script();
    soon();
}

// What reset_after() asked for before there was a connection.
void PeerState::apply_script() {
    if (std::exchange(scripted, false)) break_after(*socket, script_bytes);
}

void PeerState::leave() noexcept {
    if (socket == nullptr) return;
    socket->unwatch(*this, 0);
    socket.reset();
}

void PeerState::soon() {
    if (due || kernel == nullptr || socket == nullptr) return;
    due = true;
    kernel->at(kernel->clock(), [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->pump();
    });
}

void PeerState::pump() {
    due = false;
    if (socket == nullptr) return;
    if (!connected) pump_connect();
    if (!connected || reset) return;
    pump_in();
    if (!reset) pump_out();
}

void PeerState::pump_connect() {
    const SimSocket::Role role = socket->role();
    if (role == SimSocket::Role::connecting) return;
    const int done = socket->connect(socket->peer());
    if (done != 0 && done != -EISCONN) return broken(-done);
    connected = true;
    address = address_of(socket->local());
    apply_script();
}

void PeerState::pump_in() {
    char part[4096];
    while (!stalled && !ended) {
        const ssize_t count = socket->read(part, sizeof part, 0);
        if (count == -EAGAIN) return;
        if (count < 0) return broken(static_cast<int>(-count));
        if (count == 0) ended = true;
        else received.append(part, static_cast<std::size_t>(count));
    }
}

void PeerState::pump_out() {
    while (sent < outbox.size()) {
        std::size_t size = outbox.size() - sent;
        // In parts now and then, so that the other side sees more than one arrival.
        if (size > 1 && kernel->faulty(kernel->options().short_transfer)) {
            const auto bound = static_cast<std::uint32_t>(std::min<std::size_t>(size, 1u << 20));
            size = 1 + kernel->choices.below(bound);
        }
        const ssize_t count = socket->write(outbox.data() + sent, size, 0);
        if (count == -EAGAIN) return;
        if (count < 0) return broken(static_cast<int>(-count));
        sent += static_cast<std::size_t>(count);
    }
    outbox.clear();
    sent = 0;
    if (!std::exchange(finishing, false)) return;
    finished = true;
    static_cast<void>(socket->shutdown(SHUT_WR));
}

void PeerState::broken(int why) noexcept {
    over = true;
    error = Error::from_errno(why);
    reset = connected;
    outbox.clear();
    sent = 0;
    leave();
}

// --- where peers accept

void PeerListener::soon() {
    if (due) return;
    due = true;
    kernel->at(kernel->clock(), [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->serve();
    });
}

void PeerListener::serve() {
    due = false;
    for (;;) {
        // One that has closed waits no more.
        while (!waiting.empty() && waiting.front()->over) waiting.pop_front();
        if (waiting.empty()) return;
        int error = 0;
        std::shared_ptr<SimSocket> made = socket->accept(error);
        if (made == nullptr) return;
        const std::shared_ptr<PeerState> peer = std::move(waiting.front());
        waiting.pop_front();
        peer->connected = true;
        peer->join(std::move(made));
    }
}

// --- the handle

Peer World::connect(const Address& address) {
    auto peer = std::make_shared<PeerState>(state_->kernel);
    state_->peers.push_back(peer);
    auto socket = std::make_shared<SimSocket>(state_->kernel, address.family(), SOCK_STREAM);
    const int done = socket->connect(address_in(address));
    if (done == -EINPROGRESS) peer->join(std::move(socket));
    else peer->broken(-done);
    return Peer(std::move(peer));
}

Peer World::accept(const Address& address) {
    auto peer = std::make_shared<PeerState>(state_->kernel);
    state_->peers.push_back(peer);
    for (const std::shared_ptr<PeerListener>& listener : state_->listeners) {
        if (address.port() == 0 || address_of(listener->socket->local()) != address) continue;
        peer->address = address;
        listener->waiting.push_back(peer);
        listener->soon();
        return Peer(std::move(peer));
    }
    auto listener = std::make_shared<PeerListener>();
    listener->kernel = &state_->kernel;
    listener->socket = std::make_shared<SimSocket>(state_->kernel, address.family(), SOCK_STREAM);
    const int bound = listener->socket->bind(address_in(address));
    if (bound != 0)
        detail::panic("World::accept: somebody listens there already, or no port is left");
    static_cast<void>(listener->socket->listen(4096));
    listener->socket->watch(*listener, 0);
    peer->address = address_of(listener->socket->local());
    listener->waiting.push_back(peer);
    state_->listeners.push_back(std::move(listener));
    return Peer(std::move(peer));
}

namespace {

PeerState& there(const std::shared_ptr<PeerState>& state) noexcept {
    if (state == nullptr) {
        detail::panic("a Peer that is none: it comes from World::connect() or accept()");
    }
    return *state;
}

}  // namespace

Peer& Peer::send(std::string_view bytes) {
    PeerState& state = there(state_);
    if (state.kernel == nullptr || state.over) return *this;
    if (state.finishing || state.finished) detail::panic("Peer::send: after finish_sending()");
    state.outbox.append(bytes);
    state.soon();
    return *this;
}

Peer& Peer::finish_sending() {
    PeerState& state = there(state_);
    if (state.over || state.finished) return *this;
    state.finishing = true;
    state.soon();
    return *this;
}

void Peer::close() {
    PeerState& state = there(state_);
    state.over = true;
    state.outbox.clear();
    state.sent = 0;
    state.leave();
}

void Peer::reset() {
    if (there(state_).socket != nullptr) state_->socket->abort();
    close();
}

void Peer::reset_after(std::uint64_t bytes) {
    PeerState& state = there(state_);
    state.scripted = true;
    state.script_bytes = bytes;
    if (state.socket != nullptr && state.connected) state.apply_script();
}

void Peer::stop_reading() { there(state_).stalled = true; }
void Peer::read_on() {
    there(state_).stalled = false;
    state_->soon();
}

const std::string& Peer::received() const noexcept { return there(state_).received; }
std::string Peer::take() { return std::exchange(there(state_).received, {}); }
bool Peer::connected() const noexcept { return there(state_).connected; }
bool Peer::ended() const noexcept { return there(state_).ended; }
bool Peer::was_reset() const noexcept { return there(state_).reset; }
bool Peer::sent_all() const noexcept { return there(state_).outbox.empty(); }
Error Peer::error() const noexcept { return there(state_).error; }
Address Peer::address() const noexcept { return there(state_).address; }

// --- connections

namespace {

std::shared_ptr<SimSocket> socket_in(const std::weak_ptr<void>& weak) noexcept {
    return std::static_pointer_cast<SimSocket>(weak.lock());
}

}  // namespace

Connection World::connection(Loop& loop, Socket socket) {
    const Result<detail::SystemFd> fd = detail::descriptor_number(loop, socket.value());
    if (!fd) return {};
    int error = 0;
    return Connection(state_->kernel.socket_of(fd.value().number, error));
}

std::vector<Connection> World::connections(std::uint16_t port) {
    std::vector<Connection> found;
    for (SimSocket* socket : state_->kernel.sockets()) {
        if (socket->role() != SimSocket::Role::connected) continue;
        if (socket->local().port() != port && socket->peer().port() != port) continue;
        found.push_back(Connection(socket->shared_from_this()));
    }
    return found;
}

bool Connection::alive() const noexcept {
    const auto socket = socket_in(socket_);
    return socket != nullptr && socket->role() == SimSocket::Role::connected;
}
Address Connection::local() const noexcept {
    const auto socket = socket_in(socket_);
    return socket != nullptr ? address_of(socket->local()) : Address();
}
Address Connection::peer() const noexcept {
    const auto socket = socket_in(socket_);
    return socket != nullptr ? address_of(socket->peer()) : Address();
}
std::uint64_t Connection::bytes_sent() const noexcept {
    const auto socket = socket_in(socket_);
    return socket != nullptr && socket->outgoing() != nullptr ? socket->outgoing()->passed : 0;
}
void Connection::reset() {
    if (const auto socket = socket_in(socket_)) break_both(*socket);
}
void Connection::reset_after(std::uint64_t bytes) {
    if (const auto socket = socket_in(socket_)) break_after(*socket, bytes);
}
void Connection::hold() {
    const auto socket = socket_in(socket_);
    if (socket == nullptr || socket->outgoing() == nullptr) return;
    socket->outgoing()->held = true;
    held_ = socket->outgoing()->weak_from_this();
}
void Connection::release() {
    const auto socket = socket_in(socket_);
    if (socket != nullptr && socket->outgoing() != nullptr) return socket->outgoing()->release();
    if (const auto way = std::static_pointer_cast<detail::SimChannel>(held_.lock())) way->release();
}

}  // namespace whorl::testing
