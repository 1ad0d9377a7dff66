// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/stream_tools.hpp"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <whorl/acceptor.hpp>
#include <whorl/tls.hpp>

#include <memory>
#include <string>

// What the tests of TLS share: an authority that makes certificates, a TLS peer made of OpenSSL alone, and
// streams with TLS on both ends.
namespace whorl::conformance {

struct Identity {
    std::string certificate;
    std::string key;
};

inline X509* certificate_of(const Identity& identity) {
    BIO* const bio = BIO_new_mem_buf(identity.certificate.data(), -1);
    X509* const certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    return certificate;
}
inline EVP_PKEY* key_of(const Identity& identity) {
    BIO* const bio = BIO_new_mem_buf(identity.key.data(), -1);
    EVP_PKEY* const key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    return key;
}

class Authority {
  public:
    explicit Authority(const char* name = "Test Authority") : key_(new_key()) {
        certificate_ = make(name, "", -1, 30, key_, nullptr, key_);
    }
    ~Authority() {
        X509_free(certificate_);
        EVP_PKEY_free(key_);
    }
    Authority(const Authority&) = delete;
    Authority& operator=(const Authority&) = delete;

    std::string pem() const { return pem_of(certificate_); }
    X509* certificate() const { return certificate_; }
    // `alternative` is "DNS:..." or "IP:..."; valid from and until so many days from now.
    Identity issue(const std::string& alternative, int from = -1, int until = 30) const {
        return issue_by(certificate_, key_, "leaf", alternative, from, until);
    }
    // What somebody signs who has a certificate, but is no authority.
    static Identity issue_by(const Identity& signer, const std::string& alternative) {
        X509* const certificate = certificate_of(signer);
        EVP_PKEY* const key = key_of(signer);
        const Identity identity = issue_by(certificate, key, "other leaf", alternative, -1, 30);
        X509_free(certificate);
        EVP_PKEY_free(key);
        return identity;
    }
    static std::string drain(BIO* bio) {
        std::string text(BIO_ctrl_pending(bio), '\0');
        if (!text.empty()) BIO_read(bio, text.data(), static_cast<int>(text.size()));
        return text;
    }

  private:
    static Identity issue_by(X509* certificate, EVP_PKEY* signer, const char* name,
                             const std::string& alternative, int from, int until) {
        EVP_PKEY* const key = new_key();
        X509* const made = make(name, alternative, from, until, key, certificate, signer);
        Identity identity{pem_of(made), ""};
        BIO* const bio = BIO_new(BIO_s_mem());
        PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
        identity.key = drain(bio);
        BIO_free(bio);
        X509_free(made);
        EVP_PKEY_free(key);
        return identity;
    }
    // Signatures that are always of the same size, so that runs are alike.
    static EVP_PKEY* new_key() { return EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"); }
    static std::string pem_of(X509* certificate) {
        BIO* const bio = BIO_new(BIO_s_mem());
        PEM_write_bio_X509(bio, certificate);
        const std::string text = drain(bio);
        BIO_free(bio);
        return text;
    }
    static void extend(X509* certificate, X509* issuer, int kind, const char* value) {
        X509V3_CTX context;
        X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
        X509_EXTENSION* const made = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
        X509_add_ext(certificate, made, -1);
        X509_EXTENSION_free(made);
    }
    static X509* make(const char* name, const std::string& alternative, int from, int until,
                      EVP_PKEY* key, X509* issuer, EVP_PKEY* issuer_key) {
        static long serial = 1;
        X509* const made = X509_new();
        X509_set_version(made, 2);
        ASN1_INTEGER_set(X509_get_serialNumber(made), serial++);
        X509_time_adj_ex(X509_getm_notBefore(made), from, 0, nullptr);
        X509_time_adj_ex(X509_getm_notAfter(made), until, 0, nullptr);
        X509_set_pubkey(made, key);
        X509_NAME* const subject = X509_get_subject_name(made);
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
        X509* const signer = issuer != nullptr ? issuer : made;
        X509_set_issuer_name(made, X509_get_subject_name(signer));
        extend(made, signer, NID_basic_constraints,
               issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
        if (!alternative.empty()) extend(made, signer, NID_subject_alt_name, alternative.c_str());
        X509_sign(made, issuer_key, nullptr);
        return made;
    }

    EVP_PKEY* key_;
    X509* certificate_ = nullptr;
};

inline tls::Pem pem(const std::string& text) { return {nullptr, Bytes(text)}; }

// A peer of OpenSSL alone, between byte strings.
class RawTls {
  public:
    enum class Side { client, server };
    explicit RawTls(Side side, int version_max = TLS1_3_VERSION, const Identity* identity = nullptr)
        : context_(SSL_CTX_new(side == Side::server ? TLS_server_method() : TLS_client_method())) {
        SSL_CTX_set_max_proto_version(context_, version_max);
        if (identity != nullptr) use(*identity);
        ssl_ = SSL_new(context_);
        in_ = BIO_new(BIO_s_mem());
        out_ = BIO_new(BIO_s_mem());
        BIO_set_mem_eof_return(in_, -1);
        SSL_set_bio(ssl_, in_, out_);
        if (side == Side::server) SSL_set_accept_state(ssl_);
        else SSL_set_connect_state(ssl_);
    }
    ~RawTls() {
        SSL_free(ssl_);
        SSL_CTX_free(context_);
    }
    RawTls(const RawTls&) = delete;
    RawTls& operator=(const RawTls&) = delete;

    SSL* ssl() const { return ssl_; }
    bool ready() const { return SSL_is_init_finished(ssl_) == 1; }
    // What the other side said; what it means goes to `text`.
    void hear(const std::string& bytes) {
        if (!bytes.empty()) BIO_write(in_, bytes.data(), static_cast<int>(bytes.size()));
        char buffer[4096];
        if (!ready()) SSL_do_handshake(ssl_);
        for (int got; (got = SSL_read(ssl_, buffer, sizeof buffer)) > 0;) {
            text.append(buffer, static_cast<std::size_t>(got));
        }
        ended = (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0;
        failed = failed || ERR_peek_error() != 0;
        ERR_clear_error();
    }
    // What is to be sent.
    std::string say() { return Authority::drain(out_); }
    std::string sealed(const std::string& plain) {
        EXPECT_EQ(SSL_write(ssl_, plain.data(), static_cast<int>(plain.size())),
                  static_cast<int>(plain.size()));
        return say();
    }
    std::string close_notify() {
        SSL_shutdown(ssl_);
        return say();
    }

    std::string text;
    bool ended = false;
    bool failed = false;

  private:
    void use(const Identity& identity) {
        X509* const certificate = certificate_of(identity);
        SSL_CTX_use_certificate(context_, certificate);
        X509_free(certificate);
        EVP_PKEY* const key = key_of(identity);
        SSL_CTX_use_PrivateKey(context_, key);
        EVP_PKEY_free(key);
    }

    SSL_CTX* context_;
    SSL* ssl_;
    BIO* in_;
    BIO* out_;
};

class TlsTools : public StreamTools {
  protected:
    tls::ServerOptions server_options() const {
        tls::ServerOptions options;
        options.certificates = pem(identity.certificate);
        options.key = pem(identity.key);
        return options;
    }
    tls::ClientOptions client_options() const {
        tls::ClientOptions options;
        options.trust = pem(trusted);
        return options;
    }
    static tls::Context make_context(const tls::ServerOptions& options) {
        tls::Report report;
        auto made = tls::Context::server(options, &report);
        EXPECT_TRUE(made) << report.text;
        if (!made) std::abort();
        return *made;
    }
    static tls::Context make_context(const tls::ClientOptions& options) {
        tls::Report report;
        auto made = tls::Context::client(options, &report);
        EXPECT_TRUE(made) << report.text;
        if (!made) std::abort();
        return *made;
    }
    static tls::Server make_server(const tls::ServerOptions& options,
                                   const tls::LayerOptions& layer = {}) {
        auto made = tls::Server::create(make_context(options), layer);
        EXPECT_TRUE(made);
        return std::move(*made);
    }
    static tls::Client make_client(const tls::ClientOptions& options,
                                   std::string_view host = "test.example") {
        auto made = tls::Client::create(make_context(options), host);
        EXPECT_TRUE(made);
        return std::move(*made);
    }
    static StreamOptions layered(StreamLayer* layer) {
        StreamOptions options;
        options.layer = layer;
        return options;
    }
    // Two streams with TLS, until both have closed.
    static void run_both(Loop& loop, const StreamOptions& serving, Log& server,
                         const StreamOptions& asking, Log& client) {
        ListenOptions listening;
        listening.accepted.send_buffer = 65536;
        listening.accepted.receive_buffer = 65536;
        const Listener listener = listen_here(loop, listening);
        ASSERT_TRUE(loop.submit(Accept{listener}, [&](Loop&, Accept::Done done) {
            ASSERT_FALSE(done.error);
            attach_log(loop, done.socket, server, serving);
        }));
        const Address at = Address::loopback_v4(port_of(loop, listener));
        ASSERT_TRUE(loop.submit(Connect{at}, [&](Loop&, Connect::Done done) {
            ASSERT_FALSE(done.error);
            attach_log(loop, done.socket, client, asking);
        }));
        run_until(loop, [&] { return server.closed == 1 && client.closed == 1; });
        ASSERT_FALSE(loop.close(listener));
        run_until(loop, [&] { return loop.statistics().handles == 0; });
    }
    // The peer's bytes go to `raw` and back, until `done()`.
    template <class Done>
    static void run_raw(Loop& loop, Peer& peer, RawTls& raw, Done done) {
        turn_until(loop, [&] {
            raw.hear(receive_now(peer, 100'000));
            const std::string said = raw.say();
            if (!said.empty()) peer.send(said);
            return done();
        });
    }

    Authority authority;
    Identity identity = authority.issue("DNS:test.example,IP:192.0.2.1");
    std::string trusted = authority.pem();
};

}  // namespace whorl::conformance
