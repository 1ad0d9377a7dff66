// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_file.hpp"
#include "backend/sim_kernel.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

// sendmmsg(2), writev(2), splice(2) and tee(2) in a simulated kernel; the last two between pipes and
// stream sockets.

namespace whorl::detail {

namespace {

// How many bytes can be moved now, at most `size`; 0 when `from` has ended; a negated errno value.
ssize_t movable(SimFile& from, SimFile& to, std::size_t size) noexcept {
    SimChannel* source = from.reads_from();
    SimChannel* sink = to.writes_into();
    if (source == nullptr || sink == nullptr || source == sink) return -EINVAL;
    if (source->readable() == 0 && !source->end_arrived()) return -EAGAIN;
    if ((to.poll_bits() & POLLOUT) == 0) return -EAGAIN;
    if (source->readable() == 0 || sink->broken()) return sink->broken() ? -EPIPE : 0;
    return static_cast<ssize_t>(std::min({size, source->readable(), sink->room()}));
}

}  // namespace

// The error of one that is not the first is told by the next call.
int SimKernel::sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) noexcept {
    unsigned sent = 0;
    for (; sent < count; ++sent) {
        const ssize_t done = sendmsg(fd, &messages[sent].msg_hdr, flags);
        if (done < 0) return sent != 0 ? static_cast<int>(sent) : static_cast<int>(done);
        messages[sent].msg_len = static_cast<unsigned>(done);
    }
    return static_cast<int>(sent);
}

ssize_t SimKernel::writev_quietly(int fd, const iovec* parts, int count) noexcept {
    const SimFilePtr found = file(fd);
    if (found == nullptr) return -EBADF;
    std::string bytes;
    for (int part = 0; part < count; ++part) {
        bytes.append(static_cast<const char*>(parts[part].iov_base), parts[part].iov_len);
    }
    return found->write(bytes.data(), bytes.size(), 0);
}

ssize_t SimKernel::splice(int from, int to, std::size_t size) noexcept {
    const SimFilePtr source = file(from), sink = file(to);
    if (source == nullptr || sink == nullptr) return -EBADF;
    if (!SimPipeEnd::is(*source) && !SimPipeEnd::is(*sink)) return -EINVAL;
    const ssize_t count = movable(*source, *sink, size);
    if (count <= 0) return count;
    std::string bytes(static_cast<std::size_t>(count), '\0');
    // What a pipe takes in one piece or not at all is asked for before anything is taken.
    SimChannel& channel = *source->reads_from();
    channel.take(bytes.data(), bytes.size(), true);
    const ssize_t wrote = sink->write(bytes.data(), bytes.size(), 0);
    if (wrote > 0) {
        static_cast<void>(source->read(bytes.data(), static_cast<std::size_t>(wrote), 0));
    }
    return wrote;
}

ssize_t SimKernel::tee(int from, int to, std::size_t size) noexcept {
    const SimFilePtr source = file(from), sink = file(to);
    if (source == nullptr || sink == nullptr) return -EBADF;
    if (!SimPipeEnd::is(*source) || !SimPipeEnd::is(*sink)) return -EINVAL;
    const ssize_t count = movable(*source, *sink, size);
    if (count <= 0) return count;
    std::string bytes(static_cast<std::size_t>(count), '\0');
    source->reads_from()->take(bytes.data(), bytes.size(), true);
    return sink->write(bytes.data(), bytes.size(), 0);
}

}  // namespace whorl::detail
