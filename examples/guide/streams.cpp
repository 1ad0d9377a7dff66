// SPDX-License-Identifier: MIT
// docs/guide/streams.md: a protocol object with its own stream, and backpressure. In a simulated world;
// in a program the loop comes from Loop::create().
#include "expect.hpp"

#include <whorl/testing.hpp>
#include <whorl/whorl.hpp>

#include <algorithm>
#include <cstdlib>
#include <string>

using namespace std::chrono_literals;
using whorl::testing::Peer;
using whorl::testing::World;

namespace {

// [protocol]
// Answers "N" with N bytes, never more than the peer takes.
struct Source {
    whorl::Framing framing = whorl::Framing::line(32);  // a longer line ends the stream
    std::size_t left = 0;

    void frame(whorl::Stream& stream, whorl::Bytes line) {
        left += std::strtoul(std::string(line.text()).c_str(), nullptr, 10);
        more(stream);
    }
    void writable(whorl::Stream& stream) { more(stream); }  // the queue is at its low watermark

  private:
    void more(whorl::Stream& stream) {
        bool room = true;
        while (room && left != 0) {
            const std::size_t now = std::min<std::size_t>(left, 4096);
            left -= now;
            room = stream.write(std::string(now, 'x'));  // false: hold back until writable()
        }
    }
};
// [end]

whorl::Error start(whorl::Loop& loop) {
    // [serve]
    whorl::AcceptorOptions options;
    options.connections_max = 1000;
    options.stream.high = 64 << 10;  // bytes queued for a peer that does not read
    options.stream.low = 16 << 10;
    options.stream.deadlines.idle = 30s;
    options.stream.deadlines.write = 10s;  // it takes nothing
    const auto make = [](const whorl::Accepted&) { return Source(); };
    const auto acceptor = whorl::serve(loop, whorl::Address::loopback_v4(7007), make, options);
    // [end]
    return acceptor.error();
}

// [client]
// The other side, a protocol as well: it asks, counts, and closes when it has all.
struct Sink {
    std::size_t* count;
    void opened(whorl::Stream& stream) { stream.write("100000\n"); }
    void received(whorl::Stream& stream, whorl::Buffer buffer) {
        *count += buffer.size();
        if (*count == 100'000) stream.close();
    }
    void closed(whorl::Stream&, whorl::Closed reason) { expect(reason.error); }
};

void ask(whorl::Loop& loop, const whorl::Address& address, std::size_t& count) {
    (void)loop.submit(whorl::Connect{address},
                      [&count](whorl::Loop& now, whorl::Connect::Done done) {
                          if (done.error) return;
                          if (!whorl::attach(now, done.socket, Sink{&count}))
                              (void)now.close(done.socket);
                      });
}
// [end]

}  // namespace

int main() {
    World world;
    whorl::Loop& loop = world.add_loop();
    expect(start(loop));

    Peer peer = world.connect(7007);
    peer.stop_reading();
    peer.send("1000000\n");
    world.advance(5s);
    expect(loop.statistics().handles != 0, "it waits for the peer");
    peer.read_on();
    expect(world.run_until([&] { return peer.received().size() == 1'000'000; }), "all of it");

    std::size_t count = 0;
    ask(loop, whorl::Address::loopback_v4(7007), count);
    expect(world.run_until([&] { return count == 100'000; }), "asked and answered");

    Peer slow = world.connect(7007);
    slow.stop_reading();
    slow.send("100000000\n");
    world.advance(60s);
    expect(slow.connected() && whorl::stream_statistics(loop).streams == 0,
           "cut off by the deadline");
}
