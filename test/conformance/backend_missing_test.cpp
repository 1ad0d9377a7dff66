// SPDX-License-Identifier: MIT
// Goal: where libev.so.4 is not installed, a loop on libev is refused with the name of the package, and
// io_uring works all the same. Method: a child process in an empty root directory.
#include "conformance/backend_child.hpp"

#include <cstdlib>
#include <filesystem>

namespace whorl::conformance {
namespace {

class BackendMissing : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "needs root to change the root directory";
        char name[] = "/tmp/whorl-empty-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        directory_ = name;
    }
    void TearDown() override {
        if (!directory_.empty()) std::filesystem::remove_all(directory_);
    }
    std::string create(Backend backend, bool refuse_io_uring) {
        return in_child([&]() -> std::string {
            if (::chroot(directory_.c_str()) != 0 || ::chdir("/") != 0) return "no chroot";
            if (refuse_io_uring && !refuse_calls({SYS_io_uring_setup}, EPERM)) return "no seccomp";
            LoopOptions options;
            options.backend = backend;
            BackendReport report;
            const Result<Loop> made = Loop::create(options, report);
            return std::string(made ? "made" : made.error().name()) + ": " + report.text;
        });
    }
    std::string directory_;
};

TEST_F(BackendMissing, libev_asked_for_is_refused_with_the_package_s_name) {
    const std::string answer = create(Backend::libev, false);
    EXPECT_EQ(answer.rfind("libev_missing: ", 0), 0u) << answer;
    EXPECT_NE(answer.find("libev4"), std::string::npos) << answer;
}

TEST_F(BackendMissing, neither_backend_names_both_reasons) {
    const std::string answer = create(Backend::automatic, true);
    EXPECT_EQ(answer.rfind("libev_missing: ", 0), 0u) << answer;
    EXPECT_NE(answer.find("EPERM"), std::string::npos) << answer;
    EXPECT_NE(answer.find("libev4"), std::string::npos) << answer;
}

TEST_F(BackendMissing, io_uring_does_not_need_it) {
    const Result<Loop> here = Loop::create(options_for(Backend::io_uring));
    if (!here) GTEST_SKIP() << "this machine refuses io_uring";
    EXPECT_EQ(create(Backend::automatic, false).rfind("made: io_uring", 0), 0u);
}

}  // namespace
}  // namespace whorl::conformance
