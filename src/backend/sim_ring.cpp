// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_ring.hpp"

#include "backend/sim_ring_state.hpp"

#include <whorl/assert.hpp>

#include <cerrno>
#include <cstring>

// The four system calls of io_uring in the simulated kernel.

namespace whorl::detail {

namespace {

constexpr std::uint32_t registered_max = 16;  // IO_RINGFD_REG_MAX

std::shared_ptr<SimRing> ring_of(const SimFilePtr& file) noexcept {
    if (file == nullptr || std::strcmp(file->name(), "ring") != 0) return nullptr;
    return std::static_pointer_cast<SimRing>(file);
}

class SimRingCalls final : public RingCalls {
  public:
    explicit SimRingCalls(SimKernel& kernel) noexcept : kernel_(kernel) {}

    int setup(unsigned entries, io_uring& ring, io_uring_params& params) noexcept override;
    void exit(io_uring& ring) noexcept override;
    int enter(unsigned fd, unsigned submit, unsigned complete, unsigned flags, void* argument,
              std::size_t size) noexcept override;
    int io_register(unsigned fd, unsigned opcode, void* argument, unsigned count) noexcept override;

  private:
    // A ring that a thread entered into its table. Linux lets go of it with the thread; here with
    // the ring.
    struct Registered {
        unsigned long thread;
        std::uint32_t index;
        std::weak_ptr<SimRing> ring;
    };
    const SimRingLevel& level() const noexcept {
        return sim_ring_level(kernel_.options().ring_level);
    }
    int register_ring(io_uring_rsrc_update& update);
    int unregister_ring(const io_uring_rsrc_update& update) noexcept;
    Registered* registered_at(std::uint32_t index) noexcept;

    SimKernel& kernel_;
    std::vector<Registered> registered_;
};

int SimRingCalls::setup(unsigned entries, io_uring& ring, io_uring_params& params) noexcept {
    if (const int error = SimRing::prepare(level(), entries, params)) return error;
    if (kernel_.faulty(kernel_.options().call_error)) {
        kernel_.trace("io_uring_setup fails with %d", EMFILE);
        return -EMFILE;
    }
    const auto made = std::make_shared<SimRing>(kernel_, level(), params);
    const int fd = kernel_.install(made);
    if (fd < 0) return fd;
    ring = io_uring{};
    made->map(ring);
    ring.flags = params.flags;
    ring.features = params.features;
    ring.ring_fd = ring.enter_ring_fd = fd;
    kernel_.trace("ring %d: %u and %u entries, flags %x", fd, params.sq_entries, params.cq_entries,
                  params.flags);
    return 0;
}

void SimRingCalls::exit(io_uring& ring) noexcept {
    const std::shared_ptr<SimRing> found = ring_of(kernel_.file(ring.ring_fd));
    WHORL_ASSERT(found != nullptr);
    kernel_.trace("ring %d ends", ring.ring_fd);
    found->leave();
    kernel_.close(ring.ring_fd);
}

int SimRingCalls::enter(unsigned fd, unsigned submit, unsigned complete, unsigned flags,
                        void* argument, std::size_t size) noexcept {
    if ((flags & ~level().enter_flags) != 0) return -EINVAL;
    SimFilePtr file;
    if ((flags & IORING_ENTER_REGISTERED_RING) != 0) {
        if (fd >= registered_max) return -EINVAL;
        const Registered* found = registered_at(fd);
        if (found != nullptr) file = found->ring.lock();
    } else {
        file = kernel_.file(static_cast<int>(fd));
    }
    if (file == nullptr) return -EBADF;
    const std::shared_ptr<SimRing> ring = ring_of(file);
    if (ring == nullptr) return -EOPNOTSUPP;
    return ring->enter(submit, complete, flags, argument, size);
}

int SimRingCalls::io_register(unsigned fd, unsigned opcode, void* argument,
                              unsigned count) noexcept {
    const SimFilePtr file = kernel_.file(static_cast<int>(fd));
    if (file == nullptr) return -EBADF;
    const std::shared_ptr<SimRing> ring = ring_of(file);
    if (ring == nullptr) return -EOPNOTSUPP;
    const bool table = opcode == IORING_REGISTER_RING_FDS || opcode == IORING_UNREGISTER_RING_FDS;
    if (!table || !level().registered_fds) return ring->control(opcode, argument, count);
    if (argument == nullptr || count != 1) return -EINVAL;
    auto& update = *static_cast<io_uring_rsrc_update*>(argument);
    return opcode == IORING_REGISTER_RING_FDS ? register_ring(update) : unregister_ring(update);
}

SimRingCalls::Registered* SimRingCalls::registered_at(std::uint32_t index) noexcept {
    for (Registered& entry : registered_) {
        const bool here = entry.thread == thread_token() && entry.index == index;
        if (here && !entry.ring.expired()) return &entry;
    }
    return nullptr;
}

int SimRingCalls::register_ring(io_uring_rsrc_update& update) {
    const std::shared_ptr<SimRing> ring = ring_of(kernel_.file(static_cast<int>(update.data)));
    if (ring == nullptr) return -EBADF;
    std::uint32_t index = update.offset;
    if (index == UINT32_MAX) {
        for (index = 0; index < registered_max && registered_at(index) != nullptr;) ++index;
        if (index == registered_max) return -EBUSY;
    } else if (index >= registered_max) {
        return -EINVAL;
    } else if (registered_at(index) != nullptr) {
        return -EBUSY;
    }
    for (std::size_t place = 0; place < registered_.size();) {
        if (!registered_[place].ring.expired()) {
            ++place;
            continue;
        }
        registered_[place] = registered_.back();
        registered_.pop_back();
    }
    registered_.push_back({thread_token(), index, ring});
    update.offset = index;
    return 1;
}

int SimRingCalls::unregister_ring(const io_uring_rsrc_update& update) noexcept {
    if (update.offset >= registered_max) return -EINVAL;
    if (Registered* found = registered_at(update.offset)) found->ring.reset();
    return 1;
}

}  // namespace

std::unique_ptr<RingCalls> make_sim_ring_calls(SimKernel& kernel) {
    return std::make_unique<SimRingCalls>(kernel);
}

}  // namespace whorl::detail
