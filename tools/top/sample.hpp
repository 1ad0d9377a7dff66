// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/statistics_page.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

// What whorl-top reads: the pages of one process, twice, and what happened in between.

namespace top {

// One loop between two readings.
struct Row {
    std::uint64_t number = 0;
    std::string name;
    std::string backend;
    std::string state;  // runs, waits, stuck, ended
    double age_s = 0;   // since it published
    // Of a second of this interval, in percent.
    double busy = 0;      // of a processor: in the kernel and outside
    double waiting = 0;   // in the backend, and whatever is not the next two
    double handlers = 0;  // in handlers
    double own = 0;       // in the loop itself
    // A second.
    double turns = 0;
    double operations = 0;
    double calls = 0;                  // of handlers, posts included
    double batch = 0;                  // completions of a turn
    std::uint64_t p99_waiting_ns = 0;  // of the kind that has the largest; 0: not measured
    std::uint64_t p99_handler_ns = 0;
    whorl::LoopFigures figures{};
    whorl::LoopDetails details{};
    std::map<int, std::string> names;  // of descriptors of top handles, when they are wanted

    struct Kind {
        std::string name;
        double rate = 0;
        whorl::KindFigures figures{};
    };
    std::vector<Kind> kinds;  // those that were used, the busiest first
};

struct Sample {
    std::uint64_t time_ns = 0;  // CLOCK_MONOTONIC
    double interval_s = 0;      // since the one before
    std::vector<Row> rows;
};

// A process, or one page given by its path.
// Lifetime: keeps the pages it has open. Thread: one.
class Source {
  public:
    // False: `reason` says what is wrong, and what to do.
    bool attach(const std::string& target, std::string& reason);
    // Reads every page. False: all are gone, `reason` says why.
    bool take(Sample& sample, std::string& reason);
    // Readable when the process has ended; -1: not known.
    int ended_descriptor() const { return ended_fd_; }
    const std::string& title() const { return title_; }
    // Whether to find out what the descriptors of top handles are.
    void want_names(bool wanted) { wants_names_ = wanted; }
    ~Source();

  private:
    struct Page {
        std::string path;
        whorl::StatisticsPage page;
        std::unique_ptr<whorl::LoopFigures> before;
        std::unique_ptr<whorl::LoopDetails> details;  // the last that were whole
        std::uint64_t before_ns = 0;
    };
    bool look_again(std::string& reason);
    bool has_ended() const;
    static Row row_of(const Page& page, const whorl::LoopFigures& now, std::uint64_t time_ns);

    void add_details(Page& page, Row& row) const;

    int process_ = 0;  // 0: a page by its path
    int owner_ = 0;    // of the page; 0: a file
    bool wants_names_ = false;
    int ended_fd_ = -1;
    std::string title_;
    std::uint64_t looked_ns_ = 0;
    std::uint64_t before_ns_ = 0;
    std::vector<Page> pages_;
};

}  // namespace top
