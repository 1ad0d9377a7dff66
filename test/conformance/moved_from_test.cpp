// SPDX-License-Identifier: MIT
// Goal: what was moved from can be destroyed, assigned to and moved on, and has what it had before no more.
// Method: the same moves with each movable type; sanitizers see what is freed twice or never.
#include "conformance/support.hpp"

#include <whorl/broadcast.hpp>
#include <whorl/channel.hpp>
#include <whorl/histogram.hpp>
#include <whorl/home_ptr.hpp>
#include <whorl/limiter.hpp>
#include <whorl/mailbox.hpp>
#include <whorl/mesh.hpp>
#include <whorl/remote.hpp>
#include <whorl/unix.hpp>

#include <utility>

// NOLINTBEGIN(bugprone-use-after-move): that is what is tested

namespace whorl::conformance {
namespace {

class MovedFrom : public LoopTest {
  protected:
    // `check(value, whether it has something)`.
    template <class T, class Check>
    static void moves(T one, T other, Check check) {
        check(one, true);
        T taken(std::move(one));
        check(one, false);
        check(taken, true);
        one = std::move(other);  // over one that has nothing
        check(one, true);
        check(other, false);
        one = std::move(taken);  // over one that has something, which ends
        check(one, true);
        check(taken, false);
        T none(std::move(taken));
        check(none, false);
        taken = std::move(none);  // nothing over nothing
        check(taken, false);
        one = std::move(taken);  // nothing over something
        check(one, false);
    }
    // Of those that answer nothing when they have nothing.
    template <class T>
    static void moves(T one, T other) {
        moves(std::move(one), std::move(other), [](const T&, bool) {});
    }
};
WHORL_CONFORMANCE(MovedFrom);

TEST_P(MovedFrom, buffers_and_chains) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto check = [](const Buffer& buffer, bool has) {
        EXPECT_EQ(bool(buffer), has);
        EXPECT_EQ(buffer.empty(), !has);
    };
    const auto filled = [](Buffer buffer) {
        EXPECT_TRUE(buffer.append(Bytes{"text"}));
        return buffer;
    };
    moves(filled(loop.buffer(64)), filled(Buffer::allocate(64)), check);
    const auto chain = [&] {
        BufferChain made;
        for (int part = 0; part < 20; ++part) EXPECT_TRUE(made.push_back(filled(loop.buffer(64))));
        return made;
    };
    moves(chain(), chain(), [](const BufferChain& made, bool has) {
        EXPECT_EQ(made.empty(), !has);
        EXPECT_EQ(made.size(), has ? 80u : 0u);
    });
    expect_clean(loop);
}

TEST_P(MovedFrom, loops) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    const auto busy = [&] {
        Loop loop = make_loop();
        EXPECT_TRUE(loop.after(1h, [token = witness.copy()](Loop&, Expired) {}));
        EXPECT_FALSE(loop.post([token = witness.copy()](Loop&) {}));
        return loop;
    };
    moves(busy(), busy());
    EXPECT_TRUE(witness.alone());
}

TEST_P(MovedFrom, what_loops_say_to_each_other) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto channel = [] {
        Result<Channel<int>> made = Channel<int>::create(4);
        if (!made) std::abort();
        EXPECT_FALSE(made->sender.send(1));
        return std::move(*made);
    };
    Channel<int> one = channel(), other = channel();
    moves(std::move(one.sender), std::move(other.sender));
    moves(std::move(one.receiver), std::move(other.receiver));
    const auto mailbox = [&] { return std::move(*Mailbox<int>::create(loop, 4)); };
    moves(mailbox(), mailbox());
    const Mailbox<int> mail = mailbox();
    moves(mail.sender(), mail.sender(),
          [](const MailSender<int>& sender, bool has) { EXPECT_EQ(sender.closed(), !has); });
    const auto broadcast = [] { return std::move(*Broadcast<int>::create(4)); };
    moves(broadcast(), broadcast());
    const auto mesh = [] { return std::move(*Mesh<int>::create(3, 4)); };
    moves(mesh(), mesh());
    moves(*loop.remote(), *loop.remote());
    const auto home = [&] { return std::move(*HomePtr<int>::make(loop, 3)); };
    moves(home(), home(),
          [](const HomePtr<int>& object, bool has) { EXPECT_EQ(bool(object), has); });
    for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
}

TEST_P(MovedFrom, figures) {
    WHORL_SKIP_IF_REFUSED();
    const auto histogram = [] {
        Histogram made = std::move(*Histogram::create());
        made.record(7);
        return made;
    };
    moves(histogram(), histogram());
    moves(Result<Buffer>(Buffer::allocate(8)), Result<Buffer>(Buffer::allocate(8)));
}

}  // namespace
}  // namespace whorl::conformance

// NOLINTEND(bugprone-use-after-move)
