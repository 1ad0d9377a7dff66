// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/bytes.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/result.hpp>
#include <whorl/stream.hpp>
#include <whorl/time.hpp>

#include <cstdint>
#include <string_view>
#include <utility>

// TLS 1.2 and 1.3 for streams, by OpenSSL 3: the library whorl::tls. A protocol that was written for TCP
// handles a stream with TLS unchanged; `opened` comes after the handshake.
//
//   auto context = tls::Context::server(certificates_and_key);    any thread, any number of loops
//   auto server = tls::Server::create(*context);                  one loop
//   AcceptorOptions options;
//   options.stream.layer = server->layer();
//   serve(loop, address, make, options);
//
//   auto client = tls::Client::create(*tls::Context::client(), "example.org");
//   StreamOptions options;
//   options.layer = client->layer();
//   attach(loop, connected.socket, Protocol{}, options);
//
// An end is TLS's own: end() and close() send close_notify, and `peer_closed` means that it has come. A
// connection that ends without it is cut off, by whomever: `closed` has tls_truncated. After abort(), a
// deadline or the loop's drain the peer sees that as well. There is no renegotiation, no compression
// and no early data; key updates are answered.

namespace whorl::tls {

namespace detail {
struct ContextState;
struct ServerState;
struct ClientState;
}  // namespace detail

// PEM, from a file or from memory.
struct Pem {
    const char* file = nullptr;  // its path; it is read when the context is made
    Bytes bytes = {};            // the text itself, where there is no file; need not live longer
    // Whether there is any.
    constexpr bool given() const noexcept { return file != nullptr || !bytes.empty(); }
};

// Versions of TLS. What is older is not spoken.
enum class Version : std::uint8_t {
    tls_1_2,  // RFC 5246
    tls_1_3,  // RFC 8446
};

// Whether a server asks its clients for a certificate.
enum class ClientCertificate : std::uint8_t {
    not_asked,  // anybody may connect
    optional,   // who shows none may connect; one that is not believed is refused
    required,   // who shows none is refused
};

// What a server shows, whom it believes, and what it speaks.
struct ServerOptions {
    Pem certificates;  // ours, then those between it and the authority
    Pem key;           // without a password
    // Of clients. One that is shown is verified against `trust`, without which nobody can be.
    ClientCertificate client = ClientCertificate::not_asked;
    Pem trust;  // authorities of clients' certificates
    // What we speak, by preference: "h2,http/1.1". A client that offers only other protocols is refused;
    // one that offers none is not.
    const char* alpn = nullptr;
    Version version_min = Version::tls_1_2;  // the oldest that is spoken
    bool resumption = true;  // by tickets, nothing is kept; they end with their context
};

// What a client believes, shows and speaks.
struct ClientOptions {
    Pem trust;  // authorities; none: those of the system
    // False: whoever answers is believed. For tests and for what is verified otherwise.
    bool verify = true;
    Pem certificates;                        // ours, if the server asks
    Pem key;                                 // of the certificate; both or none
    const char* alpn = nullptr;              // what is offered, by preference
    Version version_min = Version::tls_1_2;  // the oldest that is spoken
    bool resumption = true;                  // a Client keeps the tickets it is given
};

// What OpenSSL says of a context that could not be made.
struct Report {
    char text[256] = {};  // ends with a zero byte; empty when the context was made
};

// Certificates, keys and rules. Copies are the same one; it lives as long as one of them, or a
// connection that was begun with it. Thread: any; one that was made is never changed.
class WHORL_EXPORT Context {
  public:
    // Errors: tls_setup (a file cannot be read, a key does not belong to its certificate, no trust for
    // clients' certificates, bad ALPN; `report` has OpenSSL's reason), ENOMEM. Cost: reads files; do it
    // before the loop runs, or in work().
    static Result<Context> server(const ServerOptions& options, Report* report = nullptr) noexcept;
    // The same for clients. Errors: as server(). Without authorities, in a bare container, no server is
    // believed: that is told by the handshake.
    static Result<Context> client(const ClientOptions& options = {},
                                  Report* report = nullptr) noexcept;

    Context(const Context& other) noexcept;
    Context(Context&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Context& operator=(Context other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~Context();

    // For the library.
    detail::ContextState* state() const noexcept { return state_; }

  private:
    explicit Context(detail::ContextState* state) noexcept : state_(state) {}
    detail::ContextState* state_;
};

// Of a Server or a Client.
struct LayerOptions {
    // How long a handshake may take; the stream ends with timed_out. 0: for ever.
    Nanoseconds handshake = std::chrono::seconds(10);
};

// The layer of a server's streams. Lifetime: yours; until no stream is made with it, so longer than its
// acceptor. Streams that were made go on without it. Thread: one loop's.
class WHORL_EXPORT Server {
  public:
    // Errors: invalid_argument (a client's context), ENOMEM.
    static Result<Server> create(const Context& context, const LayerOptions& options = {}) noexcept;
    Server(Server&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Server& operator=(Server&& other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~Server();

    // For StreamOptions::layer and Stream::secure(). Null when it was moved from.
    StreamLayer* layer() const noexcept;

    // New connections use this context: certificates are renewed without a restart. Those that are open
    // keep theirs. Errors: invalid_argument (a client's context).
    Error use(const Context& context) noexcept;
    // The same for clients that ask for this name: "example.org", or "*.example.org" for one label more.
    // Others get the one without a name. Errors: invalid_argument (also a name that is empty or has
    // more than 253 bytes), ENOMEM. Cost: a connection looks through all names.
    Error use(std::string_view name, const Context& context) noexcept;

  private:
    explicit Server(detail::ServerState* state) noexcept : state_(state) {}
    detail::ServerState* state_;
};

// The layer of streams to one server, and what makes coming back to it quick: the tickets it gave us.
// Lifetime: yours; until no stream is made with it. Thread: one loop's.
class WHORL_EXPORT Client {
  public:
    // `host` is what the certificate must be for, and is told to the server (SNI): a name, or an IP
    // address, which is not told. Errors: invalid_argument (a server's context, an empty or long name),
    // ENOMEM.
    static Result<Client> create(const Context& context, std::string_view host,
                                 const LayerOptions& options = {}) noexcept;
    Client(Client&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Client& operator=(Client&& other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~Client();

    // For StreamOptions::layer and Stream::secure(). Null when it was moved from.
    StreamLayer* layer() const noexcept;

  private:
    explicit Client(detail::ClientState* state) noexcept : state_(state) {}
    detail::ClientState* state_;
};

// What was agreed; the texts are valid until the stream's `closed` has returned.
struct Info {
    const char* version = "";      // "TLSv1.3"
    const char* cipher = "";       // OpenSSL's name: "TLS_AES_256_GCM_SHA384"
    std::string_view alpn;         // the protocol agreed, or empty
    std::string_view server_name;  // that the client asked for, or empty
    bool resumed = false;          // an earlier session goes on: no certificate was sent
    bool certificate = false;      // the peer has shown one, now or when the session began
};

// All of these: from `opened` to `closed`. Thread: loop thread only.
// Errors: invalid_argument (the stream has no TLS, or its handshake has not ended).
WHORL_EXPORT Result<Info> info(const Stream& stream) noexcept;
// The peer's certificate in DER; null without one. Cost: an allocation.
WHORL_EXPORT Buffer peer_certificate(const Stream& stream) noexcept;
// OpenSSL's reason for the error that `closed` was told, such as "certificate has expired"; empty for
// other errors. Never null; valid until `closed` has returned.
WHORL_EXPORT const char* reason(const Stream& stream) noexcept;

}  // namespace whorl::tls
