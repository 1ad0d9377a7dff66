// SPDX-License-Identifier: MIT
// Floor: 4
#include <whorl/slow_handler.hpp>

#include "base/symbol.hpp"
#include "base/text.hpp"
#include "loop/core.hpp"
#include "loop/insight.hpp"
#include "loop/slow_watch.hpp"

#include <cstring>

namespace whorl {

namespace {

detail::SlowWatch* watch_of(Loop& loop) noexcept {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    return core.insight == nullptr ? nullptr : core.insight->slow;
}

const char* file_name(const char* path) noexcept {
    const char* slash = std::strrchr(path, '/');
    return slash == nullptr ? path : slash + 1;
}

}  // namespace

Error on_slow_handler(Loop& loop, SlowReport report, void* context) noexcept {
    detail::SlowWatch* watch = watch_of(loop);
    if (watch == nullptr || !watch->wants_slow()) return Error::invalid_argument;
    watch->report_slow(report, context);
    return {};
}

Error on_stuck_handler(Loop& loop, SlowReport report, void* context) noexcept {
    detail::SlowWatch* watch = watch_of(loop);
    if (watch == nullptr || !watch->wants_stuck()) return Error::invalid_argument;
    watch->report_stuck(report, context);
    return {};
}

SlowHandlerCounts slow_handler_counts(Loop& loop) noexcept {
    detail::SlowWatch* watch = watch_of(loop);
    return watch == nullptr ? SlowHandlerCounts() : watch->counts();
}

std::size_t print_slow_handler(const SlowHandler& slow, char* out, std::size_t size) noexcept {
    char name[256];
    detail::Text text(out, size);
    text.add("whorl: a handler took %.3f ms: %s", static_cast<double>(slow.duration.count()) / 1e6,
             slow.kind);
    if (slow.site.file != nullptr) text.add(" from %s:%u", slow.site.file, slow.site.line);
    detail::symbol_of(slow.handler, name, sizeof name);
    if (name[0] != 0) text.add(", %s", name);
    if (slow.suppressed != 0) {
        text.add(" (%llu more not reported)", static_cast<unsigned long long>(slow.suppressed));
    }
    text.add("\n");
    if (slow.stack_count != 0) {
        text.add("  its stack after %.3f ms:\n", static_cast<double>(slow.sampled.count()) / 1e6);
    }
    for (std::size_t index = 0; index < slow.stack_count; ++index) {
        // A return address lies behind its call, which may be its function's last instruction.
        const void* code = static_cast<const char*>(slow.stack[index]) - (index == 0 ? 0 : 1);
        const detail::CodePlace place = detail::code_place(code);
        detail::symbol_of(code, name, sizeof name);
        text.add("  #%-2zu %s+0x%llx %s\n", index, file_name(place.module),
                 static_cast<unsigned long long>(place.offset), name);
    }
    return text.length();
}

}  // namespace whorl
