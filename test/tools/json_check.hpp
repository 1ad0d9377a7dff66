// SPDX-License-Identifier: MIT
#pragma once

#include <cctype>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace trace_test {

// Whether a text is JSON (RFC 8259), and nothing but. It says where it is not.
class JsonCheck {
  public:
    explicit JsonCheck(std::string_view text) : text_(text) {}

    std::string problem() {
        const bool good = value(0) && (blanks(), at_ == text_.size());
        if (good) return {};
        return "no JSON at byte " + std::to_string(at_) + ": " +
               std::string(text_.substr(at_ < 40 ? 0 : at_ - 40, 80));
    }

  private:
    void blanks() {
        while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr) ++at_;
    }
    bool take(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }
    bool value(int depth) {
        blanks();
        if (depth > 20 || at_ >= text_.size()) return false;
        switch (text_[at_]) {
            case '{':
                return list(depth, '}', true);
            case '[':
                return list(depth, ']', false);
            case '"':
                return string();
            default:
                return take("true") || take("false") || take("null") || number();
        }
    }
    bool list(int depth, char end, bool named) {
        ++at_;
        blanks();
        if (at_ < text_.size() && text_[at_] == end) return ++at_ != 0;
        for (;;) {
            blanks();
            if (named && !(string() && (blanks(), take(":")))) return false;
            if (!value(depth + 1)) return false;
            blanks();
            if (at_ < text_.size() && text_[at_] == end) return ++at_ != 0;
            if (!take(",")) return false;
        }
    }
    bool string() {
        if (!take("\"")) return false;
        for (; at_ < text_.size(); ++at_) {
            const auto code = static_cast<unsigned char>(text_[at_]);
            if (code == '"') return ++at_ != 0;
            if (code < 0x20) return false;
            if (code != '\\') continue;
            ++at_;
            if (at_ >= text_.size() || std::strchr("\"\\/bfnrtu", text_[at_]) == nullptr)
                return false;
            if (text_[at_] != 'u') continue;
            for (int digit = 0; digit < 4; ++digit) {
                ++at_;
                if (at_ >= text_.size() || !is_hex(text_[at_])) return false;
            }
        }
        return false;
    }
    static bool is_hex(char letter) {
        return std::isxdigit(static_cast<unsigned char>(letter)) != 0;
    }
    bool digits() {
        const std::size_t begin = at_;
        while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
        return at_ > begin;
    }
    bool number() {
        (void)take("-");
        if (!take("0") && !digits()) return false;
        if (take(".") && !digits()) return false;
        if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
            ++at_;
            if (!take("+")) (void)take("-");
            return digits();
        }
        return true;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

}  // namespace trace_test
