// SPDX-License-Identifier: MIT
// What LoopOptions::registered_buffers gives: random reads of 4 KiB from a file in the page cache by
// ReadAt into buffers of the loop's pool, 64 under way, on a loop without and one with the option. They
// take turns; prints the best and the median of each in nanoseconds a read, and the median of the ratios
// of neighbouring rounds.
//
//   bench_registered_whorl [rounds of 100,000 reads] [directory] [direct]
//
// `direct` opens the file with O_DIRECT.
#include <whorl/file.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr unsigned depth = 64;
constexpr std::size_t block = 4096;
constexpr std::size_t file_size = std::size_t{64} << 20;

[[noreturn]] void fail(const char* what, int status = 1) {
    std::fprintf(stderr, "bench_registered_whorl: %s\n", what);
    std::exit(status);
}

class Reader {
  public:
    Reader(int fd, bool registered) : loop_(make(registered)) {
        const whorl::Result<whorl::File> file = whorl::adopt_file(loop_, ::dup(fd));
        if (!file) fail("adopt");
        file_ = *file;
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader() { (void)loop_.drain(std::chrono::seconds(5)); }

    double nanoseconds_a_read(unsigned reads) {
        left_ = reads;
        under_way_ = 0;
        random_.seed(7);
        const auto start = std::chrono::steady_clock::now();
        for (unsigned slot = 0; slot < depth; ++slot) begin(loop_.buffer(block));
        while (under_way_ != 0) {
            if (loop_.run_once()) fail("a turn");
        }
        const std::chrono::duration<double, std::nano> time =
            std::chrono::steady_clock::now() - start;
        return time.count() / reads;
    }
    const whorl::Loop& loop() const { return loop_; }

  private:
    static whorl::Loop make(bool registered) {
        whorl::LoopOptions options;
        options.backend = whorl::Backend::io_uring;
        options.registered_buffers = registered;
        whorl::Result<whorl::Loop> made = whorl::Loop::create(options);
        if (!made) fail("this machine refuses io_uring", 77);
        if (registered && !made->backend_report().registered_buffers) fail("no table", 77);
        return std::move(*made);
    }
    void begin(whorl::Buffer buffer) {
        if (left_ == 0) return;
        --left_;
        ++under_way_;
        const std::uint64_t offset = random_() % (file_size / block) * block;
        const auto made = loop_.submit(whorl::ReadAt{file_, std::move(buffer), offset},
                                       [this](whorl::Loop&, whorl::ReadAt::Done done) {
                                           if (done.buffer.size() != block) fail("a read failed");
                                           --under_way_;
                                           begin(std::move(done.buffer));
                                       });
        if (!made) fail("submit");
    }

    whorl::Loop loop_;
    whorl::File file_;
    std::minstd_rand random_;
    unsigned left_ = 0;
    unsigned under_way_ = 0;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 21;
    const std::string path = std::string(argc > 2 ? argv[2] : ".") + "/registered-whorl-file";
    const bool direct = argc > 3 && std::string_view(argv[3]) == "direct";
    const int writer = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const std::vector<char> bytes(1 << 20, 'r');
    for (std::size_t size = 0; writer >= 0 && size < file_size; size += bytes.size()) {
        if (::write(writer, bytes.data(), bytes.size()) < 0) fail("write");
    }
    if (direct && ::fsync(writer) != 0) fail("fsync");
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (fd < 0 || ::close(writer) != 0 || ::unlink(path.c_str()) != 0) fail("open");
    const unsigned reads = rounds > 1 ? 100'000 : 1'000;
    std::vector<double> plain, registered, ratios;
    {
        Reader without(fd, false);
        Reader with(fd, true);
        for (int round = 0; round < rounds; ++round) {
            plain.push_back(without.nanoseconds_a_read(reads));
            registered.push_back(with.nanoseconds_a_read(reads));
            ratios.push_back(registered.back() / plain.back());
        }
        const whorl::Statistics& statistics = with.loop().statistics();
        if (statistics.transfers_registered == 0) fail("the kernel refuses to lock memory", 77);
    }
    std::printf("plain      best %6.0f ns, median %6.0f ns\n",
                *std::min_element(plain.begin(), plain.end()), median(plain));
    std::printf("registered best %6.0f ns, median %6.0f ns\n",
                *std::min_element(registered.begin(), registered.end()), median(registered));
    std::printf("ratio      median %.3f\n", median(ratios));
    ::close(fd);
    return 0;
}
