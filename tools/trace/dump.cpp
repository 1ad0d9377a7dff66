// SPDX-License-Identifier: MIT
#include "dump.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

namespace trace {

using whorl::Bytes;

namespace {

constexpr std::uint64_t records_most = std::uint64_t{1} << 32;  // their numbers have 32 bits
constexpr std::uint64_t places_most = std::uint64_t{1} << 20;   // whorl writes 1024

// A fixed array's text, which may lack its end.
template <std::size_t size>
std::string_view text_of(const char (&text)[size]) {
    return {text, ::strnlen(text, size)};
}

// Whether `count` things of `size` bytes from `at` on lie within `total`.
bool fits(std::uint64_t at, std::uint64_t count, std::uint64_t size, std::uint64_t total) {
    return at <= total && count <= (total - at) / size;
}

std::string layout_problem(const Header& header) {
    if (header.record_bytes != sizeof(Record) || header.place_bytes != sizeof(Place)) {
        return "its records have a layout that this whorl-trace does not know";
    }
    if (header.header_bytes < sizeof(Header)) return "its header is too short";
    const std::uint64_t records = header.records_max;
    if (records == 0 || records > records_most || (records & (records - 1)) != 0) {
        return "damaged: its number of records is no power of two";
    }
    const bool places_fit =
        header.places_at >= header.header_bytes && header.places_at % alignof(Place) == 0 &&
        fits(header.places_at, header.places_max, sizeof(Place), header.total_bytes);
    const bool records_fit = header.records_at >= header.header_bytes &&
                             header.records_at % alignof(Record) == 0 &&
                             fits(header.records_at, records, sizeof(Record), header.total_bytes);
    if (!places_fit || !records_fit) return "damaged: its parts lie outside of it";
    if (header.places_count > header.places_max) return "damaged: more places than it has room for";
    if (header.places_count > places_most) return "damaged: more places than a program can have";
    return {};
}

// As many whole ones as are there.
template <class Thing>
std::uint64_t there(const Bytes& bytes, std::uint64_t at, std::uint64_t count) {
    if (bytes.size < at) return 0;
    return std::min<std::uint64_t>(count, (bytes.size - at) / sizeof(Thing));
}

void read_records(const Copy& copy, Dump& dump) {
    const Header& header = dump.header;
    const std::uint64_t most = header.records_max;
    // The oldest may have been half overwritten by the one that was being written.
    const std::uint64_t reach = copy.memory ? most - 1 : most;
    const std::uint64_t first = copy.written_after > reach ? copy.written_after - reach : 0;
    const std::uint64_t end = copy.written_before;
    const std::uint64_t available = there<Record>(copy.bytes, header.records_at, most);
    dump.lost = std::min(first, end);
    if (first >= end) return;
    // Of the ring only as much is looked at as is there, whatever the header says: at most two stretches.
    const std::uint64_t base = first - first % most;
    for (const std::uint64_t begin : {base, base + most}) {
        const std::uint64_t until = std::min(end, begin + available);
        for (std::uint64_t number = std::max(first, begin); number < until; ++number) {
            Record record{};
            const std::uint64_t at = header.records_at + (number - begin) * sizeof record;
            std::memcpy(&record, copy.bytes.data + at, sizeof record);
            const bool whole =
                record.event != 0 && record.number == static_cast<std::uint32_t>(number);
            if (whole) dump.records.push_back(record);
        }
    }
    dump.damaged = end - first - dump.records.size();
}

}  // namespace

std::string_view Dump::event_name(std::uint8_t event) const {
    return event < 32 ? text_of(header.event_names[event]) : std::string_view();
}

std::string_view Dump::kind_name(std::uint8_t kind) const {
    return text_of(header.kind_names[kind]);
}

const Place* Dump::place(std::uint32_t index) const {
    return index != 0 && index < places.size() ? &places[index] : nullptr;
}

Magic magic_at(Bytes bytes) {
    const std::size_t there = std::min<std::size_t>(bytes.size, sizeof whorl::recorder::magic);
    if (there == 0 || std::memcmp(bytes.data, whorl::recorder::magic, there) != 0) {
        return Magic::none;
    }
    return bytes.size < sizeof(Header) ? Magic::cut_off : Magic::whole;
}

bool read_header(Bytes bytes, Header& header, std::string& why) {
    const Magic magic = magic_at(bytes);
    if (magic == Magic::none) why = "not a flight recorder of whorl";
    if (magic == Magic::cut_off) why = "cut off within its header";
    if (magic != Magic::whole) return false;
    std::memcpy(&header, bytes.data, sizeof header);
    why.clear();
    if (header.byte_order == __builtin_bswap32(whorl::recorder::byte_order)) {
        why = "written on a machine of the other byte order; read it on one like that";
    } else if (header.byte_order != whorl::recorder::byte_order) {
        why = "damaged: its byte order is none";
    } else if (header.version < 1) {
        why = "damaged: its version is 0";
    } else {
        why = layout_problem(header);
    }
    return why.empty();
}

Copy copy_of(Bytes bytes) {
    Copy copy{bytes};
    if (bytes.size >= sizeof(Header)) {
        const std::size_t at = offsetof(Header, written);
        std::memcpy(&copy.written_before, bytes.data + at, sizeof copy.written_before);
    }
    copy.written_after = copy.written_before;
    return copy;
}

bool decode(const Copy& copy, Dump& dump, std::string& why) {
    if (!read_header(copy.bytes, dump.header, why)) return false;
    const Header& header = dump.header;
    // Nothing writes so much: 2^56 events, a nanosecond each, take two years.
    if (copy.written_after >> 56 != 0 || copy.written_before > copy.written_after) {
        why = "damaged: its count of records cannot be";
        return false;
    }
    const std::uint64_t places = there<Place>(copy.bytes, header.places_at, header.places_count);
    dump.places.resize(places);
    if (places != 0) {
        std::memcpy(static_cast<void*>(dump.places.data()), copy.bytes.data + header.places_at,
                    places * sizeof(Place));
    }
    read_records(copy, dump);
    return true;
}

std::uint64_t first_time(const Dumps& dumps) {
    std::uint64_t first = ~std::uint64_t{0};
    for (const auto& dump : dumps) {
        for (const Record& record : dump->records) first = std::min(first, record.time_ns);
    }
    return first == ~std::uint64_t{0} ? 0 : first;
}

namespace {

bool named(const std::vector<std::string>& names, std::string_view name) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::int64_t bound_of(double seconds, std::int64_t whole) {
    const double ns = std::max(-4e18, std::min(4e18, seconds * 1e9));
    const std::int64_t rounded = std::llround(ns);
    return rounded < 0 ? std::max<std::int64_t>(whole, 0) + rounded : rounded;
}

std::vector<Entry> entries_of(const Dumps& dumps, const Filter& filter) {
    std::vector<Entry> entries;
    std::uint64_t last = 0;
    for (const auto& dump : dumps) {
        for (const Record& record : dump->records) {
            entries.push_back({dump.get(), &record});
            last = std::max(last, record.time_ns);
        }
    }
    const std::uint64_t first = first_time(dumps);
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return a.record->time_ns < b.record->time_ns;
    });
    const auto whole = static_cast<std::int64_t>(std::max(first, last) - first);
    const std::int64_t from = bound_of(filter.from_s, whole), to = bound_of(filter.to_s, whole);
    const auto unwanted = [&](const Entry& entry) {
        const Record& record = *entry.record;
        const auto at = static_cast<std::int64_t>(record.time_ns - first);
        return at < from || at > to ||
               (filter.loop != 0 && entry.dump->header.loop != filter.loop) ||
               !named(filter.events, entry.dump->event_name(record.event)) ||
               !named(filter.kinds, entry.dump->kind_name(record.kind));
    };
    entries.erase(std::remove_if(entries.begin(), entries.end(), unwanted), entries.end());
    if (filter.last != 0 && entries.size() > filter.last) {
        entries.erase(entries.begin(), entries.end() - static_cast<std::ptrdiff_t>(filter.last));
    }
    return entries;
}

}  // namespace trace
