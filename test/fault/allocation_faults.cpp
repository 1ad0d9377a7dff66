// SPDX-License-Identifier: MIT
#include "fault/allocation_faults.hpp"

#include "fault/calls.hpp"

#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAULT_SANITIZED 1
#endif
#endif

#if defined(FAULT_SANITIZED)
// sanitizer/allocator_interface.h, which gcc does not install.
extern "C" int __sanitizer_install_malloc_and_free_hooks(
    void (*on_malloc)(const volatile void* memory, std::size_t size),
    void (*on_free)(const volatile void* memory));
#endif

namespace {

std::atomic<std::int64_t> blocks{0};
std::atomic<std::int64_t> bytes_mapped{0};
int allocation_call = -1;

bool refuse() noexcept { return fault::moment_of(allocation_call); }

#if defined(FAULT_SANITIZED)
// malloc is the sanitizer's: it tells of each block, whoever asks for it and gives it back.
void on_malloc(const volatile void* memory, std::size_t) {
    if (memory != nullptr) ++blocks;
}
void on_free(const volatile void* memory) {
    if (memory != nullptr) --blocks;
}
#endif

// The code of the libraries that allocate on the library's behalf.
struct Range {
    std::uintptr_t start;
    std::uintptr_t end;
};
Range ranges[4];
int ranges_count = 0;

int note_range(dl_phdr_info* info, std::size_t, void*) noexcept {
    const char* name = std::strrchr(info->dlpi_name, '/');
    if (name == nullptr || ranges_count == 4) return 0;
    bool wanted = false;
    for (const char* word : {"/liburing.", "/ld-linux", "/libc.so"}) {
        wanted = wanted || std::strncmp(name, word, std::strlen(word)) == 0;
    }
    if (!wanted) return 0;
    Range range{UINTPTR_MAX, 0};
    for (int index = 0; index < info->dlpi_phnum; ++index) {
        const auto& part = info->dlpi_phdr[index];
        if (part.p_type != PT_LOAD) continue;
        const std::uintptr_t start = info->dlpi_addr + part.p_vaddr;
        if (start < range.start) range.start = start;
        if (start + part.p_memsz > range.end) range.end = start + part.p_memsz;
    }
    ranges[ranges_count++] = range;
    return 0;
}

}  // namespace

namespace fault {

Memory memory_now() noexcept { return {blocks.load(), bytes_mapped.load()}; }

void allocation_faults_prepare() noexcept {
    allocation_call = call_find("allocation");
    ranges_count = 0;
    dl_iterate_phdr(&note_range, nullptr);
#if defined(FAULT_SANITIZED)
    if (__sanitizer_install_malloc_and_free_hooks(&on_malloc, &on_free) == 0) std::abort();
#endif
}

}  // namespace fault

#if !defined(FAULT_SANITIZED)

namespace {

bool refuse_to(void* caller) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(caller);
    for (int index = 0; index < ranges_count; ++index) {
        if (address >= ranges[index].start && address < ranges[index].end) return refuse();
    }
    return false;
}

void* count(void* memory) noexcept {
    if (memory != nullptr) ++blocks;
    return memory;
}

}  // namespace

extern "C" {

void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) noexcept {
    return refuse_to(__builtin_return_address(0)) ? nullptr : count(__libc_malloc(size));
}
void* calloc(std::size_t number, std::size_t size) noexcept {
    return refuse_to(__builtin_return_address(0)) ? nullptr : count(__libc_calloc(number, size));
}
void* realloc(void* memory, std::size_t size) noexcept {
    if (refuse_to(__builtin_return_address(0))) return nullptr;
    void* moved = __libc_realloc(memory, size);
    if (memory == nullptr && moved != nullptr) ++blocks;
    if (memory != nullptr && size == 0) --blocks;
    return moved;
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
    return count(__libc_memalign(alignment, size));
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept {
    *memory = count(__libc_memalign(alignment, size));
    return *memory != nullptr ? 0 : ENOMEM;
}
void free(void* memory) noexcept {
    if (memory != nullptr) --blocks;
    __libc_free(memory);
}
}

#endif

extern "C" {
void* __real_aligned_alloc(std::size_t alignment, std::size_t size);
}

// --- operator new as the library uses it. The plain one is the test's own and never fails.

[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    if (refuse()) return nullptr;
    return std::malloc(size);
}
[[gnu::noinline]] void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    if (refuse()) return nullptr;
    return std::malloc(size);
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment,
                                     const std::nothrow_t&) noexcept {
    if (refuse()) return nullptr;
    void* memory = nullptr;
    const int failed = posix_memalign(&memory, static_cast<std::size_t>(alignment), size);
    return failed == 0 ? memory : nullptr;
}
[[gnu::noinline]] void* operator new(std::size_t size) {
    if (void* memory = std::malloc(size)) return memory;
    std::abort();
}
[[gnu::noinline]] void* operator new[](std::size_t size) { return operator new(size); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { operator delete(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    operator delete(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept {
    operator delete(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
    operator delete(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    operator delete(memory);
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
    operator delete(memory);
}

// --- What the library calls of the C library (-Wl,--wrap).

extern "C" {

void* __real_mmap(void* start, std::size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void* start, std::size_t size);
int __real_mprotect(void* start, std::size_t size, int protection);

void* __wrap_aligned_alloc(std::size_t alignment, std::size_t size) {
    if (refuse()) return nullptr;
    return __real_aligned_alloc(alignment, size);
}

void* __wrap_mmap(void* start, std::size_t size, int protection, int flags, int fd, off_t offset) {
    if (refuse()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void* memory = __real_mmap(start, size, protection, flags, fd, offset);
    if (memory != MAP_FAILED) bytes_mapped += static_cast<std::int64_t>(size);
    return memory;
}

int __wrap_munmap(void* start, std::size_t size) {
    bytes_mapped -= static_cast<std::int64_t>(size);
    return __real_munmap(start, size);
}

int __wrap_mprotect(void* start, std::size_t size, int protection) {
    if (refuse()) {
        errno = ENOMEM;
        return -1;
    }
    return __real_mprotect(start, size, protection);
}
}
