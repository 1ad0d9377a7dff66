// SPDX-License-Identifier: MIT
// docs/guide/testing.md: a protocol handler tested in a simulated world.
#include "expect.hpp"

#include <whorl/testing.hpp>
#include <whorl/whorl.hpp>

#include <string>

using namespace std::chrono_literals;
using whorl::testing::Peer;
using whorl::testing::World;

namespace {

// [protocol]
struct Upper {
    whorl::Framing framing = whorl::Framing::line(64);
    void frame(whorl::Stream& stream, whorl::Bytes line) {
        std::string text(line.text());
        for (char& c : text) {
            if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
        }
        stream.write(text + "\n");
    }
};

whorl::Error start(whorl::Loop& loop) {
    whorl::AcceptorOptions options;
    options.stream.deadlines.idle = 1h;
    const auto make = [](const whorl::Accepted&) { return Upper(); };
    return whorl::serve(loop, whorl::Address::loopback_v4(7007), make, options).error();
}
// [end]

void answers() {
    // [world]
    World world;
    expect(start(world.add_loop()));
    Peer peer = world.connect(7007);
    peer.send("hello\nwo");
    expect(world.run_until([&] { return peer.received() == "HELLO\n"; }), "answered");
    world.advance(59min);  // takes no time
    peer.send("rld\n");
    expect(world.run_until([&] { return peer.received() == "HELLO\nWORLD\n"; }), "still there");
    world.advance(61min);
    expect(peer.was_reset(), "idle for an hour");
    // [end]
}

// [scenario]
// Whatever the network does, what arrives is the beginning of the right answer.
void scenario(World& world) {
    expect(start(world.add_loop()));
    Peer peer = world.connect(7007);
    peer.send("one\ntwo\nthree\n");
    peer.reset_after(world.draw(15));
    const std::string right = "ONE\nTWO\nTHREE\n";
    (void)world.run_until([&] { return peer.was_reset() || peer.received() == right; });
    world.check(right.compare(0, peer.received().size(), peer.received()) == 0, "a prefix");
}
// [end]

void explores() {
    // [explore]
    whorl::testing::Exploration exploration;
    exploration.count = 200;  // seeds; a failure is printed with its seed, made short
    const whorl::testing::Found found = whorl::testing::explore(scenario, exploration);
    // [end]
    expect(!found.failed, "no seed fails");
}

}  // namespace

int main() {
    answers();
    explores();
}
