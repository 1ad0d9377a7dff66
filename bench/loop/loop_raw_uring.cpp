// SPDX-License-Identifier: MIT
// io_uring by hand in the cases of cases.hpp: no-ops, and ping-pong by multishot polls, both with one
// io_uring_enter a turn.
#include <liburing.h>  // before anything that could bring <linux/io_uring.h>
#include <poll.h>

#include "cases.hpp"

namespace {

class Loop {
  public:
    static constexpr const char* name = "raw_uring";
    Loop() {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = 4096;
        if (io_uring_queue_init_params(1024, &ring_, &params) < 0) std::exit(bench::Run::skip());
        (void)io_uring_register_ring_fd(&ring_);
    }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() { io_uring_queue_exit(&ring_); }
    void stop() { stopped_ = true; }
    static void finish() {}

    void run() {
        while (!stopped_) {
            (void)io_uring_submit_and_wait(&ring_, 1);
            unsigned head = 0, count = 0;
            io_uring_cqe* cqe = nullptr;
            io_uring_for_each_cqe(&ring_, head, cqe) {
                ++count;
                void* user = reinterpret_cast<void*>(cqe->user_data);
                if (cqe->res > 0) ready_(user);
                if ((cqe->flags & IORING_CQE_F_MORE) == 0) arm_(*this, user);
            }
            io_uring_cq_advance(&ring_, count);
        }
    }

    template <class End>
    void watch(End& end) {
        ready_ = [](void* user) { static_cast<End*>(user)->ready(); };
        arm_ = [](Loop& loop, void* user) { loop.arm(static_cast<End*>(user)->read_fd, user); };
        arm(end.read_fd, &end);
    }

    // As a loop would do them: a completion is counted, and the next one prepared for the next enter.
    std::uint64_t nop(std::size_t depth, std::uint64_t operations) {
        std::uint64_t done = 0, begun = 0;
        for (; begun < depth && begun < operations; ++begun) prepare();
        while (done < operations) {
            (void)io_uring_submit_and_wait(&ring_, 1);
            unsigned head = 0, count = 0;
            io_uring_cqe* cqe = nullptr;
            io_uring_for_each_cqe(&ring_, head, cqe) {
                ++count;
                done += cqe->user_data;
                if (begun < operations) {
                    ++begun;
                    prepare();
                }
            }
            io_uring_cq_advance(&ring_, count);
        }
        return done;
    }

  private:
    void arm(int fd, void* user) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        io_uring_prep_poll_multishot(sqe, fd, POLLIN);
        sqe->user_data = reinterpret_cast<std::uintptr_t>(user);
    }
    void prepare() {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        io_uring_prep_nop(sqe);
        sqe->user_data = 1;
    }
    io_uring ring_{};
    bool stopped_ = false;
    void (*ready_)(void* user) = nullptr;
    void (*arm_)(Loop& loop, void* user) = nullptr;
};

}  // namespace

int main(int argc, char** argv) { return bench::loop_main<Loop>(argc, argv); }
