// SPDX-License-Identifier: MIT
// docs/guide/buffers.md: where buffers come from, and how they come home.
#include "expect.hpp"

#include <whorl/whorl.hpp>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace {

void sources(whorl::Loop& loop) {
    // [sources]
    whorl::Buffer pooled = loop.buffer(4096);               // of the loop's pool: the usual one
    whorl::Buffer heap = whorl::Buffer::allocate(1 << 20);  // of the heap, for large ones
    whorl::Buffer fixed =
        whorl::Buffer::of_static(whorl::Bytes("HTTP/1.1 "));        // bytes that live for ever
    whorl::Buffer text = whorl::adopt(std::string("legacy text"));  // what a container holds
    whorl::Buffer cells = whorl::adopt(std::vector<int>{1, 2, 3});
    if (!pooled || !heap || !text || !cells) return expect(false, "memory");  // exhausted: null
    // [end]
    expect(pooled.size() == 0 && pooled.capacity() >= 4096, "room, and nothing in it");
    expect(fixed.size() == 9 && !fixed.writable(), "a literal is read-only");
    expect(cells.size() == 3 * sizeof(int), "bytes");

    // [reclaim]
    std::string back;
    const bool mine = whorl::reclaim(text, back);  // the string itself, not a copy
    // [end]
    expect(mine && back == "legacy text" && !text, "the container came back");
}

void moving(whorl::Loop& loop, whorl::Socket socket) {
    // [home]
    whorl::Buffer buffer = loop.buffer(4096);
    expect(buffer.append(whorl::Bytes("ping")), "it fits");
    auto sent = loop.submit(
        whorl::Send{socket, std::move(buffer)}, [](whorl::Loop&, whorl::Send::Done done) {
            // The same memory, whatever became of it: keep it, or let it go.
            std::printf("%s, %llu bytes gone of %zu\n", done.error.name(),
                        static_cast<unsigned long long>(done.bytes), done.buffer.size());
        });
    expect(sent.error());
    expect(!buffer, "moved out: the loop has it");
    // [end]

    // [refused]
    whorl::Send refused{whorl::Socket(), loop.buffer(16)};  // a null handle
    sent = loop.submit(std::move(refused), [](whorl::Loop&, whorl::Send::Done) {});
    expect(sent.error() == whorl::Error::stale_handle, "refused at once");
    expect(bool(refused.buffer), "and nothing was moved from");
    // [end]
}

void sharing(whorl::Loop& loop, whorl::Socket one, whorl::Socket other) {
    // [share]
    whorl::Buffer message = whorl::adopt(std::string("to everybody"));
    for (const whorl::Socket socket : {one, other}) {
        (void)loop.submit(whorl::SendAll{socket, message.share()},
                          [](whorl::Loop&, whorl::SendAll::Done) {});
    }
    // [end]
    expect(!message.writable(), "others read it");
}

void gathering(whorl::Loop& loop, whorl::Socket socket) {
    // [chain]
    whorl::BufferChain chain;
    const bool room =
        chain.push_back(whorl::Buffer::of_static(whorl::Bytes("HTTP/1.1 200 OK\r\n\r\n"))) &&
        chain.push_back(whorl::adopt(std::string("body")));
    expect(room, "memory");
    (void)loop.submit(whorl::SendChain{socket, std::move(chain)},
                      [](whorl::Loop&, whorl::SendChain::Done) {});
    // [end]
}

void headers(whorl::Loop& loop) {
    // [headroom]
    whorl::Buffer frame = loop.buffer(64);
    frame.resize(2);  // room for a length
    expect(frame.append(whorl::Bytes("hello")), "it fits");
    frame.trim_front(2);               // the body alone; the two bytes are headroom now
    std::byte* at = frame.prepend(2);  // later: the header goes before it, without a copy
    at[0] = std::byte{0};
    at[1] = std::byte{5};
    // [end]
    expect(frame.size() == 7, "a length and a body");
}

}  // namespace

int main() {
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) expect(loop.error());
    sources(*loop);
    headers(*loop);

    whorl::Result<whorl::Listener> listener = whorl::listen(*loop, whorl::Address::loopback_v4(0));
    if (!listener) expect(listener.error());
    const whorl::Address address = *whorl::local_address(*loop, *listener);
    std::string received;
    (void)loop->submit(whorl::Accept{*listener},
                       [&received](whorl::Loop& now, whorl::Accept::Done done) {
                           (void)now.submit(whorl::RecvStream{done.socket},
                                            [&received](whorl::Loop&, whorl::RecvStream::Done got) {
                                                received += got.buffer.text();
                                            });
                       });
    (void)loop->submit(whorl::Connect{address}, [](whorl::Loop& now, whorl::Connect::Done done) {
        expect(done.error);
        moving(now, done.socket);
        sharing(now, done.socket, done.socket);
        gathering(now, done.socket);
        (void)now.submit(whorl::Shutdown{done.socket}, [](whorl::Loop&, whorl::Shutdown::Done) {});
    });
    expect(loop->run());
    expect(received == "pingto everybodyto everybodyHTTP/1.1 200 OK\r\n\r\nbody", "all, in order");
}
