// SPDX-License-Identifier: MIT
// Goal: whatever fails, a file that is written atomically is the old one or the new one, nothing is left
// beside it, and the handler gets its bytes back; what was read of a file until an error is handed over.
// Method: a file read and one written in a world, again for each call on files that is made, with that
// call refused, or with the file growing or shrinking just before it; with every slot taken after each turn.
#include "world/file_front.hpp"

#include <whorl/whole_file.hpp>

#include <optional>
#include <string>
#include <vector>

namespace whorl::world_files {
namespace {

using Texts = std::vector<std::string>;

std::string letters(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t index = 0; index < size; ++index)
        text[index] = static_cast<char>('a' + index * 7 / 3 % 26);
    return text;
}

class WholeFileFaults : public FileWorld {
  protected:
    template <class Begin>
    static WholeFileDone ended(Loop& loop, Begin begin) {
        std::optional<WholeFileDone> done;
        const Result<WholeFileTask> task = begin([&done](Loop&, WholeFileDone given) {
            EXPECT_FALSE(done) << "it ends once";
            done.emplace(std::move(given));
        });
        EXPECT_TRUE(task);
        run_until(loop, [&] { return done.has_value(); });
        if (!done) std::abort();
        EXPECT_EQ(*done->operation != '\0', bool(done->error));
        return std::move(*done);
    }
    WholeFileDone read(Loop& loop, const std::string& name,
                       const WholeReadOptions& options = {}) const {
        return ended(loop, [&](auto handler) {
            return read_whole_file(loop, name, options, std::move(handler));
        });
    }
    WholeFileDone write(Loop& loop, const std::string& name, const std::string& text,
                        const AtomicWriteOptions& options = {}) const {
        return ended(loop, [&](auto handler) {
            return write_file_atomically(loop, name, Buffer::copy_of(Bytes{text}), options,
                                         std::move(handler));
        });
    }
};
WHORL_FILE_WORLD(WholeFileFaults);

constexpr int errors[] = {EACCES, EIO, ENOSPC, EMFILE, ENOENT};

TEST_P(WholeFileFaults, a_read_that_fails_hands_over_what_it_has) {
    Loop loop = make_loop();
    for (const std::size_t size : {std::size_t{0}, std::size_t{5000}, std::size_t{100'000}}) {
        const std::string text = letters(size);
        put("a", text);
        sweep_errors(errors, [&](int error, std::uint32_t number, Act act) {
            front_->arm(number, std::move(act));
            const WholeFileDone done = read(loop, path("a"));
            front_->disarm();
            EXPECT_EQ(done.error, front_->acted() ? Error::from_errno(error) : Error());
            EXPECT_EQ(done.bytes, done.buffer.size());
            EXPECT_EQ(done.buffer.text(), text.substr(0, done.buffer.size()));
            EXPECT_TRUE(done.error || done.bytes == size);
            expect_clean(loop);
        });
    }
}

TEST_P(WholeFileFaults, a_file_that_changes_while_it_is_read) {
    Loop loop = make_loop();
    const std::string text = letters(10'000);
    for (const std::size_t becomes : {0u, 100u, 9'999u, 10'001u, 70'000u}) {
        for (const std::uint64_t size_max : {std::uint64_t{10'000}, UINT64_MAX}) {
            SCOPED_TRACE(becomes);
            sweep([&](std::uint32_t number) {
                put("a", text);
                const std::string grown = letters(becomes);
                front_->arm(number, [&](const char*) {
                    const int fd = os::open_file(path("a"), O_WRONLY);
                    EXPECT_EQ(calls().ftruncate(fd, becomes), 0);
                    os::close(fd);
                    if (becomes > text.size()) put("a", grown);
                    return 0;
                });
                WholeReadOptions options;
                options.size_max = size_max;
                const WholeFileDone done = read(loop, path("a"), options);
                front_->disarm();
                if (done.error) {
                    EXPECT_EQ(done.error, Error::from_errno(EFBIG));
                    EXPECT_GT(becomes, size_max);
                } else {
                    EXPECT_EQ(done.bytes, done.buffer.size());
                    const std::string& longer = becomes > text.size() ? grown : text;
                    EXPECT_EQ(done.buffer.text(), longer.substr(0, done.buffer.size()));
                    EXPECT_TRUE(done.bytes == becomes || done.bytes == text.size());
                }
                expect_clean(loop);
            });
        }
    }
}

TEST_P(WholeFileFaults, a_write_that_fails_leaves_the_old_file_and_nothing_else) {
    Loop loop = make_loop();
    const std::string text = letters(50'000);
    for (const bool durable : {true, false}) {
        for (const int failures : {1, 2}) {  // the second may be of the removal
            sweep_errors(errors, [&](int error, std::uint32_t number, Act) {
                put("a", "old");
                int left = failures;
                const auto act = [&](const char* call) {
                    if (left-- == failures) refused_ = call;
                    return left >= 0 ? -error : 0;
                };
                front_->arm(number, act, true);
                AtomicWriteOptions options;
                options.durable = durable;
                const WholeFileDone done = write(loop, path("a"), text, options);
                expect_clean(loop);
                front_->disarm();
                EXPECT_EQ(done.error, front_->acted() ? Error::from_errno(error) : Error());
                EXPECT_EQ(done.buffer.text(), text) << "it comes back as it was";
                const bool late = std::string_view(done.operation) == "sync directory";
                EXPECT_EQ(os::get_file(path("a")), done.error && !late ? "old" : text);
                EXPECT_EQ(os::names_in(directory_), Texts{"a"}) << done.operation;
            });
        }
    }
}

TEST_P(WholeFileFaults, a_name_that_is_taken) {
    Loop loop = make_loop();
    put("a", "old");
    constexpr int taken_max = 100;
    for (const int taken : {1, 99, 100, 101}) {
        SCOPED_TRACE(taken);
        int asked = 0;
        const auto is_taken = [&](const char*) { return ++asked <= taken ? -EEXIST : 0; };
        front_->arm(2, is_taken, true);  // the first one opens the directory
        const WholeFileDone done = write(loop, path("a"), "new");
        front_->disarm();
        const bool fails = taken >= taken_max;
        EXPECT_EQ(done.error, fails ? Error::from_errno(EEXIST) : Error());
        EXPECT_EQ(std::string_view(done.operation), fails ? "create" : "");
        EXPECT_EQ(os::get_file(path("a")), fails ? "old" : "new");
        EXPECT_EQ(os::names_in(directory_), Texts{"a"});
        EXPECT_TRUE(!fails || asked == taken_max);
        put("a", "old");
    }
    expect_clean(loop);
}

// Every other slot for operations is taken, and what is under way ends too late to be cancelled.
TEST_P(WholeFileFaults,
       one_slot_is_enough_and_a_cancel_that_comes_too_late_ends_it_at_the_next_step) {
    os::world()->options().cancel_loses = 1;
    int cancelled = 0;
    for (int turns = 0; turns < 40; ++turns) {
        for (const bool writes : {false, true}) {
            for (const bool cancels : {false, true}) {
                SCOPED_TRACE(turns);
                put("a", "old");
                int ended = 0;
                Loop loop = make_loop([](LoopOptions& options) { options.ops_max = 4; });
                std::vector<Timer> taken;
                Error error;
                const auto note = [&](Loop&, const WholeFileDone& done) {
                    ++ended;
                    error = done.error;
                };
                const auto task =
                    writes ? write_file_atomically(loop, path("a"), Buffer::copy_of(Bytes("new")),
                                                   {}, note)
                           : read_whole_file(loop, path("a"), {}, note);
                ASSERT_TRUE(task);
                for (int turn = 0; turn < turns && ended == 0; ++turn) ASSERT_FALSE(loop.poll());
                while (const auto timer = loop.after(24h, [](Loop&, Expired) {}))
                    taken.push_back(*timer);
                EXPECT_TRUE(!cancels || task->cancel(loop) || ended == 1);
                for (int turn = 0; turn < 1000 && ended == 0; ++turn) ASSERT_FALSE(loop.run_once());
                EXPECT_TRUE(!error || (cancels && error == Error::cancelled)) << error.name();
                if (error) ++cancelled;
                for (const Timer timer : taken) EXPECT_TRUE(loop.cancel(timer));
                EXPECT_EQ(ended, 1);
                EXPECT_EQ(os::names_in(directory_), Texts{"a"});
                const std::string now = os::get_file(path("a"));
                EXPECT_TRUE(now == (writes && !error ? "new" : "old") || (writes && error));
                expect_clean(loop);
            }
        }
    }
    EXPECT_GT(cancelled, 4);
}

// Of handles there are too few, when it has the directory only, or that not even.
TEST_P(WholeFileFaults, without_a_handle_for_its_file_nothing_is_left) {
    for (const std::uint32_t handles : {1u, 2u, 3u}) {
        SCOPED_TRACE(handles);
        Loop loop = make_loop([&](LoopOptions& options) { options.handles_max = handles; });
        put("a", "old");
        int fds[2];
        ASSERT_EQ(os::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        const Result<Socket> first = adopt_socket(loop, fds[0]);
        ASSERT_TRUE(first);
        const WholeFileDone done = write(loop, path("a"), "new");
        EXPECT_EQ(done.error, handles < 3 ? Error(Error::slots_exhausted) : Error());
        const char* const operations[] = {"open directory", "create", ""};
        EXPECT_EQ(std::string_view(done.operation), operations[handles - 1]);
        EXPECT_EQ(os::get_file(path("a")), handles < 3 ? "old" : "new");
        EXPECT_EQ(os::names_in(directory_), Texts{"a"});
        ASSERT_FALSE(loop.close(*first));
        expect_clean(loop);
        os::close(fds[1]);
    }
}

TEST_P(WholeFileFaults, names_without_a_directory) {
    Loop loop = make_loop();
    for (const char* name : {"/whorl-at-the-root", "whorl-here"}) {
        EXPECT_FALSE(write(loop, name, "new").error) << name;
        EXPECT_EQ(read(loop, name).buffer.text(), "new");
        EXPECT_EQ(calls().unlinkat(AT_FDCWD, name, 0), 0) << name;
    }
    expect_clean(loop);
}

TEST_P(WholeFileFaults, misuse_and_no_memory_are_refused) {
    Loop loop = make_loop();
    Buffer content = Buffer::copy_of(Bytes("kept"));
    EXPECT_EQ(detail::whole_read_begin(loop, path("a"), {}, nullptr).error(),
              Error::from_errno(ENOMEM));
    EXPECT_EQ(detail::atomic_write_begin(loop, path("a"), content, {}, nullptr).error(),
              Error::from_errno(ENOMEM));
    const auto never = [](Loop&, const WholeFileDone&) { ADD_FAILURE(); };
    const std::string long_path(5000, 'x');
    EXPECT_EQ(read_whole_file(loop, long_path, {}, never).error(), Error::from_errno(ENAMETOOLONG));
    EXPECT_EQ(write_file_atomically(loop, long_path + "/a", std::move(content), {}, never).error(),
              Error::from_errno(ENAMETOOLONG));
    EXPECT_EQ(content.text(), "kept");  // NOLINT(bugprone-use-after-move): it was refused
    EXPECT_FALSE(WholeFileTask().cancel(loop));
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::world_files
