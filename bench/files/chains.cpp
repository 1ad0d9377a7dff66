// SPDX-License-Identifier: MIT
// What write → fdatasync → rename costs as one chain: linked in the kernel, one part after the other by
// hand, and with whorl. Prints the median and the 99th percentile of a chain in microseconds, and the
// system calls that enter the ring for each.
//
//   bench_chains linked|stepwise|whorl|whorl_libev [chains] [directory]
#include <whorl/file.hpp>
#include <whorl/names.hpp>

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Place {
    std::string fresh;
    std::string good;
    std::string text = std::string(4096, 'c');

    explicit Place(const std::string& directory)
        : fresh(directory + "/chain-new"), good(directory + "/chain-good") {}
    ~Place() { ::unlink(good.c_str()); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    int open() const { return ::open(fresh.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600); }
};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "bench_chains: %s\n", what);
    std::exit(1);
}

class Ring {
  public:
    Ring(Place& place, bool linked) : place_(place), linked_(linked) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        if (io_uring_queue_init_params(8, &ring_, &params) < 0) std::exit(77);
    }
    ~Ring() { io_uring_queue_exit(&ring_); }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    void chain(int fd) {
        for (int part = 0; part < 3; ++part) {
            prepare(fd, part);
            if (!linked_) wait(1);
        }
        if (linked_) wait(3);
    }
    std::uint64_t enters() const { return enters_; }

  private:
    void prepare(int fd, int part) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        if (part == 0) io_uring_prep_write(sqe, fd, place_.text.data(), 4096, 0);
        if (part == 1) io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        if (part == 2) {
            io_uring_prep_renameat(sqe, AT_FDCWD, place_.fresh.c_str(), AT_FDCWD,
                                   place_.good.c_str(), 0);
        }
        if (linked_ && part != 2) sqe->flags |= IOSQE_IO_LINK;
    }
    void wait(unsigned count) {
        ++enters_;
        if (io_uring_submit_and_wait(&ring_, count) < 0) fail("enter");
        io_uring_cqe* cqes[4] = {};
        if (io_uring_peek_batch_cqe(&ring_, cqes, 4) != count) fail("a part is missing");
        for (unsigned index = 0; index < count; ++index) {
            if (cqes[index]->res < 0) fail("a part failed");
        }
        io_uring_cq_advance(&ring_, count);
    }

    Place& place_;
    bool linked_;
    io_uring ring_{};
    std::uint64_t enters_ = 0;
};

class Whorl {
  public:
    Whorl(Place& place, whorl::Backend backend) : place_(place), loop_(make(backend)) {}

    void chain(int fd) {
        const whorl::Result<whorl::File> file = whorl::adopt_file(loop_, fd);
        if (!file) fail("adopt");
        ended_ = 0;
        const whorl::Bytes bytes(place_.text.data(), place_.text.size());
        const auto write = loop_.submit(
            whorl::WriteAllAt{*file, whorl::Buffer::of_static(bytes), 0},
            [this](whorl::Loop&, const whorl::WriteAllAt::Done& done) { part(done.error); });
        const auto sync =
            loop_.submit(whorl::Sync{*file, true}, whorl::following(*write),
                         [this](whorl::Loop&, whorl::Sync::Done done) { part(done.error); });
        const auto rename =
            loop_.submit(whorl::Rename{place_.fresh, place_.good}, whorl::following(*sync),
                         [this](whorl::Loop&, const whorl::NameDone& done) { part(done.error); });
        if (!rename) fail("submit");
        while (ended_ != 3) {
            if (loop_.run_once()) fail("run");
        }
        if (loop_.close(*file)) fail("close");
    }
    std::uint64_t enters() const { return loop_.statistics().kernel_waits; }

  private:
    static whorl::Loop make(whorl::Backend backend) {
        whorl::LoopOptions options;
        options.backend = backend;
        whorl::Result<whorl::Loop> made = whorl::Loop::create(options);
        if (!made) std::exit(77);
        return std::move(*made);
    }
    void part(whorl::Error error) {
        if (error) fail("a part failed");
        ++ended_;
    }

    Place& place_;
    whorl::Loop loop_;
    int ended_ = 0;
};

template <class Runner>
void measure(Runner&& runner, Place& place, int chains, bool closes) {
    std::vector<double> times;
    for (int count = 0; count < chains; ++count) {
        const int fd = place.open();
        if (fd < 0) fail("open");
        const Clock::time_point start = Clock::now();
        runner.chain(fd);
        times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
        if (closes) ::close(fd);
    }
    std::sort(times.begin(), times.end());
    std::printf("%.1f us, 99th %.1f us, %.2f enters\n", times[times.size() / 2],
                times[times.size() * 99 / 100],
                static_cast<double>(runner.enters()) / static_cast<double>(chains));
}

}  // namespace

int main(int argc, char** argv) {
    const std::string mode = argc > 1 ? argv[1] : "whorl";
    const int chains = argc > 2 ? std::max(1, std::atoi(argv[2])) : 1000;
    Place place(argc > 3 ? argv[3] : ".");
    if (mode == "linked" || mode == "stepwise") {
        measure(Ring(place, mode == "linked"), place, chains, true);
    } else {
        const bool libev = mode == "whorl_libev";
        measure(Whorl(place, libev ? whorl::Backend::libev : whorl::Backend::io_uring), place,
                chains, false);
    }
    return 0;
}
