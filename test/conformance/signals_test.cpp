// SPDX-License-Identifier: MIT
// Goal: signals come as completions, each to one set, none lost between two operations, and the thread's
// mask is again what it was when the last set has gone. Method: signals sent to the process, queued with
// values, and to threads; sets of one loop and of two; a real handler to see what is left over.
#include "conformance/contract.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <csignal>

namespace whorl::conformance {
namespace {

constexpr int queued_signal = 40;  // a real-time one

struct Heard {
    std::vector<SignalInfo> signals;
    int finals = 0;
    Error error;
};

auto into_heard(Heard& heard) {
    return [&heard](Loop&, auto done) {
        EXPECT_EQ(heard.finals, 0) << "nothing follows the final completion";
        bool more = false;
        if constexpr (HasMore<decltype(done)>::value) more = done.more;
        if (done.signal.number != 0) heard.signals.push_back(done.signal);
        if (more) return;
        heard.error = done.error;
        ++heard.finals;
    };
}

class SignalTest : public TcpTools {
  protected:
    static Signals open(Loop& loop, const SignalSet& set) {
        const Result<Signals> made = open_signals(loop, set);
        EXPECT_TRUE(made) << made.error().text();
        return made ? *made : Signals();
    }
    static SignalInfo wait_for(Loop& loop, Signals signals) {
        Heard heard;
        EXPECT_TRUE(loop.submit(WaitSignal{signals}, into_heard(heard)));
        run_until(loop, [&] { return heard.finals == 1; });
        EXPECT_FALSE(heard.error) << heard.error.text();
        return heard.signals.empty() ? SignalInfo() : heard.signals.front();
    }
    static void close_signals(Loop& loop, Signals signals) {
        bool closed = false;
        EXPECT_FALSE(loop.close(signals, [&](Loop&) { closed = true; }));
        run_until(loop, [&] { return closed; });
    }
    static bool is_blocked(int number) {
        sigset_t set;
        pthread_sigmask(SIG_SETMASK, nullptr, &set);
        return sigismember(&set, number) == 1;
    }
};

class SignalBasic : public SignalTest {};
WHORL_CONFORMANCE(SignalBasic);
// Masks, dispositions, threads and RLIMIT_NOFILE are the machine's.
class SignalMask : public SignalTest {};
WHORL_CONFORMANCE_REAL(SignalMask);

TEST_P(SignalBasic, one_comes_with_its_sender) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGUSR1, queued_signal});
    Heard heard;
    ASSERT_TRUE(loop.submit(WaitSignal{signals}, into_heard(heard)));
    turns(loop, 3);
    EXPECT_EQ(heard.finals, 0);
    os::send_signal(SIGUSR1);
    run_until(loop, [&] { return heard.finals == 1; });
    EXPECT_FALSE(heard.error);
    ASSERT_EQ(heard.signals.size(), 1u);
    EXPECT_EQ(heard.signals[0].number, SIGUSR1);
    EXPECT_EQ(heard.signals[0].code, SI_USER);
    EXPECT_EQ(heard.signals[0].pid, os::own_pid());
    EXPECT_EQ(heard.signals[0].uid, ::getuid());
    os::queue_signal(queued_signal, 77);
    const SignalInfo queued = wait_for(loop, signals);
    EXPECT_EQ(queued.number, queued_signal);
    EXPECT_EQ(queued.code, SI_QUEUE);
    EXPECT_EQ(queued.value, 77);
    close_signals(loop, signals);
    expect_clean(loop);
}

TEST_P(SignalBasic, none_is_lost_while_nobody_waits) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGTERM, SIGINT});
    os::send_signal(SIGTERM);
    os::send_signal(SIGINT);
    turns(loop, 3);
    EXPECT_EQ(wait_for(loop, signals).number, SIGINT) << "the lowest first";
    EXPECT_EQ(wait_for(loop, signals).number, SIGTERM);
    close_signals(loop, signals);
    expect_clean(loop);
}

TEST_P(SignalBasic, a_stream_collapses_the_same_and_queues_the_real_time_ones) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGUSR1, queued_signal});
    Heard heard;
    const Operation stream = *loop.submit(SignalStream{signals}, into_heard(heard));
    for (int count = 0; count < 5; ++count) os::send_signal(SIGUSR1);
    run_until(loop, [&] { return heard.signals.size() == 1; });
    turns(loop, 3);
    EXPECT_EQ(heard.signals.size(), 1u) << "five of the same are one";
    os::send_signal(SIGUSR1);
    run_until(loop, [&] { return heard.signals.size() == 2; });
    heard.signals.clear();
    const int count = static_cast<int>(scaled(500));
    for (int value = 0; value < count; ++value) os::queue_signal(queued_signal, value);
    run_until(loop, [&] { return heard.signals.size() == static_cast<std::size_t>(count); });
    for (int value = 0; value < count; ++value) {
        EXPECT_EQ(heard.signals[static_cast<std::size_t>(value)].value, value) << "in order";
    }
    EXPECT_EQ(heard.finals, 0);
    EXPECT_EQ(loop.cancel(stream), Cancelled::cancelling);
    run_until(loop, [&] { return heard.finals == 1; });
    EXPECT_EQ(heard.error, Error::cancelled);
    EXPECT_EQ(heard.signals.size(), static_cast<std::size_t>(count)) << "its end carries none";
    close_signals(loop, signals);
    expect_clean(loop);
}

// Of two loops, and of two sets of one loop, one gets it.
TEST_P(SignalBasic, each_goes_to_exactly_one_set) {
    WHORL_SKIP_IF_REFUSED();
    Loop first = make_loop(), second = make_loop();
    const Signals sets[] = {open(first, {SIGUSR1, SIGUSR2}), open(first, {SIGUSR1}),
                            open(second, {SIGUSR1, SIGINT})};
    Heard heard[3];
    ASSERT_TRUE(first.submit(SignalStream{sets[0]}, into_heard(heard[0])));
    ASSERT_TRUE(first.submit(SignalStream{sets[1]}, into_heard(heard[1])));
    ASSERT_TRUE(second.submit(SignalStream{sets[2]}, into_heard(heard[2])));
    const auto count = [&] {
        return heard[0].signals.size() + heard[1].signals.size() + heard[2].signals.size();
    };
    for (std::size_t sent = 1; sent <= 20; ++sent) {
        os::send_signal(SIGUSR1);
        const Instant end = os::now() + 10s;
        while (count() < sent && os::now() < end) {
            turns(first, 1);
            turns(second, 1);
        }
        turns(first, 2);
        turns(second, 2);
        ASSERT_EQ(count(), sent);
    }
    const std::size_t others = heard[0].signals.size() + heard[1].signals.size();
    os::send_signal(SIGINT);
    run_until(second, [&] { return count() == 21; });
    EXPECT_EQ(heard[2].signals.back().number, SIGINT) << "only this one has it";
    close_signals(second, sets[2]);
    EXPECT_EQ(heard[2].error, Error::cancelled);
    os::send_signal(SIGUSR1);
    run_until(first, [&] { return heard[0].signals.size() + heard[1].signals.size() > others; });
    close_signals(first, sets[0]);
    close_signals(first, sets[1]);
    expect_clean(first);
    expect_clean(second);
}

TEST_P(SignalBasic, the_operations_keep_the_contract) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals waited = open(loop, {SIGUSR1});
    Contract wait(loop, [&] { return WaitSignal{waited}; });
    wait.cancelled_in_every_way();
    wait.closed_under(waited);
    const Signals streamed = open(loop, {SIGUSR1});
    Contract stream(loop, [&] { return SignalStream{streamed}; });
    stream.cancelled_in_every_way();
    stream.closed_under(streamed);
    expect_clean(loop);
}

TEST_P(SignalBasic, the_loop_may_be_destroyed_under_them) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    {
        Loop loop = make_loop();
        const Signals signals = open(loop, {SIGUSR1});
        Contract(loop, [&] { return WaitSignal{signals}; }).left_pending(witness.copy());
        const Signals others = open(loop, {SIGUSR1});
        Contract(loop, [&] { return SignalStream{others}; }).left_pending(witness.copy());
    }
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(is_blocked(SIGUSR1));
}

// What a cancel comes too late for is delivered, and what it comes in time for stays for the next.
TEST_P(SignalBasic, a_cancel_loses_no_signal) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGUSR1});
    for (int rounds = 0; rounds < 4; ++rounds) {
        Heard heard;
        const Operation operation = *loop.submit(WaitSignal{signals}, into_heard(heard));
        turns(loop, 2);
        os::send_signal(SIGUSR1);
        for (int turn = 0; turn < rounds; ++turn) {
            if (heard.finals == 0) turns(loop, 1);
        }
        static_cast<void>(loop.cancel(operation));
        run_until(loop, [&] { return heard.finals == 1; });
        if (heard.error) {
            EXPECT_EQ(heard.error, Error::cancelled);
            EXPECT_TRUE(heard.signals.empty());
            EXPECT_EQ(wait_for(loop, signals).number, SIGUSR1);
        } else {
            EXPECT_EQ(heard.signals.size(), 1u);
        }
        // Complete, and not yet told.
        Heard late;
        Result<Operation> other = Operation();
        os::send_signal(SIGUSR1);
        other = loop.submit(WaitSignal{signals}, into_heard(late));
        ASSERT_TRUE(loop.after(0ns, [](Loop&, Expired) {}));
        run_until(loop, [&] { return late.finals == 1; });
        EXPECT_EQ(loop.cancel(*other), Cancelled::not_found);
    }
    close_signals(loop, signals);
    expect_clean(loop);
}

TEST_P(SignalBasic, sets_that_cannot_be) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.handles_max = 258; });
    const SignalSet wrong[] = {{},        {0},       {65},     {-1},         {SIGKILL},
                               {SIGSTOP}, {SIGSEGV}, {SIGBUS}, {SIGILL},     {SIGFPE},
                               {SIGTRAP}, {SIGSYS},  {32},     {SIGTERM, 33}};
    for (const SignalSet& set : wrong) {
        EXPECT_EQ(open_signals(loop, set).error(), Error::invalid_argument);
    }
    EXPECT_FALSE(is_blocked(SIGTERM)) << "a refused set blocks nothing";
    std::vector<Signals> sets;
    for (;;) {
        const Result<Signals> made = open_signals(loop, {SIGUSR1});
        if (!made) {
            const bool here = GetParam().world.has_value();
            EXPECT_EQ(made.error(),
                      here ? Error(Error::slots_exhausted) : Error::from_errno(ENOSPC));
            break;
        }
        sets.push_back(*made);
    }
    EXPECT_EQ(sets.size(), GetParam().world ? 258u : 256u);
    for (const Signals each : sets) EXPECT_FALSE(loop.close(each));
    EXPECT_FALSE(is_blocked(SIGUSR1));
    bool refused = false;
    const Signals last = open(loop, {SIGUSR1});
    ASSERT_TRUE(loop.submit(WaitSignal{last}, [&](Loop& inside, WaitSignal::Done) {
        refused = open_signals(inside, {SIGUSR2}).error() == Error::loop_closed;
    }));
    EXPECT_FALSE(loop.drain(1s));
    EXPECT_TRUE(refused);
    EXPECT_EQ(loop.submit(WaitSignal{last}, [](Loop&, WaitSignal::Done) {}).error(),
              Error::stale_handle);
    expect_clean(loop);
}

TEST_P(SignalMask, no_descriptor_is_left_for_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    rlimit before{};
    os::getrlimit(RLIMIT_NOFILE, &before);
    const rlimit none{3, before.rlim_max};  // 0 to 2 are in use
    os::setrlimit(RLIMIT_NOFILE, &none);
    const Error error = open_signals(loop, {SIGUSR1}).error();
    os::setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(error, Error::from_errno(EMFILE));
    EXPECT_FALSE(is_blocked(SIGUSR1));
    EXPECT_EQ(loop.statistics().handles, 0u);
}

TEST_P(SignalMask, the_last_set_gives_the_mask_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop(), other = make_loop();
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &own, nullptr);
    const Signals first = open(loop, {SIGUSR1, SIGUSR2});
    const Signals second = open(other, {SIGUSR1, SIGTERM});
    for (const int number : {SIGUSR1, SIGUSR2, SIGTERM}) EXPECT_TRUE(is_blocked(number));
    EXPECT_FALSE(is_blocked(SIGINT));
    close_signals(loop, first);
    EXPECT_TRUE(is_blocked(SIGUSR1)) << "the other loop's set still has it";
    close_signals(other, second);
    EXPECT_FALSE(is_blocked(SIGUSR1));
    EXPECT_FALSE(is_blocked(SIGTERM));
    EXPECT_TRUE(is_blocked(SIGUSR2)) << "was blocked before";
    pthread_sigmask(SIG_UNBLOCK, &own, nullptr);
}

volatile sig_atomic_t handled = 0;

TEST_P(SignalMask, what_nobody_took_does_what_it_would_have_done) {
    WHORL_SKIP_IF_REFUSED();
    struct sigaction action {};
    struct sigaction before {};
    action.sa_handler = [](int) { handled = handled + 1; };
    ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
    handled = 0;
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGUSR1});
    os::send_signal(SIGUSR1);
    turns(loop, 2);
    EXPECT_EQ(wait_for(loop, signals).number, SIGUSR1);
    EXPECT_EQ(handled, 0) << "no handler while a set is open";
    os::send_signal(SIGUSR1);
    EXPECT_EQ(handled, 0);
    close_signals(loop, signals);
    EXPECT_EQ(handled, 1) << "it was pending when it was unblocked";
    sigaction(SIGUSR1, &before, nullptr);
}

// An ignored signal is not ignored while it is blocked.
TEST_P(SignalMask, an_ignored_signal_is_taken) {
    WHORL_SKIP_IF_REFUSED();
    const auto before = ::signal(SIGHUP, SIG_IGN);
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGHUP});
    os::send_signal(SIGHUP);
    EXPECT_EQ(wait_for(loop, signals).number, SIGHUP);
    close_signals(loop, signals);
    ::signal(SIGHUP, before);
}

TEST_P(SignalMask, one_sent_to_a_thread_goes_to_the_loop_on_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGUSR1});
    Heard heard, elsewhere;
    const pthread_t here = pthread_self();
    ASSERT_TRUE(loop.submit(WaitSignal{signals}, into_heard(heard)));
    turns(loop, 1);
    os::Thread thread([&] {
        Loop own = make_loop();
        const Signals same = open(own, {SIGUSR1});
        ASSERT_TRUE(own.submit(WaitSignal{same}, into_heard(elsewhere)));
        EXPECT_FALSE(own.poll());
        pthread_kill(here, SIGUSR1);
        turns(own, 3);
        EXPECT_EQ(elsewhere.finals, 0) << "it is not this thread's";
        ::raise(SIGUSR1);
        run_until(own, [&] { return elsewhere.finals == 1; });
        EXPECT_EQ(elsewhere.signals.front().code, SI_TKILL);
    });
    thread.join();
    EXPECT_EQ(heard.finals, 0);
    run_until(loop, [&] { return heard.finals == 1; });
    EXPECT_EQ(heard.signals.front().code, SI_TKILL);
    close_signals(loop, signals);
}

// A loop that ran on another thread cannot change the mask there, and does not change its own.
TEST_P(SignalMask, a_set_closed_by_another_thread_leaves_the_mask) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGUSR1});
    sigset_t own;
    sigemptyset(&own);
    sigaddset(&own, SIGUSR1);
    os::Thread thread([&] {
        EXPECT_TRUE(is_blocked(SIGUSR1)) << "inherited";
        EXPECT_FALSE(loop.close(signals));
        EXPECT_FALSE(loop.poll());
        EXPECT_TRUE(is_blocked(SIGUSR1));
    });
    thread.join();
    EXPECT_TRUE(is_blocked(SIGUSR1));
    pthread_sigmask(SIG_UNBLOCK, &own, nullptr);
    os::Thread last([moved = std::make_shared<Loop>(std::move(loop))] {});
    last.join();
}

TEST_P(SignalMask, a_signal_ends_a_wait_that_has_no_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals signals = open(loop, {SIGUSR1});
    Heard heard;
    ASSERT_TRUE(loop.submit(WaitSignal{signals}, into_heard(heard)));
    const pid_t self = ::getpid();
    os::Thread thread([self] { ::kill(self, SIGUSR1); });
    EXPECT_FALSE(loop.run()) << "until nothing is left";
    EXPECT_EQ(heard.finals, 1);
    thread.join();
    close_signals(loop, signals);
}

}  // namespace
}  // namespace whorl::conformance
