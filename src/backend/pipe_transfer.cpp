// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/pipe_transfer.hpp"

#include "backend/payload.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>

namespace whorl::detail {

namespace {

// A pipe that is writable has room for so many bytes: PIPE_BUF, pipe(7).
constexpr std::size_t piece_max = 4096;
// How much one operation writes at a time before others get their turn.
constexpr std::size_t turn_max = std::size_t{16} * piece_max;

bool is_ready(System& system, int fd, short events) noexcept {
    pollfd asked{fd, events, 0};
    return system.poll_now(&asked, 1) != 0;  // a refusal is told by the call itself
}

// What is left of a chain, at most `most` bytes of it.
std::int32_t write_gathered(System& system, int fd, const msghdr& message,
                            std::size_t most) noexcept {
    if (!is_ready(system, fd, POLLOUT)) return -EAGAIN;
    iovec parts[GatherFrame::parts_max];
    int count = 0;
    std::size_t total = 0;
    for (; static_cast<std::size_t>(count) < message.msg_iovlen && total < most; ++count) {
        parts[count] = message.msg_iov[count];
        parts[count].iov_len = std::min(parts[count].iov_len, most - total);
        total += parts[count].iov_len;
    }
    return static_cast<std::int32_t>(system.writev_quietly(fd, parts, count));
}

std::int32_t write_pieces(System& system, int fd, const Span& span, std::size_t piece) noexcept {
    std::size_t done = 0;
    while (done < span.size && done < turn_max) {
        if (!is_ready(system, fd, POLLOUT)) break;
        const std::size_t size = std::min(span.size - done, piece);
        const ssize_t wrote = system.write_quietly(fd, span.data + done, size);
        if (wrote < 0 && done != 0) break;  // the next call hears of it again
        if (wrote < 0) return static_cast<std::int32_t>(wrote);
        done += static_cast<std::size_t>(wrote);
        if (static_cast<std::size_t>(wrote) < size) break;
    }
    return done != 0 ? static_cast<std::int32_t>(done) : -EAGAIN;
}

}  // namespace

std::int32_t pipe_transfer(System& system, const Descriptor& descriptor,
                           OpRecord& record) noexcept {
    if (is_process(record.kind)) return process_transfer(system, descriptor, record);
    const int fd = descriptor.fd;
    std::int32_t result = -EINTR;
    while (result == -EINTR) {
        if (record.kind == OpKind::read) {
            if (!is_ready(system, fd, POLLIN)) return -EAGAIN;
            const Span span = span_to_receive(record);
            result = static_cast<std::int32_t>(system.read(fd, span.data, span.size));
        } else if (record.kind == OpKind::write_chain) {
            const bool whole = (descriptor.flags & pipe_whole) != 0;
            const msghdr& message = record.as<ChainPayload>().frame->message;
            result = write_gathered(system, fd, message, whole ? turn_max : piece_max);
        } else {
            const Span span = span_to_send(record);
            const bool whole = (descriptor.flags & pipe_whole) != 0;
            result = write_pieces(system, fd, span, whole ? turn_max : piece_max);
        }
    }
    return result;
}

}  // namespace whorl::detail
