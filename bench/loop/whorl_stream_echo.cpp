// SPDX-License-Identifier: MIT
// whorl's TCP echo server for comparisons, with streams as users write them: protocol objects, watermarks,
// and with WHORL_BENCH_DEADLINES=1 an idle and a write deadline. The rival is libevent's bufferevent.
#include "whorl_server.hpp"

#include <cstdlib>

namespace {

struct StreamEcho {
    void received(whorl::Stream& stream, whorl::Buffer buffer) { stream.write(std::move(buffer)); }
};

}  // namespace

int main(int count, char** arguments) {
    bench::WhorlServer server(count, arguments);
    whorl::Loop& loop = server.loop();
    const int listening = bench::listen_on(server.options(), 0);
    const whorl::Result<whorl::Listener> listener = whorl::adopt_listener(loop, listening);
    bench::check(listener.error(), "adopt_listener");
    whorl::AcceptorOptions options;
    if (std::getenv("WHORL_BENCH_DEADLINES") != nullptr) {
        options.stream.deadlines.idle = std::chrono::seconds(60);
        options.stream.deadlines.write = std::chrono::seconds(30);
    }
    const auto make = [](const whorl::Accepted&) { return StreamEcho(); };
    bench::check(whorl::serve(loop, *listener, make, options).error(), "serve");
    bench::announce(listening);
    server.run();
    return 0;
}
