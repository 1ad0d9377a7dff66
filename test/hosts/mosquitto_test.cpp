// SPDX-License-Identifier: MIT
// Goal: libmosquitto works on a whorl loop: connections, all qualities of service, keep-alive, and the
// socket that it closes and opens again in the middle of its own calls.
// Method: a real broker, stopped or killed when a test wants it. Keep-alive, which counts whole seconds, is
// tested by a clock that is ahead inside of mosquitto_loop_misc().
#include "hosts/server.hpp"

#include <whorl/adapters/mosquitto.hpp>

#include <dlfcn.h>
#include <sys/syscall.h>

#include <cstring>
#include <functional>
#include <set>

namespace {
int misc_calls = 0;
int misc_ahead_seconds = 0;
thread_local int ahead_seconds = 0;
}  // namespace

extern "C" {
// In the place of the C library's.
int clock_gettime(clockid_t clock, timespec* time) noexcept {
    const long refused = ::syscall(SYS_clock_gettime, clock, time);
    if (refused == 0) time->tv_sec += ahead_seconds;
    return static_cast<int>(refused);
}
// In the place of libmosquitto's, which it calls.
int mosquitto_loop_misc(mosquitto* client) {
    using Misc = int (*)(mosquitto*);
    static const Misc real = reinterpret_cast<Misc>(::dlsym(RTLD_NEXT, "mosquitto_loop_misc"));
    ++misc_calls;
    ahead_seconds = misc_ahead_seconds;
    const int answer = real(client);
    ahead_seconds = 0;
    return answer;
}
}

namespace whorl::hosts {
namespace {

constexpr const char* program = "/usr/sbin/mosquitto";

struct Client {
    mosquitto* handle = nullptr;
    adapters::MosquittoEvents events;
    std::function<void(int)> connected = [](int) {};
    std::function<void(int)> disconnected = [](int) {};
    std::function<void()> subscribed = [] {};
    std::function<void(const mosquitto_message&)> heard = [](const mosquitto_message&) {};
    std::function<void(const std::string&)> logged = [](const std::string&) {};
    int published = 0;

    Client() {
        handle = mosquitto_new(nullptr, true, this);
        mosquitto_int_option(handle, MOSQ_OPT_TCP_NODELAY, 1);
        mosquitto_connect_callback_set(
            handle, [](mosquitto*, void* self, int code) { of(self).connected(code); });
        mosquitto_disconnect_callback_set(
            handle, [](mosquitto*, void* self, int code) { of(self).disconnected(code); });
        mosquitto_subscribe_callback_set(
            handle, [](mosquitto*, void* self, int, int, const int*) { of(self).subscribed(); });
        mosquitto_publish_callback_set(handle,
                                       [](mosquitto*, void* self, int) { ++of(self).published; });
        mosquitto_message_callback_set(
            handle, [](mosquitto*, void* self, const mosquitto_message* message) {
                of(self).heard(*message);
            });
        mosquitto_log_callback_set(
            handle, [](mosquitto*, void* self, int, const char* text) { of(self).logged(text); });
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() {
        events.detach();
        mosquitto_destroy(handle);
    }
    void publish(const char* topic, const std::string& text, int quality) {
        EXPECT_EQ(mosquitto_publish(handle, nullptr, topic, static_cast<int>(text.size()),
                                    text.data(), quality, false),
                  MOSQ_ERR_SUCCESS);
    }
    static Client& of(void* self) { return *static_cast<Client*>(self); }
};

class Mosquitto : public HostTest {
  protected:
    static void SetUpTestSuite() { mosquitto_lib_init(); }
    static void TearDownTestSuite() { mosquitto_lib_cleanup(); }
    void SetUp() override {
        if (!Server::installed(program)) GTEST_SKIP() << "no mosquitto";
        HostTest::SetUp();
        if (loop == nullptr) return;
        misc_ahead_seconds = 0;
        port = free_port(SOCK_STREAM);
        std::ofstream(server.folder + "/conf")
            << "listener " << port << " 127.0.0.1\nallow_anonymous true\npersistence false\n"
            << "user root\nmax_queued_messages 0\nset_tcp_nodelay true\n";
        start();
    }
    void start() {
        server.start({program, "-c", server.folder + "/conf"});
        server.await(port);
    }
    void connect(Client& client, Nanoseconds misc = 1s) {
        ASSERT_EQ(mosquitto_connect_async(client.handle, "127.0.0.1", port, 60), MOSQ_ERR_SUCCESS);
        ASSERT_FALSE(client.events.attach(*loop, client.handle, misc));
    }
    // `client` listens to the topic "news"; then `next` runs.
    void subscribe(Client& client, std::function<void()> next) {
        client.connected = [&client](int code) {
            EXPECT_EQ(code, 0);
            mosquitto_subscribe(client.handle, nullptr, "news", 2);
        };
        client.subscribed = std::move(next);
        connect(client);
    }
    // Disconnects in order; the loop then has nothing left.
    void leave(Client& client) {
        mosquitto_disconnect(client.handle);
        EXPECT_FALSE(client.events.update());
    }
    Server server;
    int port = 0;
};
WHORL_HOST_TESTS(Mosquitto);

TEST_P(Mosquitto, messages_of_every_quality_arrive_once) {
    constexpr int each = 300;
    Client speaker, listener;
    // Which ones have arrived. The broker keeps several of quality 1 and 2 under way, in no order.
    std::set<std::string> arrived[3];
    std::size_t count = 0;
    listener.heard = [&](const mosquitto_message& message) {
        const std::string text(static_cast<char*>(message.payload),
                               static_cast<std::size_t>(message.payloadlen));
        EXPECT_TRUE(arrived[message.qos].insert(text).second) << text << " came twice";
        if (++count == 3 * each) mosquitto_disconnect(listener.handle);
    };
    subscribe(listener, [&] { connect(speaker); });
    speaker.connected = [&](int code) {
        EXPECT_EQ(code, 0);
        for (int number = 0; number < 3 * each; ++number)
            speaker.publish("news", std::to_string(number / 3), number % 3);
    };
    listener.disconnected = [&](int code) {
        EXPECT_EQ(code, 0);
        // The last acknowledgements may be on their way.
        ASSERT_TRUE(loop->every(1ms, [&](Loop& inner, Expired expired) {
            if (speaker.published < 3 * each) return;
            leave(speaker);
            inner.cancel(expired.timer);
        }));
    };
    run();
    for (const auto& texts : arrived) {
        EXPECT_EQ(texts.size(), std::size_t{each});
        EXPECT_EQ(texts.count(std::to_string(each - 1)), 1u);
    }
    EXPECT_EQ(speaker.published, 3 * each);
    EXPECT_EQ(left_over(), 0u) << "a watch or a timer was left";
}

TEST_P(Mosquitto, megabytes_that_the_socket_does_not_take_at_once) {
    Client speaker, listener;
    const std::string large(6 << 20, 'm');
    int whole = 0;
    listener.heard = [&](const mosquitto_message& message) {
        EXPECT_EQ(static_cast<std::size_t>(message.payloadlen), large.size());
        whole += std::memcmp(message.payload, large.data(), large.size()) == 0 ? 1 : 0;
        if (whole == 3) finish();
    };
    subscribe(listener, [&] { connect(speaker); });
    speaker.connected = [&](int) {
        // Outside of libmosquitto's own calls.
        ASSERT_TRUE(loop->after(0ms, [&](Loop&, Expired) {
            for (int quality = 0; quality < 3; ++quality) speaker.publish("news", large, quality);
            EXPECT_FALSE(speaker.events.update());
        }));
    };
    run();
    EXPECT_EQ(whole, 3);
}

TEST_P(Mosquitto, a_callback_answers_a_message_with_the_next) {
    Client client;
    int rounds = 0;
    client.heard = [&](const mosquitto_message&) {
        if (++rounds == 200) return finish();
        client.publish("news", "again", rounds % 3);
    };
    subscribe(client, [&] { client.publish("news", "first", 0); });
    run();
    EXPECT_EQ(rounds, 200);
}

// libmosquitto closes the socket before it tells, and the new one gets the same number.
TEST_P(Mosquitto, it_connects_again_in_the_callback_that_tells_of_the_brokers_death) {
    Client client;
    int connects = 0, losses = 0, first_fd = -1, second_fd = -1;
    client.connected = [&](int code) {
        EXPECT_EQ(code, 0);
        ++connects;
        mosquitto_subscribe(client.handle, nullptr, "news", 1);
    };
    client.subscribed = [&] {
        if (connects == 2) return client.publish("news", "back", 1);
        first_fd = mosquitto_socket(client.handle);
        server.stop();
    };
    client.disconnected = [&](int code) {
        EXPECT_NE(code, 0);
        ++losses;
        EXPECT_EQ(mosquitto_socket(client.handle), -1);
        start();
        EXPECT_EQ(mosquitto_reconnect_async(client.handle), MOSQ_ERR_SUCCESS);
        second_fd = mosquitto_socket(client.handle);
    };
    client.heard = [&](const mosquitto_message&) { finish(); };
    connect(client, 1h);  // nothing but the sockets may wake it
    run();
    EXPECT_EQ(connects, 2);
    EXPECT_EQ(losses, 1);
    EXPECT_EQ(first_fd, second_fd) << "the case that the number cannot tell apart";
}

TEST_P(Mosquitto, without_a_connection_the_loop_ends_and_the_program_may_connect_later) {
    Client client;
    int connects = 0;
    client.connected = [&](int) {
        ++connects;
        mosquitto_disconnect(client.handle);
    };
    connect(client);
    run();
    EXPECT_EQ(left_over(), 0u) << "a watch or a timer was left";
    EXPECT_EQ(mosquitto_reconnect_async(client.handle), MOSQ_ERR_SUCCESS);
    EXPECT_FALSE(client.events.update());
    run();
    EXPECT_EQ(connects, 2);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Mosquitto, nobody_listens) {
    server.stop();
    Client client;
    const int refused = mosquitto_connect_async(client.handle, "127.0.0.1", port, 60);
    EXPECT_NE(refused, MOSQ_ERR_SUCCESS);
    EXPECT_FALSE(client.events.attach(*loop, client.handle));
    EXPECT_EQ(left_over(), 0u);
    EXPECT_EQ(client.events.attach(*loop, client.handle, 0ms), Error::invalid_argument);
}

TEST_P(Mosquitto, keep_alive_pings_and_finds_a_silent_broker) {
    Client client;
    std::vector<std::string> seen;
    const auto note = [&](const std::string& text, const char* what) {
        if (text.find(what) != std::string::npos) seen.push_back(what);
    };
    client.logged = [&](const std::string& text) {
        note(text, "PINGREQ");
        note(text, "PINGRESP");
        if (seen.size() == 2 && misc_ahead_seconds == 100) {
            server.send(SIGSTOP);
            misc_ahead_seconds = 300;
        }
        if (seen.size() == 3) misc_ahead_seconds = 500;
    };
    client.connected = [&](int) { misc_ahead_seconds = 100; };
    int code = 0;
    client.disconnected = [&](int why) {
        code = why;
        seen.emplace_back("lost");
    };
    connect(client, 1ms);
    run();
    EXPECT_EQ(seen, (std::vector<std::string>{"PINGREQ", "PINGRESP", "PINGREQ", "lost"}));
    EXPECT_EQ(code, MOSQ_ERR_KEEPALIVE);
    EXPECT_GT(misc_calls, 0);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Mosquitto, detached_in_a_callback_it_is_served_no_longer) {
    Client client;
    auto events = std::make_unique<adapters::MosquittoEvents>();
    int heard = 0;
    client.connected = [&](int) { mosquitto_subscribe(client.handle, nullptr, "news", 0); };
    client.subscribed = [&] { client.publish("news", "once", 0); };
    client.heard = [&](const mosquitto_message&) {
        ++heard;
        client.publish("news", "never heard", 0);
        events.reset();  // inside its own call
    };
    ASSERT_EQ(mosquitto_connect_async(client.handle, "127.0.0.1", port, 60), MOSQ_ERR_SUCCESS);
    ASSERT_FALSE(events->attach(*loop, client.handle));
    run();
    EXPECT_EQ(heard, 1);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Mosquitto, a_loop_without_a_slot_refuses) {
    LoopOptions options;
    options.backend = GetParam();
    options.ops_max = 8;
    Result<Loop> small = Loop::create(options);
    ASSERT_TRUE(small);
    while (small->after(1h, [](Loop&, Expired) {})) {
    }
    Client client;
    ASSERT_EQ(mosquitto_connect_async(client.handle, "127.0.0.1", port, 60), MOSQ_ERR_SUCCESS);
    EXPECT_EQ(client.events.attach(*small, client.handle), Error::slots_exhausted);
}

}  // namespace
}  // namespace whorl::hosts
