// SPDX-License-Identifier: MIT
// A TLS client: sends standard input, and prints what comes back until the server ends.
//
//   tls_client ADDRESS HOST [--trust FILE] [--certificate FILE --key FILE] [--alpn NAMES]
//              [--times N] [--backend automatic|io_uring|libev]
//
// ADDRESS is "127.0.0.1:443", HOST what the certificate must be for. With --times it connects again, one
// after the other, with the tickets of the connections before. Exit status: 0 when all ended in order.
#include <whorl/whorl.hpp>

#include <whorl/tls.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

namespace {

namespace tls = whorl::tls;
using Words = std::map<std::string, std::string>;

struct Talk {
    const std::string* text;
    std::size_t* written;
    bool* good;

    void opened(whorl::Stream& stream) {
        const whorl::Result<tls::Info> info = tls::info(stream);
        std::fprintf(stderr, "%s %s%s%.*s\n", info->version, info->resumed ? "resumed" : "full",
                     info->alpn.empty() ? "" : " ", static_cast<int>(info->alpn.size()),
                     info->alpn.data());
        writable(stream);
    }
    // A part at a time, so that the queue stays short.
    void writable(whorl::Stream& stream) {
        bool room = true;
        while (room && *written < text->size()) {
            const std::size_t part = std::min<std::size_t>(text->size() - *written, 16 << 10);
            room = stream.write(whorl::Bytes(text->data() + *written, part));
            *written += part;
        }
    }
    void received(whorl::Stream&, whorl::Buffer buffer) {
        std::fwrite(buffer.data(), 1, buffer.size(), stdout);
    }
    void closed(whorl::Stream& stream, whorl::Closed reason) {
        *good = !reason.error;
        if (reason.error) {
            std::fprintf(stderr, "%s: %s\n", reason.error.name(), tls::reason(stream));
        }
        stream.loop().stop();
    }
};

int fail(const char* what, const char* why) {
    std::fprintf(stderr, "tls_client: %s: %s\n", what, why);
    return 1;
}

bool talk(whorl::Loop& loop, const whorl::Address& address, const tls::Client& client,
          const std::string& text) {
    std::size_t written = 0;
    bool good = false;
    const auto connecting = whorl::connect_any(
        loop, &address, 1, {}, [&](whorl::Loop& at, const whorl::Connected& connected) {
            if (connected.error) {
                fail("connect", connected.error.text());
                return at.stop();
            }
            whorl::StreamOptions options;
            options.layer = client.layer();
            options.deadlines.total = std::chrono::seconds(30);
            const auto stream =
                whorl::attach(at, connected.socket, Talk{&text, &written, &good}, options);
            if (stream) return;
            fail("attach", stream.error().text());
            at.stop();
        });
    if (!connecting) return fail("connect", connecting.error().text()) == 0;
    if (whorl::Error error = loop.run()) return fail("run", error.text()) == 0;
    return good;
}

}  // namespace

int main(int count, char** words) {
    Words named;
    for (int index = 3; index + 1 < count; index += 2) named[words[index]] = words[index + 1];
    if (count < 3 || count % 2 != 1) return fail("usage", "see the head of tls_client.cpp");
    const auto address = whorl::Address::parse(words[1]);
    if (!address) return fail(words[1], address.error().text());

    const auto file = [&](const char* name) {
        return named.count(name) != 0 ? named[name].c_str() : nullptr;
    };
    tls::ClientOptions options;
    options.trust.file = file("--trust");
    options.certificates.file = file("--certificate");
    options.key.file = file("--key");
    options.alpn = file("--alpn");
    tls::Report report;
    const auto context = tls::Context::client(options, &report);
    if (!context) return fail(context.error().text(), report.text);
    const auto client = tls::Client::create(*context, words[2]);
    if (!client) return fail(words[2], client.error().text());

    whorl::LoopOptions loop_options;
    if (named["--backend"] == "io_uring") loop_options.backend = whorl::Backend::io_uring;
    if (named["--backend"] == "libev") loop_options.backend = whorl::Backend::libev;
    whorl::BackendReport chosen;
    auto loop = whorl::Loop::create(loop_options, chosen);
    if (!loop) return fail(loop.error().text(), chosen.text);

    std::string text;
    char part[4096];
    while (const std::size_t size = std::fread(part, 1, sizeof part, stdin))
        text.append(part, size);
    const int times = std::max(1, std::atoi(named["--times"].c_str()));
    for (int time = 0; time < times; ++time) {
        if (!talk(*loop, *address, *client, text)) return 1;
    }
    return 0;
}
