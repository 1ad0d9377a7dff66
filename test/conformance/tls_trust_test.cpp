// SPDX-License-Identifier: MIT
// Goal: who a peer is, is verified unless it is switched off, and each way to fail has its error and
// OpenSSL's reason; names choose contexts, contexts are renewed, tickets resume.
// Method: TLS streams on both ends, with certificates that are made for each case.
#include "conformance/tls_tools.hpp"

namespace whorl::conformance {
namespace {

class TlsTrust : public TlsTools {
  protected:
    struct Outcome {
        Log there, here;
        std::string there_why, here_why;
        std::string there_alpn, here_alpn;
        std::string shown;  // the certificate that the client saw
        bool resumed = false;
        bool client_shown = false;
    };
    // One connection: the client says "hello", the server echoes it, the client closes.
    void converse(Loop& loop, const tls::Server& server, const tls::Client& client, Outcome& the) {
        the.there.on_opened = [&the](Stream& stream) {
            the.there_alpn = tls::info(stream)->alpn;
            the.client_shown = tls::info(stream)->certificate;
        };
        the.there.on_received = [](Stream& stream, std::string_view text) { stream.write(text); };
        the.there.on_closed = [&the](Stream& stream) { the.there_why = tls::reason(stream); };
        the.here.on_opened = [&the](Stream& stream) {
            the.here_alpn = tls::info(stream)->alpn;
            the.resumed = tls::info(stream)->resumed;
            the.shown = tls::peer_certificate(stream).text();
            stream.write("hello");
        };
        the.here.on_received = [](Stream& stream, std::string_view) { stream.close(); };
        the.here.on_closed = [&the](Stream& stream) { the.here_why = tls::reason(stream); };
        run_both(loop, layered(server.layer()), the.there, layered(client.layer()), the.here);
        expect_gone(loop, the.there);
        expect_gone(loop, the.here);
    }
    static void expect_good(const Outcome& the) {
        EXPECT_EQ(the.there.reason.by, ClosedBy::peer);
        EXPECT_FALSE(the.there.reason.error) << the.there_why;
        EXPECT_EQ(the.here.reason.by, ClosedBy::us);
        EXPECT_FALSE(the.here.reason.error) << the.here_why;
        EXPECT_EQ(the.there.text, "hello");
        EXPECT_EQ(the.here.text, "hello");
    }
};
WHORL_CONFORMANCE(TlsTrust);

TEST_P(TlsTrust, a_servers_certificate) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct Case {
        const char* alternative;
        int from;
        int until;
        const char* host;
        bool known;
        Error error;
        const char* why;
        const char* alert;
    };
    const char* const unknown = "unable to get local issuer certificate";
    const Case cases[] = {
        {"DNS:test.example", -1, 30, "test.example", true, {}, "", ""},
        {"DNS:test.example", -1, 30, "TEST.example", true, {}, "", ""},
        {"DNS:*.test.example", -1, 30, "a.test.example", true, {}, "", ""},
        {"IP:192.0.2.1", -1, 30, "192.0.2.1", true, {}, "", ""},
        {"IP:2001:db8::1", -1, 30, "2001:db8::1", true, {}, "", ""},
        {"DNS:test.example", -9, -1, "test.example", true, Error::tls_expired,
         "certificate has expired", "sslv3 alert certificate expired"},
        {"DNS:test.example", 1, 9, "test.example", true, Error::tls_expired,
         "certificate is not yet valid", "sslv3 alert bad certificate"},
        {"DNS:test.example", -1, 30, "other.example", true, Error::tls_wrong_name,
         "hostname mismatch", "sslv3 alert bad certificate"},
        {"DNS:*.test.example", -1, 30, "a.b.test.example", true, Error::tls_wrong_name,
         "hostname mismatch", "sslv3 alert bad certificate"},
        {"IP:192.0.2.1", -1, 30, "192.0.2.2", true, Error::tls_wrong_name, "IP address mismatch",
         "sslv3 alert bad certificate"},
        {"DNS:test.example", -1, 30, "test.example", false, Error::tls_untrusted, unknown,
         "tlsv1 alert unknown ca"},
    };
    const Authority other("Another Authority");
    for (const Case& the : cases) {
        identity = authority.issue(the.alternative, the.from, the.until);
        trusted = the.known ? authority.pem() : other.pem();
        for (const bool verify : {true, false}) {
            tls::ClientOptions options = client_options();
            options.verify = verify;
            Outcome outcome;
            const tls::Server server = make_server(server_options());
            const tls::Client client = make_client(options, the.host);
            converse(loop, server, client, outcome);
            if (!verify || !the.error) {
                expect_good(outcome);
                continue;
            }
            EXPECT_EQ(outcome.here.calls, "c");
            EXPECT_EQ(outcome.here.reason.by, ClosedBy::error);
            EXPECT_EQ(outcome.here.reason.error, the.error) << outcome.here.reason.error.text();
            EXPECT_EQ(outcome.here_why, the.why);
            EXPECT_EQ(outcome.there.calls, "c") << "the server learns why, and is not opened";
            EXPECT_EQ(outcome.there.reason.error, Error::tls_alert);
            EXPECT_EQ(outcome.there_why, the.alert);
        }
    }
}

TEST_P(TlsTrust, a_clients_certificate) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Authority clients("Authority of Clients"), other("Another Authority");
    const Identity good = clients.issue("DNS:client.example");
    const Identity old = clients.issue("DNS:client.example", -9, -1);
    const Identity strange = other.issue("DNS:client.example");
    const std::string clients_pem = clients.pem();
    using tls::ClientCertificate;
    struct Case {
        ClientCertificate asked;
        const Identity* shown;
        Error error;
    };
    const Case cases[] = {
        {ClientCertificate::not_asked, &good, {}},
        {ClientCertificate::optional, nullptr, {}},
        {ClientCertificate::optional, &good, {}},
        {ClientCertificate::optional, &strange, Error::tls_untrusted},
        {ClientCertificate::required, nullptr, Error::tls_no_certificate},
        {ClientCertificate::required, &good, {}},
        {ClientCertificate::required, &old, Error::tls_expired},
        {ClientCertificate::required, &strange, Error::tls_untrusted},
    };
    for (const Case& the : cases) {
        tls::ServerOptions serving = server_options();
        serving.client = the.asked;
        serving.trust = pem(clients_pem);
        tls::ClientOptions asking = client_options();
        if (the.shown != nullptr) {
            asking.certificates = pem(the.shown->certificate);
            asking.key = pem(the.shown->key);
        }
        Outcome outcome;
        const tls::Server server = make_server(serving);
        const tls::Client client = make_client(asking);
        converse(loop, server, client, outcome);
        if (!the.error) {
            expect_good(outcome);
            EXPECT_EQ(outcome.client_shown,
                      the.asked != ClientCertificate::not_asked && the.shown != nullptr);
            continue;
        }
        EXPECT_EQ(outcome.there.calls, "c");
        EXPECT_EQ(outcome.there.reason.by, ClosedBy::error);
        EXPECT_EQ(outcome.there.reason.error, the.error) << outcome.there.reason.error.text();
        EXPECT_NE(outcome.there_why, "");
        // With TLS 1.3 a client is done before the server has looked.
        EXPECT_EQ(outcome.here.calls, "oc");
        EXPECT_EQ(outcome.here.reason.error, Error::tls_alert);
    }
}

TEST_P(TlsTrust, protocols_are_agreed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct Case {
        const char* server;
        const char* client;
        const char* agreed;  // null: refused
    };
    const Case cases[] = {{"h2,http/1.1", "http/1.1,h2", "h2"},
                          {"h2,http/1.1", "spdy,http/1.1", "http/1.1"},
                          {"h2", nullptr, ""},
                          {nullptr, "h2", ""},
                          {"h2", "http/1.1", nullptr}};
    for (const Case& the : cases) {
        tls::ServerOptions serving = server_options();
        serving.alpn = the.server;
        tls::ClientOptions asking = client_options();
        asking.alpn = the.client;
        Outcome outcome;
        const tls::Server server = make_server(serving);
        const tls::Client client = make_client(asking);
        converse(loop, server, client, outcome);
        if (the.agreed != nullptr) {
            expect_good(outcome);
            EXPECT_EQ(outcome.there_alpn, the.agreed);
            EXPECT_EQ(outcome.here_alpn, the.agreed);
            continue;
        }
        EXPECT_EQ(outcome.there.reason.error, Error::tls_mismatch) << outcome.there_why;
        EXPECT_EQ(outcome.here.reason.error, Error::tls_alert);
        EXPECT_EQ(outcome.here_why, "tlsv1 alert no application protocol");
    }
}

TEST_P(TlsTrust, versions_must_meet) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    tls::ServerOptions serving = server_options();
    serving.version_min = tls::Version::tls_1_3;
    const tls::Server server = make_server(serving);
    for (const int version : {TLS1_1_VERSION, TLS1_2_VERSION}) {
        Pair pair = make_pair(loop);
        Log log;
        attach_log(loop, pair.socket, log, layered(server.layer()));
        RawTls raw(RawTls::Side::client, version);
        SSL_set_security_level(raw.ssl(), 0);
        raw.hear("");
        pair.peer.send(raw.say());
        turn_until(loop, [&] {
            const std::string alert = receive_now(pair.peer, 1000);
            raw.hear(alert);
            return !alert.empty();
        });
        pair.peer.finish_sending();
        run_closed(loop, log);
        EXPECT_EQ(log.reason.error, Error::tls_mismatch) << log.reason.error.text();
        EXPECT_FALSE(raw.ready());
        pair.peer.close();
        expect_gone(loop, log);
    }
}

// Names choose, renewal takes effect with the next connection, and what a name asks for counts.
TEST_P(TlsTrust, names_choose_a_context_and_contexts_are_renewed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto der = [&](const std::string& certificate) {
        BIO* const bio = BIO_new_mem_buf(certificate.data(), -1);
        X509* const read = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
        unsigned char* bytes = nullptr;
        const int size = i2d_X509(read, &bytes);
        std::string text(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
        OPENSSL_free(bytes);
        X509_free(read);
        BIO_free(bio);
        return text;
    };
    const auto with = [&](const Identity& shown, const char* alpn) {
        tls::ServerOptions options;
        options.certificates = pem(shown.certificate);
        options.key = pem(shown.key);
        options.alpn = alpn;
        return make_context(options);
    };
    const Identity first = authority.issue("DNS:a.example,DNS:b.example,DNS:x.c.example");
    const Identity named = authority.issue("DNS:b.example");
    const Identity starred = authority.issue("DNS:*.c.example,DNS:c.example");
    tls::Server server = std::move(*tls::Server::create(with(first, "one")));
    EXPECT_FALSE(server.use("B.example", with(named, "two")));
    EXPECT_FALSE(server.use("*.c.example", with(starred, "three")));
    EXPECT_EQ(server.use("", with(named, "two")), Error::invalid_argument);
    EXPECT_EQ(server.use(std::string(254, 'a'), with(named, "two")), Error::invalid_argument);
    EXPECT_EQ(server.use("a", make_context(client_options())), Error::invalid_argument);

    const auto expect = [&](const char* host, const Identity& shown, const char* alpn) {
        tls::ClientOptions asking = client_options();
        asking.alpn = "three,two,one";
        asking.verify = false;
        const tls::Client client = make_client(asking, host);
        Outcome outcome;
        converse(loop, server, client, outcome);
        expect_good(outcome);
        EXPECT_EQ(outcome.shown, der(shown.certificate)) << host;
        EXPECT_EQ(outcome.here_alpn, alpn) << host;
    };
    expect("a.example", first, "one");
    expect("b.example", named, "two");
    expect("x.c.example", starred, "three");
    expect("c.example", first, "one");
    expect("x.y.c.example", first, "one");
    expect("192.0.2.1", first, "one");
    const Identity renewed = authority.issue("DNS:a.example");
    EXPECT_FALSE(server.use(with(renewed, "one")));
    expect("a.example", renewed, "one");
    expect("b.example", named, "two");
    EXPECT_FALSE(server.use("b.example", with(renewed, "two")));
    expect("b.example", renewed, "two");

    // A name may demand a certificate of the client that the others do not.
    tls::ServerOptions demanding = server_options();
    demanding.client = tls::ClientCertificate::required;
    demanding.trust = pem(trusted);
    EXPECT_FALSE(server.use("b.example", make_context(demanding)));
    tls::ClientOptions asking = client_options();
    asking.verify = false;
    const tls::Client client = make_client(asking, "b.example");
    Outcome outcome;
    converse(loop, server, client, outcome);
    EXPECT_EQ(outcome.there.reason.error, Error::tls_no_certificate);
}

TEST_P(TlsTrust, sessions_are_resumed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    tls::Server server = make_server(server_options());
    tls::ServerOptions named = server_options();
    named.client = tls::ClientCertificate::optional;
    named.trust = pem(trusted);
    EXPECT_FALSE(server.use("named.example", make_context(named)));
    for (const char* host : {"test.example", "named.example"}) {
        tls::ClientOptions asking = client_options();
        asking.verify = std::string_view(host) == "test.example";
        asking.certificates = pem(identity.certificate);
        asking.key = pem(identity.key);
        const tls::Client client = make_client(asking, host);
        for (int round = 0; round < 4; ++round) {
            Outcome outcome;
            converse(loop, server, client, outcome);
            expect_good(outcome);
            EXPECT_EQ(outcome.resumed, round != 0) << host << round;
            EXPECT_EQ(outcome.client_shown, !asking.verify) << "of the first handshake";
        }
        // Another client has no tickets, and a new context does not know them.
        Outcome outcome;
        converse(loop, server, make_client(asking, host), outcome);
        EXPECT_FALSE(outcome.resumed);
        EXPECT_FALSE(server.use(make_context(server_options())));
        Outcome renewed;
        converse(loop, server, client, renewed);
        expect_good(renewed);
        EXPECT_FALSE(renewed.resumed);
    }
    tls::ServerOptions without = server_options();
    without.resumption = false;
    EXPECT_FALSE(server.use(make_context(without)));
    const tls::Client client = make_client(client_options());
    for (int round = 0; round < 2; ++round) {
        Outcome outcome;
        converse(loop, server, client, outcome);
        expect_good(outcome);
        EXPECT_FALSE(outcome.resumed);
    }
}

// A ticket of one name does not open another that demands more.
TEST_P(TlsTrust, a_session_is_not_resumed_elsewhere) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    tls::Server server = make_server(server_options());
    const tls::Client client = make_client(client_options());
    Outcome first;
    converse(loop, server, client, first);
    expect_good(first);
    tls::ServerOptions demanding = server_options();
    demanding.client = tls::ClientCertificate::required;
    demanding.trust = pem(trusted);
    EXPECT_FALSE(server.use("test.example", make_context(demanding)));
    Outcome second;
    converse(loop, server, client, second);
    EXPECT_EQ(second.there.reason.error, Error::tls_no_certificate) << "despite the ticket";
    EXPECT_FALSE(second.resumed);
}

TEST_P(TlsTrust, a_context_that_cannot_be) {
    const Identity other = authority.issue("DNS:other.example");
    struct Case {
        const char* name;
        const char* why;
        std::function<void(tls::ServerOptions&)> change;
    };
    const std::string cut = identity.certificate + identity.certificate.substr(0, 200);
    const std::string broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const std::string long_name(300, 'a');
    const Case cases[] = {
        {"none", "a server has", [](auto& options) { options.certificates = {}; }},
        {"no key", "a server has", [](auto& options) { options.key = {}; }},
        {"no file", "certificates: No such file",
         [](auto& options) { options.certificates = {"/nowhere/to.pem"}; }},
        {"other key", "key: ", [&](auto& options) { options.key = pem(other.key); }},
        {"broken", "certificate: ", [&](auto& options) { options.certificates = pem(broken); }},
        {"cut", "certificates: ", [&](auto& options) { options.certificates = pem(cut); }},
        {"trust", "trust is needed",
         [](auto& options) { options.client = tls::ClientCertificate::optional; }},
        {"empty trust", "trust has no certificate",
         [&](auto& options) {
             options.client = tls::ClientCertificate::optional;
             options.trust = pem(identity.key);
         }},
        {"alpn", "alpn", [](auto& options) { options.alpn = "h2,,http/1.1"; }},
        {"empty alpn", "alpn", [](auto& options) { options.alpn = ""; }},
        {"long alpn", "alpn", [&](auto& options) { options.alpn = long_name.c_str(); }},
    };
    for (const Case& the : cases) {
        tls::ServerOptions options = server_options();
        the.change(options);
        tls::Report report;
        EXPECT_EQ(tls::Context::server(options, &report).error(), Error::tls_setup) << the.name;
        EXPECT_EQ(std::string_view(report.text).substr(0, std::string_view(the.why).size()),
                  the.why)
            << the.name << ": " << report.text;
        EXPECT_FALSE(tls::Context::server(options)) << "without a report, too";
    }
    tls::ClientOptions options = client_options();
    options.key = pem(identity.key);
    EXPECT_EQ(tls::Context::client(options).error(), Error::tls_setup);
    const tls::Context client = make_context(client_options());
    EXPECT_EQ(tls::Server::create(client).error(), Error::invalid_argument);
    EXPECT_EQ(tls::Client::create(client, "").error(), Error::invalid_argument);
    EXPECT_EQ(tls::Client::create(client, std::string(254, 'a')).error(), Error::invalid_argument);
    EXPECT_EQ(tls::Client::create(client, std::string_view("a\0b", 3)).error(),
              Error::invalid_argument);
    EXPECT_EQ(tls::Client::create(make_context(server_options()), "a").error(),
              Error::invalid_argument);
}

}  // namespace
}  // namespace whorl::conformance
