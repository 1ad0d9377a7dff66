// SPDX-License-Identifier: MIT
// Goal: names are made, changed, removed and listed as names.hpp says, with each error that it names and
// a test can provoke. Method: a directory of the test's own, looked at from outside.
#include "conformance/file_tools.hpp"

#include <set>

namespace whorl::conformance {
namespace {

class Names : public FileTools {
  protected:
    static Error errno_of(int number) { return Error::from_errno(number); }
    // All names of a directory, in batches of `room` bytes.
    static std::vector<std::string> listed(Loop& loop, File directory, std::size_t room,
                                           bool rewind = false) {
        std::vector<std::string> names;
        for (;;) {
            ListDirectory::Done done =
                finished(loop, ListDirectory{directory, Buffer::allocate(room), rewind});
            rewind = false;
            EXPECT_FALSE(done.error) << done.error.name();
            if (done.error || done.buffer.empty()) return names;
            DirectoryBatch batch(done.buffer);
            DirectoryEntry entry;
            while (batch.next(entry)) names.emplace_back(entry.name);
        }
    }
};
WHORL_CONFORMANCE(Names);

TEST_P(Names, directories_are_made_and_removed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    {
        NameDone made = finished(loop, MakeDirectory{path("d")});
        EXPECT_FALSE(made.error);
        EXPECT_EQ(made.paths.first(), path("d"));
    }
    EXPECT_TRUE(finished(loop, Stat{path("d")}).status.is_directory());
    EXPECT_EQ(finished(loop, MakeDirectory{path("d")}).error, errno_of(EEXIST));
    EXPECT_EQ(finished(loop, MakeDirectory{path("none/d")}).error, errno_of(ENOENT));
    os::put_file(path("d/f"), "x");
    EXPECT_EQ(finished(loop, MakeDirectory{path("d/f/e")}).error, errno_of(ENOTDIR));
    EXPECT_EQ(finished(loop, RemoveDirectory{path("d")}).error, errno_of(ENOTEMPTY));
    EXPECT_EQ(finished(loop, RemoveDirectory{path("d/f")}).error, errno_of(ENOTDIR));
    EXPECT_EQ(finished(loop, RemoveDirectory{path("d/.")}).error, errno_of(EINVAL));
    EXPECT_EQ(finished(loop, Unlink{path("d")}).error, errno_of(EISDIR));
    EXPECT_FALSE(finished(loop, Unlink{path("d/f")}).error);
    EXPECT_EQ(finished(loop, Unlink{path("d/f")}).error, errno_of(ENOENT));
    EXPECT_FALSE(finished(loop, RemoveDirectory{path("d")}).error);
    EXPECT_FALSE(os::exists(path("d")));
    EXPECT_EQ(refusal(loop, MakeDirectory{""}), Error::invalid_argument);
    expect_clean(loop);
    EXPECT_EQ(loop.statistics().buffers_out, 0u);
}

TEST_P(Names, rename_in_its_three_ways) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), "A");
    os::put_file(path("b"), "B");
    NameDone taken = finished(loop, Rename{path("a"), path("b"), Rename::How::no_replace});
    EXPECT_EQ(taken.error, errno_of(EEXIST));
    const Message message = message_of("rename", taken.error, taken.paths);
    EXPECT_NE(std::string_view(message.text()).find("rename " + path("a") + " " + path("b")),
              std::string_view::npos)
        << message.text();
    EXPECT_FALSE(finished(loop, Rename{path("a"), path("b"), Rename::How::exchange}).error);
    EXPECT_EQ(os::get_file(path("a")) + os::get_file(path("b")), "BA");
    EXPECT_FALSE(finished(loop, Rename{path("a"), path("b")}).error);
    EXPECT_EQ(os::get_file(path("b")), "B");
    EXPECT_FALSE(os::exists(path("a")));
    EXPECT_EQ(finished(loop, Rename{path("a"), path("b")}).error, errno_of(ENOENT));
    EXPECT_EQ(finished(loop, Rename{path("b"), path("a"), Rename::How::exchange}).error,
              errno_of(ENOENT));
    EXPECT_FALSE(finished(loop, Rename{path("b"), path("a"), Rename::How::no_replace}).error);
    EXPECT_EQ(os::get_file(path("a")), "B");
    ASSERT_FALSE(finished(loop, MakeDirectory{path("d")}).error);
    ASSERT_FALSE(finished(loop, MakeDirectory{path("e")}).error);
    EXPECT_EQ(finished(loop, Rename{path("a"), path("d")}).error, errno_of(EISDIR));
    EXPECT_EQ(finished(loop, Rename{path("d"), path("a")}).error, errno_of(ENOTDIR));
    EXPECT_EQ(finished(loop, Rename{path("d"), path("d/in")}).error, errno_of(EINVAL));
    os::put_file(path("e/f"), "F");
    EXPECT_EQ(finished(loop, Rename{path("d"), path("e")}).error, errno_of(ENOTEMPTY));
    EXPECT_FALSE(finished(loop, Rename{path("e"), path("d")}).error);
    EXPECT_EQ(os::get_file(path("d/f")), "F");
    expect_clean(loop);
}

TEST_P(Names, links_of_both_kinds) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), "A");
    EXPECT_FALSE(finished(loop, Link{path("a"), path("hard")}).error);
    EXPECT_EQ(finished(loop, Stat{path("a")}).status.links, 2u);
    EXPECT_EQ(finished(loop, Stat{path("a")}).status.inode,
              finished(loop, Stat{path("hard")}).status.inode);
    EXPECT_EQ(finished(loop, Link{path("a"), path("hard")}).error, errno_of(EEXIST));
    EXPECT_EQ(finished(loop, Link{path("none"), path("x")}).error, errno_of(ENOENT));
    EXPECT_EQ(finished(loop, Link{directory_, path("x")}).error, errno_of(EPERM));
    EXPECT_FALSE(finished(loop, Unlink{path("a")}).error);
    EXPECT_EQ(os::get_file(path("hard")), "A");

    EXPECT_FALSE(finished(loop, Symlink{"hard", path("soft")}).error);
    EXPECT_EQ(finished(loop, Symlink{"hard", path("soft")}).error, errno_of(EEXIST));
    EXPECT_EQ(os::get_file(path("soft")), "A");
    NameDone read = finished(loop, ReadLink{path("soft")});
    EXPECT_FALSE(read.error);
    EXPECT_EQ(read.paths.first(), path("soft"));
    EXPECT_EQ(read.paths.second(), "hard");
    EXPECT_EQ(finished(loop, ReadLink{path("hard")}).error, errno_of(EINVAL));
    EXPECT_EQ(finished(loop, ReadLink{path("none")}).error, errno_of(ENOENT));
    EXPECT_TRUE(finished(loop, Stat{path("soft"), false}).status.is_link());
    EXPECT_TRUE(finished(loop, Stat{path("soft")}).status.is_regular());
    EXPECT_FALSE(finished(loop, Unlink{path("soft")}).error);
    EXPECT_TRUE(os::exists(path("hard")));

    const std::string longest(4'000, 'l');
    EXPECT_FALSE(finished(loop, Symlink{longest, path("long")}).error);
    EXPECT_EQ(finished(loop, ReadLink{path("long")}).paths.second(), longest);
    ASSERT_FALSE(finished(loop, Symlink{"one", path("two")}).error);
    ASSERT_FALSE(finished(loop, Symlink{"two", path("one")}).error);
    EXPECT_EQ(finished(loop, Stat{path("one")}).error, errno_of(ELOOP));
    expect_clean(loop);
}

TEST_P(Names, many_are_made_listed_and_removed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    // Each of them costs the disk something: as many as that on each backend once.
    const std::string_view here(GetParam().name);
    const std::uint64_t count = scaled(here == "io_uring" || here == "libev" ? 3'000 : 500);
    std::uint64_t begun = 0, ended = 0;
    std::set<std::string> expected;
    const File directory = opened(loop, ".", O_RDONLY | O_DIRECTORY);
    while (ended < count) {
        for (; begun < count && begun - ended < 100; ++begun) {
            const std::string name = "entry" + std::to_string(begun);
            expected.insert(name);
            MakeDirectory make{name};
            make.directory = directory;
            ASSERT_TRUE(loop.submit(std::move(make), [&](Loop&, const NameDone& done) {
                EXPECT_FALSE(done.error);
                ++ended;
            }));
        }
        const std::uint64_t before = ended;
        run_until(loop, [&] { return ended != before; });
    }
    for (const std::size_t room : {std::size_t{280}, std::size_t{65'536}}) {
        if (room == 280 && count > 1'000) continue;  // a turn for every few names
        const std::vector<std::string> names = listed(loop, directory, room, true);
        EXPECT_EQ(names.size(), expected.size()) << room;
        EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), expected);
    }
    EXPECT_TRUE(listed(loop, directory, 1'000).empty()) << "at the end it stays";
    begun = ended = 0;
    auto next = expected.begin();
    while (ended < count) {
        for (; next != expected.end() && begun - ended < 100; ++next, ++begun) {
            ASSERT_TRUE(loop.submit(RemoveDirectory{path(*next)}, [&](Loop&, const NameDone& done) {
                EXPECT_FALSE(done.error);
                ++ended;
            }));
        }
        const std::uint64_t before = ended;
        run_until(loop, [&] { return ended != before; });
    }
    EXPECT_TRUE(listed(loop, directory, 1'000, true).empty());
    close_and_wait(loop, directory);
    expect_clean(loop);
}

TEST_P(Names, entries_tell_their_type) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("file"), "x");
    ASSERT_FALSE(finished(loop, MakeDirectory{path("directory")}).error);
    ASSERT_FALSE(finished(loop, Symlink{"x", path("link")}).error);
    const File directory = opened(loop, ".", O_RDONLY | O_DIRECTORY);
    ListDirectory::Done done = finished(loop, ListDirectory{directory, Buffer::allocate(4'096)});
    DirectoryBatch batch(done.buffer);
    DirectoryEntry entry;
    int seen = 0;
    while (batch.next(entry)) {
        ++seen;
        if (entry.type == DirectoryEntry::Type::unknown) continue;  // the file system does not say
        const bool right =
            (entry.name == "file" && entry.type == DirectoryEntry::Type::regular) ||
            (entry.name == "directory" && entry.type == DirectoryEntry::Type::directory) ||
            (entry.name == "link" && entry.type == DirectoryEntry::Type::link);
        EXPECT_TRUE(right) << entry.name;
    }
    EXPECT_EQ(seen, 3);
    EXPECT_EQ(refusal(loop, ListDirectory{directory, Buffer::allocate(100)}),
              Error::invalid_argument);
    const File file = opened(loop, "file", O_RDONLY);
    EXPECT_EQ(finished(loop, ListDirectory{file, Buffer::allocate(1'000)}).error,
              errno_of(ENOTDIR));
    close_and_wait(loop, file);
    close_and_wait(loop, directory);
    expect_clean(loop);
}

// Several listings of one directory are done one after another, and tell each name once.
TEST_P(Names, listings_queue_on_their_directory) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int index = 0; index < 50; ++index) os::put_file(path("f" + std::to_string(index)), "");
    const File directory = opened(loop, ".", O_RDONLY | O_DIRECTORY);
    std::vector<std::string> names;
    int ended = 0;
    for (int index = 0; index < 40; ++index) {
        ASSERT_TRUE(loop.submit(ListDirectory{directory, Buffer::allocate(300)},
                                [&, index](Loop&, ListDirectory::Done done) {
                                    EXPECT_FALSE(done.error);
                                    EXPECT_EQ(ended, index);
                                    DirectoryBatch batch(done.buffer);
                                    DirectoryEntry entry;
                                    while (batch.next(entry)) names.emplace_back(entry.name);
                                    ++ended;
                                }));
    }
    run_until(loop, [&] { return ended == 40; });
    EXPECT_EQ(names.size(), 50u);
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), 50u);
    close_and_wait(loop, directory);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
