// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/error.hpp>

#include <openssl/ssl.h>

#include <cstddef>

namespace whorl::tls::detail {

// The error of the call that has just failed, as ours, and OpenSSL's reason as text. The thread's queue
// of errors is empty afterwards.
Error failure_of(const SSL& ssl, char* text, std::size_t size) noexcept;

// The first reason in the queue, behind `what`.
void describe(const char* what, char* text, std::size_t size) noexcept;

}  // namespace whorl::tls::detail
