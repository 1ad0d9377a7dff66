// SPDX-License-Identifier: MIT
// The mistakes that newcomers make, one for each name; walk.py builds it against an installed whorl and
// reads what each of them gets to hear.
//
//   mistakes NAME
#include <whorl/whorl.hpp>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;

namespace {

whorl::Loop make_loop() {
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) std::exit(3);
    return std::move(*loop);
}

whorl::Socket connected(whorl::Loop& loop) {
    const auto listener = whorl::listen(loop, whorl::Address::loopback_v4(0));
    if (!listener) std::exit(3);
    whorl::Socket socket;
    (void)loop.submit(whorl::Connect{*whorl::local_address(loop, *listener)},
                      [&socket](whorl::Loop&, whorl::Connect::Done done) { socket = done.socket; });
    if (loop.run() || !socket) std::exit(3);
    return socket;
}

void moved_buffer() {
    whorl::Loop loop = make_loop();
    const whorl::Socket socket = connected(loop);
    whorl::Buffer buffer = loop.buffer(100);
    (void)loop.submit(whorl::Recv{socket, std::move(buffer)},
                      [](whorl::Loop&, whorl::Recv::Done) {});
    buffer.resize(10);
}

void moved_buffer_again() {  // refused, not undefined
    whorl::Loop loop = make_loop();
    const whorl::Socket socket = connected(loop);
    whorl::Buffer buffer = loop.buffer(100);
    for (int round = 0; round < 2; ++round) {
        const auto submitted = loop.submit(whorl::Recv{socket, std::move(buffer)},
                                           [](whorl::Loop&, whorl::Recv::Done) {});
        std::puts(submitted ? "accepted" : submitted.error().text());
    }
}

void close_twice() {
    whorl::Loop loop = make_loop();
    const whorl::Socket socket = connected(loop);
    for (int round = 0; round < 2; ++round) std::puts(loop.close(socket).text());
}

void stale_handle() {
    whorl::Loop loop = make_loop();
    const whorl::Socket socket = connected(loop);
    (void)loop.close(socket);
    const auto submitted =
        loop.submit(whorl::Recv{socket, loop.buffer(100)}, [](whorl::Loop&, whorl::Recv::Done) {});
    std::puts(submitted.error().text());
}

void wrong_thread() {
    whorl::Loop loop = make_loop();
    (void)loop.poll();
    std::thread([&loop] { (void)loop.after(1s, [](whorl::Loop&, whorl::Expired) {}); }).join();
}

void not_run() {
    whorl::Loop loop = make_loop();
    (void)loop.after(1s, [](whorl::Loop&, whorl::Expired) { std::puts("never"); });
}

void run_in_handler() {
    whorl::Loop loop = make_loop();
    (void)loop.post([](whorl::Loop& now) { (void)now.run(); });
    (void)loop.run();
}

void nothing_to_run() {
    whorl::Loop loop = make_loop();
    std::puts(loop.run_once().text());
}

struct Client : whorl::Tracked {
    void operator()(whorl::Loop&, whorl::Expired) {}
};

void destroyed_too_early() {
    whorl::Loop loop = make_loop();
    auto client = std::make_unique<Client>();
    (void)loop.after(1s, client.get());
    client.reset();
}

const struct {
    const char* name;
    void (*make)();
} mistakes[] = {
    {"moved_buffer", &moved_buffer},
    {"moved_buffer_again", &moved_buffer_again},
    {"close_twice", &close_twice},
    {"stale_handle", &stale_handle},
    {"wrong_thread", &wrong_thread},
    {"not_run", &not_run},
    {"run_in_handler", &run_in_handler},
    {"nothing_to_run", &nothing_to_run},
    {"destroyed_too_early", &destroyed_too_early},
};

}  // namespace

int main(int count, char** words) {
    for (const auto& mistake : mistakes) {
        if (count == 2 && words[1] == std::string(mistake.name)) {
            mistake.make();
            return 0;
        }
    }
    return 2;
}
