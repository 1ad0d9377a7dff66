// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <whorl/replay.hpp>
#include <whorl/whorl.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <ostream>
#include <string>

// A backend that this machine refuses is skipped, never passed, and with WHORL_TEST_NO_SKIP set it fails.
#define WHORL_REPLAY_NEEDS(there, why)                                                    \
    do {                                                                                  \
        if (there) break;                                                                 \
        if (std::getenv("WHORL_TEST_NO_SKIP") != nullptr) FAIL() << "refused: " << (why); \
        GTEST_SKIP() << (why);                                                            \
    } while (false)

namespace whorl {

inline void PrintTo(Error error, std::ostream* out) { *out << error.name(); }

}  // namespace whorl

// What the tests of recorded runs share: a file of their own, a loop that records to it, and the contents.

namespace replay_test {

// A file that is gone when the test ends.
class TemporaryFile {
  public:
    TemporaryFile() {
        const char* folder = std::getenv("TMPDIR");
        path_ = std::string(folder != nullptr ? folder : "/tmp") + "/whorl-replay-XXXXXX";
        const int fd = ::mkstemp(path_.data());
        EXPECT_GE(fd, 0);
        if (fd >= 0) ::close(fd);
    }
    ~TemporaryFile() { ::unlink(path_.c_str()); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    const char* path() const { return path_.c_str(); }
    std::string read() const {
        std::ifstream file(path_, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    }
    void write(const std::string& bytes) const {
        std::ofstream file(path_, std::ios::binary | std::ios::trunc);
        file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }

  private:
    std::string path_;
};

// Records what `program(loop)` does, until its loop has ended.
template <class Program>
void record(whorl::LoopOptions options, const TemporaryFile& file, Program&& program) {
    options.run_log = file.path();
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options, report);
    ASSERT_TRUE(loop) << loop.error().text() << ": " << report.text;
    program(*loop);
}

}  // namespace replay_test
