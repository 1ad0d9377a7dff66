// SPDX-License-Identifier: MIT
// docs/guide/deployment.md: what a service says when it starts, and its orderly end.
#include "expect.hpp"

#include <whorl/whorl.hpp>

#include <signal.h>

#include <cstdio>

using namespace std::chrono_literals;

namespace {

// [start]
whorl::Result<whorl::Loop> loop_for(const whorl::LoopOptions& options) {
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options, report);
    std::printf("backend: %s\n", report.text);  // on success, too: why it is not io_uring
    return loop;
}
// [end]

}  // namespace

int main() {
    // [options]
    whorl::LoopOptions options;
    options.ops_max = 100'000;            // each connection takes a few
    options.handles_max = 20'000;         // connections, listeners, files
    options.buffer_bytes_max = 32 << 20;  // what a container's memory limit leaves for it
    // [end]
    whorl::Result<whorl::Loop> made = loop_for(options);
    if (!made) expect(made.error());
    whorl::Loop& loop = *made;

    // [signals]
    const auto signals = whorl::open_signals(loop, {SIGTERM, SIGINT});
    if (!signals) expect(signals.error());
    (void)loop.submit(whorl::WaitSignal{*signals},
                      [](whorl::Loop& now, whorl::WaitSignal::Done done) {
                          if (!done.error) now.stop();
                      });
    // [end]
    (void)loop.after(1ms, [](whorl::Loop&, whorl::Expired) { ::raise(SIGTERM); });
    // [end_of_service]
    whorl::Error error = loop.run();
    if (!error) error = loop.drain(10s);  // less than the runtime's grace period
    // [end]
    expect(error);
    expect(loop.close(*signals) == whorl::Error::stale_handle, "drain has closed everything");
}
