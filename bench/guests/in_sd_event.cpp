// SPDX-License-Identifier: MIT
#include "guest_bench.hpp"

#include <whorl/adapters/sd_event_guest.hpp>

namespace {
class Host {
  public:
    Host() { bench::must(sd_event_new(&event_) >= 0, "sd_event_new"); }
    ~Host() { sd_event_unref(event_); }
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, event_); }
    void detach() { guest_.detach(); }
    void run() {
        while (running_) sd_event_run(event_, UINT64_MAX);
    }
    void stop() { running_ = false; }

  private:
    sd_event* event_ = nullptr;
    bool running_ = true;
    whorl::adapters::SdEventGuest guest_;
};
}  // namespace

WHORL_GUEST_BENCH(Host, "sd_event")
