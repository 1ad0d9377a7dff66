// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include "backend/sim_kernel.hpp"

#include <whorl/testing.hpp>

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// What a World holds. The kernel comes first and goes last: all else is in it.

namespace whorl::testing {

// A hand-written end of a connection. It has no descriptor: a test's own peer is not limited by the
// world's, and no call of it fails at random. What happens to its socket is noted, and done in an event.
struct PeerState final : detail::SimWatcher, std::enable_shared_from_this<PeerState> {
    explicit PeerState(detail::SimKernel& world) noexcept : kernel(&world) {}
    ~PeerState() override { leave(); }

    void join(std::shared_ptr<detail::SimSocket> given);
    void leave() noexcept;  // lets the socket go
    void soon();            // pump() in an event
    void pump();
    void pump_connect();
    void pump_in();
    void pump_out();
    void broken(int why) noexcept;
    void apply_script();
    void file_changed(detail::SimFile&, std::uint64_t) override { soon(); }

    detail::SimKernel* kernel;  // null when the world is gone
    std::shared_ptr<detail::SimSocket> socket;
    Address address;
    std::string outbox;
    std::size_t sent = 0;  // of the outbox
    std::string received;
    Error error;
    bool due = false;
    bool connected = false;
    bool ended = false;
    bool reset = false;
    bool over = false;  // by close(), reset() or an error: nothing more is sent
    bool finishing = false;
    bool finished = false;
    bool stalled = false;
    bool scripted = false;
    std::uint64_t script_bytes = 0;
};

// Where peers accept.
struct PeerListener final : detail::SimWatcher, std::enable_shared_from_this<PeerListener> {
    void soon();
    void serve();
    void file_changed(detail::SimFile&, std::uint64_t) override { soon(); }

    detail::SimKernel* kernel = nullptr;
    std::shared_ptr<detail::SimSocket> socket;
    std::deque<std::shared_ptr<PeerState>> waiting;
    bool due = false;
};

struct WorldState {
    explicit WorldState(const SimulationOptions& options)
        : kernel(options), power_loss(options.power_loss) {}

    bool round(const Script<bool()>& done, bool& finished);
    bool run(const Script<bool()>& done, Nanoseconds bound);
    bool idle_at(Instant& next);
    void check_invariants();
    void fail(std::string_view what);
    void spin_guard(bool news);
    Instant next_event() noexcept;
    std::uint64_t progress() const noexcept;
    static void panic_note(void* given) noexcept;

    static constexpr std::uint32_t rounds_max = 1'000'000;    // at one instant
    static constexpr std::uint32_t rounds_idle_max = 10'000;  // of these, without any progress
    static constexpr std::size_t failure_lines_max = 60;

    detail::SimKernel kernel;
    const bool power_loss;  // as it was when the world was made: the disk has journaled since
    Instant epoch{};
    std::vector<std::unique_ptr<Loop>> loops;
    std::vector<std::weak_ptr<PeerState>> peers;
    std::vector<std::shared_ptr<PeerListener>> listeners;
    std::deque<std::pair<std::string, Script<bool()>>> invariants;  // stay where they are
    std::shared_ptr<Script<void(Instant)>> idle;
    Failure failure;
    Instant round_time{};
    std::uint32_t rounds = 0;
    std::uint32_t rounds_idle = 0;
    std::uint64_t steps = 0;
    bool failed = false;
    bool running = false;
};

}  // namespace whorl::testing
