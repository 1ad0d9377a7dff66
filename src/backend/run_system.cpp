// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/file_calls.hpp"
#include "backend/host_calls.hpp"
#include "backend/process_calls.hpp"
#include "backend/run_seam.hpp"

#include <new>

// The system in front of a recorded or repeated run: one line for each call, which says what the call writes
// besides its answer. Recording makes the call and notes both; replaying makes none.

namespace whorl::detail {

const char* name_of(RunCall call) noexcept {
    static constexpr const char* names[] = {
#define WHORL_RUN_CALL_NAME(name) #name,
        WHORL_RUN_CALLS(WHORL_RUN_CALL_NAME)
#undef WHORL_RUN_CALL_NAME
    };
    return call < RunCall::count ? names[static_cast<unsigned>(call)] : "unknown";
}

const char* text_of(RunAsk ask) noexcept {
    static constexpr const char* texts[] = {
#define WHORL_RUN_ASK_TEXT(name, text) text,
        WHORL_RUN_ASKS(WHORL_RUN_ASK_TEXT)
#undef WHORL_RUN_ASK_TEXT
    };
    return ask < RunAsk::count ? texts[static_cast<unsigned>(ask)] : "did something unknown";
}

namespace {

// Makes the call, or has it answered.
template <class Call>
auto through(RunSeam& seam, RunCall kind, Call&& call, const RunOuts& outs = {}) noexcept {
    using Answer = decltype(call());
    if (!seam.concerns()) return call();
    if (seam.replays()) return static_cast<Answer>(seam.answer(kind, outs));
    const Answer answer = call();
    seam.called(kind, static_cast<std::int64_t>(answer), outs);
    return answer;
}

class RunFileCalls final : public FileCalls {
  public:
    RunFileCalls(FileCalls& real, RunSeam& seam) noexcept : real_(real), seam_(seam) {}

    int openat2(int directory, const char* path, const OpenHow& how) noexcept override {
        return through(seam_, RunCall::openat2,
                       [&] { return real_.openat2(directory, path, how); });
    }
    ssize_t preadv(int fd, const iovec* parts, int count, std::uint64_t offset) noexcept override {
        return through(seam_, RunCall::preadv,
                       [&] { return real_.preadv(fd, parts, count, offset); });
    }
    ssize_t pwritev2(int fd, const iovec* parts, int count, std::uint64_t offset,
                     int flags) noexcept override {
        return through(seam_, RunCall::pwritev2,
                       [&] { return real_.pwritev2(fd, parts, count, offset, flags); });
    }
    int fsync(int fd, bool data_only) noexcept override {
        return through(seam_, RunCall::fsync, [&] { return real_.fsync(fd, data_only); });
    }
    int sync_file_range(int fd, std::uint64_t offset, std::uint64_t length,
                        unsigned flags) noexcept override {
        return through(seam_, RunCall::sync_file_range,
                       [&] { return real_.sync_file_range(fd, offset, length, flags); });
    }
    int ftruncate(int fd, std::uint64_t size) noexcept override {
        return through(seam_, RunCall::ftruncate, [&] { return real_.ftruncate(fd, size); });
    }
    int fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept override {
        return through(seam_, RunCall::fallocate,
                       [&] { return real_.fallocate(fd, mode, offset, length); });
    }
    int fadvise(int fd, std::uint64_t offset, std::uint64_t length, int advice) noexcept override {
        return through(seam_, RunCall::fadvise,
                       [&] { return real_.fadvise(fd, offset, length, advice); });
    }
    int statx(int directory, const char* path, int flags, unsigned mask,
              struct statx& status) noexcept override {
        return through(seam_, RunCall::statx,
                       [&] { return real_.statx(directory, path, flags, mask, status); },
                       {{{&status, sizeof status}, {}}});
    }
    int renameat2(int directory, const char* from, const char* to,
                  unsigned flags) noexcept override {
        return through(seam_, RunCall::renameat2,
                       [&] { return real_.renameat2(directory, from, to, flags); });
    }
    int linkat(int directory, const char* from, const char* to) noexcept override {
        return through(seam_, RunCall::linkat, [&] { return real_.linkat(directory, from, to); });
    }
    int symlinkat(const char* text, int directory, const char* path) noexcept override {
        return through(seam_, RunCall::symlinkat,
                       [&] { return real_.symlinkat(text, directory, path); });
    }
    int unlinkat(int directory, const char* path, int flags) noexcept override {
        return through(seam_, RunCall::unlinkat,
                       [&] { return real_.unlinkat(directory, path, flags); });
    }
    int mkdirat(int directory, const char* path, unsigned mode) noexcept override {
        return through(seam_, RunCall::mkdirat,
                       [&] { return real_.mkdirat(directory, path, mode); });
    }
    ssize_t readlinkat(int directory, const char* path, char* text,
                       std::size_t size) noexcept override {
        return through(seam_, RunCall::readlinkat,
                       [&] { return real_.readlinkat(directory, path, text, size); },
                       {{{text, size, true}, {}}});
    }
    ssize_t getdents64(int fd, void* entries, std::size_t size) noexcept override {
        return through(seam_, RunCall::getdents64,
                       [&] { return real_.getdents64(fd, entries, size); },
                       {{{entries, size, true}, {}}});
    }
    std::int64_t lseek(int fd, std::int64_t offset, int whence) noexcept override {
        return through(seam_, RunCall::lseek, [&] { return real_.lseek(fd, offset, whence); });
    }

    int inotify_init1(int flags) noexcept override {
        return through(seam_, RunCall::inotify_init1, [&] { return real_.inotify_init1(flags); });
    }
    int inotify_add_watch(int fd, const char* path, std::uint32_t mask) noexcept override {
        return through(seam_, RunCall::inotify_add_watch,
                       [&] { return real_.inotify_add_watch(fd, path, mask); });
    }
    int inotify_rm_watch(int fd, int number) noexcept override {
        return through(seam_, RunCall::inotify_rm_watch,
                       [&] { return real_.inotify_rm_watch(fd, number); });
    }

  private:
    FileCalls& real_;
    RunSeam& seam_;
};

class RunHostCalls final : public HostCalls {
  public:
    RunHostCalls(HostCalls& real, RunSeam& seam) noexcept : real_(real), seam_(seam) {}

    int resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept override {
        return seam_.resolve(question, found, most);
    }
    std::int64_t wall_clock_ns() noexcept override {
        return through(seam_, RunCall::wall_clock, [&] { return real_.wall_clock_ns(); });
    }
    int wall_timer() noexcept override {
        return through(seam_, RunCall::wall_timer, [&] { return real_.wall_timer(); });
    }
    int wall_timer_set(int fd, std::int64_t when_ns) noexcept override {
        return through(seam_, RunCall::wall_timer_set,
                       [&] { return real_.wall_timer_set(fd, when_ns); });
    }

  private:
    HostCalls& real_;
    RunSeam& seam_;
};

class RunProcessCalls final : public ProcessCalls {
  public:
    RunProcessCalls(ProcessCalls& real, RunSeam& seam) noexcept : real_(real), seam_(seam) {}

    int signals_open(std::uint64_t mask, std::uint32_t& key) noexcept override {
        return through(seam_, RunCall::signals_open, [&] { return real_.signals_open(mask, key); },
                       {{{&key, sizeof key}, {}}});
    }
    void signals_close(int fd, std::uint32_t key) noexcept override {
        static_cast<void>(through(seam_, RunCall::signals_close, [&] {
            real_.signals_close(fd, key);
            return 0;
        }));
    }
    int signal_take(int fd, SignalInfo& info) noexcept override {
        return through(seam_, RunCall::signal_take, [&] { return real_.signal_take(fd, info); },
                       {{{&info, sizeof info}, {}}});
    }
    int spawn(SpawnBlock& block) noexcept override {
        return through(seam_, RunCall::spawn, [&] { return real_.spawn(block); });
    }
    int child_wait(int pidfd, ChildExit* ended) noexcept override {
        return through(seam_, RunCall::child_wait, [&] { return real_.child_wait(pidfd, ended); },
                       {{{ended, sizeof *ended}, {}}});
    }
    int child_settle(int pidfd, Nanoseconds most) noexcept override {
        return through(seam_, RunCall::child_settle,
                       [&] { return real_.child_settle(pidfd, most); });
    }
    int child_signal(int pidfd, int number) noexcept override {
        return through(seam_, RunCall::child_signal,
                       [&] { return real_.child_signal(pidfd, number); });
    }

  private:
    ProcessCalls& real_;
    RunSeam& seam_;
};

class RunSystem final : public System, public Allocated<RunSystem> {
  public:
    RunSystem(System& real, RunSeam& seam) noexcept
        : real_(real), seam_(seam), files_(real.file_calls(), seam), host_(real.host_calls(), seam),
          processes_(real.process_calls(), seam) {}

    Instant now() noexcept override {
        return Instant(Nanoseconds(through(seam_, RunCall::now, [&]() -> std::int64_t {
            return real_.now().time_since_epoch().count();
        })));
    }

    int socket(int family, int type, int protocol) noexcept override {
        return through(seam_, RunCall::socket,
                       [&] { return real_.socket(family, type, protocol); });
    }
    int bind(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return through(seam_, RunCall::bind, [&] { return real_.bind(fd, address, length); });
    }
    int listen(int fd, int backlog) noexcept override {
        return through(seam_, RunCall::listen, [&] { return real_.listen(fd, backlog); });
    }
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return through(seam_, RunCall::connect, [&] { return real_.connect(fd, address, length); });
    }
    int socketpair(int family, int type, int protocol, int fds[2]) noexcept override {
        return through(seam_, RunCall::socketpair,
                       [&] { return real_.socketpair(family, type, protocol, fds); },
                       {{{fds, 2 * sizeof(int)}, {}}});
    }
    int socket_mode(int fd, mode_t mode) noexcept override {
        return through(seam_, RunCall::socket_mode, [&] { return real_.socket_mode(fd, mode); });
    }
    int set_blocking(int fd) noexcept override {
        return through(seam_, RunCall::set_blocking, [&] { return real_.set_blocking(fd); });
    }
    int unlink_socket(const char* path) noexcept override {
        return through(seam_, RunCall::unlink_socket, [&] { return real_.unlink_socket(path); });
    }
    int shutdown(int fd, int how) noexcept override {
        return through(seam_, RunCall::shutdown, [&] { return real_.shutdown(fd, how); });
    }
    int close(int fd) noexcept override {
        return through(seam_, RunCall::close, [&] { return real_.close(fd); });
    }
    int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return through(seam_, RunCall::getsockname,
                       [&] { return real_.getsockname(fd, address, length); },
                       {{{length, sizeof *length}, {address, *length}}});
    }
    int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return through(seam_, RunCall::getpeername,
                       [&] { return real_.getpeername(fd, address, length); },
                       {{{length, sizeof *length}, {address, *length}}});
    }
    int setsockopt(int fd, int level, int name, const void* value,
                   socklen_t size) noexcept override {
        return through(seam_, RunCall::setsockopt,
                       [&] { return real_.setsockopt(fd, level, name, value, size); });
    }
    int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept override {
        return through(seam_, RunCall::getsockopt,
                       [&] { return real_.getsockopt(fd, level, name, value, size); },
                       {{{size, sizeof *size}, {value, *size}}});
    }

    ssize_t recv(int fd, void* data, std::size_t size, int flags) noexcept override {
        return through(seam_, RunCall::recv, [&] { return real_.recv(fd, data, size, flags); },
                       {{{data, size, true}, {}}});
    }
    ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept override {
        return through(seam_, RunCall::recvmsg, [&] { return real_.recvmsg(fd, message, flags); });
    }
    ssize_t read(int fd, void* data, std::size_t size) noexcept override {
        return through(seam_, RunCall::read, [&] { return real_.read(fd, data, size); },
                       {{{data, size, true}, {}}});
    }
    ssize_t write(int fd, const void* data, std::size_t size) noexcept override {
        return through(seam_, RunCall::write, [&] { return real_.write(fd, data, size); });
    }

    int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) noexcept override {
        return through(seam_, RunCall::sendmmsg,
                       [&] { return real_.sendmmsg(fd, messages, count, flags); });
    }
    ssize_t write_quietly(int fd, const void* data, std::size_t size) noexcept override {
        return through(seam_, RunCall::write, [&] { return real_.write_quietly(fd, data, size); });
    }
    ssize_t writev_quietly(int fd, const iovec* parts, int count) noexcept override {
        return through(seam_, RunCall::write,
                       [&] { return real_.writev_quietly(fd, parts, count); });
    }
    ssize_t splice(int from, int to, std::size_t size) noexcept override {
        return through(seam_, RunCall::splice, [&] { return real_.splice(from, to, size); });
    }
    ssize_t tee(int from, int to, std::size_t size) noexcept override {
        return through(seam_, RunCall::tee, [&] { return real_.tee(from, to, size); });
    }
    int pipe2(int fds[2], int flags) noexcept override {
        return through(seam_, RunCall::pipe2, [&] { return real_.pipe2(fds, flags); },
                       {{{fds, 2 * sizeof(int)}, {}}});
    }
    int duplicate(int fd) noexcept override {
        return through(seam_, RunCall::duplicate, [&] { return real_.duplicate(fd); });
    }
    int pipe_access(int fd) noexcept override {
        return through(seam_, RunCall::pipe_access, [&] { return real_.pipe_access(fd); });
    }

    int eventfd(unsigned initial, int flags) noexcept override {
        return through(seam_, RunCall::eventfd, [&] { return real_.eventfd(initial, flags); });
    }
    int epoll_create1(int flags) noexcept override {
        return through(seam_, RunCall::epoll_create1, [&] { return real_.epoll_create1(flags); });
    }
    int epoll_ctl(int epoll, int action, int fd, epoll_event* event) noexcept override {
        return through(seam_, RunCall::epoll_ctl,
                       [&] { return real_.epoll_ctl(epoll, action, fd, event); });
    }
    int poll_now(pollfd* entries, nfds_t count) noexcept override {
        return through(seam_, RunCall::poll_now, [&] { return real_.poll_now(entries, count); },
                       {{{entries, count * sizeof *entries}, {}}});
    }

    FileCalls& file_calls() noexcept override { return files_; }
    HostCalls& host_calls() noexcept override { return host_; }
    ProcessCalls& process_calls() noexcept override { return processes_; }
    RingCalls& ring_calls() noexcept override { return real_.ring_calls(); }

  private:
    System& real_;
    RunSeam& seam_;
    RunFileCalls files_;
    RunHostCalls host_;
    RunProcessCalls processes_;
};

}  // namespace

System* make_run_system(System& real, RunSeam& seam) noexcept {
    return new (std::nothrow) RunSystem(real, seam);
}

}  // namespace whorl::detail
