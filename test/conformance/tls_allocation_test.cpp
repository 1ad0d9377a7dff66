// SPDX-License-Identifier: MIT
// Goal: after a warm-up whorl allocates nothing for what goes over TLS. Method: every way to the heap is
// counted, but for OpenSSL, which is given one of its own.
#include "conformance/counted_heap.hpp"
#include "conformance/tls_tools.hpp"

#include <openssl/crypto.h>
#include <whorl/connector.hpp>

#include <cstdlib>

namespace {

std::uint64_t allocations_openssl = 0;

}  // namespace

namespace whorl::conformance {
namespace {

// Before anything of OpenSSL allocates.
const int openssl_has_its_own = CRYPTO_set_mem_functions(
    [](std::size_t size, const char*, int) {
        ++allocations_openssl;
        return __libc_malloc(size);
    },
    [](void* memory, std::size_t size, const char*, int) {
        ++allocations_openssl;
        return __libc_realloc(memory, size);
    },
    [](void* memory, const char*, int) { std::free(memory); });

class TlsAllocation : public TlsTools {};
WHORL_CONFORMANCE_REAL(TlsAllocation);  // a world allocates as it likes

TEST_P(TlsAllocation, a_stream_with_tls_does_not) {
    WHORL_SKIP_IF_REFUSED();
    ASSERT_EQ(openssl_has_its_own, 1);
    Loop loop = make_loop();
    const tls::Server server = make_server(server_options());
    const tls::Client client = make_client(client_options());
    struct Echo {
        void received(Stream& stream, Buffer buffer) { stream.write(std::move(buffer)); }
    };
    // Small and large answers in turn, as they come.
    struct Asker {
        Stream** stream;
        std::uint64_t* rounds;
        const std::string* text;
        std::size_t open = 0;
        void opened(Stream& given) {
            *stream = &given;
            given.loop().stop();
        }
        void ask(Stream& given) {
            open = *rounds % 2 == 0 ? 100 : text->size();
            given.write(std::string_view(*text).substr(0, open));
        }
        void received(Stream& given, Buffer buffer) {
            open -= std::min(open, buffer.size());
            if (open != 0) return;
            if (--*rounds == 0) return given.loop().stop();
            ask(given);
        }
    };
    AcceptorOptions accepting;
    accepting.stream.layer = server.layer();
    const auto acceptor = serve(
        loop, Address::loopback_v4(0), [](const Accepted&) { return Echo(); }, accepting);
    ASSERT_TRUE(acceptor);
    const Address address = Address::loopback_v4(port_of(loop, (*acceptor)->listener()));
    Stream* stream = nullptr;
    std::uint64_t rounds = 0;
    const std::string text = pattern(50'000);
    const StreamOptions options = layered(client.layer());
    ASSERT_TRUE(connect_any(loop, &address, 1, {}, [&](Loop& inner, const Connected& connected) {
        Asker asker{&stream, &rounds, &text};
        if (!attach(inner, connected.socket, std::move(asker), options)) std::abort();
    }));
    EXPECT_FALSE(loop.run());
    ASSERT_NE(stream, nullptr);
    const auto work = [&] {
        rounds = scaled(2000);
        stream->write(std::string_view(text).substr(0, 1));
        if (loop.run()) std::abort();
    };
    work();
    const std::uint64_t before = allocations, before_openssl = allocations_openssl;
    work();
    EXPECT_EQ(allocations - before, 0u) << "TLS allocated";
    EXPECT_GT(allocations_openssl - before_openssl, 0u) << "it is counted apart";
    EXPECT_FALSE(loop.drain(5s));
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
