// SPDX-License-Identifier: MIT
#pragma once

#include "model/random.hpp"

#include <whorl/whorl.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>

// Who meets in a soak: an echo server, and visitors that come and go in every bad manner. Each owner
// lives on one loop and its thread; what others may read is atomic.

namespace soak {

struct Counts {
    std::atomic<std::uint64_t> accepted{0};
    std::atomic<std::uint64_t> accept_errors{0};  // told by the AcceptStream: EMFILE and its kin
    std::atomic<std::uint64_t> visits{0};         // ended, whatever way
    std::atomic<std::uint64_t> complete{0};       // of those: every byte came back
    std::atomic<std::uint64_t> refused{0};        // could not connect
    std::atomic<std::uint64_t> bytes{0};          // that came back
    std::atomic<std::uint64_t> wrong{0};          // bytes that were not those sent: a failure
    std::atomic<std::uint64_t> cancelled{0};
    std::atomic<std::uint64_t> timed_out{0};
    std::atomic<std::uint64_t> posts_made{0};
    std::atomic<std::uint64_t> posts_run{0};
    std::atomic<std::uint64_t> posts_gone{0};  // handler objects destroyed
};

// What one loop says of itself, once in a while.
struct Gauge {
    std::atomic<std::uint32_t> operations{0};
    std::atomic<std::uint32_t> handles{0};
    std::atomic<std::uint32_t> buffers_out{0};
};

class Server {
  public:
    Server(whorl::Loop& loop, Counts& counts) : loop_(loop), counts_(counts) {}
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    whorl::Result<whorl::Address> open();
    std::size_t live() const { return connections_.size(); }

    void operator()(whorl::Loop& loop, whorl::AcceptStream::Done done);

  private:
    class Connection;

    whorl::Loop& loop_;
    Counts& counts_;
    std::set<Connection*> connections_;
    std::uint64_t number_ = 0;
};

class Visitors {
  public:
    Visitors(whorl::Loop& loop, Counts& counts, std::uint16_t port, std::uint64_t seed)
        : loop_(loop), counts_(counts), random_(seed), port_(port) {}
    ~Visitors();
    Visitors(const Visitors&) = delete;
    Visitors& operator=(const Visitors&) = delete;

    // So many come, and whoever leaves is replaced until stop().
    void open(std::uint32_t count);
    void stop() { stopping_ = true; }
    std::size_t live() const { return visitors_.size(); }

  private:
    class Visitor;
    void come_later(std::chrono::milliseconds delay);

    whorl::Loop& loop_;
    Counts& counts_;
    model::Random random_;
    std::set<Visitor*> visitors_;
    std::uint16_t port_;
    bool stopping_ = false;
};

}  // namespace soak
