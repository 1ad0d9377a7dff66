// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/text.hpp"
#include "http/web_socket_state.hpp"

#include <whorl/http_client.hpp>

#include <sys/random.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

// A client's handshake: connect, ask, and see that who answers speaks WebSocket and knows our key.
// Source: RFC 6455, 4.1.

namespace whorl::web_socket {

namespace {

// Into a buffer that was made with room for all of it.
void print(Buffer& into, std::string_view text) noexcept {
    const bool fits = into.append(Bytes(text));
    WHORL_ASSERT(fits);
}
void print_field(Buffer& into, std::string_view name, std::string_view value) noexcept {
    print(into, name);
    print(into, ": ");
    print(into, value);
    print(into, "\r\n");
}

// "a, b": tokens without a repetition of none. Empty: none are offered.
bool protocols_valid(std::string_view list) noexcept {
    if (list.empty()) return true;
    bool any = false;
    for (std::string_view one; !(one = list_next(list)).empty(); any = true) {
        if (!http::valid_name(one)) return false;
    }
    return any;
}

bool list_names(std::string_view list, std::string_view token) noexcept {
    for (std::string_view one; !(one = list_next(list)).empty();) {
        if (one == token) return true;
    }
    return false;
}

}  // namespace

Result<Connection*> detail::connect(Loop& loop, std::string_view url, Owner made,
                                    const ConnectOptions& options) noexcept {
    const bool secure = options.stream.layer != nullptr;
    const Result<http::Url> parsed =
        http::parse_url(url, secure ? "wss://" : "ws://", secure ? 443 : 80);
    if (!parsed) return parsed.error();
    if (!made) return Error::from_errno(ENOMEM);
    Connection& connection = *made;
    connection.loop_ = &loop;
    connection.client_ = new (std::nothrow) Connection::Client;
    if (connection.client_ == nullptr) return Error::from_errno(ENOMEM);
    Connection::Client& client = *connection.client_;
    client.stream = options.stream;
    client.handshake = options.handshake;
    client.seed = options.seed;
    if (Error error = connection.print_request(*parsed, options)) return error;
    ResolveQuery query{parsed->host};
    query.port = parsed->port;
    query.resolver = options.resolver;
    const Result<Connector*> connector =
        connect_host(loop, query, options.connect,
                     [owner = std::move(made)](Loop&, const Connected& result) mutable {
                         Connection& waiting = *owner;
                         waiting.connected(std::move(owner), result);
                     });
    if (!connector) return connector.error();
    client.connector = *connector;
    return &connection;
}

Error Connection::print_request(const http::Url& url, const ConnectOptions& options) noexcept {
    std::size_t room = 256 + url.target.size() + url.authority.size() + options.protocols.size();
    for (std::size_t index = 0; index < options.fields_count; ++index) {
        const http::Field& field = options.fields[index];
        if (!http::valid_name(field.name) || !http::valid_value(field.value)) {
            return Error::invalid_argument;
        }
        room += field.name.size() + field.value.size() + 4;
    }
    if (!protocols_valid(options.protocols)) return Error::invalid_argument;
    std::byte random[16];
    draw(random, sizeof(random));
    client_->key = key_of(random);
    Buffer& text = client_->request;
    text = Buffer::allocate(room);
    if (!text) return Error::from_errno(ENOMEM);
    const bool slash = url.target.empty() || url.target.front() != '/';
    print(text, slash ? "GET /" : "GET ");
    print(text, url.target);
    print(text, " HTTP/1.1\r\n");
    print_field(text, "Host", url.authority);
    print(text, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    print_field(text, "Sec-WebSocket-Key", {client_->key.text, key_size});
    if (!options.protocols.empty()) {
        client_->offered = Buffer::copy_of(Bytes(options.protocols));
        if (!client_->offered) return Error::from_errno(ENOMEM);
        print_field(text, "Sec-WebSocket-Protocol", options.protocols);
    }
    for (std::size_t index = 0; index < options.fields_count; ++index) {
        print_field(text, options.fields[index].name, options.fields[index].value);
    }
    print(text, "\r\n");
    return {};
}

void Connection::connected(detail::Owner self, const Connected& result) {
    client_->connector = nullptr;
    if (result.error || why_) {
        if (!result.error) static_cast<void>(loop_->close(result.socket));
        return closed(result.error);
    }
    phase_ = Phase::shaking;
    detail::Talk talk{std::move(self)};
    const Result<Stream*> stream = attach(*loop_, result.socket, std::move(talk), client_->stream);
    if (stream) {
        stream_ = *stream;
        return arm(client_->handshake);
    }
    static_cast<void>(loop_->close(result.socket));
    closed(stream.error());  // the talk was not moved from
}

void Connection::begin_shaking() noexcept { stream_->write(std::move(client_->request)); }

void Connection::shake(Buffer&& buffer) {
    Buffer taken = std::move(buffer);
    Bytes input = taken.bytes();
    for (;;) {
        switch (client_->parser.next(input)) {
            case http::Step::more:
                return;
            case http::Step::head: {
                const std::uint16_t status = client_->parser.message().status;
                if (status >= 200 || status == 101) return answered(std::move(taken), input.size);
                break;
            }
            case http::Step::end:
                client_->parser.restart();  // 100, 102 or 103: the answer is still to come
                break;
            default:
                why_ = http::error_of(client_->parser.fault());
                return stream_->close(why_);
        }
    }
}

// The head of the answer is there; `rest` bytes of the buffer follow it.
void Connection::answered(Buffer&& buffer, std::size_t rest) {
    why_ = shaken();
    if (why_) return stream_->close(why_);
    begin_checks();
    buffer.trim_front(buffer.size() - rest);
    if (rest != 0) stream_->unread(std::move(buffer));
    table_->opened(*this);
}

// What is wrong with the answer.
Error Connection::shaken() noexcept {
    const http::Message& answer = client_->parser.message();
    status_ = answer.status;
    if (answer.status != 101) return Error::from_errno(ECONNREFUSED);
    status_ = 0;
    const std::string_view key(client_->key.text, key_size);
    if (!asked(answer) || !answer.upgrade) return Error::frame_malformed;
    if (answer.find("Sec-WebSocket-Accept") != accept_of(key).view()) return Error::frame_malformed;
    if (!answer.find("Sec-WebSocket-Extensions").empty()) return Error::frame_malformed;
    const std::string_view chosen = answer.find("Sec-WebSocket-Protocol");
    if (chosen.empty()) return {};
    if (!list_names(client_->offered.text(), chosen)) return Error::frame_malformed;
    protocol_ = Buffer::copy_of(Bytes(chosen));
    return protocol_ ? Error() : Error::from_errno(ENOMEM);
}

// Bytes that nobody foresees, unless there is a seed.
void Connection::draw(std::byte* bytes, std::size_t count) noexcept {
    Client& client = *client_;
    WHORL_ASSERT(count <= sizeof(client.random));
    if (client.random_left < count) {
        client.random_left = sizeof(client.random);
        const bool drawn = client.seed == 0 && ::getrandom(client.random, sizeof(client.random),
                                                           0) == sizeof(client.random);
        // Where the kernel refuses, a mask that is less than random still is a mask.
        if (!drawn && client.seed == 0) client.seed = reinterpret_cast<std::uintptr_t>(this);
        for (std::size_t at = 0; !drawn && at < sizeof(client.random); at += 8) {
            std::uint64_t word = client.seed += 0x9E37'79B9'7F4A'7C15;
            word = (word ^ word >> 30) * 0xBF58'476D'1CE4'E5B9;
            word = (word ^ word >> 27) * 0x94D0'49BB'1331'11EB;
            word ^= word >> 31;
            std::memcpy(client.random + at, &word, sizeof(word));
        }
    }
    client.random_left -= count;
    std::memcpy(bytes, client.random + client.random_left, count);
}

}  // namespace whorl::web_socket
