// SPDX-License-Identifier: MIT
// Goal: after a warm-up no operation, timer, post or watch allocates. Method: every way to the heap is
// counted: operator new always, malloc and its kin where no sanitizer owns them.
#include "conformance/counted_heap.hpp"
#include "conformance/os_files.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <whorl/file_observer.hpp>
#include <whorl/local_channel.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

namespace whorl::conformance {
namespace {

class LimitsAllocation : public TcpTest {
  protected:
    static std::uint64_t rounds(std::uint64_t full) {
        const std::string name = GetParam().name;
        return scaled(name == "io_uring" || name == "libev" ? full : full / 10);
    }
    // Runs `work` once to warm up and once more counted.
    template <class Work>
    static void expect_no_allocation(const char* what, Work work) {
        work();
        const std::uint64_t before = allocations;
        work();
        EXPECT_EQ(allocations - before, 0u) << what << " allocated";
    }
};
WHORL_CONFORMANCE_REAL(LimitsAllocation);  // a world allocates as it likes

TEST_P(LimitsAllocation, is_counted_at_all) {
    const std::uint64_t before = allocations;
    std::unique_ptr<std::string> text = std::make_unique<std::string>(1000, 'x');
    EXPECT_GE(allocations - before, 2u);
}

TEST_P(LimitsAllocation, an_echo_does_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    struct Server {
        Socket socket;
        void operator()(Loop& inner, RecvStream::Done done) {
            if (!done.more) return;
            if (!inner.submit(SendAll{socket, std::move(done.buffer)}, this)) std::abort();
        }
        void operator()(Loop&, SendAll::Done) {}
    };
    struct Client {
        Socket socket;
        std::uint64_t left = 0;
        void operator()(Loop& inner, SendAll::Done done) {
            if (!inner.submit(Recv{socket, std::move(done.buffer)}, within(1h), this)) std::abort();
        }
        void operator()(Loop& inner, Recv::Done done) {
            if (done.error || done.buffer.size() != 64) std::abort();
            if (--left == 0) return inner.stop();
            if (!inner.submit(SendAll{socket, std::move(done.buffer)}, this)) std::abort();
        }
    };
    Server server;
    Client client;
    ASSERT_TRUE(loop.submit(Accept{listener},
                            [&](Loop&, Accept::Done done) { server.socket = done.socket; }));
    ASSERT_TRUE(loop.submit(Connect{Address::loopback_v4(port_of(loop, listener))},
                            [&](Loop&, Connect::Done done) { client.socket = done.socket; }));
    EXPECT_FALSE(loop.run());
    ASSERT_TRUE(server.socket && client.socket);
    ASSERT_TRUE(loop.submit(RecvStream{server.socket}, &server));
    const std::uint64_t goal = rounds(100'000);
    expect_no_allocation("an echo", [&] {
        client.left = goal;
        Buffer buffer = loop.buffer(64);
        buffer.resize(64);
        if (!loop.submit(SendAll{client.socket, std::move(buffer)}, &client)) std::abort();
        if (loop.run()) std::abort();
    });
    EXPECT_EQ(client.left, 0u);
    EXPECT_FALSE(loop.drain(5s));
    expect_clean(loop);
}

// An echo of lines that are cut across buffers now and then, with deadlines, on both ends a stream.
TEST_P(LimitsAllocation, a_stream_does_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct Server {
        Framing framing = Framing::line(200);
        void frame(Stream& stream, Bytes line) {
            stream.write(line);
            stream.write("\n");
        }
    };
    struct Client {
        std::uint64_t* left;
        Loop* loop;
        Framing framing = Framing::line(200);
        static void ask(Stream& stream, std::uint64_t number) {
            const char text[] = "a line that may come in two pieces\n";
            const std::size_t cut = number % sizeof text;
            stream.write(std::string_view(text, cut));
            stream.write(
                std::string_view(text + cut, sizeof text - 1 - std::min(cut, sizeof text - 1)));
        }
        void frame(Stream& stream, Bytes line) {
            if (line.size < 30) std::abort();
            if (--*left == 0) return loop->stop();
            ask(stream, *left);
        }
    };
    StreamOptions options;
    options.deadlines.idle = 1h;
    options.deadlines.write = 1min;
    AcceptorOptions accepting;
    accepting.stream = options;
    const auto make = [](const Accepted&) { return Server(); };
    const Result<Acceptor*> acceptor = serve(loop, Address::loopback_v4(0), make, accepting);
    ASSERT_TRUE(acceptor);
    std::uint64_t left = 0;
    Stream* stream = nullptr;
    const Address address = Address::loopback_v4(port_of(loop, (*acceptor)->listener()));
    ASSERT_TRUE(connect_any(loop, &address, 1, {}, [&](Loop& inner, const Connected& connected) {
        const Result<Stream*> made =
            attach(inner, connected.socket, Client{&left, &inner}, options);
        if (!made) std::abort();
        stream = *made;
        inner.stop();
    }));
    EXPECT_FALSE(loop.run());
    ASSERT_NE(stream, nullptr);
    const std::uint64_t goal = rounds(100'000);
    expect_no_allocation("a stream", [&] {
        left = goal;
        Client::ask(*stream, goal);
        if (loop.run()) std::abort();
    });
    EXPECT_EQ(left, 0u);
    EXPECT_FALSE(loop.drain(5s));
    expect_clean(loop);
}

TEST_P(LimitsAllocation, timers_do_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct Again {
        std::uint64_t left = 0;
        void operator()(Loop& inner, Expired) {
            if (left == 0) return;
            --left;
            Result<Timer> idle = inner.after(1h, [](Loop&, Expired) {});
            if (!idle || inner.move(*idle, 2h) || !inner.cancel(*idle)) std::abort();
            if (!inner.after(0ns, this)) std::abort();
        }
    };
    std::vector<Again> chains(100);
    const std::uint64_t goal = rounds(1'000'000) / 100;
    expect_no_allocation("a timer", [&] {
        for (Again& chain : chains) {
            chain.left = goal;
            if (!loop.after(0ns, &chain)) std::abort();
        }
        if (loop.run()) std::abort();
    });
    expect_clean(loop);
}

TEST_P(LimitsAllocation, local_messages_do_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    LocalChannel<std::uint64_t> channel(4);
    struct Taker {
        LocalChannel<std::uint64_t>* channel;
        void operator()(Loop& inner, ReceiveLocal<std::uint64_t>::Done done) {
            if (!done.message) std::abort();
            if (*done.message == 0) return;
            if (!inner.submit(ReceiveLocal{*channel}, this)) std::abort();
        }
    } taker{&channel};
    struct Giver {
        LocalChannel<std::uint64_t>* channel;
        std::uint64_t left = 0;
        void operator()(Loop& inner, SendLocal<std::uint64_t>::Done done) {
            if (done.error || left == 0) return;
            if (!inner.submit(SendLocal{*channel, --left}, this)) std::abort();
        }
    } giver{&channel};
    // As many at once as there can be: in the channel, with one that waits, and on the way.
    for (int index = 0; index < 8; ++index) {
        if (!loop.submit(SendLocal{channel, std::uint64_t{0}}, &giver)) std::abort();
    }
    for (int index = 0; index < 8; ++index) {
        if (!loop.submit(ReceiveLocal{channel}, &taker)) std::abort();
    }
    const std::uint64_t goal = rounds(500'000);
    expect_no_allocation("a message", [&] {
        giver.left = goal;
        if (!loop.submit(ReceiveLocal{channel}, &taker)) std::abort();
        if (!loop.submit(SendLocal{channel, giver.left}, &giver)) std::abort();
        if (loop.run()) std::abort();
    });
    expect_clean(loop);
}

TEST_P(LimitsAllocation, posts_do_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct Again {
        std::uint64_t left = 0;
        void operator()(Loop& inner) {
            if (left == 0) return;
            --left;
            if (inner.post(this)) std::abort();
        }
    };
    // Bursts of one size around which the queue grows and shrinks by a chunk.
    std::vector<Again> chains(200);
    const std::uint64_t goal = rounds(1'000'000) / 200;
    std::uint64_t counted = 0;
    for (int round = 0; round < 2; ++round) {
        for (Again& chain : chains) {
            chain.left = goal;
            if (loop.post(&chain)) std::abort();
        }
        if (loop.poll()) std::abort();
        const std::uint64_t before = allocations;
        if (loop.run()) std::abort();
        counted = allocations - before;
    }
    EXPECT_EQ(counted, 0u) << "a post allocated";
}

TEST_P(LimitsAllocation, watches_and_no_operations_do_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Fd event(os::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    struct Work {
        int fd;
        std::uint64_t left = 0;
        void operator()(Loop& inner, Watched watched) {
            if (--left % 3 == 0) {
                inner.cancel(watched.watch);
                if (left == 0) return;
                if (!inner.submit(Nop{}, within(1h), this)) std::abort();
            }
        }
        void operator()(Loop& inner, Nop::Done) {
            if (!inner.watch(fd, Interest::readable, this)) std::abort();
        }
    };
    Work work{event.get()};
    const std::uint64_t goal = rounds(100'000) / 3 * 3 + 3;
    expect_no_allocation("a watch", [&] {
        work.left = goal;
        if (!loop.watch(event.get(), Interest::readable, &work)) std::abort();
        if (loop.run()) std::abort();
    });
    expect_clean(loop);
}

TEST_P(LimitsAllocation, observed_changes_do_not) {
    WHORL_SKIP_IF_REFUSED();
    const std::string directory = os::make_directory();
    const std::string below = directory + "/a-name-that-does-not-fit-into-a-short-string";
    const std::string one = below + "/another-name-that-is-long-enough-for-the-heap";
    const std::string other = directory + "/one-more-name-that-is-long-enough-for-the-heap";
    ASSERT_EQ(::mkdir(below.c_str(), 0700), 0);
    os::put_file(one, "x");
    Loop loop = make_loop();
    std::uint64_t told = 0;
    bool ready = false;
    const Result<FileObserver> observer = observe_files(loop, [&](Loop&, const FileEvent& event) {
        ready = ready || event.kind == FileEvent::Kind::ready;
        ++told;
    });
    ASSERT_TRUE(observer);
    ASSERT_TRUE(observer->add(loop, directory, {FileChange::all, true}));
    run_until(loop, [&] { return ready; });
    const std::uint64_t count = rounds(1000);
    expect_no_allocation("an observed change", [&] {
        for (std::uint64_t round = 0; round < count; ++round) {
            const std::uint64_t before = told;
            const bool done = ::truncate(one.c_str(), static_cast<off_t>(round % 2)) == 0 &&
                              std::rename(one.c_str(), other.c_str()) == 0 &&
                              std::rename(other.c_str(), one.c_str()) == 0;
            if (!done) std::abort();
            while (told < before + 3) {
                if (loop.run_once()) std::abort();
            }
        }
    });
    EXPECT_TRUE(observer->close(loop));
    EXPECT_FALSE(loop.run());
    os::remove_tree(directory);
}

}  // namespace
}  // namespace whorl::conformance
