// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/whorl.hpp>

#include <cstddef>
#include <cstdint>

// Where the machine's loops live. Another backend is another Ground: it makes loops, says where to
// listen, and lets time pass.

namespace fuzz {

class Ground {
  public:
    Ground() = default;
    Ground(const Ground&) = delete;
    Ground& operator=(const Ground&) = delete;
    virtual ~Ground() = default;

    virtual whorl::Result<whorl::Loop> make_loop(const whorl::LoopOptions& options) = 0;
    virtual whorl::Instant now() = 0;
    // Runs the loop for so long; a handler's exception leaves it.
    virtual whorl::Error pass(whorl::Loop& loop, whorl::Nanoseconds time) = 0;
    virtual whorl::Address listen_address() = 0;  // port 0
    // Whether the ground fails operations with errors of its own.
    virtual bool faulty() const { return false; }

    // Descriptors that these loops can adopt and watch, and what the machine does with its own.
    virtual bool socket_pair(int type, int (&ends)[2]) = 0;
    virtual void close(int fd) = 0;
    virtual void send(int fd, const void* data, std::size_t size) = 0;  // does not wait
    virtual void receive(int fd, void* data, std::size_t size) = 0;     // nor this
    virtual void shut_down(int fd) = 0;
};

// The backend of this machine that `choice` means; null where it is refused.
Ground* real_ground(std::uint64_t choice);

}  // namespace fuzz
