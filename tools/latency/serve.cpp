// SPDX-License-Identifier: MIT
#include "serve.hpp"

#include <whorl/http_server.hpp>
#include <whorl/pipe.hpp>
#include <whorl/socket.hpp>
#include <whorl/tcp.hpp>
#include <whorl/udp.hpp>

#include <unistd.h>

#include <cstdio>

namespace latency {

using whorl::Buffer;
using whorl::Error;
using whorl::Loop;
using whorl::Nanoseconds;
using whorl::Socket;

namespace {

void complain(const char* what, Error error) {
    std::fprintf(stderr, "whorl-latency: %s: %s\n", what, error.text());
}

// A client that sends faster than it reads is held back: the stream pauses when so many of its buffers wait
// to be sent.
void echo(Loop& loop, Socket socket) {
    const auto receiving = loop.submit(
        whorl::RecvStream{socket}, [socket](Loop& inside, whorl::RecvStream::Done done) {
            if (!done.buffer.empty()) {
                whorl::SendAll all{socket, std::move(done.buffer)};
                (void)inside.submit(std::move(all), [](Loop&, whorl::SendAll::Done) {});
            }
            if (done.more) return;
            // After what is still to be sent; a connection that is broken cannot be shut down.
            const auto ending = inside.submit(
                whorl::Shutdown{socket},
                [socket](Loop& last, whorl::Shutdown::Done) { (void)last.close(socket); });
            if (!ending) (void)inside.close(socket);
        });
    if (!receiving) (void)loop.close(socket);
}

bool serve_listener(Loop& loop, whorl::Result<whorl::Listener> listener, std::string& why) {
    if (!listener) {
        why = listener.error().text();
        return false;
    }
    const auto accepting = loop.submit(whorl::AcceptStream{*listener},
                                       [](Loop& inside, whorl::AcceptStream::Done done) {
                                           if (done.socket) echo(inside, done.socket);
                                           else if (done.error != Error::cancelled)
                                               complain("accept", done.error);
                                       });
    if (!accepting) why = accepting.error().text();
    return static_cast<bool>(accepting);
}

bool serve_datagrams(Loop& loop, const Target& target, std::string& where, std::string& why) {
    whorl::UdpOptions options;
    options.receive_buffer = 4 << 20;
    const auto opened = whorl::open_udp(loop, target.address, options);
    if (!opened) {
        why = opened.error().text();
        return false;
    }
    const whorl::UdpSocket socket = *opened;
    if (const auto local = whorl::local_address(loop, socket)) {
        where = "udp://" + std::string(local->print().view());
    }
    const auto receiving = loop.submit(
        whorl::RecvFromStream{socket}, [socket](Loop& inside, whorl::RecvFromStream::Done done) {
            if (done.error) return complain("receive", done.error);
            whorl::SendTo send{socket, std::move(done.buffer), done.address};
            (void)inside.submit(std::move(send), [](Loop&, whorl::SendTo::Done) {});
        });
    if (!receiving) why = receiving.error().text();
    return static_cast<bool>(receiving);
}

void copy_pipe(Loop& loop, whorl::PipeEnds ends, Buffer buffer, bool& ended) {
    buffer.resize(0);
    whorl::Read read{ends.reading, std::move(buffer)};
    const auto reading =
        loop.submit(std::move(read), [ends, &ended](Loop& inside, whorl::Read::Done done) {
            if (done.error || done.buffer.empty()) {
                ended = true;
                return;
            }
            whorl::WriteAll write{ends.writing, std::move(done.buffer)};
            const auto writing = inside.submit(
                std::move(write), [ends, &ended](Loop& again, whorl::WriteAll::Done written) {
                    if (written.error) ended = true;
                    else copy_pipe(again, ends, std::move(written.buffer), ended);
                });
            if (!writing) ended = true;
        });
    if (!reading) ended = true;
}

bool serve_pipe(Loop& loop, bool& ended, std::string& why) {
    const auto reading = whorl::duplicate_pipe(loop, STDIN_FILENO);
    const auto writing = whorl::duplicate_pipe(loop, STDOUT_FILENO);
    if (!reading || !writing) {
        why = "standard input and output must be open";
        return false;
    }
    copy_pipe(loop, {*reading, *writing}, Buffer::allocate(65536), ended);
    return true;
}

#ifdef WHORL_LATENCY_HTTP
struct Hello {
    void request(whorl::http::Exchange& exchange) {
        exchange.respond({200, "text/plain"}, "Hello, World!");
    }
};

bool serve_http(Loop& loop, const Target& target, std::string& where, std::string& why) {
    whorl::http::ServerOptions options;
    options.idle = Nanoseconds::zero();  // a slow rate is the client's affair
    const auto acceptor = whorl::http::serve(
        loop, target.address, [](const whorl::Accepted&) { return Hello{}; }, options);
    if (!acceptor) {
        why = acceptor.error().text();
        return false;
    }
    if (const auto local = whorl::local_address(loop, (*acceptor)->listener())) {
        where = "http://" + std::string(local->print().view()) + "/";
    }
    return true;
}
#else
bool serve_http(Loop&, const Target&, std::string&, std::string&) { return false; }
#endif

}  // namespace

bool serve(Loop& loop, const Target& target, bool& ended, std::string& where, std::string& why) {
    where = target.text;
    switch (target.kind) {
        case Kind::tcp: {
            auto listener = whorl::listen(loop, target.address);
            if (listener) {
                if (const auto local = whorl::local_address(loop, *listener)) {
                    where = "tcp://" + std::string(local->print().view());
                }
            }
            return serve_listener(loop, std::move(listener), why);
        }
        case Kind::unix_stream: {
            whorl::UnixListenOptions options;
            options.replace_stale = true;
            return serve_listener(loop, whorl::listen_unix(loop, target.unix_address, options),
                                  why);
        }
        case Kind::udp:
            return serve_datagrams(loop, target, where, why);
        case Kind::pipe:
            return serve_pipe(loop, ended, why);
        case Kind::http:
            return serve_http(loop, target, where, why);
        case Kind::timer:
        case Kind::file:
        case Kind::channel:
            break;
    }
    why = "a timer, a file or a channel has no server";
    return false;
}

}  // namespace latency
