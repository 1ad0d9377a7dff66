// SPDX-License-Identifier: MIT
// Goal: the flight recorder tells what a loop did, in order, with places and across loops; it keeps the
// last events, and is found in memory. Method: little programs whose events are known; their dumps are
// read by the format alone.
#include "conformance/recorder_tools.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <whorl/channel.hpp>
#include <whorl/remote.hpp>

#include <algorithm>
#include <fstream>

namespace whorl::conformance {
namespace {

using recorder::Event;

class RecorderTest : public TcpTools {
  protected:
    Loop make_recorded(std::uint32_t events = 4096) {
        return make_loop([=](LoopOptions& options) { options.recorder_events = events; });
    }
    static bool ends_with(const char* text, std::string_view end) {
        const std::string_view all(text);
        return all.size() >= end.size() && all.substr(all.size() - end.size()) == end;
    }
};
WHORL_CONFORMANCE(RecorderTest);

TEST_P(RecorderTest, an_operation_is_followed_from_submit_to_its_handlers_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_recorded();
    Pair pair = make_pair(loop);
    pair.peer.send("ping");
    bool done = false;
    const auto received = [&](Loop&, Recv::Done end) {
        done = true;
        EXPECT_EQ(end.buffer.text(), "ping");
    };
    Recv recv{pair.socket, loop.buffer(100)};
    const std::uint32_t line = __LINE__ + 1;
    const Result<Operation> operation = loop.submit(std::move(recv), received);
    ASSERT_TRUE(operation);
    const int fd = fd_of(loop, pair.socket);
    run_until(loop, [&] { return done; });
    const Dump dump = dump_of(loop);
    const std::vector<Event> expected{Event::submit, Event::hand_over, Event::complete,
                                      Event::handler_begin, Event::handler_end};
    EXPECT_EQ(dump.life(operation->value()), expected);
    std::uint64_t before = dump.header.made_ns;
    for (const recorder::Record& record : dump.records) {
        EXPECT_GE(record.time_ns, before);
        before = record.time_ns;
        if (record.id != operation->value() || record.event > 6) continue;
        EXPECT_STREQ(dump.header.kind_names[record.kind], "recv");
        if (record.event == static_cast<int>(Event::submit)) {
            EXPECT_EQ(record.value, fd);
        }
        if (record.event == static_cast<int>(Event::complete)) {
            EXPECT_EQ(record.value, 4);
        }
        if (record.place == 0) continue;
        EXPECT_TRUE(ends_with(dump.place_of(record).file, "conformance/recorder_test.cpp"));
        EXPECT_EQ(dump.place_of(record).line, line);
    }
    close_and_wait(loop, pair.socket);
}

TEST_P(RecorderTest, describes_itself) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_recorded(64);
    int calls = 0;
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
    ASSERT_FALSE(loop.run());
    const Dump dump = dump_of(loop);
    EXPECT_STREQ(dump.header.backend, loop.backend_name());
    EXPECT_EQ(dump.header.process, ::getpid());
    EXPECT_NE(dump.header.thread, 0);
    EXPECT_EQ(dump.header.records_max, 64u);
    const std::string clock(dump.header.clock);
    EXPECT_EQ(clock == "simulated", GetParam().world.has_value()) << clock;
    EXPECT_STREQ(dump.header.event_names[static_cast<int>(Event::panic)], "panic");
    EXPECT_STREQ(dump.header.kind_names[recorder::kind_post], "post");
    ASSERT_EQ(dump.places.size(), 2u);
    // The handler's type, from the symbol table of this program: it says which test it lies in.
    EXPECT_NE(std::string(dump.places[1].symbol).find("Nop, "), std::string::npos)
        << dump.places[1].symbol;
    EXPECT_NE(dump.places[1].offset, 0u);
    EXPECT_NE(std::string(dump.places[1].module), "");
}

TEST_P(RecorderTest, keeps_the_last_events) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_recorded(64);
    Site site;
    site.file = "numbered";
    std::uint32_t next = 0;
    for (int round = 0; round < 10; ++round) {
        for (int index = 0; index < 40; ++index) {
            site.line = next++ % 900;
            ASSERT_FALSE(loop.post([](Loop&) {}, site));
        }
        ASSERT_FALSE(loop.run());
    }
    const Dump dump = dump_of(loop);
    EXPECT_GT(dump.header.written, 400u);
    ASSERT_EQ(dump.records.size(), 64u);
    const std::vector<recorder::Record> ends = dump.of(Event::handler_end);
    ASSERT_FALSE(ends.empty());
    EXPECT_EQ(ends.back().id, 400u);
    EXPECT_EQ(dump.place_of(ends.back()).line, 399u);
}

TEST_P(RecorderTest, what_ends_without_a_handler_is_told) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_recorded();
    const Result<Timer> timer = loop.after(10s, [](Loop&, Expired) {});
    ASSERT_TRUE(timer);
    ASSERT_FALSE(loop.poll());
    EXPECT_TRUE(loop.cancel(*timer));
    const std::vector<Event> expected{Event::submit, Event::cancel, Event::drop};
    EXPECT_EQ(dump_of(loop).life(timer->value()), expected);
}

TEST_P(RecorderTest, a_post_is_followed_from_one_loop_to_another) {
    WHORL_SKIP_IF_REFUSED();
    Loop from = make_recorded();
    Loop to = make_recorded();
    const Result<Remote> remote = to.remote();
    ASSERT_TRUE(remote);
    int calls = 0;
    ASSERT_FALSE(from.post([&](Loop&) { EXPECT_TRUE(remote->post([&](Loop&) { ++calls; })); }));
    ASSERT_FALSE(from.run());
    ASSERT_FALSE(to.poll());
    ASSERT_EQ(calls, 1);
    const Dump sender = dump_of(from);
    const Dump receiver = dump_of(to);
    const std::vector<recorder::Record> sent = sender.of(Event::remote_send);
    const std::vector<recorder::Record> taken = receiver.of(Event::remote_take);
    ASSERT_EQ(sent.size(), 1u);
    ASSERT_EQ(taken.size(), 1u);
    EXPECT_EQ(sent[0].id, taken[0].id);
    EXPECT_NE(sender.header.loop, receiver.header.loop);
}

// A channel's wake is a post of the library's own, whose handler the receiving handler runs in.
TEST_P(RecorderTest, a_handler_within_a_handler_ends_before_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_recorded();
    Result<Channel<int>> channel = Channel<int>::create(16);
    ASSERT_TRUE(channel);
    int got = 0;
    const auto take = [&](Loop&, Receive<int>::Done done) {
        while (done.next()) ++got;
    };
    const Result<Operation> receiving =
        loop.submit(Receive<int>{std::move(channel->receiver)}, take);
    ASSERT_TRUE(receiving);
    ASSERT_FALSE(loop.poll());
    ASSERT_FALSE(loop.post([&](Loop&) { EXPECT_FALSE(channel->sender.send(1)); }));
    run_until(loop, [&] { return got == 1; });
    channel->sender.close();
    run_until(loop, [&] { return !loop.alive(*receiving); });
    const Dump dump = dump_of(loop);
    std::vector<recorder::Record> open;
    std::size_t within = 0;
    for (const recorder::Record& record : dump.records) {
        if (record.event == static_cast<int>(Event::handler_begin)) {
            within += open.size();
            open.push_back(record);
        }
        if (record.event != static_cast<int>(Event::handler_end)) continue;
        ASSERT_FALSE(open.empty());
        EXPECT_EQ(record.id, open.back().id);
        EXPECT_EQ(record.kind, open.back().kind);
        EXPECT_EQ(record.place, open.back().place);
        open.pop_back();
    }
    EXPECT_TRUE(open.empty());
    EXPECT_GT(within, 0u) << "otherwise this test shows nothing";
}

TEST_P(RecorderTest, lies_in_memory_where_a_reader_of_a_core_finds_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_recorded(1024);
    const Dump dump = dump_of(loop);
    std::ifstream maps("/proc/self/maps");
    std::string line;
    bool found = false;
    while (std::getline(maps, line)) {
        unsigned long long begin = 0, end = 0;
        ASSERT_EQ(std::sscanf(line.c_str(), "%llx-%llx", &begin, &end), 2);
        if (begin <= dump.header.address && dump.header.address < end) found = true;
    }
    EXPECT_TRUE(found);
    EXPECT_EQ(dump.header.address % 4096, 0u);
    const auto* header = reinterpret_cast<const recorder::Header*>(dump.header.address);
    EXPECT_EQ(std::memcmp(header->magic, recorder::magic, sizeof header->magic), 0);
}

TEST_P(RecorderTest, errors) {
    WHORL_SKIP_IF_REFUSED();
    for (const std::uint32_t events : {1u, 32u, 100u, 1u << 25}) {
        LoopOptions options = options_here();
        options.recorder_events = events;
        EXPECT_EQ(Loop::create(options).error(), Error::invalid_argument) << events;
    }
    Loop without = make_loop();
    EXPECT_EQ(without.dump_recorder(1), Error::invalid_argument);
    EXPECT_EQ(without.dump_recorder("nowhere"), Error::invalid_argument);
    Loop loop = make_recorded(64);
    EXPECT_EQ(loop.dump_recorder(-1), Error::from_errno(EBADF));
    EXPECT_EQ(loop.dump_recorder("/nowhere/at/all"), Error::from_errno(ENOENT));
}

// Cut, two loops would write one file.
TEST_P(RecorderTest, a_path_that_is_too_long_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    LoopOptions options = options_here();
    options.recorder_events = 64;
    const std::string longest(200, 'p'), longer(250, 'p');
    options.recorder_path = longest.c_str();
    EXPECT_TRUE(Loop::create(options));
    options.recorder_path = longer.c_str();
    EXPECT_EQ(Loop::create(options).error(), Error::invalid_argument);
}

// Dumps out of posts, handlers and a drain, of a loop with all insight on that ends and begins things meanwhile. A
// ring of 64 goes round many times; each dump has an unbroken row of records up to what runs at that moment.
TEST_P(RecorderTest, is_dumped_in_the_middle_of_everything) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        options.recorder_events = 64;
        options.insight = options.statistics_page = options.operation_latency = true;
        options.top_handles = 4;
    });
    int dumps = 0, begun = 0, ended = 0, cancelled = 0;
    const auto look = [&](Event last) {
        const Dump dump = dump_of(loop);
        ++dumps;
        ASSERT_FALSE(dump.records.empty());
        EXPECT_LE(dump.records.size(), 64u);
        EXPECT_EQ(dump.records.back().event, static_cast<int>(last));
        for (std::size_t index = 1; index < dump.records.size(); ++index) {
            EXPECT_EQ(dump.records[index].number, dump.records[index - 1].number + 1);
        }
        EXPECT_FALSE(loop.publish_statistics());
    };
    for (int round = 0; round < 30; ++round) {
        Pair pair = make_local_pair(loop);
        bool closed = false;
        const auto on_end = [&](Loop&, Recv::Done done) {
            EXPECT_TRUE(done.error);
            ++cancelled;
            look(Event::handler_begin);
        };
        const auto first = loop.submit(Recv{pair.socket, loop.buffer(10)}, on_end);
        const auto second = loop.submit(Recv{pair.socket, loop.buffer(10)}, on_end);
        ASSERT_TRUE(first && second);
        turns(loop, 1);
        const auto meddle = [&] {
            look(Event::handler_begin);
            ++begun;
            EXPECT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) {
                look(Event::handler_begin);
                ++ended;
            }));
            look(Event::submit);
            static_cast<void>(loop.cancel(*first));
            look(Event::cancel);
            EXPECT_FALSE(loop.close(pair.socket, [&](Loop&) { closed = true; }));
            static_cast<void>(dump_of(loop));
        };
        ASSERT_FALSE(loop.post([&meddle](Loop&) { meddle(); }));
        run_until(loop, [&] { return closed && ended == begun && cancelled == 2 * begun; });
    }
    EXPECT_EQ(dumps, 30 * 6);
    const Pair last = make_local_pair(loop);
    ASSERT_TRUE(loop.submit(Recv{last.socket, loop.buffer(10)}, [&](Loop&, Recv::Done done) {
        EXPECT_TRUE(done.error);
        ++cancelled;
        look(Event::handler_begin);
    }));
    turns(loop, 1);
    EXPECT_FALSE(loop.drain(10s));
    EXPECT_EQ(cancelled, 61);
    EXPECT_EQ(dump_of(loop).header.loop != 0, true);
}

// The path ends with the process and the number of the loop, which counts those with a recorder.
TEST_P(RecorderTest, a_panic_dumps_it) {
    WHORL_SKIP_IF_REFUSED();
    GTEST_FLAG_SET(death_test_style, "fast");
    char folder[] = "/tmp/whorl-recorder-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    const std::string path = std::string(folder) + "/dump";
    EXPECT_DEATH(
        {
            Loop loop = make_loop([&](LoopOptions& options) {
                options.recorder_events = 64;
                options.recorder_path = path.c_str();
            });
            static_cast<void>(loop.post([](Loop& inner) { static_cast<void>(inner.run()); }));
            static_cast<void>(loop.run());
        },
        "from inside a handler");
    std::string command = std::string("cat ") + path + ".*";
    std::FILE* stream = ::popen(command.c_str(), "re");
    ASSERT_NE(stream, nullptr);
    std::string bytes;
    char part[4096];
    for (std::size_t got = 0; (got = std::fread(part, 1, sizeof part, stream)) != 0;) {
        bytes.append(part, got);
    }
    ::pclose(stream);
    Dump dump;
    dump_read(bytes, dump);
    ASSERT_FALSE(dump.records.empty());
    EXPECT_EQ(dump.records.back().event, static_cast<int>(Event::panic));
    command = std::string("rm -r ") + folder;
    EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace whorl::conformance
