// SPDX-License-Identifier: MIT
#pragma once

#include "backend/sim_choices.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// The program of a differential run, made from the seed before anything runs.

namespace differential {

enum class Act : std::uint8_t {
    send_all,
    send_chain,
    send,      // rough only: how much one takes is the kernel's affair
    recv_all,  // MSG_WAITALL
    recv_stream,
    shutdown,
    cancel,    // rough only
    deadline,  // a receive with one; rough only
    close,     // rough only
    timer,
    timer_cancelled,
    post,
    invalid,
    stale,
    turn,
    wait,
    count
};

struct Step {
    Act act;
    std::uint8_t connection;
    std::uint8_t end;  // 0: the connecting one
    std::uint32_t number;
};

struct Plan {
    std::uint32_t connections;
    std::vector<bool> rough;
    std::vector<Step> steps;
};

inline Plan make_plan(std::uint64_t seed) {
    whorl::detail::SimChoices random(seed * 0x9E3779B97F4A7C15u + 7);
    Plan plan;
    plan.connections = 1 + random.below(3);
    for (std::uint32_t index = 0; index < plan.connections; ++index) {
        plan.rough.push_back(random.below(2) == 1);
    }
    std::vector<int> shut(plan.connections * 2, 0);
    for (std::uint32_t left = 10 + random.below(40); left > 0; --left) {
        Step step{};
        step.connection = static_cast<std::uint8_t>(random.below(plan.connections));
        step.end = static_cast<std::uint8_t>(random.below(2));
        step.act = static_cast<Act>(random.below(static_cast<std::uint32_t>(Act::count)));
        step.number = random.below(4) == 0 ? random.below(30'000) : 1 + random.below(300);
        const bool ends = step.act == Act::cancel || step.act == Act::deadline ||
                          step.act == Act::close || step.act == Act::send;
        if (ends && !plan.rough[step.connection]) continue;
        if (step.act == Act::close && random.below(3) != 0) continue;
        // What is sent after a half-close fails, as it should; once is enough.
        int& done = shut[step.connection * 2u + step.end];
        if (step.act == Act::shutdown && ++done > 1) continue;
        plan.steps.push_back(step);
    }
    return plan;
}

inline std::string text_of(std::uint32_t number, std::size_t size) {
    std::string text(size, '\0');
    std::uint32_t state = number * 2654435761u + 1;
    for (char& letter : text) {
        state = state * 1664525u + 1013904223u;
        letter = static_cast<char>('a' + (state >> 24) % 26);
    }
    return text;
}

}  // namespace differential
