// SPDX-License-Identifier: MIT
// Goal: memory that is refused to TLS, the library's or OpenSSL's own, is an error to whoever asked and nothing
// more: no context is half made, each stream ends once, nobody is believed who was not verified, nothing is
// left, and what comes afterwards is served as before.
// Method: each allocation is refused in turn, alone and with all that follow it, in simulated worlds, whose own
// memory is neither.
#include "conformance/host_memory.hpp"
#include "conformance/tls_tools.hpp"
#include "world/names.hpp"

#include <openssl/crypto.h>
#include <whorl/connector.hpp>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace {

// OpenSSL's memory.
struct Foreign : Refusals<Foreign> {
    static bool refused(const char* file) {
        return Refusals::refused() ||
               std::string_view(file).find(refuse_file) != std::string_view::npos;
    }

    static inline std::string_view refuse_file = "none";  // of OpenSSL's sources
};

// Before anything of OpenSSL takes memory.
const int hooked_openssl = CRYPTO_set_mem_functions(
    [](std::size_t size, const char* file, int) {
        return Foreign::refused(file) ? nullptr : std::malloc(size);
    },
    [](void* memory, std::size_t size, const char* file, int) {
        return Foreign::refused(file) ? nullptr : std::realloc(memory, size);
    },
    [](void* memory, const char*, int) { std::free(memory); });

using namespace world_names;
using whorl::Buffer;
using whorl::Closed;
using whorl::Connected;
using whorl::Result;
using whorl::Stream;
using whorl::conformance::Authority;
using whorl::conformance::Identity;
using whorl::conformance::pem;
namespace tls = whorl::tls;

const Error no_memory = Error::from_errno(ENOMEM);

// What all rounds share. Keys are made once.
struct Papers {
    Authority authority;
    Authority between = Authority("Another Authority");
    Identity identity = authority.issue("DNS:test.example");
    std::string trust = authority.pem();
    std::string chain = identity.certificate + between.pem();

    tls::ServerOptions serving() const {
        tls::ServerOptions options;
        options.certificates = pem(chain);
        options.key = pem(identity.key);
        options.client = tls::ClientCertificate::required;
        options.trust = pem(trust);
        options.alpn = "two,one";
        return options;
    }
    tls::ClientOptions asking() const {
        tls::ClientOptions options;
        options.certificates = pem(chain);
        options.key = pem(identity.key);
        options.trust = pem(trust);
        options.alpn = "one,two";
        return options;
    }
};
const Papers& papers() {
    static const Papers made;
    return made;
}

// `round` is repeated until no allocation was refused. In each, the one so many after the call of `from_here`
// is, alone or with all that follow it: each of the `first`, and then one in `step`.
struct Sweep {
    bool on;
    std::uint64_t first;
    std::uint64_t step;
};
using Round = std::function<void(const std::function<void()>& from_here)>;
template <class Memory>
int each_refused_in_turn(const Sweep& sweep, const Round& round) {
    int rounds = 0;
    for (std::uint64_t number = 0;; ++rounds) {
        SCOPED_TRACE((sweep.on ? "from allocation " : "allocation ") + std::to_string(number));
        if (number >= 50'000) ADD_FAILURE() << "it comes to an end";
        std::uint64_t last = 0;
        round([&] {
            Memory::refuse(number, sweep.on);
            last = Memory::refuse_at;
        });
        const bool refused = Memory::asked > last;
        Memory::refuse_none();
        if (!refused || testing::Test::HasFailure()) return rounds;
        number += number < sweep.first ? 1 : sweep.step;
    }
}

// OpenSSL makes thousands of allocations: with a sanitizer fewer of them are refused. Ours are all.
constexpr std::uint64_t stride = whorl::conformance::sanitized ? 7 : 1;

// --- Contexts

template <class Made>
bool is_whole(const Made& made, const tls::Report& report) {
    if (made) {
        EXPECT_STREQ(report.text, "");
        return true;
    }
    EXPECT_TRUE(made.error() == no_memory || made.error() == Error::tls_setup)
        << made.error().text();
    EXPECT_EQ(made.error() == Error::tls_setup, report.text[0] != 0) << report.text;
    return false;
}

template <class Memory>
void contexts(std::uint64_t step) {
    ASSERT_EQ(hooked_openssl, 1);
    ASSERT_FALSE(hooked);
    const tls::ServerOptions serving = papers().serving();
    const tls::ClientOptions asking = papers().asking();
    for (const bool on : {false, true}) {
        int made = 0;
        const int rounds =
            each_refused_in_turn<Memory>({on, 0, on ? step * 7 : step}, [&](const auto& from_here) {
                from_here();
                tls::Report report;
                made += is_whole(tls::Context::server(serving, &report), report);
                report = {};
                made += is_whole(tls::Context::client(asking, &report), report);
                EXPECT_EQ(Host::bytes, 0);
            });
        EXPECT_GT(made, on ? 1 : rounds) << "one refusal ends one of them";
    }
    EXPECT_FALSE(Host::mistaken);
}
TEST(TlsMemory, each_allocation_of_a_context_may_be_refused) { contexts<Host>(1); }
TEST(TlsMemory, each_allocation_of_openssl_for_a_context_may_be_refused) {
    contexts<Foreign>(11 * stride);
}

// --- Conversations

struct Seen {
    int handlers = 0;
    int opened = 0;
    int closed = 0;
    std::string text;
    Error error;
};
struct Count {
    explicit Count(Seen& given) : seen(&given) { ++seen->handlers; }
    Count(Count&& other) noexcept : seen(std::exchange(other.seen, nullptr)) {}
    ~Count() {
        if (seen != nullptr) --seen->handlers;
    }
    Seen* seen;
};
struct Side : Count {
    using Count::Count;
    void opened(Stream& stream) const {
        ++seen->opened;
        const Result<tls::Info> info = tls::info(stream);
        ASSERT_TRUE(info);
        EXPECT_EQ(info->alpn, "two");
        EXPECT_TRUE(info->certificate) << "both have shown one";
        const Buffer shown = tls::peer_certificate(stream);
        EXPECT_TRUE(!shown || shown.size() > 100);
    }
    void closed(Stream& stream, Closed how) const {
        ++seen->closed;
        seen->error = how.error;
        EXPECT_NE(tls::reason(stream), nullptr);
    }
};
struct There : Side {
    using Side::Side;
    void received(Stream& stream, Buffer buffer) const {
        seen->text += buffer.text();
        stream.write(std::move(buffer));
    }
};
struct Here : Side {
    using Side::Side;
    void opened(Stream& stream) const {
        Side::opened(stream);
        stream.write(said);
    }
    void received(Stream& stream, Buffer buffer) const {
        seen->text += buffer.text();
        if (seen->text.size() == said.size()) stream.close();
    }
    inline static const std::string said = std::string(40'000, 's');
};

struct Scene {
    World world;
    Loop& loop = world.add_loop();
    Seen there, here;
    std::optional<tls::Server> server;
    std::optional<tls::Client> client;

    void make(const tls::Context& serving, const tls::Context& named, const tls::Context& asking) {
        Result<tls::Server> made = tls::Server::create(serving);
        if (!made) return;
        if (made->use("*.example", named)) return;
        server = std::move(*made);
        Result<tls::Client> aimed = tls::Client::create(asking, "test.example");
        if (aimed) client = std::move(*aimed);
    }
    // False: there is nobody to ask.
    bool serve() {
        if (!server || !client) return false;
        whorl::AcceptorOptions accepting;
        accepting.stream.layer = server->layer();
        const auto make = [this](const whorl::Accepted&) { return There(there); };
        return whorl::serve(loop, Address::loopback_v4(443), make, accepting).has_value();
    }
    // Whether it went as it should; otherwise each end has an error.
    bool converse() {
        there = here = Seen();
        const Address address = Address::loopback_v4(443);
        whorl::StreamOptions options;
        options.layer = client->layer();
        bool attached = false;
        const auto went =
            whorl::connect_any(loop, &address, 1, {}, [&](Loop& inner, const Connected& connected) {
                if (connected.error) return;
                attached = attach(inner, connected.socket, Here(here), options).has_value();
                if (!attached) static_cast<void>(inner.close(connected.socket));
            });
        world.advance(1min);
        EXPECT_EQ(here.closed, attached ? 1 : 0);
        EXPECT_EQ(here.handlers + there.handlers, 0);
        EXPECT_LE(there.closed, 1);
        EXPECT_LE(here.opened, here.closed);
        EXPECT_LE(there.opened, there.closed);
        EXPECT_EQ(whorl::stream_statistics(loop).streams, 0u);
        const bool good = went && attached && !here.error;
        if (good) {
            EXPECT_EQ(there.text, Here::said);
            EXPECT_EQ(here.text, Here::said);
        }
        EXPECT_EQ(Here::said.compare(0, here.text.size(), here.text), 0);
        return good;
    }
};

// What is made once for the process is made by the next one when there was no memory for the first: so this
// is the first one.
TEST(TlsMemory, what_is_made_once_is_made_later) {
    ASSERT_EQ(hooked_openssl, 1);
    const tls::Context serving = *tls::Context::server(papers().serving());
    const tls::Context asking = *tls::Context::client(papers().asking());
    Scene scene;
    scene.make(serving, serving, asking);
    ASSERT_TRUE(scene.serve());
    Foreign::refuse_file = "bio_meth.c";
    for (int time = 0; time < 3; ++time) EXPECT_FALSE(scene.converse());
    Foreign::refuse_file = "none";
    EXPECT_TRUE(scene.converse());
    scene.world.remove_loop(scene.loop);
}

template <class Memory>
void conversations(std::uint64_t first, std::uint64_t step) {
    ASSERT_EQ(hooked_openssl, 1);
    ASSERT_FALSE(hooked);
    {
        const tls::Context serving = *tls::Context::server(papers().serving());
        const tls::Context named = *tls::Context::server(papers().serving());
        const tls::Context asking = *tls::Context::client(papers().asking());
        int good = 0, bad = 0;
        const Round round = [&](const auto& from_here) {
            Scene scene;
            from_here();
            scene.make(serving, named, asking);
            if (scene.serve()) {
                for (int time = 0; time < 2; ++time) ++(scene.converse() ? good : bad);
                Memory::refuse_at = UINT64_MAX;  // the count of what was asked goes on
                EXPECT_TRUE(scene.converse()) << scene.here.error.text();
            } else {
                ++bad;
            }
            scene.world.remove_loop(scene.loop);
        };
        each_refused_in_turn<Memory>({false, first, step}, round);
        each_refused_in_turn<Memory>({true, 0, step}, round);
        EXPECT_GT(good, 0);
        EXPECT_GT(bad, 10);
    }
    EXPECT_EQ(Host::bytes, 0);
    EXPECT_FALSE(Host::mistaken);
}
TEST(TlsMemory, each_allocation_of_openssl_for_a_conversation_may_be_refused) {
    conversations<Foreign>(1500 / stride, 31 * stride);
}
TEST(TlsMemory, each_allocation_of_a_conversation_may_be_refused) { conversations<Host>(0, 1); }

}  // namespace
