// SPDX-License-Identifier: MIT
// A SOCKS5 proxy (RFC 1928): connections to addresses and names, without or with a user and password
// (RFC 1929). socks5_proxy.cpp makes a program of it, and test/world/socks5_test.cpp tests it.
#pragma once

#include <whorl/whorl.hpp>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

struct Socks5Options {
    std::string user, password;  // empty: everybody may
    std::uint32_t connections_max = 1000;
    std::uint32_t per_peer_max = 0;
    whorl::Nanoseconds handshake = std::chrono::seconds(10);  // to say where to
    whorl::Nanoseconds connect = std::chrono::seconds(10);    // to get there
    whorl::Nanoseconds idle = std::chrono::hours(1);          // afterwards
    whorl::HostResolver* resolver = nullptr;
};

// What a client is told (RFC 1928 section 6).
enum class Socks5Reply : std::uint8_t {
    succeeded = 0,
    failed = 1,
    network_unreachable = 3,
    host_unreachable = 4,
    refused = 5,
    unknown_command = 7,
    unknown_address = 8,
};

inline Socks5Reply socks5_reply(whorl::Error error) {
    switch (error.value()) {
        case 0:
            return Socks5Reply::succeeded;
        case ENETUNREACH:
            return Socks5Reply::network_unreachable;
        case EHOSTUNREACH:
        case ETIMEDOUT:
        case whorl::Error::timed_out:
        case whorl::Error::name_unknown:
        case whorl::Error::name_no_record:
        case whorl::Error::name_not_answered:
        case whorl::Error::name_refused:
            return Socks5Reply::host_unreachable;
        case ECONNREFUSED:
            return Socks5Reply::refused;
        default:
            return Socks5Reply::failed;
    }
}

// What is known of one client until it is connected. The connector's handler shares it with the protocol.
struct Socks5Session {
    const Socks5Options* options;
    int* open;
    whorl::Stream* stream = nullptr;  // null: it has closed
    whorl::Connector* connector = nullptr;
};

class Socks5 {
  public:
    Socks5(const Socks5Options& options, int& open)
        : session_(std::make_shared<Socks5Session>(Socks5Session{&options, &open})) {}

    void opened(whorl::Stream& stream) { session_->stream = &stream; }
    void received(whorl::Stream& stream, whorl::Buffer buffer) {
        const std::size_t before = head_.size();
        head_ += buffer.text().substr(0, head_max - before);
        std::size_t taken = 0;
        while (const std::size_t size = step(stream)) {
            head_.erase(0, size);
            taken += size;
            if (state_ != State::connecting) continue;
            buffer.trim_front(taken - before);  // what follows is for the other side
            if (!buffer.empty()) stream.unread(std::move(buffer));
            return;
        }
    }
    void closed(whorl::Stream&, whorl::Closed) {
        session_->stream = nullptr;
        if (session_->connector != nullptr) session_->connector->cancel();
    }

  private:
    enum class State { greeting, login, request, connecting, refused };
    // The longest of each message, which a client may send at once.
    static constexpr std::size_t head_max = (2 + 255) + (3 + 255 + 255) + (5 + 255 + 2);

    auto handler() {
        return [session = session_](whorl::Loop& loop, const whorl::Connected& connected) {
            finish(loop, *session, connected);
        };
    }

    unsigned at(std::size_t index) const { return static_cast<unsigned char>(head_[index]); }

    // Takes one message. How long it was; 0: it is not whole, or the last.
    std::size_t step(whorl::Stream& stream) {
        if (head_.empty() || state_ == State::refused) return 0;
        if (at(0) != (state_ == State::login ? 1 : 5)) {
            stream.close(
                whorl::Error::frame_malformed);  // not for us: no answer that it could read
            return refused(stream);
        }
        if (state_ == State::greeting) return greeting(stream);
        if (state_ == State::login) return login(stream);
        return request(stream);
    }

    // Version, count, methods.
    std::size_t greeting(whorl::Stream& stream) {
        if (head_.size() < 2 || head_.size() < 2 + at(1)) return 0;
        const std::size_t size = 2 + at(1);
        const char wanted = session_->options->user.empty() ? '\0' : '\2';
        const bool offered =
            std::string_view(head_).substr(2, at(1)).find(wanted) != std::string_view::npos;
        const char answer[] = {5, offered ? wanted : '\xFF'};
        stream.write(std::string_view(answer, sizeof answer));
        state_ = wanted == 0 ? State::request : State::login;
        return offered ? size : refused(stream);
    }

    // Version, user and password, each behind its size.
    std::size_t login(whorl::Stream& stream) {
        if (head_.size() < 2) return 0;
        const std::size_t user = at(1);
        if (head_.size() < 3 + user) return 0;
        const std::size_t password = at(2 + user), size = 3 + user + password;
        if (head_.size() < size) return 0;
        const std::string_view text(head_);
        const bool right = text.substr(2, user) == session_->options->user &&
                           text.substr(3 + user, password) == session_->options->password;
        const char answer[] = {1, static_cast<char>(right ? 0 : 1)};
        stream.write(std::string_view(answer, sizeof answer));
        state_ = State::request;
        return right ? size : refused(stream);
    }

    // Version, command, 0, kind of address, address, port.
    std::size_t request(whorl::Stream& stream) {
        if (head_.size() < 5) return 0;
        const unsigned kind = at(3);
        const std::size_t from = kind == 3 ? 5 : 4;
        const std::size_t length = kind == 1 ? 4 : kind == 4 ? 16 : kind == 3 ? at(4) : 0;
        const std::size_t size = from + length + 2;
        if (length == 0 || at(1) != 1) {
            answer(stream,
                   at(1) != 1 ? Socks5Reply::unknown_command : Socks5Reply::unknown_address);
            return refused(stream);
        }
        if (head_.size() < size) return 0;
        const auto port = static_cast<std::uint16_t>(at(size - 2) << 8 | at(size - 1));
        const std::string_view address = std::string_view(head_).substr(from, length);
        state_ = State::connecting;
        stream.pause();
        whorl::StreamDeadlines deadlines;  // the connector has its own
        stream.set_deadlines(deadlines);
        const whorl::Error error = kind == 3 ? connect_name(stream, address, port)
                                             : connect_address(stream, address, port);
        if (!error) return size;
        answer(stream, socks5_reply(error));
        return refused(stream);
    }

    whorl::Error connect_name(whorl::Stream& stream, std::string_view name, std::uint16_t port) {
        whorl::ResolveQuery query{name, {}, port};
        query.resolver = session_->options->resolver;
        return started(whorl::connect_host(stream.loop(), query, connecting(), handler()));
    }
    whorl::Error connect_address(whorl::Stream& stream, std::string_view bytes,
                                 std::uint16_t port) {
        std::uint8_t raw[16] = {};
        for (std::size_t index = 0; index < bytes.size(); ++index) {
            raw[index] = static_cast<std::uint8_t>(bytes[index]);
        }
        const whorl::Address address =
            bytes.size() == 4 ? whorl::Address::ipv4(raw[0], raw[1], raw[2], raw[3], port)
                              : whorl::Address::ipv6(raw, port);
        return started(whorl::connect_any(stream.loop(), &address, 1, connecting(), handler()));
    }
    whorl::ConnectorOptions connecting() const {
        whorl::ConnectorOptions options;
        options.total = session_->options->connect;
        return options;
    }
    whorl::Error started(const whorl::Result<whorl::Connector*>& made) {
        if (made) session_->connector = *made;
        return made.error();
    }
    static void finish(whorl::Loop& loop, Socks5Session& session,
                       const whorl::Connected& connected) {
        session.connector = nullptr;
        whorl::Stream* const stream = session.stream;
        if (stream == nullptr || stream->closing()) {
            if (!connected.error) (void)loop.close(connected.socket);
            return;
        }
        if (connected.error) {
            answer(*stream, socks5_reply(connected.error));
            return stream->close();
        }
        const auto local = whorl::local_address(loop, connected.socket);
        whorl::RelayOptions options;
        options.stream.deadlines.idle = session.options->idle;
        const auto ended = [open = session.open](whorl::Loop&, const whorl::Relayed&) { --*open; };
        answer(*stream, Socks5Reply::succeeded, local ? *local : whorl::Address());
        if (whorl::Error error = whorl::relay(*stream, connected.socket, options, ended)) {
            (void)loop.close(connected.socket);
            return stream->abort(error);
        }
        ++*session.open;
        stream->set_deadlines(options.stream.deadlines);
    }

    // What was written is sent; nothing is read any more.
    std::size_t refused(whorl::Stream& stream) {
        state_ = State::refused;
        stream.close();
        return 0;
    }
    static void answer(whorl::Stream& stream, Socks5Reply reply,
                       const whorl::Address& address = {}) {
        std::string text{5, static_cast<char>(reply), 0,
                         static_cast<char>(address.is_v6() ? 4 : 1)};
        const auto* bytes = reinterpret_cast<const char*>(address.data());
        // In the kernel's form the port comes before, and for IPv6 a flow label.
        if (address.is_v6()) text.append(bytes + 8, 16).append(bytes + 2, 2);
        else if (address.is_v4()) text.append(bytes + 4, 4).append(bytes + 2, 2);
        else text.append(6, '\0');
        stream.write(text);
    }

    std::shared_ptr<Socks5Session> session_;
    std::string head_;  // what came of a message
    State state_ = State::greeting;
};

class Socks5Proxy {
  public:
    explicit Socks5Proxy(Socks5Options options = {}) : options_(std::move(options)) {}

    whorl::Error start(whorl::Loop& loop, const whorl::Address& address) {
        whorl::AcceptorOptions limits;
        limits.connections_max = options_.connections_max;
        limits.per_peer_max = options_.per_peer_max;
        limits.stream.deadlines.total = options_.handshake;
        const auto made = whorl::serve(
            loop, address, [this](const whorl::Accepted&) { return Socks5(options_, open_); },
            limits);
        if (!made) return made.error();
        listener_ = (*made)->listener();
        return {};
    }
    whorl::Listener listener() const { return listener_; }
    int open() const { return open_; }  // relays

  private:
    Socks5Options options_;
    whorl::Listener listener_;
    int open_ = 0;
};
