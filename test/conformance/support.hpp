// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/fixture.hpp"

#include <memory>

namespace whorl::conformance {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WHORL_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WHORL_TEST_SANITIZED 1
#endif
#endif
#ifndef WHORL_TEST_SANITIZED
#define WHORL_TEST_SANITIZED 0
#endif
inline constexpr bool sanitized = WHORL_TEST_SANITIZED != 0;

// How much of a long test is run: `full`, a tenth of it under a sanitizer, times WHORL_TEST_SCALE.
inline std::uint64_t scaled(std::uint64_t full) {
    const char* word = std::getenv("WHORL_TEST_SCALE");
    const double factor = word == nullptr ? 1.0 : std::atof(word);
    const double count = static_cast<double>(sanitized ? full / 10 : full) * factor;
    return count < 1.0 ? 1 : static_cast<std::uint64_t>(count);
}

// A witness of a handler's life: capture a copy; alone() again when every copy has been destroyed.
class Witness {
  public:
    Witness() : token_(std::make_shared<int>(0)) {}
    bool alone() const { return token_.use_count() == 1; }
    long others() const { return token_.use_count() - 1; }
    std::shared_ptr<int> copy() const { return token_; }

  private:
    std::shared_ptr<int> token_;
};

// A descriptor of the test's own.
class Fd {
  public:
    Fd() = default;
    explicit Fd(int number) : number_(number) {}
    Fd(Fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        close();
        number_ = std::exchange(other.number_, -1);
        return *this;
    }
    ~Fd() { close(); }

    int get() const { return number_; }
    int release() { return std::exchange(number_, -1); }
    void close() {
        if (number_ >= 0) os::close(number_);
        number_ = -1;
    }
    void write(std::string_view text) const {
        ASSERT_EQ(os::write(number_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    // What can be read at once, at most `size` bytes.
    std::string read(std::size_t size) const {
        std::string text(size, '\0');
        const ssize_t got = os::read(number_, text.data(), size);
        text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return text;
    }
    bool readable_within(std::chrono::milliseconds time) const {
        pollfd wait{number_, POLLIN, 0};
        return os::poll(&wait, 1, static_cast<int>(time.count())) == 1;
    }

  private:
    int number_ = -1;
};

// Two ends: of a pipe (`in` reads what `out` writes) or of a socket pair.
struct Ends {
    Fd in;
    Fd out;

    static Ends pipe() {
        int numbers[2] = {-1, -1};
        EXPECT_EQ(os::pipe2(numbers, O_CLOEXEC | O_NONBLOCK), 0);
        return {Fd(numbers[0]), Fd(numbers[1])};
    }
    static Ends sockets() {
        int numbers[2] = {-1, -1};
        const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
        EXPECT_EQ(os::socketpair(AF_UNIX, type, 0, numbers), 0);
        return {Fd(numbers[0]), Fd(numbers[1])};
    }
};

}  // namespace whorl::conformance
