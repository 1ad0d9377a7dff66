// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/channel.hpp>

#include <cstdint>
#include <new>
#include <utility>

// A channel from every loop to every other, and to itself not.
//
//   auto mesh = whorl::Mesh<Message>::create(cores, 256);
//   // in the setup of a core:
//   whorl::Result<whorl::MeshPort<Message>> port = mesh->take(core);
//   port->receive(loop, [](whorl::Loop&, std::uint32_t from, whorl::Receive<Message>::Done done) { … });
//   port->to(other).send(Message{…});

namespace whorl {

// One loop's ends of a mesh: a sender to each other loop and a receiver from each. Move-only. Lifetime: its
// end closes its channels; receivers that receive() has submitted belong to their loop.
// Thread: one at a time.
template <class T>
class MeshPort {
  public:
    MeshPort() noexcept = default;
    MeshPort(MeshPort&& other) noexcept
        : core_(other.core_), size_(std::exchange(other.size_, 0)),
          senders_(std::exchange(other.senders_, nullptr)),
          receivers_(std::exchange(other.receivers_, nullptr)) {}
    MeshPort& operator=(MeshPort&& other) noexcept {
        MeshPort moved(std::move(other));
        std::swap(core_, moved.core_);
        std::swap(size_, moved.size_);
        std::swap(senders_, moved.senders_);
        std::swap(receivers_, moved.receivers_);
        return *this;
    }
    ~MeshPort() {
        detail::drop_array(senders_);
        detail::drop_array(receivers_);
    }

    std::uint32_t core() const noexcept { return core_; }  // whose port it is, from 0
    // Loops in the mesh; 0: it has been moved from.
    std::uint32_t size() const noexcept { return size_; }
    // The sender to another loop. Limits: core < size(), and another than core() (asserted).
    Sender<T>& to(std::uint32_t core) noexcept {
        WHORL_ASSERT(core < size_ && core != core_);
        return senders_[core];
    }
    // Receives from all others: `handler(Loop&, std::uint32_t from, Receive<T>::Done)`, a copy of it for each.
    // Calls: as Receive; the last call for each `from` has more == false. They end by drain() or with the
    //   loop, or when the others close.
    // Errors: as Receive; those before the one that was refused stay submitted. Called again, it goes on
    //   with those that are left. Limits: the handler has room for 8 bytes more (handler_size_max).
    template <class Handler>
    Error receive(Loop& loop, const Handler& handler, std::uint32_t messages_max = 256) noexcept {
        for (std::uint32_t from = 0; from < size_; ++from) {
            if (!receivers_[from]) continue;
            Receive<T> operation{std::move(receivers_[from]), messages_max};
            auto submitted =
                loop.submit(std::move(operation),
                            [handler, from](Loop& inner, typename Receive<T>::Done done) mutable {
                                handler(inner, from, std::move(done));
                            });
            if (submitted) continue;
            // A refused submission has moved nothing.
            receivers_[from] = std::move(operation.receiver);  // NOLINT(bugprone-use-after-move)
            return submitted.error();
        }
        return {};
    }

  private:
    template <class>
    friend class Mesh;

    std::uint32_t core_ = 0;
    std::uint32_t size_ = 0;
    Sender<T>* senders_ = nullptr;      // by the core they go to
    Receiver<T>* receivers_ = nullptr;  // by the core they come from
};

// All channels, until each loop has taken its port. Move-only. Lifetime: ports that nobody has taken close
// their channels with it. Thread: one at a time to create, move and destroy; take() from any, for different
// cores at once.
template <class T>
class Mesh {
  public:
    // Errors: invalid_argument (fewer than 2 or more than 1024 loops; a capacity that no channel has), ENOMEM.
    // Cost: n * (n - 1) channels: at 64 loops and 256 messages of 8 bytes 4032 of 3 KiB, 12 MiB.
    static Result<Mesh> create(std::uint32_t size, std::uint32_t capacity) noexcept {
        if (size < 2 || size > 1024) return Error::invalid_argument;
        Mesh mesh;
        mesh.ports_ = detail::make_array<MeshPort<T>>(size);
        if (mesh.ports_ == nullptr) return Error::from_errno(ENOMEM);
        mesh.size_ = size;
        for (std::uint32_t core = 0; core < size; ++core) {
            MeshPort<T>& port = mesh.ports_[core];
            port.core_ = core;
            port.senders_ = detail::make_array<Sender<T>>(size);
            port.receivers_ = detail::make_array<Receiver<T>>(size);
            if (port.senders_ == nullptr || port.receivers_ == nullptr) {
                return Error::from_errno(ENOMEM);
            }
            port.size_ = size;
        }
        for (std::uint32_t from = 0; from < size; ++from) {
            for (std::uint32_t to = 0; to < size; ++to) {
                if (from == to) continue;
                Result<Channel<T>> channel = Channel<T>::create(capacity);
                if (!channel) return channel.error();
                mesh.ports_[from].senders_[to] = std::move(channel->sender);
                mesh.ports_[to].receivers_[from] = std::move(channel->receiver);
            }
        }
        return mesh;
    }
    Mesh(Mesh&& other) noexcept
        : size_(std::exchange(other.size_, 0)), ports_(std::exchange(other.ports_, nullptr)) {}
    Mesh& operator=(Mesh&& other) noexcept {
        Mesh moved(std::move(other));
        std::swap(size_, moved.size_);
        std::swap(ports_, moved.ports_);
        return *this;
    }
    ~Mesh() { detail::drop_array(ports_); }

    std::uint32_t size() const noexcept { return size_; }  // loops; 0: it has been moved from
    // The ends of one loop. Errors: invalid_argument (there is no such core, or its port has been taken).
    Result<MeshPort<T>> take(std::uint32_t core) noexcept {
        if (core >= size_ || ports_[core].size_ == 0) return Error::invalid_argument;
        return std::move(ports_[core]);
    }

  private:
    Mesh() noexcept = default;
    std::uint32_t size_ = 0;
    MeshPort<T>* ports_ = nullptr;
};

}  // namespace whorl
