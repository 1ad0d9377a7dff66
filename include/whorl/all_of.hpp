// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/wait.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

// Several operations as one.
//
//   loop.submit(whorl::all_of(whorl::Connect{a}, whorl::Connect{b}), whorl::within(5s),
//               [](whorl::Loop&, auto done) {                    // both have ended
//                   auto& [first, second] = done.results;        // each a Result<Connect::Done>
//               });
//   loop.submit(whorl::any_of(whorl::ReceiveLocal{jobs}, whorl::AwaitEvent{stop}),
//               [](whorl::Loop&, auto done) { if (done.winner == 1) … });
//
// They are operations themselves: with a deadline, cancel, inside a Scope, or one inside the other.

namespace whorl {

namespace detail {

// The parts that are under way, and the operation that waits for them.
struct WHORL_EXPORT GatherState : Allocated<GatherState> {
    GatherState(Operation* parts, std::uint32_t given, bool first_wins) noexcept
        : operations(parts), count(given), any(first_wins) {}
    GatherState(const GatherState&) = delete;
    GatherState& operator=(const GatherState&) = delete;
    virtual ~GatherState() = default;

    void arm(Loop& loop, OpRecord& record) noexcept;
    void part_ended() noexcept;
    void cancel_parts() noexcept;
    // The outcome of a part.
    void note(std::uint32_t part, Error error) noexcept;
    void drop_reference() noexcept {
        if (--references == 0) delete this;
    }

    Operation* operations;
    std::uint32_t count;
    bool any;
    LoopCore* core = nullptr;
    std::uint64_t whole = 0;  // the operation that waits
    std::uint32_t left = 1;   // parts that have not ended, and one while they are being submitted
    std::uint32_t references = 1;  // the operation's, and each part's
    std::uint32_t winner = UINT32_MAX;
    Error last;
};

// The handler of a part. Its end is the part's, whether it was called or not.
template <class State, std::size_t Part>
class GatherPart {
  public:
    explicit GatherPart(State& state) noexcept : state_(&state) {
        ++state.left;
        ++state.references;
    }
    GatherPart(GatherPart&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    GatherPart& operator=(GatherPart&&) = delete;
    ~GatherPart() {
        if (state_ == nullptr) return;
        state_->part_ended();
        state_->drop_reference();
    }
    template <class Done>
    void operator()(Loop&, Done done) noexcept {
        const Error error = done.error;
        std::get<Part>(state_->dones).emplace(std::move(done));
        state_->note(Part, error);
    }

  private:
    State* state_;
};

template <class Done, class = void>
inline constexpr bool tells_more = false;
template <class Done>
inline constexpr bool tells_more<Done, std::void_t<decltype(std::declval<Done&>().more)>> = true;

template <class... Ops>
struct GatherOf final : GatherState {
    using Results = std::tuple<Result<DoneOf<Ops>>...>;
    static_assert(!(tells_more<DoneOf<Ops>> || ...),
                  "whorl: all_of and any_of take operations that end once, not streams of events");

    explicit GatherOf(bool first_wins) noexcept
        : GatherState(handles, sizeof...(Ops), first_wins) {}

    template <std::size_t... Part>
    void start(Loop& loop, const SubmitOptions& options, std::tuple<Ops...>& given,
               std::index_sequence<Part...>) noexcept {
        (start_part<Part>(loop, options, std::get<Part>(given)), ...);
        part_ended();
    }
    template <std::size_t Part, class Op>
    void start_part(Loop& loop, const SubmitOptions& options, Op& operation) noexcept {
        Result<Operation> submitted =
            loop.submit(std::move(operation), options, GatherPart<GatherOf, Part>(*this));
        if (submitted) {
            handles[Part] = *submitted;
        } else {
            refused[Part] = submitted.error();
            note(Part, submitted.error());
        }
    }
    template <std::size_t... Part>
    Results results(std::index_sequence<Part...>) noexcept {
        return Results(result<Part>()...);
    }
    template <std::size_t Part>
    auto result() noexcept {
        using One = std::tuple_element_t<Part, Results>;
        auto& done = std::get<Part>(dones);
        return done ? One(std::move(*done)) : One(refused[Part]);
    }

    std::tuple<std::optional<DoneOf<Ops>>...> dones;
    Operation handles[sizeof...(Ops)];
    Error refused[sizeof...(Ops)];
};

// What AllOf and AnyOf have in common.
template <class... Ops>
class Gather {
  public:
    explicit Gather(Ops&&... given) noexcept : operations(std::move(given)...) {}
    std::tuple<Ops...> operations;

    static constexpr OpKind kind = OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    static void store(OpRecord&) noexcept {}

  protected:
    using State = GatherOf<Ops...>;
    using Parts = std::index_sequence_for<Ops...>;
    Error open_as(Loop& loop, OpRecord& record, bool first_wins) noexcept {
        auto* state = new (std::nothrow) State(first_wins);
        if (state == nullptr) return Error::from_errno(ENOMEM);
        state->arm(loop, record);
        SubmitOptions options;
        options.background = (record.flags & op_background) != 0;
        state->start(loop, options, operations, Parts());
        return {};
    }
    static State& state_of(OpRecord& record) noexcept {
        return static_cast<State&>(*static_cast<GatherState*>(record.as<WaitPayload>().object));
    }
};

}  // namespace detail

// All of several operations, made by all_of().
// Owns: the operations, as each of them says. Calls: the handler once, from dispatch, when all have ended:
//   without an error whatever their results are; cancelled or timed_out when it was ended itself, which
//   cancels those that had not ended. Each result is what the operation's own handler would have got,
//   or the error that submitting it was refused with; what it owned is then still in `operations`.
// Errors: as Loop::submit, and ENOMEM. Limits: operations that have one completion each.
// Cost: one allocation, for all results; a slot for each operation and one for the whole; no further turn but
//   the one that calls the handler.
template <class... Ops>
struct AllOf : detail::Gather<Ops...> {
    struct Done {
        Error error;
        // In the order of the operations; see above.
        std::tuple<Result<detail::DoneOf<Ops>>...> results;
    };
    using Base = detail::Gather<Ops...>;
    using Base::Base;
    Error open(Loop& loop, detail::OpRecord& record) noexcept {
        return Base::open_as(loop, record, false);
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        auto& state = Base::state_of(record);
        Done done{delivery.error, state.results(typename Base::Parts())};
        state.drop_reference();
        return done;
    }
};

// The first of several operations that succeeds, made by any_of().
// As AllOf, but: when one ends without an error, the others are cancelled. Calls the handler when all have
//   ended: without an error when one succeeded, and `winner` is its place, from 0; otherwise with cancelled or
//   timed_out when it was ended itself, or with the error of the last one that failed.
// Note: another may have succeeded before it could be cancelled. Then its result says so, and has what is
//   the program's now, such as a socket.
template <class... Ops>
struct AnyOf : detail::Gather<Ops...> {
    struct Done {
        Error error;
        std::size_t winner;  // the number of operations for none
        // In the order of the operations. A loser's is an error, as a rule cancelled.
        std::tuple<Result<detail::DoneOf<Ops>>...> results;
    };
    using Base = detail::Gather<Ops...>;
    using Base::Base;
    Error open(Loop& loop, detail::OpRecord& record) noexcept {
        return Base::open_as(loop, record, true);
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        auto& state = Base::state_of(record);
        const bool won = state.winner < sizeof...(Ops);
        Done done{delivery.error, won ? state.winner : sizeof...(Ops),
                  state.results(typename Base::Parts())};
        state.drop_reference();
        return done;
    }
};

// Makes an operation of several, to be submitted. Owns: the operations, moved in. Cost: none; see AllOf.
template <class... Ops>
AllOf<Ops...> all_of(Ops... operations) noexcept {
    static_assert(sizeof...(Ops) > 0);
    return AllOf<Ops...>(std::move(operations)...);
}
// Makes an operation that the first success ends. Owns: the operations, moved in. Cost: none; see AnyOf.
template <class... Ops>
AnyOf<Ops...> any_of(Ops... operations) noexcept {
    static_assert(sizeof...(Ops) > 0);
    return AnyOf<Ops...>(std::move(operations)...);
}

}  // namespace whorl
