// SPDX-License-Identifier: MIT
// Goal: what whorl-latency says about figures is right: verdicts, marks, formats, expectations.
// Method: outcomes made by hand.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "latency/report.hpp"

namespace {

using namespace std::chrono_literals;
using latency::Outcome;
using latency::Plan;
using latency::Verdict;

Plan make_plan() {
    Plan plan;
    plan.target.kind = latency::Kind::tcp;
    plan.target.text = "tcp://here & \"there\"";
    plan.warmup = 0s;
    plan.duration = 10s;
    return plan;
}

// A message every millisecond, with a latency by its number.
template <class Latency>
Outcome make_outcome(const Latency& latency) {
    Outcome outcome(make_plan());
    for (int message = 0; message < 10'000; ++message) {
        const whorl::Nanoseconds taken = latency(message);
        outcome.answer(std::chrono::milliseconds(message), taken, taken);
    }
    return outcome;
}

Outcome steady() {
    return make_outcome([](int message) { return 100us + message % 100 * 1us; });
}

class TemporaryFile {
  public:
    explicit TemporaryFile(const std::string& content) {
        const int fd = ::mkstemp(name_);
        EXPECT_GE(fd, 0);
        (void)::close(fd);
        EXPECT_TRUE(latency::write_file(name_, content));
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() { (void)std::remove(name_); }
    const char* name() const { return name_; }

  private:
    char name_[32] = "/tmp/whorl-latency-XXXXXX";
};

TEST(LatencyVerdict, steady_is_stable) {
    const latency::Judgement judgement = steady().judge();
    EXPECT_EQ(judgement.verdict, Verdict::stable);
    EXPECT_TRUE(judgement.reasons.empty());
}

TEST(LatencyVerdict, drift) {
    const Outcome slower = make_outcome([](int message) { return 100us + message * 10ns; });
    EXPECT_EQ(slower.judge().verdict, Verdict::unstable);
    const Outcome hardly = make_outcome([](int message) { return 100us + message * 1ns; });
    EXPECT_EQ(hardly.judge().verdict, Verdict::stable);
}

TEST(LatencyVerdict, outliers) {
    const Outcome outcome = make_outcome(
        [](int message) { return message / 1000 == 7 && message % 50 == 0 ? 1000us : 100us; });
    const latency::Judgement judgement = outcome.judge();
    EXPECT_EQ(judgement.verdict, Verdict::unstable);
    EXPECT_EQ(judgement.outliers, std::vector<std::size_t>{7});
}

TEST(LatencyVerdict, missing_answers) {
    Outcome outcome = steady();
    outcome.lost = 10;
    EXPECT_EQ(outcome.judge().verdict, Verdict::stable);
    outcome.lost = 11;
    EXPECT_EQ(outcome.judge().verdict, Verdict::unstable);
}

TEST(LatencyVerdict, a_client_that_is_late_or_busy) {
    Outcome outcome = steady();
    for (int message = 0; message < 1000; ++message) outcome.sent_late(0s, 19us);
    EXPECT_EQ(outcome.judge().verdict, Verdict::stable);
    for (int message = 0; message < 1000; ++message) outcome.sent_late(0s, 21us);
    EXPECT_EQ(outcome.judge().verdict, Verdict::client_bound);
    Outcome busy = steady();
    busy.cpu_share = 0.96;
    EXPECT_EQ(busy.judge().verdict, Verdict::client_bound);
    busy.busy_poll = true;
    EXPECT_EQ(busy.judge().verdict, Verdict::stable);
}

TEST(LatencyVerdict, too_short_to_judge_is_said) {
    Outcome outcome(make_plan());
    outcome.answer(1s, 1ms, 1ms);
    const latency::Judgement judgement = outcome.judge();
    EXPECT_EQ(judgement.verdict, Verdict::stable);
    ASSERT_EQ(judgement.reasons.size(), 1u);
}

// Windows of 100 and 300: the mean is 200, the deviation 104.4 (nine degrees), the interval 1.96 of its
// tenth part's root.
TEST(LatencyOutcome, spread_of_windows) {
    const Outcome outcome =
        make_outcome([](int message) { return message / 1000 % 2 == 0 ? 100ns : 300ns; });
    const latency::Spread spread = outcome.spread(99);
    EXPECT_EQ(spread.windows, 10u);
    EXPECT_NEAR(spread.middle, 200, 0.51);
    EXPECT_NEAR(spread.half_width, 1.96 * 105.4 / 3.162, 0.5);
}

TEST(LatencyOutcome, windows_have_a_length_that_fits) {
    Plan plan = make_plan();
    EXPECT_EQ(Outcome(plan).windows.size(), 10u);
    plan.duration = 1s;
    EXPECT_EQ(Outcome(plan).windows.size(), 10u);
    plan.duration = 2400s;
    EXPECT_LE(Outcome(plan).windows.size(), 241u);
    plan.duration = 1500ms * 7;
    EXPECT_EQ(Outcome(plan).windows.size(), 11u);
}

TEST(LatencyReport, percentiles_without_samples_are_marked) {
    const Outcome outcome = steady();
    EXPECT_FALSE(latency::few_samples(outcome.intended, 99.9));  // ten of 10,000
    EXPECT_TRUE(latency::few_samples(outcome.intended, 99.99));
    const std::string text = latency::text_of(outcome);
    EXPECT_NE(text.find("p99.99         199.0 us ~"), std::string::npos) << text;
    EXPECT_EQ(text.find("p99            198.0 us ~"), std::string::npos) << text;
    EXPECT_NE(text.find("p99            198.0 us  "), std::string::npos) << text;
    EXPECT_NE(text.find("verdict    STABLE"), std::string::npos) << text;
}

TEST(LatencyReport, times_are_readable) {
    EXPECT_EQ(latency::time_text(12), "12 ns");
    EXPECT_EQ(latency::time_text(1234), "1.234 us");
    EXPECT_EQ(latency::time_text(45'678'000), "45.68 ms");
    EXPECT_EQ(latency::time_text(2e9), "2.000 s");
}

TEST(LatencyReport, csv_has_a_line_a_window) {
    const std::string csv = latency::csv_of(steady());
    EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 11);
    EXPECT_NE(csv.find("\n3.000,1000,100.000,"), std::string::npos) << csv;
}

TEST(LatencyReport, plots_escape_what_they_are_told) {
    const std::string html = latency::html_of(steady());
    EXPECT_NE(html.find("here &amp; &quot;there&quot;"), std::string::npos);
    EXPECT_EQ(html.find("here & \"there\""), std::string::npos);
    EXPECT_EQ(html.find("<script"), std::string::npos);
    // The text keeps its lines, and the page its table.
    EXPECT_NE(
        html.find(latency::text_of(steady()).substr(latency::text_of(steady()).find("load "))),
        std::string::npos)
        << html;
    // Nothing is fetched: the only address is the name space of SVG.
    std::size_t at = 0;
    while ((at = html.find("http", at)) != std::string::npos) {
        EXPECT_EQ(html.compare(at, 26, "http://www.w3.org/2000/svg"), 0);
        ++at;
    }
    const Outcome nothing(make_plan());
    EXPECT_NE(latency::html_of(nothing).find("</html>"), std::string::npos);
}

TEST(LatencyCompare, saved_runs_come_back) {
    const Outcome outcome = steady();
    for (const std::string& content :
         {latency::json_of(outcome), latency::hgrm_of(outcome.intended)}) {
        const TemporaryFile file(content);
        latency::Curve curve;
        std::string why;
        ASSERT_TRUE(latency::load_curve(file.name(), curve, why)) << why;
        EXPECT_NEAR(curve.at(50), 149, 1);
        EXPECT_NEAR(curve.at(99), 198, 1.1);
        EXPECT_NEAR(curve.at(100), 199, 0.5);
        const std::string text = latency::compare_text(curve, curve);
        EXPECT_NE(text.find("+0.0 %"), std::string::npos) << text;
    }
}

TEST(LatencyCompare, what_is_no_saved_run_is_refused) {
    latency::Curve curve;
    std::string why;
    EXPECT_FALSE(latency::load_curve("/nowhere/at/all", curve, why));
    EXPECT_EQ(why, "No such file or directory");
    for (const char* content :
         {"", "{}", "{\"intended_histogram\": \"", "{\"intended_histogram\": \"57484731zz\"}",
          "{\"intended_histogram\": \"5748\"}", "1.0 2.0 3", "1 0.5 1\n1 0.4 2\n", "no numbers",
          "-1 0.5\n", "1e300 0.5\n", "1 0.5\n2 \033[31mred"}) {
        const TemporaryFile file(content);
        why.clear();
        EXPECT_FALSE(latency::load_curve(file.name(), curve, why)) << content;
        EXPECT_NE(why, "") << content;
        EXPECT_EQ(why.find('\033'), std::string::npos) << "a terminal would obey";
    }
}

// Saved runs that are bent by chance: refused, or numbers that can be shown.
TEST(LatencyCompare, damage_by_chance) {
    const Outcome outcome = steady();
    std::mt19937 random(17);
    for (int round = 0; round < 600; ++round) {
        const bool text = round % 2 == 0;
        std::string content = text ? latency::hgrm_of(outcome.intended) : latency::json_of(outcome);
        const std::size_t begin = text ? 0 : content.find("intended_histogram");
        for (unsigned change = 0; change < 1 + random() % 4; ++change) {
            const std::size_t at = begin + random() % (content.size() - begin);
            content[at] = text ? static_cast<char>(random()) : "0123456789abcdef\"{"[random() % 18];
        }
        if (random() % 4 == 0) content.resize(random() % content.size());
        const TemporaryFile file(content);
        latency::Curve curve;
        std::string why;
        if (!latency::load_curve(file.name(), curve, why)) {
            EXPECT_NE(why, "");
            continue;
        }
        for (const latency::Point& point : curve.points) {
            EXPECT_TRUE(std::isfinite(point.us) && point.us >= 0) << point.us;
            EXPECT_TRUE(point.share >= 0 && point.share <= 1) << point.share;
        }
        EXPECT_LT(latency::compare_text(curve, curve).size(), 4096u);
        EXPECT_LT(latency::svg_of({curve, curve}).size(), 4u << 20);
    }
}

TEST(LatencyExpectation, is_read_and_judged) {
    const Outcome outcome = steady();
    const auto check = [&](const char* text) {
        latency::Expectation expectation;
        std::string why;
        if (!latency::parse_expectation(text, expectation, why)) return std::string("?");
        return latency::unmet(expectation, outcome.intended);
    };
    for (const char* holds : {"p50<1ms", "p99<=199us", "max<0.2ms", "max<=199us", "min>=100us",
                              "mean<150us", "mean>140000ns", "p99.9<1s"}) {
        EXPECT_EQ(check(holds), "") << holds;
    }
    EXPECT_EQ(check("max<199us"), "it is 199.0 us");
    EXPECT_EQ(check("min>100us"), "it is 100.0 us");
    EXPECT_EQ(check("p99.99<1s"), "too few messages to know p99.99");
    for (const char* wrong : {"", "p99", "p99<", "p99<5", "p99<5m", "p100<1ms", "p0<1ms", "pp<1ms",
                              "<1ms", "p99<-1us", "p99<nanus", "q99<1us", "p99<1us2"}) {
        EXPECT_EQ(check(wrong), "?") << wrong;
    }
}

TEST(LatencyTarget, is_read) {
    latency::Target target;
    std::string why;
    EXPECT_TRUE(latency::parse_target("tcp://[::1]:80", target, why));
    EXPECT_TRUE(target.address.is_v6());
    EXPECT_TRUE(latency::parse_target("udp://name:80", target, why));
    EXPECT_EQ(target.host, "name");
    EXPECT_TRUE(latency::parse_target("unix:@x", target, why));
    EXPECT_TRUE(target.unix_address.is_abstract());
    for (const char* wrong : {"", "tcp://", "tcp://h", "tcp://h:0", "tcp://h:99999", "tcp://h:1x",
                              "unix:", "file:", "ftp://h:1", "timers"}) {
        why.clear();
        EXPECT_FALSE(latency::parse_target(wrong, target, why)) << wrong;
        EXPECT_NE(why, "") << wrong;
    }
}

}  // namespace
