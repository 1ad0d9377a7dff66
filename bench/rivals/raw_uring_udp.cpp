// SPDX-License-Identifier: MIT
// A UDP echo server written by hand on liburing 2.3: a multishot recvmsg into a ring of provided buffers,
// a sendmsg for each answer out of the same buffer, one io_uring_enter a turn. Needs Linux 6.1.
//
// A buffer is in the ring or in one answer, whose header lives in the slot of the buffer's number.
#include <liburing.h>  // before anything that could bring <linux/io_uring.h>
#include <poll.h>

#include "udp.hpp"

namespace {

constexpr unsigned buffer_count = 256;
constexpr unsigned buffer_size = 2048 + 128;  // a datagram, its address and io_uring_recvmsg_out

enum class Kind : std::uint32_t { stop, receive, send };

class Server {
  public:
    explicit Server(const bench::Options& options)
        : fd_(bench::bind_udp(options)), stop_(bench::stop_descriptor()),
          memory_(std::size_t{buffer_count} * buffer_size) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
        params.cq_entries = 4 * buffer_count;
        const int result = io_uring_queue_init_params(2 * buffer_count, &ring_, &params);
        if (result < 0) {
            std::fprintf(stderr, "io_uring is not to be had here: %s\n", std::strerror(-result));
            std::exit(bench::exit_skipped);
        }
        (void)io_uring_register_ring_fd(&ring_);
        make_buffers();
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        io_uring_prep_poll_add(sqe, stop_, POLLIN);
        sqe->user_data = tag(Kind::stop, 0);
        received_.msg_namelen = sizeof(sockaddr_in);
        arm();
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        io_uring_queue_exit(&ring_);
        (void)close(fd_);
        (void)close(stop_);
        std::free(buffers_);
    }

    void run() {
        bench::announce(fd_);
        while (!stopping_) {
            (void)io_uring_submit_and_wait(&ring_, 1);
            unsigned head = 0, count = 0;
            io_uring_cqe* cqe = nullptr;
            io_uring_for_each_cqe(&ring_, head, cqe) {
                ++count;
                dispatch(*cqe);
            }
            io_uring_cq_advance(&ring_, count);
            io_uring_buf_ring_advance(buffers_, returned_);
            returned_ = 0;
            if (!armed_) arm();
        }
    }

  private:
    struct Answer {
        msghdr header{};
        iovec piece{};
    };

    static std::uint64_t tag(Kind kind, std::uint32_t id) {
        return static_cast<std::uint64_t>(kind) << 32 | id;
    }
    char* address(std::uint32_t id) { return memory_.data() + std::size_t{id} * buffer_size; }

    void make_buffers() {
        buffers_ = static_cast<io_uring_buf_ring*>(
            std::aligned_alloc(4096, buffer_count * sizeof(io_uring_buf)));
        if (buffers_ == nullptr) bench::fail("buffers", ENOMEM);
        io_uring_buf_reg registration{};
        registration.ring_addr = reinterpret_cast<std::uintptr_t>(buffers_);
        registration.ring_entries = buffer_count;
        const int result = io_uring_register_buf_ring(&ring_, &registration, 0);
        if (result < 0) bench::fail("io_uring_register_buf_ring", -result);
        io_uring_buf_ring_init(buffers_);
        for (std::uint32_t id = 0; id < buffer_count; ++id) release(id);
        io_uring_buf_ring_advance(buffers_, returned_);
        returned_ = 0;
    }
    void release(std::uint32_t id) {
        io_uring_buf_ring_add(buffers_, address(id), buffer_size, static_cast<unsigned short>(id),
                              io_uring_buf_ring_mask(buffer_count), returned_++);
    }

    void arm() {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        io_uring_prep_recvmsg_multishot(sqe, fd_, &received_, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = 0;
        sqe->user_data = tag(Kind::receive, 0);
        armed_ = true;
    }

    void dispatch(const io_uring_cqe& cqe) {
        switch (static_cast<Kind>(cqe.user_data >> 32)) {
            case Kind::stop:
                stopping_ = true;
                return;
            case Kind::send:
                return release(static_cast<std::uint32_t>(cqe.user_data));
            case Kind::receive:
                if ((cqe.flags & IORING_CQE_F_MORE) == 0) armed_ = false;
                if (cqe.res >= 0) answer(cqe.flags >> IORING_CQE_BUFFER_SHIFT, cqe.res);
                return;
        }
    }
    void answer(std::uint32_t id, int size) {
        io_uring_recvmsg_out* out = io_uring_recvmsg_validate(address(id), size, &received_);
        if (out == nullptr) return release(id);
        Answer& answer = answers_[id];
        answer.piece.iov_base = io_uring_recvmsg_payload(out, &received_);
        answer.piece.iov_len = io_uring_recvmsg_payload_length(out, size, &received_);
        answer.header.msg_name = io_uring_recvmsg_name(out);
        answer.header.msg_namelen = out->namelen;
        answer.header.msg_iov = &answer.piece;
        answer.header.msg_iovlen = 1;
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);  // as many entries as buffers, and more
        io_uring_prep_sendmsg(sqe, fd_, &answer.header, 0);
        sqe->user_data = tag(Kind::send, id);
    }

    int fd_;
    int stop_;
    bool stopping_ = false;
    bool armed_ = false;
    io_uring ring_{};
    msghdr received_{};
    std::vector<char> memory_;
    io_uring_buf_ring* buffers_ = nullptr;
    int returned_ = 0;  // written to the ring, not yet shown to the kernel
    Answer answers_[buffer_count];
};

}  // namespace

int main(int argc, char** argv) {
    {
        Server server(bench::parse_options(argc, argv, {}));
        server.run();
    }
    bench::print_report("raw_uring");
    return 0;
}
