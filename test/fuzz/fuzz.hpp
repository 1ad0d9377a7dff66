// SPDX-License-Identifier: MIT
#pragma once

#include "model/random.hpp"

#include <cstddef>
#include <cstdint>

// A fuzz target is one function that does what its bytes say and compares with an oracle; what differs
// ends the program through model::Run::fail. It is built twice: with libFuzzer, which finds bytes by
// watching which code they reach, and with plain.cpp, a program that draws its own.

namespace fuzz {

extern const char* const target_name;
int target(const std::uint8_t* data, std::size_t size);

// Bytes for one input of the plain program; where random ones would get nowhere, they are drawn better.
std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max);

// Any bytes, of a size that is small more often than large.
inline std::size_t draw_any(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    const std::size_t size = 1 + random.below(1 + random.below(size_max));
    for (std::size_t index = 0; index < size; ++index) {
        data[index] = static_cast<std::uint8_t>(random.next());
    }
    return size;
}

}  // namespace fuzz
