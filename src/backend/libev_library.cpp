// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/libev_library.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace whorl::detail {

namespace {

template <class Function>
bool find_function(void* handle, const char* name, Function& function) noexcept {
    function = reinterpret_cast<Function>(dlsym(handle, name));
    return function != nullptr;
}

bool find_functions(LibevLibrary& library) noexcept {
    bool found = true;
#define WHORL_LIBEV_FIND(name) found &= find_function(library.handle, #name, library.name);
    WHORL_LIBEV_FUNCTIONS(WHORL_LIBEV_FIND)
#undef WHORL_LIBEV_FIND
    return found;
}

// dlopen(3) does not say why. Without a free descriptor it finds no library at all, and installing one
// would not help.
Error missing_reason() noexcept {
    const int probe = ::open("/", O_PATH | O_CLOEXEC);
    if (probe < 0) return Error::from_errno(errno);
    ::close(probe);
    return Error::libev_missing;
}

}  // namespace

Result<LibevLibrary> load_libev(const char* name) noexcept {
    WHORL_ASSERT(name != nullptr);
    LibevLibrary library;
    library.handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library.handle == nullptr) return missing_reason();
    // Within a major version libev only adds; what a watcher looks like stays.
    if (find_functions(library) && library.ev_version_major() == EV_VERSION_MAJOR) return library;
    library.close();
    return Error::libev_missing;
}

void LibevLibrary::close() noexcept {
    WHORL_ASSERT(handle != nullptr);
    dlclose(std::exchange(handle, nullptr));
}

}  // namespace whorl::detail
