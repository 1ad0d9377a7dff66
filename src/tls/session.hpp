// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include "stream/filter.hpp"
#include "tls/context.hpp"

#include <openssl/ssl.h>

namespace whorl::tls::detail {

struct ServerState;
struct ClientState;

// One connection's TLS: OpenSSL between two byte queues. It reads what unseal() was given, as long as
// that call lasts (it keeps what it cannot use yet itself), and writes to `sealed`.
class Session final : public whorl::detail::StreamFilter {
  public:
    // Owns: `ssl`. Exactly one of the layers is given; it is shared, and so is its context.
    Session(Loop& its_loop, SSL& ssl, ContextState& context, ServerState* server,
            ClientState* client) noexcept;
    ~Session() override;

    Unsealed unseal(Bytes& input, Buffer& output) noexcept override;
    Error seal(Bytes plain) noexcept override;
    void end() noexcept override;
    const void* kind() const noexcept override;

    static Session* of(const Stream& stream) noexcept;
    static Session& of(const SSL& ssl) noexcept;
    // Another context takes over, with its callbacks, and is kept.
    bool use(ContextState& context) noexcept;
    // Connects OpenSSL's ends. False: no memory.
    bool connect() noexcept;
    const SSL& ssl() const noexcept { return *ssl_; }
    const char* reason() const noexcept { return reason_; }
    ServerState* server() const noexcept { return server_; }
    ClientState* client() const noexcept { return client_; }

  private:
    static BIO_METHOD* bio_method() noexcept;
    static int bio_write(BIO* bio, const char* data, int size);
    static int bio_read(BIO* bio, char* data, int size);
    static long bio_control(BIO* bio, int command, long number, void* pointer);
    Error shake() noexcept;
    Unsealed read(Buffer& output) noexcept;
    Error failure() noexcept;

    SSL* ssl_;
    ServerState* server_;
    ClientState* client_;
    ContextState* context_;
    Bytes* input_ = nullptr;
    bool no_memory_ = false;
    char reason_[128] = {};
};

// What a context's OpenSSL calls back.
void use_server_callbacks(ContextState& state) noexcept;
void use_client_callbacks(ContextState& state) noexcept;

}  // namespace whorl::tls::detail
