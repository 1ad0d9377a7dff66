// SPDX-License-Identifier: MIT
// The soak of channels: numbered messages between loops on threads of their own, none lost, doubled or out of
// order, however the threads are held up; and nobody is woken more often than it slept.
//
//   channel_soak [--messages N] [--only pair|mesh|paced] [--backend io_uring|libev] [--seed N]
//                [--capacity N, a power of two] [--loops N, of the mesh] [--lose 1]
//
// pair   one loop sends to another, in bursts of random size; the receiver sleeps in its handler now and
//        then, so that the channel fills, and the sender pauses, so that it runs dry
// mesh   each of several loops sends to each other in the same way
// paced  a tenth of the messages, in small bursts with a random pause after each, of the length at which
//        receiving loops fall asleep
//
// Without --only and --backend everything in turn. Exit status: 0, 1 for a message that went wrong, 77 when the
// machine refuses the backend. --lose leaves one message out, which must be found.
#include <whorl/core_set.hpp>
#include <whorl/mesh.hpp>
#include <whorl/whorl.hpp>

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace {

using Number = std::uint64_t;

struct Settings {
    Number messages = 1'000'000'000;
    std::uint64_t seed = 1;
    std::uint32_t capacity = 1024;
    std::uint32_t loops = 4;
    bool lose = false;
    std::string only;
    std::string backend;
};

// xorshift64*.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed * 2685821657736338717u + 1) {}
    std::uint64_t below(std::uint64_t limit) {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return (state_ * 2685821657736338717u >> 32) % limit;
    }

  private:
    std::uint64_t state_;
};

// How a sender and its receiver are held up.
struct Pace {
    std::uint32_t burst_max;     // messages that become visible together
    std::uint32_t pause_one_in;  // bursts: after one of so many the sender waits
    std::uint32_t pause_max_ns;  // so long
    std::uint32_t stall_one_in;  // calls of the receiver's handler: one of so many sleeps
    std::uint32_t stall_max_ns;
};
constexpr Pace flood{256, 256, 200'000, 256, 200'000};
constexpr Pace paced{128, 1, 20'000, 4096, 50'000};

struct Outcome {
    Number sent = 0;
    Number got = 0;
    Number wrong = 0;        // not the one that was next
    Number wakes = 0;        // wake calls that a sleeping loop was given
    Number sleeps = 0;       // waits of a loop in the kernel, an upper bound of its sleeps
    bool overslept = false;  // one loop was woken more often than it had turns

    void add(const Outcome& other) {
        sent += other.sent;
        got += other.got;
        wrong += other.wrong;
        wakes += other.wakes;
        sleeps += other.sleeps;
        overslept = overslept || other.overslept;
    }
};

// One loop's part: it sends `each` numbers to every loop of `targets`, and checks what comes.
class Station {
  public:
    Station(const Settings& settings, const Pace& pace, std::uint32_t core, std::atomic<int>& busy)
        : pace_(pace), random_(settings.seed * 1000 + core), busy_(busy) {}

    Number each = 0;
    Number lost_at = UINT64_MAX;  // the number that the canary leaves out
    std::vector<std::uint32_t> targets;
    Outcome outcome;

    whorl::Error start(whorl::Loop& loop, whorl::MeshPort<Number> port) {
        port_ = std::move(port);
        sent_.resize(port_.size());
        next_.resize(port_.size());
        receives_ = port_.size() - 1;
        for (std::uint32_t core = 0; core < port_.size(); ++core) {
            const bool target = std::find(targets.begin(), targets.end(), core) != targets.end();
            if (core != port_.core() && !target) port_.to(core).close();
        }
        const auto arrived = [this](whorl::Loop& inner, std::uint32_t from,
                                    whorl::Receive<Number>::Done done) { take(inner, from, done); };
        if (whorl::Error error = port_.receive(loop, arrived)) return error;
        for (const std::uint32_t to : targets) {
            if (whorl::Error error = send_later(loop, to)) return error;
        }
        sending_ = static_cast<std::uint32_t>(targets.size());
        return {};
    }

  private:
    whorl::Error send_later(whorl::Loop& loop, std::uint32_t to) {
        return loop.post([this, to](whorl::Loop& inner) { send(inner, to); });
    }

    // A burst, and how it goes on: at once, after a pause, or when there is room.
    void send(whorl::Loop& loop, std::uint32_t to) {
        whorl::Sender<Number>& sender = port_.to(to);
        const Number end = std::min(each, sent_[to] + 1 + random_.below(pace_.burst_max));
        whorl::Error error;
        while (sent_[to] < end && !error) {
            if (sent_[to] == lost_at) {
                ++sent_[to];
                continue;
            }
            error = sender.write(Number(sent_[to]));
            if (!error) {
                ++sent_[to];
                ++outcome.sent;
            }
        }
        sender.flush();
        if (error == whorl::Error::queue_full) {
            const auto room = [this, to](whorl::Loop& inner, whorl::AwaitSpace::Done) {
                send(inner, to);
            };
            must(loop.submit(whorl::AwaitSpace{sender}, room).error());
        } else if (error) {
            must(error);
        } else if (sent_[to] == each) {
            sender.close();
            --sending_;
            leave_when_done(loop);
        } else if (random_.below(pace_.pause_one_in) == 0) {
            const auto pause = std::chrono::nanoseconds(random_.below(pace_.pause_max_ns));
            const auto over = [this, to](whorl::Loop& inner, whorl::Expired) { send(inner, to); };
            must(loop.after(pause, over).error());
        } else {
            must(send_later(loop, to));
        }
    }

    void take(whorl::Loop& loop, std::uint32_t from, whorl::Receive<Number>::Done& done) {
        Number& next = next_[from];
        while (const Number* number = done.next()) {
            if (*number != next) ++outcome.wrong;
            next = *number + 1;
            ++outcome.got;
        }
        if (!done.more) {
            --receives_;
            return leave_when_done(loop);
        }
        if (random_.below(pace_.stall_one_in) != 0) return;
        const timespec stall{0, static_cast<long>(random_.below(pace_.stall_max_ns))};
        static_cast<void>(::nanosleep(&stall, nullptr));
    }

    // The last of all loops stops them.
    void leave_when_done(whorl::Loop& loop) {
        if (receives_ != 0 || sending_ != 0) return;
        outcome.wakes = loop.statistics().remote_wakes;
        outcome.sleeps = loop.statistics().kernel_waits;
        // Once a turn a loop may sleep, and once a sleep be woken.
        outcome.overslept = outcome.wakes > loop.statistics().turns;
        if (busy_.fetch_sub(1) == 1) loop.stop();
    }

    static void must(whorl::Error error) {
        if (!error) return;
        std::fprintf(stderr, "channel_soak: %s\n", error.text());
        std::abort();
    }

    const Pace& pace_;
    Random random_;
    std::atomic<int>& busy_;
    whorl::MeshPort<Number> port_;
    std::vector<Number> sent_;    // by the loop they go to
    std::vector<Number> next_;    // by the loop they come from
    std::uint32_t receives_ = 0;  // that have not ended
    std::uint32_t sending_ = 0;
};

struct Case {
    const char* name;
    const Pace& pace;
    std::uint32_t loops;
    bool one_way;  // the first loop sends, the others only receive
    Number messages;
};

int run(const Settings& settings, const Case& work, whorl::Backend backend,
        const char* backend_name) {
    auto mesh = whorl::Mesh<Number>::create(work.loops, settings.capacity);
    if (!mesh) return std::fprintf(stderr, "mesh: %s\n", mesh.error().text()), 1;
    std::atomic<int> busy{static_cast<int>(work.loops)};
    std::vector<std::unique_ptr<Station>> stations;
    const Number pairs = work.one_way ? work.loops - 1 : work.loops * (work.loops - 1);
    for (std::uint32_t core = 0; core < work.loops; ++core) {
        stations.push_back(std::make_unique<Station>(settings, work.pace, core, busy));
        stations.back()->each = work.messages / pairs;
        if (settings.lose && core == 0) stations.back()->lost_at = work.messages / pairs / 2;
        for (std::uint32_t to = 0; to < work.loops; ++to) {
            if (to != core && (core == 0 || !work.one_way)) stations.back()->targets.push_back(to);
        }
    }
    whorl::CoreSetOptions options;
    options.loops = work.loops;
    options.pin = false;  // this machine may be shared
    options.loop.backend = backend;
    const whorl::Instant begun = whorl::clock_now();
    auto set = whorl::CoreSet::start(options, [&](whorl::Loop& loop, std::uint32_t core) {
        auto port = mesh->take(core);
        return port ? stations[core]->start(loop, std::move(*port)) : port.error();
    });
    if (!set) {
        std::printf("%-6s %-9s skipped: %s\n", work.name, backend_name, set.error().text());
        return 77;
    }
    const whorl::Error error = set->join();
    const double seconds = std::chrono::duration<double>(whorl::clock_now() - begun).count();
    Outcome all;
    for (const auto& station : stations) all.add(station->outcome);
    const Number wanted = work.messages / pairs * pairs;
    const bool right =
        !error && all.wrong == 0 && all.got == wanted && all.sent == wanted && !all.overslept;
    std::printf(
        "%-6s %-9s %llu sent, %llu lost, %llu out of order, %.1f s, %.1f ns each; "
        "%llu wakes, %llu waits: %s\n",
        work.name, backend_name, static_cast<unsigned long long>(all.sent),
        static_cast<unsigned long long>(wanted - all.got),
        static_cast<unsigned long long>(all.wrong), seconds,
        seconds * 1e9 / static_cast<double>(wanted), static_cast<unsigned long long>(all.wakes),
        static_cast<unsigned long long>(all.sleeps), right ? "ok" : "FAILED");
    std::fflush(stdout);
    return right ? 0 : 1;
}

bool parse(int count, char** words, Settings& settings) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index];
        const char* value = words[index + 1];
        const Number number = std::strtoull(value, nullptr, 10);
        if (name == "--messages") settings.messages = number;
        else if (name == "--only") settings.only = value;
        else if (name == "--backend") settings.backend = value;
        else if (name == "--seed") settings.seed = number;
        else if (name == "--capacity") settings.capacity = static_cast<std::uint32_t>(number);
        else if (name == "--loops") settings.loops = static_cast<std::uint32_t>(number);
        else if (name == "--lose") settings.lose = number != 0;
        else return false;
    }
    return count % 2 == 1 && settings.loops >= 2 && settings.messages >= 1000;
}

}  // namespace

int main(int count, char** words) {
    Settings settings;
    if (!parse(count, words, settings)) {
        std::fprintf(
            stderr,
            "usage: channel_soak [--messages N] [--only pair|mesh|paced] "
            "[--backend io_uring|libev] [--seed N] [--capacity N] [--loops N] [--lose 1]\n");
        return 2;
    }
    const Case cases[] = {{"pair", flood, 2, true, settings.messages},
                          {"mesh", flood, settings.loops, false, settings.messages},
                          {"paced", paced, 2, true, settings.messages / 10}};
    const struct {
        whorl::Backend backend;
        const char* name;
    } backends[] = {{whorl::Backend::io_uring, "io_uring"}, {whorl::Backend::libev, "libev"}};
    int worst = 77;
    for (const auto& [backend, name] : backends) {
        if (!settings.backend.empty() && settings.backend != name) continue;
        for (const Case& work : cases) {
            if (!settings.only.empty() && settings.only != work.name) continue;
            const int status = run(settings, work, backend, name);
            if (status != 77) worst = worst == 1 || status == 1 ? 1 : 0;
        }
    }
    return worst;
}
