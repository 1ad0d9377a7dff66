// SPDX-License-Identifier: MIT
// Streams that are kept: N connections with up to D messages under way on each, in a closed loop (an
// echo that came home sends the next message) or an open one (messages are due at fixed times, whatever
// the server does).
#pragma once

#include <sys/prctl.h>

#include <algorithm>

#include "options.hpp"

namespace bench {

struct Peer {
    int fd = -1;
    bool writing = false;      // waits for EPOLLOUT too
    std::uint64_t target = 0;  // bytes that may be sent
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t issued = 0;  // messages
    std::uint64_t completed = 0;
    std::uint64_t due = 0;               // open loop: messages that should have been issued by now
    std::uint64_t run_first = 0;         // open loop: the run's first message
    std::vector<std::uint64_t> started;  // of the messages under way, by number modulo depth
};

class Generator {
  public:
    explicit Generator(const Options& options)
        : options_(options), chunk_(options.udp ? options.size : chunk_max), buffer_(chunk_max),
          epoll_(epoll_create1(EPOLL_CLOEXEC)), peers_(options.connections) {
        if (epoll_ < 0) fail("epoll_create1", errno);
        (void)prctl(PR_SET_TIMERSLACK, 1000);  // an open loop wakes when it says
        for (std::size_t index = 0; index < peers_.size(); ++index) open(index);
        alive_ = peers_.size();
    }
    Generator(const Generator&) = delete;
    Generator& operator=(const Generator&) = delete;
    ~Generator() {
        for (Peer& peer : peers_) {
            if (peer.fd >= 0) (void)close(peer.fd);
        }
        (void)close(epoll_);
    }

    const whorl::Histogram& latencies() const { return latencies_; }
    // Open loop: how late messages were sent although their window had room, which is the generator's
    // own fault.
    const whorl::Histogram& lags() const { return lags_; }

    // Loads for so long or, with a number of requests, until these are issued; then lets all come home.
    // What comes home counts, so requests and the server's work are of one piece. With neither seconds
    // nor requests every connection exchanges exactly depth messages.
    Outcome run(double seconds, std::uint64_t requests = 0) {
        latencies_.reset();
        lags_.reset();
        errors_ = 0;
        requests_ = 0;
        const std::uint64_t cpu_begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        begin_ = now_ns();
        deadline_ =
            requests > 0 ? ~std::uint64_t{0} : begin_ + static_cast<std::uint64_t>(seconds * 1e9);
        left_ = requests > 0 ? requests : ~std::uint64_t{0};
        turn_ns_ = begin_;
        if (options_.rate > 0) open_begin(seconds);
        else run_prime();
        std::uint64_t progress = begin_;
        std::uint64_t progress_requests = 0;
        while (under_way_ > 0 || open_next_ < open_end_) {
            if (open_next_ < open_end_) open_issue();
            run_turn();
            if (requests_ != progress_requests || under_way_ == 0) {
                progress_requests = requests_;
                progress = now_ns();
            } else if (now_ns() - progress > stall_ns) {
                run_stalled();
            }
        }
        const std::uint64_t end = requests_ > 0 ? turn_ns_ : now_ns();
        const std::uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_begin;
        Outcome outcome;
        outcome.requests = requests_;
        outcome.seconds = static_cast<double>(end - begin_) * 1e-9;
        outcome.cpu_share = static_cast<double>(cpu) / static_cast<double>(now_ns() - begin_);
        outcome.errors = errors_;
        outcome.alive = alive_;
        return outcome;
    }

  private:
    // Connects while blocking, which over loopback is one exchange; beyond source_max
    // connections another source address is used, since one has 28,000 ports by default.
    void open(std::size_t index) {
        Peer& peer = peers_[index];
        peer.started.resize(options_.depth);
        peer.fd = socket(AF_INET, (options_.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
        if (peer.fd < 0) fail("socket", errno);
        const int on = 1;
        if (!options_.udp) (void)setsockopt(peer.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        const timeval patience{5, 0};
        (void)setsockopt(peer.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (index >= source_max) bind_source(options_, peer.fd, index / source_max);
        const sockaddr_in address = server_address(options_);
        if (connect(peer.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            fail("connect", errno);
        }
        control(EPOLL_CTL_ADD, index, EPOLLIN);
    }

    void control(int operation, std::size_t index, std::uint32_t interest) {
        epoll_event event{};
        event.events = interest;
        event.data.u64 = index;
        if (epoll_ctl(epoll_, operation, peers_[index].fd, &event) != 0) fail("epoll_ctl", errno);
    }

    void run_prime() {
        for (std::size_t index = 0; index < peers_.size(); ++index) {
            if (peers_[index].fd >= 0) issue(index, options_.depth, now_ns());
        }
    }

    void run_turn() {
        timespec wait{1, 0};
        if (open_next_ < open_end_) {
            const std::uint64_t now = now_ns(), due = open_due(open_next_);
            const std::uint64_t left =
                due > now ? std::min(due - now, std::uint64_t{999'999'999}) : 0;
            wait = {0, static_cast<long>(left)};
        }
        const int count = epoll_pwait2(epoll_, events_, events_max, &wait, nullptr);
        if (count < 0 && errno != EINTR) fail("epoll_pwait2", errno);
        for (int index = 0; index < count; ++index) {
            const auto peer = static_cast<std::size_t>(events_[index].data.u64);
            if ((events_[index].events & EPOLLOUT) != 0) push(peer);
            if ((events_[index].events & ~std::uint32_t{EPOLLOUT}) != 0) pull(peer);
        }
    }

    void run_stalled() {
        for (std::size_t index = 0; index < peers_.size(); ++index) {
            if (peers_[index].issued != peers_[index].completed) end(index, "no echo came");
        }
    }

    // ---- the open loop ----

    // Message k of a run is due at begin + k / rate, on connection k modulo N. So when any message was
    // due need not be kept, however long it waits for its window.
    std::uint64_t open_due(std::uint64_t message) const {
        return begin_ +
               static_cast<std::uint64_t>(static_cast<double>(message) * 1e9 / options_.rate);
    }
    void open_begin(double seconds) {
        open_next_ = 0;
        open_end_ = left_ != ~std::uint64_t{0}
                        ? left_
                        : static_cast<std::uint64_t>(seconds * options_.rate + 0.5);
        for (Peer& peer : peers_) peer.due = peer.run_first = peer.issued;
    }
    void open_issue() {
        const std::uint64_t now = now_ns();
        for (; open_next_ < open_end_ && open_due(open_next_) <= now; ++open_next_) {
            const std::size_t index = open_next_ % peers_.size();
            Peer& peer = peers_[index];
            if (peer.fd < 0) continue;
            ++peer.due;
            if (peer.issued - peer.completed >= options_.depth) continue;  // the server is behind
            lags_.record(now - open_due(open_next_));
            issue(index, 1, now);
        }
    }
    std::uint64_t open_started(std::size_t index, const Peer& peer) const {
        return open_due((peer.completed - peer.run_first) * peers_.size() + index);
    }

    // ---- streams ----

    void issue(std::size_t index, std::size_t count, std::uint64_t at) {
        Peer& peer = peers_[index];
        count = static_cast<std::size_t>(std::min<std::uint64_t>(count, left_));
        left_ -= count;
        for (std::size_t message = 0; message < count; ++message) {
            peer.started[peer.issued % options_.depth] = at;
            ++peer.issued;
        }
        peer.target += count * options_.size;
        under_way_ += count;
        if (!peer.writing) push(index);
    }

    // Sends what is due. All messages due are one piece of the pattern, so one send serves a
    // whole window; over UDP each is a datagram.
    void push(std::size_t index) {
        Peer& peer = peers_[index];
        if (peer.fd < 0) return;
        while (peer.sent < peer.target) {
            std::uint64_t size = peer.target - peer.sent;
            if (size > chunk_) size = chunk_;
            const ssize_t count =
                send(peer.fd, pattern_.at(index, peer.sent), size, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0 && errno != EAGAIN) return end(index, std::strerror(errno));
            if (count >= 0) peer.sent += static_cast<std::uint64_t>(count);
            if (count < static_cast<ssize_t>(size)) break;
        }
        const bool writing = peer.sent < peer.target;
        if (writing == peer.writing) return;
        peer.writing = writing;
        control(EPOLL_CTL_MOD, index, writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }

    void pull(std::size_t index) {
        Peer& peer = peers_[index];
        if (peer.fd < 0) return;
        const ssize_t count = recv(peer.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count < 0) return end(index, std::strerror(errno));
        if (count == 0) return end(index, "the server closed");
        const auto size = static_cast<std::size_t>(count);
        if (peer.received + size > peer.sent) return end(index, "more came than was sent");
        if (std::memcmp(buffer_.data(), pattern_.at(index, peer.received), size) != 0) {
            return end(index, "a wrong byte came");
        }
        peer.received += size;
        pull_complete(index, peer);
    }

    void pull_complete(std::size_t index, Peer& peer) {
        turn_ns_ = now_ns();
        std::size_t done = 0;
        while ((peer.completed + 1) * options_.size <= peer.received) {
            const std::uint64_t from = options_.rate > 0
                                           ? open_started(index, peer)
                                           : peer.started[peer.completed % options_.depth];
            latencies_.record(turn_ns_ - from);
            ++peer.completed;
            ++done;
        }
        requests_ += done;
        under_way_ -= done;
        if (done == 0) return;
        if (options_.rate > 0) {
            const std::uint64_t room = options_.depth - (peer.issued - peer.completed);
            issue(index, std::min<std::uint64_t>(room, peer.due - peer.issued), turn_ns_);
        } else if (turn_ns_ < deadline_) {
            issue(index, done, turn_ns_);
        }
    }

    void end(std::size_t index, const char* why) {
        Peer& peer = peers_[index];
        if (errors_total_ == 0) {
            std::fprintf(stderr, "bench_load: connection %zu, at byte %llu: %s\n", index,
                         static_cast<unsigned long long>(peer.received), why);
        }
        ++errors_;
        ++errors_total_;
        --alive_;
        under_way_ -= peer.issued - peer.completed;
        peer.completed = peer.issued;
        (void)close(peer.fd);
        peer.fd = -1;
    }

    static constexpr int events_max = 256;

    const Options& options_;
    const std::size_t chunk_;  // bytes in one send
    const Pattern pattern_;
    std::vector<char> buffer_;
    int epoll_;
    std::vector<Peer> peers_;
    std::uint64_t begin_ = 0;
    std::uint64_t deadline_ = 0;
    std::uint64_t left_ = 0;       // messages that may still be issued
    std::uint64_t open_next_ = 0;  // the next message of an open loop, and their number
    std::uint64_t open_end_ = 0;
    std::uint64_t turn_ns_ = 0;  // when the last echo came
    std::uint64_t requests_ = 0;
    std::uint64_t under_way_ = 0;  // messages on all connections
    std::size_t errors_ = 0;       // in this run
    std::size_t errors_total_ = 0;
    std::size_t alive_ = 0;
    whorl::Histogram latencies_ = make_histogram();
    whorl::Histogram lags_ = make_histogram();
    epoll_event events_[events_max];
};

}  // namespace bench
