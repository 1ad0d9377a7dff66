// SPDX-License-Identifier: MIT
// The load: connections on one loop, and the times of what goes out and comes back.
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/channel.hpp>
#include <whorl/child.hpp>
#include <whorl/file.hpp>
#include <whorl/loop.hpp>
#include <whorl/pipe.hpp>
#include <whorl/tcp.hpp>
#include <whorl/udp.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "outcome.hpp"
#include "plan.hpp"

namespace latency {

// What time it is: clock_now() for real, the world's time in a simulated one.
using Clock = whorl::Instant (*)(whorl::Loop&);

// Lifetime: it must not move, and its loop must not run any more when it goes. `outcome` outlives it.
// Thread: the loop's.
class Client {
  public:
    Client(whorl::Loop& loop, Outcome& outcome, Clock clock);
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client();

    // Connects; when all connections are there it begins, and it ends by itself.
    void start();
    // No further message becomes due; it ends when all are answered, or after the patience. The second
    // time it ends at once.
    void interrupt();
    bool finished() const { return phase_ == Phase::finished; }
    bool begun() const { return phase_ >= Phase::running; }
    std::uint64_t under_way() const { return under_way_; }
    whorl::Nanoseconds elapsed() { return clock_(loop_) - begin_; }

  private:
    enum class Phase : std::uint8_t { connecting, running, draining, finished };
    struct Http;
    struct FreeHttp {
        void operator()(Http* http) const noexcept;
    };
    struct Peer;
    struct FreePeer {
        void operator()(Peer* peer) const noexcept;
    };
    struct Slot {
        whorl::Instant sent;
        bool waiting = false;
    };
    struct Link {
        whorl::Socket socket;
        whorl::UdpSocket datagrams;
        whorl::Child child;
        whorl::File file;
        std::uint64_t pieces = 0;             // of a message's size, in the file
        whorl::Pipe input;                    // of the child: we write to it
        whorl::Pipe output;                   // we read from it
        whorl::Sender<std::uint64_t> sender;  // of a channel
        std::unique_ptr<Http, FreeHttp> http;
        std::uint64_t due = 0;  // messages whose time has come; a closed loop's are issued at once
        std::uint64_t issued = 0;
        std::uint64_t completed = 0;
        std::uint64_t waiting = 0;   // issued and not answered
        std::uint64_t received = 0;  // bytes of a stream
        std::uint64_t expiring = 0;  // datagrams before this one are answered or lost
        std::vector<Slot> slots;     // by number modulo depth
    };

    // client_link.cpp: connecting, sending and receiving, by kind
    void open(std::uint32_t index);
    void open_datagrams(std::uint32_t index);
    void open_child(std::uint32_t index);
    void opened(std::uint32_t index, whorl::Error error, whorl::Socket socket);
    void ready();
    void receive(std::uint32_t index);
    void receive_pipe(std::uint32_t index, whorl::Buffer buffer);
    void received(std::uint32_t index, whorl::Error error, whorl::Bytes bytes, bool more);
    void received_datagram(std::uint32_t index, whorl::Error error, whorl::Bytes bytes);
    void send(std::uint32_t index, std::uint64_t message);
    void send_datagram(std::uint32_t index, std::uint64_t message);
    void arm(std::uint32_t index, std::uint64_t message);
    void expired(std::uint32_t index);
    void sent(whorl::Error error);
    void close_links();

    // client_file.cpp
    void open_file(std::uint32_t index);
    void measure_file(std::uint32_t index);
    void read_file(std::uint32_t index, std::uint64_t message);

    // client_channel.cpp
    void open_channels();
    void received_numbers(std::uint32_t index, whorl::Receive<std::uint64_t>::Done& done);
    void send_number(std::uint32_t index, std::uint64_t message);

    // client_http.cpp
    void http_open(std::uint32_t index);
    void http_connect(std::uint32_t index);
    void http_opened(std::uint32_t index);
    void http_receive(std::uint32_t index);
    void http_received(std::uint32_t index, whorl::Error error, whorl::Bytes bytes, bool more);
    bool http_read(std::uint32_t index, whorl::Bytes bytes);
    bool http_answered(std::uint32_t index);
    void http_closed(std::uint32_t index, whorl::Error error);
    void http_send(std::uint32_t index);
    void http_forget(std::uint32_t index);

    // client.cpp: the schedule
    void begin();
    void issue_due();
    void issue(std::uint32_t index);
    bool room(const Link& link) const;
    // True: it counts, since its time was after the warm-up.
    bool complete(std::uint32_t index, std::uint64_t message, whorl::Instant now,
                  bool refused = false);
    void issue_held(std::uint32_t index);
    void expire_lost();
    void drain(whorl::Nanoseconds patience);
    void end_if_all_came();
    void finish();
    void finish_unanswered(whorl::Instant now);
    void fail(const std::string& what, whorl::Error error);
    whorl::Instant due_of(std::uint32_t index, std::uint64_t message) const {
        return begin_ + plan_.due(message * plan_.connections + index);
    }
    whorl::Nanoseconds measured_at(whorl::Instant due) const { return due - begin_ - plan_.warmup; }

    whorl::Loop& loop_;
    Outcome& outcome_;
    const Plan& plan_;
    Clock clock_;
    Phase phase_ = Phase::connecting;
    whorl::Instant begin_{};
    whorl::Instant end_{};    // of the schedule
    std::uint64_t next_ = 0;  // open loop: the next message of all, and how many there are
    std::uint64_t total_ = 0;
    std::uint64_t under_way_ = 0;  // due, or issued, and not answered
    std::uint32_t ready_ = 0;
    std::unique_ptr<Peer, FreePeer>
        peer_;  // the channel's other loop; ends after the links' senders
    std::vector<Link> links_;
};

}  // namespace latency
