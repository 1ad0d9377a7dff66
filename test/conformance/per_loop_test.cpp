// SPDX-License-Identifier: MIT
// Goal: each loop has its own object, made and destroyed on its thread and found only there; and what has a
// home is destroyed there, whoever lets go. Method: objects that write down where they end, on one thread by
// hand and on threads of their own.
#include "conformance/support.hpp"

#include <whorl/core_set.hpp>
#include <whorl/event.hpp>
#include <whorl/home_ptr.hpp>
#include <whorl/mailbox.hpp>
#include <whorl/per_loop.hpp>
#include <whorl/scope.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <thread>

namespace whorl::conformance {
namespace {

// Ends on the thread that it was made on, or says so.
class Resident {
  public:
    Resident(std::string* log, char name) : log_(log), name_(name) {}
    Resident(const Resident&) = delete;
    Resident& operator=(const Resident&) = delete;
    ~Resident() {
        EXPECT_EQ(thread_, std::this_thread::get_id());
        *log_ += name_;
    }
    char name() const { return name_; }

  private:
    std::string* log_;
    char name_;
    std::thread::id thread_ = std::this_thread::get_id();
};

class PerLoopTest : public LoopTest {
  protected:
    static auto resident(std::string& log, char name) {
        return [&log, name](Loop&) { return Resident(&log, name); };
    }
    static void turns(Loop& loop) {
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
    }
};
WHORL_CONFORMANCE(PerLoopTest);

TEST_P(PerLoopTest, each_loop_has_its_own) {
    WHORL_SKIP_IF_REFUSED();
    std::string log;
    {
        const PerLoop<Resident> residents;
        const PerLoop<int> numbers;
        Loop one = make_loop();
        Loop other = make_loop();
        EXPECT_EQ(residents.find(one), nullptr);
        EXPECT_FALSE(residents.make(one, resident(log, 'a')));
        EXPECT_FALSE(residents.make(other, resident(log, 'b')));
        EXPECT_FALSE(numbers.make(one, [](Loop&) { return 7; }));
        EXPECT_EQ(residents.at(one).name(), 'a');
        EXPECT_EQ(residents.at(other).name(), 'b');
        EXPECT_EQ(numbers.at(one), 7);
        EXPECT_EQ(numbers.find(other), nullptr);
        EXPECT_EQ(residents.make(one, resident(log, 'c')), Error::invalid_argument);
        Loop moved = std::move(one);
        EXPECT_EQ(residents.at(moved).name(), 'a') << "it is the same loop";
        EXPECT_FALSE(moved.drain(1s));
        EXPECT_EQ(log, "") << "drained, it can be used again";
        residents.destroy(moved);
        EXPECT_EQ(log, "a");
        residents.destroy(moved);
        EXPECT_EQ(residents.find(moved), nullptr);
        EXPECT_FALSE(residents.make(moved, resident(log, 'd')));
        EXPECT_EQ(residents.at(moved).name(), 'd');
        EXPECT_EQ(numbers.at(moved), 7);
    }
    EXPECT_EQ(log, "adb") << "with their loops";
}

TEST_P(PerLoopTest, objects_outlive_handlers_and_end_the_newest_first) {
    WHORL_SKIP_IF_REFUSED();
    std::string log;
    struct Service {
        Service(Loop& loop, std::string& given)
            : log(given), scope(loop), mail(*Mailbox<int>::create(loop, 4)) {}
        ~Service() { log += 's'; }
        std::string& log;
        Event event;
        Scope scope;  // must outlive its operations
        Mailbox<int> mail;
    };
    MailSender<int> sender;
    {
        const PerLoop<Resident> residents;
        const PerLoop<Service> services;
        Loop loop = make_loop();
        EXPECT_FALSE(residents.make(loop, resident(log, 'r')));
        EXPECT_FALSE(services.make(loop, [&log](Loop& own) { return Service(own, log); }));
        Service& service = services.at(loop);
        ASSERT_TRUE(
            service.scope.submit(AwaitEvent{service.event}, [](Loop&, AwaitEvent::Done) {}));
        ASSERT_TRUE(loop.submit(ReceiveMail{service.mail}, [](Loop&, ReceiveMail<int>::Done) {}));
        sender = service.mail.sender();
        EXPECT_FALSE(sender.send(1));
    }
    EXPECT_TRUE(sender.closed());
    EXPECT_EQ(log, "sr");
}

TEST_P(PerLoopTest, objects_may_outlive_what_names_them_and_are_not_taken_for_others) {
    WHORL_SKIP_IF_REFUSED();
    std::string log;
    {
        Loop loop = make_loop();
        {
            const PerLoop<Resident> first;
            EXPECT_FALSE(first.make(loop, resident(log, 'a')));
        }
        const PerLoop<Resident> second;
        EXPECT_EQ(second.find(loop), nullptr);
        EXPECT_FALSE(second.make(loop, resident(log, 'b')));
        EXPECT_EQ(log, "");
    }
    EXPECT_EQ(log, "ba");
}

TEST_P(PerLoopTest, there_is_a_limit_and_it_is_given_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 2; ++round) {
        std::vector<std::unique_ptr<PerLoop<int>>> all;
        for (std::uint32_t made = 0; made < detail::local_keys_max; ++made) {
            all.push_back(std::make_unique<PerLoop<int>>());
            const int value = static_cast<int>(made);
            EXPECT_FALSE(all.back()->make(loop, [value](Loop&) { return value; }));
        }
        const PerLoop<int> more;
        EXPECT_EQ(more.make(loop, [](Loop&) { return 1; }), Error::slots_exhausted);
        EXPECT_EQ(more.find(loop), nullptr);
        for (std::uint32_t made = 0; made < detail::local_keys_max; ++made) {
            EXPECT_EQ(all[made]->at(loop), static_cast<int>(made));
            all[made]->destroy(loop);
        }
    }
}

TEST_P(PerLoopTest, threads_do_not_meet) {
    WHORL_SKIP_IF_REFUSED();
    constexpr int count = 3;
    const PerLoop<Resident> residents;
    std::array<std::string, count> logs;
    std::vector<os::Thread> threads;
    for (int index = 0; index < count; ++index) {
        threads.emplace_back([&residents, &log = logs[static_cast<std::size_t>(index)]] {
            Result<Loop> made = Loop::create(options_here());
            ASSERT_TRUE(made);
            Loop& loop = *made;
            ASSERT_FALSE(residents.make(loop, resident(log, 'x')));
            for (int round = 0; round < 100; ++round) {
                ASSERT_FALSE(
                    loop.post([&](Loop& own) { EXPECT_EQ(residents.at(own).name(), 'x'); }));
                ASSERT_FALSE(loop.run());
                const PerLoop<int> brief;  // keys come and go beside it
                ASSERT_FALSE(brief.make(loop, [round](Loop&) { return round; }));
                EXPECT_EQ(brief.at(loop), round);
                brief.destroy(loop);
                os::give_turn();
            }
        });
    }
    for (os::Thread& thread : threads) thread.join();
    for (const std::string& log : logs) EXPECT_EQ(log, "x");
}

// A core set's threads are the machine's.
class PerLoopCores : public PerLoopTest {};
WHORL_CONFORMANCE_REAL(PerLoopCores);

TEST_P(PerLoopCores, each_has_its_own_on_its_thread) {
    WHORL_SKIP_IF_REFUSED();
    const PerLoop<Resident> residents;
    std::array<std::string, 2> logs;
    {
        CoreSetOptions options;
        options.loops = 2;
        options.loop = options_here();
        Result<CoreSet> cores =
            CoreSet::start(options, [&](Loop& loop, std::uint32_t core) -> Error {
                return residents.make(loop, resident(logs[core], static_cast<char>('0' + core)));
            });
        ASSERT_TRUE(cores);
        std::atomic<int> seen{0};
        for (std::uint32_t core = 0; core < 2; ++core) {
            EXPECT_TRUE(cores->run_on(core, [&, core](Loop& loop) {
                EXPECT_EQ(residents.at(loop).name(), static_cast<char>('0' + core));
                ++seen;
            }));
        }
        os::await([&seen] { return seen == 2; });
        cores->stop();
        EXPECT_FALSE(cores->join());
    }
    EXPECT_EQ(logs[0], "0");
    EXPECT_EQ(logs[1], "1");
}

// --- a home

TEST_P(PerLoopTest, what_has_a_home_ends_in_its_dispatch) {
    WHORL_SKIP_IF_REFUSED();
    std::string log;
    Loop loop = make_loop();
    Result<HomePtr<Resident>> made = HomePtr<Resident>::make(loop, &log, 'a');
    ASSERT_TRUE(made);
    HomePtr<Resident> owner = std::move(made).value();
    HomePtr<Resident> other = std::move(owner);
    EXPECT_FALSE(owner);
    EXPECT_TRUE(other);
    EXPECT_EQ(other.at(loop).name(), 'a');
    turns(loop);
    EXPECT_EQ(log, "");
    other.reset();
    other.reset();
    EXPECT_FALSE(other);
    EXPECT_EQ(log, "") << "never inside the call";
    turns(loop);
    EXPECT_EQ(log, "a");
    owner = std::move(HomePtr<Resident>::make(loop, &log, 'b')).value();
    owner = std::move(HomePtr<Resident>::make(loop, &log, 'c')).value();
    turns(loop);
    EXPECT_EQ(log, "ab") << "assigning lets go";
    EXPECT_EQ(owner.at(loop).name(), 'c');
    owner.reset();
    EXPECT_FALSE(loop.run()) << "it is something to do";
    EXPECT_EQ(log, "abc");
}

TEST_P(PerLoopTest, what_has_a_home_ends_there_whichever_thread_lets_go) {
    WHORL_SKIP_IF_REFUSED();
    constexpr int count = 20;
    std::string log;
    Loop loop = make_loop();
    std::vector<os::Thread> threads;
    for (int index = 0; index < count; ++index) {
        Result<HomePtr<Resident>> made = HomePtr<Resident>::make(loop, &log, 'a');
        ASSERT_TRUE(made);
        if (index % 5 == 0) {
            threads.emplace_back([owner = std::move(made).value()]() mutable {
                os::give_turn();
                owner.reset();
            });
        } else {
            HomePtr<Resident> dropped = std::move(made).value();
        }
    }
    run_until(loop, [&log] { return log.size() == count; });  // Resident checks the thread
    for (os::Thread& thread : threads) thread.join();
}

TEST_P(PerLoopTest, what_has_a_home_is_never_leaked) {
    WHORL_SKIP_IF_REFUSED();
    std::string log;
    const Witness witness;
    HomePtr<Resident> late;
    HomePtr<std::shared_ptr<int>> elsewhere;
    {
        Loop loop = make_loop();
        late = std::move(HomePtr<Resident>::make(loop, &log, 'l')).value();
        elsewhere = std::move(HomePtr<std::shared_ptr<int>>::make(loop, witness.copy())).value();
        HomePtr<Resident> posted = std::move(HomePtr<Resident>::make(loop, &log, 'p')).value();
        posted.reset();
        EXPECT_EQ(log, "");
    }
    EXPECT_EQ(log, "p") << "with the loop";
    late.reset();
    EXPECT_EQ(log, "pl") << "at once: there is no loop";
    os::Thread other([owner = std::move(elsewhere)]() mutable { owner.reset(); });
    other.join();
    EXPECT_TRUE(witness.alone());
}

// Owners are let go by several threads while the home goes.
TEST_P(PerLoopTest, a_home_goes_while_threads_let_go) {
    WHORL_SKIP_IF_REFUSED();
    for (int round = 0; round < 10; ++round) {
        const Witness witness;
        std::atomic<int> ready{0};
        std::vector<os::Thread> threads;
        {
            Loop loop = make_loop();
            for (int index = 0; index < 3; ++index) {
                std::vector<HomePtr<std::shared_ptr<int>>> owners;
                for (int more = 0; more < 20; ++more) {
                    owners.push_back(
                        std::move(HomePtr<std::shared_ptr<int>>::make(loop, witness.copy()))
                            .value());
                }
                threads.emplace_back([&ready, all = std::move(owners)]() mutable {
                    ++ready;
                    while (!all.empty()) {
                        all.pop_back();
                        os::give_turn();
                    }
                });
            }
            os::await([&ready] { return ready == 3; });
            turns(loop);
        }
        for (os::Thread& thread : threads) thread.join();
        EXPECT_TRUE(witness.alone());
    }
}

}  // namespace
}  // namespace whorl::conformance
