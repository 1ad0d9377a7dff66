// SPDX-License-Identifier: MIT
#include <cstdio>
#include <string_view>

#include "common/json.hpp"
#include "findings.hpp"

namespace doctor {

namespace {

const char* word_of(Level level) {
    switch (level) {
        case Level::good:
            return "good";
        case Level::note:
            return "note";
        case Level::poor:
            return "poor";
        case Level::bad:
            return "bad";
    }
    return "";
}

const char* verdict_of(int status) {
    if (status == 0) return "loops run on io_uring";
    if (status == 1) return "loops run on the fallback, libev (epoll)";
    return "no loop can be made here";
}

using tools::quoted;

}  // namespace

void print_text(const Report& report, int status) {
    for (const Finding& finding : report.findings) {
        std::printf("%-4s  %-24s  %s\n", word_of(finding.level), finding.subject.c_str(),
                    finding.what.c_str());
        if (!finding.cure.empty()) std::printf("%-32s-> %s\n", "", finding.cure.c_str());
    }
    std::printf("%s\n", verdict_of(status));
}

void print_json(const Report& report, int status) {
    std::printf("{\n  \"status\": %d,\n  \"verdict\": %s,\n  \"findings\": [", status,
                quoted(verdict_of(status)).c_str());
    const char* comma = "";
    for (const Finding& finding : report.findings) {
        std::printf("%s\n    {\"subject\": %s, \"level\": \"%s\", \"what\": %s, \"cure\": %s}",
                    comma, quoted(finding.subject).c_str(), word_of(finding.level),
                    quoted(finding.what).c_str(), quoted(finding.cure).c_str());
        comma = ",";
    }
    std::printf("\n  ]\n}\n");
}

}  // namespace doctor
