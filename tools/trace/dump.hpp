// SPDX-License-Identifier: MIT
// A flight recorder's bytes, read. They come from a file that may be anything: nothing in them is believed
// before it has been looked at.
#pragma once

#include <whorl/bytes.hpp>
#include <whorl/recorder_format.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace trace {

using whorl::recorder::Event;
using whorl::recorder::Header;
using whorl::recorder::Place;
using whorl::recorder::Record;

// What one loop's recorder held.
struct Dump {
    Header header{};
    std::vector<Place> places;    // 0 stands for none
    std::vector<Record> records;  // in the order in which they were written
    std::uint64_t lost = 0;       // overwritten before they were read: as it should be
    std::uint64_t damaged = 0;    // should be there, and are not
    std::string source;           // where it comes from, for people

    std::string_view event_name(std::uint8_t event) const;  // "event 30" has none: empty
    std::string_view kind_name(std::uint8_t kind) const;
    const Place* place(std::uint32_t index) const;  // null for none
};

// What was read of a recorder.
struct Copy {
    whorl::Bytes bytes;  // from the header on; fewer than total_bytes when it was cut off
    std::uint64_t written_before = 0;  // header.written before the copy was taken, and after
    std::uint64_t written_after = 0;
    bool memory = false;  // of a process, which may have been in the middle of writing a record
};

// What the beginning of `bytes` is. Whole: a header that can be read.
enum class Magic : std::uint8_t { none, whole, cut_off };
Magic magic_at(whorl::Bytes bytes);
// The header alone. False: `why` says what is wrong with it.
bool read_header(whorl::Bytes bytes, Header& header, std::string& why);
bool decode(const Copy& copy, Dump& dump, std::string& why);
// A copy of something that does not go on.
Copy copy_of(whorl::Bytes bytes);

// One record, and whose it is. Lifetime: the dumps'.
struct Entry {
    const Dump* dump;
    const Record* record;
};

struct Filter {
    std::vector<std::string> events;  // names; empty: all
    std::vector<std::string> kinds;
    std::uint64_t loop = 0;  // 0: all
    double from_s = 0;       // since the first record of all; negative: before the last one
    double to_s = 1e9;
    std::uint64_t last = 0;  // so many at most; 0: all
};

// What Filter::from_s and to_s are, in nanoseconds since the first record, of which `whole` is the last.
std::int64_t bound_of(double seconds, std::int64_t whole);

using Dumps = std::vector<std::unique_ptr<Dump>>;
// The records of all dumps by their times; those of one dump stay in their order.
std::vector<Entry> entries_of(const Dumps& dumps, const Filter& filter);
// The first record's time, of all that were read; 0 without any.
std::uint64_t first_time(const Dumps& dumps);

}  // namespace trace
