// SPDX-License-Identifier: MIT
// Goal: a loop's statistics are printed in Prometheus' text format, every one of them.
// Method: fields with known values; the format's rules, line by line.
#include <whorl/loop.hpp>
#include <whorl/loop_details.hpp>
#include <whorl/prometheus.hpp>
#include <whorl/statistics_page.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

using whorl::Statistics;

std::string print(const Statistics& statistics, std::string_view labels) {
    std::string text(whorl::print_prometheus(statistics, labels, nullptr, 0) + 1, 'x');
    EXPECT_EQ(whorl::print_prometheus(statistics, labels, text.data(), text.size()),
              text.size() - 1);
    EXPECT_EQ(text.back(), '\0');
    text.pop_back();
    return text;
}

// The samples of a text that keeps the rules: HELP, then TYPE, then the samples of one metric, and no
// metric twice.
std::map<std::string, std::string> samples(const std::string& text) {
    std::map<std::string, std::string> found, types;
    std::istringstream lines(text);
    std::string help, current;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string first, second, name, rest;
        words >> first;
        if (first != "#") {
            words >> rest;
            EXPECT_EQ(first.substr(0, first.find('{')), current) << line;
            EXPECT_TRUE(found.emplace(first, rest).second) << line;
            continue;
        }
        words >> second >> name >> rest;
        if (second == "HELP") {
            help = name;
            continue;
        }
        EXPECT_EQ(second, "TYPE") << line;
        EXPECT_EQ(name, help);
        EXPECT_TRUE(types.emplace(name, rest).second) << line;
        const bool total = name.size() > 6 && name.compare(name.size() - 6, 6, "_total") == 0;
        EXPECT_EQ(rest, total ? "counter" : "gauge") << line;
        current = name;
    }
    EXPECT_EQ(text.back(), '\n');
    return found;
}

TEST(Prometheus, a_metric_has_help_type_and_value) {
    Statistics statistics;
    statistics.turns = 18'446'744'073'709'551'615u;
    statistics.handles = 7;
    const std::string text = print(statistics, "loop=\"3\"");
    EXPECT_EQ(text.rfind("# HELP whorl_turns_total Rounds of wait and dispatch.\n"
                         "# TYPE whorl_turns_total counter\n"
                         "whorl_turns_total{loop=\"3\"} 18446744073709551615\n",
                         0),
              0u)
        << text;
    EXPECT_NE(text.find("\n# TYPE whorl_handles gauge\nwhorl_handles{loop=\"3\"} 7\n"),
              std::string::npos)
        << text;
    EXPECT_NE(print(statistics, "").find("\nwhorl_handles 7\n"), std::string::npos);
}

// Each byte of the statistics that is changed changes what is printed: no field is left out, and none is
// there twice.
TEST(Prometheus, every_field_is_printed_once) {
    const auto zero = samples(print(Statistics(), ""));
    std::size_t changed = 0;
    for (std::size_t at = 0; at < sizeof(Statistics); at += 4) {
        Statistics statistics;
        std::uint32_t one = 1;
        std::memcpy(reinterpret_cast<char*>(&statistics) + at, &one, sizeof one);
        std::size_t differences = 0;
        for (const auto& [name, value] : samples(print(statistics, ""))) {
            differences += zero.at(name) != value;
        }
        EXPECT_LE(differences, 1u) << at;
        changed += differences;
    }
    // A field of eight bytes has two halves, and both show.
    std::size_t halves = 0;
    for (const auto& [name, value] : zero) {
        const bool wide = name.size() > 6 && name.compare(name.size() - 6, 6, "_total") == 0;
        const bool bytes = name.compare(0, 18, "whorl_buffer_bytes") == 0;
        halves += wide || bytes ? 2 : 1;
        EXPECT_EQ(value, "0") << name;
    }
    EXPECT_EQ(changed, halves);
    // Nine fields of four bytes leave a gap of four before those of eight at the end.
    EXPECT_EQ(sizeof(Statistics), (halves + 1) / 2 * 8);
}

TEST(Prometheus, several_loops_are_lines_of_one_metric) {
    Statistics statistics[2];
    statistics[0].turns = 1;
    statistics[1].turns = 2;
    const std::string_view labels[2] = {"loop=\"0\"", "loop=\"1\""};
    std::string text(whorl::print_prometheus(statistics, labels, 2, nullptr, 0) + 1, 'x');
    (void)whorl::print_prometheus(statistics, labels, 2, text.data(), text.size());
    text.pop_back();
    const auto found = samples(text);
    EXPECT_EQ(found.at("whorl_turns_total{loop=\"0\"}"), "1");
    EXPECT_EQ(found.at("whorl_turns_total{loop=\"1\"}"), "2");
}

TEST(Prometheus, without_room_it_is_cut) {
    const std::string whole = print(Statistics(), "a=\"b\"");
    for (std::size_t room : {std::size_t{1}, std::size_t{2}, std::size_t{100}, whole.size()}) {
        std::string text(room, 'x');
        EXPECT_EQ(whorl::print_prometheus(Statistics(), "a=\"b\"", text.data(), room),
                  whole.size());
        EXPECT_EQ(text, whole.substr(0, room - 1) + '\0');
    }
}

TEST(Prometheus, labels_are_escaped) {
    char out[64];
    EXPECT_EQ(whorl::prometheus_label("name", "a\"b\\c\nd", out, sizeof out), 17u);
    EXPECT_STREQ(out, "name=\"a\\\"b\\\\c\\nd\"");
    EXPECT_EQ(whorl::prometheus_label("name", "value", out, 5), 12u);
    EXPECT_STREQ(out, "name");
}

TEST(Prometheus, a_loop_counts) {
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    ASSERT_TRUE(loop);
    ASSERT_TRUE(loop->after(whorl::Nanoseconds(1), [](whorl::Loop&, const whorl::Expired&) {}));
    ASSERT_FALSE(loop->run());
    const auto found = samples(print(loop->statistics(), ""));
    EXPECT_EQ(found.at("whorl_timers_fired_total"), "1");
    EXPECT_NE(found.at("whorl_turns_total"), "0");
}

// Of a page: everything that the statistics have, and the rest, each metric once.
TEST(Prometheus, pages_are_printed_with_their_kinds) {
    whorl::LoopOptions options;
    options.statistics_page = true;
    options.operation_latency = true;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options);
    ASSERT_TRUE(loop);
    for (int index = 0; index < 3; ++index) ASSERT_FALSE(loop->post([](whorl::Loop&) {}));
    ASSERT_FALSE(loop->run());
    ASSERT_FALSE(loop->publish_statistics());
    const whorl::Result<whorl::StatisticsPage> page = loop->statistics_page();
    ASSERT_TRUE(page);
    std::vector<whorl::LoopFigures> figures(2);
    ASSERT_FALSE(page->read(figures[0]));
    ASSERT_FALSE(page->read(figures[1]));
    figures[0].handler_ns = 12'003'456'789;
    const std::string_view labels[2] = {"loop=\"0\"", "loop=\"1\""};
    std::string text(whorl::print_prometheus(figures.data(), *page, labels, 2, nullptr, 0) + 1,
                     'x');
    (void)whorl::print_prometheus(figures.data(), *page, labels, 2, text.data(), text.size());
    text.pop_back();
    for (const char* line : {
             "whorl_posts_run_total{loop=\"1\"} 3\n",
             "whorl_handler_seconds_total{loop=\"0\"} 12.003456789\n",
             "whorl_posts_max{loop=\"0\"} 1048576\n",
             "# TYPE whorl_turn_completions histogram\n",
             "whorl_turn_completions_bucket{loop=\"0\",le=\"0\"} ",
             "whorl_turn_completions_bucket{loop=\"0\",le=\"16383\"} ",
             "whorl_turn_completions_bucket{loop=\"0\",le=\"+Inf\"} ",
             "whorl_submitted_total{loop=\"1\",kind=\"post\"} 3\n",
             "# TYPE whorl_operation_latency_seconds summary\n",
             "whorl_operation_latency_seconds_count{loop=\"0\",kind=\"post\",phase=\"handler\"} "
             "3\n",
             "whorl_operation_latency_seconds{loop=\"0\",kind=\"post\",phase=\"queued\","
             "quantile=\"0.99\"} 0.",
         }) {
        EXPECT_NE(text.find(line), std::string::npos) << line << text;
    }
    std::istringstream lines(text);
    std::map<std::string, int> types;
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("# TYPE ", 0) == 0) ++types[line];
    }
    for (const auto& [line, times] : types) EXPECT_EQ(times, 1) << line;
    EXPECT_EQ(types.size(), samples(print(Statistics(), "")).size() + 12 + 3);
}

TEST(Prometheus, slow_handlers_are_printed_by_their_place) {
    std::vector<whorl::LoopDetails> details(2);
    details[0].slow_handlers = 7;
    details[1].slow_handlers = 3;
    details[1].stuck_handlers = 1;
    details[1].slow_count = 1;
    whorl::SlowFigures& slow = details[1].slow[0];
    slow.count = 2;
    slow.total_ns = 30'000'000;
    slow.line = 12;
    std::strcpy(slow.file, "a\\b.cpp");
    std::strcpy(slow.kind, "recv");
    std::memset(slow.handler, '"', sizeof slow.handler - 1);
    const std::string_view labels[2] = {"loop=\"0\"", "loop=\"1\""};
    std::string text(whorl::print_prometheus(details.data(), labels, 2, nullptr, 0) + 1, 'x');
    EXPECT_EQ(whorl::print_prometheus(details.data(), labels, 2, text.data(), text.size()),
              text.size() - 1);
    text.pop_back();
    std::string quotes;
    for (std::size_t index = 0; index + 1 < sizeof slow.handler; ++index) quotes += "\\\"";
    const std::string place =
        "{loop=\"1\",file=\"a\\\\b.cpp\",line=\"12\",kind=\"recv\",handler=\"" + quotes + "\"}";
    std::string expected = "whorl_slow_place_seconds_total" + place + " 0.030000000\n";
    EXPECT_NE(text.find(expected), std::string::npos) << text;
    expected = "whorl_slow_place_handlers_total" + place + " 2\n";
    EXPECT_NE(text.find(expected), std::string::npos) << text;
    EXPECT_NE(text.find("\nwhorl_slow_handlers_total{loop=\"0\"} 7\n"), std::string::npos);
    EXPECT_NE(text.find("\nwhorl_stuck_handlers_total{loop=\"1\"} 1\n"), std::string::npos);
}

}  // namespace
