// SPDX-License-Identifier: MIT
// Floor: 6
#include "tls/layer.hpp"

#include "tls/session.hpp"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace whorl::tls {

namespace detail {

namespace {

char lower(char byte) noexcept {
    return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
}

bool same(std::string_view given, std::string_view in_lower_case) noexcept {
    return std::equal(given.begin(), given.end(), in_lower_case.begin(), in_lower_case.end(),
                      [](char a, char b) { return lower(a) == b; });
}

// Owns: `ssl`, also on failure.
Result<whorl::detail::StreamFilter*> session_ready(Session* session, SSL* ssl,
                                                   Nanoseconds handshake) noexcept {
    if (session == nullptr) {
        SSL_free(ssl);
        return Error::from_errno(ENOMEM);
    }
    session->handshake = handshake;
    if (!session->connect()) {
        delete session;
        return Error::from_errno(ENOMEM);
    }
    return static_cast<whorl::detail::StreamFilter*>(session);
}

}  // namespace

// --- The server's side

ServerState::~ServerState() {
    release(context);
    while (names != nullptr) {
        Name* const gone = names;
        names = gone->next;
        release(gone->context);
        delete gone;
    }
}

Result<whorl::detail::StreamFilter*> ServerState::make(Loop& loop) noexcept {
    ERR_clear_error();
    SSL* const ssl = SSL_new(context->ssl);
    if (ssl == nullptr) return Error::from_errno(ENOMEM);
    SSL_set_accept_state(ssl);
    auto* session = new (std::nothrow) Session(loop, *ssl, *context, this, nullptr);
    return session_ready(session, ssl, options.handshake);
}

Error ServerState::use(std::string_view name, ContextState* with) noexcept {
    if (name.empty() || name.size() > name_max) return Error::invalid_argument;
    for (Name* each = names; each != nullptr; each = each->next) {
        if (!same(name, {each->text, each->size})) continue;
        release(std::exchange(each->context, share(with)));
        return {};
    }
    auto* made = new (std::nothrow) Name;
    if (made == nullptr) return Error::from_errno(ENOMEM);
    std::transform(name.begin(), name.end(), made->text, &lower);
    made->size = name.size();
    made->context = share(with);
    made->next = std::exchange(names, made);
    return {};
}

// A whole name counts before one with a star.
ContextState* ServerState::find(std::string_view name) const noexcept {
    const std::size_t dot = std::min(name.find('.'), name.size());
    ContextState* starred = nullptr;
    for (const Name* each = names; each != nullptr; each = each->next) {
        const std::string_view text(each->text, each->size);
        if (same(name, text)) return each->context;
        const bool star = dot != 0 && text.substr(0, 2) == "*.";
        if (star && same(name.substr(dot), text.substr(1))) starred = each->context;
    }
    return starred;
}

namespace {

// The name in a ClientHello, or nothing. Source: RFC 6066 section 3.
std::string_view name_asked_for(SSL& ssl) noexcept {
    const unsigned char* data = nullptr;
    std::size_t size = 0;
    if (SSL_client_hello_get0_ext(&ssl, TLSEXT_TYPE_server_name, &data, &size) != 1) return {};
    constexpr std::size_t head = 5;  // the list's size, the type, the name's size
    if (size < head || data[2] != TLSEXT_NAMETYPE_host_name) return {};
    const std::size_t length = static_cast<std::size_t>(data[3]) << 8 | data[4];
    if (length > size - head) return {};
    return {reinterpret_cast<const char*>(data + head), length};
}

// Before anything is decided, the context of the name takes over.
int on_client_hello(SSL* ssl, int*, void*) noexcept {
    const std::string_view name = name_asked_for(*ssl);
    Session& session = Session::of(*ssl);
    ContextState* const context = name.empty() ? nullptr : session.server()->find(name);
    if (context == nullptr) return SSL_CLIENT_HELLO_SUCCESS;
    SSL_CTX* const with = context->ssl;
    if (!session.use(*context)) return SSL_CLIENT_HELLO_ERROR;
    // These were copied from the first context.
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(with), nullptr);
    SSL_clear_options(ssl, SSL_OP_NO_TICKET);
    SSL_set_options(ssl, SSL_CTX_get_options(with));
    SSL_set_num_tickets(ssl, SSL_CTX_get_num_tickets(with));
    const auto version = static_cast<int>(SSL_CTX_get_min_proto_version(with));
    return SSL_set_min_proto_version(ssl, version) == 1 ? SSL_CLIENT_HELLO_SUCCESS
                                                        : SSL_CLIENT_HELLO_ERROR;
}

// Ours that comes first and is offered.
int on_alpn(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
            unsigned offered_size, void* given) noexcept {
    const auto& context = *static_cast<const ContextState*>(given);
    unsigned char* found = nullptr;
    const int result =
        SSL_select_next_proto(&found, size, context.alpn, static_cast<unsigned>(context.alpn_size),
                              offered, offered_size);
    *chosen = found;
    return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

int on_ticket(SSL* ssl, SSL_SESSION* session) noexcept {
    Session::of(*ssl).client()->keep(session);
    return 1;  // it is ours now
}

}  // namespace

void use_server_callbacks(ContextState& state) noexcept {
    SSL_CTX_set_client_hello_cb(state.ssl, &on_client_hello, nullptr);
    if (state.alpn_size != 0) SSL_CTX_set_alpn_select_cb(state.ssl, &on_alpn, &state);
}

void use_client_callbacks(ContextState& state) noexcept {
    if (!state.resumption) return;
    SSL_CTX_set_session_cache_mode(state.ssl,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(state.ssl, &on_ticket);
}

// --- The client's side

ClientState::~ClientState() {
    release(context);
    while (ticket_count != 0) SSL_SESSION_free(tickets[--ticket_count]);
}

void ClientState::keep(SSL_SESSION* session) noexcept {
    if (ticket_count == tickets_max) {
        SSL_SESSION_free(tickets[0]);
        std::copy(tickets + 1, tickets + tickets_max, tickets);
        --ticket_count;
    }
    tickets[ticket_count++] = session;
}

// The newest. Each of TLS 1.3 is used once, so that connections cannot be told to be of the same client
// (RFC 8446, appendix C.4). With TLS 1.2 all can see that anyway, and a server need not give another.
SSL_SESSION* ClientState::take() noexcept {
    if (ticket_count == 0) return nullptr;
    SSL_SESSION* const newest = tickets[ticket_count - 1];
    if (SSL_SESSION_get_protocol_version(newest) >= TLS1_3_VERSION) --ticket_count;
    else SSL_SESSION_up_ref(newest);
    return newest;
}

// Whom it must be.
bool ClientState::aim(SSL& ssl) noexcept {
    X509_VERIFY_PARAM* const rules = SSL_get0_param(&ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(rules, host) == 1) return true;
    ERR_clear_error();  // not an address
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set_tlsext_host_name(&ssl, host) == 1 &&
           X509_VERIFY_PARAM_set1_host(rules, host, 0) == 1;
}

Result<whorl::detail::StreamFilter*> ClientState::make(Loop& loop) noexcept {
    ERR_clear_error();
    SSL* const ssl = SSL_new(context->ssl);
    if (ssl == nullptr) return Error::from_errno(ENOMEM);
    SSL_set_connect_state(ssl);
    if (!aim(*ssl)) {
        SSL_free(ssl);
        return Error::from_errno(ENOMEM);
    }
    if (SSL_SESSION* const ticket = take()) {
        // One that cannot be used costs a whole handshake, no more.
        static_cast<void>(SSL_set_session(ssl, ticket));
        SSL_SESSION_free(ticket);
    }
    auto* session = new (std::nothrow) Session(loop, *ssl, *context, nullptr, this);
    return session_ready(session, ssl, options.handshake);
}

}  // namespace detail

Result<Server> Server::create(const Context& context, const LayerOptions& options) noexcept {
    if (context.state() == nullptr || !context.state()->server) return Error::invalid_argument;
    auto* state = new (std::nothrow) detail::ServerState;
    if (state == nullptr) return Error::from_errno(ENOMEM);
    state->options = options;
    state->context = detail::share(context.state());
    return Server(state);
}

Server::~Server() { detail::release(state_); }
StreamLayer* Server::layer() const noexcept { return state_; }

Error Server::use(const Context& context) noexcept {
    if (context.state() == nullptr || !context.state()->server) return Error::invalid_argument;
    detail::release(std::exchange(state_->context, detail::share(context.state())));
    return {};
}

Error Server::use(std::string_view name, const Context& context) noexcept {
    if (context.state() == nullptr || !context.state()->server) return Error::invalid_argument;
    return state_->use(name, context.state());
}

Result<Client> Client::create(const Context& context, std::string_view host,
                              const LayerOptions& options) noexcept {
    const bool whole = !host.empty() && host.size() <= detail::name_max &&
                       host.find('\0') == std::string_view::npos;
    if (context.state() == nullptr || context.state()->server || !whole) {
        return Error::invalid_argument;
    }
    auto* state = new (std::nothrow) detail::ClientState;
    if (state == nullptr) return Error::from_errno(ENOMEM);
    state->options = options;
    state->context = detail::share(context.state());
    std::copy(host.begin(), host.end(), state->host);
    return Client(state);
}

Client::~Client() { detail::release(state_); }
StreamLayer* Client::layer() const noexcept { return state_; }

}  // namespace whorl::tls
