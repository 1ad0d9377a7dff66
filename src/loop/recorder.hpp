// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/error.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/recorder_format.hpp>
#include <whorl/result.hpp>
#include <whorl/site.hpp>

#include <cstddef>
#include <cstdint>

namespace whorl::detail {

// What writes the flight recorder's ring. Recording is a store of 32 bytes and one of the count, so that
// whoever reads the process, its core, or a dump that a signal handler made finds whole records only.
// Thread: the loop's; dump() any, with what the others may have overwritten meanwhile.
class Recorder : public Allocated<Recorder> {
  public:
    using Event = recorder::Event;

    // Errors: ENOMEM; invalid_argument (LoopOptions::recorder_path is too long).
    static Result<Recorder*> create(const LoopOptions& options, const char* backend) noexcept;
    Recorder(const Recorder&) = delete;
    Recorder& operator=(const Recorder&) = delete;
    ~Recorder();

    void describe_clock(const char* name, std::uint64_t scale, std::uint64_t now_ns) noexcept;
    void belongs_to(long thread) noexcept { header_->thread = static_cast<std::int32_t>(thread); }

    void record(Event event, std::uint8_t kind, std::uint64_t time_ns, std::uint64_t id,
                std::int64_t value, std::uint32_t place = 0, bool more = false) noexcept {
        const std::uint64_t number = header_->written;
        recorder::Record& record = records_[number & mask_];
        record.time_ns = time_ns;
        record.id = id;
        record.value = value > INT32_MAX ? INT32_MAX : static_cast<std::int32_t>(value);
        record.number = static_cast<std::uint32_t>(number);
        record.place = place;
        record.event = static_cast<std::uint8_t>(event);
        record.kind = kind;
        record.more = more ? 1 : 0;
        __atomic_store_n(&header_->written, number + 1, __ATOMIC_RELEASE);
    }

    // The index of a place, 0 when the table is full. Cost: a look into a table; the first time, its entry.
    std::uint32_t place(Site site, const void* code) noexcept;
    // Looks up the symbols that places have not got yet. Allocates.
    void name_places() noexcept;

    // Writes the whole. Safe in a signal handler. Errors: of open(2) and write(2).
    Error dump(int fd) const noexcept;
    Error dump_to(const char* path) const noexcept;
    // To LoopOptions::recorder_path, if there is one. Safe in a signal handler.
    void dump_by_itself() const noexcept;
    // The same with one more record, for a signal that may have come in the middle of record(): afterwards
    // the ring is as it was.
    void dump_from_signal(Event event, std::uint8_t kind, std::uint64_t time_ns, std::uint64_t id,
                          std::int64_t value, std::uint32_t place) noexcept;
    // That of every recorder of the process, for a panic.
    static void dump_all() noexcept;

    const recorder::Header& header() const noexcept { return *header_; }

  private:
    struct Known {
        const char* file;
        const void* code;
        std::uint32_t line;
        std::uint32_t place;  // 0: a free one
    };
    static constexpr std::uint32_t places_max = 1024;
    static constexpr std::uint32_t known_max = 2 * places_max;

    Recorder() noexcept = default;
    bool map(std::uint64_t records_max) noexcept;
    void fill_header(const char* backend) noexcept;
    std::uint32_t place_new(Known& known, Site site, const void* code) noexcept;

    recorder::Header* header_ = nullptr;
    recorder::Place* places_ = nullptr;
    recorder::Record* records_ = nullptr;
    std::uint64_t mask_ = 0;
    std::uint32_t named_ = 1;
    char path_[256] = {};
    Known known_[known_max] = {};
};

}  // namespace whorl::detail
