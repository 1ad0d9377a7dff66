// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_trace.hpp"

#include <algorithm>

namespace whorl::detail {

// The ring of lines grows up to its limit: most worlds are small.
SimTrace::Line& SimTrace::begin(Instant now, const char* format) {
    if (lines_.size() < lines_max && next_ == lines_.size()) lines_.emplace_back();
    Line& line = lines_[next_++ % lines_max];
    line.time = now;
    line.format = format;
    line.count = 0;
    mix(static_cast<std::uint64_t>(now.time_since_epoch().count()));
    return line;
}

void SimTrace::text(Instant now, std::string_view words) {
    Line& line = begin(now, nullptr);
    line.words.assign(words);
    mix_text(words.data(), words.size());
    if (stream_ != nullptr) print(line);
}

std::vector<std::string> SimTrace::lines(std::size_t most) const {
    std::vector<std::string> found;
    const std::size_t count = std::min({most, next_, lines_max});
    for (std::size_t line = next_ - count; line < next_; ++line) {
        found.push_back(format(lines_[line % lines_max]));
    }
    return found;
}

void SimTrace::print(const Line& line) const {
    std::fprintf(stream_, "%s\n", format(line).c_str());
}

// Its own printf: the numbers have lost their types, the format still tells them.
std::string SimTrace::format(const Line& line) {
    std::string text = std::to_string(line.time.time_since_epoch().count()) + ' ';
    if (line.format == nullptr) return text + line.words;
    std::uint32_t used = 0;
    for (const char* at = line.format; *at != '\0'; ++at) {
        if (*at != '%' || used == line.count) {
            text += *at;
            continue;
        }
        for (++at; *at == 'l' || *at == 'z'; ++at) {  // lengths: all are 64 bits by now
        }
        const std::uint64_t number = line.numbers[used++];
        char digits[24];
        switch (*at) {
            case 's':
                text += reinterpret_cast<const char*>(static_cast<std::uintptr_t>(number));
                break;
            case 'x':
                std::snprintf(digits, sizeof digits, "%llx",
                              static_cast<unsigned long long>(number));
                text += digits;
                break;
            case 'u':
                text += std::to_string(number);
                break;
            default:
                text += std::to_string(static_cast<std::int64_t>(number));
                break;
        }
    }
    return text;
}

}  // namespace whorl::detail
