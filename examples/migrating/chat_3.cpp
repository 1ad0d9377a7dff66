// SPDX-License-Identifier: MIT
// docs/migrating/libevent.md, step 3: libevent is gone.
#include "room_whorl.hpp"

#include <signal.h>

// [main]
int main(int count, char** words) {
    const Words given(count, words);
    Room room;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) return 1;
    const auto signals = whorl::open_signals(*loop, {SIGTERM});
    if (!signals) return 1;
    (void)loop->submit(whorl::WaitSignal{*signals},
                       [](whorl::Loop& now, whorl::WaitSignal::Done) { now.stop(); });
    const auto acceptor = open_room(*loop, given, room);
    if (!acceptor) return 1;
    listening(whorl::local_address(*loop, (*acceptor)->listener())->port());
    if (loop->run()) return 1;
    return loop->drain(std::chrono::seconds(5)) ? 1 : 0;
}
// [end]
