// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/signals.hpp>

#include "backend/process_calls.hpp"
#include "loop/core.hpp"

#include <csignal>

namespace whorl {

Result<Signals> open_signals(Loop& loop, const SignalSet& set) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    constexpr SignalSet refused{SIGKILL, SIGSTOP, SIGSEGV, SIGBUS,          SIGILL,
                                SIGFPE,  SIGTRAP, SIGSYS,  32 /* libc's */, 33};
    if (set.mask() == 0 || (set.mask() & refused.mask()) != 0) return Error::invalid_argument;
    Result<detail::Descriptor*> claimed =
        core.descriptor_claim(-1, detail::DescriptorKind::signals);
    if (!claimed) return claimed.error();
    detail::Descriptor& descriptor = **claimed;
    std::uint32_t key = 0;
    descriptor.fd = core.system.process_calls().signals_open(set.mask(), key);
    descriptor.buffers_out = key;
    if (descriptor.fd >= 0) return Signals::from_value(core.descriptors.handle_of(&descriptor));
    const Error error = Error::from_errno(descriptor.fd);
    core.descriptors.release(&descriptor);
    return error;
}

}  // namespace whorl
