// SPDX-License-Identifier: MIT
// What the rival UDP echo servers share: the socket, and for those on readiness the work itself, a batch of
// datagrams by recvmmsg and their answers by sendmmsg. An answer that the socket does not take is dropped,
// as UDP may.
#pragma once

#include <sys/uio.h>

#include "echo.hpp"

namespace bench {

// Room for a burst of every client; where the limit of the system is lower, that is the room there is.
constexpr int udp_buffer = 4 << 20;

inline int bind_udp(const Options& options) {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket", errno);
    set_option(fd, SOL_SOCKET, SO_RCVBUF, options.rcvbuf != 0 ? options.rcvbuf : udp_buffer,
               "SO_RCVBUF");
    set_option(fd, SOL_SOCKET, SO_SNDBUF, options.sndbuf != 0 ? options.sndbuf : udp_buffer,
               "SO_SNDBUF");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    if (inet_pton(AF_INET, options.bind.c_str(), &address.sin_addr) != 1) {
        fail(options.bind.c_str(), EINVAL);
    }
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("bind", errno);
    return fd;
}

class Datagrams {
  public:
    Datagrams() : memory_(std::size_t{batch} * datagram_max) {
        for (unsigned index = 0; index < batch; ++index) {
            pieces_[index].iov_base = memory_.data() + std::size_t{index} * datagram_max;
            msghdr& header = messages_[index].msg_hdr;
            header.msg_iov = &pieces_[index];
            header.msg_iovlen = 1;
            header.msg_name = &from_[index];
        }
    }
    Datagrams(const Datagrams&) = delete;
    Datagrams& operator=(const Datagrams&) = delete;

    // Answers what has come, a batch at most: the level brings us back.
    void ready(int fd) {
        for (unsigned index = 0; index < batch; ++index) {
            pieces_[index].iov_len = datagram_max;
            messages_[index].msg_hdr.msg_namelen = sizeof(sockaddr_in);
        }
        const int count = recvmmsg(fd, messages_, batch, MSG_DONTWAIT, nullptr);
        for (int index = 0; index < count; ++index) {
            pieces_[index].iov_len = messages_[index].msg_len;
        }
        if (count > 0) (void)sendmmsg(fd, messages_, static_cast<unsigned>(count), MSG_DONTWAIT);
    }

  private:
    static constexpr unsigned batch = 32;
    static constexpr std::size_t datagram_max = 2048;
    std::vector<char> memory_;
    mmsghdr messages_[batch] = {};
    iovec pieces_[batch] = {};
    sockaddr_in from_[batch] = {};
};

}  // namespace bench
