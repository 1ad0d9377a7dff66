// SPDX-License-Identifier: MIT
#pragma once

#include "backend/sim_kernel.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <whorl/whorl.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// What the tests of the io_uring driver on the simulated ring share: worlds and options to run each
// scenario with, and connections whose bytes are counted and compared.

namespace whorl::sim_ring_test {

using namespace std::chrono_literals;
using detail::SimKernel;
using testing::RingLevel;
using testing::SimulationOptions;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t seeds = 40;
#else
inline constexpr std::uint64_t seeds = 300;
#endif

// What every scenario is run with: a world, and a loop's options on it.
struct Stage {
    SimulationOptions world;
    LoopOptions options;
};

inline Stage stage_for(std::uint64_t seed, RingLevel level, bool tiny) {
    Stage stage;
    if (seed != 0) stage.world = SimulationOptions::harsh(seed);
    stage.world.ring_level = level;
    stage.world.time_per_call = 100ns;
    stage.options.backend = Backend::io_uring;
    stage.options.ops_max = 4096;
    stage.options.handles_max = 1024;
    stage.options.recv_buffer_size = 1024;
    stage.options.recv_ring_depth = 4;
    stage.options.recv_ring_depth_max = 16;
    if (tiny) {
        stage.options.submission_queue_depth = 2;
        stage.options.completion_queue_depth = 4;
        stage.options.completions_per_turn = 3;
        stage.options.recv_ring_depth = 2;
    }
    // Each optional feature is left out now and then.
    if (seed % 4 == 3) stage.options.features_off = static_cast<std::uint32_t>(seed / 4 % 64);
    return stage;
}

inline std::string pattern(std::size_t size, std::uint64_t offset) {
    std::string text(size, '\0');
    for (std::size_t index = 0; index < size; ++index) {
        text[index] = static_cast<char>(((offset + index) * 0x9E3779B97F4A7C15u) >> 56);
    }
    return text;
}

inline Loop make_loop(SimKernel& kernel, Stage& stage) {
    stage.options.world = &kernel;
    BackendReport report;
    Result<Loop> made = Loop::create(stage.options, report);
    EXPECT_TRUE(made) << report.text;
    EXPECT_EQ(made->backend_report().chosen, Backend::io_uring);
    return std::move(*made);
}

// Runs `scenario(kernel, loop)` on a kind world and on harsh ones, at every level, with ordinary and
// with tiny queues; and checks what must hold after every one.
template <class Scenario>
void on_every_stage(Scenario scenario) {
    for (RingLevel level : {RingLevel::linux_5_15, RingLevel::linux_6_1, RingLevel::linux_6_18}) {
        for (std::uint64_t seed = 0; seed <= seeds; ++seed) {
            Stage stage = stage_for(seed, level, seed % 2 == 1);
            SCOPED_TRACE(::testing::Message()
                         << "seed " << seed << " level " << static_cast<int>(level));
            SimKernel kernel(stage.world);
            {
                Loop loop = make_loop(kernel, stage);
                scenario(kernel, loop);
                if (::testing::Test::HasFatalFailure()) return;
            }
            EXPECT_TRUE(kernel.open_descriptors().empty()) << "a descriptor was left open";
            kernel.advance(2s);  // whatever the kernel still writes to is written now
            if (::testing::Test::HasFailure()) return;
        }
    }
}

inline void expect_clean(Loop& loop) {
    EXPECT_EQ(loop.statistics().operations, 0u);
    EXPECT_EQ(loop.statistics().handles, 0u);
    EXPECT_EQ(loop.statistics().completions_stale, 0u);
}

// One end of a pair of sockets in the loop, the other one written and read by hand. What is in flight
// on it ends exactly once each, and no byte is lost or doubled, whatever is cancelled and closed.
class Line {
  public:
    Line(SimKernel& kernel, Loop& loop) : kernel_(&kernel) {
        int fds[2] = {-1, -1};
        EXPECT_EQ(kernel.socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        const Result<Socket> adopted = adopt_socket(loop, fds[0]);
        EXPECT_TRUE(adopted);
        socket = *adopted;
        peer = fds[1];
    }
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;
    ~Line() { hang_up(); }

    void hang_up() {
        if (peer >= 0) kernel_->close(peer);
        peer = -1;
    }
    // Moves bytes on the peer's side, as many as can be.
    void write(std::size_t size) {
        const std::string text = pattern(size, written);
        const ssize_t done = kernel_->send(peer, text.data(), text.size(), MSG_NOSIGNAL);
        if (done > 0) written += static_cast<std::size_t>(done);
    }
    void read() {
        char some[4096];
        for (;;) {
            const ssize_t done = kernel_->recv(peer, some, sizeof some, MSG_DONTWAIT);
            if (done <= 0) return;
            const auto size = static_cast<std::size_t>(done);
            EXPECT_EQ(std::string(some, size), pattern(size, arrived));
            arrived += size;
        }
    }

    void receive(Loop& loop, std::size_t size, int flags) {
        Recv operation{socket, Buffer::allocate(size), flags};
        note(loop.submit(std::move(operation), [this](Loop&, Recv::Done done) {
            ++ended;
            EXPECT_NE(done.buffer.data(), nullptr) << "the buffer comes home";
            take(done.buffer.text());
        }));
    }
    void stream(Loop& loop) {
        note(loop.submit(RecvStream{socket}, [this](Loop&, RecvStream::Done done) {
            if (!done.more) ++ended;
            take(done.buffer.text());
        }));
    }
    void send(Loop& loop, std::size_t size) {
        // What a cancelled one had not sent is sent by the next one.
        const std::uint64_t offset = queued;
        const std::string text = pattern(size, offset);
        SendAll operation{socket, Buffer::copy_of(Bytes{text.data(), text.size()})};
        queued += size;
        note(loop.submit(std::move(operation), [this, size](Loop&, SendAll::Done done) {
            ++ended;
            EXPECT_NE(done.buffer.data(), nullptr);
            EXPECT_LE(done.bytes, size);
            EXPECT_TRUE(done.error || done.bytes == size);
            told += done.bytes;
        }));
    }
    void cancel_some(Loop& loop) {
        if (operations_.empty()) return;
        const auto size = static_cast<std::uint32_t>(operations_.size());
        static_cast<void>(loop.cancel(operations_[kernel_->choices.below(size)]));
    }

    Socket socket;
    int peer = -1;
    int submitted = 0;
    int ended = 0;
    std::uint64_t written = 0;   // by the peer
    std::uint64_t received = 0;  // by the loop
    std::uint64_t queued = 0;    // by the loop
    std::uint64_t told = 0;      // of that, as completions say
    std::uint64_t arrived = 0;   // at the peer

  private:
    void note(const Result<Operation>& made) {
        EXPECT_TRUE(made) << made.error().name();
        if (!made) return;
        operations_.push_back(*made);
        ++submitted;
    }
    void take(std::string_view text) {
        EXPECT_EQ(text, pattern(text.size(), received));
        received += text.size();
    }
    SimKernel* kernel_;
    std::vector<Operation> operations_;
};

// More than a connection can hold.
inline std::uint32_t blocking(SimKernel& kernel) {
    const SimulationOptions& options = kernel.options();
    return static_cast<std::uint32_t>(2 * (options.send_buffer + options.receive_buffer));
}

using Lines = std::vector<std::unique_ptr<Line>>;

inline Lines make_lines(SimKernel& kernel, Loop& loop, int count) {
    Lines lines;
    for (int index = 0; index < count; ++index) {
        lines.push_back(std::make_unique<Line>(kernel, loop));
    }
    return lines;
}

}  // namespace whorl::sim_ring_test
