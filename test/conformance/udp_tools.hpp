// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/contract.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <netinet/in.h>

#include <string>
#include <utility>
#include <vector>

// What the UDP tests share.

namespace whorl::conformance {

// What the handlers of datagram operations were told.
struct Datagrams {
    int finals = 0;
    Error error;  // of the final completion
    std::vector<std::string> texts;
    std::vector<Address> senders;
    std::vector<Error> errors;  // with more to come
    std::vector<DatagramInfo> infos;
    std::vector<bool> truncated;
    std::vector<Buffer> held;  // when buffers are kept
    bool keep = false;
    Buffer buffer;  // the last one
};

inline auto into(Datagrams& got) {
    return [&got](Loop&, auto done) {
        using Done = decltype(done);
        EXPECT_EQ(got.finals, 0) << "nothing follows the final completion";
        bool more = false;
        if constexpr (std::is_same_v<Done, RecvFromStream::Done>) more = done.more;
        const bool datagram = !done.error && (more || std::is_same_v<Done, RecvFrom::Done>);
        if (datagram) {
            got.texts.emplace_back(done.buffer.text());
            got.senders.push_back(done.address);
            got.truncated.push_back(done.truncated);
            got.infos.push_back(done.info);
        } else if (more) {
            EXPECT_FALSE(done.buffer);
            got.errors.push_back(done.error);
        }
        if (got.keep && done.buffer) got.held.push_back(std::move(done.buffer));
        else got.buffer = std::move(done.buffer);
        if (more) {
            got.buffer.reset();
            return;
        }
        got.error = done.error;
        ++got.finals;
    };
}

class UdpTest : public LoopTest {
  protected:
    static UdpSocket open(Loop& loop, const UdpOptions& options = {},
                          const Address& address = Address::loopback_v4(0)) {
        const Result<UdpSocket> made = open_udp(loop, address, options);
        EXPECT_TRUE(made) << made.error().text();
        return made ? *made : UdpSocket();
    }
    static Address address_of(Loop& loop, UdpSocket socket) {
        const Result<Address> address = local_address(loop, socket);
        EXPECT_TRUE(address) << address.error().text();
        return address ? *address : Address();
    }
    // A socket of the test's own, bound to the loopback and connected to `to` unless that is none.
    static Fd peer(const Address& to = {}) {
        Fd made(os::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        const Address any = Address::loopback_v4(0);
        EXPECT_EQ(os::bind(made.get(), any.data(), any.length()), 0);
        if (to) {
            EXPECT_EQ(os::connect(made.get(), to.data(), to.length()), 0);
        }
        return made;
    }
    static Address address_of(const Fd& fd) {
        sockaddr_in6 address{};
        socklen_t size = sizeof address;
        EXPECT_EQ(os::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
        return *Address::from_sockaddr(&address, size);
    }
    static void send(const Fd& fd, const std::string& text) {
        EXPECT_EQ(os::send(fd.get(), text.data(), text.size(), 0),
                  static_cast<ssize_t>(text.size()));
    }
    // One datagram for the test's own socket.
    static std::string receive(const Fd& fd, std::size_t room = 70'000) {
        std::string text(room, '\0');
        EXPECT_TRUE(fd.readable_within(10s));
        const ssize_t got = os::recv(fd.get(), text.data(), text.size(), 0);
        EXPECT_GE(got, 0);
        text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return text;
    }
    static Buffer bytes(const std::string& text) {
        return text.empty() ? Buffer() : Buffer::copy_of(Bytes{text.data(), text.size()});
    }
    static void receive_one(Loop& loop, UdpSocket socket, Datagrams& got,
                            std::size_t room = 70'000) {
        got = Datagrams();
        ASSERT_TRUE(loop.submit(RecvFrom{socket, Buffer::allocate(room)}, into(got)));
        run_until(loop, [&] { return got.finals == 1; });
    }
    // Sends one and answers the completion's error.
    static Error send_one(Loop& loop, SendTo operation) {
        const std::size_t size = operation.buffer.size();
        const std::byte* data = operation.buffer.data();
        Error error;
        bool done = false;
        const Result<Operation> made =
            loop.submit(std::move(operation), [&](Loop&, SendTo::Done end) {
                error = end.error;
                done = true;
                EXPECT_EQ(end.bytes, end.error ? 0 : size);
                EXPECT_EQ(end.buffer.data(), data) << "the same buffer comes home";
                EXPECT_EQ(end.buffer.size(), size);
            });
        if (!made) return made.error();
        run_until(loop, [&] { return done; });
        return error;
    }
    template <class Tag>
    static void close_and_wait(Loop& loop, Handle<Tag> handle) {
        bool closed = false;
        EXPECT_FALSE(loop.close(handle, [&](Loop&) { closed = true; }));
        run_until(loop, [&] { return closed; });
    }
};

}  // namespace whorl::conformance
