// SPDX-License-Identifier: MIT
// libevent in the cases of cases.hpp: no lock in the base where one thread uses it; where another wakes it,
// evthread_use_pthreads() and event_active(), as the libevent book has it.
#include <event2/event.h>
#include <event2/thread.h>

#include "cases.hpp"

namespace {

bool threads = false;  // whether the case has another thread

class Loop {
  public:
    static constexpr const char* name = "libevent";
    Loop() {
        event_config* config = event_config_new();
        if (threads) (void)evthread_use_pthreads();
        else (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        base_ = event_base_new_with_config(config);
        event_config_free(config);
    }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() {
        finish();
        event_base_free(base_);
    }
    void run() { (void)event_base_loop(base_, EVLOOP_NO_EXIT_ON_EMPTY); }
    void stop() { (void)event_base_loopbreak(base_); }
    void finish() {
        for (event* one : events_) event_free(one);
        events_.clear();
    }

    template <class End>
    void watch(End& end) {
        (void)event_add(
            make(
                end.read_fd, EV_READ | EV_PERSIST,
                [](evutil_socket_t, short, void* user) { static_cast<End*>(user)->ready(); }, &end),
            nullptr);
    }

    template <class Jobs>
    void jobs(Jobs& list) {
        for (auto& job : list) {
            make(
                -1, 0,
                [](evutil_socket_t, short, void* user) {
                    static_cast<typename Jobs::value_type*>(user)->run();
                },
                &job);
        }
    }
    template <class Job>
    void post(Job& job) {
        event_active(events_[job.index], 0, 0);
    }
    void turn() { (void)event_base_loop(base_, EVLOOP_NONBLOCK); }

    void inbox(bench::Inbox& box) {
        box_ = &box;
        make(
            -1, 0,
            [](evutil_socket_t, short, void* user) {
                auto* self = static_cast<Loop*>(user);
                self->box_->woken();
                if (self->box_->finished) self->stop();
            },
            this);
    }
    void give(bench::Inbox& box, std::uint64_t value) {
        box.put(value);
        event_active(events_.front(), 0, 0);
    }

    template <class Fire>
    void after(std::uint64_t ns, Fire& fire) {
        if (events_.empty()) {
            make(
                -1, 0, [](evutil_socket_t, short, void* user) { static_cast<Fire*>(user)->fire(); },
                &fire);
        }
        const timeval delay{0, static_cast<suseconds_t>(ns / 1000)};
        (void)event_add(events_.front(), &delay);
    }

  private:
    event* make(int fd, short what, event_callback_fn callback, void* user) {
        events_.push_back(event_new(base_, fd, what, callback, user));
        return events_.back();
    }
    event_base* base_ = nullptr;
    std::vector<event*> events_;
    bench::Inbox* box_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
    bench::Run run(Loop::name, argc, argv);
    threads = run.is("wake") || run.is("remote");
    return bench::loop_case<Loop>(run) ? run.finish() : bench::Run::skip();
}
