// SPDX-License-Identifier: MIT
// Goal: nghttp2's sessions, a client's and a server's, run over whorl streams: many at once, large ones,
// refused, cut off, and destroyed in their own callbacks.
// Method: a real nghttpd that serves files and echoes uploads, and a real h2load that asks.
#include "hosts/server.hpp"

#include <whorl/adapters/nghttp2.hpp>

#include <sys/syscall.h>

#include <cstring>
#include <functional>
#include <list>
#include <map>

namespace whorl::hosts {
namespace {

constexpr const char* nghttpd = "/usr/sbin/nghttpd";
constexpr const char* h2load = "/usr/bin/h2load";
constexpr std::size_t large_size = 3 << 20;

nghttp2_nv field(const char* name, const char* value) {
    const auto bytes = [](const char* text) {
        return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text));
    };
    return {bytes(name), bytes(value), std::strlen(name), std::strlen(value), NGHTTP2_NV_FLAG_NONE};
}

// Bytes that a stream sends, `left` of them.
ssize_t give(nghttp2_session*, std::int32_t, std::uint8_t* at, std::size_t room,
             std::uint32_t* flags, nghttp2_data_source* source, void*) {
    auto& left = *static_cast<std::size_t*>(source->ptr);
    const std::size_t given = std::min(room, left);
    std::memset(at, 'd', given);
    left -= given;
    if (left == 0) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(given);
}

// nghttp2's memory: the allocation that is so many away is refused.
struct Scarce {
    std::int64_t refused_in = -1;
    bool refuses() { return refused_in-- == 0; }
    static Scarce& of(void* self) { return *static_cast<Scarce*>(self); }
    nghttp2_mem memory{
        this,
        [](std::size_t size, void* self) {
            return of(self).refuses() ? nullptr : std::malloc(size);
        },
        [](void* memory, void*) { std::free(memory); },
        [](std::size_t count, std::size_t size, void* self) {
            return of(self).refuses() ? nullptr : std::calloc(count, size);
        },
        [](void* memory, std::size_t size, void* self) {
            return of(self).refuses() ? nullptr : std::realloc(memory, size);
        },
    };
};

// One connection, with what has become of its streams.
struct Peer {
    struct Exchange {
        std::string status;
        std::size_t bytes = 0;
        std::size_t left = 0;  // to be sent
        bool closed = false;
        std::uint32_t code = 0;
    };
    Scarce scarce;
    bool silent = false;  // it does not want to hear of its end
    std::unique_ptr<adapters::Nghttp2Stream> link = std::make_unique<adapters::Nghttp2Stream>();
    std::map<std::int32_t, Exchange> exchanges;
    int open = 0;
    int ended = 0;
    Closed why;
    std::function<int(std::int32_t)> on_data = [](std::int32_t) { return 0; };
    std::function<void(std::int32_t)> on_close = [](std::int32_t) {};
    std::function<void(std::int32_t)> on_request = [](std::int32_t) {};
    std::function<void()> on_end = [] {};

    static Peer& of(void* self) { return *static_cast<Peer*>(self); }

    Error attach(Loop& loop, Socket socket, bool server) {
        nghttp2_session_callbacks* calls = nullptr;
        nghttp2_session_callbacks_new(&calls);
        nghttp2_session_callbacks_set_on_header_callback(
            calls,
            [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t,
               const std::uint8_t* value, std::size_t size, std::uint8_t, void* self) {
                if (std::strcmp(reinterpret_cast<const char*>(name), ":status") == 0)
                    of(self).exchanges[frame->hd.stream_id].status.assign(
                        reinterpret_cast<const char*>(value), size);
                return 0;
            });
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
            calls, [](nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t*,
                      std::size_t size, void* self) {
                of(self).exchanges[id].bytes += size;
                return of(self).on_data(id);
            });
        nghttp2_session_callbacks_set_on_frame_recv_callback(
            calls, [](nghttp2_session*, const nghttp2_frame* frame, void* self) {
                if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
                    of(self).on_request(frame->hd.stream_id);
                return 0;
            });
        nghttp2_session_callbacks_set_on_stream_close_callback(
            calls, [](nghttp2_session*, std::int32_t id, std::uint32_t code, void* self) {
                Exchange& exchange = of(self).exchanges[id];
                exchange.closed = true;
                exchange.code = code;
                --of(self).open;
                of(self).on_close(id);
                return 0;
            });
        nghttp2_session* session = nullptr;
        if (server) nghttp2_session_server_new(&session, calls, this);
        else nghttp2_session_client_new3(&session, calls, this, nullptr, &scarce.memory);
        nghttp2_session_callbacks_del(calls);
        nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, nullptr, 0);
        adapters::Nghttp2Calls ends;
        ends.user = this;
        ends.ended = [](void* self, adapters::Nghttp2Stream&, Closed closed) {
            ++of(self).ended;
            of(self).why = closed;
            of(self).on_end();
        };
        if (silent) ends.ended = nullptr;
        const Error error = link->attach(loop, socket, session, ends);
        if (error) nghttp2_session_del(session);
        return error;
    }
    // A request; with `upload` bytes behind it.
    std::int32_t ask(const char* path, std::size_t upload = 0) {
        const nghttp2_nv fields[] = {field(":method", upload > 0 ? "POST" : "GET"),
                                     field(":scheme", "http"), field(":authority", "whorl.test"),
                                     field(":path", path)};
        auto left = std::make_unique<std::size_t>(upload);
        nghttp2_data_provider provider{};
        provider.source.ptr = left.get();
        provider.read_callback = &give;
        const std::int32_t id = nghttp2_submit_request(link->session(), nullptr, fields, 4,
                                                       upload > 0 ? &provider : nullptr, nullptr);
        EXPECT_GT(id, 0);
        lefts.push_back(std::move(left));
        ++open;
        return id;
    }
    // The answer of a server: `size` bytes.
    void answer(std::int32_t id, std::size_t size) {
        const nghttp2_nv fields[] = {field(":status", "200")};
        lefts.push_back(std::make_unique<std::size_t>(size));
        nghttp2_data_provider provider{};
        provider.source.ptr = lefts.back().get();
        provider.read_callback = &give;
        EXPECT_EQ(nghttp2_submit_response(link->session(), id, fields, 1, &provider), 0);
    }
    void leave() { nghttp2_session_terminate_session(link->session(), NGHTTP2_NO_ERROR); }

    std::list<std::unique_ptr<std::size_t>> lefts;
};

class Nghttp2 : public HostTest {
  protected:
    void SetUp() override {
        if (!Server::installed(nghttpd) || !Server::installed(h2load))
            GTEST_SKIP() << "no nghttpd or no h2load";
        HostTest::SetUp();
    }
    void TearDown() override {
        listened.clear();
        if (loop == nullptr) return;
        EXPECT_FALSE(loop->drain(5s));
    }
    void serve_files() {
        port = free_port(SOCK_STREAM);
        std::ofstream(server.folder + "/small") << "small";
        std::ofstream(server.folder + "/large") << std::string(large_size, 'L');
        server.start(
            {nghttpd, "--no-tls", "--echo-upload", "-d", server.folder, std::to_string(port)});
        server.await(port);
    }
    // `then` runs when the peer is attached.
    void connect(Peer& peer, std::function<void()> then) {
        next = std::move(then);
        const auto connecting =
            loop->submit(Connect{Address::loopback_v4(static_cast<std::uint16_t>(port))},
                         [this, &peer](Loop& inner, Connect::Done done) {
                             ASSERT_FALSE(done.error);
                             ASSERT_FALSE(peer.attach(inner, done.socket, false));
                             next();
                         });
        ASSERT_TRUE(connecting);
    }
    // A server of whorl and nghttp2; a request is answered with `size` bytes.
    void listen(std::size_t size) {
        const Result<Listener> listener = whorl::listen(*loop, Address::loopback_v4(0));
        ASSERT_TRUE(listener);
        port = whorl::local_address(*loop, *listener)->port();
        answer_size = size;
        const auto accepting =
            loop->submit(AcceptStream{*listener}, [this](Loop& inner, AcceptStream::Done done) {
                if (done.error) return;
                listened.push_back(std::make_unique<Peer>());
                Peer& peer = *listened.back();
                peer.on_request = [this, &peer](std::int32_t id) { peer.answer(id, answer_size); };
                ASSERT_FALSE(peer.attach(inner, done.socket, true));
            });
        ASSERT_TRUE(accepting);
    }
    // Runs h2load to its end; returns what it says.
    std::string load(const std::vector<std::string>& options) {
        std::vector<std::string> words{h2load};
        words.insert(words.end(), options.begin(), options.end());
        words.push_back("http://127.0.0.1:" + std::to_string(port) + "/");
        server.start(words);
        const int process = static_cast<int>(::syscall(SYS_pidfd_open, server.pid(), 0));
        const Result<Watch> ends =
            loop->watch(process, Interest::readable, [this](Loop& inner, Watched watched) {
                inner.cancel(watched.watch);
                finish();
            });
        EXPECT_TRUE(ends);
        run();
        server.stop();
        ::close(process);
        return server.log();
    }

    Server server;
    int port = 0;
    std::size_t answer_size = 0;
    std::function<void()> next;
    std::list<std::unique_ptr<Peer>> listened;
};
WHORL_HOST_TESTS(Nghttp2);

TEST_P(Nghttp2, a_client_asks_for_much_at_once) {
    serve_files();
    Peer peer;
    peer.on_close = [&](std::int32_t) {
        if (peer.open == 0) peer.leave();  // from inside nghttp2
    };
    connect(peer, [&] {
        for (int count = 0; count < 200; ++count) peer.ask(count % 50 == 0 ? "/large" : "/small");
        peer.ask("/missing");
    });
    run();
    EXPECT_EQ(peer.ended, 1);
    EXPECT_FALSE(peer.why.error);
    std::map<std::string, int> statuses;
    std::size_t bytes = 0;
    for (const auto& [id, exchange] : peer.exchanges) {
        ++statuses[exchange.status];
        if (exchange.status == "200") bytes += exchange.bytes;
    }
    EXPECT_EQ(statuses["200"], 200);
    EXPECT_EQ(statuses["404"], 1);
    EXPECT_EQ(bytes, 4 * large_size + 196 * 5);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Nghttp2, megabytes_go_to_and_fro_at_once) {
    serve_files();
    Peer peer;
    peer.on_close = [&](std::int32_t) {
        if (peer.open == 0) peer.leave();
    };
    connect(peer, [&] {
        for (int count = 0; count < 3; ++count) peer.ask("/echo", large_size);
    });
    run();
    EXPECT_EQ(peer.ended, 1);
    for (const auto& [id, exchange] : peer.exchanges) EXPECT_EQ(exchange.bytes, large_size);
    EXPECT_EQ(peer.exchanges.size(), 3u);
}

TEST_P(Nghttp2, the_program_asks_again_later) {
    serve_files();
    Peer peer;
    int answers = 0;
    peer.on_close = [&](std::int32_t) {
        // Outside of nghttp2, and so with flush().
        ASSERT_TRUE(loop->after(0ms, [&](Loop&, Expired) {
            if (++answers < 20) peer.ask("/small");
            else peer.leave();
            peer.link->flush();
        }));
    };
    connect(peer, [&] { peer.ask("/small"); });
    run();
    EXPECT_EQ(answers, 20);
    EXPECT_EQ(peer.ended, 1);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Nghttp2, a_server_that_dies_in_the_middle_ends_the_session) {
    serve_files();
    Peer peer;
    peer.on_data = [&](std::int32_t) {
        server.stop();
        return 0;
    };
    connect(peer, [&] {
        for (int count = 0; count < 20; ++count) peer.ask("/large");
    });
    run();
    EXPECT_EQ(peer.ended, 1);
    EXPECT_GT(peer.open, 0);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Nghttp2, destroyed_in_a_callback_of_its_own) {
    serve_files();
    Peer peer;
    peer.on_data = [&](std::int32_t) -> int {
        peer.link.reset();
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    };
    connect(peer, [&] {
        peer.ask("/large");
        peer.ask("/large");
    });
    run();
    EXPECT_EQ(peer.ended, 0) << "called after it was destroyed";
    EXPECT_EQ(left_over(), 0u);
    Peer second;
    second.on_close = [&](std::int32_t) { second.leave(); };
    second.on_end = [&] { second.link.reset(); };
    connect(second, [&] { second.ask("/small"); });
    run();
    EXPECT_EQ(second.ended, 1);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Nghttp2, a_callback_that_fails_ends_the_session_with_cancelled) {
    serve_files();
    Peer peer;
    peer.on_data = [](std::int32_t) { return int{NGHTTP2_ERR_CALLBACK_FAILURE}; };
    connect(peer, [&] { peer.ask("/large"); });
    run();
    EXPECT_EQ(peer.ended, 1);
    EXPECT_EQ(peer.why.error, Error::cancelled);
}

TEST_P(Nghttp2, the_loop_may_end_first) {
    serve_files();
    Peer peer;
    peer.on_data = [&](std::int32_t) {
        finish();
        return 0;
    };
    connect(peer, [&] { peer.ask("/large"); });
    run();
    loop.reset();
    EXPECT_EQ(peer.link->stream(), nullptr);
    EXPECT_EQ(peer.ended, 0);
}

TEST_P(Nghttp2, a_server_answers_h2load) {
    listen(5);
    const std::string small = load({"-n", "3000", "-c", "10", "-m", "20"});
    EXPECT_NE(small.find("3000 succeeded, 0 failed, 0 errored"), std::string::npos) << small;
    answer_size = large_size;
    const std::string large = load({"-n", "40", "-c", "2", "-m", "10"});
    EXPECT_NE(large.find("40 succeeded, 0 failed, 0 errored"), std::string::npos) << large;
}

TEST_P(Nghttp2, a_peer_that_speaks_something_else_is_refused) {
    listen(5);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(port);
    ASSERT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    constexpr char request[] = "GET / HTTP/1.1\r\nHost: whorl.test\r\n\r\n";
    ASSERT_EQ(::write(fd, request, sizeof request - 1), static_cast<ssize_t>(sizeof request - 1));
    // The server says its settings and ends.
    const Result<Watch> reads =
        loop->watch(fd, Interest::readable, [&](Loop& inner, Watched watched) {
            char byte[256];
            if (::read(fd, byte, sizeof byte) > 0) return;
            ::shutdown(fd, SHUT_RDWR);
            inner.cancel(watched.watch);
            ASSERT_TRUE(inner.every(1ms, [&](Loop&, Expired) {
                if (listened.front()->ended == 1) finish();
            }));
        });
    ASSERT_TRUE(reads);
    run();
    ASSERT_EQ(listened.size(), 1u);
    EXPECT_EQ(listened.front()->why.error, Error::frame_malformed);
    ::close(fd);
}

// Each allocation that nghttp2 makes for a request and its answer in turn.
TEST_P(Nghttp2, memory_that_nghttp2_is_refused_ends_the_session_with_that) {
    serve_files();
    int well = 0, without = 0;
    for (std::int64_t number = 0; well == 0; ++number) {
        SCOPED_TRACE(number);
        ASSERT_LT(number, 1000) << "it comes to an end";
        Peer peer;
        bool asked = true;
        peer.on_close = [&](std::int32_t id) {
            if (peer.exchanges[id].status == "200" && peer.exchanges[id].bytes == 5) ++well;
            asked = nghttp2_session_terminate_session(peer.link->session(), 0) == 0;
            if (!asked) peer.link->stream()->close();
        };
        peer.on_end = [this] { finish(); };
        connect(peer, [&] {
            peer.scarce.refused_in = number;
            const nghttp2_nv fields[] = {field(":method", "GET"), field(":scheme", "http"),
                                         field(":authority", "whorl.test"),
                                         field(":path", "/small")};
            const auto id =
                nghttp2_submit_request(peer.link->session(), nullptr, fields, 4, nullptr, nullptr);
            asked = id > 0;
            if (!asked) peer.link->stream()->close();
            peer.link->flush();
        });
        run();
        ASSERT_EQ(peer.ended, 1);
        if (peer.scarce.refused_in >= 0) break;  // none was refused
        well = 0;
        const bool told = !asked || peer.why.error == Error::from_errno(ENOMEM);
        EXPECT_TRUE(told || !peer.why.error) << peer.why.error.name();
        without += told ? 1 : 0;
    }
    EXPECT_GT(without, 2);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Nghttp2, who_does_not_want_to_hear_of_the_end_is_not_told) {
    serve_files();
    Peer peer;
    peer.silent = true;
    peer.link->flush();  // it is not attached
    EXPECT_EQ(peer.attach(*loop, Socket(), false), Error::stale_handle);
    peer.on_close = [&](std::int32_t) {
        peer.link->flush();  // from inside of nghttp2: nothing
        peer.leave();
    };
    connect(peer, [&] { peer.ask("/small"); });
    run();
    EXPECT_EQ(peer.link->stream(), nullptr);
    EXPECT_EQ(peer.ended, 0);
    peer.link->flush();  // it has ended
    EXPECT_EQ(left_over(), 0u);
}

}  // namespace
}  // namespace whorl::hosts
