// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_errors.hpp"
#include "backend/sim_ring_memory.hpp"
#include "backend/sim_ring_state.hpp"

#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

// How a simulated ring reads each submission and tries each operation, in the order of the operation
// list. Links, drains, fixed files and cancelling by descriptor are not simulated: -EINVAL.

namespace whorl::detail {

namespace {

constexpr unsigned poll_read = POLLIN | POLLPRI | POLLRDHUP | POLLERR | POLLHUP;
constexpr unsigned poll_write = POLLOUT | POLLERR | POLLHUP;
constexpr unsigned entry_flags_simulated =
    IOSQE_ASYNC | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;

char* memory_at(std::uint64_t address) noexcept { return reinterpret_cast<char*>(address); }

SimSocket& socket_in(SimRingOp& op) noexcept { return static_cast<SimSocket&>(*op.file); }

// How much of `size` bytes a send may look at now.
std::size_t within_reach(SimRingOp& op, std::size_t size) noexcept {
    const SimChannel* outgoing = socket_in(op).outgoing();
    if (op.file->keeps_messages()) return size;
    if (outgoing == nullptr || (op.message_flags & MSG_OOB) != 0) return size;
    return std::min(size, outgoing->room());
}

// liburing stores the mask with its halves exchanged on big-endian machines.
unsigned poll_mask_of(const io_uring_sqe& sqe) noexcept {
    const unsigned mask = sqe.poll32_events;
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? mask << 16 | mask >> 16 : mask;
}

// Errors that the manual pages name for an operation, and one that they do not.
ErrorList errors_of(unsigned opcode) noexcept {
    static constexpr int connect[] = {ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL, EXDEV};
    static constexpr int accept[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO, EPERM};
    static constexpr int recv[] = {ECONNRESET, ENOMEM, ETIMEDOUT, EINTR, EXDEV};
    static constexpr int send[] = {ECONNRESET, EPIPE, ENOBUFS, ENOMEM, EINTR, EXDEV};
    static constexpr int message[] = {ECONNREFUSED, EINTR, EXDEV};
    static constexpr int poll[] = {ENOMEM};
    static constexpr int file[] = {EIO, ENOSPC, ENOMEM, EXDEV};
    switch (opcode) {
        case IORING_OP_CONNECT:
            return list_of(connect);
        case IORING_OP_ACCEPT:
            return list_of(accept);
        case IORING_OP_RECV:
            return list_of(recv);
        case IORING_OP_RECVMSG:
            return list_of(message);
        case IORING_OP_SEND:
        case IORING_OP_SENDMSG:
        case IORING_OP_SEND_ZC:
        case IORING_OP_SENDMSG_ZC:
            return list_of(send);
        case IORING_OP_POLL_ADD:
            return list_of(poll);
        default:
            return list_of(file);
    }
}

}  // namespace

// --- submission

// False when the entry itself was wrong, so that it never became an operation.
bool SimRing::start(const io_uring_sqe& sqe) {
    if (const int error = refuse(sqe)) {
        post(sqe.user_data, error, 0);
        return false;
    }
    if (start_at_once(sqe)) return true;
    SimRingOp& op = claim(sqe.user_data);
    const int error = prepare_op(sqe, op);
    if (error == 0) {
        kernel_.trace("sqe %llx op %u fd %d size %zu",
                      static_cast<unsigned long long>(op.user_data), sqe.opcode, sqe.fd, op.size);
        const bool on_file = is_on_file(op.opcode);
        const Nanoseconds late = on_file ? lateness() : Nanoseconds::zero();
        if (late != Nanoseconds::zero()) delay(op, late);
        else attempt(op);
        return true;
    }
    release(op);
    post(sqe.user_data, error, 0);
    return error != -EINVAL;
}

int SimRing::refuse(const io_uring_sqe& sqe) const noexcept {
    if (sqe.opcode > level_.opcode_last) return -EINVAL;
    if ((sqe.flags & ~(level_.entry_flags & entry_flags_simulated)) != 0) return -EINVAL;
    const bool selects = (sqe.flags & IOSQE_BUFFER_SELECT) != 0;
    const bool receives = sqe.opcode == IORING_OP_RECV || sqe.opcode == IORING_OP_RECVMSG;
    if (selects && !receives) return -EOPNOTSUPP;
    if (!restrictions_.on || disabled_) return 0;
    const Restrictions& allowed = restrictions_;
    if (!allowed.entries[sqe.opcode]) return -EACCES;
    if ((sqe.flags & allowed.flags_required) != allowed.flags_required) return -EACCES;
    return (sqe.flags & ~(allowed.flags_allowed | allowed.flags_required)) != 0 ? -EACCES : 0;
}

// What never waits is done and answered here.
bool SimRing::start_at_once(const io_uring_sqe& sqe) {
    int result = 0;
    switch (sqe.opcode) {
        case IORING_OP_NOP:
            break;
        case IORING_OP_SHUTDOWN:
            result = kernel_.shutdown(sqe.fd, static_cast<int>(sqe.len));
            break;
        case IORING_OP_CLOSE:
            result = kernel_.close(sqe.fd);
            break;
        case IORING_OP_ASYNC_CANCEL:
            result = sqe.cancel_flags != 0 ? -EINVAL : cancel(sqe.addr, false);
            break;
        case IORING_OP_POLL_REMOVE:
            result = sqe.len != 0 ? -EINVAL : cancel(sqe.addr, true);
            break;
        default:
            return false;
    }
    const bool silent = (sqe.flags & IOSQE_CQE_SKIP_SUCCESS) != 0 && result >= 0;
    const bool cancels =
        sqe.opcode == IORING_OP_ASYNC_CANCEL || sqe.opcode == IORING_OP_POLL_REMOVE;
    if (!silent) post(sqe.user_data, result, 0, cancels && result < 0);
    return true;
}

int SimRing::prepare_op(const io_uring_sqe& sqe, SimRingOp& op) {
    op.opcode = sqe.opcode;
    op.silent = (sqe.flags & IOSQE_CQE_SKIP_SUCCESS) != 0;
    op.selects = (sqe.flags & IOSQE_BUFFER_SELECT) != 0;
    op.group = sqe.buf_group;
    if (is_on_file(sqe.opcode)) {
        std::memcpy(op.entry.data(), &sqe, sizeof sqe);
        return 0;
    }
    op.file = kernel_.file(sqe.fd);
    if (op.file == nullptr) return -EBADF;
    op.nowait = op.file->nonblocking;
    if (sqe.opcode == IORING_OP_POLL_ADD) return prepare_poll(sqe, op);
    if (moves_message(sqe, *op.file)) return prepare_message(sqe, op);
    if (std::strcmp(op.file->name(), "socket") != 0) return -ENOTSOCK;
    switch (sqe.opcode) {
        case IORING_OP_CONNECT:
            return prepare_connect(sqe, op);
        case IORING_OP_ACCEPT:
            return prepare_accept(sqe, op);
        case IORING_OP_RECV:
            return prepare_recv(sqe, op);
        case IORING_OP_SEND:
            return prepare_send(sqe, op);
        case IORING_OP_SENDMSG:
            return prepare_sendmsg(sqe, op);
        case IORING_OP_SEND_ZC:
        case IORING_OP_SENDMSG_ZC:
            return prepare_zero_copy(sqe, op);
        default:
            kernel_.trace("operation %u is not simulated", sqe.opcode);
            return -EINVAL;
    }
}

int SimRing::prepare_connect(const io_uring_sqe& sqe, SimRingOp& op) {
    if (sqe.off < sizeof(sockaddr_in)) return -EINVAL;
    const auto* address = reinterpret_cast<const sockaddr*>(sqe.addr);
    op.address = SimAddress::from(address, static_cast<socklen_t>(sqe.off));
    op.wanted = poll_write;
    return 0;
}

int SimRing::prepare_accept(const io_uring_sqe& sqe, SimRingOp& op) const {
    if (sqe.addr != 0 || sqe.len != 0) return -EINVAL;  // where to put the address: not simulated
    op.multishot = (sqe.ioprio & IORING_ACCEPT_MULTISHOT) != 0;
    if ((sqe.ioprio & ~IORING_ACCEPT_MULTISHOT) != 0) return -EINVAL;
    if (op.multishot && !level_.multishots) return -EINVAL;
    op.message_flags = static_cast<int>(sqe.accept_flags);
    op.wanted = poll_read;
    return 0;
}

int SimRing::prepare_recv(const io_uring_sqe& sqe, SimRingOp& op) const {
    op.multishot = (sqe.ioprio & IORING_RECV_MULTISHOT) != 0;
    const unsigned known = IORING_RECVSEND_POLL_FIRST | IORING_RECV_MULTISHOT;
    if ((sqe.ioprio & ~known) != 0) return -EINVAL;
    if (sqe.ioprio != 0 && !level_.multishots) return -EINVAL;
    op.message_flags = static_cast<int>(sqe.msg_flags);
    if (op.multishot) {
        const bool all = (op.message_flags & MSG_WAITALL) != 0;
        if (!op.selects || all || sqe.len != 0) return -EINVAL;
    }
    op.data = memory_at(sqe.addr);
    op.size = sqe.len;
    op.wanted = poll_read;
    if ((op.message_flags & MSG_DONTWAIT) != 0) op.nowait = true;
    return 0;
}

int SimRing::prepare_send(const io_uring_sqe& sqe, SimRingOp& op) const {
    if (sqe.ioprio != 0) return -EINVAL;
    op.message_flags = static_cast<int>(sqe.msg_flags);
    op.data = memory_at(sqe.addr);
    op.size = sqe.len;
    op.wanted = poll_write;
    if ((op.message_flags & MSG_DONTWAIT) != 0) op.nowait = true;
    return 0;
}

int SimRing::prepare_sendmsg(const io_uring_sqe& sqe, SimRingOp& op) const {
    if (sqe.ioprio != 0) return -EINVAL;
    const auto& message = *reinterpret_cast<const msghdr*>(sqe.addr);
    const SimAccess header(&message, sizeof message);
    const SimAccess list(message.msg_iov, message.msg_iovlen * sizeof(iovec));
    op.message_flags = static_cast<int>(sqe.msg_flags);
    op.parts.assign(message.msg_iov, message.msg_iov + message.msg_iovlen);
    for (const iovec& part : op.parts) op.size += part.iov_len;
    op.wanted = poll_write;
    if ((op.message_flags & MSG_DONTWAIT) != 0) op.nowait = true;
    return 0;
}

int SimRing::prepare_poll(const io_uring_sqe& sqe, SimRingOp& op) const {
    if ((sqe.len & ~IORING_POLL_ADD_MULTI) != 0) return -EINVAL;
    op.multishot = (sqe.len & IORING_POLL_ADD_MULTI) != 0;
    op.wanted = poll_mask_of(sqe) | POLLERR | POLLHUP;
    op.nowait = false;
    return 0;
}

// --- one try of each

SimRing::Outcome SimRing::try_op(SimRingOp& op) {
    if (is_on_file(op.opcode)) return try_file(op);
    switch (op.opcode) {
        case IORING_OP_CONNECT: {
            const int done = socket_in(op).connect(op.address);
            return {done == -EINPROGRESS || done == -EALREADY ? would_block : done, 0};
        }
        case IORING_OP_ACCEPT:
            return try_accept(op);
        case IORING_OP_RECV:
            return try_recv(op);
        case IORING_OP_SEND:
        case IORING_OP_SEND_ZC:
            return try_send(op);
        case IORING_OP_SENDMSG_ZC:
            return try_sendmsg(op);
        case IORING_OP_RECVMSG:
            return op.multishot ? try_message_stream(op) : try_message(op);
        case IORING_OP_SENDMSG:
            return op.message != nullptr ? try_message(op) : try_sendmsg(op);
        default:
            return try_poll(op);
    }
}

// Which operations of the list an entry may stand for. A level without multishots or rings of buffers has
// the same entry for an operation and for its stream; polling a descriptor that somebody made
// non-blocking is taken for a watch.
SimRing::Kinds SimRing::kinds_of(const SimRingOp& op) const noexcept {
    const auto one = [](OpKind kind) { return Kinds{kind, kind}; };
    if (is_on_file(op.opcode)) return file_kinds_of(op.opcode);
    switch (op.opcode) {
        case IORING_OP_CONNECT:
            return one(OpKind::connect);
        case IORING_OP_ACCEPT:
            if (op.multishot) return one(OpKind::accept_stream);
            return {OpKind::accept, level_.multishots ? OpKind::accept : OpKind::accept_stream};
        case IORING_OP_RECV:
            return one(op.selects ? OpKind::recv_stream : OpKind::recv);
        case IORING_OP_SEND:
            return one((op.message_flags & MSG_WAITALL) != 0 ? OpKind::send_all : OpKind::send);
        case IORING_OP_SEND_ZC:
            return one(OpKind::send_zero_copy);
        case IORING_OP_SENDMSG_ZC:
            return one(OpKind::chain_zero_copy);
        case IORING_OP_SENDMSG:
            return one(op.message != nullptr ? OpKind::send_message : OpKind::send_chain);
        case IORING_OP_RECVMSG:
            return one(op.multishot ? OpKind::message_stream : OpKind::recv_message);
        default:
            if (op.multishot)
                return one(OpKind::hook);  // the driver's own, for wake-ups: no operation
            return {OpKind::watch, level_.buffer_rings ? OpKind::watch : OpKind::recv_stream};
    }
}

// An error in place of the operation, or would_block for none.
int SimRing::fault(SimRingOp& op) {
    const Kinds kinds = kinds_of(op);
    // A part that was moved would stand for the error, and nobody would be told of it.
    const bool begins = op.moved == 0;
    const int scripted = begins ? kernel_.take_scripted_fault(kinds.first, kinds.second) : 0;
    if (scripted != 0) return -scripted;
    if (!kernel_.faulty(kernel_.options().operation_error)) return would_block;
    const bool message = op.message != nullptr;
    const ErrorList list = errors_of(message ? unsigned{IORING_OP_RECVMSG} : op.opcode);
    const int error = list.first[kernel_.choices.below(list.count)];
    kernel_.trace("fault %d", error);
    // What says that the connection is gone is followed by a connection that is gone.
    if (error == ECONNRESET || error == EPIPE || error == ETIMEDOUT) socket_in(op).abort();
    return -error;
}

// Whether a multishot says its last now: for want of room, as in Linux, or because the world likes.
bool SimRing::ends_stream() {
    if (!overflow_.empty() || ready() == queues_.cq_entries) return true;
    return kernel_.faulty(kernel_.options().stream_end);
}

// A part of `size` now and then, never nothing.
std::size_t SimRing::shortened(std::size_t size) {
    if (size < 2 || !kernel_.faulty(kernel_.options().short_transfer)) return size;
    const auto bound = static_cast<std::uint32_t>(std::min<std::size_t>(size - 1, 1u << 20));
    return 1 + kernel_.choices.below(bound);
}

SimRing::Outcome SimRing::try_accept(SimRingOp& op) {
    for (;;) {
        const int number = kernel_.accept(socket_in(op));
        if (number == -EAGAIN) return {would_block, 0};
        if (number >= 0) {
            kernel_.file(number)->nonblocking = (op.message_flags & SOCK_NONBLOCK) != 0;
        }
        if (number < 0 || !op.multishot || ends_stream()) return {number, 0};
        post(op.user_data, number, IORING_CQE_F_MORE);
    }
}

SimRing::Outcome SimRing::try_recv(SimRingOp& op) {
    const bool whole = (op.message_flags & (MSG_PEEK | MSG_OOB)) != 0 || op.file->keeps_messages();
    const bool all = (op.message_flags & MSG_WAITALL) != 0 && level_.waits_for_all && !whole;
    for (;;) {
        const Outcome part = try_recv_part(op, whole);
        if (part.result < 0 || op.selects) {
            const bool ends = part.result <= 0 || !op.multishot;
            if (ends || ends_stream()) return part;
            post(op.user_data, part.result, part.flags | IORING_CQE_F_MORE);
            continue;
        }
        op.moved += static_cast<std::size_t>(part.result);
        const bool complete = part.result == 0 || op.moved == op.size || !all;
        if (complete || kernel_.faulty(kernel_.options().short_transfer)) break;
    }
    return {static_cast<int>(op.moved), 0};
}

SimRing::Outcome SimRing::try_recv_part(SimRingOp& op, bool whole) {
    char* data = op.data + op.moved;
    std::size_t size = op.size - op.moved;
    unsigned flags = 0;
    if (op.selects) {  // Linux takes the buffer first, and gives it back when nothing is there
        const io_uring_buf* buffer = buffer_first(op.group);
        if (buffer == nullptr) return {-ENOBUFS, 0};
        data = memory_at(buffer->addr);
        size = op.size != 0 ? std::min<std::size_t>(op.size, buffer->len) : buffer->len;
        flags = IORING_CQE_F_BUFFER | unsigned{buffer->bid} << IORING_CQE_BUFFER_SHIFT;
    }
    const SimChannel* incoming = socket_in(op).incoming();
    const std::size_t readable = incoming != nullptr ? incoming->readable() : 0;
    const SimAccess access(data, std::min(size, readable + 1));
    const ssize_t got =
        socket_in(op).read(data, whole ? size : shortened(size), op.message_flags & ~MSG_WAITALL);
    if (got == -EAGAIN) return {would_block, 0};
    if (!op.selects || got < 0) return {static_cast<int>(got), 0};
    // The end of the stream uses a buffer up or leaves it, as the kernel's version has it.
    if (got == 0 && !kernel_.faulty(kernel_.options().short_transfer)) return {0, 0};
    ++groups_.at(op.group).head;
    return {static_cast<int>(got), flags};
}

SimRing::Outcome SimRing::try_send(SimRingOp& op) {
    const bool all = (op.message_flags & MSG_WAITALL) != 0 && level_.waits_for_all;
    for (;;) {
        const std::size_t rest = op.size - op.moved;
        const SimAccess access(op.data + op.moved, within_reach(op, rest));
        const ssize_t sent = socket_in(op).write(op.data + op.moved,
                                                 op.file->keeps_messages() ? rest : shortened(rest),
                                                 op.message_flags);
        if (sent == -EAGAIN) return {would_block, 0};
        if (sent < 0) return {static_cast<int>(sent), 0};
        op.moved += static_cast<std::size_t>(sent);
        const bool more = op.moved < op.size && all;
        if (!more || kernel_.faulty(kernel_.options().short_transfer)) break;
    }
    return {static_cast<int>(op.moved), 0};
}

SimRing::Outcome SimRing::try_sendmsg(SimRingOp& op) {
    const bool all = (op.message_flags & MSG_WAITALL) != 0 && level_.waits_for_all;
    std::size_t end = op.moved + shortened(op.size - op.moved);
    if (all && !kernel_.faulty(kernel_.options().short_transfer)) end = op.size;
    std::size_t passed = 0;
    const std::size_t before = op.moved;
    for (const iovec& part : op.parts) {
        const std::size_t first = passed;
        passed += part.iov_len;
        if (passed <= op.moved || first >= end) continue;
        const std::size_t skipped = op.moved - first;
        const std::size_t size = std::min(passed, end) - op.moved;
        const char* data = static_cast<char*>(part.iov_base) + skipped;
        const SimAccess access(data, within_reach(op, size));
        const ssize_t sent = socket_in(op).write(data, size, op.message_flags);
        if (sent == -EAGAIN || (sent >= 0 && static_cast<std::size_t>(sent) < size)) {
            if (sent > 0) op.moved += static_cast<std::size_t>(sent);
            if (all || op.moved == before) return {would_block, 0};
            break;
        }
        if (sent < 0) return {static_cast<int>(sent), 0};
        op.moved += size;
    }
    return {static_cast<int>(op.moved), 0};
}

SimRing::Outcome SimRing::try_poll(SimRingOp& op) {
    unsigned wanted = op.wanted;
    if (op.woken) wanted &= ~static_cast<unsigned>(POLLPRI);  // as in file_changed()
    const unsigned bits = op.file->poll_bits() & wanted;
    if (bits == 0) return {would_block, 0};
    const int result = static_cast<int>(bits);
    if (!op.multishot || ends_stream()) return {result, 0};
    post(op.user_data, result, IORING_CQE_F_MORE);
    return {would_block, 0};
}

// --- receive buffers

// The next buffer of a group, or null when it has none.
const io_uring_buf* SimRing::buffer_first(std::uint16_t group) const noexcept {
    const auto found = groups_.find(group);
    if (found == groups_.end()) return nullptr;
    const Group& buffers = found->second;
    const std::uint16_t tail = __atomic_load_n(&buffers.ring->tail, __ATOMIC_ACQUIRE);
    if (tail == buffers.head) return nullptr;
    return &buffers.ring->bufs[buffers.head & (buffers.entries - 1)];
}

// Until its completion the memory of a receive is the kernel's, which may write there what it likes.
void SimRing::scribble(const SimRingOp& op) {
    if (op.opcode != IORING_OP_RECV || op.decided) return;
    char* data = op.data + op.moved;
    std::size_t size = op.size - op.moved;
    if (op.selects) {
        const io_uring_buf* buffer = buffer_first(op.group);
        data = buffer != nullptr ? memory_at(buffer->addr) : nullptr;
        size = buffer != nullptr ? buffer->len : 0;
    }
    if (size == 0 || !kernel_.faulty(kernel_.options().short_transfer)) return;
    const SimAccess access(data, size);
    std::memset(data, 0xDB, std::min<std::size_t>(size, 64));
    data[size - 1] = '\xDB';
}

}  // namespace whorl::detail
