// SPDX-License-Identifier: MIT
// A flight recorder made by hand, as recorder_format.hpp has it.
#pragma once

#include <whorl/bytes.hpp>
#include <whorl/recorder_format.hpp>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace trace_test {

using whorl::recorder::Event;
using whorl::recorder::Header;
using whorl::recorder::Place;
using whorl::recorder::Record;

enum Kind : std::uint8_t { recv = 4, send = 6, timer = 60, post = 240, remote_post = 241 };

class Recorder {
  public:
    explicit Recorder(std::uint64_t loop, std::uint64_t records_max = 64) {
        constexpr std::uint32_t places_max = 8;
        const std::uint64_t places_at = (sizeof(Header) + 63) / 64 * 64;
        const std::uint64_t records_at = places_at + places_max * sizeof(Place);
        const std::uint64_t total = records_at + records_max * sizeof(Record);
        bytes_.resize((total + 4095) / 4096 * 4096);
        Header& made = header();
        std::memcpy(made.magic, whorl::recorder::magic, sizeof made.magic);
        made.byte_order = whorl::recorder::byte_order;
        made.version = whorl::recorder::version;
        made.header_bytes = sizeof(Header);
        made.record_bytes = sizeof(Record);
        made.place_bytes = sizeof(Place);
        made.places_max = places_max;
        made.places_at = places_at;
        made.records_at = records_at;
        made.records_max = records_max;
        made.total_bytes = bytes_.size();
        made.places_count = 1;
        made.process = 4711;
        made.thread = 4711 + static_cast<std::int32_t>(loop);
        made.loop = loop;
        text(made.backend, "io_uring");
        text(made.clock, "monotonic");
        text(made.library_version, "0.1.0");
#define TRACE_NAME(name, number, words) text(made.event_names[number], #name);
        WHORL_RECORDER_EVENT_LIST(TRACE_NAME)
#undef TRACE_NAME
        text(made.kind_names[recv], "recv");
        text(made.kind_names[send], "send");
        text(made.kind_names[timer], "timer");
        text(made.kind_names[post], "post");
        text(made.kind_names[remote_post], "remote_post");
    }

    std::uint32_t place(const char* file, std::uint32_t line) {
        Place made{};
        text(made.file, file);
        text(made.symbol, "handle(whorl::Loop&, \"x\")");
        text(made.module, "bin/server");
        made.line = line;
        const auto index = static_cast<std::uint32_t>(header().places_count++);
        std::memcpy(&bytes_[header().places_at + index * sizeof made], &made, sizeof made);
        return index;
    }
    void write(Event event, std::uint64_t time_ns, std::uint8_t kind, std::uint64_t id,
               std::int32_t value = 0, std::uint32_t place = 0, std::uint16_t more = 0) {
        const std::uint64_t number = header().written++;
        Record record{time_ns, id,
                      value,   static_cast<std::uint32_t>(number),
                      place,   static_cast<std::uint8_t>(event),
                      kind,    more};
        std::memcpy(&record_at(number), &record, sizeof record);
    }
    // One whole operation, from its submission to its last handler.
    void operation(std::uint64_t time_ns, std::uint8_t kind, std::uint64_t id, std::int32_t result,
                   std::uint32_t place = 0) {
        write(Event::submit, time_ns, kind, id, 7, place);
        write(Event::hand_over, time_ns + 500, kind, id);
        write(Event::wait_begin, time_ns + 600, 0, 1, -1);
        write(Event::wait_end, time_ns + 2'000, 0, 0, 1);
        write(Event::complete, time_ns + 2'000, kind, id, result);
        write(Event::handler_begin, time_ns + 2'100, kind, id, 100, place);
        write(Event::handler_end, time_ns + 3'100, kind, id, 1'000);
    }

    Header& header() { return *reinterpret_cast<Header*>(bytes_.data()); }
    Record& record_at(std::uint64_t number) {
        const std::uint64_t index = number % header().records_max;
        return *reinterpret_cast<Record*>(&bytes_[header().records_at + index * sizeof(Record)]);
    }
    whorl::Bytes bytes() const { return whorl::Bytes(bytes_.data(), bytes_.size()); }

  private:
    template <std::size_t size>
    static void text(char (&into)[size], const char* words) {
        (void)std::snprintf(into, size, "%s", words);
    }
    std::vector<std::byte> bytes_;
};

// Two loops: one asks and answers, posts to the other and is told; what the second did takes longer.
inline std::vector<Recorder> two_loops() {
    std::vector<Recorder> made;
    Recorder& first = made.emplace_back(1);
    const std::uint32_t server = first.place("src/server.cpp", 42);
    first.operation(1'000'000, recv, 0x100000003, 5, server);
    first.operation(1'010'000, send, 0x100000004, -104, server);
    first.write(Event::handler_begin, 1'020'000, recv, 0x100000005, 50, server);
    first.write(Event::remote_send, 1'020'500, remote_post, 77);
    first.write(Event::handler_end, 1'021'000, recv, 0x100000005, 1'000, 0, 1);
    first.write(Event::submit, 1'030'000, timer, 0x100000006, -1, server);
    first.write(Event::cancel, 1'031'000, timer, 0x100000006);
    first.write(Event::drop, 1'032'000, timer, 0x100000006);
    Recorder second(2);
    const std::uint32_t worker = second.place("src/worker.cpp", 7);
    second.write(Event::remote_take, 1'025'000, remote_post, 77);
    second.write(Event::post, 1'025'500, post, 1, 0, worker);
    second.write(Event::handler_begin, 1'026'000, post, 1, 500, worker);
    second.write(Event::slow, 1'526'000, post, 1, 500, worker);
    second.write(Event::handler_end, 601'026'000, post, 1, 600'000'000);
    second.write(Event::panic, 601'030'000, 0, 0);
    made.push_back(std::move(second));
    return made;
}

}  // namespace trace_test
