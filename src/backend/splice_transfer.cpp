// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/payload.hpp"
#include "backend/pipe_transfer.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>

namespace whorl::detail {

namespace {

// As in pipe_transfer.cpp: what is writable has room for so many bytes, and does not block for them.
constexpr std::size_t piece_max = 4096;
constexpr std::size_t turn_max = std::size_t{16} * piece_max;

bool is_ready(System& system, int fd, short events) noexcept {
    pollfd asked{fd, events, 0};
    return system.poll_now(&asked, 1) != 0;
}

}  // namespace

// What is readable at one end and writable at the other can be moved; if the kernel says otherwise, one
// of them has changed in between, and the poll says which.
std::int32_t splice_transfer(System& system, Slab<Descriptor>& descriptors,
                             OpRecord& record) noexcept {
    const Descriptor& descriptor = descriptors.at(record.descriptor);
    if (record.kind == OpKind::splice_source) {
        return is_ready(system, descriptor.fd, POLLIN) ? 0 : -EAGAIN;
    }
    const SplicePayload& payload = record.as<SplicePayload>();
    const int from = descriptors.at(payload.from).fd;
    const std::uint64_t rest = payload.size - record.progress;
    const std::size_t most = (descriptor.flags & pipe_whole) != 0 ? turn_max : piece_max;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(rest, most));
    ssize_t moved = -EINTR;
    while (moved == -EINTR) {
        if (!is_ready(system, descriptor.fd, POLLOUT)) return -EAGAIN;
        if (!is_ready(system, from, POLLIN)) return splice_dry;
        moved = record.kind == OpKind::tee ? system.tee(from, descriptor.fd, size)
                                           : system.splice(from, descriptor.fd, size);
    }
    if (moved != -EAGAIN) return static_cast<std::int32_t>(moved);
    return is_ready(system, descriptor.fd, POLLOUT) ? splice_dry : -EAGAIN;
}

std::int32_t batch_transfer(System& system, int fd, OpRecord& record) noexcept {
    BatchFrame& frame = *record.as<BatchPayload>().frame;
    std::int32_t sent = -EINTR;
    while (sent == -EINTR) {
        sent = system.sendmmsg(fd, frame.headers, frame.count, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return sent;
}

}  // namespace whorl::detail
