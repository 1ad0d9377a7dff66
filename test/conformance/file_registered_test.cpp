// SPDX-License-Identifier: MIT
// Goal: LoopOptions::registered_buffers changes no behaviour: files are read and written byte for byte,
// from the pool's memory and from other memory, cancelled or not, and buffers outlive their loop. Where the
// ring takes registered memory it is used, and told.
// Method: the same on every configuration, with the files looked at from outside; the loop's counters.
#include "conformance/file_tools.hpp"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>

namespace whorl::conformance {
namespace {

#if defined(WHORL_ELECTRIC)
constexpr bool electric = true;
#else
constexpr bool electric = false;
#endif

class FileRegistered : public FileTools {
  protected:
    static Loop registering() { return make_loop_with(std::size_t{64} << 20); }
    static Loop make_loop_with(std::size_t bytes_max) {
        LoopOptions options = options_here();
        options.shutdown_bound = 60s;
        options.registered_buffers = true;
        options.buffer_bytes_max = bytes_max;
        Result<Loop> made = Loop::create(options);
        if (!made) std::abort();
        EXPECT_EQ(made->backend_report().registered_buffers, expected()) << GetParam().name;
        return std::move(*made);
    }
    // Linux 5.19 brought tables of registered memory, and multishot accepts.
    static bool expected() {
        const LoopOptions& options = GetParam().options;
        if (electric || options.backend != Backend::io_uring) return false;
        if (options.ring_limit == RingLimit::linux_5_15) return false;
        if (GetParam().world) return true;
        return (features_of_this_machine() & feature_bit(Feature::multishot_accept)) != 0;
    }
    // That so many transfers were made of registered memory. A machine that locks no memory says so.
    static void expect_registered(const Loop& loop, std::uint64_t least) {
        const Statistics& statistics = loop.statistics();
        if (!expected()) {
            EXPECT_EQ(statistics.transfers_registered, 0u);
            EXPECT_EQ(statistics.buffer_bytes_registered, 0u);
            EXPECT_EQ(statistics.registrations_refused, 0u);
        } else if (statistics.registrations_refused == 0) {
            EXPECT_GE(statistics.transfers_registered, least);
            EXPECT_GT(statistics.buffer_bytes_registered, 0u);
            EXPECT_LE(statistics.buffer_bytes_registered, statistics.buffer_bytes_mapped);
        }
    }
    static Buffer filled(Buffer buffer, std::string_view text) {
        EXPECT_TRUE(buffer.append(Bytes{text}));
        return buffer;
    }
};
WHORL_CONFORMANCE(FileRegistered);

TEST_P(FileRegistered, every_size_comes_back_byte_for_byte) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = registering();
    const File file = opened(loop, "a");
    std::uint64_t offset = 3;
    std::string all(3, '\0');
    const std::size_t sizes[] = {1,     255,   256,    257,    1'024, 4'095,
                                 4'096, 5'000, 16'384, 65'535, 65'536};
    for (const std::size_t size : sizes) {
        const std::string text = letters(size, offset);
        WriteAllAt::Done written =
            finished(loop, WriteAllAt{file, filled(loop.buffer(size), text), offset});
        EXPECT_FALSE(written.error) << size;
        EXPECT_EQ(written.bytes, size);
        EXPECT_EQ(written.buffer.text(), text);
        all += text;
        // Exactly so much room, at the end of a block of the pool.
        Buffer room = loop.buffer(size);
        const std::size_t front = room.capacity() - size;
        room.resize(front);
        room.trim_front(front);
        ReadExactAt::Done read = finished(loop, ReadExactAt{file, std::move(room), offset});
        EXPECT_FALSE(read.error) << size;
        EXPECT_TRUE(read.buffer.text() == text) << size;
        Buffer once = loop.buffer(size);
        ReadAt::Done part = finished(loop, ReadAt{file, std::move(once), offset});
        EXPECT_FALSE(part.error);
        ASSERT_GE(part.buffer.size(), 1u);
        EXPECT_TRUE(part.buffer.text() == text.substr(0, part.buffer.size())) << size;
        offset += size;
    }
    EXPECT_TRUE(os::get_file(path("a")) == all);
    expect_registered(loop, 3 * std::size(sizes));
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileRegistered, other_memory_and_errors_are_as_without) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = registering();
    Loop other = registering();
    const File file = opened(loop, "a");
    // The heap's, another loop's, too large for the pool, nothing.
    EXPECT_FALSE(finished(loop, WriteAllAt{file, buffer_of("heap")}).error);
    Buffer foreign = filled(other.buffer(300), letters(300));
    WriteAllAt::Done lent = finished(loop, WriteAllAt{file, std::move(foreign), 4});
    EXPECT_FALSE(lent.error);
    Buffer large = filled(loop.buffer(200'000), letters(200'000));
    EXPECT_FALSE(finished(loop, WriteAllAt{file, std::move(large), 304}).error);
    EXPECT_TRUE(os::get_file(path("a")) == "heap" + letters(300) + letters(200'000));
    EXPECT_EQ(loop.statistics().transfers_registered, 0u);
    WriteAt::Done none = finished(loop, WriteAt{file, loop.buffer(100), 0});
    EXPECT_FALSE(none.error);
    EXPECT_EQ(none.bytes, 0u);

    Append::Done appended = finished(loop, Append{file, filled(loop.buffer(9), "123456789")});
    EXPECT_FALSE(appended.error);
    EXPECT_EQ(os::get_file(path("a")).substr(200'304),
              std::string("123456789").substr(0, appended.bytes));
    ReadExactAt::Done end = finished(loop, ReadExactAt{file, loop.buffer(1'024), 200'000});
    EXPECT_EQ(end.error, Error::end_of_file);
    EXPECT_EQ(end.buffer.size(), 304 + appended.bytes);

    const File reads = opened(loop, "a", O_RDONLY);
    WriteAt::Done write = finished(loop, WriteAt{reads, filled(loop.buffer(3), "new"), 0});
    EXPECT_EQ(write.error, Error::from_errno(EBADF));
    EXPECT_EQ(write.buffer.text(), "new");
    const File directory = opened(loop, ".", O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(finished(loop, ReadAt{directory, loop.buffer(8)}).error, Error::from_errno(EISDIR));
    for (const File each : {file, reads, directory}) close_and_wait(loop, each);
    lent.buffer.reset();
    expect_clean(loop);
}

// Many at a time, from more of the pool than one mapping, while it grows.
TEST_P(FileRegistered, a_pool_that_grows_is_registered_as_it_is_used) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = registering();
    constexpr std::size_t block = 4'096;
    constexpr int count = 150;
    os::put_file(path("a"), letters(block * count));
    const File file = opened(loop, "a", O_RDONLY);
    std::vector<Buffer> held;
    for (int round = 0; round < 2; ++round) {
        int ended = 0;
        for (int index = 0; index < count; ++index) {
            const std::uint64_t offset = static_cast<std::uint64_t>(index) * block;
            ASSERT_TRUE(loop.submit(
                ReadExactAt{file, loop.buffer(block), offset}, [&, offset](Loop&, auto done) {
                    EXPECT_FALSE(done.error);
                    EXPECT_TRUE(done.buffer.text() == letters(block, offset)) << offset;
                    ++ended;
                    if (ended % 3 == 0) held.push_back(std::move(done.buffer));
                }));
        }
        run_until(loop, [&] { return ended == count; });
    }
    expect_registered(loop, 2 * count);
    held.clear();
    EXPECT_EQ(loop.statistics().buffers_out, 0u);
    close_and_wait(loop, file);
    expect_clean(loop);
}

// Cancelled at different times, closed under, and destroyed with its loop: each ends once, and its buffer
// is whole and comes home.
TEST_P(FileRegistered, cancelled_and_destroyed_it_ends_once) {
    WHORL_SKIP_IF_REFUSED();
    os::put_file(path("a"), letters(100'000));
    int ended = 0, begun = 0;
    std::vector<Buffer> held;
    {
        Loop loop = registering();
        for (int round = 0; round < 20; ++round) {
            const File file = opened(loop, "a");
            std::vector<Operation> operations;
            for (int index = 0; index < 10; ++index) {
                const auto made = loop.submit(
                    ReadExactAt{file, loop.buffer(10'000), 10'000u * static_cast<unsigned>(index)},
                    [&, index](Loop&, ReadExactAt::Done done) {
                        ++ended;
                        ASSERT_TRUE(done.buffer);
                        const std::string text =
                            letters(100'000).substr(10'000u * static_cast<unsigned>(index));
                        EXPECT_TRUE(done.buffer.text() == text.substr(0, done.buffer.size()));
                        EXPECT_TRUE(done.error || done.buffer.size() >= 10'000u);
                        if (index == 7) held.push_back(std::move(done.buffer));
                    });
                ASSERT_TRUE(made) << made.error().name();
                ++begun;
                operations.push_back(*made);
            }
            for (int turn = 0; turn < round % 4; ++turn) ASSERT_FALSE(loop.poll());
            for (std::size_t index = 0; index < 10; index += 2) loop.cancel(operations[index]);
            if (round == 19) break;  // the loop goes with ten under way
            close_and_wait(loop, file);
        }
    }
    EXPECT_GE(ended, begun - 10);
    for (const Buffer& buffer : held) {  // they outlive their loop
        const std::string_view text = buffer.text();
        EXPECT_TRUE(text == letters(100'000).substr(70'000, text.size()));
    }
}

TEST_P(FileRegistered, direct_transfers_are_as_without) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = registering();
    OpenFile::Done done = finished(loop, OpenFile{path("a"), O_RDWR | O_CREAT | O_DIRECT});
    if (done.error == Error::from_errno(EINVAL)) {
        GTEST_SKIP() << "this file system has no O_DIRECT";
    }
    ASSERT_FALSE(done.error);
    const std::string text = letters(8'192);
    Buffer buffer = filled(aligned_buffer(loop, 8'192), text);
    WriteAllAt::Done written = finished(loop, WriteAllAt{done.file, std::move(buffer), 4'096});
    EXPECT_FALSE(written.error);
    EXPECT_EQ(written.bytes, 8'192u);
    written.buffer.resize(4'096);
    EXPECT_EQ(refusal(loop, WriteAt{done.file, std::move(written.buffer), 100}), Error::misaligned);
    ReadExactAt::Done read =
        finished(loop, ReadExactAt{done.file, filled(aligned_buffer(loop, 8'192), ""), 4'096});
    EXPECT_TRUE(read.buffer.text().substr(0, 8'192) == text);
    EXPECT_TRUE(os::get_file(path("a")).substr(4'096) == text);
    close_and_wait(loop, done.file);
    expect_clean(loop);
}

class FileRegisteredFork : public FileRegistered {};
WHORL_CONFORMANCE_REAL(FileRegisteredFork);

// A child shares the parent's pages until one of them writes; what the kernel has pinned must stay the
// parent's then.
TEST_P(FileRegisteredFork, memory_stays_the_parents) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = registering();
    const File file = opened(loop, "a");
    const std::string before = letters(4'096), after = letters(4'096, 11);
    Buffer buffer = filled(loop.buffer(4'096), before);
    WriteAllAt::Done first = finished(loop, WriteAllAt{file, std::move(buffer), 0});
    EXPECT_FALSE(first.error);
    Ends ends = Ends::pipe();
    const pid_t child = ::fork();
    if (child == 0) {  // stays until the parent has read
        ends.out.close();
        char byte = 0;
        pollfd ready{ends.in.get(), POLLIN, 0};
        ::poll(&ready, 1, -1);
        const bool same = std::memcmp(first.buffer.data(), before.data(), before.size()) == 0;
        ::_exit(::read(ends.in.get(), &byte, 1) == 0 && same ? 0 : 1);
    }
    ASSERT_GT(child, 0);
    first.buffer.resize(0);
    WriteAllAt::Done second =
        finished(loop, WriteAllAt{file, filled(std::move(first.buffer), after), 0});
    EXPECT_FALSE(second.error);
    EXPECT_TRUE(os::get_file(path("a")) == after);
    std::memset(second.buffer.data(), 0, 4'096);
    ReadExactAt::Done read = finished(loop, ReadExactAt{file, std::move(second.buffer), 0});
    EXPECT_FALSE(read.error);
    EXPECT_TRUE(read.buffer.text() == after)
        << "the kernel read into a page that was the parent's once";
    ends.out.close();
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "the child sees what the parent had when it was made";
    expect_registered(loop, 3);
    close_and_wait(loop, file);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
