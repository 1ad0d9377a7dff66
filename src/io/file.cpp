// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/file.hpp>

#include "backend/file_calls.hpp"
#include "backend/payload.hpp"
#include "loop/core.hpp"

#include <whorl/tcp.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdint>

namespace whorl {

namespace {

using detail::ChainPayload;
using detail::Descriptor;

constexpr std::uint64_t offset_max = INT64_MAX;

std::uint32_t alignment_of(const Descriptor& file) noexcept {
    return 1u << (file.flags >> detail::descriptor_alignment_shift);
}

FileStatus::Time time_of(const struct statx_timestamp& time) noexcept {
    return FileStatus::Time(std::chrono::seconds(time.tv_sec) + Nanoseconds(time.tv_nsec));
}

FileStatus status_of(const struct statx& status) noexcept {
    FileStatus made;
    made.size = status.stx_size;
    made.allocated = status.stx_blocks * 512;
    made.inode = status.stx_ino;
    made.device = makedev(status.stx_dev_major, status.stx_dev_minor);
    made.mode = status.stx_mode;
    made.links = status.stx_nlink;
    made.user = status.stx_uid;
    made.group = status.stx_gid;
    made.block_size = status.stx_blksize;
    made.modified = time_of(status.stx_mtime);
    made.accessed = time_of(status.stx_atime);
    made.changed = time_of(status.stx_ctime);
    return made;
}

Error chain_check(Loop& loop, const detail::OpRecord& record, BufferChain& chain,
                  std::uint64_t offset, bool reads) noexcept {
    std::uint64_t begun = offset;
    for (Buffer& buffer : chain) {
        if (reads && !buffer.writable()) return Error::invalid_argument;
        const std::size_t size = reads ? buffer.capacity() : buffer.size();
        if (Error error = detail::transfer_check(loop, record, buffer.data(), begun, size)) {
            return error;
        }
        begun += size;
    }
    return detail::transfer_check(loop, record, nullptr, begun, 0);
}

}  // namespace

namespace detail {

Error transfer_check(Loop& loop, const OpRecord& record, const void* data, std::uint64_t offset,
                     std::uint64_t size) noexcept {
    if (offset > offset_max || size > offset_max - offset) return Error::invalid_argument;
    const Descriptor& file = loop.core().descriptors.at(record.descriptor);
    if ((file.flags & descriptor_unseekable) != 0) return Error::from_errno(ESPIPE);
    const std::uint64_t mask = alignment_of(file) - 1;
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    return ((address | offset | size) & mask) == 0 ? Error() : Error(Error::misaligned);
}

Error range_check(std::uint64_t offset, std::uint64_t length) noexcept {
    const bool fits = offset <= offset_max && length <= offset_max - offset;
    return fits ? Error() : Error(Error::invalid_argument);
}

void range_store(OpRecord& record, std::uint64_t offset, std::uint64_t length,
                 std::uint32_t mode) noexcept {
    record.store(RangeArguments{offset, length, mode});
}

}  // namespace detail

void OpenFile::store(detail::OpRecord& record) const noexcept {
    // io_uring opens what its caches know without waiting, and anything else by a thread that waits.
    // Of a FIFO that would be two answers; nothing else is asked to wait by its name.
    constexpr unsigned added = O_CLOEXEC | O_NOCTTY | O_LARGEFILE | O_NONBLOCK;
    const auto given = static_cast<unsigned>(flags);
    // openat2(2) refuses what does not belong together, where openat(2) ignores it.
    const bool creates = (given & O_CREAT) != 0 || (given & O_TMPFILE) == O_TMPFILE;
    const bool only_names = (given & O_PATH) != 0;
    detail::paths_set(record, given | (only_names ? unsigned{O_CLOEXEC} : added),
                      creates ? mode & 07777u : 0u, resolve);
}

Error ReadChainAt::open(Loop& loop, detail::OpRecord& record) noexcept {
    if (Error error = chain_check(loop, record, chain, offset, true)) return error;
    return SendChain::open(loop, record);
}

void ReadChainAt::store(detail::OpRecord& record) noexcept {
    record.extra = offset;
    record.as<ChainPayload>().chain = std::move(chain);
}

ReadChainAt::Done ReadChainAt::finish(detail::OpRecord& record,
                                      detail::Delivery& delivery) noexcept {
    return {delivery.error, delivery.bytes, SendChain::finish(record, delivery).chain};
}

Error WriteChainAt::open(Loop& loop, detail::OpRecord& record) noexcept {
    if (Error error = chain_check(loop, record, chain, offset, false)) return error;
    return SendChain::open(loop, record);
}

void WriteChainAt::store(detail::OpRecord& record) noexcept {
    record.extra = offset;
    record.as<ChainPayload>().chain = std::move(chain);
}

WriteChainAt::Done WriteChainAt::finish(detail::OpRecord& record,
                                        detail::Delivery& delivery) noexcept {
    return {delivery.error, delivery.bytes, SendChain::finish(record, delivery).chain};
}

bool FileStatus::is_regular() const noexcept { return S_ISREG(mode); }
bool FileStatus::is_directory() const noexcept { return S_ISDIR(mode); }
bool FileStatus::is_link() const noexcept { return S_ISLNK(mode); }

void Stat::store(detail::OpRecord& record) const noexcept {
    const unsigned itself = path.empty() ? AT_EMPTY_PATH : 0;
    detail::paths_set(record, itself | (follow ? 0u : unsigned{AT_SYMLINK_NOFOLLOW}));
}

Stat::Done Stat::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    Done done{delivery.error, {}, {}};
    if (!done.error) done.status = status_of(detail::path_block_of(record).status);
    done.paths = Paths(record.take<Buffer>());
    return done;
}

Result<std::uint32_t> file_alignment(Loop& loop, File file) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    const Descriptor* found = core.descriptor_find(file.value());
    if (found == nullptr) return Error::stale_handle;
    return alignment_of(*found);
}

Buffer aligned_buffer(Loop& loop, std::size_t capacity, std::size_t alignment) noexcept {
    WHORL_ASSERT(alignment != 0 && (alignment & (alignment - 1)) == 0 && alignment <= 4096);
    const std::size_t wanted = (capacity + alignment - 1) & ~(alignment - 1);
    if (wanted < capacity || wanted > SIZE_MAX - alignment) return {};
    Buffer buffer = loop.buffer(wanted + alignment);
    if (!buffer) return {};
    const auto address = reinterpret_cast<std::uintptr_t>(buffer.data());
    const std::size_t gap = (alignment - address % alignment) % alignment;
    buffer.resize(gap);
    buffer.trim_front(gap);
    return buffer;
}

Result<File> adopt_file(Loop& loop, int fd) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    const std::int64_t position = core.system.file_calls().lseek(fd, 0, SEEK_CUR);
    if (position == -EBADF) return Error::from_errno(EBADF);
    Result<Descriptor*> claimed = core.descriptor_claim(fd, detail::DescriptorKind::file);
    if (!claimed) return claimed.error();
    if (position == -ESPIPE) (*claimed)->flags |= detail::descriptor_unseekable;
    return File::from_value(core.descriptors.handle_of(*claimed));
}

Result<int> detach(Loop& loop, File file) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    Descriptor* descriptor = core.descriptor_find(file.value());
    if (descriptor == nullptr) return Error::stale_handle;
    if (descriptor->operations != 0) return Error::from_errno(EBUSY);
    const int fd = descriptor->fd;
    core.driver->forget(*descriptor);
    core.descriptors.release(descriptor);
    return int{fd};
}

}  // namespace whorl
