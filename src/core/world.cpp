// SPDX-License-Identifier: MIT
// Floor: 7
#include "backend/sim_disk.hpp"
#include "core/world_state.hpp"

#include "loop/core.hpp"

#include <whorl/assert.hpp>

#include <algorithm>

// The world's loops, in turns, and its clock.

namespace whorl::testing {

namespace {

// The world runs: an assertion that fails meanwhile names the seed.
class Running {
  public:
    explicit Running(WorldState& state) : state_(state) {
        if (state.running) detail::panic("a world was run from inside one of its own handlers");
        state.running = true;
        before_ = detail::panic_note_set({&WorldState::panic_note, &state});
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
        state_.running = false;
        detail::panic_note_set(before_);
    }

  private:
    WorldState& state_;
    detail::PanicNote before_;
};

}  // namespace

World::World(const SimulationOptions& options) : World(options, nullptr) {}
World::World(std::uint64_t seed) : World(SimulationOptions::harsh(seed), nullptr) {}

World::World(const SimulationOptions& options, const std::vector<std::uint32_t>* tape)
    : state_(std::make_unique<WorldState>(options)) {
    state_->epoch = state_->kernel.clock();
    // From now on: the caller's own calls on a loop may fail an assertion as well.
    detail::panic_note_set({&WorldState::panic_note, state_.get()});
    if (tape != nullptr) state_->kernel.choices.replay(*tape);
}

World::~World() {
    const detail::PanicNote before = detail::panic_note_set({});
    // Another world, made later, may live on.
    if (before.context != state_.get()) detail::panic_note_set(before);
    const Running running(*state_);
    state_->loops.clear();
    // Loops that the caller owns must be gone by now; see make_loop().
    if (state_->kernel.drivers != 0) {
        detail::panic("a world was destroyed before %u of its loops", state_->kernel.drivers);
    }
    for (const std::shared_ptr<PeerListener>& listener : state_->listeners) {
        listener->socket->unwatch(*listener, 0);
    }
    for (const std::weak_ptr<PeerState>& weak : state_->peers) {
        const std::shared_ptr<PeerState> peer = weak.lock();
        if (peer == nullptr) continue;
        peer->leave();
        peer->kernel = nullptr;
    }
}

// --- loops

Result<Loop> World::make_loop(LoopOptions options) {
    if (options.backend != Backend::io_uring) options.backend = Backend::simulator;
    options.world = &state_->kernel;
    return Loop::create(options);
}

Loop& World::add_loop(const LoopOptions& options) {
    Result<Loop> made = make_loop(options);
    if (!made) detail::panic("World::add_loop: %s", made.error().text());
    state_->loops.push_back(std::make_unique<Loop>(std::move(made).value()));
    return *state_->loops.back();
}

void World::remove_loop(Loop& loop) {
    const auto same = [&loop](const std::unique_ptr<Loop>& owned) { return owned.get() == &loop; };
    const auto found = std::find_if(state_->loops.begin(), state_->loops.end(), same);
    WHORL_ASSERT(found != state_->loops.end());
    const std::unique_ptr<Loop> last = std::move(*found);
    state_->loops.erase(found);
}

// --- running

// What loops and kernel have done so far. Handlers are left out: hooks run in every turn.
std::uint64_t WorldState::progress() const noexcept {
    std::uint64_t sum = kernel.counters.events;
    for (const std::unique_ptr<Loop>& loop : loops) {
        const Statistics& done = loop->core().statistics;
        sum += done.completions + done.submissions + done.timers_fired + done.posts_run +
               done.remote_posts_run + done.cancels;
    }
    return sum;
}

// One turn of every loop. Whether anything came of it.
bool WorldState::round(const Script<bool()>& done, bool& finished) {
    const std::uint64_t before = progress();
    kernel.settle();
    // A handler may add and remove loops: those of the beginning that are still there get their turn.
    std::vector<Loop*> order;
    for (const std::unique_ptr<Loop>& loop : loops) order.push_back(loop.get());
    for (std::size_t index = 0; index < order.size(); ++index) {
        const auto left = static_cast<std::uint32_t>(order.size() - index);
        std::swap(order[index], order[index + kernel.choices.below(left)]);
        Loop* next = order[index];
        const auto same = [next](const std::unique_ptr<Loop>& loop) { return loop.get() == next; };
        if (std::none_of(loops.begin(), loops.end(), same)) continue;
        ++steps;
        const Error error = next->poll();
        if (error) fail(std::string("a loop's backend failed: ") + error.text());
        check_invariants();
        if (failed || done()) {
            finished = true;
            return true;
        }
    }
    const bool news = progress() != before;
    spin_guard(news);
    return news;
}

// A loop that finds something to do for ever at one instant would spin on a real machine.
void WorldState::spin_guard(bool news) {
    if (kernel.clock() != round_time) {
        round_time = kernel.clock();
        rounds = rounds_idle = 0;
    }
    ++rounds;
    if (!news) ++rounds_idle;
    if (rounds_idle > rounds_idle_max) fail("a loop spins: it has work at once, and does nothing");
    if (rounds > rounds_max) fail("the world spins: there is no end of work at this instant");
}

Instant WorldState::next_event() noexcept {
    Instant next = kernel.next_event();
    for (const std::unique_ptr<Loop>& loop : loops) {
        next = std::min(next, loop->core().next_deadline());
    }
    return next;
}

// Nothing can be done at this instant; asks who wants to hear of it. Sets when something can.
bool WorldState::idle_at(Instant& next) {
    next = next_event();
    if (next <= kernel.clock()) return false;
    if (idle == nullptr) return true;
    const auto called = idle;  // it may clear or replace itself
    (*called)(next);
    check_invariants();
    next = next_event();
    return next > kernel.clock();
}

bool WorldState::run(const Script<bool()>& done, Nanoseconds bound) {
    const Running guard(*this);
    const Instant deadline = add_saturating(kernel.clock(), bound);
    while (!failed) {
        if (done()) return true;
        // With time_per_call the clock goes on while there is work.
        if (kernel.clock() > deadline) return false;
        bool finished = false;
        if (round(done, finished)) {
            if (finished && !failed) return true;
            continue;
        }
        Instant next{};
        if (!idle_at(next)) continue;
        if (next == instant_never && deadline == instant_never) return done();
        if (next > deadline) {
            // Nothing more happens before the bound; with nothing at all to come, time need not pass.
            if (next != instant_never) kernel.advance_to(deadline);
            return done() && !failed;
        }
        kernel.advance_to(next);
        check_invariants();
    }
    return false;
}

bool World::run(Script<bool()> done, Nanoseconds bound) { return state_->run(done, bound); }

bool World::run_idle(Nanoseconds bound) {
    const Script<bool()> never = [] { return false; };
    const Instant deadline = add_saturating(now(), bound);
    static_cast<void>(state_->run(never, bound));
    return !failed() && (now() < deadline || next_event() == instant_never);
}

void World::advance(Nanoseconds time) { advance_to(add_saturating(now(), time)); }

void World::advance_to(Instant when) {
    const Script<bool()> never = [] { return false; };
    static_cast<void>(state_->run(never, when > now() ? when - now() : Nanoseconds::zero()));
    if (!failed() && now() < when && when != instant_never) state_->kernel.advance_to(when);
}

// --- time

Instant World::now() const noexcept { return state_->kernel.clock(); }
Instant World::epoch() const noexcept { return state_->epoch; }
Instant World::next_event() noexcept { return state_->next_event(); }

std::size_t World::pending() const noexcept {
    std::size_t count = state_->kernel.event_count();
    for (const std::unique_ptr<Loop>& loop : state_->loops) {
        detail::LoopCore& core = loop->core();
        count += static_cast<std::size_t>(core.wheel.size());
        for (std::uint32_t index = core.unfiled.head; index != 0;
             index = core.operations.at(index).link) {
            if (!TimerWheel::is_linked(core.operations.at(index).as<TimerNode>())) ++count;
        }
    }
    return count;
}

void World::on_idle(Script<void(Instant next)> idle) {
    state_->idle = idle ? std::make_shared<Script<void(Instant)>>(std::move(idle)) : nullptr;
}
void World::clear_on_idle() noexcept { state_->idle = nullptr; }
bool World::has_on_idle() const noexcept { return state_->idle != nullptr; }

// --- scripts and faults

std::uint64_t World::at(Instant when, Script<void()> script) {
    return state_->kernel.at(when, std::move(script));
}
std::uint64_t World::after(Nanoseconds delay, Script<void()> script) {
    return at(add_saturating(now(), delay), std::move(script));
}
void World::cancel_script(std::uint64_t number) noexcept { state_->kernel.cancel_event(number); }

void World::lose_power() {
    if (!state_->power_loss) {
        detail::panic(
            "World::lose_power: set SimulationOptions::power_loss when the world is made");
    }
    state_->loops.clear();
    if (state_->kernel.drivers != 0) {
        detail::panic("World::lose_power: %u loops of make_loop() still exist",
                      state_->kernel.drivers);
    }
    if (state_->kernel.disk != nullptr) state_->kernel.disk->crash(state_->kernel.choices);
}

SimulationOptions& World::options() noexcept { return state_->kernel.options(); }
void World::partition() { state_->kernel.partition(); }
void World::heal() { state_->kernel.heal(); }
void World::name(std::string_view host, const std::vector<Address>& addresses, Nanoseconds delay) {
    detail::SimHost::Name name;
    for (const Address& address : addresses) {
        detail::FoundAddress found;
        std::memcpy(found.bytes, address.data(), address.length());
        found.length = address.length();
        name.addresses.push_back(found);
    }
    name.delay_ns = delay.count();
    state_->kernel.host_calls().set_name(host, std::move(name));
}
void World::name_fails(std::string_view host, Error error, Nanoseconds delay) {
    state_->kernel.host_calls().set_name(host, {{}, -error.value(), delay.count()});
}
void World::set_wall_clock(Nanoseconds since_1970) {
    state_->kernel.host_calls().set_wall_clock(since_1970.count());
}
void World::descriptors_spare(std::uint32_t spare) noexcept {
    // Numbers are given out lowest first, so the limit is a number, as RLIMIT_NOFILE is.
    std::uint32_t lowest = 3;
    const std::uint32_t end = state_->kernel.options().descriptors_max;
    for (std::uint32_t found = 0; lowest < end; ++lowest) {
        if (state_->kernel.file(static_cast<int>(lowest)) == nullptr && found++ == spare) break;
    }
    state_->kernel.descriptors_max = lowest;
}
void World::descriptors_unlimited() noexcept { state_->kernel.descriptors_max = UINT32_MAX; }
std::uint32_t World::draw(std::uint32_t bound) {
    WHORL_ASSERT(bound != 0);
    return state_->kernel.choices.below(bound);
}

// --- what must hold

void World::invariant(std::string name, Script<bool()> holds) {
    state_->invariants.emplace_back(std::move(name), std::move(holds));
}

void WorldState::check_invariants() {
    // One may add others.
    for (std::size_t index = 0; index < invariants.size() && !failed; ++index) {
        const auto& [name, holds] = invariants[index];
        if (!holds()) fail("invariant: " + name);
    }
}

void WorldState::fail(std::string_view what) {
    if (failed) return;
    failed = true;
    kernel.note(what);
    failure.what = std::string(what);
    failure.seed = kernel.options().seed;
    failure.time = kernel.clock();
    failure.trace = kernel.trace_lines(failure_lines_max);
}

void World::fail(std::string_view what) { state_->fail(what); }
bool World::failed() const noexcept { return state_->failed; }
const Failure& World::failure() const noexcept { return state_->failure; }

std::string Failure::text() const {
    std::string text;
    for (const std::string& line : trace) text += "  " + line + '\n';
    text += what + "\n  at " + std::to_string(time.time_since_epoch().count()) + " ns, seed " +
            std::to_string(seed) + "; to see it again: WHORL_SEED=" + std::to_string(seed) + '\n';
    return text;
}

void WorldState::panic_note(void* given) noexcept {
    const auto& state = *static_cast<WorldState*>(given);
    const auto seed = static_cast<unsigned long long>(state.kernel.options().seed);
    for (const std::string& line : state.kernel.trace_lines(20)) {
        std::fprintf(stderr, "  %s\n", line.c_str());
    }
    std::fprintf(stderr,
                 "whorl: in a simulated world, seed %llu; to see it again: WHORL_SEED=%llu\n", seed,
                 seed);
}

// --- what happened

std::uint64_t World::seed() const noexcept { return state_->kernel.options().seed; }
std::uint64_t World::events() const noexcept { return state_->kernel.counters.events; }
std::uint64_t World::faults() const noexcept { return state_->kernel.counters.faults; }
std::uint64_t World::steps() const noexcept { return state_->steps; }
std::uint32_t World::descriptors() const noexcept {
    return static_cast<std::uint32_t>(state_->kernel.open_descriptors().size());
}
void World::note(std::string_view line) { state_->kernel.note(line); }
std::uint64_t World::trace_hash() const noexcept { return state_->kernel.trace_hash(); }
std::vector<std::string> World::trace(std::size_t lines_max) const {
    return state_->kernel.trace_lines(lines_max);
}
void World::trace_to(std::FILE* stream) noexcept { state_->kernel.trace_to(stream); }

}  // namespace whorl::testing
