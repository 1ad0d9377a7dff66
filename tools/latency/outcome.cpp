// SPDX-License-Identifier: MIT
#include "outcome.hpp"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace latency {

namespace {

constexpr std::uint32_t fine = 10, coarse = 7;  // 0.1 % and 0.8 %
constexpr std::size_t windows_max = 240;
constexpr std::uint64_t window_values_min = 100;  // fewer say nothing
constexpr std::size_t windows_to_judge = 6;

std::uint64_t nanoseconds(whorl::Nanoseconds time) {
    return time.count() < 0 ? 0 : static_cast<std::uint64_t>(time.count());
}

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

std::vector<double> of_windows(const Outcome& outcome, double percent) {
    std::vector<double> values;
    for (const Window& window : outcome.windows) {
        if (window.latencies.count() < window_values_min) continue;
        values.push_back(static_cast<double>(window.latencies.percentile(percent)));
    }
    return values;
}

__attribute__((format(printf, 1, 2))) std::string sentence(const char* format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

void judge_client(const Outcome& outcome, Judgement& judgement) {
    const auto late = static_cast<double>(outcome.late.percentile(99));
    const auto headline = static_cast<double>(outcome.intended.percentile(99));
    if (outcome.late.count() > 0 && late > 0.1 * headline) {
        judgement.reasons.push_back(sentence(
            "The client itself was late: p99 %.1f us of lateness, over a tenth of the p99 latency.",
            late * 1e-3));
    }
    if (outcome.cpu_share > 0.95 && !outcome.busy_poll) {
        judgement.reasons.push_back(sentence(
            "The client had its processor for %.0f %% of the time.", outcome.cpu_share * 100));
    }
    if (!judgement.reasons.empty()) judgement.verdict = Verdict::client_bound;
}

void judge_missing(const Outcome& outcome, Judgement& judgement) {
    const std::uint64_t missing = outcome.unanswered + outcome.lost;
    const std::uint64_t all = outcome.answered + missing;
    if (static_cast<double>(missing) > 0.001 * static_cast<double>(all)) {
        judgement.reasons.push_back(sentence("%llu of %llu messages were not answered.",
                                             static_cast<unsigned long long>(missing),
                                             static_cast<unsigned long long>(all)));
    }
}

void judge_statuses(const Outcome& outcome, Judgement& judgement) {
    if (outcome.refuses()) {
        judgement.reasons.push_back(sentence("%llu of %llu answers have a status of 400 or more.",
                                             static_cast<unsigned long long>(outcome.refused()),
                                             static_cast<unsigned long long>(outcome.answered)));
    }
}

void judge_windows(const Outcome& outcome, Judgement& judgement) {
    const std::vector<double> middles = of_windows(outcome, 50);
    if (middles.size() < windows_to_judge) return;
    const auto third = static_cast<std::ptrdiff_t>(middles.size() / 3);
    const double before = median({middles.begin(), middles.begin() + third});
    const double after = median({middles.end() - third, middles.end()});
    if (after > 1.25 * before || after < 0.8 * before) {
        judgement.reasons.push_back(sentence(
            "It drifts: p50 %.1f us in the first third of the windows, %.1f us in the last.",
            before * 1e-3, after * 1e-3));
    }
    const double usual = median(of_windows(outcome, 99));
    for (std::size_t index = 0; index < outcome.windows.size(); ++index) {
        const whorl::Histogram& latencies = outcome.windows[index].latencies;
        if (latencies.count() < window_values_min) continue;
        if (static_cast<double>(latencies.percentile(99)) > 3 * usual) {
            judgement.outliers.push_back(index);
        }
    }
    if (!judgement.outliers.empty()) {
        judgement.reasons.push_back(
            sentence("%zu of %zu windows have a p99 over three times the "
                     "usual one, the first at %.1f s.",
                     judgement.outliers.size(), middles.size(),
                     outcome.windows[judgement.outliers[0]].start_s));
    }
}

}  // namespace

whorl::Histogram make_histogram(std::uint32_t bits) {
    whorl::HistogramOptions options;
    options.bits = bits;
    whorl::Result<whorl::Histogram> made = whorl::Histogram::create(options);
    if (!made) {
        std::fprintf(stderr, "whorl-latency: no memory for a histogram\n");
        std::exit(2);
    }
    return std::move(*made);
}

const char* name_of(Verdict verdict) {
    switch (verdict) {
        case Verdict::stable:
            return "STABLE";
        case Verdict::unstable:
            return "UNSTABLE";
        case Verdict::client_bound:
            return "CLIENT-BOUND";
    }
    return "";
}

bool few_samples(const whorl::Histogram& histogram, double percent) {
    return static_cast<double>(histogram.count()) * (100 - percent) / 100 < 10 - 1e-6;
}

// Windows of a second; of a tenth of the run when it is short, and longer ones when they would be too many.
Outcome::Outcome(const Plan& of)
    : plan(of), intended(make_histogram(fine)), sent(make_histogram(fine)),
      late(make_histogram(fine)), refusals(make_histogram(coarse)) {
    const whorl::Nanoseconds second = std::chrono::seconds(1);
    window_length =
        std::max({whorl::Nanoseconds(1), std::min<whorl::Nanoseconds>(second, plan.duration / 10),
                  plan.duration / static_cast<std::int64_t>(windows_max)});
    const auto count = static_cast<std::size_t>(
        (plan.duration + window_length - whorl::Nanoseconds(1)) / window_length);
    for (std::size_t index = 0; index < count; ++index) {
        const double start =
            static_cast<double>(index) * static_cast<double>(window_length.count());
        windows.push_back({start * 1e-9, make_histogram(coarse)});
    }
    measured = plan.duration;
}

void Outcome::answer(whorl::Nanoseconds at, whorl::Nanoseconds from_intended,
                     whorl::Nanoseconds from_sending) {
    if (at < whorl::Nanoseconds::zero()) return;
    ++answered;
    intended.record(nanoseconds(from_intended));
    sent.record(nanoseconds(from_sending));
    const auto window = static_cast<std::size_t>(at / window_length);
    windows[std::min(window, windows.size() - 1)].latencies.record(nanoseconds(from_intended));
}

void Outcome::refusal(whorl::Nanoseconds at, whorl::Nanoseconds from_intended) {
    if (at < whorl::Nanoseconds::zero()) return;
    ++answered;
    refusals.record(nanoseconds(from_intended));
}

void Outcome::unanswered_message(whorl::Nanoseconds at, whorl::Nanoseconds waited, bool was_sent,
                                 whorl::Nanoseconds since_sending) {
    if (at < whorl::Nanoseconds::zero()) return;
    ++unanswered;
    intended.record(nanoseconds(waited));
    if (was_sent) sent.record(nanoseconds(since_sending));
    const auto window = static_cast<std::size_t>(at / window_length);
    windows[std::min(window, windows.size() - 1)].latencies.record(nanoseconds(waited));
}

void Outcome::sent_late(whorl::Nanoseconds at, whorl::Nanoseconds by) {
    if (at >= whorl::Nanoseconds::zero()) late.record(nanoseconds(by));
}

Judgement Outcome::judge() const {
    Judgement judgement;
    judge_client(*this, judgement);
    judge_missing(*this, judgement);
    judge_statuses(*this, judgement);
    judge_windows(*this, judgement);
    if (!judgement.reasons.empty() && judgement.verdict == Verdict::stable) {
        judgement.verdict = Verdict::unstable;
    }
    if (of_windows(*this, 50).size() < windows_to_judge) {
        judgement.reasons.emplace_back(
            "Fewer than 6 windows have 100 messages: drift and outliers were not looked for.");
    }
    return judgement;
}

// The mean of the windows' values and the normal 95 % interval of it.
Spread Outcome::spread(double percent) const {
    const std::vector<double> values = of_windows(*this, percent);
    Spread spread;
    spread.windows = values.size();
    if (values.empty()) return spread;
    const auto count = static_cast<double>(values.size());
    for (const double value : values) spread.middle += value / count;
    double squares = 0;
    for (const double value : values) {
        squares += (value - spread.middle) * (value - spread.middle);
    }
    if (values.size() > 1) spread.half_width = 1.96 * std::sqrt(squares / (count - 1) / count);
    return spread;
}

bool Outcome::refuses() const {
    return static_cast<double>(refused()) > 0.001 * static_cast<double>(answered);
}

double Outcome::rate_answered() const {
    const double seconds = static_cast<double>(measured.count()) * 1e-9;
    return seconds > 0 ? static_cast<double>(answered) / seconds : 0;
}

}  // namespace latency
