// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/std_error.hpp>

#include "base/lasting.hpp"

#include <string>

namespace whorl {

namespace {

class Category final : public std::error_category {
  public:
    const char* name() const noexcept override { return "whorl"; }
    std::string message(int value) const override { return Error::from_value(value).text(); }
    std::error_condition default_error_condition(int value) const noexcept override {
        switch (value) {
            case Error::cancelled:
                return std::errc::operation_canceled;
            case Error::timed_out:
                return std::errc::timed_out;
            case Error::invalid_argument:
                return std::errc::invalid_argument;
            default:
                return {value, *this};
        }
    }
};

}  // namespace

const std::error_category& error_category() noexcept {
    static detail::Lasting<Category> category;
    return *category;
}

std::error_code to_error_code(Error error) noexcept {
    if (!error) return {};
    if (error.is_errno()) return {error.value(), std::system_category()};
    return {error.value(), error_category()};
}

}  // namespace whorl
