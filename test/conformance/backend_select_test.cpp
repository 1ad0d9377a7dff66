// SPDX-License-Identifier: MIT
// Goal: which backend a loop gets, by option, environment and what the kernel refuses, and what the
// report says. Method: children that deny themselves system calls with a seccomp filter, or descriptors
// and locked memory with limits, then make a loop and tell what they got.
#include "conformance/backend_child.hpp"
#include "conformance/tcp_pair.hpp"

#include <whorl/testing.hpp>

#include <cstring>
#include <sstream>

namespace whorl::conformance {
namespace {

bool available(Backend backend) {
    LoopOptions options;
    options.backend = backend;
    return Loop::create(options).has_value();
}

#define WHORL_NEEDS(backend)                                                         \
    if (!available(backend)) {                                                       \
        if (std::getenv("WHORL_TEST_NO_SKIP") != nullptr) FAIL() << "not available"; \
        GTEST_SKIP() << "this machine refuses it";                                   \
    }

// Whether a loop does its work: a no-op, a timer, a post, a watch and a message both ways.
bool works(Loop& loop) {
    int done = 0;
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return false;
    Result<Socket> socket = adopt_socket(loop, pair[0]);
    if (!socket || ::write(pair[1], "ping", 4) != 4) return false;
    bool ok = true;
    ok = ok && loop.submit(Nop{}, [&](Loop&, Nop::Done d) { done += d.error ? 0 : 1; });
    ok = ok && loop.after(1ms, [&](Loop&, Expired) { ++done; });
    ok = ok && !loop.post([&](Loop&) { ++done; });
    ok = ok && loop.submit(RecvStream{*socket}, [&, s = *socket](Loop& inner, RecvStream::Done d) {
        if (!d.more) return;
        if (d.buffer.text() == "ping") ++done;
        if (!inner.submit(SendAll{s, std::move(d.buffer)}, [&](Loop&, SendAll::Done) { ++done; })) {
            done = -1000;
        }
    });
    ok = ok && loop.watch(pair[1], Interest::readable, [&](Loop& inner, Watched w) {
        ++done;
        inner.cancel(w.watch);
    });
    for (int turn = 0; ok && turn < 1000 && done < 6; ++turn) ok = !loop.run_for(5ms);
    ok = ok && done == 6 && !loop.drain(5s);
    ::close(pair[1]);
    return ok;
}

// Makes a loop and writes down what came of it, one word a line; `text` is the report's.
std::string try_loop(Backend backend, std::uint32_t depth = 256) {
    LoopOptions options;
    options.backend = backend;
    options.submission_queue_depth = depth;
    BackendReport report;
    Result<Loop> loop = Loop::create(options, report);
    std::ostringstream out;
    if (!loop) out << "error=" << loop.error().name() << '\n';
    else out << "backend=" << loop->backend_name() << '\n';
    if (loop) out << (works(*loop) ? "works" : "does not work") << '\n';
    if (loop && std::strcmp(loop->backend_report().text, report.text) != 0) out << "two reports\n";
    if (report.fell_back) out << "fell_back\n";
    if (*report.failed_step != 0) out << "step=" << report.failed_step << '\n';
    if (report.failed_errno != 0) {
        out << "errno=" << Error::from_errno(report.failed_errno).name() << '\n';
    }
    out << "seccomp=" << report.seccomp_mode << '\n';
    out << "features=" << report.features << '\n';
    out << "text=" << report.text << '\n';
    return out.str();
}

bool tells(const std::string& answer, const char* words) {
    return answer.find(words) != std::string::npos;
}

class BackendRefused : public ::testing::Test {
  protected:
    static std::string child(std::initializer_list<long> calls, int error, Backend backend) {
        const std::vector<long> list(calls);
        return in_child([&] {
            if (!refuse_calls(calls, error)) return std::string("no filter");
            return try_loop(backend);
        });
    }
    // What automatic and the explicit choice must say when `calls` are answered with `error`.
    static void expect_fallback(std::initializer_list<long> calls, int error, const char* step,
                                const char* cure) {
        WHORL_NEEDS(Backend::io_uring);
        WHORL_NEEDS(Backend::libev);
        const char* name = Error::from_errno(error).name();
        std::string answer = child(calls, error, Backend::automatic);
        SCOPED_TRACE(answer);
        EXPECT_TRUE(tells(answer, "backend=libev\nworks\nfell_back\n"));
        EXPECT_TRUE(tells(answer, ("step=" + std::string(step)).c_str()));
        EXPECT_TRUE(tells(answer, ("errno=" + std::string(name)).c_str()));
        EXPECT_TRUE(tells(answer, "seccomp=2\n"));
        EXPECT_TRUE(tells(answer, "text=libev: io_uring cannot be used; "));
        EXPECT_TRUE(tells(answer, cure)) << "the report names no cure";
        EXPECT_EQ(std::count(answer.begin(), answer.end(), '\n'), 8) << "the text is one line";
        answer = child(calls, error, Backend::io_uring);
        SCOPED_TRACE(answer);
        EXPECT_TRUE(tells(answer, "error=backend_unavailable\n"));
        EXPECT_FALSE(tells(answer, "fell_back"));
        EXPECT_TRUE(tells(answer, ("errno=" + std::string(name)).c_str()));
        EXPECT_TRUE(tells(answer, "text=io_uring: "));
        EXPECT_TRUE(tells(answer, cure));
        answer = child(calls, error, Backend::libev);
        EXPECT_TRUE(tells(answer, "backend=libev\nworks\n")) << answer;
        EXPECT_FALSE(tells(answer, "fell_back")) << answer;
    }
};

TEST_F(BackendRefused, setup_with_EPERM_as_container_runtimes_do) {
    expect_fallback({SYS_io_uring_setup}, EPERM, "io_uring_setup", "seccomp");
}
TEST_F(BackendRefused, all_three_calls_with_EPERM) {
    expect_fallback({SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register}, EPERM,
                    "io_uring_setup", "seccomp");
}
TEST_F(BackendRefused, setup_with_ENOSYS_as_podman_and_old_kernels_do) {
    expect_fallback({SYS_io_uring_setup}, ENOSYS, "io_uring_setup", "seccomp profile");
}
TEST_F(BackendRefused, setup_with_EACCES_as_security_modules_do) {
    expect_fallback({SYS_io_uring_setup}, EACCES, "io_uring_setup", "SELinux");
}
TEST_F(BackendRefused, setup_with_an_errno_that_nobody_has_listed) {
    expect_fallback({SYS_io_uring_setup}, EOPNOTSUPP, "io_uring_setup", "report it");
}
TEST_F(BackendRefused, setup_with_EINVAL_whatever_the_flags) {
    expect_fallback({SYS_io_uring_setup}, EINVAL, "io_uring_setup", "report it");
}
TEST_F(BackendRefused, only_enter_with_EPERM) {
    expect_fallback({SYS_io_uring_enter}, EPERM, "io_uring_enter", "seccomp");
}
TEST_F(BackendRefused, only_enter_with_ENOSYS) {
    expect_fallback({SYS_io_uring_enter}, ENOSYS, "io_uring_enter", "seccomp");
}
TEST_F(BackendRefused, setup_with_ENOMEM_after_some_patience) {
    expect_fallback({SYS_io_uring_setup}, ENOMEM, "io_uring_setup", "RLIMIT_MEMLOCK");
}

TEST_F(BackendRefused, only_register_costs_features_but_not_the_backend) {
    WHORL_NEEDS(Backend::io_uring);
    for (const Backend backend : {Backend::automatic, Backend::io_uring}) {
        const std::string answer = child({SYS_io_uring_register}, EPERM, backend);
        SCOPED_TRACE(answer);
        EXPECT_TRUE(tells(answer, "backend=io_uring\nworks\n"));
        EXPECT_FALSE(tells(answer, "fell_back"));
        const std::uint32_t features = static_cast<std::uint32_t>(
            std::strtoul(answer.c_str() + answer.find("features=") + 9, nullptr, 10));
        EXPECT_EQ(features & feature_bit(Feature::registered_ring), 0u);
        EXPECT_EQ(features & feature_bit(Feature::buffer_ring), 0u);
    }
}

// The fallback could not have them either, and to run on it would hide the reason.
TEST(BackendLimits, no_descriptor_left_is_an_error_and_no_fallback) {
    for (const Backend backend : {Backend::automatic, Backend::io_uring, Backend::libev}) {
        if (backend != Backend::automatic && !available(backend)) continue;
        for (int left = 0; left < 5; ++left) {
            const std::string answer = in_child([&] {
                const rlimit files{static_cast<rlim_t>(64), static_cast<rlim_t>(64)};
                setrlimit(RLIMIT_NOFILE, &files);
                std::vector<int> fillers;
                for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) fillers.push_back(fd);
                for (int index = 0; index < left; ++index) {
                    ::close(fillers.back());
                    fillers.pop_back();
                }
                LoopOptions options;
                options.backend = backend;
                BackendReport report;
                std::string words;
                {
                    Result<Loop> loop = Loop::create(options, report);
                    words = loop ? std::string("made") : std::string(loop.error().name());
                    if (report.fell_back) words += " fell_back";
                }
                int free = 0;
                for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) ++free;
                if (free < left) words += " lost a descriptor";
                return words + " | " + report.text;
            });
            SCOPED_TRACE(answer);
            if (left == 0) {
                EXPECT_EQ(answer.substr(0, 6), "EMFILE");
            } else {
                EXPECT_TRUE(tells(answer, "made") || tells(answer, "EMFILE"));
            }
            EXPECT_FALSE(tells(answer, "fell_back"));
            EXPECT_FALSE(tells(answer, "lost"));
            if (tells(answer, "EMFILE")) {
                const char* words = backend == Backend::libev ? "Too many open files" : "ulimit -n";
                EXPECT_TRUE(tells(answer, words)) << "no reason";
            }
        }
    }
}

TEST(BackendLimits, little_locked_memory_as_an_unprivileged_user) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
    for (const rlim_t bytes : {rlim_t{65536}, rlim_t{0}}) {
        for (const std::uint32_t depth : {256u, 8192u}) {
            const std::string answer = in_child([&] {
                const rlimit locked{bytes, bytes};
                if (setrlimit(RLIMIT_MEMLOCK, &locked) != 0) return std::string("no limit");
                if (::setgid(65534) != 0 || ::setuid(65534) != 0) return std::string("no user");
                std::string first = try_loop(Backend::automatic, depth);
                for (int round = 0; round < 20; ++round) {
                    LoopOptions options;
                    options.submission_queue_depth = depth;
                    BackendReport report;
                    if (!Loop::create(options, report)) return std::string(report.text);
                    if (report.fell_back) break;  // it takes its patience each time
                }
                return first;
            });
            SCOPED_TRACE(answer);
            EXPECT_TRUE(tells(answer, "backend="));
            EXPECT_TRUE(tells(answer, "\nworks\n"));
            if (tells(answer, "fell_back")) {
                EXPECT_TRUE(tells(answer, "RLIMIT_MEMLOCK"));
            }
        }
    }
}

// A variable of the environment, as it was afterwards.
class Variable {
  public:
    Variable(const char* name, const char* value) : name_(name) {
        if (const char* before = std::getenv(name)) before_ = before;
        had_ = std::getenv(name) != nullptr;
        if (value != nullptr) ::setenv(name, value, 1);
        else ::unsetenv(name);
    }
    ~Variable() {
        if (had_) ::setenv(name_, before_.c_str(), 1);
        else ::unsetenv(name_);
    }

  private:
    const char* name_;
    std::string before_;
    bool had_ = false;
};

TEST(BackendChoice, automatic_takes_io_uring_where_it_can) {
    WHORL_NEEDS(Backend::io_uring);
    const Variable variable("WHORL_BACKEND", nullptr);
    BackendReport report;
    Result<Loop> loop = Loop::create({}, report);
    ASSERT_TRUE(loop);
    EXPECT_STREQ(loop->backend_name(), "io_uring");
    EXPECT_EQ(report.chosen, Backend::io_uring);
    EXPECT_FALSE(report.fell_back);
    EXPECT_EQ(report.failed_errno, 0);
    EXPECT_EQ(std::string(report.text).find("io_uring: "), 0u) << report.text;
}

TEST(BackendChoice, the_environment_replaces_automatic_only) {
    WHORL_NEEDS(Backend::io_uring);
    WHORL_NEEDS(Backend::libev);
    LoopOptions options;
    for (const char* word : {"libev", "io_uring", "automatic", ""}) {
        const Variable variable("WHORL_BACKEND", word);
        options.backend = Backend::automatic;
        Result<Loop> loop = Loop::create(options);
        ASSERT_TRUE(loop);
        EXPECT_STREQ(loop->backend_name(), std::strcmp(word, "libev") == 0 ? "libev" : "io_uring");
        EXPECT_FALSE(loop->backend_report().fell_back);
        options.backend = Backend::libev;
        EXPECT_STREQ(Loop::create(options)->backend_name(), "libev");
        options.backend = Backend::io_uring;
        EXPECT_STREQ(Loop::create(options)->backend_name(), "io_uring");
    }
}

TEST(BackendChoice, a_world_has_a_simulator_and_a_simulated_ring) {
    LoopOptions options;
    options.backend = Backend::simulator;
    BackendReport report;
    EXPECT_EQ(Loop::create(options, report).error(), Error::invalid_argument);
    EXPECT_EQ(std::string(report.text).find("the simulator needs a world"), 0u) << report.text;
    whorl::testing::World world;
    for (const Backend backend :
         {Backend::automatic, Backend::libev, Backend::simulator, Backend::io_uring}) {
        options.backend = backend;
        const Result<Loop> made = world.make_loop(options);
        ASSERT_TRUE(made);
        EXPECT_STREQ(made->backend_name(), backend == Backend::io_uring ? "io_uring" : "simulator");
    }
    world.descriptors_spare(0);
    EXPECT_EQ(world.make_loop(options).error(), Error::backend_unavailable);
    world.descriptors_unlimited();
    EXPECT_TRUE(world.make_loop(options));
}

TEST(BackendChoice, an_unknown_word_in_the_environment_is_refused_by_name) {
    const Variable variable("WHORL_BACKEND", "epoll");
    BackendReport report;
    EXPECT_EQ(Loop::create({}, report).error(), Error::invalid_argument);
    EXPECT_TRUE(std::strstr(report.text, "WHORL_BACKEND")) << report.text;
}

TEST(BackendChoice, every_feature_can_be_switched_off_by_option_and_environment) {
    WHORL_NEEDS(Backend::io_uring);
    LoopOptions options;
    options.backend = Backend::io_uring;
    const std::uint32_t all = Loop::create(options)->backend_report().features;
    const auto expect_without = [&](const char* name, std::uint32_t bits) {
        {
            const Variable variable("WHORL_DISABLE", name);
            Result<Loop> loop = Loop::create(options);
            ASSERT_TRUE(loop) << name;
            EXPECT_EQ(loop->backend_report().features & bits, 0u) << name;
            EXPECT_TRUE(works(*loop)) << name;
        }
        LoopOptions changed = options;
        changed.features_off = bits;
        Result<Loop> loop = Loop::create(changed);
        ASSERT_TRUE(loop) << name;
        EXPECT_EQ(loop->backend_report().features & bits, 0u) << name;
    };
#define WHORL_EXPECT_WITHOUT(name, text) expect_without(#name, feature_bit(Feature::name));
    WHORL_FEATURE_LIST(WHORL_EXPECT_WITHOUT)
#undef WHORL_EXPECT_WITHOUT
    expect_without("buffer_ring,multishot_recv",
                   feature_bit(Feature::buffer_ring) | feature_bit(Feature::multishot_recv));
    const Variable variable("WHORL_DISABLE", "time_travel,,buffer_rings,");
    EXPECT_EQ(Loop::create(options)->backend_report().features, all) << "unknown words count";
}

TEST(BackendChoice, the_report_describes_its_surroundings) {
    BackendReport report;
    Result<Loop> loop = Loop::create({}, report);
    ASSERT_TRUE(loop);
    rlimit locked{};
    ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &locked), 0);
    EXPECT_EQ(report.memlock_bytes, locked.rlim_cur);
    EXPECT_GE(report.seccomp_mode, 0);
    EXPECT_GE(report.sysctl_io_uring_disabled, -1);
    EXPECT_LE(report.sysctl_io_uring_disabled, 2);
    EXPECT_EQ(std::strchr(report.text, '\n'), nullptr);
}

}  // namespace
}  // namespace whorl::conformance
