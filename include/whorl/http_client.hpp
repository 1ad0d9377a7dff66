// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/connector.hpp>
#include <whorl/http_parser.hpp>

#include <chrono>
#include <new>
#include <type_traits>
#include <utility>

// An HTTP/1.1 client, small: it asks, follows redirects, gathers the answer's body up to a limit, and keeps
// connections for the next question.
//
//   auto client = whorl::http::Client::create(loop);
//   client->get("http://example.org/", [](whorl::Loop&, whorl::http::Fetched& fetched) {
//       if (!fetched.error) print(fetched.message->status, fetched.body.text());
//   });
//
// https is not known here.

namespace whorl::http {

// What a client asks with, and how many connections it keeps.
struct ClientOptions {
    // Of an answer, all of which is kept in memory.
    Limits limits = {8192, 32768, Message::fields_room, std::uint64_t{64} << 20, 4096};
    Nanoseconds total =
        std::chrono::seconds(30);     // of a question with its redirects; zero: for ever
    std::uint32_t redirects_max = 5;  // of GET and HEAD; 0: they are answers
    std::uint32_t idle_max = 8;       // connections that are kept
    Nanoseconds idle = std::chrono::seconds(15);  // and for how long
    ConnectorOptions connect = {};                // of each connection
    HostResolver* resolver = nullptr;             // null: getaddrinfo(3); it outlives the client
};

// A question.
struct Ask {
    std::string_view url;           // "http://host:port/path?query"; copied
    Method method = Method::get;    // not connect or other: invalid_argument
    std::string_view type = {};     // Content-Type of `body`
    const Field* fields = nullptr;  // further ones; copied, and not sent to another host
    std::size_t fields_count = 0;   // of `fields`
    Buffer body = {};               // sent with Content-Length; GET and HEAD may have none
};

// What the handler gets. Lifetime: during the call; the body may be moved away.
struct Fetched {
    Error error;                       // then there is no message
    const Message* message = nullptr;  // of any status
    Buffer body;                       // whole; empty with an error
    std::uint32_t redirects = 0;       // that were followed
};

// Parts of a URL: views of it. Fragments are dropped.
struct Url {
    std::string_view host;       // without brackets
    std::string_view authority;  // "host:port" as written
    std::string_view target;     // "/path?query"; empty stands for "/"
    std::uint16_t port = 80;     // the scheme's own when none is written
};
// Errors: invalid_argument (not http, no host, a user before the host, signs that may not be in a URL).
WHORL_EXPORT Result<Url> parse_url(std::string_view text) noexcept;
// The same of another scheme, "ws://", with its port.
WHORL_EXPORT Result<Url> parse_url(std::string_view text, std::string_view scheme,
                                   std::uint16_t port_default) noexcept;

namespace detail {
struct ClientState;
struct FetchHandler {
    void* object = nullptr;
    void (*call)(void*, Loop&, Fetched&) = nullptr;
    void (*destroy)(void*) noexcept = nullptr;
};
}  // namespace detail

// Lifetime: destroyed before its loop; what is under way then ends with `cancelled`. Movable.
// Thread: loop thread only.
class WHORL_EXPORT Client {
  public:
    // Errors: ENOMEM.
    static Result<Client> create(Loop& loop, const ClientOptions& options = {}) noexcept;
    Client(Client&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Client& operator=(Client&&) = delete;
    ~Client();

    // Owns: the body and the handler, always.
    // Calls: handler(Loop&, Fetched&) once, from dispatch; not when the loop is destroyed.
    // Errors: invalid_argument (the URL, a field), ENOMEM, slots_exhausted, queue_full, loop_closed. In
    //   Fetched: those of resolving, connecting and of the stream; timed_out (total); frame_malformed,
    //   frame_too_large, frame_truncated (the answer); ENOMEM (for it, or to follow it); cancelled.
    // A kept connection that the server has closed meanwhile is replaced, and the question asked again,
    //   if it is a GET or HEAD.
    // Cost: allocations; a connection unless one is kept.
    template <class Handler>
    Error fetch(Ask ask, Handler&& handler) noexcept {
        using Stored = std::decay_t<Handler>;
        static_assert(std::is_invocable_v<Stored&, Loop&, Fetched&>,
                      "whorl: the handler takes (Loop&, Fetched&)");
        auto* stored = whorl::detail::make_object<Stored>(std::forward<Handler>(handler));
        if (stored == nullptr) return Error::from_errno(12);
        const Error error =
            begin(ask, {stored,
                        [](void* object, Loop& loop, Fetched& fetched) {
                            (*static_cast<Stored*>(object))(loop, fetched);
                        },
                        [](void* object) noexcept {
                            whorl::detail::drop_object(static_cast<Stored*>(object));
                        }});
        return error;
    }
    // A GET without further fields. Owns, calls, errors, cost: as fetch().
    template <class Handler>
    Error get(std::string_view url, Handler&& handler) noexcept {
        return fetch(Ask{url}, std::forward<Handler>(handler));
    }

    // Connections that are kept for the next question.
    std::uint32_t idle() const noexcept;

  private:
    explicit Client(detail::ClientState* state) noexcept : state_(state) {}
    // Owns: the handler, always.
    Error begin(Ask& ask, const detail::FetchHandler& handler) noexcept;
    detail::ClientState* state_;
};

}  // namespace whorl::http
