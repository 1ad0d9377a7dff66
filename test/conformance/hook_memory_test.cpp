// SPDX-License-Identifier: MIT
// Goal: what the library makes, it makes with the memory of the host program: nothing goes past
// Hooks::allocate, everything is given back with the size and alignment it was taken with, and memory that
// is refused is an error and no leak. Method: hooks that remember what was taken in front of it; operator
// new counts; every part of the library is used, on every backend; then with each allocation in turn refused.
// What the objects of the library call for is checked without running it by hook_memory_symbols.
#include "conformance/host_memory.hpp"
#include "conformance/support.hpp"

#include <whorl/whorl.hpp>

#include <whorl/broadcast.hpp>
#include <whorl/call.hpp>
#include <whorl/cancel_source.hpp>
#include <whorl/channel.hpp>
#include <whorl/connection_pool.hpp>
#include <whorl/connector.hpp>
#include <whorl/file_observer.hpp>
#include <whorl/histogram.hpp>
#include <whorl/home_ptr.hpp>
#include <whorl/local_channel.hpp>
#include <whorl/mailbox.hpp>
#include <whorl/mesh.hpp>
#include <whorl/per_loop.hpp>
#include <whorl/relay.hpp>
#include <whorl/resolve.hpp>
#include <whorl/scope.hpp>
#include <whorl/tree.hpp>
#include <whorl/wall_clock.hpp>
#include <whorl/whole_file.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

namespace {

std::atomic<std::uint64_t> past_the_hook{0};

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
    ++past_the_hook;
    if (void* memory = std::malloc(size)) return memory;
    std::abort();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    ++past_the_hook;
    return std::malloc(size);
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
    ++past_the_hook;
    const auto step = static_cast<std::size_t>(alignment);
    if (void* memory = std::aligned_alloc(step, (size + step - 1) / step * step)) return memory;
    std::abort();
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment,
                                     const std::nothrow_t&) noexcept {
    ++past_the_hook;
    const auto step = static_cast<std::size_t>(alignment);
    return std::aligned_alloc(step, (size + step - 1) / step * step);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}

namespace whorl::conformance {
namespace {

// The parts. Each uses one part of the library and leaves the loop as it was, or answers the error that it
// met and leaves the rest to the loop's end. Nothing in them is GoogleTest's or a container: those allocate.

Error timers_and_posts(Loop& loop) {
    std::uint32_t left = 300;
    for (std::uint32_t number = 0; number < 300; ++number) {
        if (Error error = loop.post([&left](Loop&) { --left; })) return error;
    }
    for (int number = 0; number < 100; ++number) {
        const auto timer = loop.after(std::chrono::microseconds(number), [](Loop&, Expired) {});
        if (!timer) return timer.error();
    }
    const Result<Remote> remote = loop.remote();
    if (!remote) return remote.error();
    bool posted = false;
    if (!remote->post([&posted](Loop&) { posted = true; })) return Error::from_errno(ENOMEM);
    if (Error error = loop.run()) return error;
    return left == 0 && posted ? Error() : Error(Error::end_of_file);
}

Error work_and_files(Loop& loop) {
    static constexpr char path[] = "/proc/self/stat";
    bool read = false;
    bool worked = false;
    auto opened = loop.submit(OpenFile{path, O_RDONLY}, [&](Loop& inner, OpenFile::Done done) {
        if (done.error) return;
        const File file = done.file;
        const auto made = inner.submit(ReadAt{file, inner.buffer(4096), 0},
                                       [&read, file](Loop& here, ReadAt::Done bytes) {
                                           read = !bytes.error;
                                           static_cast<void>(here.close(file));
                                       });
        if (!made) static_cast<void>(inner.close(file));
    });
    if (!opened) return opened.error();
    auto work = loop.submit(Work{[] {}},
                            [&](Loop&, const WorkDone<NoResult>& done) { worked = !done.error; });
    if (!work) return work.error();
    if (Error error = loop.run()) return error;
    return read && worked ? Error() : Error::from_errno(ENOMEM);
}

// Echoes, and ends with its peer.
struct EchoBack {
    void received(Stream& stream, Buffer buffer) {
        static_cast<void>(stream.write(std::move(buffer)));
    }
};
struct Asking {
    Acceptor* acceptor;
    std::uint32_t left;  // that have not ended
    std::uint32_t answers = 0;
    void end_one() {
        if (--left == 0) acceptor->close();
    }
};
struct Ask {
    Asking* all;
    std::size_t seen = 0;
    void opened(Stream& stream) {
        for (int part = 0; part < 20; ++part)
            static_cast<void>(stream.write("a part of what is sent"));
        stream.end();
    }
    void received(Stream&, const Buffer& buffer) { seen += buffer.size(); }
    void closed(Stream&, Closed) {
        if (seen == 20 * 22) ++all->answers;
        all->end_one();
    }
};

Error streams(Loop& loop) {
    Result<Listener> listener = listen(loop, Address::loopback_v4(0));
    if (!listener) return listener.error();
    const Result<Address> address = local_address(loop, *listener);
    if (!address) return address.error();
    AcceptorOptions accepting;
    accepting.per_peer_max = 100;
    Result<Acceptor*> acceptor = serve(
        loop, *listener, [](const Accepted&) { return EchoBack(); }, accepting);
    if (!acceptor) return acceptor.error();
    constexpr std::uint32_t clients = 5;
    Asking asking{*acceptor, clients};
    for (std::uint32_t client = 0; client < clients; ++client) {
        const auto connected = connect_any(
            loop, &*address, 1, ConnectorOptions(), [&asking](Loop& inner, const Connected& made) {
                if (!made.error && attach(inner, made.socket, Ask{&asking})) return;
                if (!made.error) static_cast<void>(inner.close(made.socket));
                asking.end_one();
            });
        if (!connected) return connected.error();
    }
    if (Error error = loop.run()) return error;
    return asking.answers == clients ? Error() : Error::from_errno(ENOMEM);
}

Error pooled_connections(Loop& loop) {
    Result<Listener> listener = listen(loop, Address::loopback_v4(0));
    if (!listener) return listener.error();
    const Result<Address> address = local_address(loop, *listener);
    if (!address) return address.error();
    Result<Acceptor*> acceptor = serve(loop, *listener, [](const Accepted&) { return EchoBack(); });
    if (!acceptor) return acceptor.error();
    Result<ConnectionPool> pool = ConnectionPool::create(loop);
    if (!pool) return pool.error();
    bool lent = false;
    const auto made = loop.submit(TakeConnection{*pool, "127.0.0.1", address->port()},
                                  [&](Loop&, TakeConnection::Done done) {
                                      lent = done.stream != nullptr;
                                      if (lent) done.stream->abort();
                                      (*acceptor)->close();
                                  });
    if (!made) return made.error();
    if (Error error = loop.run()) return error;
    return lent ? Error() : Error::from_errno(ENOMEM);
}

// Two pairs of sockets: the inner ends are the loop's, the outer ones say their word and end.
struct TwoPairs {
    int outer[2] = {-1, -1};
    Socket inner[2];
    TwoPairs() = default;
    TwoPairs(const TwoPairs&) = delete;
    TwoPairs& operator=(const TwoPairs&) = delete;
    ~TwoPairs() {
        for (const int fd : outer) {
            if (fd >= 0) ::close(fd);
        }
    }
    static constexpr const char* words[] = {"there", "back!"};
    Error open(Loop& loop) {
        for (int side = 0; side < 2; ++side) {
            int fds[2];
            if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
            outer[side] = fds[0];
            const Result<Socket> adopted = adopt_socket(loop, fds[1]);
            if (!adopted) {
                ::close(fds[1]);
                return adopted.error();
            }
            inner[side] = *adopted;
            if (::send(fds[0], words[side], 5, 0) != 5) std::abort();
            ::shutdown(fds[0], SHUT_WR);
        }
        return {};
    }
    bool crossed() const {
        for (int side = 0; side < 2; ++side) {
            char heard[8] = {};
            if (::recv(outer[side], heard, sizeof heard, MSG_DONTWAIT) != 5) return false;
            if (std::memcmp(heard, words[1 - side], 5) != 0) return false;
        }
        return true;
    }
};

Error relays(Loop& loop) {
    TwoPairs pairs;
    if (Error error = pairs.open(loop)) return error;
    int ended = 0;
    const auto count = [&ended](Loop&, const Relayed&) { ++ended; };
    if (Error error = relay(loop, pairs.inner[0], pairs.inner[1], RelayOptions(), count)) {
        // Nothing was taken: both are the caller's still.
        for (const Socket socket : pairs.inner) {
            if (loop.close(socket)) return Error::stale_handle;
        }
        return error;
    }
    if (Error error = loop.run()) return error;
    return ended == 1 && pairs.crossed() ? Error() : Error::from_errno(ENOMEM);
}

// The first side speaks before it is relayed.
struct RelaysLater {
    Socket second;
    int* ended;
    void received(Stream& stream, Buffer buffer) {
        stream.unread(std::move(buffer));
        int* const count = ended;
        const Socket other = second;
        const auto done = [count](Loop&, const Relayed&) { ++*count; };
        if (!relay(stream, other, RelayOptions(), done)) return;
        static_cast<void>(stream.loop().close(other));
        stream.abort();
    }
};
Error relays_later(Loop& loop) {
    TwoPairs pairs;
    if (Error error = pairs.open(loop)) return error;
    int ended = 0;
    const auto made = attach(loop, pairs.inner[0], RelaysLater{pairs.inner[1], &ended});
    if (!made) return made.error();
    if (Error error = loop.run()) return error;
    return ended == 1 && pairs.crossed() ? Error() : Error::from_errno(ENOMEM);
}

Error messages(Loop& loop) {
    Result<Channel<int>> channel = Channel<int>::create(64);
    if (!channel) return channel.error();
    int sum = 0;
    const auto receive = loop.submit(Receive<int>{std::move(channel->receiver), 16},
                                     [&sum](Loop&, Receive<int>::Done done) {
                                         while (const int* message = done.next()) sum += *message;
                                     });
    if (!receive) return receive.error();
    for (int number = 1; number <= 10; ++number)
        static_cast<void>(channel->sender.send(int(number)));
    channel->sender.close();
    Result<Mesh<int>> mesh = Mesh<int>::create(3, 8);
    if (!mesh) return mesh.error();
    Result<Mailbox<int>> mailbox = Mailbox<int>::create(loop, 16);
    if (!mailbox) return mailbox.error();
    if (mailbox->sender().send(1)) return Error::end_of_file;
    Result<Broadcast<int>> broadcast = Broadcast<int>::create(8);
    if (!broadcast) return broadcast.error();
    if (Error error = broadcast->publish(1)) return error;
    if (Error error = loop.run()) return error;
    return sum == 55 ? Error() : Error(Error::end_of_file);
}

PerLoop<std::uint64_t> of_the_loop;

Error objects(Loop& loop) {
    const auto seven = [](Loop&) { return std::uint64_t{7}; };
    if (Error error = of_the_loop.make(loop, seven)) return error;
    of_the_loop.destroy(loop);
    Result<HomePtr<int>> home = HomePtr<int>::make(loop, 3);
    if (!home) return home.error();
    home->reset();
    CancelSource source(loop);
    for (int number = 0; number < 20; ++number) {
        const auto timer = loop.after(std::chrono::hours(1), [](Loop&, Expired) {});
        if (!timer) return timer.error();
        if (Error error = source.attach(*timer)) return error;
    }
    source.cancel();
    const Result<Remote> remote = loop.remote();
    if (!remote) return remote.error();
    int called = 0;
    const auto call =
        loop.submit(Call{*remote, [](Loop&) { return 1; }},
                    [&](Loop&, CallDone<int> done) { called += done.value.value_or(0); });
    if (!call) return call.error();
    const Result<Histogram> histogram = Histogram::create();
    if (!histogram) return histogram.error();
    BufferChain chain;
    for (int part = 0; part < 40; ++part) {
        if (!chain.push_back(loop.buffer(64))) return Error::from_errno(ENOMEM);
    }
    const Buffer owned = adopt(std::array<char, 8>{});
    if (!owned) return Error::from_errno(ENOMEM);
    if (Error error = loop.run()) return error;
    return called == 1 ? Error() : Error::from_errno(ENOMEM);
}

Error found_names(Loop& loop) {
    bool known = false;
    ResolveQuery query;
    query.host = "127.0.0.1";
    query.service = "80";
    const auto question =
        resolve(loop, query, [&](Loop&, const ResolveDone& done) { known = !done.error; });
    if (!question) return question.error();
    if (Error error = loop.run()) return error;
    return known ? Error() : Error::from_errno(ENOMEM);
}

// A name whose answer a run log keeps, whatever it is.
Error asked_names(Loop& loop) {
    std::uint32_t answers = 0;
    for (int number = 0; number < 3; ++number) {
        ResolveQuery query;
        query.host = "localhost";
        const auto question = resolve(loop, query, [&](Loop&, const ResolveDone&) { ++answers; });
        if (!question) return question.error();
    }
    if (Error error = loop.run()) return error;
    return answers == 3 ? Error() : Error(Error::end_of_file);
}

Error wall_clocks(Loop& loop) {
    std::uint32_t rang = 0;
    for (int number = 0; number < 3; ++number) {
        const auto clock = at_wall_clock(loop, WallInstant(), WallOptions(),
                                         [&](Loop&, const WallExpired& expired) {
                                             if (!expired.error) ++rang;
                                         });
        if (!clock) return clock.error();
    }
    if (Error error = loop.run()) return error;
    return rang == 3 ? Error() : Error(Error::end_of_file);
}

// These say std::bad_alloc, as their headers tell.
Error on_the_heap(Loop& loop) {
    std::uint32_t found = 0;
    const auto walk =
        walk_tree(loop, "/proc/self/fd", TreeOptions(),
                  [&found](Loop&, const TreeEvent&) { return ++found, TreeNext::go_on; });
    if (!walk) return walk.error();
    auto observer = observe_files(loop, [](Loop&, const FileEvent&) {});
    if (!observer) return observer.error();
    if (const auto added = observer->add(loop, "/tmp", ObserveOptions()); !added)
        return added.error();
    observer->close(loop);
    std::uint64_t read = 0;
    const auto file = read_whole_file(loop, "/proc/stat", WholeReadOptions(),
                                      [&](Loop&, const WholeFileDone& done) { read = done.bytes; });
    if (!file) return file.error();
    if (Error error = loop.run()) return error;
    return found > 1 && read != 0 ? Error() : Error::from_errno(ENOMEM);
}

class HookMemory : public LoopTest {
  protected:
    using Part = Error (*)(Loop&);
    static LoopOptions all_on() {
        LoopOptions options = options_here();
        options.shutdown_bound = 60s;
        options.work_threads = 1;
        options.insight = true;
        options.operation_latency = true;
        options.recorder_events = 256;
        options.statistics_page = true;
        return options;
    }
    static Error use(const LoopOptions& options, Part part) {
        Result<Loop> loop = Loop::create(options);
        if (!loop) return loop.error();
        return part(*loop);
    }
};
WHORL_CONFORMANCE_REAL(HookMemory);  // a simulated kernel is the test's, and takes operator new

TEST_P(HookMemory, nothing_goes_past_it_and_everything_comes_back) {
    WHORL_SKIP_IF_REFUSED();
    ASSERT_FALSE(hooked);
    const LoopOptions options = all_on();
    for (const Part part :
         {&timers_and_posts, &work_and_files, &streams, &pooled_connections, &relays, &relays_later,
          &found_names, &messages, &objects, &wall_clocks, &on_the_heap}) {
        const std::uint64_t asked = Host::asked;
        const std::uint64_t past = past_the_hook;
        const Error error = use(options, part);
        const std::uint64_t went_past = past_the_hook - past;
        EXPECT_FALSE(error) << error.name();
        EXPECT_EQ(went_past, 0u);
        EXPECT_GT(Host::asked, asked);
        EXPECT_EQ(Host::bytes, 0);
        EXPECT_FALSE(Host::mistaken);
    }
}

// The loop's creation is part of each.
TEST_P(HookMemory, each_allocation_in_turn_may_be_refused) {
    WHORL_SKIP_IF_REFUSED();
    const LoopOptions options = all_on();
    for (const Part part :
         {&timers_and_posts, &work_and_files, &streams, &pooled_connections, &relays, &relays_later,
          &found_names, &messages, &objects, &wall_clocks}) {
        std::uint64_t number = 0;
        for (bool refused = true; refused; ++number) {
            ASSERT_LT(number, 2000u) << "it comes to an end";
            Host::refuse(number);
            const std::uint64_t last = Host::refuse_at;
            const Error error = use(options, part);
            refused = Host::asked > last;
            Host::refuse_none();
            ASSERT_EQ(Host::bytes, 0) << "after refusal " << number << ": " << error.name();
            // That the loop has not the backend it asked for is how its creation says it.
            const bool known =
                error == Error::from_errno(ENOMEM) || error == Error::backend_unavailable;
            EXPECT_TRUE(!error || (refused && known))
                << "after refusal " << number << ": " << error.name();
        }
        EXPECT_GT(number, 5u);
        EXPECT_FALSE(Host::mistaken);
    }
}

// The run goes on without the rest of its log.
TEST_P(HookMemory, a_recording_without_memory_ends_and_its_run_goes_on) {
    WHORL_SKIP_IF_REFUSED();
    const std::string log = "/tmp/whorl-memory-" + std::to_string(::getpid()) + ".run";
    std::uint64_t number = 0;
    for (bool refused = true; refused; ++number) {
        ASSERT_LT(number, 2000u) << "it comes to an end";
        LoopOptions options = options_here();
        options.work_threads = 1;
        options.run_log = log.c_str();
        Host::refuse(number);
        const std::uint64_t last = Host::refuse_at;
        const Error error = use(options, &asked_names);
        refused = Host::asked > last;
        Host::refuse_none();
        ASSERT_EQ(Host::bytes, 0) << "after refusal " << number << ": " << error.name();
        const bool known =
            error == Error::from_errno(ENOMEM) || error == Error::backend_unavailable;
        EXPECT_TRUE(!error || (refused && known)) << number << ": " << error.name();
    }
    EXPECT_GT(number, 5u);
    EXPECT_FALSE(Host::mistaken);
    EXPECT_EQ(std::remove(log.c_str()), 0);
}

// With a directory of its own.
class FolderMemory : public HookMemory {
  protected:
    FolderMemory() {
        char name[] = "/tmp/whorl-memory-XXXXXX";
        if (::mkdtemp(name) == nullptr) std::abort();
        directory_ = name;
    }
    ~FolderMemory() override { std::filesystem::remove_all(directory_); }
    std::string directory_;
};

// Nobody can be told any more, and the temporary file is there.
using WholeFileMemory = FolderMemory;
WHORL_CONFORMANCE_REAL(WholeFileMemory);
TEST_P(WholeFileMemory, a_write_that_goes_with_its_loop_leaves_nothing_without_memory) {
    WHORL_SKIP_IF_REFUSED();
    const auto there = [&] {
        for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
            if (entry.path().extension() == ".tmp") return true;
        }
        return false;
    };
    bool seen = false;
    for (int round = 0; round < 1000 && !seen; ++round) {
        Loop loop = make_loop([](LoopOptions& options) { options.shutdown_bound = 60s; });
        Buffer content = Buffer::allocate(std::size_t{8} << 20);
        ASSERT_TRUE(content);
        content.resize(content.capacity());
        bool ended = false;
        ASSERT_TRUE(write_file_atomically(loop, directory_ + "/a", std::move(content), {},
                                          [&](Loop&, const WholeFileDone&) { ended = true; }));
        while (!ended && !seen) {
            ASSERT_FALSE(loop.poll());
            seen = there();
        }
        if (seen) Host::refuse(0, true);
    }
    Host::refuse_none();
    EXPECT_TRUE(seen);
    EXPECT_FALSE(there());
    EXPECT_EQ(Host::bytes, 0);
    EXPECT_FALSE(Host::mistaken);
}

// What an observer is told while memory is refused.
struct Seen {
    std::vector<std::string> all;
    bool lost = false;  // it has said that something is missing
    bool has(const std::string& text) const {
        return std::find(all.begin(), all.end(), text) != all.end();
    }
    void note(const FileEvent& event) {
        using Kind = FileEvent::Kind;
        if (event.kind == Kind::ready) all.emplace_back("ready");
        if (event.kind == Kind::created) all.emplace_back(event.path);
        if (event.kind == Kind::moved) {
            all.emplace_back(std::string(event.from) + " -> " + std::string(event.path));
        }
        if (event.kind == Kind::overflow) lost = true;
        if (event.kind != Kind::failed) return;
        EXPECT_EQ(event.error, Error::from_errno(ENOMEM)) << event.error.name();
        lost = true;
    }
};

class ObserverMemory : public FolderMemory {
  protected:
    ObserverMemory() { make("there"); }
    void make(const std::string& name) const {
        ASSERT_EQ(::mkdir((directory_ + "/" + name).c_str(), 0755), 0) << name;
    }
    // What is refused is ENOMEM, and once more, with memory, it is not.
    template <class Try>
    static auto made_of(Try attempt) -> decltype(attempt()) {
        auto made = attempt();
        if (made) return made;
        EXPECT_EQ(made.error(), Error::from_errno(ENOMEM)) << made.error().name();
        Host::refuse_none();
        return attempt();
    }
    // One observer of a tree, in which things happen, and none of them is lost without a word.
    void observe(Loop& loop, std::uint64_t round) const {
        Seen seen;
        const auto observer = made_of([&] {
            return observe_files(loop,
                                 [&seen](Loop&, const FileEvent& event) { seen.note(event); });
        });
        ASSERT_TRUE(observer);
        const ObserveOptions tree{FileChange::all, true};
        ASSERT_TRUE(made_of([&] { return observer->add(loop, directory_, tree); }));
        run_until(loop, [&] { return seen.has("ready"); });
        const std::string first = std::to_string(round);
        const std::string inner = first + "/in", other = "there/" + first;
        for (const std::string& name : {first, inner, inner + "/most"}) make(name);
        const auto come = [&](const std::string& name) {
            run_until(loop, [&] { return seen.lost || seen.has(name); });
        };
        for (const std::string& name : {first, inner, inner + "/most"}) come(name);
        const std::string from = directory_ + "/" + first, to = directory_ + "/" + other;
        ASSERT_EQ(std::rename(from.c_str(), to.c_str()), 0);
        come(first + " -> " + other);
        make(other + "/in/most/of_all");
        come(other + "/in/most/of_all");
        Host::refuse_none();
        make(first);
        run_until(loop, [&] { return std::count(seen.all.begin(), seen.all.end(), first) == 2; });
        EXPECT_TRUE(observer->close(loop));
        EXPECT_FALSE(loop.run());
        std::filesystem::remove_all(directory_);
        ASSERT_EQ(::mkdir(directory_.c_str(), 0755), 0);
        make("there");
    }
};
WHORL_CONFORMANCE_REAL(ObserverMemory);

TEST_P(ObserverMemory, what_is_refused_is_told_and_the_rest_goes_on) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool on : {false, true}) {
        Loop loop = make_loop();
        std::uint64_t number = 0;
        for (bool refused = true; refused; ++number) {
            ASSERT_LT(number, 2000u) << "it comes to an end";
            Host::refuse(number, on);
            const std::uint64_t last = Host::refuse_at;
            observe(loop, number);
            refused = Host::asked > last;
            Host::refuse_none();
            if (HasFailure()) FAIL() << "refusal " << number << (on ? " and on" : "");
        }
        EXPECT_GT(number, 10u);
    }
    EXPECT_EQ(Host::bytes, 0);
    EXPECT_FALSE(Host::mistaken);
}

}  // namespace
}  // namespace whorl::conformance
