// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/run_log_file.hpp"

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

// Writing. The window is what is mapped of the file; the file reaches as far as `allocated_`.

namespace whorl::detail {

namespace {

constexpr std::uint64_t window_size = std::uint64_t{256} << 10;
constexpr std::uint64_t end_size = sizeof(RunLogFrame) + 16;  // the mark of the end, at most

}  // namespace

void run_options_store(const LoopOptions& options,
                       std::uint64_t (&values)[run_options_count]) noexcept {
    const std::uint64_t stored[] = {options.ops_max,
                                    options.handles_max,
                                    options.posts_max,
                                    options.buffer_bytes_max,
                                    options.recv_buffer_size,
                                    options.recv_ring_depth,
                                    options.recv_ring_depth_max,
                                    options.recv_buffers_per_stream,
                                    options.recv_bulk_buffer_size,
                                    options.recv_bulk_ring_depth,
                                    options.work_max,
                                    options.completions_per_turn,
                                    options.posts_per_turn,
                                    options.timers_per_turn,
                                    static_cast<std::uint64_t>(options.timer_slack.count()),
                                    static_cast<std::uint64_t>(options.shutdown_bound.count())};
    static_assert(sizeof stored == sizeof values, "one for each");
    std::memcpy(values, stored, sizeof stored);
}

void run_options_load(const std::uint64_t (&values)[run_options_count],
                      LoopOptions& options) noexcept {
    const auto word = [&values](std::size_t index) {
        return static_cast<std::uint32_t>(values[index]);
    };
    options.ops_max = word(0);
    options.handles_max = word(1);
    options.posts_max = word(2);
    options.buffer_bytes_max = values[3];
    options.recv_buffer_size = word(4);
    options.recv_ring_depth = word(5);
    options.recv_ring_depth_max = word(6);
    options.recv_buffers_per_stream = word(7);
    options.recv_bulk_buffer_size = word(8);
    options.recv_bulk_ring_depth = word(9);
    options.work_max = word(10);
    options.completions_per_turn = word(11);
    options.posts_per_turn = word(12);
    options.timers_per_turn = word(13);
    options.timer_slack = Nanoseconds(static_cast<std::int64_t>(values[14]));
    options.shutdown_bound = Nanoseconds(static_cast<std::int64_t>(values[15]));
}

RunLogWriter::~RunLogWriter() {
    finish(RunEnd::complete);
    drop_array(scratch_);
}

Error RunLogWriter::open(const char* path, std::uint64_t bytes_max) noexcept {
    WHORL_ASSERT(fd_ < 0);
    if (bytes_max < window_size) return Error::invalid_argument;
    bytes_max_ = bytes_max;
    const int fd = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return Error::from_errno(errno);
    // Before it is cut: it may be the file of a loop that runs.
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0 || ::ftruncate(fd, 0) != 0) {
        const Error refused = Error::from_errno(errno);
        ::close(fd);
        return refused;
    }
    fd_ = fd;
    RunLogHeader header{};
    std::memcpy(header.magic, run_log_magic, sizeof header.magic);
    header.order = run_log_order;
    header.version = run_log_version;
    header.operations = run_log_operations();
    if (file_room(sizeof header) && put(&header, sizeof header)) return {};
    const Error refused = error_;
    ::close(std::exchange(fd_, -1));
    return refused;
}

bool RunLogWriter::scratch_room(std::size_t size) noexcept {
    if (scratch_used_ + size <= scratch_size_) return true;
    std::size_t wanted = std::max<std::size_t>(scratch_size_ * 2, std::size_t{64} << 10);
    while (wanted < scratch_used_ + size) wanted *= 2;
    unsigned char* grown = wanted <= run_entry_max ? make_array<unsigned char>(wanted) : nullptr;
    if (grown == nullptr) {
        if (why_ == RunEnd::complete) why_ = RunEnd::out_of_memory;
        return false;
    }
    if (scratch_used_ != 0) std::memcpy(grown, scratch_, scratch_used_);
    drop_array(scratch_);
    scratch_ = grown;
    scratch_size_ = wanted;
    return true;
}

void RunLogWriter::begin(RunEntry kind) noexcept {
    scratch_used_ = 0;
    if (scratch_room(1)) scratch_[scratch_used_++] = static_cast<unsigned char>(kind);
}

void RunLogWriter::number(std::uint64_t value) noexcept {
    if (!scratch_room(10)) return;
    while (value >= 0x80) {
        scratch_[scratch_used_++] = static_cast<unsigned char>(value | 0x80);
        value >>= 7;
    }
    scratch_[scratch_used_++] = static_cast<unsigned char>(value);
}

void RunLogWriter::number_signed(std::int64_t value) noexcept {
    const auto bits = static_cast<std::uint64_t>(value);
    number(bits << 1 ^ (value < 0 ? ~std::uint64_t{0} : 0));
}

void RunLogWriter::bytes(const void* data, std::size_t size) noexcept {
    number(size);
    if (size == 0 || !scratch_room(size)) return;
    std::memcpy(scratch_ + scratch_used_, data, size);
    scratch_used_ += size;
}

// Room in the file, which never is where the disk has none.
bool RunLogWriter::file_room(std::uint64_t size) noexcept {
    const std::uint64_t needed = at_ + size + end_size;
    if (needed <= allocated_) return true;
    if (needed > bytes_max_) {
        why_ = RunEnd::size_limit;
        return false;
    }
    const std::uint64_t whole = (needed + window_size - 1) / window_size * window_size;
    const std::uint64_t wanted = std::min(whole, bytes_max_);
    int refused = EINTR;
    while (refused == EINTR) {
        refused = ::posix_fallocate(fd_, static_cast<off_t>(allocated_),
                                    static_cast<off_t>(wanted - allocated_));
    }
    if (refused != 0) {
        why_ = RunEnd::no_space;
        error_ = Error::from_errno(refused);
        return false;
    }
    allocated_ = wanted;
    return true;
}

bool RunLogWriter::window_at(std::uint64_t offset) noexcept {
    const std::uint64_t first = offset / window_size * window_size;
    if (window_ != nullptr && first == window_first_) return true;
    if (window_ != nullptr) ::munmap(window_, window_size);
    void* mapped = ::mmap(nullptr, window_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                          fd_, static_cast<off_t>(first));
    window_ = mapped == MAP_FAILED ? nullptr : static_cast<unsigned char*>(mapped);
    window_first_ = first;
    if (window_ == nullptr) {
        why_ = RunEnd::out_of_memory;
        error_ = Error::from_errno(errno);
    }
    return window_ != nullptr;
}

// There is room for it.
bool RunLogWriter::put(const void* data, std::size_t size) noexcept {
    const auto* bytes = static_cast<const unsigned char*>(data);
    while (size != 0) {
        if (!window_at(at_)) return false;
        const std::uint64_t within = at_ - window_first_;
        const std::size_t here = std::min<std::size_t>(size, window_size - within);
        std::memcpy(window_ + within, bytes, here);
        at_ += here;
        bytes += here;
        size -= here;
    }
    return true;
}

// Its length is that of an open frame until the rest is there: a process may be killed between any two
// instructions. Closing it changes one byte, so it is the one length or the other.
void RunLogWriter::put_frame() noexcept {
    const std::uint64_t first = at_;
    RunLogFrame frame{};
    frame.size = static_cast<std::uint32_t>(scratch_used_) | run_frame_open;
    frame.checksum = static_cast<std::uint32_t>(run_digest(scratch_, scratch_used_));
    bool written = put(&frame, sizeof frame) && put(scratch_, scratch_used_);
    const std::uint64_t end = std::exchange(at_, first);
    if (!written) return;
    asm volatile("" ::: "memory");  // not before
    frame.size &= ~run_frame_open;
    written = put(&frame.size, sizeof frame.size);
    at_ = written ? end : first;
}

bool RunLogWriter::commit() noexcept {
    if (fd_ < 0 || why_ != RunEnd::complete) return false;
    if (file_room(sizeof(RunLogFrame) + scratch_used_)) put_frame();
    return why_ == RunEnd::complete;
}

void RunLogWriter::finish(RunEnd why) noexcept {
    if (fd_ < 0) return;
    if (why_ == RunEnd::complete) why_ = why;
    begin(RunEntry::end);
    number(static_cast<std::uint64_t>(why_));
    if (scratch_used_ != 0) put_frame();
    if (window_ != nullptr) ::munmap(window_, window_size);
    window_ = nullptr;
    // Left longer than it is, it has zeros at its end, which readers know.
    static_cast<void>(!::ftruncate(fd_, static_cast<off_t>(at_)));
    ::close(std::exchange(fd_, -1));
}

}  // namespace whorl::detail
