// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_kernel.hpp"

#include <whorl/assert.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

// Files, and the bytes between them: channels, pipes, eventfds, epolls.

namespace whorl::detail {

namespace {
constexpr std::size_t pipe_atomic = 4096;  // PIPE_BUF
}

// --- files

int SimFile::access() const noexcept { return O_RDWR; }
ssize_t SimFile::read(void*, std::size_t, int) { return -EINVAL; }
ssize_t SimFile::write(const void*, std::size_t, int) { return -EINVAL; }

void SimFile::unwatch(SimWatcher& watcher, std::uint64_t token) noexcept {
    const auto same = [&](const Watch& watch) {
        return watch.watcher == &watcher && watch.token == token;
    };
    watchers_.erase(std::remove_if(watchers_.begin(), watchers_.end(), same), watchers_.end());
}

void SimFile::changed() {
    for (std::size_t index = 0; index < watchers_.size(); ++index) {
        watchers_[index].watcher->file_changed(*this, watchers_[index].token);
    }
}

// --- channels

void SimChannel::fly(Segment segment, Nanoseconds delay) {
    if (broken_) return;  // the writer has not heard of it yet
    // In order: a segment is never there before the one sent before it.
    const Instant due = std::max(kernel_.clock() + delay, last_due_);
    segment.due = last_due_ = due;
    flying_ += segment.bytes.size();
    segments_.push_back(std::move(segment));
    if (stopped()) return;
    if (due <= kernel_.clock()) return arrive();
    kernel_.at(due, [self = shared_from_this()] { self->arrive(); });
}

void SimChannel::arrive() {
    bool news = false;
    bool bytes = false;
    while (!stopped() && !segments_.empty() && segments_.front().due <= kernel_.clock()) {
        Segment& segment = segments_.front();
        flying_ -= segment.bytes.size();
        if (segment.urgent) {
            urgent = true;
            urgent_byte = segment.bytes[0];
        } else {
            arrived_ += segment.bytes;
            if (records && !segment.bytes.empty()) record_sizes_.push_back(segment.bytes.size());
            bytes = bytes || !segment.bytes.empty();
        }
        if (segment.end) end_arrived_ = true;
        segments_.pop_front();
        news = true;
    }
    if (!news || broken_) return;
    if (reader != nullptr) return reader->changed();
    if (!bytes || writer == nullptr) return;
    // A socket (a pipe without a reader is broken) that was closed while this was on its way: a reset.
    const auto delay = kernel_.flight_time(0);
    static_cast<SimSocket*>(writer)->incoming()->send_reset(writer->weak_from_this(), delay);
}

void SimChannel::put(const char* data, std::size_t size, Nanoseconds delay) {
    WHORL_ASSERT(size <= room());
    passed += size;
    fly({{}, std::string(data, size), false, false}, delay);
}
void SimChannel::put_end(Nanoseconds delay) { fly({{}, {}, true, false}, delay); }
void SimChannel::put_urgent(char byte, Nanoseconds delay) {
    fly({{}, std::string(1, byte), false, true}, delay);
}

std::size_t SimChannel::take(char* data, std::size_t size, bool peek) {
    // Of a record, what finds no room is gone.
    const std::size_t whole = records && readable() != 0 ? record_sizes_.front() : readable();
    const std::size_t count = std::min(size, whole);
    if (data != nullptr && count != 0) std::memcpy(data, arrived_.data() + taken_, count);
    if (peek || count == 0) return count;
    const bool was_full = room() == 0 || records;
    const std::size_t gone = records ? whole : count;
    if (records) record_sizes_.pop_front();
    taken_ += gone;
    drawn += gone;
    if (taken_ == arrived_.size() || taken_ > 65536) {
        arrived_.erase(0, taken_);
        taken_ = 0;
    }
    if (was_full && writer != nullptr) writer->changed();
    return count;
}

const SimChannel::Rights* SimChannel::rights_within(std::size_t size) const noexcept {
    if (rights.empty()) return nullptr;
    const Rights& next = rights.front();
    return next.position < drawn + std::min(size, readable()) ? &next : nullptr;
}

std::size_t SimChannel::within_rights(std::size_t size) const noexcept {
    const Rights* reached = rights_within(size);
    return reached != nullptr ? std::min<std::size_t>(size, reached->end - drawn) : size;
}

void SimChannel::break_off() noexcept {
    broken_ = true;
    segments_.clear();
    flying_ = 0;
}

bool SimChannel::stopped() const noexcept { return held || (of_network && kernel_.partitioned); }

void SimChannel::send_reset(const std::weak_ptr<SimFile>& reader, Nanoseconds delay) {
    kernel_.at(kernel_.clock() + delay,
               [self = shared_from_this(), reader] { self->reset_arrives(reader); });
}

void SimChannel::reset_arrives(const std::weak_ptr<SimFile>& reader) {
    if (stopped()) reset_ = reader;
    else if (const SimFilePtr file = reader.lock())
        static_cast<SimSocket&>(*file).reset(ECONNRESET);
}

void SimChannel::release() {
    held = false;
    resume();
}

void SimChannel::resume() {
    if (stopped()) return;
    if (!reset_.expired()) send_reset(std::exchange(reset_, {}), Nanoseconds::zero());
    for (const Segment& segment : segments_) {
        kernel_.at(segment.due, [self = shared_from_this()] { self->arrive(); });
    }
}

// --- pipes

SimPipeEnd::SimPipeEnd(SimKernel& kernel, SimChannelPtr channel, bool reads) noexcept
    : SimFile(kernel), channel_(std::move(channel)), reads_(reads) {
    (reads_ ? channel_->reader : channel_->writer) = this;
}

SimPipeEnd::~SimPipeEnd() {
    (reads_ ? channel_->reader : channel_->writer) = nullptr;
    if (reads_) channel_->break_off();
    else channel_->put_end(Nanoseconds::zero());
    SimFile* other = reads_ ? channel_->writer : channel_->reader;
    if (other != nullptr) other->changed();
}

int SimPipeEnd::access() const noexcept { return reads_ ? O_RDONLY : O_WRONLY; }

bool SimPipeEnd::is(const SimFile& file) noexcept { return std::strcmp(file.name(), "pipe") == 0; }

unsigned SimPipeEnd::poll_bits() const noexcept {
    if (!reads_) {
        if (channel_->broken()) return POLLOUT | POLLERR;
        return channel_->room() >= pipe_atomic ? POLLOUT : 0;
    }
    unsigned bits = channel_->readable() != 0 ? POLLIN : 0;
    if (channel_->end_arrived()) bits |= POLLHUP;
    return bits;
}

ssize_t SimPipeEnd::read(void* data, std::size_t size, int) {
    if (!reads_) return -EBADF;
    if (size == 0) return 0;
    if (channel_->readable() != 0) {
        const bool was_tight = channel_->room() < pipe_atomic;
        const std::size_t taken = channel_->take(static_cast<char*>(data), size, false);
        // A pipe is writable from PIPE_BUF bytes of room on, not from the first.
        const bool tight = channel_->room() < pipe_atomic;
        if (was_tight && !tight && channel_->writer != nullptr) channel_->writer->changed();
        return static_cast<ssize_t>(taken);
    }
    return channel_->end_arrived() ? 0 : -EAGAIN;
}

ssize_t SimPipeEnd::write(const void* data, std::size_t size, int) {
    if (reads_) return -EBADF;
    if (size == 0) return 0;  // also of a pipe that is full or broken
    if (channel_->broken()) return -EPIPE;
    const std::size_t room = channel_->room();
    // What fits PIPE_BUF is written in one piece or not at all.
    if (room == 0 || (size <= pipe_atomic && room < size)) return -EAGAIN;
    const std::size_t count = std::min(size, room);
    channel_->put(static_cast<const char*>(data), count, Nanoseconds::zero());
    if (channel_->room() == 0) changed();
    return static_cast<ssize_t>(count);
}

// --- eventfds

unsigned SimEventFd::poll_bits() const noexcept {
    return (count_ != 0 ? POLLIN : 0u) | (count_ < UINT64_MAX - 1 ? POLLOUT : 0u);
}

ssize_t SimEventFd::read(void* data, std::size_t size, int) {
    if (size < sizeof count_) return -EINVAL;
    if (count_ == 0) return -EAGAIN;
    std::memcpy(data, &count_, sizeof count_);
    count_ = 0;
    changed();
    return sizeof count_;
}

ssize_t SimEventFd::write(const void* data, std::size_t size, int) {
    std::uint64_t more = 0;
    if (size < sizeof more) return -EINVAL;
    std::memcpy(&more, data, sizeof more);
    if (more == UINT64_MAX) return -EINVAL;
    if (more > UINT64_MAX - 1 - count_) return -EAGAIN;
    count_ += more;
    changed();
    return sizeof more;
}

// --- epolls

SimEpoll::~SimEpoll() {
    for (auto& entry : entries_) {
        const auto token = static_cast<std::uint64_t>(entry.first);
        if (const SimFilePtr file = entry.second.file.lock()) file->unwatch(*this, token);
    }
}

unsigned SimEpoll::poll_bits() const noexcept {
    for (const auto& entry : entries_) {
        if (ready_bits(entry.second) != 0) return POLLIN;
    }
    return 0;
}

unsigned SimEpoll::ready_bits(const Entry& entry) noexcept {
    const SimFilePtr file = entry.file.lock();
    if (file == nullptr) return 0;
    if ((entry.event.events & EPOLLET) != 0 && !entry.news) return 0;
    return file->poll_bits() & (entry.event.events | POLLERR | POLLHUP);
}

void SimEpoll::file_changed(SimFile&, std::uint64_t token) {
    const auto found = entries_.find(static_cast<int>(token));
    if (found != entries_.end()) found->second.news = true;
    changed();
}

int SimEpoll::take(epoll_event* events, int count) {
    int taken = 0;
    for (auto& entry : entries_) {
        const unsigned bits = ready_bits(entry.second);
        if (bits == 0 || taken == count) continue;
        entry.second.news = false;
        events[taken] = entry.second.event;
        events[taken++].events = bits;
    }
    return taken;
}

int SimEpoll::control(int action, int fd, const epoll_event& event, const SimFilePtr& file) {
    const auto token = static_cast<std::uint64_t>(fd);
    const auto found = entries_.find(fd);
    if (action == EPOLL_CTL_ADD) {
        if (found != entries_.end()) return -EEXIST;
        entries_.emplace(fd, Entry{file, event, true});
        file->watch(*this, token);
    } else if (found == entries_.end()) {
        return -ENOENT;
    } else if (action == EPOLL_CTL_MOD) {
        found->second.event = event;
        found->second.news = true;
    } else if (action == EPOLL_CTL_DEL) {
        file->unwatch(*this, token);
        entries_.erase(found);
    } else {
        return -EINVAL;
    }
    changed();
    return 0;
}

}  // namespace whorl::detail
