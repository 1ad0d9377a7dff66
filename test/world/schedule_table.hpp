// SPDX-License-Identifier: MIT
#pragma once

#include "program.hpp"

#include <cstdio>

// Which ways to end the contract makes possible for each kind of operation. A random run must see them
// all: what it never reaches it does not test.

namespace world_test {

constexpr std::uint32_t cells() { return 0; }
template <class... More>
constexpr std::uint32_t cells(End first, More... more) {
    return 1u << static_cast<unsigned>(first) | cells(more...);
}

// Every operation of the kernel's can be refused by submit, cancelled before the kernel has it, time
// out, and end with its loop. (Cancelled in the kernel: not a nop, which ends there at once.)
inline constexpr std::uint32_t common = cells(End::ok, End::timed_out, End::cancelled_early,
                                              End::drained, End::destroyed, End::not_taken);
inline constexpr std::uint32_t on_descriptor = common | cells(End::cancelled, End::closed);
inline constexpr std::uint32_t transfer =
    on_descriptor | cells(End::reset, End::resource, End::unknown, End::cancel_lost);

inline std::uint32_t possible(Kind kind, bool ring) {
    switch (kind) {
        case Kind::nop:
            return common | cells(End::cancel_lost, End::cancel_late);
        case Kind::connect:
            return common | cells(End::cancelled, End::cancel_lost, End::cancel_late, End::refused,
                                  End::resource, End::unknown);
        case Kind::accept:
            return on_descriptor | cells(End::cancel_lost, End::cancel_late, End::resource);
        case Kind::accept_stream:
            return on_descriptor | cells(End::resource);
        case Kind::recv:
            return transfer | cells(End::part, End::end, End::refused, End::cancel_late);
        case Kind::recv_stream:
            return transfer | cells(End::end, End::refused);
        case Kind::send:
            return transfer | cells(End::part, End::cancel_late);
        case Kind::send_all:
        case Kind::send_chain:
            return transfer | cells(End::part);
        case Kind::shutdown:
            // The driver of the ring shuts down by a plain call: nothing comes in between.
            return on_descriptor | cells(End::reset, End::cancel_late) |
                   (ring ? 0 : cells(End::cancel_lost));
        case Kind::watch:
            return cells(End::ok, End::cancelled, End::drained, End::destroyed, End::not_taken,
                         End::resource);
        case Kind::timer:
        case Kind::every:
            return cells(End::ok, End::cancelled, End::drained, End::destroyed, End::not_taken);
        case Kind::hook:
            return cells(End::ok, End::cancelled, End::destroyed, End::not_taken);
        case Kind::post:
        case Kind::close:
            return cells(End::ok, End::destroyed, End::not_taken);
        case Kind::remote:
            return cells(End::ok, End::destroyed);
        default:
            return 0;
    }
}

// Prints the table. Returns how many possible cells were not hit.
inline int print_table(const Table& table, bool ring) {
    int count = 0;
    int missing = 0;
    for (int row = 0; row < static_cast<int>(Kind::count); ++row) {
        const auto kind = static_cast<Kind>(row);
        std::printf("%-14s", name_of(kind));
        for (int column = 0; column < static_cast<int>(End::count); ++column) {
            const auto end = static_cast<End>(column);
            const std::uint64_t hits = table.hits[row][column];
            const bool wanted = (possible(kind, ring) & cells(end)) != 0;
            if (wanted) ++count;
            if (wanted && hits == 0) ++missing;
            if (wanted || hits != 0) {
                std::printf(" %s:%llu%s", name_of(end), static_cast<unsigned long long>(hits),
                            hits == 0 ? "(!)" : "");
            }
        }
        std::printf("\n");
    }
    std::printf("cells: %d of %d\n", count - missing, count);
    return missing;
}

}  // namespace world_test
