// SPDX-License-Identifier: MIT
// Floor: 7
#include <whorl/mailbox.hpp>

#include "loop/core.hpp"
#include "loop/remote_state.hpp"

// A message lies in a slot of its mailbox and is itself the post that takes it to the loop. So the queue, the
// order of each sender, the bound of a turn, and that a sleeper is woken once and an awake loop never, are the
// Remote's (remote_state.hpp). What is added is the bound: a slot is taken before a message is sent, and given
// back when it has been received or destroyed (free_slots.hpp).
//
// A message that comes when nobody receives waits in a list of the loop's. A receive that finds such ones posts
// `rest`, which delivers them; what comes before they are all delivered joins the list, to keep the order.
//
// Whoever may still touch the state has a reference: each end, each post under way, the operation. Closing is
// a flag for the senders, who would learn it too late otherwise; nothing is decided by it. A message that
// passes it is destroyed where it arrives.

namespace whorl::detail {

namespace {

struct Held {
    MailState& state;
    ~Held() { state.drop_reference(); }
};

MailState& state_of(OpRecord& record) noexcept {
    return *static_cast<MailState*>(record.as<WaitPayload>().object);
}

// It can be received again, or from its Mailbox.
void leave(LoopCore&, OpRecord&) noexcept {}
void drop(OpRecord& record) noexcept { state_of(record).drop_reference(); }

constexpr WaitKind mail_kind{&leave, &drop};

// The operation, if it still waits.
OpRecord* receiving(LoopCore& core, const MailState& state) noexcept {
    OpRecord* record = core.operations.find(state.receive);
    return record != nullptr && record->state == OpState::armed ? record : nullptr;
}

void put(MailState& state, Mail& mail) noexcept {
    mail.next = nullptr;
    if (state.first == nullptr) state.first = &mail;
    else state.last->next = &mail;
    state.last = &mail;
}

// One message. False: there is none, or nobody receives.
bool deliver(MailState& state, LoopCore& core) {
    OpRecord* record = receiving(core, state);
    if (record == nullptr || state.first == nullptr) return false;
    Delivery delivery;
    core.deliver_in_place(*record, delivery);
    return true;
}

void post_rest(MailState& state) noexcept {
    if (state.first == nullptr || state.rest_posted) return;
    state.rest_posted = state.push(state.rest);
}

// What had come earlier, within a turn's bound.
void deliver_rest(Loop* loop, RemotePost* post) {
    MailState& state = *static_cast<Mail*>(post)->state;
    const Held guard{state};
    state.rest_posted = false;
    if (loop == nullptr) return;
    LoopCore& core = loop->core();
    struct Again {  // also when a handler throws
        MailState& state;
        LoopCore& core;
        ~Again() {
            if (receiving(core, state) != nullptr) post_rest(state);
        }
    };
    const Again again{state, core};
    for (std::uint32_t count = core.options.posts_per_turn; count > 0 && !core.stopping; --count) {
        if (!deliver(state, core)) return;
    }
}

void arrived(Loop* loop, RemotePost* post) {
    auto& mail = *static_cast<Mail*>(post);
    MailState& state = *mail.state;
    const Held guard{state};
    if (loop == nullptr || state.closed.load(std::memory_order_relaxed)) {
        return state.destroy_message(mail);
    }
    put(state, mail);
    if (!state.rest_posted) static_cast<void>(deliver(state, loop->core()));
}

}  // namespace

MailState::MailState() noexcept {
    rest.run = &deliver_rest;
    rest.state = this;
}

MailState::~MailState() {
    if (home != nullptr) home->drop_reference();
}

Error MailState::open_on(Loop& loop) noexcept {
    LoopCore& own = loop.core();
    own.check_thread();
    if (Error error = own.remote_open()) return error;
    own.remote->references.fetch_add(1, std::memory_order_relaxed);
    home = own.remote;
    core = &own;
    return {};
}

// With a reference that comes back with the post. It is not the last: the caller has one as well.
bool MailState::push(Mail& mail) noexcept {
    add_reference();
    if (home->push(&mail)) return true;
    references.fetch_sub(1, std::memory_order_relaxed);
    return false;
}

bool MailState::refuses() const noexcept {
    return closed.load(std::memory_order_relaxed) || home->closed();
}

void MailState::drop_reference() noexcept {
    if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

void MailState::close() noexcept {
    closed.store(true, std::memory_order_relaxed);
    while (Mail* mail = take()) destroy_message(*mail);
    if (home == nullptr || home->closed()) return;
    core->check_thread();
    OpRecord* record = receiving(*core, *this);
    if (record == nullptr) return;
    record->state = OpState::ended;
    core->complete_locally(*record, Error::channel_closed);
}

Mail* MailState::take() noexcept {
    Mail* taken = first;
    if (taken != nullptr) first = static_cast<Mail*>(taken->next);
    return taken;
}

void mail_prepare(Mail& mail, MailState& state, std::uint32_t slot) noexcept {
    mail.next = nullptr;
    mail.run = &arrived;
    mail.state = &state;
    mail.slot = slot;
}

Error mail_receive(Loop& loop, OpRecord& record, MailState& state) noexcept {
    LoopCore& core = loop.core();
    // By the home, which is kept: another loop may stand where one was that is gone.
    if (state.home != core.remote || receiving(core, state) != nullptr) {
        return Error::invalid_argument;
    }
    state.add_reference();
    state.receive = core.handle_of(record);
    wait_arm(record, {&mail_kind, &state, nullptr, 0});
    post_rest(state);
    return {};
}

}  // namespace whorl::detail
