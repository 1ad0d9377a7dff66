// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/time.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

// The trace of a simulated world. Most runs succeed and nobody reads theirs, so a line is kept as its
// format and its numbers, and is made text when somebody asks.

namespace whorl::detail {

class SimTrace {
  public:
    // As printf, with at most four numbers and literals: what a const char* points to must stay.
    template <std::size_t Size, class... Arguments>
    void line(Instant now, const char (&format)[Size], Arguments... arguments) {
        static_assert(sizeof...(Arguments) <= arguments_max);
        Line& line = begin(now, format);
        mix_text(format, Size - 1);
        (add(line, arguments), ...);
        if (stream_ != nullptr) print(line);
    }
    // A line of the user's own.
    void text(Instant now, std::string_view words);

    std::uint64_t hash() const noexcept { return hash_; }
    // The last lines, at most so many, oldest first.
    std::vector<std::string> lines(std::size_t most) const;
    void copy_to(std::FILE* stream) noexcept { stream_ = stream; }

    static constexpr std::size_t lines_max = 4096;

  private:
    static constexpr std::size_t arguments_max = 4;
    struct Line {
        Instant time;
        const char* format;  // null: `words` is the text
        std::uint64_t numbers[arguments_max];
        std::uint32_t count;
        std::string words;
    };

    Line& begin(Instant now, const char* format);
    template <class Argument>
    void add(Line& line, Argument argument) {
        std::uint64_t& number = line.numbers[line.count++];
        if constexpr (std::is_same_v<Argument, const char*>) {
            number = reinterpret_cast<std::uintptr_t>(argument);
            mix_text(argument, std::strlen(argument));
        } else {
            number = static_cast<std::uint64_t>(argument);
            mix(number);
        }
    }
    void mix(std::uint64_t value) noexcept {
        hash_ = (hash_ ^ value) * 0x9E3779B97F4A7C15u;
        hash_ ^= hash_ >> 32;
    }
    void mix_text(const char* text, std::size_t size) noexcept {
        mix(size);
        for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
            unsigned char bytes[sizeof(std::uint64_t)] = {};
            std::memcpy(bytes, text + at, size - at < sizeof bytes ? size - at : sizeof bytes);
            std::uint64_t word = 0;  // the same on every byte order
            for (const unsigned char byte : bytes) word = word << 8 | byte;
            mix(word);
        }
    }
    void print(const Line& line) const;
    static std::string format(const Line& line);

    std::vector<Line> lines_;
    std::size_t next_ = 0;
    std::uint64_t hash_ = 14695981039346656037u;
    std::FILE* stream_ = nullptr;
};

}  // namespace whorl::detail
