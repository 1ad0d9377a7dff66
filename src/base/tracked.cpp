// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/assert.hpp>
#include <whorl/tracked.hpp>

namespace whorl::detail {

void tracked_destroyed(std::uint32_t handlers) noexcept {
    panic(
        "an object was destroyed while %u handlers still point to it; cancel or close what it has "
        "submitted, and delete it in the last handler, that of close() (docs/guide/handlers.md)",
        handlers);
}

void tracked_called() noexcept {
    panic(
        "a handler was called again although its object was destroyed in an earlier call; cancel "
        "the "
        "timer, watch or stream before deleting its object (docs/guide/handlers.md)");
}

}  // namespace whorl::detail
