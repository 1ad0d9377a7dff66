// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

// Memory as the library asks for it, counted and refused at the planned moment (the call "allocation"):
// operator new(nothrow), aligned_alloc, mmap and mprotect; in builds without a sanitizer also what
// liburing and the C library's loader take from malloc, calloc and realloc. The program is linked with
// --wrap for the functions of the C library; the library itself knows nothing of it.
//
// Not refused: libev's own tables. libev ends the process when one cannot grow, and has no other way
// (ev_set_allocator(3) asks for one that never fails).

namespace fault {

// What is there now of what was given out by the above.
struct Memory {
    std::int64_t blocks = 0;        // from new, aligned_alloc and malloc
    std::int64_t bytes_mapped = 0;  // by the library's own mmap calls
};
Memory memory_now() noexcept;

// To be called once libev.so.4 and the sanitizer, if any, are in the process, before faults.
void allocation_faults_prepare() noexcept;

}  // namespace fault
