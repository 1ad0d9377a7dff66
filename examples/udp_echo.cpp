// SPDX-License-Identifier: MIT
// A UDP echo server: sends every datagram back to where it came from.
//
//   udp_echo [--bind ADDRESS] [--port N] [--backend automatic|io_uring|libev]
//
// SIGINT or SIGTERM end it; exit status 0.
#include "udp_echo.hpp"

#include <whorl/whorl.hpp>

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>

namespace {

int fail(const std::string& what, const char* why) {
    std::fprintf(stderr, "udp_echo: %s: %s\n", what.c_str(), why);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    std::string bind = "127.0.0.1", port = "7008", backend = "automatic";
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index];
        if (name == "--bind") bind = words[index + 1];
        else if (name == "--port") port = words[index + 1];
        else if (name == "--backend") backend = words[index + 1];
        else return fail(name, "see the head of udp_echo.cpp");
    }
    const bool v6 = bind.find(':') != std::string::npos;
    const std::string where = (v6 ? '[' + bind + ']' : bind) + ':' + port;
    whorl::LoopOptions options;
    // A datagram of 65,507 bytes and what comes before it in its block.
    options.recv_buffer_size = 65536;
    if (backend == "io_uring") options.backend = whorl::Backend::io_uring;
    else if (backend == "libev") options.backend = whorl::Backend::libev;
    const whorl::Result<whorl::Address> address = whorl::Address::parse(where);
    if (!address) return fail(where, address.error().text());
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options, report);
    if (!loop) return fail(loop.error().text(), report.text);

    const whorl::Result<whorl::UdpSocket> socket = whorl::open_udp(*loop, *address);
    if (!socket) return fail(where, socket.error().text());
    UdpEcho echo(*socket);
    if (!echo.start(*loop)) return fail(where, "cannot start");

    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_BLOCK, &ending, nullptr);
    const int signals = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
    const whorl::Result<whorl::Watch> watch = loop->watch(
        signals, whorl::Interest::readable, [](whorl::Loop& in, whorl::Watched) { in.stop(); });
    if (!watch) return fail("signals", watch.error().text());

    std::printf("listening on %s\n", whorl::local_address(*loop, *socket)->print().c_str());
    std::printf("backend %s\n", loop->backend_report().text);
    std::fflush(stdout);
    if (whorl::Error error = loop->run()) return fail("run", error.text());
    loop->cancel(*watch);
    if (whorl::Error error = loop->drain(std::chrono::seconds(5)))
        return fail("drain", error.text());
    ::close(signals);
    std::printf("echoed %llu datagrams\nstopped\n", static_cast<unsigned long long>(echo.echoed()));
    return 0;
}
