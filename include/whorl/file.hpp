// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/path.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

// Files: operations at offsets of regular files and block devices. On io_uring they are asynchronous in
// the kernel, apart from Truncate; on libev they are made by the loop's work pool (work.hpp) and have
// LoopOptions::work_threads of them under way at a time.
//
// Order: none. Any number of operations on one file are under way at once and end in any order; who
// wants one after another submits it in the handler of the first.
// Cancel and deadline: what is waiting ends at once (cancelled, timed_out). What a disk or a thread is
// at ends with what it reaches, when it reaches it.
// Errors named below come besides those of Loop::submit and besides `cancelled` and `timed_out`. All
// operations on an open file: EBADF (not opened for this), EIO (the device), ESPIPE (a pipe, socket or
// terminal: use the operations for those; transfers are refused by submit, Sync and Truncate end with
// EINVAL), EINVAL (the file system cannot do it). Operations with a path: ENOMEM from submit. Where a
// thread is needed: EAGAIN and ENOMEM (none could be made, work.hpp).
// Descriptors are close-on-exec. close(file) ends what is under way on it, as close of a socket does; it
// looks at every operation of the loop when something is.

namespace whorl {

// Opens a file.
// Done: the file, or the error; the path either way.
// Errors: ENOENT, EACCES, EEXIST (O_EXCL), EISDIR, ENOTDIR, ELOOP, ENAMETOOLONG, EMFILE, ENFILE, ENOSPC,
//   EDQUOT, EROFS, ETXTBSY, EPERM, EXDEV (RESOLVE_BENEATH was left), EINVAL (flags that Linux does not
//   know), ENOSYS (`resolve` without openat2(2)), slots_exhausted (it was opened and closed again).
//   EWOULDBLOCK (somebody holds a lease on it), ENXIO (a FIFO that nobody reads, or no such device).
// Limits: it does not wait for the other side of a FIFO or for a line: O_NONBLOCK is added, too. For
//   files that makes no difference.
// Source: openat2(2).
struct OpenFile {
    std::string_view path;      // copied at submission, and back in `paths`
    int flags = 0;              // O_RDONLY, O_CREAT, …; O_CLOEXEC and others are added
    std::uint32_t mode = 0644;  // of a file that is created, less the umask
    std::uint64_t resolve = 0;  // RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, …
    // What a relative path begins at: a directory that is open. Null: the process's working directory.
    File directory = {};

    struct Done {
        Error error;
        File file;    // the handler's; null with an error
        Paths paths;  // the path, as given
    };

    static constexpr detail::OpKind kind = detail::OpKind::open_file;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {path, {}});
    }
    WHORL_EXPORT void store(detail::OpRecord& record) const noexcept;
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, File::from_value(delivery.handle), Paths(record.take<Buffer>())};
    }
};

namespace detail {
// Whether a transfer at `offset` is possible: ESPIPE, misaligned, invalid_argument.
WHORL_EXPORT Error transfer_check(Loop& loop, const OpRecord& record, const void* data,
                                  std::uint64_t offset, std::uint64_t size) noexcept;
inline Error room_check(const Buffer& buffer) noexcept {
    const bool usable = buffer.capacity() != 0 && buffer.writable();
    return usable ? Error() : Error(Error::invalid_argument);
}
}  // namespace detail

// Reads once, from data() on into the whole capacity of a buffer, whose size becomes the number of
// bytes read. No error and an empty buffer: the offset is at the end of the file, or beyond.
// Limits: the buffer must be writable and have room, offset and capacity together below 2^63, else
//   invalid_argument. A file opened with O_DIRECT: see file_alignment(), else misaligned from submit.
// Errors: EISDIR. Source: pread(2).
struct ReadAt {
    File file;                 // open for reading
    Buffer buffer;             // room for what is read
    std::uint64_t offset = 0;  // where from, in bytes

    struct Done {
        Error error;
        Buffer buffer;  // the one that was given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::read_at;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return file.value(); }
    Error check() const noexcept { return detail::room_check(buffer); }
    Error open(Loop& loop, const detail::OpRecord& record) const noexcept {
        return detail::transfer_check(loop, record, buffer.data(), offset, buffer.capacity());
    }
    void store(detail::OpRecord& record) noexcept {
        record.extra = offset;
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, record.take<Buffer>()};
    }
};

// Reads until the whole capacity of a buffer is filled, in as many rounds as it takes. With an error the
// size tells how far it came.
// Errors: end_of_file (the file ends before the buffer does); as ReadAt.
struct ReadExactAt {
    File file;                 // open for reading
    Buffer buffer;             // room for all that is wanted
    std::uint64_t offset = 0;  // where from, in bytes

    struct Done {
        Error error;
        Buffer buffer;  // the one that was given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::read_exact_at;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return file.value(); }
    Error check() const noexcept { return detail::room_check(buffer); }
    Error open(Loop& loop, const detail::OpRecord& record) const noexcept {
        return detail::transfer_check(loop, record, buffer.data(), offset, buffer.capacity());
    }
    void store(detail::OpRecord& record) noexcept {
        record.extra = offset;
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, record.take<Buffer>()};
    }
};

// Writes once; `bytes` may be fewer than the buffer holds. The buffer comes back unchanged.
// Limits: as ReadAt, by size() instead of capacity.
// Errors: ENOSPC, EDQUOT, EFBIG, EPERM (sealed), EIO. Source: pwrite(2).
struct WriteAt {
    File file;                 // open for writing
    Buffer buffer;             // what is written
    std::uint64_t offset = 0;  // where to, in bytes; may be beyond the end

    struct Done {
        Error error;
        std::uint64_t bytes;  // written
        Buffer buffer;        // the one that was given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::write_at;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return file.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, const detail::OpRecord& record) const noexcept {
        return detail::transfer_check(loop, record, buffer.data(), offset, buffer.size());
    }
    void store(detail::OpRecord& record) noexcept {
        record.extra = offset;
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.bytes, record.take<Buffer>()};
    }
};

// Writes a whole buffer, in as many rounds as it takes. With an error, `bytes` is what had been written.
// Errors: as WriteAt.
struct WriteAllAt {
    File file;                 // open for writing
    Buffer buffer;             // what is written
    std::uint64_t offset = 0;  // where to, in bytes; may be beyond the end

    struct Done {
        Error error;
        std::uint64_t bytes;  // written
        Buffer buffer;        // the one that was given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::write_all_at;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return file.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, const detail::OpRecord& record) const noexcept {
        return detail::transfer_check(loop, record, buffer.data(), offset, buffer.size());
    }
    void store(detail::OpRecord& record) noexcept {
        record.extra = offset;
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.bytes, record.take<Buffer>()};
    }
};

// Writes once at the end of the file, wherever that is by then; `bytes` may be fewer than the buffer
// holds. Errors: as WriteAt; on libev EOPNOTSUPP or ESPIPE for files that know no appending, as some of
// /proc, to which io_uring just writes. Source: pwritev2(2), RWF_APPEND.
struct Append {
    File file;      // open for writing
    Buffer buffer;  // what is written

    struct Done {
        Error error;
        std::uint64_t bytes;  // written
        Buffer buffer;        // the one that was given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::append;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return file.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, const detail::OpRecord& record) const noexcept {
        return detail::transfer_check(loop, record, buffer.data(), 0, buffer.size());
    }
    void store(detail::OpRecord& record) noexcept { record.store(std::move(buffer)); }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.bytes, record.take<Buffer>()};
    }
};

// Reads into the capacities of all buffers of a chain, one after another, until they are full or the
// file ends; `bytes` and the buffers' sizes tell how far it came. Errors: as ReadAt; ENOMEM from submit;
// invalid_argument (a buffer cannot be written). Source: preadv(2).
struct ReadChainAt {
    File file;                 // open for reading
    BufferChain chain;         // room for what is read
    std::uint64_t offset = 0;  // where from, in bytes

    struct Done {
        Error error;
        std::uint64_t bytes;  // read, in all
        BufferChain chain;    // the one that was given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::read_chain_at;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return file.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Writes all buffers of a chain, gathered, in as many rounds as it takes.
// Errors: as WriteAt; ENOMEM from submit. Source: pwritev(2).
struct WriteChainAt {
    File file;                 // open for writing
    BufferChain chain;         // what is written
    std::uint64_t offset = 0;  // where to, in bytes; may be beyond the end

    struct Done {
        Error error;
        std::uint64_t bytes;  // written, in all
        BufferChain chain;    // the one that was given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::write_chain_at;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return file.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// What is written by the time it is submitted reaches the device: with data_only, only what is needed to
// read the data again. It says nothing of the file's name: sync the directory, too.
// Errors: EIO, ENOSPC, EDQUOT (delayed: what was written before is lost). Source: fsync(2).
struct Sync {
    File file;               // or a directory
    bool data_only = false;  // fdatasync(2)

    struct Done {
        Error error;
    };

    static constexpr detail::OpKind kind = detail::OpKind::sync;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return file.value(); }
    static Error check() noexcept { return {}; }
    void store(detail::OpRecord& record) const noexcept { record.extra = data_only ? 1 : 0; }
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

namespace detail {
// A piece of a file; a length of 0 reaches to its end where Linux says so.
WHORL_EXPORT Error range_check(std::uint64_t offset, std::uint64_t length) noexcept;
WHORL_EXPORT void range_store(OpRecord& record, std::uint64_t offset, std::uint64_t length,
                              std::uint32_t mode) noexcept;
}  // namespace detail

// Starts or awaits the writing of pages; it does not make data durable (the manual page says why).
// Limits: offset and length together below 2^63, else invalid_argument; length 0: to the end.
// Errors: EIO, ENOSPC, EINVAL (flags). Source: sync_file_range(2).
struct SyncRange {
    File file;                 // open in any mode
    std::uint64_t offset = 0;  // in bytes
    std::uint64_t length = 0;  // in bytes; 0: to the end
    std::uint32_t flags = 0;   // SYNC_FILE_RANGE_WRITE, …

    struct Done {
        Error error;
    };

    static constexpr detail::OpKind kind = detail::OpKind::sync_range;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return file.value(); }
    Error check() const noexcept { return detail::range_check(offset, length); }
    void store(detail::OpRecord& record) const noexcept {
        detail::range_store(record, offset, length, flags);
    }
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

// Makes the file `size` bytes long: cut, or grown by a hole.
// Errors: EINVAL (not a regular file, or not open for writing), EFBIG, EPERM (sealed, append-only),
//   ETXTBSY (swapped to).
// Limits: below 2^63, else invalid_argument. Source: ftruncate(2).
struct Truncate {
    File file;               // a regular one, open for writing
    std::uint64_t size = 0;  // in bytes

    struct Done {
        Error error;
    };

    static constexpr detail::OpKind kind = detail::OpKind::truncate;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return file.value(); }
    Error check() const noexcept { return detail::range_check(0, size); }
    void store(detail::OpRecord& record) const noexcept { record.extra = size; }
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

// Takes space for a piece of the file, or with flags of fallocate(2) punches a hole
// (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) or writes zeros (FALLOC_FL_ZERO_RANGE).
// Limits: as SyncRange. Errors: ENOSPC, EDQUOT, EFBIG, EOPNOTSUPP (not this file system), ENODEV (not a
//   regular file), EINVAL (length 0), EPERM. Source: fallocate(2).
struct Allocate {
    File file;                 // a regular one, open for writing
    std::uint64_t offset = 0;  // in bytes
    std::uint64_t length = 0;  // in bytes, not 0
    std::uint32_t flags = 0;   // 0, or those above

    struct Done {
        Error error;
    };

    static constexpr detail::OpKind kind = detail::OpKind::allocate;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return file.value(); }
    Error check() const noexcept { return detail::range_check(offset, length); }
    void store(detail::OpRecord& record) const noexcept {
        detail::range_store(record, offset, length, flags);
    }
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

// Says how a piece of the file is going to be read. Limits: as SyncRange.
// Errors: EINVAL (no such advice). Source: posix_fadvise(2).
struct Advise {
    File file;                 // open in any mode
    std::uint64_t offset = 0;  // in bytes
    std::uint64_t length = 0;  // in bytes; 0: to the end
    std::uint32_t advice = 0;  // POSIX_FADV_SEQUENTIAL, …

    struct Done {
        Error error;
    };

    static constexpr detail::OpKind kind = detail::OpKind::advise;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return file.value(); }
    Error check() const noexcept { return detail::range_check(offset, length); }
    void store(detail::OpRecord& record) const noexcept {
        detail::range_store(record, offset, length, advice);
    }
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

// What a file is. Times are those of CLOCK_REALTIME.
struct FileStatus {
    // An instant on CLOCK_REALTIME, to the nanosecond.
    using Time = std::chrono::time_point<std::chrono::system_clock, Nanoseconds>;
    std::uint64_t size = 0;        // bytes up to the end, holes included
    std::uint64_t allocated = 0;   // bytes taken on the device; less than size: there are holes
    std::uint64_t inode = 0;       // its number on `device`
    std::uint64_t device = 0;      // as st_dev
    std::uint32_t mode = 0;        // type and permissions, as st_mode
    std::uint32_t links = 0;       // names it has
    std::uint32_t user = 0;        // the owner's number
    std::uint32_t group = 0;       // the group's
    std::uint32_t block_size = 0;  // preferred for transfers
    Time modified{};               // its bytes
    Time accessed{};               // read; many mounts keep it only roughly (relatime)
    Time changed{};                // its bytes, mode, owner or names

    // Whether it is a file of bytes, on a disk or in memory.
    WHORL_EXPORT bool is_regular() const noexcept;
    // Whether it is a directory.
    WHORL_EXPORT bool is_directory() const noexcept;
    // Whether it is a symbolic link; only asked without `follow`.
    WHORL_EXPORT bool is_link() const noexcept;
};

// Asks what a name stands for, or with an empty path what the open file `directory` is.
// Errors: ENOENT, EACCES, ENOTDIR, ELOOP, ENAMETOOLONG. Source: statx(2).
struct Stat {
    std::string_view path = {};  // copied at submission; empty: `directory` itself
    bool follow = true;          // a symbolic link to what it names
    // What a relative path begins at, or is asked about. Null: the process's working directory.
    File directory = {};

    struct Done {
        Error error;
        FileStatus status;  // without an error
        Paths paths;        // the path, as given
    };

    static constexpr detail::OpKind kind = detail::OpKind::stat;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return directory.value(); }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        return detail::paths_open(loop, record, {path, {}, false, bool(directory)});
    }
    WHORL_EXPORT void store(detail::OpRecord& record) const noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// What offsets, sizes and addresses of transfers must be multiples of: 1, or for a file opened with
// O_DIRECT what its device wants, as far as Linux tells (6.1; else 512). Errors: stale_handle.
WHORL_EXPORT Result<std::uint32_t> file_alignment(Loop& loop, File file) noexcept;

// A buffer of the loop's pool for such a file: data() and capacity() are multiples of `alignment`, a power
// of two up to 4096. Errors: a null buffer, as Loop::buffer(). Cost: as that; wastes up to `alignment`.
WHORL_EXPORT Buffer aligned_buffer(Loop& loop, std::size_t capacity,
                                   std::size_t alignment = 4096) noexcept;

// Takes over a descriptor that somebody else opened.
// Owns: the descriptor, on success. Errors: EBADF, slots_exhausted, loop_closed.
WHORL_EXPORT Result<File> adopt_file(Loop& loop, int fd) noexcept;
// Takes a file out of the loop: its handle is stale afterwards and the descriptor the caller's.
// Errors: stale_handle, EBUSY while operations are on it.
WHORL_EXPORT Result<int> detach(Loop& loop, File file) noexcept;

}  // namespace whorl
