// SPDX-License-Identifier: MIT
// whorl's echo server with a loop for each core, for comparing many loops with one:
//
//   bench_whorl_core_echo [--loops N] [--backend NAME] [--port N]
//
// Each loop listens on the same port (SO_REUSEPORT). Loops are bound to the processors of the affinity mask it is
// started with.
#include "../../examples/echo.hpp"
#include "whorl_server.hpp"

#include <whorl/core_set.hpp>

namespace {

whorl::Error open_echo(whorl::Loop& loop, const whorl::Address& address,
                       const whorl::ListenOptions& options) {
    const whorl::Result<whorl::Listener> listener = whorl::listen(loop, address, options);
    if (!listener) return listener.error();
    const auto accepted = [](whorl::Loop& accepting, whorl::AcceptStream::Done done) {
        if (!done.error) (new Echo(done.socket))->start(accepting);
    };
    return loop.submit(whorl::AcceptStream{*listener}, accepted).error();
}

}  // namespace

int main(int count, char** arguments) {
    std::vector<char*> words(arguments, arguments + count);
    whorl::CoreSetOptions options;
    options.loop.backend = bench::take_backend(words);
    std::uint16_t port = 0;
    for (std::size_t index = 1; index + 1 < words.size(); index += 2) {
        const std::string name = words[index];
        const unsigned long number = bench::parse_number(words[index], words[index + 1], 65535);
        if (name == "--loops") options.loops = static_cast<std::uint32_t>(number);
        else if (name == "--port") port = static_cast<std::uint16_t>(number);
        else return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    // A listener of its own keeps the port until all loops have theirs.
    whorl::Result<whorl::Loop> chooser = whorl::Loop::create(options.loop);
    if (!chooser) return bench::exit_skipped;
    whorl::ListenOptions shared;
    shared.reuse_port = true;
    const auto first = whorl::listen(*chooser, whorl::Address::loopback_v4(port), shared);
    bench::check(first.error(), "listen");
    const whorl::Address address = *whorl::local_address(*chooser, *first);
    whorl::Result<whorl::CoreSet> cores = whorl::CoreSet::start(
        options,
        [&](whorl::Loop& loop, std::uint32_t) { return open_echo(loop, address, shared); });
    bench::check(cores.error(), "start");
    bench::check(chooser->drain(std::chrono::seconds(5)), "drain");
    std::printf("listening on %s\n", address.print().data);
    std::fflush(stdout);
    int signal = 0;
    (void)sigwait(&signals, &signal);
    bench::check(cores->drain(std::chrono::seconds(5)), "drain");
    bench::print_report("whorl_core");
    return 0;
}
