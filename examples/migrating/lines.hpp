// SPDX-License-Identifier: MIT
// What the servers of docs/migrating have in common, whatever loop they run on: a line is answered in
// capitals, "quit" ends the connection.
//
//   SERVER PORT IDLE_MS        prints "listening on PORT"; SIGTERM ends it
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

constexpr std::size_t line_max = 1024;  // a longer line ends the connection

struct Words {
    int port = 0;
    int idle_ms = 30'000;
    Words(int count, char** words) {
        if (count > 1) port = std::atoi(words[1]);
        if (count > 2) idle_ms = std::atoi(words[2]);
    }
};

inline void listening(int port) {
    std::printf("listening on %d\n", port);
    std::fflush(stdout);
}

inline std::string capitals(std::string_view line) {
    std::string answer(line);
    for (char& c : answer) {
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    }
    return answer + "\n";
}

// Takes whole lines out of `in` and appends the answers to `out`. False: the connection ends.
inline bool answer_lines(std::string& in, std::string& out) {
    std::size_t at = 0;
    bool going = true;
    for (std::size_t end; going && (end = in.find('\n', at)) != std::string::npos; at = end + 1) {
        const std::string_view line(in.data() + at, end - at);
        going = line != "quit" && line.size() <= line_max;
        if (going) out += capitals(line);
    }
    in.erase(0, at);
    return going && in.size() <= line_max;
}
