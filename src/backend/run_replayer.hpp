// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/host_calls.hpp"
#include "backend/run_log_file.hpp"
#include "backend/run_seam.hpp"

#include <memory>
#include <vector>

// Replaying: a driver and a system that answer from the log. The program must do what it did when it was
// recorded, in the same order; the first thing that differs is said in words, and from then on nothing
// is answered any more:
//
//   from      to         when
//   running   ended      the program asks for more than the recorded run did
//   running   diverged   it asks for something else
//
// In both ends every wait is refused, and operations end when they are cancelled, so that the loop can be
// drained and destroyed.

namespace whorl::detail {

class RunReplayer final : public RunSeam {
  public:
    RunReplayer() = default;
    ~RunReplayer() override = default;
    // Errors: as RunLogReader::open, ENOMEM.
    Error open(const char* path) noexcept;
    // Sets what the recorded run had; the rest of `options` stays.
    void apply(LoopOptions& options) noexcept;

    System& system() noexcept override { return *system_; }
    Result<Driver*> make_driver(const DriverContext& context,
                                BackendReport& report) noexcept override;
    std::int64_t ask(RunAsk ask, std::int64_t seen) noexcept override;
    bool replays() const noexcept override { return true; }
    Nanoseconds post_wait() const noexcept override { return posts_awaited; }
    void missed(RunAsk ask, std::int64_t recorded, std::int64_t come) noexcept override;
    bool concerns() noexcept override {
        return !working_ && (thread_ == 0 || thread_ == thread_token());
    }
    void called(RunCall, std::int64_t, const RunOuts&) noexcept override {}
    std::int64_t answer(RunCall call, const RunOuts& outs) noexcept override;
    int resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept override;

    // Whether the log answers no more.
    bool over() const noexcept { return static_cast<bool>(error_); }
    Error error() const noexcept { return error_; }
    const char* text() const noexcept { return text_; }
    // Everything was repeated, to the last entry.
    bool finished() const noexcept;
    void diverged(const char* format, ...) noexcept __attribute__((format(printf, 2, 3)));

    // Goes to the next entry, which must be of this kind. `doing` is what the program does.
    bool expect(RunEntry kind, const char* doing) noexcept;
    void damaged() noexcept { diverged("an entry has other parts than its kind has"); }
    // Entries begin with what they are about.
    void read_names() noexcept;
    bool copy_part(void* data, std::size_t size) noexcept;
    void perform_work(OpRecord& record) noexcept;
    void bound() noexcept { thread_ = thread_token(); }

    RunLogReader log;
    bool bytes_count = true;  // what is sent must be the same
    Nanoseconds posts_awaited = std::chrono::seconds(10);
    bool used = false;  // a loop was made
    std::uint64_t turns = 0;
    std::uint64_t operations = 0;

  private:
    struct Name {
        std::uint64_t question;
        int answer;
        Bytes found;
    };
    const char* recorded(char* text, std::size_t size) noexcept;
    std::int64_t answer_over(RunCall call) const noexcept;

    std::unique_ptr<System> system_;
    std::uint64_t values_[run_options_count] = {};
    std::vector<Name, HookAllocator<Name>> names_;
    unsigned long thread_ = 0;
    bool working_ = false;  // a callable of Work runs, which is no part of the log
    std::int64_t now_ = 0;
    std::int64_t wall_ = 0;
    Error error_;
    char text_[512] = {};
};

Result<Driver*> make_replay_driver(const DriverContext& context, RunReplayer& replayer) noexcept;

}  // namespace whorl::detail
