// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/file_calls.hpp"

#include "base/lasting.hpp"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace whorl::detail {

namespace {

template <class Number>
Number answered(Number done) noexcept {
    return done >= 0 ? done : -errno;
}

class RealFileCalls final : public FileCalls {
  public:
    // Without openat2(2), Linux before 5.6 or a filter, openat(2) serves who asks for nothing new.
    int openat2(int directory, const char* path, const OpenHow& how) noexcept override {
        const long done = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
        const bool missing = done < 0 && (errno == ENOSYS || errno == EPERM) && how.resolve == 0;
        if (!missing) return static_cast<int>(answered(done));
        return answered(
            ::openat(directory, path, static_cast<int>(how.flags), static_cast<mode_t>(how.mode)));
    }
    ssize_t preadv(int fd, const iovec* parts, int count, std::uint64_t offset) noexcept override {
        return answered(::preadv(fd, parts, count, static_cast<off_t>(offset)));
    }
    ssize_t pwritev2(int fd, const iovec* parts, int count, std::uint64_t offset,
                     int flags) noexcept override {
        return answered(::pwritev2(fd, parts, count, static_cast<off_t>(offset), flags));
    }
    int fsync(int fd, bool data_only) noexcept override {
        return answered(data_only ? ::fdatasync(fd) : ::fsync(fd));
    }
    int sync_file_range(int fd, std::uint64_t offset, std::uint64_t length,
                        unsigned flags) noexcept override {
        return answered(
            ::sync_file_range(fd, static_cast<off_t>(offset), static_cast<off_t>(length), flags));
    }
    int ftruncate(int fd, std::uint64_t size) noexcept override {
        return answered(::ftruncate(fd, static_cast<off_t>(size)));
    }
    int fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept override {
        return answered(
            ::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length)));
    }
    int fadvise(int fd, std::uint64_t offset, std::uint64_t length, int advice) noexcept override {
        return -::posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(length), advice);
    }
    int statx(int directory, const char* path, int flags, unsigned mask,
              struct statx& status) noexcept override {
        return answered(::statx(directory, path, flags, mask, &status));
    }
    int renameat2(int directory, const char* from, const char* to,
                  unsigned flags) noexcept override {
        return answered(::renameat2(directory, from, directory, to, flags));
    }
    int linkat(int directory, const char* from, const char* to) noexcept override {
        return answered(::linkat(directory, from, directory, to, 0));
    }
    int symlinkat(const char* text, int directory, const char* path) noexcept override {
        return answered(::symlinkat(text, directory, path));
    }
    int unlinkat(int directory, const char* path, int flags) noexcept override {
        return answered(::unlinkat(directory, path, flags));
    }
    int mkdirat(int directory, const char* path, unsigned mode) noexcept override {
        return answered(::mkdirat(directory, path, static_cast<mode_t>(mode)));
    }
    ssize_t readlinkat(int directory, const char* path, char* text,
                       std::size_t size) noexcept override {
        return answered(::readlinkat(directory, path, text, size));
    }
    ssize_t getdents64(int fd, void* entries, std::size_t size) noexcept override {
        return answered(::syscall(SYS_getdents64, fd, entries, size));
    }
    std::int64_t lseek(int fd, std::int64_t offset, int whence) noexcept override {
        return answered(::lseek(fd, offset, whence));
    }
    int inotify_init1(int flags) noexcept override { return answered(::inotify_init1(flags)); }
    int inotify_add_watch(int fd, const char* path, std::uint32_t mask) noexcept override {
        return answered(::inotify_add_watch(fd, path, mask));
    }
    int inotify_rm_watch(int fd, int number) noexcept override {
        return answered(::inotify_rm_watch(fd, number));
    }
};

}  // namespace

FileCalls& real_file_calls() noexcept {
    static Lasting<RealFileCalls> calls;
    return *calls;
}

}  // namespace whorl::detail
