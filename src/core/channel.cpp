// SPDX-License-Identifier: MIT
// Floor: 7
#include <whorl/channel.hpp>

#include "loop/core.hpp"
#include "loop/remote_state.hpp"

// How the ends of a channel tell each other that there is something, or room.
//
// The receiving loop is told by a post of its Remote that lies in the channel itself: nothing is allocated,
// a loop looks only at the channels that have something, however many it has, and whether it sleeps is
// RemoteState's business. The bell says whether that post is under way:
//
//   from     to       when                                                by
//   away     idle     a Receive is submitted                              the loop's thread
//   idle     posted   there is something, and nobody has said so yet      whoever turns it: ring_bell
//   posted   idle     the loop has looked and found no more               the loop's thread: rest
//   idle     away     the Receive has ended                               the loop's thread
//   posted   away     the post came home and nobody receives, or the loop is gone
//
// No message is left lying. The sender publishes and then reads the bell; the loop turns the bell to idle
// and then looks at the ring. All four are seq_cst (spsc_ring.hpp, 4), so the sender sees `idle` and posts,
// or the loop sees the message, or both, and then the compare-and-swap lets one of them post. Closing is
// published in the same way. The sender's cost while the loop works is one store and one load of a line that
// rarely changes; the post is made once for each time that the loop has run out of messages.
//
// Room is told of by the same exchange in the other direction: the sender turns `space` to wanted and then
// looks for room; the loop gives room back and then reads `space`.
//
// Who is home. A post goes to the loop of the first Receive, or of the first AwaitSpace, which is written
// before the bell leaves `away`, or `space` becomes wanted, and never again. A post that finds its loop gone
// comes back at once, as one that the loop's end destroys.
//
// test/interleave runs this file and the ring in every order of their steps.

namespace whorl::detail {

namespace {

void leave_receive(LoopCore&, OpRecord& record) noexcept;
void drop_receive(OpRecord& record) noexcept;
void leave_await(LoopCore&, OpRecord& record) noexcept;

constexpr WaitKind receive_kind{&leave_receive, &drop_receive};
constexpr WaitKind await_kind{&leave_await, &await_finish};

ChannelState& channel_of(OpRecord& record) noexcept {
    return *static_cast<ChannelState*>(record.as<WaitPayload>().object);
}

// Sends a post to its loop, with a reference that comes back with it.
void post_to(RemoteState& home, ChannelPost& post) noexcept {
    post.channel->references.fetch_add(1, std::memory_order_relaxed);
    if (!home.push(&post)) post.run(nullptr, &post);
}

// The reference of a post that has come home.
struct PostHeld {
    ChannelState& channel;
    ~PostHeld() { channel.drop_reference(); }
};

// The operation, if it still waits.
OpRecord* waiting(Loop& loop, std::uint64_t handle) noexcept {
    OpRecord* record = loop.core().operations.find(handle);
    return record != nullptr && record->state == OpState::armed ? record : nullptr;
}

// Fixes a home. Errors: invalid_argument, when it is another already.
Error settle_home(Loop& loop, RemoteState*& home) noexcept {
    LoopCore& core = loop.core();
    if (Error error = core.remote_open()) return error;
    if (home == nullptr) {
        core.remote->references.fetch_add(1, std::memory_order_relaxed);
        home = core.remote;
    }
    return home == core.remote ? Error() : Error::invalid_argument;
}

// --- receiving

// The loop has taken what there was: from here on the sender posts again.
void rest(ChannelState& channel) noexcept {
    channel.bell.exchange(Bell::idle, std::memory_order_seq_cst);
    if (channel.ring_found() || channel.ring_ended()) channel.ring_bell();
}

// After a delivery, also one whose handler threw.
struct Delivered {
    ChannelState& channel;
    Loop& loop;
    ~Delivered() {
        channel.ring_give_back();
        channel.tell_of_space();
        if (waiting(loop, channel.receive) == nullptr) {
            channel.bell.store(Bell::away, std::memory_order_release);
        } else if (channel.ring_empty()) {
            rest(channel);
        } else {
            post_to(*channel.receiver_home, channel.receiver_post);  // for the next turn
        }
    }
};

void deliver(ChannelState& channel, Loop& loop) {
    OpRecord* record = waiting(loop, channel.receive);
    if (record == nullptr) return channel.bell.store(Bell::away, std::memory_order_release);
    const bool ended = channel.ring_ended();  // asked first: nothing found afterwards is the end
    if (!channel.ring_empty()) {
        const Delivered guard{channel, loop};
        Delivery delivery;
        loop.core().deliver_in_place(*record, delivery);
    } else if (ended) {
        channel.bell.store(Bell::away, std::memory_order_release);
        record->state = OpState::ended;
        loop.core().finish(*record, Error::channel_closed, 0);
    } else {
        rest(channel);
    }
}

void receiver_told(Loop* loop, RemotePost* post) {
    ChannelState& channel = *static_cast<ChannelPost*>(post)->channel;
    const PostHeld guard{channel};
    if (loop == nullptr) return channel.bell.store(Bell::away, std::memory_order_release);
    deliver(channel, *loop);
}

void leave_receive(LoopCore&, OpRecord& record) noexcept {
    Bell expected = Bell::idle;
    // A post that is under way finds nobody.
    channel_of(record).bell.compare_exchange_strong(expected, Bell::away, std::memory_order_seq_cst,
                                                    std::memory_order_relaxed);
}

void drop_receive(OpRecord& record) noexcept { channel_of(record).end_receiver(); }

// --- waiting for room

// Says that room is wanted, and looks once more. True: there is some, or there will never be.
bool want_space(ChannelState& channel) noexcept {
    channel.space.exchange(Space::wanted, std::memory_order_seq_cst);
    if (!channel.ring_room() && !channel.ring_refuses()) return false;
    Space expected = Space::wanted;  // or the receiver has seen it, and its post is under way
    return channel.space.compare_exchange_strong(expected, Space::none, std::memory_order_seq_cst,
                                                 std::memory_order_relaxed);
}

void end_await(LoopCore& core, OpRecord& record, ChannelState& channel) noexcept {
    record.state = OpState::ended;
    core.complete_locally(record, channel.ring_refuses() ? Error::channel_closed : Error::ok);
}

void sender_told(Loop* loop, RemotePost* post) {
    ChannelState& channel = *static_cast<ChannelPost*>(post)->channel;
    const PostHeld guard{channel};
    channel.space.store(Space::none, std::memory_order_release);
    OpRecord* record = loop != nullptr ? waiting(*loop, channel.await) : nullptr;
    if (record == nullptr) return;
    // What the receiver told of may be used up by now.
    const bool over = channel.ring_room() || channel.ring_refuses() || want_space(channel);
    if (over) end_await(loop->core(), *record, channel);
}

void leave_await(LoopCore&, OpRecord& record) noexcept {
    Space expected = Space::wanted;
    channel_of(record).space.compare_exchange_strong(
        expected, Space::none, std::memory_order_seq_cst, std::memory_order_relaxed);
}

}  // namespace

ChannelState::ChannelState() noexcept {
    receiver_post.run = &receiver_told;
    sender_post.run = &sender_told;
    receiver_post.channel = sender_post.channel = this;
}

ChannelState::~ChannelState() {
    if (receiver_home != nullptr) receiver_home->drop_reference();
    if (sender_home != nullptr) sender_home->drop_reference();
}

void ChannelState::drop_reference() noexcept {
    if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

void ChannelState::ring_bell() noexcept {
    Bell expected = Bell::idle;
    if (bell.compare_exchange_strong(expected, Bell::posted, std::memory_order_seq_cst,
                                     std::memory_order_relaxed)) {
        post_to(*receiver_home, receiver_post);
    }
}

void ChannelState::tell_of_space() noexcept {
    if (space.load(std::memory_order_seq_cst) != Space::wanted) return;
    Space expected = Space::wanted;
    if (space.compare_exchange_strong(expected, Space::posted, std::memory_order_seq_cst,
                                      std::memory_order_relaxed)) {
        post_to(*sender_home, sender_post);
    }
}

Error receive_open(Loop& loop, OpRecord& record, ChannelState& channel) noexcept {
    if (Error error = settle_home(loop, channel.receiver_home)) return error;
    channel.receive = loop.core().handle_of(record);
    wait_arm(record, {&receive_kind, &channel, nullptr, 0});
    Bell expected = Bell::away;
    // Otherwise a post from an earlier receive is under way, and finds this one.
    if (channel.bell.compare_exchange_strong(expected, Bell::posted, std::memory_order_seq_cst,
                                             std::memory_order_relaxed)) {
        post_to(*channel.receiver_home, channel.receiver_post);  // what is there already
    }
    return {};
}

Error await_open(Loop& loop, OpRecord& record, ChannelState& channel) noexcept {
    if (waiting(loop, channel.await) != nullptr) return Error::invalid_argument;
    if (Error error = settle_home(loop, channel.sender_home)) return error;
    channel.await = loop.core().handle_of(record);
    channel.references.fetch_add(1, std::memory_order_relaxed);
    wait_arm(record, {&await_kind, &channel, nullptr, 0});
    // A post from an earlier wait that is under way looks for this one, too.
    if (channel.space.load(std::memory_order_acquire) == Space::posted) return {};
    if (want_space(channel)) end_await(loop.core(), record, channel);
    return {};
}

void await_finish(OpRecord& record) noexcept { channel_of(record).drop_reference(); }

}  // namespace whorl::detail
