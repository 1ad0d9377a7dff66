// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/tcp_pair.hpp"

#include <type_traits>
#include <utility>
#include <vector>

// What the TCP tests share: how an operation ended, which buffer came home, and peers that do not read
// or do not answer.

namespace whorl::conformance {

// Where a buffer lies, to see that the very same one comes home.
struct Place {
    const std::byte* data = nullptr;
    std::size_t capacity = 0;

    Place() = default;
    explicit Place(const Buffer& buffer) : data(buffer.data()), capacity(buffer.capacity()) {}
    bool holds(const Buffer& buffer) const {
        return buffer.data() == data && buffer.capacity() == capacity && data != nullptr;
    }
};

// All that an operation's handler was told.
struct End {
    int finals = 0;
    int parts = 0;  // completions with more == true
    Error error;    // of the final one
    std::uint64_t bytes = 0;
    Buffer buffer;
    BufferChain chain;
    Socket socket;
    std::string text;  // all that was received
    std::vector<Socket> sockets;
    std::string* order = nullptr;  // where to write `name` at the final completion
    char name = '?';
    const bool* inside = nullptr;  // true while a call of the API is on the stack
    std::vector<Error> part_errors;
};

template <class Done, class = void>
struct HasMore : std::false_type {};
template <class Done>
struct HasMore<Done, std::void_t<decltype(std::declval<Done>().more)>> : std::true_type {};
template <class Done, class = void>
struct HasBytes : std::false_type {};
template <class Done>
struct HasBytes<Done, std::void_t<decltype(std::declval<Done>().bytes)>> : std::true_type {};
template <class Done, class = void>
struct HasBuffer : std::false_type {};
template <class Done>
struct HasBuffer<Done, std::void_t<decltype(std::declval<Done>().buffer)>> : std::true_type {};
template <class Done, class = void>
struct HasChain : std::false_type {};
template <class Done>
struct HasChain<Done, std::void_t<decltype(std::declval<Done>().chain)>> : std::true_type {};
template <class Done, class = void>
struct HasSocket : std::false_type {};
template <class Done>
struct HasSocket<Done, std::void_t<decltype(std::declval<Done>().socket)>> : std::true_type {};

// A handler for every operation that writes into an End.
class Into {
  public:
    explicit Into(End& end) : end_(&end) {}
    template <class Done>
    void operator()(Loop&, Done done) const {
        if (end_->inside != nullptr) {
            EXPECT_FALSE(*end_->inside) << "called inline";
        }
        EXPECT_EQ(end_->finals, 0) << "nothing follows the final completion";
        bool more = false;
        if constexpr (HasMore<Done>::value) more = done.more;
        if constexpr (HasSocket<Done>::value) {
            end_->socket = done.socket;
            if (done.socket) end_->sockets.push_back(done.socket);
        }
        if constexpr (HasBuffer<Done>::value && !HasBytes<Done>::value) {
            end_->text += done.buffer.text();
        }
        if (more) {
            ++end_->parts;
            if (done.error) end_->part_errors.push_back(done.error);
            return;
        }
        if constexpr (HasBytes<Done>::value) end_->bytes = done.bytes;
        if constexpr (HasBuffer<Done>::value) end_->buffer = std::move(done.buffer);
        if constexpr (HasChain<Done>::value) end_->chain = std::move(done.chain);
        end_->error = done.error;
        ++end_->finals;
        if (end_->order != nullptr) end_->order->push_back(end_->name);
    }

  private:
    End* end_;
};
inline Into into(End& end) { return Into(end); }

// A heap buffer of `size` bytes that all count, filled with pattern(size, offset).
inline Buffer filled(std::size_t size, std::uint64_t offset = 0) {
    const std::string text = pattern(size, offset);
    return Buffer::copy_of(Bytes{text.data(), text.size()});
}

// Receives what has arrived, at most `size` bytes, without waiting.
inline std::string receive_now(Peer& peer, std::size_t size) {
    std::string text(size, '\0');
    const ssize_t got = os::recv(peer.fd(), text.data(), size, MSG_DONTWAIT);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
}

// A port that is held and at which nobody listens: connections are refused, and no other program gets it.
class HeldPort {
  public:
    HeldPort() {
        socket_ = os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(os::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        socklen_t size = sizeof address;
        os::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ntohs(address.sin_port);
    }
    HeldPort(const HeldPort&) = delete;
    HeldPort& operator=(const HeldPort&) = delete;
    ~HeldPort() { os::close(socket_); }
    Address address() const { return Address::loopback_v4(port_); }

  private:
    int socket_ = -1;
    std::uint16_t port_ = 0;
};

// A listening port that answers nobody: its backlog is full.
class Blackhole {
  public:
    Blackhole() {
        listener_ = os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(os::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(os::listen(listener_, 0), 0);
        socklen_t size = sizeof address;
        os::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ntohs(address.sin_port);
        for (int& fd : fillers_) {
            fd = os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            static_cast<void>(
                os::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address));
        }
    }
    Blackhole(const Blackhole&) = delete;
    Blackhole& operator=(const Blackhole&) = delete;
    ~Blackhole() {
        for (int fd : fillers_) os::close(fd);
        os::close(listener_);
    }
    Address address() const { return Address::loopback_v4(port_); }

  private:
    int listener_ = -1;
    int fillers_[3] = {-1, -1, -1};
    std::uint16_t port_ = 0;
};

class TcpTools : public TcpTest {
  protected:
    // More than a connection with small buffers can hold.
    static constexpr std::size_t blocked_size = std::size_t{4} << 20;

    // A connection whose buffers are small, so that a large send blocks until the peer reads.
    static Pair make_narrow_pair(Loop& loop) {
        ListenOptions options;
        options.accepted.send_buffer = 4096;
        return make_pair(loop, options, 4096);
    }
    // Turns that do not wait; what was under way before each has arrived.
    static void turns(Loop& loop, int count) {
        for (int turn = 0; turn < count; ++turn) {
            os::let_arrive();
            EXPECT_FALSE(loop.poll());
        }
    }
    static int fd_of(Loop& loop, Socket socket) {
        const Result<int> fd = native_handle(loop, socket);
        EXPECT_TRUE(fd);
        return *fd;
    }
    static bool fd_is_open(int fd) { return os::fcntl(fd, F_GETFD) >= 0; }
    // An end of a connected pair of sockets in the loop, and the other end for the test.
    static Pair make_local_pair(Loop& loop) {
        int fds[2];
        EXPECT_EQ(os::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        Pair pair;
        const Result<Socket> socket = adopt_socket(loop, fds[0]);
        EXPECT_TRUE(socket) << socket.error().text();
        pair.socket = *socket;
        pair.peer = Peer(fds[1]);
        return pair;
    }
    // Closes what a test still has open and waits until it is gone.
    static void close_all(Loop& loop, const std::vector<Socket>& sockets) {
        for (Socket socket : sockets) static_cast<void>(loop.close(socket));
        run_until(loop, [&] { return loop.statistics().handles == 0; });
    }
};

}  // namespace whorl::conformance
