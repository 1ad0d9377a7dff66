// SPDX-License-Identifier: MIT
// Goal: a protocol over TLS is what it is over TCP; ends are TLS's own, and what is cut off, changed, late
// or no TLS at all is told as that.
// Method: TLS streams on both ends, and a peer made of OpenSSL alone on one.
#include "conformance/tls_tools.hpp"

#include <algorithm>
#include <cstring>

namespace whorl::conformance {
namespace {

class TlsBasic : public TlsTools {};
WHORL_CONFORMANCE(TlsBasic);

void echo(Stream& stream, std::string_view text) { stream.write(text); }

TEST_P(TlsBasic, bytes_come_and_go) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    const tls::Client client = make_client(client_options());
    const std::string text = pattern(300'000);
    Log there, here;
    StreamOptions asking = layered(client.layer());
    asking.high = 40'000;
    asking.low = 10'000;
    std::size_t written = 0;
    const auto fill = [&](Stream& stream) {
        while (written < text.size()) {
            const std::size_t part = std::min<std::size_t>(text.size() - written, 9000);
            written += part;
            if (!stream.write(std::string_view(text).substr(written - part, part))) return;
        }
        stream.end();
    };
    here.on_opened = here.on_writable = fill;
    int count = 0;
    there.on_received = [&](Stream& stream, std::string_view part) {
        stream.write(part);
        if (++count % 5 != 0) return;
        stream.pause();
        ASSERT_TRUE(loop.after(1ms, [&stream](Loop&, Expired) { stream.resume(); }));
    };
    run_both(loop, layered(server.layer()), there, asking, here);
    EXPECT_TRUE(there.text == text);
    EXPECT_TRUE(here.text == text) << "half-closed, and still receiving";
    for (const Log* log : {&there, &here}) {
        EXPECT_EQ(log->calls.front(), 'o');
        EXPECT_TRUE(log->has('p'));
        EXPECT_FALSE(log->reason.error) << log->reason.error.text();
        expect_gone(loop, *log);
    }
    EXPECT_TRUE(here.has('w'));
    EXPECT_LE(here.counters.queued_high, asking.high + 9000 + 2000);
}

TEST_P(TlsBasic, what_was_agreed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    const tls::Client client = make_client(client_options());
    Log there, here;
    there.on_opened = [](Stream& stream) {
        const Result<tls::Info> info = tls::info(stream);
        ASSERT_TRUE(info);
        EXPECT_EQ(info->server_name, "test.example");
        EXPECT_FALSE(info->certificate);
        EXPECT_FALSE(tls::peer_certificate(stream));
    };
    here.on_opened = [](Stream& stream) {
        const Result<tls::Info> info = tls::info(stream);
        ASSERT_TRUE(info);
        EXPECT_STREQ(info->version, "TLSv1.3");
        EXPECT_NE(std::strlen(info->cipher), 0u);
        EXPECT_EQ(info->alpn, "");
        EXPECT_FALSE(info->resumed);
        EXPECT_TRUE(info->certificate);
        EXPECT_GT(tls::peer_certificate(stream).size(), 100u);
        EXPECT_STREQ(tls::reason(stream), "");
        stream.close();
    };
    run_both(loop, layered(server.layer()), there, layered(client.layer()), here);
    EXPECT_EQ(there.reason.by, ClosedBy::peer);
    EXPECT_EQ(here.reason.by, ClosedBy::us);
    EXPECT_EQ(here.calls, "oc");

    Pair plain = make_pair(loop);
    Log log;
    log.on_opened = [](Stream& stream) {
        EXPECT_EQ(tls::info(stream).error(), Error::invalid_argument);
        EXPECT_STREQ(tls::reason(stream), "");
        stream.abort();
    };
    attach_log(loop, plain.socket, log);
    run_closed(loop, log);
    expect_gone(loop, log);
}

// Both versions; and the peer asks for new keys in the middle.
TEST_P(TlsBasic, against_openssl_alone) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const tls::Server server = make_server(server_options());
        Pair pair = make_pair(loop);
        Log log;
        log.on_received = echo;
        attach_log(loop, pair.socket, log, layered(server.layer()));
        RawTls raw(RawTls::Side::client, version);
        std::string sent;
        for (int round = 0; round < 5; ++round) {
            run_raw(loop, pair.peer, raw, [&] { return raw.ready() && log.has('o'); });
            if (version == TLS1_3_VERSION && round != 0) {
                ASSERT_EQ(SSL_key_update(raw.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
            }
            const std::string part = pattern(3000, sent.size());
            sent += part;
            pair.peer.send(raw.sealed(part));
            run_raw(loop, pair.peer, raw, [&] { return raw.text.size() == sent.size(); });
        }
        EXPECT_TRUE(raw.text == sent);
        pair.peer.send(raw.close_notify());
        run_raw(loop, pair.peer, raw, [&] { return log.closed == 1; });
        raw.hear(receive_now(pair.peer, 1000));
        EXPECT_TRUE(raw.ended) << "close_notify is answered";
        EXPECT_EQ(log.reason.by, ClosedBy::peer);
        EXPECT_FALSE(log.reason.error);
        pair.peer.close();
        expect_gone(loop, log);
    }
}

TEST_P(TlsBasic, renegotiation_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    Pair pair = make_pair(loop);
    Log log;
    log.on_received = echo;
    attach_log(loop, pair.socket, log, layered(server.layer()));
    RawTls raw(RawTls::Side::client, TLS1_2_VERSION);
    run_raw(loop, pair.peer, raw, [&] { return raw.ready() && log.has('o'); });
    ASSERT_EQ(SSL_renegotiate(raw.ssl()), 1);
    SSL_do_handshake(raw.ssl());
    pair.peer.send(raw.say());
    bool refused = false;
    turn_until(loop, [&] {
        const std::string said = receive_now(pair.peer, 1000);
        if (said.empty()) return false;
        raw.hear(said);
        refused = !raw.ready();
        return true;
    });
    EXPECT_TRUE(refused) << "no second handshake";
    EXPECT_EQ(log.text, "");
    pair.peer.close();
    run_closed(loop, log);
    EXPECT_TRUE(log.reason.error);
    expect_gone(loop, log);
}

TEST_P(TlsBasic, an_end_without_close_notify_is_an_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    for (const bool opened : {false, true}) {
        Pair pair = make_pair(loop);
        Log log;
        attach_log(loop, pair.socket, log, layered(server.layer()));
        RawTls raw(RawTls::Side::client);
        raw.hear("");
        if (opened) {
            run_raw(loop, pair.peer, raw, [&] { return raw.ready() && log.has('o'); });
            pair.peer.send(raw.sealed("hello"));
            run_until(loop, [&] { return log.text == "hello"; });
        } else {
            pair.peer.send(raw.say().substr(0, 100));
        }
        pair.peer.finish_sending();
        run_closed(loop, log);
        EXPECT_EQ(log.calls, opened ? "orc" : "c");
        EXPECT_EQ(log.reason.by, ClosedBy::error);
        EXPECT_EQ(log.reason.error, Error::tls_truncated);
        pair.peer.close();
        expect_gone(loop, log);
    }
}

// A peer that speaks something else, or whose bytes were changed on the way.
TEST_P(TlsBasic, garbage) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    const tls::Client client = make_client(client_options());
    std::string why;
    const auto told = [&why](Stream& stream) { why = tls::reason(stream); };
    for (const bool at_server : {true, false}) {
        Pair pair = make_pair(loop);
        Log log;
        log.on_closed = told;
        attach_log(loop, pair.socket, log, layered(at_server ? server.layer() : client.layer()));
        pair.peer.send(at_server ? "GET / HTTP/1.1\r\n\r\n" : "220 mail.example ESMTP\r\n");
        pair.peer.finish_sending();
        run_closed(loop, log);
        EXPECT_EQ(log.calls, "c");
        EXPECT_EQ(log.reason.by, ClosedBy::error);
        EXPECT_EQ(log.reason.error, Error::tls_malformed) << log.reason.error.text();
        EXPECT_EQ(why, at_server ? "http request" : "wrong version number");
        pair.peer.close();
        expect_gone(loop, log);
    }
    Pair pair = make_pair(loop);
    Log log;
    log.on_closed = told;
    attach_log(loop, pair.socket, log, layered(server.layer()));
    RawTls raw(RawTls::Side::client);
    run_raw(loop, pair.peer, raw, [&] { return raw.ready() && log.has('o'); });
    const std::string good = raw.sealed("good");
    std::string bad = raw.sealed("bad");
    bad[bad.size() - 3] = static_cast<char>(bad[bad.size() - 3] ^ 1);
    pair.peer.send(good + bad + raw.sealed("never seen"));
    run_raw(loop, pair.peer, raw, [&] { return raw.ended || log.closed == 1; });
    pair.peer.finish_sending();
    run_closed(loop, log);
    EXPECT_EQ(log.text, "good");
    EXPECT_EQ(log.reason.error, Error::tls_malformed);
    EXPECT_EQ(why, "decryption failed or bad record mac");
    pair.peer.close();
    expect_gone(loop, log);
}

TEST_P(TlsBasic, a_handshake_has_a_deadline) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options(), {20ms});
    Pair pair = make_pair(loop);
    Log log;
    attach_log(loop, pair.socket, log, layered(server.layer()));
    run_closed(loop, log);
    EXPECT_EQ(log.calls, "c");
    EXPECT_EQ(log.reason.by, ClosedBy::deadline);
    EXPECT_EQ(log.reason.error, Error::timed_out);
    expect_gone(loop, log);
}

// The layer and its contexts may end before the streams.
TEST_P(TlsBasic, a_stream_keeps_what_it_needs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Log log;
    log.on_received = echo;
    {
        tls::ServerOptions options = server_options();
        options.alpn = "one,two";
        const tls::Server server = make_server(options);
        attach_log(loop, pair.socket, log, layered(server.layer()));
    }
    RawTls raw(RawTls::Side::client);
    const unsigned char offered[] = "\3two";
    SSL_set_alpn_protos(raw.ssl(), offered, 4);
    run_raw(loop, pair.peer, raw, [&] { return raw.ready() && log.has('o'); });
    EXPECT_EQ(tls::info(*log.stream)->alpn, "two");
    pair.peer.send(raw.sealed("hello"));
    run_raw(loop, pair.peer, raw, [&] { return raw.text == "hello"; });
    log.stream->abort();
    pair.peer.close();
    run_closed(loop, log);
    expect_gone(loop, log);
    EXPECT_EQ(log.reason.by, ClosedBy::us);
}

// The client's bytes, cut in two at every place; and a reset there.
TEST_P(TlsBasic, cuts_and_resets_at_every_byte) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    // A machine's kernel sees some of the places, a world all of them.
    const std::size_t step = GetParam().world ? 1 : 41;
    for (const bool reset : {false, true}) {
        bool past = false;
        for (std::size_t cut = 0; !past; cut += step) {
            Pair pair = make_pair(loop);
            Log log;
            log.on_received = echo;
            attach_log(loop, pair.socket, log, layered(server.layer()));
            RawTls raw(RawTls::Side::client);
            std::size_t sent = 0;
            bool gone = false;
            const auto send = [&](const std::string& said) {
                const bool here = sent <= cut && cut < sent + said.size();
                const std::size_t first = here ? cut - sent : said.size();
                sent += said.size();
                if (first != 0) pair.peer.send(said.substr(0, first));
                if (!here) return;
                turns(loop, 1);
                if (reset) pair.peer.reset();
                else pair.peer.send(said.substr(first));
                gone = reset;
            };
            int stage = 0;
            raw.hear("");
            turn_until(loop, [&] {
                if (gone) return true;
                raw.hear(receive_now(pair.peer, 100'000));
                const std::string said = raw.say();
                if (!said.empty()) send(said);
                if (gone || !raw.ready()) return gone;
                if (stage == 0) send(raw.sealed("hello"));
                else if (stage == 1 && raw.text == "hello") send(raw.close_notify());
                else return log.closed == 1;
                ++stage;
                return gone;
            });
            past = cut >= sent;
            run_closed(loop, log);
            if (gone) {
                EXPECT_EQ(log.reason.by, ClosedBy::error) << cut;
            } else {
                EXPECT_EQ(log.text, "hello");
                EXPECT_EQ(log.reason.by, ClosedBy::peer) << log.reason.error.text();
            }
            pair.peer.close();
            expect_gone(loop, log);
            if (HasFailure()) return;
        }
    }
}

// What the client says is changed in one byte, at every place: an error or, where nothing is said of the
// byte, a conversation; never a wait that its deadline does not end.
TEST_P(TlsBasic, a_changed_byte_at_every_place) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options(), {50ms});
    const std::size_t step = GetParam().world ? 3 : 61;
    int errors = 0, talks = 0;
    for (std::size_t place = 0, sent = 0; place == 0 || place < sent; place += step) {
        Pair pair = make_pair(loop);
        Log log;
        log.on_received = echo;
        attach_log(loop, pair.socket, log, layered(server.layer()));
        RawTls raw(RawTls::Side::client);
        sent = 0;
        bool asked = false, ended = false;
        const auto send = [&](std::string said) {
            if (sent <= place && place < sent + said.size()) {
                said[place - sent] = static_cast<char>(said[place - sent] ^ 0x15);
            }
            sent += said.size();
            const ssize_t put = os::send(pair.peer.fd(), said.data(), said.size(), MSG_NOSIGNAL);
            if (put < 0) ended = true;
        };
        raw.hear("");
        turn_until(loop, [&] {
            if (log.closed == 1) return true;
            raw.hear(receive_now(pair.peer, 100'000));
            const std::string said = raw.say();
            if (!said.empty() && !ended) send(said);
            if (raw.ready() && !asked && !ended) {
                asked = true;
                send(raw.sealed("hello"));
            }
            const bool refused = log.stream != nullptr && log.stream->closing();
            if (!ended && (raw.text == "hello" || raw.failed || raw.ended || refused)) {
                ended = true;
                pair.peer.finish_sending();
            }
            return false;
        });
        ++(log.text == "hello" ? talks : errors);
        EXPECT_TRUE(log.text.empty() || log.text == "hello");
        EXPECT_TRUE(log.reason.error) << "at best it was cut off";
        pair.peer.close();
        expect_gone(loop, log);
        if (HasFailure()) return;
    }
    EXPECT_GT(errors, talks);
}

}  // namespace
}  // namespace whorl::conformance
