// SPDX-License-Identifier: MIT
// Goal: what options and queries say is kept to at its borders: servers of both families, ports by name, an
// order that does not change, a question that is taken up again, memory that is refused.
// Method: a name server in the test's own loop; hooks that refuse each allocation in turn.
#include "conformance/host_memory.hpp"
#include "dns/server.hpp"

#include <netdb.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

namespace whorl::dns {
namespace {

class DnsRules : public DnsTest {};
WHORL_CONFORMANCE_REAL(DnsRules);

TEST_P(DnsRules, options_at_their_borders) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        const Address server = Address::loopback_v4(9);
        const auto error_of = [&](auto change) {
            Options options = options_for(server);
            change(options);
            return Resolver::create(loop, options).error();
        };
        const auto refused = [&](auto change) {
            EXPECT_EQ(error_of(change), Error::invalid_argument);
        };
        const auto taken = [&](auto change) { EXPECT_FALSE(error_of(change)); };
        taken([](Options& o) { o.timeout = 1ms; });
        taken([](Options& o) { o.timeout = 1h; });
        refused([](Options& o) { o.timeout = 999us; });
        refused([](Options& o) { o.timeout = 1h + 1ns; });
        taken([](Options& o) { o.tries = 100; });
        refused([](Options& o) { o.tries = 101; });
        taken([](Options& o) { o.ttl_min = o.ttl_max; });
        refused([](Options& o) { o.ttl_min = o.ttl_max + 1ns; });
        refused([](Options& o) { o.ttl_min = -1ns; });
        refused([](Options& o) { o.negative_ttl = -1ns; });
        taken([](Options& o) { o.cache_max = std::numeric_limits<std::uint32_t>::max(); });
        const std::vector<Address> many(101, server);
        taken([&](Options& o) { o.servers = many.data(), o.servers_count = 100; });
        refused([&](Options& o) { o.servers = many.data(), o.servers_count = 101; });
        const Address six = *Address::parse("::1", 5353);
        taken([&](Options& o) { o.servers = &six; });
        const Address no_port = Address::loopback_v4(0);
        taken([&](Options& o) { o.servers = &no_port; });
        Address scoped = *Address::parse("fe80::1%1", 5353);
        ASSERT_NE(scoped.scope_id(), 0u);
        refused([&](Options& o) { o.servers = &scoped; });
        taken([](Options& o) { o.servers_count = 0, o.resolv_conf = nullptr; });
        taken([](Options& o) { o.resolv_conf = "/dev/null/none"; });
    }
    expect_rest(loop);
}

TEST_P(DnsRules, a_name_ends_with_one_dot_at_most) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["a.test"] = {text({"a"})};
        Resolver resolver = make(loop, options_for(server.address()));
        Told told;
        EXPECT_EQ(loop.submit(FindTexts{resolver, "a.test.."}, told.texts()).error(),
                  Error::invalid_argument);
        ASSERT_TRUE(loop.submit(FindTexts{resolver, "a.test."}, told.texts()));
        run_told(loop, told);
        EXPECT_EQ(told.lines, Lines{"a"}) << told.error.name();
    }
    expect_rest(loop);
}

TEST_P(DnsRules, a_server_of_the_other_family_that_is_away) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {v4("127.0.0.1")};
        const Address both[] = {*Address::parse("::1", server.address().port()), server.address()};
        Options options = options_for(server.address());
        options.servers = both;
        options.servers_count = 2;
        Resolver resolver = make(loop, options);
        Told told;
        find(loop, resolver, "one.test", told);
        run_told(loop, told);
        EXPECT_EQ(told.lines, Lines{"127.0.0.1:80"}) << told.error.name();
    }
    expect_rest(loop);
}

TEST_P(DnsRules, ports_by_number_and_name) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {v4("127.0.0.1")};
        Resolver resolver = make(loop, options_for(server.address()));
        const auto port = [&](const std::string& service, int type) {
            ResolveQuery query{"one.test", service, 7};
            query.family = AF_INET;
            query.type = type;
            query.resolver = &resolver;
            Told told;
            const auto made = resolve(loop, query, told.host());
            if (!made) {
                EXPECT_EQ(made.error(), Error::service_unknown) << made.error().name();
                EXPECT_EQ(told.calls, 0);
                return std::string("unknown");
            }
            run_told(loop, told);
            return told.lines.empty() ? told.error.name() : told.lines[0].substr(10);
        };
        EXPECT_EQ(port("", SOCK_STREAM), "7");
        EXPECT_EQ(port("0", SOCK_STREAM), "0");
        EXPECT_EQ(port("65535", SOCK_STREAM), "65535");
        for (const char* none : {"65536", "80x", "8 0", "-1", "+1", " 80", "x\x01"}) {
            EXPECT_EQ(port(none, SOCK_STREAM), "unknown") << none;
        }
        EXPECT_EQ(port(std::string(64, 'x'), SOCK_STREAM), "unknown");
        // By what this machine knows.
        for (const char* name : {"http", "domain", "ntp", "tftp", "telnet"}) {
            for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
                const servent* known = ::getservbyname(name, type == SOCK_DGRAM ? "udp" : "tcp");
                const std::string right =
                    known == nullptr
                        ? "unknown"
                        : std::to_string(ntohs(static_cast<std::uint16_t>(known->s_port)));
                EXPECT_EQ(port(name, type), right) << name;
            }
        }
    }
    expect_rest(loop);
}

TEST_P(DnsRules, services_have_one_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        std::vector<Record> records = {
            service(10, 5, 2, "b.test"), service(10, 5, 1, "b.test"), service(10, 5, 9, "a.test"),
            service(10, 7, 3, "z.test"), service(1, 0, 4, "y.test"),  service(1, 0, 4, "x.test"),
        };
        const Lines right = {"x.test:4", "y.test:4", "z.test:3",
                             "a.test:9", "b.test:1", "b.test:2"};
        for (std::size_t turn = 0; turn < records.size(); ++turn) {
            std::rotate(records.begin(), records.begin() + 1, records.end());
            server.records["_x._tcp.test"] = records;
            Resolver resolver = make(loop, options_for(server.address()));
            Told told;
            ASSERT_TRUE(loop.submit(FindServices{resolver, "_x._tcp.test"}, told.services()));
            run_told(loop, told);
            EXPECT_EQ(told.lines, right) << told.error.name();
        }
    }
    expect_rest(loop);
}

TEST_P(DnsRules, without_room_nothing_is_kept) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {text({"one"})};
        Options options = options_for(server.address());
        options.cache_max = 0;
        Resolver resolver = make(loop, options);
        for (int round = 1; round <= 2; ++round) {
            Told there, not_there;
            ASSERT_TRUE(loop.submit(FindTexts{resolver, "one.test"}, there.texts()));
            ASSERT_TRUE(loop.submit(FindTexts{resolver, "two.test"}, not_there.texts()));
            run_told(loop, there);
            run_told(loop, not_there);
            EXPECT_EQ(there.lines, Lines{"one"});
            EXPECT_EQ(not_there.error, Error::name_unknown);
            EXPECT_EQ(server.of("one.test", type_txt), round);
            EXPECT_EQ(server.of("two.test", type_txt), round);
            EXPECT_EQ(resolver.statistics().entries, 0u);
        }
    }
    expect_rest(loop);
}

// Nobody waits for it any more, but it cannot be taken back alone; then somebody asks for it again.
TEST_P(DnsRules, a_question_that_was_left_is_taken_up_again) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {text({"one"})};
        server.records["two.test"] = {text({"two"})};
        server.hold = true;
        Resolver resolver = make(loop, options_for(server.address()));
        Told left, other, again;
        const auto asked = loop.submit(FindTexts{resolver, "one.test"}, left.texts());
        ASSERT_TRUE(asked);
        ASSERT_TRUE(loop.submit(FindTexts{resolver, "two.test"}, other.texts()));
        run_until(loop, [&] { return server.held() == 2; });
        EXPECT_EQ(loop.cancel(*asked), Cancelled::cancelling);
        run_told(loop, left);
        EXPECT_EQ(left.error, Error::cancelled);
        const auto taken_up = loop.submit(FindTexts{resolver, "one.test"}, again.texts());
        ASSERT_TRUE(taken_up);
        EXPECT_EQ(resolver.statistics().asked, 2u);
        EXPECT_EQ(resolver.statistics().joined, 1u);
        server.let_go();
        run_told(loop, other);
        run_told(loop, again);
        EXPECT_EQ(again.lines, Lines{"one"}) << again.error.name();
        EXPECT_EQ(other.lines, Lines{"two"}) << other.error.name();
        EXPECT_EQ(server.of("one.test", type_txt), 1);
        EXPECT_EQ(resolver.statistics().under_way, 0u);
    }
    expect_rest(loop);
}

TEST_P(DnsRules, moved_while_nobody_knows_where_it_is) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {v4("127.0.0.1")};
        Resolver first = make(loop, options_for(server.address()));
        Resolver second(std::move(first));
        Told told;
        find(loop, second, "one.test", told);
        run_told(loop, told);
        EXPECT_EQ(told.lines, Lines{"127.0.0.1:80"}) << told.error.name();
    }
    expect_rest(loop);
}

// Everything that a resolver does once. Each error is that of the memory that was refused, or none.
void all_of_it(Loop& loop, DnsServer& server, const Options& options, int& right, int& without) {
    Result<Resolver> made = Resolver::create(loop, options);
    if (!made) {
        EXPECT_EQ(made.error(), Error::from_errno(ENOMEM)) << made.error().name();
        ++without;
        return;
    }
    Resolver& resolver = *made;
    const auto told_is = [&](const Told& told, const Lines& lines) {
        EXPECT_EQ(told.calls, 1);
        // A socket that could not be watched is a server that has not answered.
        EXPECT_TRUE(!told.error || told.error == Error::from_errno(ENOMEM) ||
                    told.error == Error::name_not_answered)
            << told.error.name();
        EXPECT_EQ(told.lines, told.error ? Lines() : lines);
        ++(told.error ? without : right);
    };
    const auto ask = [&](auto make, const Lines& lines) {
        Told told;
        const Error error = make(told);
        if (error) {
            EXPECT_EQ(error, Error::from_errno(ENOMEM)) << error.name();
            EXPECT_EQ(told.calls, 0);
            ++without;
            return;
        }
        for (int turns = 0; told.calls == 0 && turns < 100'000; ++turns) {
            ASSERT_FALSE(loop.run_for(1ms));
        }
        told_is(told, lines);
    };
    for (int round = 0; round < 2; ++round) {  // the second is answered by what is kept
        ask(
            [&](Told& told) {
                ResolveQuery query{"one.test", {}, 80};
                query.family = AF_INET;
                query.resolver = &resolver;
                return resolve(loop, query, told.host()).error();
            },
            {"127.0.0.1:80"});
        ask(
            [&](Told& told) {
                return loop.submit(FindTexts{resolver, "one.test"}, told.texts()).error();
            },
            {"one"});
        ask(
            [&](Told& told) {
                return loop.submit(FindServices{resolver, "one.test"}, told.services()).error();
            },
            {"a.test:1"});
    }
    EXPECT_EQ(resolver.statistics().under_way, 0u);
    EXPECT_GE(server.packets, 0);
}

TEST_P(DnsRules, each_allocation_may_be_refused) {
    WHORL_SKIP_IF_REFUSED();
    ASSERT_FALSE(hooked);
    int right = 0, without = 0;
    for (const bool on : {false, true}) {
        bool refused = true;
        for (std::uint64_t number = 0; refused; ++number) {
            ASSERT_LT(number, 1000u) << "it comes to an end";
            SCOPED_TRACE(number);
            {
                Loop loop = make_loop();
                {
                    DnsServer server(loop);
                    server.records["one.test"] = {v4("127.0.0.1"), text({"one"}),
                                                  service(1, 1, 1, "a.test")};
                    Host::refuse(number, on);
                    const std::uint64_t last = Host::refuse_at;
                    Options hasty = options_for(server.address());
                    hasty.timeout = 20ms;
                    hasty.tries = 1;
                    all_of_it(loop, server, hasty, right, without);
                    refused = Host::asked > last;
                    Host::refuse_none();
                    int again = 0;
                    all_of_it(loop, server, options_for(server.address()), again, without);
                    EXPECT_EQ(again, 6) << "memory is there again";
                }
                expect_rest(loop);
            }
            ASSERT_EQ(Host::bytes, 0);
            ASSERT_FALSE(HasFailure());
        }
    }
    EXPECT_GT(without, 10);
    EXPECT_GT(right, without);
    EXPECT_FALSE(Host::mistaken);
}

}  // namespace
}  // namespace whorl::dns
