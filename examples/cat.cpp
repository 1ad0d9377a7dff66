// SPDX-License-Identifier: MIT
// Copies standard input to standard output, whatever the two are: pipes, terminals, files, /dev/null.
// A slow reader makes it wait, so it holds no more than one buffer.
//
//   cat [--backend automatic|io_uring|libev]
//
// Exit status: 0 at the end of the input, 1 with a message when something fails.
#include <whorl/whorl.hpp>

#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>

namespace {

class Cat {
  public:
    Cat(whorl::Pipe in, whorl::Pipe out) : in_(in), out_(out) {}

    void read(whorl::Loop& loop, whorl::Buffer buffer) {
        const auto made = loop.submit(whorl::Read{in_, std::move(buffer)}, this);
        if (!made) fail("read", made.error());
    }
    void operator()(whorl::Loop& loop, whorl::Read::Done done) {
        if (done.error) return fail("read", done.error);
        if (done.buffer.empty()) return;  // the end: nothing is left to wait for
        const auto made = loop.submit(whorl::WriteAll{out_, std::move(done.buffer)}, this);
        if (!made) fail("write", made.error());
    }
    void operator()(whorl::Loop& loop, whorl::WriteAll::Done done) {
        if (done.error) return fail("write", done.error);
        read(loop, std::move(done.buffer));
    }
    int status() const { return status_; }

  private:
    void fail(const char* what, whorl::Error error) {
        std::fprintf(stderr, "cat: %s: %s\n", what, error.text());
        status_ = 1;
    }

    whorl::Pipe in_;
    whorl::Pipe out_;
    int status_ = 0;
};

int fail(const std::string& what, const char* why) {
    std::fprintf(stderr, "cat: %s: %s\n", what.c_str(), why);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    whorl::LoopOptions options;
    if (count == 3 && words[1] == std::string("--backend")) {
        const std::string backend = words[2];
        if (backend == "io_uring") options.backend = whorl::Backend::io_uring;
        else if (backend == "libev") options.backend = whorl::Backend::libev;
    } else if (count != 1) {
        return fail("usage", "see the head of cat.cpp");
    }
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options, report);
    if (!loop) return fail(loop.error().text(), report.text);
    const whorl::Result<whorl::Pipe> in = whorl::duplicate_pipe(*loop, STDIN_FILENO);
    const whorl::Result<whorl::Pipe> out = whorl::duplicate_pipe(*loop, STDOUT_FILENO);
    if (!in) return fail("standard input", in.error().text());
    if (!out) return fail("standard output", out.error().text());
    Cat cat(*in, *out);
    cat.read(*loop, loop->buffer(65536));
    if (whorl::Error error = loop->run()) return fail("run", error.text());
    return cat.status();
}
