// SPDX-License-Identifier: MIT
// docs/migrating/libevent.md, step 2: the connections are whorl's, the loop still libevent's.
#include "room_whorl.hpp"

#include <whorl/adapters/libevent_guest.hpp>

#include <event2/event.h>
#include <signal.h>

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
        Room room;
        whorl::Result<whorl::Loop> loop = whorl::Loop::create();
        if (!loop) return 1;
        whorl::adapters::LibeventGuest guest;
        if (guest.attach(*loop, base)) return 1;
        const auto acceptor = open_room(*loop, given, room);
        if (!acceptor) return 1;
        listening(whorl::local_address(*loop, (*acceptor)->listener())->port());
        event_base_dispatch(base);
    }
    event_free(term);
    event_base_free(base);
    return 0;
}
// [end]
