// SPDX-License-Identifier: MIT
// Goal: no number has two holders, none is lost, and what a holder did is seen by the next one. Method: the
// real free_slots.hpp in every order of its steps (explorer.hpp); what the holders touch is followed as data
// that is not atomic, so two holders, or a missing order, are a data race. Without the count of takes in
// FreeSlots::take, two_slots finds two holders.
#include "interleave/atomic.hpp"

#include <whorl/free_slots.hpp>

#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

namespace {

using interleave::explorer;
using whorl::detail::FreeSlots;

constexpr std::uint32_t slots_most = 2;

// One execution. Whoever is the last to let go looks whether all numbers are there, and ends it.
struct Stage {
    Stage(std::uint32_t slots, std::uint32_t threads) : count(slots), references(threads) {
        explorer().check(!free.reserve(slots), "reserve");
    }

    std::uint32_t take() {
        const std::uint32_t number = free.take();
        if (number == FreeSlots::none) return number;
        explorer().check(number < count, "no such number");
        explorer().check(!held[number].read(), "two have the same number");
        held[number].write(true);
        return number;
    }
    void give(std::uint32_t number) {
        if (number == FreeSlots::none) return;
        held[number].write(false);
        free.give(number);
    }
    void drop() {
        if (references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
        for (std::uint32_t left = count; left > 0; --left) {
            explorer().check(take() != FreeSlots::none, "a number was lost");
        }
        explorer().check(free.take() == FreeSlots::none, "a number is there twice");
        delete this;
    }

    FreeSlots free;
    std::uint32_t count;
    interleave::Plain<bool> held[slots_most];
    interleave::Atomic<std::uint32_t> references;
};

// Holds one at a time.
void hold_one(Stage& stage, int times) {
    for (int time = 0; time < times; ++time) stage.give(stage.take());
    stage.drop();
}

void one_slot() {
    auto* stage = new (std::nothrow) Stage(1, 2);
    explorer().spawn([stage] { hold_one(*stage, 2); });
    hold_one(*stage, 2);
}

// Takes two and gives the first back, before the other's eyes.
void two_slots() {
    auto* stage = new (std::nothrow) Stage(2, 2);
    explorer().spawn([stage] {
        const std::uint32_t first = stage->take();
        const std::uint32_t second = stage->take();
        stage->give(first);
        stage->give(second);
        stage->drop();
    });
    const std::uint32_t first = stage->take();
    const std::uint32_t second = stage->take();
    stage->give(first);
    stage->give(second);
    stage->drop();
}

struct Scenario {
    const char* name;
    void (*body)();
};
constexpr Scenario scenarios[] = {{"one_slot", one_slot}, {"two_slots", two_slots}};

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
