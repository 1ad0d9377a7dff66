// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <whorl/loop.hpp>
#include <whorl/recorder_format.hpp>

#include <cstring>
#include <string>
#include <vector>

// A flight recorder's dump, read as docs/insight.md tells a reader to.

namespace whorl::conformance {

struct Dump {
    recorder::Header header{};
    std::vector<recorder::Place> places;
    std::vector<recorder::Record> records;  // oldest first
    std::uint64_t first = 0;                // number of the oldest

    // Those of one event, in order.
    std::vector<recorder::Record> of(recorder::Event event) const {
        std::vector<recorder::Record> found;
        for (const recorder::Record& record : records) {
            if (record.event == static_cast<std::uint8_t>(event)) found.push_back(record);
        }
        return found;
    }
    // The events of one operation, in order.
    std::vector<recorder::Event> life(std::uint64_t id) const {
        std::vector<recorder::Event> found;
        for (const recorder::Record& record : records) {
            if (record.id == id && record.event != static_cast<int>(recorder::Event::wait_begin)) {
                found.push_back(static_cast<recorder::Event>(record.event));
            }
        }
        return found;
    }
    const recorder::Place& place_of(const recorder::Record& record) const {
        return places.at(record.place);
    }
};

inline void dump_read(const std::string& bytes, Dump& dump) {
    recorder::Header& header = dump.header;
    ASSERT_GE(bytes.size(), sizeof header);
    std::memcpy(&header, bytes.data(), sizeof header);
    ASSERT_EQ(std::memcmp(header.magic, recorder::magic, sizeof header.magic), 0);
    ASSERT_EQ(header.byte_order, recorder::byte_order);
    ASSERT_EQ(header.version, recorder::version);
    ASSERT_EQ(header.record_bytes, sizeof(recorder::Record));
    ASSERT_EQ(header.place_bytes, sizeof(recorder::Place));
    ASSERT_EQ(header.total_bytes, bytes.size());
    dump.places.resize(header.places_count);
    std::memcpy(static_cast<void*>(dump.places.data()), bytes.data() + header.places_at,
                dump.places.size() * sizeof(recorder::Place));
    const std::uint64_t count = std::min(header.written, header.records_max);
    dump.first = header.written - count;
    for (std::uint64_t number = dump.first; number != header.written; ++number) {
        const std::uint64_t at = number & (header.records_max - 1);
        recorder::Record record;
        std::memcpy(&record, bytes.data() + header.records_at + at * sizeof record, sizeof record);
        EXPECT_EQ(record.number, static_cast<std::uint32_t>(number));
        dump.records.push_back(record);
    }
}

inline std::string bytes_of(int fd) {
    std::string bytes;
    char part[65536];
    off_t at = 0;
    for (ssize_t got = 0; (got = ::pread(fd, part, sizeof part, at)) > 0; at += got) {
        bytes.append(part, static_cast<std::size_t>(got));
    }
    return bytes;
}

inline Dump dump_of(Loop& loop) {
    const int fd = ::memfd_create("recorder", MFD_CLOEXEC);
    EXPECT_GE(fd, 0);
    EXPECT_FALSE(loop.dump_recorder(fd));
    Dump dump;
    dump_read(bytes_of(fd), dump);
    ::close(fd);
    return dump;
}

}  // namespace whorl::conformance
