// SPDX-License-Identifier: MIT
// Goal: files are opened, read, written, changed and closed as file.hpp says, with each error that it
// names and a test can provoke. Method: a directory of the test's own, looked at from outside.
#include "conformance/file_tools.hpp"

#include <linux/openat2.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <random>

namespace whorl::conformance {
namespace {

class FileBasic : public FileTools {};
WHORL_CONFORMANCE(FileBasic);

TEST_P(FileBasic, writes_and_reads_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const File file = opened(loop, "a");
    ASSERT_TRUE(file);
    const std::string text = letters(10'000);
    WriteAllAt::Done written = finished(loop, WriteAllAt{file, buffer_of(text), 5});
    EXPECT_FALSE(written.error);
    EXPECT_EQ(written.bytes, text.size());
    EXPECT_EQ(written.buffer.text(), text);
    EXPECT_EQ(os::get_file(path("a")), std::string(5, '\0') + text);
    ReadExactAt::Done read = finished(loop, ReadExactAt{file, Buffer::allocate(10'000), 5});
    EXPECT_FALSE(read.error);
    EXPECT_EQ(read.buffer.text(), text);
    ReadAt::Done part = finished(loop, ReadAt{file, Buffer::allocate(100), 9'950});
    EXPECT_FALSE(part.error);
    EXPECT_GE(part.buffer.size(), 1u);
    EXPECT_EQ(part.buffer.text(), text.substr(9'945, part.buffer.size()));
    for (const std::uint64_t beyond : {std::uint64_t{10'005}, std::uint64_t{1} << 40}) {
        ReadAt::Done end = finished(loop, ReadAt{file, Buffer::allocate(100), beyond});
        EXPECT_FALSE(end.error);
        EXPECT_EQ(end.buffer.size(), 0u);
        EXPECT_TRUE(end.buffer);
    }
    close_and_wait(loop, file);
    expect_clean(loop);
    EXPECT_EQ(loop.statistics().buffers_out, 0u);
}

TEST_P(FileBasic, open_tells_path_and_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("file"), "x");
    finished(loop, Symlink{"loop", path("loop")});
    struct Case {
        std::string path;
        int flags;
        int error;
    };
    const Case cases[] = {
        {path("none"), O_RDONLY, ENOENT},
        {path("none/deeper"), O_RDWR | O_CREAT, ENOENT},
        {path("file"), O_RDWR | O_CREAT | O_EXCL, EEXIST},
        {directory_, O_WRONLY, EISDIR},
        {path("file"), O_RDONLY | O_DIRECTORY, ENOTDIR},
        {path("file/deeper"), O_RDONLY, ENOTDIR},
        {path("loop"), O_RDONLY, ELOOP},
        {path(std::string(256, 'n')), O_RDONLY, ENAMETOOLONG},
    };
    for (const Case& each : cases) {
        OpenFile::Done done = finished(loop, OpenFile{each.path, each.flags});
        EXPECT_EQ(done.error, Error::from_errno(each.error)) << each.path;
        EXPECT_FALSE(done.file);
        EXPECT_EQ(done.paths.first(), each.path);
        const Message message = message_of("open", done.error, done.paths);
        const std::string_view said(message.text());
        EXPECT_NE(said.find("open " + each.path + ": "), std::string_view::npos) << said;
        EXPECT_NE(said.find(done.error.name()), std::string_view::npos) << said;
    }
    expect_clean(loop);
    EXPECT_EQ(loop.statistics().buffers_out, 0u);
}

TEST_P(FileBasic, submit_refuses_what_is_no_path_or_range) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_EQ(refusal(loop, OpenFile{""}), Error::invalid_argument);
    EXPECT_EQ(refusal(loop, OpenFile{std::string_view("a\0b", 3)}), Error::invalid_argument);
    EXPECT_EQ(refusal(loop, OpenFile{std::string(4096, 'p')}), Error::from_errno(ENAMETOOLONG));
    const File file = opened(loop, "a");
    EXPECT_EQ(refusal(loop, ReadAt{file, Buffer()}), Error::invalid_argument);
    EXPECT_EQ(refusal(loop, ReadAt{file, Buffer::of_static(Bytes{"x"})}), Error::invalid_argument);
    constexpr std::uint64_t most = INT64_MAX;
    EXPECT_EQ(refusal(loop, ReadAt{file, Buffer::allocate(2), most - 1}), Error::invalid_argument);
    EXPECT_EQ(refusal(loop, WriteAt{file, buffer_of("ab"), most}), Error::invalid_argument);
    EXPECT_EQ(refusal(loop, Truncate{file, most + 1}), Error::invalid_argument);
    EXPECT_EQ(refusal(loop, Allocate{file, most, 2}), Error::invalid_argument);
    // What was refused has not been moved from.
    WriteAt write{file, buffer_of("kept"), most};
    EXPECT_EQ(refusal(loop, std::move(write)), Error::invalid_argument);
    EXPECT_EQ(write.buffer.text(), "kept");
    close_and_wait(loop, file);
    for (const File gone : {file, File()}) {
        EXPECT_EQ(refusal(loop, ReadAt{gone, Buffer::allocate(10)}), Error::stale_handle);
        EXPECT_EQ(refusal(loop, WriteAllAt{gone, buffer_of("x")}), Error::stale_handle);
        EXPECT_EQ(refusal(loop, Sync{gone}), Error::stale_handle);
        EXPECT_EQ(refusal(loop, Truncate{gone, 1}), Error::stale_handle);
        EXPECT_EQ(refusal(loop, ListDirectory{gone, Buffer::allocate(1000)}), Error::stale_handle);
    }
    EXPECT_EQ(loop.close(file), Error::stale_handle);
    expect_clean(loop);
}

TEST_P(FileBasic, exact_read_beyond_the_end_tells_what_there_was) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), letters(5'000));
    const File file = opened(loop, "a");
    ReadExactAt::Done done = finished(loop, ReadExactAt{file, Buffer::allocate(5'000), 1'000});
    EXPECT_EQ(done.error, Error::end_of_file);
    EXPECT_EQ(done.buffer.text(), letters(5'000).substr(1'000));
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileBasic, wrong_access_is_an_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), "old");
    const File reads = opened(loop, "a", O_RDONLY);
    const File writes = opened(loop, "a", O_WRONLY);
    WriteAt::Done write = finished(loop, WriteAt{reads, buffer_of("new"), 0});
    EXPECT_EQ(write.error, Error::from_errno(EBADF));
    EXPECT_EQ(write.bytes, 0u);
    EXPECT_EQ(write.buffer.text(), "new");
    EXPECT_EQ(finished(loop, ReadAt{writes, Buffer::allocate(8)}).error, Error::from_errno(EBADF));
    EXPECT_EQ(finished(loop, Truncate{reads, 0}).error, Error::from_errno(EINVAL));
    EXPECT_EQ(os::get_file(path("a")), "old");
    const File directory = opened(loop, ".", O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(finished(loop, ReadAt{directory, Buffer::allocate(8)}).error,
              Error::from_errno(EISDIR));
    const Message message = message_of(loop, "write", write.error, reads);
    EXPECT_NE(std::string_view(message.text()).find(path("a")), std::string_view::npos)
        << message.text();
    for (const File file : {reads, writes, directory}) close_and_wait(loop, file);
    expect_clean(loop);
}

// Nobody promises an order, but none is lost, and each lies where the file ended.
TEST_P(FileBasic, appends_at_the_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const File file = opened(loop, "log");
    std::uint64_t bytes = 0;
    int ended = 0;
    for (int index = 0; index < 30; ++index) {
        const std::string line(100, static_cast<char>('A' + index));
        ASSERT_TRUE(loop.submit(Append{file, buffer_of(line)}, [&](Loop&, Append::Done done) {
            EXPECT_FALSE(done.error);
            EXPECT_LE(done.bytes, 100u);
            bytes += done.bytes;
            ++ended;
        }));
    }
    run_until(loop, [&] { return ended == 30; });
    const std::string text = os::get_file(path("log"));
    EXPECT_EQ(text.size(), bytes);
    if (exact()) {
        EXPECT_EQ(bytes, 3'000u);
    }
    for (std::size_t at = 1; at < text.size(); ++at) {
        const bool run_ends = text[at] != text[at - 1];
        if (run_ends) {
            EXPECT_EQ(text.find(text[at - 1], at), std::string::npos) << "torn apart";
        }
    }
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileBasic, chains_of_any_number_of_parts) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const File file = opened(loop, "a");
    for (const std::uint32_t count : {1u, 2u, 63u, 64u, 65u, 200u}) {
        BufferChain out, in;
        std::string expected;
        for (std::uint32_t part = 0; part < count; ++part) {
            const std::size_t size = part % 5 == 4 ? 0 : 100 + part;
            const std::string text = letters(size, expected.size());
            ASSERT_TRUE(out.push_back(buffer_of(text)));
            expected += text;
            ASSERT_TRUE(in.push_back(Buffer::allocate(70 + part)));
        }
        WriteChainAt::Done written = finished(loop, WriteChainAt{file, std::move(out), 11});
        EXPECT_FALSE(written.error);
        EXPECT_EQ(written.bytes, expected.size());
        EXPECT_EQ(written.chain.count(), count);
        ASSERT_FALSE(finished(loop, Truncate{file, 11 + expected.size()}).error);
        ReadChainAt::Done read = finished(loop, ReadChainAt{file, std::move(in), 11});
        EXPECT_FALSE(read.error);
        std::string got;
        for (Buffer& buffer : read.chain) got += buffer.text();
        EXPECT_EQ(read.bytes, got.size());
        EXPECT_TRUE(got == expected.substr(0, got.size()));
        const std::size_t room = 70 * count + count * (count - 1) / 2;
        EXPECT_EQ(got.size(), std::min(room, expected.size())) << count;
    }
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileBasic, size_space_and_status) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const File file = opened(loop, "a");
    ASSERT_FALSE(finished(loop, WriteAllAt{file, buffer_of(letters(65'536)), 0}).error);
    ASSERT_FALSE(finished(loop, Sync{file}).error);
    ASSERT_FALSE(finished(loop, Sync{file, true}).error);
    ASSERT_FALSE(finished(loop, SyncRange{file, 0, 0, SYNC_FILE_RANGE_WRITE}).error);
    ASSERT_FALSE(finished(loop, SyncRange{file, 0, std::uint64_t{1} << 33, 0}).error);
    EXPECT_EQ(finished(loop, SyncRange{file, 0, 0, 1u << 20}).error, Error::from_errno(EINVAL));
    ASSERT_FALSE(finished(loop, Advise{file, 0, 0, POSIX_FADV_SEQUENTIAL}).error);
    ASSERT_FALSE(finished(loop, Advise{file, 0, std::uint64_t{1} << 33, 0}).error);
    EXPECT_EQ(finished(loop, Advise{file, 0, 0, 99}).error, Error::from_errno(EINVAL));

    Stat::Done by_file = finished(loop, Stat{{}, true, file});
    Stat::Done by_path = finished(loop, Stat{path("a")});
    ASSERT_FALSE(by_file.error);
    ASSERT_FALSE(by_path.error);
    EXPECT_EQ(by_path.paths.first(), path("a"));
    EXPECT_EQ(by_file.status.inode, by_path.status.inode);
    EXPECT_EQ(by_file.status.size, 65'536u);
    EXPECT_GE(by_file.status.allocated, 65'536u);
    EXPECT_TRUE(by_file.status.is_regular());
    EXPECT_EQ(by_file.status.links, 1u);

    const std::uint32_t punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    ASSERT_FALSE(finished(loop, Allocate{file, 4'096, 32'768, punch}).error);
    Stat::Done holed = finished(loop, Stat{{}, true, file});
    EXPECT_EQ(holed.status.size, 65'536u);
    EXPECT_EQ(holed.status.allocated, by_file.status.allocated - 32'768);
    std::string expected = letters(65'536);
    expected.replace(4'096, 32'768, 32'768, '\0');
    EXPECT_TRUE(os::get_file(path("a")) == expected);

    ASSERT_FALSE(finished(loop, Truncate{file, 1'000}).error);
    EXPECT_EQ(os::get_file(path("a")), letters(1'000));
    ASSERT_FALSE(finished(loop, Truncate{file, 5'000}).error);
    EXPECT_EQ(os::get_file(path("a")), letters(1'000) + std::string(4'000, '\0'));
    ASSERT_FALSE(finished(loop, Allocate{file, 0, 100'000}).error);
    EXPECT_EQ(finished(loop, Stat{{}, true, file}).status.size, 100'000u);
    EXPECT_EQ(finished(loop, Allocate{file, 0, 0}).error, Error::from_errno(EINVAL));
    EXPECT_EQ(finished(loop, Stat{path("none")}).error, Error::from_errno(ENOENT));
    EXPECT_EQ(refusal(loop, Stat{}), Error::invalid_argument);
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileBasic, paths_start_at_a_directory_and_may_be_kept_inside) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), "inside");
    const File directory = opened(loop, ".", O_RDONLY | O_DIRECTORY);
    OpenFile inside{"a", O_RDONLY};
    inside.directory = directory;
    inside.resolve = RESOLVE_BENEATH;
    OpenFile::Done found = finished(loop, std::move(inside));
    ASSERT_FALSE(found.error);
    EXPECT_EQ(finished(loop, ReadExactAt{found.file, Buffer::allocate(6)}).buffer.text(), "inside");
    OpenFile outside{"../a", O_RDONLY};
    outside.directory = directory;
    outside.resolve = RESOLVE_BENEATH;
    EXPECT_EQ(finished(loop, std::move(outside)).error, Error::from_errno(EXDEV));
    close_and_wait(loop, found.file);
    close_and_wait(loop, directory);
    OpenFile stale{"a", O_RDONLY};
    stale.directory = directory;
    EXPECT_EQ(refusal(loop, std::move(stale)), Error::stale_handle);
    expect_clean(loop);
}

TEST_P(FileBasic, temporary_file_has_no_name) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    OpenFile::Done done = finished(loop, OpenFile{directory_, O_TMPFILE | O_RDWR, 0600});
    ASSERT_FALSE(done.error) << done.error.name();
    ASSERT_FALSE(finished(loop, WriteAllAt{done.file, buffer_of("nobody sees"), 0}).error);
    EXPECT_EQ(finished(loop, ReadExactAt{done.file, Buffer::allocate(11)}).buffer.text(),
              "nobody sees");
    EXPECT_TRUE(os::names_in(directory_).empty());
    close_and_wait(loop, done.file);
    expect_clean(loop);
}

TEST_P(FileBasic, no_slot_closes_the_file_again) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.handles_max = 1; });
    const File file = opened(loop, "a");
    OpenFile::Done second = finished(loop, OpenFile{path("b"), O_RDWR | O_CREAT});
    EXPECT_EQ(second.error, Error::slots_exhausted);
    EXPECT_FALSE(second.file);
    close_and_wait(loop, file);
    EXPECT_TRUE(os::exists(path("b")));
    const File third = opened(loop, "b");
    close_and_wait(loop, third);
    expect_clean(loop);
}

TEST_P(FileBasic, pipe_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends pipe = Ends::pipe();
    const Result<File> file = adopt_file(loop, pipe.in.get());
    ASSERT_TRUE(file);
    EXPECT_EQ(refusal(loop, ReadAt{*file, Buffer::allocate(10)}), Error::from_errno(ESPIPE));
    EXPECT_EQ(refusal(loop, WriteAt{*file, buffer_of("x")}), Error::from_errno(ESPIPE));
    const Result<int> back = detach(loop, *file);
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, pipe.in.get());
    EXPECT_EQ(adopt_file(loop, 12'345).error(), Error::from_errno(EBADF));
    expect_clean(loop);
}

TEST_P(FileBasic, adopted_and_detached) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), "text");
    Fd own(os::open_file(path("a"), O_RDWR));
    const Result<File> file = adopt_file(loop, own.get());
    ASSERT_TRUE(file);
    EXPECT_EQ(finished(loop, ReadExactAt{*file, Buffer::allocate(4)}).buffer.text(), "text");
    ASSERT_TRUE(loop.submit(Sync{*file}, [](Loop&, Sync::Done) {}));
    EXPECT_EQ(detach(loop, *file).error(), Error::from_errno(EBUSY));
    ASSERT_FALSE(loop.run());
    ASSERT_TRUE(detach(loop, *file));
    EXPECT_EQ(detach(loop, *file).error(), Error::stale_handle);
    expect_clean(loop);
}

// Sixty-four at once, in whatever order they end; on io_uring without a thread of ours.
TEST_P(FileBasic, random_reads_many_at_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    constexpr std::size_t size = 1 << 20;
    const std::string text = letters(size);
    os::put_file(path("a"), text);
    const File file = opened(loop, "a", O_RDONLY);
    std::mt19937 random(7);
    const std::uint64_t rounds = scaled(2'000);
    std::uint64_t begun = 0, ended = 0;
    struct Reader {
        Loop& loop;
        File file;
        const std::string& text;
        std::mt19937& random;
        std::uint64_t rounds;
        std::uint64_t& begun;
        std::uint64_t& ended;
        void next() {
            if (begun == rounds) return;
            ++begun;
            const std::uint64_t offset = random() % (size - 4'096);
            const auto made = loop.submit(
                ReadExactAt{file, loop.buffer(4'096), offset},
                [this, offset](Loop&, ReadExactAt::Done done) {
                    EXPECT_FALSE(done.error);
                    EXPECT_TRUE(done.buffer.text() == std::string_view(text).substr(offset, 4'096));
                    ++ended;
                    next();
                });
            ASSERT_TRUE(made);
        }
    } reader{loop, file, text, random, rounds, begun, ended};
    for (int count = 0; count < 64; ++count) reader.next();
    run_until(
        loop, [&] { return ended == rounds; }, 60s);
    if (!GetParam().world) {
        EXPECT_EQ(pool_threads() == 0, on_io_uring());
    }
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileBasic, direct_transfers_are_aligned) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    OpenFile::Done done = finished(loop, OpenFile{path("a"), O_RDWR | O_CREAT | O_DIRECT});
    if (done.error == Error::from_errno(EINVAL)) {
        GTEST_SKIP() << "this file system has no O_DIRECT";
    }
    ASSERT_FALSE(done.error);
    const File file = done.file;
    const Result<std::uint32_t> alignment = file_alignment(loop, file);
    ASSERT_TRUE(alignment);
    ASSERT_GE(*alignment, 512u);
    Buffer buffer = aligned_buffer(loop, 8'192);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4'096, 0u);
    ASSERT_TRUE(buffer.append(Bytes{letters(8'192)}));
    WriteAllAt::Done written = finished(loop, WriteAllAt{file, std::move(buffer), 0});
    EXPECT_FALSE(written.error);
    EXPECT_EQ(written.bytes, 8'192u);
    written.buffer.resize(4'096);
    EXPECT_EQ(refusal(loop, WriteAt{file, std::move(written.buffer), 100}), Error::misaligned);
    Buffer part = aligned_buffer(loop, 4'096);
    part.resize(8);
    part.trim_front(8);
    EXPECT_EQ(refusal(loop, ReadAt{file, std::move(part), 0}), Error::misaligned);
    EXPECT_NE(std::string_view(Error(Error::misaligned).text()).find("O_DIRECT"),
              std::string_view::npos);
    Buffer room = aligned_buffer(loop, 4'096);
    ASSERT_GE(room.capacity(), 4'096u);
    ReadAt::Done read = finished(loop, ReadAt{file, std::move(room), 4'096});
    EXPECT_FALSE(read.error) << read.error.name();
    EXPECT_EQ(read.buffer.text(), letters(8'192).substr(4'096));
    close_and_wait(loop, file);
    expect_clean(loop);
}

TEST_P(FileBasic, drained_loop_takes_no_file) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const File file = opened(loop, "a");
    ASSERT_FALSE(loop.drain(10s));
    EXPECT_EQ(refusal(loop, Sync{file}), Error::stale_handle);
    expect_clean(loop);
}

// What only this machine has.
class FileReal : public FileTools {};
WHORL_CONFORMANCE_REAL(FileReal);

TEST_P(FileReal, full_device_tells_how_far_it_came) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    OpenFile::Done done = finished(loop, OpenFile{"/dev/full", O_WRONLY});
    ASSERT_FALSE(done.error);
    WriteAllAt::Done written = finished(loop, WriteAllAt{done.file, buffer_of("text"), 0});
    EXPECT_EQ(written.error, Error::from_errno(ENOSPC));
    EXPECT_EQ(written.bytes, 0u);
    EXPECT_EQ(written.buffer.text(), "text");
    const Message message = message_of(loop, "write", written.error, done.file);
    EXPECT_NE(std::string_view(message.text()).find("write /dev/full: ENOSPC"),
              std::string_view::npos)
        << message.text();
    close_and_wait(loop, done.file);
    expect_clean(loop);
}

TEST_P(FileReal, no_descriptor_left_is_emfile) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    close_and_wait(loop, opened(loop, "warm"));
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const int lowest = dup(0);
    ::close(lowest);
    const rlimit tight{static_cast<rlim_t>(lowest), before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    OpenFile::Done done = finished(loop, OpenFile{path("b"), O_RDWR | O_CREAT});
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_EQ(done.error, Error::from_errno(EMFILE));
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
