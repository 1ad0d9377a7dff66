// SPDX-License-Identifier: MIT
// An echo server: every connection is an object with one overload for each event it waits for.
//
//   echo_server [--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev]
//
// It prints what it listens on, and which backend it got and why, and stops on SIGINT or SIGTERM.
#include <whorl/whorl.hpp>

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace {

// One connection. It owns itself: the close handler, which is the last to run, deletes it.
class Echo {
  public:
    explicit Echo(whorl::Socket socket) : socket_(socket) {}

    void start(whorl::Loop& loop) {
        if (!loop.submit(whorl::RecvStream{socket_}, this)) finish(loop);
    }
    // Bytes have arrived: send them back from the very buffer they came in.
    void operator()(whorl::Loop& loop, whorl::RecvStream::Done done) {
        if (done.more) {
            if (!loop.submit(whorl::SendAll{socket_, std::move(done.buffer)}, this)) finish(loop);
        } else if (done.error || !loop.submit(whorl::Shutdown{socket_}, this)) {
            finish(loop);
        }  // else the peer has ended its side: what is still to be sent goes first
    }
    void operator()(whorl::Loop& loop, whorl::SendAll::Done done) {
        if (done.error) finish(loop);
    }
    void operator()(whorl::Loop& loop, whorl::Shutdown::Done) { finish(loop); }

  private:
    // Closing twice is refused as stale, so it does not matter who asks first.
    void finish(whorl::Loop& loop) {
        (void)loop.close(socket_, [this](whorl::Loop&) { delete this; });
    }

    whorl::Socket socket_;
};

struct Arguments {
    std::string port = "7007";
    std::string bind = "127.0.0.1";
    whorl::LoopOptions options;
};

bool parse(int count, char** words, Arguments& arguments) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index], value = words[index + 1];
        if (name == "--port") arguments.port = value;
        else if (name == "--bind") arguments.bind = value;
        else if (name == "--backend" && value == "io_uring")
            arguments.options.backend = whorl::Backend::io_uring;
        else if (name == "--backend" && value == "libev")
            arguments.options.backend = whorl::Backend::libev;
        else if (name != "--backend" || value != "automatic") return false;
    }
    return count % 2 == 1;
}

int fail(const char* what, const char* why) {
    std::fprintf(stderr, "echo_server: %s: %s\n", what, why);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    Arguments arguments;
    if (!parse(count, words, arguments)) {
        return fail("usage", "[--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev]");
    }
    const bool v6 = arguments.bind.find(':') != std::string::npos;
    const std::string text =
        (v6 ? "[" + arguments.bind + "]" : arguments.bind) + ":" + arguments.port;
    const whorl::Result<whorl::Address> address = whorl::Address::parse(text);
    if (!address) return fail(text.c_str(), address.error().text());

    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(arguments.options, report);
    if (!made) return fail(made.error().text(), report.text);
    whorl::Loop& loop = *made;

    const whorl::Result<whorl::Listener> listener = whorl::listen(loop, *address);
    if (!listener) return fail(("listen on " + text).c_str(), listener.error().text());
    const whorl::AddressText where = whorl::local_address(loop, *listener)->print();
    std::printf("listening on %s\nbackend %s\n", where.data, loop.backend_report().text);
    std::fflush(stdout);

    // SIGINT and SIGTERM arrive as bytes on a descriptor, which the loop watches like any other.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    (void)loop.watch(signal_fd, whorl::Interest::readable,
                     [](whorl::Loop& stopped, whorl::Watched) { stopped.stop(); });

    (void)loop.submit(whorl::AcceptStream{*listener},
                      [](whorl::Loop& accepting, whorl::AcceptStream::Done done) {
                          if (done.socket) (new Echo(done.socket))->start(accepting);
                          else if (done.error != whorl::Error::cancelled)
                              std::fprintf(stderr, "accept: %s\n", done.error.text());
                      });
    if (whorl::Error error = loop.run()) return fail("run", error.text());
    if (whorl::Error error = loop.drain(std::chrono::seconds(5)))
        return fail("drain", error.text());
    ::close(signal_fd);
    std::puts("stopped");
    return 0;
}
