// SPDX-License-Identifier: MIT
// Goal: a foreign project can use an installed or included whorl. Method: every consumer builds this
// file against the public headers and nothing else, and runs it: a loop talks to itself over TCP.
#include <whorl/whorl.hpp>

#include <cstdio>
#include <cstring>

namespace {

struct Talk {
    whorl::Socket server, client;
    bool answered = false;

    void operator()(whorl::Loop& loop, whorl::Accept::Done done) {
        if (done.error) return;
        server = done.socket;
        (void)loop.submit(whorl::RecvStream{server}, this);
    }
    void operator()(whorl::Loop& loop, whorl::RecvStream::Done done) {
        if (done.more) (void)loop.submit(whorl::SendAll{server, std::move(done.buffer)}, this);
        else (void)loop.close(server);
    }
    void operator()(whorl::Loop& loop, whorl::Connect::Done done) {
        if (done.error) return;
        client = done.socket;
        (void)loop.submit(whorl::SendAll{client, whorl::Buffer::of_static(whorl::Bytes("hello"))},
                          this);
        (void)loop.submit(whorl::Recv{client, loop.buffer(64)}, this);
    }
    void operator()(whorl::Loop&, whorl::SendAll::Done) {}
    void operator()(whorl::Loop& loop, whorl::Recv::Done done) {
        answered = done.buffer.text() == "hello";
        (void)loop.close(client);
    }
};

}  // namespace

int main() {
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create({}, report);
    if (!loop) {
        std::fprintf(stderr, "%s: %s\n", loop.error().text(), report.text);
        return 1;
    }
    const whorl::Result<whorl::Listener> listener =
        whorl::listen(*loop, whorl::Address::loopback_v4(0));
    if (!listener) return 2;
    Talk talk;
    (void)loop->submit(whorl::Accept{*listener}, &talk);
    (void)loop->submit(whorl::Connect{*whorl::local_address(*loop, *listener)},
                       whorl::within(std::chrono::seconds(10)), &talk);
    if (loop->run() || !talk.answered) return 3;
    std::printf("whorl %s, %s\n", WHORL_VERSION_STRING, loop->backend_name());
    return 0;
}
