// SPDX-License-Identifier: MIT
// Echoes lines over TLS; an empty one ends the connection. SIGHUP reads the certificate again: connections
// go on, new ones are shown the new one. Talk to it with
// `openssl s_client -connect 127.0.0.1:7007 -quiet`.
//
//   tls_echo_server --certificate FILE --key FILE [--trust FILE] [--alpn NAMES]
//                   [--name NAME --named-certificate FILE --named-key FILE]
//                   [--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev]
//
// With --trust clients must show a certificate of that authority.
#include "serve.hpp"

#include <whorl/signals.hpp>
#include <whorl/tls.hpp>

#include <map>
#include <optional>
#include <vector>

namespace {

namespace tls = whorl::tls;

struct Echo {
    whorl::Framing framing = whorl::Framing::line(64 << 10);

    void frame(whorl::Stream& stream, whorl::Bytes line) {
        stream.write(line);
        stream.write("\n");
        if (line.empty()) stream.close();
    }
    void closed(whorl::Stream& stream, whorl::Closed reason) {
        if (!reason.error) return;
        std::printf("%s (%s)\n", reason.error.name(), tls::reason(stream));
        std::fflush(stdout);
    }
};

class TlsEcho {
  public:
    using Files = std::map<std::string, std::string>;
    explicit TlsEcho(Files files) : files_(std::move(files)) {}

    bool load() {
        const auto plain = context("--certificate", "--key");
        if (!plain) return false;
        if (!server_) {
            whorl::Result<tls::Server> made = tls::Server::create(*plain);
            if (!made) return false;
            server_.emplace(std::move(*made));
        } else if (server_->use(*plain)) {
            return false;
        }
        if (files_.count("--name") == 0) return true;
        const auto named = context("--named-certificate", "--named-key");
        return named && !server_->use(files_["--name"], *named);
    }
    whorl::Error start(whorl::Loop& loop, const whorl::Address& address) {
        whorl::AcceptorOptions options;
        options.stream.layer = server_->layer();
        options.stream.deadlines.idle = std::chrono::minutes(5);
        const auto make = [](const whorl::Accepted&) { return Echo{}; };
        const auto acceptor = whorl::serve(loop, address, make, options);
        if (!acceptor) return acceptor.error();
        acceptor_ = *acceptor;
        const auto signals = whorl::open_signals(loop, {SIGHUP});
        if (!signals) return signals.error();
        const auto reload = [this](whorl::Loop&, const whorl::SignalStream::Done& done) {
            if (done.error) return;
            std::puts(load() ? "reloaded" : "not reloaded");
            std::fflush(stdout);
        };
        return loop.submit(whorl::SignalStream{*signals}, reload).error();
    }
    whorl::Listener listener() const { return acceptor_->listener(); }

  private:
    // Read while the loop waits, as this program has nothing better to do; others do it in work().
    whorl::Result<tls::Context> context(const char* certificate, const char* key) {
        tls::ServerOptions options;
        options.certificates.file = files_[certificate].c_str();
        options.key.file = files_[key].c_str();
        if (files_.count("--alpn") != 0) options.alpn = files_["--alpn"].c_str();
        if (files_.count("--trust") != 0) {
            options.trust.file = files_["--trust"].c_str();
            options.client = tls::ClientCertificate::required;
        }
        tls::Report report;
        whorl::Result<tls::Context> made = tls::Context::server(options, &report);
        if (!made) std::fprintf(stderr, "%s: %s\n", made.error().text(), report.text);
        return made;
    }

    Files files_;
    std::optional<tls::Server> server_;
    whorl::Acceptor* acceptor_ = nullptr;
};

}  // namespace

int main(int count, char** words) {
    TlsEcho::Files files;
    std::vector<char*> others = {words[0]};
    for (int index = 1; index < count; index += 2) {
        const std::string name = words[index];
        const bool ours = name == "--certificate" || name == "--key" || name == "--trust" ||
                          name == "--alpn" || name == "--name" || name == "--named-certificate" ||
                          name == "--named-key";
        const char* const value = index + 1 < count ? words[index + 1] : "";
        if (ours) files[name] = value;
        else others.insert(others.end(), words + index, words + std::min(index + 2, count));
    }
    ServeArguments arguments;
    if (!serve_parse(static_cast<int>(others.size()), others.data(), arguments)) {
        return serve_failed("usage",
                            "--certificate FILE --key FILE [...], see tls_echo_server.cpp");
    }
    TlsEcho server(std::move(files));
    if (!server.load()) return 1;
    return serve_until_signal(arguments, server);
}
