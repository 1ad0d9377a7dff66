// SPDX-License-Identifier: MIT
// docs/guide/many-cores.md: loops on several threads, and how they talk.
#include "expect.hpp"

#include <whorl/call.hpp>
#include <whorl/channel.hpp>
#include <whorl/core_set.hpp>
#include <whorl/whorl.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace {

// [remote]
// From any thread into a loop: a Remote. It may outlive the loop, and answers false then.
struct Progress {
    whorl::Remote to;
    std::atomic<int>* seen;

    bool report(int percent) const {
        return to.post([seen = seen, percent](whorl::Loop&) { *seen = percent; });
    }
};
// [end]

void cores() {
    std::atomic<int> started{0};
    // [cores]
    whorl::CoreSetOptions options;
    options.loops = 2;    // 0: as many as make sense on this machine
    options.pin = false;  // bound to processors by default; not on shared machines
    auto cores =
        whorl::CoreSet::start(options, [&started](whorl::Loop&, std::uint32_t) -> whorl::Error {
            ++started;  // on the loop's own thread, before any of them runs: listen here, for example
            return {};
        });
    if (!cores) return expect(cores.error());
    // [end]
    expect(started == 2, "both");

    std::atomic<int> seen{0};
    expect(Progress{cores->remote(1), &seen}.report(50), "the loop is there");

    std::atomic<int> answer{0};
    // [call]
    // A question of one loop to another; the answer comes as a completion.
    const bool asked = cores->run_on(0, [&answer, other = cores->remote(1)](whorl::Loop& loop) {
        (void)loop.submit(whorl::Call{other, [](whorl::Loop&) { return 42; }},
                          [&answer](whorl::Loop& now, whorl::CallDone<int> done) {
                              if (done.value) answer = *done.value;
                              now.stop();  // one loop that stops stops all
                          });
    });
    // [end]
    expect(asked, "posted");
    // [join]
    whorl::Error error = cores->join();  // when all have ended: the first error of any of them
    // [end]
    expect(error);
    expect(answer == 42 && seen == 50, "answered");
}

void channel() {
    int sum = 0;
    // [channel]
    auto channel = whorl::Channel<int>::create(8);
    if (!channel) return expect(channel.error());
    whorl::CoreSetOptions options;
    options.loops = 2;
    options.pin = false;
    auto cores = whorl::CoreSet::start(
        options, [&channel, &sum](whorl::Loop& loop, std::uint32_t core) -> whorl::Error {
            if (core == 0) {
                return loop.post([sender = std::move(channel->sender)](whorl::Loop&) mutable {
                    for (int number = 1; number <= 4; ++number) (void)sender.send(int(number));
                });  // its end closes the channel
            }
            return loop
                .submit(whorl::Receive<int>{std::move(channel->receiver)},
                        [&sum](whorl::Loop& now, whorl::Receive<int>::Done done) {
                            while (int* number = done.next()) sum += *number;
                            if (!done.more) now.stop();  // channel_closed: all was received
                        })
                .error();
        });
    // [end]
    if (!cores) return expect(cores.error());
    expect(cores->join());
    expect(sum == 10, "every message once");
}

}  // namespace

int main() {
    cores();
    channel();
}
