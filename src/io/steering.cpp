// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/steering.hpp>

#include "loop/core.hpp"

#include <whorl/socket.hpp>

#include <linux/filter.h>
#include <sys/socket.h>

#include <cstddef>

// A classic BPF program that answers with the number of a listener:
//
//   by cpu                         by hash
//     A = processor                  A = hash of the packet
//     if A == cpus[0] return 0
//     …
//     A = A mod listeners            A = A mod listeners
//     return A                       return A

namespace whorl {

namespace {

constexpr std::uint32_t listeners_max = 1024;
constexpr std::uint8_t next_one = 1;  // jumps over the instruction that follows

constexpr sock_filter step(int code, std::uint32_t value, std::uint8_t otherwise = 0) noexcept {
    return {static_cast<std::uint16_t>(code), 0, otherwise, value};
}

struct SteeringProgram {
    explicit SteeringProgram(const Steering& steering) noexcept {
        const int what = steering.by == SteerBy::cpu ? SKF_AD_CPU : SKF_AD_RXHASH;
        add(step(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(SKF_AD_OFF + what)));
        if (steering.by == SteerBy::cpu && steering.cpus != nullptr) {
            for (std::uint32_t index = 0; index < steering.listeners; ++index) {
                add(step(BPF_JMP | BPF_JEQ | BPF_K, steering.cpus[index], next_one));
                add(step(BPF_RET | BPF_K, index));
            }
        }
        add(step(BPF_ALU | BPF_MOD | BPF_K, steering.listeners));
        add(step(BPF_RET | BPF_A, 0));
    }
    void add(const sock_filter& instruction) noexcept { steps[count++] = instruction; }

    std::uint16_t count = 0;
    sock_filter steps[2 * listeners_max + 3];
};
static_assert(sizeof(SteeringProgram::steps) / sizeof(sock_filter) <= BPF_MAXINSNS);

}  // namespace

Error steer(Loop& loop, Listener listener, const Steering& steering) noexcept {
    const Result<detail::SystemFd> fd = detail::descriptor_number(loop, listener.value());
    if (!fd) return fd.error();
    if (steering.listeners == 0 || steering.listeners > listeners_max) {
        return Error::invalid_argument;
    }
    SteeringProgram program(steering);
    const sock_fprog told{program.count, program.steps};
    return Error::from_errno(fd->system->setsockopt(fd->number, SOL_SOCKET,
                                                    SO_ATTACH_REUSEPORT_CBPF, &told, sizeof told));
}

}  // namespace whorl
