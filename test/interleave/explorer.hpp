// SPDX-License-Identifier: MIT
#pragma once

#include <ucontext.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

// Runs a small program of a few threads in every order, and with every value that each load may see.
//
// The program is real code, compiled with Atomic (atomic.hpp) in the place of std::atomic. Its threads
// are coroutines; an access to an atomic, or to the one event descriptor, is a step. Before each step
// the explorer chooses whose it is. It searches depth first: an execution is the list of choices made
// in it, and is repeated from the beginning to try the next one. A state that was met before is not
// gone into again, so the search ends, and what it proves it proves for every execution.
//
// Memory. Interleaving alone would be sequential consistency, stronger than C++ and than any machine.
// Each location keeps all its values, oldest first, and a thread has a view: how far it has seen each
// location. A load may take any value that is not older than its view; one that acquires takes over
// the view that was released with the value; seq_cst accesses of a location never see less than earlier
// seq_cst accesses of it have seen. That contains what store buffers do (TSO) and the reordering of
// loads. It leaves out what real machines hardly do: a load that sees a value from the future, a store
// that slips in behind newer ones. It is the operational release/acquire model (Lahav and others,
// "Taming release-acquire consistency", POPL 2016), with seq_cst accesses as in loom and Relacy.
//
// Views carry a clock of each thread, too. So the explorer knows what happens before what, and fails a
// location that is destroyed while another thread's access is not ordered before.

namespace interleave {

using Word = std::uint64_t;
using Order = std::memory_order;

inline constexpr std::uint32_t threads_max = 4;
inline constexpr std::uint32_t locations_max = 32;
inline constexpr std::uint32_t values_max = 48;  // of one location in one execution
inline constexpr std::uint32_t steps_max = 400;  // of one execution; more is a livelock
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
inline constexpr bool sanitized = __has_feature(address_sanitizer);
#else
inline constexpr bool sanitized = false;
#endif
inline constexpr int event_fd_first = 1'000'000;

// What a thread, or a value, has seen: how many values of each location, how many steps of each thread.
struct View {
    std::uint8_t seen[locations_max] = {};
    std::uint8_t clock[threads_max] = {};
    void join(const View& other) noexcept;
};

class Explorer {
  public:
    // The search. `body` is the first thread; it may spawn others. Prints what was searched.
    // A violation prints its trace and the command that repeats it, and ends the process with 1.
    void explore(const char* name, const std::function<void()>& body);
    // One execution, by the choices that a violation has printed.
    void repeat(const char* name, const std::function<void()>& body, const std::string& choices);

    // How often in an execution a wait, or a weak compare_exchange, ends without cause.
    void allow_without_cause(std::uint32_t wakes, std::uint32_t weak_failures) {
        wakes_without_cause_left_ = wakes;
        weak_failures_left_ = weak_failures;
    }
    void name_program(const char* program) { program_ = program; }

    // --- from the program under exploration
    void spawn(std::function<void()> body);
    void check(bool condition, const char* what) {
        if (!condition) fail(what);
    }
    [[noreturn]] void fail(const char* what);
    // Runs at the end of each execution, when every thread has ended.
    void at_end(std::function<void()> check) { end_checks_.push_back(std::move(check)); }
    void on_write(std::function<void(const void* tag, Word value)> observer) {
        observer_ = std::move(observer);
    }
    void name_locations(std::vector<const char*> names) { names_ = std::move(names); }

    // --- the event descriptor: a flag that its reader clears. It orders no memory.
    int event_make();
    void event_write(int fd);
    void event_close(int fd);
    // Waits until it has been written to (`block`), or looks; clears it when `clear`. A wait may end
    // without cause, as one that a signal or a timer ends.
    void event_wait(int fd, bool block, bool clear);
    std::uint32_t event_writes() const { return event_writes_; }
    bool event_is(int fd) const { return fd >= event_fd_first; }

    // --- from Atomic
    void location_made(const void* at, Word value, const void* tag);
    void location_gone(const void* at);
    Word load(const void* at, Order order);
    void store(const void* at, Word value, Order order);
    Word exchange(const void* at, Word value, Order order);
    Word add(const void* at, Word value, Order order);
    bool compare_exchange(const void* at, Word& expected, Word desired, Order success,
                          Order failure, bool weak);
    void plain_access(const void* at, bool write);
    // Whether a location stands there: for data that is followed from its first use on.
    bool known(const void* at) { return find(at) != nullptr; }

    // The thread whose code runs now: 0 is the first; threads_max when none.
    std::uint32_t current() const { return current_; }

  private:
    struct Value {
        Word word;
        View released;
    };
    struct Location {
        const void* at = nullptr;  // null: gone
        const void* tag = nullptr;
        std::uint32_t count = 0;
        std::uint8_t seq_cst_seen = 0;
        std::uint8_t accessed[threads_max] = {};  // clock of each thread's last access
        std::uint8_t written[threads_max] = {};   // of data that is not atomic: its last write
        Value values[values_max];
    };
    struct Thread {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
        std::function<void()> body;
        View view;
        Word history = 0;  // a hash of all its steps and what they answered: its local state
        bool alive = false;
        bool fresh = false;    // has not come to its first step
        bool blocked = false;  // waits for the event descriptor
    };
    struct Choice {
        std::uint16_t chosen;
        std::uint16_t count;
    };
    struct Step {
        std::uint32_t thread;
        const char* what;
        std::uint32_t location;
        Word value;
    };

    void execute(const std::function<void()>& body);
    void reset();
    bool schedule();
    void start_fresh();
    std::uint32_t pick();
    bool next_choices();
    void resume(std::uint32_t thread);
    void yield();
    static void thread_main();
    std::uint32_t choose(std::uint32_t count, bool between_steps);
    Word state() const;
    void start(std::function<void()> body);

    Location* find(const void* at);
    Location& begin(const void* at);
    void require_ordered(const std::uint8_t (&clocks)[threads_max], const char* what);
    Word read(Location& location, std::uint32_t index, Order order);
    void write(Location& location, Word word, Order order, bool continues);
    void note(const char* what, std::uint32_t location, Word value);
    std::uint32_t index_of(const Location& location) const {
        return static_cast<std::uint32_t>(&location - locations_);
    }
    void print_trace() const;

    // Of the search.
    const char* program_ = "";
    const char* name_ = "";
    std::vector<Choice> trail_;
    std::unordered_set<Word> visited_;
    std::uint64_t executions_ = 0;
    std::uint64_t steps_total_ = 0;
    bool repeating_ = false;

    // Of one execution.
    Thread threads_[threads_max];
    Location locations_[locations_max];
    std::uint32_t thread_count_ = 0;
    std::uint32_t location_count_ = 0;
    std::uint32_t current_ = threads_max;
    std::uint32_t last_ = 0;
    std::uint32_t picked_ = threads_max;
    bool fresh_ = false;  // a thread has not come to its first step
    std::size_t depth_ = 0;
    bool merged_ = false;  // the rest of this execution has been searched before
    bool event_set_ = false;
    bool event_open_ = false;
    std::uint32_t event_writes_ = 0;
    std::uint32_t wakes_without_cause_left_ = 0;
    std::uint32_t weak_failures_left_ = 0;
    std::vector<Step> steps_;
    std::vector<std::function<void()>> end_checks_;
    std::function<void(const void*, Word)> observer_;
    std::vector<const char*> names_;
    ucontext_t scheduler_;
};

Explorer& explorer();

// Memory that `new (std::nothrow)` hands out to the program under exploration: at the same address in
// every execution in which its thread has done the same, so that pointers may be compared and hashed.
void arena_reset(std::uint32_t threads);
std::uint64_t arena_live();
bool arena_holds(const void* at);

}  // namespace interleave
