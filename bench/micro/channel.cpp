// SPDX-License-Identifier: MIT
// Messages from a thread into a loop, each on a processor of its own. The case is RIVAL:NAME:
//
//   flood   8 bytes, in batches of 64, as fast as they go; `ns` is wall time, the median over slices
//   paced   8 bytes, one at a time; the next is sent when the loop has had the last, and sleeps or is about
//           to: each message ends a sleep. `ns` is the median of the time there and back
//
// Rivals: ring (the bare SpscRing, its consumer spins), io_uring and libev (a Channel into a loop), post
// (Remote::post, one for each message). Told besides: wakes, the wake calls (system calls) of the sender a
// message, and the turns of the loop.
#include <whorl/channel.hpp>
#include <whorl/loop.hpp>
#include <whorl/remote.hpp>
#include <whorl/spsc_ring.hpp>

#include <algorithm>
#include <atomic>
#include <thread>

#include "../harness.hpp"

namespace {

using bench::Run;
using Number = std::uint64_t;

constexpr std::uint32_t capacity = 1024;
constexpr std::size_t batch_size = 64;
constexpr std::uint64_t slice = 65536;

std::uint64_t wall() { return bench::clock_read(CLOCK_MONOTONIC); }
void pause() { __builtin_ia32_pause(); }

double median(std::vector<double>& values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

// Counts what arrives and cuts time into slices.
class Meter {
  public:
    void take(Number number) {
        sum_ = sum_ * 3 + number;
        if (++in_slice_ == slice) cut();
    }
    void finish(Run& run) {
        if (in_slice_ != 0) cut();
        run.add(sum_);
        run.set_ns(median(slices_));
    }

  private:
    void cut() {
        const std::uint64_t time = wall();
        slices_.push_back(static_cast<double>(time - begun_) / static_cast<double>(in_slice_));
        begun_ = time;
        in_slice_ = 0;
    }
    std::uint64_t sum_ = 0;
    std::uint64_t begun_ = wall();
    std::uint64_t in_slice_ = 0;
    std::vector<double> slices_;
};

// Sends `total` numbers in batches by `send(first, count)`, which says how many it has taken.
template <class Send>
void produce(std::uint64_t total, Send send) {
    Number batch[batch_size];
    for (std::uint64_t sent = 0; sent < total;) {
        const std::size_t want = std::min<std::uint64_t>(batch_size, total - sent);
        for (std::size_t index = 0; index < want; ++index) batch[index] = sent + index;
        for (std::size_t done = 0; done < want;) {
            const std::size_t now = send(batch + done, want - done);
            if (now == 0) pause();
            done += now;
        }
        sent += want;
    }
}

whorl::Loop make_loop(whorl::Backend backend) {
    whorl::LoopOptions options;
    options.backend = backend;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options);
    if (!loop) std::exit(Run::skip());
    return std::move(loop).value();
}

whorl::Channel<Number> make_channel() {
    whorl::Result<whorl::Channel<Number>> made = whorl::Channel<Number>::create(capacity);
    if (!made) std::exit(1);
    return std::move(made).value();
}

void tell(Run& run, const whorl::Loop& loop) {
    const auto messages = static_cast<double>(run.operations());
    run.tell("calls", static_cast<double>(loop.statistics().remote_wakes) / messages);
    run.tell("turns", static_cast<double>(loop.statistics().turns));
}

void flood_ring(Run& run) {
    static whorl::SpscRing<Number> ring;
    if (ring.reserve(capacity)) std::exit(1);
    Meter meter;
    std::thread producer([&run] {
        run.pin_other();
        produce(run.operations(),
                [](Number* first, std::size_t count) { return ring.push_batch(first, count); });
    });
    for (std::uint64_t got = 0; got < run.operations();) {
        const Number* number = ring.front();
        if (number == nullptr) {
            pause();
            continue;
        }
        meter.take(*number);
        ring.pop();
        ++got;
    }
    producer.join();
    meter.finish(run);
}

void flood_channel(Run& run, whorl::Backend backend) {
    whorl::Loop loop = make_loop(backend);
    whorl::Channel<Number> channel = make_channel();
    Meter meter;
    const auto receive = [&meter](whorl::Loop&, whorl::Receive<Number>::Done done) {
        while (const Number* number = done.next()) meter.take(*number);
    };
    if (!loop.submit(whorl::Receive<Number>{std::move(channel.receiver)}, receive)) std::exit(1);
    std::thread producer([&run, sender = std::move(channel.sender)]() mutable {
        run.pin_other();
        produce(run.operations(), [&sender](Number* first, std::size_t count) {
            return sender.send_batch(first, count);
        });
    });
    if (loop.run()) std::exit(1);
    producer.join();
    meter.finish(run);
    tell(run, loop);
}

void flood_post(Run& run) {
    whorl::Loop loop = make_loop(whorl::Backend::automatic);
    const whorl::Remote remote = std::move(loop.remote()).value();
    Meter meter;
    std::thread producer([&run, &meter, remote] {
        run.pin_other();
        for (Number number = 0; number < run.operations(); ++number) {
            if (!remote.post([&meter, number](whorl::Loop&) { meter.take(number); })) return;
        }
        remote.post([](whorl::Loop& inner) { inner.stop(); });
    });
    if (loop.run(whorl::RunUntil::stopped)) std::exit(1);
    producer.join();
    meter.finish(run);
    tell(run, loop);
}

// Measures on the sending thread, which spins until the loop has had its message.
template <class Send>
void paced_thread(Run& run, const std::atomic<Number>& had, Send send) {
    run.pin_other();
    std::vector<double> trips;
    std::uint64_t sum = 0;
    for (Number number = 1; number <= run.operations(); ++number) {
        const std::uint64_t begun = wall();
        send(number);
        while (had.load(std::memory_order_acquire) != number) pause();
        trips.push_back(static_cast<double>(wall() - begun));
        sum = sum * 3 + number;
    }
    run.add(sum);
    run.set_ns(median(trips));
}

void paced_channel(Run& run, whorl::Backend backend) {
    whorl::Loop loop = make_loop(backend);
    whorl::Channel<Number> channel = make_channel();
    std::atomic<Number> had{0};
    const auto receive = [&had](whorl::Loop&, whorl::Receive<Number>::Done done) {
        while (const Number* number = done.next()) had.store(*number, std::memory_order_release);
    };
    if (!loop.submit(whorl::Receive<Number>{std::move(channel.receiver)}, receive)) std::exit(1);
    std::thread producer([&run, &had, sender = std::move(channel.sender)]() mutable {
        paced_thread(run, had, [&sender](Number number) {
            if (sender.send(std::move(number))) std::exit(1);
        });
    });
    if (loop.run()) std::exit(1);
    producer.join();
    tell(run, loop);
}

void paced_post(Run& run) {
    whorl::Loop loop = make_loop(whorl::Backend::automatic);
    const whorl::Remote remote = std::move(loop.remote()).value();
    std::atomic<Number> had{0};
    std::thread producer([&run, &had, remote] {
        paced_thread(run, had, [&](Number number) {
            remote.post(
                [&had, number](whorl::Loop&) { had.store(number, std::memory_order_release); });
        });
        remote.stop();
    });
    if (loop.run(whorl::RunUntil::stopped)) std::exit(1);
    producer.join();
    tell(run, loop);
}

}  // namespace

int main(int argc, char** argv) {
    Run run("channel", argc, argv);
    if (run.is("ring:flood")) flood_ring(run);
    else if (run.is("io_uring:flood")) flood_channel(run, whorl::Backend::io_uring);
    else if (run.is("libev:flood")) flood_channel(run, whorl::Backend::libev);
    else if (run.is("post:flood")) flood_post(run);
    else if (run.is("io_uring:paced")) paced_channel(run, whorl::Backend::io_uring);
    else if (run.is("libev:paced")) paced_channel(run, whorl::Backend::libev);
    else if (run.is("post:paced")) paced_post(run);
    else return Run::skip();
    return run.finish();
}
