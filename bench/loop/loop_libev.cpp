// SPDX-License-Identifier: MIT
// libev in the cases of cases.hpp.
#include <ev.h>

#include <memory>

#include "cases.hpp"

namespace {

class Loop {
  public:
    static constexpr const char* name = "libev";
    Loop() : loop_(ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL)) {
        ev_timer_init(&timer_, nullptr, 0, 0);
    }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() { ev_loop_destroy(loop_); }
    void run() { ev_run(loop_, 0); }
    void stop() { ev_break(loop_, EVBREAK_ALL); }
    void finish() {
        for (const auto& watcher : watchers_) ev_io_stop(loop_, watcher.get());
    }

    template <class End>
    void watch(End& end) {
        watchers_.push_back(std::make_unique<ev_io>());
        ev_io* watcher = watchers_.back().get();
        ev_io_init(
            watcher, [](struct ev_loop*, ev_io* io, int) { static_cast<End*>(io->data)->ready(); },
            end.read_fd, EV_READ);
        watcher->data = &end;
        ev_io_start(loop_, watcher);
    }

    // Any watcher can be fed. One that never starts is the lightest.
    template <class Jobs>
    void jobs(Jobs& list) {
        using Job = typename Jobs::value_type;
        fed_.resize(list.size());
        for (Job& job : list) {
            ev_prepare* watcher = &fed_[job.index];
            ev_prepare_init(watcher, [](struct ev_loop*, ev_prepare* prepare, int) {
                static_cast<Job*>(prepare->data)->run();
            });
            watcher->data = &job;
        }
        keep();
    }
    template <class Job>
    void post(Job& job) {
        ev_feed_event(loop_, &fed_[job.index], EV_CUSTOM);
    }
    void turn() { ev_run(loop_, EVRUN_NOWAIT); }

    void inbox(bench::Inbox& box) {
        box_ = &box;
        ev_async_init(&async_, [](struct ev_loop* loop, ev_async* async, int) {
            auto* self = static_cast<Loop*>(async->data);
            self->box_->woken();
            if (self->box_->finished) ev_break(loop, EVBREAK_ALL);
        });
        async_.data = this;
        ev_async_start(loop_, &async_);
    }
    void give(bench::Inbox& box, std::uint64_t value) {
        box.put(value);
        ev_async_send(loop_, &async_);
    }

    template <class Fire>
    void after(std::uint64_t ns, Fire& fire) {
        ev_timer_init(
            &timer_,
            [](struct ev_loop*, ev_timer* timer, int) { static_cast<Fire*>(timer->data)->fire(); },
            static_cast<double>(ns) * 1e-9, 0.);
        timer_.data = &fire;
        ev_timer_start(loop_, &timer_);
    }

  private:
    // ev_run returns at once when no watcher is started.
    void keep() {
        ev_async_init(&async_, [](struct ev_loop*, ev_async*, int) {});
        ev_async_start(loop_, &async_);
    }
    struct ev_loop* loop_;
    std::vector<std::unique_ptr<ev_io>> watchers_;
    std::vector<ev_prepare> fed_;
    ev_async async_{};
    ev_timer timer_{};
    bench::Inbox* box_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) { return bench::loop_main<Loop>(argc, argv); }
