// SPDX-License-Identifier: MIT
// Goal: whorl-trace shows what a recorder holds, whole or not, and believes nothing that a damaged one says.
// Method: recorders made by hand, and then cut off, bent and overwritten; what is printed as JSON is parsed.
#include <gtest/gtest.h>

#include <random>

#include "json_check.hpp"
#include "trace/print.hpp"
#include "trace_recorder.hpp"

namespace trace_test {
namespace {

using trace::Dumps;
using trace::Filter;

// What is wrong with the recorder; it is in `dumps` if it could be read.
std::string read(const trace::Copy& copy, Dumps& dumps) {
    auto dump = std::make_unique<trace::Dump>();
    dump->source = "here";
    std::string why;
    if (decode(copy, *dump, why)) dumps.push_back(std::move(dump));
    return why;
}
std::string read(const Recorder& recorder, Dumps& dumps) {
    return read(trace::copy_of(recorder.bytes()), dumps);
}

Dumps read_two() {
    Dumps dumps;
    for (const Recorder& recorder : two_loops()) EXPECT_EQ(read(recorder, dumps), "");
    return dumps;
}

TEST(Trace, a_line_for_each_record) {
    const Dumps dumps = read_two();
    const std::string text = text_of(dumps, entries_of(dumps, {}));
    EXPECT_NE(text.find("# process 4711, loop 1 (thread 4712) on io_uring, clock monotonic, whorl "
                        "0.1.0: 20 records\n"),
              std::string::npos)
        << text;
    const char* lines[] = {
        "    0.000000000  1  submit         recv             0x100000003         fd 7              "
        "  "
        "src/server.cpp:42\n",
        "    0.000002000  1  complete       recv             0x100000003         5\n",
        "    0.000012000  1  complete       send             0x100000004         -104 ECONNRESET\n",
        "    0.000000600  1  wait_begin                      1 handed            no timeout\n",
        "    0.000002100  1  handler_begin  recv             0x100000003         waited 100 ns     "
        "  "
        "src/server.cpp:42\n",
        "    0.000003100  1  handler_end    recv             0x100000003         took 1.000 us\n",
        "    0.000526000  2  slow           post             0x1                 for 500.0 ms      "
        "  "
        "src/worker.cpp:7\n",
        "    0.600030000  2  panic\n"};
    for (const char* line : lines) EXPECT_NE(text.find(line), std::string::npos) << line << text;
    // The loops are shown by their times: what was sent stands before what was taken.
    EXPECT_LT(text.find("remote_send"), text.find("remote_take"));
}

TEST(Trace, filters) {
    const Dumps dumps = read_two();
    const auto count = [&](const Filter& filter) { return entries_of(dumps, filter).size(); };
    EXPECT_EQ(count({}), 26u);
    const auto named = [&](std::vector<std::string> events, std::vector<std::string> kinds) {
        Filter filter;
        filter.events = std::move(events);
        filter.kinds = std::move(kinds);
        return count(filter);
    };
    EXPECT_EQ(named({"submit", "panic"}, {}), 4u);
    EXPECT_EQ(named({}, {"timer"}), 3u);
    EXPECT_EQ(named({"drop"}, {"timer"}), 1u);
    EXPECT_EQ(named({"drop"}, {"recv"}), 0u);
    Filter loop;
    loop.loop = 2;
    EXPECT_EQ(count(loop), 6u);
    Filter from;
    from.from_s = 0.000'025;
    EXPECT_EQ(count(from), 9u);
    from.to_s = 0.000'026;
    EXPECT_EQ(count(from), 3u);
    Filter end;
    end.from_s = -0.000'004;
    EXPECT_EQ(count(end), 2u);
    Filter last;
    last.last = 1;
    ASSERT_EQ(count(last), 1u);
    EXPECT_EQ(entries_of(dumps, last)[0].record->event, static_cast<std::uint8_t>(Event::panic));
}

TEST(Trace, a_ring_that_went_round) {
    Recorder recorder(1, 64);
    for (std::uint64_t number = 0; number < 200; ++number) {
        recorder.write(Event::complete, 1'000 + number, recv, number);
    }
    Dumps dumps;
    EXPECT_EQ(read(recorder, dumps), "");
    ASSERT_EQ(dumps[0]->records.size(), 64u);
    EXPECT_EQ(dumps[0]->records.front().id, 136u);
    EXPECT_EQ(dumps[0]->records.back().id, 199u);
    EXPECT_EQ(dumps[0]->lost, 136u);
    EXPECT_EQ(dumps[0]->damaged, 0u);
}

// What is copied of a process that goes on: ten records are written while it is copied, six of them before
// their places are.
TEST(Trace, what_is_overwritten_while_it_is_copied_is_left_out) {
    Recorder recorder(1, 64);
    for (std::uint64_t number = 0; number < 100; ++number) {
        recorder.write(Event::complete, number, recv, number);
    }
    trace::Copy copy;
    copy.memory = true;
    copy.written_before = 100;
    for (std::uint64_t number = 100; number < 106; ++number) {
        recorder.write(Event::complete, number, recv, number);
    }
    const Recorder taken = recorder;
    copy.bytes = taken.bytes();
    copy.written_after = 110;
    Dumps dumps;
    EXPECT_EQ(read(copy, dumps), "");
    EXPECT_EQ(dumps[0]->records.front().id, 47u);  // 46 is where the 110th is being written
    EXPECT_EQ(dumps[0]->records.back().id, 99u);
    EXPECT_EQ(dumps[0]->records.size(), 53u);
    EXPECT_EQ(dumps[0]->damaged, 0u);
}

TEST(Trace, a_damaged_record_is_counted_and_left_out) {
    std::vector<Recorder> loops = two_loops();
    loops[0].record_at(3).number ^= 1;
    loops[0].record_at(5).event = 0;
    Dumps dumps;
    EXPECT_EQ(read(loops[0], dumps), "");
    EXPECT_EQ(dumps[0]->records.size(), 18u);
    EXPECT_EQ(dumps[0]->damaged, 2u);
    EXPECT_NE(text_of(dumps, {}).find("18 records, 2 DAMAGED"), std::string::npos);
}

TEST(Trace, cut_off_anywhere) {
    const Recorder recorder = two_loops()[0];
    const std::uint64_t records_at = Recorder(recorder).header().records_at;
    for (std::size_t size = 0; size < recorder.bytes().size; size += 97) {
        Dumps dumps;
        trace::Copy copy = trace::copy_of(whorl::Bytes(recorder.bytes().data, size));
        const std::string why = read(copy, dumps);
        if (size == 0) EXPECT_EQ(why, "not a flight recorder of whorl");
        else if (size < sizeof(Header)) EXPECT_EQ(why, "cut off within its header");
        else EXPECT_EQ(why, "") << size;
        if (size < sizeof(Header)) continue;
        const std::uint64_t whole = size < records_at ? 0 : (size - records_at) / sizeof(Record);
        EXPECT_EQ(dumps[0]->records.size(), std::min<std::uint64_t>(whole, 20));
        EXPECT_EQ(dumps[0]->damaged, 20 - dumps[0]->records.size());
    }
}

TEST(Trace, what_is_no_recorder_is_named) {
    const auto why = [](void (*bend)(Header&)) {
        Recorder recorder = two_loops()[0];
        bend(recorder.header());
        Dumps dumps;
        std::string said = read(recorder, dumps);
        EXPECT_TRUE(dumps.empty());
        return said;
    };
    EXPECT_EQ(why([](Header& header) { header.magic[3] = 'x'; }), "not a flight recorder of whorl");
    EXPECT_EQ(why([](Header& header) { header.byte_order = 0x04030201; }),
              "written on a machine of the other byte order; read it on one like that");
    EXPECT_EQ(why([](Header& header) { header.byte_order = 1; }),
              "damaged: its byte order is none");
    EXPECT_EQ(why([](Header& header) { header.version = 0; }), "damaged: its version is 0");
    EXPECT_EQ(why([](Header& header) { header.record_bytes = 40; }),
              "its records have a layout that this whorl-trace does not know");
    EXPECT_EQ(why([](Header& header) { header.header_bytes = 64; }), "its header is too short");
    EXPECT_EQ(why([](Header& header) { header.records_max = 65; }),
              "damaged: its number of records is no power of two");
    EXPECT_EQ(why([](Header& header) { header.records_max = std::uint64_t{1} << 60; }),
              "damaged: its number of records is no power of two");
    EXPECT_EQ(why([](Header& header) { header.records_at = ~std::uint64_t{7}; }),
              "damaged: its parts lie outside of it");
    EXPECT_EQ(why([](Header& header) { header.places_at = header.total_bytes; }),
              "damaged: its parts lie outside of it");
    EXPECT_EQ(why([](Header& header) { header.places_count = 1'000'000; }),
              "damaged: more places than it has room for");
    EXPECT_EQ(why([](Header& header) { header.written = ~std::uint64_t{0}; }),
              "damaged: its count of records cannot be");
}

// A later version only adds: a longer header, events, kinds.
TEST(Trace, a_later_version_is_read) {
    Recorder recorder = two_loops()[0];
    recorder.header().version = 2;
    recorder.write(static_cast<Event>(30), 2'000'000, 99, 5, 6);
    Dumps dumps;
    EXPECT_EQ(read(recorder, dumps), "");
    const std::string text = text_of(dumps, entries_of(dumps, {}));
    EXPECT_NE(text.find("event 30"), std::string::npos) << text;
    EXPECT_NE(text.find("kind 99"), std::string::npos) << text;
    const std::string chrome = chrome_of(dumps, entries_of(dumps, {}));
    EXPECT_NE(chrome.find("\"name\": \"event 30\""), std::string::npos);
}

TEST(Trace, a_summary_counts_by_kind_and_place) {
    const Dumps dumps = read_two();
    const std::string text = summary_text(dumps, entries_of(dumps, {}));
    EXPECT_NE(text.find("loop 1 of process 4711: 20 records in 0.000032 s\n  2 waits"),
              std::string::npos)
        << text;
    EXPECT_NE(
        text.find("\n  recv                    1         1       0         0       0         2 "
                  "       1.000        1.000\n"),
        std::string::npos)
        << text;
    EXPECT_NE(
        text.find("\n  timer                   1         0       0         1       1         0"),
        std::string::npos)
        << text;
    EXPECT_NE(text.find("\n  src/server.cpp:42"), std::string::npos) << text;
    EXPECT_NE(text.find(", 1 slow handlers, 1 PANIC"), std::string::npos) << text;
    const std::string json = summary_json(dumps, entries_of(dumps, {}));
    EXPECT_EQ(JsonCheck(json).problem(), "");
    EXPECT_NE(json.find("\"send\": {\"submitted\": 1, \"completed\": 1, \"failed\": 1, "),
              std::string::npos)
        << json;
}

TEST(Trace, json_has_what_the_text_has) {
    const Dumps dumps = read_two();
    const std::string json = json_of(dumps, entries_of(dumps, {}));
    EXPECT_EQ(JsonCheck(json).problem(), "");
    EXPECT_NE(json.find("{\"time_ns\": 1000000, \"loop\": 1, \"event\": \"submit\", \"kind\": "
                        "\"recv\", \"id\": \"0x100000003\", \"value\": 7, \"more\": 0, \"file\": "
                        "\"src/server.cpp\", \"line\": 42, \"handler\": \"handle(whorl::Loop&, "
                        "\\\"x\\\")\""),
              std::string::npos)
        << json;
}

std::size_t count_of(const std::string& text, const std::string& words) {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(words, at)) != std::string::npos; ++at) ++count;
    return count;
}

TEST(Trace, a_viewer_gets_slices_operations_and_arrows) {
    const Dumps dumps = read_two();
    const std::string chrome = chrome_of(dumps, entries_of(dumps, {}));
    EXPECT_EQ(JsonCheck(chrome).problem(), "");
    EXPECT_EQ(count_of(chrome, "\"name\": \"thread_name\""), 2u);
    EXPECT_EQ(count_of(chrome, "\"cat\": \"handler\""), 4u);
    EXPECT_EQ(count_of(chrome, "\"cat\": \"wait\""), 2u);
    EXPECT_EQ(count_of(chrome, "\"ph\": \"b\""), 4u);  // recv, send, timer, post
    EXPECT_EQ(count_of(chrome, "\"ph\": \"e\""), 4u);
    EXPECT_EQ(count_of(chrome, "\"ph\": \"i\""), 2u);  // slow, panic
    // The arrow from the first loop's handler to the second loop.
    EXPECT_NE(chrome.find("{\"ph\": \"s\", \"pid\": 4711, \"tid\": 1, \"ts\": 20.500, \"id\": 1,"),
              std::string::npos)
        << chrome;
    EXPECT_NE(
        chrome.find("{\"ph\": \"f\", \"pid\": 4711, \"tid\": 2, \"ts\": 25.000, \"bp\": \"e\", "
                    "\"id\": 1,"),
        std::string::npos)
        << chrome;
    EXPECT_NE(
        chrome.find("{\"ph\": \"X\", \"pid\": 4711, \"tid\": 1, \"ts\": 2.100, \"dur\": 1.000, "
                    "\"cat\": \"handler\", \"name\": \"recv\""),
        std::string::npos)
        << chrome;
}

// A message of another loop wakes this one, and the handler of what waited for it runs within.
TEST(Trace, handlers_within_handlers) {
    Recorder recorder(1);
    const std::uint32_t place = recorder.place("src/inner.cpp", 9);
    recorder.write(Event::handler_begin, 10'000, remote_post, 1, 10);
    recorder.write(Event::handler_begin, 11'000, recv, 2, 10, place);
    recorder.write(Event::handler_end, 13'000, recv, 2, 2'000);
    recorder.write(Event::handler_end, 14'000, remote_post, 1, 4'000);
    recorder.write(Event::handler_begin, 15'000, recv, 3, 10, place);  // its end is lost
    recorder.write(Event::wait_begin, 16'000, 0, 0, -1);
    Dumps dumps;
    EXPECT_EQ(read(recorder, dumps), "");
    const std::string chrome = chrome_of(dumps, entries_of(dumps, {}));
    EXPECT_EQ(JsonCheck(chrome).problem(), "");
    for (const char* slice :
         {"\"ts\": 0.000, \"dur\": 4.000, \"cat\": \"handler\", \"name\": \"remote_post\"",
          "\"ts\": 1.000, \"dur\": 2.000, \"cat\": \"handler\", \"name\": \"recv\"",
          "\"ts\": 5.000, \"dur\": 1.000, \"cat\": \"handler\", \"name\": \"recv\""}) {
        EXPECT_NE(chrome.find(slice), std::string::npos) << slice << chrome;
    }
    const std::string summary = summary_text(dumps, entries_of(dumps, {}));
    EXPECT_NE(summary.find("src/inner.cpp:9 recv"), std::string::npos) << summary;
    EXPECT_NE(summary.find("        1        2.000        2.000\n"), std::string::npos) << summary;
}

// A handler that runs when the recording ends, and one whose beginning was overwritten.
TEST(Trace, slices_without_a_begin_or_an_end) {
    Recorder recorder(1);
    recorder.write(Event::handler_end, 10'000, recv, 1, 4'000);
    recorder.write(Event::remote_take, 10'500, remote_post, 5);  // its send is not there
    recorder.write(Event::handler_begin, 11'000, send, 2, 10);
    recorder.write(Event::stuck, 13'000, send, 2, 1'000);
    Dumps dumps;
    EXPECT_EQ(read(recorder, dumps), "");
    const std::string chrome = chrome_of(dumps, entries_of(dumps, {}));
    EXPECT_EQ(JsonCheck(chrome).problem(), "");
    EXPECT_NE(
        chrome.find("\"ts\": 5.000, \"dur\": 2.000, \"cat\": \"handler\", \"name\": \"send\", "
                    "\"args\": {\"operation\": \"0x2\", \"end\": \"not recorded\"}}"),
        std::string::npos)
        << chrome;
    EXPECT_EQ(count_of(chrome, "\"cat\": \"handler\""), 2u);
    EXPECT_EQ(count_of(chrome, "\"ph\": \"s\""), 0u);
    EXPECT_EQ(count_of(chrome, "\"ph\": \"f\""), 0u);
    EXPECT_EQ(count_of(chrome, "\"ph\": \"e\""), 0u);
}

TEST(Trace, names_are_no_way_into_the_output) {
    Recorder recorder(1);
    std::memcpy(recorder.header().kind_names[recv], "a\"\\\n\x1b[2J\xff\xc3\xa9\xed\xa0\x80", 15);
    recorder.operation(1'000, recv, 1, 1, recorder.place("\x80\x1b]0;x\a", 3));
    Dumps dumps;
    EXPECT_EQ(read(recorder, dumps), "");
    const auto entries = entries_of(dumps, {});
    for (const std::string& text : {text_of(dumps, entries), summary_text(dumps, entries)}) {
        EXPECT_EQ(text.find('\x1b'), std::string::npos);
        EXPECT_EQ(text.find('\a'), std::string::npos);
        EXPECT_NE(text.find("\xc3\xa9"), std::string::npos);
    }
    for (const std::string& json : {json_of(dumps, entries), chrome_of(dumps, entries)}) {
        EXPECT_EQ(JsonCheck(json).problem(), "");
        EXPECT_EQ(json.find('\xff'), std::string::npos);
    }
}

// --- Damage by chance, the same each time

void damage(std::vector<std::byte>& bytes, std::mt19937_64& chance) {
    const auto below = [&](std::uint64_t end) { return chance() % end; };
    const std::uint64_t header = below(2) == 0 ? 400 : sizeof(Header);  // its numbers, or its names
    const std::uint64_t reach =
        below(3) == 0 ? bytes.size() : std::min<std::uint64_t>(header, bytes.size());
    const std::uint64_t times = 1 + below(8);
    for (std::uint64_t time = 0; time < times; ++time) {
        const std::uint64_t at = below(reach);
        switch (below(4)) {
            case 0:
                bytes[at] ^= static_cast<std::byte>(1u << below(8));
                break;
            case 1:
                bytes[at] = static_cast<std::byte>(chance());
                break;
            case 2: {
                const std::uint64_t count = std::min<std::uint64_t>(below(64), bytes.size() - at);
                std::memset(&bytes[at], below(2) == 0 ? 0 : 0xFF, count);
                break;
            }
            default: {
                const std::uint64_t aligned = at / 8 * 8;
                const std::uint64_t value = std::uint64_t{1} << below(64);
                if (aligned + 8 <= bytes.size()) std::memcpy(&bytes[aligned], &value, 8);
            }
        }
    }
    if (below(3) == 0) bytes.resize(below(bytes.size()) + 1);
}

TEST(Trace, damaged_by_chance) {
    std::mt19937_64 chance(20'261'122);
    const std::vector<Recorder> loops = two_loops();
    std::uint64_t readable = 0;
    for (int round = 0; round < 3'000; ++round) {
        const whorl::Bytes whole = loops[static_cast<std::size_t>(round % 2)].bytes();
        std::vector<std::byte> bytes(whole.data, whole.data + whole.size);
        // Further rounds leave the magic alone, without which nothing is read.
        damage(bytes, chance);
        if (round % 4 != 0) {
            std::memcpy(bytes.data(), whole.data, std::min<std::size_t>(bytes.size(), 20));
        }
        // Its own allocation, so that a read beyond the end is seen.
        bytes.shrink_to_fit();
        Dumps dumps;
        trace::Copy copy = trace::copy_of(whorl::Bytes(bytes.data(), bytes.size()));
        copy.memory = round % 3 == 0;
        const std::string why = read(copy, dumps);
        EXPECT_EQ(why.empty(), !dumps.empty());
        if (dumps.empty()) continue;
        ++readable;
        EXPECT_EQ(read(loops[0], dumps), "");
        const auto entries = entries_of(dumps, {});
        for (const std::string& json :
             {json_of(dumps, entries), summary_json(dumps, entries), chrome_of(dumps, entries)}) {
            ASSERT_EQ(JsonCheck(json).problem(), "") << "round " << round;
        }
        for (const std::string& text : {text_of(dumps, entries), summary_text(dumps, entries)}) {
            for (const char letter : text)
                ASSERT_TRUE(letter == '\n' || letter < 0 || letter >= ' ');
        }
    }
    EXPECT_GT(readable, 500u);  // or the damage is such that nothing was tried
}

}  // namespace
}  // namespace trace_test
