// SPDX-License-Identifier: MIT
#include "interleave/explorer.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define INTERLEAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define INTERLEAVE_ASAN 1
#endif
#endif
#ifdef INTERLEAVE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace interleave {

namespace {

constexpr std::size_t stack_bytes = 256 << 10;

Word mix(Word hash, Word value) noexcept {
    hash = (hash ^ value) * 0x9E37'79B9'7F4A'7C15;
    return hash ^ (hash >> 29);
}

bool acquires(Order order) noexcept {
    return order == std::memory_order_acquire || order == std::memory_order_acq_rel ||
           order == std::memory_order_seq_cst;
}

bool releases(Order order) noexcept {
    return order == std::memory_order_release || order == std::memory_order_acq_rel ||
           order == std::memory_order_seq_cst;
}

// AddressSanitizer must be told when the stack changes.
struct StackSwitch {
#ifdef INTERLEAVE_ASAN
    void* fake = nullptr;
    void leave(const void* stack, std::size_t bytes, bool for_ever = false) {
        __sanitizer_start_switch_fiber(for_ever ? nullptr : &fake, stack, bytes);
    }
    void back() { __sanitizer_finish_switch_fiber(fake, nullptr, nullptr); }
#else
    void leave(const void*, std::size_t, bool = false) {}
    void back() {}
#endif
};

const void* scheduler_stack = nullptr;
std::size_t scheduler_stack_bytes = 0;

void entered_from_scheduler() {
#ifdef INTERLEAVE_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

}  // namespace

Explorer& explorer() {
    static Explorer the_one;
    return the_one;
}

void View::join(const View& other) noexcept {
    for (std::uint32_t i = 0; i < locations_max; ++i) seen[i] = std::max(seen[i], other.seen[i]);
    for (std::uint32_t i = 0; i < threads_max; ++i) clock[i] = std::max(clock[i], other.clock[i]);
}

// --- the search

void Explorer::explore(const char* name, const std::function<void()>& body) {
    name_ = name;
    trail_.clear();
    visited_.clear();
    executions_ = steps_total_ = 0;
    do execute(body);
    while (next_choices());
    std::printf("%s: %" PRIu64 " executions, %zu states, %" PRIu64 " steps: all hold\n", name,
                executions_, visited_.size(), steps_total_);
}

void Explorer::repeat(const char* name, const std::function<void()>& body,
                      const std::string& choices) {
    name_ = name;
    trail_.clear();
    for (const char* at = choices.c_str(); *at != 0;) {
        char* end = nullptr;
        trail_.push_back({static_cast<std::uint16_t>(std::strtoul(at, &end, 10)), UINT16_MAX});
        at = *end == ',' ? end + 1 : end;
    }
    repeating_ = true;
    execute(body);
    print_trace();
    std::printf("%s: holds in this execution\n", name);
}

// The next path of the search: the last choice that has an alternative left takes it.
bool Explorer::next_choices() {
    while (!trail_.empty() && trail_.back().chosen + 1 == trail_.back().count) trail_.pop_back();
    if (trail_.empty()) return false;
    ++trail_.back().chosen;
    return true;
}

void Explorer::execute(const std::function<void()>& body) {
    reset();
    start(body);
    while (schedule()) {
    }
    for (const std::function<void()>& check : end_checks_) check();
    check(arena_live() == 0, "memory was not given back");
    for (std::uint32_t i = 0; i < location_count_; ++i) {
        check(locations_[i].at == nullptr, "an atomic was not destroyed");
    }
    check(!event_open_, "the event descriptor was not closed");
    ++executions_;
    steps_total_ += steps_.size();
}

void Explorer::reset() {
    for (Thread& thread : threads_) {
        thread.alive = thread.fresh = thread.blocked = false;
        thread.view = View();
        thread.history = 0;
    }
    thread_count_ = location_count_ = 0;
    current_ = threads_max;
    last_ = 0;
    depth_ = 0;
    picked_ = threads_max;
    merged_ = fresh_ = event_set_ = event_open_ = false;
    event_writes_ = 0;
    wakes_without_cause_left_ = weak_failures_left_ = 0;
    steps_.clear();
    end_checks_.clear();
    observer_ = nullptr;
    names_.clear();
    arena_reset(threads_max);
}

// Lets a thread go on until it hands over to another. False: all have ended.
bool Explorer::schedule() {
    start_fresh();
    const std::uint32_t next = picked_ != threads_max ? picked_ : pick();
    picked_ = threads_max;
    if (next == threads_max) return false;
    resume(next);
    return true;
}

// What comes before a thread's first step concerns nobody else, and is no choice.
void Explorer::start_fresh() {
    for (std::uint32_t thread = 0; thread < thread_count_; ++thread) {
        if (std::exchange(threads_[thread].fresh, false)) resume(thread);
    }
    fresh_ = false;
}

// Whose step is next; threads_max when all have ended.
std::uint32_t Explorer::pick() {
    std::uint32_t options[threads_max];
    std::uint32_t count = 0;
    std::uint32_t ready = 0;
    const auto offer = [&](std::uint32_t thread) {
        const Thread& candidate = threads_[thread];
        if (!candidate.alive) return;
        const bool sleeps = candidate.blocked && !event_set_;
        if (!sleeps) ++ready;
        if (!sleeps || wakes_without_cause_left_ > 0) options[count++] = thread;
    };
    offer(last_);  // going on is the first choice, so that traces are easy to read
    for (std::uint32_t thread = 0; thread < thread_count_; ++thread) {
        if (thread != last_) offer(thread);
    }
    if (ready > 0) return options[choose(count, true)];
    for (const Thread& thread : threads_) {
        check(!thread.alive, "a thread sleeps and nobody is left to wake it");
    }
    return threads_max;
}

std::uint32_t Explorer::choose(std::uint32_t count, bool between_steps) {
    if (count == 1) return 0;
    if (depth_ < trail_.size()) return trail_[depth_++].chosen;
    if (merged_ || repeating_) return 0;
    if (between_steps && !visited_.insert(state()).second) {
        merged_ = true;  // run to the end without choices, so that everything is given back
        return 0;
    }
    trail_.push_back({0, static_cast<std::uint16_t>(count)});
    ++depth_;
    return 0;
}

// Everything that the rest of the execution depends on. What a thread has in its own memory follows
// from its steps and their answers.
Word Explorer::state() const {
    Word hash = thread_count_;
    const auto add = [&hash](const View& view) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(&view);
        static_assert(sizeof(View) == locations_max + threads_max);
        for (std::size_t at = 0; at < sizeof view; at += 4) {
            std::uint32_t word = 0;
            std::memcpy(&word, bytes + at, sizeof word);
            hash = mix(hash, word);
        }
    };
    for (std::uint32_t i = 0; i < thread_count_; ++i) {
        const Thread& thread = threads_[i];
        hash = mix(hash, thread.history + (thread.alive ? 1 : 0));
        hash = mix(hash, thread.blocked ? 2 : 3);
        add(thread.view);
    }
    for (std::uint32_t i = 0; i < location_count_; ++i) {
        const Location& location = locations_[i];
        hash = mix(hash, location.at != nullptr ? location.count : 0);
        hash = mix(hash, location.seq_cst_seen);
        for (std::uint32_t v = 0; v < location.count && location.at != nullptr; ++v) {
            hash = mix(hash, location.values[v].word);
            add(location.values[v].released);
        }
    }
    hash = mix(hash, event_writes_ * 4 + (event_set_ ? 1 : 0) + (event_open_ ? 2 : 0));
    return mix(hash, wakes_without_cause_left_ * 2 + weak_failures_left_);
}

// --- threads

void Explorer::start(std::function<void()> body) {
    check(thread_count_ < threads_max, "too many threads");
    Thread& thread = threads_[thread_count_++];
    if (thread.stack == nullptr) thread.stack.reset(new char[stack_bytes]);
    thread.body = std::move(body);
    thread.alive = thread.fresh = fresh_ = true;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = stack_bytes;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, &Explorer::thread_main, 0);
}

void Explorer::spawn(std::function<void()> body) {
    const View view = threads_[current_].view;
    start(std::move(body));
    threads_[thread_count_ - 1].view = view;
}

void Explorer::thread_main() {
    entered_from_scheduler();
    Explorer& self = explorer();
    Thread& thread = self.threads_[self.current_];
    thread.body();
    thread.body = nullptr;  // what it holds goes as a part of this thread
    thread.alive = false;
    StackSwitch stack;
    stack.leave(scheduler_stack, scheduler_stack_bytes, true);
    swapcontext(&thread.context, &self.scheduler_);
}

void Explorer::resume(std::uint32_t index) {
    current_ = index;
    if (!fresh_) last_ = index;
    Thread& thread = threads_[index];
    StackSwitch stack;
    stack.leave(thread.stack.get(), stack_bytes);
    swapcontext(&scheduler_, &thread.context);
    stack.back();
    current_ = threads_max;
}

// Before a step: the explorer decides who goes on.
void Explorer::yield() {
    Thread& thread = threads_[current_];
    if (!fresh_) {
        const std::uint32_t next = pick();
        if (next == current_) return;
        picked_ = next;
    }
    StackSwitch stack;
    stack.leave(scheduler_stack, scheduler_stack_bytes);
    swapcontext(&thread.context, &scheduler_);
    stack.back();
}

void Explorer::note(const char* what, std::uint32_t location, Word value) {
    steps_.push_back({current_, what, location, value});
    Thread& thread = threads_[current_];
    thread.history = mix(mix(thread.history, location + 1), value + 7);
    if (steps_.size() > steps_max) fail("it does not come to an end");
}

// --- memory

void Explorer::location_made(const void* at, Word value, const void* tag) {
    if (location_count_ == locations_max) fail("too many atomics");
    const std::uint32_t index = location_count_++;
    Location& location = locations_[index];
    location.at = at;
    location.tag = tag;
    location.count = 1;
    location.seq_cst_seen = 0;
    for (std::uint32_t t = 0; t < threads_max; ++t) {
        location.accessed[t] = location.written[t] = 0;
    }
    location.values[0] = {value, View()};
}

Explorer::Location* Explorer::find(const void* at) {
    for (std::uint32_t i = 0; i < location_count_; ++i) {
        if (locations_[i].at == at) return &locations_[i];
    }
    return nullptr;
}

// All these accesses of others happen before what the present thread does.
void Explorer::require_ordered(const std::uint8_t (&clocks)[threads_max], const char* what) {
    const View& view = threads_[current_].view;
    for (std::uint32_t t = 0; t < thread_count_; ++t) {
        if (clocks[t] > view.clock[t]) fail(what);
    }
}

void Explorer::location_gone(const void* at) {
    Location* location = find(at);
    if (location == nullptr) fail("an atomic was destroyed twice");
    location->at = nullptr;
    if (current_ == threads_max) return;
    require_ordered(location->accessed,
                    "destroyed while another thread's access is not ordered before");
}

// Begins a step on a location: others may go first; it may be gone then.
Explorer::Location& Explorer::begin(const void* at) {
    yield();
    Location* location = find(at);
    if (location == nullptr) fail("an atomic was used after it was destroyed");
    View& view = threads_[current_].view;
    location->accessed[current_] = ++view.clock[current_];
    if (view.clock[current_] == UINT8_MAX) fail("too many steps of one thread");
    return *location;
}

void Explorer::plain_access(const void* at, bool write) {
    Location* location = find(at);
    if (location == nullptr) fail("data was used after it was destroyed");
    require_ordered(write ? location->accessed : location->written, "a data race");
    View& view = threads_[current_].view;
    location->accessed[current_] = ++view.clock[current_];
    if (write) location->written[current_] = location->accessed[current_];
}

Word Explorer::read(Location& location, std::uint32_t index, Order order) {
    View& view = threads_[current_].view;
    std::uint8_t& seen = view.seen[index_of(location)];
    seen = static_cast<std::uint8_t>(index);
    if (acquires(order)) view.join(location.values[index].released);
    if (order == std::memory_order_seq_cst) {
        location.seq_cst_seen = std::max(location.seq_cst_seen, seen);
    }
    return location.values[index].word;
}

// `continues`: a read-modify-write, which carries on what the value before it had released.
void Explorer::write(Location& location, Word word, Order order, bool continues) {
    if (location.count == values_max) fail("too many values of one atomic");
    View& view = threads_[current_].view;
    const auto index = static_cast<std::uint8_t>(location.count++);
    view.seen[index_of(location)] = index;
    Value& value = location.values[index];
    value.word = word;
    value.released = continues ? location.values[index - 1].released : View();
    if (releases(order)) value.released.join(view);
    if (order == std::memory_order_seq_cst) location.seq_cst_seen = index;
    if (observer_) observer_(location.tag, word);
}

Word Explorer::load(const void* at, Order order) {
    Location& location = begin(at);
    std::uint32_t oldest = threads_[current_].view.seen[index_of(location)];
    if (order == std::memory_order_seq_cst) {
        oldest = std::max<std::uint32_t>(oldest, location.seq_cst_seen);
    }
    const std::uint32_t back = choose(location.count - oldest, false);
    const Word word = read(location, location.count - 1 - back, order);
    note(back == 0 ? "load" : "load (old)", index_of(location), word);
    return word;
}

void Explorer::store(const void* at, Word value, Order order) {
    Location& location = begin(at);
    write(location, value, order, false);
    note("store", index_of(location), value);
}

Word Explorer::exchange(const void* at, Word value, Order order) {
    Location& location = begin(at);
    const Word before = read(location, location.count - 1, order);
    write(location, value, order, true);
    note("exchange", index_of(location), before);
    return before;
}

Word Explorer::add(const void* at, Word value, Order order) {
    Location& location = begin(at);
    const Word before = read(location, location.count - 1, order);
    write(location, static_cast<std::uint32_t>(before + value), order, true);
    note("add", index_of(location), before);
    return before;
}

bool Explorer::compare_exchange(const void* at, Word& expected, Word desired, Order success,
                                Order failure, bool weak) {
    Location& location = begin(at);
    const std::uint32_t newest = location.count - 1;
    const bool equal = location.values[newest].word == expected;
    const bool without_cause = equal && weak && weak_failures_left_ > 0 && choose(2, false) == 1;
    if (equal && !without_cause) {
        static_cast<void>(read(location, newest, success));
        write(location, desired, success, true);
        note("compare_exchange", index_of(location), desired);
        return true;
    }
    if (without_cause) --weak_failures_left_;
    expected = read(location, newest, failure);
    note("compare_exchange (no)", index_of(location), expected);
    return false;
}

// --- the event descriptor

int Explorer::event_make() {
    check(!event_open_, "a second event descriptor");
    event_open_ = true;
    return event_fd_first;
}

void Explorer::event_write(int) {
    yield();
    check(event_open_, "the event descriptor was written to after it was closed");
    event_set_ = true;
    ++event_writes_;
    note("wake", locations_max, event_writes_);
}

void Explorer::event_close(int) {
    check(event_open_, "the event descriptor was closed twice");
    event_open_ = false;
}

void Explorer::event_wait(int, bool block, bool clear) {
    Thread& thread = threads_[current_];
    thread.blocked = block;
    yield();
    thread.blocked = false;
    if (block && !event_set_) --wakes_without_cause_left_;
    note(block ? "wait" : "look", locations_max, event_set_ ? 1 : 0);
    if (clear) event_set_ = false;
}

// --- telling

void Explorer::print_trace() const {
    for (const Step& step : steps_) {
        char number[24];
        std::snprintf(number, sizeof number, "atomic %u", step.location);
        const char* where = number;
        if (step.location < names_.size()) where = names_[step.location];
        if (step.location == locations_max) where = "event";
        std::printf("  thread %u: %-22s %-12s %" PRIx64 "\n", step.thread, step.what, where,
                    step.value);
    }
}

void Explorer::fail(const char* what) {
    print_trace();
    std::printf("%s: violated: %s\nrepeat with: %s %s ", name_, what, program_, name_);
    const char* comma = "";
    for (std::size_t i = 0; i < depth_; ++i, comma = ",") {
        std::printf("%s%u", comma, trail_[i].chosen);
    }
    std::printf("\n");
    std::fflush(stdout);
    std::_Exit(1);
}

}  // namespace interleave
