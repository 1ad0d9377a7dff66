// SPDX-License-Identifier: MIT
// libuv in the cases of cases.hpp. It has no queue of posted work; its documentation offers idle handles
// for what shall run in the next turn, and those are used: started to post, stopped when they run.
#include <uv.h>

#include <memory>

#include "cases.hpp"

namespace {

class Loop {
  public:
    static constexpr const char* name = "libuv";
    Loop() {
        if (uv_loop_init(&loop_) != 0) std::exit(1);
    }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() {
        uv_walk(
            &loop_, [](uv_handle_t* handle, void*) { uv_close(handle, nullptr); }, nullptr);
        (void)uv_run(&loop_, UV_RUN_DEFAULT);
        (void)uv_loop_close(&loop_);
    }
    void run() { (void)uv_run(&loop_, UV_RUN_DEFAULT); }
    void stop() { uv_stop(&loop_); }
    void finish() {
        for (const auto& poll : polls_) (void)uv_poll_stop(poll.get());
    }

    template <class End>
    void watch(End& end) {
        polls_.push_back(std::make_unique<uv_poll_t>());
        uv_poll_t* poll = polls_.back().get();
        (void)uv_poll_init(&loop_, poll, end.read_fd);
        poll->data = &end;
        (void)uv_poll_start(poll, UV_READABLE, [](uv_poll_t* ready, int, int) {
            static_cast<End*>(ready->data)->ready();
        });
    }

    template <class Jobs>
    void jobs(Jobs& list) {
        idles_.resize(list.size());
        for (auto& job : list) {
            (void)uv_idle_init(&loop_, &idles_[job.index]);
            idles_[job.index].data = &job;
        }
    }
    template <class Job>
    void post(Job& job) {
        (void)uv_idle_start(&idles_[job.index], [](uv_idle_t* idle) {
            (void)uv_idle_stop(idle);
            static_cast<Job*>(idle->data)->run();
        });
    }
    void turn() { (void)uv_run(&loop_, UV_RUN_NOWAIT); }

    void inbox(bench::Inbox& box) {
        box_ = &box;
        (void)uv_async_init(&loop_, &async_, [](uv_async_t* async) {
            auto* self = static_cast<Loop*>(async->data);
            self->box_->woken();
            if (self->box_->finished) self->stop();
        });
        async_.data = this;
    }
    void give(bench::Inbox& box, std::uint64_t value) {
        box.put(value);
        (void)uv_async_send(&async_);
    }

    // In whole milliseconds; more precise it is not.
    template <class Fire>
    void after(std::uint64_t ns, Fire& fire) {
        if (timer_.data == nullptr) (void)uv_timer_init(&loop_, &timer_);
        timer_.data = &fire;
        (void)uv_timer_start(
            &timer_, [](uv_timer_t* timer) { static_cast<Fire*>(timer->data)->fire(); },
            (ns + 999'999) / 1'000'000, 0);
    }

  private:
    uv_loop_t loop_{};
    std::vector<std::unique_ptr<uv_poll_t>> polls_;
    std::vector<uv_idle_t> idles_;
    uv_async_t async_{};
    uv_timer_t timer_{};
    bench::Inbox* box_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) { return bench::loop_main<Loop>(argc, argv); }
