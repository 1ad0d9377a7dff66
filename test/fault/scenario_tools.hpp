// SPDX-License-Identifier: MIT
#pragma once

#include "fault/world.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

// What the scenarios share.

namespace fault {

using namespace std::chrono_literals;
using namespace whorl;

// Bytes that tell their own position.
inline std::byte byte_at(std::uint64_t offset) noexcept {
    return static_cast<std::byte>((offset * 0x9E3779B97F4A7C15u) >> 56);
}
inline void fill(Buffer& buffer, std::size_t size, std::uint64_t offset) noexcept {
    buffer.resize(size);
    for (std::size_t index = 0; index < size; ++index)
        buffer.data()[index] = byte_at(offset + index);
}
inline bool holds(const Buffer& buffer, std::uint64_t offset) noexcept {
    for (std::size_t index = 0; index < buffer.size(); ++index) {
        if (buffer.data()[index] != byte_at(offset + index)) return false;
    }
    return true;
}

// A descriptor of the scenario's own, beyond the faults.
class Fd {
  public:
    Fd() = default;
    explicit Fd(int number) noexcept : number_(number) {}
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(-1); }
    int get() const noexcept { return number_; }
    int release() noexcept { return std::exchange(number_, -1); }
    void reset(int number) noexcept {
        const Pause pause;
        if (number_ >= 0) ::close(number_);
        number_ = number;
    }

  private:
    int number_ = -1;
};

// What most scenarios begin with: a listener, and a connection with both ends in the loop.
struct Pair {
    explicit Pair(World& owner) noexcept : world(owner) {}
    World& world;
    Listener listener;
    Address address;
    Socket server;
    Socket client;

    SocketOptions options;  // of both ends

    // Small socket buffers: large transfers take many rounds, or get stuck.
    void narrow() noexcept { options.receive_buffer = options.send_buffer = 32768; }
    static constexpr std::size_t large_size = 1 << 20;  // more than they hold

    bool listen() noexcept {
        const Result<Listener> made =
            whorl::listen(world.loop(), own_address(), ListenOptions{options});
        if (!made) return !world.failed("listen", made.error());
        listener = *made;
        const Result<Address> here = local_address(world.loop(), listener);
        if (!here) return !world.failed("local_address", here.error());
        address = *here;
        return true;
    }
    // Calls `ready()` when both ends are there.
    template <class Ready>
    void connect(Ready ready) noexcept {
        if (!listen()) return;
        world.submit(Accept{listener}, [this, ready](Accept::Done done) {
            if (world.failed("accept", done.error)) return;
            server = done.socket;
            if (client) ready();
        });
        if (world.over()) return;
        world.submit(Connect{address, {options, {}}}, [this, ready](Connect::Done done) {
            if (world.failed("connect", done.error)) return;
            client = done.socket;
            if (server) ready();
        });
    }
    Buffer buffer(std::size_t size) noexcept {
        Buffer made = world.loop().buffer(size);
        if (!made) static_cast<void>(world.failed("buffer", Error::from_errno(ENOMEM)));
        return made;
    }
    // Closes with a handler; false when that was refused.
    template <class Handle, class Closed>
    bool close(Handle handle, Closed closed) noexcept {
        return !world.failed("close", world.loop().close(handle, [closed](Loop&) { closed(); }));
    }
};

// After what was submitted for sending before it.
inline void shut_down(World& world, Socket socket) noexcept {
    world.submit(Shutdown{socket}, [&world](Shutdown::Done done) {
        static_cast<void>(world.failed("shutdown", done.error));
    });
}

// A scenario from its start until nothing is left.
template <class Scenario>
void play(Scenario& scenario) noexcept {
    scenario.start();
    scenario.world.run();
    scenario.world.drain();
}

// Two ends of a TCP connection that the loop does not know.
inline bool tcp_ends(Fd& one, Fd& other) noexcept {
    const Pause pause;
    const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Address own = own_address();
    if (::bind(listener.get(), own.data(), own.length()) != 0) return false;
    sockaddr_in address{};
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (::listen(listener.get(), 1) != 0 || ::getsockname(listener.get(), any, &size) != 0)
        return false;
    one.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(one.get(), any, size) != 0) return false;
    other.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return other.get() >= 0;
}

}  // namespace fault
