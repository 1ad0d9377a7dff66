// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/file_calls.hpp"
#include "backend/sim_disk.hpp"
#include "backend/sim_kernel.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

// The system calls on files and names of a simulated kernel. As Linux answers them, for what programs
// see a difference in; a transfer comes in parts where the world likes.

namespace whorl::detail {

namespace {

constexpr std::size_t alignment_direct = 512;

class SimFileCalls final : public FileCalls {
  public:
    explicit SimFileCalls(SimKernel& kernel) : kernel_(kernel) {
        kernel.disk = &disk_;
        disk_.journaling = kernel.options().power_loss;
    }

    int openat2(int directory, const char* path, const OpenHow& how) noexcept override;
    ssize_t preadv(int fd, const iovec* parts, int count, std::uint64_t offset) noexcept override;
    ssize_t pwritev2(int fd, const iovec* parts, int count, std::uint64_t offset,
                     int flags) noexcept override;
    int fsync(int fd, bool data_only) noexcept override;
    int sync_file_range(int fd, std::uint64_t offset, std::uint64_t length,
                        unsigned flags) noexcept override;
    int ftruncate(int fd, std::uint64_t size) noexcept override;
    int fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept override;
    int fadvise(int fd, std::uint64_t offset, std::uint64_t length, int advice) noexcept override;
    int statx(int directory, const char* path, int flags, unsigned mask,
              struct statx& status) noexcept override;
    int renameat2(int directory, const char* from, const char* to,
                  unsigned flags) noexcept override;
    int linkat(int directory, const char* from, const char* to) noexcept override;
    int symlinkat(const char* text, int directory, const char* path) noexcept override;
    int unlinkat(int directory, const char* path, int flags) noexcept override;
    int mkdirat(int directory, const char* path, unsigned mode) noexcept override;
    ssize_t readlinkat(int directory, const char* path, char* text,
                       std::size_t size) noexcept override;
    ssize_t getdents64(int fd, void* entries, std::size_t size) noexcept override;
    std::int64_t lseek(int fd, std::int64_t offset, int whence) noexcept override;
    int inotify_init1(int flags) noexcept override;
    int inotify_add_watch(int fd, const char* path, std::uint32_t mask) noexcept override;
    int inotify_rm_watch(int fd, int number) noexcept override;

  private:
    std::shared_ptr<SimNotify> notify_at(int fd) const noexcept;
    // What is open, and what a descriptor of O_PATH names, too: EBADF, ESPIPE.
    std::shared_ptr<SimOpenFile> open_at(int fd, int& error) const noexcept;
    std::shared_ptr<SimOpenFile> named_at(int fd, int& error) const noexcept;
    int no_notify(int fd) const noexcept;
    int find(int directory, const char* path, bool follow, std::uint64_t resolve,
             SimDisk::Found& found) noexcept;
    int open_created(const SimDisk::Found& where, const OpenHow& how, SimNodePtr& node);
    int open_allowed(const SimNode& node, const OpenHow& how) const noexcept;
    std::size_t shortened(std::size_t size);
    void touch() noexcept {
        disk_.now_ns = kernel_.clock().time_since_epoch().count();
        disk_.notices.watches_max = kernel_.file_watches_max;
        disk_.notices.queued_max = kernel_.file_events_max;
    }

    SimKernel& kernel_;
    SimDisk disk_;
};

// Of what has no blocks; a pipe's end that is read is not open for writing.
int fallocate_of_none(SimFile& file) noexcept {
    if (!SimPipeEnd::is(file)) return -ENODEV;
    return file.writes_into() != nullptr ? -ESPIPE : -EBADF;
}

std::shared_ptr<SimOpenFile> SimFileCalls::open_at(int fd, int& error) const noexcept {
    std::shared_ptr<SimOpenFile> found = named_at(fd, error);
    if (found == nullptr || (found->flags & O_PATH) == 0) return found;
    error = -EBADF;
    return nullptr;
}

std::shared_ptr<SimOpenFile> SimFileCalls::named_at(int fd, int& error) const noexcept {
    const SimFilePtr found = kernel_.file(fd);
    error = found == nullptr ? -EBADF : -ESPIPE;
    if (found == nullptr || std::strcmp(found->name(), "file") != 0) return nullptr;
    error = 0;
    return std::static_pointer_cast<SimOpenFile>(found);
}

int SimFileCalls::find(int directory, const char* path, bool follow, std::uint64_t resolve,
                       SimDisk::Found& found) noexcept {
    touch();
    if (std::strlen(path) >= PATH_MAX) return -ENAMETOOLONG;
    SimNodePtr start = disk_.root();
    if (directory != AT_FDCWD && (path[0] != '/' || resolve != 0)) {
        int error = 0;
        const auto file = named_at(directory, error);
        if (file == nullptr) return error == -ESPIPE ? -ENOTDIR : error;
        if (file->node->kind != SimNode::Kind::directory) return -ENOTDIR;
        start = file->node;
    }
    return disk_.find(start, path, follow, resolve, found);
}

// A part of `size` now and then, never nothing.
std::size_t SimFileCalls::shortened(std::size_t size) {
    if (size < 2 || !kernel_.faulty(kernel_.options().short_transfer)) return size;
    const auto bound = static_cast<std::uint32_t>(std::min<std::size_t>(size - 1, 1u << 20));
    return 1 + kernel_.choices.below(bound);
}

// --- opening

int SimFileCalls::open_created(const SimDisk::Found& where, const OpenHow& how, SimNodePtr& node) {
    if (where.wants_directory) return -EISDIR;
    return disk_.make(where, SimNode::Kind::file, static_cast<unsigned>(how.mode) & 0755, node);
}

int SimFileCalls::open_allowed(const SimNode& node, const OpenHow& how) const noexcept {
    const bool directory = node.kind == SimNode::Kind::directory;
    const auto access = how.flags & O_ACCMODE;
    if ((how.flags & O_DIRECTORY) != 0 && !directory) return -ENOTDIR;
    if ((how.flags & O_PATH) != 0) return 0;
    if (node.kind == SimNode::Kind::link) return -ELOOP;
    const bool writes = access != O_RDONLY || (how.flags & O_TRUNC) != 0;
    if (directory && (writes || (how.flags & O_CREAT) != 0)) return -EISDIR;
    if (access != O_WRONLY && (node.mode & 0400) == 0) return -EACCES;
    return writes && (node.mode & 0200) == 0 ? -EACCES : 0;
}

int SimFileCalls::openat2(int directory, const char* path, const OpenHow& how) noexcept {
    const bool creates = (how.flags & O_CREAT) != 0;
    const bool exclusive = creates && (how.flags & O_EXCL) != 0;
    const bool temporary = (how.flags & O_TMPFILE) == O_TMPFILE;
    if (!creates && !temporary && how.mode != 0) return -EINVAL;
    if (creates && (how.flags & O_DIRECTORY) != 0) return -EINVAL;
    const bool follow = (how.flags & O_NOFOLLOW) == 0 && !exclusive;
    SimDisk::Found found;
    if (const int error = find(directory, path, follow, how.resolve, found)) return error;
    SimNodePtr node = found.node;
    if (temporary) {
        if (node == nullptr) return -ENOENT;
        if (node->kind != SimNode::Kind::directory) return -ENOTDIR;
        node = std::make_shared<SimNode>();
        node->mode = static_cast<unsigned>(how.mode) & 0755;
    } else if (node == nullptr) {
        if (!creates) return -ENOENT;
        if (const int error = open_created(found, how, node)) return error;
    } else if (exclusive) {
        return -EEXIST;
    } else {
        if (const int error = open_allowed(*node, how)) return error;
        const bool cuts = (how.flags & O_TRUNC) != 0 && node->kind == SimNode::Kind::file;
        if (cuts) disk_.resize(*node, 0);
    }
    std::string name = found.parent != nullptr && !found.name.empty() && !temporary
                           ? disk_.path_of(found.parent) + "/" + found.name
                           : disk_.path_of(found.node);
    if (name.compare(0, 2, "//") == 0) name.erase(0, 1);
    const auto flags = static_cast<int>(how.flags);
    const bool cut = found.node != nullptr && (flags & O_TRUNC) != 0 && !temporary;
    const auto file =
        std::make_shared<SimOpenFile>(kernel_, disk_, std::move(node), flags, std::move(name));
    if (!temporary) file->found_at(found);
    if (cut) file->tell_change(IN_MODIFY);
    return kernel_.install(file);
}

// --- data

ssize_t SimFileCalls::preadv(int fd, const iovec* parts, int count, std::uint64_t offset) noexcept {
    int error = 0;
    const auto file = open_at(fd, error);
    if (file == nullptr) return error;
    std::size_t size = 0;
    for (int part = 0; part < count; ++part) size += parts[part].iov_len;
    const bool direct = (file->flags & O_DIRECT) != 0;
    if (direct && (offset | size) % alignment_direct != 0) return -EINVAL;
    std::size_t left = direct ? size : shortened(size);
    ssize_t done = 0;
    for (int part = 0; part < count && left != 0; ++part) {
        const std::size_t here = std::min(parts[part].iov_len, left);
        if (here == 0) continue;
        const ssize_t got = file->read_at(offset + static_cast<std::uint64_t>(done),
                                          static_cast<char*>(parts[part].iov_base), here);
        if (got < 0) return got;
        done += got;
        left -= static_cast<std::size_t>(got);
        if (static_cast<std::size_t>(got) < here) break;
    }
    if (size == 0 && !file->readable()) return -EBADF;
    return done;
}

ssize_t SimFileCalls::pwritev2(int fd, const iovec* parts, int count, std::uint64_t offset,
                               int flags) noexcept {
    int error = 0;
    const auto file = open_at(fd, error);
    if (file == nullptr) return error;
    touch();
    std::size_t size = 0;
    for (int part = 0; part < count; ++part) size += parts[part].iov_len;
    const bool direct = (file->flags & O_DIRECT) != 0;
    if (direct && (offset | size) % alignment_direct != 0) return -EINVAL;
    if (!file->writable()) return -EBADF;
    if ((flags & RWF_APPEND) != 0) offset = file->node->size;
    std::size_t left = direct ? size : shortened(size);
    ssize_t done = 0;
    for (int part = 0; part < count && left != 0; ++part) {
        const std::size_t here = std::min(parts[part].iov_len, left);
        if (here == 0) continue;
        const ssize_t put = file->write_at(offset + static_cast<std::uint64_t>(done),
                                           static_cast<const char*>(parts[part].iov_base), here);
        if (put < 0) return done != 0 ? done : put;
        done += put;
        left -= static_cast<std::size_t>(put);
        if (static_cast<std::size_t>(put) < here) break;
    }
    return done;
}

int SimFileCalls::fsync(int fd, bool) noexcept {
    int error = 0;
    const auto file = open_at(fd, error);
    if (file == nullptr) return error == -ESPIPE ? -EINVAL : error;
    disk_.sync(*file->node);
    return 0;
}

int SimFileCalls::sync_file_range(int fd, std::uint64_t, std::uint64_t, unsigned flags) noexcept {
    int error = 0;
    if (open_at(fd, error) == nullptr) return error;
    constexpr unsigned known =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    return (flags & ~known) != 0 ? -EINVAL : 0;
}

int SimFileCalls::ftruncate(int fd, std::uint64_t size) noexcept {
    int error = 0;
    const auto file = open_at(fd, error);
    if (file == nullptr) return error == -ESPIPE ? -EINVAL : error;
    touch();
    if (!file->writable() || file->node->kind != SimNode::Kind::file) return -EINVAL;
    if (size > SimDisk::file_size_max) return -EFBIG;
    disk_.resize(*file->node, size);
    file->tell_change(IN_MODIFY);
    return 0;
}

int SimFileCalls::fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept {
    int error = 0;
    const auto file = open_at(fd, error);
    if (error == -EBADF) return error;
    if (length == 0) return -EINVAL;
    if (file == nullptr) return fallocate_of_none(*kernel_.file(fd));
    touch();
    if (!file->writable()) return -EBADF;
    if (file->node->kind != SimNode::Kind::file) return -ENODEV;
    SimNode& node = *file->node;
    const bool keeps = (mode & FALLOC_FL_KEEP_SIZE) != 0;
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
        case 0:
            break;
        case FALLOC_FL_PUNCH_HOLE:
            if (!keeps) return -EOPNOTSUPP;
            node.zero(offset, length);
            file->tell_change(IN_MODIFY);
            return 0;
        case FALLOC_FL_ZERO_RANGE:
            node.zero(offset, length);
            break;
        default:
            return -EOPNOTSUPP;
    }
    if ((error = disk_.allocate(node, offset, length)) != 0) return error;
    if (!keeps && offset + length > node.size) disk_.resize(node, offset + length);
    file->tell_change(IN_MODIFY);
    return 0;
}

int SimFileCalls::fadvise(int fd, std::uint64_t, std::uint64_t, int advice) noexcept {
    int error = 0;
    const auto file = open_at(fd, error);
    if (error == -EBADF) return error;
    if (file == nullptr && SimPipeEnd::is(*kernel_.file(fd))) return error;
    return advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE ? -EINVAL : 0;
}

std::int64_t SimFileCalls::lseek(int fd, std::int64_t offset, int whence) noexcept {
    int error = 0;
    const auto file = open_at(fd, error);
    if (file == nullptr) return error;
    std::int64_t from = 0;
    if (whence == SEEK_CUR) from = static_cast<std::int64_t>(file->position);
    else if (whence == SEEK_END) from = static_cast<std::int64_t>(file->node->size);
    else if (whence != SEEK_SET) return -EINVAL;
    if (from + offset < 0) return -EINVAL;
    file->position = static_cast<std::uint64_t>(from + offset);
    return from + offset;
}

// --- names

int SimFileCalls::statx(int directory, const char* path, int flags, unsigned,
                        struct statx& status) noexcept {
    SimNodePtr node;
    if (path[0] == '\0') {
        if ((flags & AT_EMPTY_PATH) == 0) return -ENOENT;
        int error = 0;
        const auto file = named_at(directory, error);
        if (file == nullptr) return error;
        node = file->node;
    } else {
        SimDisk::Found found;
        const bool follow = (flags & AT_SYMLINK_NOFOLLOW) == 0;
        if (const int error = find(directory, path, follow, 0, found)) return error;
        if (found.node == nullptr) return -ENOENT;
        node = found.node;
    }
    status = {};
    status.stx_mask = STATX_BASIC_STATS;
    status.stx_blksize = SimNode::page_size;
    status.stx_nlink = node->links;
    status.stx_mode = static_cast<std::uint16_t>(node->stat_mode());
    status.stx_ino = node->number;
    status.stx_size = node->kind == SimNode::Kind::link ? node->text.size() : node->size;
    status.stx_blocks = node->pages.size() * (SimNode::page_size / 512);
    status.stx_mtime.tv_sec = node->modified_ns / 1'000'000'000;
    status.stx_mtime.tv_nsec = static_cast<std::uint32_t>(node->modified_ns % 1'000'000'000);
    status.stx_atime = status.stx_ctime = status.stx_mtime;
    return 0;
}

int SimFileCalls::renameat2(int directory, const char* from, const char* to,
                            unsigned flags) noexcept {
    SimDisk::Found old, made;
    if (const int error = find(directory, from, false, 0, old)) return error;
    if (const int error = find(directory, to, false, 0, made)) return error;
    const int error = disk_.rename(old, made, flags);
    old = made = {};
    disk_.notices.sweep();
    return error;
}

int SimFileCalls::linkat(int directory, const char* from, const char* to) noexcept {
    SimDisk::Found old, made;
    if (const int error = find(directory, from, false, 0, old)) return error;
    if (const int error = find(directory, to, false, 0, made)) return error;
    return disk_.link(old, made);
}

int SimFileCalls::symlinkat(const char* text, int directory, const char* path) noexcept {
    SimDisk::Found found;
    if (text[0] == '\0') return -ENOENT;
    if (const int error = find(directory, path, false, 0, found)) return error;
    if (found.node == nullptr && found.wants_directory) return -ENOENT;
    SimNodePtr made;
    if (const int error = disk_.make(found, SimNode::Kind::link, 0777, made)) return error;
    made->text = text;
    return 0;
}

int SimFileCalls::unlinkat(int directory, const char* path, int flags) noexcept {
    SimDisk::Found found;
    if (const int error = find(directory, path, false, 0, found)) return error;
    const int error = disk_.remove(found, (flags & AT_REMOVEDIR) != 0);
    found = {};
    disk_.notices.sweep();
    return error;
}

int SimFileCalls::mkdirat(int directory, const char* path, unsigned mode) noexcept {
    std::string plain(path);  // a slash at the end says nothing new
    while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
    SimDisk::Found found;
    if (const int error = find(directory, plain.c_str(), false, 0, found)) return error;
    SimNodePtr made;
    return disk_.make(found, SimNode::Kind::directory, mode & 0755, made);
}

ssize_t SimFileCalls::readlinkat(int directory, const char* path, char* text,
                                 std::size_t size) noexcept {
    std::string answer;
    int number = -1;
    if (std::sscanf(path, "/proc/self/fd/%d", &number) == 1) {
        int error = 0;
        const auto file = named_at(number, error);
        if (file == nullptr) return -ENOENT;
        answer = file->path;
    } else {
        SimDisk::Found found;
        if (const int error = find(directory, path, false, 0, found)) return error;
        if (found.node == nullptr) return -ENOENT;
        if (found.node->kind != SimNode::Kind::link) return -EINVAL;
        answer = found.node->text;
    }
    const std::size_t count = std::min(size, answer.size());
    std::copy_n(answer.data(), count, text);  // without a zero, as readlink(2)
    return static_cast<ssize_t>(count);
}

// Entries keep their order by name; `position` counts those that were told, "." and ".." first.
ssize_t SimFileCalls::getdents64(int fd, void* entries, std::size_t size) noexcept {
    int error = 0;
    const auto file = open_at(fd, error);
    if (file == nullptr) return error == -ESPIPE ? -ENOTDIR : error;
    if (file->node->kind != SimNode::Kind::directory) return -ENOTDIR;
    if (file->node->links == 0) return -ENOENT;
    char* out = static_cast<char*>(entries);
    std::size_t used = 0;
    const auto put = [&](const std::string& name, const SimNode& node) {
        constexpr std::size_t name_at = 19;
        const std::size_t length = (name_at + name.size() + 1 + 7) / 8 * 8;
        if (length > size - used) return false;
        char* entry = out + used;
        std::memset(entry, 0, length);
        const auto short_length = static_cast<std::uint16_t>(length);
        const auto next = static_cast<std::int64_t>(file->position + 1);
        std::memcpy(entry, &node.number, sizeof node.number);
        std::memcpy(entry + 8, &next, sizeof next);
        std::memcpy(entry + 16, &short_length, sizeof short_length);
        entry[18] = static_cast<char>(IFTODT(node.stat_mode()));
        std::copy(name.begin(), name.end(), entry + name_at);  // a zero is behind it
        used += length;
        ++file->position;
        return true;
    };
    const bool fits = (file->position > 0 || put(".", *file->node)) &&
                      (file->position > 1 || put("..", *file->node));
    std::uint64_t index = 2;
    for (const auto& [name, node] : file->node->entries) {
        if (!fits) break;
        if (index++ < file->position) continue;
        if (!put(name, *node)) break;
    }
    const bool more = file->position < file->node->entries.size() + 2;
    return used == 0 && more ? -EINVAL : static_cast<ssize_t>(used);
}

// --- watching

int SimFileCalls::inotify_init1(int flags) noexcept {
    const auto made = std::make_shared<SimNotify>(kernel_, disk_.notices);
    made->nonblocking = (flags & IN_NONBLOCK) != 0;
    const int number = kernel_.install(made);
    if (number >= 0) disk_.notices.add(made);
    return number;
}

std::shared_ptr<SimNotify> SimFileCalls::notify_at(int fd) const noexcept {
    const SimFilePtr found = kernel_.file(fd);
    if (found == nullptr || std::strcmp(found->name(), "inotify") != 0) return nullptr;
    return std::static_pointer_cast<SimNotify>(found);
}

// What is said of a descriptor that notify_at() has not found.
int SimFileCalls::no_notify(int fd) const noexcept {
    int error = 0;
    static_cast<void>(open_at(fd, error));
    return error == -EBADF ? -EBADF : -EINVAL;
}

int SimFileCalls::inotify_add_watch(int fd, const char* path, std::uint32_t mask) noexcept {
    const auto notify = notify_at(fd);
    if (notify == nullptr) return no_notify(fd);
    SimDisk::Found found;
    const bool follow = (mask & IN_DONT_FOLLOW) == 0;
    if (const int error = find(AT_FDCWD, path, follow, 0, found)) return error;
    if (found.node == nullptr) return -ENOENT;
    const bool directory = found.node->kind == SimNode::Kind::directory;
    if ((mask & IN_ONLYDIR) != 0 && !directory) return -ENOTDIR;
    return notify->add(found.node, mask);
}

int SimFileCalls::inotify_rm_watch(int fd, int number) noexcept {
    const auto notify = notify_at(fd);
    if (notify == nullptr) return no_notify(fd);
    return notify->remove(number);
}

}  // namespace

std::unique_ptr<FileCalls> make_sim_file_calls(SimKernel& kernel) {
    return std::make_unique<SimFileCalls>(kernel);
}

}  // namespace whorl::detail
