// SPDX-License-Identifier: MIT
// Goal: what coverage-guided fuzzing finds stays found, and a target cannot rot where there is no clang.
// Method: main(seed, inputs_max, first) runs a target on inputs that it draws itself, each from the seed
// and its own number; or on files given by name, such as the corpus or what libFuzzer has found. What
// ends the program says how to repeat it.
#include "fuzz/fuzz.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

constexpr std::size_t size_max = 2048;

char repeat_with[512];

void tell() { static_cast<void>(!::write(STDOUT_FILENO, repeat_with, std::strlen(repeat_with))); }

void died(int) {
    tell();
    std::_Exit(1);
}

int run_file(const char* program, const char* path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::printf("%s: cannot be read\n", path);
        return 1;
    }
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    std::snprintf(repeat_with, sizeof repeat_with, "repeat with: %s %s\n", program, path);
    static_cast<void>(
        fuzz::target(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
    return 0;
}

bool is_number(const char* text) {
    char* end = nullptr;
    static_cast<void>(std::strtoull(text, &end, 0));
    return end != text && *end == 0;
}

}  // namespace

int main(int argc, char** argv) {
    std::signal(SIGABRT, &died);
    std::signal(SIGSEGV, &died);
    if (&__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(&tell);
    if (argc > 1 && !is_number(argv[1])) {
        for (int index = 1; index < argc; ++index) {
            if (int status = run_file(argv[0], argv[index])) return status;
        }
        std::printf("%s: %d files\n", fuzz::target_name, argc - 1);
        return 0;
    }
    const unsigned long long seed = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 1;
    const unsigned long long inputs_max = argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 1000;
    const unsigned long long first = argc > 3 ? std::strtoull(argv[3], nullptr, 0) : 0;
    std::vector<std::uint8_t> data(size_max);
    for (unsigned long long input = first; input < inputs_max; ++input) {
        model::Random random(seed * 0x1'0000'0000 + input);
        const std::size_t size = fuzz::draw(random, data.data(), size_max);
        std::snprintf(repeat_with, sizeof repeat_with, "repeat with: %s %llu %llu %llu\n", argv[0],
                      seed, input + 1, input);
        // A copy of its own size, so that AddressSanitizer sees a read behind the end.
        const std::vector<std::uint8_t> exact(data.begin(),
                                              data.begin() + static_cast<std::ptrdiff_t>(size));
        static_cast<void>(fuzz::target(exact.data(), exact.size()));
    }
    std::printf("%s: seed %llu inputs %llu\n", fuzz::target_name, seed, inputs_max - first);
    return 0;
}
