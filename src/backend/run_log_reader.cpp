// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/run_log_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

// Reading. The whole file is checked before the first entry is read: a replay never meets damage.

namespace whorl::detail {

RunLogReader::~RunLogReader() {
    if (data_ != nullptr) ::munmap(const_cast<unsigned char*>(data_), size_);
}

Error RunLogReader::open(const char* path, char* text, std::size_t text_size) noexcept {
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO has no other end
    struct stat status {};
    Error refused;
    if (fd < 0 || ::fstat(fd, &status) != 0) refused = Error::from_errno(errno);
    else if (!S_ISREG(status.st_mode) || status.st_size == 0) refused = Error::run_log_damaged;
    if (!refused) {
        void* mapped = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ,
                              MAP_PRIVATE, fd, 0);
        if (mapped == MAP_FAILED) refused = Error::from_errno(errno);
        else data_ = static_cast<const unsigned char*>(mapped);
    }
    if (fd >= 0) ::close(fd);
    if (refused) {
        const bool damaged = refused == Error::run_log_damaged;
        std::snprintf(text, text_size, "%s: %s", path,
                      damaged ? "is empty, or no regular file" : refused.text());
        return refused;
    }
    size_ = static_cast<std::uint64_t>(status.st_size);
    return check(text, text_size);
}

Error RunLogReader::check(char* text, std::size_t text_size) noexcept {
    const auto refused = [&](const char* why) {
        std::snprintf(text, text_size, "%s", why);
        return Error::run_log_damaged;
    };
    RunLogHeader header{};
    std::memcpy(&header, data_, size_ < sizeof header ? size_ : sizeof header);
    if (std::memcmp(header.magic, run_log_magic, sizeof header.magic) != 0) {
        return refused("this is no run log: it does not begin with \"whorlrun\"");
    }
    if (size_ < sizeof header) return refused("the log is cut off within its header");
    if (header.order != run_log_order)
        return refused("recorded on a machine of another byte order");
    if (header.version != run_log_version || header.operations != run_log_operations()) {
        return refused("recorded by another version of whorl: replay it with that one");
    }
    return check_frames(text, text_size);
}

bool RunLogReader::frame_at(std::uint64_t offset, RunLogFrame& frame) const noexcept {
    if (size_ - offset < sizeof frame) return false;
    std::memcpy(&frame, data_ + offset, sizeof frame);
    if ((frame.size & run_frame_open) != 0) return false;
    return frame.size <= size_ - offset - sizeof frame;
}

// What is cut off is the end of a process that was killed: the entries before it count. What is whole and
// wrong is damage.
Error RunLogReader::check_frames(char* text, std::size_t text_size) noexcept {
    std::uint64_t offset = sizeof(RunLogHeader);
    RunLogFrame frame{};
    const auto refused = [&](const char* why) {
        std::snprintf(text, text_size, "the log is damaged at byte %llu: %s",
                      static_cast<unsigned long long>(offset), why);
        return Error::run_log_damaged;
    };
    while (frame_at(offset, frame) && frame.size != 0) {
        const unsigned char* body = data_ + offset + sizeof frame;
        if (static_cast<std::uint32_t>(run_digest(body, frame.size)) != frame.checksum) {
            return refused("an entry has another checksum than it says");
        }
        const bool known = *body != 0 && *body < static_cast<unsigned char>(RunEntry::count);
        if (!known) return refused("an entry of unknown kind");
        if (offset == sizeof(RunLogHeader) && *body != static_cast<int>(RunEntry::options)) {
            return refused("it does not begin with the loop's options");
        }
        if (*body == static_cast<unsigned char>(RunEntry::end)) {
            const unsigned why = frame.size == 2 ? body[1] : 255;
            if (why >= static_cast<unsigned>(RunEnd::unfinished))
                return refused("no end is known so");
            end_ = static_cast<RunEnd>(why);
            break;
        }
        offset += sizeof frame + frame.size;
    }
    for (std::uint64_t at = offset; end_ == RunEnd::unfinished && at < size_ && frame.size == 0;
         ++at) {
        if (data_[at] != 0) return refused("there is something behind the last entry");
    }
    frames_end_ = offset;
    next_ = sizeof(RunLogHeader);
    if (offset != next_) return {};
    return refused("there is no entry");
}

RunEntry RunLogReader::peek() const noexcept {
    if (next_ >= frames_end_) return RunEntry::none;
    return static_cast<RunEntry>(data_[next_ + sizeof(RunLogFrame)]);
}

RunEntry RunLogReader::next() noexcept {
    const RunEntry kind = peek();
    if (kind == RunEntry::none) return kind;
    RunLogFrame frame{};
    std::memcpy(&frame, data_ + next_, sizeof frame);
    entry_ = next_;
    part_ = next_ + sizeof frame + 1;
    part_end_ = next_ + sizeof frame + frame.size;
    next_ = part_end_;
    return kind;
}

std::uint64_t RunLogReader::number() noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (part_ >= part_end_) break;
        const unsigned char byte = data_[part_++];
        value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
    bad_ = true;
    return 0;
}

std::int64_t RunLogReader::number_signed() noexcept {
    const std::uint64_t bits = number();
    return static_cast<std::int64_t>(bits >> 1 ^ ((bits & 1) != 0 ? ~std::uint64_t{0} : 0));
}

Bytes RunLogReader::bytes() noexcept {
    const std::uint64_t size = number();
    if (bad_ || size > part_end_ - part_) {
        bad_ = true;
        return {};
    }
    const Bytes found(data_ + part_, static_cast<std::size_t>(size));
    part_ += size;
    return found;
}

}  // namespace whorl::detail
