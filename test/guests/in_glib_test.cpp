// SPDX-License-Identifier: MIT
// The scenarios of guest_test.hpp inside a GLib main context.
#include "guests/guest_test.hpp"

#include <whorl/adapters/glib_guest.hpp>

#include <glib-unix.h>

#include <deque>

namespace {

class Glib {
  public:
    ~Glib() {
        for (GSource* each : sources_) {
            g_source_destroy(each);
            g_source_unref(each);
        }
        g_main_loop_unref(loop_);
        g_main_context_unref(context_);
    }
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, context_); }
    void detach() { guest_.detach(); }
    whorl::Error error() const { return guest_.error(); }
    void watch(int fd, std::function<void()> call) {
        GSource* source = g_unix_fd_source_new(fd, G_IO_IN);
        const auto ready = [](gint, GIOCondition, gpointer of) -> gboolean {
            (*static_cast<std::function<void()>*>(of))();
            return G_SOURCE_CONTINUE;
        };
        const GUnixFDSourceFunc plain = ready;
        add(source, reinterpret_cast<GSourceFunc>(reinterpret_cast<void (*)()>(plain)),
            std::move(call));
    }
    void after(int ms, std::function<void()> call) {
        const auto due = [](gpointer of) -> gboolean {
            (*static_cast<std::function<void()>*>(of))();
            return G_SOURCE_REMOVE;
        };
        add(g_timeout_source_new(static_cast<guint>(ms)), due, std::move(call));
    }
    void run() { g_main_loop_run(loop_); }
    void stop() { g_main_loop_quit(loop_); }

  private:
    void add(GSource* source, GSourceFunc run_call, std::function<void()> call) {
        g_source_set_callback(source, run_call, &calls_.emplace_back(std::move(call)), nullptr);
        g_source_attach(source, context_);
        sources_.push_back(source);
    }
    GMainContext* context_ = g_main_context_new();
    GMainLoop* loop_ = g_main_loop_new(context_, FALSE);
    std::deque<std::function<void()>> calls_;
    std::vector<GSource*> sources_;
    whorl::adapters::GlibGuest guest_;
};

WHORL_GUEST_TESTS(Glib)

}  // namespace
