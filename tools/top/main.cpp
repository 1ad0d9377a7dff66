// SPDX-License-Identifier: MIT
// whorl-top: what the loops of a running process do. See its manual page, tools/man/whorl-top.1.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <whorl/time.hpp>
#include <whorl/version.hpp>

#include "panels.hpp"
#include "terminal.hpp"

namespace {

constexpr int exit_ended = 1;    // what was watched is no more
constexpr int exit_refused = 2;  // nothing to watch
constexpr int exit_usage = 3;    // wrong usage, or nowhere to print to

struct Options {
    std::string target;
    double interval_s = 1;
    std::uint64_t count = 0;  // samples; 0: until stopped
    bool json = false;
    bool batch = false;
    bool once = false;
    std::string sort = "loop";
    std::string view;
    std::string order;
};

int say(const std::string& reason, int status) {
    std::fprintf(stderr, "whorl-top: %s\n", reason.c_str());
    return status;
}

// The table of loops, and with --view what was asked for of each.
std::string plain(const top::Sample& sample, const top::View& view, bool panels) {
    std::string text;
    for (const top::Line& line : top::table(sample, view)) text += line.text + "\n";
    if (!panels) return text;
    std::vector<top::Row> rows = sample.rows;
    top::sort_rows(rows, view);
    for (const top::Row& row : rows) {
        text += "loop " + std::to_string(row.number) + " " + row.name + "\n";
        for (const top::Line& line : top::panel(row, view, sample.time_ns)) {
            text += line.text + "\n";
        }
    }
    return text;
}

int milliseconds(const top::View& view) { return static_cast<int>(view.interval_s * 1000); }

// Without a terminal: a table, or a line of JSON, for each interval.
int print_samples(top::Source& source, const Options& options, top::View view) {
    top::catch_stop_signals();
    top::Sample sample;
    std::string reason;
    source.want_names(options.json || view.panel == top::Panel::handles);
    // The first interval begins with a reading that is not shown.
    if (!source.take(sample, reason)) return say(reason, exit_ended);
    const std::uint64_t count = options.once ? 1 : options.count;
    for (std::uint64_t taken = 0; count == 0 || taken < count; ++taken) {
        bool ended = false;
        if (top::pause_for(milliseconds(view), source.ended_descriptor(), ended)) {
            return ended ? say(source.title() + ": has ended", exit_ended) : 0;
        }
        if (!source.take(sample, reason)) return say(reason, exit_ended);
        const std::string text = options.json ? top::json(source.title(), sample) + "\n"
                                              : plain(sample, view, !options.view.empty());
        if (!top::write_all(STDOUT_FILENO, text)) {
            if (top::stop_asked()) return 0;
            std::perror("whorl-top: standard output");
            return exit_usage;
        }
    }
    return 0;
}

// The loop above or below the selected one, as they are shown.
void select_next(const top::Sample& sample, top::View& view, int step) {
    if (sample.rows.empty()) return;
    std::vector<top::Row> rows = sample.rows;
    top::sort_rows(rows, view);
    const auto found = std::find_if(
        rows.begin(), rows.end(), [&](const top::Row& row) { return row.number == view.selected; });
    const auto count = static_cast<int>(rows.size());
    const int at = found == rows.end() ? 0 : static_cast<int>(found - rows.begin());
    const int next = std::clamp(at + step, 0, count - 1);
    view.selected = rows[static_cast<std::size_t>(next)].number;
}

void next_order(top::View& view) {
    if (view.panel == top::Panel::slow) {
        view.slow_order =
            static_cast<top::SlowOrder>((static_cast<int>(view.slow_order) + 1) % top::slow_orders);
    } else if (view.panel == top::Panel::handles) {
        view.handle_order = static_cast<whorl::HandleOrder>(
            (static_cast<std::uint32_t>(view.handle_order) + 1) % whorl::handle_orders);
    }
}

// False: the key ends it.
bool obey(int key, const top::Sample& sample, top::View& view) {
    constexpr double interval_min = 0.1, interval_max = 3600;
    switch (key) {
        case 'q':
            return false;
        case 's':
        case '>':
            view.sort =
                static_cast<top::Column>((static_cast<int>(view.sort) + 1) % top::column_count);
            break;
        case '<':
            view.sort = static_cast<top::Column>(
                (static_cast<int>(view.sort) + top::column_count - 1) % top::column_count);
            break;
        case 'v':
            view.panel =
                static_cast<top::Panel>((static_cast<int>(view.panel) + 1) % top::panel_count);
            break;
        case 'o':
            next_order(view);
            break;
        case 'r':
            view.reversed = !view.reversed;
            break;
        case 'p':
        case ' ':
            view.paused = !view.paused;
            break;
        case '+':
            view.interval_s = std::min(view.interval_s * 2, interval_max);
            break;
        case '-':
            view.interval_s = std::max(view.interval_s / 2, interval_min);
            break;
        case top::key_up:
            select_next(sample, view, -1);
            break;
        case top::key_down:
            select_next(sample, view, 1);
            break;
        default:
            break;
    }
    return true;
}

struct Ending {
    int status = 0;
    std::string reason;
    bool can_print = true;
};

// Shows samples until something ends it.
Ending watch(top::Source& source, top::View& view, top::Sample& sample, std::uint64_t count) {
    using Event = top::Terminal::Event;
    top::Terminal terminal;
    Ending ending;
    source.want_names(view.panel == top::Panel::handles);
    if (!source.take(sample, ending.reason)) return {exit_ended, ending.reason, true};
    whorl::Instant due = whorl::clock_now();
    for (std::uint64_t shown = 0;;) {
        if (!terminal.show(
                top::screen(source.title(), sample, view, terminal.width(), terminal.height()))) {
            return {top::stop_asked() && !top::terminal_gone() ? 0 : exit_usage, "", false};
        }
        const auto interval = whorl::Nanoseconds(static_cast<std::int64_t>(view.interval_s * 1e9));
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(due + interval -
                                                                                whorl::clock_now());
        int key = 0;
        const Event event = terminal.wait(static_cast<int>(std::max<std::int64_t>(0, left.count())),
                                          source.ended_descriptor(), key);
        if (event == Event::stop) return ending;
        if (event == Event::gone) return {exit_usage, "", false};
        if (event == Event::ended) return {exit_ended, source.title() + ": has ended", true};
        if (event == Event::key && !obey(key, sample, view)) return ending;
        if (event != Event::time) continue;
        due = whorl::clock_now();
        if (view.paused) continue;
        source.want_names(view.panel == top::Panel::handles);
        if (count != 0 && ++shown == count) return ending;
        top::Sample next;
        if (!source.take(next, ending.reason)) return {exit_ended, ending.reason, true};
        sample = std::move(next);
    }
}

// The last figures stay on the terminal when the screen is given back.
int show_live(top::Source& source, const Options& options, top::View view) {
    top::Sample sample;
    const Ending ending = watch(source, view, sample, options.count);
    if (ending.can_print && !sample.rows.empty()) {
        static_cast<void>(
            top::write_all(STDOUT_FILENO, plain(sample, view, !options.view.empty())));
    }
    return ending.reason.empty() ? ending.status : say(ending.reason, ending.status);
}

}  // namespace

int main(int count, char** words) {
    CLI::App app("Shows what the loops of a running process do (LoopOptions::statistics_page).",
                 "whorl-top");
    Options options;
    app.add_option("TARGET", options.target, "A process's number, or the path of a page")
        ->required();
    app.add_option("-i,--interval", options.interval_s, "Seconds between two readings")
        ->check(CLI::Range(0.01, 3600.0));
    app.add_option("-n,--count", options.count, "End after so many intervals");
    app.add_option(
        "-s,--sort", options.sort,
        "loop, name, busy, handlers, turns, ops, calls, batch, handles, pool, p99 or slow");
    app.add_option("--view", options.view, "Of each loop: kinds, slow or handles");
    app.add_option(
        "--order", options.order,
        "Of slow: recent, longest, times, total; of handles: recent, bytes, completions, age");
    app.add_flag("-b,--batch", options.batch, "Print tables, as without a terminal");
    app.add_flag("-1,--once", options.once, "Print one interval and end");
    app.add_flag("--json", options.json, "Print a line of JSON for each interval");
    app.set_version_flag("--version", "whorl-top " WHORL_VERSION_STRING);
    app.footer(
        "Exit status: 0 ended as asked, 1 what was watched has ended, 2 nothing to watch, 3 wrong "
        "usage or nowhere to print to.");
    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : exit_usage;
    }
    top::View view;
    view.interval_s = options.interval_s;
    if (!top::column_of(options.sort, view.sort)) {
        return say("--sort: there is no column " + options.sort, exit_usage);
    }
    if (!options.view.empty() && !top::panel_of(options.view, view.panel)) {
        return say("--view: there is no view " + options.view, exit_usage);
    }
    if (!options.order.empty() && !top::order_of(options.order, view)) {
        return say("--order: the view has no order " + options.order, exit_usage);
    }
    top::Source source;
    std::string reason;
    if (!source.attach(options.target, reason)) return say(reason, exit_refused);
    const bool prints = options.json || options.batch || options.once || !top::Terminal::usable();
    return prints ? print_samples(source, options, view) : show_live(source, options, view);
}
