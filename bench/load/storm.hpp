// SPDX-License-Identifier: MIT
// A storm of connections: N at a time connect, exchange one message, and close. A request is the whole
// of it, a latency is from connect to the last byte of the echo. The client closes first, so it is the
// one that keeps TIME_WAIT; source addresses rotate so that ports do not run out.
#pragma once

#include "options.hpp"

namespace bench {

class Storm {
  public:
    explicit Storm(const Options& options)
        : options_(options), buffer_(chunk_max), epoll_(epoll_create1(EPOLL_CLOEXEC)),
          visits_(options.connections) {
        if (epoll_ < 0) fail("epoll_create1", errno);
        if (options.size > chunk_max) fail("--size, larger than one send", EINVAL);
    }
    Storm(const Storm&) = delete;
    Storm& operator=(const Storm&) = delete;
    ~Storm() { (void)close(epoll_); }

    const whorl::Histogram& latencies() const { return latencies_; }
    const whorl::Histogram& lags() const { return lags_; }

    // As Generator::run(); with neither seconds nor requests every place is visited once.
    Outcome run(double seconds, std::uint64_t requests = 0) {
        latencies_.reset();
        errors_ = requests_ = 0;
        const std::uint64_t cpu_begin = clock_ns(CLOCK_THREAD_CPUTIME_ID), begin = now_ns();
        deadline_ =
            requests > 0 ? ~std::uint64_t{0} : begin + static_cast<std::uint64_t>(seconds * 1e9);
        left_ = requests > 0 ? requests : ~std::uint64_t{0};
        for (std::size_t index = 0; index < visits_.size() && left_ > 0; ++index) start(index);
        std::uint64_t progress = begin, progress_requests = 0;
        while (under_way_ > 0) {
            run_turn();
            if (requests_ != progress_requests) {
                progress_requests = requests_;
                progress = now_ns();
            } else if (now_ns() - progress > stall_ns) {
                for (std::size_t index = 0; index < visits_.size(); ++index) {
                    if (visits_[index].fd >= 0) end(index, "no echo came");
                }
            }
        }
        const std::uint64_t wall = now_ns() - begin;
        Outcome outcome;
        outcome.requests = requests_;
        outcome.seconds = static_cast<double>(wall) * 1e-9;
        outcome.cpu_share = static_cast<double>(clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_begin) /
                            static_cast<double>(wall);
        outcome.errors = errors_;
        outcome.alive = visits_.size();
        return outcome;
    }

  private:
    struct Visit {
        int fd = -1;
        bool sent = false;
        std::size_t received = 0;
        std::uint64_t started = 0;
    };

    void start(std::size_t index) {
        Visit& visit = visits_[index];
        visit = {};
        visit.started = now_ns();
        visit.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (visit.fd < 0) fail("socket", errno);
        const int on = 1;
        (void)setsockopt(visit.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        bind_source(options_, visit.fd, ++visits_made_ / port_run % source_addresses);
        const sockaddr_in address = server_address(options_);
        --left_;
        ++under_way_;
        if (connect(visit.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
            errno != EINPROGRESS) {
            return end(index, std::strerror(errno));
        }
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT | EPOLLET;
        event.data.u64 = index;
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, visit.fd, &event) != 0) fail("epoll_ctl", errno);
    }

    void run_turn() {
        epoll_event events[events_max];
        const int count = epoll_wait(epoll_, events, events_max, 1000);
        if (count < 0 && errno != EINTR) fail("epoll_wait", errno);
        for (int number = 0; number < count; ++number) {
            const auto index = static_cast<std::size_t>(events[number].data.u64);
            if (!visits_[index].sent) send_message(index);
            if (visits_[index].fd >= 0 && (events[number].events & ~std::uint32_t{EPOLLOUT}) != 0) {
                receive(index);
            }
        }
    }

    void send_message(std::size_t index) {
        Visit& visit = visits_[index];
        const ssize_t count =
            send(visit.fd, pattern_.at(index, 0), options_.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EAGAIN) return;
        if (count < 0) return end(index, std::strerror(errno));
        if (count != static_cast<ssize_t>(options_.size)) return end(index, "a short send");
        visit.sent = true;
    }

    void receive(std::size_t index) {
        Visit& visit = visits_[index];
        while (visit.received < options_.size) {
            const ssize_t count = recv(visit.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
            if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
            if (count < 0) return end(index, std::strerror(errno));
            if (count == 0) return end(index, "the server closed");
            const auto size = static_cast<std::size_t>(count);
            if (visit.received + size > options_.size) return end(index, "more came than was sent");
            if (std::memcmp(buffer_.data(), pattern_.at(index, visit.received), size) != 0) {
                return end(index, "a wrong byte came");
            }
            visit.received += size;
        }
        const std::uint64_t now = now_ns();
        latencies_.record(now - visit.started);
        ++requests_;
        leave(visit);
        if (now < deadline_ && left_ > 0) start(index);
    }

    void leave(Visit& visit) {
        (void)close(visit.fd);
        visit.fd = -1;
        --under_way_;
    }
    void end(std::size_t index, const char* why) {
        if (++errors_ == 1) {
            std::fprintf(stderr, "bench_load: a visit after %zu bytes: %s\n",
                         visits_[index].received, why);
        }
        leave(visits_[index]);
    }

    static constexpr int events_max = 256;
    static constexpr std::uint64_t port_run = 10'000;  // visits from one source address in a row
    static constexpr std::uint64_t source_addresses = 200;

    const Options& options_;
    const Pattern pattern_;
    std::vector<char> buffer_;
    int epoll_;
    std::vector<Visit> visits_;
    std::uint64_t visits_made_ = 0;
    std::uint64_t deadline_ = 0;
    std::uint64_t left_ = 0;
    std::uint64_t requests_ = 0;
    std::uint64_t under_way_ = 0;
    std::size_t errors_ = 0;
    whorl::Histogram latencies_ = make_histogram();
    whorl::Histogram lags_ = make_histogram();  // stays empty: a closed loop
};

}  // namespace bench
