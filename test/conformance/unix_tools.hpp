// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/contract.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <string>

// What the tests of Unix sockets share.

namespace whorl::conformance {

// A folder of the test's own, empty again at its end. A world knows names and no folders.
class Folder {
  public:
    Folder() {
        if (os::world() != nullptr) return;
        char made[] = "/tmp/whorl-unix-XXXXXX";
        EXPECT_NE(mkdtemp(made), nullptr);
        path_ = made;
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() {
        if (os::world() != nullptr) return;
        ::unlink((path_ + "/socket").c_str());
        EXPECT_EQ(::rmdir(path_.c_str()), 0);
    }
    UnixAddress address() const { return *UnixAddress::file(path_ + "/socket"); }
    std::string file() const { return path_ + "/socket"; }

  private:
    std::string path_ = "/tmp";
};

class UnixTools : public TcpTools {
  protected:
    static UnixAddress abstract_name() {
        static std::atomic<int> count{0};
        const std::string name =
            "whorl-test-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
        return *UnixAddress::abstract(name);
    }
    static Listener listen_at(Loop& loop, const UnixAddress& address,
                              const UnixListenOptions& options = {}) {
        const Result<Listener> made = listen_unix(loop, address, options);
        EXPECT_TRUE(made) << made.error().text();
        return made ? *made : Listener();
    }
    // A connection within the loop: the side that connected, and the side that accepted.
    static SocketPair connect_through(Loop& loop, Listener listener, const UnixAddress& address,
                                      UnixKind kind = UnixKind::stream) {
        SocketPair pair;
        int ends = 0;
        EXPECT_TRUE(loop.submit(ConnectUnix{address, kind}, [&](Loop&, ConnectUnix::Done done) {
            EXPECT_FALSE(done.error) << done.error.text();
            pair.first = done.socket;
            ++ends;
        }));
        EXPECT_TRUE(loop.submit(Accept{listener}, [&](Loop&, Accept::Done done) {
            EXPECT_FALSE(done.error) << done.error.text();
            pair.second = done.socket;
            ++ends;
        }));
        run_until(loop, [&] { return ends == 2; });
        return pair;
    }
    static Buffer bytes(const std::string& text) {
        return Buffer::copy_of(Bytes{text.data(), text.size()});
    }
    static void send_all(Loop& loop, Socket socket, const std::string& text) {
        End end;
        ASSERT_TRUE(loop.submit(SendAll{socket, bytes(text)}, into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_FALSE(end.error) << end.error.text();
    }
    static std::string receive(Loop& loop, Socket socket, std::size_t room) {
        End end;
        EXPECT_TRUE(loop.submit(Recv{socket, Buffer::allocate(room)}, into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_FALSE(end.error) << end.error.text();
        return end.text;
    }
    static std::string receive_exactly(Loop& loop, Socket socket, std::size_t size) {
        End end;
        EXPECT_TRUE(loop.submit(Recv{socket, Buffer::allocate(size), MSG_WAITALL}, into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        return end.text;
    }
};

}  // namespace whorl::conformance
