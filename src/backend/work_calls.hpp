// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/system.hpp"

#include <whorl/op_record.hpp>

#include <cstdint>

namespace whorl::detail {

// Kinds that a thread can perform by system calls that may block. They stand together in the list.
constexpr bool is_blocking(OpKind kind) noexcept {
    return kind >= OpKind::work && kind < OpKind::watch;
}

// Performs such an operation: the answer as driver.hpp has it. The record's memory is unguarded
// meanwhile. Thread: any one, while the record is nobody else's.
std::int32_t perform(System& system, int fd, OpRecord& record) noexcept;

}  // namespace whorl::detail
