// SPDX-License-Identifier: MIT
#include "guest_bench.hpp"

#include <whorl/adapters/libevent_guest.hpp>

namespace {
class Host {
  public:
    ~Host() { event_base_free(base_); }
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, base_); }
    void detach() { guest_.detach(); }
    void run() { event_base_dispatch(base_); }
    void stop() { event_base_loopbreak(base_); }

  private:
    event_base* base_ = event_base_new();
    whorl::adapters::LibeventGuest guest_;
};
}  // namespace

WHORL_GUEST_BENCH(Host, "libevent")
