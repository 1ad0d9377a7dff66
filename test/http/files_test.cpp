// SPDX-License-Identifier: MIT
// Goal: the example's file server gives the right bytes and leaves no file open, however requests are cut and
// whenever the peer goes away. Method: simulated worlds with files.
#include "http_files.hpp"

#include "world/names.hpp"

#include <whorl/whole_file.hpp>

#include <string>

namespace {

using namespace world_names;

struct Files {
    static constexpr std::size_t size = 300'001;

    explicit Files(World& given) : world(given), loop(given.add_loop()) {
        for (std::size_t count = 0; content.size() < size; ++count) {
            content += std::to_string(count) + ',';
        }
        content.resize(size);
        bool written = false;
        const auto task = whorl::write_file_atomically(
            loop, "/tmp/large.txt", whorl::Buffer::copy_of(whorl::Bytes(content)), {},
            [&](Loop&, const whorl::WholeFileDone& done) { written = !done.error; });
        world.check(task && world.run_until([&] { return written; }), "the file is written");
        whorl::File folder;
        const auto opened = [&](Loop&, const whorl::OpenFile::Done& done) { folder = done.file; };
        const auto opening = loop.submit(whorl::OpenFile{"/tmp", O_RDONLY | O_DIRECTORY}, opened);
        world.check(opening && world.run_until([&] { return bool(folder); }), "the folder opens");
        const auto make = [folder](const whorl::Accepted&) { return FileVisitor{folder}; };
        const auto site = whorl::http::serve(loop, Address::loopback_v4(80), make);
        world.check(site.has_value(), "the site opens");
        world.advance(1s);
        before = world.descriptors();
    }
    std::string body_of(Peer& peer) const {
        const std::size_t at = peer.received().find("\r\n\r\n");
        return at == std::string::npos ? std::string() : peer.received().substr(at + 4);
    }

    World& world;
    Loop& loop;
    std::string content;
    std::uint32_t before = 0;
};

const std::string get = "GET /large.txt HTTP/1.1\r\nHost: a\r\n";

TEST(HttpFiles, a_file_for_every_cut) {
    const std::string text = get + "Range: bytes=7-11\r\n\r\n";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        World world;
        Files files(world);
        Peer peer = world.connect(80);
        peer.send(text.substr(0, cut));
        world.advance(1s);
        peer.send(text.substr(cut));
        EXPECT_TRUE(world.run_until([&] { return files.body_of(peer).size() == 5; })) << cut;
        EXPECT_EQ(files.body_of(peer), files.content.substr(7, 5));
        peer.close();
        world.advance(10s);
        EXPECT_EQ(world.descriptors(), files.before);
    }
}

TEST(HttpFiles, whole_ones_one_after_the_other) {
    World world;
    Files files(world);
    Peer peer = world.connect(80);
    peer.send(get + "\r\n" + get + "\r\n");
    world.advance(5s);
    const std::string body = files.body_of(peer);
    EXPECT_EQ(body.substr(0, Files::size), files.content);
    EXPECT_EQ(body.substr(body.size() - Files::size), files.content);
    EXPECT_EQ(world.descriptors(), files.before + 1) << "the connection is kept, the file is not";
    Peer slow = world.connect(80);
    slow.stop_reading();
    slow.send(get + "\r\n");
    world.advance(20s);
    EXPECT_LE(whorl::stream_statistics(files.loop).bytes_high, std::size_t{400} << 10);
    slow.read_on();
    world.advance(5s);
    EXPECT_EQ(files.body_of(slow), files.content);
    Peer outside = world.connect(80);
    outside.send("GET /../large.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    world.advance(1s);
    EXPECT_EQ(outside.received().substr(0, 12), "HTTP/1.1 404");
}

void in_a_harsh_world(World& world) {
    world.options().operation_error = 0;
    Files files(world);
    Peer peer = world.connect(80);
    peer.send(get + "\r\n" + get + "\r\n");
    if (world.draw(2) == 0) peer.stop_reading();
    world.options().operation_error = world.draw(2) == 0 ? 0 : 0.05;
    world.advance(std::chrono::microseconds(world.draw(200'000)));
    if (world.draw(3) != 0) peer.reset();
    world.options().operation_error = 0;
    peer.read_on();
    world.advance(5min);
    const std::string body = files.body_of(peer);
    const bool right =
        body.substr(0, Files::size) == files.content.substr(0, std::min(body.size(), Files::size));
    world.check(right || peer.received().substr(9, 3) != "200", "another byte");
    peer.close();
    world.advance(1min);
    world.check(whorl::stream_statistics(files.loop).streams == 0, "a stream is left behind");
    world.check(world.descriptors() == files.before, "a file is left open");
}

TEST(HttpFiles, in_harsh_worlds) {
    Exploration exploration;
    exploration.count = 300;
    const Found found = explore(in_a_harsh_world, exploration);
    EXPECT_FALSE(found.failed) << found.text();
}

}  // namespace
