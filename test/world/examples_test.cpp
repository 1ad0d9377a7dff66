// SPDX-License-Identifier: MIT
// The handlers of the examples, in harsh worlds.
#include "echo.hpp"
#include "names.hpp"

namespace {

using namespace world_names;

void serve(World& world, Loop& loop) {
    const auto listener = whorl::listen(loop, Address::loopback_v4(7007));
    world.check(static_cast<bool>(listener), "listen");
    const auto accept = [](Loop& accepting, whorl::AcceptStream::Done done) {
        if (done.socket) (new Echo(done.socket))->start(accepting);
    };
    world.check(loop.submit(whorl::AcceptStream{*listener}, accept).has_value(), "accept");
}

std::string text_of(std::size_t size) {
    std::string text;
    for (int count = 0; text.size() < size; ++count) text += std::to_string(count) + ',';
    return text.substr(0, size);
}

// Server and client, each in its loop; nothing breaks, so every byte comes back.
void echo_comes_back(World& world) {
    Loop& server = world.add_loop();
    serve(world, server);
    Loop& loop = world.add_loop();
    EchoClient client(text_of(1 + world.draw(30'000)), nullptr);
    const auto submitted = loop.submit(whorl::Connect{Address::loopback_v4(7007)},
                                       whorl::bind<&EchoClient::connected>(&client));
    world.check(submitted.has_value(), "connect");
    (void)world.run_idle(1h);
    world.check(client.complete(), "not every byte came back");
    world.check(world.descriptors() == 1, "more than the listener is left");
}

// Connections break in every way: the server lets go of each, and serves the next.
void server_survives(World& world) {
    Loop& server = world.add_loop();
    serve(world, server);
    std::vector<Peer> peers(6);
    std::vector<std::string> texts;
    for (Peer& peer : peers) {
        texts.push_back(text_of(world.draw(5'000)));
        peer = world.connect(7007);
        if (world.draw(3) == 2) peer.stop_reading();
        peer.send(texts.back());
        switch (world.draw(4)) {
            case 1:
                peer.reset_after(world.draw(5'000));
                break;
            case 2:
                world.after(whorl::Nanoseconds(world.draw(1'000'000)),
                            [peer]() mutable { peer.close(); });
                break;
            default:
                peer.finish_sending();
                break;
        }
    }
    world.options().operation_error = world.draw(2) == 0 ? 0 : 0.02;
    world.advance(10s);
    for (std::size_t index = 0; index < peers.size(); ++index) {
        const std::string& got = peers[index].received();
        world.check(texts[index].compare(0, got.size(), got) == 0, "other bytes came back");
        peers[index].reset();
    }
    world.options().operation_error = 0;
    Peer last = world.connect(7007);
    last.send("still there").finish_sending();
    world.check(world.run_until([&] { return last.ended(); }), "the server serves no more");
    world.check(last.received() == "still there", "the last one's bytes");
    world.advance(1s);
    world.check(world.descriptors() == 1, "a connection is left behind");
}

TEST(Examples, echo_comes_back) {
    const Found found = explore(echo_comes_back);
    EXPECT_FALSE(found.failed) << found.text();
}

TEST(Examples, echo_server_survives_its_peers) {
    const Found found = explore(server_survives);
    EXPECT_FALSE(found.failed) << found.text();
}

}  // namespace
