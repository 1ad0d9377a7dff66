// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/loop_details.hpp>
#include <whorl/result.hpp>
#include <whorl/statistics.hpp>

#include <cstddef>
#include <cstdint>

// What a loop does, read while it runs by another thread, or by another process that knows no more than
// its number. LoopOptions::statistics_page switches it on; whorl-top shows it.
//
// The page is a memfd: it has no name in any file system, so nothing is left behind by a process that dies.
// Other processes reach it through /proc/PID/fd, which the kernel opens to those who may trace the process
// (the same user, as a rule, or root) and to nobody else. It is sealed: nobody but the loop can write to
// it, and nobody can make it shorter under a reader.

namespace whorl {

// Of one phase of the operations of one kind, over the loop's whole life, in nanoseconds (see
// operation_latency.hpp). All zero: not measured, or none yet.
struct LatencyFigures {
    std::uint64_t count;  // operations measured; at most a second old, as the others
    std::uint64_t sum;    // ns, of all of them
    std::uint64_t p50;    // ns: half of them took no longer, to 3 %
    std::uint64_t p99;    // ns: 99 of 100 took no longer, to 3 %
    std::uint64_t max;    // ns, the longest
};

// Of the operations of one kind, or of timers, or posts.
struct KindFigures {
    std::uint64_t submitted;    // accepted by submit(), after() and so on
    LatencyFigures latency[4];  // by LatencyPhase
};

// What the loop did when its page was written.
enum class LoopState : std::uint64_t {
    running,  // it was in a turn
    waiting,  // it was about to sleep
    ended,    // it was destroyed: the page does not change any more
};

// Everything that a page says, as of `published_ns`. Times are nanoseconds; instants are on
// CLOCK_MONOTONIC, or a simulated world's clock.
struct LoopFigures {
    static constexpr std::uint32_t batch_rows = 16;  // of `batches`
    static constexpr std::uint32_t kinds_max = 64;   // of `kinds`

    // Who it is.
    std::uint64_t process;     // as the process itself sees it (inside its PID namespace)
    std::uint64_t thread;      // 0 before the first turn
    std::uint64_t number;      // among the loops of the process that have a page, from 1
    std::uint64_t created_ns;  // when the loop was made
    char name[32];             // LoopOptions::name, ends with a zero byte
    char backend[16];          // "io_uring", "libev", "simulator"

    std::uint64_t published_ns;  // when this was written
    std::uint64_t publications;  // times it was written, this one included
    LoopState state;             // when this was published

    Statistics statistics;  // as Loop::statistics() then

    // The limits of the marks in `statistics`, as given in LoopOptions.
    std::uint64_t operations_max;         // LoopOptions::ops_max
    std::uint64_t handles_max;            // LoopOptions::handles_max
    std::uint64_t posts_max;              // LoopOptions::posts_max
    std::uint64_t works_max;              // LoopOptions::work_max
    std::uint64_t buffer_bytes_max;       // LoopOptions::buffer_bytes_max
    std::uint64_t completions_batch_max;  // LoopOptions::completions_per_turn
    // Waiting now.
    std::uint64_t posts;
    std::uint64_t timers;  // armed

    // Where the time of its turns went; what lies between turns, such as a guest's host, is in none.
    std::uint64_t wait_ns;  // in the backend: asleep, looking, and the kernel's work on submissions
    std::uint64_t handler_ns;  // in handlers, and the few nanoseconds around each that call it
    std::uint64_t own_ns;      // everything else: timers, hooks, filing, publishing
    // What the thread had of a processor, in the kernel and outside. Between two readings, cpu_ns over
    // published_ns is the loop's utilisation. 0 in a simulated world.
    std::uint64_t cpu_ns;

    // Turns by what they collected: row 0 none, row n from 2^(n-1) to 2^n - 1 completions; the last row
    // has all that are more.
    std::uint64_t batches[batch_rows];
    // By kind of operation; StatisticsPage::kind_name() names the rows.
    std::uint64_t kinds_count;
    KindFigures kinds[kinds_max];  // kinds_count of them are in use
};

static_assert(sizeof(LoopFigures) % 8 == 0, "a page is made of words");

namespace detail {
struct PageLayout;
}

// A reader of one loop's page.
// Lifetime: owns a mapping of its own, so it may outlive the loop and the process; movable, and after a
// move only to be assigned to or destroyed. Thread: one at a time, any.
class WHORL_EXPORT StatisticsPage {
  public:
    // Pages of another version of the library are refused.
    static constexpr std::uint32_t version = 2;

    // Where a page is: /proc/PID/fd/NUMBER.
    struct Place {
        char path[64];  // for open()
    };
    // Where the pages of a process are: writes at most `count` of them, in the order in which the loops
    // were made, and answers how many there are (at most 1024 are looked for). Pages that it has
    // inherited from its parent are not its own and not among them.
    // Errors: ESRCH or ENOENT (no such process), EACCES (not to be traced by us). Cost: a system call for
    // each descriptor of the process.
    static Result<std::uint32_t> find(int process, Place* places, std::uint32_t count) noexcept;

    // Opens a page by a path of find(), or a file that somebody has copied a page into.
    // Errors: the errno of what was refused (EACCES, ENOENT: the process or the loop has ended);
    //   EBADMSG (it is no page); ENOTSUP (the page of another version of whorl). What it finds need not be
    //   trusted: nothing but numbers is taken from it, and text is cut and cleaned.
    static Result<StatisticsPage> open(const char* path) noexcept;

    StatisticsPage(StatisticsPage&& other) noexcept;
    StatisticsPage& operator=(StatisticsPage&& other) noexcept;
    StatisticsPage(const StatisticsPage&) = delete;
    StatisticsPage& operator=(const StatisticsPage&) = delete;
    ~StatisticsPage();

    // A copy of one publication, whole. Neither side waits for the other.
    // Errors: EAGAIN (the loop wrote during each of 64 attempts; one that died while writing stays so).
    // Cost: about a microsecond, no system call.
    Error read(LoopFigures& figures) const noexcept;
    // The same of slow handlers and of the largest handles (loop_details.hpp), which are written on their
    // own: a copy of these may be older or younger than one of the figures.
    Error read(LoopDetails& details) const noexcept;
    // LoopFigures::process, known even while the loop writes.
    std::uint64_t process() const noexcept;
    // LoopFigures::number, the same way.
    std::uint64_t number() const noexcept;

    // The name of a row of LoopFigures::kinds: letters, digits and underscores; empty for one that
    // is not in use.
    const char* kind_name(std::uint32_t kind) const noexcept;

  private:
    friend class Loop;
    explicit StatisticsPage(detail::PageLayout* layout) noexcept : layout_(layout) {}
    static Result<StatisticsPage> open_descriptor(int fd) noexcept;
    void take_names() noexcept;

    detail::PageLayout* layout_;
    char names_[LoopFigures::kinds_max][24] = {};
};

}  // namespace whorl
