// SPDX-License-Identifier: MIT
// docs/migrating/libevent.md, step 1: whorl is a guest of libevent's loop, and has the listener. The room
// is unchanged.
#include "room_libevent.hpp"

#include <whorl/adapters/libevent_guest.hpp>
#include <whorl/whorl.hpp>

#include <signal.h>

// [accept]
whorl::Result<whorl::Listener> accept_into(whorl::Loop& loop, int port, Room& room) {
    const auto address = whorl::Address::loopback_v4(static_cast<std::uint16_t>(port));
    whorl::Result<whorl::Listener> listener = whorl::listen(loop, address);
    if (!listener) return listener;
    const auto accepting = loop.submit(
        whorl::AcceptStream{*listener}, [&room](whorl::Loop& now, whorl::AcceptStream::Done done) {
            if (done.error) return;  // short of descriptors: it goes on by itself
            const whorl::Result<int> fd = whorl::detach(now, done.socket);
            if (!fd) return;
            evutil_make_socket_nonblocking(*fd);
            room.join(*fd);  // a bufferevent as before
        });
    return accepting ? std::move(listener) : accepting.error();
}
// [end]

// [main]
int main(int count, char** words) {
    const Words given(count, words);
    event_base* base = event_base_new();
    if (base == nullptr) return 1;
    event* term = evsignal_new(
        base, SIGTERM,
        [](evutil_socket_t, short, void* to) {
            event_base_loopbreak(static_cast<event_base*>(to));
        },
        base);
    event_add(term, nullptr);
    {
        Room room(base, given.idle_ms);
        whorl::Result<whorl::Loop> loop = whorl::Loop::create();  // goes before the room does
        if (!loop) return 1;
        whorl::adapters::LibeventGuest guest;  // goes before the loop does
        if (guest.attach(*loop, base)) return 1;
        const auto listener = accept_into(*loop, given.port, room);
        if (!listener) return 1;
        listening(whorl::local_address(*loop, *listener)->port());
        event_base_dispatch(base);
    }
    event_free(term);
    event_base_free(base);
    return 0;
}
// [end]
