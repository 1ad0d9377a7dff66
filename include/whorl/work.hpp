// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/work_block.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

// Blocking work: a callable that runs on a thread of the loop's pool, and its result on the loop.
//
//   loop.submit(whorl::Work{[text = std::move(text)] { return compress(text); }},
//               [](whorl::Loop&, whorl::WorkDone<std::string> done) { … });

namespace whorl {

// In place of the result of a callable that returns nothing.
struct NoResult {};

// What the handler gets. There is a value exactly when the callable has run.
template <class Result>
struct WorkDone {
    Error error;                  // none when the callable has run, else why it never did
    std::optional<Result> value;  // what it returned, moved here; NoResult for void
};

namespace detail {

template <class Callable>
struct WorkStorage : WorkBlock {
    using Returned = std::invoke_result_t<Callable&>;
    using Value = std::conditional_t<std::is_void_v<Returned>, NoResult, std::decay_t<Returned>>;

    Callable callable;
    std::optional<Value> value;

    explicit WorkStorage(Callable&& given) noexcept
        : WorkBlock{&call, &destroy}, callable(std::move(given)) {}

  private:
    static void call(WorkBlock& block) noexcept {
        auto& self = static_cast<WorkStorage&>(block);
        if constexpr (std::is_void_v<Returned>) {
            self.callable();
            self.value.emplace();
        } else {
            self.value.emplace(self.callable());
        }
    }
    static void destroy(WorkBlock& block) noexcept {
        static_cast<WorkStorage&>(block).~WorkStorage();
    }
};

// Puts memory for `size` bytes into the record. Errors: ENOMEM.
WHORL_EXPORT Error work_open(Loop& loop, OpRecord& record, std::size_t size) noexcept;

}  // namespace detail

// Runs a callable on a thread of the loop's pool.
// Owns: the callable, until the completion; it and its result are destroyed on the loop's thread.
// Calls: `callable()` at most once, on another thread than the loop's; then the handler, with what it
//   returned. Several works of one loop run at once and end in any order.
// Thread: submitted and completed on the loop's thread. The callable must not touch the loop (a Remote
//   may be used) nor buffers of its pool.
// Cancel: before a thread has begun, it ends with `cancelled` and without a value, and the callable
//   never runs. Later nothing stops the callable: the completion comes when it returns, with its value
//   and without an error. The same holds for a deadline.
// The loop's end: what has not begun is destroyed unrun; what runs is waited for, at most
//   LoopOptions::shutdown_bound. Then it is left running, and its memory and the loop's are leaked and
//   reported.
// Errors: queue_full from submit (LoopOptions::work_max works are alive), ENOMEM from submit;
//   EAGAIN, ENOMEM (no thread could be made and none is there).
// Limits: the callable, moved without throwing, needs no more alignment than 16; one that throws ends
//   the program.
// Cost: a buffer of the loop's pool, two handovers between threads; no allocation up to 64 KiB. The
//   threads (LoopOptions::work_threads at most) are made when they are first needed and stay.
template <class Callable>
struct Work {
    using Storage = detail::WorkStorage<Callable>;   // the callable and its result; for the library
    using Done = WorkDone<typename Storage::Value>;  // its value is what the callable returns
    static_assert(std::is_nothrow_move_constructible_v<Callable>,
                  "a callable moves without throwing");
    static_assert(std::is_nothrow_move_constructible_v<typename Storage::Value>,
                  "a result moves without throwing");
    static_assert(alignof(Storage) <= 16, "pool memory is aligned to 16 bytes");

    // Takes the callable; it runs once, so what it holds may be moved from.
    explicit Work(Callable given) noexcept : callable(std::move(given)) {}

    static constexpr detail::OpKind kind = detail::OpKind::work;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    static Error open(Loop& loop, detail::OpRecord& record) noexcept {
        return detail::work_open(loop, record, sizeof(Storage));
    }
    void store(detail::OpRecord& record) noexcept {
        ::new (static_cast<void*>(record.as<Buffer>().data())) Storage(std::move(callable));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        const Buffer memory = record.take<Buffer>();
        auto& storage =
            *std::launder(reinterpret_cast<Storage*>(const_cast<std::byte*>(memory.data())));
        Done done{delivery.error, std::move(storage.value)};
        storage.end(storage);
        return done;
    }

    Callable callable;  // to run; moved from when submit has succeeded
};

}  // namespace whorl
