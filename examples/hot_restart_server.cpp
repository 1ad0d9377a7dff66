// SPDX-License-Identifier: MIT
// An echo server that is replaced while it serves, without refusing anybody.
//
//   hot_restart_server [--port N] [--bind ADDRESS] [--restart-socket PATH] [--drain SECONDS]
//                      [--backend automatic|io_uring|libev]
//
// When a server with the same restart socket runs, the new one takes over its listener, and the old one
// serves its connections to their end, at most --drain seconds, and ends. SIGHUP starts such a new one: the
// program as it lies on the disk then. Under systemd it takes the socket of its .socket unit, and says when it
// is ready and when it stops (docs/hot-restart.md). SIGINT and SIGTERM end it.
#include <whorl/whorl.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

namespace {

struct Arguments {
    std::string port = "7007";
    std::string bind = "127.0.0.1";
    std::string restart_socket;
    int drain_seconds = 60;
    whorl::LoopOptions options;
    char** words = nullptr;
};

bool parse(int count, char** words, Arguments& arguments) {
    arguments.words = words;
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index], value = words[index + 1];
        if (name == "--port") arguments.port = value;
        else if (name == "--bind") arguments.bind = value;
        else if (name == "--restart-socket") arguments.restart_socket = value;
        else if (name == "--drain") arguments.drain_seconds = std::atoi(value.c_str());
        else if (name == "--backend" && value == "io_uring")
            arguments.options.backend = whorl::Backend::io_uring;
        else if (name == "--backend" && value == "libev")
            arguments.options.backend = whorl::Backend::libev;
        else if (name != "--backend" || value != "automatic") return false;
    }
    return count % 2 == 1;
}

int fail(const char* what, const char* why) {
    std::fprintf(stderr, "hot_restart_server: %s: %s\n", what, why);
    return 1;
}

// A connection: what comes goes back, until the peer ends it.
struct Echo {
    void received(whorl::Stream& stream, whorl::Buffer buffer) { stream.write(std::move(buffer)); }
};

class Server {
  public:
    explicit Server(const Arguments& arguments) : arguments_(arguments) {}

    // Takes over from the one that serves, or begins from nothing.
    whorl::Error start(whorl::Loop& loop) {
        const whorl::Result<whorl::Signals> signals =
            whorl::open_signals(loop, {SIGINT, SIGTERM, SIGHUP});
        if (!signals) return signals.error();
        signals_ = *signals;
        wait_signal(loop);
        auto passed = whorl::service::inherited_descriptors(whorl::service::Environment::remove);
        if (!passed) return passed.error();
        passed_ = std::move(*passed);
        return arguments_.restart_socket.empty() ? begin(loop) : ask(loop);
    }
    whorl::Error error() const { return error_; }

  private:
    whorl::Error ask(whorl::Loop& loop) {
        const auto address = whorl::UnixAddress::file(arguments_.restart_socket);
        if (!address) return address.error();
        return whorl::take_over(loop, *address, {}, whorl::bind<&Server::taken>(this));
    }
    // A process that was killed may keep its sockets for a moment: the kernel ends its ring behind it.
    whorl::Error ask_again(whorl::Loop& loop, whorl::Error error) {
        if (++asked_ > 1000) return error;
        return loop
            .after(std::chrono::milliseconds(10),
                   [this](whorl::Loop& later, whorl::Expired) { end_with(later, ask(later)); })
            .error();
    }

    // Nobody serves: from a socket of the service manager's, or one of its own.
    whorl::Error begin(whorl::Loop& loop) {
        const auto address = whorl::Address::parse(arguments_.bind + ":" + arguments_.port);
        if (!address) return address.error();
        if (!arguments_.restart_socket.empty()) {
            const auto path = whorl::UnixAddress::file(arguments_.restart_socket);
            const whorl::Result<whorl::Listener> restart = whorl::listen_restart(loop, *path);
            if (!restart) return restart.error();
            restart_ = *restart;
        }
        const whorl::Result<whorl::Listener> listener =
            passed_.count() != 0 ? whorl::adopt_listener(loop, passed_, 0)
                                 : whorl::listen(loop, *address);
        if (!listener) {
            if (restart_) (void)loop.close(restart_);
            restart_ = {};
            return listener.error();
        }
        if (whorl::Error error = serve(loop, *listener, "serving")) return error;
        return offer(loop);
    }

    void taken(whorl::Loop& loop, whorl::TakenOver done) {
        const bool alone = done.error == whorl::Error::from_errno(ENOENT) ||
                           done.error == whorl::Error::from_errno(ECONNREFUSED);
        if (alone) done.error = begin(loop);
        if (done.error == whorl::Error::from_errno(ECONNRESET) ||
            done.error == whorl::Error::from_errno(EADDRINUSE)) {
            return end_with(loop, ask_again(loop, done.error));
        }
        if (alone && !done.error) return;
        if (done.error) return end_with(loop, done.error);
        const whorl::Result<whorl::Listener> listener =
            whorl::adopt_listener(loop, done.descriptors, done.descriptors.find("echo"));
        if (!listener) return end_with(loop, listener.error());
        restart_ = done.restart;
        succession_ = std::move(done.succession);
        const std::string from = "taken over from " + std::to_string(done.predecessor.pid);
        if (whorl::Error error = serve(loop, *listener, from.c_str())) return end_with(loop, error);
        end_with(loop, succession_.ready(loop, whorl::bind<&Server::released>(this)));
    }
    void released(whorl::Loop& loop, whorl::Released done) {
        if (done.error) return end_with(loop, done.error);
        (void)whorl::service::main_process(::getpid());
        end_with(loop, offer(loop));
    }

    whorl::Error serve(whorl::Loop& loop, whorl::Listener listener, const char* how) {
        const auto made =
            whorl::serve(loop, listener, [](const whorl::Accepted&) { return Echo{}; });
        if (!made) return made.error();
        acceptor_ = *made;
        const whorl::Result<whorl::Address> where = whorl::local_address(loop, listener);
        std::printf("listening on %s\nbackend %s\n%s\n",
                    where ? where->print().data : "a socket that was passed",
                    loop.backend_report().text, how);
        std::fflush(stdout);
        return {};
    }
    // Ready for everything, its own succession included.
    whorl::Error offer(whorl::Loop& loop) {
        if (restart_) {
            const whorl::Result<whorl::RestartOffer*> made =
                whorl::offer_restart(loop, restart_, {}, whorl::bind<&Server::succeeded>(this));
            if (!made) return made.error();
            offer_ = *made;
            if (whorl::Error error = offer_->add("echo", acceptor_->listener())) return error;
        }
        (void)whorl::service::ready();
        std::puts("ready");
        std::fflush(stdout);
        return {};
    }

    // The successor serves. What is here comes to its end, and so does the program.
    void succeeded(whorl::Loop& loop, whorl::Succeeded done) {
        offer_ = nullptr;
        if (done.error) return end_with(loop, done.error);
        retire(loop, std::chrono::seconds(arguments_.drain_seconds));
    }
    void retire(whorl::Loop& loop, whorl::Nanoseconds bound) {
        const whorl::Error error =
            acceptor_->retire(bound, [this](whorl::Loop& ended, std::uint32_t aborted) {
                acceptor_ = nullptr;
                if (aborted != 0) std::printf("%u connections were ended\n", aborted);
                ended.stop();
            });
        if (error) end_with(loop, error);
    }

    void wait_signal(whorl::Loop& loop) {
        (void)loop.submit(whorl::WaitSignal{signals_}, whorl::bind<&Server::signalled>(this));
    }
    void signalled(whorl::Loop& loop, whorl::WaitSignal::Done done) {
        if (done.error) return;
        if (done.signal.number == SIGHUP) {
            if (offer_ != nullptr) spawn(loop);
            return wait_signal(loop);
        }
        (void)whorl::service::stopping();
        if (offer_ != nullptr) offer_->close();
        loop.stop();
    }
    void spawn(whorl::Loop& loop) {
        whorl::SpawnOptions options;
        options.program = arguments_.words[0];
        options.arguments = arguments_.words;
        (void)loop.submit(whorl::Spawn{options}, [](whorl::Loop& in, whorl::Spawn::Done done) {
            if (done.error) std::fprintf(stderr, "spawn: %s\n", done.error.text());
            else (void)in.close(done.child);  // it runs on
        });
    }
    void end_with(whorl::Loop& loop, whorl::Error error) {
        if (!error) return;
        error_ = error;
        loop.stop();
    }

    const Arguments& arguments_;
    whorl::InheritedDescriptors passed_;
    whorl::Signals signals_;
    whorl::Listener restart_;
    whorl::Succession succession_;
    whorl::Acceptor* acceptor_ = nullptr;
    whorl::RestartOffer* offer_ = nullptr;
    whorl::Error error_;
    int asked_ = 0;
};

}  // namespace

int main(int count, char** words) {
    Arguments arguments;
    if (!parse(count, words, arguments)) {
        return fail("usage", "see the head of hot_restart_server.cpp");
    }
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(arguments.options, report);
    if (!loop) return fail(loop.error().text(), report.text);
    Server server(arguments);
    if (whorl::Error error = server.start(*loop)) return fail("start", error.text());
    if (whorl::Error error = loop->run()) return fail("run", error.text());
    if (server.error()) return fail("serve", server.error().text());
    if (whorl::Error error = loop->drain(std::chrono::seconds(5)))
        return fail("drain", error.text());
    std::puts("stopped");
    return 0;
}
