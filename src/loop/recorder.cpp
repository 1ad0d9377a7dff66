// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/recorder.hpp"

#include "base/symbol.hpp"

#include <whorl/operation_list.hpp>
#include <whorl/version.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

namespace whorl::detail {

namespace {

// The recorders of the process that a panic dumps; those beyond are left out.
constexpr std::size_t dumped_max = 256;
std::atomic<const Recorder*> dumped[dumped_max];
std::atomic<std::uint64_t> recorders_made{0};

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t places_at = (sizeof(recorder::Header) + page - 1) / page * page;

// The end of a text says more than its beginning: paths share that.
void copy_end(char* to, std::size_t size, const char* from) noexcept {
    const std::size_t length = std::strlen(from);
    const std::size_t skip = length < size ? 0 : length - (size - 1);
    std::snprintf(to, size, "%s", from + skip);
}

void name_mapping(void* start, std::size_t bytes) noexcept {
#if !defined(PR_SET_VMA)
    constexpr int PR_SET_VMA = 0x53564d41;
    constexpr unsigned long PR_SET_VMA_ANON_NAME = 0;
#endif
    // Linux 5.17, where it is configured; without, readers look for the magic.
    static_cast<void>(::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME,
                              reinterpret_cast<unsigned long>(start), bytes,
                              reinterpret_cast<unsigned long>("whorl-recorder")));
}

}  // namespace

Result<Recorder*> Recorder::create(const LoopOptions& options, const char* backend) noexcept {
    auto* made = new (std::nothrow) Recorder;
    if (made == nullptr) return Error::from_errno(ENOMEM);
    if (!made->map(options.recorder_events)) {
        delete made;
        return Error::from_errno(ENOMEM);
    }
    made->fill_header(backend);
    if (options.recorder_path != nullptr) {
        const int length = std::snprintf(made->path_, sizeof made->path_, "%s.%d.%llu",
                                         options.recorder_path, made->header_->process,
                                         static_cast<unsigned long long>(made->header_->loop));
        if (length < 0 || static_cast<std::size_t>(length) >= sizeof made->path_) {
            delete made;  // cut, it would be another file's name, and that of other loops as well
            return Error::invalid_argument;
        }
    }
    for (std::atomic<const Recorder*>& slot : dumped) {
        const Recorder* free = nullptr;
        if (slot.compare_exchange_strong(free, made)) break;
    }
    return made;
}

Recorder::~Recorder() {
    for (std::atomic<const Recorder*>& slot : dumped) {
        const Recorder* own = this;
        if (slot.compare_exchange_strong(own, nullptr)) break;
    }
    if (header_ != nullptr) ::munmap(header_, header_->total_bytes);
}

bool Recorder::map(std::uint64_t records_max) noexcept {
    const std::uint64_t records_at = places_at + places_max * sizeof(recorder::Place);
    const std::uint64_t total = records_at + records_max * sizeof(recorder::Record);
    void* start =
        ::mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return false;
    name_mapping(start, total);
    auto* bytes = static_cast<char*>(start);
    header_ = static_cast<recorder::Header*>(start);
    places_ = reinterpret_cast<recorder::Place*>(bytes + places_at);
    records_ = reinterpret_cast<recorder::Record*>(bytes + records_at);
    mask_ = records_max - 1;
    header_->places_max = places_max;
    header_->places_at = places_at;
    header_->records_at = records_at;
    header_->records_max = records_max;
    header_->total_bytes = total;
    header_->address = reinterpret_cast<std::uintptr_t>(start);
    return true;
}

void Recorder::fill_header(const char* backend) noexcept {
    recorder::Header& header = *header_;
    header.byte_order = recorder::byte_order;
    header.version = recorder::version;
    header.header_bytes = sizeof(recorder::Header);
    header.record_bytes = sizeof(recorder::Record);
    header.place_bytes = sizeof(recorder::Place);
    header.places_count = 1;
    header.process = static_cast<std::int32_t>(::getpid());
    header.loop = recorders_made.fetch_add(1) + 1;
    std::snprintf(header.backend, sizeof header.backend, "%s", backend);
    std::snprintf(header.library_version, sizeof header.library_version, "%s",
                  WHORL_VERSION_STRING);
    const auto name = [](char(&field)[24], const char* text) {
        std::snprintf(field, sizeof field, "%s", text);
    };
#define WHORL_RECORDER_NAME(event, number, text) name(header.event_names[number], #event);
    WHORL_RECORDER_EVENT_LIST(WHORL_RECORDER_NAME)
#undef WHORL_RECORDER_NAME
    for (std::uint32_t kind = 0; kind <= static_cast<std::uint32_t>(OpKind::chain); ++kind) {
        name(header.kind_names[kind], name_of(static_cast<OpKind>(kind)));
    }
    name(header.kind_names[recorder::kind_post], "post");
    name(header.kind_names[recorder::kind_remote_post], "remote_post");
    std::memcpy(header.magic, recorder::magic, sizeof header.magic);
}

void Recorder::describe_clock(const char* name, std::uint64_t scale,
                              std::uint64_t now_ns) noexcept {
    timespec real{};
    ::clock_gettime(CLOCK_REALTIME, &real);
    std::snprintf(header_->clock, sizeof header_->clock, "%s", name);
    header_->clock_scale = scale;
    header_->made_ns = now_ns;
    header_->made_unix_ns = static_cast<std::uint64_t>(real.tv_sec) * 1'000'000'000 +
                            static_cast<std::uint64_t>(real.tv_nsec);
}

// Open addressing; the table is twice as large as there are places, so that it never fills.
std::uint32_t Recorder::place(Site site, const void* code) noexcept {
    if (site.file == nullptr && code == nullptr) return 0;
    const std::uint64_t key = reinterpret_cast<std::uintptr_t>(site.file) + site.line +
                              reinterpret_cast<std::uintptr_t>(code) * 31;
    std::uint32_t slot = static_cast<std::uint32_t>(key * 0x9E3779B97F4A7C15u >> 53);
    static_assert(known_max == 1u << 11, "the shift above");
    for (;; slot = (slot + 1) & (known_max - 1)) {
        Known& known = known_[slot];
        if (known.place == 0) return place_new(known, site, code);
        if (known.file == site.file && known.line == site.line && known.code == code) {
            return known.place;
        }
    }
}

std::uint32_t Recorder::place_new(Known& known, Site site, const void* code) noexcept {
    if (header_->places_count == places_max) return 0;
    const auto index = static_cast<std::uint32_t>(header_->places_count);
    recorder::Place& place = places_[index];
    if (site.file != nullptr) copy_end(place.file, sizeof place.file, site.file);
    place.line = site.line;
    place.code = reinterpret_cast<std::uintptr_t>(code);
    const CodePlace where = code_place(code);
    copy_end(place.module, sizeof place.module, where.module);
    place.offset = where.offset;
    known = {site.file, code, site.line, index};
    __atomic_store_n(&header_->places_count, std::uint64_t{index} + 1, __ATOMIC_RELEASE);
    return index;
}

void Recorder::name_places() noexcept {
    for (; named_ < header_->places_count; ++named_) {
        recorder::Place& place = places_[named_];
        symbol_of(reinterpret_cast<const void*>(place.code), place.symbol, sizeof place.symbol);
    }
}

Error Recorder::dump(int fd) const noexcept {
    const auto* next = reinterpret_cast<const char*>(header_);
    std::uint64_t left = header_->total_bytes;
    while (left != 0) {
        const ssize_t done = ::write(fd, next, static_cast<std::size_t>(left));
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return Error::from_errno(done < 0 ? errno : EIO);
        next += done;
        left -= static_cast<std::uint64_t>(done);
    }
    return {};
}

Error Recorder::dump_to(const char* path) const noexcept {
    const int fd = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return Error::from_errno(errno);
    Error error = dump(fd);
    if (::close(fd) != 0 && !error) error = Error::from_errno(errno);
    return error;
}

// There is nobody to tell of an error, and nothing to be done about it. A child of fork(2) leaves the
// parent's alone.
void Recorder::dump_by_itself() const noexcept {
    if (path_[0] != 0 && header_->process == static_cast<std::int32_t>(::getpid())) {
        static_cast<void>(dump_to(path_));
    }
}

void Recorder::dump_from_signal(Event event, std::uint8_t kind, std::uint64_t time_ns,
                                std::uint64_t id, std::int64_t value,
                                std::uint32_t place) noexcept {
    if (path_[0] == 0) return;
    const std::uint64_t number = header_->written;
    const recorder::Record kept = records_[number & mask_];
    record(event, kind, time_ns, id, value, place);
    dump_by_itself();
    records_[number & mask_] = kept;
    __atomic_store_n(&header_->written, number, __ATOMIC_RELEASE);
}

void Recorder::dump_all() noexcept {
    for (const std::atomic<const Recorder*>& slot : dumped) {
        const Recorder* recorder = slot.load(std::memory_order_acquire);
        if (recorder != nullptr) recorder->dump_by_itself();
    }
}

}  // namespace whorl::detail
