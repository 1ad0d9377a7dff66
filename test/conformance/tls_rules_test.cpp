// SPDX-License-Identifier: MIT
// Goal: what a context, a name or a peer may be is kept to at its borders, and what is beyond them has its
// error. Method: contexts of odd papers; ClientHellos by hand, whose server names are cut or lie about their
// size; peers of OpenSSL alone that want what is not spoken; tickets of both versions.
#include "conformance/tls_tools.hpp"

#include <climits>
#include <utility>

namespace whorl::conformance {
namespace {

class TlsRules : public TlsTools {
  protected:
    static std::string encrypted(const Identity& identity) {
        EVP_PKEY* const key = key_of(identity);
        BIO* const bio = BIO_new(BIO_s_mem());
        static unsigned char password[] = "secret";
        PEM_write_bio_PrivateKey(bio, key, EVP_aes_128_cbc(), password, 6, nullptr, nullptr);
        std::string text = Authority::drain(bio);
        BIO_free(bio);
        EVP_PKEY_free(key);
        return text;
    }
    // A server's stream, and what its raw peer makes of it; until the stream has closed.
    static void refuse_raw(Loop& loop, const tls::Server& server, RawTls& raw, Log& log) {
        Pair pair = make_pair(loop);
        attach_log(loop, pair.socket, log, layered(server.layer()));
        raw.hear("");
        pair.peer.send(raw.say());
        turn_until(loop, [&] {
            raw.hear(receive_now(pair.peer, 100'000));
            return raw.failed;
        });
        pair.peer.finish_sending();
        run_closed(loop, log);
        pair.peer.close();
        expect_gone(loop, log);
    }
    // Both ends, and whether the session of an earlier connection was resumed.
    static bool resumed(Loop& loop, const tls::Server& server, const tls::Client& client) {
        Log there, here;
        bool again = false;
        there.on_received = [](Stream& stream, std::string_view text) { stream.write(text); };
        here.on_opened = [&again](Stream& stream) {
            again = tls::info(stream)->resumed;
            stream.write("hello");
        };
        here.on_received = [](Stream& stream, std::string_view) { stream.close(); };
        run_both(loop, layered(server.layer()), there, layered(client.layer()), here);
        EXPECT_FALSE(here.reason.error) << here.reason.error.text();
        EXPECT_EQ(here.text, "hello");
        return again;
    }
};
WHORL_CONFORMANCE(TlsRules);

TEST_P(TlsRules, contexts_of_odd_papers) {
    const std::string broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const std::string locked = encrypted(identity);
    ASSERT_NE(locked.find("ENCRYPTED"), std::string::npos);
    const tls::Pem huge{nullptr, Bytes(identity.certificate.data(), std::size_t{INT_MAX} + 1)};
    const tls::Pem nowhere{"/nowhere/to.pem"};
    const tls::Pem folder{"/"};
    const auto server = [&](auto change) {
        tls::ServerOptions options = server_options();
        change(options);
        tls::Report report;
        const auto made = tls::Context::server(options, &report);
        EXPECT_EQ(made.error(), Error::tls_setup);
        return std::string(report.text);
    };
    const auto starts = [](const std::string& text, std::string_view with) {
        EXPECT_EQ(std::string_view(text).substr(0, with.size()), with);
    };
    starts(server([&](auto& o) { o.certificates = huge; }), "certificates");
    starts(server([&](auto& o) { o.certificates = folder; }), "certificate");
    starts(server([&](auto& o) { o.key = pem(locked); }), "key: ");
    starts(server([&](auto& o) { o.key = huge; }), "key");
    starts(server([&](auto& o) { o.key = nowhere; }), "key: No such file");
    starts(server([&](auto& o) { o.key = pem(identity.certificate); }), "key: ");
    const auto trusting = [&](const tls::Pem& trust) {
        return server([&](auto& o) {
            o.client = tls::ClientCertificate::optional;
            o.trust = trust;
        });
    };
    const std::string cut = trusted + broken;
    starts(trusting(nowhere), "trust: No such file");
    starts(trusting(huge), "trust");
    starts(trusting(pem(cut)), "trust: ");

    const auto client = [&](auto change) {
        tls::ClientOptions options = client_options();
        change(options);
        tls::Report report;
        const auto made = tls::Context::client(options, &report);
        EXPECT_EQ(made.error(), Error::tls_setup);
        return std::string(report.text);
    };
    starts(client([&](auto& o) { o.trust = pem(cut); }), "trust: ");
    starts(client([&](auto& o) { o.certificates = pem(trusted); }), "a certificate has a key");
    const auto shows = [&](const std::string& certificate, const std::string& key) {
        return client([&](auto& o) { o.certificates = pem(certificate), o.key = pem(key); });
    };
    starts(shows(broken, identity.key), "certificate: ");
    starts(shows(trusted, identity.key), "key: ");
    starts(client([](auto& o) { o.alpn = "a,,b"; }), "alpn");
    EXPECT_TRUE(tls::Context::client()) << "who believes the system's authorities";
}

TEST_P(TlsRules, what_was_moved_from_is_no_context) {
    tls::Context whole = make_context(server_options());
    tls::Context gone = whole;
    tls::Context taken = std::move(gone);
    EXPECT_NE(taken.state(), nullptr);
    EXPECT_EQ(tls::Server::create(gone).error(), Error::invalid_argument);
    EXPECT_EQ(tls::Client::create(gone, "a").error(), Error::invalid_argument);
    tls::Server server = std::move(*tls::Server::create(whole));
    EXPECT_EQ(server.use(gone), Error::invalid_argument);
    EXPECT_EQ(server.use(make_context(client_options())), Error::invalid_argument);
    EXPECT_EQ(server.use("a", gone), Error::invalid_argument);
    const tls::Context copy = gone;
    EXPECT_EQ(copy.state(), nullptr);
    const tls::Server moved = std::move(server);
    EXPECT_EQ(server.layer(), nullptr);
    EXPECT_NE(moved.layer(), nullptr);
}

// RFC 8446 section 4.1.2, and RFC 6066 section 3 for the name.
std::string hello_with_name(const std::string& extension) {
    const auto two = [](std::size_t size) {
        return std::string{static_cast<char>(size >> 8), static_cast<char>(size)};
    };
    const std::string extensions = two(0) + two(extension.size()) + extension;
    const std::string zero(1, '\0');
    const std::string body = "\x03\x03" + std::string(32, 'r') + zero + two(2) + "\x13\x01" +
                             "\x01" + zero + two(extensions.size()) + extensions;
    const std::string message = "\x01" + zero + two(body.size()) + body;
    return "\x16\x03\x01" + two(message.size()) + message;
}

TEST_P(TlsRules, a_server_name_that_is_none) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    tls::Server server = make_server(server_options());
    ASSERT_FALSE(server.use("test.example", make_context(server_options())));
    ASSERT_FALSE(server.use("*.example", make_context(server_options())));
    const std::string name = "test.example";
    const auto list = [&](char kind, std::size_t claimed) {
        const auto size = static_cast<char>(name.size());
        return std::string{0, static_cast<char>(size + 3), kind, 0, static_cast<char>(claimed)} +
               name;
    };
    const struct {
        std::string extension;
        Error error;
    } cases[] = {
        {"", Error::tls_malformed},
        {list(0, name.size()).substr(0, 4), Error::tls_malformed},
        {list(1, name.size()), Error::tls_malformed},
        {list(0, name.size() + 1), Error::tls_malformed},
        {list(0, 0xFF), Error::tls_malformed},
        // This one is as it should be; what the rest of the message lacks is missed later.
        {list(0, name.size()), Error::tls_mismatch},
    };
    for (const auto& the : cases) {
        Pair pair = make_pair(loop);
        Log log;
        attach_log(loop, pair.socket, log, layered(server.layer()));
        pair.peer.send(hello_with_name(the.extension));
        std::string alert;
        turn_until(loop, [&] {
            alert += receive_now(pair.peer, 100);
            return !alert.empty();
        });
        EXPECT_EQ(alert.front(), SSL3_RT_ALERT);
        pair.peer.finish_sending();
        run_closed(loop, log);
        EXPECT_EQ(log.calls, "c");
        EXPECT_EQ(log.reason.error, the.error) << log.reason.error.text() << the.extension.size();
        pair.peer.close();
        expect_gone(loop, log);
    }
}

// A star stands for a label, which is not empty.
TEST_P(TlsRules, a_name_that_begins_with_a_dot_is_not_under_a_star) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    tls::Server server = make_server(server_options());
    const Identity starred = authority.issue("DNS:*.example");
    tls::ServerOptions other = server_options();
    other.certificates = pem(starred.certificate);
    other.key = pem(starred.key);
    ASSERT_FALSE(server.use("*.example", make_context(other)));
    const struct {
        const char* name;
        const Identity* shown;
    } cases[] = {{"a.example", &starred}, {".example", &identity}, {"example", &identity}};
    for (const auto& the : cases) {
        Pair pair = make_pair(loop);
        Log log;
        attach_log(loop, pair.socket, log, layered(server.layer()));
        RawTls raw(RawTls::Side::client);
        ASSERT_EQ(SSL_set_tlsext_host_name(raw.ssl(), the.name), 1);
        raw.hear("");
        run_raw(loop, pair.peer, raw, [&] { return raw.ready() && log.has('o'); });
        X509* const expected = certificate_of(*the.shown);
        EXPECT_EQ(X509_cmp(SSL_get0_peer_certificate(raw.ssl()), expected), 0) << the.name;
        X509_free(expected);
        pair.peer.send(raw.close_notify());
        run_closed(loop, log);
        EXPECT_FALSE(log.reason.error);
        pair.peer.close();
        expect_gone(loop, log);
    }
}

TEST_P(TlsRules, a_peer_that_wants_what_is_not_spoken) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    const struct {
        const char* what;
        int version;
        std::function<int(SSL*)> want;
    } cases[] = {
        {"a cipher of another kind of key", TLS1_2_VERSION,
         [](SSL* ssl) { return SSL_set_cipher_list(ssl, "AES128-SHA"); }},
        {"signatures of another kind of key", TLS1_3_VERSION,
         [](SSL* ssl) { return SSL_set1_sigalgs_list(ssl, "RSA-PSS+SHA256"); }},
        {"a group that is not ours", TLS1_2_VERSION,
         [](SSL* ssl) { return SSL_set1_groups_list(ssl, "brainpoolP256r1:secp256k1"); }},
        {"an older version than it could have", TLS1_2_VERSION,
         [](SSL* ssl) { return SSL_set_mode(ssl, SSL_MODE_SEND_FALLBACK_SCSV) != 0; }},
    };
    for (const auto& the : cases) {
        RawTls raw(RawTls::Side::client, the.version);
        ASSERT_EQ(the.want(raw.ssl()), 1) << the.what;
        Log log;
        std::string why;
        log.on_closed = [&why](Stream& stream) { why = tls::reason(stream); };
        refuse_raw(loop, server, raw, log);
        EXPECT_EQ(log.calls, "c");
        EXPECT_EQ(log.reason.error, Error::tls_mismatch) << the.what << ": " << why;
        EXPECT_FALSE(raw.ready());
    }
}

// The attack on BasicConstraints: whoever has a certificate signs more of them.
TEST_P(TlsRules, who_has_a_certificate_is_no_authority) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Identity signer = authority.issue("DNS:signer.example");
    Identity signed_by = Authority::issue_by(signer, "DNS:test.example");
    signed_by.certificate += signer.certificate;
    tls::ServerOptions serving = server_options();
    serving.certificates = pem(signed_by.certificate);
    serving.key = pem(signed_by.key);
    const tls::Server server = make_server(serving);
    const tls::Client client = make_client(client_options());
    Log there, here;
    std::string why;
    here.on_closed = [&why](Stream& stream) { why = tls::reason(stream); };
    run_both(loop, layered(server.layer()), there, layered(client.layer()), here);
    EXPECT_EQ(here.calls, "c");
    EXPECT_EQ(here.reason.error, Error::tls_refused) << why;
    EXPECT_EQ(there.reason.error, Error::tls_alert);
}

TEST_P(TlsRules, nothing_is_told_before_the_handshake_has_ended) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    Pair pair = make_pair(loop);
    Log log;
    Stream& stream = attach_log(loop, pair.socket, log, layered(server.layer()));
    EXPECT_EQ(tls::info(stream).error(), Error::invalid_argument);
    EXPECT_FALSE(tls::peer_certificate(stream));
    EXPECT_STREQ(tls::reason(stream), "");
    stream.close();
    pair.peer.finish_sending();
    run_closed(loop, log);
    EXPECT_EQ(log.calls, "c");
    EXPECT_EQ(log.reason.by, ClosedBy::us);
    EXPECT_EQ(receive_now(pair.peer, 100), "") << "no close_notify before there are keys";
    pair.peer.close();
    expect_gone(loop, log);
    Pair plain = make_pair(loop);
    Log other;
    EXPECT_FALSE(tls::peer_certificate(attach_log(loop, plain.socket, other))) << "no TLS at all";
    plain.peer.close();
    run_closed(loop, other);
    expect_gone(loop, other);
}

// A server gives two tickets, a client keeps some: it goes on with those, however often it comes.
TEST_P(TlsRules, tickets_are_kept_within_bounds) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    const tls::Client client = make_client(client_options());
    for (int time = 0; time < 8; ++time)
        EXPECT_EQ(resumed(loop, server, client), time != 0) << time;
    tls::ClientOptions asking = client_options();
    asking.resumption = false;
    const tls::Client forgetful = make_client(asking);
    for (int time = 0; time < 3; ++time) EXPECT_FALSE(resumed(loop, server, forgetful));
}

// With TLS 1.2 a ticket may be used again, when the server gives no other.
TEST_P(TlsRules, a_ticket_of_the_older_version_is_used_again) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Client client = make_client(client_options());
    for (int time = 0; time < 4; ++time) {
        RawTls raw(RawTls::Side::server, TLS1_2_VERSION, &identity);
        // All of them are one server: the first one's keys for tickets are those of all.
        static const unsigned char same[80] = {};
        ASSERT_EQ(SSL_CTX_set_tlsext_ticket_keys(SSL_get_SSL_CTX(raw.ssl()),
                                                 const_cast<unsigned char*>(same), sizeof same),
                  1);
        Pair pair = make_pair(loop);
        Log log;
        bool again = false;
        log.on_opened = [&again](Stream& stream) { again = tls::info(stream)->resumed; };
        attach_log(loop, pair.socket, log, layered(client.layer()));
        run_raw(loop, pair.peer, raw, [&] { return raw.ready() && log.has('o'); });
        EXPECT_EQ(again, time != 0) << time;
        pair.peer.send(raw.close_notify());
        run_closed(loop, log);
        EXPECT_FALSE(log.reason.error) << log.reason.error.text();
        pair.peer.close();
        expect_gone(loop, log);
    }
}

}  // namespace
}  // namespace whorl::conformance
