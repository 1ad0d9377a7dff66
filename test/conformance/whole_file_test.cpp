// SPDX-License-Identifier: MIT
// Goal: a file is read whole, and replaced whole or not at all, whatever fails, is cancelled or
// destroyed in between; nothing half-written and no temporary file is left.
// Method: every step is stopped once: by a cancel, a deadline, the end of the loop, an error.
#include "conformance/file_tools.hpp"

#include <whorl/whole_file.hpp>

#include "backend/sim_kernel.hpp"

namespace whorl::conformance {
namespace {

class WholeFile : public FileTools {
  protected:
    WholeFileDone read(Loop& loop, const std::string& where, WholeReadOptions options = {}) {
        std::optional<WholeFileDone> done;
        EXPECT_TRUE(read_whole_file(loop, where, options, [&done](Loop&, WholeFileDone given) {
            EXPECT_FALSE(done);
            done.emplace(std::move(given));
        }));
        run_until(loop, [&] { return done.has_value(); });
        return std::move(*done);
    }
    WholeFileDone write(Loop& loop, const std::string& where, std::string_view text,
                        AtomicWriteOptions options = {}) {
        std::optional<WholeFileDone> done;
        EXPECT_TRUE(write_file_atomically(loop, where, buffer_of(text), options,
                                          [&done](Loop&, WholeFileDone given) {
                                              EXPECT_FALSE(done);
                                              done.emplace(std::move(given));
                                          }));
        run_until(loop, [&] { return done.has_value(); });
        return std::move(*done);
    }
    static bool settled(Loop& loop) { return loop.statistics().operations == 0; }
};
WHORL_CONFORMANCE(WholeFile);

TEST_P(WholeFile, read_of_any_size) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const std::size_t size : {0u, 1u, 4'095u, 4'096u, 4'097u, 65'535u, 65'536u, 1'000'000u}) {
        os::put_file(path("a"), letters(size));
        const WholeFileDone done = read(loop, path("a"));
        EXPECT_FALSE(done.error) << done.message();
        EXPECT_EQ(done.bytes, size);
        EXPECT_TRUE(done.buffer.text() == letters(size)) << size;
        EXPECT_EQ(done.path, path("a"));
    }
    WholeReadOptions options;
    options.size_max = 999'999;
    const WholeFileDone large = read(loop, path("a"), options);
    EXPECT_EQ(large.error, Error::from_errno(EFBIG));
    options.size_max = 1'000'000;
    EXPECT_FALSE(read(loop, path("a"), options).error);
    const WholeFileDone none = read(loop, path("none"));
    EXPECT_EQ(none.error, Error::from_errno(ENOENT));
    EXPECT_EQ(none.message().find("open " + path("none") + ": ENOENT: "), 0u) << none.message();
    EXPECT_EQ(read(loop, directory_).error, Error::from_errno(EISDIR));
    if (!GetParam().world) {
        const WholeFileDone status = read(loop, "/proc/self/status");
        EXPECT_FALSE(status.error);
        EXPECT_NE(status.buffer.text().find("Threads:"), std::string_view::npos);
    }
    run_until(loop, [&] { return settled(loop); });
    expect_clean(loop);
}

TEST_P(WholeFile, write_replaces_what_was_there) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const std::size_t size : {0u, 5u, 100'000u}) {
        for (const bool durable : {false, true}) {
            AtomicWriteOptions options;
            options.durable = durable;
            const WholeFileDone done = write(loop, path("a"), letters(size, size), options);
            EXPECT_FALSE(done.error) << done.message();
            EXPECT_EQ(done.bytes, size);
            EXPECT_EQ(done.buffer.text(), letters(size, size));
            EXPECT_TRUE(os::get_file(path("a")) == letters(size, size));
            EXPECT_EQ(os::names_in(directory_), std::vector<std::string>{"a"});
        }
    }
    EXPECT_EQ(write(loop, path("none/a"), "x").error, Error::from_errno(ENOENT));
    const WholeFileDone over = write(loop, path("."), "x");
    EXPECT_TRUE(over.error);
    EXPECT_EQ(std::string_view(over.operation), "rename");
    Buffer content = buffer_of("kept");
    const auto refused = write_file_atomically(loop, path("d/"), std::move(content), {},
                                               [](Loop&, const WholeFileDone&) { FAIL(); });
    EXPECT_EQ(refused.error(), Error::invalid_argument);
    EXPECT_EQ(content.text(), "kept");
    EXPECT_EQ(os::names_in(directory_), std::vector<std::string>{"a"});
    run_until(loop, [&] { return settled(loop); });
    expect_clean(loop);
}

// Stopped after any number of turns, it is the old file or the new one, and nothing else.
TEST_P(WholeFile, write_is_whole_or_not_at_all) {
    WHORL_SKIP_IF_REFUSED();
    const std::string text = letters(50'000);
    for (int round = 0; round < 60; ++round) {
        os::put_file(path("a"), "old");
        const Witness handlers;
        int ended = 0;
        Error error;
        {
            Loop loop = make_loop();
            const auto task = write_file_atomically(
                loop, path("a"), buffer_of(text), {},
                [&, copy = handlers.copy()](Loop&, const WholeFileDone& done) {
                    error = done.error;
                    EXPECT_EQ(done.buffer.text(), text);
                    ++ended;
                });
            ASSERT_TRUE(task);
            turns(loop, round / 3);
            if (round % 3 == 0) {
                static_cast<void>(task->cancel(loop));
                run_until(loop, [&] { return ended == 1; });
                EXPECT_FALSE(task->cancel(loop));
                EXPECT_TRUE(!error || error == Error::cancelled) << error.name();
            } else if (round % 3 == 1) {
                ASSERT_FALSE(loop.drain(60s));
                EXPECT_EQ(ended, 1);
            }
        }
        EXPECT_TRUE(handlers.alone());
        const std::string now = os::get_file(path("a"));
        if (ended == 1 && !error) {
            EXPECT_TRUE(now == text) << round;
        } else {
            EXPECT_TRUE(now == "old" || now == text) << round;
        }
        EXPECT_EQ(os::names_in(directory_), std::vector<std::string>{"a"}) << round;
    }
}

TEST_P(WholeFile, deadline_of_the_whole) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), "old");
    AtomicWriteOptions options;
    options.submit = within(0ns);
    const WholeFileDone done = write(loop, path("a"), "new", options);
    EXPECT_EQ(done.error, Error::timed_out);
    EXPECT_EQ(done.buffer.text(), "new");
    EXPECT_EQ(os::get_file(path("a")), "old");
    WholeReadOptions reading;
    reading.submit = within(1h);
    EXPECT_EQ(read(loop, path("a"), reading).buffer.text(), "old");
    run_until(loop, [&] { return settled(loop); });
    expect_clean(loop);
}

// Each step fails once, in the simulator, which can be told so.
TEST_P(WholeFile, failed_step_leaves_the_old_file) {
    WHORL_SKIP_IF_REFUSED();
    if (GetParam().options.backend != Backend::simulator) return;
    struct Case {
        detail::OpKind kind;
        int error;
        const char* operation;
    };
    const Case cases[] = {
        {detail::OpKind::open_file, EMFILE, "open directory"},
        {detail::OpKind::write_all_at, ENOSPC, "write"},
        {detail::OpKind::write_all_at, EDQUOT, "write"},
        {detail::OpKind::sync, EIO, "sync"},
        {detail::OpKind::rename, EIO, "rename"},
    };
    Loop loop = make_loop();
    os::put_file(path("a"), "old");
    for (const Case& each : cases) {
        os::world()->script_fault(each.kind, each.error, 1);
        const WholeFileDone done = write(loop, path("a"), "new");
        EXPECT_EQ(done.error, Error::from_errno(each.error)) << each.operation;
        EXPECT_EQ(std::string_view(done.operation), each.operation);
        EXPECT_NE(done.message().find(path("a")), std::string::npos);
        EXPECT_EQ(done.buffer.text(), "new");
        EXPECT_EQ(os::get_file(path("a")), "old");
        EXPECT_EQ(os::names_in(directory_), std::vector<std::string>{"a"});
    }
    EXPECT_FALSE(write(loop, path("a"), "new").error);
    run_until(loop, [&] { return settled(loop); });
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
