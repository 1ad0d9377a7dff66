// SPDX-License-Identifier: MIT
// Goal: what only a simulated kernel can show of the loop: each error that accept(2) may answer, errors
// that stay, and errors that nobody has documented. Method: scripted faults, the same ones on the simulator
// and on a simulated ring of each level under the io_uring driver.
#include "backend/sim_kernel.hpp"

#include <gtest/gtest.h>
#include <whorl/whorl.hpp>

#include <cerrno>
#include <functional>
#include <string>
#include <utility>

namespace whorl {
namespace {

using namespace std::chrono_literals;
using detail::OpKind;
using detail::SimKernel;

struct Config {
    const char* name;
    Backend backend;
    testing::RingLevel level;
};
constexpr Config configs[] = {
    {"simulator", Backend::simulator, testing::RingLevel::linux_6_18},
    {"simulated_ring_5_15", Backend::io_uring, testing::RingLevel::linux_5_15},
    {"simulated_ring_6_1", Backend::io_uring, testing::RingLevel::linux_6_1},
    {"simulated_ring_6_18", Backend::io_uring, testing::RingLevel::linux_6_18},
};

class SimDriver : public ::testing::TestWithParam<Config> {
  protected:
    SimDriver() : kernel_(world()), loop_(make()) {}

    static testing::SimulationOptions world() {
        testing::SimulationOptions options;
        options.ring_level = GetParam().level;
        return options;
    }
    Loop make() {
        LoopOptions options;
        options.world = &kernel_;
        options.backend = GetParam().backend;
        Result<Loop> made = Loop::create(options);
        EXPECT_TRUE(made);
        EXPECT_EQ(made->backend_report().chosen, GetParam().backend);
        return std::move(*made);
    }
    Listener listening() { return *listen(loop_, Address::loopback_v4(0)); }
    Address address_of(Listener listener) { return *local_address(loop_, listener); }
    // `count` connections are asked for; their sockets are closed when they are there.
    void connect(Listener listener, int count) {
        for (int made = 0; made < count; ++made) {
            ASSERT_TRUE(
                loop_.submit(Connect{address_of(listener)}, [](Loop& loop, Connect::Done done) {
                    EXPECT_FALSE(done.error);
                    EXPECT_FALSE(loop.close(done.socket));
                }));
        }
    }

    SimKernel kernel_;
    Loop loop_;
};

constexpr int aborted_errors[] = {ECONNABORTED, EPROTO,       ENOPROTOOPT, ENETDOWN,  ENETUNREACH,
                                  EHOSTDOWN,    EHOSTUNREACH, ENONET,      ETIMEDOUT, EPERM};

TEST_P(SimDriver, accept_stream_outlives_connections_that_are_gone) {
    for (const int error : aborted_errors) {
        const Listener listener = listening();
        kernel_.script_fault(OpKind::accept_stream, error, 3);
        int accepted = 0;
        Result<Operation> stream =
            loop_.submit(AcceptStream{listener}, [&](Loop& loop, AcceptStream::Done done) {
                if (!done.more) return;
                EXPECT_FALSE(done.error) << error;
                EXPECT_FALSE(loop.close(done.socket));
                ++accepted;
            });
        ASSERT_TRUE(stream);
        connect(listener, 2);
        ASSERT_FALSE(loop_.run_for(1s));
        EXPECT_EQ(accepted, 2) << error;
        EXPECT_FALSE(loop_.close(listener));
        ASSERT_FALSE(loop_.run());
    }
    EXPECT_EQ(loop_.statistics().accept_aborted, 3 * std::size(aborted_errors));
}

TEST_P(SimDriver, accept_outlives_connections_that_are_gone) {
    for (const int error : aborted_errors) {
        const Listener listener = listening();
        kernel_.script_fault(OpKind::accept, error, 3);
        Error told = Error::invalid_argument;
        ASSERT_TRUE(loop_.submit(Accept{listener}, [&](Loop& loop, Accept::Done done) {
            told = done.error;
            EXPECT_FALSE(loop.close(done.socket));
        }));
        connect(listener, 1);
        ASSERT_FALSE(loop_.run());
        EXPECT_FALSE(told) << error;
        EXPECT_FALSE(loop_.close(listener));
    }
}

// An error that stays must not burn a core: at most a thousand tries a second.
TEST_P(SimDriver, accepting_under_a_lasting_error_waits_in_between) {
    for (const bool stream : {false, true}) {
        const Listener listener = listening();
        const OpKind kind = stream ? OpKind::accept_stream : OpKind::accept;
        constexpr std::uint32_t forever = 1'000'000;
        kernel_.script_fault(kind, EPERM, forever);
        const Result<Operation> made =
            stream ? loop_.submit(AcceptStream{listener}, [](Loop&, AcceptStream::Done) {})
                   : loop_.submit(Accept{listener}, [](Loop&, Accept::Done) {});
        ASSERT_TRUE(made);
        connect(listener, 1);
        const std::uint64_t before = loop_.statistics().submissions;
        ASSERT_FALSE(loop_.run_for(1s));
        EXPECT_LE(loop_.statistics().submissions - before, 1002u);
        EXPECT_EQ(loop_.cancel(*made), Cancelled::cancelling);
        ASSERT_FALSE(loop_.run());
        while (kernel_.take_scripted_fault(kind) != 0) {
        }
        EXPECT_FALSE(loop_.close(listener));
    }
}

TEST_P(SimDriver, accepting_under_exhaustion_backs_off_and_tells_once) {
    for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
        const Listener listener = listening();
        kernel_.script_fault(OpKind::accept_stream, error, 20);
        int accepted = 0, told = 0;
        const Result<Operation> made =
            loop_.submit(AcceptStream{listener}, [&](Loop& loop, AcceptStream::Done done) {
                if (!done.more) return;
                if (done.error) {
                    EXPECT_EQ(done.error, Error::from_errno(error));
                    ++told;
                    return;
                }
                ++accepted;
                EXPECT_FALSE(loop.close(done.socket));
            });
        ASSERT_TRUE(made);
        connect(listener, 1);
        const std::uint64_t before = loop_.statistics().submissions;
        ASSERT_FALSE(loop_.run_for(1s));
        EXPECT_EQ(accepted, 0);
        EXPECT_LE(loop_.statistics().submissions - before, 10u) << "at most ten tries a second";
        ASSERT_FALSE(loop_.run_for(10s));
        EXPECT_EQ(accepted, 1);
        EXPECT_EQ(told, 1);
        EXPECT_EQ(loop_.cancel(*made), Cancelled::cancelling);
        ASSERT_FALSE(loop_.run());
        EXPECT_FALSE(loop_.close(listener));
    }
}

// What no manual page names is the program's to judge: told once, in the final completion, unchanged.
TEST_P(SimDriver, undocumented_errors_are_passed_through_once) {
    const Listener listener = listening();
    int finals = 0;
    const auto ends = [&](Error error, bool more) {
        EXPECT_FALSE(more);
        EXPECT_EQ(error, Error::from_errno(EXDEV));
        ++finals;
    };
    kernel_.script_fault(OpKind::accept, EXDEV, 1);
    kernel_.script_fault(OpKind::accept_stream, EXDEV, 1);
    ASSERT_TRUE(
        loop_.submit(Accept{listener}, [&](Loop&, Accept::Done done) { ends(done.error, false); }));
    ASSERT_FALSE(loop_.run());
    ASSERT_TRUE(loop_.submit(AcceptStream{listener},
                             [&](Loop&, AcceptStream::Done done) { ends(done.error, done.more); }));
    ASSERT_FALSE(loop_.run());
    EXPECT_EQ(finals, 2);

    Socket client, server;
    ASSERT_TRUE(loop_.submit(Connect{address_of(listener)},
                             [&](Loop&, Connect::Done done) { client = done.socket; }));
    ASSERT_TRUE(
        loop_.submit(Accept{listener}, [&](Loop&, Accept::Done done) { server = done.socket; }));
    ASSERT_FALSE(loop_.run());
    kernel_.script_fault(OpKind::recv, EXDEV, 1);
    kernel_.script_fault(OpKind::recv_stream, EXDEV, 1);
    kernel_.script_fault(OpKind::send, EXDEV, 1);
    ASSERT_TRUE(loop_.submit(Recv{server, loop_.buffer(64)},
                             [&](Loop&, Recv::Done done) { ends(done.error, false); }));
    ASSERT_TRUE(loop_.submit(RecvStream{server},
                             [&](Loop&, RecvStream::Done done) { ends(done.error, done.more); }));
    ASSERT_TRUE(loop_.submit(Send{client, Buffer::copy_of(Bytes{"x", 1})},
                             [&](Loop&, Send::Done done) { ends(done.error, false); }));
    ASSERT_FALSE(loop_.run());
    EXPECT_EQ(finals, 5);
    EXPECT_FALSE(loop_.close(client));
    EXPECT_FALSE(loop_.close(server));
    EXPECT_FALSE(loop_.close(listener));
}

// One operation of each kind that cannot be a part of another, one after the other; `ends(kind, error)` hears
// how each ended.
class EachKind {
  public:
    using Ends = std::function<void(OpKind, Error)>;
    EachKind(SimKernel& kernel, Loop& loop, Listener listener, Ends ends)
        : kernel_(kernel), loop_(loop), listener_(listener), ends_(std::move(ends)) {}

    void run() {
        submit(Accept{listener_}, [this](Accept::Done done) { server_ = done.socket; });
        const Address address = *local_address(loop_, listener_);
        submit(Connect{address}, [this](Connect::Done done) { client_ = done.socket; });
        ASSERT_FALSE(loop_.run());
        sends();
        ASSERT_FALSE(loop_.run());
        submit(Recv{server_, loop_.buffer(64)}, OpKind::recv);
        ASSERT_FALSE(loop_.run());
        watches();
        submit(Shutdown{client_}, OpKind::shutdown);
        ASSERT_FALSE(loop_.run());
        EXPECT_FALSE(loop_.close(client_));
        EXPECT_FALSE(loop_.close(server_));
    }

  private:
    template <class Operation, class Then>
    void submit(Operation&& operation, Then then) {
        using Done = typename std::decay_t<Operation>::Done;
        ASSERT_TRUE(loop_.submit(std::forward<Operation>(operation),
                                 [then](Loop&, Done done) { then(std::move(done)); }));
    }
    template <class Operation>
    void submit(Operation&& operation, OpKind kind) {
        using Done = typename std::decay_t<Operation>::Done;
        submit(std::forward<Operation>(operation),
               [this, kind](Done done) { ends_(kind, done.error); });
    }
    void sends() {
        const Bytes bytes{"x", 1};
        BufferChain chain;
        ASSERT_TRUE(chain.push_back(Buffer::copy_of(bytes)));
        submit(Send{client_, Buffer::copy_of(bytes)}, OpKind::send);
        submit(SendAll{client_, Buffer::copy_of(bytes)}, OpKind::send_all);
        submit(SendChain{client_, std::move(chain)}, OpKind::send_chain);
    }
    void watches() {
        const int fd = kernel_.eventfd(1, 0);
        const Result<Watch> watch =
            loop_.watch(fd, Interest::readable, [this](Loop& loop, Watched done) {
                ends_(OpKind::watch, done.error);
                loop.stop();
            });
        ASSERT_TRUE(watch);
        ASSERT_FALSE(loop_.run());
        static_cast<void>(loop_.cancel(*watch));  // one that failed has ended
        EXPECT_EQ(kernel_.close(fd), 0);
    }

    SimKernel& kernel_;
    Loop& loop_;
    Listener listener_;
    Ends ends_;
    Socket client_;
    Socket server_;
};

// Each kind hears of its own fault, once, and of no other's.
TEST_P(SimDriver, a_scripted_fault_ends_one_operation_of_its_kind_and_no_other) {
    const Listener listener = listening();
    for (const OpKind faulty : {OpKind::send, OpKind::send_all, OpKind::send_chain, OpKind::recv,
                                OpKind::shutdown, OpKind::watch}) {
        kernel_.script_fault(faulty, ENOMEM, 1);
        int failed = 0, count = 0;
        EachKind(kernel_, loop_, listener, [&](OpKind kind, Error error) {
            EXPECT_EQ(error, kind == faulty ? Error::from_errno(ENOMEM) : Error())
                << detail::name_of(kind) << ", scripted for " << detail::name_of(faulty);
            failed += error ? 1 : 0;
            ++count;
        }).run();
        EXPECT_EQ(count, 6);
        EXPECT_EQ(failed, 1) << detail::name_of(faulty);
        EXPECT_EQ(kernel_.take_scripted_fault(faulty), 0);
    }
    kernel_.script_fault(OpKind::connect, ENETUNREACH, 1);
    Error told;
    ASSERT_TRUE(loop_.submit(Connect{address_of(listener)},
                             [&](Loop&, Connect::Done done) { told = done.error; }));
    ASSERT_FALSE(loop_.run());
    EXPECT_EQ(told, Error::from_errno(ENETUNREACH));
    EXPECT_FALSE(loop_.close(listener));
}

INSTANTIATE_TEST_SUITE_P(Everywhere, SimDriver, ::testing::ValuesIn(configs),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace whorl
