// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/assert.hpp>
#include <whorl/loop.hpp>
#include <whorl/wait.hpp>

#include <cstdint>
#include <new>
#include <utility>

// Operations that belong together and end together.
//
//   whorl::Scope scope(loop);
//   scope.submit(whorl::Recv{socket, …}, handler);
//   scope.submit(whorl::AwaitEvent{ready}, handler);
//   loop.submit(whorl::CloseScope{scope}, [this](whorl::Loop&, whorl::CloseScope::Done) { delete this; });

namespace whorl {

class Scope;

namespace detail {

// A handler whose end is its operation's end, whether it was called or not.
template <class Handler>
class Scoped {
  public:
    Scoped(Scope* scope, std::uint32_t entry, Handler&& handler) noexcept
        : scope_(scope), entry_(entry), handler_(std::move(handler)) {}
    Scoped(Scoped&& other) noexcept
        : scope_(std::exchange(other.scope_, nullptr)), entry_(other.entry_),
          handler_(std::move(other.handler_)) {}
    Scoped& operator=(Scoped&&) = delete;
    ~Scoped();
    template <class Done>
    void operator()(Loop& loop, Done done) {
        handler_call(handler_, loop, std::move(done));
    }

  private:
    Scope* scope_;
    std::uint32_t entry_;
    Handler handler_;
};

}  // namespace detail

// Lifetime: it outlives its operations (asserted): close it first, or let its loop go first. Thread: the loop's.
// Operations end in it as they would without it: each has its final completion before the scope has closed.
class WHORL_EXPORT Scope {
  public:
    // For operations of this loop. Cost: none before the first submit.
    explicit Scope(Loop& loop) noexcept : loop_(&loop) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope();

    // As Loop::submit, of this loop; the operation belongs to the scope.
    // Owns: as Loop::submit, but that the handler is destroyed when it is refused.
    // Errors: as Loop::submit; loop_closed when the scope is closing. Limits: 32 bytes of handler.
    // Cost: as Loop::submit; memory of 12 bytes for each operation alive at once, which is reused.
    template <class Op, class Handler>
    Result<Operation> submit(Op&& operation, Handler&& handler) noexcept {
        return submit(std::forward<Op>(operation), SubmitOptions(), std::forward<Handler>(handler));
    }
    // The same with options: a deadline, in the background, or after another one.
    template <class Op, class Handler>
    Result<Operation> submit(Op&& operation, const SubmitOptions& options,
                             Handler&& handler) noexcept {
        using Stored = std::decay_t<Handler>;
        Result<std::uint32_t> entry = enter();
        if (!entry) return entry.error();
        Result<Operation> submitted = loop_->submit(
            std::forward<Op>(operation), options,
            detail::Scoped<Stored>(this, *entry, Stored(std::forward<Handler>(handler))));
        if (submitted) entries_[*entry].operation = *submitted;
        return submitted;
    }

    // Cancels what is in it now; it stays open. Cost: O(1) for each.
    void cancel() noexcept;
    // Operations that have not had their end.
    std::uint32_t size() const noexcept { return size_; }
    // A CloseScope was submitted: for good, also when that was cancelled.
    bool closing() const noexcept { return closing_; }

  private:
    template <class>
    friend class detail::Scoped;
    friend struct CloseScope;
    struct Entry {
        Operation operation;
        std::uint32_t next_free = 0;
    };
    Result<std::uint32_t> enter() noexcept;
    void leave(std::uint32_t entry) noexcept;

    Loop* loop_;
    Entry* entries_ = nullptr;
    std::uint32_t capacity_ = 0;
    std::uint32_t used_ = 0;  // entries that were ever used
    std::uint32_t free_ = 0;  // index + 1 of the first free one
    std::uint32_t size_ = 0;
    bool closing_ = false;
    detail::WaitQueue closers_;
};

namespace detail {
template <class Handler>
Scoped<Handler>::~Scoped() {
    if (scope_ != nullptr) scope_->leave(entry_);
}
}  // namespace detail

// Closes a scope: cancels everything in it, takes nothing new, and ends when the last handler has returned.
// Owns: nothing. Calls: the handler once, from dispatch. The scope may be destroyed in it.
//   Cancelled or timed out itself, it stops waiting; the scope stays closing.
// Errors: as Loop::submit. Limits: submitted to the scope's own loop.
struct CloseScope {
    // Nothing of the scope is left, or waiting has ended early.
    struct Done {
        Error error;  // none when all handlers have returned
    };
    // Of this scope, which must be there when the completion comes.
    explicit CloseScope(Scope& given) noexcept : scope(given) {}
    Scope& scope;  // to be closed

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        scope.closing_ = true;
        scope.cancel();
        if (scope.size_ == 0) detail::WaitQueue::pass(loop, record);
        else scope.closers_.join(loop, record);
        return {};
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

}  // namespace whorl
