// SPDX-License-Identifier: MIT
// Goal: what loops and their parts say to each other allocates no more than its header says: nothing in
// steady state, one block for each all_of or any_of, one for each HomePtr. Method: every way to the heap is
// counted; a first round warms up.
#include "conformance/counted_heap.hpp"
#include "conformance/support.hpp"

#include <whorl/all_of.hpp>
#include <whorl/cancel_source.hpp>
#include <whorl/event.hpp>
#include <whorl/home_ptr.hpp>
#include <whorl/limiter.hpp>
#include <whorl/mailbox.hpp>
#include <whorl/per_loop.hpp>

#include <cstdlib>

namespace whorl::conformance {
namespace {

class CoordinationAllocation : public LoopTest {
  protected:
    // Nothing in here is GoogleTest's: its assertions allocate.
    template <class Work>
    static std::uint64_t count(Work work) {
        work();
        const std::uint64_t before = allocations;
        work();
        return allocations - before;
    }
    static void poll(Loop& loop) {
        if (loop.poll()) std::abort();
    }
    static constexpr int rounds = 1000;
};
WHORL_CONFORMANCE_REAL(CoordinationAllocation);  // a world allocates as it likes

TEST_P(CoordinationAllocation, mail_permits_and_sources_do_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Mailbox<std::uint64_t>> mailbox = Mailbox<std::uint64_t>::create(loop, 16);
    ASSERT_TRUE(mailbox);
    const MailSender<std::uint64_t> sender = mailbox->sender();
    std::uint64_t got = 0;
    ASSERT_TRUE(loop.submit(
        ReceiveMail{*mailbox},
        [&got](Loop&, ReceiveMail<std::uint64_t>::Done done) { got += done.message.value_or(0); }));
    const std::uint64_t mail = count([&] {
        for (int round = 0; round < rounds; ++round) {
            for (int message = 0; message < 16; ++message) {
                if (sender.send(std::uint64_t{1})) std::abort();
            }
            if (sender.send(std::uint64_t{1}) != Error::queue_full) std::abort();
            poll(loop);
        }
    });
    EXPECT_EQ(mail, 0u);
    EXPECT_EQ(got, 2u * 16 * rounds);
    mailbox->close();
    EXPECT_FALSE(loop.run());

    Limiter limiter(2, 4);
    CancelSource source(loop);
    const std::uint64_t entering = count([&] {
        for (int round = 0; round < rounds; ++round) {
            for (int job = 0; job < 6; ++job) {
                Result<Operation> entered = loop.submit(Enter{limiter}, [](Loop&, Enter::Done) {});
                if (source.attach(entered)) std::abort();
            }
            if (loop.run()) std::abort();
        }
    });
    EXPECT_EQ(entering, 0u);
    expect_clean(loop);
}

TEST_P(CoordinationAllocation, several_as_one_and_what_has_a_home_do_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    event.set();
    int ended = 0;
    const std::uint64_t gathered = count([&] {
        for (int round = 0; round < rounds; ++round) {
            if (!loop.submit(
                    all_of(AwaitEvent{event}, any_of(AwaitEvent{event}, AwaitEvent{event})),
                    [&ended](Loop&, auto) { ++ended; })) {
                std::abort();
            }
            if (loop.run()) std::abort();
        }
    });
    EXPECT_EQ(gathered, 2u * rounds);
    EXPECT_EQ(ended, 2 * rounds);

    const PerLoop<int> numbers;
    ASSERT_FALSE(numbers.make(loop, [](Loop&) { return 1; }));
    const std::uint64_t owned = count([&] {
        for (int round = 0; round < rounds; ++round) {
            Result<HomePtr<int>> owner = HomePtr<int>::make(loop, numbers.at(loop));
            if (!owner || owner->at(loop) != 1) std::abort();
            owner->reset();
            poll(loop);
        }
    });
    EXPECT_EQ(owned, 1u * rounds);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
