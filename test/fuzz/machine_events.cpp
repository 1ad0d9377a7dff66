// SPDX-License-Identifier: MIT
#include "fuzz/machine.hpp"

// What handlers get, against what their tickets allow.

namespace fuzz {

using whorl::Error;

namespace {
#ifdef __cpp_exceptions
struct Thrown {};
#endif
}  // namespace

// While a handler runs: no other may.
struct Machine::Running {
    Machine& machine;
    const std::uint32_t index;
    Running(Machine& owner, std::uint32_t ticket) : machine(owner), index(ticket) {
        machine.in_handler_ = true;
        machine.tickets_[index].running = true;
    }
    ~Running() {
        machine.in_handler_ = false;
        machine.tickets_[index].running = false;
    }
};

void Machine::token_gone(std::uint32_t index) {
    expect(!tickets_[index].handler_gone, "a handler object was destroyed twice");
    tickets_[index].handler_gone = true;
}

void Machine::begin(Ticket& ticket) {
    expect(!in_call_, "a handler ran inside a call");
    expect(!in_handler_, "a handler ran inside a handler");
    expect(!ticket.ended, "a handler ran after its end");
    expect(!ticket.handler_gone, "a handler ran that had been destroyed");
}

template <class Done>
void Machine::completed(std::uint32_t index, Done& done) {
    begin(tickets_[index]);
    const Running running(*this, index);
    check(tickets_[index], done);
    after_handler();
}

#define WHORL_FUZZ_DONE(Op) \
    template void Machine::completed<whorl::Op::Done>(std::uint32_t, whorl::Op::Done&);
WHORL_FUZZ_DONE(Connect)
WHORL_FUZZ_DONE(Accept)
WHORL_FUZZ_DONE(AcceptStream)
WHORL_FUZZ_DONE(Recv)
WHORL_FUZZ_DONE(RecvStream)
WHORL_FUZZ_DONE(Send)
WHORL_FUZZ_DONE(SendAll)
WHORL_FUZZ_DONE(SendChain)
WHORL_FUZZ_DONE(Shutdown)
WHORL_FUZZ_DONE(Nop)
#undef WHORL_FUZZ_DONE

// Bytes say what a handler does: nothing, an instruction or two, an exception.
void Machine::after_handler() {
    for (std::uint64_t count = random_.below(4); count > 1 && steps_in_handlers_ > 0; --count) {
        --steps_in_handlers_;
        act();
    }
#ifdef __cpp_exceptions
    if (steps_in_handlers_ > 0 && random_.below(64) == 63) throw Thrown();
#endif
}

// Turns and drains run handlers, which throw. True: one did.
#ifdef __cpp_exceptions
bool Machine::throws(const std::function<void()>& body) {
    try {
        body();
        return false;
    } catch (const Thrown&) {
        return true;
    }
}
#else
bool Machine::throws(const std::function<void()>& body) {
    body();
    return false;
}
#endif

void Machine::end_operation(Ticket& ticket) {
    ticket.ended = true;
    expect(!loop_->alive(whorl::Operation::from_value(ticket.handle)),
           "the slot of a final completion is not free");
    if (!ticket.has_socket) return;
    expect(sockets_[ticket.socket].operations > 0, "more ends than submissions");
    --sockets_[ticket.socket].operations;
}

void Machine::came_back(const Ticket& ticket, const whorl::Buffer& buffer) {
    expect(buffer.data() == ticket.data && buffer.capacity() == ticket.capacity,
           "another buffer came back than went in");
}

void Machine::new_socket(Error error, whorl::Socket socket) {
    expect(static_cast<bool>(error) != static_cast<bool>(socket), "an error, or a socket");
    if (!socket) return;
    if (sockets_.size() < sockets_max) {
        add_socket(socket.value(), false);
        return;
    }
    const Call call(*this);
    expect(!loop_->close(socket), "a new socket cannot be closed");
}

void Machine::check(Ticket& ticket, whorl::Connect::Done& done) {
    end_operation(ticket);
    new_socket(done.error, done.socket);
}

void Machine::check(Ticket& ticket, whorl::Accept::Done& done) {
    end_operation(ticket);
    new_socket(done.error, done.socket);
}

void Machine::check(Ticket& ticket, whorl::AcceptStream::Done& done) {
    if (!done.more) end_operation(ticket);
    else expect(loop_->alive(whorl::Operation::from_value(ticket.handle)), "more, and not alive");
    if (done.error || done.socket) new_socket(done.error, done.socket);
    else expect(!done.more, "an event of nothing");
}

void Machine::check(Ticket& ticket, whorl::Recv::Done& done) {
    end_operation(ticket);
    came_back(ticket, done.buffer);
    sockets_[ticket.socket].received += done.buffer.text();
}

void Machine::check(Ticket& ticket, whorl::RecvStream::Done& done) {
    if (!done.more) end_operation(ticket);
    else expect(loop_->alive(whorl::Operation::from_value(ticket.handle)), "more, and not alive");
    if (done.more) expect(!done.error && !done.buffer.empty(), "an event of nothing");
    sockets_[ticket.socket].received += done.buffer.text();
    if (done.buffer && random_.one_in(3) && held_.size() < 40) {
        held_.push_back(std::move(done.buffer));
    }
}

void Machine::sent(Ticket& ticket, std::uint64_t bytes, std::string_view text) {
    end_operation(ticket);
    expect(text.size() == ticket.bytes, "a send changed what it sent");
    expect(bytes <= ticket.bytes, "more was sent than there is");
    sockets_[ticket.socket].sent += text.substr(0, bytes);
}

void Machine::check(Ticket& ticket, whorl::Send::Done& done) {
    came_back(ticket, done.buffer);
    sent(ticket, done.bytes, done.buffer.text());
}

void Machine::check(Ticket& ticket, whorl::SendAll::Done& done) {
    came_back(ticket, done.buffer);
    expect(done.error || done.bytes == ticket.bytes, "neither an error nor all of it");
    sent(ticket, done.bytes, done.buffer.text());
}

void Machine::check(Ticket& ticket, whorl::SendChain::Done& done) {
    expect(done.error || done.bytes == ticket.bytes, "neither an error nor all of it");
    std::string all;
    for (const whorl::Buffer& buffer : done.chain) all += buffer.text();
    sent(ticket, done.bytes, all);
}

void Machine::check(Ticket& ticket, whorl::Shutdown::Done&) { end_operation(ticket); }

void Machine::check(Ticket& ticket, whorl::Nop::Done&) { end_operation(ticket); }

void Machine::fired(std::uint32_t index, const whorl::Expired& expired) {
    Ticket& ticket = tickets_[index];
    begin(ticket);
    const Running running(*this, index);
    expect(ground_.now() >= ticket.not_before, "a timer is early");
    expect(expired.timer.value() == ticket.handle, "another timer's handle");
    if (ticket.interval == whorl::Nanoseconds::zero()) ticket.ended = true;
    ticket.not_before += ticket.interval;
    after_handler();
}

void Machine::watched(std::uint32_t index, const whorl::Watched& event) {
    Ticket& ticket = tickets_[index];
    begin(ticket);
    const Running running(*this, index);
    expect(event.watch.value() == ticket.handle, "another watch's handle");
    if (event.error) {
        expect(ground_.faulty(), "a watched descriptor that is open cannot be watched");
        ticket.ended = true;
        return after_handler();
    }
    expect(event.readable || event.writable || event.priority || event.failed || event.hung_up,
           "an event of nothing");
    after_handler();
}

void Machine::called(std::uint32_t index) {
    Ticket& ticket = tickets_[index];
    begin(ticket);
    const Running running(*this, index);
    if (ticket.kind == Ticket::Kind::close) {
        expect(sockets_[ticket.socket].operations == 0, "the close handler is not the last");
    }
    if (ticket.kind != Ticket::Kind::hook) ticket.ended = true;
    after_handler();
}

}  // namespace fuzz
