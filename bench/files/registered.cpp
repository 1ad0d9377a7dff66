// SPDX-License-Identifier: MIT
// Whether registered buffers and files pay: random reads of 4 KiB from a file in the page cache by a bare
// ring, 64 under way, plain, with registered buffers, with a registered file, and with both. The ways take
// turns; prints the best and the median of each in nanoseconds a read.
//
//   bench_registered [rounds of 100,000 reads] [directory]
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr unsigned depth = 64;
constexpr std::size_t block = 4096;
constexpr std::size_t file_size = std::size_t{64} << 20;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "bench_registered: %s\n", what);
    std::exit(1);
}

class Reader {
  public:
    explicit Reader(int fd) : fd_(fd) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        if (io_uring_queue_init_params(depth, &ring_, &params) < 0) std::exit(77);
        memory_ = static_cast<char*>(::mmap(nullptr, depth * block, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (memory_ == MAP_FAILED) fail("mmap");
        const iovec all{memory_, depth * block};
        if (io_uring_register_buffers(&ring_, &all, 1) < 0) fail("register buffers");
        if (io_uring_register_files(&ring_, &fd_, 1) < 0) fail("register files");
    }
    ~Reader() {
        io_uring_queue_exit(&ring_);
        ::munmap(memory_, depth * block);
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    double nanoseconds_a_read(bool buffers, bool files, unsigned reads) {
        std::minstd_rand random(7);
        const auto start = std::chrono::steady_clock::now();
        unsigned begun = 0, ended = 0;
        for (; begun < depth; ++begun) begin(begun, buffers, files, random());
        while (ended < reads) {
            if (io_uring_submit_and_wait(&ring_, 1) < 0) fail("enter");
            unsigned head = 0, count = 0;
            io_uring_cqe* cqe = nullptr;
            io_uring_for_each_cqe(&ring_, head, cqe) {
                if (cqe->res != static_cast<int>(block)) fail("a read failed");
                ++count;
                ++ended;
                if (begun++ < reads) {
                    begin(static_cast<unsigned>(cqe->user_data), buffers, files, random());
                }
            }
            io_uring_cq_advance(&ring_, count);
        }
        const std::chrono::duration<double, std::nano> time =
            std::chrono::steady_clock::now() - start;
        return time.count() / reads;
    }

  private:
    void begin(unsigned slot, bool buffers, bool files, std::uint64_t random) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        const std::uint64_t offset = random % (file_size / block) * block;
        char* data = memory_ + slot * block;
        const int fd = files ? 0 : fd_;
        if (buffers) io_uring_prep_read_fixed(sqe, fd, data, block, offset, 0);
        else io_uring_prep_read(sqe, fd, data, block, offset);
        if (files) sqe->flags |= IOSQE_FIXED_FILE;
        sqe->user_data = slot;
    }

    int fd_;
    io_uring ring_{};
    char* memory_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 21;
    const std::string path = std::string(argc > 2 ? argv[2] : ".") + "/registered-file";
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ::unlink(path.c_str()) != 0) fail("open");
    const std::vector<char> bytes(1 << 20, 'r');
    for (std::size_t size = 0; size < file_size; size += bytes.size()) {
        if (::write(fd, bytes.data(), bytes.size()) < 0) fail("write");
    }
    Reader reader(fd);
    const unsigned reads = rounds > 1 ? 100'000 : 1'000;
    const char* const names[] = {"plain", "registered buffers", "registered file", "both"};
    std::vector<double> times[4];
    for (int round = 0; round < rounds; ++round) {
        for (unsigned way = 0; way < 4; ++way) {
            times[way].push_back(reader.nanoseconds_a_read((way & 1) != 0, (way & 2) != 0, reads));
        }
    }
    for (unsigned way = 0; way < 4; ++way) {
        std::sort(times[way].begin(), times[way].end());
        std::printf("%-19s best %6.0f ns, median %6.0f ns\n", names[way], times[way].front(),
                    times[way][times[way].size() / 2]);
    }
    ::close(fd);
    return 0;
}
