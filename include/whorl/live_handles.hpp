// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/site.hpp>

#include <cstddef>
#include <cstdint>

// What a loop has open, and what waits: for the question why a program does not end, or holds so many
// descriptors. Without LoopOptions::insight ages, sites and handlers are not known.

namespace whorl {

inline constexpr Nanoseconds age_unknown{-1};  // an age without LoopOptions::insight

// A descriptor that the loop owns.
struct LiveHandle {
    std::uint64_t handle = 0;       // as Handle::value()
    int fd = -1;                    // -1 while it has none
    const char* kind = "";          // socket, listener, file, signals, child
    const char* state = "";         // open, connecting, closing
    Nanoseconds age = age_unknown;  // since it was made or adopted
    std::uint64_t bytes_in = 0;     // by completed operations of this loop, with insight; else 0
    std::uint64_t bytes_out = 0;    // likewise
    std::uint32_t operations = 0;   // that name it
    std::uint32_t buffers_out = 0;  // received buffers that the program holds
};

// An operation, timer, watch or hook that has not ended.
struct LiveOperation {
    std::uint64_t handle = 0;       // as Operation::value(), Timer::value() or Watch::value()
    const char* kind = "";          // as in operation_list.hpp
    const char* state = "";         // listed, queued, kernel, … as in op_record.hpp
    int fd = -1;                    // a watch's
    std::uint64_t bytes = 0;        // moved so far
    bool background = false;        // does not keep run() going
    bool cancelled = false;         // its end has been asked for, or its deadline has passed
    Nanoseconds age = age_unknown;  // since it was submitted
    Site site;                      // where it was submitted
    const void* handler = nullptr;  // address that names the handler's type: handler_name()
};

// Lifetime: the caller's, for the length of one visit.
class WHORL_EXPORT LiveVisitor {
  public:
    LiveVisitor() noexcept = default;
    LiveVisitor(const LiveVisitor&) = delete;
    LiveVisitor& operator=(const LiveVisitor&) = delete;
    virtual ~LiveVisitor();
    // Each handle, followed by the operations that name it.
    virtual void handle(const LiveHandle& handle) = 0;
    // `of` is null for what names no handle: timers, watches, hooks, work; they come last.
    virtual void operation(const LiveHandle* of, const LiveOperation& operation) = 0;
};

// Visits all that is alive. The visitor may call the loop as a handler may: submit, cancel, close, post, and
// visit again. What it adds is visited or not; what it ends for good is not visited after that. As in a
// handler, running the loop or destroying it from there is a programmer's error (panic). When the visitor
// throws, the visit has ended.
// Thread: loop thread only (asserted). Calls: the visitor, before it returns.
// Cost: O(handles + operations) for the handles, and O(operations) for each handle that has some; no
//   allocation. For a person's question, not for every second.
WHORL_EXPORT void visit_live(Loop& loop, LiveVisitor& visitor);

// The same as text, a line each, operations indented under their handle. Writes at most `size` bytes, the
// zero byte at the end among them. Returns the length of the whole; `size` or more: it was cut.
// Thread, Cost: as visit_live(), and a look into the program's symbols for each handler's type.
WHORL_EXPORT std::size_t print_live(Loop& loop, char* out, std::size_t size);

// The type of the handler, or the operation and the handler, that an address of LiveOperation or
// SlowHandler names, into `text` (always terminated): empty when the program's symbols were stripped.
// Thread: any; not in a signal handler. Cost: it reads the program's symbol table, and allocates.
WHORL_EXPORT void handler_name(const void* handler, char* text, std::size_t size) noexcept;

}  // namespace whorl
