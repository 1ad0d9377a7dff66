// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstddef>
#include <cstdint>

namespace whorl::detail {

// Where an address of code lies. Thread: any. Not for signal handlers.
struct CodePlace {
    const char* module = "";   // path of the program or library; of the dynamic linker's
    std::uint64_t offset = 0;  // the address in that file, for addr2line
};
CodePlace code_place(const void* code) noexcept;

// The name of the function that contains `code`, demangled, into `text` (always terminated): of the
// dynamic symbols, else of the file's symbol table; empty when it is stripped. Of a thunk of Loop it is
// the type of its operation and handler. Cost: it maps the file, reads its symbols and allocates.
void symbol_of(const void* code, char* text, std::size_t size) noexcept;

}  // namespace whorl::detail
