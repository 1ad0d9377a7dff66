// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/http_client.hpp>
#include <whorl/list.hpp>
#include <whorl/protocol.hpp>

#include <memory>

// A client's state. A question (Fetch) is owned by whoever is to go on with it: the handler of a
// connector, or a connection (Link). So nothing is left behind when the loop is destroyed with all of
// them. Links are owned by their protocol. Both know their client, until that is destroyed.

namespace whorl::http::detail {

struct Link;

struct Fetch : ListNode, whorl::detail::Allocated<Fetch> {
    Fetch(Loop& at, ClientState& of, const FetchHandler& with) noexcept;
    ~Fetch();
    Fetch(const Fetch&) = delete;
    Fetch& operator=(const Fetch&) = delete;

    Loop& loop;
    ClientState* client;
    FetchHandler handler;
    Buffer text;  // of the URL
    Url url;      // views of it
    Method method = Method::get;
    Buffer fields;  // as they are sent
    Buffer body;
    std::uint32_t redirects = 0;
    std::uint32_t owners = 0;
    bool reused = false;  // asked on a connection that had been kept
    Error why;            // why it was broken off
    Timer timer;
    // Who has it.
    Connector* connector = nullptr;
    Link* link = nullptr;

    void break_off(Error reason) noexcept;
};

// One of those who own a question: a submission that is refused destroys its handler, and whoever wanted
// to make it still has to tell.
class FetchOwner {
  public:
    FetchOwner() noexcept = default;
    explicit FetchOwner(Fetch* fetch) noexcept : fetch_(fetch) { ++fetch->owners; }
    FetchOwner(const FetchOwner& other) noexcept : fetch_(other.fetch_) {
        if (fetch_ != nullptr) ++fetch_->owners;
    }
    FetchOwner(FetchOwner&& other) noexcept : fetch_(std::exchange(other.fetch_, nullptr)) {}
    FetchOwner& operator=(FetchOwner other) noexcept {
        std::swap(fetch_, other.fetch_);
        return *this;
    }
    ~FetchOwner() {
        if (fetch_ != nullptr) release(*fetch_);
    }
    explicit operator bool() const noexcept { return fetch_ != nullptr; }
    Fetch& operator*() const noexcept { return *fetch_; }
    Fetch* operator->() const noexcept { return fetch_; }

  private:
    static void release(Fetch& fetch) noexcept;
    Fetch* fetch_ = nullptr;
};

// A connection to a server.
struct Link : ListNode, whorl::detail::Allocated<Link> {
    Link(ClientState& of, const ClientOptions& options) noexcept;
    ~Link();
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    void ask(FetchOwner asked) noexcept;
    void received(Buffer&& buffer);
    void peer_closed();
    void closed(Closed why);
    bool idle() const noexcept { return !fetch && !stream->closing(); }
    bool step(Bytes& input, Buffer& buffer);
    bool take(Bytes piece) noexcept;
    void answered(bool reusable);
    void rest(bool reusable) noexcept;
    bool redirect(Fetch& asked) noexcept;

    ClientState* client;
    Stream* stream = nullptr;
    ResponseParser parser;
    FetchOwner fetch;
    Buffer key;  // "host:port", as in URLs
    Buffer head;
    Buffer body;
    bool calling = false;  // a handler that may look at parser's message
};

struct ClientState : whorl::detail::Allocated<ClientState> {
    ClientState(Loop& at, const ClientOptions& given) noexcept : loop(at), options(given) {}
    Link* idle_link(std::string_view authority) noexcept;
    std::uint32_t idle() const noexcept;

    Loop& loop;
    ClientOptions options;
    List fetches;
    List links;
};

// The protocol of a link's stream.
struct Talk {
    std::unique_ptr<Link> link;
    void opened(Stream&) {}
    void received(Stream&, Buffer buffer) { link->received(std::move(buffer)); }
    void peer_closed(Stream&) { link->peer_closed(); }
    void closed(Stream&, Closed why) { link->closed(why); }
};

// Asks on a connection that is kept, or makes one. On an error nothing has begun.
Error fetch_go(const FetchOwner& fetch);
// Calls the handler.
void fetch_end(const FetchOwner& fetch, Error error, const Message* message = nullptr,
               Buffer&& body = {});
// Makes fetch.url of a text. Errors: invalid_argument, ENOMEM.
Error fetch_aim(Fetch& fetch, std::string_view base, std::string_view text) noexcept;

}  // namespace whorl::http::detail
