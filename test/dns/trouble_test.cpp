// SPDX-License-Identifier: MIT
// Goal: whatever servers do, each question has one answer with its reason; it can be cancelled, is bounded,
// and ends with its resolver or loop; nothing is left behind.
// Method: a name server in the test's own loop that is silent, lies, breaks off; questions that it holds.
#include "dns/server.hpp"

#include <memory>

namespace whorl::dns {
namespace {

class DnsTrouble : public DnsTest {};
WHORL_CONFORMANCE_REAL(DnsTrouble);

// A UDP port at which everything is refused: its socket is for another peer.
class DeafPort {
  public:
    DeafPort() {
        fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* const plain = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(::bind(fd_, plain, size), 0);
        ::getsockname(fd_, plain, &size);
        port_ = ntohs(address.sin_port);
        EXPECT_EQ(::connect(fd_, plain, size), 0);
    }
    DeafPort(const DeafPort&) = delete;
    DeafPort& operator=(const DeafPort&) = delete;
    ~DeafPort() { ::close(fd_); }
    Address address() const { return Address::loopback_v4(port_); }

  private:
    int fd_ = -1;
    std::uint16_t port_ = 0;
};

TEST_P(DnsTrouble, an_answer_that_is_too_long_for_udp_comes_by_tcp) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        const std::string piece(250, 'x');
        for (int record = 0; record < 20; ++record) {
            server.records["long.test"].push_back(text({piece, piece}));
        }
        server.records["long.test"].push_back(v4("127.0.0.1"));
        server.manners["long.test"] = Manner::truncated;
        Resolver resolver = make(loop, options_for(server.address()));
        Told texts, address;
        ASSERT_TRUE(loop.submit(FindTexts{resolver, "long.test"}, texts.texts()));
        find(loop, resolver, "long.test", address);
        run_told(loop, texts);
        run_told(loop, address);
        EXPECT_EQ(texts.lines, Lines(20, piece + piece)) << texts.error.text();
        EXPECT_EQ(address.lines, Lines{"127.0.0.1:80"}) << address.error.text();
        EXPECT_EQ(server.asked["long.test/16/tcp"], 1);
        EXPECT_EQ(server.of("long.test", type_txt), 1);
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, every_failure_has_its_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        const struct {
            const char* name;
            Manner manner;
            Error error;
        } cases[] = {
            {"silent.test", Manner::silent, Error::name_not_answered},
            {"fails.test", Manner::fails, Error::name_refused},
            {"refuses.test", Manner::refuses, Error::name_refused},
            {"misunderstands.test", Manner::misunderstands, Error::name_refused},
            {"garbage.test", Manner::garbage, Error::name_not_answered},
            {"other-id.test", Manner::other_id, Error::name_not_answered},
            {"malformed.test", Manner::malformed, Error::name_malformed},
            {"tcp-ends.test", Manner::tcp_ends, Error::name_not_answered},
        };
        Options options = options_for(server.address());
        for (const auto& each : cases) {
            server.manners[each.name] = each.manner;
            server.records[each.name] = {v4("127.0.0.1"), service(1, 1, 1, "a.test"), text({"a"})};
            const bool waits = each.error == Error::name_not_answered;
            options.timeout = waits ? Nanoseconds(5ms) : Nanoseconds(20s);
            options.tries = 2;
            Resolver resolver = make(loop, options);
            Told host, services, texts;
            find(loop, resolver, each.name, host);
            ASSERT_TRUE(loop.submit(FindServices{resolver, each.name}, services.services()));
            ASSERT_TRUE(loop.submit(FindTexts{resolver, each.name}, texts.texts()));
            for (Told* told : {&host, &services, &texts}) {
                run_told(loop, *told);
                EXPECT_EQ(told->error, each.error) << each.name << ": " << told->error.name();
                EXPECT_TRUE(told->lines.empty());
            }
            EXPECT_EQ(resolver.statistics().entries, 0u) << "a failure is not kept";
            if (each.manner == Manner::silent) {
                run_until(loop, [&] { return server.of(each.name, type_a) == 2; });  // its tries
            }
        }
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, an_answer_to_another_question_is_not_taken) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.manners["one.test"] = Manner::other_id_first;
        server.records["false.one.test"] = {v4("192.0.2.66")};
        server.records["one.test"] = {v4("127.0.0.1")};
        Resolver resolver = make(loop, options_for(server.address()));
        Told told;
        find(loop, resolver, "one.test", told);
        run_told(loop, told);
        EXPECT_EQ(told.lines, Lines{"127.0.0.1:80"}) << told.error.text();
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, the_next_server_is_asked_and_nobody_is_an_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        const DeafPort deaf;
        server.records["one.test"] = {v4("127.0.0.1")};
        const Address both[] = {deaf.address(), server.address()};
        Options options = options_for(server.address());
        options.servers = both;
        options.servers_count = 2;
        {
            Resolver resolver = make(loop, options);
            Told told;
            find(loop, resolver, "one.test", told);
            run_told(loop, told);
            EXPECT_EQ(told.lines, Lines{"127.0.0.1:80"}) << told.error.text();
        }
        options.servers_count = 1;
        Resolver resolver = make(loop, options);
        Told told;
        find(loop, resolver, "one.test", told);
        run_told(loop, told);
        EXPECT_EQ(told.error, Error::name_not_answered) << told.error.name();
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, a_server_that_dies_leaves_what_is_kept) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {v4("127.0.0.1")};
        server.hold = true;
        Options options = options_for(server.address());
        Resolver patient = make(loop, options);
        options.timeout = 10ms;
        options.tries = 2;
        Resolver hasty = make(loop, options);
        Told first, under_way, kept, later;
        find(loop, patient, "one.test", first);
        run_until(loop, [&] { return server.held() != 0; });
        server.let_go();
        run_told(loop, first);
        EXPECT_FALSE(first.error) << first.error.name();
        server.hold = true;
        find(loop, hasty, "two.test", under_way);
        run_until(loop, [&] { return server.held() != 0 || under_way.calls != 0; });
        server.stop();
        run_told(loop, under_way);
        EXPECT_EQ(under_way.error, Error::name_not_answered) << under_way.error.name();
        find(loop, patient, "one.test", kept);
        find(loop, hasty, "three.test", later);
        run_told(loop, kept);
        EXPECT_FALSE(kept.error);
        run_told(loop, later);
        EXPECT_EQ(later.error, Error::name_not_answered) << later.error.name();
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, cancelled_at_every_stage) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {v4("127.0.0.1"), text({"one"})};
        server.hold = true;
        Options options = options_for(server.address());
        options.under_way_max = 1;
        Resolver resolver = make(loop, options);
        const auto ask = [&](const char* name, Told& told) {
            const auto made = loop.submit(FindTexts{resolver, name}, told.texts());
            EXPECT_TRUE(made);
            return *made;
        };
        const auto expect_cancelled = [&](Operation operation, Told& told) {
            EXPECT_EQ(loop.cancel(operation), Cancelled::cancelling);
            EXPECT_EQ(told.calls, 0) << "never inline";
            run_told(loop, told);
            EXPECT_EQ(told.error, Error::cancelled);
            EXPECT_EQ(loop.cancel(operation), Cancelled::not_found);
        };
        Told before, asked, pending, joined, stays, ready, hosts;
        expect_cancelled(ask("one.test", before), before);  // nothing has been sent
        EXPECT_EQ(resolver.statistics().under_way, 0u);

        const Operation one = ask("one.test", asked);
        run_until(loop, [&] { return server.held() != 0; });
        ask("one.test", stays);
        expect_cancelled(ask("one.test", joined), joined);
        expect_cancelled(ask("two.test", pending), pending);
        expect_cancelled(one, asked);
        server.let_go();
        run_told(loop, stays);
        EXPECT_EQ(stays.lines, Lines{"one"}) << "the question was still somebody's";
        EXPECT_EQ(server.of("two.test", type_txt), 0);

        const Operation complete = ask("one.test", ready);
        EXPECT_EQ(loop.cancel(complete), Cancelled::already_completing);
        run_told(loop, ready);
        EXPECT_EQ(ready.lines, Lines{"one"});

        server.hold = true;
        ResolveQuery query{"host.test", {}, 1};
        query.resolver = &resolver;
        const auto task = resolve(loop, query, hosts.host());
        ASSERT_TRUE(task);
        EXPECT_TRUE(task->cancel(loop));
        run_told(loop, hosts);
        EXPECT_EQ(hosts.error, Error::cancelled);
        EXPECT_FALSE(task->cancel(loop));
        server.stop();
        ASSERT_FALSE(loop.run());  // comes to rest: nobody waits for anything
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, a_question_has_a_deadline) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.manners["silent.test"] = Manner::silent;
        Resolver resolver = make(loop, options_for(server.address()));
        Told texts, hosts;
        ASSERT_TRUE(loop.submit(FindTexts{resolver, "silent.test"}, within(2ms), texts.texts()));
        ResolveQuery query{"silent.test"};
        query.resolver = &resolver;
        query.submit = within(3ms);
        ASSERT_TRUE(resolve(loop, query, hosts.host()));
        run_told(loop, texts);
        run_told(loop, hosts);
        EXPECT_EQ(texts.error, Error::timed_out);
        EXPECT_EQ(hosts.error, Error::timed_out);
        EXPECT_EQ(resolver.statistics().under_way, 0u) << "given up, as nobody waits";
        server.manners.clear();
        server.records["silent.test"] = {text({"not any more"})};
        Told again;
        ASSERT_TRUE(loop.submit(FindTexts{resolver, "silent.test"}, again.texts()));
        run_told(loop, again);
        EXPECT_EQ(again.lines, Lines{"not any more"}) << again.error.text();
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, a_thousand_at_once_a_few_at_a_time) {
    WHORL_SKIP_IF_REFUSED();
    constexpr int count = 1000;
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        for (int index = 0; index < count; ++index) {
            server.records["n" + std::to_string(index) + ".test"] = {v4("127.0.0.1")};
        }
        Options options = options_for(server.address());
        options.under_way_max = 50;
        Resolver resolver = make(loop, options);
        std::vector<Told> told(count);
        for (int index = 0; index < count; ++index) {
            find(loop, resolver, "n" + std::to_string(index) + ".test",
                 told[static_cast<std::size_t>(index)]);
        }
        EXPECT_EQ(resolver.statistics().under_way, 50u);
        for (Told& each : told) {
            run_told(loop, each);
            EXPECT_EQ(each.lines, Lines{"127.0.0.1:80"}) << each.error.name();
        }
        EXPECT_EQ(server.packets, count);
        EXPECT_EQ(resolver.statistics().entries, 1000u);
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, destroyed_in_a_handler_the_rest_is_cancelled) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        server.records["one.test"] = {v4("127.0.0.1")};
        server.manners["silent.test"] = Manner::silent;
        Options options = options_for(server.address());
        options.under_way_max = 2;
        auto resolver = std::make_unique<Resolver>(make(loop, options));
        Told joined, asked, pending;
        int calls = 0;
        ResolveQuery query{"one.test"};
        query.family = AF_INET;
        query.resolver = resolver.get();
        ASSERT_TRUE(resolve(loop, query, [&](Loop&, const ResolveDone& done) {
            ++calls;
            EXPECT_FALSE(done.error);
            EXPECT_EQ(done.addresses.size(), 1u);
            resolver.reset();
        }));
        find(loop, *resolver, "one.test", joined);  // answered with the first
        find(loop, *resolver, "silent.test", asked);
        find(loop, *resolver, "more.test", pending);
        run_until(loop, [&] { return calls != 0; });
        run_told(loop, joined);
        run_told(loop, asked);
        run_told(loop, pending);
        EXPECT_FALSE(joined.error) << joined.error.name();
        EXPECT_EQ(asked.error, Error::cancelled);
        EXPECT_EQ(pending.error == Error::cancelled || pending.error == Error::name_unknown, true)
            << pending.error.name();
        EXPECT_EQ(calls, 1);
    }
    expect_rest(loop);
}

TEST_P(DnsTrouble, the_end_of_its_loop) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool drained : {false, true}) {
        Told kept, asked, pending, after;
        {
            Loop loop = make_loop();
            DnsServer server(loop);
            server.manners["silent.test"] = Manner::silent;
            Options options = options_for(server.address());
            options.under_way_max = 1;
            Resolver resolver = make(loop, options);
            find(loop, resolver, "silent.test", asked);
            find(loop, resolver, "pending.test", pending);
            run_until(loop, [&] { return server.packets != 0; });
            if (drained) {
                ASSERT_FALSE(loop.drain(10s));
                EXPECT_EQ(asked.error, Error::cancelled);
                EXPECT_EQ(pending.error, Error::cancelled);
                // The loop may be used again, and so may the resolver.
                server.stop();
                DnsServer next(loop);
                next.records["one.test"] = {v4("127.0.0.1")};
                Resolver fresh = make(loop, options_for(next.address()));
                find(loop, fresh, "one.test", after);
                run_told(loop, after);
                EXPECT_FALSE(after.error) << after.error.name();
            }
            server.stop();
        }
        EXPECT_EQ(asked.calls, drained ? 1 : 0);
        EXPECT_EQ(pending.calls, drained ? 1 : 0);
    }
}

TEST_P(DnsTrouble, is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        DnsServer server(loop);
        Resolver resolver = make(loop, options_for(server.address()));
        const std::string label(64, 'a');
        std::string longest;
        while (longest.size() < 253) longest += "abc.";
        Told told;
        for (const std::string& name :
             {std::string(), std::string("."), std::string("a..b"), std::string(".a"),
              std::string("a b"), std::string("a\\b"), std::string("\xC3\xA9.test"),
              std::string("a\0b", 3), label, longest}) {
            EXPECT_EQ(loop.submit(FindTexts{resolver, name}, told.texts()).error(),
                      Error::invalid_argument)
                << name;
        }
        ResolveQuery query{"one.test", "no service has this name"};
        query.resolver = &resolver;
        EXPECT_EQ(resolve(loop, query, told.host()).error(), Error::service_unknown);
        query.service = "70000";
        EXPECT_EQ(resolve(loop, query, told.host()).error(), Error::service_unknown);
        query.host = "a..b";
        query.service = {};
        EXPECT_EQ(resolve(loop, query, told.host()).error(), Error::invalid_argument);
        EXPECT_EQ(told.calls, 0);
        EXPECT_EQ(server.packets, 0);
        EXPECT_EQ(resolver.statistics().asked, 0u);

        const auto refusal = [&](auto change) {
            Options options = options_for(server.address());
            change(options);
            return Resolver::create(loop, options).error();
        };
        const Address none;
        EXPECT_EQ(refusal([](Options& o) { o.timeout = 1us; }), Error::invalid_argument);
        EXPECT_EQ(refusal([](Options& o) { o.tries = 0; }), Error::invalid_argument);
        EXPECT_EQ(refusal([](Options& o) { o.under_way_max = 0; }), Error::invalid_argument);
        EXPECT_EQ(refusal([](Options& o) { o.ttl_max = -1s; }), Error::invalid_argument);
        EXPECT_EQ(refusal([&](Options& o) { o.servers = &none; }), Error::invalid_argument);
    }
    expect_rest(loop);
}

}  // namespace
}  // namespace whorl::dns
