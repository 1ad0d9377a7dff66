// SPDX-License-Identifier: MIT
// Rings between two threads, each on a processor of its own. The case is RIVAL:NAME, and `ns` is wall
// time: the median over slices of the work, so that a slice that was preempted counts little.
//
//   roundtrip   56 bytes there and back: the median of each single trip
//   single      56 bytes, one by one, as fast as they go
//   small       8 bytes, one by one
//   batch       8 bytes, 64 at once where the rival has such a call
//   large       200 bytes, one by one
//
// Rivals: whorl (SpscRing), whorl-slot and whorl-index (one layout, whatever the size), boost
// (lockfree::spsc_queue, with its batches), moodycamel (ReaderWriterQueue of libreaderwriterqueue-dev),
// and indices: the algorithm of rigtorp::SPSCQueue, stated anew below, since no package has it.
#include <whorl/spsc_ring.hpp>

#ifdef WHORL_BENCH_BOOST
#include <boost/lockfree/spsc_queue.hpp>
#endif
#ifdef WHORL_BENCH_MOODYCAMEL
#include <readerwriterqueue/readerwriterqueue.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include "../harness.hpp"

namespace {

using bench::Run;

constexpr std::uint32_t capacity = 1024;
constexpr std::size_t batch_size = 64;
constexpr std::uint64_t slice = 8192;

template <std::size_t Bytes>
struct Message {
    std::uint64_t number = 0;
    std::array<std::uint64_t, Bytes / 8 - 1> rest{};
};
template <>
struct Message<8> {
    std::uint64_t number = 0;
};

void pause() { __builtin_ia32_pause(); }

// ---- the rivals: push and pop one, push and pop many ----

template <class Ring>
class Whorl {
  public:
    using Message = typename Ring::Message;
    Whorl() {
        if (ring_.reserve(capacity)) std::exit(1);
    }
    bool push(Message& message) { return ring_.try_push(std::move(message)); }
    std::size_t push_many(Message* messages, std::size_t count) {
        return ring_.push_batch(messages, count);
    }
    template <class Take>
    std::size_t take_many(std::size_t count, Take take) {
        std::size_t done = 0;
        for (; done < count; ++done) {
            Message* message = ring_.front();
            if (message == nullptr) break;
            take(*message);
            ring_.pop();
        }
        return done;
    }

  private:
    Ring ring_;
};

// Two indices, each with the other side's copy of it beside the owner's data. One slot stays empty.
template <class T>
class Indices {
  public:
    using Message = T;
    Indices() : slots_(capacity + 1) {}
    bool push(T& message) {
        const std::size_t tail = tail_.load(std::memory_order_relaxed);
        const std::size_t next = tail + 1 == slots_.size() ? 0 : tail + 1;
        if (next == head_seen_) {
            head_seen_ = head_.load(std::memory_order_acquire);
            if (next == head_seen_) return false;
        }
        slots_[tail] = message;
        tail_.store(next, std::memory_order_release);
        return true;
    }
    std::size_t push_many(T* messages, std::size_t count) {
        std::size_t done = 0;
        while (done < count && push(messages[done])) ++done;
        return done;
    }
    template <class Take>
    std::size_t take_many(std::size_t count, Take take) {
        std::size_t done = 0;
        for (; done < count; ++done) {
            const std::size_t head = head_.load(std::memory_order_relaxed);
            if (head == tail_seen_) {
                tail_seen_ = tail_.load(std::memory_order_acquire);
                if (head == tail_seen_) break;
            }
            take(slots_[head]);
            head_.store(head + 1 == slots_.size() ? 0 : head + 1, std::memory_order_release);
        }
        return done;
    }

  private:
    std::vector<T> slots_;
    alignas(64) std::atomic<std::size_t> tail_{0};
    alignas(64) std::size_t head_seen_ = 0;
    alignas(64) std::atomic<std::size_t> head_{0};
    alignas(64) std::size_t tail_seen_ = 0;
};

#ifdef WHORL_BENCH_BOOST
template <class T>
class Boost {
  public:
    using Message = T;
    bool push(T& message) { return queue_.push(message); }
    std::size_t push_many(T* messages, std::size_t count) { return queue_.push(messages, count); }
    template <class Take>
    std::size_t take_many(std::size_t count, Take take) {
        if (count == 1) return queue_.consume_one(take) ? 1 : 0;
        T messages[batch_size];
        const std::size_t done = queue_.pop(messages, std::min(count, batch_size));
        for (std::size_t index = 0; index < done; ++index) take(messages[index]);
        return done;
    }

  private:
    boost::lockfree::spsc_queue<T, boost::lockfree::capacity<capacity>> queue_;
};

#endif

#ifdef WHORL_BENCH_MOODYCAMEL
template <class T>
class Moodycamel {
  public:
    using Message = T;
    bool push(T& message) { return queue_.try_enqueue(message); }
    std::size_t push_many(T* messages, std::size_t count) {
        std::size_t done = 0;
        while (done < count && push(messages[done])) ++done;
        return done;
    }
    template <class Take>
    std::size_t take_many(std::size_t count, Take take) {
        std::size_t done = 0;
        for (; done < count; ++done) {
            T message;
            if (!queue_.try_dequeue(message)) break;
            take(message);
        }
        return done;
    }

  private:
    moodycamel::ReaderWriterQueue<T> queue_{capacity};
};
#endif

// ---- the cases ----

std::uint64_t wall() { return bench::clock_read(CLOCK_MONOTONIC); }

double median(std::vector<double>& values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

template <class Rival>
void flood(Run& run, std::size_t batch) {
    using Item = typename Rival::Message;
    const auto rival = std::make_unique<Rival>();
    const std::uint64_t total = run.operations();
    std::thread producer([&] {
        run.pin_other();
        Item items[batch_size];
        for (std::uint64_t sent = 0; sent < total;) {
            const std::size_t want = std::min<std::uint64_t>(batch, total - sent);
            for (std::size_t index = 0; index < want; ++index) items[index].number = sent + index;
            for (std::size_t done = 0; done < want;) {
                const std::size_t now = want == 1 ? (rival->push(items[0]) ? 1 : 0)
                                                  : rival->push_many(items + done, want - done);
                if (now == 0) pause();
                done += now;
            }
            sent += want;
        }
    });
    std::vector<double> slices;
    std::uint64_t begun = wall();
    std::uint64_t sum = 0;
    std::uint64_t in_slice = 0;
    for (std::uint64_t got = 0; got < total;) {
        const std::size_t now =
            rival->take_many(batch, [&sum](const Item& item) { sum = sum * 3 + item.number; });
        if (now == 0) pause();
        got += now;
        in_slice += now;
        if (in_slice < slice && got < total) continue;
        const std::uint64_t time = wall();
        slices.push_back(static_cast<double>(time - begun) / static_cast<double>(in_slice));
        begun = time;
        in_slice = 0;
    }
    producer.join();
    run.add(sum);
    run.set_ns(median(slices));
}

template <class Rival>
void roundtrip(Run& run) {
    using Item = typename Rival::Message;
    const auto there = std::make_unique<Rival>();
    const auto back = std::make_unique<Rival>();
    const auto take = [](Rival& from) {
        Item item;
        while (from.take_many(1, [&item](const Item& found) { item = found; }) == 0) pause();
        return item;
    };
    std::thread echo([&] {
        run.pin_other();
        for (std::uint64_t n = 0; n < run.operations(); ++n) {
            Item item = take(*there);
            ++item.number;
            while (!back->push(item)) pause();
        }
    });
    std::vector<double> trips;
    std::uint64_t sum = 0;
    for (std::uint64_t n = 0; n < run.operations(); ++n) {
        Item item;
        item.number = n;
        const std::uint64_t begun = wall();
        while (!there->push(item)) pause();
        sum = sum * 3 + take(*back).number;
        trips.push_back(static_cast<double>(wall() - begun));
    }
    echo.join();
    run.add(sum);
    run.set_ns(median(trips));
}

template <template <class> class Rival>
bool named(Run& run, const std::string& name) {
    if (run.is((name + ":roundtrip").c_str())) roundtrip<Rival<Message<56>>>(run);
    else if (run.is((name + ":single").c_str())) flood<Rival<Message<56>>>(run, 1);
    else if (run.is((name + ":small").c_str())) flood<Rival<Message<8>>>(run, 1);
    else if (run.is((name + ":batch").c_str())) flood<Rival<Message<8>>>(run, batch_size);
    else if (run.is((name + ":large").c_str())) flood<Rival<Message<200>>>(run, 1);
    else return false;
    return true;
}

template <class T>
using Chosen = Whorl<whorl::SpscRing<T>>;
template <class T>
using Slots = Whorl<whorl::SpscSlotRing<T>>;
template <class T>
using Side = Whorl<whorl::SpscIndexRing<T>>;

}  // namespace

int main(int argc, char** argv) {
    Run run("spsc", argc, argv);
    bool known = named<Chosen>(run, "whorl") || named<Slots>(run, "whorl-slot") ||
                 named<Side>(run, "whorl-index") || named<Indices>(run, "indices");
#ifdef WHORL_BENCH_BOOST
    known = known || named<Boost>(run, "boost");
#endif
#ifdef WHORL_BENCH_MOODYCAMEL
    known = known || named<Moodycamel>(run, "moodycamel");
#endif
    return known ? run.finish() : Run::skip();
}
