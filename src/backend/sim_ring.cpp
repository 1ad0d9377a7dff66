// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_ring.hpp"

#include "backend/sim_kernel.hpp"

#include <cerrno>

namespace whorl::detail {

namespace {

class SimRingCalls final : public RingCalls {
  public:
    int setup(unsigned, io_uring&, io_uring_params&) noexcept override { return -ENOSYS; }
    void exit(io_uring&) noexcept override {}
    int enter(unsigned, unsigned, unsigned, unsigned, void*, std::size_t) noexcept override {
        return -ENOSYS;
    }
    int register_(unsigned, unsigned, void*, unsigned) noexcept override { return -ENOSYS; }
};

}  // namespace

std::unique_ptr<RingCalls> make_sim_ring_calls(SimKernel&) {
    return std::make_unique<SimRingCalls>();
}

}  // namespace whorl::detail
