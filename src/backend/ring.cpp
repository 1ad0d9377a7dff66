// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/ring.hpp"

#include "backend/ring_limit.hpp"
#include "base/lasting.hpp"

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>

#include <sys/mman.h>
#include <time.h>

#include <cstring>
#include <new>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WHORL_THREAD_SANITIZER
#endif
#elif defined(__SANITIZE_THREAD__)
#define WHORL_THREAD_SANITIZER
#endif

#if defined(WHORL_THREAD_SANITIZER)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace whorl::detail {

namespace {

// liburing maps and unmaps a ring's memory by system calls of its own, which ThreadSanitizer does not
// see: to it, a ring of one thread and a later one of another at the same address are a race. The
// kernel orders the two; this says so.
#if defined(WHORL_THREAD_SANITIZER)
char memory_of_rings;
void ring_memory_taken() noexcept { __tsan_acquire(&memory_of_rings); }
void ring_memory_given_back() noexcept { __tsan_release(&memory_of_rings); }
#else
void ring_memory_taken() noexcept {}
void ring_memory_given_back() noexcept {}
#endif

class RealRingCalls final : public RingCalls {
  public:
    int setup(unsigned entries, io_uring& ring, io_uring_params& params) noexcept override {
        const int error = io_uring_queue_init_params(entries, &ring, &params);
        if (error != 0) return error;
        ring_memory_taken();
        io_uring_ring_dontfork(&ring);  // a child must not submit to its parent's ring
        return 0;
    }
    void exit(io_uring& ring) noexcept override {
        ring_memory_given_back();
        io_uring_queue_exit(&ring);
    }
    int enter(unsigned fd, unsigned submit, unsigned complete, unsigned flags, void* argument,
              std::size_t size) noexcept override {
        return io_uring_enter2(fd, submit, complete, flags, static_cast<sigset_t*>(argument), size);
    }
    int io_register(unsigned fd, unsigned opcode, void* argument,
                    unsigned count) noexcept override {
        return io_uring_register(fd, opcode, argument, count);
    }
};

constexpr unsigned entries_min = 64;
constexpr int setup_retries = 6;  // 2 + 4 + 8 + 16 + 32 + 38 ms
constexpr int round_trip_attempts = 100;

void pause_ms(long milliseconds) noexcept {
    const timespec time{0, milliseconds * 1'000'000};
    nanosleep(&time, nullptr);
}

}  // namespace

RingCalls& real_ring_calls() noexcept {
    static Lasting<RealRingCalls> calls;
    return *calls;
}

Error Ring::open(const Setup& setup, Failure& failure) noexcept {
    WHORL_ASSERT(!open_);
    failure.step = "io_uring_setup";
    unsigned entries = setup.entries;
    Error error;
    for (int attempt = 0;; ++attempt) {
        error = setup_once(entries, setup);
        if (error.value() != ENOMEM) break;
        if (attempt < setup_retries) {
            pause_ms(attempt < 5 ? 2L << attempt : 38);
        } else if (entries > entries_min) {
            entries /= 2;
        } else {
            break;
        }
    }
    failure.number = error.value();
    if (error) return error;
    open_ = true;
    thread_ = thread_token();
    enter_chosen();
    if (setup.limit != RingLimit::none) {
        failure.step = "io_uring_register";
        error = limit_to(setup.limit);
        failure.number = error.value();
        if (error) {
            close();
            return error;
        }
    }
    failure.step = "io_uring_enter";
    error = round_trip();
    failure.number = error.value();
    if (error) {
        close();
        return error;
    }
    registrable_ = setup.registered && register_index();
    unregister_index();
    no_iowait_ = setup.no_iowait && (ring_.features & feature_no_iowait) != 0;
    enter_chosen();
    skips_success_ = (ring_.features & IORING_FEAT_CQE_SKIP) != 0 &&
                     !ring_limit_older(setup.limit, RingLimit::linux_6_1);
    probe();
    return {};
}

// One attempt, newest flags first; a kernel that does not know one answers EINVAL.
Error Ring::setup_once(unsigned entries, const Setup& setup) noexcept {
    constexpr unsigned base = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    constexpr unsigned deferring = base | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                                   IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    constexpr unsigned cooperative =
        base | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    const unsigned flags[] = {deferring, cooperative, base | IORING_SETUP_SUBMIT_ALL, base};
    int error = -EINVAL;
    unsigned level = setup.defer_taskrun ? 0 : 1;
    if (ring_limit_older(setup.limit, RingLimit::linux_6_1)) level = 3;
    for (; level < 4; ++level) {
        io_uring_params params{};
        params.flags = flags[level];
        if (setup.limit != RingLimit::none) params.flags |= IORING_SETUP_R_DISABLED;
        params.cq_entries = setup.completion_entries;
        error = calls_.setup(entries, ring_, params);
        if (error == 0) {
            deferred_ = level == 0;
            break;
        }
        if (error != -EINVAL) return Error::from_errno(error);
    }
    if (error != 0) return Error::from_errno(error);
    const unsigned needed = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SINGLE_MMAP;
    if ((ring_.features & needed) != needed) {
        calls_.exit(ring_);
        return Error::from_errno(ENOSYS);  // older than Linux 5.11
    }
    if ((ring_.flags & setup_no_sqarray) == 0) {
        for (unsigned index = 0; index < ring_.sq.ring_entries; ++index) {
            ring_.sq.array[index] = index;
        }
    }
    return {};
}

// A ring that was made disabled gets its limit and is enabled. A kernel older than the limit does not
// know some of what it would allow and answers EINVAL; it then gets an older limit.
Error Ring::limit_to(RingLimit limit) noexcept {
    int done = -EINVAL;
    const bool files = limit != RingLimit::used;  // they take another way then
    if (limit == RingLimit::used) limit = RingLimit::linux_6_18;
    for (auto level = static_cast<std::uint8_t>(limit);
         done == -EINVAL && level >= static_cast<std::uint8_t>(RingLimit::linux_5_15); --level) {
        io_uring_restriction list[ring_limit_entries_max];
        const unsigned count = ring_limit_list(static_cast<RingLimit>(level), files, list);
        done = register_call(IORING_REGISTER_RESTRICTIONS, list, count);
    }
    if (done >= 0) done = register_call(IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    return done < 0 ? Error::from_errno(done) : Error();
}

// A ring may be made and then refuse to be entered (seccomp): only an answered no-op proves it works.
Error Ring::round_trip() noexcept {
    io_uring_sqe* sqe = entry();
    WHORL_ASSERT(sqe != nullptr);
    io_uring_prep_nop(sqe);
    sqe->user_data = 0;
    // A signal, or a kernel short of memory, is no reason to do without io_uring.
    Error error;
    for (int attempt = 0; attempt < round_trip_attempts && completions() == 0; ++attempt) {
        error = enter(1, std::chrono::milliseconds(50));
        if (error && error.value() != EAGAIN && error.value() != EBUSY) return error;
    }
    if (completions() == 0) return error ? error : Error::from_errno(ETIME);
    pop(1);
    return {};
}

void Ring::probe() noexcept {
    constexpr unsigned opcodes_max = 256;
    constexpr std::size_t bytes = sizeof(io_uring_probe) + opcodes_max * sizeof(io_uring_probe_op);
    auto* memory = make_zeros<unsigned char>(bytes);  // the kernel wants zeros
    auto* answer = reinterpret_cast<io_uring_probe*>(memory);
    const int done =
        answer == nullptr ? -ENOMEM : register_call(IORING_REGISTER_PROBE, answer, opcodes_max);
    probed_ = done >= 0;  // otherwise the call is refused: no optional feature is known
    for (unsigned index = 0; probed_ && index < answer->ops_len; ++index) {
        const io_uring_probe_op& found = answer->ops[index];
        if ((found.flags & IO_URING_OP_SUPPORTED) == 0) continue;
        opcodes_[found.op / 8] |= static_cast<unsigned char>(1u << (found.op % 8));
    }
    drop_array(memory);
}

bool Ring::opcode_supported(unsigned opcode) const noexcept {
    WHORL_ASSERT(opcode < 256);
    return (opcodes_[opcode / 8] >> (opcode % 8) & 1) != 0;
}

bool Ring::register_index() noexcept {
    WHORL_ASSERT(index_ < 0);
    io_uring_rsrc_update update{};
    update.offset = -1U;
    update.data = static_cast<unsigned>(ring_.ring_fd);
    const int done = register_call(IORING_REGISTER_RING_FDS, &update, 1);
    if (done != 1) return false;
    index_ = static_cast<int>(update.offset);
    enter_chosen();
    return true;
}

// The index lives in the table of the thread that registered it; from another thread the call would
// take away somebody else's. The kernel drops it with its thread.
void Ring::unregister_index() noexcept {
    if (index_ < 0 || thread_ != thread_token()) return;
    io_uring_rsrc_update update{};
    update.offset = static_cast<unsigned>(index_);
    static_cast<void>(register_call(IORING_UNREGISTER_RING_FDS, &update, 1));
    index_ = -1;
    enter_chosen();
}

void Ring::close() noexcept {
    if (!open_) return;
    unregister_index();
    calls_.exit(ring_);
    for (Buffers& buffers : buffers_) {
        if (buffers.ring != nullptr) munmap(buffers.ring, buffers.entries * sizeof(io_uring_buf));
        buffers = {};
    }
    index_ = -1;
    open_ = false;
    ring_ = io_uring{};
}

// How enter() names the ring, and what it asks for: changes with the registered index only.
void Ring::enter_chosen() noexcept {
    enter_fd_ = static_cast<unsigned>(index_ >= 0 ? index_ : ring_.ring_fd);
    enter_flags_ = IORING_ENTER_GETEVENTS;  // without it deferred work does not run
    if (index_ >= 0) enter_flags_ |= IORING_ENTER_REGISTERED_RING;
    if (no_iowait_) enter_flags_ |= enter_no_iowait;
}

// Apart from enter(), which has no locals whose address is taken and so no stack protector to pay for.
[[gnu::noinline]] int Ring::enter_until(unsigned complete, Nanoseconds timeout) noexcept {
    __kernel_timespec time{};
    time.tv_sec = timeout.count() / 1'000'000'000;
    time.tv_nsec = timeout.count() % 1'000'000'000;
    io_uring_getevents_arg argument{};
    argument.ts = reinterpret_cast<std::uintptr_t>(&time);
    return calls_.enter(enter_fd_, pending(), complete, enter_flags_ | IORING_ENTER_EXT_ARG,
                        &argument, sizeof argument);
}

Error Ring::register_event_fd(int fd) noexcept {
    const int done = register_call(IORING_REGISTER_EVENTFD, &fd, 1);
    return done < 0 ? Error::from_errno(done) : Error();
}

Error Ring::buffers_open(unsigned group, unsigned entries) noexcept {
    WHORL_ASSERT(group < groups_max && buffers_[group].ring == nullptr);
    WHORL_ASSERT((entries & (entries - 1)) == 0);
    const std::size_t bytes = entries * sizeof(io_uring_buf);
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return Error::from_errno(ENOMEM);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
    registration.ring_entries = entries;
    registration.bgid = static_cast<std::uint16_t>(group);
    const int done = register_call(IORING_REGISTER_PBUF_RING, &registration, 1);
    if (done < 0) {
        munmap(memory, bytes);
        return Error::from_errno(done);
    }
    buffers_[group] = {static_cast<io_uring_buf_ring*>(memory), entries, 0};
    io_uring_buf_ring_init(buffers_[group].ring);
    return {};
}

Error Ring::memory_open(unsigned places) noexcept {
    io_uring_rsrc_register table{};
    table.nr = places;
    table.flags = IORING_RSRC_REGISTER_SPARSE;
    const int done = register_call(IORING_REGISTER_BUFFERS2, &table, sizeof table);
    return done < 0 ? Error::from_errno(done) : Error();
}

Error Ring::memory_put(unsigned place, const void* data, std::size_t size) noexcept {
    const iovec memory{const_cast<void*>(data), size};
    io_uring_rsrc_update2 update{};
    update.offset = place;
    update.data = reinterpret_cast<std::uintptr_t>(&memory);
    update.nr = 1;
    const int done = register_call(IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof update);
    if (done < 0) return Error::from_errno(done);
    return done == 1 ? Error() : Error::from_errno(EIO);
}

}  // namespace whorl::detail
