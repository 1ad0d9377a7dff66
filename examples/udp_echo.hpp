// SPDX-License-Identifier: MIT
// A datagram echo as an object: udp_echo.cpp makes a program of it, and test/world tests it.
#pragma once

#include <whorl/whorl.hpp>

#include <cstdint>
#include <utility>

// Sends every datagram back to where it came from, until its socket is closed.
class UdpEcho {
  public:
    explicit UdpEcho(whorl::UdpSocket socket) : socket_(socket) {}

    bool start(whorl::Loop& loop) {
        return static_cast<bool>(loop.submit(whorl::RecvFromStream{socket_}, this));
    }
    void operator()(whorl::Loop& loop, whorl::RecvFromStream::Done done) {
        if (!done.buffer || done.truncated) return;  // what is cut is not echoed
        ++echoed_;
        (void)loop.submit(whorl::SendTo{socket_, std::move(done.buffer), done.address},
                          [](whorl::Loop&, whorl::SendTo::Done) {});
    }
    std::uint64_t echoed() const { return echoed_; }

  private:
    whorl::UdpSocket socket_;
    std::uint64_t echoed_ = 0;
};
