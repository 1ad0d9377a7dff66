// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include "dns/answer.hpp"

#include <whorl/adapters/cares.hpp>
#include <whorl/allocated.hpp>
#include <whorl/list.hpp>

#include <memory>
#include <optional>

// A resolver's state: a table of questions. Whoever asks is an operation that waits in the queue of its
// question, so cancelling, deadlines and the loop's end are those of any operation, and no handler is ever
// called from inside of c-ares.
//
// Invariants:
//   1. A question is in the table from its making to its end, and in one stage:
//        pending  in `pending`, with somebody who waits   -> asked by pump(), or dropped by left()
//        asked    in no list; c-ares calls back once      -> kept or dropped by answered()
//        kept     in `kept`, the oldest use first         -> dropped: its time, its room, clear()
//   2. `abandoned` counts those that are asked and for which nobody waits. c-ares cannot take back one
//      question, so it is told to when that is all of them, and the loop may come to rest.

namespace whorl::dns::detail {

// What one asks for. The name is a view.
struct Question {
    Kind kind = Kind::addresses;
    int family = 0;
    std::string_view name;
};

// What a waiting operation holds: in the end, its answer.
struct Ticket final : whorl::detail::Carried, whorl::detail::Allocated<Ticket> {
    Ticket() noexcept : Carried{nullptr, &drop_ticket} {}
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket() { answer_release(answer); }
    static void drop_ticket(Carried* carried) noexcept { delete static_cast<Ticket*>(carried); }
    Answer* answer = nullptr;
};

enum class Stage : std::uint8_t { pending, asked, kept };

// Its name, in lower case, and a zero stand behind it.
struct Entry : ListNode {
    explicit Entry(State& of) noexcept;
    char* name() noexcept { return reinterpret_cast<char*>(this + 1); }

    State* state;
    Entry* next_in_bucket = nullptr;
    std::uint64_t hash = 0;
    whorl::detail::WaitQueue queue;
    Answer* answer = nullptr;  // kept
    Instant expires{};
    int family = 0;
    std::uint32_t name_size = 0;
    Kind kind = Kind::addresses;
    Stage stage = Stage::pending;
};

struct State : whorl::detail::Allocated<State> {
    State(Loop& at, const Options& given) noexcept : loop(&at), options(given) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State();

    // --- set up (resolver.cpp)
    Error open() noexcept;

    // --- questions (state.cpp)
    Error ask(whorl::detail::OpRecord& record, const Question& question) noexcept;
    void pump() noexcept;
    void give_to_cares(Entry& entry) noexcept;
    void answered(Entry& entry, Answer* answer) noexcept;
    void left(Entry& entry) noexcept;

    // --- the table (table.cpp)
    Error table_open() noexcept;
    Entry* find(const Question& question, std::uint64_t hash) noexcept;
    Entry* make(const Question& question, std::uint64_t hash) noexcept;
    void keep(Entry& entry, Answer* answer, Nanoseconds time) noexcept;
    void use(Entry& entry) noexcept;
    void drop(Entry& entry) noexcept;
    void clear() noexcept;

    Loop* loop;
    Options options;
    Statistics statistics;
    std::optional<adapters::CaresChannel> channel;
    std::unique_ptr<Entry*[], whorl::detail::ArrayDrop> buckets;
    std::size_t bucket_mask = 0;
    List pending;
    List kept;
    std::uint32_t abandoned = 0;
    bool pumping = false;  // inside pump(), or a call that ends everything
};

// Errors: invalid_argument, as FindServices says.
Error name_check(std::string_view name) noexcept;
std::uint64_t hash_of(const Question& question) noexcept;

}  // namespace whorl::dns::detail
