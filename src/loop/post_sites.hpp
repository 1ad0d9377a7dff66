// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/site.hpp>

#include <cstdint>

namespace whorl::detail {

// Where posts that wait were made: as many, in the same order, as the loop's queue of posts has.
class PostSites {
  public:
    struct Entry {
        Site site;
        std::uint64_t posted_ns = 0;
        std::uint64_t number = 0;  // of the post, from 1; another one: there was no memory for it
    };

    PostSites() noexcept = default;
    PostSites(const PostSites&) = delete;
    PostSites& operator=(const PostSites&) = delete;
    ~PostSites() { drop_array(entries_); }

    // Returns the post's number.
    std::uint64_t push(Site site, std::uint64_t posted_ns) noexcept;
    Entry pop() noexcept;

  private:
    bool grow() noexcept;

    Entry* entries_ = nullptr;
    std::uint64_t capacity_ = 0;  // 0 or a power of two
    std::uint64_t first_ = 1;
    std::uint64_t next_ = 1;
};

}  // namespace whorl::detail
