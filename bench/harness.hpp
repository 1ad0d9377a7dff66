// SPDX-License-Identifier: MIT
// What every benchmark program of one process shares: its flags and its line of output.
//
//   PROGRAM --case NAME [--count N] [--operations M] [--other-cpu N]
//
// does M operations of the case on N things (timers, pairs, jobs) and prints one line of JSON:
// "ns", the processor time of an operation, what else the case tells, and "checksum", which all rivals
// must agree on for the same case, count and operations. One case a process: `bench/compare` runs the
// rivals' processes in turn, so what the machine does beside us falls on all of them alike, and rivals
// that export each other's names (libev and libevent) are never in one program.
//
// Exit status: 0; 2 for wrong flags; 77 when the rival has no such case.
#pragma once

#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace bench {

// By the system call itself: some programs replace clock_gettime with a virtual clock.
inline std::uint64_t clock_read(clockid_t clock) {
    timespec time{};
    (void)syscall(SYS_clock_gettime, clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

// Xorshift; the same numbers on every run and in every rival.
class Random {
  public:
    std::uint64_t below(std::uint64_t bound) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return static_cast<std::uint64_t>(static_cast<double>(state_ >> 11) * 0x1p-53 *
                                          static_cast<double>(bound));
    }

  private:
    std::uint64_t state_ = 88172645463325252u;
};

// Keeps the compiler from knowing what is at `pointer`, or that nobody looks.
inline void escape(void* pointer) { asm volatile("" : : "g"(pointer) : "memory"); }

class Run {
  public:
    Run(const char* rival, int argc, char** argv) : rival_(rival) {
        for (int index = 1; index + 1 < argc; index += 2) {
            const std::string flag = argv[index];
            const char* text = argv[index + 1];
            if (flag == "--case") name_ = text;
            else if (flag == "--count") count_ = std::strtoull(text, nullptr, 10);
            else if (flag == "--operations") operations_ = std::strtoull(text, nullptr, 10);
            else if (flag == "--other-cpu") other_cpu_ = std::atoi(text);
            else wrong(argv[0]);
        }
        if (argc % 2 == 0 || name_.empty() || count_ == 0 || operations_ == 0) wrong(argv[0]);
    }

    bool is(const char* name) const { return name_ == name; }
    std::size_t count() const { return count_; }
    std::uint64_t operations() const { return operations_; }

    // Binds the calling thread to the CPU that was named for a second thread.
    void pin_other() const {
        if (other_cpu_ < 0) return;
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(static_cast<unsigned>(other_cpu_), &set);
        (void)sched_setaffinity(0, sizeof set, &set);  // a CPU that is not ours changes nothing
    }

    // Does the work, which is all the operations, and takes its processor time: all threads.
    template <class Work>
    void measure(Work work) {
        const std::uint64_t wall = clock_read(CLOCK_MONOTONIC);
        const std::uint64_t begin = clock_read(CLOCK_PROCESS_CPUTIME_ID);
        work();
        const std::uint64_t end = clock_read(CLOCK_PROCESS_CPUTIME_ID);
        set_ns(static_cast<double>(end - begin) / static_cast<double>(operations_));
        tell("wall_ns", static_cast<double>(clock_read(CLOCK_MONOTONIC) - wall) /
                            static_cast<double>(operations_));
    }
    // For cases whose figure is not processor time.
    void set_ns(double ns) { ns_ = ns; }
    void tell(const char* name, double value) { told_.emplace_back(name, value); }
    void add(std::uint64_t value) { checksum_ += value; }

    int finish() const {
        std::printf(
            "{\"rival\":\"%s\",\"case\":\"%s\",\"count\":%zu,\"operations\":%llu,\"ns\":%.3f",
            rival_, name_.c_str(), count_, static_cast<unsigned long long>(operations_), ns_);
        for (const auto& [name, value] : told_) std::printf(",\"%s\":%.3f", name, value);
        std::printf(",\"checksum\":\"%llx\"}\n", static_cast<unsigned long long>(checksum_));
        return 0;
    }
    static int skip() { return 77; }

  private:
    [[noreturn]] static void wrong(const char* program) {
        std::fprintf(stderr, "usage: %s --case NAME [--count N] [--operations M] [--other-cpu N]\n",
                     program);
        std::exit(2);
    }

    const char* rival_;
    std::string name_;
    std::size_t count_ = 1;
    std::uint64_t operations_ = 1000;
    int other_cpu_ = -1;
    double ns_ = 0;
    std::uint64_t checksum_ = 0;
    std::vector<std::pair<const char*, double>> told_;
};

}  // namespace bench
