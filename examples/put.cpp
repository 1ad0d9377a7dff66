// SPDX-License-Identifier: MIT
// Writes standard input to a file so that the file always has its old or its new content, whole.
//
//   put [--backend automatic|io_uring|libev] FILE
//
// Exit status: 0 when the new content is there and durable; 1 when not, and then the old one is.
#include <whorl/whole_file.hpp>
#include <whorl/whorl.hpp>

#include <cstdio>
#include <string>

namespace {

std::string standard_input() {
    std::string text;
    char part[65536];
    while (const std::size_t size = std::fread(part, 1, sizeof part, stdin)) {
        text.append(part, size);
    }
    return text;
}

int fail(const char* what) {
    std::fprintf(stderr, "put: %s\n", what);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    whorl::LoopOptions options;
    int index = 1;
    if (count > 3 && std::string(words[1]) == "--backend") {
        const std::string name = words[2];
        if (name == "io_uring") options.backend = whorl::Backend::io_uring;
        else if (name == "libev") options.backend = whorl::Backend::libev;
        index = 3;
    }
    if (count - index != 1) return fail("usage: see the head of put.cpp");
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options, report);
    if (!loop) {
        static_cast<void>(fail(report.text));
        return 77;
    }
    whorl::Error error;
    const auto ended = [&error](whorl::Loop&, const whorl::WholeFileDone& done) {
        error = done.error;
        if (error) static_cast<void>(fail(done.message().c_str()));
    };
    const auto task = whorl::write_file_atomically(
        *loop, words[index], whorl::adopt(standard_input()), whorl::AtomicWriteOptions{}, ended);
    if (!task) return fail(task.error().text());
    if (const whorl::Error broken = loop->run()) return fail(broken.text());
    return error ? 1 : 0;
}
