// SPDX-License-Identifier: MIT
// Floor: 6
#include "tls/session.hpp"

#include "tls/failure.hpp"
#include "tls/layer.hpp"

#include <openssl/err.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace whorl::tls {

namespace detail {

namespace {
constexpr char session_kind = 0;
}

Session::Session(Loop& its_loop, SSL& ssl, ContextState& context, ServerState* server,
                 ClientState* client) noexcept
    : StreamFilter(its_loop), ssl_(&ssl), server_(share(server)), client_(share(client)),
      context_(share(&context)) {}

Session::~Session() {
    SSL_free(ssl_);
    release(server_);
    release(client_);
    release(context_);
}

bool Session::use(ContextState& context) noexcept {
    if (SSL_set_SSL_CTX(ssl_, context.ssl) == nullptr) return false;
    release(std::exchange(context_, share(&context)));
    return true;
}

const void* Session::kind() const noexcept { return &session_kind; }

Session* Session::of(const Stream& stream) noexcept {
    whorl::detail::StreamFilter* filter = whorl::detail::stream_filter(stream);
    const bool ours = filter != nullptr && filter->kind() == &session_kind;
    return ours ? static_cast<Session*>(filter) : nullptr;
}
Session& Session::of(const SSL& ssl) noexcept {
    return *static_cast<Session*>(SSL_get_app_data(&ssl));
}

// --- OpenSSL's ends. It asks for bytes that are not there yet, and is told to come again.

// Made once for the process, by whoever has the memory for it first. Nobody looks for a BIO of ours by its
// type, so it has no index of its own, of which there are few.
BIO_METHOD* Session::bio_method() noexcept {
    static std::atomic<BIO_METHOD*> method{nullptr};
    BIO_METHOD* there = method.load(std::memory_order_acquire);
    if (there != nullptr) return there;
    BIO_METHOD* const made = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "whorl");
    if (made == nullptr) return nullptr;
    BIO_meth_set_write(made, &bio_write);
    BIO_meth_set_read(made, &bio_read);
    BIO_meth_set_ctrl(made, &bio_control);
    if (method.compare_exchange_strong(there, made, std::memory_order_acq_rel)) return made;
    BIO_meth_free(made);
    return there;
}

bool Session::connect() noexcept {
    // The callbacks look for us there, so it takes memory before the first of them is called.
    if (SSL_set_app_data(ssl_, this) != 1) return false;
    BIO_METHOD* const method = bio_method();
    BIO* const bio = method != nullptr ? BIO_new(method) : nullptr;
    if (bio == nullptr) return false;
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_, bio, bio);
    return true;
}

int Session::bio_write(BIO* bio, const char* data, int size) {
    auto& session = *static_cast<Session*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (size <= 0) return 0;
    if (session.put({data, static_cast<std::size_t>(size)})) return size;
    session.no_memory_ = true;
    return -1;
}

int Session::bio_read(BIO* bio, char* data, int size) {
    auto& session = *static_cast<Session*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    Bytes* const input = session.input_;
    if (input == nullptr || input->empty() || size <= 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    const std::size_t part = std::min(input->size, static_cast<std::size_t>(size));
    std::memcpy(data, input->data, part);
    *input = {input->data + part, input->size - part};
    return static_cast<int>(part);
}

long Session::bio_control(BIO*, int command, long, void*) {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

// --- What the stream calls

Error Session::failure() noexcept {
    if (no_memory_) return Error::from_errno(ENOMEM);
    return failure_of(*ssl_, reason_, sizeof reason_);
}

whorl::detail::StreamFilter::Unsealed Session::unseal(Bytes& input, Buffer& output) noexcept {
    ERR_clear_error();
    input_ = &input;
    Unsealed result;
    if (!ready) result.error = shake();
    if (ready) result = read(output);
    input_ = nullptr;
    return result;
}

Error Session::shake() noexcept {
    const int done = SSL_do_handshake(ssl_);
    ready = done == 1;
    if (ready || SSL_get_error(ssl_, done) == SSL_ERROR_WANT_READ) return {};
    return failure();
}

whorl::detail::StreamFilter::Unsealed Session::read(Buffer& output) noexcept {
    while (output.size() < output.capacity()) {
        const std::size_t before = output.size();
        std::size_t got = 0;
        const int done =
            SSL_read_ex(ssl_, output.data() + before, output.capacity() - before, &got);
        if (done != 1) {
            switch (SSL_get_error(ssl_, done)) {
                case SSL_ERROR_WANT_READ:
                    return {};
                case SSL_ERROR_ZERO_RETURN:
                    return {{}, false, true};
                default:
                    return {failure()};
            }
        }
        output.resize(before + got);
    }
    return {{}, true, false};
}

Error Session::seal(Bytes plain) noexcept {
    ERR_clear_error();
    std::size_t written = 0;
    if (SSL_write_ex(ssl_, plain.data, plain.size, &written) != 1) return failure();
    WHORL_ASSERT(written == plain.size);
    return {};
}

// Before the handshake has ended there is nothing to be said.
void Session::end() noexcept {
    if (!ready) return;
    ERR_clear_error();
    static_cast<void>(SSL_shutdown(ssl_));
    ERR_clear_error();
}

}  // namespace detail

// --- What users ask

Result<Info> info(const Stream& stream) noexcept {
    const detail::Session* const session = detail::Session::of(stream);
    if (session == nullptr || !session->ready) return Error::invalid_argument;
    const SSL& ssl = session->ssl();
    Info info;
    info.version = SSL_get_version(&ssl);
    info.cipher = SSL_get_cipher(&ssl);
    const unsigned char* alpn = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(&ssl, &alpn, &size);
    if (size != 0) info.alpn = {reinterpret_cast<const char*>(alpn), size};
    const char* const name = SSL_get_servername(&ssl, TLSEXT_NAMETYPE_host_name);
    if (name != nullptr) info.server_name = name;
    info.resumed = SSL_session_reused(&ssl) != 0;
    info.certificate = SSL_get0_peer_certificate(&ssl) != nullptr;
    return info;
}

Buffer peer_certificate(const Stream& stream) noexcept {
    const detail::Session* const session = detail::Session::of(stream);
    if (session == nullptr || !session->ready) return {};
    const X509* const certificate = SSL_get0_peer_certificate(&session->ssl());
    if (certificate == nullptr) return {};
    const int size = i2d_X509(certificate, nullptr);
    if (size <= 0) return {};
    Buffer der = Buffer::allocate(static_cast<std::size_t>(size));
    if (!der) return {};
    auto* to = reinterpret_cast<unsigned char*>(der.data());
    i2d_X509(certificate, &to);
    der.resize(static_cast<std::size_t>(size));
    return der;
}

const char* reason(const Stream& stream) noexcept {
    const detail::Session* const session = detail::Session::of(stream);
    return session != nullptr ? session->reason() : "";
}

}  // namespace whorl::tls
