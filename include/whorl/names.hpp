// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/path.hpp>

#include <cstdint>
#include <string_view>
#include <utility>

// Names in the file system: to make, change, remove and list them. As for files (file.hpp) nothing is
// promised of their order, and both paths of an operation start at its one `directory`. ReadLink and
// ListDirectory are made by the work pool on every backend.
// Errors of all, besides those of Loop::submit, `cancelled` and `timed_out`: ENOENT, EACCES, EPERM,
// ENOTDIR, ELOOP, ENAMETOOLONG, EROFS, EIO, ENOSPC, EDQUOT; ENOMEM from submit; where a thread is
// needed EAGAIN and ENOMEM (none could be made, work.hpp).

namespace whorl {

// The Done of an operation that answers nothing but its success.
struct NameDone {
    Error error;  // none when it was done
    Paths paths;  // that were given, for messages
};

// Gives a file another name. What had the new name is replaced at once, so that everybody sees the one
// or the other. Errors: EXDEV (another file system), ENOTEMPTY or EEXIST (a directory that is not
//   empty is there), EISDIR, EINVAL (into itself; flags that the file system does not know), EBUSY.
// Source: renameat2(2).
struct Rename {
    // What becomes of a file that has the new name already.
    enum class How : std::uint8_t {
        replace,     // it goes
        no_replace,  // EEXIST when the new name is taken
        exchange,    // both names must exist
    };
    std::string_view from;   // the present name
    std::string_view to;     // the new one
    How how = How::replace;  // when `to` is taken
    File directory = {};     // where relative paths start; null: the working directory

    using Done = NameDone;  // paths: `from` and `to`

    static constexpr detail::OpKind kind = detail::OpKind::rename;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {from, to, true});
    }
    WHORL_EXPORT void store(detail::OpRecord& record) const noexcept;
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, Paths(record.take<Buffer>())};
    }
};

// Gives a file a further name; a symbolic link itself, not what it names.
// Errors: EEXIST, EXDEV, EMLINK, EPERM (a directory). Source: linkat(2).
struct Link {
    std::string_view from;  // the present name
    std::string_view to;    // the further one
    File directory = {};    // where relative paths start; null: the working directory

    using Done = NameDone;  // paths: `from` and `to`

    static constexpr detail::OpKind kind = detail::OpKind::link;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {from, to, true});
    }
    static void store(detail::OpRecord& record) noexcept { detail::paths_set(record, 0); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, Paths(record.take<Buffer>())};
    }
};

// Makes a symbolic link named `path` that says `text`. Errors: EEXIST. Source: symlinkat(2).
struct Symlink {
    std::string_view text;  // what the link says; it need not exist
    std::string_view path;  // the link's name
    File directory = {};    // where `path` starts when it is relative; null: the working directory

    using Done = NameDone;  // paths: `text` and `path`

    static constexpr detail::OpKind kind = detail::OpKind::symlink;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {text, path, true});
    }
    static void store(detail::OpRecord& record) noexcept { detail::paths_set(record, 0); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, Paths(record.take<Buffer>())};
    }
};

// Removes a name that is not a directory's; the file goes with its last name and descriptor.
// Errors: EISDIR, EBUSY. Source: unlinkat(2).
struct Unlink {
    std::string_view path;  // the name to remove; a symbolic link itself
    File directory = {};    // where a relative path starts; null: the working directory

    using Done = NameDone;  // paths: `path`

    static constexpr detail::OpKind kind = detail::OpKind::unlink;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {path, {}});
    }
    static void store(detail::OpRecord& record) noexcept { detail::paths_set(record, 0); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, Paths(record.take<Buffer>())};
    }
};

// Makes a directory. Errors: EEXIST, EMLINK. Source: mkdirat(2).
struct MakeDirectory {
    std::string_view path;      // its name; the directory it is in must exist
    std::uint32_t mode = 0755;  // less the umask
    File directory = {};        // where a relative path starts; null: the working directory

    using Done = NameDone;  // paths: `path`

    static constexpr detail::OpKind kind = detail::OpKind::make_directory;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {path, {}});
    }
    void store(detail::OpRecord& record) const noexcept { detail::paths_set(record, 0, mode); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, Paths(record.take<Buffer>())};
    }
};

// Removes an empty directory. Errors: ENOTEMPTY, EEXIST (the same), EBUSY, EINVAL (its last part is
// "."). Source: unlinkat(2), AT_REMOVEDIR.
struct RemoveDirectory {
    std::string_view path;  // its name; a symbolic link is ENOTDIR
    File directory = {};    // where a relative path starts; null: the working directory

    using Done = NameDone;  // paths: `path`

    static constexpr detail::OpKind kind = detail::OpKind::remove_directory;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {path, {}});
    }
    WHORL_EXPORT void store(detail::OpRecord& record) const noexcept;
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, Paths(record.take<Buffer>())};
    }
};

// Asks what a symbolic link says: paths.second() of Done. Errors: EINVAL (not a symbolic link).
// Source: readlinkat(2).
struct ReadLink {
    std::string_view path;  // the link's name
    File directory = {};    // where a relative path starts; null: the working directory

    using Done = NameDone;  // paths: `path`, and what the link says

    static constexpr detail::OpKind kind = detail::OpKind::read_link;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {path, {}, true, false, 4096});
    }
    static void store(detail::OpRecord& record) noexcept { detail::paths_set(record, 0); }
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// One name of a directory.
struct DirectoryEntry {
    // What the name is of.
    enum class Type : std::uint8_t {
        unknown,    // the file system does not say: ask Stat
        regular,    // a regular file
        directory,  // a directory
        link,       // a symbolic link, whatever it names
        other,      // a device, FIFO or socket
    };
    std::string_view name;      // lies in the batch
    std::uint64_t inode = 0;    // its number; of a mount point the one below the mount
    Type type = Type::unknown;  // what it is of, without asking Stat where the file system tells
};

// Walks over one batch of names. Lifetime: as the buffer that it was made of, which it does not own.
class DirectoryBatch {
  public:
    // Of the buffer that a ListDirectory has handed back.
    explicit DirectoryBatch(const Buffer& buffer) noexcept : rest_(buffer.bytes()) {}
    // False at the end of the batch. "." and ".." are left out.
    WHORL_EXPORT bool next(DirectoryEntry& entry) noexcept;

  private:
    Bytes rest_;
};

// Lists the next names of an open directory (O_DIRECTORY) into a buffer; walk over them with
// DirectoryBatch. No error and an empty buffer: there are no more. Those of one directory are done one
// at a time, in order. Names that come or go meanwhile may be told or not.
// Limits: the buffer must be writable and have room for a name (280 bytes), else invalid_argument.
// Errors: ENOTDIR, ENOENT (it has been removed). Source: getdents64(2).
struct ListDirectory {
    File directory;       // opened with O_DIRECTORY; its position is what goes on
    Buffer buffer;        // what was in it is overwritten
    bool rewind = false;  // begin anew

    // The next names.
    struct Done {
        Error error;    // none, also when there are no more
        Buffer buffer;  // the one given, always; empty at the end
    };

    static constexpr detail::OpKind kind = detail::OpKind::list_directory;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return directory.value(); }
    Error check() const noexcept {
        const bool usable = buffer.capacity() >= 280 && buffer.writable();
        return usable ? Error() : Error(Error::invalid_argument);
    }
    void store(detail::OpRecord& record) noexcept {
        record.extra = rewind ? 1 : 0;
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, record.take<Buffer>()};
    }
};

}  // namespace whorl
