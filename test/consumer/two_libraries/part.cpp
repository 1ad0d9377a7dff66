// SPDX-License-Identifier: MIT
// One of the two libraries: -DPART=one or -DPART=two. Nothing of whorl is in its interface.
#include <whorl/whorl.hpp>

#define JOINED_(name, part) name##_##part
#define JOINED(name, part) JOINED_(name, part)
#define PART_EXPORT extern "C" __attribute__((visibility("default")))

// Posts, a timer and an operation of a loop of its own; the number of those that came back.
PART_EXPORT int JOINED(run, PART)() {
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) return -1;
    int came = 0;
    const whorl::Error posted = loop->post([&](whorl::Loop&) { ++came; });
    const auto timer =
        loop->after(std::chrono::milliseconds(1), [&](whorl::Loop&, whorl::Expired) { ++came; });
    const auto nop = loop->submit(whorl::Nop{}, [&](whorl::Loop&, whorl::Nop::Done) { ++came; });
    return !posted && timer && nop && !loop->run() ? came : -1;
}

// Where the whorl of this library lies.
PART_EXPORT const void* JOINED(whorl_of, PART)() {
    return reinterpret_cast<const void*>(&whorl::detail::watched_of);
}
