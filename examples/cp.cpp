// SPDX-License-Identifier: MIT
// Copies a file, or a directory with all that is in it: many files at once, holes stay holes, and a
// target is replaced only by a whole copy.
//
//   cp [--backend automatic|io_uring|libev] [--progress] SOURCE TARGET
//
// Exit status: 0 when everything was copied, 1 when something was not; what, and why, is said on stderr.
#include "tree_copy.hpp"

#include <whorl/whorl.hpp>

#include <cstdio>
#include <cstring>
#include <string>

namespace {

int usage() {
    std::fprintf(stderr, "cp: usage: see the head of cp.cpp\n");
    return 1;
}

// Twenty times a second is enough to look at.
void show_progress(whorl::Loop& loop, const TreeCopy& copy) {
    const auto show = [&copy](whorl::Loop&, whorl::Expired) {
        std::fprintf(stderr, "\r%llu files, %llu bytes", copy.files(), copy.bytes());
    };
    static_cast<void>(loop.every(std::chrono::milliseconds(50), show));
}

}  // namespace

int main(int count, char** words) {
    whorl::LoopOptions options;
    bool progress = false;
    int index = 1;
    for (; index < count && words[index][0] == '-'; ++index) {
        const std::string word = words[index];
        if (word == "--progress") {
            progress = true;
        } else if (word == "--backend" && index + 1 < count) {
            const std::string name = words[++index];
            if (name == "io_uring") options.backend = whorl::Backend::io_uring;
            else if (name == "libev") options.backend = whorl::Backend::libev;
            else if (name != "automatic") return usage();
        } else {
            return usage();
        }
    }
    if (count - index != 2) return usage();

    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(options, report);
    if (!made) {
        std::fprintf(stderr, "cp: %s: %s\n", made.error().name(), report.text);
        return 77;
    }
    TreeCopy copy(*made);
    if (progress) show_progress(*made, copy);
    copy.begin(words[index], words[index + 1]);
    if (const whorl::Error error = made->run(whorl::RunUntil::stopped)) {
        std::fprintf(stderr, "cp: %s\n", error.text());
        return 1;
    }
    if (progress) {
        std::fprintf(stderr, "\r%llu files, %llu bytes\n", copy.files(), copy.bytes());
    }
    return copy.failures() == 0 ? 0 : 1;
}
