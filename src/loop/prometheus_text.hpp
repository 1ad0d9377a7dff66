// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/statistics.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace whorl::detail {

// Appends to a text that may be longer than the room for it.
class PrometheusText {
  public:
    PrometheusText(char* out, std::size_t size) noexcept : out_(out), size_(size) {
        if (size_ != 0) *out_ = 0;
    }
    std::size_t length() const noexcept { return length_; }

    void add(std::string_view text) noexcept {
        if (length_ + 1 < size_) {
            const std::size_t room = std::min(text.size(), size_ - length_ - 1);
            std::copy_n(text.data(), room, out_ + length_);
            out_[length_ + room] = 0;
        }
        length_ += text.size();
    }
    void add(std::uint64_t number) noexcept {
        char digits[20];
        std::size_t at = sizeof digits;
        do {
            digits[--at] = static_cast<char>('0' + number % 10);
            number /= 10;
        } while (number != 0);
        add(std::string_view(digits + at, sizeof digits - at));
    }

    // Nanoseconds as seconds.
    void add_seconds(std::uint64_t ns) noexcept {
        add(ns / 1'000'000'000);
        add(".");
        std::uint64_t rest = ns % 1'000'000'000;
        for (std::uint64_t digit = 100'000'000; digit != 0; digit /= 10) {
            add(rest / digit);
            rest %= digit;
        }
    }
    static bool is_total(std::string_view name) noexcept {
        constexpr std::string_view suffix = "_total";
        return name.size() > suffix.size() && name.substr(name.size() - suffix.size()) == suffix;
    }
    // The HELP and TYPE lines; without a type, a counter or a gauge by its name.
    void head(std::string_view name, std::string_view help, std::string_view type = {}) noexcept {
        add("# HELP whorl_");
        add(name);
        add(" ");
        add(help);
        add("\n# TYPE whorl_");
        add(name);
        add(" ");
        add(!type.empty() ? type : is_total(name) ? "counter" : "gauge");
        add("\n");
    }
    // The beginning of a line: name, and labels of two origins.
    void sample(std::string_view name, std::string_view labels, std::string_view more) noexcept {
        add("whorl_");
        add(name);
        if (!labels.empty() || !more.empty()) {
            add("{");
            add(labels);
            if (!labels.empty() && !more.empty()) add(",");
            add(more);
            add("}");
        }
        add(" ");
    }

  private:
    char* out_;
    std::size_t size_;
    std::size_t length_ = 0;
};

// Several loops' statistics, alone or inside of something larger.
struct StatisticsOf {
    const Statistics* first;
    std::size_t stride;
    const Statistics& at(std::size_t index) const noexcept {
        return *reinterpret_cast<const Statistics*>(reinterpret_cast<const char*>(first) +
                                                    index * stride);
    }
};
void print_statistics(PrometheusText& text, const StatisticsOf& statistics,
                      const std::string_view* labels, std::size_t count) noexcept;

}  // namespace whorl::detail
