// SPDX-License-Identifier: MIT
#include "fuzz/machine.hpp"

#include <sys/socket.h>

#include <algorithm>

// The instructions on operations by handle, timers, posts, watches and hooks.

namespace fuzz {

using whorl::Cancelled;
using whorl::Error;
using whorl::Nanoseconds;
using whorl::Result;

void Machine::cancel_operation() {
    std::uint32_t index = 0;
    if (!any_ticket(Ticket::Kind::operation, index)) return;
    const Ticket& ticket = tickets_[index];
    const Call call(*this);
    const Cancelled answer = loop_->cancel(whorl::Operation::from_value(ticket.handle));
    if (ticket.ended) expect(answer == Cancelled::not_found, "an ended operation was found");
    else expect(answer != Cancelled::not_found, "a live operation was not found");
}

// A number that is no handle, or a handle of another kind, or one that has ended.
void Machine::invent_handle() {
    std::uint64_t value = random_.next();
    if (!tickets_.empty() && random_.one_in(2)) {
        value = tickets_[random_.below(tickets_.size())].handle;
        if (random_.one_in(2)) value ^= std::uint64_t{1} << random_.below(64);
    }
    const auto alive = [&](Ticket::Kind kind) {
        return std::any_of(tickets_.begin(), tickets_.end(), [&](const Ticket& ticket) {
            return ticket.kind == kind && !ticket.ended && ticket.handle == value;
        });
    };
    const Call call(*this);
    if (!alive(Ticket::Kind::operation) && !alive(Ticket::Kind::hook)) {
        expect(loop_->cancel(whorl::Operation::from_value(value)) == Cancelled::not_found,
               "an invented operation was found");
    }
    if (!alive(Ticket::Kind::timer)) {
        expect(!loop_->cancel(whorl::Timer::from_value(value)), "an invented timer was found");
        expect(loop_->move(whorl::Timer::from_value(value), Nanoseconds(1)) == Error::stale_handle,
               "an invented timer was moved");
    }
    if (!alive(Ticket::Kind::watch)) {
        expect(!loop_->cancel(whorl::Watch::from_value(value)), "an invented watch was found");
    }
    for (const Socket& socket : sockets_) {
        if (!socket.closed && socket.handle == value) return;
    }
    for (const Ticket& ticket : tickets_) {
        if (ticket.connects && !ticket.ended) return;  // has a socket that nobody was told of
    }
    expect(loop_->close(whorl::Socket::from_value(value)) == Error::stale_handle,
           "an invented socket was closed");
}

// --- timers

void Machine::arm() {
    const std::uint32_t index = ticket(Ticket::Kind::timer);
    Ticket& ticket = tickets_[index];
    const std::uint64_t code = random_.below(8);
    const Nanoseconds delay(static_cast<std::int64_t>(random_.below(0x1'0000)) * (code & 3));
    TimerHandler handler{Token(this, index)};
    const whorl::Instant now = ground_.now();
    Result<whorl::Timer> timer = Error(Error::stale_handle);
    ticket.not_before = now + delay;
    {
        const Call call(*this);
        if (code < 4) {
            timer = loop_->after(delay, std::move(handler));
        } else if (code == 4) {
            timer = loop_->at(now + delay, std::move(handler));
        } else {
            ticket.interval = delay + Nanoseconds(1'000);
            ticket.not_before = now + ticket.interval;
            timer = loop_->every(ticket.interval, static_cast<whorl::Missed>(code - 5),
                                 std::move(handler));
        }
    }
    expect(handler.token.moved_from() == timer.has_value(), "a timer and its handler");
    if (timer) {
        expect(!draining_, "a timer while draining");
        ticket.handle = timer->value();
        return;
    }
    expect(draining_ || timer.error() == Error::slots_exhausted, "a timer refused for no reason");
    ticket.ended = true;
}

void Machine::cancel_timer() {
    std::uint32_t index = 0;
    if (!any_ticket(Ticket::Kind::timer, index)) return;
    Ticket& ticket = tickets_[index];
    const Call call(*this);
    const bool cancelled = loop_->cancel(whorl::Timer::from_value(ticket.handle));
    // drain() takes timers away without a word.
    expect(cancelled ? !ticket.ended : ticket.ended || ticket.handler_gone, "cancel(timer)");
    ticket.ended = true;
    expect(ticket.handler_gone || ticket.running, "a cancelled timer keeps its handler");
}

void Machine::move_timer() {
    std::uint32_t index = 0;
    if (!any_ticket(Ticket::Kind::timer, index)) return;
    Ticket& ticket = tickets_[index];
    const Nanoseconds delay(static_cast<std::int64_t>(random_.below(0x1'0000)));
    const whorl::Instant not_before = ground_.now() + delay;
    const Call call(*this);
    const Error error = loop_->move(whorl::Timer::from_value(ticket.handle), delay);
    if (!error) {
        expect(!ticket.ended, "a timer that has ended was moved");
        ticket.not_before = not_before;
        return;
    }
    expect(error == Error::stale_handle && (ticket.ended || ticket.handler_gone), "move(timer)");
}

// --- posts

void Machine::post(bool remote) {
    if (remote && !remote_) return;
    const std::uint32_t index = ticket(Ticket::Kind::post);
    PlainHandler handler{Token(this, index)};
    const Call call(*this);
    if (remote) {
        expect(remote_->post(std::move(handler)), "a post to a loop that is there");
        return;
    }
    const Error error = loop_->post(std::move(handler));
    expect(handler.token.moved_from() == !error, "a post and its handler");
    if (!error) return;
    tickets_[index].ended = true;
    const bool full = error == Error::queue_full && loop_options_.posts_max < 1000;
    expect(full || (draining_ && error == Error::loop_closed), "a post refused for no reason");
}

// --- watches

void Machine::watch() {
    if (pairs_.size() < 4) {
        int ends[2] = {-1, -1};
        const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
        expect(ground_.socket_pair(type, ends), "socketpair");
        pairs_.push_back({ends[0], ends[1]});
    }
    const Pair& pair = pairs_[random_.below(pairs_.size())];
    const std::uint32_t index = ticket(Ticket::Kind::watch);
    WatchHandler handler{Token(this, index)};
    const Call call(*this);
    const Result<whorl::Watch> watch = loop_->watch(
        pair.watched, static_cast<whorl::Interest>(random_.below(8)), std::move(handler));
    expect(handler.token.moved_from() == watch.has_value(), "a watch and its handler");
    if (watch) {
        expect(!draining_, "a watch while draining");
        tickets_[index].handle = watch->value();
        return;
    }
    expect(draining_ || watch.error() == Error::slots_exhausted, "a watch refused for no reason");
    tickets_[index].ended = true;
}

void Machine::change_watch() {
    std::uint32_t index = 0;
    if (!any_ticket(Ticket::Kind::watch, index)) return;
    Ticket& ticket = tickets_[index];
    const auto handle = whorl::Watch::from_value(ticket.handle);
    const bool gone = ticket.ended || ticket.handler_gone;
    const Call call(*this);
    if (random_.one_in(2)) {
        const Error error = loop_->modify(handle, static_cast<whorl::Interest>(random_.below(8)));
        expect(error == (gone ? Error(Error::stale_handle) : Error()), "modify(watch)");
        return;
    }
    expect(loop_->cancel(handle) == !gone, "cancel(watch)");
    ticket.ended = true;
    expect(ticket.handler_gone || ticket.running, "a cancelled watch keeps its handler");
}

void Machine::poke_pair() {
    if (pairs_.empty()) return;
    Pair& pair = pairs_[random_.below(pairs_.size())];
    char bytes[64] = {};
    switch (random_.below(4)) {
        case 0:
            ground_.send(pair.other, bytes, sizeof bytes);
            break;
        case 1:
            ground_.receive(pair.watched, bytes, sizeof bytes);
            break;
        case 2:
            ground_.send(pair.watched, bytes, sizeof bytes);
            break;
        default:
            ground_.shut_down(pair.other);
            break;
    }
}

// --- hooks

void Machine::hook() {
    const std::uint32_t index = ticket(Ticket::Kind::hook);
    PlainHandler handler{Token(this, index)};
    const auto point =
        random_.one_in(2) ? whorl::HookPoint::before_wait : whorl::HookPoint::after_wait;
    const Call call(*this);
    const Result<whorl::Operation> hook = loop_->hook(point, std::move(handler));
    expect(handler.token.moved_from() == hook.has_value(), "a hook and its handler");
    if (hook) {
        tickets_[index].handle = hook->value();
        return;
    }
    expect(draining_ || hook.error() == Error::slots_exhausted, "a hook refused for no reason");
    tickets_[index].ended = true;
}

void Machine::cancel_hook() {
    std::uint32_t index = 0;
    if (!any_ticket(Ticket::Kind::hook, index)) return;
    Ticket& ticket = tickets_[index];
    const Call call(*this);
    const Cancelled answer = loop_->cancel(whorl::Operation::from_value(ticket.handle));
    expect((answer == Cancelled::not_found) == ticket.ended, "cancel(hook)");
    ticket.ended = true;
    expect(ticket.handler_gone || ticket.running, "a cancelled hook keeps its handler");
}

}  // namespace fuzz
