// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/error.hpp>

#include <cstring>

namespace whorl {

const char* Error::name() const noexcept {
    if (value_ == 0) return "ok";
    if (is_errno()) {
        const char* name = strerrorname_np(value_);
        return name != nullptr ? name : "errno";
    }
    switch (value_) {
#define WHORL_ERROR_NAME(name, number, text) \
    case number:                             \
        return #name;
        WHORL_ERROR_LIST(WHORL_ERROR_NAME)
#undef WHORL_ERROR_NAME
        default:
            return "unknown";
    }
}

const char* Error::text() const noexcept {
    if (value_ == 0) return "success";
    if (is_errno()) {
        const char* text = strerrordesc_np(value_);
        return text != nullptr ? text : "unknown errno value";
    }
    switch (value_) {
#define WHORL_ERROR_TEXT(name, number, text) \
    case number:                             \
        return text;
        WHORL_ERROR_LIST(WHORL_ERROR_TEXT)
#undef WHORL_ERROR_TEXT
        default:
            return "unknown whorl error";
    }
}

}  // namespace whorl
