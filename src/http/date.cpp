// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/date.hpp"

#include <whorl/wall_clock.hpp>

#include <cstring>

namespace whorl::http {

namespace {
constexpr std::size_t date_size = 29;

void print_two(char* at, std::int64_t number) noexcept {
    at[0] = static_cast<char>('0' + number / 10 % 10);
    at[1] = static_cast<char>('0' + number % 10);
}
}  // namespace

// Days to a date by the civil calendar's 400-year cycle, counted from the first of March.
void print_date(std::int64_t seconds, char* text) noexcept {
    if (seconds < 0) seconds = 0;
    const std::int64_t days = seconds / 86400;
    const std::int64_t rest = seconds % 86400;
    const std::int64_t shifted = days + 719468;
    const std::int64_t era = shifted / 146097;
    const std::int64_t of_era = shifted % 146097;
    const std::int64_t year_of_era =
        (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const std::int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const std::int64_t march_month = (5 * of_year + 2) / 153;
    const std::int64_t day = of_year - (153 * march_month + 2) / 5 + 1;
    const std::int64_t month = march_month < 10 ? march_month + 2 : march_month - 10;
    const std::int64_t year = year_of_era + era * 400 + (month < 2 ? 1 : 0);

    std::memcpy(text, "Thu, 00 Jan 0000 00:00:00 GMT", date_size);
    std::memcpy(text, &"ThuFriSatSunMonTueWed"[3 * (days % 7)], 3);
    std::memcpy(text + 8, &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * month], 3);
    print_two(text + 5, day);
    print_two(text + 12, year / 100);
    print_two(text + 14, year);
    print_two(text + 17, rest / 3600);
    print_two(text + 20, rest / 60 % 60);
    print_two(text + 23, rest % 60);
}

std::string_view date_now(Loop& loop) noexcept {
    thread_local std::int64_t printed = -1;
    thread_local char text[date_size];
    const std::int64_t now =
        std::chrono::duration_cast<std::chrono::seconds>(wall_now(loop).time_since_epoch()).count();
    if (now != printed) {
        print_date(now, text);
        printed = now;
    }
    return {text, date_size};
}

}  // namespace whorl::http
