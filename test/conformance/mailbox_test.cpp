// SPDX-License-Identifier: MIT
// Goal: many senders, one receiver: each message once, each sender's in order, what does not fit handed back,
// a sleeper woken once, and nothing lost or leaked whoever goes first. Method: by hand on one thread, which
// makes every step visible; then four threads that send numbers while the loop works, sleeps or goes.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <whorl/mailbox.hpp>

#include <array>
#include <atomic>
#include <memory>

namespace whorl::conformance {
namespace {

using Number = std::unique_ptr<int>;
Number number(int value) { return std::make_unique<int>(value); }

class MailboxTest : public LoopTest {
  protected:
    template <class T = Number>
    static Mailbox<T> make_mailbox(Loop& loop, std::uint32_t capacity) {
        Result<Mailbox<T>> made = Mailbox<T>::create(loop, capacity);
        EXPECT_TRUE(made);
        return std::move(made).value();
    }
    struct Log {
        std::vector<int> got;
        int ends = 0;
        Error error;
        void operator()(Loop&, ReceiveMail<Number>::Done done) {
            EXPECT_EQ(done.message.has_value(), done.more);
            if (done.message) got.push_back(**done.message);
            if (done.more) return;
            ++ends;
            error = done.error;
        }
    };
    static std::vector<int> numbers(int from, int to) {
        std::vector<int> all;
        for (int value = from; value < to; ++value) all.push_back(value);
        return all;
    }
    static void turns(Loop& loop, int count = 4) {
        for (int turn = 0; turn < count; ++turn) EXPECT_FALSE(loop.poll());
    }
};
WHORL_CONFORMANCE(MailboxTest);

TEST_P(MailboxTest, capacity_has_limits) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const std::uint32_t wrong : {0u, (1u << 24) + 1}) {
        EXPECT_EQ(Mailbox<int>::create(loop, wrong).error(), Error::invalid_argument);
    }
    const MailSender<int> nobody;
    EXPECT_FALSE(nobody);
    EXPECT_TRUE(nobody.closed());
    EXPECT_EQ(nobody.send(1), Error::channel_closed);
}

TEST_P(MailboxTest, messages_of_all_senders_arrive_in_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Mailbox<Number> mailbox = make_mailbox(loop, 16);
    Log log;
    ASSERT_TRUE(loop.submit(ReceiveMail{mailbox}, &log));
    const MailSender<Number> one = mailbox.sender();
    const MailSender<Number> other = one;
    for (int value = 0; value < 10; value += 2) {
        EXPECT_FALSE(one.send(number(value)));
        EXPECT_FALSE(other.send(number(value + 1)));
    }
    EXPECT_TRUE(log.got.empty()) << "never inside the call";
    turns(loop);
    EXPECT_EQ(log.got, numbers(0, 10));
    EXPECT_EQ(loop.statistics().remote_wakes, 0u) << "an awake loop needs no wake-up";
    mailbox.close();
    EXPECT_EQ(log.ends, 0) << "never inside the call";
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.ends, 1);
    EXPECT_EQ(log.error, Error::channel_closed);
    expect_clean(loop);
}

TEST_P(MailboxTest, full_hands_the_message_back) {
    WHORL_SKIP_IF_REFUSED();
    for (const int capacity : {1, 3, 64}) {
        Loop loop = make_loop();
        Mailbox<Number> mailbox = make_mailbox(loop, static_cast<std::uint32_t>(capacity));
        const MailSender<Number> sender = mailbox.sender();
        for (int round = 0; round < 3; ++round) {
            Log log;
            for (int value = 0; value < capacity; ++value) {
                EXPECT_FALSE(sender.send(number(value)));
            }
            Number more = number(capacity);
            EXPECT_EQ(sender.send(std::move(more)), Error::queue_full);
            ASSERT_NE(more, nullptr) << "it was not taken";
            if (round == 1)
                turns(loop);  // what has come, and was not received, has its place still
            EXPECT_EQ(sender.send(std::move(more)), Error::queue_full);
            Result<Operation> receiving = loop.submit(ReceiveMail{mailbox}, &log);
            ASSERT_TRUE(receiving);
            turns(loop);
            EXPECT_FALSE(sender.send(std::move(more)));
            turns(loop);
            EXPECT_EQ(log.got, numbers(0, capacity + 1));
            EXPECT_EQ(loop.cancel(*receiving), Cancelled::cancelling);
            EXPECT_FALSE(loop.run());
            EXPECT_EQ(log.error, Error::cancelled);
        }
        expect_clean(loop);
    }
}

TEST_P(MailboxTest, cancelled_or_late_it_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Mailbox<Number> mailbox = make_mailbox(loop, 64);
    const MailSender<Number> sender = mailbox.sender();
    Log log;
    Result<Operation> first = loop.submit(ReceiveMail{mailbox}, &log);
    ASSERT_TRUE(first);
    for (int value = 0; value < 3; ++value) EXPECT_FALSE(sender.send(number(value)));
    EXPECT_EQ(loop.cancel(*first), Cancelled::cancelling);
    turns(loop);
    EXPECT_TRUE(log.got.empty());
    EXPECT_EQ(log.error, Error::cancelled);
    EXPECT_EQ(**mailbox.take(), 0);
    ASSERT_TRUE(loop.submit(ReceiveMail{mailbox}, within(1ms), &log));
    for (int value = 3; value < 6; ++value) EXPECT_FALSE(sender.send(number(value)));
    run_until(loop, [&log] { return log.ends == 2; });
    EXPECT_EQ(log.error, Error::timed_out);
    // A machine that is held up may have had the deadline first.
    while (std::optional<Number> left = mailbox.take()) log.got.push_back(**left);
    EXPECT_EQ(log.got, numbers(1, 6));
    EXPECT_FALSE(mailbox.take());
    expect_clean(loop);
}

TEST_P(MailboxTest, one_receives_at_a_time_and_on_its_own_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Loop stranger = make_loop();
    Mailbox<Number> mailbox = make_mailbox(loop, 4);
    Log log;
    EXPECT_EQ(stranger.submit(ReceiveMail{mailbox}, &log).error(), Error::invalid_argument);
    ASSERT_TRUE(loop.submit(ReceiveMail{mailbox}, &log));
    EXPECT_EQ(loop.submit(ReceiveMail{mailbox}, &log).error(), Error::invalid_argument);
    EXPECT_FALSE(loop.drain(10s));
    EXPECT_EQ(log.error, Error::cancelled);
    EXPECT_FALSE(mailbox.sender().send(number(1)));
    ASSERT_TRUE(loop.submit(ReceiveMail{mailbox}, &log)) << "usable again";
    turns(loop);
    EXPECT_EQ(log.got.size(), 1u);
    mailbox.close();
    EXPECT_EQ(loop.submit(ReceiveMail{mailbox}, &log).error(), Error::invalid_argument);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.ends, 2);
}

TEST_P(MailboxTest, a_turn_delivers_a_bounded_number) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_per_turn = 4; });
    Mailbox<Number> mailbox = make_mailbox(loop, 256);
    const MailSender<Number> sender = mailbox.sender();
    for (const bool before : {true, false}) {
        Log log;
        Result<Operation> receiving = Error(Error::cancelled);
        if (!before) receiving = loop.submit(ReceiveMail{mailbox}, &log);
        for (int value = 0; value < 100; ++value) EXPECT_FALSE(sender.send(number(value)));
        if (before) turns(loop, 50);
        if (before) receiving = loop.submit(ReceiveMail{mailbox}, &log);
        ASSERT_TRUE(receiving);
        std::size_t seen = 0;
        for (int turn = 0; turn < 200 && seen < 100; ++turn) {
            EXPECT_FALSE(loop.poll());
            EXPECT_LE(log.got.size(), seen + 4);
            seen = log.got.size();
        }
        EXPECT_EQ(log.got, numbers(0, 100));
        loop.cancel(*receiving);
        EXPECT_FALSE(loop.run());
    }
}

// The handler ends what calls it, and what it receives from.
TEST_P(MailboxTest, a_handler_may_cancel_and_close_and_destroy) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const bool closes : {false, true}) {
        auto mailbox = std::make_unique<Mailbox<Number>>(make_mailbox(loop, 8));
        const MailSender<Number> sender = mailbox->sender();
        const Witness witness;
        Operation operation;
        int got = 0;
        Error error;
        auto handler = [&, held = witness.copy()](Loop&, ReceiveMail<Number>::Done done) {
            if (!done.more) {
                error = done.error;
                return;
            }
            ++got;
            if (closes) mailbox.reset();
            else loop.cancel(operation);
        };
        Result<Operation> receiving = loop.submit(ReceiveMail{*mailbox}, boxed(std::move(handler)));
        ASSERT_TRUE(receiving);
        operation = *receiving;
        for (int value = 0; value < 5; ++value) EXPECT_FALSE(sender.send(number(value)));
        EXPECT_FALSE(loop.run());
        EXPECT_EQ(got, 1);
        EXPECT_TRUE(witness.alone());
        EXPECT_EQ(error, closes ? Error::channel_closed : Error::cancelled);
        EXPECT_EQ(sender.closed(), closes);
        turns(loop);
        if (!closes) {
            for (int value = 1; value < 5; ++value) EXPECT_EQ(**mailbox->take(), value);
        }
    }
    expect_clean(loop);
}

TEST_P(MailboxTest, what_nobody_receives_is_destroyed) {
    WHORL_SKIP_IF_REFUSED();
    using Held = std::shared_ptr<int>;
    const Witness witness;
    const auto fill = [&witness](const MailSender<Held>& sender, Loop& loop) {
        EXPECT_FALSE(sender.send(witness.copy()));
        EXPECT_FALSE(sender.send(witness.copy()));
        turns(loop);                                // these have come
        EXPECT_FALSE(sender.send(witness.copy()));  // this is on its way
        EXPECT_EQ(witness.others(), 3);
    };
    {
        Loop loop = make_loop();
        Mailbox<Held> mailbox = make_mailbox<Held>(loop, 8);
        const MailSender<Held> sender = mailbox.sender();
        fill(sender, loop);
        mailbox.close();
        EXPECT_TRUE(sender.closed());
        EXPECT_EQ(witness.others(), 1) << "on its way still";
        Held back = witness.copy();
        EXPECT_EQ(sender.send(std::move(back)), Error::channel_closed);
        EXPECT_NE(back, nullptr);
        back.reset();
        turns(loop);
        EXPECT_TRUE(witness.alone());
    }
    // The loop goes first: with it what was on its way, with the mailbox what had come.
    std::optional<Loop> loop(make_loop());
    Mailbox<Held> mailbox = make_mailbox<Held>(*loop, 8);
    const MailSender<Held> sender = mailbox.sender();
    fill(sender, *loop);
    ASSERT_TRUE(loop->submit(ReceiveMail{mailbox}, [](Loop&, ReceiveMail<Held>::Done) {
        ADD_FAILURE() << "the loop's end calls no handler";
    }));
    loop.reset();
    EXPECT_EQ(witness.others(), 2);
    EXPECT_TRUE(sender.closed());
    Held back = witness.copy();
    EXPECT_EQ(sender.send(std::move(back)), Error::channel_closed);
    EXPECT_NE(back, nullptr) << "handed back";
    back.reset();
    loop.emplace(make_loop());  // likely where the other one was
    ASSERT_TRUE(loop->remote());
    EXPECT_EQ(loop->submit(ReceiveMail{mailbox}, [](Loop&, ReceiveMail<Held>::Done) {}).error(),
              Error::invalid_argument);
    mailbox.close();
    EXPECT_TRUE(witness.alone());
}

// A handler that owns the mailbox goes with its loop.
TEST_P(MailboxTest, it_may_be_destroyed_by_its_loops_end) {
    WHORL_SKIP_IF_REFUSED();
    MailSender<Number> sender;
    {
        Loop loop = make_loop();
        auto mailbox = std::make_unique<Mailbox<Number>>(make_mailbox(loop, 8));
        sender = mailbox->sender();
        Mailbox<Number>& same = *mailbox;
        ASSERT_TRUE(loop.submit(ReceiveMail{same},
                                [owned = std::move(mailbox)](Loop&, ReceiveMail<Number>::Done) {}));
        EXPECT_FALSE(sender.send(number(1)));
    }
    EXPECT_TRUE(sender.closed());
}

// --- threads

constexpr int senders = 4;

struct Stamped {
    int from;
    std::uint64_t number;
};

class MailboxStress : public MailboxTest {
  protected:
    static std::uint64_t each() {
        if (GetParam().world) return scaled(2'000);  // its threads take turns
        const std::string name = GetParam().name;
        return scaled(name == "io_uring" || name == "libev" ? 100'000 : 10'000);
    }
    // What has come from each; the loop's.
    struct Arrived {
        std::array<std::uint64_t, senders> next{};
        std::uint64_t total = 0;
        std::uint64_t wrong = 0;
        void note(const Stamped& message) {
            std::uint64_t& expected = next[static_cast<std::size_t>(message.from)];
            if (message.number != expected++) ++wrong;
            ++total;
        }
    };
    static void send(const MailSender<Stamped>& to, int from, std::uint64_t number) {
        for (;;) {
            const Error error = to.send(Stamped{from, number});
            if (!error) return;
            ASSERT_EQ(error, Error::queue_full);
            os::give_turn();
        }
    }
};
WHORL_CONFORMANCE(MailboxStress);

TEST_P(MailboxStress, four_threads_lose_nothing_on_a_busy_loop) {
    WHORL_SKIP_IF_REFUSED();
    for (const std::uint32_t capacity : {1u, 64u, 4096u}) {
        Loop loop = make_loop();
        Mailbox<Stamped> mailbox = make_mailbox<Stamped>(loop, capacity);
        const std::uint64_t count = capacity == 1 ? each() / 10 : each();
        Arrived arrived;
        ASSERT_TRUE(loop.submit(ReceiveMail{mailbox}, [&](Loop&, ReceiveMail<Stamped>::Done done) {
            if (done.message) arrived.note(*done.message);
            if (arrived.total == count * senders) mailbox.close();
        }));
        std::vector<os::Thread> threads;
        for (int from = 0; from < senders; ++from) {
            threads.emplace_back([to = mailbox.sender(), from, count] {
                for (std::uint64_t next = 0; next < count; ++next) send(to, from, next);
            });
        }
        EXPECT_FALSE(loop.run());
        for (os::Thread& thread : threads) thread.join();
        EXPECT_EQ(arrived.total, count * senders);
        EXPECT_EQ(arrived.wrong, 0u);
        EXPECT_LE(loop.statistics().remote_wakes, loop.statistics().turns) << "once for each sleep";
        expect_clean(loop);
    }
}

// Each thread sends a few and waits until they have come, so the loop falls asleep over and over again. A
// wake-up that is lost hangs the test, which the time limit ends.
TEST_P(MailboxStress, four_threads_lose_nothing_on_a_loop_that_falls_asleep) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Mailbox<Stamped> mailbox = make_mailbox<Stamped>(loop, 8);
    const std::uint64_t count = each() / 10 + 1;
    Arrived arrived;
    std::array<std::atomic<std::uint64_t>, senders> come{};
    ASSERT_TRUE(loop.submit(ReceiveMail{mailbox}, [&](Loop&, ReceiveMail<Stamped>::Done done) {
        if (!done.message) return;
        arrived.note(*done.message);
        come[static_cast<std::size_t>(done.message->from)].store(done.message->number + 1,
                                                                 std::memory_order_release);
        if (arrived.total == count * senders) mailbox.close();
    }));
    std::vector<os::Thread> threads;
    for (int from = 0; from < senders; ++from) {
        threads.emplace_back(
            [to = mailbox.sender(), from, count, &seen = come[static_cast<std::size_t>(from)]] {
                for (std::uint64_t next = 0; next < count; ++next) {
                    send(to, from, next);
                    if (next % 3 != 0) continue;
                    os::await([&] { return seen.load(std::memory_order_acquire) == next + 1; });
                }
            });
    }
    EXPECT_FALSE(loop.run());
    for (os::Thread& thread : threads) thread.join();
    EXPECT_EQ(arrived.total, count * senders);
    EXPECT_EQ(arrived.wrong, 0u);
    EXPECT_LE(loop.statistics().remote_wakes, loop.statistics().turns) << "once for each sleep";
    expect_clean(loop);
}

// Counts those that are alive.
class Counted {
  public:
    explicit Counted(std::atomic<std::int64_t>& live) : live_(&live) { ++*live_; }
    Counted(Counted&& other) noexcept : live_(other.live_) { ++*live_; }
    Counted& operator=(Counted&& other) noexcept {
        EXPECT_EQ(live_, other.live_);
        return *this;
    }
    ~Counted() { --*live_; }

  private:
    std::atomic<std::int64_t>* live_;
};

TEST_P(MailboxStress, the_mailbox_or_its_loop_goes_while_four_threads_send) {
    WHORL_SKIP_IF_REFUSED();
    for (std::uint64_t round = 0; round < scaled(10) + 6; ++round) {
        std::atomic<std::int64_t> live{0};
        std::atomic<std::uint64_t> sent{0};
        std::uint64_t got = 0;
        std::vector<os::Thread> threads;
        {
            std::optional<Loop> loop(make_loop());
            Mailbox<Counted> mailbox = make_mailbox<Counted>(*loop, 16);
            ASSERT_TRUE(loop->submit(
                ReceiveMail{mailbox},
                [&got](Loop&, ReceiveMail<Counted>::Done done) { got += done.more ? 1 : 0; }));
            for (int from = 0; from < senders; ++from) {
                threads.emplace_back([&live, &sent, to = mailbox.sender()] {
                    for (;;) {
                        const Error error = to.send(Counted(live));
                        if (error == Error::channel_closed) break;
                        if (!error) ++sent;
                        os::give_turn();
                    }
                    EXPECT_TRUE(to.closed());
                });
            }
            while (sent < 20) ASSERT_FALSE(loop->poll());
            if (round % 2 == 0) mailbox.close();
            loop.reset();
        }
        for (os::Thread& thread : threads) thread.join();
        EXPECT_EQ(live, 0) << "a message was lost";
        EXPECT_LE(got, sent);
        if (HasFailure()) break;
    }
}

}  // namespace
}  // namespace whorl::conformance
