// SPDX-License-Identifier: MIT
#include "fault/scenario_tools.hpp"

#include <sys/eventfd.h>

// Small programs that check themselves. Each ends by finish(), or by the first error it hears of, and
// leaves the cleaning up to the drain that follows.

namespace fault {

namespace {

// --- echo: every call of a small server and its client, once around

struct Echo : Pair {
    static constexpr std::size_t size = 1000;
    using Pair::Pair;
    std::size_t received = 0;
    int closed = 0;

    void start() noexcept {
        connect([this] {
            server_receive(buffer(400));
            client_send();
        });
    }
    void server_receive(Buffer into) noexcept {
        if (!into) return;
        world.submit(Recv{server, std::move(into)}, [this](Recv::Done done) {
            if (world.failed("recv", done.error)) return;
            if (done.buffer.empty()) {
                close(server, [this] { one_closed(); });
                return;
            }
            world.submit(SendAll{server, std::move(done.buffer)}, [this](SendAll::Done sent) {
                if (!world.failed("send", sent.error)) server_receive(std::move(sent.buffer));
            });
        });
    }
    void client_send() noexcept {
        Buffer message = buffer(size);
        if (!message) return;
        fill(message, size, 0);
        world.submit(SendAll{client, std::move(message)}, [this](SendAll::Done done) {
            if (world.failed("send", done.error)) return;
            client_receive(std::move(done.buffer));
        });
    }
    void client_receive(Buffer into) noexcept {
        world.submit(Recv{client, std::move(into)}, [this](Recv::Done done) {
            if (world.failed("recv", done.error)) return;
            world.check(holds(done.buffer, received), "the echo brought other bytes");
            received += done.buffer.size();
            if (done.buffer.empty()) {
                world.check(received == size, "the echo ended early");
                close(client, [this] { one_closed(); });
                return;
            }
            if (received == size) client_shut();
            if (!world.over()) client_receive(std::move(done.buffer));
        });
    }
    void client_shut() noexcept { shut_down(world, client); }
    void one_closed() noexcept {
        if (++closed == 2) world.finish();
    }
};

void run_echo(World& world) {
    Echo echo(world);
    play(echo);
}

// --- bulk: a received stream against a large send and a chain

struct Bulk : Pair {
    static constexpr std::size_t size = 100'000;  // of the send and of the chain, each
    static constexpr int parts = 5;
    using Pair::Pair;
    std::uint64_t received = 0;

    void start() noexcept {
        connect([this] {
            receive();
            send();
        });
    }
    void receive() noexcept {
        world.submit(RecvStream{server}, [this](RecvStream::Done done) {
            if (!done.more && world.failed("recv_stream", done.error)) return;
            world.check(holds(done.buffer, received), "the stream brought other bytes");
            received += done.buffer.size();
            if (done.more) return;
            world.check(received == 2 * size, "the stream ended early");
            close(server, [this] { world.finish(); });
        });
    }
    void send() noexcept {
        Buffer whole = buffer(size);
        BufferChain chain;
        for (int part = 0; part < parts && whole; ++part) {
            Buffer piece = buffer(size / parts);
            if (!piece) return;
            fill(piece, size / parts, size + part * (size / parts));
            if (!chain.push_back(std::move(piece))) {
                static_cast<void>(world.failed("chain", Error::from_errno(ENOMEM)));
                return;
            }
        }
        if (!whole) return;
        fill(whole, size, 0);
        world.submit(SendAll{client, std::move(whole)}, [this](SendAll::Done done) {
            static_cast<void>(world.failed("send_all", done.error));
        });
        if (world.over()) return;
        world.submit(SendChain{client, std::move(chain)}, [this](SendChain::Done done) {
            world.check(done.chain.count() == parts, "the chain came home without its buffers");
            static_cast<void>(world.failed("send_chain", done.error));
        });
        if (world.over()) return;
        shut_down(world, client);
    }
};

void run_bulk(World& world) {
    Bulk bulk(world);
    bulk.narrow();
    play(bulk);
}

// --- accept_stream: four connections, then the end of the stream

struct AcceptMany : Pair {
    static constexpr int count = 4;
    using Pair::Pair;
    Operation stream;
    int accepted = 0;
    int connected = 0;
    int closed = 0;
    bool ended = false;

    void start() noexcept {
        if (!listen()) return;
        stream = world.submit(AcceptStream{listener}, SubmitOptions(),
                              [this](AcceptStream::Done done) { on_accept(done); });
        for (int index = 0; index < count && !world.over(); ++index) {
            world.submit(Connect{address}, [this](Connect::Done done) {
                if (world.failed("connect", done.error)) return;
                ++connected;
                close(done.socket, [this] { one_closed(); });
            });
        }
    }
    void on_accept(const AcceptStream::Done& done) noexcept {
        if (done.more && done.error) return world.note("accept_stream", done.error);
        if (!done.more) {
            if (done.error != Error::cancelled) {
                static_cast<void>(world.failed("accept_stream", done.error));
                return;
            }
            world.check(accepted == count, "the stream of connections ended early");
            ended = true;
            return perhaps_finish();
        }
        close(done.socket, [this] { one_closed(); });
        if (++accepted == count && !world.over()) {
            world.check(world.loop().cancel(stream) == Cancelled::cancelling,
                        "no stream to cancel");
        }
    }
    void one_closed() noexcept {
        ++closed;
        perhaps_finish();
    }
    void perhaps_finish() noexcept {
        if (ended && closed == 2 * count) world.finish();
    }
};

void run_accept_stream(World& world) {
    AcceptMany many(world);
    play(many);
}

// --- retry: what fails is submitted again, with the buffer that came home, and then works

struct Retry : Pair {
    static constexpr std::size_t size = 3000;
    using Pair::Pair;
    std::size_t received = 0;
    std::size_t sent = 0;

    void start() noexcept {
        connect([this] {
            Buffer into = buffer(size);
            if (into) receive(std::move(into));
            if (world.over()) return;
            // Later: the receive waits for readiness, fails there, and waits again.
            const Result<Timer> timer = world.loop().after(2ms, [this](Loop&, Expired) {
                Buffer message = buffer(size);
                if (!message) return;
                fill(message, size, 0);
                send(std::move(message));
            });
            if (!timer) static_cast<void>(world.failed("after", timer.error()));
        });
    }
    void receive(Buffer into) noexcept {
        world.submit(Recv{server, std::move(into)}, [this](Recv::Done done) {
            world.note("recv", done.error);
            world.check(holds(done.buffer, received), "other bytes arrived");
            received += done.buffer.size();
            if (received < size) return receive(std::move(done.buffer));
            perhaps_finish();
        });
    }
    void send(Buffer message) noexcept {
        world.submit(SendAll{client, std::move(message)}, [this](SendAll::Done done) {
            world.note("send_all", done.error);
            sent += done.bytes;
            if (sent == size) return perhaps_finish();
            // What is left, moved to the front.
            fill(done.buffer, size - sent, sent);
            send(std::move(done.buffer));
        });
    }
    void perhaps_finish() noexcept {
        if (received == size && sent == size) world.finish();
    }
};

void run_retry(World& world) {
    Retry retry(world);
    play(retry);
}

// --- stream: a received stream is all that needs memory

struct Stream : Pair {
    static constexpr char text[] = "static bytes";
    using Pair::Pair;
    std::size_t received = 0;

    void start() noexcept {
        connect([this] {
            receive();
            send();
        });
    }
    void receive() noexcept {
        world.submit(RecvStream{server}, [this](RecvStream::Done done) {
            if (!done.more && world.failed("recv_stream", done.error)) return;
            received += done.buffer.size();
            if (done.more) return;
            world.check(received == sizeof text, "the stream ended early");
            world.finish();
        });
    }
    void send() noexcept {
        Buffer message = Buffer::of_static(Bytes(text, sizeof text));
        world.submit(SendAll{client, std::move(message)}, [this](SendAll::Done done) {
            if (world.failed("send_all", done.error)) return;
            shut_down(world, client);
        });
    }
};

void run_stream(World& world) {
    Stream stream(world);
    play(stream);
}

// --- turn: timers, posts and hooks

struct Turn {
    explicit Turn(World& owner) noexcept : world(owner) {}
    World& world;
    Timer periodic;
    Operation hook;
    int ticks = 0;
    int posts = 0;
    int hooks = 0;
    bool moved_fired = false;

    template <class Handle>
    bool made(const char* where, const Result<Handle>& result) noexcept {
        return result ? true : !world.failed(where, result.error());
    }
    void start() noexcept {
        Loop& loop = world.loop();
        const Result<Timer> never =
            loop.after(1ms, [this](Loop&, Expired) { world.wrong("a cancelled timer has fired"); });
        if (!made("after", never)) return;
        const Result<Timer> moved = loop.after(1h, [this](Loop&, Expired) {
            moved_fired = true;
            perhaps_finish();
        });
        const Result<Timer> every = loop.every(500us, [this](Loop& inner, Expired) {
            if (++ticks == 3) world.check(inner.cancel(periodic), "no timer to cancel");
            perhaps_finish();
        });
        if (!made("after", moved) || !made("every", every)) return;
        periodic = *every;
        world.check(loop.cancel(*never), "no timer to cancel");
        if (world.failed("move", loop.move(*moved, 2ms))) return;
        const Result<Operation> hooked = loop.hook(HookPoint::before_wait, [this](Loop& inner) {
            if (++hooks == 2) world.check(inner.cancel(hook) == Cancelled::cancelling, "no hook");
            perhaps_finish();
        });
        if (!made("hook", hooked)) return;
        hook = *hooked;
        for (int index = 0; index < 200 && !world.over(); ++index) {
            static_cast<void>(world.failed("post", loop.post([this](Loop&) {
                ++posts;
                perhaps_finish();
            })));
        }
    }
    void perhaps_finish() noexcept {
        if (moved_fired && ticks == 3 && posts == 200 && hooks == 2) world.finish();
    }
};

void run_turn(World& world) {
    Turn turn(world);
    turn.start();
    world.run();
    world.loop().cancel(turn.hook);  // hooks outlive a drain
    world.drain();
}

// --- watch: foreign descriptors, all directions

struct Watching {
    explicit Watching(World& owner) noexcept : world(owner) {}
    World& world;
    Fd event;
    Fd near;
    Fd far;
    Watch readable;
    Watch writable;
    Watch priority;
    int seen = 0;
    bool read = false;
    bool wrote = false;
    bool urgent = false;

    bool made(const Result<Watch>& result, Watch& watch) noexcept {
        if (!result) return !world.failed("watch", result.error());
        watch = *result;
        return true;
    }
    void start() noexcept {
        {
            const Pause pause;
            event.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        }
        if (!tcp_ends(near, far)) return world.wrong("no connection to watch");
        Loop& loop = world.loop();
        if (!made(loop.watch(event.get(), Interest::readable,
                             [this](Loop& inner, Watched watched) { on_readable(inner, watched); }),
                  readable)) {
            return;
        }
        if (!made(loop.watch(near.get(), Interest::writable,
                             [this](Loop& inner, Watched watched) { on_writable(inner, watched); }),
                  writable)) {
            return;
        }
        made(loop.watch(near.get(), Interest::priority,
                        [this](Loop& inner, Watched watched) { on_urgent(inner, watched); }),
             priority);
    }
    // First the other two, one after the other: each is armed and waits before it has a reason.
    void on_writable(Loop& loop, const Watched& watched) noexcept {
        if (world.over() || world.failed("watch", watched.error)) return;
        world.check(watched.writable, "a watch for writing heard of something else");
        wrote = true;
        if (world.failed("modify", loop.modify(writable, Interest::none))) return;
        const Pause pause;
        world.check(::eventfd_write(event.get(), 1) == 0, "no event to write");
    }
    void on_readable(Loop& loop, const Watched& watched) noexcept {
        if (world.over() || world.failed("watch", watched.error)) return;
        world.check(watched.readable, "a watch for reading heard of something else");
        if (++seen < 3) return;  // level-triggered: it comes again
        if (!read) {
            const Pause pause;
            world.check(::send(far.get(), "!", 1, MSG_OOB) == 1, "no urgent byte sent");
        }
        read = true;
        world.check(loop.cancel(readable), "no watch to cancel");
        event.reset(-1);  // free of the loop at once
    }
    void on_urgent(Loop& loop, const Watched& watched) noexcept {
        if (world.over() || world.failed("watch", watched.error)) return;
        world.check(watched.priority, "a watch for priority heard of something else");
        world.check(loop.cancel(priority), "no watch to cancel");
        world.check(loop.cancel(writable), "no watch to cancel");
        if (read && wrote) world.finish();
    }
};

void run_watch(World& world) {
    Watching watching(world);
    play(watching);
}

// --- options: what is set and asked of sockets, and the way in and out for those of others

void run_options(World& world) {
    Loop& loop = world.loop();
    ListenOptions listening;
    listening.reuse_port = true;
    listening.accepted.receive_buffer = 65536;
    listening.accepted.keepalive_seconds = 60;
    const Result<Listener> listener = whorl::listen(loop, own_address(), listening);
    if (!listener) return static_cast<void>(world.failed("listen", listener.error()));
    Fd one, other;
    if (!tcp_ends(one, other)) return world.wrong("no connection to adopt");
    const Result<Socket> adopted = adopt_socket(loop, one.get());
    if (!adopted) return static_cast<void>(world.failed("adopt", adopted.error()));
    one.release();
    const Result<Address> peer = peer_address(loop, *adopted);
    if (!peer) return static_cast<void>(world.failed("peer_address", peer.error()));
    KeepAlive keepalive;
    if (world.failed("set_option", set_option(loop, *adopted, keepalive))) return;
    const Result<KeepAlive> got = get_option<KeepAlive>(loop, *adopted);
    if (!got) return static_cast<void>(world.failed("get_option", got.error()));
    world.check(got->idle == keepalive.idle, "an option is not what was set");
    if (world.failed("set_option", set_option(loop, *adopted, Linger{true, 0s}))) return;
    const Result<int> detached = detach(loop, *adopted);
    if (!detached) return static_cast<void>(world.failed("detach", detached.error()));
    one.reset(*detached);
    if (!world.failed("close", loop.close(*listener))) world.finish();
}

}  // namespace

void run_copy(World& world);
void run_messages(World& world);
void run_signals(World& world);
void run_remote_self(World& world);
void run_remote_thread(World& world);
void run_cancel(World& world);
void run_drain(World& world);
void run_destroy(World& world);
void run_create(World& world);
void run_guest(World& world);

const Scenario scenarios[] = {
    {"echo", &run_echo},
    {"bulk", &run_bulk},
    {"accept_stream", &run_accept_stream, false, true},
    {"retry", &run_retry},
    {"stream", &run_stream},
    {"turn", &run_turn},
    {"watch", &run_watch},
    {"options", &run_options},
    {"copy", &run_copy},
    {"messages", &run_messages},
    {"signals", &run_signals},
    {"remote_self", &run_remote_self},
    {"remote_thread", &run_remote_thread},
    {"cancel", &run_cancel, false, true},
    {"drain", &run_drain, false, true},
    {"destroy", &run_destroy, false, true},
    {"create", &run_create, true},
    {"guest", &run_guest, true},
};
const int scenarios_count = sizeof scenarios / sizeof scenarios[0];

}  // namespace fault
