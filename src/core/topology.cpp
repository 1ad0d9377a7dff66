// SPDX-License-Identifier: MIT
// Floor: 7
#include <whorl/topology.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace whorl {

namespace {

// The beginning of a small file of text; empty when it cannot be read.
struct Text {
    char bytes[256] = {};
    explicit Text(const char* path) noexcept {
        const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return;
        const ssize_t size = ::read(fd, bytes, sizeof bytes - 1);
        bytes[size > 0 ? size : 0] = 0;
        static_cast<void>(::close(fd));
    }
    bool empty() const noexcept { return bytes[0] == 0; }
};

struct Path {
    char text[512];
    template <class... Arguments>
    explicit Path(const char* format, Arguments... arguments) noexcept {
        // A path that is too long is not found, which is an answer.
        static_cast<void>(std::snprintf(text, sizeof text, format, arguments...));
    }
};

std::uint32_t number_in(const Path& path, std::uint32_t otherwise) noexcept {
    const Text text(path.text);
    return text.empty() ? otherwise
                        : static_cast<std::uint32_t>(std::strtoul(text.bytes, nullptr, 10));
}

// Which processors we may use.
struct Allowed {
    bool has[Topology::cpus_max] = {};

    // "0-3,8,10-11", as the kernel writes sets of processors.
    void add_list(const char* text) noexcept {
        for (char* rest = nullptr; *text >= '0' && *text <= '9';
             text = rest + (*rest == ',' ? 1 : 0)) {
            unsigned long first = std::strtoul(text, &rest, 10);
            const unsigned long last = *rest == '-' ? std::strtoul(rest + 1, &rest, 10) : first;
            for (; first <= last && first < Topology::cpus_max; ++first) has[first] = true;
        }
    }
    bool read_status(const char* root) noexcept {
        static constexpr char name[] = "Cpus_allowed_list:";
        std::FILE* status = std::fopen(Path("%s/proc/self/status", root).text, "re");
        if (status == nullptr) return false;
        char line[4096];
        bool found = false;
        while (!found && std::fgets(line, sizeof line, status) != nullptr) {
            found = std::strncmp(line, name, sizeof name - 1) == 0;
        }
        static_cast<void>(std::fclose(status));
        if (found) add_list(line + sizeof name - 1 + std::strspn(line + sizeof name - 1, " \t"));
        return found;
    }
    Error read_affinity() noexcept {
        // Wide enough for every kernel: the call refuses a mask narrower than its own.
        cpu_set_t* mask = CPU_ALLOC(Topology::cpus_max * 8);
        if (mask == nullptr) return Error::from_errno(ENOMEM);
        const std::size_t size = CPU_ALLOC_SIZE(Topology::cpus_max * 8);
        CPU_ZERO_S(size, mask);
        Error error;
        if (::sched_getaffinity(0, size, mask) != 0) error = Error::from_errno(errno);
        for (std::uint32_t number = 0; number < Topology::cpus_max && !error; ++number) {
            has[number] = CPU_ISSET_S(number, size, mask);
        }
        CPU_FREE(mask);
        return error;
    }
    void leave_online(const char* root) noexcept {
        const Text list(Path("%s/sys/devices/system/cpu/online", root).text);
        if (list.empty()) return;
        Allowed online;
        online.add_list(list.bytes);
        for (std::uint32_t number = 0; number < Topology::cpus_max; ++number) {
            has[number] = has[number] && online.has[number];
        }
    }
};

// The node of a processor is a link in its folder: node0, node1, …
std::uint32_t node_of(const char* root, std::uint32_t cpu) noexcept {
    const Path path("%s/sys/devices/system/cpu/cpu%u", root, cpu);
    DIR* folder = ::opendir(path.text);
    if (folder == nullptr) return 0;
    std::uint32_t node = 0;
    while (const dirent* entry = ::readdir(folder)) {
        if (std::strncmp(entry->d_name, "node", 4) != 0) continue;
        node = static_cast<std::uint32_t>(std::strtoul(entry->d_name + 4, nullptr, 10));
        break;
    }
    static_cast<void>(::closedir(folder));
    return node;
}

// "200000 100000": microseconds of processor time a period. "max" for no quota.
std::uint32_t quota_of(const char* text) noexcept {
    char* rest = nullptr;
    const unsigned long long quota = std::strtoull(text, &rest, 10);
    if (rest == text || quota == 0) return 0;
    unsigned long long period = std::strtoull(rest, nullptr, 10);
    if (period == 0) period = 100'000;
    return static_cast<std::uint32_t>((quota + period - 1) / period);
}

void keep_least(std::uint32_t& least, std::uint32_t quota) noexcept {
    if (quota != 0 && (least == 0 || quota < least)) least = quota;
}

// Our control group (v2) and all above it: the smallest quota counts.
std::uint32_t group_quota(const char* root) noexcept {
    std::uint32_t least = 0;
    const Text groups(Path("%s/proc/self/cgroup", root).text);
    const char* own = std::strstr(groups.bytes, "0::");
    char group[256] = "";
    if (own != nullptr) {
        static_cast<void>(std::snprintf(group, sizeof group, "%s", own + 3));
        group[std::strcspn(group, "\n")] = 0;
    }
    for (;;) {
        const Text text(Path("%s/sys/fs/cgroup%s/cpu.max", root, group).text);
        keep_least(least, quota_of(text.bytes));
        char* last = std::strrchr(group, '/');
        if (last == nullptr) break;
        *last = 0;
    }
    // Version 1, as far as it is mounted where it usually is.
    const Text quota(Path("%s/sys/fs/cgroup/cpu/cpu.cfs_quota_us", root).text);
    const Text period(Path("%s/sys/fs/cgroup/cpu/cpu.cfs_period_us", root).text);
    if (!quota.empty() && quota.bytes[0] != '-') {
        const Path both("%.40s %.40s", quota.bytes, period.bytes);
        keep_least(least, quota_of(both.text));
    }
    return least;
}

}  // namespace

Result<Topology> Topology::read() noexcept { return read(""); }

Result<Topology> Topology::read(const char* root) noexcept {
    Allowed allowed;
    if (*root != 0 && allowed.read_status(root)) {
        allowed.leave_online(root);  // what sched_getaffinity has done already (cpu_active_mask)
    } else if (Error error = allowed.read_affinity()) {
        return error;
    }
    Topology found;
    for (std::uint32_t number = 0; number < cpus_max; ++number) {
        if (!allowed.has[number]) continue;
        const char* base = "%s/sys/devices/system/cpu/cpu%u/topology/%s";
        Cpu& cpu = found.cpus_[found.count_++];
        cpu.number = number;
        cpu.package = number_in(Path(base, root, number, "physical_package_id"), 0);
        cpu.core = number_in(Path(base, root, number, "core_id"), number);
        cpu.node = node_of(root, number);
    }
    found.quota_ = group_quota(root);
    found.order();
    return found;
}

void Topology::order() noexcept {
    // Core numbers begin anew in each package, and have gaps: each gets the number of its first processor.
    for (std::uint32_t index = 0; index < count_; ++index) {
        cpus_[index].core += cpus_[index].package << 16;
    }
    Cpu* first = cpus_;
    Cpu* last = cpus_ + count_;
    const auto by_node = [](const Cpu& a, const Cpu& b) {
        return a.node != b.node ? a.node < b.node : a.number < b.number;
    };
    std::sort(first, last, by_node);
    const auto is_first_of_its_core = [first](const Cpu& cpu) {
        const auto same = [&cpu](const Cpu& other) { return other.core == cpu.core; };
        return std::none_of(static_cast<const Cpu*>(first), &cpu, same);
    };
    // In place and without an allocation: at most 1024, once in a process.
    Cpu ordered[cpus_max];
    Cpu* out = std::copy_if(first, last, ordered, is_first_of_its_core);
    cores_ = static_cast<std::uint32_t>(out - ordered);
    std::copy_if(first, last, out, [&](const Cpu& cpu) { return !is_first_of_its_core(cpu); });
    std::copy(ordered, ordered + count_, first);
}

}  // namespace whorl
