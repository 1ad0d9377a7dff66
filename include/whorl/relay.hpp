// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/stream.hpp>

#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace whorl {

// How relay() passes bytes on.
struct RelayOptions {
    // Of both streams. Each side reads only as long as the other's queue is below its high watermark.
    StreamOptions stream = {};
};

// How a relay ended.
struct Relayed {
    Closed first;                       // why the first side ended
    Closed second;                      // and the second
    std::uint64_t first_to_second = 0;  // bytes that were delivered
    std::uint64_t second_to_first = 0;  // likewise
};

namespace detail {
struct RelayDone {
    void* object = nullptr;
    void (*call)(void*, Loop&, const Relayed&) = nullptr;
    void (*destroy)(void*) noexcept = nullptr;
};
WHORL_EXPORT Error relay_start(Loop& loop, Socket first, Socket second, const RelayOptions& options,
                               const RelayDone& done) noexcept;
WHORL_EXPORT Error relay_start(Stream& first, Socket second, const RelayOptions& options,
                               const RelayDone& done) noexcept;

template <class Handler>
RelayDone relay_done(Handler* handler) noexcept {
    return {handler,
            [](void* object, Loop& at, const Relayed& result) {
                (*static_cast<Handler*>(object))(at, result);
            },
            [](void* object) noexcept { drop_object(static_cast<Handler*>(object)); }};
}
}  // namespace detail

// Passes bytes between two sockets, both ways, without looking at them: with backpressure, with the end
// of one direction passed on as such, and a broken connection passed on as a reset. Received buffers are
// sent as they are, without a copy.
// Owns: both sockets and the handler, on success.
// Calls: handler(Loop&, const Relayed&) once, from dispatch, when both are closed.
// Errors: as attach(). Then nothing has been taken.
template <class Handler>
Error relay(Loop& loop, Socket first, Socket second, const RelayOptions& options,
            Handler&& handler) noexcept {
    using Stored = std::decay_t<Handler>;
    static_assert(std::is_invocable_v<Stored&, Loop&, const Relayed&>,
                  "whorl: the handler takes (Loop&, const Relayed&)");
    auto* stored = detail::make_object<Stored>(std::forward<Handler>(handler));
    if (stored == nullptr) return Error::from_errno(12);
    const Error error =
        detail::relay_start(loop, first, second, options, detail::relay_done(stored));
    if (error) detail::drop_object(stored);
    return error;
}

// The same when the first side has spoken already, to a proxy perhaps: its protocol is replaced, what it has not
// read (Stream::unread) is passed on, and it reads. It keeps its options and deadlines; `options` are the other's.
// Errors: as attach() and Stream::replace(). Then nothing has been taken.
template <class Handler>
Error relay(Stream& first, Socket second, const RelayOptions& options, Handler&& handler) noexcept {
    using Stored = std::decay_t<Handler>;
    static_assert(std::is_invocable_v<Stored&, Loop&, const Relayed&>,
                  "whorl: the handler takes (Loop&, const Relayed&)");
    auto* stored = detail::make_object<Stored>(std::forward<Handler>(handler));
    if (stored == nullptr) return Error::from_errno(12);
    const Error error = detail::relay_start(first, second, options, detail::relay_done(stored));
    if (error) detail::drop_object(stored);
    return error;
}

}  // namespace whorl
