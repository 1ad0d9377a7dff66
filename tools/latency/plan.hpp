// SPDX-License-Identifier: MIT
// What is to be measured: the target and the load.
#pragma once

#include <whorl/address.hpp>
#include <whorl/loop.hpp>
#include <whorl/time.hpp>
#include <whorl/unix.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace latency {

enum class Kind : std::uint8_t { tcp, udp, unix_stream, pipe, timer, file, channel, http };

// tcp://HOST:PORT, udp://HOST:PORT, unix:PATH, unix:@ABSTRACT, pipe, timer, file:PATH, channel,
// http://HOST[:PORT][/PATH]
struct Target {
    Kind kind = Kind::timer;
    std::string text;
    std::string host;  // tcp, udp, http: a name that is to be looked up
    std::uint16_t port = 0;
    whorl::Address address;
    whorl::UnixAddress unix_address;
    std::string path;       // file; http: with its query
    std::string authority;  // http: as written
};

// False: `why` says what is wrong with the text. A host that is no number is left to resolve_target().
bool parse_target(std::string_view text, Target& target, std::string& why);
// Looks a host's name up, with the loop. False: `why`.
bool resolve_target(whorl::Loop& loop, Target& target, std::string& why);

// What is asked for over HTTP.
struct HttpAsk {
    std::string method = "GET";
    std::vector<std::string> fields;  // "Name: value"
    std::string body;
};

struct Plan {
    static constexpr std::uint32_t size_max = 1u << 20;
    static constexpr std::uint32_t datagram_max = 65'507;

    Target target;
    std::vector<std::string> command;  // pipe: what echoes
    HttpAsk ask;
    int peer_cpu = -1;       // channel: where the other loop runs
    bool busy_poll = false;  // channel: the other loop never sleeps
    bool closed = false;
    double rate = 1000;  // messages a second, of all connections together; a closed loop has none
    std::uint32_t connections = 1;
    std::uint32_t size = 64;
    std::uint32_t depth = 1024;  // messages under way on one connection
    whorl::Nanoseconds warmup{std::chrono::seconds(1)};
    whorl::Nanoseconds duration{std::chrono::seconds(10)};
    whorl::Nanoseconds patience{std::chrono::seconds(1)};

    // When message k is due, counted from the beginning. A closed loop of timers uses it for k == 1.
    whorl::Nanoseconds due(std::uint64_t message) const noexcept;
    // Messages of a whole run of an open loop, warm-up included.
    std::uint64_t total() const noexcept;
};

// Empty: it can be done.
std::string plan_problem(const Plan& plan);

}  // namespace latency
