// SPDX-License-Identifier: MIT
// Goal: an operation on a file that is cancelled, timed out, closed under or destroyed with its loop
// ends once and gives its buffer back, wherever that finds it; what it has not begun it has not done.
// Method: the same at each of the first turns; an open that waits for ever, on this machine.
#include "conformance/file_tools.hpp"

#include <sys/stat.h>

namespace whorl::conformance {
namespace {

// Counts buffers that have come home: gone, wherever that was.
class Counted {
  public:
    Buffer make(std::size_t size) {
        ++out_;
        memory_.push_back(std::make_unique<std::string>(size, 'c'));
        return adopt(memory_.back()->data(), size, [this](void*) { --out_; });
    }
    int out() const { return out_; }

  private:
    int out_ = 0;
    std::vector<std::unique_ptr<std::string>> memory_;
};

class FileCancel : public FileTools {};
WHORL_CONFORMANCE(FileCancel);

TEST_P(FileCancel, before_the_turn_nothing_is_done) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const File file = opened(loop, "a");
    int finals = 0;
    const auto write =
        loop.submit(WriteAllAt{file, buffer_of("text"), 0}, [&](Loop&, WriteAllAt::Done done) {
            EXPECT_EQ(done.error, Error::cancelled);
            EXPECT_EQ(done.bytes, 0u);
            EXPECT_EQ(done.buffer.text(), "text");
            ++finals;
        });
    const auto open =
        loop.submit(OpenFile{path("b"), O_RDWR | O_CREAT}, [&](Loop&, OpenFile::Done done) {
            EXPECT_EQ(done.error, Error::cancelled);
            EXPECT_FALSE(done.file);
            EXPECT_EQ(done.paths.first(), path("b"));
            ++finals;
        });
    const auto make = loop.submit(MakeDirectory{path("d")}, [&](Loop&, NameDone done) {
        EXPECT_EQ(done.error, Error::cancelled);
        ++finals;
    });
    const auto read =
        loop.submit(ReadExactAt{file, Buffer::allocate(9)}, [&](Loop&, ReadExactAt::Done done) {
            EXPECT_EQ(done.error, Error::cancelled);
            EXPECT_EQ(done.buffer.size(), 0u);
            EXPECT_EQ(done.buffer.capacity(), 9u);
            ++finals;
        });
    for (const auto& made : {std::cref(write), std::cref(open), std::cref(make), std::cref(read)}) {
        ASSERT_TRUE(made.get());
        EXPECT_EQ(loop.cancel(*made.get()), Cancelled::cancelling);
        EXPECT_EQ(loop.cancel(*made.get()), Cancelled::already_completing);
    }
    run_until(loop, [&] { return finals == 4; });
    EXPECT_EQ(loop.cancel(*write), Cancelled::not_found);
    EXPECT_EQ(os::get_file(path("a")), "");
    EXPECT_FALSE(os::exists(path("b")));
    EXPECT_FALSE(os::exists(path("d")));
    close_and_wait(loop, file);
    expect_clean(loop);
}

// It is done, and says so with no error or with what it had reached, or it is not.
TEST_P(FileCancel, at_any_time_it_ends_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::string text = letters(100'000);
    for (int round = 0; round < 60; ++round) {
        const std::string name = "a" + std::to_string(round);
        const File file = opened(loop, name);
        int finals = 0;
        std::uint64_t told = 0;
        const auto made =
            loop.submit(WriteAllAt{file, buffer_of(text), 0}, [&](Loop&, WriteAllAt::Done done) {
                if (done.error) {
                    EXPECT_EQ(done.error, Error::cancelled);
                } else {
                    EXPECT_EQ(done.bytes, text.size());
                }
                EXPECT_EQ(done.buffer.text(), text);
                told = done.bytes;
                ++finals;
            });
        ASSERT_TRUE(made);
        turns(loop, round % 5);
        const Cancelled answer = loop.cancel(*made);
        EXPECT_EQ(answer == Cancelled::not_found, finals == 1);
        run_until(loop, [&] { return finals == 1; });
        EXPECT_EQ(os::get_file(path(name)), text.substr(0, told));
        close_and_wait(loop, file);
    }
    expect_clean(loop);
}

TEST_P(FileCancel, deadline_that_has_passed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const File file = opened(loop, "a");
    WriteAt::Done write = finished(loop, WriteAt{file, buffer_of("text"), 0}, within(0ns));
    EXPECT_EQ(write.error, Error::timed_out);
    EXPECT_EQ(write.buffer.text(), "text");
    EXPECT_EQ(finished(loop, Stat{path("a")}, within(0ns)).error, Error::timed_out);
    EXPECT_EQ(os::get_file(path("a")), "");
    WriteAt::Done later = finished(loop, WriteAt{file, buffer_of("t"), 0}, within(1h));
    EXPECT_FALSE(later.error);
    close_and_wait(loop, file);
    expect_clean(loop);
}

// The first of several that end together cancels the others: too late for them, and harmless.
TEST_P(FileCancel, when_complete) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), letters(1'000));
    const File file = opened(loop, "a");
    std::vector<Operation> all;
    int ended = 0;
    for (int index = 0; index < 20; ++index) {
        const auto made = loop.submit(
            ReadAt{file, Buffer::allocate(100), 10}, [&](Loop& here, ReadAt::Done done) {
                if (!done.error) {
                    EXPECT_EQ(done.buffer.text(), letters(1'000).substr(10, done.buffer.size()));
                } else {
                    EXPECT_EQ(done.error, Error::cancelled);
                }
                ++ended;
                for (const Operation other : all) static_cast<void>(here.cancel(other));
            });
        ASSERT_TRUE(made);
        all.push_back(*made);
    }
    run_until(loop, [&] { return ended == 20; });
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileCancel, close_ends_all_before_the_close_handler) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 20; ++round) {
        const std::string name = "a" + std::to_string(round);
        const File file = opened(loop, name);
        const File other = opened(loop, "other" + std::to_string(round));
        Counted buffers;
        int ended = 0;
        bool closed = false;
        for (int index = 0; index < 10; ++index) {
            const auto offset = static_cast<std::uint64_t>(index) * 1'000;
            ASSERT_TRUE(loop.submit(WriteAllAt{file, buffers.make(1'000), offset},
                                    [&](Loop&, const WriteAllAt::Done&) {
                                        EXPECT_FALSE(closed);
                                        ++ended;
                                    }));
            ASSERT_TRUE(loop.submit(Sync{file}, [&](Loop&, Sync::Done) { ++ended; }));
        }
        int spared = 0;
        ASSERT_TRUE(loop.submit(WriteAllAt{other, buffer_of("spared"), 0},
                                [&](Loop&, WriteAllAt::Done done) {
                                    EXPECT_FALSE(done.error);
                                    ++spared;
                                }));
        turns(loop, round % 4);
        ASSERT_FALSE(loop.close(file, [&](Loop&) {
            EXPECT_EQ(ended, 20);
            closed = true;
        }));
        EXPECT_EQ(refusal(loop, Sync{file}), Error::stale_handle);
        EXPECT_EQ(loop.close(file), Error::stale_handle);
        run_until(loop, [&] { return closed && spared == 1; });
        EXPECT_EQ(buffers.out(), 0);
        close_and_wait(loop, other);
    }
    expect_clean(loop);
}

TEST_P(FileCancel, drain_and_destruction_at_any_time) {
    WHORL_SKIP_IF_REFUSED();
    for (int round = 0; round < 10; ++round) {
        Counted buffers;
        const Witness handlers;
        int ended = 0;
        {
            Loop loop = make_loop();
            const File file = opened(loop, "a");
            const File directory = opened(loop, ".", O_RDONLY | O_DIRECTORY);
            for (int index = 0; index < 10; ++index) {
                ASSERT_TRUE(loop.submit(
                    WriteAllAt{file, buffers.make(5'000), 0},
                    [&, copy = handlers.copy()](Loop&, const WriteAllAt::Done&) { ++ended; }));
                ASSERT_TRUE(loop.submit(
                    ReadAt{file, buffers.make(500), 0},
                    [&, copy = handlers.copy()](Loop&, const ReadAt::Done&) { ++ended; }));
                ASSERT_TRUE(loop.submit(
                    ListDirectory{directory, buffers.make(1'000)},
                    [&, copy = handlers.copy()](Loop&, const ListDirectory::Done&) { ++ended; }));
                ASSERT_TRUE(loop.submit(
                    OpenFile{path("o" + std::to_string(index)), O_RDWR | O_CREAT},
                    [&, copy = handlers.copy()](Loop&, const OpenFile::Done&) { ++ended; }));
                ASSERT_TRUE(
                    loop.submit(ReadLink{path("none")},
                                [&, copy = handlers.copy()](Loop&, const NameDone&) { ++ended; }));
            }
            turns(loop, round / 2);
            if (round % 2 == 0) {
                ASSERT_FALSE(loop.drain(60s));
                EXPECT_EQ(ended, 50);
                expect_clean(loop);
            }
        }
        EXPECT_EQ(buffers.out(), 0);
        EXPECT_TRUE(handlers.alone());
    }
}

// What only this machine has: a disk that takes its time, and FIFOs.
class FileWaiting : public FileTools {};
WHORL_CONFORMANCE_REAL(FileWaiting);

TEST_P(FileWaiting, cancel_while_a_disk_is_at_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const File file = opened(loop, "a");
    const std::string text = letters(4 << 20);
    for (int round = 0; round < 3; ++round) {
        ASSERT_FALSE(finished(loop, WriteAllAt{file, buffer_of(text), 0}).error);
        int finals = 0;
        std::vector<Operation> all;
        for (int index = 0; index < 8; ++index) {
            const auto made = loop.submit(Sync{file}, [&](Loop&, Sync::Done done) {
                if (done.error) {
                    EXPECT_EQ(done.error, Error::cancelled);
                }
                ++finals;
            });
            ASSERT_TRUE(made);
            all.push_back(*made);
        }
        turns(loop, 1 + round);
        for (const Operation operation : all) static_cast<void>(loop.cancel(operation));
        run_until(
            loop, [&] { return finals == 8; }, 60s);
    }
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileWaiting, open_does_not_wait_for_the_other_side_of_a_fifo) {
    WHORL_SKIP_IF_REFUSED();
    ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    Loop loop = make_loop();
    OpenFile::Done writer = finished(loop, OpenFile{path("fifo"), O_WRONLY});
    EXPECT_EQ(writer.error, Error::from_errno(ENXIO));
    const File reader = opened(loop, "fifo", O_RDONLY);
    EXPECT_EQ(refusal(loop, ReadAt{reader, Buffer::allocate(10)}), Error::from_errno(ESPIPE));
    close_and_wait(loop, reader);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
