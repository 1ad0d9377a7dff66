// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/inherited.hpp>

#include "loop/core.hpp"

#include <whorl/allocated.hpp>
#include <whorl/socket.hpp>

#include <sys/socket.h>

#include <cstring>
#include <new>
#include <utility>

namespace whorl {

struct InheritedDescriptors::Entry {
    int number;
    std::uint8_t size;
    char name[name_max];
};

InheritedDescriptors::InheritedDescriptors(InheritedDescriptors&& other) noexcept
    : entries_(std::exchange(other.entries_, nullptr)), count_(std::exchange(other.count_, 0)),
      capacity_(std::exchange(other.capacity_, 0)), system_(other.system_) {}

InheritedDescriptors& InheritedDescriptors::operator=(InheritedDescriptors&& other) noexcept {
    if (this == &other) return *this;
    drop();
    entries_ = std::exchange(other.entries_, nullptr);
    count_ = std::exchange(other.count_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    system_ = other.system_;
    return *this;
}

InheritedDescriptors::~InheritedDescriptors() { drop(); }

void InheritedDescriptors::drop() noexcept {
    close_all();
    detail::drop_array(std::exchange(entries_, nullptr));
    count_ = capacity_ = 0;
}

Error InheritedDescriptors::reserve(std::uint32_t most, detail::System& system) noexcept {
    WHORL_ASSERT(entries_ == nullptr);
    if (most > count_max) return Error::invalid_argument;
    entries_ = detail::make_array<Entry>(most == 0 ? 1 : most);
    if (entries_ == nullptr) return Error::from_errno(ENOMEM);
    capacity_ = most;
    system_ = &system;
    return {};
}

void InheritedDescriptors::add(int number, std::string_view name) noexcept {
    WHORL_ASSERT(count_ < capacity_ && name.size() <= name_max);
    Entry& entry = entries_[count_++];
    entry.number = number;
    entry.size = static_cast<std::uint8_t>(name.size());
    std::memcpy(entry.name, name.data(), name.size());
}

std::string_view InheritedDescriptors::name(std::uint32_t index) const noexcept {
    WHORL_ASSERT(index < count_);
    return {entries_[index].name, entries_[index].size};
}

int InheritedDescriptors::number(std::uint32_t index) const noexcept {
    WHORL_ASSERT(index < count_);
    return entries_[index].number;
}

int InheritedDescriptors::take(std::uint32_t index) noexcept {
    WHORL_ASSERT(index < count_);
    return std::exchange(entries_[index].number, -1);
}

std::uint32_t InheritedDescriptors::find(std::string_view wanted,
                                         std::uint32_t from) const noexcept {
    for (std::uint32_t index = from; index < count_; ++index) {
        if (entries_[index].number >= 0 && name(index) == wanted) return index;
    }
    return count_;
}

void InheritedDescriptors::close_all() noexcept {
    for (std::uint32_t index = 0; index < count_; ++index) {
        const int number = take(index);
        if (number >= 0) system_->close(number);
    }
}

namespace {

// The number at `index`, when what it names has the family; datagram sockets also the type.
Result<int> checked(Loop& loop, const InheritedDescriptors& from, std::uint32_t index, int family,
                    int& found) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    if (index >= from.count()) return Error::invalid_argument;
    const int fd = from.number(index);
    if (fd < 0) return Error::from_errno(EBADF);
    socklen_t size = sizeof found;
    const int done = core.system.getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &found, &size);
    if (done < 0) return Error::from_errno(done);
    if (family != 0 && found != family) return Error::invalid_argument;
    return int{fd};
}

Result<std::uint64_t> adopt_datagram(Loop& loop, InheritedDescriptors& from, std::uint32_t index,
                                     int family, bool local) noexcept {
    int found = 0, type = 0;
    const Result<int> fd = checked(loop, from, index, family, found);
    if (!fd) return fd.error();
    detail::LoopCore& core = loop.core();
    socklen_t size = sizeof type;
    const int done = core.system.getsockopt(*fd, SOL_SOCKET, SO_TYPE, &type, &size);
    if (done < 0) return Error::from_errno(done);
    const bool internet = found == AF_INET || found == AF_INET6;
    if (type != SOCK_DGRAM || (local ? found != AF_UNIX : !internet)) {
        return Error::invalid_argument;
    }
    Result<detail::Descriptor*> claimed =
        core.descriptor_claim(*fd, detail::DescriptorKind::socket);
    if (!claimed) return claimed.error();
    (*claimed)->family = static_cast<std::uint16_t>(found);
    static_cast<void>(from.take(index));
    return core.descriptors.handle_of(*claimed);
}

}  // namespace

Result<Listener> adopt_listener(Loop& loop, InheritedDescriptors& from, std::uint32_t index,
                                int family) noexcept {
    int found = 0;
    const Result<int> fd = checked(loop, from, index, family, found);
    if (!fd) return fd.error();
    Result<Listener> made = adopt_listener(loop, *fd);
    if (made) static_cast<void>(from.take(index));
    return made;
}

Result<UdpSocket> adopt_udp(Loop& loop, InheritedDescriptors& from, std::uint32_t index,
                            int family) noexcept {
    Result<std::uint64_t> handle = adopt_datagram(loop, from, index, family, false);
    return handle ? Result<UdpSocket>(UdpSocket::from_value(*handle))
                  : Result<UdpSocket>(handle.error());
}

Result<UnixDatagram> adopt_unix_datagram(Loop& loop, InheritedDescriptors& from,
                                         std::uint32_t index) noexcept {
    Result<std::uint64_t> handle = adopt_datagram(loop, from, index, AF_UNIX, true);
    return handle ? Result<UnixDatagram>(UnixDatagram::from_value(*handle))
                  : Result<UnixDatagram>(handle.error());
}

}  // namespace whorl
