// SPDX-License-Identifier: MIT
// Floor: 7
#include "backend/sim_process.hpp"
#include "core/world_state.hpp"

#include <csignal>

// Signals and children of a world.

namespace whorl::testing {

bool World::raise(int number) {
    WHORL_ASSERT(number >= 1 && number <= 64);
    SignalInfo info;
    info.number = number;
    info.code = SI_USER;
    info.pid = 1;
    return detail::processes_of(state_->kernel).raise(info);
}

void World::program(std::string name, const ChildScript& script) {
    WHORL_ASSERT(script.error.value() >= 0);
    detail::SimProgram program;
    program.lifetime = script.lifetime;
    program.status = script.status;
    program.output = script.output;
    program.copies = script.copies;
    program.ignored = script.ignored;
    program.error = script.error.value();
    detail::processes_of(state_->kernel).program(std::move(name), std::move(program));
}

std::uint32_t World::children_alive() const noexcept {
    return detail::processes_of(state_->kernel).children_alive();
}
std::uint32_t World::zombies() const noexcept {
    return detail::processes_of(state_->kernel).zombies();
}

}  // namespace whorl::testing
