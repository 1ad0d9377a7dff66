// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/result.hpp>
#include <whorl/run_log.hpp>
#include <whorl/time.hpp>

#include <cstdint>

// Repeating a recorded run (run_log.hpp says how to record one, and what of it is not in the log):
//
//   whorl::testing::Replay replay("/var/tmp/server.run");
//   whorl::Result<whorl::Loop> loop = replay.make_loop();
//   if (!loop) …                                // replay.text() says why
//   Server server(*loop);                       // the program, as it was when it was recorded
//   whorl::Error error = loop->run();
//   if (replay.error()) std::puts(replay.text());
//
// The program's handlers run in the same order, with the same answers, bytes and times, as fast as they can.
// No peer, network, file or clock is touched; descriptors are numbers of the recorded run. A program may be
// changed, as long as it submits the same: log lines, assertions, a sanitizer are no difference.
//
// The first difference ends it: what the recorded run did and what the program did instead is in text(),
// run() and its kin answer Error::replay_diverged, and nothing is answered any more. When the log comes to
// its end before the program (a recording that was cut off by a limit, or by a crash: a program that
// crashes in a handler crashes again before that), they answer Error::replay_ended.
//
// A log is believed: replay none that you would not run.

namespace whorl::testing {

/// One recorded run, to be repeated once.
/// Lifetime: it outlives the loop that it makes. Thread: that of the loop, except for its construction.
class WHORL_EXPORT Replay {
  public:
    /// Opens the log and checks all of it, so that damage is found before anything runs; error() tells.
    /// Errors: those of open(2) and mmap(2); run_log_damaged: no run log, an entry that was changed, one of
    ///   another version or byte order.
    /// Cost: reads the file once.
    explicit Replay(const char* path) noexcept;
    /// The loop must be gone.
    ~Replay();
    Replay(const Replay&) = delete;
    Replay& operator=(const Replay&) = delete;

    /// A loop that repeats the run. What decides its behaviour (its limits, slack and buffer sizes) is as it
    /// was recorded, whatever `options` say; what only shows it (insight, recorder, statistics page) is as
    /// they say. Loop::backend_name() is the recorded one.
    /// Errors: as error(); invalid_argument (there was one already); as Loop::create.
    Result<Loop> make_loop(LoopOptions options = {}) noexcept;

    /// What is sent need not be the same bytes as then; by default it must. For programs that send what is
    /// not in the log, such as a process ID.
    void accept_other_bytes() noexcept;

    /// How long a turn that took posts of other threads waits for the program's threads to post as many
    /// again, before the replay has diverged. 10 s by default; zero or more.
    void wait_for_posts(Nanoseconds most) noexcept;

    /// Why the log was refused, or how the replay ended before its time: replay_diverged, replay_ended.
    Error error() const noexcept;
    /// The same in words, for people; empty while there is nothing to say.
    const char* text() const noexcept;
    /// Whether everything that was recorded has been repeated: true when the loop is gone and the program
    /// did all that it did then.
    bool finished() const noexcept;

    /// How the recording ended.
    RunEnd recorded_end() const noexcept;
    /// How often the loop has gone to the backend so far.
    std::uint64_t turns() const noexcept;
    /// Operations that were handed to the backend so far and were the recorded ones.
    std::uint64_t operations() const noexcept;

  private:
    struct State;
    State* state_;
};

}  // namespace whorl::testing
