// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include "backend/system.hpp"
#include "base/fast_clock.hpp"
#include "loop/details.hpp"

#include <whorl/allocated.hpp>
#include <whorl/operation_list.hpp>
#include <whorl/seqlock.hpp>
#include <whorl/statistics_page.hpp>

#include <cstdint>

// What a loop with a statistics page counts besides its Statistics, and the page itself.

namespace whorl::detail {

struct LoopCore;

inline constexpr std::uint32_t figures_words = sizeof(LoopFigures) / 8;
inline constexpr std::uint32_t details_words = sizeof(LoopDetails) / 8;

// A page as it lies in memory. All but the seqlocks and their words is written before the first publication
// and never again.
struct PageLayout {
    static constexpr char magic_text[8] = {'w', 'h', 'o', 'r', 'l', 'p', 'g', '\0'};
    char magic[8];
    std::uint32_t version;
    std::uint32_t size;  // of all this: another one is another layout
    std::uint64_t process;
    std::uint64_t number;
    char kind_names[LoopFigures::kinds_max][24];
    Atomic<std::uint64_t> sequence;
    Atomic<std::uint64_t> words[figures_words];
    Atomic<std::uint64_t> details_sequence;
    Atomic<std::uint64_t> details_words[detail::details_words];
};

// Thread: the loop's.
class Meter : public Allocated<Meter> {
  public:
    Meter(System& system, const LoopOptions& options) noexcept
        : system_(system), details_(options) {}
    Meter(const Meter&) = delete;
    Meter& operator=(const Meter&) = delete;
    ~Meter();

    // Makes the page and publishes for the first time. Errors: the errno of what was refused.
    Error open(LoopCore& core) noexcept;
    int descriptor() const noexcept { return fd_; }

    // The loop's clock, in nanoseconds.
    std::uint64_t read() const noexcept {
        if (!simulated_) return clock_.now_ns();
        return static_cast<std::uint64_t>(system_.now().time_since_epoch().count());
    }

    void submitted(OpKind kind) noexcept {
        const auto row = static_cast<std::uint32_t>(kind);
        if (row <= op_kind_count) ++figures_.kinds[row].submitted;  // and timers, behind them
    }

    // A turn: begins, then perhaps one wait, ends.
    void turn_begins() noexcept { mark_ = read(); }
    void wait_begins(LoopCore& core, bool may_sleep) noexcept;
    void wait_ends(std::uint32_t collected) noexcept;
    void turn_ends(LoopCore& core) noexcept;

    // `all`: latencies, too, which are dear and otherwise filled in once a second.
    void publish(LoopCore& core, LoopState state, bool all = true) noexcept;
    // A handler that was slow: the page says so at once.
    void slow_handler(const HandlerRun& run, std::uint64_t ran_ns, std::uint64_t ended_ns,
                      const SlowHandlerCounts& counts) noexcept;
    const LoopFigures& figures() const noexcept { return figures_; }

  private:
    void name_kinds() noexcept;
    void introduce(const LoopCore& core) noexcept;
    void publish_details() noexcept;
    // The time since the last mark.
    std::uint64_t lap() noexcept {
        const std::uint64_t now = read();
        const std::uint64_t passed = now - mark_;
        mark_ = now;
        return passed;
    }

    // Fixed after open().
    System& system_;
    PageLayout* layout_ = nullptr;
    int fd_ = -1;
    bool simulated_ = false;
    std::uint64_t interval_ = 0;  // between publications

    // Changed in every turn; nanoseconds.
    FastClock clock_;
    std::uint64_t mark_ = 0;
    std::uint64_t wait_ = 0;
    std::uint64_t handlers_ = 0;
    std::uint64_t own_ = 0;
    std::uint64_t published_ = 0;
    std::uint64_t filled_ = 0;  // when latencies were

    LoopFigures figures_{};
    Details details_;
};

}  // namespace whorl::detail
