// SPDX-License-Identifier: MIT
// Goal: a message in a ring is seen whole, once and in order; a slot is not written while its message is
// being read; closing hides nothing; and who says that he sleeps and finds nothing is woken.
// Method: the real spsc_ring.hpp, both layouts, in every order of its steps (explorer.hpp). What lies in the
// slots is followed as data that is not atomic, so a missing order is a data race. The mutants in mutate.py
// must each be found.
#include "interleave/atomic.hpp"

#include <whorl/spsc_ring.hpp>

#include <cstdio>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace {

using interleave::explorer;

// Slots that have been written to in this execution.
std::vector<const void*> followed;

void touch(const void* at, bool write) {
    if (!interleave::arena_holds(at)) return;
    if (!explorer().known(at)) {
        explorer().location_made(at, 0, nullptr);
        followed.push_back(at);
    }
    explorer().plain_access(at, write);
}

// Told of to the explorer wherever it is read or written.
class Message {
  public:
    explicit Message(std::uint32_t number) noexcept : number_(number) {}
    Message(Message&& other) noexcept : number_(other.number()) { touch(this, true); }
    Message& operator=(Message&&) = delete;
    ~Message() { touch(this, true); }
    std::uint32_t number() const noexcept {
        touch(this, false);
        return number_;
    }

  private:
    std::uint32_t number_;
};

// With a short streak, so that a few messages reach the index.
using Slots = whorl::SpscSlotRing<Message, 2>;
using Indices = whorl::SpscIndexRing<Message>;

void end_followed() {
    for (const void* at : followed) explorer().location_gone(at);
    followed.clear();
}

// One execution: the ring, and what its two threads need to meet at the end. Whoever is the last to let
// go ends it: no event may come at the end that a sleeper could take for the one that it missed.
template <class Ring>
struct Stage {
    explicit Stage(std::uint32_t capacity) {
        followed.clear();
        event = explorer().event_make();
        explorer().check(!ring.reserve(capacity), "reserve");
    }
    ~Stage() { explorer().event_close(event); }

    // The producer: `count` messages, each tried `tries` times.
    void produce(std::uint32_t count, std::uint32_t tries) {
        for (std::uint32_t next = 0; next < count; ++next) {
            bool taken = false;
            for (std::uint32_t go = 0; go < tries && !taken; ++go) {
                Message message(sent);
                taken = ring.try_push(std::move(message));
            }
            if (!taken) break;
            ++sent;
        }
    }
    void produced() {
        done.store(true, std::memory_order_release);
        explorer().event_write(event);
        drop();
    }
    bool take() {
        Message* message = ring.front();
        if (message == nullptr) return false;
        explorer().check(message->number() == got, "out of order, or lost");
        ++got;
        ring.pop();
        return true;
    }
    // Waits for the producer's end and takes the rest.
    void finish() {
        while (!done.exchange(false, std::memory_order_acq_rel)) {
            explorer().event_wait(event, true, true);
        }
        while (take()) {
        }
        explorer().check(got == sent, "a message was lost");
        drop();
    }
    void drop() {
        if (references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
        delete this;
        end_followed();
    }
    void wake_if_asked() {
        if (!asleep.load(std::memory_order_seq_cst)) return;
        if (asleep.exchange(false, std::memory_order_seq_cst)) explorer().event_write(event);
    }

    Ring ring;
    interleave::Atomic<bool> done{false};
    interleave::Atomic<bool> asleep{false};
    interleave::Atomic<std::uint32_t> references{2};
    int event = -1;
    std::uint32_t sent = 0;  // the producer's, and the consumer's after finish()
    std::uint32_t got = 0;
};

template <class Ring>
void run(std::uint32_t capacity, std::uint32_t count, std::uint32_t tries) {
    auto* stage = new (std::nothrow) Stage<Ring>(capacity);
    explorer().spawn([stage, count, tries] {
        stage->produce(count, tries);
        stage->produced();
    });
    for (std::uint32_t look = 0; look < tries + count; ++look) static_cast<void>(stage->take());
    stage->finish();
}

template <class Ring>
void capacity_one() {
    run<Ring>(1, 3, 2);
}
template <class Ring>
void capacity_two() {
    run<Ring>(2, 4, 2);
}

// The consumer ends when it has seen the flag, and then nothing.
template <class Ring>
void closing() {
    auto* stage = new (std::nothrow) Stage<Ring>(2);
    explorer().spawn([stage] {
        stage->produce(2, 1);
        stage->ring.close_producer();
        stage->produced();
    });
    for (std::uint32_t look = 0; look < 4; ++look) {
        const bool closed = stage->ring.producer_closed();
        if (stage->take() || !closed) continue;
        explorer().check(stage->got == 2, "closed before everything was delivered");
        break;
    }
    stage->finish();
}

// The consumer sleeps when it finds nothing.
template <class Ring>
void sleeping() {
    auto* stage = new (std::nothrow) Stage<Ring>(2);
    constexpr std::uint32_t count = 2;
    explorer().spawn([stage] {
        for (std::uint32_t next = 0; next < count; ++next) {
            explorer().check(stage->ring.try_write(Message(next)), "no room");
            stage->ring.publish_ordered();
            stage->wake_if_asked();
        }
        stage->drop();
    });
    while (stage->got < count) {
        if (stage->take()) continue;
        stage->asleep.exchange(true, std::memory_order_seq_cst);
        if (!stage->ring.found_ordered()) {
            explorer().event_wait(stage->event, true, true);
        }
        stage->asleep.store(false, std::memory_order_seq_cst);
    }
    stage->drop();
}

// The producer sleeps when it finds no room.
template <class Ring>
void waiting_for_room() {
    auto* stage = new (std::nothrow) Stage<Ring>(1);
    Ring& ring = stage->ring;
    explorer().check(ring.try_push(Message(0)), "no room");
    explorer().spawn([stage] {
        explorer().check(stage->take(), "not there");
        stage->ring.give_back_ordered();
        stage->wake_if_asked();
        stage->drop();
    });
    Message message(1);
    while (!ring.try_push(std::move(message))) {
        stage->asleep.exchange(true, std::memory_order_seq_cst);
        if (!ring.room_ordered()) explorer().event_wait(stage->event, true, true);
        stage->asleep.store(false, std::memory_order_seq_cst);
    }
    stage->drop();
}

struct Scenario {
    const char* name;
    void (*body)();
};
constexpr Scenario scenarios[] = {
    {"slots_one", capacity_one<Slots>},      {"indices_one", capacity_one<Indices>},
    {"slots_two", capacity_two<Slots>},      {"indices_two", capacity_two<Indices>},
    {"slots_closing", closing<Slots>},       {"indices_closing", closing<Indices>},
    {"slots_sleeping", sleeping<Slots>},     {"indices_sleeping", sleeping<Indices>},
    {"slots_room", waiting_for_room<Slots>}, {"indices_room", waiting_for_room<Indices>}};

}  // namespace

int main(int argc, char** argv) {
    explorer().name_program(argv[0]);
    for (const Scenario& scenario : scenarios) {
        if (argc > 1 && std::strcmp(argv[1], scenario.name) != 0) continue;
        if (argc > 2) explorer().repeat(scenario.name, scenario.body, argv[2]);
        else explorer().explore(scenario.name, scenario.body);
    }
    return 0;
}
