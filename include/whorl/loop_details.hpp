// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <cstdint>

/// @file
/// Which handlers of a loop were slow, and which of its handles are the largest: what a statistics page
/// (statistics_page.hpp) has besides the figures, and whorl-top shows. Times are nanoseconds, instants on the
/// loop's clock. Text ends with a zero byte and is cut where there is too little room, paths at their begin.

namespace whorl {

/// Slow handlers (slow_handler.hpp) that were submitted from one place.
struct SlowFigures {
    std::uint64_t count;       ///< how many were slow
    std::uint64_t total_ns;    ///< how long these ran together
    std::uint64_t longest_ns;  ///< how long the longest ran
    std::uint64_t last_ns;     ///< how long the last ran
    std::uint64_t ended_ns;    ///< when the last one ended
    std::uint64_t line;        ///< where it was submitted
    char file[64];             ///< where it was submitted; empty: not known
    char kind[24];             ///< of operation_list.hpp; post, remote_post
    char handler[128];         ///< its type, as handler_name() says; empty: not known
};

/// A descriptor that the loop owns.
struct HandleFigures {
    std::uint64_t handle;        ///< as Handle::value()
    std::int64_t fd;             ///< its number in the process; -1: it has none
    std::uint64_t opened_ns;     ///< when the loop got it
    std::uint64_t bytes_in;      ///< received or read by operations that have completed
    std::uint64_t bytes_out;     ///< sent or written by these
    std::uint64_t bytes_recent;  ///< of both: since the look before
    std::uint64_t completions;   ///< answers that its operations have had
    std::uint64_t operations;    ///< that name it now
    char kind[16];               ///< socket, listener, file, signals, child
    char state[16];              ///< open, connecting, closing
};

/// What a handle can be the largest by.
enum class HandleOrder : std::uint32_t {
    recent,       ///< bytes since the look before
    bytes,        ///< bytes in and out since it was opened
    completions,  ///< answers since it was opened
    age,          ///< the oldest first
};

/// How many values HandleOrder has.
inline constexpr std::uint32_t handle_orders = 4;

/// The name of an order: recent, bytes, completions, age.
constexpr const char* name_of(HandleOrder order) noexcept {
    switch (order) {
        case HandleOrder::recent:
            return "recent";
        case HandleOrder::bytes:
            return "bytes";
        case HandleOrder::completions:
            return "completions";
        case HandleOrder::age:
            return "age";
    }
    return "";
}

/// Everything that a page says of single handlers and handles. StatisticsPage::read() copies it.
struct LoopDetails {
    /// Places of slow handlers that are kept: a new one takes that of whose last is longest ago.
    static constexpr std::uint32_t slow_max = 16;
    /// LoopOptions::top_handles at most.
    static constexpr std::uint32_t handles_max = 16;

    std::uint64_t slow_threshold_ns;  ///< LoopOptions::slow_handler; 0: nobody looks
    std::uint64_t slow_handlers;      ///< that ran for longer, from whatever place
    std::uint64_t stuck_handlers;  ///< that were reported while they ran; as of the last slow one
    std::uint64_t slow_count;      ///< of the rows that follow
    SlowFigures slow[slow_max];    ///< in no order

    std::uint64_t handles_wanted;                       ///< LoopOptions::top_handles
    std::uint64_t handles_open;                         ///< when the last look was over
    std::uint64_t looks;                                ///< that were taken at all handles
    std::uint64_t looked_ns;                            ///< when the last one was over
    std::uint64_t recent_ns;                            ///< how long before it the one before was
    std::uint64_t handles_count[handle_orders];         ///< of the rows that follow
    HandleFigures handles[handle_orders][handles_max];  ///< by HandleOrder, the largest first
};

static_assert(sizeof(LoopDetails) % 8 == 0, "a page is made of words");

}  // namespace whorl
