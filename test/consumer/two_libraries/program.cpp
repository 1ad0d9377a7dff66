// SPDX-License-Identifier: MIT
// Goal: two libraries of one process may both use whorl. Method: both run, and the program too;
// `program apart` says that each has a whorl of its own, `program shared` that there is one.
#include <whorl/whorl.hpp>

#include <cstdio>
#include <cstring>

extern "C" {
int run_one();
int run_two();
const void* whorl_of_one();
const void* whorl_of_two();
}

int main(int, char** words) {
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    bool fired = false;
    if (!loop || !loop->after(std::chrono::milliseconds(1), [&](whorl::Loop&, whorl::Expired) {
            // Loops of the others, inside a handler of this one.
            fired = run_one() == 3 && run_two() == 3;
        }))
        return 1;
    if (loop->run() || !fired) return 2;
    const void* mine = reinterpret_cast<const void*>(&whorl::detail::watched_of);
    const bool apart = whorl_of_one() != whorl_of_two() && whorl_of_one() != mine;
    const bool shared = whorl_of_one() == whorl_of_two() && whorl_of_one() == mine;
    if (words[1] == nullptr) return 3;
    if (std::strcmp(words[1], "apart") == 0 ? !apart : !shared) return 4;
    std::printf("whorl %s, %s\n", WHORL_VERSION_STRING, words[1]);
    return 0;
}
