// SPDX-License-Identifier: MIT
// Goal: hours of everything at once leave nothing behind: no descriptor, byte, slot, buffer or thread,
// and memory stays flat meanwhile.
// Method: pairs of loops in threads of their own, an echo server and its visitors (peers.hpp), which
// also post to each other; now and then descriptors run out. A line of measurements a second; at the
// end a balance, exact but for memory that malloc keeps, and the slope of the resident set.
//
// Where one process may not have enough descriptors for both ends of every connection, the visitors
// have a process of their own, which keeps the same balance.
//
// usage: soak [--seconds N] [--connections N] [--loops N] [--backend NAME] [--seed N] [--slope-max N]
//             [--role both|servers] [--leave descriptor|memory|thread]
#include "soak/peers.hpp"
#include "soak/settings.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using soak::Role;
using soak::Settings;
using whorl::Loop;

std::atomic<std::int64_t> allocations_live{0};

}  // namespace

// Every allocation of C++ is counted. malloc() behind it is measured by mallinfo2().
void* operator new(std::size_t size) {
    void* memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) std::abort();
    ++allocations_live;
    return memory;
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    void* memory = std::malloc(size == 0 ? 1 : size);
    if (memory != nullptr) ++allocations_live;
    return memory;
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept {
    return operator new(size, tag);
}
void operator delete(void* memory) noexcept {
    if (memory != nullptr) --allocations_live;
    std::free(memory);
}
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }
void operator delete[](void* memory, std::size_t) noexcept { operator delete(memory); }

namespace {

// Entries of a directory of /proc; -1 when it cannot be read, as while descriptors are exhausted.
int count_entries(const char* path) {
    DIR* directory = opendir(path);
    if (directory == nullptr) return -1;
    int count = 0;
    while (const dirent* entry = readdir(directory)) count += entry->d_name[0] != '.' ? 1 : 0;
    closedir(directory);
    return count;
}
int descriptors() { return count_entries("/proc/self/fd"); }
int threads() { return count_entries("/proc/self/task"); }

// A thread that was joined may take a moment to leave /proc.
int threads_settled(int expected) {
    for (int tries = 0; tries < 1000 && threads() != expected; ++tries) {
        std::this_thread::sleep_for(1ms);
    }
    return threads();
}

double resident_mib() {
    std::FILE* file = std::fopen("/proc/self/statm", "re");
    if (file == nullptr) return -1;
    long pages = 0;
    const bool read = std::fscanf(file, "%*d %ld", &pages) == 1;
    std::fclose(file);
    return read ? static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 0x1p20
                : -1;
}

// What a loop posts to another's thread, counted from its making to its end.
class Post {
  public:
    explicit Post(soak::Counts& counts) : counts_(&counts) { ++counts.posts_made; }
    Post(Post&& other) noexcept : counts_(std::exchange(other.counts_, nullptr)) {}
    ~Post() {
        if (counts_ != nullptr) ++counts_->posts_gone;
    }
    void operator()(Loop&) { ++counts_->posts_run; }

  private:
    soak::Counts* counts_;
};

// One loop and its thread.
struct Side {
    soak::Gauge gauge;
    std::thread thread;
    std::atomic<bool> ready{false};
    std::optional<whorl::Remote> remote;  // set before ready
    bool clean = false;                   // read after join
};

struct Pair {
    Side server;
    Side visitors;
    std::atomic<std::uint16_t> port{0};
};

const char* name_of(Role role) {
    switch (role) {
        case Role::servers:
            return "servers ";
        case Role::visitors:
            return "visitors";
        default:
            return "";
    }
}

class Soak {
  public:
    explicit Soak(const Settings& settings) : settings_(settings), pairs_(settings.loops / 2) {}
    void begin();
    void end();
    bool clean() const;
    std::string ports();  // of the servers, when they are there
    void print(unsigned second);
    void exhaust_descriptors();
    void await_visits(std::uint64_t complete);
    soak::Counts& counts() { return counts_; }

  private:
    Loop make_loop();
    void serve(Pair& pair);
    void visit(Pair& pair, std::uint64_t seed);
    void chat(Loop& loop, Side& own, Side& other);
    bool finish(Loop& loop, std::size_t live);

    const Settings settings_;
    soak::Counts counts_;
    std::vector<Pair> pairs_;
    std::uint64_t visits_before_ = 0;
};

Loop Soak::make_loop() {
    whorl::LoopOptions options;
    options.backend = settings_.backend;
    whorl::BackendReport report;
    whorl::Result<Loop> loop = Loop::create(options, report);
    if (loop) return std::move(*loop);
    std::fprintf(stderr, "soak: %s: %s\n", loop.error().name(), report.text);
    std::exit(settings_.backend == whorl::Backend::automatic ? 1 : 77);
}

// Every millisecond a post to the other loop; every hundredth a look at the gauges.
void Soak::chat(Loop& loop, Side& own, Side& other) {
    own.remote.emplace(*loop.remote());
    own.ready = true;
    const auto tick = [this, &own, &other, ticks = 0](Loop& inner, whorl::Expired) mutable {
        if (other.ready) static_cast<void>(other.remote->post(Post(counts_)));
        if (++ticks % 100 != 0) return;
        const whorl::Statistics& statistics = inner.statistics();
        own.gauge.operations = statistics.operations;
        own.gauge.handles = statistics.handles;
        own.gauge.buffers_out = statistics.buffers_out;
    };
    static_cast<void>(loop.every(1ms, tick));
}

// True when the loop has nothing left; `live` objects were not closed by themselves.
bool Soak::finish(Loop& loop, std::size_t live) {
    const whorl::Error error = loop.drain(20s);
    const whorl::Statistics& statistics = loop.statistics();
    const bool clean = !error && statistics.operations == 0 && statistics.handles == 0 &&
                       statistics.buffers_out <= whorl::LoopOptions().recv_ring_depth_max +
                                                     whorl::LoopOptions().recv_bulk_ring_depth;
    if (!clean) {
        std::printf(
            "soak: a loop ends with %s, %u slots, %u descriptors, %u buffers, %zu objects\n",
            error ? error.name() : "no error", statistics.operations, statistics.handles,
            statistics.buffers_out, live);
    }
    return clean;
}

void Soak::serve(Pair& pair) {
    Loop loop = make_loop();
    soak::Server server(loop, counts_);
    const whorl::Result<whorl::Address> address = server.open();
    if (!address) std::abort();
    chat(loop, pair.server, settings_.role == Role::both ? pair.visitors : pair.server);
    pair.port = address->port();
    static_cast<void>(loop.run(whorl::RunUntil::stopped));
    pair.server.clean = finish(loop, server.live());
}

void Soak::visit(Pair& pair, std::uint64_t seed) {
    Loop loop = make_loop();
    while (pair.port == 0) std::this_thread::yield();
    soak::Visitors visitors(loop, counts_, pair.port, seed);
    chat(loop, pair.visitors, settings_.role == Role::both ? pair.server : pair.visitors);
    visitors.open(settings_.connections / static_cast<unsigned>(pairs_.size()));
    static_cast<void>(loop.run(whorl::RunUntil::stopped));
    visitors.stop();
    pair.visitors.clean = finish(loop, visitors.live());
}

void Soak::begin() {
    for (std::size_t index = 0; index < pairs_.size(); ++index) {
        Pair& pair = pairs_[index];
        const std::uint64_t seed = settings_.seed + 1 + index;
        pair.server.clean = pair.visitors.clean = true;
        if (settings_.role == Role::visitors) pair.port = settings_.ports[index];
        else pair.server.thread = std::thread([this, &pair] { serve(pair); });
        if (settings_.role == Role::servers) continue;
        pair.visitors.thread = std::thread([this, &pair, seed] { visit(pair, seed); });
    }
}

std::string Soak::ports() {
    std::string text;
    for (Pair& pair : pairs_) {
        while (pair.port == 0) std::this_thread::yield();
        text += (text.empty() ? "" : ",") + std::to_string(pair.port);
    }
    return text;
}

void Soak::end() {
    for (Pair& pair : pairs_) {
        for (Side* side : {&pair.visitors, &pair.server}) {
            if (!side->thread.joinable()) continue;
            while (!side->ready) std::this_thread::yield();
            side->remote->stop();
            side->thread.join();
        }
        pair.server.remote.reset();
        pair.visitors.remote.reset();
    }
}

bool Soak::clean() const {
    return std::all_of(pairs_.begin(), pairs_.end(),
                       [](const Pair& pair) { return pair.server.clean && pair.visitors.clean; });
}

void Soak::print(unsigned second) {
    std::uint64_t operations = 0, handles = 0, buffers = 0;
    for (const Pair& pair : pairs_) {
        for (const Side* side : {&pair.server, &pair.visitors}) {
            operations += side->gauge.operations;
            handles += side->gauge.handles;
            buffers += side->gauge.buffers_out;
        }
    }
    const std::uint64_t visits = counts_.visits;
    std::printf(
        "%s%5u s  rss %.2f MiB  fds %d  threads %d  slots %llu  sockets %llu  buffers %llu  "
        "visits/s %llu  posts %llu  accept errors %llu\n",
        name_of(settings_.role), second, resident_mib(), descriptors(), threads(),
        static_cast<unsigned long long>(operations), static_cast<unsigned long long>(handles),
        static_cast<unsigned long long>(buffers),
        static_cast<unsigned long long>(visits - visits_before_),
        static_cast<unsigned long long>(counts_.posts_run.load()),
        static_cast<unsigned long long>(counts_.accept_errors.load()));
    std::fflush(stdout);
    visits_before_ = visits;
}

// Until so many visits were completed, however busy the machine is; a minute without them is not waited for.
void Soak::await_visits(std::uint64_t complete) {
    for (int tries = 0; tries < 60'000 && counts_.complete < complete; ++tries) {
        std::this_thread::sleep_for(1ms);
    }
}

// For a while nobody gets a new descriptor. An accept that io_uring has already goes by the limit of the
// moment of its submission, so servers' tables are filled as well.
void Soak::exhaust_descriptors() {
    std::vector<int> filled;
    while (settings_.role == Role::servers) {
        const int copy = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
        if (copy < 0) break;
        filled.push_back(copy);
    }
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    rlimit low = before;
    low.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &low);
    std::this_thread::sleep_for(300ms);
    setrlimit(RLIMIT_NOFILE, &before);
    for (const int copy : filled) ::close(copy);
}

// MiB an hour, by least squares over the least of each minute's samples, one a second: what a burst
// takes and gives back is no growth, and a leak raises the floor.
double slope(const std::vector<double>& samples) {
    double count = 0, x_sum = 0, y_sum = 0, xx_sum = 0, xy_sum = 0;
    for (std::size_t first = 0; first + 60 <= samples.size(); first += 60) {
        const auto begin = samples.begin() + static_cast<std::ptrdiff_t>(first);
        const double floor = *std::min_element(begin, begin + 60);
        const double x = count++;
        x_sum += x;
        y_sum += floor;
        xx_sum += x * x;
        xy_sum += x * floor;
    }
    const double spread = count * xx_sum - x_sum * x_sum;
    return spread == 0 ? 0 : (count * xy_sum - x_sum * y_sum) / spread * 60;
}

int failures = 0;
void balance(const char* what, long long before, long long after, long long slack = 0) {
    const bool holds = after - before <= slack && before - after <= slack;
    std::printf("%-28s %12lld before %12lld after  %s\n", what, before, after,
                holds ? "ok" : "FAILED");
    if (!holds) ++failures;
}
void require(const char* what, bool holds) {
    std::printf("%-28s %s\n", what, holds ? "ok" : "FAILED");
    if (!holds) ++failures;
}

void leave_behind(std::string_view what) {
    static int* memory = nullptr;
    if (what == "descriptor") static_cast<void>(!::dup(STDOUT_FILENO));
    if (what == "memory") memory = new int(1);
    if (what == "thread") std::thread([] { ::pause(); }).detach();
    static_cast<void>(memory);
}

// What the process has, before and after.
struct Belongings {
    int descriptors = 0;
    int threads = 0;
    std::int64_t allocations = 0;
    std::size_t heap = 0;
};
Belongings take_stock(int threads_expected) {
    Belongings all;
    all.threads = threads_settled(threads_expected);
    all.descriptors = descriptors();
    all.allocations = allocations_live;
    all.heap = mallinfo2().uordblks;
    return all;
}

// The first run of anything leaves things behind that stay: libraries, arenas, stdio's buffers.
void warm_up(Settings settings) {
    settings.connections = 20;
    settings.role = Role::both;
    Soak soak(settings);
    soak.begin();
    soak.await_visits(5 * settings.connections);
    soak.exhaust_descriptors();
    soak.print(0);
    soak.end();
}

// The visitors' process: this program, with the servers' ports. It says for itself what it left behind.
class VisitorsProcess {
  public:
    VisitorsProcess(const Settings& settings, const std::string& ports) {
        std::vector<std::string> words = {"soak", "--role", "visitors", "--ports", ports};
        const auto add = [&words](const char* name, const std::string& value) {
            words.push_back(name);
            words.push_back(value);
        };
        add("--seconds", std::to_string(settings.seconds));
        add("--connections", std::to_string(settings.connections));
        add("--loops", std::to_string(settings.loops));
        add("--seed", std::to_string(settings.seed));
        add("--slope-max", std::to_string(settings.slope_max));
        const bool libev = settings.backend == whorl::Backend::libev;
        const bool io_uring = settings.backend == whorl::Backend::io_uring;
        add("--backend", libev ? "libev" : io_uring ? "io_uring" : "automatic");
        if (!settings.leave.empty()) add("--leave", std::string(settings.leave));
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        const int error =
            posix_spawn(&id_, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ);
        if (error != 0) std::abort();
    }
    bool ended() {
        if (!ended_) ended_ = waitpid(id_, &status_, WNOHANG) == id_;
        return ended_;
    }
    bool succeeded() const { return ended_ && WIFEXITED(status_) && WEXITSTATUS(status_) == 0; }

  private:
    pid_t id_ = 0;
    int status_ = 0;
    bool ended_ = false;
};

double run(Soak& soak, const Settings& settings) {
    std::vector<double> resident;
    resident.reserve(settings.seconds);
    soak.begin();
    std::optional<VisitorsProcess> visitors;
    if (settings.role == Role::servers) visitors.emplace(settings, soak.ports());
    // Servers stay as long as they have visitors, but not for ever: on a busy machine the seconds of two
    // processes differ by a fifth.
    const unsigned most = visitors ? 2 * settings.seconds + 120 : settings.seconds;
    for (unsigned second = 1; second <= most; ++second) {
        std::this_thread::sleep_for(1s);
        if (visitors && visitors->ended()) break;
        soak.print(second);
        const bool judged = second > settings.seconds / 4 && second <= settings.seconds;
        if (judged) resident.push_back(resident_mib());
        // A process of visitors needs a second to warm up.
        if (second % 10 == (visitors ? 2 : 1)) soak.exhaust_descriptors();
    }
    soak.end();
    if (visitors) require("the visitors' process", visitors->succeeded());
    return slope(resident);
}

void print_counts(const soak::Counts& counts) {
    std::printf(
        "accepted %llu, visits %llu, complete %llu, refused %llu, %.1f MiB echoed, "
        "cancelled %llu, timed out %llu, accept errors %llu\n",
        static_cast<unsigned long long>(counts.accepted.load()),
        static_cast<unsigned long long>(counts.visits.load()),
        static_cast<unsigned long long>(counts.complete.load()),
        static_cast<unsigned long long>(counts.refused.load()),
        static_cast<double>(counts.bytes.load()) / 0x1p20,
        static_cast<unsigned long long>(counts.cancelled.load()),
        static_cast<unsigned long long>(counts.timed_out.load()),
        static_cast<unsigned long long>(counts.accept_errors.load()));
}

// What must have happened, or nothing was tested.
void require_work(const Soak& soak, const soak::Counts& counts, Role role) {
    require("loops end with nothing left", soak.clean());
    require("descriptors ran out, too", counts.accept_errors + counts.refused > 0);
    if (role != Role::visitors) require("visits were accepted", counts.accepted > 0);
    if (role == Role::servers) return;
    require("bytes came back unchanged", counts.wrong == 0 && counts.bytes > 0);
    require("visits were completed", counts.complete > 0);
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings = soak::read_settings(argc, argv);
    soak::allow_descriptors(settings);
    const Role role = settings.role;
    const int threads_before = threads();
    warm_up(settings);
    const Belongings before = take_stock(threads_before);
    auto soak = std::make_unique<Soak>(settings);
    const double growth = run(*soak, settings);
    if (role != Role::both) std::printf("%s:\n", name_of(role));
    print_counts(soak->counts());
    require_work(*soak, soak->counts(), role);
    balance("posts made and destroyed", static_cast<long long>(soak->counts().posts_made),
            static_cast<long long>(soak->counts().posts_gone));
    soak.reset();
    if (role != Role::servers) leave_behind(settings.leave);
    const Belongings after = take_stock(before.threads);
    balance("threads", before.threads, after.threads);
    balance("descriptors", before.descriptors, after.descriptors);
    balance("allocations (new, delete)", before.allocations, after.allocations);
    balance("heap bytes (malloc)", static_cast<long long>(before.heap),
            static_cast<long long>(after.heap), 64 << 10);
    const bool judged = settings.seconds >= 600;
    std::printf("%-28s %12.2f MiB/h%s\n", "slope of resident memory", growth,
                judged ? "" : " (too short to judge)");
    if (judged) require("memory is flat", growth <= settings.slope_max);
    std::printf(failures == 0 ? "soak: nothing was left behind\n" : "soak: %d FAILED\n", failures);
    return failures == 0 ? 0 : 1;
}
