// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/names.hpp>

#include "backend/payload.hpp"
#include "loop/core.hpp"

#include <dirent.h>
#include <fcntl.h>

#include <cstdio>
#include <cstring>

namespace whorl {

void Rename::store(detail::OpRecord& record) const noexcept {
    unsigned flags = 0;
    if (how == How::no_replace) flags = RENAME_NOREPLACE;
    if (how == How::exchange) flags = RENAME_EXCHANGE;
    detail::paths_set(record, flags);
}

void RemoveDirectory::store(detail::OpRecord& record) const noexcept {
    detail::paths_set(record, AT_REMOVEDIR);
}

ReadLink::Done ReadLink::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    detail::PathBlock& block = detail::path_block_of(record);
    const auto size = static_cast<std::uint32_t>(delivery.bytes);
    WHORL_ASSERT(size <= block.second_room);
    // A text that fills the room would have no end: Linux knows none as long.
    block.second_path()[size < block.second_room ? size : block.second_room - 1] = '\0';
    return {delivery.error, Paths(record.take<Buffer>())};
}

namespace {

DirectoryEntry::Type type_of(unsigned char type) noexcept {
    switch (type) {
        case DT_UNKNOWN:
            return DirectoryEntry::Type::unknown;
        case DT_REG:
            return DirectoryEntry::Type::regular;
        case DT_DIR:
            return DirectoryEntry::Type::directory;
        case DT_LNK:
            return DirectoryEntry::Type::link;
        default:
            return DirectoryEntry::Type::other;
    }
}

}  // namespace

// struct linux_dirent64 of getdents64(2): inode, offset, length of the entry, type, name.
bool DirectoryBatch::next(DirectoryEntry& entry) noexcept {
    constexpr std::size_t name_at = 19;
    while (rest_.size > name_at) {
        const auto* first = static_cast<const std::byte*>(rest_.data);
        std::uint16_t length = 0;
        std::memcpy(&length, first + 16, sizeof length);
        WHORL_ASSERT(length > name_at && length <= rest_.size);
        std::memcpy(&entry.inode, first, sizeof entry.inode);
        entry.type = type_of(static_cast<unsigned char>(first[18]));
        entry.name = reinterpret_cast<const char*>(first + name_at);
        rest_ = {first + length, rest_.size - length};
        if (entry.name != "." && entry.name != "..") return true;
    }
    return false;
}

}  // namespace whorl
