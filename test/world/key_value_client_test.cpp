// SPDX-License-Identifier: MIT
// The pipelined client in simulated worlds: answers cut at every place, a server that resets at every byte, that
// reads nothing before it is read, that answers nonsense, and thousands of harsh schedules.
#include "key_value_client.hpp"
#include "names.hpp"

#include <functional>

namespace {

using namespace world_names;
using key_value_client::request_of;
using key_value_client::words_of;
using Session = key_value_client::Session<std::function<void(const std::string&)>>;

struct Client {
    explicit Client(World& given, std::vector<std::vector<std::string>> commands)
        : world(given), loop(given.add_loop()), server(given.accept(6379)) {
        session.print = [this](const std::string& answer) { printed += answer; };
        for (const auto& command : commands) session.requests.push_back(request_of(command));
        for (const std::string& request : session.requests) asked += request;
        world.check(!key_value_client::start(loop, {"127.0.0.1", {}, 6379}, session), "it starts");
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() { world.remove_loop(loop); }
    bool over() {
        return world.run_until([&] { return session.over; });
    }
    bool is_asked() {
        return world.run_until([&] { return server.received() == asked; });
    }

    World& world;
    Loop& loop;
    Peer server;
    Session session;
    std::string printed, asked;
};

const std::vector<std::vector<std::string>> commands = {
    {"SET", "a", "1"}, {"GET", "a"},  {"GET", "none"},
    {"FLY"},           {"INCR", "a"}, {"LRANGE", "l", "0", "-1"}};
const std::string answers =
    "+OK\r\n$3\r\n\r\n1\r\n$-1\r\n-ERR unknown\r\n:2\r\n*2\r\n$1\r\na\r\n*0\r\n";
const std::string lines = "OK\n\r\n1\n\nERR unknown\n\n2\na\n\n";

TEST(KeyValueClient, is_the_same_for_every_cut) {
    for (std::size_t cut = 0; cut <= answers.size(); ++cut) {
        World world;
        Client client(world, commands);
        EXPECT_TRUE(client.is_asked()) << "all, before any answer";
        client.server.send(answers.substr(0, cut));
        world.advance(1s);
        client.server.send(answers.substr(cut));
        EXPECT_TRUE(client.over());
        EXPECT_FALSE(client.session.error);
        EXPECT_EQ(client.printed, lines) << cut;
    }
}

TEST(KeyValueClient, tells_of_a_server_that_breaks_off) {
    for (const bool resets : {true, false}) {
        for (std::size_t bytes = 0; bytes < answers.size(); ++bytes) {
            World world;
            Client client(world, commands);
            EXPECT_TRUE(client.is_asked());
            client.server.send(answers.substr(0, bytes));
            world.advance(1s);
            if (resets) client.server.reset();
            else client.server.close();
            EXPECT_TRUE(client.over());
            EXPECT_TRUE(client.session.error) << bytes;
            EXPECT_EQ(lines.compare(0, client.printed.size(), client.printed), 0) << bytes;
            EXPECT_EQ(whorl::stream_statistics(client.loop).streams, 0u);
        }
    }
}

TEST(KeyValueClient, refuses_nonsense) {
    const std::string deep = [] {
        std::string text;
        for (int depth = 0; depth < 20; ++depth) text += "*1\r\n";
        return text;
    }();
    for (const std::string& answer :
         {std::string("what?\r\n"), std::string("\r\n"), std::string("$x\r\n"),
          std::string("$-2\r\n"), std::string("$99999999999\r\n"), std::string("*-7\r\n"),
          std::string("$1\r\nabc"), std::string(70'000, '+'), deep,
          std::string("+OK\r\n+OK\r\n")}) {
        World world;
        Client client(world, {{"PING"}});
        EXPECT_TRUE(client.is_asked());
        client.server.send(answer);
        EXPECT_TRUE(client.over());
        if (answer[0] == '+' && answer.size() < 100) {
            EXPECT_EQ(client.printed, "OK\n");
        } else {
            EXPECT_EQ(client.session.error, Error::frame_malformed) << answer.substr(0, 20);
        }
    }
}

TEST(KeyValueClient, gives_up_on_a_server_that_says_nothing) {
    World world;
    Client client(world, commands);
    EXPECT_TRUE(client.is_asked());
    EXPECT_TRUE(client.over());
    EXPECT_EQ(client.session.error, Error::timed_out);
    World empty;
    Loop& loop = empty.add_loop();
    Session session{{request_of({"PING"})}, [](const std::string&) {}};
    EXPECT_FALSE(key_value_client::start(loop, {"127.0.0.1", {}, 6379}, session));
    EXPECT_TRUE(empty.run_until([&] { return session.over; }));
    EXPECT_EQ(session.error, Error::from_errno(ECONNREFUSED));
}

TEST(KeyValueClient, reads_answers_while_questions_wait) {
    World world;
    std::vector<std::vector<std::string>> many(3000, {"SET", "key", std::string(1000, 'x')});
    Client client(world, many);
    client.server.stop_reading();  // before it has been read
    world.advance(1s);
    std::string all;
    for (int count = 0; count < 3000; ++count) all += "+OK\r\n";
    EXPECT_LT(client.session.sent, 3000u) << "it sends only what the stream takes";
    client.server.send(all.substr(0, 5 * 100));
    EXPECT_TRUE(world.run_until([&] { return client.session.answered == 100; }));
    client.server.reset();
    EXPECT_TRUE(client.over());
    EXPECT_TRUE(client.session.error);
}

void in_a_harsh_world(World& world) {
    Client client(world, commands);
    const std::size_t cut = world.draw(static_cast<std::uint32_t>(answers.size() + 1));
    world.check(client.is_asked(), "not all was asked");
    client.server.send(answers.substr(0, cut)).send(answers.substr(cut));
    const bool resets = world.draw(3) == 0;
    if (resets) client.server.reset();
    world.check(client.over(), "it does not end");
    world.check(lines.compare(0, client.printed.size(), client.printed) == 0, "other lines");
    world.check(client.session.error || client.printed == lines, "lines are missing");
    world.check(resets || !client.session.error, "an error without a reason");
    client.server.close();
    world.advance(10s);
    world.check(whorl::stream_statistics(client.loop).streams == 0, "a stream is left behind");
}

TEST(KeyValueClient, in_thousand_harsh_worlds) {
    const Found found = explore(in_a_harsh_world);
    EXPECT_FALSE(found.failed) << found.text();
}

TEST(KeyValueClient, reads_words) {
    const auto words = [](std::string_view line) {
        std::vector<std::string> found;
        if (!words_of(line, found)) return std::string("refused");
        std::string text;
        for (const std::string& word : found) text += '<' + word + '>';
        return text;
    };
    EXPECT_EQ(words("  set  a\tb \r"), "<set><a><b>");
    EXPECT_EQ(words(R"(a "b c" "" "\"\\\n\x41\x4")"), "<a><b c><><\"\\\nAx4>");
    EXPECT_EQ(words(""), "");
    EXPECT_EQ(words("\"a"), "refused");
    EXPECT_EQ(words("\"a\"b"), "refused");
    EXPECT_EQ(words("\"a\\"), "refused");
}

}  // namespace
