// SPDX-License-Identifier: MIT
#include "fuzz/machine.hpp"

#include <sys/socket.h>

#include <algorithm>

// The instructions: operations on sockets, and which loop they run on. The rest is in
// machine_timers.cpp.

namespace fuzz {

using whorl::Buffer;
using whorl::Error;
using whorl::Nanoseconds;
using whorl::Operation;
using whorl::Result;

Machine::Machine(model::Run& run, model::Random& random, Ground& ground)
    : run_(run), random_(random), ground_(ground) {
    tickets_.reserve(tickets_max);
    sockets_.reserve(sockets_max);
    const std::uint32_t few[] = {1u << 20, 1u << 20, 64, 9};
    loop_options_.ops_max = few[random_.below(4)];
    loop_options_.handles_max = few[random_.below(4)];
    loop_options_.posts_max = few[random_.below(4)];
    loop_options_.submission_queue_depth = random_.one_in(2) ? 2 : 64;
    loop_options_.completions_per_turn = random_.one_in(2) ? 3 : 256;
    loop_options_.recv_ring_depth = 4;
    loop_options_.recv_buffer_size = 256;
    loop_options_.recv_buffers_per_stream = random_.one_in(2) ? 2 : 64;
    loop_options_.buffer_bytes_max = random_.one_in(2) ? 128 << 10 : 8 << 20;
    loop_options_.features_off = random_.one_in(4) ? 0xFFFF'FFFF : 0;
    make_loop();
}

Machine::~Machine() {
    for (const Pair& pair : pairs_) {
        if (pair.watched >= 0) ground_.close(pair.watched);
        if (pair.other >= 0) ground_.close(pair.other);
    }
}

void Machine::make_loop() {
    Result<whorl::Loop> loop = ground_.make_loop(loop_options_);
    expect(loop.has_value(), "Loop::create");
    loop_.emplace(std::move(*loop));
    guest_ = random_.below(8) == 7;
    if (guest_) expect(loop_->notify_fd().has_value(), "notify_fd()");
    if (random_.one_in(2)) remote_.emplace(*loop_->remote());
    else remote_.reset();
    steps_in_handlers_ = 200;
}

void Machine::step() {
    if (random_.below(4) == 3) turn();
    else act();
}

void Machine::act() {
    if (tickets_.size() + 1 >= tickets_max) return;
    const std::uint64_t code = random_.below(32);
    if (code < 16) act_on_stream(code);
    else act_on_rest(code);
}

void Machine::act_on_stream(std::uint64_t code) {
    switch (code) {
        case 0:
            return listen();
        case 1:
            return connect();
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
            return receive(code);
        case 8:
        case 9:
        case 10:
        case 11:
            return send(code);
        case 12:
            return send_chain();
        case 13:
            return close();
        case 14:
            return adopt_pair();
        default:
            return detach();
    }
}

void Machine::act_on_rest(std::uint64_t code) {
    switch (code) {
        case 16:
        case 17:
            return cancel_operation();
        case 18:
            return invent_handle();
        case 19:
        case 20:
            return arm();
        case 21:
            return cancel_timer();
        case 22:
            return move_timer();
        case 23:
            return post(false);
        case 24:
            return post(true);
        case 25:
            return watch();
        case 26:
            return change_watch();
        case 27:
            return poke_pair();
        case 28:
            return hook();
        case 29:
            return cancel_hook();
        case 30:
            if (!held_.empty()) held_.erase(held_.begin());
            return;
        default:
            return loop_->stop();
    }
}

// --- turns, and the loop itself

void Machine::turn() {
    const std::uint64_t code = random_.below(16);
    if (code == 15) return replace_loop();
    if (code == 14) return drain();
    if (code == 13) {
        whorl::Loop moved(std::move(*loop_));
        loop_.emplace(std::move(moved));
        return;
    }
    static_cast<void>(throws([this, code] { run_turn(code); }));
    expect(!in_handler_, "a turn ended inside a handler");
}

void Machine::run_turn(std::uint64_t code) {
    Error error;
    if (code < 5) error = loop_->poll();
    else if (code < 10) error = ground_.pass(*loop_, std::chrono::microseconds(30));
    else if (code == 10) error = ground_.pass(*loop_, std::chrono::microseconds(300));
    else error = guest_ ? loop_->process() : loop_->poll();
    expect(!error, "a turn failed");
}

void Machine::drain() {
    draining_ = true;
    Error error;
    for (int tries = 0; tries < 300; ++tries) {
        if (!throws([&] { error = loop_->drain(std::chrono::seconds(5)); })) break;
    }
    draining_ = false;
    expect(!error, "drain() left something");
    for (Socket& socket : sockets_) socket.closed = true;
    expect_nothing_left();
}

void Machine::expect_nothing_left() {
    std::uint32_t hooks = 0;
    for (Ticket& ticket : tickets_) {
        if (ticket.kind == Ticket::Kind::hook) {
            hooks += ticket.handler_gone ? 0 : 1;
            continue;
        }
        expect(ticket.handler_gone, "a handler object is left after drain()");
        const bool silent =
            ticket.kind == Ticket::Kind::timer || ticket.kind == Ticket::Kind::watch;
        expect(ticket.ended || silent, "drain() did not end an operation");
        ticket.ended = true;
    }
    const whorl::Statistics& statistics = loop_->statistics();
    expect(statistics.operations == hooks, "a slot is left after drain()");
    expect(statistics.handles == 0, "a descriptor is left after drain()");
    expect(statistics.buffers_out <= held_.size() + loop_options_.recv_ring_depth_max +
                                         loop_options_.recv_bulk_ring_depth,
           "buffers are left after drain()");
    for (const Socket& socket : sockets_) {
        expect(socket.operations == 0, "an operation on a socket is left");
        if (socket.peer == UINT32_MAX || !socket.exact || !sockets_[socket.peer].exact) continue;
        const std::string& sent = sockets_[socket.peer].sent;
        expect(socket.received.size() <= sent.size() &&
                   sent.compare(0, socket.received.size(), socket.received) == 0,
               "what arrived is not what was sent");
    }
}

void Machine::destroy() {
    loop_.reset();
    for (const Ticket& ticket : tickets_) {
        expect(ticket.handler_gone, "a handler object outlived its loop");
    }
    if (remote_) {
        expect(!remote_->alive() && !remote_->stop(), "a Remote takes its loop for alive");
        expect(!remote_->post([](whorl::Loop&) {}), "a post to a loop that is gone");
    }
    tickets_.clear();
    sockets_.clear();
    held_.clear();
}

void Machine::replace_loop() {
    destroy();
    make_loop();
}

void Machine::finish() {
    if (random_.below(4) != 3) drain();
    destroy();
}

// --- what instructions are given

whorl::SubmitOptions Machine::options() {
    whorl::SubmitOptions options;
    const std::uint64_t code = random_.below(8);
    if (code >= 6) options = whorl::within(std::chrono::microseconds(random_.below(256)));
    if (code == 5) options = whorl::within(Nanoseconds(-1));
    if (code == 4) options = whorl::until(whorl::add_saturating(ground_.now(), Nanoseconds(5'000)));
    options.background = random_.one_in(8);
    return options;
}

std::uint32_t Machine::ticket(Ticket::Kind kind) {
    expect(tickets_.size() < tickets_max, "the machine's own tickets");
    tickets_.emplace_back();
    tickets_.back().kind = kind;
    return static_cast<std::uint32_t>(tickets_.size() - 1);
}

std::uint32_t Machine::add_socket(std::uint64_t handle, bool listener) {
    for (const Socket& socket : sockets_) {
        expect(socket.closed || socket.handle != handle, "a handle was given out twice");
    }
    sockets_.emplace_back();
    sockets_.back().handle = handle;
    sockets_.back().listener = listener;
    return static_cast<std::uint32_t>(sockets_.size() - 1);
}

// One of the kind, also a closed one; UINT32_MAX when there is none.
std::uint32_t Machine::any_socket(bool listener) {
    const std::uint64_t start = random_.below(sockets_max);
    for (std::size_t step = 0; step < sockets_.size(); ++step) {
        const std::size_t index = (start + step) % sockets_.size();
        if (sockets_[index].listener == listener) return static_cast<std::uint32_t>(index);
    }
    return UINT32_MAX;
}

bool Machine::any_ticket(Ticket::Kind kind, std::uint32_t& index) {
    const std::uint64_t start = random_.below(256);
    for (std::size_t step = 0; step < tickets_.size(); ++step) {
        const std::size_t at = (start + step) % tickets_.size();
        if (tickets_[at].kind != kind) continue;
        index = static_cast<std::uint32_t>(at);
        return true;
    }
    return false;
}

Buffer Machine::some_buffer(std::size_t capacity_max) {
    const std::size_t capacity = random_.below(capacity_max + 1);
    if (random_.one_in(2)) return Buffer::allocate(capacity);
    return loop_->buffer(capacity);
}

// Bytes that do not repeat soon, so that loss and disorder show.
std::string Machine::some_text() {
    std::string text(random_.below(4) == 3 ? random_.below(60'000) : random_.below(256), '\0');
    for (char& byte : text) byte = static_cast<char>(text_next_++ * 2'654'435'761u >> 24);
    return text;
}

// --- submission

// `buffer` lies in `op`: refused, it must still be there.
template <class Op>
void Machine::submit(Op& op, std::uint32_t socket, const Buffer* buffer) {
    const std::uint32_t index = ticket(Ticket::Kind::operation);
    Ticket& ticket = tickets_[index];
    if (buffer != nullptr) {
        ticket.data = buffer->data();
        ticket.capacity = buffer->capacity();
        ticket.bytes = buffer->size();
    }
    OperationHandler<typename Op::Done> handler{Token(this, index)};
    const whorl::SubmitOptions given = options();
    const Error invalid = op.check();
    Result<Operation> submitted = Error(Error::stale_handle);
    {
        const Call call(*this);
        submitted = loop_->submit(std::move(op), given, std::move(handler));
    }
    const bool closed = socket != UINT32_MAX && sockets_[socket].closed;
    if (submitted) {
        expect(!closed && !draining_ && !invalid, "a submission that must be refused");
        ticket.handle = submitted->value();
        if (socket == UINT32_MAX) return;
        ticket.socket = socket;
        ticket.has_socket = true;
        ++sockets_[socket].operations;
        return;
    }
    const Error error = submitted.error();
    expect(!handler.token.moved_from(), "a refused submission moved its handler");
    if (buffer != nullptr) {
        expect(buffer->data() == ticket.data && buffer->capacity() == ticket.capacity,
               "a refused submission moved its buffer");
    }
    const bool full = error == Error::slots_exhausted && loop_options_.ops_max < 1000;
    const bool no_handle = error == Error::slots_exhausted && loop_options_.handles_max < 1000;
    expect(full || no_handle || (closed && error == Error::stale_handle) ||
               (draining_ && error == Error::loop_closed) || (invalid && error == invalid),
           "refused for no reason");
    ticket.ended = true;
}

void Machine::listen() {
    if (sockets_.size() == sockets_max) return;
    Result<whorl::Listener> listener = whorl::listen(*loop_, ground_.listen_address());
    if (listener) {
        add_socket(listener->value(), true);
        return;
    }
    expect(draining_ || listener.error() == Error::slots_exhausted, "listen()");
}

void Machine::connect() {
    const std::uint32_t index = any_socket(true);
    if (index == UINT32_MAX) return;
    const auto listener = whorl::Listener::from_value(sockets_[index].handle);
    const Result<whorl::Address> address = whorl::local_address(*loop_, listener);
    expect(address.has_value() != sockets_[index].closed, "local_address()");
    whorl::Connect op{address ? *address : whorl::Address::loopback_v4(1)};
    const std::size_t number = tickets_.size();
    submit(op, UINT32_MAX, nullptr);
    tickets_[number].connects = true;
}

void Machine::receive(std::uint64_t code) {
    const std::uint32_t index = any_socket(code < 4);
    if (index == UINT32_MAX) return;
    if (code < 4) {
        const auto listener = whorl::Listener::from_value(sockets_[index].handle);
        whorl::Accept one{listener};
        whorl::AcceptStream stream{listener};
        return code == 2 ? submit(one, index, nullptr) : submit(stream, index, nullptr);
    }
    const auto socket = whorl::Socket::from_value(sockets_[index].handle);
    if (code == 4) {
        whorl::RecvStream op{socket};
        return submit(op, index, nullptr);
    }
    whorl::Recv op{socket, some_buffer(2'000)};
    if (code == 7) op.flags = MSG_WAITALL;
    submit(op, index, &op.buffer);
}

void Machine::send(std::uint64_t code) {
    const std::uint32_t index = any_socket(false);
    if (index == UINT32_MAX) {
        whorl::Nop op{};
        return submit(op, UINT32_MAX, nullptr);
    }
    const auto socket = whorl::Socket::from_value(sockets_[index].handle);
    if (code == 11) {
        whorl::Shutdown op{socket, static_cast<whorl::ShutdownSide>(random_.below(3))};
        return submit(op, index, nullptr);
    }
    if (code == 8) {
        whorl::Send op{socket, whorl::adopt(some_text())};
        return submit(op, index, &op.buffer);
    }
    whorl::SendAll op{socket, whorl::adopt(some_text())};
    submit(op, index, &op.buffer);
}

void Machine::send_chain() {
    const std::uint32_t index = any_socket(false);
    if (index == UINT32_MAX) return;
    whorl::SendChain op{whorl::Socket::from_value(sockets_[index].handle), {}};
    for (std::uint64_t parts = random_.below(20); parts > 0; --parts) {
        expect(op.chain.push_back(whorl::adopt(some_text())), "push_back()");
    }
    const std::uint64_t bytes = op.chain.size();
    const std::size_t number = tickets_.size();
    submit(op, index, nullptr);
    tickets_[number].bytes = bytes;
    if (tickets_[number].ended) expect(op.chain.size() == bytes, "a refused chain was moved");
}

// --- sockets

void Machine::close() {
    const std::uint32_t index = any_socket(random_.one_in(4));
    if (index == UINT32_MAX) return;
    Socket& socket = sockets_[index];
    const auto handle = whorl::Socket::from_value(socket.handle);
    const Call call(*this);
    Error error;
    if (random_.one_in(2)) {
        error = loop_->close(handle);
    } else {
        const std::uint32_t number = ticket(Ticket::Kind::close);
        tickets_[number].socket = index;
        PlainHandler handler{Token(this, number)};
        error = loop_->close(handle, std::move(handler));
        expect(handler.token.moved_from() == !error, "close() and its handler");
        if (error) tickets_[number].ended = true;
        if (error == Error::slots_exhausted && !socket.closed) return;  // nothing was closed
    }
    expect(error == (socket.closed ? Error(Error::stale_handle) : Error()), "close()");
    socket.closed = true;
}

void Machine::detach() {
    const std::uint32_t index = any_socket(false);
    if (index == UINT32_MAX) return;
    Socket& socket = sockets_[index];
    Result<int> fd = whorl::detach(*loop_, whorl::Socket::from_value(socket.handle));
    if (fd) {
        expect(!socket.closed && socket.operations == 0, "detach()");
        ground_.close(*fd);
        socket.closed = true;
        return;
    }
    expect(socket.closed ? fd.error() == Error::stale_handle : fd.error().value() == EBUSY,
           "detach()");
}

void Machine::adopt_pair() {
    if (sockets_.size() + 2 > sockets_max) return;
    int ends[2] = {-1, -1};
    expect(ground_.socket_pair(SOCK_STREAM | SOCK_CLOEXEC, ends), "socketpair");
    std::uint32_t made[2] = {UINT32_MAX, UINT32_MAX};
    for (int end = 0; end < 2; ++end) {
        const Result<whorl::Socket> socket = whorl::adopt_socket(*loop_, ends[end]);
        if (socket) {
            made[end] = add_socket(socket->value(), false);
            continue;
        }
        expect(draining_ || socket.error() == Error::slots_exhausted, "adopt_socket()");
        ground_.close(ends[end]);
    }
    if (made[0] == UINT32_MAX || made[1] == UINT32_MAX) return;
    sockets_[made[0]].peer = made[1];
    sockets_[made[1]].peer = made[0];
}

}  // namespace fuzz
