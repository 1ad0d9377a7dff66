// SPDX-License-Identifier: MIT
// Goal: as error_tables_test.cpp, for what a simulated kernel does not have. Method: files, terminals and
// sockets that refuse what is asked of them; and children that give up their rights, have file systems of
// their own, a network without routes, or few descriptors.
#include "conformance/backend_child.hpp"
#include "conformance/error_tables.hpp"

#include <linux/io_uring.h>
#include <net/route.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

namespace whorl::conformance {
namespace {

constexpr uid_t nobody = 65534;

// No file of this process grows beyond 4096 bytes.
class SmallFiles {
  public:
    SmallFiles() : before_(std::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &limit_);
        const rlimit small{4096, limit_.rlim_max};
        EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    }
    SmallFiles(const SmallFiles&) = delete;
    SmallFiles& operator=(const SmallFiles&) = delete;
    ~SmallFiles() {
        ::setrlimit(RLIMIT_FSIZE, &limit_);
        std::signal(SIGXFSZ, before_);
    }

  private:
    void (*before_)(int);
    rlimit limit_{};
};

// What a simulated kernel does not have.
class ErrorTablesReal : public ErrorTables {
  protected:
    static void become_nobody() {
        EXPECT_EQ(::setresgid(nobody, nobody, 0), 0);
        EXPECT_EQ(::setresuid(nobody, nobody, 0), 0);
    }
    std::string as_nobody();
    std::string on_file_systems();
    std::string without_routes();
    std::string with_few_descriptors();
    std::string without_threads();
    std::string with_refused_calls();
};
WHORL_CONFORMANCE_REAL(ErrorTablesReal);

TEST_P(ErrorTablesReal, files) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("file"), "x");
    const char* const here = "/proc/self/exe";  // this program, which runs
    if (::access(here, W_OK) == 0 || errno == ETXTBSY) {
        EXPECT_EQ(error_in(loop, OpenFile{here, O_WRONLY}), errno_of(ETXTBSY));
    }
    EXPECT_EQ(error_in(loop, OpenFile{path("file"), 1 << 30}), errno_of(EINVAL));
    {
        const Fd lease(::open(path("file").c_str(), O_RDONLY | O_CLOEXEC));
        ASSERT_EQ(::fcntl(lease.get(), F_SETSIG, SIGURG), 0);                // which nobody minds
        const bool leased = ::fcntl(lease.get(), F_SETLEASE, F_WRLCK) == 0;  // not everywhere
        EXPECT_EQ(error_in(loop, OpenFile{path("file"), O_RDWR}),
                  leased ? errno_of(EWOULDBLOCK) : Error());
    }
    Fd sealed(::memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(sealed.get(), 100), 0);
    ASSERT_EQ(::fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK), 0);
    const File fixed = *adopt_file(loop, sealed.release());
    EXPECT_EQ(error_in(loop, WriteAt{fixed, buffer_of("x")}), errno_of(EPERM));
    EXPECT_EQ(error_in(loop, Truncate{fixed, 1}), errno_of(EPERM));
    EXPECT_EQ(error_in(loop, Allocate{fixed, 0, 200}), errno_of(EPERM));
    const File device = *adopt_file(loop, ::open("/dev/null", O_RDWR | O_CLOEXEC));
    EXPECT_EQ(error_in(loop, Allocate{device, 0, 1}), errno_of(ENODEV));
    const File file = opened(loop, "file");
    EXPECT_EQ(error_in(loop, Allocate{file, 0, 1, 1u << 20}), errno_of(EOPNOTSUPP));
    // io_uring writes to what cannot be appended to as if it could.
    const int bare =
        on_io_uring() ? -1 : ::open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (bare >= 0) {
        EXPECT_EQ(error_in(loop, Append{*adopt_file(loop, bare), buffer_of("0")}),
                  errno_of(EOPNOTSUPP));
    }
    const SmallFiles small;
    const WriteAllAt::Done cut = finished(loop, WriteAllAt{file, buffer_of(letters(5'000))});
    EXPECT_EQ(cut.error, errno_of(EFBIG));
    EXPECT_EQ(cut.bytes, 4096u);
    EXPECT_EQ(error_in(loop, WriteAt{file, buffer_of("x"), 4096}), errno_of(EFBIG));
    EXPECT_EQ(error_in(loop, Append{file, buffer_of("x")}), errno_of(EFBIG));
    EXPECT_EQ(error_in(loop, Truncate{file, 5'000}), errno_of(EFBIG));
    EXPECT_EQ(error_in(loop, Allocate{file, 0, 5'000}), errno_of(EFBIG));
    const Pipe stream = *adopt_pipe(loop, ::open(path("file").c_str(), O_WRONLY | O_CLOEXEC));
    EXPECT_EQ(error_in(loop, WriteAll{stream, buffer_of(letters(5'000))}), errno_of(EFBIG));
    end_of(loop);
}

// What is no file of bytes at offsets: submit refuses transfers, the kernel the rest.
TEST_P(ErrorTablesReal, operations_on_what_is_no_file) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int fds[2];
    ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
    const Fd reading(fds[0]);
    const File pipe = *adopt_file(loop, fds[1]);
    EXPECT_EQ(refusal(loop, Append{pipe, buffer_of("x")}), errno_of(ESPIPE));
    EXPECT_EQ(error_in(loop, Sync{pipe}), errno_of(EINVAL));
    EXPECT_EQ(error_in(loop, SyncRange{pipe}), errno_of(ESPIPE));
    EXPECT_EQ(error_in(loop, Truncate{pipe, 0}), errno_of(EINVAL));
    EXPECT_EQ(error_in(loop, Allocate{pipe, 0, 1}), errno_of(ESPIPE));
    EXPECT_EQ(error_in(loop, Advise{pipe}), errno_of(ESPIPE));
    const Pipe directory =
        *adopt_pipe(loop, ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    EXPECT_EQ(error_in(loop, Read{directory, Buffer::allocate(8)}), errno_of(EISDIR));
    const Pipe full = *adopt_pipe(loop, ::open("/dev/full", O_WRONLY | O_CLOEXEC));
    EXPECT_EQ(error_in(loop, Write{full, buffer_of("x")}), errno_of(ENOSPC));
    const PipeEnds ends = *make_pipe(loop);
    ASSERT_FALSE(error_in(loop, WriteAll{ends.writing, buffer_of("x")}));
    os::put_file(path("log"), "");
    const int log = ::open(path("log").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT_EQ(error_in(loop, Splice{ends.reading, *adopt_pipe(loop, log), 1}), errno_of(EINVAL));
    // A terminal whose other side has gone.
    Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(::unlockpt(master.get()), 0);
    const int slave = ::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC);
    const Pipe terminal = *adopt_pipe(loop, slave);
    master.close();
    EXPECT_EQ(error_in(loop, Write{terminal, buffer_of("x")}), errno_of(EIO));
    Fd second(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(::unlockpt(second.get()), 0);
    ::close(::open(::ptsname(second.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    EXPECT_EQ(error_in(loop, Read{*adopt_pipe(loop, second.release()), Buffer::allocate(8)}),
              errno_of(EIO));
    end_of(loop);
}

TEST_P(ErrorTablesReal, sockets) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket v4 = udp(loop), v6 = udp(loop, Address::any_v6(0));
    constexpr std::uint32_t no_interface = 999'999;
    EXPECT_EQ(join_group(loop, v4, *Address::parse("239.255.77.77:0"), no_interface),
              errno_of(ENODEV));
    EXPECT_EQ(join_group(loop, v6, *Address::parse("[ff01::77]:0"), no_interface),
              errno_of(ENODEV));
    EXPECT_EQ(join_group(loop, v4, Address::loopback_v4(0)), errno_of(EINVAL));
    EXPECT_EQ(join_group(loop, v6, Address::loopback_v6(0)), errno_of(EINVAL));
    MulticastOptions by;
    by.interface_index = no_interface;
    EXPECT_EQ(set_multicast(loop, v4, by), errno_of(EADDRNOTAVAIL));
    EXPECT_EQ(set_multicast(loop, v6, by), errno_of(ENODEV));
    EXPECT_EQ(connect_udp(loop, v6, *Address::parse("[::ffff:127.0.0.1]:9")),
              errno_of(ENETUNREACH));
    SendTo from_elsewhere{v6, buffer_of("x"), Address::loopback_v6(9)};
    from_elsewhere.control.source = *Address::parse("[2001:db8::1]:0");
    EXPECT_EQ(error_in(loop, std::move(from_elsewhere)), errno_of(EINVAL));
    SendTo many{v4, buffer_of(letters(200)), Address::loopback_v4(9)};
    many.control.segment_size = 1;
    EXPECT_EQ(error_in(loop, std::move(many)), errno_of(EINVAL));
    // Unix sockets.
    os::put_file(path("file"), "x");
    EXPECT_EQ(listen_unix(loop, *UnixAddress::file(path("none/s"))).error(), errno_of(ENOENT));
    EXPECT_EQ(listen_unix(loop, *UnixAddress::file(path("file/s"))).error(), errno_of(ENOTDIR));
    const UnixAddress stream = *UnixAddress::file(path("stream"));
    ASSERT_TRUE(listen_unix(loop, stream));
    const UnixAddress one_name = abstract_name(), two_name = abstract_name();
    const UnixDatagram one = *open_unix_datagram(loop, one_name);
    const UnixDatagram two = *open_unix_datagram(loop, two_name);
    EXPECT_EQ(connect_unix_datagram(loop, one, stream), errno_of(EPROTOTYPE));
    EXPECT_EQ(error_in(loop, SendToUnix{one, buffer_of("x"), stream}), errno_of(EPROTOTYPE));
    ASSERT_FALSE(connect_unix_datagram(loop, one, two_name));
    ASSERT_FALSE(connect_unix_datagram(loop, two, one_name));
    ASSERT_FALSE(error_in(loop, SendToUnix{one, buffer_of("unread")}));
    const UnixAddress third_name = abstract_name();
    const UnixDatagram third = *open_unix_datagram(loop, third_name);
    EXPECT_EQ(connect_unix_datagram(loop, third, two_name), errno_of(EPERM)) << "it has a peer";
    ASSERT_FALSE(connect_unix_datagram(loop, two, third_name));
    EXPECT_EQ(error_in(loop, RecvFromUnix{one, Buffer::allocate(8)}), errno_of(ECONNRESET));
    const SocketPair records = *socket_pair(loop, UnixKind::seqpacket);
    ASSERT_FALSE(error_in(loop, SendAll{records.second, buffer_of("unread")}));
    ASSERT_FALSE(loop.close(records.first));
    run_until(loop, [&] { return loop.statistics().handles == 7; });
    const int number = STDOUT_FILENO;
    EXPECT_EQ(error_in(loop, SendDescriptors{records.second, buffer_of("x"), &number, 1}),
              errno_of(ECONNRESET));
    io_uring_params params{};
    const Fd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 1, &params)));
    const int passed = ring.get();
    const SocketPair pair = *socket_pair(loop);
    if (passed >= 0) {
        EXPECT_EQ(error_in(loop, SendDescriptors{pair.first, buffer_of("x"), &passed, 1}),
                  errno_of(EINVAL));
    }
    const Socket tcp = *adopt_socket(loop, ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Result<PeerCredentials> stranger = peer_credentials(loop, tcp);
    ASSERT_TRUE(stranger);
    EXPECT_EQ(stranger->pid, 0);
    EXPECT_EQ(stranger->uid, UINT32_MAX);
    end_of(loop);
}

// --- in children

// A child cannot fail a test: it answers what differs.
class Told {
  public:
    void expect(const char* what, Error error, int wanted) {
        if (error == Error::from_errno(wanted)) return;
        text_ += std::string(what) + " " + error.name() + ", not " + errno_of(wanted).name() + "; ";
    }
    void add(const std::string& text) { text_ += text; }
    const std::string& text() const { return text_; }

  private:
    std::string text_;
};

std::string ErrorTablesReal::as_nobody() {
    Loop loop = make_loop();
    Told told;
    ::mkdir(path("closed").c_str(), 0700);
    os::put_file(path("closed/file"), "x");
    ::mkdir(path("sticky").c_str(), 0777);
    ::chmod(path("sticky").c_str(), 01777);
    ::mkdir(path("sticky/d").c_str(), 0755);
    os::put_file(path("sticky/file"), "x");
    ::chmod(directory_.c_str(), 0755);
    const UnixAddress name = *UnixAddress::file(path("socket"));
    const UnixAddress letters_name = *UnixAddress::file(path("letters"));
    const Result<Listener> listener = listen_unix(loop, name);
    const Result<UnixDatagram> letters = open_unix_datagram(loop, letters_name);
    const Result<UnixDatagram> sender = open_unix_datagram(loop);
    if (!listener || !letters || !sender) return "no sockets";
    ::chmod(name.name().data(), 0700);
    ::chmod(letters_name.name().data(), 0700);
    const os::Program program = os::stays();
    const Child child = finished(loop, Spawn{program.options()}).child;
    const Result<FileObserver> observer = observe_files(loop, [](Loop&, const FileEvent&) {});
    ::chmod(path("file").c_str(), 0600);
    become_nobody();

    told.add(differing(on_old_name(loop, "closed/file"), EACCES));
    told.expect("Stat", error_in(loop, Stat{path("closed/file")}), EACCES);
    told.expect("OpenFile", error_in(loop, OpenFile{path("file")}), EACCES);
    told.expect("O_NOATIME", error_in(loop, OpenFile{path("sticky/file"), O_RDONLY | O_NOATIME}),
                EPERM);
    told.expect("Unlink", error_in(loop, Unlink{path("sticky/file")}), EPERM);
    told.expect("RemoveDirectory", error_in(loop, RemoveDirectory{path("sticky/d")}), EPERM);
    told.expect("Rename", error_in(loop, Rename{path("sticky/file"), path("sticky/x")}), EPERM);
    told.expect("observer", observer->add(loop, path("closed"), {}).error(), EACCES);
    told.expect("listen_unix", error_of(listen_unix(loop, *UnixAddress::file(path("mine")))),
                EACCES);
    told.expect("remove_socket_file", remove_socket_file(loop, name), EACCES);
    told.expect("ConnectUnix", error_in(loop, ConnectUnix{name}), EACCES);
    told.expect("connect_unix_datagram", connect_unix_datagram(loop, *sender, letters_name),
                EACCES);
    told.expect("SendToUnix", error_in(loop, SendToUnix{*sender, buffer_of("x"), letters_name}),
                EACCES);
    told.expect("send_signal", send_signal(loop, child, SIGTERM), EPERM);
    int unprivileged = 0;
    std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> unprivileged;
    if (unprivileged > 81) {
        told.expect("open_udp", error_of(open_udp(loop, Address::loopback_v4(81))), EACCES);
    }
    if (::setresuid(0, 0, 0) != 0 || ::setresgid(0, 0, 0) != 0) told.add("root is not had back");
    told.expect("send_signal", send_signal(loop, child, SIGKILL), 0);
    told.expect("WaitChild", error_in(loop, WaitChild{child}), 0);
    return told.text();
}

TEST_P(ErrorTablesReal, of_another_user) {
    WHORL_SKIP_IF_REFUSED();
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
    os::put_file(path("file"), "x");
    EXPECT_EQ(in_child([this] { return as_nobody(); }), "");
}

std::string ErrorTablesReal::on_file_systems() {
    const std::string small = path("small"), in = small + "/";
    os::put_file(path("file"), "x");
    os::put_file(path("bound"), "x");
    if (::mkdir(small.c_str(), 0755) != 0 || ::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", small.c_str(), "tmpfs", 0, "size=64k,nr_inodes=4") != 0 ||
        ::mount(path("file").c_str(), path("bound").c_str(), nullptr, MS_BIND, nullptr) != 0) {
        std::printf("file systems cannot be mounted here\n");
        return "";
    }
    Loop loop = make_loop();
    Told told;
    const File file = opened(loop, "small/file");
    Buffer large = Buffer::allocate(1u << 20);
    large.resize(large.capacity());
    told.expect("Allocate", error_in(loop, Allocate{file, 0, 1u << 20}), ENOSPC);
    told.expect("WriteAllAt", error_in(loop, WriteAllAt{file, std::move(large)}), ENOSPC);
    told.expect("Append", error_in(loop, Append{file, buffer_of("x")}), ENOSPC);
    told.expect("last inodes", error_in(loop, MakeDirectory{in + "a"}), 0);
    told.expect("last inodes", error_in(loop, MakeDirectory{in + "b"}), 0);
    told.expect("OpenFile", error_in(loop, OpenFile{in + "c", O_RDWR | O_CREAT}), ENOSPC);
    told.expect("MakeDirectory", error_in(loop, MakeDirectory{in + "c"}), ENOSPC);
    told.expect("Symlink", error_in(loop, Symlink{"text", in + "c"}), ENOSPC);
    told.expect("Link", error_in(loop, Link{in + "file", in + "c"}), ENOSPC);
    told.expect("Rename", error_in(loop, Rename{in + "file", path("x")}), EXDEV);
    told.expect("Link", error_in(loop, Link{in + "file", path("x")}), EXDEV);
    told.expect("RemoveDirectory", error_in(loop, RemoveDirectory{small}), EBUSY);
    told.expect("Rename", error_in(loop, Rename{small, path("x")}), EBUSY);
    told.expect("Unlink", error_in(loop, Unlink{path("bound")}), EBUSY);
    if (loop.close(file) || loop.drain(10s)) told.add("the file stays open; ");
    if (::mount("none", small.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "") != 0) {
        told.add("it stays writable; ");
    }
    Loop second = make_loop();
    told.expect("OpenFile", error_in(second, OpenFile{in + "file", O_WRONLY}), EROFS);
    told.expect("OpenFile", error_in(second, OpenFile{in + "x", O_RDWR | O_CREAT}), EROFS);
    told.expect("MakeDirectory", error_in(second, MakeDirectory{in + "x"}), EROFS);
    told.expect("Symlink", error_in(second, Symlink{"text", in + "x"}), EROFS);
    told.expect("Link", error_in(second, Link{in + "file", in + "x"}), EROFS);
    told.expect("Rename", error_in(second, Rename{in + "file", in + "x"}), EROFS);
    told.expect("Unlink", error_in(second, Unlink{in + "file"}), EROFS);
    told.expect("RemoveDirectory", error_in(second, RemoveDirectory{in + "a"}), EROFS);
    told.expect("listen_unix", error_of(listen_unix(second, *UnixAddress::file(in + "s"))), EROFS);
    return told.text();
}

TEST_P(ErrorTablesReal, of_file_systems) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EQ(in_child([this] { return on_file_systems(); }), "");
}

std::string ErrorTablesReal::without_routes() {
    if (::unshare(CLONE_NEWNET) != 0) {
        std::printf("a network of its own cannot be had here\n");
        return "";
    }
    Loop loop = make_loop();
    Told told;
    const Address there = Address::ipv4(192, 0, 2, 1, 9),
                  barred = Address::ipv4(198, 51, 100, 1, 9);
    const UdpSocket socket = udp(loop, Address::any_v4(0));
    told.expect("connect_udp", connect_udp(loop, socket, there), ENETUNREACH);
    told.expect("SendTo", error_in(loop, SendTo{socket, buffer_of("x"), there}), ENETUNREACH);
    rtentry route{};
    std::memcpy(&route.rt_dst, barred.data(), sizeof route.rt_dst);
    reinterpret_cast<sockaddr_in&>(route.rt_genmask).sin_family = AF_INET;
    reinterpret_cast<sockaddr_in&>(route.rt_genmask).sin_addr.s_addr = UINT32_MAX;
    route.rt_flags = RTF_UP | RTF_HOST | RTF_REJECT;
    const Fd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (::ioctl(any.get(), SIOCADDRT, &route) != 0) told.add("no route is added; ");
    told.expect("connect_udp", connect_udp(loop, socket, barred), EHOSTUNREACH);
    told.expect("SendTo", error_in(loop, SendTo{socket, buffer_of("x"), barred}), EHOSTUNREACH);
    return told.text();
}

TEST_P(ErrorTablesReal, of_a_network_without_routes) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EQ(in_child([this] { return without_routes(); }), "");
}

std::string ErrorTablesReal::with_few_descriptors() {
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    const rlimit few{40, 40};
    if (::setresgid(nobody, nobody, nobody) != 0 || ::setresuid(nobody, nobody, nobody) != 0 ||
        ::setrlimit(RLIMIT_NOFILE, &few) != 0) {
        return "the rights cannot be given up";
    }
    const std::vector<int> numbers(20, STDOUT_FILENO);
    Error error;
    for (int sent = 0; !error && sent < 20; ++sent) {
        error = error_in(loop, SendDescriptors{pair.first, buffer_of("x"), numbers.data(), 20});
    }
    Told told;
    told.expect("SendDescriptors", error, ETOOMANYREFS);
    return told.text();
}

TEST_P(ErrorTablesReal, of_few_descriptors) {
    WHORL_SKIP_IF_REFUSED();
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
    EXPECT_EQ(in_child([this] { return with_few_descriptors(); }), "");
}

std::string ErrorTablesReal::without_threads() {
    if (!refuse_calls({SYS_clone, SYS_clone3}, EAGAIN)) return "nothing can be refused";
    Loop loop = make_loop();
    Told told;
    told.expect("Work", error_in(loop, Work{[] {}}), EAGAIN);
    std::optional<Error> error;
    const auto into = [&](Loop&, const ResolveDone& done) { error = done.error; };
    if (!resolve(loop, {"localhost", {}, 1}, into)) return "resolve is refused";
    run_until(loop, [&] { return error.has_value(); });
    told.expect("resolve", *error, EAGAIN);
    told.expect("ReadLink", error_in(loop, ReadLink{path("x")}), EAGAIN);
    const os::Program program = os::returns(0);
    told.expect("Spawn", error_in(loop, Spawn{program.options()}), EAGAIN);
    return told.text();
}

TEST_P(ErrorTablesReal, of_no_thread) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EQ(in_child([this] { return without_threads(); }), "");
}

std::string ErrorTablesReal::with_refused_calls() {
    Loop loop = make_loop();
    const UdpSocket socket = udp(loop), peer = udp(loop);
    Told told;
    told.expect("connect_udp", connect_udp(loop, socket, *local_address(loop, peer)), 0);
    // Somebody has taken the port; a kernel does not know an option; the system's table of files is full.
    if (!refuse_calls({SYS_bind}, EADDRINUSE)) return "nothing can be refused";
    told.expect("disconnect_udp", disconnect_udp(loop, socket), EADDRINUSE);
    if (!refuse_calls({SYS_setsockopt}, ENOPROTOOPT)) return "nothing can be refused";
    UdpOptions options;
    options.gro = true;
    const Address here = Address::loopback_v4(0);
    told.expect("open_udp", open_udp(loop, here, options).error(), ENOPROTOOPT);
    const std::initializer_list<long> calls = {SYS_socket,        SYS_socketpair,
                                               SYS_pipe2,         SYS_signalfd4,
                                               SYS_inotify_init1, SYS_timerfd_create};
    if (!refuse_calls(calls, ENFILE)) return "nothing can be refused";
    for (const Opener& each : openers(-1, -1)) {
        if (!each.takes_descriptor || std::string_view(each.name) == "duplicate_pipe") continue;
        told.expect(each.name, each.open(loop), ENFILE);
    }
    return told.text();
}

TEST_P(ErrorTablesReal, of_refused_calls) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EQ(in_child([this] { return with_refused_calls(); }), "");
}

TEST_P(ErrorTablesReal, children) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::string longest(128 * 1024, 'a');
    const char* const arguments[] = {"true", longest.c_str(), nullptr};
    SpawnOptions options;
    options.program = "true";
    options.arguments = arguments;
    const Spawn::Done done = finished(loop, Spawn{options});
    EXPECT_EQ(done.error, errno_of(E2BIG));
    EXPECT_EQ(done.step, SpawnStep::program);
    // A number that the limit does not allow.
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit low{200, before.rlim_max};
    const ChildDescriptor high{STDOUT_FILENO, 500};
    options.arguments = nullptr;
    options.descriptors = &high;
    options.descriptor_count = 1;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
    const Spawn::Done refused = finished(loop, Spawn{options});
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_TRUE(refused.error == errno_of(EINVAL) || refused.error == errno_of(EBADF))
        << refused.error.name();
    EXPECT_EQ(refused.step, SpawnStep::streams);
    end_of(loop);
}

}  // namespace
}  // namespace whorl::conformance
