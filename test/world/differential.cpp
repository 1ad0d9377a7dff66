// SPDX-License-Identifier: MIT
// The same random program of operations on every backend: io_uring, libev, the simulator, and io_uring on
// the simulated ring. Timing differs, so a checker decides.
//
// What must be equal: what each submission was answered; how a refused connect, a stale handle and an
// invalid argument end; the order of timers and of posts; and of each *calm* connection (nothing on it is
// cancelled, closed or timed out) everything: the order of completions on each side of each end, their
// errors, all bytes that were sent and received, and the end of the stream. Of a *rough* one each outcome
// must be one that the contract allows after what the program did, and what was received is the beginning
// of what the sends say has gone out.
//
// Each fourth program is also recorded on the real backends and repeated from the log, with the same end of
// every operation, the same bytes and the same order.
//
//   differential [first seed [count]]
#include "differential_plan.hpp"

#include <whorl/replay.hpp>
#include <whorl/testing.hpp>
#include <whorl/whorl.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace std::chrono_literals;
using whorl::Buffer;
using whorl::Error;
using whorl::Instant;
using whorl::Loop;
using whorl::Nanoseconds;
using whorl::testing::World;
using namespace differential;

// --- one run of it

struct Outcome {
    Act act;
    std::uint8_t connection;
    std::uint8_t end;
    bool final = false;
    bool cancelled = false;  // somebody asked for it
    bool late = false;       // it has a deadline
    Error error;
    std::uint64_t bytes = 0;
    std::string text;
    whorl::Operation operation;
};

struct End {
    whorl::Socket socket;
    bool closed = false;
    bool shut = false;
    std::string received;
    std::vector<std::size_t> reads;  // outcomes in the order of their completion
    std::vector<std::size_t> writes;
};

class Run {
  public:
    Run(Loop& loop, World* world, const Plan& plan) : loop_(loop), world_(world), plan_(plan) {
        outcomes_.reserve(256);
        ends_.resize(plan.connections * 2);
    }

    bool run() {
        if (!connect()) return fail("the connections could not be made");
        for (const Step& step : plan_.steps) {
            perform(step);
            if (!why_.empty()) return false;
        }
        finish();
        check();
        return why_.empty();
    }
    // All that must be equal on every backend.
    std::string signature() const;
    // All that happened.
    std::string transcript() const;
    const std::string& why() const { return why_; }

  private:
    struct Handler {
        Run* run;
        std::size_t index;
        template <class Done>
        void operator()(Loop&, Done done) const {
            run->done(index, done);
        }
    };

    bool fail(std::string what) {
        if (why_.empty()) why_ = std::move(what);
        return false;
    }
    Instant now() const { return world_ != nullptr ? world_->now() : loop_.now(); }
    void run_for(Nanoseconds time) {
        if (loop_.run_for(time)) fail("run_for failed");
    }
    template <class Holds>
    bool run_until(Holds&& holds) {
        const Instant end = now() + 20s;
        while (!holds() && now() < end) run_for(200us);
        return holds();
    }

    bool connect();
    void perform(const Step& step);
    void perform_transfer(const Step& step);
    void perform_time(const Step& step);
    void finish();
    void check();
    void check_order(const std::vector<std::size_t>& order, bool rough);
    bool explained(const Outcome& outcome) const;
    End& end_of(const Outcome& outcome) { return ends_[outcome.connection * 2u + outcome.end]; }
    const End& end_of(const Outcome& outcome) const {
        return ends_[outcome.connection * 2u + outcome.end];
    }

    std::size_t begin(const Step& step, Act act) {
        outcomes_.emplace_back();
        outcomes_.back().act = act;
        outcomes_.back().connection = step.connection;
        outcomes_.back().end = step.end;
        return outcomes_.size() - 1;
    }
    template <class Op>
    void submit(std::size_t index, Op&& operation, const whorl::SubmitOptions& options = {}) {
        const auto made = loop_.submit(std::forward<Op>(operation), options, Handler{this, index});
        answers_ += std::string(made ? "ok" : made.error().name()) + ' ';
        if (made) outcomes_[index].operation = *made;
        else outcomes_[index].final = true;
        if (!made) outcomes_[index].error = made.error();
    }
    Outcome& settle(std::size_t index, Error error, std::uint64_t bytes) {
        Outcome& outcome = outcomes_[index];
        if (outcome.final) fail("a second final completion");
        outcome.final = true;
        outcome.error = error;
        outcome.bytes = bytes;
        return outcome;
    }
    void done(std::size_t index, whorl::Send::Done& done) { sent(index, done.error, done.bytes); }
    void done(std::size_t index, whorl::SendAll::Done& done) {
        sent(index, done.error, done.bytes);
    }
    void done(std::size_t index, whorl::SendChain::Done& done) {
        sent(index, done.error, done.bytes);
    }
    void done(std::size_t index, whorl::Shutdown::Done& done) { sent(index, done.error, 0); }
    void sent(std::size_t index, Error error, std::uint64_t bytes) {
        end_of(settle(index, error, bytes)).writes.push_back(index);
    }
    void done(std::size_t index, whorl::Recv::Done& done) {
        End& end = end_of(settle(index, done.error, done.buffer.size()));
        end.received += done.buffer.text();
        end.reads.push_back(index);
    }
    void done(std::size_t index, whorl::RecvStream::Done& done) {
        Outcome& outcome = outcomes_[index];
        if (outcome.final) fail("a completion after the final one");
        end_of(outcome).received += done.buffer.text();
        outcome.bytes += done.buffer.size();
        if (!done.more) end_of(settle(index, done.error, outcome.bytes)).reads.push_back(index);
    }

    Loop& loop_;
    World* world_;
    const Plan& plan_;
    std::vector<End> ends_;
    std::vector<Outcome> outcomes_;
    std::string answers_;  // of submissions and misuse, in order
    std::string fired_;    // timers and posts, in order
    std::string why_;
    std::uint32_t timers_ = 0;
    std::uint32_t timers_live_ = 0;
    std::uint32_t posts_ = 0;
};

bool Run::connect() {
    auto listener = whorl::listen(loop_, whorl::Address::loopback_v4(0));
    if (!listener) return false;
    const auto address = whorl::local_address(loop_, *listener);
    if (!address) return false;
    // One after the other, so that accepted ends are known.
    for (std::uint32_t index = 0; index < plan_.connections; ++index) {
        End* ends = &ends_[index * 2];
        (void)loop_.submit(whorl::Accept{*listener}, [ends](Loop&, whorl::Accept::Done done) {
            ends[1].socket = done.socket;
        });
        (void)loop_.submit(
            whorl::Connect{address.value()},
            [ends](Loop&, whorl::Connect::Done done) { ends[0].socket = done.socket; });
        if (!run_until([ends] { return ends[0].socket && ends[1].socket; })) return false;
    }
    (void)loop_.close(*listener);
    run_for(1ms);
    // Nobody listens there now.
    Error refused;
    (void)loop_.submit(whorl::Connect{address.value()},
                       [&refused](Loop&, whorl::Connect::Done done) { refused = done.error; });
    run_until([&refused] { return static_cast<bool>(refused); });
    answers_ += std::string(refused.name()) + ' ';
    return true;
}

void Run::perform(const Step& step) {
    End& end = ends_[step.connection * 2u + step.end];
    switch (step.act) {
        case Act::cancel:
            for (std::size_t back = 0; back < outcomes_.size(); ++back) {
                Outcome& outcome = outcomes_[outcomes_.size() - 1 - back];
                if (outcome.final || outcome.connection != step.connection) continue;
                const whorl::Cancelled answer = loop_.cancel(outcome.operation);
                if (answer == whorl::Cancelled::not_found) fail("a live operation was not found");
                outcome.cancelled = true;
                return;
            }
            return;
        case Act::close:
            for (Outcome& outcome : outcomes_) {
                const bool here = outcome.connection == step.connection && outcome.end == step.end;
                if (here && !outcome.final) outcome.cancelled = true;
            }
            answers_ += std::string(loop_.close(end.socket).name()) + ' ';
            end.closed = true;
            return;
        case Act::invalid: {
            whorl::Recv nothing{end.socket, Buffer(), 0};
            const auto made = loop_.submit(std::move(nothing), [](Loop&, whorl::Recv::Done) {});
            answers_ += std::string(made ? "ok" : made.error().name()) + ' ';
            return;
        }
        case Act::stale: {
            const auto other = whorl::Socket::from_value(end.socket.value() ^ (2ull << 32));
            answers_ += std::string(loop_.close(other).name()) + ' ';
            return;
        }
        case Act::turn:
            if (loop_.poll()) fail("poll failed");
            return;
        case Act::wait:
            return run_for(Nanoseconds(step.number * 10));
        case Act::timer:
        case Act::timer_cancelled:
        case Act::post:
            return perform_time(step);
        default:
            return perform_transfer(step);
    }
}

void Run::perform_transfer(const Step& step) {
    const End& end = ends_[step.connection * 2u + step.end];
    const std::size_t index = begin(step, step.act);
    const std::string text = text_of(static_cast<std::uint32_t>(index), step.number);
    const whorl::SubmitOptions late = whorl::within(Nanoseconds(step.number * 5));
    outcomes_[index].late = step.act == Act::deadline;
    switch (step.act) {
        case Act::send_all:
        case Act::send:
            outcomes_[index].text = text;
            if (step.act == Act::send) {
                return submit(index, whorl::Send{end.socket, whorl::adopt(std::string(text))});
            }
            return submit(index, whorl::SendAll{end.socket, whorl::adopt(std::string(text))});
        case Act::send_chain: {
            outcomes_[index].text = text;
            whorl::BufferChain chain;
            const std::size_t cut = text.size() / 3;
            (void)chain.push_back(whorl::adopt(text.substr(0, cut)));
            (void)chain.push_back(whorl::adopt(text.substr(cut)));
            return submit(index, whorl::SendChain{end.socket, std::move(chain)});
        }
        case Act::recv_all:
            return submit(index,
                          whorl::Recv{end.socket, Buffer::allocate(step.number + 1), MSG_WAITALL});
        case Act::deadline:
            return submit(index, whorl::Recv{end.socket, Buffer::allocate(step.number + 1), 0},
                          late);
        case Act::recv_stream:
            return submit(index, whorl::RecvStream{end.socket});
        default:
            ends_[step.connection * 2u + step.end].shut = true;
            return submit(index, whorl::Shutdown{end.socket});
    }
}

// Timers of one batch are far enough apart that their order does not depend on the machine's speed: the
// deadline is absolute, and each is one step later than the one before.
void Run::perform_time(const Step& step) {
    if (step.act == Act::post) {
        const std::uint32_t number = ++posts_;
        if (loop_.post([this, number](Loop&) { fired_ += 'p' + std::to_string(number) + ' '; })) {
            fail("a post was refused");
        }
        return;
    }
    const std::uint32_t number = ++timers_;
    const Instant due = now() + Nanoseconds(step.number);
    const auto made = loop_.at(due, [this, due](Loop&, whorl::Expired expired) {
        --timers_live_;
        if (now() < due) fail("a timer fired early");
        if (expired.deadline != due) fail("a timer tells another deadline");
    });
    if (!made) {
        fail("a timer was refused");
        return;
    }
    ++timers_live_;
    if (step.act != Act::timer_cancelled) return;
    if (loop_.cancel(*made)) --timers_live_;
    else fail("a live timer was not found");
    fired_ += 't' + std::to_string(number) + ' ';
}

// Every end is read to its end and half-closed; what stays open on a rough connection is closed then.
void Run::finish() {
    for (std::uint8_t index = 0; index < ends_.size(); ++index) {
        const Step step{Act::shutdown, static_cast<std::uint8_t>(index / 2),
                        static_cast<std::uint8_t>(index % 2), 0};
        if (ends_[index].closed) continue;
        perform_transfer({Act::recv_stream, step.connection, step.end, 0});
        // On a rough one the first may have been cancelled.
        if (!ends_[index].shut || plan_.rough[index / 2]) perform_transfer(step);
    }
    const auto ended = [this] {
        return timers_live_ == 0 &&
               std::all_of(outcomes_.begin(), outcomes_.end(),
                           [](const Outcome& outcome) { return outcome.final; });
    };
    if (!run_until(ended)) fail("an operation does not end");
    for (End& end : ends_) {
        if (!end.closed) (void)loop_.close(end.socket);
    }
    run_for(1ms);
    if (loop_.statistics().operations != 0) fail("a slot is left");
    if (loop_.statistics().handles != 0) fail("a socket is left");
    // io_uring keeps buffers ready for received streams.
    const bool keeps = loop_.backend_report().chosen == whorl::Backend::io_uring;
    if (loop_.statistics().buffers_out != 0 && !keeps) fail("a buffer is left");
}

// Whether the contract allows this outcome after what the program did.
bool Run::explained(const Outcome& outcome) const {
    const Error error = outcome.error;
    const End& other = ends_[outcome.connection * 2u + (1u - outcome.end)];
    if (!error) return true;
    if (error == Error::stale_handle) return end_of(outcome).closed;
    if (error == Error::cancelled) return outcome.cancelled;
    if (error == Error::timed_out) return outcome.late;
    const bool gone = error == Error::from_errno(EPIPE) || error == Error::from_errno(ECONNRESET);
    const bool sends = outcome.act != Act::recv_all && outcome.act != Act::recv_stream;
    if (gone && sends && end_of(outcome).shut) return true;
    const bool unconnected = error == Error::from_errno(ENOTCONN);
    // A second half-close, when the other side has made its own: Linux has no connection any more.
    if (unconnected && outcome.act == Act::shutdown && plan_.rough[outcome.connection]) return true;
    return (gone || unconnected) && other.closed;
}

// One side of a descriptor keeps the order of submission, except for what was cancelled.
void Run::check_order(const std::vector<std::size_t>& order, bool rough) {
    std::size_t last = 0;
    for (const std::size_t index : order) {
        const Outcome& outcome = outcomes_[index];
        if (rough && (outcome.cancelled || outcome.late)) continue;
        if (index < last) fail("completions of one side are out of order");
        last = index;
    }
}

void Run::check() {
    for (std::size_t index = 0; index < outcomes_.size(); ++index) {
        const Outcome& outcome = outcomes_[index];
        if (!explained(outcome)) {
            fail("operation " + std::to_string(index) + " ended with " + outcome.error.name() +
                 ", which nothing explains");
        }
    }
    for (std::size_t index = 0; index < ends_.size(); ++index) {
        const bool rough = plan_.rough[index / 2];
        check_order(ends_[index].reads, rough);
        check_order(ends_[index].writes, rough);
        std::string sent;
        for (const Outcome& outcome : outcomes_) {
            const std::size_t other = outcome.connection * 2u + (1u - outcome.end);
            if (other == index) sent += outcome.text.substr(0, outcome.bytes);
        }
        const std::string& got = ends_[index].received;
        if (sent.compare(0, got.size(), got) != 0) fail("other bytes arrived than were sent");
        if (!rough && got.size() != sent.size()) fail("bytes were lost on a calm connection");
    }
}

std::string Run::signature() const {
    std::string text = "answers " + answers_ + "\nfired " + fired_ + '\n';
    for (std::size_t index = 0; index < ends_.size(); ++index) {
        if (plan_.rough[index / 2]) continue;
        const End& end = ends_[index];
        text += "end " + std::to_string(index) + " received " + end.received + "\n reads";
        for (const std::size_t number : end.reads) {
            const Outcome& outcome = outcomes_[number];
            text += ' ' + std::to_string(number) + ':' + outcome.error.name() + ':' +
                    std::to_string(outcome.bytes);
        }
        text += "\n writes";
        for (const std::size_t number : end.writes) {
            const Outcome& outcome = outcomes_[number];
            text += ' ' + std::to_string(number) + ':' + outcome.error.name() + ':' +
                    std::to_string(outcome.bytes);
        }
        text += '\n';
    }
    return text;
}

std::string Run::transcript() const {
    std::string text = signature() + why_;
    for (const Outcome& outcome : outcomes_) {
        text += std::string(outcome.error.name()) + ' ' + std::to_string(outcome.bytes) + '\n';
    }
    for (const End& end : ends_) text += end.received + '\n';
    return text;
}

// --- every backend

struct Backend {
    const char* name;
    whorl::Backend backend;
    bool simulated;
    bool missing = false;
};

// Empty when it went well; `signature` is what must be equal.
std::string run_on(const Backend& backend, const Plan& plan, std::uint64_t seed,
                   std::string& signature) {
    std::unique_ptr<World> world;
    whorl::LoopOptions options;
    options.backend = backend.backend;
    options.ops_max = options.handles_max = 1024;
    if (backend.simulated) world = std::make_unique<World>(seed);
    whorl::Result<Loop> loop = world != nullptr ? world->make_loop(options) : Loop::create(options);
    if (!loop) return std::string("no loop: ") + loop.error().name();
    Run run(*loop, world.get(), plan);
    const bool good = run.run();
    signature = run.signature();
    return good ? std::string() : run.why();
}

// The run is recorded, and repeated from its log: that must be the same in everything. Empty when it was.
std::string record_and_replay(const Backend& backend, const Plan& plan) {
    char path[] = "/tmp/whorl-differential-XXXXXX";
    const int fd = ::mkstemp(path);
    if (fd < 0) return "no file for the log";
    ::close(fd);
    std::string recorded;
    whorl::LoopOptions options;
    options.backend = backend.backend;
    options.ops_max = options.handles_max = 1024;
    options.run_log = path;
    {
        whorl::Result<Loop> loop = Loop::create(options);
        if (!loop) return std::string("no loop: ") + loop.error().name();
        Run run(*loop, nullptr, plan);
        static_cast<void>(run.run());
        recorded = run.transcript();
    }
    whorl::testing::Replay replay(path);
    ::unlink(path);
    std::string repeated;
    {
        whorl::Result<Loop> loop = replay.make_loop();
        if (!loop) return std::string("no replay: ") + replay.text();
        Run run(*loop, nullptr, plan);
        static_cast<void>(run.run());
        repeated = run.transcript();
    }
    if (repeated == recorded && replay.finished()) return {};
    return std::string(replay.text()) + "\nrecorded:\n" + recorded + "---\nrepeated:\n" + repeated;
}

int report(std::uint64_t seed, const char* name, const std::string& why) {
    std::printf("seed %llu on %s: %s\nrepeat with: differential %llu 1\n",
                static_cast<unsigned long long>(seed), name, why.c_str(),
                static_cast<unsigned long long>(seed));
    return 1;
}

int run(std::uint64_t first, std::uint64_t count) {
    Backend backends[] = {
        {"simulator", whorl::Backend::simulator, true},
        {"io_uring", whorl::Backend::io_uring, false},
        {"libev", whorl::Backend::libev, false},
        {"simulated ring", whorl::Backend::io_uring, true},
    };
    int there = 0;
    for (Backend& backend : backends) {
        std::string unused;
        const std::string why = run_on(backend, Plan{}, 1, unused);
        backend.missing = why.compare(0, 7, "no loop") == 0;
        if (backend.missing) std::printf("skipped: %s: %s\n", backend.name, why.c_str());
        else ++there;
    }
    if (there < 2) return 77;
    for (std::uint64_t seed = first; seed - first < count; ++seed) {
        const Plan plan = make_plan(seed);
        std::string expected;
        for (const Backend& backend : backends) {
            if (backend.missing) continue;
            std::string signature;
            const std::string why = run_on(backend, plan, seed, signature);
            if (!why.empty()) return report(seed, backend.name, why);
            if (expected.empty()) expected = signature;
            if (signature != expected) {
                return report(seed, backend.name,
                              "differs from the first backend:\n" + expected + "---\n" + signature);
            }
            if (backend.simulated || seed % 4 != 0) continue;
            const std::string difference = record_and_replay(backend, plan);
            if (!difference.empty()) return report(seed, backend.name, difference);
        }
    }
    std::printf("differential: %llu programs on %d backends\n",
                static_cast<unsigned long long>(count), there);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::uint64_t first = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 1;
    const std::uint64_t count = argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 150;
    return run(first, count);
}
