// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/pipe.hpp>

#include "backend/pipe_transfer.hpp"
#include "loop/core.hpp"

#include <fcntl.h>

#include <cerrno>

namespace whorl {

Result<Pipe> adopt_pipe(Loop& loop, int fd) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    const int access = core.system.pipe_access(fd);
    if (access < 0) return Error::from_errno(access);
    Result<detail::Descriptor*> claimed = core.descriptor_claim(fd, detail::DescriptorKind::socket);
    if (!claimed) return claimed.error();
    (*claimed)->flags = static_cast<std::uint16_t>(access);
    return Pipe::from_value(core.descriptors.handle_of(*claimed));
}

Result<Pipe> duplicate_pipe(Loop& loop, int fd) noexcept {
    detail::System& system = loop.core().system;
    const int made = system.duplicate(fd);
    if (made < 0) return Error::from_errno(made);
    Result<Pipe> pipe = adopt_pipe(loop, made);
    if (!pipe) system.close(made);
    return pipe;
}

Result<PipeEnds> make_pipe(Loop& loop) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    int fds[2] = {-1, -1};
    const int made = core.system.pipe2(fds, O_CLOEXEC | O_NONBLOCK);
    if (made < 0) return Error::from_errno(made);
    const Result<Pipe> reading = adopt_pipe(loop, fds[0]);
    if (!reading) {
        core.system.close(fds[0]);
        core.system.close(fds[1]);
        return reading.error();
    }
    const Result<Pipe> writing = adopt_pipe(loop, fds[1]);
    if (!writing) {
        core.system.close(fds[1]);
        static_cast<void>(core.descriptor_shut(reading->value(), nullptr));
        return writing.error();
    }
    return PipeEnds{*reading, *writing};
}

namespace detail {

Error pipe_usable(Loop& loop, OpRecord& record) noexcept {
    const std::uint32_t refusal = record.kind == OpKind::read ? pipe_unreadable : pipe_unwritable;
    const Descriptor& descriptor = loop.core().descriptors.at(record.descriptor);
    return (descriptor.flags & refusal) != 0 ? Error::from_errno(EBADF) : Error();
}

}  // namespace detail

}  // namespace whorl
