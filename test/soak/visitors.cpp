// SPDX-License-Identifier: MIT
#include "soak/peers.hpp"

#include <algorithm>
#include <memory>

namespace soak {

using namespace std::chrono_literals;
using whorl::Error;
using whorl::Loop;

namespace {

enum class Manner : std::uint8_t { echo, half_close, reset, slow, idle, impatient };
constexpr std::uint64_t manners = 6;

// The byte at a place of what one visitor sends.
char byte_at(std::uint64_t seed, std::uint64_t place) {
    return static_cast<char>((seed + place * 0x9E37'79B9'7F4A'7C15) >> 56);
}

}  // namespace

// Connects, does as its manner says, and closes. Every byte that comes back is compared.
class Visitors::Visitor {
  public:
    Visitor(Visitors& all, Manner manner)
        : all_(all), manner_(manner), seed_(all.random_.next()), rounds_(1 + all.random_.below(8)) {
        all_.visitors_.insert(this);
    }
    ~Visitor() { all_.visitors_.erase(this); }
    Visitor(const Visitor&) = delete;
    Visitor& operator=(const Visitor&) = delete;

    // Many addresses of this host, so that ports in TIME_WAIT do not run out.
    void begin(Loop& loop) {
        const auto host = static_cast<std::uint8_t>(1 + all_.random_.below(250));
        whorl::Connect op{whorl::Address::ipv4(127, 0, 0, host, all_.port_)};
        if (!loop.submit(std::move(op), whorl::within(2s), this)) delete this;
    }
    void operator()(Loop& loop, whorl::Connect::Done done) {
        if (done.error) {
            ++all_.counts_.refused;
            all_.come_later(50ms);
            delete this;
            return;
        }
        socket_ = done.socket;
        if (manner_ != Manner::idle) return send(loop);
        receive(loop);
        wait(loop, std::chrono::milliseconds(50 + all_.random_.below(1500)));
    }
    void operator()(Loop& loop, whorl::SendAll::Done done) {
        if (done.error) return close(loop);
        sent_ += done.bytes;
        switch (manner_) {
            case Manner::reset:
                static_cast<void>(whorl::set_option(loop, socket_, whorl::Linger{true, 0s}));
                return close(loop);
            case Manner::half_close:
                if (!loop.submit(whorl::Shutdown{socket_}, this)) return close(loop);
                return receive(loop);
            case Manner::slow:
                return wait(loop, 30ms);
            default:
                return receive(loop);
        }
    }
    void operator()(Loop& loop, whorl::Shutdown::Done done) {
        if (done.error) close(loop);
    }
    void operator()(Loop& loop, whorl::Recv::Done done) {
        compare(done.buffer.text());
        if (done.error == Error::cancelled) ++all_.counts_.cancelled;
        if (done.error == Error::timed_out) ++all_.counts_.timed_out;
        if (done.error || done.buffer.empty()) return close(loop);
        if (manner_ == Manner::half_close || received_ < sent_) return receive(loop);
        if (--rounds_ > 0) return send(loop);
        close(loop);
    }
    void operator()(Loop& loop, whorl::Expired) {
        if (manner_ == Manner::idle) return close(loop);
        if (manner_ == Manner::slow) return receive(loop);
        loop.cancel(receiving_);
    }
    void operator()(Loop&) {  // closed
        const bool whole = sent_ > 0 && received_ == sent_;
        if (whole) ++all_.counts_.complete;
        all_.come_later(std::chrono::milliseconds(all_.random_.below(20)));
        delete this;
    }

  private:
    void send(Loop& loop) {
        const std::uint64_t size =
            manner_ == Manner::slow ? 150'000 : 1 + all_.random_.below(6'000);
        std::string text(size, '\0');
        for (std::uint64_t place = 0; place < size; ++place) {
            text[place] = byte_at(seed_, sent_ + place);
        }
        whorl::SendAll op{socket_, whorl::adopt(std::move(text))};
        // A slow one does not read meanwhile, so its send may never end.
        if (manner_ == Manner::slow) receive_soon(loop);
        if (!loop.submit(std::move(op), whorl::within(2s), this)) close(loop);
    }
    void receive_soon(Loop& loop) { wait(loop, 20ms); }
    void receive(Loop& loop) {
        if (receiving_ && loop.alive(receiving_)) return;
        whorl::Recv op{socket_, whorl::Buffer::allocate(manner_ == Manner::slow ? 700 : 8192)};
        whorl::SubmitOptions options = whorl::within(5s);
        if (manner_ == Manner::impatient) {
            options = whorl::within(std::chrono::microseconds(all_.random_.below(4'000)));
            wait(loop, std::chrono::milliseconds(all_.random_.below(3)));
        }
        whorl::Result<whorl::Operation> submitted = loop.submit(std::move(op), options, this);
        if (!submitted) return close(loop);
        receiving_ = *submitted;
    }
    void wait(Loop& loop, std::chrono::milliseconds time) {
        loop.cancel(timer_);
        whorl::Result<whorl::Timer> timer = loop.after(time, this);
        if (timer) timer_ = *timer;
    }
    void compare(std::string_view text) {
        all_.counts_.bytes += text.size();
        for (const char byte : text) {
            if (byte != byte_at(seed_, received_++)) ++all_.counts_.wrong;
        }
    }
    void close(Loop& loop) {
        loop.cancel(timer_);
        if (!loop.close(socket_, this)) ++all_.counts_.visits;
    }

    Visitors& all_;
    Manner manner_;
    std::uint64_t seed_;
    std::uint64_t rounds_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    whorl::Socket socket_;
    whorl::Operation receiving_;
    whorl::Timer timer_;
};

Visitors::~Visitors() {
    while (!visitors_.empty()) delete *visitors_.begin();
}

void Visitors::open(std::uint32_t count) {
    for (std::uint32_t number = 0; number < count; ++number) {
        come_later(std::chrono::milliseconds(random_.below(1000)));
    }
}

void Visitors::come_later(std::chrono::milliseconds delay) {
    if (stopping_) return;
    static_cast<void>(loop_.after(delay, [this](Loop& loop, whorl::Expired) {
        if (stopping_) return;
        (new Visitor(*this, static_cast<Manner>(random_.below(manners))))->begin(loop);
    }));
}

}  // namespace soak
