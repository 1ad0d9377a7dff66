// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/fixture.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace whorl::conformance {

// A plain blocking socket of the test, the peer of what the loop does.
class Peer {
  public:
    Peer() = default;
    explicit Peer(int fd) : fd_(fd) {}
    Peer(Peer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Peer& operator=(Peer&& other) noexcept {
        close();
        fd_ = std::exchange(other.fd_, -1);
        return *this;
    }
    ~Peer() { close(); }

    static Peer connect_to(std::uint16_t port, int receive_buffer = 0) {
        Peer peer(os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (receive_buffer > 0) {
            os::setsockopt(peer.fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        }
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(os::connect(peer.fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        const int on = 1;
        os::setsockopt(peer.fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        return peer;
    }

    int fd() const { return fd_; }
    void close() {
        if (fd_ >= 0) os::close(fd_);
        fd_ = -1;
    }
    // Closes with a reset instead of an orderly end.
    void reset() {
        const linger value{1, 0};
        os::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &value, sizeof value);
        close();
    }
    void finish_sending() { os::shutdown(fd_, SHUT_WR); }
    void send(const std::string& text) {
        std::size_t done = 0;
        while (done < text.size()) {
            const ssize_t sent =
                os::send(fd_, text.data() + done, text.size() - done, MSG_NOSIGNAL);
            ASSERT_GT(sent, 0);
            done += static_cast<std::size_t>(sent);
        }
    }
    // Whether something (data or the end) can be read within the time.
    bool readable_within(std::chrono::milliseconds time) const {
        pollfd wait{fd_, POLLIN, 0};
        return os::poll(&wait, 1, static_cast<int>(time.count())) == 1;
    }
    // Receives exactly `size` bytes, or fewer when the other side ends.
    std::string receive(std::size_t size) {
        std::string text(size, '\0');
        std::size_t done = 0;
        while (done < size) {
            const ssize_t got = os::recv(fd_, text.data() + done, size - done, 0);
            if (got <= 0) break;
            done += static_cast<std::size_t>(got);
        }
        text.resize(done);
        return text;
    }

  private:
    int fd_ = -1;
};

// Bytes that tell their own position, so that loss, repetition and disorder show.
inline std::string pattern(std::size_t size, std::uint64_t offset = 0) {
    std::string text(size, '\0');
    for (std::size_t index = 0; index < size; ++index) {
        std::uint64_t mixed = (offset + index) / 7 + (offset + index) * 0x9E3779B97F4A7C15u;
        text[index] = static_cast<char>(mixed >> 56);
    }
    return text;
}

class TcpTest : public LoopTest {
  protected:
    static Listener listen_here(Loop& loop, const ListenOptions& options = {}) {
        Result<Listener> listener = listen(loop, Address::loopback_v4(0), options);
        EXPECT_TRUE(listener) << listener.error().text();
        return *listener;
    }
    static std::uint16_t port_of(Loop& loop, Listener listener) {
        Result<Address> address = local_address(loop, listener);
        EXPECT_TRUE(address);
        return address->port();
    }
    // A connection: the loop's socket, and the test's own peer.
    struct Pair {
        Socket socket;
        Peer peer;
    };
    static Pair make_pair(Loop& loop, const ListenOptions& options = {},
                          int peer_receive_buffer = 0) {
        const Listener listener = listen_here(loop, options);
        Pair pair;
        pair.peer = Peer::connect_to(port_of(loop, listener), peer_receive_buffer);
        bool accepted = false;
        Result<Operation> operation = loop.submit(Accept{listener}, [&](Loop&, Accept::Done done) {
            EXPECT_FALSE(done.error) << done.error.text();
            pair.socket = done.socket;
            accepted = true;
        });
        EXPECT_TRUE(operation);
        run_until(loop, [&] { return accepted; });
        EXPECT_FALSE(loop.close(listener));
        return pair;
    }
    static void close_and_wait(Loop& loop, Socket socket) {
        bool closed = false;
        EXPECT_FALSE(loop.close(socket, [&](Loop&) { closed = true; }));
        run_until(loop, [&] { return closed; });
    }
};

}  // namespace whorl::conformance
