// SPDX-License-Identifier: MIT
// Floor: 4
#include <whorl/statistics_page.hpp>

#include "loop/meter.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

// The reader's side of a page. It may be anything: a page that is being made, a page of another version, a
// file that somebody wrote to look like one. So nothing in it is an index, a length or a format.

namespace whorl {

namespace {

constexpr int copy_attempts = 64;
constexpr std::uint32_t places_max = 1024;

struct Descriptor {
    int fd;
    explicit Descriptor(int opened) noexcept : fd(opened) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (fd >= 0) ::close(fd);
    }
};

// The number that a process has for itself, which inside a PID namespace is another one than ours for it:
// the last of those that its status names. 0: no such process.
std::uint64_t own_number(int process) noexcept {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/status", process);
    std::FILE* status = std::fopen(path, "re");
    if (status == nullptr) return 0;
    auto number = static_cast<std::uint64_t>(process);
    char line[512];
    while (std::fgets(line, sizeof line, status) != nullptr) {
        if (std::strncmp(line, "NSpid:", 6) != 0) continue;
        const char* last = std::strrchr(line, '\t');
        if (last != nullptr) number = std::strtoull(last + 1, nullptr, 10);
        break;
    }
    static_cast<void>(std::fclose(status));
    return number;
}

bool names_page(int directory, const char* entry) noexcept {
    constexpr char wanted[] = "/memfd:whorl-statistics";
    char target[64];
    const ssize_t size = ::readlinkat(directory, entry, target, sizeof target);
    constexpr std::size_t length = sizeof wanted - 1;
    return size >= static_cast<ssize_t>(length) && std::memcmp(target, wanted, length) == 0;
}

struct Found {
    std::uint64_t number;
    int fd;
};

void clean(char* text, std::size_t size) noexcept {
    text[size - 1] = 0;
    for (std::size_t at = 0; at < size && text[at] != 0; ++at) {
        if (text[at] < ' ' || text[at] > '~') text[at] = '?';
    }
}

}  // namespace

Result<std::uint32_t> StatisticsPage::find(int process, Place* places,
                                           std::uint32_t count) noexcept {
    const std::uint64_t own = own_number(process);
    if (process <= 0 || own == 0) return Error::from_errno(ESRCH);
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/fd", process);
    DIR* directory = ::opendir(path);
    if (directory == nullptr) return Error::from_errno(errno);
    Found found[places_max];
    std::uint32_t pages = 0;
    while (const dirent* entry = ::readdir(directory)) {
        if (pages == places_max) break;
        if (!names_page(::dirfd(directory), entry->d_name)) continue;
        const int fd = static_cast<int>(std::strtol(entry->d_name, nullptr, 10));
        char place[sizeof(Place::path)];
        std::snprintf(place, sizeof place, "/proc/%d/fd/%d", process, fd);
        Result<StatisticsPage> page = open(place);
        if (!page || page->process() != own) continue;
        found[pages++] = {page->number(), fd};
    }
    ::closedir(directory);
    std::sort(found, found + pages,
              [](const Found& one, const Found& two) { return one.number < two.number; });
    for (std::uint32_t index = 0; index < std::min(pages, count); ++index) {
        std::snprintf(places[index].path, sizeof places[index].path, "/proc/%d/fd/%d", process,
                      found[index].fd);
    }
    return pages;
}

Result<StatisticsPage> StatisticsPage::open(const char* path) noexcept {
    const Descriptor file(::open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (file.fd < 0) return Error::from_errno(errno);
    return open_descriptor(file.fd);
}

// What may become shorter is not mapped, since touching what is gone is a signal: it is read once.
Result<StatisticsPage> StatisticsPage::open_descriptor(int fd) noexcept {
    using detail::PageLayout;
    struct stat state {};
    if (::fstat(fd, &state) != 0) return Error::from_errno(errno);
    struct {
        char magic[8];
        std::uint32_t version;
        std::uint32_t size;
    } head{};
    if (!S_ISREG(state.st_mode) || ::pread(fd, &head, sizeof head, 0) != sizeof head ||
        std::memcmp(head.magic, PageLayout::magic_text, sizeof head.magic) != 0) {
        return Error::from_errno(EBADMSG);
    }
    if (head.version != version || head.size != sizeof(PageLayout)) {
        return Error::from_errno(ENOTSUP);
    }
    if (state.st_size != sizeof(PageLayout)) return Error::from_errno(EBADMSG);
    const int seals = ::fcntl(fd, F_GET_SEALS);
    const bool keeps_size = seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
    void* memory = keeps_size ? ::mmap(nullptr, sizeof(PageLayout), PROT_READ, MAP_SHARED, fd, 0)
                              : ::mmap(nullptr, sizeof(PageLayout), PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return Error::from_errno(errno);
    StatisticsPage page(static_cast<PageLayout*>(memory));
    if (!keeps_size) {
        const ssize_t got = ::pread(fd, memory, sizeof(PageLayout), 0);
        if (got != sizeof(PageLayout)) return Error::from_errno(EBADMSG);
    }
    page.take_names();
    return page;
}

void StatisticsPage::take_names() noexcept {
    std::memcpy(names_, layout_->kind_names, sizeof names_);
    for (char(&name)[sizeof names_[0]] : names_) {
        name[sizeof name - 1] = 0;
        for (char& letter : name) {
            const bool plain = (letter >= 'a' && letter <= 'z') ||
                               (letter >= '0' && letter <= '9') || letter == '_' || letter == 0;
            if (!plain) letter = '_';
        }
    }
}

StatisticsPage::StatisticsPage(StatisticsPage&& other) noexcept
    : layout_(std::exchange(other.layout_, nullptr)) {
    std::memcpy(names_, other.names_, sizeof names_);
}

StatisticsPage& StatisticsPage::operator=(StatisticsPage&& other) noexcept {
    std::swap(layout_, other.layout_);
    std::swap(names_, other.names_);
    return *this;
}

StatisticsPage::~StatisticsPage() {
    if (layout_ != nullptr) ::munmap(layout_, sizeof(detail::PageLayout));
}

namespace {

// False: it was written during each attempt.
bool copy_words(const detail::Atomic<std::uint64_t>& sequence,
                const detail::Atomic<std::uint64_t>* words, void* to,
                std::uint32_t count) noexcept {
    // What is thrown away never reaches the reader's copy.
    std::uint64_t copy[std::max(detail::figures_words, detail::details_words)];
    for (int attempt = 0; attempt < copy_attempts; ++attempt) {
        if (!detail::seqlock_copy(sequence, words, copy, count)) continue;
        std::memcpy(to, copy, std::size_t{count} * 8);
        return true;
    }
    return false;
}

void clean(SlowFigures& slow) noexcept {
    clean(slow.file, sizeof slow.file);
    clean(slow.kind, sizeof slow.kind);
    clean(slow.handler, sizeof slow.handler);
}

void clean(HandleFigures& handle) noexcept {
    clean(handle.kind, sizeof handle.kind);
    clean(handle.state, sizeof handle.state);
}

}  // namespace

Error StatisticsPage::read(LoopFigures& figures) const noexcept {
    if (!copy_words(layout_->sequence, layout_->words, &figures, detail::figures_words)) {
        return Error::from_errno(EAGAIN);
    }
    clean(figures.name, sizeof figures.name);
    clean(figures.backend, sizeof figures.backend);
    figures.kinds_count = std::min<std::uint64_t>(figures.kinds_count, LoopFigures::kinds_max);
    if (figures.state > LoopState::ended) figures.state = LoopState::running;
    return {};
}

Error StatisticsPage::read(LoopDetails& details) const noexcept {
    if (!copy_words(layout_->details_sequence, layout_->details_words, &details,
                    detail::details_words)) {
        return Error::from_errno(EAGAIN);
    }
    details.slow_count = std::min<std::uint64_t>(details.slow_count, LoopDetails::slow_max);
    for (SlowFigures& slow : details.slow) clean(slow);
    for (std::uint32_t order = 0; order < handle_orders; ++order) {
        std::uint64_t& count = details.handles_count[order];
        count = std::min<std::uint64_t>(count, LoopDetails::handles_max);
        for (HandleFigures& handle : details.handles[order]) clean(handle);
    }
    return {};
}

std::uint64_t StatisticsPage::process() const noexcept { return layout_->process; }
std::uint64_t StatisticsPage::number() const noexcept { return layout_->number; }

const char* StatisticsPage::kind_name(std::uint32_t kind) const noexcept {
    return kind < LoopFigures::kinds_max ? names_[kind] : "";
}

}  // namespace whorl
