// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/os.hpp"
#include "conformance/os_processes.hpp"

#include <gtest/gtest.h>
#include <unistd.h>
#include <whorl/whorl.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The conformance suite: one test for each behaviour, run on every configuration. A configuration is a
// backend, for io_uring also with each optional feature switched off, with tiny queues, and at the
// level of a kernel: the ring is limited to what that kernel has, so that anything newer fails; or a
// simulated world, kind or harsh, which is made anew for each test. A backend that this machine
// refuses is skipped, never passed, and with WHORL_TEST_NO_SKIP set it fails.
//
// The fixture checks before and after every test that no descriptor, child, buffer, slot or resource
// limit was left behind, and that the loop ran on the backend and the features that were asked for.
//
// In a harsh world transfers come in parts, late and out of order. So a test states what the contract
// promises of a transfer, its bytes and its end, and not in how many parts it came. Where kindness
// itself is the subject (a message that fits arrives in one piece), the test asks exact().

namespace whorl {

inline void PrintTo(Error error, std::ostream* out) { *out << error.name(); }

}  // namespace whorl

namespace whorl::conformance {

using namespace std::chrono_literals;

struct Config {
    const char* name;
    LoopOptions options;
    std::optional<testing::SimulationOptions> world = {};
};

// What GoogleTest says of a failed test's configuration.
inline void PrintTo(const Config& config, std::ostream* out) { *out << config.name; }

inline LoopOptions options_for(Backend backend, std::uint32_t features_off = 0) {
    LoopOptions options;
    options.backend = backend;
    options.features_off = features_off;
    return options;
}

inline LoopOptions tiny_queues(Backend backend) {
    LoopOptions options = options_for(backend);
    options.submission_queue_depth = 2;
    options.completion_queue_depth = 4;
    options.completions_per_turn = 3;
    options.recv_ring_depth = 2;
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

inline std::vector<Config> wanted_of(std::vector<Config> configs) {
    const auto unwanted = [](const Config& config) { return !config_wanted(config.name); };
    configs.erase(std::remove_if(configs.begin(), configs.end(), unwanted), configs.end());
    return configs;
}

// The configurations on this machine's kernel, for tests of what no world has: limits of memory,
// refused system calls, signals.
inline std::vector<Config> real_configs() {
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
    configs.push_back({"io_uring_tiny_queues", tiny_queues(Backend::io_uring)});
    configs.push_back({"libev", options_for(Backend::libev)});
    Config tiny_libev{"libev_tiny_turns", options_for(Backend::libev)};
    tiny_libev.options.completions_per_turn = 3;
    configs.push_back(tiny_libev);
    return wanted_of(std::move(configs));
}

// Worlds in which time passes a little with each look at the clock, so that who spins on it ends.
inline testing::SimulationOptions kind_world() {
    testing::SimulationOptions options;
    options.time_per_call = 1us;
    return options;
}
inline testing::SimulationOptions harsh_world() {
    testing::SimulationOptions options = testing::SimulationOptions::harsh(0);
    options.time_per_call = 1us;
    // As large as usual: who wants narrow ones sets them, and the rest may count on some room.
    options.send_buffer = testing::SimulationOptions().send_buffer;
    options.receive_buffer = testing::SimulationOptions().receive_buffer;
    // The network keeps what it was given; test/world has the losses.
    options.datagram_loss = 0;
    options.datagram_copy = 0;
    return options;
}

inline std::vector<Config> all_configs() {
    std::vector<Config> configs = real_configs();
    std::vector<Config> simulated;
    simulated.push_back({"simulator", options_for(Backend::simulator), kind_world()});
    simulated.push_back({"simulator_harsh", options_for(Backend::simulator), harsh_world()});
    // The io_uring driver as it is, on a ring of the simulated kernel.
    simulated.push_back({"simulated_ring", options_for(Backend::io_uring), kind_world()});
    simulated.push_back({"simulated_ring_harsh", options_for(Backend::io_uring), harsh_world()});
    simulated.push_back(
        {"simulated_ring_tiny_queues", tiny_queues(Backend::io_uring), harsh_world()});
    // One that must fail: it is there only for the tests that show that it does.
    if (std::getenv("WHORL_TEST_CANARY") != nullptr) {
        Config canary{"canary", options_for(Backend::simulator), kind_world()};
        canary.world->lose_every = 1000;
        simulated.push_back(canary);
    }
    for (Config& config : wanted_of(std::move(simulated))) configs.push_back(std::move(config));
    return configs;
}

inline std::string config_name(const ::testing::TestParamInfo<Config>& info) {
    return info.param.name;
}

// The seed of a test's world: of its name, so that each has its own and the same one each time.
// WHORL_TEST_SEED=number replaces it.
inline std::uint64_t seed_of(const ::testing::TestInfo& info) {
    if (const char* word = std::getenv("WHORL_TEST_SEED")) return std::strtoull(word, nullptr, 10);
    std::uint64_t hash = 14695981039346656037u;
    for (const char* text : {info.test_suite_name(), info.name()}) {
        for (; *text != 0; ++text) {  // FNV-1a
            hash = (hash ^ static_cast<unsigned char>(*text)) * 1099511628211u;
        }
    }
    return hash % 1'000'000;
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
        threads_before_ = os::threads();
        if (GetParam().world) {
            testing::SimulationOptions options = *GetParam().world;
            options.seed = seed_of(*::testing::UnitTest::GetInstance()->current_test_info());
            os::enter_world(options);
        }
        descriptors_before_ = os::open_descriptors();
        os::getrlimit(RLIMIT_NOFILE, &files_before_);
    }

    void TearDown() override {
        if (!IsSkipped()) {
            rlimit files{};
            os::getrlimit(RLIMIT_NOFILE, &files);
            EXPECT_EQ(files.rlim_cur, files_before_.rlim_cur)
                << "the test or the library changed a limit";
            EXPECT_EQ(os::open_descriptors(), descriptors_before_) << "a descriptor was left open";
            EXPECT_FALSE(os::has_children()) << "a child or a zombie was left";
        }
        if (os::world() != nullptr) end_world();
        // One that was joined may still be on its way out.
        for (int round = 0; round < 5000 && os::threads() != threads_before_; ++round) {
            ::usleep(1000);
        }
        EXPECT_EQ(os::threads(), threads_before_) << "a thread was left";
    }

    static void end_world() {
        if (HasFailure()) tell_of_world();
        if (std::getenv("WHORL_TEST_HASH") != nullptr) {
            const ::testing::TestInfo& info =
                *::testing::UnitTest::GetInstance()->current_test_info();
            std::printf("trace of %s.%s: %016llx\n", info.test_suite_name(), info.name(),
                        static_cast<unsigned long long>(os::trace_hash()));
        }
        os::leave_world();
    }

    // The options of this configuration: a loop made with them is in the world in force.
    static LoopOptions options_here() {
        LoopOptions options = GetParam().options;
        options.world = os::world();
        return options;
    }

    // Whether what can be done at once is done at once and whole, as this machine does it.
    static bool exact() { return !GetParam().world || GetParam().world->short_transfer == 0; }

    // How long something may take that should take `time`: a world is exact, and a machine may have
    // other things to do.
    static Nanoseconds patience(Nanoseconds time) { return GetParam().world ? time : 20 * time; }

    // A loop of this configuration; `change` may adjust the options first.
    template <class Change>
    Loop make_loop(Change change) {
        LoopOptions options = options_here();
        // A machine that is busy with other things must not make a destroyed loop give up.
        options.shutdown_bound = 60s;
        // The contract is the same for a loop that is looked into.
        if (std::getenv("WHORL_TEST_INSIGHT") != nullptr) options.insight = true;
        change(options);
        BackendReport report;
        Result<Loop> made = Loop::create(options, report);
        if (!made) {
            ADD_FAILURE() << GetParam().name << ": " << made.error().name() << ": " << report.text;
            std::abort();
        }
        expect_asked_for(made->backend_report(), options);
        return std::move(*made);
    }
    Loop make_loop() {
        return make_loop([](LoopOptions&) {});
    }

    // That a loop runs where its configuration says.
    static void expect_asked_for(const BackendReport& report, const LoopOptions& options) {
        EXPECT_EQ(report.chosen, options.backend) << report.text;
        EXPECT_EQ(report.features & options.features_off, 0u);
        EXPECT_EQ(report.ring_limit, options.ring_limit) << report.text;
        const std::string_view text(report.text);
        const bool simulated = text.find("simulat") != std::string_view::npos;
        EXPECT_EQ(simulated, GetParam().world.has_value()) << text;
        if (simulated) return;
        EXPECT_EQ(report.features, features_expected(options)) << report.text;
    }

    // True (and the test is marked as skipped) when this machine refuses the configuration.
    static bool refused() {
        BackendReport report;
        const Result<Loop> made = Loop::create(options_here(), report);
        if (made) return false;
        if (std::getenv("WHORL_TEST_NO_SKIP") != nullptr) {
            ADD_FAILURE() << report.text;
        }
        return true;
    }

    // Runs turns until `done()`, or fails the test after `bound`.
    template <class Done>
    static void run_until(Loop& loop, Done done, Nanoseconds bound = 30s) {
        const Instant end = os::now() + bound;
        while (!done()) {
            if (os::now() >= end) {
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

    // That a loop for which nothing is there or due sleeps. One that spins or polls does so in every
    // stretch of time; a turn more now and then is the machine's doing: an interrupted wait, a segment
    // that loopback delivers late.
    static void expect_idle(Loop& loop, Nanoseconds time, const char* otherwise) {
        constexpr std::uint64_t few = 4;
        std::uint64_t turns = 0, waits = 0;
        for (int stretch = 0; stretch < 5; ++stretch) {
            const Statistics before = loop.statistics();
            ASSERT_FALSE(loop.run_for(time));
            turns = loop.statistics().turns - before.turns;
            waits = loop.statistics().kernel_waits - before.kernel_waits;
            if (turns <= few && waits <= few) return;
        }
        ADD_FAILURE() << otherwise << ": " << turns << " turns and " << waits << " waits in "
                      << time.count() / 1'000'000 << " ms";
    }

    // What must hold when a test has ended all it began.
    static void expect_clean(Loop& loop) {
        const Statistics& statistics = loop.statistics();
        EXPECT_EQ(statistics.operations, 0u);
        EXPECT_EQ(statistics.handles, 0u);
    }

  private:
    // How to see the same failure again.
    static void tell_of_world() {
        const ::testing::TestInfo& info = *::testing::UnitTest::GetInstance()->current_test_info();
        std::fprintf(stderr,
                     "  again: WHORL_TEST_SEED=%llu and --gtest_filter=%s.%s\n"
                     "  the world's last steps (all of them: WHORL_TEST_TRACE=1):\n",
                     static_cast<unsigned long long>(seed_of(info)), info.test_suite_name(),
                     info.name());
        os::print_trace(std::getenv("WHORL_TEST_TRACE") != nullptr ? SIZE_MAX : 20);
    }

    std::set<int> descriptors_before_;
    rlimit files_before_{};
    int threads_before_ = 0;
};

// What must hold of a program of the suite as a whole.
class WholeSuite : public ::testing::Environment {
    void TearDown() override {
        const ::testing::UnitTest& program = *::testing::UnitTest::GetInstance();
        if (std::getenv("WHORL_TEST_NO_SKIP") != nullptr) {
            EXPECT_EQ(program.skipped_test_count(), 0) << "nothing may be skipped here";
        }
        if (::testing::GTEST_FLAG(filter) != "*") return;
        EXPECT_EQ(program.test_to_run_count(), program.total_test_count())
            << "a test is switched off";
    }
};
inline ::testing::Environment* const whole_suite =
    ::testing::AddGlobalTestEnvironment(new WholeSuite);

// WHORL_TEST_CONFIGS may leave a fixture without any configuration.
#define WHORL_CONFORMANCE_ON(Fixture, configs)                                                 \
    GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Fixture);                                    \
    INSTANTIATE_TEST_SUITE_P(all, Fixture, ::testing::ValuesIn(::whorl::conformance::configs), \
                             ::whorl::conformance::config_name)
#define WHORL_CONFORMANCE(Fixture) WHORL_CONFORMANCE_ON(Fixture, all_configs())
// For what no simulated world has.
#define WHORL_CONFORMANCE_REAL(Fixture) WHORL_CONFORMANCE_ON(Fixture, real_configs())

// Every test begins with this.
#define WHORL_SKIP_IF_REFUSED() \
    if (refused()) GTEST_SKIP() << "this machine refuses " << GetParam().name

}  // namespace whorl::conformance
