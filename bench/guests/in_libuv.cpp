// SPDX-License-Identifier: MIT
#include "guest_bench.hpp"

#include <whorl/adapters/libuv_guest.hpp>

namespace {
class Host {
  public:
    Host() { uv_loop_init(&loop_); }
    ~Host() {
        uv_run(&loop_, UV_RUN_DEFAULT);  // what was detached closes
        uv_loop_close(&loop_);
    }
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, &loop_); }
    void detach() { guest_.detach(); }
    void run() { uv_run(&loop_, UV_RUN_DEFAULT); }
    void stop() { uv_stop(&loop_); }

  private:
    uv_loop_t loop_;
    whorl::adapters::LibuvGuest guest_;
};
}  // namespace

WHORL_GUEST_BENCH(Host, "libuv")
