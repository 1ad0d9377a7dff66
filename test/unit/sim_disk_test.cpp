// SPDX-License-Identifier: MIT
// Goal: the simulated disk refuses what goes beyond it, and what O_DIRECT does not allow, as open(2),
// write(2) and fallocate(2) say.
// Method: calls on a simulated kernel alone: these bounds are the file system's own on a real machine.
#include "backend/sim_disk.hpp"
#include "backend/file_calls.hpp"
#include "backend/sim_kernel.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <string>
#include <vector>

namespace whorl::detail {
namespace {

constexpr std::uint64_t page = SimNode::page_size;

class Disk {
  public:
    Disk() : files(kernel.file_calls()) {}

    int open(const char* path, int flags) {
        const bool creates = (flags & O_CREAT) != 0;
        return files.openat2(AT_FDCWD, path,
                             {static_cast<std::uint64_t>(flags), creates ? 0644u : 0u, 0});
    }
    ssize_t write(int fd, std::size_t size, std::uint64_t offset) {
        return write_parts(fd, {size}, offset);
    }
    ssize_t write_parts(int fd, const std::vector<std::size_t>& sizes, std::uint64_t offset) {
        std::vector<iovec> parts;
        for (const std::size_t size : sizes) parts.push_back({bytes.data(), size});
        return files.pwritev2(fd, parts.data(), static_cast<int>(parts.size()), offset, 0);
    }
    ssize_t read(int fd, std::size_t size, std::uint64_t offset) {
        const iovec part{bytes.data(), size};
        return files.preadv(fd, &part, 1, offset);
    }
    std::uint64_t size_of(const char* path) {
        struct statx status {};
        EXPECT_EQ(files.statx(AT_FDCWD, path, 0, STATX_SIZE, status), 0);
        return status.stx_size;
    }

    SimKernel kernel{testing::SimulationOptions()};
    FileCalls& files;
    std::string bytes = std::string(8 * page, 'x');
};

TEST(SimDisk, that_is_full_takes_a_part_and_then_nothing) {
    Disk disk;
    const int fd = disk.open("/tmp/file", O_CREAT | O_RDWR);
    ASSERT_GE(fd, 0);
    disk.kernel.disk->pages_max = 4;
    EXPECT_EQ(disk.write(fd, 2 * page, 0), static_cast<ssize_t>(2 * page));
    EXPECT_EQ(disk.write_parts(fd, {page, 4 * page}, 2 * page), static_cast<ssize_t>(2 * page))
        << "the second part finds room for one page";
    EXPECT_EQ(disk.write(fd, 1, 4 * page), -ENOSPC);
    EXPECT_EQ(disk.write(fd, page, 0), static_cast<ssize_t>(page)) << "over what is there";
    EXPECT_EQ(disk.write_parts(fd, {page, page}, 3 * page), static_cast<ssize_t>(page))
        << "what was written counts, and the error of the next part is told by the next call";
    EXPECT_EQ(disk.files.fallocate(fd, 0, 0, 4 * page), 0) << "it is there already";
    EXPECT_EQ(disk.files.fallocate(fd, 0, 0, 5 * page), -ENOSPC);
    EXPECT_EQ(disk.size_of("/tmp/file"), 4 * page);
    EXPECT_EQ(disk.files.ftruncate(fd, 9 * page), 0) << "a hole takes no room";
    EXPECT_EQ(disk.files.ftruncate(fd, page), 0);
    EXPECT_EQ(disk.write(fd, page, page), static_cast<ssize_t>(page)) << "room again";
}

TEST(SimDisk, has_a_largest_file) {
    Disk disk;
    const int fd = disk.open("/tmp/file", O_CREAT | O_RDWR);
    ASSERT_GE(fd, 0);
    constexpr std::uint64_t most = SimDisk::file_size_max;
    EXPECT_EQ(disk.write(fd, 1, most), -EFBIG);
    EXPECT_EQ(disk.write(fd, page, most - 100), 100) << "as much as may be";
    EXPECT_EQ(disk.size_of("/tmp/file"), most);
    EXPECT_EQ(disk.files.ftruncate(fd, most + 1), -EFBIG);
    EXPECT_EQ(disk.files.fallocate(fd, 0, most - 10, 11), -EFBIG);
    EXPECT_EQ(disk.files.fallocate(fd, FALLOC_FL_ZERO_RANGE, most - 10, 10), 0);
    EXPECT_EQ(disk.read(fd, 100, most - 100), 100);
    EXPECT_EQ(disk.bytes.substr(0, 100), std::string(90, 'x') + std::string(10, '\0'));
    EXPECT_EQ(disk.read(fd, 100, most), 0);
}

TEST(SimDisk, zero_range_beyond_the_end_makes_a_file_longer_unless_told) {
    Disk disk;
    const int fd = disk.open("/tmp/file", O_CREAT | O_RDWR);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(disk.write(fd, 10, 0), 10);
    EXPECT_EQ(disk.files.fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 5, 100), 0);
    EXPECT_EQ(disk.size_of("/tmp/file"), 10u);
    EXPECT_EQ(disk.files.fallocate(fd, FALLOC_FL_ZERO_RANGE, 5, 100), 0);
    EXPECT_EQ(disk.size_of("/tmp/file"), 105u);
}

TEST(SimDisk, direct_transfers_are_whole_blocks) {
    Disk disk;
    const int fd = disk.open("/tmp/file", O_CREAT | O_RDWR | O_DIRECT);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(disk.write(fd, 1024, 512), 1024);
    EXPECT_EQ(disk.write(fd, 1000, 512), -EINVAL);
    EXPECT_EQ(disk.write(fd, 1024, 100), -EINVAL);
    EXPECT_EQ(disk.read(fd, 1024, 512), 1024);
    EXPECT_EQ(disk.read(fd, 1000, 512), -EINVAL);
    EXPECT_EQ(disk.read(fd, 1024, 100), -EINVAL);
}

// A process that stands in a directory which somebody removed.
TEST(SimDisk, a_removed_directory_has_no_path_any_more) {
    Disk disk;
    FileCalls& files = disk.files;
    ASSERT_EQ(files.mkdirat(AT_FDCWD, "/tmp/folder", 0755), 0);
    const int folder = disk.open("/tmp/folder", O_RDONLY | O_DIRECTORY);
    ASSERT_GE(folder, 0);
    ASSERT_EQ(files.unlinkat(AT_FDCWD, "/tmp/folder", AT_REMOVEDIR), 0);
    const int again = files.openat2(folder, ".", {O_RDONLY | O_DIRECTORY, 0, 0});
    ASSERT_GE(again, 0);
    const std::string link = "/proc/self/fd/" + std::to_string(again);
    char text[64] = {};
    ASSERT_GT(files.readlinkat(AT_FDCWD, link.c_str(), text, sizeof text), 0);
    EXPECT_NE(std::string(text).find(" (deleted)"), std::string::npos) << text;
    EXPECT_EQ(files.readlinkat(AT_FDCWD, "/proc/self/fd/12345", text, sizeof text), -ENOENT);
    EXPECT_EQ(files.linkat(folder, "/tmp/nothing", "new"), -ENOENT);
    const int file = disk.open("/tmp/file", O_CREAT | O_RDWR);
    ASSERT_GE(file, 0);
    EXPECT_EQ(files.linkat(folder, "/tmp/file", "new"), -ENOENT) << "into what is gone";
}

}  // namespace
}  // namespace whorl::detail
