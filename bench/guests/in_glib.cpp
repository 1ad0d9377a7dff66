// SPDX-License-Identifier: MIT
#include "guest_bench.hpp"

#include <whorl/adapters/glib_guest.hpp>

namespace {
class Host {
  public:
    ~Host() {
        g_main_loop_unref(loop_);
        g_main_context_unref(context_);
    }
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, context_); }
    void detach() { guest_.detach(); }
    void run() { g_main_loop_run(loop_); }
    void stop() { g_main_loop_quit(loop_); }

  private:
    GMainContext* context_ = g_main_context_new();
    GMainLoop* loop_ = g_main_loop_new(context_, FALSE);
    whorl::adapters::GlibGuest guest_;
};
}  // namespace

WHORL_GUEST_BENCH(Host, "glib")
