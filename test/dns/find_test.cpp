// SPDX-License-Identifier: MIT
// Goal: names are found by DNS: addresses, services, texts, aliases, in the hosts file and by search; what is
// known is not asked for again until its time is over; those who ask together share one question.
// Method: a name server in the test's own loop, which counts.
#include "dns/server.hpp"

#include <fstream>

namespace whorl::dns {
namespace {

class DnsFind : public DnsTest {};
WHORL_CONFORMANCE_REAL(DnsFind);

TEST_P(DnsFind, addresses_of_both_families) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {v4("127.0.0.7"), v4("127.0.0.8"), v6("::1")};
        Resolver resolver = make(loop, options_for(server.address()));
        Told both, six, few;
        find(loop, resolver, "one.test", both, AF_UNSPEC);
        run_told(loop, both);
        EXPECT_FALSE(both.error) << both.error.text();
        std::sort(both.lines.begin(), both.lines.end());
        EXPECT_EQ(both.lines, (Lines{"127.0.0.7:80", "127.0.0.8:80", "[::1]:80"}));
        EXPECT_EQ(server.of("one.test", type_a), 1);
        EXPECT_EQ(server.of("one.test", type_aaaa), 1);
        find(loop, resolver, "one.test", six, AF_INET6);
        run_told(loop, six);
        EXPECT_EQ(six.lines, Lines{"[::1]:80"});

        ResolveQuery query{"one.test", "8080"};
        query.resolver = &resolver;
        query.addresses_max = 1;
        ASSERT_TRUE(resolve(loop, query, few.host()));
        run_told(loop, few);
        EXPECT_TRUE(few.truncated);
        ASSERT_EQ(few.lines.size(), 1u);
        EXPECT_NE(few.lines[0].find(":8080"), std::string::npos) << few.lines[0];
    }
    expect_rest(loop);
}

TEST_P(DnsFind, services_by_priority_and_weight) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["_x._tcp.one.test"] = {
            service(20, 0, 3, "c.test"), service(10, 5, 2, "b.test"), service(10, 60, 1, "a.test")};
        Resolver resolver = make(loop, options_for(server.address()));
        Told told, again;
        ASSERT_TRUE(loop.submit(FindServices{resolver, "_X._tcp.One.test"}, told.services()));
        EXPECT_EQ(told.calls, 0) << "never inline";
        run_told(loop, told);
        EXPECT_FALSE(told.error) << told.error.text();
        EXPECT_EQ(told.lines, (Lines{"a.test:1", "b.test:2", "c.test:3"}));
        ASSERT_TRUE(loop.submit(FindServices{resolver, "_x._tcp.one.test"}, again.services()));
        EXPECT_EQ(again.calls, 0) << "never inline";
        run_told(loop, again);
        EXPECT_EQ(again.lines, told.lines);
        EXPECT_EQ(server.packets, 1) << "kept, whatever the case of its letters";
        EXPECT_EQ(resolver.statistics().kept, 1u);
    }
    expect_rest(loop);
}

TEST_P(DnsFind, texts_each_put_together) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {text({"v=spf1 ", "a", " -all"}), text({""}),
                                      text({std::string(255, 'x')})};
        Resolver resolver = make(loop, options_for(server.address()));
        Told told;
        Records<std::string_view> outlives;
        ASSERT_TRUE(
            loop.submit(FindTexts{resolver, "one.test"}, [&](Loop& at, FindTexts::Done done) {
                outlives = std::move(done.texts);
                told.texts()(at, {done.error, {}});
            }));
        run_told(loop, told);
        EXPECT_FALSE(told.error) << told.error.text();
        resolver.clear();
        ASSERT_EQ(outlives.size(), 3u);
        Lines lines(outlives.begin(), outlives.end());
        std::sort(lines.begin(), lines.end());
        EXPECT_EQ(lines, (Lines{"", "v=spf1 a -all", std::string(255, 'x')}));
    }
    expect_rest(loop);
}

TEST_P(DnsFind, an_alias_is_followed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        Record address = v4("127.0.0.9");
        address.owner = "real.test";
        server.records["alias.test"] = {{type_cname, labels("real.test")}, address};
        Resolver resolver = make(loop, options_for(server.address()));
        Told told;
        find(loop, resolver, "alias.test", told);
        run_told(loop, told);
        EXPECT_EQ(told.lines, Lines{"127.0.0.9:80"}) << told.error.text();
    }
    expect_rest(loop);
}

TEST_P(DnsFind, what_is_kept_is_not_asked_for_until_its_time_is_over) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["long.test"] = {v4("127.0.0.1"), text({"long"})};
        server.records["short.test"] = {v4("127.0.0.1", 0)};
        Record address = v4("127.0.0.1", 3600);
        address.owner = "real.test";
        server.records["alias.test"] = {{type_cname, labels("real.test"), 0}, address};
        Options options = options_for(server.address());
        const auto ask = [&](Resolver& resolver, const char* name) {
            Told told;
            find(loop, resolver, name, told);
            run_told(loop, told);
            EXPECT_FALSE(told.error) << told.error.text();
        };
        {
            Resolver resolver = make(loop, options);
            for (int round = 0; round < 3; ++round) {
                for (const char* name : {"long.test", "short.test", "alias.test"}) {
                    ask(resolver, name);
                }
            }
            EXPECT_EQ(server.of("long.test", type_a), 1);
            EXPECT_EQ(server.of("short.test", type_a), 3) << "it says 0";
            EXPECT_EQ(server.of("alias.test", type_a), 3) << "its alias says 0";
            Told texts;  // another kind is another question
            ASSERT_TRUE(loop.submit(FindTexts{resolver, "long.test"}, texts.texts()));
            run_told(loop, texts);
            EXPECT_EQ(server.of("long.test", type_txt), 1);
            resolver.clear();
            EXPECT_EQ(resolver.statistics().entries, 0u);
            EXPECT_EQ(resolver.statistics().bytes, 0u);
            ask(resolver, "long.test");
            EXPECT_EQ(server.of("long.test", type_a), 2);
        }
        options.ttl_max = 5ms;
        Resolver brief = make(loop, options);
        server.asked.clear();
        ask(brief, "long.test");
        ASSERT_FALSE(loop.run_for(10ms));
        ask(brief, "long.test");
        EXPECT_EQ(server.of("long.test", type_a), 2) << "its time was over";
    }
    expect_rest(loop);
}

TEST_P(DnsFind, that_a_name_is_not_there_is_kept_too) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["text.test"] = {text({"but no address"})};
        for (const bool kept : {true, false}) {
            Options options = options_for(server.address());
            options.negative_ttl = kept ? Nanoseconds(1h) : Nanoseconds(0);
            Resolver resolver = make(loop, options);
            server.asked.clear();
            for (int round = 0; round < 2; ++round) {
                Told none, other, service;
                find(loop, resolver, "none.test", none);
                run_told(loop, none);
                EXPECT_EQ(none.error, Error::name_unknown) << none.error.text();
                find(loop, resolver, "text.test", other);
                run_told(loop, other);
                EXPECT_EQ(other.error, Error::name_no_record) << other.error.text();
                ASSERT_TRUE(loop.submit(FindServices{resolver, "text.test"}, service.services()));
                run_told(loop, service);
                EXPECT_EQ(service.error, Error::name_no_record) << service.error.text();
            }
            EXPECT_EQ(server.of("none.test", type_a), kept ? 1 : 2);
            EXPECT_EQ(server.of("text.test", type_a), kept ? 1 : 2);
            EXPECT_EQ(server.of("text.test", type_srv), kept ? 1 : 2);
        }
    }
    expect_rest(loop);
}

TEST_P(DnsFind, those_who_ask_together_share_one_question) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {v4("127.0.0.1")};
        Resolver resolver = make(loop, options_for(server.address()));
        Told told[10];
        for (Told& each : told) find(loop, resolver, "one.test", each);
        for (Told& each : told) {
            run_told(loop, each);
            EXPECT_EQ(each.lines, Lines{"127.0.0.1:80"});
        }
        EXPECT_EQ(server.packets, 1);
        EXPECT_EQ(resolver.statistics().asked, 1u);
        EXPECT_EQ(resolver.statistics().joined, 9u);
    }
    expect_rest(loop);
}

TEST_P(DnsFind, what_is_kept_is_bounded_and_the_oldest_use_goes_first) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        for (const char* name : {"a.test", "b.test", "c.test"}) {
            server.records[name] = {v4("127.0.0.1"), text({std::string(200, 'x')})};
        }
        Options options = options_for(server.address());
        options.cache_max = 2;
        const auto ask = [&](Resolver& resolver, const char* name) {
            Told told;
            find(loop, resolver, name, told);
            run_told(loop, told);
        };
        {
            Resolver resolver = make(loop, options);
            for (const char* name : {"a.test", "b.test", "a.test", "c.test", "a.test"}) {
                ask(resolver, name);
            }
            EXPECT_EQ(server.of("a.test", type_a), 1) << "used meanwhile";
            EXPECT_EQ(resolver.statistics().evicted, 1u);
            EXPECT_EQ(resolver.statistics().entries, 2u);
            ask(resolver, "b.test");
            EXPECT_EQ(server.of("b.test", type_a), 2);
        }
        options.cache_max = 1000;
        options.cache_bytes_max = 400;  // one text
        Resolver resolver = make(loop, options);
        for (const char* name : {"a.test", "b.test", "a.test"}) {
            Told told;
            ASSERT_TRUE(loop.submit(FindTexts{resolver, name}, told.texts()));
            run_told(loop, told);
            EXPECT_FALSE(told.error);
            EXPECT_LE(resolver.statistics().bytes, 400u);
        }
        EXPECT_EQ(server.of("a.test", type_txt), 2);
        EXPECT_LE(resolver.statistics().entries, 1u);
    }
    expect_rest(loop);
}

TEST_P(DnsFind, the_hosts_file_comes_first_and_domains_are_searched) {
    WHORL_SKIP_IF_REFUSED();
    char folder[] = "/tmp/whorl-dns-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    const std::string hosts = std::string(folder) + "/hosts";
    const std::string conf = std::string(folder) + "/resolv.conf";
    std::ofstream(hosts) << "192.0.2.77 filed.test\n";
    std::ofstream(conf) << "nameserver 192.0.2.99\nsearch inside.test\n";
    ::setenv("CARES_HOSTS", hosts.c_str(), 1);
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["filed.test"] = {v4("127.0.0.1")};
        server.records["short.inside.test"] = {v4("127.0.0.2")};
        Options options = options_for(server.address());
        options.hosts = Hosts::environment;
        options.resolv_conf = conf.c_str();
        Resolver resolver = make(loop, options);
        Told filed, searched, absolute;
        find(loop, resolver, "filed.test", filed);
        run_told(loop, filed);
        EXPECT_EQ(filed.lines, Lines{"192.0.2.77:80"}) << filed.error.text();
        EXPECT_EQ(server.packets, 0);
        find(loop, resolver, "short", searched);
        run_told(loop, searched);
        EXPECT_EQ(searched.lines, Lines{"127.0.0.2:80"}) << searched.error.text();
        find(loop, resolver, "short.", absolute);
        run_told(loop, absolute);
        EXPECT_EQ(absolute.error, Error::name_unknown);
    }
    expect_rest(loop);
    ::unsetenv("CARES_HOSTS");
    ::unlink(hosts.c_str());
    ::unlink(conf.c_str());
    ::rmdir(folder);
}

TEST_P(DnsFind, numbers_are_not_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        Resolver resolver = make(loop, options_for(server.address()));
        Told four, six;
        find(loop, resolver, "192.0.2.1", four);
        find(loop, resolver, "::1", six, AF_INET6);
        run_told(loop, four);
        run_told(loop, six);
        EXPECT_EQ(four.lines, Lines{"192.0.2.1:80"});
        EXPECT_EQ(six.lines, Lines{"[::1]:80"});
        EXPECT_EQ(server.packets, 0);
    }
    expect_rest(loop);
}

TEST_P(DnsFind, a_connector_asks_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        const Address there = *local_address(loop, *listen(loop, Address::loopback_v4(0)));
        server.records["one.test"] = {v4("127.0.0.1")};
        Resolver resolver = make(loop, options_for(server.address()));
        for (const char* name : {"one.test", "none.test"}) {
            ResolveQuery query{name, {}, there.port()};
            query.resolver = &resolver;
            query.family = AF_INET;
            Connected connected;
            int calls = 0;
            ASSERT_TRUE(connect_host(loop, query, {}, [&](Loop&, const Connected& result) {
                ++calls;
                connected = result;
            }));
            run_until(loop, [&] { return calls != 0; });
            if (name[0] == 'n') {
                EXPECT_EQ(connected.error, Error::name_unknown);
                EXPECT_EQ(connected.attempts, 0u);
                continue;
            }
            ASSERT_FALSE(connected.error) << connected.error.text();
            EXPECT_EQ(connected.address, there);
            ASSERT_FALSE(loop.close(connected.socket));
        }
        EXPECT_EQ(server.of("one.test", type_a), 1);
    }
    ASSERT_FALSE(loop.drain(10s));
}

}  // namespace
}  // namespace whorl::dns
