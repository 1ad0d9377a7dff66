// SPDX-License-Identifier: MIT
// See together.hpp. Asio is in the headers: it is their order that is tried.
#ifdef OTHER_FIRST
#include <asio.hpp>
#endif
#include "together.hpp"
#ifndef OTHER_FIRST
#include <asio.hpp>
#endif

bool together::run_other(int fd) {
    asio::io_context context;
    bool fired = false, seen = false;
    asio::steady_timer timer(context, std::chrono::milliseconds(1));
    asio::posix::stream_descriptor bytes(context, dup(fd));
    timer.async_wait([&](const asio::error_code& error) { fired = !error; });
    bytes.async_wait(asio::posix::stream_descriptor::wait_read,
                     [&](const asio::error_code& error) { seen = !error; });
    context.run();
    return fired && seen;
}
