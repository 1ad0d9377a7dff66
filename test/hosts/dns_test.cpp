// SPDX-License-Identifier: MIT
// Goal: whorl::dns asks a real name server: addresses of both families, aliases, services, texts, answers too
// long for UDP, names that are not there, hundreds at once, a server that dies.
// Method: dnsmasq with a handful of names.
#include "hosts/server.hpp"

#include <whorl/connector.hpp>
#include <whorl/dns.hpp>

#include <algorithm>

namespace whorl::hosts {
namespace {

constexpr const char* program = "/usr/sbin/dnsmasq";
using Lines = std::vector<std::string>;

class Dns : public HostTest {
  protected:
    void SetUp() override {
        if (!Server::installed(program)) GTEST_SKIP() << "no dnsmasq";
        HostTest::SetUp();
        if (loop == nullptr) return;
        port = free_port(SOCK_STREAM);
        std::vector<std::string> words = {program,
                                          "--no-daemon",
                                          "--no-resolv",
                                          "--no-hosts",
                                          "--conf-file=/dev/null",
                                          "--listen-address=127.0.0.1",
                                          "--bind-interfaces",
                                          "--user=",
                                          "--local-ttl=3600",
                                          "--pid-file=" + server.folder + "/pid",
                                          "--port=" + std::to_string(port),
                                          "--local=/test/",
                                          "--host-record=one.test,127.0.0.1,::1",
                                          "--cname=alias.test,one.test",
                                          "--srv-host=_x._tcp.test,b.test,2,20,5",
                                          "--srv-host=_x._tcp.test,a.test,1,10,5",
                                          "--txt-record=text.test,one,two"};
        for (int record = 0; record < 10; ++record) {
            words.push_back("--txt-record=long.test," +
                            std::string(250, static_cast<char>('a' + record)));
        }
        for (int host = 0; host < 300; ++host) {
            words.push_back("--host-record=n" + std::to_string(host) + ".test,127.0.1.1");
        }
        server.start(words);
        server.await(port);
        const Address address = Address::loopback_v4(static_cast<std::uint16_t>(port));
        dns::Options options;
        options.servers = &address;
        options.servers_count = 1;
        options.hosts = dns::Hosts::none;
        options.resolv_conf = "/dev/null";
        options.negative_ttl = Nanoseconds(0);
        Result<dns::Resolver> made = dns::Resolver::create(*loop, options);
        ASSERT_TRUE(made) << made.error().text();
        resolver = std::make_unique<dns::Resolver>(std::move(*made));
    }
    void TearDown() override { resolver.reset(); }

    struct Told {
        int calls = 0;
        Error error;
        Lines lines;
    };
    void host(Told& told, std::string_view name, int family = 0) {
        ResolveQuery query{name, {}, 80};
        query.family = family;
        query.resolver = resolver.get();
        ASSERT_TRUE(resolve(*loop, query, [&told](Loop&, const ResolveDone& done) {
            ++told.calls;
            told.error = done.error;
            for (const Address& each : done.addresses) told.lines.emplace_back(each.print().view());
            std::sort(told.lines.begin(), told.lines.end());
        }));
    }
    void texts(Told& told, std::string_view name) {
        ASSERT_TRUE(loop->submit(dns::FindTexts{*resolver, name},
                                 [&told](Loop&, const dns::FindTexts::Done& done) {
                                     ++told.calls;
                                     told.error = done.error;
                                     for (const auto each : done.texts)
                                         told.lines.emplace_back(each);
                                     std::sort(told.lines.begin(), told.lines.end());
                                 }));
    }

    Server server;
    int port = 0;
    std::unique_ptr<dns::Resolver> resolver;
};
WHORL_HOST_TESTS(Dns);

TEST_P(Dns, records_of_every_kind) {
    Told both, six, alias, none, other, text, longer, service;
    host(both, "one.test");
    host(six, "one.test", AF_INET6);
    host(alias, "alias.test", AF_INET);
    host(none, "none.test");
    host(other, "text.test");
    texts(text, "text.test");
    texts(longer, "long.test");
    ASSERT_TRUE(loop->submit(dns::FindServices{*resolver, "_x._tcp.test"},
                             [&](Loop&, const dns::FindServices::Done& done) {
                                 ++service.calls;
                                 service.error = done.error;
                                 for (const dns::Service& each : done.services) {
                                     service.lines.push_back(std::string(each.host) + ':' +
                                                             std::to_string(each.port));
                                 }
                             }));
    run();
    EXPECT_EQ(both.lines, (Lines{"127.0.0.1:80", "[::1]:80"})) << both.error.text();
    EXPECT_EQ(six.lines, Lines{"[::1]:80"}) << six.error.text();
    EXPECT_EQ(alias.lines, Lines{"127.0.0.1:80"}) << alias.error.text();
    EXPECT_EQ(none.error, Error::name_unknown) << none.error.text();
    EXPECT_EQ(other.error, Error::name_no_record) << other.error.text();
    EXPECT_EQ(text.lines, Lines{"onetwo"}) << text.error.text();
    EXPECT_EQ(longer.lines.size(), 10u) << longer.error.text();
    EXPECT_EQ(service.lines, (Lines{"a.test:1", "b.test:2"})) << service.error.text();
    for (const Told* told : {&both, &six, &alias, &none, &other, &text, &longer, &service}) {
        EXPECT_EQ(told->calls, 1);
    }
    EXPECT_EQ(left_over(), 0u) << "an idle resolver keeps the loop busy";
}

TEST_P(Dns, hundreds_at_once_and_then_none_of_them_is_asked_for) {
    const auto ask = [&] {
        std::vector<Told> told(300);
        for (int index = 0; index < 300; ++index) {
            host(told[static_cast<std::size_t>(index)], "n" + std::to_string(index) + ".test",
                 AF_INET);
        }
        run();
        for (const Told& each : told) {
            EXPECT_EQ(each.lines, Lines{"127.0.1.1:80"}) << each.error.text();
        }
    };
    ask();
    EXPECT_EQ(resolver->statistics().asked, 300u);
    ask();
    EXPECT_EQ(resolver->statistics().asked, 300u);
    EXPECT_EQ(resolver->statistics().kept, 300u);
}

TEST_P(Dns, a_server_that_dies_leaves_what_is_kept) {
    Told before, kept, gone;
    host(before, "one.test", AF_INET);
    run();
    EXPECT_FALSE(before.error) << before.error.text();
    server.stop();
    host(kept, "one.test", AF_INET);
    host(gone, "alias.test", AF_INET);
    run();
    EXPECT_EQ(kept.lines, Lines{"127.0.0.1:80"});
    EXPECT_EQ(gone.error, Error::name_not_answered) << gone.error.text();
}

}  // namespace
}  // namespace whorl::hosts
