// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/process_info.hpp>

#include <cstdint>
#include <initializer_list>

// Signals as operations: opened as a set, waited for once or as a stream.
//
//   whorl::Signals signals = *whorl::open_signals(loop, {SIGTERM, SIGINT});
//   loop.submit(whorl::WaitSignal{signals}, [](whorl::Loop&, whorl::WaitSignal::Done done) { … });
//
// The mask. While a set is open its signals are blocked in the thread that opened it, and wait there
//   for who takes them: no handler runs, and no default action. So nothing is lost between two
//   operations, and none may be under way at all. When the set is closed, those that no other set of the
//   thread has, and that were not blocked before the first of them, are unblocked; one that was sent and
//   not taken then does what its disposition says: SIGTERM ends the process. A set that is closed in
//   another thread (a loop that ran on it) leaves the mask as it is.
//   A mask belongs to a thread, and is inherited by those it makes and by the programs it executes
//   (Spawn resets it). A process's signal goes to any thread that does not block it: in a program with
//   threads, open the sets before making the threads, or block the signals there. The threads of the
//   library block all.
// Who gets it. A signal sent to the process goes to exactly one of the sets that have it, of whichever
//   loop and thread: to the one that takes it first. One sent to a thread (pthread_kill, raise) goes to a
//   set of the loop that runs on it. Who wants all loops to hear of it hands it on by Remote.
// How many. A signal that is sent again before it is taken collapses into one; those from SIGRTMIN on
//   are queued, each with its value, up to RLIMIT_SIGPENDING. The lowest number is taken first.
// SIGCHLD may be taken like any other. The library neither uses it nor reaps anybody's children.
// SIGPIPE is never raised by the library.
// fork: the child of fork(2) inherits the mask as it is then.
// Source: signal(7), signalfd(2).

namespace whorl {

// Which signals. Cost: a value of 8 bytes.
class SignalSet {
  public:
    constexpr SignalSet() noexcept = default;
    // Of these numbers; each as add().
    constexpr SignalSet(std::initializer_list<int> numbers) noexcept {
        for (const int number : numbers) add(number);
    }

    // What is no signal's number makes the set invalid.
    constexpr void add(int number) noexcept {
        if (number < 1 || number > 64) mask_ = ~std::uint64_t{0};
        else mask_ |= std::uint64_t{1} << (number - 1);
    }
    // Whether the signal is in it; false for what is no signal's number.
    constexpr bool has(int number) const noexcept {
        return number >= 1 && number <= 64 && (mask_ >> (number - 1) & 1) != 0;
    }
    constexpr std::uint64_t mask() const noexcept { return mask_; }  // bit 0 is signal 1

  private:
    std::uint64_t mask_ = 0;
};

// Opens a set of signals, to be closed by Loop::close(), and blocks them in the calling thread.
// Thread: loop thread only (asserted). Open it on the thread that will run the loop.
// Errors: invalid_argument (no signal; a number that is none; SIGKILL and SIGSTOP, which nobody can
//   take; SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP and SIGSYS, which a fault raises in its own thread;
//   32 and 33, which are libc's), ENOSPC (256 sets are open in this process), EMFILE, ENFILE, ENOMEM,
//   slots_exhausted, loop_closed.
// Cost: about 66 calls of libc to build sets, three system calls.
WHORL_EXPORT Result<Signals> open_signals(Loop& loop, const SignalSet& set) noexcept;

// Takes one signal. What a cancelled one has not taken stays pending.
// Errors: none of its own.
struct WaitSignal {
    Signals signals;  // the set to take it from; stays open

    // The signal, or why there is none.
    struct Done {
        Error error;        // none with a signal
        SignalInfo signal;  // all zero with an error
    };

    static constexpr detail::OpKind kind = detail::OpKind::wait_signal;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return signals.value(); }
    static Error check() noexcept { return {}; }
    static void store(detail::OpRecord& record) noexcept { record.store(SignalInfo()); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.error ? SignalInfo() : record.as<SignalInfo>()};
    }
};

// Takes signals until it is cancelled or the set closed: a multishot, at most one signal in a turn.
// Final: `cancelled` or `timed_out`, without a signal. A signal that was taken is always delivered.
struct SignalStream {
    Signals signals;  // the set to take them from; stays open when the stream ends

    // Each signal, and the end.
    struct Done {
        Error error;        // none with a signal; the final one's is why it ended
        SignalInfo signal;  // all zero in the final one
        bool more;          // the handler will be called again; false exactly once, the last time
    };

    static constexpr detail::OpKind kind = detail::OpKind::signal_stream;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return signals.value(); }
    static Error check() noexcept { return {}; }
    static void store(detail::OpRecord& record) noexcept { record.store(SignalInfo()); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        const bool taken = delivery.more;
        return {delivery.error, taken ? record.as<SignalInfo>() : SignalInfo(), delivery.more};
    }
};

}  // namespace whorl
