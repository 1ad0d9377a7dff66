// SPDX-License-Identifier: MIT
// Goal: after setuid(2) a loop that is running already does nothing with the rights it had before: what is
// submitted then has the credentials of then. (A ring with a kernel thread of its own would keep those of
// its making.) Method: a child with a loop that has run gives up its user; the receiver of a Unix socket
// asks the kernel who has sent, for a send that goes through at once and for one that waits for room.
#include "conformance/backend_child.hpp"
#include "conformance/tcp_pair.hpp"

#include <grp.h>

#include <cstring>

namespace whorl::conformance {
namespace {

constexpr uid_t nobody = 65534;

class Credentials : public TcpTest {
  protected:
    // The user that has sent the next message of the socket, by the kernel's word.
    static long sender_of(int fd, std::size_t& size) {
        char bytes[4096];
        iovec part{bytes, sizeof bytes};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        const ssize_t got = ::recvmsg(fd, &message, MSG_DONTWAIT);
        size = got > 0 ? static_cast<std::size_t>(got) : 0;
        const cmsghdr* header = CMSG_FIRSTHDR(&message);
        if (got <= 0 || header == nullptr || header->cmsg_type != SCM_CREDENTIALS) return -1;
        ucred credentials{};
        std::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
        return credentials.uid;
    }

    // In a child. What it sends before and after it is another user; "" when all is as it should be.
    std::string send_as_two() {
        Loop loop = make_loop();
        int fds[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return "socketpair";
        const int on = 1;
        ::setsockopt(fds[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
        const Socket socket = *adopt_socket(loop, fds[0]);
        int sent = 0;
        const auto send = [&](std::size_t size) {
            SendAll all{socket, adopt(std::string(size, 'x'))};
            return loop.submit(std::move(all),
                               [&](Loop&, SendAll::Done done) { sent += done.error ? 100 : 1; });
        };
        std::size_t size = 0;
        if (!send(1)) return "submit";
        run_until(loop, [&] { return sent == 1; });
        if (sender_of(fds[1], size) != 0) return "the first message is not of root";
        if (::setgroups(0, nullptr) != 0 || ::setresgid(nobody, nobody, nobody) != 0 ||
            ::setresuid(nobody, nobody, nobody) != 0) {
            return "the rights cannot be given up";
        }
        if (!send(1)) return "submit";
        run_until(loop, [&] { return sent == 2; });
        if (sender_of(fds[1], size) != nobody) return "a message has the rights of before";
        constexpr std::size_t much = 1 << 20;  // has to wait for room
        if (!send(much)) return "submit";
        for (std::size_t received = 0; received < much; received += size) {
            static_cast<void>(loop.poll());
            const long sender = sender_of(fds[1], size);
            if (size != 0 && sender != nobody)
                return "a message that waited has the rights of before";
        }
        run_until(loop, [&] { return sent == 3; });
        ::close(fds[1]);
        return "";
    }
};

TEST_P(Credentials, an_operation_has_those_of_its_submission) {
    WHORL_SKIP_IF_REFUSED();
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
    EXPECT_EQ(in_child([this] { return send_as_two(); }), "");
}

WHORL_CONFORMANCE_REAL(Credentials);

}  // namespace
}  // namespace whorl::conformance
