// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/adapters/followed_socket.hpp>
#include <whorl/loop.hpp>

#include <mosquitto.h>

// A libmosquitto client (MQTT) on a whorl loop, in the place of mosquitto_loop() and its threads.
//
//   mosquitto* client = mosquitto_new("station-7", true, user);
//   whorl::adapters::MosquittoEvents events;
//   mosquitto_connect_async(client, "192.0.2.1", 1883, 60);
//   if (whorl::Error error = events.attach(loop, client)) …
//   loop.run();
//
// Owns: nothing of libmosquitto. detach() before mosquitto_destroy(); the loop must outlive this object.
// Calls: libmosquitto and so its callbacks, from the loop's dispatch. They may publish, subscribe,
// disconnect, reconnect and detach; libmosquitto itself must not be destroyed in one.
// Thread: the loop's.
// Limits: while there is a connection, run() goes on; when it has ended, by either side, the program hears
// of it (on_disconnect) and may connect again, also from there. libmosquitto looks names up in
// mosquitto_connect_async(): give an address where that must not block.
// Cost: one watch, and a timer for keep-alive and repetitions.
// Source: mosquitto.h, "Network loop (for use in other event loops)"; libmosquitto(3).

namespace whorl::adapters {

// One client; the contract stands above. Not to be moved.
class MosquittoEvents {
  public:
    MosquittoEvents() noexcept = default;
    MosquittoEvents(const MosquittoEvents&) = delete;
    MosquittoEvents& operator=(const MosquittoEvents&) = delete;
    ~MosquittoEvents() { detach(); }

    // Serves `client` from now on, before or after it connects. `misc` is how often
    // mosquitto_loop_misc() runs; the library counts in seconds.
    // Errors: invalid_argument (misc is not above zero), slots_exhausted, loop_closed, ENOMEM.
    Error attach(Loop& loop, mosquitto* client,
                 Nanoseconds misc = std::chrono::seconds(1)) noexcept {
        detach();
        if (misc <= Nanoseconds::zero()) return Error::invalid_argument;
        loop_ = &loop;
        client_ = client;
        misc_interval_ = misc;
        return update();
    }

    // To be called after every call of libmosquitto that is not made in one of its callbacks: it may have
    // something to send, or another socket.
    // Errors: slots_exhausted, loop_closed, ENOMEM. While there is a timer, it tries again by itself.
    Error update() noexcept {
        if (client_ == nullptr) return {};
        const int fd = mosquitto_socket(client_);
        if (fd < 0) {
            rest();
            return {};
        }
        if (!ticking_) {
            const Result<Timer> made =
                loop_->every(misc_interval_, [this](Loop&, Expired) { tick(); });
            if (!made) return made.error();
            misc_ = *made;
            ticking_ = true;
        }
        const Interest interest = mosquitto_want_write(client_)
                                      ? Interest::readable | Interest::writable
                                      : Interest::readable;
        return socket_.follow(*loop_, fd, interest,
                              [this](Loop&, Watched watched) { ready(watched); });
    }

    // Serves it no longer. Its connection stays as it is.
    void detach() noexcept {
        if (gone_ != nullptr) *gone_ = true;
        gone_ = nullptr;
        if (client_ != nullptr) rest();
        client_ = nullptr;
    }

  private:
    void rest() noexcept {
        socket_.forget();
        if (ticking_) loop_->cancel(misc_);
        ticking_ = false;
    }

    // Each call may detach this object, destroy it, or close the socket and open another.
    void ready(const Watched& watched) {
        if (watched.error) return socket_.forget();  // tried again with the next tick
        bool gone = false;
        gone_ = &gone;
        int answer = MOSQ_ERR_SUCCESS;
        const bool reads = watched.readable || watched.failed || watched.hung_up;
        if (reads) answer = mosquitto_loop_read(client_, 1);
        if (!gone && answer == MOSQ_ERR_SUCCESS && watched.writable)
            mosquitto_loop_write(client_, 1);
        done(gone);
    }

    void tick() {
        bool gone = false;
        gone_ = &gone;
        mosquitto_loop_misc(client_);
        done(gone);
    }

    void done(const bool& gone) {
        if (gone) return;
        gone_ = nullptr;
        static_cast<void>(update());  // refused, it is tried again with the next tick
    }

    Loop* loop_ = nullptr;
    mosquitto* client_ = nullptr;
    Nanoseconds misc_interval_{};
    FollowedSocket socket_;
    Timer misc_;
    bool ticking_ = false;
    bool* gone_ = nullptr;  // a flag of the function that runs
};

}  // namespace whorl::adapters
