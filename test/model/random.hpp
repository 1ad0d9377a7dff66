// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

// What the randomised programs share: numbers that are the same everywhere for one seed, and the end
// of a run that went wrong.

namespace model {

// splitmix64: small, good enough, and not a library's that may change. Source: Steele, Lea, Flood 2014.
//
// Instead of a seed it may be given bytes, as a fuzzer draws them: numbers are read from them, small ones
// from one byte so that a change of one byte changes one decision. After the last byte all are zero.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    Random(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

    bool from_bytes() const { return end_ != nullptr; }
    bool exhausted() const { return at_ == end_; }

    std::uint64_t next() {
        if (from_bytes()) return take(8);
        std::uint64_t z = state_ += 0x9E37'79B9'7F4A'7C15;
        z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9;
        z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EB;
        return z ^ (z >> 31);
    }
    // From 0 to limit - 1; the bias does not matter here.
    std::uint64_t below(std::uint64_t limit) {
        if (from_bytes()) return take(limit <= 0x100 ? 1 : limit <= 0x1'0000 ? 2 : 8) % limit;
        return next() % limit;
    }
    bool one_in(std::uint64_t count) { return below(count) == 0; }

  private:
    std::uint64_t take(int count) {
        std::uint64_t value = 0;
        for (; count > 0 && at_ != end_; --count) value = value << 8 | *at_++;
        return value;
    }

    std::uint64_t state_ = 0;
    const std::uint8_t* at_ = nullptr;
    const std::uint8_t* end_ = nullptr;
};

struct Run {
    const char* name;
    std::uint64_t seed = 1;
    std::uint64_t events_max = 0;
    std::uint64_t event = 0;
    std::uint64_t checksum = 0;
    bool fuzzed = false;  // who draws the bytes says how to repeat it

    explicit Run(const char* program) : name(program), fuzzed(true) {}
    Run(const char* program, int argc, char** argv, std::uint64_t events_default)
        : name(program), events_max(events_default) {
        if (argc > 1) seed = std::strtoull(argv[1], nullptr, 0);
        if (argc > 2) events_max = std::strtoull(argv[2], nullptr, 0);
    }
    void note(std::uint64_t value) { checksum = (checksum ^ value) * 0x0000'0100'0000'01B3; }
    void print() const {
        std::printf("%s: seed %llu events %llu checksum %016llx\n", name,
                    static_cast<unsigned long long>(seed), static_cast<unsigned long long>(event),
                    static_cast<unsigned long long>(checksum));
    }
    [[noreturn]] void fail(const char* what) const {
        if (fuzzed) {
            std::printf("%s: %s\n", name, what);
            std::fflush(stdout);
            std::abort();
        }
        std::printf("%s: seed %llu event %llu: %s\nrepeat with: %s %llu %llu\n", name,
                    static_cast<unsigned long long>(seed), static_cast<unsigned long long>(event),
                    what, name, static_cast<unsigned long long>(seed),
                    static_cast<unsigned long long>(event + 1));
        std::exit(1);
    }
    void expect(bool condition, const char* what) const {
        if (!condition) fail(what);
    }
};

}  // namespace model
