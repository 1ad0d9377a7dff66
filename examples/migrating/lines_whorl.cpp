// SPDX-License-Identifier: MIT
// docs/migrating: the program after the migration.
#include "lines.hpp"

#include <whorl/whorl.hpp>

#include <signal.h>

// [connection]
struct Lines {
    whorl::Framing framing = whorl::Framing::line(line_max);

    void frame(whorl::Stream& stream, whorl::Bytes line) {
        if (line.text() == "quit") return stream.close();
        stream.write(capitals(line.text()));
    }
};
// [end]

// [main]
int main(int count, char** words) {
    const Words given(count, words);
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) return 1;

    whorl::AcceptorOptions options;
    options.stream.deadlines.idle = std::chrono::milliseconds(given.idle_ms);
    const auto port = static_cast<std::uint16_t>(given.port);
    const auto acceptor = whorl::serve(
        *loop, whorl::Address::loopback_v4(port), [](const whorl::Accepted&) { return Lines(); },
        options);
    if (!acceptor) return 1;

    const auto signals = whorl::open_signals(*loop, {SIGTERM});
    if (!signals) return 1;
    (void)loop->submit(whorl::WaitSignal{*signals},
                       [](whorl::Loop& now, whorl::WaitSignal::Done) { now.stop(); });

    listening(whorl::local_address(*loop, (*acceptor)->listener())->port());
    if (loop->run()) return 1;
    return loop->drain(std::chrono::seconds(5)) ? 1 : 0;
}
// [end]
