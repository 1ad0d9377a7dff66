// SPDX-License-Identifier: MIT
// Goal: hiredis works on a whorl loop through everything its contexts do, the ugly cases included.
// Method: a real redis-server, killed when the test wants it.
#include "hosts/server.hpp"

#include <whorl/adapters/hiredis.hpp>

#include <functional>

namespace whorl::hosts {
namespace {

constexpr const char* program = "/usr/bin/redis-server";

using Call = std::function<void(redisAsyncContext*, redisReply*)>;

// `call` is the caller's and outlives the reply.
void answered(redisAsyncContext* context, void* reply, void* call) {
    (*static_cast<Call*>(call))(context, static_cast<redisReply*>(reply));
}

class Hiredis : public HostTest {
  protected:
    void SetUp() override {
        if (!Server::installed(program)) GTEST_SKIP() << "no redis-server";
        HostTest::SetUp();
        if (loop == nullptr) return;
        port = free_port(SOCK_STREAM);
        server.start({program, "--port", std::to_string(port), "--bind", "127.0.0.1", "--save", "",
                      "--dir", server.folder});
        server.await(port);
    }
    redisAsyncContext* connect() {
        redisAsyncContext* context = redisAsyncConnect("127.0.0.1", port);
        EXPECT_EQ(context->err, 0) << context->errstr;
        EXPECT_FALSE(adapters::attach_hiredis(*loop, context));
        context->data = this;
        redisAsyncSetDisconnectCallback(context, [](const redisAsyncContext* of, int) {
            ++static_cast<Hiredis*>(of->data)->disconnects;
        });
        return context;
    }
    Server server;
    int port = 0;
    int disconnects = 0;
};
WHORL_HOST_TESTS(Hiredis);

TEST_P(Hiredis, commands_are_answered_in_order_and_the_loop_ends_with_the_context) {
    redisAsyncContext* context = connect();
    int answers = 0;
    Call counted = [&](redisAsyncContext*, redisReply* reply) {
        ASSERT_NE(reply, nullptr);
        EXPECT_EQ(reply->integer, ++answers);
    };
    Call last = [&](redisAsyncContext* of, redisReply* reply) {
        ASSERT_NE(reply, nullptr);
        EXPECT_STREQ(reply->str, "1000");
        redisAsyncDisconnect(of);
    };
    for (int count = 0; count < 1000; ++count) {
        redisAsyncCommand(context, &answered, &counted, "INCR number");
    }
    redisAsyncCommand(context, &answered, &last, "GET number");
    run();
    EXPECT_EQ(answers, 1000);
    EXPECT_EQ(disconnects, 1);
    EXPECT_EQ(left_over(), 0u) << "a watch was left";
}

TEST_P(Hiredis, a_megabyte_goes_to_and_fro) {
    redisAsyncContext* context = connect();
    const std::string value(1 << 20, 'v');
    std::string back;
    Call got = [&](redisAsyncContext* of, redisReply* reply) {
        ASSERT_NE(reply, nullptr);
        back.assign(reply->str, reply->len);
        redisAsyncDisconnect(of);
    };
    redisAsyncCommand(context, nullptr, nullptr, "SET large %b", value.data(), value.size());
    redisAsyncCommand(context, &answered, &got, "GET large");
    run();
    EXPECT_TRUE(back == value);
}

TEST_P(Hiredis, a_subscriber_hears_another_context) {
    redisAsyncContext* publisher = connect();
    redisAsyncContext* subscriber = connect();
    std::vector<std::string> heard;
    Call message = [&](redisAsyncContext* of, redisReply* reply) {
        if (reply == nullptr) return;  // its context ends
        heard.push_back(reply->element[0]->str);
        if (heard.size() == 1) redisAsyncCommand(publisher, nullptr, nullptr, "PUBLISH news x");
        if (heard.size() == 2) {
            redisAsyncDisconnect(publisher);
            redisAsyncFree(of);  // from its own callback
        }
    };
    redisAsyncCommand(subscriber, &answered, &message, "SUBSCRIBE news");
    run();
    EXPECT_EQ(heard, (std::vector<std::string>{"subscribe", "message"}));
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Hiredis, a_server_that_dies_ends_the_context_and_its_commands) {
    redisAsyncContext* context = connect();
    int lost = 0;
    Call dies = [&](redisAsyncContext*, redisReply*) { server.stop(); };
    Call never = [&](redisAsyncContext*, redisReply* reply) {
        EXPECT_EQ(reply, nullptr);
        ++lost;
    };
    redisAsyncCommand(context, &answered, &dies, "PING");
    redisAsyncCommand(context, &answered, &never, "BLPOP nothing 0");
    run();
    EXPECT_EQ(lost, 1);
    EXPECT_EQ(disconnects, 1);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Hiredis, nobody_listens) {
    server.stop();
    redisAsyncContext* context = redisAsyncConnect("127.0.0.1", port);
    ASSERT_FALSE(adapters::attach_hiredis(*loop, context));
    EXPECT_EQ(adapters::attach_hiredis(*loop, context).value(), EBUSY);
    int status = REDIS_OK;
    context->data = &status;
    redisAsyncSetConnectCallback(context, [](const redisAsyncContext* of, int result) {
        *static_cast<int*>(of->data) = result;
    });
    run();
    EXPECT_EQ(status, REDIS_ERR);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Hiredis, a_loop_without_a_slot_refuses_and_the_context_stays_the_callers) {
    LoopOptions options;
    options.backend = GetParam();
    options.ops_max = 8;
    Result<Loop> small = Loop::create(options);
    ASSERT_TRUE(small);
    while (small->after(1h, [](Loop&, Expired) {})) {
    }
    redisAsyncContext* context = redisAsyncConnect("127.0.0.1", port);
    EXPECT_EQ(adapters::attach_hiredis(*small, context), Error::slots_exhausted);
    EXPECT_FALSE(adapters::attach_hiredis(*loop, context)) << "refused, it is as it was";
    redisAsyncFree(context);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Hiredis, freed_by_the_program_while_commands_are_under_way) {
    redisAsyncContext* context = connect();
    int answers = 0;
    Call counted = [&](redisAsyncContext*, redisReply*) { ++answers; };
    for (int count = 0; count < 10; ++count) {
        redisAsyncCommand(context, &answered, &counted, "BLPOP nothing 0");
    }
    ASSERT_TRUE(loop->after(20ms, [&](Loop&, Expired) { redisAsyncFree(context); }));
    run();
    EXPECT_EQ(answers, 10);
    EXPECT_EQ(left_over(), 0u);
}

}  // namespace
}  // namespace whorl::hosts
