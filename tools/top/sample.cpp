// SPDX-License-Identifier: MIT
#include "sample.hpp"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <whorl/operation_latency.hpp>

#include "names.hpp"

namespace top {

namespace {

constexpr std::uint64_t look_every_ns = 5'000'000'000;
constexpr std::uint32_t pages_max = 1024;
constexpr double stuck_after_s = 1;

std::uint64_t now_ns() {
    return static_cast<std::uint64_t>(whorl::clock_now().time_since_epoch().count());
}

// A number that only grows, unless the page lies.
double grown(std::uint64_t before, std::uint64_t now) {
    return now > before ? static_cast<double>(now - before) : 0.0;
}

std::string refusal(const std::string& target, whorl::Error error) {
    switch (error.value()) {
        case ESRCH:
        case ENOENT:
            return target + ": no such process or page";
        case EACCES:
        case EPERM:
            return target +
                   ": not permitted: a page is open to the user of its process, and to root";
        case EBADMSG:
            return target + ": is no statistics page of whorl";
        case ENOTSUP:
            return target + ": is a statistics page of another version of whorl";
        case EAGAIN:
            return target + ": is never whole: the process may have died while it wrote";
        default:
            return target + ": " + error.text();
    }
}

bool is_number(const std::string& text) {
    return !text.empty() && text.size() < 10 &&
           text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

Source::~Source() {
    if (ended_fd_ >= 0) ::close(ended_fd_);
}

bool Source::attach(const std::string& target, std::string& reason) {
    title_ = target;
    constexpr char prefix[] = "/proc/";
    if (is_number(target)) {
        process_ = owner_ = std::atoi(target.c_str());
        title_ = "process " + target;
    } else if (target.compare(0, sizeof prefix - 1, prefix) == 0) {
        owner_ = std::atoi(target.c_str() + sizeof prefix - 1);
    }
    if (owner_ > 0) {
        ended_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, owner_, 0));
        if (ended_fd_ < 0 && errno == ESRCH) {
            reason = target + ": no such process";
            return false;
        }
    }
    if (process_ != 0) return look_again(reason);
    whorl::Result<whorl::StatisticsPage> page = whorl::StatisticsPage::open(target.c_str());
    if (!page) {
        reason = refusal(target, page.error());
        return false;
    }
    pages_.push_back({target, std::move(*page), nullptr, nullptr, 0});
    return true;
}

// Loops come and go: new pages are opened, those that are gone are let go.
bool Source::look_again(std::string& reason) {
    looked_ns_ = now_ns();
    std::vector<whorl::StatisticsPage::Place> places(pages_max);
    const whorl::Result<std::uint32_t> found =
        whorl::StatisticsPage::find(process_, places.data(), pages_max);
    if (!found) {
        reason = refusal(title_, found.error());
        return false;
    }
    places.resize(std::min(*found, pages_max));
    std::vector<Page> pages;
    for (const whorl::StatisticsPage::Place& place : places) {
        const auto known = std::find_if(pages_.begin(), pages_.end(), [&](const Page& page) {
            return page.path == place.path && page.before != nullptr &&
                   page.before->state != whorl::LoopState::ended;
        });
        if (known != pages_.end()) {
            pages.push_back(std::move(*known));
            pages_.erase(known);
            continue;
        }
        whorl::Result<whorl::StatisticsPage> page = whorl::StatisticsPage::open(place.path);
        if (page) pages.push_back({place.path, std::move(*page), nullptr, nullptr, 0});
    }
    pages_ = std::move(pages);
    if (!pages_.empty()) return true;
    reason = title_ + ": no loop of it has a page; set LoopOptions::statistics_page";
    return false;
}

bool Source::has_ended() const {
    pollfd entry{ended_fd_, POLLIN, 0};
    return ended_fd_ >= 0 && ::poll(&entry, 1, 0) > 0;
}

bool Source::take(Sample& sample, std::string& reason) {
    if (has_ended()) {
        reason = title_ + ": has ended";
        return false;
    }
    sample = {};
    sample.time_ns = now_ns();
    if (process_ != 0 && sample.time_ns - looked_ns_ >= look_every_ns && !look_again(reason)) {
        return false;
    }
    sample.interval_s = before_ns_ == 0 ? 0 : grown(before_ns_, sample.time_ns) / 1e9;
    before_ns_ = sample.time_ns;
    bool alive = false;
    for (Page& page : pages_) {
        auto figures = std::make_unique<whorl::LoopFigures>();
        if (whorl::Error error = page.page.read(*figures)) {
            reason = refusal(page.path, error);
            // A loop that was stopped while it wrote goes on one day; what it was before still stands.
            const bool writes = error.value() == EAGAIN && owner_ > 0;
            alive = alive || writes;
            if (!writes || page.before == nullptr) continue;
            *figures = *page.before;
        }
        alive = alive || figures->state != whorl::LoopState::ended;
        sample.rows.push_back(row_of(page, *figures, sample.time_ns));
        add_details(page, sample.rows.back());
        page.before = std::move(figures);
        page.before_ns = sample.time_ns;
    }
    if (alive) return true;
    if (process_ != 0 && look_again(reason)) return true;
    if (reason.empty()) reason = title_ + ": its loop has ended";
    return !sample.rows.empty() && process_ == 0 && pages_[0].before_ns == 0;
}

void Source::add_details(Page& page, Row& row) const {
    if (page.details == nullptr) page.details = std::make_unique<whorl::LoopDetails>();
    if (!page.page.read(row.details)) *page.details = row.details;
    else row.details = *page.details;
    if (!wants_names_ || owner_ <= 0 || row.details.handles_wanted == 0) return;
    std::vector<int> fds;
    for (std::uint32_t order = 0; order < whorl::handle_orders; ++order) {
        for (std::uint64_t index = 0; index < row.details.handles_count[order]; ++index) {
            const std::int64_t fd = row.details.handles[order][index].fd;
            if (fd >= 0 && fd <= INT32_MAX) fds.push_back(static_cast<int>(fd));
        }
    }
    std::sort(fds.begin(), fds.end());
    fds.erase(std::unique(fds.begin(), fds.end()), fds.end());
    row.names = names_of(owner_, fds);
}

Row Source::row_of(const Page& page, const whorl::LoopFigures& now, std::uint64_t time_ns) {
    Row row;
    row.figures = now;
    row.number = now.number;
    row.name = now.name;
    row.backend = now.backend;
    row.age_s = grown(now.published_ns, time_ns) / 1e9;
    const bool runs = now.state == whorl::LoopState::running;
    row.state = runs ? "runs" : "waits";
    if (runs && row.age_s > stuck_after_s && now.publications > 1) row.state = "stuck";
    if (now.state == whorl::LoopState::ended) row.state = "ended";
    // Without an earlier reading: what it has done since it was made.
    const whorl::LoopFigures none{};
    const whorl::LoopFigures& before = page.before == nullptr ? none : *page.before;
    const std::uint64_t from = page.before == nullptr ? now.created_ns : page.before_ns;
    const double time = std::max(1.0, grown(from, time_ns));
    const auto percent = [&](std::uint64_t was, std::uint64_t is) {
        return std::min(100.0, 100 * grown(was, is) / time);
    };
    const auto rate = [&](std::uint64_t was, std::uint64_t is) {
        return grown(was, is) * 1e9 / time;
    };
    row.busy = percent(before.cpu_ns, now.cpu_ns);
    row.handlers = percent(before.handler_ns, now.handler_ns);
    row.own = percent(before.own_ns, now.own_ns);
    row.waiting = std::max(0.0, 100 - row.handlers - row.own);
    const whorl::Statistics& was = before.statistics;
    const whorl::Statistics& is = now.statistics;
    row.turns = rate(was.turns, is.turns);
    row.operations = rate(was.completions, is.completions);
    row.calls = rate(was.handlers + was.posts_run + was.remote_posts_run + was.timers_fired,
                     is.handlers + is.posts_run + is.remote_posts_run + is.timers_fired);
    const double turns = grown(was.turns, is.turns);
    row.batch = turns == 0 ? 0 : grown(was.completions, is.completions) / turns;
    for (std::uint32_t index = 0; index < now.kinds_count; ++index) {
        const whorl::KindFigures& kind = now.kinds[index];
        const auto& waited = kind.latency[static_cast<int>(whorl::LatencyPhase::waiting)];
        const auto& ran = kind.latency[static_cast<int>(whorl::LatencyPhase::handler)];
        row.p99_waiting_ns = std::max(row.p99_waiting_ns, waited.p99);
        row.p99_handler_ns = std::max(row.p99_handler_ns, ran.p99);
        if (kind.submitted == 0 && ran.count == 0) continue;
        row.kinds.push_back({page.page.kind_name(index),
                             rate(before.kinds[index].submitted, kind.submitted), kind});
    }
    std::stable_sort(
        row.kinds.begin(), row.kinds.end(),
        [](const Row::Kind& one, const Row::Kind& two) { return one.rate > two.rate; });
    return row;
}

}  // namespace top
