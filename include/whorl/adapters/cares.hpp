// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/loop.hpp>

#include <ares.h>
#include <sys/time.h>

#include <new>

// c-ares on a whorl loop: asynchronous name resolution without threads.
//
//   whorl::adapters::CaresChannel resolver;
//   if (int refused = resolver.open(loop)) … ares_strerror(refused)
//   ares_getaddrinfo(resolver.channel(), "example.org", "443", &hints, &found, user);
//   loop.run();
//
// Owns: the channel, until destroyed; queries under way then end with ARES_EDESTRUCTION, from the
// destructor. The loop must outlive this object, and ares_library_init() have been called.
// Calls: c-ares and so its callbacks, from the loop's dispatch, or from inside the call that started the
// query when the answer is at hand (hosts file, numeric names, no memory). They may start queries; they
// must not destroy this object.
// Thread: the loop's.
// Errors: open(), once (asserted), answers as ares_init_options(3). When the loop has no slot for a watch or the timer,
// the queries end by c-ares's own timeouts, which the next event runs.
// Limits: with ARES_FLAG_STAYOPEN call update() after starting a query.
// Cost: a watch for each socket to a server, and one timer.
// Source: ares_init_options(3), ares_process_fd(3), ares_timeout(3).

namespace whorl::adapters {

// See above. Not movable: c-ares keeps its address.
class CaresChannel {
  public:
    CaresChannel() noexcept = default;
    CaresChannel(const CaresChannel&) = delete;
    CaresChannel& operator=(const CaresChannel&) = delete;
    ~CaresChannel() {
        if (channel_ == nullptr) return;
        ares_destroy(channel_);  // tells of every socket that it closes
        while (sockets_ != nullptr) forget(&sockets_);
        loop_->cancel(timer_);
    }

    // options, mask: as for ares_init_options(); the callback for sockets is this object's.
    int open(Loop& loop, ares_options options = {}, int mask = 0) noexcept {
        WHORL_ASSERT(channel_ == nullptr);
        loop_ = &loop;
        options.sock_state_cb = &on_socket;
        options.sock_state_cb_data = this;
        return ares_init_options(&channel_, &options, mask | ARES_OPT_SOCK_STATE_CB);
    }

    // For queries: ares_getaddrinfo() and so on. Owned here; null before open().
    ares_channel channel() noexcept { return channel_; }

    // Arms the timer for the query that is due first.
    void update() noexcept {
        timeval left{};
        loop_->cancel(timer_);
        if (ares_timeout(channel_, nullptr, &left) == nullptr) return;
        aim(std::chrono::seconds(left.tv_sec) + std::chrono::microseconds(left.tv_usec));
    }

  private:
    struct Socket : detail::Allocated<Socket> {
        Socket* next;
        CaresChannel* owner;
        ares_socket_t fd;
        Watch watch;
    };

    Socket** find(ares_socket_t fd) noexcept {
        Socket** at = &sockets_;
        while (*at != nullptr && (*at)->fd != fd) at = &(*at)->next;
        return at;
    }
    void forget(Socket** at) noexcept {
        Socket* socket = *at;
        *at = socket->next;
        loop_->cancel(socket->watch);
        delete socket;
    }

    // From inside c-ares. A new socket means a new query, whose time-out is not known yet.
    static void on_socket(void* self, ares_socket_t fd, int readable, int writable) {
        auto& owner = *static_cast<CaresChannel*>(self);
        Socket** at = owner.find(fd);
        if (readable == 0 && writable == 0) {
            if (*at != nullptr) owner.forget(at);
            return;
        }
        const Interest interest = (readable != 0 ? Interest::readable : Interest::none) |
                                  (writable != 0 ? Interest::writable : Interest::none);
        owner.loop_->cancel(owner.timer_);
        owner.aim(Nanoseconds::zero());
        if (*at != nullptr && !owner.loop_->modify((*at)->watch, interest)) return;
        if (*at == nullptr) *at = new (std::nothrow) Socket{{}, nullptr, &owner, fd, {}};
        if (*at == nullptr) return;
        Socket* socket = *at;
        const Result<Watch> made =
            owner.loop_->watch(fd, interest, [socket](Loop&, Watched watched) {
                socket->owner->act(socket->fd, watched);  // may free `socket`
            });
        if (made) socket->watch = *made;
    }

    void act(ares_socket_t fd, const Watched& watched) {
        const bool reads = watched.readable || watched.error;
        ares_process_fd(channel_, reads ? fd : ARES_SOCKET_BAD,
                        watched.writable ? fd : ARES_SOCKET_BAD);
        update();
    }

    void aim(Nanoseconds delay) noexcept {
        const Result<Timer> made = loop_->after(delay, [this](Loop&, Expired) {
            ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
            update();
        });
        if (made) timer_ = *made;
    }

    Loop* loop_ = nullptr;
    ares_channel channel_ = nullptr;
    Socket* sockets_ = nullptr;
    Timer timer_;
};

}  // namespace whorl::adapters
