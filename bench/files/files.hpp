// SPDX-License-Identifier: MIT
// Files: random reads of 4 KiB, `count` of them under way, from the page cache (read) or past it (direct);
// and writes of 4 KiB, each made durable (sync). A rival is a class Kind:
//
//   Kind(fd, slots)          slots.size() operations may be under way, each with its slot's buffer
//   run(work)                until work.next(slot) is false and all is done: reads work.offset(slot) into
//                            work.buffer(slot), or writes it there and syncs, and calls work.done(slot)
//
// The file is one of 16 MiB that has no name; every block begins with its number, and the sum of what was
// read is the checksum. Its folder is TMPDIR, or /var/tmp, because /tmp is often not a disk.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "../harness.hpp"

namespace bench {

inline constexpr std::size_t block_size = 4096;
inline constexpr std::size_t file_blocks = 4096;

class Work {
  public:
    Work(std::size_t slots, std::uint64_t operations, bool writes)
        : writes_(writes), left_(operations), wanted_(operations), offsets_(slots) {
        memory_ = static_cast<std::byte*>(std::aligned_alloc(block_size, slots * block_size));
        if (memory_ == nullptr) std::exit(1);
        std::memset(memory_, 0, slots * block_size);
    }
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;
    ~Work() { std::free(memory_); }

    bool writes() const { return writes_; }
    std::size_t slots() const { return offsets_.size(); }
    std::uint64_t sum() const { return sum_; }

    // Chooses the next block for a slot; false when there is nothing left to begin.
    bool next(std::size_t slot) {
        if (left_ == 0) return false;
        --left_;
        const std::uint64_t block = random_.below(file_blocks);
        offsets_[slot] = block * block_size;
        if (writes_) std::memcpy(buffer(slot), &block, sizeof block);
        return true;
    }
    std::byte* buffer(std::size_t slot) { return memory_ + slot * block_size; }
    off_t offset(std::size_t slot) const { return static_cast<off_t>(offsets_[slot]); }

    // True when that was the last.
    bool done(std::size_t slot, long result) {
        if (result != static_cast<long>(block_size)) {
            std::fprintf(stderr, "a block of %ld bytes\n", result);
            std::exit(1);
        }
        std::uint64_t block = 0;
        std::memcpy(&block, buffer(slot), sizeof block);
        sum_ += block + 1;
        return ++finished_ == wanted_;
    }

  private:
    bool writes_;
    std::uint64_t left_;
    std::uint64_t wanted_;
    std::uint64_t finished_ = 0;
    std::uint64_t sum_ = 0;
    Random random_;
    std::vector<std::uint64_t> offsets_;
    std::byte* memory_ = nullptr;
};

// The file, without a name; -1 when the folder's file system cannot have it.
inline int make_file(bool direct) {
    const char* folder = std::getenv("TMPDIR");
    const int fd =
        open(folder != nullptr ? folder : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    std::vector<std::byte> block(block_size);
    for (std::uint64_t number = 0; number != file_blocks; ++number) {
        std::memcpy(block.data(), &number, sizeof number);
        if (write(fd, block.data(), block_size) != static_cast<ssize_t>(block_size)) std::exit(1);
    }
    if (!direct) return fd;
    (void)fsync(fd);
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    const int again = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    (void)close(fd);
    return again;
}

template <class Kind>
int files_main(const char* name, int argc, char** argv) {
    Run run(name, argc, argv);
    if (!run.is("read") && !run.is("direct") && !run.is("sync")) return Run::skip();
    const int fd = make_file(run.is("direct"));
    if (fd < 0) return Run::skip();
    {
        Work work(run.count(), run.operations(), run.is("sync"));
        Kind kind(fd, run.count());
        run.measure([&] { kind.run(work); });
        run.add(work.sum());
    }
    (void)close(fd);
    return run.finish();
}

}  // namespace bench
