// SPDX-License-Identifier: MIT
// An echo server written by hand on liburing 2.3: the mark that an event loop on io_uring is
// measured against. Needs Linux 6.1.
//
// One io_uring_enter per turn submits what the last turn prepared and waits. Multishot accept;
// one multishot receive per connection, all of them drawing from one ring of provided buffers
// that is small enough to stay in the second-level cache. A received buffer is sent as it is and
// then goes back to the ring.
//
// Invariants:
//  1. At most one send per connection is with the kernel, for two would interleave on the wire
//     although both ask for MSG_WAITALL. What arrives meanwhile waits in the connection's queue
//     and is gathered into the next send.
//  2. A descriptor is closed only when neither its receive nor a send is with the kernel: a
//     receive in flight would keep the socket open without completing, and its late completion
//     would meet whoever got the number next. So no completion is ever stale.
//  3. A buffer is in the ring, or in exactly one connection's queue.
//
// Honest limit: a peer that sends and never reads can hold every buffer and stop the others. A
// library needs a share per connection; here every client reads.
#include <liburing.h>  // before anything that could bring <linux/io_uring.h>
#include <poll.h>

#include <cstddef>

#include "echo.hpp"

static_assert(offsetof(io_uring_buf_ring, bufs) == 0,
              "the kernel's own header puts bufs at 8 in C++; liburing's is meant");

namespace {

constexpr unsigned sq_entries = 1024;
constexpr unsigned cq_entries = 4 * sq_entries;
constexpr std::uint16_t buffer_none = 0xFFFF;
constexpr unsigned gather_max = 8;  // buffers in one send

enum class Kind : std::uint32_t { stop, accept, receive, send };

class Server {
  public:
    explicit Server(const bench::Options& options)
        : buffer_size_(options.buffer_size), buffer_count_(options.buffer_count),
          stop_(bench::stop_descriptor()), listener_(bench::listen_on(options, 0)),
          buffers_(options.buffer_count) {
        make_ring();
        make_buffers();
        io_uring_sqe* sqe = entry();
        io_uring_prep_poll_add(sqe, stop_, POLLIN);
        sqe->user_data = tag(Kind::stop, stop_);
        arm_accept();
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        // A ring with an accept in flight keeps the port for some milliseconds after its exit,
        // which is asynchronous; shutting the listener down frees it now.
        (void)shutdown(listener_, SHUT_RDWR);
        io_uring_queue_exit(&ring_);
        for (std::size_t fd = 0; fd < connections_.size(); ++fd) {
            if (connections_[fd].live) (void)close(static_cast<int>(fd));
        }
        (void)close(listener_);
        (void)close(stop_);
        std::free(ring_memory_);
        std::free(buffer_memory_);
    }

    void run() {
        // The listener accepts into its backlog already; the first enter arms the accept.
        bench::announce(listener_);
        while (!stopping_) {
            const int result = io_uring_submit_and_wait(&ring_, 1);
            if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) {
                bench::fail("io_uring_enter", -result);
            }
            turn_collect();
            turn_return_buffers();
        }
    }

  private:
    // Changed only by the completions of the connection's own operations.
    struct Connection {
        bool live = false;
        bool receiving = false;  // the multishot receive is armed
        bool starved = false;    // it ended for lack of buffers and is on the starved list
        bool closing = false;    // no more will be received
        unsigned sending = 0;    // buffers in the send in flight; 0: none
        std::uint32_t sent = 0;  // bytes of the first buffer that are sent already
        std::uint16_t first = buffer_none;
        std::uint16_t last = buffer_none;
        // Read by the kernel while it prepares a gathered send.
        msghdr message{};
        iovec pieces[gather_max];
    };

    struct Buffer {
        std::uint32_t size = 0;
        std::uint16_t next = buffer_none;
    };

    void make_ring() {
        // COOP_TASKRUN is left out: DEFER_TASKRUN implies it. SUBMIT_ALL so that one bad entry
        // does not stop the rest of its batch.
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = cq_entries;
        const int result = io_uring_queue_init_params(sq_entries, &ring_, &params);
        if (result < 0) {
            std::fprintf(stderr, "io_uring is not to be had here: %s\n", std::strerror(-result));
            std::exit(bench::exit_skipped);
        }
        if (io_uring_register_ring_fd(&ring_) != 1) {
            std::fprintf(stderr, "the ring descriptor is not registered; going on without\n");
        }
    }

    void make_buffers() {
        if ((buffer_count_ & (buffer_count_ - 1)) != 0) {
            bench::fail("--buffer-count, not a power of two", EINVAL);
        }
        constexpr std::size_t page = 4096;
        const auto pages = [](std::size_t size) { return (size + page - 1) / page * page; };
        ring_memory_ = std::aligned_alloc(page, pages(buffer_count_ * sizeof(io_uring_buf)));
        buffer_memory_ = static_cast<char*>(
            std::aligned_alloc(page, pages(std::size_t{buffer_count_} * buffer_size_)));
        if (ring_memory_ == nullptr || buffer_memory_ == nullptr) bench::fail("buffers", ENOMEM);
        buffer_ring_ = static_cast<io_uring_buf_ring*>(ring_memory_);
        io_uring_buf_reg registration{};
        registration.ring_addr = reinterpret_cast<std::uintptr_t>(ring_memory_);
        registration.ring_entries = buffer_count_;
        registration.bgid = 0;
        const int result = io_uring_register_buf_ring(&ring_, &registration, 0);
        if (result < 0) bench::fail("io_uring_register_buf_ring", -result);
        io_uring_buf_ring_init(buffer_ring_);
        buffers_held_ = buffer_count_;
        for (std::uint32_t id = 0; id < buffer_count_; ++id) {
            release(static_cast<std::uint16_t>(id));
        }
        turn_return_buffers();
    }

    // ---- submission ----

    static std::uint64_t tag(Kind kind, int fd) {
        return static_cast<std::uint64_t>(kind) << 32 | static_cast<std::uint32_t>(fd);
    }

    // A free submission entry. A full queue is flushed, which always makes room.
    io_uring_sqe* entry() {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        if (sqe != nullptr) return sqe;
        flush();
        return io_uring_get_sqe(&ring_);
    }

    void flush() {
        while (io_uring_sq_ready(&ring_) != 0) {
            const int result = io_uring_submit(&ring_);
            if (result < 0 && result != -EINTR) bench::fail("io_uring_submit", -result);
        }
    }

    void arm_accept() {
        io_uring_sqe* sqe = entry();
        io_uring_prep_multishot_accept(sqe, listener_, nullptr, nullptr, SOCK_CLOEXEC);
        sqe->user_data = tag(Kind::accept, listener_);
    }

    void arm_receive(int fd) {
        io_uring_sqe* sqe = entry();
        io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = 0;
        sqe->user_data = tag(Kind::receive, fd);
        connections_[static_cast<std::size_t>(fd)].receiving = true;
    }

    // Sends what is queued, up to gather_max buffers. One buffer, the usual case, goes without a
    // message header, which the kernel would have to copy.
    void start_send(int fd, Connection& connection) {
        unsigned count = 0;
        for (std::uint16_t id = connection.first; id != buffer_none && count < gather_max;
             id = buffers_[id].next) {
            const std::uint32_t skip = count == 0 ? connection.sent : 0;
            connection.pieces[count].iov_base = address(id) + skip;
            connection.pieces[count].iov_len = buffers_[id].size - skip;
            ++count;
        }
        constexpr int flags = MSG_WAITALL | MSG_NOSIGNAL;
        io_uring_sqe* sqe = entry();
        if (count == 1) {
            const iovec& piece = connection.pieces[0];
            io_uring_prep_send(sqe, fd, piece.iov_base, piece.iov_len, flags);
        } else {
            connection.message.msg_iov = connection.pieces;
            connection.message.msg_iovlen = count;
            io_uring_prep_sendmsg(sqe, fd, &connection.message, flags);
        }
        sqe->user_data = tag(Kind::send, fd);
        connection.sending = count;
    }

    // ---- completion ----

    void turn_collect() {
        unsigned head = 0;
        unsigned count = 0;
        io_uring_cqe* cqe = nullptr;
        io_uring_for_each_cqe(&ring_, head, cqe) {
            dispatch(*cqe);
            ++count;
        }
        io_uring_cq_advance(&ring_, count);
    }

    void dispatch(const io_uring_cqe& cqe) {
        const int fd = static_cast<int>(cqe.user_data & 0xFFFFFFFF);
        switch (static_cast<Kind>(cqe.user_data >> 32)) {
            case Kind::receive:
                return on_receive(fd, cqe.res, cqe.flags);
            case Kind::send:
                return on_send(fd, cqe.res);
            case Kind::accept:
                return on_accept(cqe.res, cqe.flags);
            case Kind::stop:
                stopping_ = true;
                return;
        }
    }

    void on_accept(int fd, std::uint32_t flags) {
        if (fd >= 0) {
            const auto index = static_cast<std::size_t>(fd);
            if (index >= connections_.size()) grow(index + 1);
            connections_[index] = Connection{};
            connections_[index].live = true;
            arm_receive(fd);
        }
        if ((flags & IORING_CQE_F_MORE) != 0) return;
        // Out of descriptors: the peers stay in the backlog until a connection has ended.
        accept_paused_ = fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS;
        if (!accept_paused_) arm_accept();
    }

    // The table may move only while no prepared send points into it, so what is prepared is
    // handed to the kernel first; once submitted, the headers have been copied.
    void grow(std::size_t size) {
        flush();
        connections_.resize(size * 2);
    }

    void on_receive(int fd, int result, std::uint32_t flags) {
        Connection& connection = connections_[static_cast<std::size_t>(fd)];
        const bool more = (flags & IORING_CQE_F_MORE) != 0;
        connection.receiving = more;
        if (result > 0) {
            const auto id = static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
            take(connection, id, static_cast<std::uint32_t>(result));
            if (connection.sending == 0) start_send(fd, connection);
            // A multishot may end at any time, for one when the completion queue is full.
            if (!more && !connection.closing) arm_receive(fd);
            return;
        }
        if (result == -ENOBUFS && !connection.closing) {
            if (more) return;
            connection.starved = true;
            starved_.push_back(fd);
            return;
        }
        connection.closing = true;  // end of stream, or an error
        settle(fd, connection);
    }

    void on_send(int fd, int result) {
        Connection& connection = connections_[static_cast<std::size_t>(fd)];
        connection.sending = 0;
        if (result < 0) {
            while (connection.first != buffer_none) drop_first(connection);
            connection.closing = true;
            if (connection.receiving) (void)shutdown(fd, SHUT_RDWR);  // ends the receive
            return settle(fd, connection);
        }
        auto left = static_cast<std::uint32_t>(result);
        while (connection.first != buffer_none) {
            const std::uint32_t rest = buffers_[connection.first].size - connection.sent;
            if (left < rest) break;
            left -= rest;
            drop_first(connection);
        }
        connection.sent += left;  // not 0 only after a short send
        if (connection.first != buffer_none) return start_send(fd, connection);
        settle(fd, connection);
    }

    // Closes a connection that is closing as soon as nothing of it is with the kernel.
    void settle(int fd, Connection& connection) {
        if (!connection.closing || connection.receiving || connection.sending != 0) return;
        while (connection.first != buffer_none) drop_first(connection);
        connection = Connection{};
        (void)close(fd);
        if (!accept_paused_) return;
        accept_paused_ = false;
        arm_accept();
    }

    // ---- buffers ----

    char* address(std::uint16_t id) const {
        return buffer_memory_ + std::size_t{id} * buffer_size_;
    }

    void take(Connection& connection, std::uint16_t id, std::uint32_t size) {
        ++buffers_held_;
        buffers_[id] = {size, buffer_none};
        if (connection.last == buffer_none) connection.first = id;
        else buffers_[connection.last].next = id;
        connection.last = id;
    }

    void drop_first(Connection& connection) {
        const std::uint16_t id = connection.first;
        connection.first = buffers_[id].next;
        if (connection.first == buffer_none) connection.last = buffer_none;
        connection.sent = 0;
        release(id);
    }

    void release(std::uint16_t id) {
        io_uring_buf_ring_add(buffer_ring_, address(id), buffer_size_, id,
                              io_uring_buf_ring_mask(buffer_count_),
                              static_cast<int>(buffers_returned_));
        ++buffers_returned_;
        --buffers_held_;
    }

    // Shows the returned buffers to the kernel, then re-arms as many starved receives as there
    // are buffers for.
    void turn_return_buffers() {
        if (buffers_returned_ == 0) return;
        io_uring_buf_ring_advance(buffer_ring_, static_cast<int>(buffers_returned_));
        buffers_returned_ = 0;
        std::size_t free = buffer_count_ - buffers_held_;
        std::size_t taken = 0;
        for (; taken < starved_.size() && free > 0; ++taken) {
            const int fd = starved_[taken];
            Connection& connection = connections_[static_cast<std::size_t>(fd)];
            if (!connection.starved) continue;  // closed meanwhile
            connection.starved = false;
            arm_receive(fd);
            --free;
        }
        starved_.erase(starved_.begin(), starved_.begin() + static_cast<std::ptrdiff_t>(taken));
    }

    std::uint32_t buffer_size_;
    std::uint32_t buffer_count_;
    int stop_;
    int listener_;
    bool stopping_ = false;
    bool accept_paused_ = false;
    io_uring ring_{};
    void* ring_memory_ = nullptr;
    char* buffer_memory_ = nullptr;
    io_uring_buf_ring* buffer_ring_ = nullptr;
    std::uint32_t buffers_held_ = 0;      // with connections
    std::uint32_t buffers_returned_ = 0;  // written to the ring, not yet shown to the kernel
    std::vector<Buffer> buffers_;
    std::vector<int> starved_;
    std::vector<Connection> connections_;  // by descriptor
};

}  // namespace

int main(int argc, char** argv) {
    bench::Options defaults;
    defaults.buffer_size = 16384;
    {
        Server server(bench::parse_options(argc, argv, defaults));
        server.run();
    }
    bench::print_report("raw_uring");
    return 0;
}
