// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/handle.hpp>
#include <whorl/loop.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

// Paths of operations on files and names, and what to print when one has failed.
//
// A path is copied when its operation is submitted, into a buffer of the loop's pool, and comes back in
// the completion as Paths: the caller's string need not live, and the handler can say which path it was.
// Limits of all paths: not empty and without a zero byte, else invalid_argument from submit; shorter
// than 4096 bytes, else ENAMETOOLONG from submit. Relative ones start at the operation's `directory`, a
// File that was opened with O_DIRECTORY or O_PATH, and without one at the working directory.

namespace whorl {

// The paths of one operation. Lifetime: owns their memory, of the loop's pool. Thread: the loop's.
class Paths {
  public:
    Paths() noexcept = default;
    // For operations: takes over the memory that detail::paths_open() filled.
    explicit Paths(Buffer memory) noexcept : memory_(std::move(memory)) {}

    // The path, or the older one of two. Empty for an operation on an open file.
    WHORL_EXPORT std::string_view first() const noexcept;
    // The other one: the new name; of a ReadLink, what the link says.
    WHORL_EXPORT std::string_view second() const noexcept;

  private:
    Buffer memory_;
};

// A line such as "open /etc/x: ENOENT: No such file or directory". Cut at its capacity.
class Message {
  public:
    // Ends with a zero byte; lasts as long as this object.
    const char* text() const noexcept { return text_; }

  private:
    friend WHORL_EXPORT Message message_of(const char*, Error, const Paths&) noexcept;
    friend WHORL_EXPORT Message message_of(Loop&, const char*, Error, File) noexcept;
    char text_[512] = "";
};

// What to print for an operation that has ended with `error`. Cost: the second asks the system for the
// file's present path (readlink(2) of /proc/self/fd), which does not wait for a disk.
WHORL_EXPORT Message message_of(const char* operation, Error error, const Paths& paths) noexcept;
// The same of an operation on an open file.
WHORL_EXPORT Message message_of(Loop& loop, const char* operation, Error error, File file) noexcept;

namespace detail {
// Moves up to two paths into memory for `record`. Errors: see above; ENOMEM.
struct PathPair {
    std::string_view first;
    std::string_view second;
    bool has_second = false;
    bool may_be_empty = false;      // the operation is on `directory` itself
    std::uint32_t second_room = 0;  // for an answer
};
WHORL_EXPORT Error paths_open(Loop& loop, OpRecord& record, const PathPair& paths) noexcept;
WHORL_EXPORT void paths_set(OpRecord& record, std::uint64_t flags, std::uint64_t mode = 0,
                            std::uint64_t resolve = 0) noexcept;
}  // namespace detail

}  // namespace whorl
