// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/os_files.hpp"
#include "conformance/work_tools.hpp"

#include <whorl/file.hpp>
#include <whorl/names.hpp>

#include <fcntl.h>

#include <optional>
#include <string>
#include <utility>

// What the tests of files and names share: a directory of their own, and operations that are waited for.

namespace whorl::conformance {

inline std::string letters(std::size_t size, std::uint64_t offset = 0) {
    std::string text(size, '\0');
    for (std::size_t index = 0; index < size; ++index) {
        text[index] = static_cast<char>('a' + (offset + index) * 7 / 3 % 26);
    }
    return text;
}

inline Buffer buffer_of(std::string_view text) {
    return text.empty() ? Buffer() : Buffer::copy_of(Bytes{text});
}

class FileTools : public LoopTest {
  protected:
    void SetUp() override {
        LoopTest::SetUp();
        directory_ = os::make_directory();
    }
    void TearDown() override {
        os::remove_tree(directory_);
        LoopTest::TearDown();
    }

    std::string path(const std::string& name) const { return directory_ + "/" + name; }

    // Submits an operation and runs the loop until it has ended.
    template <class Op>
    static typename Op::Done finished(Loop& loop, Op&& operation, SubmitOptions options = {}) {
        using Done = typename std::decay_t<Op>::Done;
        std::optional<Done> done;
        const Result<Operation> made =
            loop.submit(std::forward<Op>(operation), options, [&done](Loop&, Done given) {
                EXPECT_FALSE(done.has_value()) << "nothing follows the final completion";
                done.emplace(std::move(given));
            });
        EXPECT_TRUE(made) << made.error().name();
        if (!made) std::abort();
        run_until(loop, [&] { return done.has_value(); });
        if (!done) std::abort();
        return std::move(*done);
    }
    template <class Op>
    static Error refusal(Loop& loop, Op&& operation) {
        using Done = typename std::decay_t<Op>::Done;
        const Result<Operation> made = loop.submit(std::forward<Op>(operation), [](Loop&, Done) {
            ADD_FAILURE() << "a refused operation was called";
        });
        return made ? Error() : made.error();
    }
    File opened(Loop& loop, const std::string& name, int flags = O_RDWR | O_CREAT) {
        OpenFile::Done done = finished(loop, OpenFile{path(name), flags});
        EXPECT_FALSE(done.error) << message_of("open", done.error, done.paths).text();
        return done.file;
    }
    static void close_and_wait(Loop& loop, File file) {
        bool closed = false;
        ASSERT_FALSE(loop.close(file, [&closed](Loop&) { closed = true; }));
        run_until(loop, [&] { return closed; });
    }
    static bool on_io_uring() { return GetParam().options.backend == Backend::io_uring; }

    std::string directory_;
};

}  // namespace whorl::conformance
