// SPDX-License-Identifier: MIT
// Files by hand on io_uring: one enter a turn; a write and its fdatasync are linked.
#include <liburing.h>

#include "files.hpp"

namespace {

class Ring {
  public:
    Ring(int fd, std::size_t slots) : fd_(fd) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        const auto entries = static_cast<unsigned>(std::max<std::size_t>(2 * slots, 8));
        if (io_uring_queue_init_params(entries, &ring_, &params) < 0) {
            std::exit(bench::Run::skip());
        }
        (void)io_uring_register_ring_fd(&ring_);
    }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring() { io_uring_queue_exit(&ring_); }

    void run(bench::Work& work) {
        for (std::size_t slot = 0; slot != work.slots() && work.next(slot); ++slot) {
            begin(work, slot);
        }
        for (bool last = false; !last;) {
            (void)io_uring_submit_and_wait(&ring_, 1);
            unsigned head = 0, count = 0;
            io_uring_cqe* cqe = nullptr;
            io_uring_for_each_cqe(&ring_, head, cqe) {
                ++count;
                const std::size_t slot = cqe->user_data;
                // Of a linked pair only the second completes, the first one only when it failed.
                const long result =
                    work.writes() && cqe->res == 0 ? long{bench::block_size} : long{cqe->res};
                if (work.done(slot, result)) last = true;
                else if (work.next(slot)) begin(work, slot);
            }
            io_uring_cq_advance(&ring_, count);
        }
    }

  private:
    void begin(bench::Work& work, std::size_t slot) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        const auto offset = static_cast<std::uint64_t>(work.offset(slot));
        if (!work.writes()) {
            io_uring_prep_read(sqe, fd_, work.buffer(slot), bench::block_size, offset);
        } else {
            io_uring_prep_write(sqe, fd_, work.buffer(slot), bench::block_size, offset);
            sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
            sqe->user_data = slot;
            sqe = io_uring_get_sqe(&ring_);
            io_uring_prep_fsync(sqe, fd_, IORING_FSYNC_DATASYNC);
        }
        sqe->user_data = slot;
    }
    int fd_;
    io_uring ring_{};
};

}  // namespace

int main(int argc, char** argv) { return bench::files_main<Ring>("raw_uring", argc, argv); }
