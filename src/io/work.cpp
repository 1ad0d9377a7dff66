// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/work.hpp>

#include "loop/core.hpp"

namespace whorl::detail {

Error work_open(Loop& loop, OpRecord& record, std::size_t size) noexcept {
    Buffer memory = loop.buffer(size);
    if (!memory) return Error::from_errno(ENOMEM);
    memory.resize(size);
    record.store(std::move(memory));
    return {};
}

}  // namespace whorl::detail
