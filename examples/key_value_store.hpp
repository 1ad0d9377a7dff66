// SPDX-License-Identifier: MIT
// The Redis protocol as far as key_value.cpp speaks it, and the keys of one loop. Nothing here knows of loops.
#pragma once

#include <whorl/time.hpp>

#include <cctype>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace key_value {

inline std::string error(const char* text) { return std::string("-ERR ") + text + "\r\n"; }
inline std::string integer(long long value) { return ":" + std::to_string(value) + "\r\n"; }
inline std::string bulk(const std::string& text) {
    return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

inline std::optional<long long> number_of(std::string_view text) {
    long long value = 0;
    const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (wrong != std::errc() || end != text.data() + text.size()) return std::nullopt;
    if (std::to_string(value) != text)
        return std::nullopt;  // "007" and "-0" are no numbers to Redis
    return value;
}

struct Request {
    enum Command { ping, get, set, del, incr, expire, unknown } command = unknown;
    std::string key;
    std::string value;
    bool echoes = false;    // a ping with a text, which is `key`
    long long seconds = 0;  // 0: for ever
    bool keyed() const { return command != ping && command != unknown; }
};

// Bytes to requests: arrays of bulk strings, or words on a line.
class Parser {
  public:
    void add(std::string_view bytes) {
        text_.erase(0, std::exchange(at_, 0));
        text_.append(bytes);
    }
    // The next request; none when it is not complete.
    std::optional<Request> next() {
        std::vector<std::string> words;
        do {
            words.clear();
            if (broken_ || at_ == text_.size()) return std::nullopt;
            const std::size_t before = at_;
            const bool whole = text_[at_] == '*' ? array(words) : line(words);
            if (!whole) {
                at_ = before;
                return std::nullopt;
            }
        } while (words.empty());
        return request(words);
    }
    bool broken() const { return broken_; }

  private:
    static constexpr long long words_max = 1024;
    static constexpr long long seconds_max = 1'000'000'000;
    static constexpr long long bytes_max = 64 << 20;

    bool until_newline(std::string_view& found) {
        const std::size_t end = text_.find("\r\n", at_);
        if (end == std::string::npos) {
            broken_ = text_.size() - at_ > 65536;
            return false;
        }
        found = std::string_view(text_).substr(at_, end - at_);
        at_ = end + 2;
        return true;
    }
    bool counted(char mark, long long most, long long& count) {
        std::string_view head;
        if (!until_newline(head)) return false;
        const std::optional<long long> value =
            head.empty() || head[0] != mark ? std::nullopt : number_of(head.substr(1));
        broken_ = !value || *value < 0 || *value > most;
        count = broken_ ? 0 : *value;
        return !broken_;
    }
    bool array(std::vector<std::string>& words) {
        long long count = 0;
        if (!counted('*', words_max, count)) return false;
        for (; count > 0; --count) {
            long long size = 0;
            if (!counted('$', bytes_max, size)) return false;
            const auto bytes = static_cast<std::size_t>(size);
            if (text_.size() - at_ < bytes + 2) return false;
            words.emplace_back(text_, at_, bytes);
            at_ += bytes + 2;
        }
        return true;
    }
    bool line(std::vector<std::string>& words) {
        std::string_view rest;
        if (!until_newline(rest)) return false;
        while (!rest.empty()) {
            const std::size_t end = rest.find(' ');
            if (end != 0) words.emplace_back(rest.substr(0, end));
            rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
        }
        return true;
    }
    static Request request(std::vector<std::string>& words) {
        for (char& letter : words[0]) {
            letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
        }
        const std::string& name = words[0];
        const std::size_t count = words.size();
        Request made;
        if (name == "ping" && count <= 2) made.command = Request::ping;
        else if (name == "get" && count == 2) made.command = Request::get;
        else if (name == "set" && (count == 3 || count == 5)) made.command = Request::set;
        else if (name == "del" && count == 2) made.command = Request::del;
        else if (name == "incr" && count == 2) made.command = Request::incr;
        else if (name == "expire" && count == 3) made.command = Request::expire;
        else return made;
        if (made.command == Request::set && count == 5) {
            const std::optional<long long> seconds = number_of(words[4]);
            const bool right = (words[3] == "EX" || words[3] == "ex") && seconds && *seconds > 0 &&
                               *seconds <= seconds_max;
            if (!right) return Request();
            made.seconds = *seconds;
        }
        if (made.command == Request::expire) {
            const std::optional<long long> seconds = number_of(words[2]);
            if (!seconds || *seconds > seconds_max || *seconds < -seconds_max) return Request();
            made.seconds = *seconds;
        }
        made.echoes = made.command == Request::ping && count == 2;
        if (count > 1) made.key = std::move(words[1]);
        if (made.command == Request::set) made.value = std::move(words[2]);
        return made;
    }

    std::string text_;
    std::size_t at_ = 0;
    bool broken_ = false;
};

// The keys of one loop. What has expired goes when somebody asks for it.
class Store {
  public:
    // The answer, as it is sent.
    std::string serve(Request& request, whorl::Instant now) {
        switch (request.command) {
            case Request::ping:
                return request.echoes ? bulk(request.key) : "+PONG\r\n";
            case Request::get: {
                const Entry* entry = find(request.key, now);
                return entry == nullptr ? "$-1\r\n" : bulk(entry->value);
            }
            case Request::set: {
                Entry& entry = entries_[std::move(request.key)];
                entry = {std::move(request.value), until(request.seconds, now)};
                return "+OK\r\n";
            }
            case Request::del: {
                const bool there = find(request.key, now) != nullptr;
                if (there) entries_.erase(request.key);
                return integer(there ? 1 : 0);
            }
            case Request::incr:
                return increment(request.key, now);
            case Request::expire: {
                Entry* entry = find(request.key, now);
                if (entry == nullptr) return integer(0);
                entry->end = now + std::chrono::seconds(request.seconds);
                return integer(1);
            }
            case Request::unknown:
                break;
        }
        return error("unknown command, or wrong arguments");
    }
    std::size_t size() const { return entries_.size(); }

  private:
    struct Entry {
        std::string value;
        whorl::Instant end = whorl::instant_never;
    };
    static whorl::Instant until(long long seconds, whorl::Instant now) {
        return seconds == 0 ? whorl::instant_never : now + std::chrono::seconds(seconds);
    }
    Entry* find(const std::string& key, whorl::Instant now) {
        const auto found = entries_.find(key);
        if (found == entries_.end()) return nullptr;
        if (found->second.end > now) return &found->second;
        entries_.erase(found);
        return nullptr;
    }
    std::string increment(const std::string& key, whorl::Instant now) {
        Entry* entry = find(key, now);
        if (entry == nullptr) {
            entry = &entries_[key];
            entry->value = "0";
        }
        const std::optional<long long> value = number_of(entry->value);
        if (!value) return error("value is not an integer or out of range");
        if (*value == INT64_MAX) return error("increment or decrement would overflow");
        entry->value = std::to_string(*value + 1);
        return integer(*value + 1);
    }

    std::unordered_map<std::string, Entry> entries_;
};

}  // namespace key_value
