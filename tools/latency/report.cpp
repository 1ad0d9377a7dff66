// SPDX-License-Identifier: MIT
#include "report.hpp"

#include "common/json.hpp"

#include <whorl/version.hpp>

#include <cstdarg>
#include <cstdio>

namespace latency {

namespace {

using tools::add;

double seconds(whorl::Nanoseconds time) { return static_cast<double>(time.count()) * 1e-9; }

std::string load_text(const Plan& plan) {
    std::string out;
    const char* plural = plan.connections == 1 ? "" : "s";
    if (plan.target.kind == Kind::timer) {
        add(out, "%u timer%s", plan.connections, plural);
    } else if (plan.target.kind == Kind::channel) {
        add(out, "%u pair%s of channels between two loops", plan.connections, plural);
    } else if (plan.target.kind == Kind::http) {
        add(out, "%u connection%s, ", plan.connections, plural);
        out += plan.ask.method;
        if (!plan.ask.body.empty()) add(out, " of %zu bytes", plan.ask.body.size());
    } else {
        add(out, "%u connection%s, %u bytes", plan.connections, plural, plan.size);
    }
    if (!plan.closed) add(out, ", open loop, %g/s", plan.rate);
    else add(out, ", closed loop");
    if (plan.target.kind != Kind::timer) add(out, ", depth %u", plan.depth);
    return out;
}

void add_row(std::string& out, const char* name, const Outcome& outcome, double intended,
             double sent, bool few) {
    const bool both = outcome.plan.target.kind != Kind::timer && !outcome.plan.closed;
    add(out, "  %-10s %12s%s", name, time_text(intended).c_str(), few ? " ~" : "  ");
    if (both) add(out, " %16s", time_text(sent).c_str());
    out += '\n';
}

void add_table(std::string& out, const Outcome& outcome) {
    const whorl::Histogram& intended = outcome.intended;
    const whorl::Histogram& sent = outcome.sent;
    const bool answers = outcome.plan.target.kind != Kind::timer;
    const char* first = !answers              ? "late by"
                        : outcome.plan.closed ? "from sending"
                                              : "from intended";
    const bool both = answers && !outcome.plan.closed;
    add(out, "\n  %-10s %12s   %s\n", "", first, both ? "   send to answer" : "");
    add_row(out, "min", outcome, static_cast<double>(intended.min()),
            static_cast<double>(sent.min()), false);
    bool few_seen = false;
    for (const double percent : percentiles) {
        const bool few = few_samples(intended, percent);
        few_seen = few_seen || few;
        add_row(out, percentile_name(percent).c_str(), outcome,
                static_cast<double>(intended.percentile(percent)),
                static_cast<double>(sent.percentile(percent)), few);
    }
    add_row(out, "max", outcome, static_cast<double>(intended.max()),
            static_cast<double>(sent.max()), false);
    add_row(out, "mean", outcome, intended.mean(), sent.mean(), false);
    if (outcome.plan.closed) {
        out +=
            "  closed loop: while an answer is late nothing is sent, so what others would have\n"
            "  waited meanwhile is not in these figures\n";
    }
    if (few_seen) out += "  ~ too few messages: not ten lie beyond it\n";
}

void add_spread(std::string& out, const Outcome& outcome, double percent) {
    const Spread spread = outcome.spread(percent);
    if (spread.windows < 2) return;
    add(out, "windows    %s %s +- %s (95 %% of %zu windows of %.3g s)\n",
        percentile_name(percent).c_str(), time_text(spread.middle).c_str(),
        time_text(spread.half_width).c_str(), spread.windows, seconds(outcome.window_length));
}

void add_json_histogram(std::string& out, const char* name, const whorl::Histogram& histogram) {
    const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    add(out, "  \"%s\": {\"count\": %llu, \"min\": %llu, \"mean\": %.1f, \"deviation\": %.1f", name,
        number(histogram.count()), number(histogram.min()), histogram.mean(),
        histogram.deviation());
    std::string few;
    for (const double percent : percentiles) {
        add(out, ", \"%s\": %llu", percentile_name(percent).c_str(),
            number(histogram.percentile(percent)));
        if (few_samples(histogram, percent)) {
            if (!few.empty()) few += ", ";
            few += tools::quoted(percentile_name(percent));
        }
    }
    add(out, ", \"max\": %llu, \"clipped\": %llu, \"too_few_samples\": [%s]},\n",
        number(histogram.max()), number(histogram.clipped()), few.c_str());
}

void add_statuses(std::string& out, const Outcome& outcome) {
    const char* name = "statuses  ";
    for (const auto& [status, count] : outcome.statuses) {
        add(out, "%s %u: %llu", name, status, static_cast<unsigned long long>(count));
        name = ",";
    }
    if (!outcome.statuses.empty()) out += '\n';
    if (outcome.refused() > 0) {
        add(out, "refused    %llu, which are in no percentile below; theirs: p50 %s, max %s\n",
            static_cast<unsigned long long>(outcome.refused()),
            time_text(static_cast<double>(outcome.refusals.percentile(50))).c_str(),
            time_text(static_cast<double>(outcome.refusals.max())).c_str());
    }
    if (outcome.reconnects > 0) {
        add(out, "reconnects %llu: the server closed connections\n",
            static_cast<unsigned long long>(outcome.reconnects));
    }
}

void add_json_statuses(std::string& out, const Outcome& outcome) {
    if (outcome.plan.target.kind != Kind::http) return;
    out += "  \"statuses\": {";
    const char* comma = "";
    for (const auto& [status, count] : outcome.statuses) {
        add(out, "%s\"%u\": %llu", comma, status, static_cast<unsigned long long>(count));
        comma = ", ";
    }
    add(out, "}, \"refused\": %llu, \"refused_p50_ns\": %llu, \"refused_max_ns\": %llu,\n",
        static_cast<unsigned long long>(outcome.refused()),
        static_cast<unsigned long long>(outcome.refusals.percentile(50)),
        static_cast<unsigned long long>(outcome.refusals.max()));
    add(out, "  \"reconnects\": %llu,\n", static_cast<unsigned long long>(outcome.reconnects));
}

std::string hex_of(const whorl::Histogram& histogram) {
    std::vector<std::byte> bytes(histogram.encode(nullptr, 0));
    (void)histogram.encode(bytes.data(), bytes.size());
    std::string out;
    for (const std::byte byte : bytes) add(out, "%02x", std::to_integer<unsigned>(byte));
    return out;
}

void add_json_windows(std::string& out, const Outcome& outcome) {
    out += "  \"windows\": [";
    const char* comma = "";
    for (const Window& window : outcome.windows) {
        add(out,
            "%s\n    {\"start_s\": %.3f, \"count\": %llu, \"p50\": %llu, \"p99\": %llu, "
            "\"max\": %llu}",
            comma, window.start_s, static_cast<unsigned long long>(window.latencies.count()),
            static_cast<unsigned long long>(window.latencies.percentile(50)),
            static_cast<unsigned long long>(window.latencies.percentile(99)),
            static_cast<unsigned long long>(window.latencies.max()));
        comma = ",";
    }
    out += "\n  ],\n";
}

}  // namespace

std::string time_text(double ns) {
    char text[48];
    const char* unit = ns < 1e3 ? "ns" : ns < 1e6 ? "us" : ns < 1e9 ? "ms" : "s";
    const double value = ns < 1e3 ? ns : ns < 1e6 ? ns * 1e-3 : ns < 1e9 ? ns * 1e-6 : ns * 1e-9;
    const int digits = ns < 1e3 || value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3;
    (void)std::snprintf(text, sizeof text, "%.*f %s", digits, value, unit);
    return text;
}

std::string percentile_name(double percent) {
    char text[32];
    (void)std::snprintf(text, sizeof text, "p%g", percent);
    return text;
}

std::string text_of(const Outcome& outcome) {
    const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::string out = "target     " + outcome.plan.target.text + "\n";
    out += "load       " + load_text(outcome.plan) + "\n";
    out += "backend    " + outcome.backend + (outcome.busy_poll ? ", busy polling\n" : "\n");
    add(out, "measured   %.3g s after %.3g s of warm-up%s: %llu answers, %.1f/s\n",
        seconds(outcome.measured), seconds(outcome.plan.warmup),
        outcome.interrupted ? ", interrupted" : "", number(outcome.answered),
        outcome.rate_answered());
    if (outcome.unanswered > 0) {
        add(out, "unanswered %llu, which count with the time they had waited\n",
            number(outcome.unanswered));
    }
    if (outcome.lost > 0) add(out, "lost       %llu datagrams\n", number(outcome.lost));
    add_statuses(out, outcome);
    if (outcome.intended.count() > 0) add_table(out, outcome);
    out += '\n';
    add_spread(out, outcome, 50);
    add_spread(out, outcome, 99);
    if (outcome.late.count() > 0) {
        add(out, "client     sent late by p50 %s, p99 %s",
            time_text(static_cast<double>(outcome.late.percentile(50))).c_str(),
            time_text(static_cast<double>(outcome.late.percentile(99))).c_str());
        if (outcome.cpu_share > 0) add(out, "; %.0f %% of a processor", outcome.cpu_share * 100);
        out += '\n';
    }
    if (!outcome.failure.empty()) out += "failed     " + outcome.failure + "\n";
    const Judgement judgement = outcome.judge();
    add(out, "verdict    %s\n", name_of(judgement.verdict));
    for (const std::string& reason : judgement.reasons) out += "           " + reason + "\n";
    return out;
}

std::string json_of(const Outcome& outcome) {
    const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    const Plan& plan = outcome.plan;
    std::string out = "{\n  \"tool\": \"whorl-latency\", \"version\": \"" WHORL_VERSION_STRING
                      "\",\n  \"target\": " +
                      tools::quoted(plan.target.text);
    add(out, ", \"mode\": \"%s\",\n", plan.closed ? "closed" : "open");
    if (!plan.closed) add(out, "  \"rate\": %.17g,\n", plan.rate);
    add(out, "  \"connections\": %u, \"size\": %u, \"depth\": %u,\n", plan.connections, plan.size,
        plan.depth);
    add(out, "  \"warmup_s\": %.6f, \"duration_s\": %.6f, \"measured_s\": %.6f,\n",
        seconds(plan.warmup), seconds(plan.duration), seconds(outcome.measured));
    out += "  \"backend\": " + tools::quoted(outcome.backend);
    add(out, ", \"busy_poll\": %s, \"interrupted\": %s,\n", outcome.busy_poll ? "true" : "false",
        outcome.interrupted ? "true" : "false");
    add(out, "  \"answered\": %llu, \"unanswered\": %llu, \"lost\": %llu,\n",
        number(outcome.answered), number(outcome.unanswered), number(outcome.lost));
    add_json_statuses(out, outcome);
    out += "  \"failure\": " + (outcome.failure.empty() ? "null" : tools::quoted(outcome.failure));
    add(out, ",\n  \"cpu_share\": %.4f,\n", outcome.cpu_share);
    add_json_histogram(out, "intended_ns", outcome.intended);
    add_json_histogram(out, "sent_ns", outcome.sent);
    add_json_histogram(out, "late_ns", outcome.late);
    add_json_windows(out, outcome);
    const Judgement judgement = outcome.judge();
    add(out, "  \"verdict\": \"%s\", \"reasons\": [", name_of(judgement.verdict));
    const char* comma = "";
    for (const std::string& reason : judgement.reasons) {
        out += comma + tools::quoted(reason);
        comma = ", ";
    }
    out += "],\n  \"intended_histogram\": \"" + hex_of(outcome.intended) +
           "\",\n  \"sent_histogram\": \"" + hex_of(outcome.sent) + "\"\n}\n";
    return out;
}

std::string csv_of(const Outcome& outcome) {
    std::string out = "start_s,count,min_us,p50_us,p90_us,p99_us,p99.9_us,max_us,mean_us\n";
    for (const Window& window : outcome.windows) {
        const whorl::Histogram& latencies = window.latencies;
        const auto us = [](std::uint64_t ns) { return static_cast<double>(ns) * 1e-3; };
        add(out, "%.3f,%llu,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f\n", window.start_s,
            static_cast<unsigned long long>(latencies.count()), us(latencies.min()),
            us(latencies.percentile(50)), us(latencies.percentile(90)),
            us(latencies.percentile(99)), us(latencies.percentile(99.9)), us(latencies.max()),
            latencies.mean() * 1e-3);
    }
    return out;
}

std::string hgrm_of(const whorl::Histogram& histogram) {
    whorl::HgrmOptions options;
    options.unit = 1000;
    std::string text(whorl::print_hgrm(histogram, options, nullptr, 0) + 1, '\0');
    (void)whorl::print_hgrm(histogram, options, text.data(), text.size());
    text.pop_back();
    return text;
}

std::string progress_of(const Outcome& outcome, double elapsed_s, std::uint64_t under_way) {
    std::string out;
    const double warmup = seconds(outcome.plan.warmup);
    if (elapsed_s < warmup) {
        add(out, "%5.1f s  warming up", elapsed_s);
        return out;
    }
    const whorl::Histogram& histogram = outcome.intended;
    add(out, "%5.1f s  %llu answers", elapsed_s - warmup,
        static_cast<unsigned long long>(outcome.answered));
    for (const double percent : {50.0, 99.0, 99.9}) {
        add(out, "  %s %s%s", percentile_name(percent).c_str(),
            time_text(static_cast<double>(histogram.percentile(percent))).c_str(),
            few_samples(histogram, percent) ? "~" : "");
    }
    add(out, "  max %s  under way %llu", time_text(static_cast<double>(histogram.max())).c_str(),
        static_cast<unsigned long long>(under_way));
    return out;
}

}  // namespace latency
