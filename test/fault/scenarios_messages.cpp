// SPDX-License-Identifier: MIT
#include "fault/scenario_tools.hpp"

#include <whorl/signals.hpp>
#include <whorl/udp.hpp>
#include <whorl/unix.hpp>

#include <fcntl.h>

#include <csignal>

// Messages with all that goes along with them, and signals. There is none for Spawn: what its child calls
// with all signals blocked cannot be trapped (syscall_faults.hpp); each step that fails is provoked in
// test/conformance/child_system_test.cpp.

namespace fault {

namespace {

// --- messages: a datagram to an address and its answer to a peer, a descriptor through a Unix socket

struct Messages {
    explicit Messages(World& owner) noexcept : world(owner) {}
    World& world;
    UdpSocket asking;
    UdpSocket answering;
    SocketPair pair;
    Fd read_end;
    Fd write_end;
    std::uint64_t sent[2] = {};
    Buffer got[2];
    bool whole[2] = {};
    int left = 6;

    static constexpr std::size_t size = 3'000;

    UdpSocket open() noexcept {
        const Result<UdpSocket> made = open_udp(world.loop(), Address::loopback_v4(0));
        if (!made) static_cast<void>(world.failed("open_udp", made.error()));
        return made ? *made : UdpSocket();
    }
    Buffer buffer(std::size_t count, std::size_t filled) noexcept {
        Buffer made = world.loop().buffer(count);
        if (!made) {
            static_cast<void>(world.failed("buffer", Error::from_errno(ENOMEM)));
            return made;
        }
        made.resize(filled);
        for (std::size_t at = 0; at < filled; ++at) made.data()[at] = byte_at(at);
        return made;
    }
    void start() noexcept {
        {
            const Pause pause;
            int ends[2];
            if (::pipe2(ends, O_CLOEXEC) != 0) return world.wrong("no pipe");
            read_end.reset(ends[0]);
            write_end.reset(ends[1]);
        }
        asking = open();
        if (world.over()) return;
        answering = open();
        if (world.over()) return;
        const Result<SocketPair> made = socket_pair(world.loop());
        if (!made) return static_cast<void>(world.failed("socket_pair", made.error()));
        pair = *made;
        const Result<Address> here = local_address(world.loop(), asking);
        if (!here) return static_cast<void>(world.failed("local_address", here.error()));
        const Result<Address> there = local_address(world.loop(), answering);
        if (!there) return static_cast<void>(world.failed("local_address", there.error()));
        if (world.failed("connect_udp", connect_udp(world.loop(), answering, *here))) return;
        receive(asking, 1);
        if (!world.over()) receive(answering, 0);
        if (!world.over()) send(asking, 0, *there);
        if (!world.over()) pass();
    }
    void send(UdpSocket socket, int which, const Address& to) noexcept {
        Buffer text = buffer(size, size);
        if (!text) return;
        world.submit(SendTo{socket, std::move(text), to}, [this, which](SendTo::Done done) {
            if (world.failed("send", done.error)) return;
            sent[which] = done.bytes;
            step();
        });
    }
    void receive(UdpSocket socket, int which) noexcept {
        Buffer room = buffer(4'096, 0);
        if (!room) return;
        world.submit(RecvFrom{socket, std::move(room)}, [this, which](RecvFrom::Done done) {
            if (world.failed("receive", done.error)) return;
            got[which] = std::move(done.buffer);
            whole[which] = !done.truncated;
            if (which == 0) send(answering, 1, Address());
            if (!world.over()) step();
        });
    }
    void pass() noexcept {
        Buffer room = buffer(64, 0), text = buffer(64, 5);
        if (!room || !text) return;
        world.submit(ReceiveDescriptors{pair.second, std::move(room), 4},
                     [this](ReceiveDescriptors::Done done) {
                         if (world.failed("receive descriptors", done.error)) return;
                         world.check(done.descriptors.count() == 1, "a descriptor was lost");
                         world.check(holds(done.buffer, 0), "what came with it is wrong");
                         step();
                     });
        if (world.over()) return;
        const int descriptor = write_end.get();
        world.submit(SendDescriptors{pair.first, std::move(text), &descriptor, 1},
                     [this](SendDescriptors::Done done) {
                         if (!world.failed("send descriptors", done.error)) step();
                     });
    }
    void step() noexcept {
        if (--left != 0 || world.over()) return;
        for (int which = 0; which < 2; ++which) {
            world.check(holds(got[which], 0), "a datagram has other bytes");
            const bool same = got[which].size() == sent[which];
            world.check(same || !whole[which], "a part of a datagram is taken for all of it");
            got[which].reset();
        }
        world.finish();
    }
};

// --- signals: one that is waited for, and a stream of them

struct Signalled {
    explicit Signalled(World& owner) noexcept : world(owner) {
        // One that is left pending must not end this process.
        const Pause pause;
        before = std::signal(SIGUSR1, SIG_IGN);
    }
    Signalled(const Signalled&) = delete;
    Signalled& operator=(const Signalled&) = delete;
    ~Signalled() {
        const Pause pause;
        std::signal(SIGUSR1, before);
    }
    World& world;
    void (*before)(int) = nullptr;
    Signals signals;
    int taken = 0;

    static void raise() noexcept {
        const Pause pause;
        ::kill(::getpid(), SIGUSR1);  // raise() would hide it from a worker thread of the ring
    }
    void start() noexcept {
        const Result<Signals> made = open_signals(world.loop(), {SIGUSR1});
        if (!made) return static_cast<void>(world.failed("open_signals", made.error()));
        signals = *made;
        raise();
        world.submit(WaitSignal{signals}, [this](WaitSignal::Done done) {
            if (world.failed("wait", done.error)) return;
            world.check(done.signal.number == SIGUSR1, "another signal");
            stream();
        });
    }
    void stream() noexcept {
        world.submit(SignalStream{signals}, [this](SignalStream::Done done) {
            if (!done.more) return static_cast<void>(world.failed("stream", done.error));
            world.check(done.signal.number == SIGUSR1, "another signal");
            if (++taken < 3) return raise();
            if (!world.failed("close", world.loop().close(signals))) world.finish();
        });
        if (!world.over()) raise();
    }
};

}  // namespace

void run_messages(World& world) {
    Messages messages(world);
    play(messages);
}

void run_signals(World& world) {
    Signalled signalled(world);
    play(signalled);
}

}  // namespace fault
