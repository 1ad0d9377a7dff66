// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstddef>
#include <cstdint>

// The format of the flight recorder (docs/insight.md): the last events of one loop in a ring of records of
// 32 bytes. There is one layout, wherever it lies: in the memory of a process (one private mapping,
// which begins with the header, on a page; named [anon:whorl-recorder] in /proc/PID/maps where the
// kernel has names), in a core file (the same pages), in a dump (the same bytes from the file's start).
// A reader looks for `magic` at the starts of pages, and then for `byte_order` and `version`.
//
//   offset 0              Header
//   header.places_at      Place[header.places_max]; those from 1 to places_count - 1 are in use
//   header.records_at     Record[header.records_max], a ring
//
// Record number n, from 0, lies at n mod records_max, and says the lowest 32 bits of n itself. Of
// `written` records the last records_max are there. Who reads a process that goes on running copies the
// records first and reads `written` after that: those more than records_max before it, and any whose
// number is not what it should be, have been overwritten meanwhile.
//
// Everything is in the byte order of the machine that wrote it. A later version only adds: fields at the
// end of the header, events, kinds.

namespace whorl::recorder {

inline constexpr char magic[16] = "whorl-recorder\n";    // what the header begins with
inline constexpr std::uint32_t byte_order = 0x01020304;  // read as another: the other byte order
inline constexpr std::uint32_t version = 1;              // of the layout

// What happened. X(name, number, what `id` and `value` are)
#define WHORL_RECORDER_EVENT_LIST(X)                                                           \
    X(submit, 1, "operation; file descriptor, or -1. place: where it was submitted")           \
    X(hand_over, 2, "operation; 0. It is given to the backend in the wait that follows")       \
    X(complete, 3, "operation; the backend's result, a negative errno when it failed")         \
    X(cancel, 4, "operation; 0. Somebody asked that it end")                                   \
    X(handler_begin, 5, "operation; ns since its completion was collected. place: as submit")  \
    X(handler_end, 6, "operation; ns that the handler took")                                   \
    X(drop, 7, "operation; 0. It ended without its handler")                                   \
    X(post, 8, "the post's number; 0. place: where it was posted")                             \
    X(remote_send, 9, "flow; 0. A post, or a message's notice, leaves this thread for a loop") \
    X(remote_take, 10, "flow; 0. It arrives: the last remote_send of this flow, in any loop")  \
    X(wait_begin, 11, "operations handed over; timeout in us, -1 for none")                    \
    X(wait_end, 12, "0; completions collected")                                                \
    X(slow, 13, "operation; ms that its handler has run so far. place: as submit")             \
    X(stuck, 14, "operation; ms that its handler has run so far. place: as submit")            \
    X(panic, 15, "0; 0. The process is about to abort")

// What has handlers besides operations; kinds below 128 are those of operation_list.hpp, by their order.
inline constexpr std::uint8_t kind_post = 240;         // of Loop::post
inline constexpr std::uint8_t kind_remote_post = 241;  // of Remote::post

// The events of the list above, by their numbers.
enum class Event : std::uint8_t {
    none = 0,  // a record that was never written
#define WHORL_RECORDER_ENUMERATOR(name, number, text) name = number,
    WHORL_RECORDER_EVENT_LIST(WHORL_RECORDER_ENUMERATOR)
#undef WHORL_RECORDER_ENUMERATOR
};

// One event.
struct Record {
    std::uint64_t time_ns;  // of the clock that the header describes
    std::uint64_t id;      // an operation's handle: generation in the upper half, slot in the lower
    std::int32_t value;    // saturated
    std::uint32_t number;  // the lowest bits of this record's number
    std::uint32_t place;   // index in the places, 0 for none
    std::uint8_t event;    // an Event; header.event_names
    std::uint8_t kind;     // of the operation; header.kind_names
    std::uint16_t
        more;  // handler_begin, handler_end: 1 when this operation's handler will run again
};
static_assert(sizeof(Record) == 32, "two records in a cache line");

// Where operations were submitted, and the handlers that wait for them. A pair that came when the table
// was full has none.
struct Place {
    char file[80];       // the end of its path; empty: unknown
    char symbol[96];     // what the dynamic symbols call the handler's thunk, demangled; else empty
    char module[56];     // the end of the path of the program or library that the thunk lies in
    std::uint64_t code;  // address of the thunk in the process
    std::uint64_t offset;  // and in its module: for addr2line -e MODULE
    std::uint32_t line;    // in `file`; 0: unknown
    std::uint32_t unused;  // 0
};
static_assert(sizeof(Place) == 256, "one layout everywhere");

// What the first bytes say, the same in every version as far as an older one goes.
struct Header {
    char magic[16];              // recorder::magic
    std::uint32_t byte_order;    // recorder::byte_order, as the writer's machine stores it
    std::uint32_t version;       // recorder::version of who wrote it
    std::uint32_t header_bytes;  // sizeof(Header) of who wrote it
    std::uint32_t record_bytes;  // sizeof(Record)
    std::uint32_t place_bytes;   // sizeof(Place)
    std::uint32_t places_max;    // rooms in the table of places
    std::uint64_t places_at;     // bytes from the header's start
    std::uint64_t records_at;    // likewise
    std::uint64_t records_max;   // a power of two
    std::uint64_t total_bytes;   // of the whole
    std::uint64_t address;       // where the header lies in the process
    // Changed while it runs, each by one store; the records and places before it have been written.
    std::uint64_t written;
    std::uint64_t places_count;  // place 0 included
    // Whose it is.
    std::int32_t process;
    std::int32_t thread;  // the loop's; 0 until its first turn
    std::uint64_t loop;   // counts the loops of the process that had a recorder, from 1
    char backend[16];     // "io_uring", "libev", "simulator"
    // The clock of time_ns: "tsc" is CLOCK_MONOTONIC by the time stamp counter, within a microsecond;
    // "monotonic" is CLOCK_MONOTONIC; "simulated" that of the loop's world.
    char clock[16];
    std::uint64_t clock_scale;   // of tsc: nanoseconds per tick times 2^32, when it was made
    std::uint64_t made_ns;       // when the recorder was made, by this clock,
    std::uint64_t made_unix_ns;  // and by CLOCK_REALTIME
    char library_version[24];    // such as "1.2.3"
    char event_names[32][24];    // by Event; empty: no such event
    char kind_names[256][24];    // by Record::kind; empty: no such kind
};
static_assert(offsetof(Header, written) % 8 == 0, "stored at once");

}  // namespace whorl::recorder
