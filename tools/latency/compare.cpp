// SPDX-License-Identifier: MIT
// Curves, from histograms and from saved files; and what is expected of a histogram.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "common/json.hpp"
#include "report.hpp"

namespace latency {

namespace {

struct CloseFile {
    void operator()(std::FILE* file) const { (void)std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

constexpr std::size_t file_max = 64u << 20;
constexpr double value_most = 1e13;  // us, a hundred days

bool read_file(const std::string& path, std::string& content, std::string& why) {
    const File file(std::fopen(path.c_str(), "re"));
    if (!file) {
        why = std::strerror(errno);
        return false;
    }
    char part[65536];
    std::size_t got = 0;
    while ((got = std::fread(part, 1, sizeof part, file.get())) > 0) {
        content.append(part, got);
        if (content.size() > file_max) {
            why = "too large for a saved run";
            return false;
        }
    }
    if (std::ferror(file.get()) != 0) why = std::strerror(errno);
    return why.empty();
}

int hex_digit(char letter) {
    if (letter >= '0' && letter <= '9') return letter - '0';
    if (letter >= 'a' && letter <= 'f') return letter - 'a' + 10;
    return -1;
}

// The histogram that json_of() wrote last of all, as one string of hexadecimal digits.
bool load_json(const std::string& content, Curve& curve, std::string& why) {
    static const std::string key = "\"intended_histogram\": \"";
    std::size_t at = content.rfind(key);
    why = "JSON without a histogram of whorl-latency";
    if (at == std::string::npos) return false;
    std::vector<std::byte> bytes;
    for (at += key.size(); at + 1 < content.size() && content[at] != '"'; at += 2) {
        const int high = hex_digit(content[at]), low = hex_digit(content[at + 1]);
        if (high < 0 || low < 0) return false;
        bytes.push_back(static_cast<std::byte>(high * 16 + low));
    }
    whorl::Result<whorl::Histogram> histogram =
        whorl::Histogram::decode(whorl::Bytes(bytes.data(), bytes.size()));
    if (!histogram) return false;
    curve = curve_of(*histogram, curve.name);
    why.clear();
    return true;
}

bool load_hgrm(const std::string& content, Curve& curve, std::string& why) {
    std::size_t at = 0;
    while (at < content.size()) {
        const std::size_t end = std::min(content.find('\n', at), content.size());
        const std::string line = content.substr(at, end - at);
        at = end + 1;
        char* after = nullptr;
        const double value = std::strtod(line.c_str(), &after);
        if (after == line.c_str()) continue;  // the heading, an empty line, a comment
        const char* second = after;
        const double share = std::strtod(second, &after);
        if (after == second || !(share >= 0) || share > 1 || !std::isfinite(value)) {
            why = "not the text of an .hgrm file: " + tools::printable(line.substr(0, 60));
            return false;
        }
        if (value < 0 || value > value_most) {
            why = "its values are no latencies in microseconds: " +
                  tools::printable(line.substr(0, 60));
            return false;
        }
        if (!curve.points.empty() && share < curve.points.back().share) {
            why = "its percentiles do not ascend";
            return false;
        }
        curve.points.push_back({share, value});
    }
    if (curve.points.empty()) why = "neither JSON nor .hgrm: no percentiles in it";
    return why.empty();
}

}  // namespace

Curve curve_of(const whorl::Histogram& histogram, std::string name) {
    Curve curve;
    curve.name = std::move(name);
    whorl::PercentileRows rows(histogram, 20);
    whorl::PercentileRow row{};
    while (rows.next(row)) {
        curve.points.push_back({row.share, static_cast<double>(row.value) * 1e-3});
    }
    // The percentiles of the reports themselves, so that a comparison says what these said.
    for (const double percent : percentiles) {
        if (histogram.count() == 0) break;
        const auto value = static_cast<double>(histogram.percentile(percent));
        curve.points.push_back({percent / 100, value * 1e-3});
    }
    std::stable_sort(curve.points.begin(), curve.points.end(), [](const Point& a, const Point& b) {
        return a.share < b.share || (a.share == b.share && a.us < b.us);
    });
    return curve;
}

// The first point at or beyond it.
double Curve::at(double percent) const {
    for (const Point& point : points) {
        if (point.share * 100 >= percent - 1e-9) return point.us;
    }
    return points.empty() ? 0 : points.back().us;
}

bool load_curve(const std::string& path, Curve& curve, std::string& why) {
    std::string content;
    curve = {};
    curve.name = path;
    if (!read_file(path, content, why)) return false;
    const std::size_t first = content.find_first_not_of(" \t\r\n");
    const bool json = first != std::string::npos && content[first] == '{';
    return json ? load_json(content, curve, why) : load_hgrm(content, curve, why);
}

std::string compare_text(const Curve& before, const Curve& after) {
    std::string out = "A  " + before.name + "\nB  " + after.name + "\n\n";
    char line[128];
    (void)std::snprintf(line, sizeof line, "  %-10s %12s %12s %9s\n", "", "A", "B", "B to A");
    out += line;
    const auto add = [&](const std::string& name, double percent) {
        const double a = before.at(percent), b = after.at(percent);
        char change[32] = "";
        if (a > 0) (void)std::snprintf(change, sizeof change, "%+.1f %%", (b / a - 1) * 100);
        (void)std::snprintf(line, sizeof line, "  %-10s %12s %12s %9s\n", name.c_str(),
                            time_text(a * 1e3).c_str(), time_text(b * 1e3).c_str(), change);
        out += line;
    };
    for (const double percent : percentiles) add(percentile_name(percent), percent);
    add("max", 100);
    return out;
}

bool write_file(const std::string& path, std::string_view content) {
    std::FILE* file = std::fopen(path.c_str(), "we");
    bool written = file != nullptr;
    if (written) {
        written = std::fwrite(content.data(), 1, content.size(), file) == content.size();
        // What does not fit is told by the last of it.
        if (std::fflush(file) != 0) written = false;
        const int error = errno;
        if (std::fclose(file) != 0) written = false;
        else if (!written) errno = error;
    }
    if (!written) {
        std::fprintf(stderr, "whorl-latency: %s: %s\n", path.c_str(), std::strerror(errno));
    }
    return written;
}

bool parse_expectation(std::string_view text, Expectation& expectation, std::string& why) {
    expectation = {};
    expectation.text = text;
    why = "expected for example p99<50us, max<=2ms or mean<80us";
    const std::string copy(text);
    const std::size_t sign = copy.find_first_of("<>");
    if (sign == std::string::npos || sign == 0) return false;
    expectation.metric = copy.substr(0, sign);
    expectation.less = copy[sign] == '<';
    expectation.or_equal = sign + 1 < copy.size() && copy[sign + 1] == '=';
    const char* number = copy.c_str() + sign + (expectation.or_equal ? 2 : 1);
    char* after = nullptr;
    const double value = std::strtod(number, &after);
    if (after == number || !(value >= 0) || !std::isfinite(value)) return false;
    const std::string unit = after;
    const double scale = unit == "ns"   ? 1
                         : unit == "us" ? 1e3
                         : unit == "ms" ? 1e6
                         : unit == "s"  ? 1e9
                                        : 0;
    if (scale == 0) return false;
    expectation.ns = value * scale;
    const std::string& metric = expectation.metric;
    if (metric == "min" || metric == "max" || metric == "mean") return true;
    if (metric[0] != 'p') return false;
    expectation.percent = std::strtod(metric.c_str() + 1, &after);
    if (after == metric.c_str() + 1 || *after != 0) return false;
    expectation.metric.clear();
    return expectation.percent > 0 && expectation.percent < 100;
}

std::string unmet(const Expectation& expectation, const whorl::Histogram& histogram) {
    if (histogram.count() == 0) return "nothing was measured";
    double value = 0;
    if (expectation.metric == "min") value = static_cast<double>(histogram.min());
    else if (expectation.metric == "max") value = static_cast<double>(histogram.max());
    else if (expectation.metric == "mean") value = histogram.mean();
    else {
        if (few_samples(histogram, expectation.percent)) {
            return "too few messages to know " + percentile_name(expectation.percent);
        }
        value = static_cast<double>(histogram.percentile(expectation.percent));
    }
    const bool beyond = expectation.less ? value < expectation.ns : value > expectation.ns;
    if (beyond || (expectation.or_equal && value == expectation.ns)) return {};
    return "it is " + time_text(value);
}

}  // namespace latency
