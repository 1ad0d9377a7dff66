// SPDX-License-Identifier: MIT
#pragma once

#include "tools.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <string>
#include <utility>

// One program that uses each family of operations, for what is to hold of whatever a log has of them.

namespace replay_test {

using namespace std::chrono_literals;
using namespace whorl;  // NOLINT(google-build-using-namespace): it is about all of it

inline std::string text_of(const Address& address) { return address.print().data; }

// Writes what its handlers are told to `trace`. `recorded`: there is a kernel to signal.
class Program {
  public:
    Program(Loop& loop, std::string folder, bool recorded)
        : loop_(loop), folder_(std::move(folder)), recorded_(recorded) {}

    void run() {
        times();
        datagrams();
        unix_sockets();
        unix_names();
        unix_datagrams();
        pipes();
        files();
        observed();
        names();
        work();
        zero_copy();
        watches();
        processes();
        signalled();
        cancels();
        note("end");
    }
    std::string trace;

  private:
    void note(const std::string& what) {
        trace += std::to_string(loop_.now().time_since_epoch().count()) + ' ' + what + '\n';
    }
    // Submits, runs until the handler was called for the last time, and answers what it was told.
    template <class Op>
    typename Op::Done finished(Op&& operation) {
        typename Op::Done end{};
        bool ended = false;
        const auto made =
            loop_.submit(std::forward<Op>(operation), [&](Loop&, typename Op::Done done) {
                end = std::move(done);
                ended = true;
            });
        EXPECT_TRUE(made) << made.error().text();
        while (made && !ended && !loop_.run_once()) {
        }
        EXPECT_TRUE(ended);
        note(std::string(name_of(Op::kind)) + ' ' + end.error.name());
        return end;
    }

    void times() {
        int beats = 0;
        const auto beat = loop_.every(300us, [&](Loop&, Expired expired) {
            note("beat " + std::to_string(expired.missed));
            if (++beats == 5) static_cast<void>(loop_.cancel(expired.timer));
        });
        ASSERT_TRUE(beat);
        ASSERT_FALSE(loop_.run());
        ASSERT_FALSE(loop_.run_for(1ms));
        note(std::to_string(wall_now(loop_).time_since_epoch().count()));
    }
    void datagrams() {
        const auto one = open_udp(loop_, Address::loopback_v4(0));
        const auto two = open_udp(loop_, Address::loopback_v4(0));
        ASSERT_TRUE(one && two);
        const Address to = *local_address(loop_, *two);
        note(text_of(to));
        int left = 3;
        const auto stream =
            loop_.submit(RecvFromStream{*two}, [&](Loop&, RecvFromStream::Done done) {
                note(std::string(done.buffer.text()) + (done.more ? text_of(done.address) : ""));
                if (--left == 0) static_cast<void>(loop_.close(*two));
            });
        ASSERT_TRUE(stream);
        for (const char* text : {"first", "second", "third"}) {
            finished(SendTo{*one, Buffer::copy_of(Bytes(std::string_view(text))), to});
        }
        ASSERT_FALSE(loop_.run());
        const Address own = *local_address(loop_, *one);
        finished(SendTo{*one, Buffer::copy_of(Bytes(std::string_view("to myself"))), own});
        auto got = finished(RecvFrom{*one, Buffer::allocate(100)});
        note(std::string(got.buffer.text()) + text_of(got.address));
        static_cast<void>(loop_.close(*one));
    }
    void unix_sockets() {
        const auto pair = socket_pair(loop_, UnixKind::stream);
        ASSERT_TRUE(pair);
        // The number is the real one of this run; what arrives is of the recorded run.
        const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        finished(SendDescriptors{pair->first, Buffer::copy_of(Bytes(std::string_view("null"))),
                                 &null, 1});
        ::close(null);
        auto got = finished(ReceiveDescriptors{pair->second, Buffer::allocate(100)});
        note(std::string(got.buffer.text()) + std::to_string(got.descriptors.count()) + ' ' +
             std::to_string(got.descriptors[0]));
        got.descriptors.close_all();
        static_cast<void>(loop_.close(pair->first));
        auto end = finished(Recv{pair->second, Buffer::allocate(10)});
        EXPECT_EQ(end.buffer.size(), 0u);
        static_cast<void>(loop_.close(pair->second));
    }
    void unix_names() {
        const UnixAddress address = *UnixAddress::file(folder_ + "/socket");
        UnixListenOptions options;
        options.private_file = options.replace_stale = true;
        for (int round = 0; round < 2; ++round) {  // the second finds the first one's file
            const auto listener = listen_unix(loop_, address, options);
            ASSERT_TRUE(listener) << listener.error().text();
            Socket accepted;
            ASSERT_TRUE(loop_.submit(Accept{*listener},
                                     [&](Loop&, Accept::Done done) { accepted = done.socket; }));
            const Socket connected = finished(ConnectUnix{address}).socket;
            while (!accepted && !loop_.run_once()) {
            }
            const auto credentials = peer_credentials(loop_, accepted);
            ASSERT_TRUE(credentials);
            note("peer " + std::to_string(credentials->pid));
            const auto size = get_option<SendBuffer>(loop_, connected);
            ASSERT_TRUE(size);
            note("buffer " + std::to_string(size->bytes));
            EXPECT_FALSE(set_option(loop_, connected, SendBuffer{8192}));
            finished(Shutdown{connected});
            note(std::to_string(finished(Recv{accepted, Buffer::allocate(10)}).buffer.size()));
            for (const Socket socket : {connected, accepted}) {
                static_cast<void>(loop_.close(socket));
            }
            static_cast<void>(loop_.close(*listener));
            static_cast<void>(loop_.run());
        }
        note(remove_socket_file(loop_, address).name());
        note(remove_socket_file(loop_, address).name());  // it is not there any more
    }
    void unix_datagrams() {
        const UnixAddress address = *UnixAddress::file(folder_ + "/datagrams");
        const auto to = open_unix_datagram(loop_, address);
        const auto from = open_unix_datagram(loop_);
        ASSERT_TRUE(to && from);
        EXPECT_FALSE(connect_unix_datagram(loop_, *from, address));
        finished(SendToUnix{*from, Buffer::copy_of(Bytes(std::string_view("by name")))});
        note(std::string(finished(RecvFromUnix{*to, Buffer::allocate(100)}).buffer.text()));
        static_cast<void>(loop_.close(*to));
        static_cast<void>(loop_.close(*from));
        note(remove_socket_file(loop_, address).name());
    }
    void pipes() {
        const auto one = make_pipe(loop_);
        const auto two = make_pipe(loop_);
        ASSERT_TRUE(one && two);
        BufferChain chain;
        ASSERT_TRUE(chain.push_back(Buffer::copy_of(Bytes(std::string_view("gathered ")))));
        ASSERT_TRUE(chain.push_back(Buffer::copy_of(Bytes(std::string_view("in two")))));
        note(std::to_string(finished(WriteChain{one->writing, std::move(chain)}).bytes));
        note(std::to_string(finished(Tee{one->reading, two->writing, 100}).bytes));
        note(std::to_string(finished(Splice{one->reading, two->writing, 15}).bytes));
        const auto again = duplicate_pipe(loop_, *native_handle(loop_, two->reading));
        ASSERT_TRUE(again);
        note(std::string(finished(Read{*again, Buffer::allocate(100)}).buffer.text()));
        for (const Pipe pipe : {one->reading, one->writing, two->reading, two->writing, *again}) {
            static_cast<void>(loop_.close(pipe));
        }
    }
    // What happens to names, and to the clock of the wall.
    void observed() {
        bool created = false;
        const auto observer = observe_files(loop_, [&](Loop&, const FileEvent& event) {
            note("event " + std::to_string(static_cast<int>(event.kind)) + std::string(event.path));
            created = created || event.kind == FileEvent::Kind::created;
        });
        ASSERT_TRUE(observer);
        const auto place = observer->add(loop_, folder_, {});
        ASSERT_TRUE(place);
        const std::string path = folder_ + "/new";
        const File file = finished(OpenFile{path, O_RDWR | O_CREAT, 0600}).file;
        while (!created && !loop_.run_once()) {
        }
        note(message_of(loop_, "look at", Error::invalid_argument, file).text());
        EXPECT_TRUE(observer->remove(loop_, *place));
        finished(Unlink{path});
        static_cast<void>(loop_.close(file));
        EXPECT_TRUE(observer->close(loop_));
        bool due = false;
        const auto timer = at_wall_clock(loop_, wall_now(loop_) + 1ms, WallOptions(),
                                         [&](Loop&, const WallExpired& expired) {
                                             note(std::to_string(static_cast<int>(expired.why)));
                                             due = true;
                                         });
        ASSERT_TRUE(timer);
        while (!due && !loop_.run_once()) {
        }
    }
    void files() {
        const std::string path = folder_ + "/file";
        auto opened = finished(OpenFile{path, O_RDWR | O_CREAT, 0600});
        ASSERT_TRUE(opened.file);
        finished(WriteAllAt{opened.file, Buffer::copy_of(Bytes(std::string_view("written"))), 5});
        auto part = finished(ReadAt{opened.file, Buffer::allocate(100), 3});
        note(std::to_string(part.buffer.size()) + std::string(part.buffer.text().substr(2)));
        BufferChain chain;
        ASSERT_TRUE(chain.push_back(Buffer::allocate(4)));
        ASSERT_TRUE(chain.push_back(Buffer::allocate(4)));
        auto parts = finished(ReadChainAt{opened.file, std::move(chain), 4});
        for (const Buffer& each : parts.chain) note(std::string(each.text()));
        const auto status = finished(Stat{path}).status;
        note(std::to_string(status.size) + ' ' + std::to_string(status.inode));
        finished(Symlink{"somewhere", folder_ + "/link"});
        auto link = finished(ReadLink{folder_ + "/link"});
        note(std::string(link.paths.second()));
        auto directory = finished(OpenFile{folder_, O_RDONLY | O_DIRECTORY});
        auto listed = finished(ListDirectory{directory.file, Buffer::allocate(4096)});
        note(std::to_string(listed.buffer.size()));
        finished(Unlink{folder_ + "/link"});
        finished(Unlink{path});
        static_cast<void>(loop_.close(opened.file));
        static_cast<void>(loop_.close(directory.file));
    }
    void names() {
        bool ended = false;
        const auto task = resolve(loop_, {"localhost", "80"}, [&](Loop&, const ResolveDone& done) {
            note(std::string("resolved ") + done.error.name());
            for (const Address& address : done.addresses) note(text_of(address));
            ended = true;
        });
        ASSERT_TRUE(task);
        while (!ended && !loop_.run_once()) {
        }
    }
    void work() {
        bool ended = false;
        ASSERT_TRUE(loop_.submit(Work{[] { return 6 * 7; }}, [&](Loop&, WorkDone<int> done) {
            note("work " + std::to_string(*done.value));
            ended = true;
        }));
        while (!ended && !loop_.run_once()) {
        }
        EXPECT_TRUE(ended);
    }
    void zero_copy() {
        const auto listener = listen(loop_, Address::loopback_v4(0));
        ASSERT_TRUE(listener);
        Socket accepted;
        ASSERT_TRUE(loop_.submit(Accept{*listener},
                                 [&](Loop&, Accept::Done done) { accepted = done.socket; }));
        const auto connected = finished(Connect{*local_address(loop_, *listener)});
        while (!accepted && !loop_.run_once()) {
        }
        auto sent = finished(SendZeroCopy{connected.socket, adopt(std::string(50'000, 'z'))});
        note(std::to_string(sent.bytes) + (sent.copied ? " copied" : " not copied"));
        auto got = finished(Recv{accepted, Buffer::allocate(50'000), MSG_WAITALL});
        note(std::to_string(got.buffer.size()) + got.buffer.text()[49'999]);
        for (const Socket socket : {connected.socket, accepted}) {
            static_cast<void>(loop_.close(socket));
        }
        static_cast<void>(loop_.close(*listener));
    }
    void watches() {
        int ends[2];
        ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        static_cast<void>(!::write(ends[1], "x", 1));
        bool seen = false;
        const auto watch = loop_.watch(ends[0], Interest::readable, [&](Loop&, Watched watched) {
            note(watched.readable ? "readable" : "not readable");
            static_cast<void>(loop_.cancel(watched.watch));
            seen = true;
        });
        ASSERT_TRUE(watch);
        while (!seen && !loop_.run_once()) {
        }
        for (const int end : ends) ::close(end);
    }
    void processes() {
        const char* const arguments[] = {"sh", "-c", "exit 3", nullptr};
        SpawnOptions options;
        options.program = "sh";
        options.arguments = arguments;
        const auto child = finished(Spawn{options}).child;
        ASSERT_TRUE(child);
        note(std::to_string(*process_id(loop_, child)));
        const auto exit = finished(WaitChild{child}).exit;
        note(std::to_string(exit.status) + ' ' + std::to_string(exit.memory_max));
        static_cast<void>(loop_.close(child));
        const auto signals = open_signals(loop_, {SIGUSR1});
        ASSERT_TRUE(signals);
        if (recorded_) ::raise(SIGUSR1);  // a replay blocks none: it would be killed
        note(std::to_string(finished(WaitSignal{*signals}).signal.number));
        static_cast<void>(loop_.close(*signals));
        static_cast<void>(loop_.poll());
    }
    void signalled() {
        const char* const arguments[] = {"sleep", "1000", nullptr};
        SpawnOptions options;
        options.program = "sleep";
        options.arguments = arguments;
        const auto child = finished(Spawn{options}).child;
        ASSERT_TRUE(child);
        note(send_signal(loop_, child, SIGTERM).name());
        const auto exit = finished(WaitChild{child}).exit;
        note(std::to_string(static_cast<int>(exit.how)) + ' ' + std::to_string(exit.status));
        note(send_signal(loop_, child, SIGTERM).name());
        static_cast<void>(loop_.close(child));
    }
    void cancels() {
        const auto pair = socket_pair(loop_, UnixKind::stream);
        ASSERT_TRUE(pair);
        bool ended = false;
        const auto receive = [&](Loop&, Recv::Done done) {
            note(done.error.name());
            ended = true;
        };
        const auto one = loop_.submit(Recv{pair->first, Buffer::allocate(10)}, receive);
        static_cast<void>(loop_.poll());
        static_cast<void>(loop_.cancel(*one));
        while (!ended && !loop_.run_once()) {
        }
        ended = false;
        ASSERT_TRUE(loop_.submit(Recv{pair->first, Buffer::allocate(10)}, within(1ms), receive));
        while (!ended && !loop_.run_once()) {
        }
        // Left open: they end with the loop.
    }

    Loop& loop_;
    std::string folder_;
    bool recorded_;
};

}  // namespace replay_test
