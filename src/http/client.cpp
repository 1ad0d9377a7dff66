// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/client_state.hpp"

#include <charconv>
#include <new>

// Questions, from begin() to the handler: connect, ask (client_link.cpp).

namespace whorl::http {

namespace detail {

Fetch::Fetch(Loop& at, ClientState& of, const FetchHandler& with) noexcept
    : loop(at), client(&of), handler(with) {
    of.fetches.push_back(*this);
}

Fetch::~Fetch() {
    if (List::is_linked(*this)) List::remove(*this);
    if (handler.object != nullptr) handler.destroy(handler.object);
}

// Not inlined: gcc 12 takes the counts of two owners for a use after the end.
__attribute__((noinline)) void FetchOwner::release(Fetch& fetch) noexcept {
    if (--fetch.owners == 0) delete &fetch;
}

// It ends with `reason`, by whoever has it.
void Fetch::break_off(Error reason) noexcept {
    if (!why) why = reason;
    if (link != nullptr) link->stream->abort(reason);
    else if (connector != nullptr) connector->cancel();
}

void fetch_end(const FetchOwner& fetch, Error error, const Message* message, Buffer&& body) {
    if (List::is_linked(*fetch)) List::remove(*fetch);
    if (fetch->timer) static_cast<void>(fetch->loop.cancel(fetch->timer));
    fetch->link = nullptr;
    Fetched fetched{error, message, std::move(body), fetch->redirects};
    fetch->handler.call(fetch->handler.object, fetch->loop, fetched);
}

Error fetch_aim(Fetch& fetch, std::string_view base, std::string_view text) noexcept {
    Buffer joined = Buffer::allocate(base.size() + text.size() + 1);
    if (!joined) return Error::from_errno(ENOMEM);
    const bool fits = joined.append(Bytes(base)) && joined.append(Bytes(text));
    WHORL_ASSERT(fits);
    const Result<Url> url = parse_url(joined.text());
    if (!url) return url.error();
    fetch.url = *url;
    fetch.text = std::move(joined);  // the views stay where they are
    return {};
}

namespace {

void fetch_connected(const FetchOwner& fetch, const Connected& connected) {
    fetch->connector = nullptr;
    Loop& loop = fetch->loop;
    if (connected.error || fetch->why) {
        const Error why = fetch->why ? fetch->why : connected.error;
        if (!connected.error) static_cast<void>(loop.close(connected.socket));
        return fetch_end(fetch, why);
    }
    ClientState& client = *fetch->client;
    std::unique_ptr<Link> link(new (std::nothrow) Link(client, client.options));
    Buffer key = Buffer::copy_of(Bytes(fetch->url.authority));
    if (!link || !key) {
        static_cast<void>(loop.close(connected.socket));
        return fetch_end(fetch, Error::from_errno(ENOMEM));
    }
    link->key = std::move(key);
    Link& made = *link;
    const Result<Stream*> stream = attach(loop, connected.socket, Talk{std::move(link)});
    if (!stream) {
        static_cast<void>(loop.close(connected.socket));
        return fetch_end(fetch, stream.error());
    }
    made.stream = *stream;
    made.ask(fetch);
}

}  // namespace

Error fetch_go(const FetchOwner& fetch) {
    if (Link* link = fetch->client->idle_link(fetch->url.authority)) {
        fetch->reused = true;
        link->ask(fetch);
        return {};
    }
    fetch->reused = false;
    ResolveQuery query{fetch->url.host};
    query.port = fetch->url.port;
    query.resolver = fetch->client->options.resolver;
    const Result<Connector*> connector = connect_host(
        fetch->loop, query, fetch->client->options.connect,
        [fetch](Loop&, const Connected& connected) { fetch_connected(fetch, connected); });
    if (connector) fetch->connector = *connector;
    return connector.error();
}

Link* ClientState::idle_link(std::string_view authority) noexcept {
    for (ListNode* node = links.front(); node != nullptr; node = links.after(*node)) {
        auto& link = static_cast<Link&>(*node);
        if (link.idle() && equal_caseless(link.key.text(), authority)) return &link;
    }
    return nullptr;
}

std::uint32_t ClientState::idle() const noexcept {
    std::uint32_t count = 0;
    for (ListNode* node = links.front(); node != nullptr; node = links.after(*node)) {
        if (static_cast<Link&>(*node).idle()) ++count;
    }
    return count;
}

namespace {

// The further fields of a request, as they are sent. Errors: invalid_argument, ENOMEM.
Error print_fields(const Ask& ask, Buffer& printed) noexcept {
    std::size_t room = ask.type.size() + 64;
    for (std::size_t index = 0; index < ask.fields_count; ++index) {
        const Field& field = ask.fields[index];
        if (!valid_name(field.name) || !valid_value(field.value)) return Error::invalid_argument;
        room += field.name.size() + field.value.size() + 4;
    }
    if (!valid_value(ask.type)) return Error::invalid_argument;
    printed = Buffer::allocate(room);
    if (!printed) return Error::from_errno(ENOMEM);
    const auto put = [&printed](std::string_view text) {
        const bool fits = printed.append(Bytes(text));
        WHORL_ASSERT(fits);
    };
    for (std::size_t index = 0; index < ask.fields_count; ++index) {
        put(ask.fields[index].name);
        put(": ");
        put(ask.fields[index].value);
        put("\r\n");
    }
    if (!ask.type.empty()) {
        put("Content-Type: ");
        put(ask.type);
        put("\r\n");
    }
    const bool sends = ask.method != Method::get && ask.method != Method::head;
    if (ask.body.empty() && !sends) return {};
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof(digits), ask.body.size()).ptr;
    put("Content-Length: ");
    put({digits, static_cast<std::size_t>(end - digits)});
    put("\r\n");
    return {};
}

Error fetch_begin(const FetchOwner& fetch, Ask& ask) {
    const ClientOptions& options = fetch->client->options;
    if (ask.method >= Method::connect) return Error::invalid_argument;
    fetch->method = ask.method;
    if (Error error = fetch_aim(*fetch, {}, ask.url)) return error;
    if (Error error = print_fields(ask, fetch->fields)) return error;
    if (options.total > Nanoseconds::zero()) {
        Fetch* const asked = &*fetch;  // the timer is cancelled before it goes
        const Result<Timer> timer = fetch->loop.after(
            options.total, [asked](Loop&, Expired) { asked->break_off(Error::timed_out); });
        if (!timer) return timer.error();
        fetch->timer = *timer;
    }
    fetch->body = std::move(ask.body);
    if (Error error = fetch_go(fetch)) {
        if (fetch->timer) static_cast<void>(fetch->loop.cancel(fetch->timer));
        return error;
    }
    return {};
}

}  // namespace

}  // namespace detail

Result<Client> Client::create(Loop& loop, const ClientOptions& options) noexcept {
    auto* state = new (std::nothrow) detail::ClientState(loop, options);
    if (state == nullptr) return Error::from_errno(ENOMEM);
    return Client(state);
}

Client::~Client() {
    if (state_ == nullptr) return;
    while (ListNode* node = state_->fetches.pop_front()) {
        auto& fetch = static_cast<detail::Fetch&>(*node);
        fetch.client = nullptr;
        fetch.break_off(Error::cancelled);
    }
    while (ListNode* node = state_->links.pop_front()) {
        auto& link = static_cast<detail::Link&>(*node);
        link.client = nullptr;
        if (!link.fetch) link.stream->close();
    }
    delete state_;
}

Error Client::begin(Ask& ask, const detail::FetchHandler& handler) noexcept {
    auto* made = new (std::nothrow) detail::Fetch(state_->loop, *state_, handler);
    if (made == nullptr) {
        handler.destroy(handler.object);
        return Error::from_errno(ENOMEM);
    }
    return detail::fetch_begin(detail::FetchOwner(made), ask);
}

std::uint32_t Client::idle() const noexcept { return state_->idle(); }

}  // namespace whorl::http
