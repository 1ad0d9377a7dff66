// SPDX-License-Identifier: MIT
// Goal: an idle ring is not counted as waiting for a disk, where the kernel can say so (Linux 6.15).
// Method: the ring's calls are looked at on their way to the machine's kernel and to simulated ones: each
// io_uring_enter(2) carries IORING_ENTER_NO_IOWAIT if and only if the kernel has told
// IORING_FEAT_NO_IOWAIT and the feature is not switched off. (The counter itself is the machine's.)
#include "backend/ring.hpp"
#include "backend/sim_kernel.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace whorl::detail {
namespace {

class Recorder final : public RingCalls {
  public:
    explicit Recorder(RingCalls& calls) : calls_(calls) {}
    int setup(unsigned entries, io_uring& ring, io_uring_params& params) noexcept override {
        const int made = calls_.setup(entries, ring, params);
        features = params.features;
        return made;
    }
    void exit(io_uring& ring) noexcept override { calls_.exit(ring); }
    int enter(unsigned fd, unsigned submit, unsigned complete, unsigned flags, void* argument,
              std::size_t size) noexcept override {
        entered.push_back(flags);
        return calls_.enter(fd, submit, complete, flags, argument, size);
    }
    int io_register(unsigned fd, unsigned opcode, void* argument,
                    unsigned count) noexcept override {
        return calls_.io_register(fd, opcode, argument, count);
    }

    unsigned features = 0;
    std::vector<unsigned> entered;

  private:
    RingCalls& calls_;
};

// Whether the kernel has the feature; -1 when it refuses a ring.
int expect_flag(RingCalls& calls) {
    int has = -1;
    for (const bool wanted : {true, false}) {
        Recorder recorder(calls);
        Ring ring(recorder);
        Ring::Failure failure{};
        const Ring::Setup setup{8, 16, true, true, wanted, RingLimit::none};
        if (ring.open(setup, failure)) return -1;
        has = (recorder.features & feature_no_iowait) != 0 ? 1 : 0;
        EXPECT_EQ(ring.hides_iowait(), wanted && has == 1);
        recorder.entered.clear();
        EXPECT_FALSE(ring.enter(1, Nanoseconds(1000)));  // waits
        EXPECT_FALSE(ring.enter(0, Nanoseconds(0)));     // looks
        EXPECT_EQ(recorder.entered.size(), 2u);
        for (const unsigned flags : recorder.entered) {
            EXPECT_EQ((flags & enter_no_iowait) != 0, wanted && has == 1);
        }
    }
    return has;
}

TEST(RingIowait, is_hidden_where_this_kernel_can) {
    if (expect_flag(real_ring_calls()) < 0) GTEST_SKIP() << "this machine refuses io_uring";
}

TEST(RingIowait, is_hidden_from_6_15_on_and_no_older_kernel_is_asked) {
    using testing::RingLevel;
    for (const RingLevel level :
         {RingLevel::linux_5_15, RingLevel::linux_6_1, RingLevel::linux_6_18}) {
        testing::SimulationOptions options;
        options.ring_level = level;
        SimKernel kernel(options);
        EXPECT_EQ(expect_flag(kernel.ring_calls()), level == RingLevel::linux_6_18 ? 1 : 0);
    }
}

}  // namespace
}  // namespace whorl::detail
