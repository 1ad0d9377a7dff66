// SPDX-License-Identifier: MIT
// Goal: c-ares resolves on a whorl loop: answers, refusals, silence, queries that are cancelled.
// Method: a real dnsmasq with a handful of names; a bound socket that never answers.
#include "hosts/server.hpp"

#include <whorl/adapters/cares.hpp>

#include <netdb.h>

namespace whorl::hosts {
namespace {

constexpr const char* program = "/usr/sbin/dnsmasq";

struct Found {
    int status = -1;
    std::string address;
};

void resolved(void* user, int status, int, hostent* host) {
    auto& found = *static_cast<Found*>(user);
    EXPECT_EQ(found.status, -1) << "answered twice";
    found.status = status;
    if (host != nullptr && host->h_addr_list[0] != nullptr) {
        char text[INET6_ADDRSTRLEN];
        found.address = ::inet_ntop(host->h_addrtype, host->h_addr_list[0], text, sizeof text);
    }
}

class Cares : public HostTest {
  protected:
    void SetUp() override {
        if (!Server::installed(program)) GTEST_SKIP() << "no dnsmasq";
        HostTest::SetUp();
        if (loop == nullptr) return;
        ASSERT_EQ(ares_library_init(ARES_LIB_INIT_ALL), ARES_SUCCESS);
        ready = true;
        port = free_port(SOCK_STREAM);
        server.start({program, "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
                      "--listen-address=127.0.0.1", "--bind-interfaces", "--user=",
                      "--pid-file=" + server.folder + "/pid", "--port=" + std::to_string(port),
                      "--address=/one.test/192.0.2.1", "--address=/two.test/192.0.2.2",
                      "--address=/six.test/2001:db8::6", "--local=/test/"});
        server.await(port);
    }
    void TearDown() override {
        resolver.reset();
        if (ready) ares_library_cleanup();
    }
    void open(int server_port, int timeout_ms = 2000, int tries = 2) {
        resolver = std::make_unique<adapters::CaresChannel>();
        ares_options options{};
        options.timeout = timeout_ms;
        options.tries = tries;
        ASSERT_EQ(resolver->open(*loop, options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES),
                  ARES_SUCCESS);
        const std::string where = "127.0.0.1:" + std::to_string(server_port);
        ASSERT_EQ(ares_set_servers_ports_csv(resolver->channel(), where.c_str()), ARES_SUCCESS);
    }
    void ask(Found& found, const char* name, int family = AF_INET) {
        ares_gethostbyname(resolver->channel(), name, family, &resolved, &found);
    }
    Server server;
    int port = 0;
    bool ready = false;
    std::unique_ptr<adapters::CaresChannel> resolver;
};
WHORL_HOST_TESTS(Cares);

TEST_P(Cares, names_are_found_or_not) {
    open(port);
    Found one, two, six, none;
    ask(one, "one.test");
    ask(two, "two.test");
    ask(six, "six.test", AF_INET6);
    ask(none, "none.test");
    run();
    EXPECT_EQ(one.address, "192.0.2.1");
    EXPECT_EQ(two.address, "192.0.2.2");
    EXPECT_EQ(six.address, "2001:db8::6");
    EXPECT_EQ(none.status, ARES_ENOTFOUND);
    EXPECT_EQ(left_over(), 0u) << "an idle channel keeps the loop busy";
}

TEST_P(Cares, hundreds_at_once) {
    open(port);
    std::vector<Found> found(300);
    for (Found& each : found) ask(each, "two.test");
    run();
    for (const Found& each : found) EXPECT_EQ(each.address, "192.0.2.2");
}

TEST_P(Cares, a_server_that_is_silent_times_out) {
    const int silent = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(silent, reinterpret_cast<sockaddr*>(&address), size), 0);
    ::getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size);
    open(ntohs(address.sin_port), 50, 2);
    Found found;
    ask(found, "one.test");
    run();
    EXPECT_EQ(found.status, ARES_ETIMEOUT);
    ::close(silent);
}

TEST_P(Cares, nobody_is_there) {
    server.stop();
    open(port, 100, 1);
    Found found;
    ask(found, "one.test");
    run();
    EXPECT_EQ(found.status, ARES_ECONNREFUSED);
}

TEST_P(Cares, queries_end_when_they_are_cancelled_or_the_channel_goes) {
    const int silent = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(silent, reinterpret_cast<sockaddr*>(&address), size), 0);
    ::getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size);
    open(ntohs(address.sin_port), 500, 1);  // the host's timer ends each run
    Found cancelled, destroyed;
    ask(cancelled, "one.test");
    ASSERT_TRUE(loop->after(10ms, [&](Loop&, Expired) { ares_cancel(resolver->channel()); }));
    run();
    EXPECT_EQ(cancelled.status, ARES_ECANCELLED);
    ask(destroyed, "one.test");
    ASSERT_TRUE(loop->after(10ms, [&](Loop&, Expired) { resolver.reset(); }));
    run();
    EXPECT_EQ(destroyed.status, ARES_EDESTRUCTION);
    EXPECT_EQ(left_over(), 0u);
    ::close(silent);
}

}  // namespace
}  // namespace whorl::hosts
