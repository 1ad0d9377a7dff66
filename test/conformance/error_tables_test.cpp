// SPDX-License-Identifier: MIT
// Goal: the errors that the headers of datagrams, Unix sockets, pipes, files and names tell of come where
// they say, as far as no other test provokes them: docs/errors.md has them all. Method: the real cause
// where a test can make it (a full loop, no descriptor, a name that leads nowhere); what only a failing
// device says is scripted, in a world.
#include "conformance/error_tables.hpp"

#include "backend/sim_kernel.hpp"

#include <whorl/tree.hpp>

#include <new>

namespace {
bool heap_is_exhausted = false;
}

// What the library asks the heap for by itself: null while that is wanted.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return heap_is_exhausted ? nullptr : ::operator new(size);
}

namespace whorl::conformance {
namespace {

// Every descriptor below the limit is taken.
class NoDescriptor {
  public:
    NoDescriptor() {
        os::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit low = before_;
        low.rlim_cur = static_cast<rlim_t>(*os::open_descriptors().rbegin()) + 1;
        EXPECT_EQ(os::setrlimit(RLIMIT_NOFILE, &low), 0);
        for (int fd = 0; fd >= 0;) {
            fd = os::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
            if (fd >= 0) taken_.emplace_back(fd);
        }
    }
    NoDescriptor(const NoDescriptor&) = delete;
    NoDescriptor& operator=(const NoDescriptor&) = delete;
    ~NoDescriptor() { os::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    rlimit before_{};
    std::vector<Fd> taken_;
};

WHORL_CONFORMANCE(ErrorTables);

TEST_P(ErrorTables, a_full_loop_opens_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        options.handles_max = 2;
        options.ops_max = 4;
    });
    const Fd fd(os::eventfd(0, EFD_CLOEXEC)), file(os::regular_file());
    while (open_udp(loop, Address::loopback_v4(0))) continue;
    while (loop.after(1h, [](Loop&, Expired) {})) continue;
    for (const Opener& each : openers(fd.get(), file.get())) {
        EXPECT_EQ(each.open(loop), Error::slots_exhausted) << each.name;
    }
    end_of(loop);
}

TEST_P(ErrorTables, a_draining_loop_opens_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Fd fd(os::eventfd(0, EFD_CLOEXEC)), file(os::regular_file());
    int told = 0;
    ASSERT_TRUE(loop.submit(RecvFrom{udp(loop), Buffer::allocate(1)},
                            [&](Loop& draining, const RecvFrom::Done&) {
                                for (const Opener& each : openers(fd.get(), file.get())) {
                                    EXPECT_EQ(each.open(draining), Error::loop_closed) << each.name;
                                    ++told;
                                }
                            }));
    end_of(loop);
    EXPECT_EQ(told, 13);
}

TEST_P(ErrorTables, without_a_descriptor_nothing_opens) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Fd fd(os::eventfd(0, EFD_CLOEXEC));
    os::put_file(path("file"), "x");
    // All of it once: then a pool is there, and a sanitizer that needs descriptors itself has looked.
    for (const Opener& each : openers(fd.get(), -1)) {
        if (!each.takes_descriptor) continue;
        const Error error = each.open(loop);
        EXPECT_EQ(error, error == errno_of(ECONNREFUSED) ? error : Error()) << each.name;
    }
    SpawnOptions nothing;
    nothing.program = "/whorl/no/such/program";
    EXPECT_EQ(error_in(loop, Spawn{nothing}), errno_of(ENOENT));
    EXPECT_FALSE(error_in(loop, Stat{path("file")}));
    {
        const NoDescriptor none;
        for (const Opener& each : openers(fd.get(), -1)) {
            if (!each.takes_descriptor) continue;
            const bool observer = std::string_view(each.name) == "observe_files";
            EXPECT_EQ(each.open(loop),
                      observer ? Error(Error::observers_exhausted) : errno_of(EMFILE))
                << each.name;
        }
        EXPECT_EQ(error_in(loop, OpenFile{path("file")}), errno_of(EMFILE));
        const os::Program program = os::returns(0);
        SpawnOptions options = program.options();
        const Spawn::Done plain = finished(loop, Spawn{options});
        EXPECT_EQ(plain.error, errno_of(EMFILE)) << "no pidfd";
        EXPECT_EQ(plain.step, SpawnStep::process) << name_of(plain.step);
        options.output = ChildStream::pipe();
        const Spawn::Done piped = finished(loop, Spawn{options});
        EXPECT_EQ(piped.error, errno_of(EMFILE));
        EXPECT_EQ(piped.step, SpawnStep::prepare) << name_of(piped.step);
    }
    end_of(loop);
}

TEST_P(ErrorTables, paths_that_lead_nowhere) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("file"), "x");
    ASSERT_FALSE(error_in(loop, Symlink{"loop", path("loop")}));
    EXPECT_EQ(differing(on_old_name(loop, "none/x"), ENOENT), "");
    EXPECT_EQ(differing(on_old_name(loop, "file/x"), ENOTDIR), "");
    EXPECT_EQ(differing(on_old_name(loop, "loop/x"), ELOOP), "");
    EXPECT_EQ(differing(on_old_name(loop, std::string(256, 'n')), ENAMETOOLONG), "");
    EXPECT_EQ(differing(on_old_name(loop, std::string(4096, 'n')), ENAMETOOLONG), "")
        << "refused by submit";
    // A directory that was removed while it is open.
    ASSERT_FALSE(error_in(loop, MakeDirectory{path("d")}));
    const File directory = opened(loop, "d", O_RDONLY | O_DIRECTORY);
    ASSERT_FALSE(error_in(loop, RemoveDirectory{path("d")}));
    EXPECT_EQ(error_in(loop, ListDirectory{directory, Buffer::allocate(1'000)}), errno_of(ENOENT));
    ASSERT_FALSE(error_in(loop, MakeDirectory{path("d")}));
    EXPECT_EQ(error_in(loop, Rename{path("d/."), path("e")}), errno_of(EBUSY));
    end_of(loop);
}

TEST_P(ErrorTables, without_memory_nothing_is_submitted) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.buffer_bytes_max = 0; });
    EXPECT_EQ(differing(on_old_name(loop, "file"), ENOMEM), "");
    const os::Program program = os::returns(0);
    EXPECT_EQ(refusal(loop, Spawn{program.options()}), errno_of(ENOMEM));
    EXPECT_FALSE(aligned_buffer(loop, 4096));
    end_of(loop);
}

TEST_P(ErrorTables, datagrams) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket v4 = udp(loop), v6 = udp(loop, Address::loopback_v6(0));
    const Address to_v4 = Address::loopback_v4(9), to_v6 = Address::loopback_v6(9);
    EXPECT_EQ(connect_udp(loop, v4, to_v6), errno_of(EAFNOSUPPORT));
    EXPECT_EQ(connect_udp(loop, v6, to_v4), errno_of(EAFNOSUPPORT));
    EXPECT_EQ(connect_udp(loop, v4, *Address::parse("255.255.255.255:9")), errno_of(EACCES));
    EXPECT_EQ(error_in(loop, SendTo{v4, buffer_of("x"), to_v6}), errno_of(EAFNOSUPPORT));
    EXPECT_EQ(error_in(loop, SendTo{v6, buffer_of("x"), to_v4}), errno_of(ENETUNREACH));
    EXPECT_EQ(set_hops(loop, v4, 256), errno_of(EINVAL));
    end_of(loop);
}

TEST_P(ErrorTables, unix_datagrams) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UnixAddress name = abstract_name(), taken = abstract_name();
    const UnixDatagram one = *open_unix_datagram(loop, name);
    const UnixDatagram two = *open_unix_datagram(loop, taken);
    const UnixDatagram three = *open_unix_datagram(loop);
    ASSERT_FALSE(connect_unix_datagram(loop, two, name));
    EXPECT_EQ(error_in(loop, SendToUnix{three, buffer_of("x"), taken}), errno_of(EPERM));
    EXPECT_EQ(error_in(loop, SendToUnix{one, Buffer::allocate(0), name}), Error());
    Buffer large = Buffer::allocate(16u << 20);
    large.resize(large.capacity());
    EXPECT_EQ(error_in(loop, SendToUnix{two, std::move(large)}), errno_of(EMSGSIZE));
    EXPECT_EQ(connect_unix_datagram(loop, three, *UnixAddress::file("/tmp/whorl-no-such-socket")),
              errno_of(ENOENT));
    EXPECT_EQ(listen_unix(loop, abstract_name(), {UnixKind::stream, 0}).error(),
              Error::invalid_argument);
    end_of(loop);
}

TEST_P(ErrorTables, pipes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const PipeEnds ends = *make_pipe(loop), other = *make_pipe(loop);
    ASSERT_FALSE(error_in(loop, WriteAll{ends.writing, buffer_of("text")}));
    EXPECT_EQ(error_in(loop, Splice{ends.reading, ends.writing, 4}), errno_of(EINVAL));
    EXPECT_EQ(error_in(loop, Tee{ends.reading, ends.writing, 4}), errno_of(EINVAL));
    Fd counter(os::eventfd(1, EFD_CLOEXEC));
    const Pipe number = *adopt_pipe(loop, counter.release());
    EXPECT_EQ(error_in(loop, Read{number, Buffer::allocate(4)}), errno_of(EINVAL));
    EXPECT_EQ(error_in(loop, Write{number, buffer_of("four")}), errno_of(EINVAL));
    EXPECT_EQ(error_in(loop, Tee{ends.reading, number, 4}), errno_of(EINVAL));
    ASSERT_FALSE(loop.close(other.reading));
    BufferChain chain;
    ASSERT_TRUE(chain.push_back(buffer_of("text")));
    EXPECT_EQ(error_in(loop, WriteChain{other.writing, std::move(chain)}), errno_of(EPIPE));
    EXPECT_EQ(refusal(loop, WriteChain{ends.reading, BufferChain()}), errno_of(EBADF));
    end_of(loop);
}

TEST_P(ErrorTables, without_a_heap_nothing_is_submitted) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = udp(loop);
    const UnixDatagram letters = *open_unix_datagram(loop);
    const SocketPair pair = *socket_pair(loop);
    const PipeEnds ends = *make_pipe(loop);
    const File file = opened(loop, "file");
    const int number = STDOUT_FILENO;
    const auto chain = [] {
        BufferChain made;
        EXPECT_TRUE(made.push_back(Buffer::allocate(1)));
        return made;
    };
    std::vector<Named> told;
    const auto refused = [&](const char* name, auto operation) {
        heap_is_exhausted = true;
        const Error error = refusal(loop, std::move(operation));
        heap_is_exhausted = false;
        told.push_back({name, error});
    };
    refused("RecvFrom", RecvFrom{socket, Buffer::allocate(1)});
    refused("SendTo", SendTo{socket, buffer_of("x"), Address::loopback_v4(9)});
    refused("SendBatch", SendBatch{socket, DatagramBatch()});
    refused("RecvFromUnix", RecvFromUnix{letters, Buffer::allocate(1)});
    refused("SendToUnix", SendToUnix{letters, buffer_of("x"), abstract_name()});
    refused("ConnectUnix", ConnectUnix{abstract_name()});
    refused("SendDescriptors", SendDescriptors{pair.first, buffer_of("x"), &number, 1});
    refused("ReceiveDescriptors", ReceiveDescriptors{pair.second, Buffer::allocate(1), 1});
    refused("SendChainZeroCopy", SendChainZeroCopy{pair.first, chain()});
    refused("WriteChain", WriteChain{ends.writing, chain()});
    refused("ReadChainAt", ReadChainAt{file, chain()});
    refused("WriteChainAt", WriteChainAt{file, chain()});
    heap_is_exhausted = true;
    const Result<FileObserver> observer = observe_files(loop, [](Loop&, const FileEvent&) {});
    const Result<WallTimer> clock =
        at_wall_clock(loop, wall_now(loop), {}, [](Loop&, const WallExpired&) {});
    const Result<ResolveTask> question =
        resolve(loop, {"localhost", {}, 1}, [](Loop&, const ResolveDone&) {});
    heap_is_exhausted = false;
    told.push_back({"observe_files", error_of(observer)});
    told.push_back({"at_wall_clock", error_of(clock)});
    told.push_back({"resolve", error_of(question)});
    EXPECT_EQ(differing(told, ENOMEM), "");
    end_of(loop);
}

// A stream that could never have a buffer ends.
TEST_P(ErrorTables, a_datagram_stream_without_memory) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.buffer_bytes_max = 0; });
    const UdpSocket to = udp(loop), from = udp(loop);
    std::optional<RecvFromStream::Done> last;
    ASSERT_TRUE(loop.submit(RecvFromStream{to}, [&](Loop&, RecvFromStream::Done done) {
        EXPECT_FALSE(last.has_value());
        last.emplace(std::move(done));
    }));
    ASSERT_FALSE(error_in(loop, SendTo{from, buffer_of("x"), *local_address(loop, to)}));
    run_until(loop, [&] { return last.has_value(); });
    EXPECT_EQ(last->error, errno_of(ENOMEM));
    EXPECT_FALSE(last->more);
    end_of(loop);
}

TEST_P(ErrorTables, trees) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_max = 1; });
    std::string deep = "t";
    for (int level = 0; level < 9; ++level) {
        ASSERT_FALSE(error_in(loop, MakeDirectory{path(deep)}));
        deep += "/d";
    }
    std::vector<Error> failures;
    bool done = false;
    TreeOptions options;
    options.descriptors_max = 3;
    options.follow = true;
    const auto tell = [&](Loop&, const TreeEvent& event) {
        if (event.kind == TreeEvent::Kind::failed) failures.push_back(event.error);
        if (event.kind == TreeEvent::Kind::done) done = true;
        return TreeNext::go_on;
    };
    ASSERT_TRUE(walk_tree(loop, path("t"), options, tell));
    run_until(loop, [&] { return done; });
    EXPECT_EQ(failures, std::vector<Error>{errno_of(EMFILE)}) << "deeper than may be open";
    // The way back is lost: the directory in which the walk is has gone elsewhere.
    options.follow = false;
    failures.clear();
    done = false;
    TreeTask task;
    const auto move = [&](Loop& inside, const TreeEvent& event) {
        if (event.kind != TreeEvent::Kind::enter || event.depth != 7) return tell(inside, event);
        EXPECT_TRUE(inside.submit(
            Rename{path("t/d/d/d"), path("moved")}, [&](Loop& then, const NameDone& renamed) {
                EXPECT_FALSE(renamed.error);
                ASSERT_FALSE(then.post([](Loop&) {}));
                EXPECT_EQ(task.go_on(then), Error::queue_full);
                ASSERT_TRUE(then.after(
                    0ns, [&](Loop& later, Expired) { EXPECT_FALSE(task.go_on(later)); }));
            }));
        return TreeNext::pause;
    };
    const Result<TreeTask> begun = walk_tree(loop, path("t"), options, move);
    ASSERT_TRUE(begun);
    task = *begun;
    run_until(loop, [&] { return done; });
    EXPECT_EQ(failures, std::vector<Error>{errno_of(ESTALE)});
    end_of(loop);
}

// What a device, a quota or a firewall says: it reaches the handler unchanged, and with what was given.
TEST_P(ErrorTables, what_only_the_outside_says) {
    WHORL_SKIP_IF_REFUSED();
    if (os::world() == nullptr) return;
    Loop loop = make_loop();
    os::put_file(path("file"), "old");
    const File file = opened(loop, "file");
    const UdpSocket socket = udp(loop);
    const auto scripted = [&](detail::OpKind kind, std::initializer_list<int> errors, auto make) {
        for (const int error : errors) {
            os::world()->script_fault(kind, error, 1);
            const auto done = finished(loop, make());
            EXPECT_EQ(done.error, errno_of(error)) << detail::name_of(kind);
        }
    };
    using Kind = detail::OpKind;
    const auto at = path("file"), other = path("other");
    scripted(Kind::open_file, {ENFILE, ENOSPC, EDQUOT, EROFS, EPERM, EIO, ENOSYS},
             [&] { return OpenFile{at}; });
    scripted(Kind::read_at, {EIO}, [&] { return ReadAt{file, Buffer::allocate(3)}; });
    scripted(Kind::write_at, {EIO, EDQUOT, EPERM}, [&] { return WriteAt{file, buffer_of("new")}; });
    scripted(Kind::sync, {EIO, ENOSPC, EDQUOT}, [&] { return Sync{file}; });
    scripted(Kind::sync_range, {EIO, ENOSPC}, [&] { return SyncRange{file}; });
    scripted(Kind::allocate, {ENOSPC, EDQUOT, EPERM}, [&] { return Allocate{file, 0, 1}; });
    scripted(Kind::stat, {EIO, EACCES}, [&] { return Stat{at}; });
    scripted(Kind::rename, {EIO, ENOSPC, EDQUOT, EROFS, EXDEV, EPERM}, [&] {
        return Rename{at, other};
    });
    scripted(Kind::link, {EMLINK, EXDEV, EROFS, EIO}, [&] { return Link{at, other}; });
    scripted(Kind::symlink, {ENOSPC, EDQUOT, EROFS}, [&] { return Symlink{"text", other}; });
    scripted(Kind::unlink, {EBUSY, EROFS, EPERM, EIO}, [&] { return Unlink{at}; });
    scripted(Kind::make_directory, {EMLINK, ENOSPC, EDQUOT, EROFS},
             [&] { return MakeDirectory{other}; });
    scripted(Kind::remove_directory, {EBUSY, EROFS}, [&] { return RemoveDirectory{at}; });
    scripted(Kind::send_message, {EPERM, ENOBUFS, EHOSTUNREACH}, [&] {
        return SendTo{socket, buffer_of("x"), Address::loopback_v4(9)};
    });
    EXPECT_EQ(os::get_file(at), "old");
    EXPECT_FALSE(os::exists(other));
    // What cannot be watched is told to the handler, for the last time.
    std::optional<Error> clock, observer;
    os::world()->script_fault(Kind::watch, ENOMEM, 2);
    ASSERT_TRUE(at_wall_clock(loop, wall_now(loop) + 1h, {},
                              [&](Loop&, const WallExpired& told) { clock = told.error; }));
    const auto into = [&](Loop&, const FileEvent& told) { observer = told.error; };
    ASSERT_TRUE(observe_files(loop, into));
    run_until(loop, [&] { return clock.has_value() && observer.has_value(); });
    EXPECT_EQ(*clock, errno_of(ENOMEM));
    EXPECT_EQ(*observer, errno_of(ENOMEM));
    end_of(loop);
}

}  // namespace
}  // namespace whorl::conformance
