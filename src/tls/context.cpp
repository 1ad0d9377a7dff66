// SPDX-License-Identifier: MIT
// Floor: 6
#include "tls/context.hpp"

#include "tls/failure.hpp"
#include "tls/session.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include <cerrno>
#include <climits>
#include <memory>
#include <new>

namespace whorl::tls {

namespace detail {

namespace {

struct Freer {
    void operator()(BIO* bio) const noexcept { BIO_free(bio); }
    void operator()(X509* certificate) const noexcept { X509_free(certificate); }
    void operator()(EVP_PKEY* key) const noexcept { EVP_PKEY_free(key); }
};
template <class T>
using Owned = std::unique_ptr<T, Freer>;

Owned<BIO> open(const Pem& pem) noexcept {
    if (pem.file != nullptr) return Owned<BIO>(BIO_new_file(pem.file, "r"));
    if (pem.bytes.size > INT_MAX) return nullptr;
    return Owned<BIO>(BIO_new_mem_buf(pem.bytes.data, static_cast<int>(pem.bytes.size)));
}

// Nobody is there to be asked for a password.
int no_password(char*, int, int, void*) noexcept { return 0; }

Owned<X509> next_certificate(BIO& bio) noexcept {
    return Owned<X509>(PEM_read_bio_X509_AUX(&bio, nullptr, &no_password, nullptr));
}

// The end of a PEM file is an error like others; this says whether it was only that.
bool only_the_end() noexcept {
    const unsigned long last = ERR_peek_last_error();
    const bool end =
        ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    if (end) ERR_clear_error();
    return end;
}

// Each of these returns null, or what was wrong.
const char* use_certificates(SSL_CTX& ssl, const Pem& pem) noexcept {
    const Owned<BIO> bio = open(pem);
    if (!bio) return "certificates";
    const Owned<X509> own = next_certificate(*bio);
    if (!own || SSL_CTX_use_certificate(&ssl, own.get()) != 1) return "certificate";
    while (Owned<X509> between = next_certificate(*bio)) {
        if (SSL_CTX_add0_chain_cert(&ssl, between.get()) != 1) return "certificates";
        static_cast<void>(between.release());
    }
    return only_the_end() ? nullptr : "certificates";
}

const char* use_key(SSL_CTX& ssl, const Pem& pem) noexcept {
    const Owned<BIO> bio = open(pem);
    if (!bio) return "key";
    const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, &no_password, nullptr));
    if (!key || SSL_CTX_use_PrivateKey(&ssl, key.get()) != 1) return "key";
    return SSL_CTX_check_private_key(&ssl) == 1 ? nullptr : "key";
}

const char* use_trust(SSL_CTX& ssl, const Pem& pem, bool tell) noexcept {
    const Owned<BIO> bio = open(pem);
    if (!bio) return "trust";
    int count = 0;
    while (const Owned<X509> authority = next_certificate(*bio)) {
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(&ssl), authority.get()) != 1) return "trust";
        if (tell && SSL_CTX_add_client_CA(&ssl, authority.get()) != 1) return "trust";
        ++count;
    }
    if (!only_the_end()) return "trust";
    return count != 0 ? nullptr : "trust has no certificate";
}

const char* use_alpn(ContextState& state, const char* names) noexcept {
    if (names == nullptr) return nullptr;
    std::string_view left(names);
    while (!left.empty()) {
        const std::size_t size = std::min(left.find(','), left.size());
        if (size == 0 || state.alpn_size + 1 + size > sizeof state.alpn) return "alpn";
        state.alpn[state.alpn_size++] = static_cast<unsigned char>(size);
        for (const char byte : left.substr(0, size)) {
            state.alpn[state.alpn_size++] = static_cast<unsigned char>(byte);
        }
        left.remove_prefix(std::min(size + 1, left.size()));
    }
    return state.alpn_size != 0 ? nullptr : "alpn";
}

const char* use_common(ContextState& state, Version version_min) noexcept {
    const int version = version_min == Version::tls_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
    if (SSL_CTX_set_min_proto_version(state.ssl, version) != 1) return "version";
    SSL_CTX_set_options(state.ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    // An idle connection keeps no buffers.
    SSL_CTX_set_mode(state.ssl, SSL_MODE_RELEASE_BUFFERS);
    if (!state.resumption) {
        SSL_CTX_set_options(state.ssl, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(state.ssl, 0);
    }
    return nullptr;
}

// A session is resumed only with the context that it was begun with: another one may ask for more.
bool use_session_name(SSL_CTX& ssl) noexcept {
    unsigned char name[SSL_MAX_SID_CTX_LENGTH];
    return RAND_bytes(name, sizeof name) == 1 &&
           SSL_CTX_set_session_id_context(&ssl, name, sizeof name) == 1;
}

const char* set_up_server(ContextState& state, const ServerOptions& options) noexcept {
    SSL_CTX& ssl = *state.ssl;
    if (const char* wrong = use_common(state, options.version_min)) return wrong;
    SSL_CTX_set_session_cache_mode(&ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_dh_auto(&ssl, 1);
    if (!use_session_name(ssl)) return "session";
    if (!options.certificates.given() || !options.key.given()) {
        return "a server has a certificate and a key";
    }
    if (const char* wrong = use_certificates(ssl, options.certificates)) return wrong;
    if (const char* wrong = use_key(ssl, options.key)) return wrong;
    if (options.client != ClientCertificate::not_asked) {
        if (!options.trust.given()) return "trust is needed to verify clients";
        if (const char* wrong = use_trust(ssl, options.trust, true)) return wrong;
        const bool required = options.client == ClientCertificate::required;
        SSL_CTX_set_verify(&ssl, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           nullptr);
    }
    if (const char* wrong = use_alpn(state, options.alpn)) return wrong;
    use_server_callbacks(state);
    return nullptr;
}

const char* set_up_client(ContextState& state, const ClientOptions& options) noexcept {
    SSL_CTX& ssl = *state.ssl;
    if (const char* wrong = use_common(state, options.version_min)) return wrong;
    SSL_CTX_set_verify(&ssl, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    if (options.trust.given()) {
        if (const char* wrong = use_trust(ssl, options.trust, false)) return wrong;
    } else if (options.verify && SSL_CTX_set_default_verify_paths(&ssl) != 1) {
        return "the system's trust";
    }
    if (options.certificates.given() != options.key.given()) return "a certificate has a key";
    if (options.certificates.given()) {
        if (const char* wrong = use_certificates(ssl, options.certificates)) return wrong;
        if (const char* wrong = use_key(ssl, options.key)) return wrong;
    }
    if (const char* wrong = use_alpn(state, options.alpn)) return wrong;
    if (state.alpn_size != 0 &&
        SSL_CTX_set_alpn_protos(&ssl, state.alpn, static_cast<unsigned>(state.alpn_size)) != 0) {
        return "alpn";
    }
    use_client_callbacks(state);
    return nullptr;
}

template <class Options, class SetUp>
Result<ContextState*> make(const SSL_METHOD* method, const Options& options, SetUp set_up,
                           Report* report) noexcept {
    ERR_clear_error();
    auto* state = new (std::nothrow) ContextState;
    if (state == nullptr) return Error::from_errno(ENOMEM);
    state->ssl = SSL_CTX_new(method);
    state->server = method == TLS_server_method();
    state->resumption = options.resumption;
    const char* wrong = state->ssl == nullptr ? "OpenSSL" : set_up(*state, options);
    if (wrong == nullptr) return state;
    Report unread;
    Report& said = report != nullptr ? *report : unread;
    describe(wrong, said.text, sizeof said.text);
    release(state);
    return Error::tls_setup;
}

}  // namespace

void release(ContextState* state) noexcept {
    if (state == nullptr || state->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    delete state;
}

}  // namespace detail

Result<Context> Context::server(const ServerOptions& options, Report* report) noexcept {
    const auto made = detail::make(TLS_server_method(), options, &detail::set_up_server, report);
    if (!made) return made.error();
    return Context(*made);
}

Result<Context> Context::client(const ClientOptions& options, Report* report) noexcept {
    const auto made = detail::make(TLS_client_method(), options, &detail::set_up_client, report);
    if (!made) return made.error();
    return Context(*made);
}

Context::Context(const Context& other) noexcept : state_(detail::share(other.state_)) {}
Context::~Context() { detail::release(state_); }

}  // namespace whorl::tls
