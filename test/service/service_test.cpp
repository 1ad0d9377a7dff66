// SPDX-License-Identifier: MIT
// Goal: what a manager passes is taken as it was meant, or refused with its reason; what the service says
// arrives at the manager's socket. Method: each test is a child process with an environment and descriptors
// of its own; the manager is a socket of ours; libsystemd, where there is one, must answer the same.
#include "conformance/backend_child.hpp"

#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

#ifdef WHORL_TEST_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

// In a child: ends it with the line that does not hold.
#define HOLDS(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) return "line " + std::to_string(__LINE__) + ": " + (#condition); \
    } while (false)

namespace whorl::conformance {
namespace {

constexpr int low_end = 12;  // the children put what they pass between 3 and this

class Service : public ::testing::Test {
  protected:
    // Runs `body` in a child in which the numbers from 3 to `low_end` are free.
    template <class Body>
    static std::string in_service(Body body) {
        std::vector<int> low;
        while (low.empty() || low.back() < low_end) low.push_back(::open("/dev/null", O_RDONLY));
        std::string answer = in_child([&] {
            for (int fd = 3; fd < low_end; ++fd) ::close(fd);
            for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET",
                                     "WATCHDOG_USEC", "WATCHDOG_PID"}) {
                ::unsetenv(name);
            }
            return body();
        });
        for (const int fd : low) ::close(fd);
        return answer;
    }
    static void set(const char* name, const char* value) {
        if (value != nullptr) ::setenv(name, value, 1);
        else ::unsetenv(name);
    }
    static std::string self() { return std::to_string(::getpid()); }
    // A socket at exactly this number, not close-on-exec, as it comes from an exec.
    static bool socket_at(int number, int family, int type, bool listening = false) {
        const int made = ::socket(family, type, 0);
        sockaddr_storage any{};
        any.ss_family = static_cast<sa_family_t>(family);
        const socklen_t size = family == AF_UNIX ? sizeof(sa_family_t) : sizeof(sockaddr_in6);
        bool done = made >= 0 && ::bind(made, reinterpret_cast<sockaddr*>(&any), size) == 0;
        if (listening) done = done && ::listen(made, 1) == 0;
        if (made == number) return done;
        done = done && ::dup2(made, number) == number;
        ::close(made);
        return done;
    }
    // What libsystemd says to the same variables; `ours` where there is none.
    static int oracle(int ours) {
#ifdef WHORL_TEST_LIBSYSTEMD
        static_cast<void>(ours);
        char** names = nullptr;  // without them it does not look at LISTEN_FDNAMES
        return ::sd_listen_fds_with_names(0, &names);
#else
        return ours;
#endif
    }
    static bool same_names(const InheritedDescriptors& found) {
#ifdef WHORL_TEST_LIBSYSTEMD
        char** names = nullptr;
        const int count = ::sd_listen_fds_with_names(0, &names);
        bool same = count == static_cast<int>(found.count());
        for (int index = 0; index < count; ++index) {
            same = same && found.name(static_cast<std::uint32_t>(index)) == names[index];
            std::free(names[index]);  // NOLINT
        }
        std::free(names);  // NOLINT
        return same;
#else
        static_cast<void>(found);
        return true;
#endif
    }
};

TEST_F(Service, without_a_manager_nothing_is_passed_and_nobody_told) {
    EXPECT_EQ(in_service([]() -> std::string {
                  const Result<InheritedDescriptors> none = service::inherited_descriptors();
                  HOLDS(none && none->count() == 0 && oracle(0) == 0);
                  HOLDS(!service::ready() && !service::status("busy") && !service::stopping());
                  const Result<Nanoseconds> time = service::watchdog_interval();
                  HOLDS(time && time->count() == 0);
                  return "";
              }),
              "");
}

TEST_F(Service, sockets_arrive_with_their_names_and_close_on_exec) {
    EXPECT_EQ(
        in_service([]() -> std::string {
            HOLDS(socket_at(3, AF_INET, SOCK_STREAM, true));
            HOLDS(socket_at(4, AF_INET6, SOCK_DGRAM));
            HOLDS(socket_at(5, AF_UNIX, SOCK_DGRAM));
            set("LISTEN_PID", self().c_str());
            set("LISTEN_FDS", "3");
            set("LISTEN_FDNAMES", "web::web");
            Result<InheritedDescriptors> found = service::inherited_descriptors();
            HOLDS(found && found->count() == 3 && same_names(*found));
            HOLDS(found->name(0) == "web" && found->name(1).empty());
            HOLDS(found->find("web") == 0 && found->find("web", 1) == 2);
            HOLDS(found->find("mail") == found->count());
            for (int fd = 3; fd < 6; ++fd) {
                HOLDS((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
                HOLDS(found->number(static_cast<std::uint32_t>(fd - 3)) == fd);
            }
            InheritedDescriptors moved = std::move(*found);
            HOLDS(moved.count() == 3 && ::fcntl(4, F_GETFD) >= 0);
            HOLDS(moved.take(1) == 4 && moved.take(1) == -1);
            moved = InheritedDescriptors();  // closes what was not taken
            HOLDS(::fcntl(3, F_GETFD) < 0 && ::fcntl(4, F_GETFD) >= 0 && ::fcntl(5, F_GETFD) < 0);
            return "";
        }),
        "");
}

TEST_F(Service, each_is_adopted_only_as_what_it_is) {
    EXPECT_EQ(
        in_service([]() -> std::string {
            HOLDS(socket_at(3, AF_INET, SOCK_STREAM, true));
            HOLDS(socket_at(4, AF_INET6, SOCK_DGRAM));
            HOLDS(socket_at(5, AF_UNIX, SOCK_DGRAM));
            HOLDS(socket_at(6, AF_INET, SOCK_STREAM));  // does not listen
            HOLDS(::dup2(STDIN_FILENO, 7) == 7);
            set("LISTEN_PID", self().c_str());
            set("LISTEN_FDS", "5");
            Result<InheritedDescriptors> found =
                service::inherited_descriptors(service::Environment::remove);
            HOLDS(found && found->count() == 5 && found->name(4) == "unknown");
            HOLDS(std::getenv("LISTEN_PID") == nullptr && std::getenv("LISTEN_FDS") == nullptr);
            HOLDS(service::inherited_descriptors()->count() == 0);

            Result<Loop> loop = Loop::create(options_for(Backend::automatic));
            HOLDS(loop);
            const Error wrong = Error::invalid_argument, no_socket = Error::from_errno(ENOTSOCK);
            for (const std::uint32_t index : {1u, 2u, 3u}) {
                HOLDS(adopt_listener(*loop, *found, index).error() == wrong);
            }
            for (const std::uint32_t index : {0u, 2u, 3u}) {
                HOLDS(adopt_udp(*loop, *found, index).error() == wrong);
            }
            for (const std::uint32_t index : {0u, 1u, 3u}) {
                HOLDS(adopt_unix_datagram(*loop, *found, index).error() == wrong);
            }
            HOLDS(adopt_listener(*loop, *found, 4).error() == no_socket);
            HOLDS(adopt_listener(*loop, *found, 5).error() == wrong);
            HOLDS(adopt_listener(*loop, *found, 0, AF_INET6).error() == wrong);
            HOLDS(adopt_udp(*loop, *found, 1, AF_INET).error() == wrong);

            HOLDS(adopt_listener(*loop, *found, 0, AF_INET));
            const Result<UdpSocket> udp = adopt_udp(*loop, *found, 1, AF_INET6);
            const Result<UnixDatagram> local = adopt_unix_datagram(*loop, *found, 2);
            HOLDS(udp && local);
            HOLDS(adopt_udp(*loop, *found, 1).error() == Error::from_errno(EBADF));

            // They work: a datagram to itself.
            const UnixAddress own = [] {
                sockaddr_un bound{};
                socklen_t size = sizeof bound;
                ::getsockname(5, reinterpret_cast<sockaddr*>(&bound), &size);
                return *UnixAddress::from_sockaddr(&bound, size);
            }();
            std::string text;
            HOLDS(loop->submit(RecvFromUnix{*local, Buffer::allocate(9)},
                               [&](Loop&, RecvFromUnix::Done done) { text = done.buffer.text(); }));
            HOLDS(loop->submit(SendToUnix{*local, Buffer::copy_of(Bytes("ping", 4)), own},
                               [](Loop&, SendToUnix::Done) {}));
            HOLDS(!loop->run() && text == "ping");
            return "";
        }),
        "");
}

struct Passed {
    const char* pid;  // "self", or the text
    const char* fds;
    const char* names;
    Error error;
};

TEST_F(Service, what_makes_no_sense_is_refused) {
    const Error wrong = Error::invalid_argument, closed = Error::from_errno(EBADF);
    const std::string long_name(256, 'n');
    const Passed all[] = {
        {"self", "1", nullptr, Error()},     {"1", "1", nullptr, Error()},
        {"1", "abc", nullptr, Error()},      {nullptr, "1", nullptr, Error()},
        {"self", nullptr, nullptr, Error()}, {"me", "1", nullptr, wrong},
        {"0", "1", nullptr, wrong},          {"", "1", nullptr, wrong},
        {"self", "abc", nullptr, wrong},     {"self", "", nullptr, wrong},
        {"self", "0", nullptr, wrong},       {"self", "-1", nullptr, wrong},
        {"self", "1x", nullptr, wrong},      {"self", "99999999999999999999", nullptr, wrong},
        {"self", "4097", nullptr, wrong},    {"self", "2147483647", nullptr, wrong},
        {"self", "2", nullptr, closed},      {"self", "1", "a:b", wrong},
        {"self", "2", "a", wrong},           {"self", "1", "a", Error()},
        {"self", "1", "a:", wrong},          {"self", "1", long_name.c_str(), wrong},
    };
    for (const Passed& each : all) {
        EXPECT_EQ(in_service([&]() -> std::string {
                      HOLDS(socket_at(3, AF_INET, SOCK_STREAM, true));
                      const bool us = each.pid != nullptr && std::strcmp(each.pid, "self") == 0;
                      set("LISTEN_PID", us ? self().c_str() : each.pid);
                      set("LISTEN_FDS", each.fds);
                      set("LISTEN_FDNAMES", each.names);
                      const Result<InheritedDescriptors> found = service::inherited_descriptors();
                      if (found.error() != each.error) return found.error().text();
                      HOLDS(::fcntl(3, F_GETFD) >= 0);  // what was refused stays open
                      const int count = found ? static_cast<int>(found->count()) : -1;
                      const bool long_one = each.names == long_name.c_str();  // a limit of ours
                      HOLDS(long_one || std::max(oracle(count), -1) == count);
                      return "";
                  }),
                  "")
            << (each.pid != nullptr ? each.pid : "-") << " "
            << (each.fds != nullptr ? each.fds : "-") << " "
            << (each.names != nullptr ? each.names : "-");
    }
}

// --- what is told

// A manager's socket, in the test's own process; the child inherits its number.
class Manager {
  public:
    Manager() : fd_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {}
    Manager(const Manager&) = delete;
    Manager& operator=(const Manager&) = delete;
    ~Manager() { ::close(fd_); }
    bool bind_at(const UnixAddress& address) const {
        return ::bind(fd_, address.data(), address.length()) == 0;
    }
    // The next that was told, "" when nothing was; the descriptor that came with it.
    std::string told(int* descriptor = nullptr) const {
        char bytes[4096];
        iovec part{bytes, sizeof bytes};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        const ssize_t got = ::recvmsg(fd_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        const cmsghdr* header = CMSG_FIRSTHDR(&message);
        if (got > 0 && header != nullptr && descriptor != nullptr) {
            std::memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
        }
        return {bytes, got > 0 ? static_cast<std::size_t>(got) : 0};
    }

  private:
    int fd_;
};

std::string manager_name() { return "whorl-manager-" + std::to_string(::getpid()); }

std::string tell_everything(const Manager& manager) {
    HOLDS(!service::ready() && manager.told() == "READY=1");
    HOLDS(!service::stopping() && manager.told() == "STOPPING=1");
    HOLDS(!service::status("12 served") && manager.told() == "STATUS=12 served");
    HOLDS(!service::status("") && manager.told() == "STATUS=");
    const std::string longest(1000, 's');
    HOLDS(!service::status(longest) && manager.told() == "STATUS=" + longest);
    HOLDS(!service::main_process(4711) && manager.told() == "MAINPID=4711");
    HOLDS(!service::alive() && manager.told() == "WATCHDOG=1");
    HOLDS(!service::notify("READY=1\nX_OWN=2") && manager.told() == "READY=1\nX_OWN=2");

    const long long before = clock_now().time_since_epoch().count() / 1000;
    HOLDS(!service::reloading());
    const long long after = clock_now().time_since_epoch().count() / 1000;
    const std::string text = manager.told(), begin = "RELOADING=1\nMONOTONIC_USEC=";
    HOLDS(text.compare(0, begin.size(), begin) == 0);
    const long long said = std::atoll(text.c_str() + begin.size());
    HOLDS(before <= said && said <= after);
#ifdef WHORL_TEST_LIBSYSTEMD
    HOLDS(::sd_notify(0, "READY=1") > 0 && manager.told() == "READY=1");
#endif
    HOLDS(manager.told().empty());
    return "";
}

TEST_F(Service, every_state_reaches_the_manager_by_abstract_name_and_by_path) {
    for (const bool path : {false, true}) {
        char folder[] = "/tmp/whorl-service-XXXXXX";
        ASSERT_NE(::mkdtemp(folder), nullptr);
        const std::string file = std::string(folder) + "/notify";
        EXPECT_EQ(in_service([&]() -> std::string {
                      const Manager manager;
                      const std::string name = path ? file : manager_name();
                      HOLDS(manager.bind_at(path ? *UnixAddress::file(name)
                                                 : *UnixAddress::abstract(name)));
                      set("NOTIFY_SOCKET", (path ? name : "@" + name).c_str());
                      return tell_everything(manager);
                  }),
                  "");
        ::unlink(file.c_str());
        ::rmdir(folder);
    }
}

TEST_F(Service, what_cannot_be_told_is_an_error) {
    EXPECT_EQ(in_service([]() -> std::string {
                  const Manager manager;
                  HOLDS(manager.bind_at(*UnixAddress::abstract(manager_name())));
                  set("NOTIFY_SOCKET", ("@" + manager_name()).c_str());
                  const Error wrong = Error::invalid_argument;
                  HOLDS(service::notify("") == wrong);
                  HOLDS(service::notify(std::string_view("A=\0", 3)) == wrong);
                  HOLDS(service::status("two\nlines") == wrong);
                  HOLDS(service::status(std::string(1001, 's')) == wrong);
                  HOLDS(service::main_process(0) == wrong);
                  HOLDS(service::notify(std::string(8 << 20, 's')) == Error::from_errno(EMSGSIZE));
                  HOLDS(manager.told().empty());
                  Error full;
                  for (int sent = 0; !full && sent < 1'000'000; ++sent) full = service::alive();
                  HOLDS(full == Error::from_errno(EAGAIN));
                  set("NOTIFY_SOCKET", "@whorl-nobody-has-this-name");
                  HOLDS(service::ready() == Error::from_errno(ECONNREFUSED));
                  set("NOTIFY_SOCKET", "/nowhere/at/all");
                  HOLDS(service::ready() == Error::from_errno(ENOENT));
                  for (const char* other : {"vsock:2:9999", "relative", "@"}) {
                      set("NOTIFY_SOCKET", other);
                      HOLDS(service::ready() == Error::from_errno(EAFNOSUPPORT));
                  }
                  set("NOTIFY_SOCKET", ("/" + std::string(200, 'n')).c_str());
                  HOLDS(service::ready() == Error::from_errno(ENAMETOOLONG));
                  set("NOTIFY_SOCKET", ("@" + manager_name()).c_str());
                  const rlimit none{3, 3};
                  HOLDS(::setrlimit(RLIMIT_NOFILE, &none) == 0);
                  HOLDS(::dup2(STDIN_FILENO, 2) == 2);
                  HOLDS(service::ready() == Error::from_errno(EMFILE));
                  return "";
              }),
              "");
}

TEST_F(Service, descriptors_are_stored_under_a_name) {
    EXPECT_EQ(in_service([]() -> std::string {
                  const Manager manager;
                  HOLDS(manager.bind_at(*UnixAddress::abstract(manager_name())));
                  set("NOTIFY_SOCKET", ("@" + manager_name()).c_str());
                  HOLDS(socket_at(9, AF_INET, SOCK_STREAM, true));
                  const int given = 9;
                  HOLDS(!service::store("web", &given, 1));
                  int kept = -1;
                  HOLDS(manager.told(&kept) == "FDSTORE=1\nFDNAME=web" && kept >= 0);
                  struct stat sent {
                  }, got{};
                  HOLDS(::fstat(given, &sent) == 0 && ::fstat(kept, &got) == 0);
                  HOLDS(sent.st_ino == got.st_ino && sent.st_dev == got.st_dev);
                  const Error wrong = Error::invalid_argument;
                  const std::string long_name(256, 'n');
                  for (const std::string& name :
                       {std::string(), std::string("a:b"), std::string("a\nb"), long_name}) {
                      HOLDS(service::store(name, &given, 1) == wrong);
                  }
                  HOLDS(service::store("web", &given, 0) == wrong);
                  HOLDS(service::store("web", &given, 254) == wrong);
                  const int closed = 10;
                  HOLDS(service::store("web", &closed, 1) == Error::from_errno(EBADF));
                  HOLDS(manager.told().empty());
                  return "";
              }),
              "");
}

struct Watch {
    const char* time;
    const char* pid;
    Error error;
    std::int64_t ns;
};

// As libsystemd has it.
bool same_interval(const Result<Nanoseconds>& found) {
#ifdef WHORL_TEST_LIBSYSTEMD
    std::uint64_t theirs = 0;
    const int answer = ::sd_watchdog_enabled(0, &theirs);
    if (answer < 0 || !found) return (answer < 0) == !found;
    return (answer > 0 ? theirs * 1000 : 0) == static_cast<std::uint64_t>(found->count());
#else
    static_cast<void>(found);
    return true;
#endif
}

TEST_F(Service, watchdog_interval_is_the_one_of_this_process) {
    const Error wrong = Error::invalid_argument;
    const Watch all[] = {
        {nullptr, nullptr, Error(), 0},
        {"3000000", nullptr, Error(), 3'000'000'000},
        {"1", "self", Error(), 1000},
        {"3000000", "1", Error(), 0},
        {"", nullptr, wrong, 0},
        {"0", nullptr, wrong, 0},
        {"soon", nullptr, wrong, 0},
        {"-5", nullptr, wrong, 0},
        {"18446744073709551615", nullptr, wrong, 0},
        {"1", "me", wrong, 0},
        {nullptr, "me", Error(), 0},
    };
    for (const Watch& each : all) {
        EXPECT_EQ(in_service([&]() -> std::string {
                      const bool us = each.pid != nullptr && std::strcmp(each.pid, "self") == 0;
                      set("WATCHDOG_USEC", each.time);
                      set("WATCHDOG_PID", us ? self().c_str() : each.pid);
                      const Result<Nanoseconds> found = service::watchdog_interval();
                      if (found.error() != each.error) return found.error().text();
                      if (found && found->count() != each.ns) return "another time";
                      HOLDS(same_interval(found));
                      return "";
                  }),
                  "")
            << (each.time != nullptr ? each.time : "-");
    }
}

}  // namespace
}  // namespace whorl::conformance
