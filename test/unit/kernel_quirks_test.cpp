// SPDX-License-Identifier: MIT
// Goal: kernels whose io_uring is known to be wrong are recognized, however their distribution writes
// the version, and what is wrong with them is not used and is told. Method: the version is an argument
// everywhere, so that any kernel can be pretended; the drivers are then made on the real one.
#include "backend/kernel_quirks.hpp"
#include "backend/select.hpp"

#include <gtest/gtest.h>

#include <sys/utsname.h>

#include <cstring>
#include <memory>
#include <ostream>
#include <string>

namespace whorl::detail {

bool operator==(const KernelVersion& one, const KernelVersion& other) {
    return one.major == other.major && one.minor == other.minor && one.patch == other.patch &&
           one.patch_known == other.patch_known;
}
void PrintTo(const KernelVersion& kernel, std::ostream* out) {
    *out << kernel.major << '.' << kernel.minor << '.' << kernel.patch
         << (kernel.patch_known ? "" : "?");
}

namespace {

constexpr std::uint32_t accepts = feature_bit(Feature::multishot_accept);
constexpr std::uint32_t receives = feature_bit(Feature::multishot_recv);

KernelVersion exactly(int major, int minor, int patch) {
    return {static_cast<std::uint16_t>(major), static_cast<std::uint16_t>(minor),
            static_cast<std::uint16_t>(patch), true};
}
KernelVersion some(int major, int minor) {
    return {static_cast<std::uint16_t>(major), static_cast<std::uint16_t>(minor), 0, false};
}

TEST(KernelVersions, say_their_patch_level) {
    EXPECT_EQ(kernel_version("6.18.44", ""), exactly(6, 18, 44));
    EXPECT_EQ(kernel_version("6.6.32+deb", ""), exactly(6, 6, 32));
    EXPECT_EQ(kernel_version("6.12.117+deb12-cloud-amd64", "#1 SMP"), exactly(6, 12, 117));
    EXPECT_EQ(kernel_version("5.15.153.1-microsoft-standard-WSL2", ""), exactly(5, 15, 153));
    EXPECT_EQ(kernel_version("6.1.112-122.189.amzn2023.x86_64", ""), exactly(6, 1, 112));
    EXPECT_EQ(kernel_version("6.6.49-0-lts", ""), exactly(6, 6, 49));
    EXPECT_EQ(kernel_version("6.9.0-arch1-1", ""), exactly(6, 9, 0));
    EXPECT_EQ(kernel_version("6.8.0-rc3", ""), exactly(6, 8, 0));
    EXPECT_EQ(kernel_version("7.0.0", ""), exactly(7, 0, 0));
}

TEST(KernelVersions, hide_it_behind_the_number_of_a_distribution) {
    EXPECT_EQ(kernel_version("5.15.0-1053-aws", "#58~20.04.1-Ubuntu SMP"), some(5, 15));
    EXPECT_EQ(kernel_version("6.8.0-45-generic", "#45-Ubuntu SMP PREEMPT_DYNAMIC"), some(6, 8));
    EXPECT_EQ(kernel_version("5.14.0-427.13.1.el9_4.x86_64", ""), some(5, 14));
    EXPECT_EQ(kernel_version("6.1.0-40-amd64", "#1 SMP"), some(6, 1));
    EXPECT_EQ(kernel_version("6.1", ""), some(6, 1));
    EXPECT_EQ(kernel_version("6.1.", ""), some(6, 1));
}

TEST(KernelVersions, are_told_by_debian_in_another_place) {
    const auto debian = [](const char* release, const char* version) {
        return kernel_version(release, version);
    };
    EXPECT_EQ(
        debian("6.1.0-56-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"),
        exactly(6, 1, 192));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.124-1 (2025-01-12)"),
              exactly(6, 1, 124));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian"), some(6, 1));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian x"), some(6, 1));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian 6.1"), some(6, 1));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian 5.10.200-1"), some(6, 1)) << "another one";
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian 6"), some(6, 1));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian 6-1"), some(6, 1));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian 6."), some(6, 1));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian 6.1."), some(6, 1));
    EXPECT_EQ(debian("6.1.0-30-amd64", "#1 SMP Debian 6.2.7-1"), some(6, 1)) << "another one";
    for (const char* none : {"", "x", "6", "6-1", "6.", "6.x", ".1"}) {
        EXPECT_EQ(debian(none, "Debian 6.1.7-1"), KernelVersion()) << none;
    }
}

TEST(KernelVersions, that_nobody_can_read_match_nothing) {
    for (const char* release : {"", ".", "6", "6.", "six.one", "v6.1.2", "-6.1", " 6.1", "0.0.0"}) {
        const KernelVersion kernel = kernel_version(release, "Debian 6.1.124-1");
        EXPECT_EQ(kernel.major, 0) << release;
        EXPECT_EQ(kernel_judge(kernel).features_off, 0u) << release;
        EXPECT_EQ(kernel_judge(kernel).refused, nullptr) << release;
    }
    EXPECT_EQ(kernel_version("99999999999999.1.2", ""), exactly(0xFFFF, 1, 2)) << "saturates";
    EXPECT_EQ(kernel_version("6.1.70000", ""), exactly(6, 1, 0xFFFF));
    const std::string long_one(100000, '7');
    EXPECT_EQ(kernel_version(long_one + "." + long_one, "").major, 0xFFFF);
}

TEST(KernelVersions, of_this_machine_is_read) {
    utsname name{};
    ASSERT_EQ(uname(&name), 0);
    const KernelVersion running = kernel_version_running();
    const std::string begin = std::to_string(running.major) + "." + std::to_string(running.minor);
    EXPECT_EQ(std::string(name.release).compare(0, begin.size(), begin), 0) << name.release;
}

TEST(KernelQuirks, hold_from_their_first_version_to_before_their_last) {
    const auto off = [](int major, int minor, int patch) {
        return kernel_judge(exactly(major, minor, patch)).features_off;
    };
    EXPECT_EQ(off(5, 18, 19), 0u);
    EXPECT_EQ(off(5, 19, 0), accepts);
    EXPECT_EQ(off(6, 1, 134), accepts);
    EXPECT_EQ(off(6, 1, 135), 0u);
    EXPECT_EQ(off(6, 1, 192), 0u);
    EXPECT_EQ(off(6, 2, 0), accepts);
    EXPECT_EQ(off(6, 12, 23), accepts);
    EXPECT_EQ(off(6, 12, 24), 0u);
    EXPECT_EQ(off(6, 14, 11), accepts);
    EXPECT_EQ(off(6, 15, 0), 0u);
    EXPECT_EQ(off(6, 17, 0), receives);
    EXPECT_EQ(off(6, 18, 43), receives);
    EXPECT_EQ(off(6, 18, 44), 0u);
    EXPECT_EQ(off(6, 19, 14), receives);
    EXPECT_EQ(off(7, 0, 0), 0u);
    EXPECT_EQ(off(6, 1, 7), accepts | receives);
}

TEST(KernelQuirks, refuse_a_kernel_that_loses_wake_ups_or_requests) {
    const auto refused = [](const KernelVersion& kernel) {
        return kernel_judge(kernel).refused != nullptr;
    };
    EXPECT_FALSE(refused(exactly(5, 19, 17)));
    EXPECT_TRUE(refused(exactly(6, 0, 0)));
    EXPECT_TRUE(refused(exactly(6, 1, 6)));
    EXPECT_FALSE(refused(exactly(6, 1, 7)));
    EXPECT_FALSE(refused(exactly(6, 1, 119)));
    EXPECT_TRUE(refused(exactly(6, 1, 120)));
    EXPECT_TRUE(refused(exactly(6, 1, 127)));
    EXPECT_FALSE(refused(exactly(6, 1, 128)));
}

TEST(KernelQuirks, of_an_unknown_patch_level_cost_features_but_not_the_backend) {
    EXPECT_EQ(kernel_judge(some(6, 8)).features_off, accepts);
    EXPECT_EQ(kernel_judge(some(6, 1)).features_off, accepts | receives);
    EXPECT_EQ(kernel_judge(some(6, 1)).refused, nullptr) << "some 6.1 are right";
    EXPECT_NE(kernel_judge(some(6, 0)).refused, nullptr) << "none of 6.0 is";
    EXPECT_EQ(kernel_judge(some(5, 15)).features_off, 0u);
    EXPECT_EQ(kernel_judge(some(6, 16)).features_off, 0u);
}

TEST(KernelQuirks, are_explained_feature_by_feature) {
    char text[400];
    const KernelVersion kernel = exactly(6, 1, 7);
    const std::size_t length = kernel_explain(kernel, accepts | receives, text, sizeof text);
    EXPECT_EQ(length, std::strlen(text));
    EXPECT_NE(std::strstr(text, "without multishot_accept"), nullptr) << text;
    EXPECT_NE(std::strstr(text, "without multishot_recv"), nullptr) << text;
    EXPECT_NE(std::strstr(text, "liburing issue 778"), nullptr) << text;
    kernel_explain(kernel, receives, text, sizeof text);
    EXPECT_NE(std::strstr(text, "multishot_recv"), nullptr) << text;
    EXPECT_EQ(std::strstr(text, "multishot_accept"), nullptr) << text;
    EXPECT_EQ(kernel_explain(kernel, 0, text, sizeof text), 0u);
    EXPECT_STREQ(text, "");
    kernel_explain(exactly(6, 8, 0), accepts, text, sizeof text);
    EXPECT_NE(std::strstr(text, "liburing issue 1062"), nullptr) << "the worst: " << text;
    char little[10] = "xxxxxxxxx";
    EXPECT_EQ(kernel_explain(kernel, accepts | receives, little, sizeof little), length);
    EXPECT_EQ(std::strlen(little), 9u);
    EXPECT_EQ(kernel_explain(kernel, accepts | receives, nullptr, 0), length) << "only its size";
    EXPECT_EQ(kernel_explain(exactly(7, 0, 0), accepts, text, sizeof text), 0u)
        << "nothing is wrong";
}

// Makes drivers on this machine while pretending that it has another kernel.
class KernelPretended : public testing::Test {
  protected:
    void TearDown() override { pool_->close(); }
    Error select(const KernelVersion& kernel, Backend backend, std::uint32_t features_off = 0) {
        options_.backend = backend;
        options_.features_off = features_off;
        Result<Driver*> made =
            select_driver({operations_, descriptors_, *pool_, statistics_, options_, real_system()},
                          kernel, report_);
        if (!made) return made.error();
        delete *made;
        return {};
    }
    bool tells(const char* words) const { return std::strstr(report_.text, words) != nullptr; }

    LoopOptions options_;
    Statistics statistics_{};
    Slab<OpRecord> operations_;
    Slab<Descriptor> descriptors_;
    BufferPool* pool_ = BufferPool::create(std::size_t{8} << 20);
    BackendReport report_;
};

TEST_F(KernelPretended, bad_as_a_whole_falls_back_with_its_reason) {
    ASSERT_FALSE(select(exactly(6, 1, 124), Backend::automatic));
    EXPECT_EQ(report_.chosen, Backend::libev);
    EXPECT_TRUE(report_.fell_back);
    EXPECT_TRUE(tells("libev: io_uring cannot be used; ")) << report_.text;
    EXPECT_TRUE(tells("Debian bug 1093243")) << report_.text;
    EXPECT_EQ(select(exactly(6, 1, 124), Backend::io_uring), Error::backend_unavailable);
    EXPECT_TRUE(tells("io_uring: on this kernel ")) << report_.text;
    EXPECT_TRUE(tells("Debian bug 1093243")) << report_.text;
    EXPECT_FALSE(report_.fell_back);
    ASSERT_FALSE(select(exactly(6, 1, 124), Backend::libev));
    EXPECT_FALSE(report_.fell_back);
}

TEST_F(KernelPretended, bad_at_one_thing_goes_on_without_it_and_says_so) {
    if (select(exactly(7, 0, 0), Backend::io_uring)) {
        GTEST_SKIP() << "this machine refuses io_uring";
    }
    const std::uint32_t features = report_.features;
    EXPECT_EQ(report_.features_distrusted, 0u);
    EXPECT_STREQ(report_.text, "io_uring: as asked for");
    ASSERT_FALSE(select(exactly(6, 8, 0), Backend::automatic));
    EXPECT_EQ(report_.chosen, Backend::io_uring);
    EXPECT_EQ(report_.features, features & ~accepts);
    EXPECT_EQ(report_.features_distrusted, features & accepts);
    if ((features & accepts) != 0) {
        EXPECT_TRUE(tells("io_uring: available; without multishot_accept")) << report_.text;
    }
    ASSERT_FALSE(select(exactly(6, 8, 0), Backend::automatic, accepts));
    EXPECT_EQ(report_.features, features & ~accepts);
    EXPECT_EQ(report_.features_distrusted, 0u) << "it was not wanted anyway";
    EXPECT_STREQ(report_.text, "io_uring: available");
}

}  // namespace
}  // namespace whorl::detail
