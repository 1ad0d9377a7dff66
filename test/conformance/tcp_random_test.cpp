// SPDX-License-Identifier: MIT
// Goal: whatever a program does in whatever order, the contract holds. Method: random operations from
// a seed on connections of which the loop has both ends; every completion is checked against what was
// submitted, and what arrives against what the sends say has left. WHORL_TEST_SEED repeats one run.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <deque>
#include <memory>
#include <random>

namespace whorl::conformance {
namespace {

class TcpRandom : public TcpTest {};
WHORL_CONFORMANCE(TcpRandom);

constexpr std::size_t send_size_max = 60'000;

// One end of a connection, with what it has sent and received.
struct End {
    Socket socket;
    std::size_t other = 0;
    std::string sent;      // what completed sends say has left, in order
    std::string received;  // what came in, in order
    bool closed = false;
    std::deque<std::uint64_t> sends;  // submitted and not completed, in order
    std::deque<std::uint64_t> receives;
};

class World {
  public:
    World(Loop& loop, std::uint64_t seed) : loop_(loop), random_(seed) {}

    bool connect_ends(Listener listener, std::uint16_t port, int count) {
        ends_.resize(static_cast<std::size_t>(count) * 2);
        int ready = 0;
        for (std::size_t index = 0; index < ends_.size(); index += 2) {
            ends_[index].other = index + 1;
            ends_[index + 1].other = index;
            Socket accepted, connected;
            EXPECT_TRUE(loop_.submit(Accept{listener}, [&](Loop&, Accept::Done done) {
                accepted = done.socket;
                ++ready;
            }));
            ConnectOptions options;
            options.socket.send_buffer = 8192;
            EXPECT_TRUE(loop_.submit(Connect{Address::loopback_v4(port), options},
                                     [&](Loop&, Connect::Done done) {
                                         connected = done.socket;
                                         ++ready;
                                     }));
            while (!accepted || !connected) EXPECT_FALSE(loop_.run_once());
            ends_[index].socket = accepted;
            ends_[index + 1].socket = connected;
        }
        return ready == count * 2;
    }

    void step() {
        End& end = ends_[pick(ends_.size())];
        switch (pick(16)) {
            case 0:
            case 1:
            case 2:
                return receive(end);
            case 3:
                return receive_stream(end);
            case 4:
            case 5:
            case 6:
            case 7:
                return send(end);
            case 8:
                return send_chain(end);
            case 9:
            case 10:
                return cancel_one();
            case 11:
                if (!held_.empty()) held_.erase(held_.begin() + long(pick(held_.size())));
                return;
            case 12:
                if (pick(40) == 0) close(end);
                return;
            default:
                EXPECT_FALSE(pick(2) == 0 ? loop_.poll() : loop_.run_for(50us));
        }
    }

    void finish() {
        held_.clear();
        for (End& end : ends_) close(end);
        const Instant limit = os::now() + 20s;
        while (open_ops_ != 0 || closing_ != 0) {
            ASSERT_FALSE(loop_.run_for(1ms));
            ASSERT_LT(os::now(), limit) << open_ops_ << " operations never ended";
        }
        held_.clear();
        for (const End& end : ends_) {
            const End& from = ends_[end.other];
            ASSERT_LE(end.received.size(), from.sent.size());
            ASSERT_TRUE(from.sent.compare(0, end.received.size(), end.received) == 0)
                << "what arrived is not what was sent";
        }
    }

    std::uint64_t completions() const { return completions_; }

  private:
    struct Op {
        World* world;
        End* end;
        std::uint64_t number;
    };

    std::size_t pick(std::size_t below) { return random_() % below; }

    SubmitOptions options() {
        if (pick(4) != 0) return {};
        return within(Nanoseconds(static_cast<std::int64_t>(pick(300'000))));
    }
    std::string bytes(std::size_t size) {
        std::string text(size, '\0');
        std::uint64_t state = random_();
        for (char& byte : text)
            byte = static_cast<char>((state = state * 6364136223846793005u + 1) >> 56);
        return text;
    }
    void note(Result<Operation> operation, const End& end) {
        ASSERT_EQ(operation.has_value(), !end.closed);
        if (!operation) return;
        ++open_ops_;
        live_.push_back(*operation);
        if (live_.size() > 200) live_.erase(live_.begin(), live_.begin() + 100);
    }
    void completed(End& end, std::deque<std::uint64_t>& queue, std::uint64_t number) {
        ++completions_;
        ASSERT_FALSE(in_call_) << "a handler ran inside a call";
        ASSERT_GT(open_ops_, 0);
        --open_ops_;
        const auto found = std::find(queue.begin(), queue.end(), number);
        ASSERT_NE(found, queue.end()) << "completed twice, or never submitted";
        queue.erase(found);
        static_cast<void>(end);
    }
    void hold(Buffer buffer) {
        if (buffer && pick(3) == 0 && held_.size() < 100) held_.push_back(std::move(buffer));
    }

    void receive(End& end) {
        const std::uint64_t number = next_++;
        const std::size_t capacity = 1 + pick(20'000);
        const Op op{this, &end, number};
        in_call_ = true;
        Result<Operation> submitted =
            loop_.submit(Recv{end.socket, Buffer::allocate(capacity)}, options(),
                         [op, capacity](Loop&, Recv::Done done) {
                             EXPECT_EQ(done.buffer.capacity(), capacity);
                             EXPECT_TRUE(!done.error || done.buffer.empty());
                             op.end->received += done.buffer.text();
                             op.world->completed(*op.end, op.end->receives, op.number);
                         });
        in_call_ = false;
        if (submitted) end.receives.push_back(number);
        note(std::move(submitted), end);
    }
    void receive_stream(End& end) {
        const std::uint64_t number = next_++;
        const Op op{this, &end, number};
        in_call_ = true;
        Result<Operation> submitted =
            loop_.submit(RecvStream{end.socket}, options(), [op](Loop&, RecvStream::Done done) {
                op.end->received += done.buffer.text();
                op.world->hold(std::move(done.buffer));
                if (!done.more) op.world->completed(*op.end, op.end->receives, op.number);
            });
        in_call_ = false;
        if (submitted) end.receives.push_back(number);
        note(std::move(submitted), end);
    }
    void send(End& end) {
        const std::uint64_t number = next_++;
        std::string text = bytes(1 + pick(send_size_max));
        const std::size_t size = text.size();
        const Op op{this, &end, number};
        in_call_ = true;
        Result<Operation> submitted =
            loop_.submit(SendAll{end.socket, adopt(std::move(text))}, options(),
                         [op, size](Loop&, SendAll::Done done) {
                             EXPECT_EQ(done.buffer.size(), size);
                             EXPECT_LE(done.bytes, size);
                             EXPECT_TRUE(done.error || done.bytes == size);
                             op.end->sent += done.buffer.text().substr(0, done.bytes);
                             op.world->completed(*op.end, op.end->sends, op.number);
                         });
        in_call_ = false;
        if (submitted) end.sends.push_back(number);
        note(std::move(submitted), end);
    }
    void send_chain(End& end) {
        const std::uint64_t number = next_++;
        BufferChain chain;
        const std::size_t parts = pick(150);
        for (std::size_t part = 0; part < parts; ++part) {
            EXPECT_TRUE(chain.push_back(adopt(bytes(pick(600)))));
        }
        const std::uint64_t size = chain.size();
        const Op op{this, &end, number};
        in_call_ = true;
        Result<Operation> submitted =
            loop_.submit(SendChain{end.socket, std::move(chain)}, options(),
                         [op, size](Loop&, SendChain::Done done) {
                             EXPECT_EQ(done.chain.size(), size);
                             EXPECT_TRUE(done.error || done.bytes == size);
                             std::string all;
                             for (Buffer& buffer : done.chain) all += buffer.text();
                             op.end->sent += all.substr(0, done.bytes);
                             op.world->completed(*op.end, op.end->sends, op.number);
                         });
        in_call_ = false;
        if (submitted) end.sends.push_back(number);
        note(std::move(submitted), end);
    }
    void cancel_one() {
        if (live_.empty()) return;
        in_call_ = true;
        loop_.cancel(live_[pick(live_.size())]);
        in_call_ = false;
    }
    void close(End& end) {
        if (end.closed) return;
        end.closed = true;
        ++closing_;
        in_call_ = true;
        EXPECT_FALSE(loop_.close(end.socket, [this, &end](Loop&) {
            EXPECT_TRUE(end.sends.empty() && end.receives.empty()) << "the close handler is last";
            --closing_;
        }));
        in_call_ = false;
    }

    Loop& loop_;
    std::mt19937_64 random_;
    std::vector<End> ends_;
    std::vector<Buffer> held_;
    std::vector<Operation> live_;
    std::uint64_t next_ = 1;
    std::uint64_t completions_ = 0;
    int open_ops_ = 0;
    int closing_ = 0;
    bool in_call_ = false;
};

TEST_P(TcpRandom, any_order_keeps_the_contract) {
    WHORL_SKIP_IF_REFUSED();
    const char* fixed = std::getenv("WHORL_TEST_SEED");
    const std::uint64_t first = fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : 1;
    const std::uint64_t last = fixed != nullptr ? first : first + scaled(4) - 1;
    for (std::uint64_t seed = first; seed <= last; ++seed) {
        SCOPED_TRACE("WHORL_TEST_SEED=" + std::to_string(seed));
        Loop loop = make_loop([seed](LoopOptions& options) {
            options.recv_buffers_per_stream = seed % 2 == 0 ? 4 : 64;
            options.buffer_bytes_max = seed % 3 == 0 ? 512 << 10 : 64 << 20;
        });
        const Listener listener = listen_here(loop);
        World world(loop, seed);
        ASSERT_TRUE(world.connect_ends(listener, port_of(loop, listener), 4));
        for (int step = 0; step < 4'000; ++step) {
            world.step();
            if (HasFatalFailure()) return;
        }
        world.finish();
        if (HasFatalFailure()) return;
        ASSERT_FALSE(loop.close(listener));
        ASSERT_FALSE(loop.poll());
        expect_clean(loop);
        EXPECT_GT(world.completions(), 500u);
    }
}

}  // namespace
}  // namespace whorl::conformance
