// SPDX-License-Identifier: MIT
// Goal: an object that is destroyed while handlers point to it ends the program with a message that says
// so, and nothing that is allowed does. Method: objects in simulated worlds; deaths in a child.
#include <whorl/tracked.hpp>

#include <whorl/testing.hpp>
#include <whorl/whorl.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <utility>

namespace whorl {
namespace {

using namespace std::chrono_literals;

struct Client : Tracked {
    int calls = 0;
    bool ends = false;  // in its next call

    void operator()(Loop&, Expired) { called(); }
    void operator()(Loop&, Nop::Done) { called(); }
    void operator()(Loop&) { called(); }
    void expired(Loop&, Expired) { called(); }
    void nop(Loop&, Nop::Done) { called(); }
    void called() {
        ++calls;
        if (ends) delete this;
    }
};

TEST(Tracked, counts_what_points_to_it) {
    testing::World world;
    Loop& loop = world.add_loop();
    Client client;
    const Result<Timer> timer = loop.after(1s, &client);
    ASSERT_TRUE(timer);
    ASSERT_TRUE(loop.every(1s, bind<&Client::expired>(&client)));
    ASSERT_TRUE(loop.submit(Nop{}, &client));
    ASSERT_FALSE(loop.post(&client));
    EXPECT_EQ(client.handlers(), 4u);
    EXPECT_TRUE(loop.cancel(*timer));
    EXPECT_EQ(client.handlers(), 3u);
    world.advance(3500ms);
    EXPECT_EQ(client.calls, 5);
    EXPECT_EQ(client.handlers(), 1u) << "the periodic one";
    world.remove_loop(loop);
    EXPECT_EQ(client.handlers(), 0u);
}

TEST(Tracked, a_refused_submission_leaves_no_count) {
    testing::World world;
    Loop& loop = world.add_loop();
    Client client;
    EXPECT_FALSE(loop.every(0s, &client));
    EXPECT_EQ(loop.close(Socket(), &client), Error::stale_handle);
    EXPECT_EQ(client.handlers(), 0u);
}

TEST(Tracked, a_copy_has_no_handlers) {
    testing::World world;
    Loop& loop = world.add_loop();
    Client client;
    ASSERT_TRUE(loop.after(1s, &client));
    {
        const Client copy(client);
        EXPECT_EQ(copy.handlers(), 0u);
    }
    world.advance(2s);
    EXPECT_EQ(client.calls, 1);
}

TEST(Tracked, may_be_destroyed_in_its_last_call) {
    testing::World world;
    Loop& loop = world.add_loop();
    for (int kind = 0; kind < 4; ++kind) {
        auto* client = new Client;
        client->ends = true;
        if (kind == 0) {
            ASSERT_TRUE(loop.after(1ms, client));
        }
        if (kind == 1) {
            ASSERT_TRUE(loop.submit(Nop{}, client));
        }
        if (kind == 2) {
            ASSERT_FALSE(loop.post(client));
        }
        if (kind == 3) {
            ASSERT_TRUE(loop.after(1ms, bind<&Client::expired>(client)));
        }
        world.advance(10ms);
    }
    EXPECT_EQ(loop.statistics().operations, 0u);
}

// A periodic timer that ends itself, and its object, in its own call.
TEST(Tracked, may_be_destroyed_in_a_call_that_cancels) {
    struct Ticker : Tracked {
        int left = 3;
        void operator()(Loop& loop, Expired expired) {
            if (--left != 0) return;
            EXPECT_TRUE(loop.cancel(expired.timer));
            delete this;
        }
    };
    testing::World world;
    Loop& loop = world.add_loop();
    ASSERT_TRUE(loop.every(1ms, new Ticker));
    world.advance(10ms);
    EXPECT_EQ(loop.statistics().operations, 0u);
}

#if defined(__cpp_exceptions)
TEST(Tracked, an_exception_leaves_the_count_as_it_was) {
    struct Thrower : Tracked {
        void operator()(Loop&, Expired) { throw 1; }
    };
    testing::World world;
    Result<Loop> loop = world.make_loop();
    ASSERT_TRUE(loop);
    Thrower thrower;
    ASSERT_TRUE(loop->every(1ms, &thrower));
    EXPECT_THROW(static_cast<void>(loop->run_for(2ms)), int);
    EXPECT_EQ(thrower.handlers(), 1u);
    { const Loop gone(std::move(*loop)); }
    EXPECT_EQ(thrower.handlers(), 0u);
}
#endif

TEST(TrackedDeathTest, destroyed_too_early) {
    EXPECT_DEATH(
        {
            testing::World world;
            Loop& loop = world.add_loop();
            auto client = std::make_unique<Client>();
            static_cast<void>(loop.after(1s, client.get()));
            static_cast<void>(loop.submit(Nop{}, bind<&Client::nop>(client.get())));
            client.reset();
        },
        "destroyed while 2 handlers still point to it");
    EXPECT_DEATH(
        {
            testing::World world;
            Loop& loop = world.add_loop();
            auto* client = new Client;
            client->ends = true;
            static_cast<void>(loop.every(1ms, client));
            world.advance(1s);
        },
        "called again although its object was destroyed");
}

}  // namespace
}  // namespace whorl
