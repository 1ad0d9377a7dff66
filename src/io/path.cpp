// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/path.hpp>

#include "backend/file_calls.hpp"
#include "backend/payload.hpp"
#include "loop/core.hpp"

#include <whorl/socket.hpp>

#include <fcntl.h>

#include <cstdio>
#include <new>

namespace whorl {

namespace {

using detail::PathBlock;

const PathBlock* block_in(const Buffer& memory) noexcept {
    return reinterpret_cast<const PathBlock*>(memory.data());
}

Error path_check(std::string_view path, bool may_be_empty) noexcept {
    if (path.empty() && !may_be_empty) return Error::invalid_argument;
    if (path.find('\0') != std::string_view::npos) return Error::invalid_argument;
    return path.size() < detail::path_max ? Error() : Error::from_errno(ENAMETOOLONG);
}

}  // namespace

std::string_view Paths::first() const noexcept {
    return memory_ ? std::string_view(block_in(memory_)->first_path()) : std::string_view();
}

std::string_view Paths::second() const noexcept {
    const bool there = memory_ && block_in(memory_)->second != 0;
    return there ? std::string_view(block_in(memory_)->second_path()) : std::string_view();
}

Message message_of(const char* operation, Error error, const Paths& paths) noexcept {
    Message message;
    const std::string_view first = paths.first();
    const std::string_view second = paths.second();
    std::snprintf(message.text_, sizeof message.text_, "%s %.*s%s%.*s: %s: %s", operation,
                  static_cast<int>(first.size()), first.data(), second.empty() ? "" : " ",
                  static_cast<int>(second.size()), second.data(), error.name(), error.text());
    return message;
}

Message message_of(Loop& loop, const char* operation, Error error, File file) noexcept {
    Message message;
    char path[256] = "a closed file";
    const Result<int> number = native_handle(loop, file);
    if (number) {
        char link[64];
        std::snprintf(link, sizeof link, "/proc/self/fd/%d", *number);
        const ssize_t size =
            loop.core().system.file_calls().readlinkat(AT_FDCWD, link, path, sizeof path - 1);
        if (size >= 0) path[size] = '\0';
        else std::snprintf(path, sizeof path, "descriptor %d", *number);
    }
    std::snprintf(message.text_, sizeof message.text_, "%s %s: %s: %s", operation, path,
                  error.name(), error.text());
    return message;
}

namespace detail {

Error paths_open(Loop& loop, OpRecord& record, const PathPair& paths) noexcept {
    if (Error error = path_check(paths.first, paths.may_be_empty)) return error;
    const bool given = paths.has_second && paths.second_room == 0;
    if (Error error = path_check(paths.second, !given)) return error;
    const std::size_t second_room = given ? paths.second.size() + 1 : paths.second_room;
    const std::size_t size = sizeof(PathBlock) + paths.first.size() + 1 + second_room;
    Buffer memory = loop.buffer(size);
    if (!memory) return Error::from_errno(ENOMEM);
    memory.resize(size);
    auto& block = *::new (static_cast<void*>(memory.data())) PathBlock{};
    block.first = sizeof(PathBlock);
    paths.first.copy(block.first_path(), paths.first.size());
    block.first_path()[paths.first.size()] = '\0';
    if (paths.has_second) {
        block.second = static_cast<std::uint32_t>(block.first + paths.first.size() + 1);
        block.second_room = static_cast<std::uint32_t>(second_room);
        paths.second.copy(block.second_path(), paths.second.size());
        block.second_path()[paths.second.size()] = '\0';
    }
    record.store(std::move(memory));
    return {};
}

void paths_set(OpRecord& record, std::uint64_t flags, std::uint64_t mode,
               std::uint64_t resolve) noexcept {
    path_block_of(record).how = {flags, mode, resolve};
}

}  // namespace detail

}  // namespace whorl
