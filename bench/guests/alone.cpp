// SPDX-License-Identifier: MIT
// No host: the loop runs itself.
#include "guest_bench.hpp"

namespace {
class Alone {
  public:
    whorl::Error attach(whorl::Loop& loop) {
        loop_ = &loop;
        return {};
    }
    void detach() {}
    void run() { bench::must(!loop_->run(whorl::RunUntil::stopped), "run"); }
    void stop() { loop_->stop(); }

  private:
    whorl::Loop* loop_ = nullptr;
};
}  // namespace

WHORL_GUEST_BENCH(Alone, "alone")
