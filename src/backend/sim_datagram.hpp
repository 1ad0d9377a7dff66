// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/sim_file.hpp"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// Datagram sockets of the simulated kernel. Each datagram takes its own time, so that they overtake each
// other, and is lost or arrives twice as the seed decides.

namespace whorl::detail {

class SimDatagram : public SimFile {
  public:
    SimDatagram(SimKernel& kernel, int family) noexcept;
    ~SimDatagram() override;

    const char* name() const noexcept override { return "datagram"; }
    unsigned poll_bits() const noexcept override;
    ssize_t read(void* data, std::size_t size, int flags) override;
    ssize_t write(const void* data, std::size_t size, int flags) override;
    ssize_t receive_message(msghdr& message, int flags) override;
    ssize_t send_message(const msghdr& message, int flags) override;
    bool keeps_messages() const noexcept override { return true; }

    virtual int bind(const sockaddr* address, socklen_t length);
    virtual int connect(const sockaddr* address, socklen_t length);
    int shutdown(int how);
    int set_option(int level, int name, const void* value, socklen_t size);
    int get_option(int level, int name, void* value, socklen_t* size);

    int family() const noexcept { return family_; }
    const SimAddress& local() const noexcept { return local_; }
    const SimAddress& peer() const noexcept { return peer_; }
    bool covers(const SimAddress& address) const noexcept;

  protected:
    struct Datagram {
        std::string bytes;
        SimAddress from;
    };
    void arrive(Datagram datagram);
    std::size_t waiting() const noexcept { return arrived_.size(); }
    bool sends_no_more() const noexcept { return shut_write_; }

    SimAddress local_;
    SimAddress peer_;  // length 0: not connected

  private:
    struct Letter {
        Datagram datagram;
        SimAddress to;
    };
    static void land(SimKernel& kernel, const std::weak_ptr<SimFile>& sender, const Letter& letter);
    void refused();  // the network answers that nobody is there
    void depart(const SimAddress& to, const std::string& bytes);
    bool bind_to_any();
    int address_refused(const SimAddress& to) const noexcept;
    int option(int level, int name) const noexcept;
    int take_error() noexcept { return std::exchange(error_, 0); }

    int family_;
    int error_ = 0;  // SO_ERROR, positive
    bool bound_ = false;
    bool port_chosen_ = false;  // by the kernel
    bool shut_read_ = false;
    bool shut_write_ = false;
    std::deque<Datagram> arrived_;
    std::size_t arrived_bytes_ = 0;
    std::size_t send_buffer_;  // as it is told; a network takes what is sent at once
    std::size_t receive_buffer_;
    std::map<std::pair<int, int>, int> options_;
};

// Those of one host: in order, and never lost, so that a sender waits.
class SimUnixDatagram final : public SimDatagram {
  public:
    explicit SimUnixDatagram(SimKernel& kernel) noexcept : SimDatagram(kernel, AF_UNIX) {}

    unsigned poll_bits() const noexcept override;
    ssize_t receive_message(msghdr& message, int flags) override;
    ssize_t send_message(const msghdr& message, int flags) override;
    int bind(const sockaddr* address, socklen_t length) override;
    int connect(const sockaddr* address, socklen_t length) override;

  private:
    static constexpr std::size_t unread_max = 10;  // net.unix.max_dgram_qlen
    static std::shared_ptr<SimUnixDatagram> from(const SimFilePtr& file) noexcept;
    std::shared_ptr<SimUnixDatagram> receiver(const msghdr& message, int& error) const;

    bool named_ = false;
    std::weak_ptr<SimFile> peer_socket_;
    std::vector<std::weak_ptr<SimFile>> senders_;  // that wait for room
};

// The bytes that a message describes, as one.
std::string gathered(const msghdr& message);
// Puts bytes where a message describes; answers how many found room.
std::size_t scattered(const std::string& bytes, const msghdr& message);

}  // namespace whorl::detail
