// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/adapters/guest.hpp>

#include <glib.h>

#include <new>

// whorl inside a GLib main context, and so inside GTK and what else is built on it; see guest.hpp for
// the contract.
//
//   whorl::adapters::GlibGuest guest;
//   if (whorl::Error error = guest.attach(loop, nullptr)) …    // the default context
//   g_main_loop_run(main_loop);
//
// A source of its own, of G_PRIORITY_DEFAULT. A source alone does not keep a GMainLoop running.
// Source: docs.gtk.org/glib/main-loop.html, g_source_new(), g_source_set_ready_time().

namespace whorl::adapters {

// See above and guest.hpp. Not movable: the source keeps its address.
class GlibGuest {
  public:
    GlibGuest() noexcept = default;
    GlibGuest(const GlibGuest&) = delete;
    GlibGuest& operator=(const GlibGuest&) = delete;
    ~GlibGuest() { detach(); }

    // context: null for the default one.
    Error attach(Loop& loop, GMainContext* context) noexcept {
        detach();
        const Result<int> fd = loop.notify_fd();
        if (!fd) return fd.error();
        static GSourceFuncs calls{nullptr, nullptr, &dispatch, nullptr, nullptr, nullptr};
        source_ = g_source_new(&calls, sizeof(Source));
        reinterpret_cast<Source*>(source_)->guest = this;
        loop_ = &loop;
        g_source_set_name(source_, "whorl");
        g_source_add_unix_fd(source_, *fd, G_IO_IN);
        g_source_attach(source_, context);
        run();
        return error_;
    }

    // Destroys the source. Any number of times.
    void detach() noexcept {
        if (source_ == nullptr) return;
        g_source_destroy(source_);
        g_source_unref(source_);
        source_ = nullptr;
    }

    // Why the guest has stopped; none while it runs.
    Error error() const noexcept { return error_; }

  private:
    struct Source {
        GSource source;
        GlibGuest* guest;
    };

    // Without prepare and check, GLib calls it when the descriptor is readable or the time has come.
    static gboolean dispatch(GSource* source, GSourceFunc, gpointer) {
        reinterpret_cast<Source*>(source)->guest->run();
        return G_SOURCE_CONTINUE;
    }
    void run() {
        error_ = loop_->process();
        if (error_) return detach();
        const Nanoseconds delay = guest_delay(*loop_, std::chrono::microseconds(1));
        const bool never = delay < Nanoseconds::zero();
        g_source_set_ready_time(source_,
                                never ? -1 : g_get_monotonic_time() + delay.count() / 1000);
    }

    Loop* loop_ = nullptr;
    GSource* source_ = nullptr;
    Error error_;
};

}  // namespace whorl::adapters
