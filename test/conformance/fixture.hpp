// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>
#include <whorl/whorl.hpp>

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The conformance suite: one test for each behaviour, run on every configuration. A configuration is a
// backend, for io_uring also with each optional feature switched off, with tiny queues, and at the
// level of a kernel: the ring is limited to what that kernel has, so that anything newer fails. A
// backend that this machine refuses is skipped, never passed, and with WHORL_TEST_NO_SKIP set it fails.
//
// The fixture checks before and after every test that no descriptor, buffer, slot or resource limit
// was left behind, and that the loop ran on the backend and the features that were asked for.

namespace whorl {

inline void PrintTo(Error error, std::ostream* out) { *out << error.name(); }

}  // namespace whorl

namespace whorl::conformance {

using namespace std::chrono_literals;

struct Config {
    const char* name;
    LoopOptions options;
};

// What GoogleTest says of a failed test's configuration.
inline void PrintTo(const Config& config, std::ostream* out) { *out << config.name; }

inline LoopOptions options_for(Backend backend, std::uint32_t features_off = 0) {
    LoopOptions options;
    options.backend = backend;
    options.features_off = features_off;
    return options;
}

// WHORL_TEST_CONFIGS=word,word keeps the configurations whose names begin with one of the words, for
// tools that cannot stand the others (valgrind and io_uring in several threads).
inline bool config_wanted(std::string_view name) {
    const char* words = std::getenv("WHORL_TEST_CONFIGS");
    if (words == nullptr || *words == 0) return true;
    std::string_view rest(words);
    for (;;) {
        const std::size_t comma = rest.find(',');
        const std::string_view word = rest.substr(0, comma);
        if (name.substr(0, word.size()) == word) return true;
        if (comma == std::string_view::npos) return false;
        rest = rest.substr(comma + 1);
    }
}

inline LoopOptions options_at(RingLimit level) {
    LoopOptions options;
    options.backend = Backend::io_uring;
    options.ring_limit = level;
    return options;
}

inline std::vector<Config> all_configs() {
    std::vector<Config> configs;
    configs.push_back({"io_uring", options_for(Backend::io_uring)});
#define WHORL_CONFIG_WITHOUT(feature, text)                                                 \
    if (Feature::feature != Feature::no_iowait) {                                           \
        configs.push_back({"io_uring_without_" #feature,                                    \
                           options_for(Backend::io_uring, feature_bit(Feature::feature))}); \
    }
    WHORL_FEATURE_LIST(WHORL_CONFIG_WITHOUT)
#undef WHORL_CONFIG_WITHOUT
    // 5.15 has none of the optional features. 6.1 has all but no_iowait, and stands for its absence.
    configs.push_back({"io_uring_level_5_15", options_at(RingLimit::linux_5_15)});
    configs.push_back({"io_uring_level_6_1", options_at(RingLimit::linux_6_1)});
    configs.push_back({"io_uring_level_6_18", options_at(RingLimit::linux_6_18)});
    Config tiny{"io_uring_tiny_queues", options_for(Backend::io_uring)};
    tiny.options.submission_queue_depth = 2;
    tiny.options.completion_queue_depth = 4;
    tiny.options.completions_per_turn = 3;
    tiny.options.recv_ring_depth = 2;
    configs.push_back(tiny);
    configs.push_back({"libev", options_for(Backend::libev)});
    Config tiny_libev{"libev_tiny_turns", options_for(Backend::libev)};
    tiny_libev.options.completions_per_turn = 3;
    configs.push_back(tiny_libev);
    const auto unwanted = [](const Config& config) { return !config_wanted(config.name); };
    configs.erase(std::remove_if(configs.begin(), configs.end(), unwanted), configs.end());
    return configs;
}

inline std::string config_name(const ::testing::TestParamInfo<Config>& info) {
    return info.param.name;
}

// The numbers of all open descriptors of this process.
inline std::set<int> open_descriptors() {
    std::set<int> numbers;
    DIR* directory = opendir("/proc/self/fd");
    while (const dirent* entry = readdir(directory)) {
        const int number = std::atoi(entry->d_name);
        if (entry->d_name[0] != '.' && number != dirfd(directory)) numbers.insert(number);
    }
    closedir(directory);
    return numbers;
}

// The optional features that io_uring has here, without any being switched off by an option.
inline std::uint32_t features_of_this_machine() {
    static const std::uint32_t features = [] {
        BackendReport report;
        const Result<Loop> made = Loop::create(options_for(Backend::io_uring), report);
        return made ? report.features : 0;
    }();
    return features;
}

// Those of them that a configuration must have.
inline std::uint32_t features_expected(const LoopOptions& options) {
    if (options.backend != Backend::io_uring) return 0;
    std::uint32_t off = options.features_off;
    if (options.ring_limit == RingLimit::linux_5_15) off = 0xFFFFFFFFu;
    if (options.ring_limit == RingLimit::linux_6_1) off |= feature_bit(Feature::no_iowait);
    return features_of_this_machine() & ~off;
}

class LoopTest : public ::testing::TestWithParam<Config> {
  protected:
    void SetUp() override {
        descriptors_before_ = open_descriptors();
        getrlimit(RLIMIT_NOFILE, &files_before_);
    }

    void TearDown() override {
        if (IsSkipped()) return;
        rlimit files{};
        getrlimit(RLIMIT_NOFILE, &files);
        EXPECT_EQ(files.rlim_cur, files_before_.rlim_cur)
            << "the test or the library changed a limit";
        EXPECT_EQ(open_descriptors(), descriptors_before_) << "a descriptor was left open";
    }

    // A loop of this configuration; `change` may adjust the options first.
    template <class Change>
    Loop make_loop(Change change) {
        LoopOptions options = GetParam().options;
        // A machine that is busy with other things must not make a destroyed loop give up.
        options.shutdown_bound = 60s;
        change(options);
        BackendReport report;
        Result<Loop> made = Loop::create(options, report);
        if (!made) {
            ADD_FAILURE() << GetParam().name << ": " << made.error().name() << ": " << report.text;
            std::abort();
        }
        EXPECT_EQ(made->backend_report().chosen, options.backend) << report.text;
        EXPECT_EQ(made->backend_report().features, features_expected(options)) << report.text;
        EXPECT_EQ(made->backend_report().ring_limit, options.ring_limit) << report.text;
        return std::move(*made);
    }
    Loop make_loop() {
        return make_loop([](LoopOptions&) {});
    }

    // True (and the test is marked as skipped) when this machine refuses the configuration.
    static bool refused() {
        BackendReport report;
        const Result<Loop> made = Loop::create(GetParam().options, report);
        if (made) return false;
        if (std::getenv("WHORL_TEST_NO_SKIP") != nullptr) {
            ADD_FAILURE() << report.text;
        }
        return true;
    }

    // Runs turns until `done()`, or fails the test after `bound`.
    template <class Done>
    static void run_until(Loop& loop, Done done, Nanoseconds bound = 10s) {
        const Instant end = clock_now() + bound;
        while (!done()) {
            if (clock_now() >= end) {
                FAIL() << "not reached within " << bound.count() / 1'000'000 << " ms";
            }
            // A timer bounds each wait, so that a lost wake-up fails instead of hanging.
            Result<Timer> guard =
                loop.after(std::min<Nanoseconds>(bound, 1s), [](Loop&, Expired) {});
            ASSERT_TRUE(guard);
            ASSERT_FALSE(loop.run_once());
            loop.cancel(*guard);
        }
    }

    // What must hold when a test has ended all it began.
    static void expect_clean(Loop& loop) {
        const Statistics& statistics = loop.statistics();
        EXPECT_EQ(statistics.operations, 0u);
        EXPECT_EQ(statistics.handles, 0u);
    }

  private:
    std::set<int> descriptors_before_;
    rlimit files_before_{};
};

#define WHORL_CONFORMANCE(Fixture)                                                     \
    INSTANTIATE_TEST_SUITE_P(all, Fixture,                                             \
                             ::testing::ValuesIn(::whorl::conformance::all_configs()), \
                             ::whorl::conformance::config_name)

// Every test begins with this.
#define WHORL_SKIP_IF_REFUSED() \
    if (refused()) GTEST_SKIP() << "this machine refuses " << GetParam().name

}  // namespace whorl::conformance
