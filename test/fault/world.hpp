// SPDX-License-Identifier: MIT
#pragma once

#include "fault/syscall_faults.hpp"

#include <whorl/whorl.hpp>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

// The world of one run of a scenario: a loop, and the books about everything that was asked of it. A
// scenario submits through it, says finish() when all was as it should be, and gives up at the first
// error; then drain() ends the rest. The books must balance: every operation ended once, with its own
// buffer.

namespace fault {

enum class Kind { io_uring, io_uring_plain, libev, automatic };
const char* kind_name(Kind kind) noexcept;
whorl::LoopOptions options_of(Kind kind) noexcept;
// A loopback address of this process, port 0. A sweep makes a connection in each of thousands of runs, and
// their ends keep ports for a minute: of this address, not of the one that other tests use.
whorl::Address own_address() noexcept;

// Faults of the test itself, which must be found.
enum class Canary { none, leak_descriptor, leak_memory, swallow, lose_completion, hang };

template <class Done, class = void>
struct HasBuffer : std::false_type {};
template <class Done>
struct HasBuffer<Done, std::void_t<decltype(std::declval<Done>().buffer)>> : std::true_type {};
template <class Done, class = void>
struct HasMore : std::false_type {};
template <class Done>
struct HasMore<Done, std::void_t<decltype(std::declval<Done>().more)>> : std::true_type {};

class World {
  public:
    static constexpr int tickets_max = 256;
    static constexpr int errors_max = 16;
    static constexpr int turns_max = 20'000;

    World(Kind kind, Canary canary) noexcept : kind_(kind), canary_(canary) {}
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    // Makes the loop. False (and noted) when it was refused.
    bool open() noexcept;
    whorl::Loop& loop() noexcept { return *loop_; }
    Kind kind() const noexcept { return kind_; }
    bool on_libev() const noexcept {
        return loop_ && loop_->backend_report().chosen == whorl::Backend::libev;
    }

    // Submits `op`. `handler(done)` is called until the scenario is over. False when it was refused:
    // noted, and the scenario has given up.
    template <class Op, class Handler>
    bool submit(Op op, Handler handler) noexcept {
        return static_cast<bool>(submit(std::move(op), whorl::SubmitOptions(), std::move(handler)));
    }
    template <class Op, class Handler>
    whorl::Operation submit(Op op, const whorl::SubmitOptions& options, Handler handler) noexcept;

    // Notes an error and gives up; true when there is one.
    bool failed(const char* where, whorl::Error error) noexcept;
    // Notes an error that the scenario goes on after.
    void note(const char* where, whorl::Error error) noexcept;
    // Something that must never be: a fault of the library, whatever was injected.
    void wrong(const char* what) noexcept;
    void check(bool holds, const char* what) noexcept {
        if (!holds) wrong(what);
    }
    // Everything was as it should be.
    void finish() noexcept;
    bool over() const noexcept { return over_; }
    bool finished() const noexcept { return finished_; }

    // Runs the loop until the scenario is over or nothing is left.
    void run() noexcept;
    // The loop is to be destroyed as it is, with everything pending.
    void leave_pending() noexcept { leaves_pending_ = true; }
    bool leaves_pending() const noexcept { return leaves_pending_; }

    // --- for the sweep
    void drain() noexcept;
    void echo_again() noexcept;
    void destroy() noexcept;
    void settle() noexcept;  // after destroy(): the books
    const char* complaint() const noexcept { return complaint_[0] != 0 ? complaint_ : nullptr; }
    int errors_count() const noexcept { return errors_count_; }
    whorl::Error error(int index) const noexcept { return errors_[index].error; }
    const char* where(int index) const noexcept { return errors_[index].where; }

  private:
    struct Ticket {
        const void* buffer;  // that was handed in
        bool open;
    };
    // Lives in the handler, so that it knows when that is destroyed uncalled.
    class Claim {
      public:
        Claim(World& world, int ticket) noexcept : world_(&world), ticket_(ticket) {}
        Claim(Claim&& other) noexcept
            : world_(std::exchange(other.world_, nullptr)), ticket_(other.ticket_) {}
        Claim& operator=(Claim&&) = delete;
        ~Claim() {
            if (world_ != nullptr) world_->dropped(ticket_);
        }
        World& world() const noexcept { return *world_; }
        int ticket() const noexcept { return ticket_; }
        void disarm() noexcept { world_ = nullptr; }

      private:
        World* world_;
        int ticket_;
    };
    template <class Handler>
    struct Tracked {
        Claim claim;
        Handler handler;
        template <class Done>
        void operator()(whorl::Loop&, Done done) {
            World& world = claim.world();
            bool more = false;
            if constexpr (HasMore<Done>::value) more = done.more;
            const void* home = nullptr;
            if constexpr (HasBuffer<Done>::value && !HasMore<Done>::value)
                home = done.buffer.data();
            if (!world.arrived(claim.ticket(), more, home)) return;
            if (!more) claim.disarm();
            if (!world.over()) handler(std::move(done));
        }
    };

    int ticket_new(const void* buffer) noexcept;
    bool arrived(int ticket, bool more, const void* buffer) noexcept;
    void dropped(int ticket) noexcept;

    Kind kind_;
    Canary canary_;
    std::optional<whorl::Loop> loop_;
    Ticket tickets_[tickets_max] = {};
    int tickets_count_ = 0;
    struct Note {
        const char* where;
        whorl::Error error;
    };
    Note errors_[errors_max] = {};
    int errors_count_ = 0;
    int turns_ = 0;
    bool over_ = false;
    bool finished_ = false;
    bool drained_ = false;
    bool leaves_pending_ = false;
    char complaint_[200] = {};
};

template <class Op, class Handler>
whorl::Operation World::submit(Op op, const whorl::SubmitOptions& options,
                               Handler handler) noexcept {
    const void* buffer = nullptr;
    if constexpr (HasBuffer<Op>::value) buffer = op.buffer.data();
    const int ticket = ticket_new(buffer);
    Tracked<Handler> tracked{Claim(*this, ticket), std::move(handler)};
    const whorl::Result<whorl::Operation> made =
        loop_->submit(std::move(op), options, std::move(tracked));
    if (made) return *made;
    tracked.claim.disarm();  // NOLINT(bugprone-use-after-move): a refusal has moved nothing
    tickets_[ticket].open = false;
    if constexpr (HasBuffer<Op>::value) {
        check(op.buffer.data() == buffer, "a refused submission took its buffer");  // NOLINT
    }
    static_cast<void>(failed("submit", made.error()));
    return {};
}

// A scenario; the table is in scenarios.cpp. One more is a function and a line there.
struct Scenario {
    const char* name;
    void (*run)(World& world);
    // Whether the loop is not made before run(), which does it itself.
    bool opens = false;
    // Whether operations are cancelled. One that a worker thread of the kernel is just taking up may miss
    // its cancellation (-EALREADY), so such a thread (the trick `async`) is not forced on them.
    bool cancels = false;
};
extern const Scenario scenarios[];
extern const int scenarios_count;

}  // namespace fault
