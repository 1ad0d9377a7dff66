// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace whorl::detail {

class SimKernel;

// As struct open_how of linux/openat2.h.
struct OpenHow {
    std::uint64_t flags;
    std::uint64_t mode;
    std::uint64_t resolve;
};

// The system calls on files and names; most of them may wait for a disk. The kernel answers them, or a
// simulated one. Each is the system call of that name and answers as it does, an error as a negated
// errno value. Thread: any.
class FileCalls {
  public:
    FileCalls() = default;
    FileCalls(const FileCalls&) = delete;
    FileCalls& operator=(const FileCalls&) = delete;
    virtual ~FileCalls() = default;

    virtual int openat2(int directory, const char* path, const OpenHow& how) noexcept = 0;
    virtual ssize_t preadv(int fd, const iovec* parts, int count,
                           std::uint64_t offset) noexcept = 0;
    virtual ssize_t pwritev2(int fd, const iovec* parts, int count, std::uint64_t offset,
                             int flags) noexcept = 0;
    virtual int fsync(int fd, bool data_only) noexcept = 0;
    virtual int sync_file_range(int fd, std::uint64_t offset, std::uint64_t length,
                                unsigned flags) noexcept = 0;
    virtual int ftruncate(int fd, std::uint64_t size) noexcept = 0;
    virtual int fallocate(int fd, int mode, std::uint64_t offset,
                          std::uint64_t length) noexcept = 0;
    virtual int fadvise(int fd, std::uint64_t offset, std::uint64_t length,
                        int advice) noexcept = 0;
    virtual int statx(int directory, const char* path, int flags, unsigned mask,
                      struct statx& status) noexcept = 0;
    virtual int renameat2(int directory, const char* from, const char* to,
                          unsigned flags) noexcept = 0;
    virtual int linkat(int directory, const char* from, const char* to) noexcept = 0;
    virtual int symlinkat(const char* text, int directory, const char* path) noexcept = 0;
    virtual int unlinkat(int directory, const char* path, int flags) noexcept = 0;
    virtual int mkdirat(int directory, const char* path, unsigned mode) noexcept = 0;
    virtual ssize_t readlinkat(int directory, const char* path, char* text,
                               std::size_t size) noexcept = 0;
    virtual ssize_t getdents64(int fd, void* entries, std::size_t size) noexcept = 0;
    virtual std::int64_t lseek(int fd, std::int64_t offset, int whence) noexcept = 0;

    virtual int inotify_init1(int flags) noexcept = 0;
    virtual int inotify_add_watch(int fd, const char* path, std::uint32_t mask) noexcept = 0;
    virtual int inotify_rm_watch(int fd, int number) noexcept = 0;
};

FileCalls& real_file_calls() noexcept;
std::unique_ptr<FileCalls> make_sim_file_calls(SimKernel& kernel);

}  // namespace whorl::detail
