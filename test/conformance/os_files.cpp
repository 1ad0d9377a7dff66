// SPDX-License-Identifier: MIT
#include "conformance/os_files.hpp"

#include "backend/file_calls.hpp"
#include "backend/sim_kernel.hpp"
#include "conformance/os.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace whorl::conformance::os {

namespace {

detail::FileCalls& calls() {
    return world() != nullptr ? world()->file_calls() : detail::real_file_calls();
}

void must(bool holds, const char* what, const std::string& path) {
    if (holds) return;
    std::fprintf(stderr, "the test's own %s of %s failed\n", what, path.c_str());
    std::abort();
}

}  // namespace

std::string make_directory() {
    const char* base = std::getenv("WHORL_TEST_TMP");
    std::string path = std::string(base == nullptr || world() != nullptr ? "/tmp" : base);
    path += "/whorl-XXXXXX";
    if (world() == nullptr) {
        must(mkdtemp(path.data()) != nullptr, "mkdtemp", path);
        return path;
    }
    must(calls().mkdirat(AT_FDCWD, path.c_str(), 0700) == 0, "mkdir", path);
    return path;
}

int open_file(const std::string& path, int flags, unsigned mode) {
    const auto made = static_cast<std::uint64_t>(flags | O_CLOEXEC);
    return calls().openat2(AT_FDCWD, path.c_str(), {made, (flags & O_CREAT) != 0 ? mode : 0u, 0});
}

void put_file(const std::string& path, std::string_view text) {
    const int fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    must(fd >= 0, "open", path);
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t put = os::write(fd, text.data() + done, text.size() - done);
        must(put > 0, "write", path);
        done += static_cast<std::size_t>(put);
    }
    os::close(fd);
}

std::string get_file(const std::string& path) {
    const int fd = open_file(path, O_RDONLY);
    must(fd >= 0, "open", path);
    std::string text;
    char part[65536];
    for (;;) {
        const ssize_t got = os::read(fd, part, sizeof part);
        must(got >= 0, "read", path);
        if (got == 0) break;
        text.append(part, static_cast<std::size_t>(got));
    }
    os::close(fd);
    return text;
}

bool exists(const std::string& path) {
    struct statx status {};
    return calls().statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_TYPE, status) == 0;
}

std::vector<std::string> names_in(const std::string& path) {
    const int fd = open_file(path, O_RDONLY | O_DIRECTORY);
    must(fd >= 0, "open", path);
    std::vector<std::string> names;
    alignas(8) char batch[16384];
    for (;;) {
        const ssize_t got = calls().getdents64(fd, batch, sizeof batch);
        must(got >= 0, "getdents64", path);
        if (got == 0) break;
        for (ssize_t at = 0; at < got;) {
            std::uint16_t length = 0;
            std::memcpy(&length, batch + at + 16, sizeof length);
            const std::string name(batch + at + 19);
            if (name != "." && name != "..") names.push_back(name);
            at += length;
        }
    }
    os::close(fd);
    return names;
}

// By a loop: no list of a tree is long.
void remove_tree(const std::string& path) {
    std::vector<std::string> directories{path};
    for (std::size_t next = 0; next < directories.size(); ++next) {
        const std::string here = directories[next];
        for (const std::string& name : names_in(here)) {
            const std::string entry = here + "/" + name;
            if (calls().unlinkat(AT_FDCWD, entry.c_str(), 0) < 0) directories.push_back(entry);
        }
    }
    while (!directories.empty()) {
        const std::string& last = directories.back();
        must(calls().unlinkat(AT_FDCWD, last.c_str(), AT_REMOVEDIR) == 0, "rmdir", last);
        directories.pop_back();
    }
}

}  // namespace whorl::conformance::os
