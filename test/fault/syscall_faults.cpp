// SPDX-License-Identifier: MIT
#include "fault/syscall_faults.hpp"

#include "fault/calls.hpp"

#include <liburing.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#define FAULT_MACHINE 1
extern "C" long fault_execute(long number, long a, long b, long c, long d, long e, long f);
extern "C" const char fault_execute_end[];
// The only place from which trapped calls reach the kernel. The filter sees the address after the
// instruction.
asm(R"(
    .text
    .globl fault_execute, fault_execute_end
    .hidden fault_execute, fault_execute_end
    .type fault_execute, @function
fault_execute:
    movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rcx, %rdx
    movq %r8, %r10
    movq %r9, %r8
    movq 8(%rsp), %r9
    syscall
fault_execute_end:
    ret
    .size fault_execute, .-fault_execute
)");
#endif

namespace fault {

namespace {

constexpr long numbers_max = 512;  // system calls are numbered below
constexpr int opcodes_max = 64;

// Written by the test, read in the handler, from any thread.
std::atomic<int> plan_call{-1};
std::atomic<int> plan_error{0};
std::atomic<std::uint32_t> plan_at{0};
std::atomic<bool> plan_stays{false};
std::atomic<std::uint32_t> seen{0};
std::atomic<bool> has_fired{false};
std::atomic<int> pauses{0};
std::atomic<std::uint32_t> counts[numbers_max];
std::atomic<std::uint32_t> submissions[opcodes_max];

}  // namespace

bool moment_of(int call) noexcept {
    if (pauses.load() != 0 || call < 0 || plan_call.load() != call) return false;
    const std::uint32_t now = seen.fetch_add(1) + 1;
    if (plan_stays.load() ? now < plan_at.load() : now != plan_at.load()) return false;
    has_fired = true;
    return true;
}

int planned_error() noexcept { return plan_error.load(); }

void plan(const Plan& next) noexcept {
    plan_call = -1;
    plan_error = next.error;
    plan_at = next.at;
    plan_stays = next.stays;
    seen = 0;
    has_fired = false;
    for (auto& count : counts) count = 0;
    for (auto& count : submissions) count = 0;
    plan_call = next.call;
}

std::uint32_t calls_seen() noexcept { return seen.load(); }
bool fired() noexcept { return has_fired.load(); }
std::uint32_t calls_of(long number) noexcept {
    return number >= 0 && number < numbers_max ? counts[number].load() : 0;
}
std::uint32_t submissions_of(int opcode) noexcept { return submissions[opcode].load(); }

Pause::Pause() noexcept { ++pauses; }
Pause::~Pause() { --pauses; }

const char* error_name(int error) noexcept {
    switch (error) {
        case trick_short:
            return "short";
        case trick_delay:
            return "delay";
        case trick_async:
            return "async";
        case trick_once:
            return "once";
        case trick_on:
            return "on";
        default:
            const char* name = strerrorname_np(error);
            return name != nullptr ? name : "?";
    }
}

int error_parse(const char* name) noexcept {
    for (int trick = trick_short; trick <= trick_on; ++trick) {
        if (std::strcmp(error_name(trick), name) == 0) return trick;
    }
    for (int error = 1; error < 200; ++error) {
        if (std::strcmp(error_name(error), name) == 0) return error;
    }
    return 0;
}

#if !defined(FAULT_MACHINE)

Installed install(const long*, int) noexcept { return Installed::unsupported; }

#else

namespace {

struct Arguments {
    long number;
    long at[6];
};

long execute(const Arguments& call) noexcept {
    return fault_execute(call.number, call.at[0], call.at[1], call.at[2], call.at[3], call.at[4],
                         call.at[5]);
}

// --- The ring whose submission entries are changed: the one that was set up last.

struct RingMemory {
    int fd = -1;
    io_uring_params params{};
    char* queue = nullptr;
    io_uring_sqe* entries = nullptr;
};
RingMemory ring;

// A no-operation that answers a given result (Linux 6.11); unknown flags are refused before that.
constexpr unsigned nop_inject_result = 1u << 0;

template <class T>
T* pointer(long value) noexcept {
    return reinterpret_cast<T*>(value);  // NOLINT: an argument of a system call
}

// What is done to an entry; `moment` says whether it is its turn. In the place of the kernel, to which the
// memory of an operation is lent: AddressSanitizer has it guarded against everybody else.
__attribute__((no_sanitize("address"))) void change_entry(io_uring_sqe& entry, int error) noexcept {
    switch (error) {
        case trick_async:
            entry.flags |= IOSQE_ASYNC;
            return;
        case trick_delay:
            return;
        case trick_short:
            if (entry.opcode == IORING_OP_SENDMSG)
                pointer<msghdr>(static_cast<long>(entry.addr))->msg_iovlen = 1;
            else if (entry.len > 1) entry.len /= 2;
            return;
        default: {
            const std::uint64_t data = entry.user_data;
            const unsigned kept = entry.flags & IOSQE_CQE_SKIP_SUCCESS;
            entry = io_uring_sqe{};
            entry.opcode = IORING_OP_NOP;
            entry.flags = static_cast<unsigned char>(kept);
            entry.fd = -1;
            entry.rw_flags = static_cast<int>(nop_inject_result);
            entry.len = static_cast<unsigned>(-error);
            entry.user_data = data;
            return;
        }
    }
}

void look_at_submissions(unsigned count) noexcept {
    if (ring.queue == nullptr || ring.entries == nullptr) return;
    const auto word = [](unsigned offset) {
        return reinterpret_cast<unsigned*>(ring.queue + offset);
    };
    const unsigned head = __atomic_load_n(word(ring.params.sq_off.head), __ATOMIC_ACQUIRE);
    const unsigned tail = __atomic_load_n(word(ring.params.sq_off.tail), __ATOMIC_ACQUIRE);
    const unsigned mask = *word(ring.params.sq_off.ring_mask);
    const unsigned* array = word(ring.params.sq_off.array);
    for (unsigned index = head; index != tail && count > 0; ++index, --count) {
        io_uring_sqe& entry = ring.entries[array[index & mask]];
        const int opcode = entry.opcode;
        if (opcode < opcodes_max && pauses.load() == 0) ++submissions[opcode];
        if (moment_of(call_of_opcode(opcode))) change_entry(entry, planned_error());
    }
}

void note_ring(const Arguments& call, long result) noexcept {
    if (call.number == SYS_io_uring_setup && result >= 0) {
        ring = RingMemory();
        ring.fd = static_cast<int>(result);
        ring.params = *pointer<const io_uring_params>(call.at[1]);
    }
    const bool mapped = result >= 0 || result < -4095;
    if (call.number == SYS_mmap && mapped && call.at[4] == ring.fd && ring.fd >= 0) {
        if (call.at[5] == IORING_OFF_SQ_RING) ring.queue = pointer<char>(result);
        if (call.at[5] == static_cast<long>(IORING_OFF_SQES))
            ring.entries = pointer<io_uring_sqe>(result);
    }
}

// --- One call

void delay() noexcept {
    timespec time{0, 1'000'000};
    fault_execute(SYS_nanosleep, reinterpret_cast<long>(&time), 0, 0, 0, 0, 0);
}

// Makes the call with half its length, or with its first part only.
long execute_short(Arguments call) noexcept {
    switch (call.number) {
        case SYS_read:
        case SYS_write:
        case SYS_recvfrom:
        case SYS_sendto:
            if (call.at[2] > 1) call.at[2] /= 2;
            return execute(call);
        case SYS_readv:
        case SYS_writev:
            call.at[2] = 1;
            return execute(call);
        case SYS_io_uring_enter:  // as the kernel does it: what is left over, it does not wait for
            if (call.at[1] <= 1) return execute(call);
            call.at[1] /= 2;
            call.at[2] = 0;
            return execute(call);
        case SYS_sendmsg:
        case SYS_recvmsg: {
            auto& given = *pointer<msghdr>(call.at[1]);
            msghdr message = given;
            iovec part = message.msg_iov[0];
            if (part.iov_len > 1) part.iov_len /= 2;
            message.msg_iov = &part;
            message.msg_iovlen = 1;
            call.at[1] = reinterpret_cast<long>(&message);
            const long done = execute(call);
            if (call.number == SYS_recvmsg && done >= 0) {  // what the kernel has said with it
                given.msg_namelen = message.msg_namelen;
                given.msg_controllen = message.msg_controllen;
                given.msg_flags = message.msg_flags;
            }
            return done;
        }
        default:
            return execute(call);
    }
}

long answer(const Arguments& call) noexcept {
    if (call.number < numbers_max && pauses.load() == 0) ++counts[call.number];
    if (call.number == SYS_io_uring_enter) look_at_submissions(static_cast<unsigned>(call.at[1]));
    if (!moment_of(call_of_system(call.number))) {
        const long result = execute(call);
        note_ring(call, result);
        return result;
    }
    const int error = planned_error();
    if (error == trick_delay) {
        delay();
        return execute(call);
    }
    if (error == trick_short) return execute_short(call);
    // Linux has closed, and unmapped, when these answer an error: the number must not be closed again.
    if (call.number == SYS_close || call.number == SYS_munmap) execute(call);
    return -error;
}

void on_trap(int, siginfo_t*, void* context) noexcept {
    greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const Arguments call{
        static_cast<long>(registers[REG_RAX]),
        {static_cast<long>(registers[REG_RDI]), static_cast<long>(registers[REG_RSI]),
         static_cast<long>(registers[REG_RDX]), static_cast<long>(registers[REG_R10]),
         static_cast<long>(registers[REG_R8]), static_cast<long>(registers[REG_R9])}};
    registers[REG_RAX] = answer(call);
}

// --- The filter

class Program {
  public:
    void add(unsigned code, unsigned value, unsigned yes = 0, unsigned no = 0) noexcept {
        statements_[count_++] = {static_cast<unsigned short>(code), static_cast<unsigned char>(yes),
                                 static_cast<unsigned char>(no), value};
    }
    void load(std::size_t offset) noexcept {
        add(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset));
    }
    void answer(unsigned value) noexcept { add(BPF_RET | BPF_K, value); }
    // Goes on when the word is `value`, else skips `no` statements.
    void need(unsigned value, unsigned no) noexcept {
        add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, no);
    }
    bool install() noexcept {
        const sock_fprog program{static_cast<unsigned short>(count_), statements_};
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    }

  private:
    sock_filter statements_[256];
    int count_ = 0;
};

}  // namespace

Installed install(const long* numbers, int count) noexcept {
    struct sigaction action {};
    action.sa_sigaction = &on_trap;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    if (sigaction(SIGSYS, &action, nullptr) != 0) return Installed::refused;

    const auto pass = reinterpret_cast<std::uintptr_t>(fault_execute_end);
    const std::size_t where = offsetof(seccomp_data, instruction_pointer);
    Program program;
    program.load(offsetof(seccomp_data, arch));
    program.need(AUDIT_ARCH_X86_64, 4);
    program.load(where);
    program.need(static_cast<unsigned>(pass), 3);
    program.load(where + 4);
    program.need(static_cast<unsigned>(pass >> 32), 1);
    program.answer(SECCOMP_RET_ALLOW);
    program.load(offsetof(seccomp_data, nr));
    for (int index = 0; index < count; ++index) {
        const auto number = static_cast<unsigned>(numbers[index]);
        if (number == SYS_madvise) {  // others than DONTFORK come from ending threads
            program.need(number, 4);
            program.load(offsetof(seccomp_data, args) + 2 * sizeof(std::uint64_t));
            program.need(MADV_DONTFORK, 1);
            program.answer(SECCOMP_RET_TRAP);
            program.answer(SECCOMP_RET_ALLOW);
        } else {
            program.need(number, 1);
            program.answer(SECCOMP_RET_TRAP);
        }
    }
    program.answer(SECCOMP_RET_ALLOW);
    return program.install() ? Installed::yes : Installed::refused;
}

#endif

}  // namespace fault
