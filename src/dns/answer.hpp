// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/dns.hpp>

#include <ares.h>

#include <cstddef>
#include <cstdint>

namespace whorl::dns::detail {

// What is known of a name: records, or why there are none. One block of memory, shared by the table and
// those who have asked; its records follow it, and what their views name follows them.
struct alignas(std::max_align_t) Answer {
    std::uint32_t references = 1;
    std::uint32_t ttl_s = 0;
    Error error;
    std::size_t count = 0;
    std::size_t bytes = sizeof(Answer);  // of the block

    template <class Record>
    Record* records() noexcept {
        return reinterpret_cast<Record*>(this + 1);
    }
};

// What c-ares says, as an answer. Null: no memory.
Answer* answer_of(Error error) noexcept;
Answer* answer_of_addresses(int status, const ares_addrinfo* found) noexcept;
Answer* answer_of_services(int status, const unsigned char* message, int size) noexcept;
Answer* answer_of_texts(int status, const unsigned char* message, int size) noexcept;
Error error_of(int status) noexcept;

}  // namespace whorl::dns::detail
