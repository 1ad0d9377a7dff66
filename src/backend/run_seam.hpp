// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/driver.hpp"
#include "backend/run_log_format.hpp"
#include "backend/system.hpp"

#include <whorl/allocated.hpp>

#include <cstddef>
#include <cstdint>

// The seam at which a run is recorded and repeated: all that a loop hears from outside comes from its driver,
// its system, or through ask(). What records stands in front of the real ones and writes down what
// they answer; what replays answers from the log in their place, and holds the program to asking for the
// same things in the same order.

namespace whorl::detail {

// "chose its backend"; "connect".
const char* text_of(RunAsk ask) noexcept;
const char* name_of(RunCall call) noexcept;

struct NameQuestion;
struct FoundAddress;

// What a call writes besides its answer. `by_answer`: as many bytes as it answers.
struct RunOut {
    void* data;
    std::size_t size;
    bool by_answer = false;

    std::size_t used(std::int64_t answer) const noexcept {
        if (data == nullptr) return 0;
        if (!by_answer) return answer < 0 ? 0 : size;
        if (answer <= 0) return 0;
        return static_cast<std::uint64_t>(answer) < size ? static_cast<std::size_t>(answer) : size;
    }
};
struct RunOuts {
    RunOut entries[2] = {};
};

class RunSeam : public Allocated<RunSeam> {
  public:
    RunSeam() = default;
    RunSeam(const RunSeam&) = delete;
    RunSeam& operator=(const RunSeam&) = delete;
    virtual ~RunSeam() = default;

    // What the loop works with instead of the real ones.
    virtual System& system() noexcept = 0;
    virtual Result<Driver*> make_driver(const DriverContext& context,
                                        BackendReport& report) noexcept = 0;

    // `seen` is what the loop would have heard; what counts is what it gets.
    virtual std::int64_t ask(RunAsk ask, std::int64_t seen) noexcept = 0;

    // Whether posts and calls are to be taken from the log.
    virtual bool replays() const noexcept = 0;
    // How long a repeated run waits for posts of the program's other threads.
    virtual Nanoseconds post_wait() const noexcept { return Nanoseconds::zero(); }
    // The recorded run went on with more of these than come now.
    virtual void missed(RunAsk ask, std::int64_t recorded, std::int64_t come) noexcept = 0;

    // Whether a system call made now, on this thread, belongs to the run.
    virtual bool concerns() noexcept = 0;
    virtual void called(RunCall call, std::int64_t answer, const RunOuts& outs) noexcept = 0;
    virtual std::int64_t answer(RunCall call, const RunOuts& outs) noexcept = 0;
    // Questions for names are asked on threads of the work pool.
    virtual int resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept = 0;
};

// Stands in front of `real` for a seam that lives longer. Errors: null, out of memory.
System* make_run_system(System& real, RunSeam& seam) noexcept;

// Records what a loop with these options does. Errors: as RunLogWriter::open, ENOMEM.
Result<RunSeam*> make_run_recorder(const LoopOptions& options) noexcept;

}  // namespace whorl::detail
