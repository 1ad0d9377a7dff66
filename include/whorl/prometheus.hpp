// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/export.hpp>
#include <whorl/statistics.hpp>

#include <cstddef>
#include <string_view>

// A loop's statistics as Prometheus reads them. The program serves the text itself; whorl opens no port.

namespace whorl {

struct LoopDetails;
struct LoopFigures;
class StatisticsPage;

// Prints `count` loops' statistics in Prometheus' text format (version 0.0.4), each metric once with its
// HELP and TYPE lines, and below these one line for each loop. `labels[i]` stands between the braces of
// the lines of loop i as it is: `loop="3"`, or empty; with more than one loop they must differ. A label's
// value is escaped by prometheus_label(). Names begin with whorl_; what only grows ends in _total.
// Writes at most `size` bytes, the zero byte at the end among them. Returns the length of the whole
// text; `size` or more: it was cut, in the middle of a line.
// Thread: as Statistics: the loop's, or a copy that the loop's thread has made.
// Cost: no allocation; about 6 KiB, and 1.5 KiB for each further loop.
WHORL_EXPORT std::size_t print_prometheus(const Statistics* statistics,
                                          const std::string_view* labels, std::size_t count,
                                          char* out, std::size_t size) noexcept;

// The same for one loop.
inline std::size_t print_prometheus(const Statistics& statistics, std::string_view labels,
                                    char* out, std::size_t size) noexcept {
    return print_prometheus(&statistics, &labels, 1, out, size);
}

// The same of what pages say (statistics_page.hpp), which need not be those of this process's loops: their
// statistics and limits, times in seconds, completions of a turn as a histogram, operations by kind, and
// their latencies as summaries (p50, p99 and, as quantile 1, the longest). `names` tells the kinds: any of
// the pages. Thread: any. Cost: about 9 KiB, and 5 KiB for each further loop with ten kinds of operations.
WHORL_EXPORT std::size_t print_prometheus(const LoopFigures* figures, const StatisticsPage& names,
                                          const std::string_view* labels, std::size_t count,
                                          char* out, std::size_t size) noexcept;

/// The same of slow handlers (loop_details.hpp): how many there were, and how many from each place that the
/// pages know, with the time these took. Thread: any. Cost: about 500 bytes, and 400 for each place.
WHORL_EXPORT std::size_t print_prometheus(const LoopDetails* details,
                                          const std::string_view* labels, std::size_t count,
                                          char* out, std::size_t size) noexcept;

// Prints `name="value"` with a value that may hold anything: quotes, backslashes and line ends are
// escaped. `name` is [a-zA-Z_][a-zA-Z0-9_]*. Writes and returns as print_prometheus().
WHORL_EXPORT std::size_t prometheus_label(std::string_view name, std::string_view value, char* out,
                                          std::size_t size) noexcept;

}  // namespace whorl
