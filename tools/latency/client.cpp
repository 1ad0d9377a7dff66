// SPDX-License-Identifier: MIT
// The schedule. In an open loop message k is due at begin + k / rate, on connection k modulo N, whatever
// the server does; what cannot be sent then, because `depth` messages are under way, is held, and its
// latency counts from when it was due. In a closed loop an answer sends the next message.
#include "client.hpp"

namespace latency {

using whorl::Error;
using whorl::Expired;
using whorl::Instant;
using whorl::Loop;
using whorl::Nanoseconds;

Client::Client(Loop& loop, Outcome& outcome, Clock clock)
    : loop_(loop), outcome_(outcome), plan_(outcome.plan), clock_(clock),
      links_(outcome.plan.connections) {
    for (Link& link : links_) link.slots.resize(plan_.depth);
    outcome_.backend = loop.backend_name();
}

Client::~Client() = default;

void Client::begin() {
    phase_ = Phase::running;
    // Everything is armed before the first message is due.
    begin_ = clock_(loop_) + std::chrono::milliseconds(1);
    end_ = begin_ + plan_.warmup + plan_.duration;
    total_ = plan_.total();
    const auto ended = loop_.at(end_, [this](Loop&, const Expired&) {
        // What became due while the loop was away is still to be sent.
        if (!plan_.closed && plan_.target.kind != Kind::timer) issue_due();
        drain(plan_.patience);
    });
    if (!ended) return fail("timer", ended.error());
    if (plan_.target.kind == Kind::udp) {
        const auto tick = loop_.every(std::chrono::milliseconds(50),
                                      [this](Loop&, const Expired&) { expire_lost(); });
        if (!tick) return fail("timer", tick.error());
    }
    if (plan_.target.kind == Kind::timer) {
        for (std::uint32_t index = 0; index < plan_.connections; ++index) arm(index, 0);
        return;
    }
    if (!plan_.closed) return issue_due();
    for (std::uint32_t index = 0; index < plan_.connections; ++index) issue_held(index);
}

// Issues what is due, and waits for what is next.
void Client::issue_due() {
    if (phase_ != Phase::running) return;
    while (next_ < total_) {
        const Instant due = begin_ + plan_.due(next_);
        const Instant now = clock_(loop_);
        if (due > now) break;
        const auto index = static_cast<std::uint32_t>(next_ % plan_.connections);
        Link& link = links_[index];
        ++next_;
        ++link.due;
        ++under_way_;
        if (link.issued + 1 != link.due || !room(link)) continue;  // held
        outcome_.sent_late(measured_at(due), now - due);
        issue(index);
        if (phase_ != Phase::running) return;
    }
    if (next_ == total_) return drain(plan_.patience);
    const auto armed =
        loop_.at(begin_ + plan_.due(next_), [this](Loop&, const Expired&) { issue_due(); });
    if (!armed) fail("timer", armed.error());
}

bool Client::room(const Link& link) const {
    return link.waiting < plan_.depth && !link.slots[link.issued % plan_.depth].waiting;
}

void Client::issue(std::uint32_t index) {
    Link& link = links_[index];
    const std::uint64_t message = link.issued++;
    Slot& slot = link.slots[message % plan_.depth];
    slot.sent = clock_(loop_);
    slot.waiting = true;
    ++link.waiting;
    if (plan_.target.kind == Kind::udp) send_datagram(index, message);
    else if (plan_.target.kind == Kind::file) read_file(index, message);
    else if (plan_.target.kind == Kind::channel) send_number(index, message);
    else if (plan_.target.kind == Kind::http) http_send(index);
    else send(index, message);
}

// Sends what was held, as far as there is room. A closed loop makes what it sends due.
void Client::issue_held(std::uint32_t index) {
    Link& link = links_[index];
    if (plan_.closed && phase_ == Phase::running) {
        while (link.due - link.completed < plan_.depth) {
            ++link.due;
            ++under_way_;
        }
    }
    while (phase_ <= Phase::draining && link.issued < link.due && room(link)) issue(index);
}

bool Client::complete(std::uint32_t index, std::uint64_t message, Instant now, bool refused) {
    Link& link = links_[index];
    Slot& slot = link.slots[message % plan_.depth];
    slot.waiting = false;
    --link.waiting;
    --under_way_;
    ++link.completed;
    const Instant due = plan_.closed ? slot.sent : due_of(index, message);
    if (refused) outcome_.refusal(measured_at(due), now - due);
    else outcome_.answer(measured_at(due), now - due, now - slot.sent);
    return measured_at(due) >= Nanoseconds::zero();
}

// A datagram that was not answered for so long will not be; its place is for the next one.
void Client::expire_lost() {
    if (phase_ == Phase::finished) return;
    const Instant patient = clock_(loop_) - plan_.patience;
    for (std::uint32_t index = 0; index < plan_.connections; ++index) {
        Link& link = links_[index];
        for (; link.expiring < link.issued; ++link.expiring) {
            Slot& slot = link.slots[link.expiring % plan_.depth];
            if (!slot.waiting) continue;
            if (slot.sent > patient) break;
            slot.waiting = false;
            --link.waiting;
            --under_way_;
            ++link.completed;
            const Instant due = plan_.closed ? slot.sent : due_of(index, link.expiring);
            outcome_.lost += measured_at(due) >= Nanoseconds::zero();
        }
        issue_held(index);
    }
    end_if_all_came();
}

void Client::drain(Nanoseconds patience) {
    if (phase_ != Phase::running) return;
    phase_ = Phase::draining;
    total_ = next_;
    // Timers that are yet to come would be waited for.
    if (plan_.target.kind == Kind::timer && outcome_.interrupted) return finish();
    const auto armed = loop_.after(patience, [this](Loop&, const Expired&) { finish(); });
    if (!armed) return fail("timer", armed.error());
    end_if_all_came();
}

void Client::end_if_all_came() {
    if (phase_ == Phase::draining && under_way_ == 0) finish();
}

void Client::interrupt() {
    outcome_.interrupted = true;
    if (phase_ == Phase::running) {
        const Nanoseconds measured = measured_at(clock_(loop_));
        outcome_.measured = std::max(Nanoseconds::zero(), std::min(measured, plan_.duration));
        return drain(plan_.patience);
    }
    if (phase_ == Phase::connecting) outcome_.measured = Nanoseconds::zero();
    finish();
}

void Client::finish() {
    if (phase_ == Phase::finished) return;
    if (phase_ == Phase::running || phase_ == Phase::draining) finish_unanswered(clock_(loop_));
    phase_ = Phase::finished;
    close_links();
}

// What was due and has no answer counts with the time that it has waited: leaving it out would hide the
// longest latencies.
void Client::finish_unanswered(Instant now) {
    for (std::uint32_t index = 0; index < plan_.connections; ++index) {
        const Link& link = links_[index];
        const bool datagrams = plan_.target.kind == Kind::udp;
        // Those before are answered: their slots have been used again.
        std::uint64_t message = link.issued - std::min<std::uint64_t>(link.issued, plan_.depth);
        for (; message < std::max(link.due, link.issued); ++message) {
            const bool was_sent = message < link.issued;
            const Slot& slot = link.slots[message % plan_.depth];
            if (was_sent && !slot.waiting) continue;
            if (plan_.closed && !was_sent) continue;
            const Instant due = plan_.closed ? slot.sent : due_of(index, message);
            if (due > now) continue;  // a timer of a run that was interrupted
            if (datagrams) outcome_.lost += measured_at(due) >= Nanoseconds::zero();
            else
                outcome_.unanswered_message(measured_at(due), now - due, was_sent, now - slot.sent);
        }
    }
}

void Client::fail(const std::string& what, Error error) {
    if (phase_ == Phase::finished) return;
    outcome_.failure = error ? what + ": " + error.text() : what;
    if (phase_ == Phase::running) {
        const Nanoseconds measured = measured_at(clock_(loop_));
        outcome_.measured = std::max(Nanoseconds::zero(), std::min(measured, plan_.duration));
    }
    finish();
}

}  // namespace latency
