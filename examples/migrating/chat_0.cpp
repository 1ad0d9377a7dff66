// SPDX-License-Identifier: MIT
// docs/migrating/libevent.md, step 0: the chat before, all libevent.
#include "room_libevent.hpp"

#include <event2/listener.h>

#include <arpa/inet.h>
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
        Room room(base, given.idle_ms);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(given.port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        evconnlistener* listener = evconnlistener_new_bind(
            base,
            [](evconnlistener*, evutil_socket_t fd, sockaddr*, int, void* to) {
                static_cast<Room*>(to)->join(fd);
            },
            &room, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, -1,
            reinterpret_cast<sockaddr*>(&address), sizeof address);
        if (listener == nullptr) return 1;
        socklen_t size = sizeof address;
        ::getsockname(evconnlistener_get_fd(listener), reinterpret_cast<sockaddr*>(&address),
                      &size);
        listening(ntohs(address.sin_port));
        event_base_dispatch(base);
        evconnlistener_free(listener);
    }
    event_free(term);
    event_base_free(base);
    return 0;
}
// [end]
