// SPDX-License-Identifier: MIT
// Goal: a loop a core, on the thread and processor that were asked for, all or none, and the first error
// of any is the one that is returned. Method: real threads on both backends.
#include <whorl/core_set.hpp>
#include <whorl/mesh.hpp>
#include <whorl/tcp.hpp>
#include <whorl/whorl.hpp>

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <string>
#include <vector>

namespace {

using whorl::Backend;
using whorl::CoreSet;
using whorl::CoreSetOptions;
using whorl::Error;
using whorl::Loop;
using whorl::Result;
using whorl::Topology;

class CoreSetTest : public ::testing::TestWithParam<Backend> {
  protected:
    void SetUp() override {
        whorl::LoopOptions options;
        options.backend = GetParam();
        if (!Loop::create(options)) GTEST_SKIP() << "this machine refuses the backend";
    }
    static CoreSetOptions options_of(std::uint32_t loops) {
        CoreSetOptions options;
        options.loops = loops;
        options.loop.backend = GetParam();
        return options;
    }
};
INSTANTIATE_TEST_SUITE_P(Backends, CoreSetTest,
                         ::testing::Values(Backend::io_uring, Backend::libev));

TEST_P(CoreSetTest, each_loop_has_a_named_thread_on_its_processor) {
    Result<Topology> topology = Topology::read();
    ASSERT_TRUE(topology);
    CoreSetOptions options = options_of(3);
    options.name = "station";
    std::atomic<int> setups{0};
    std::vector<std::string> names(3);
    std::vector<int> cpus(3, -1);
    Result<CoreSet> set = CoreSet::start(options, [&](Loop&, std::uint32_t core) -> Error {
        char name[16];
        pthread_getname_np(pthread_self(), name, sizeof name);
        names[core] = name;
        cpu_set_t mask;
        sched_getaffinity(0, sizeof mask, &mask);
        if (CPU_COUNT(&mask) == 1) cpus[core] = sched_getcpu();
        ++setups;
        return {};
    });
    ASSERT_TRUE(set) << set.error().name();
    EXPECT_EQ(setups.load(), 3);
    EXPECT_EQ(set->size(), 3u);
    for (std::uint32_t core = 0; core < 3; ++core) {
        EXPECT_EQ(names[core], "station-" + std::to_string(core));
        EXPECT_EQ(set->cpu(core), cpus[core]);
        EXPECT_EQ(cpus[core], static_cast<int>((*topology)[core % topology->count()].number));
    }
    set->stop();
    EXPECT_FALSE(set->join());
    EXPECT_FALSE(set->join()) << "any number of times";
    EXPECT_FALSE(set->run_on(0, [](Loop&) {})) << "it is gone";
}

TEST_P(CoreSetTest, one_setup_that_fails_ends_all_and_its_error_is_returned) {
    std::atomic<int> ran{0};
    std::atomic<int> ended{0};
    struct Count {
        std::atomic<int>* ended;
        explicit Count(std::atomic<int>& counter) : ended(&counter) {}
        Count(Count&& other) noexcept : ended(std::exchange(other.ended, nullptr)) {}
        ~Count() {
            if (ended != nullptr) ++*ended;
        }
        void operator()(Loop&) {}
    };
    Result<CoreSet> set =
        CoreSet::start(options_of(4), [&](Loop& loop, std::uint32_t core) -> Error {
            if (core == 2) return Error::from_errno(EADDRINUSE);
            EXPECT_FALSE(loop.hook(whorl::HookPoint::before_wait, Count(ended)).error());
            EXPECT_TRUE(loop.after(std::chrono::hours(1), [](Loop&, whorl::Expired) {}));
            EXPECT_FALSE(loop.post([&ran](Loop&) { ++ran; }));
            return {};
        });
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error(), Error::from_errno(EADDRINUSE));
    EXPECT_EQ(ended.load(), 3) << "the loops that were there are gone";
}

TEST_P(CoreSetTest, no_loop_can_be_made) {
    CoreSetOptions options = options_of(2);
    options.loop.ops_max = 0;
    Result<CoreSet> set = CoreSet::start(options, [](Loop&, std::uint32_t) -> Error { return {}; });
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error(), Error::invalid_argument);
    EXPECT_EQ(
        CoreSet::start(options_of(1025), [](Loop&, std::uint32_t) -> Error { return {}; }).error(),
        Error::invalid_argument);
}

TEST_P(CoreSetTest, one_that_stops_stops_all_and_each_drains) {
    std::atomic<int> cancelled{0};
    Result<CoreSet> set = CoreSet::start(options_of(3), [&](Loop& loop, std::uint32_t) -> Error {
        Result<whorl::Remote> self = loop.remote();
        if (!self) return self.error();
        Result<whorl::Channel<int>> channel = whorl::Channel<int>::create(1);
        if (!channel) return channel.error();
        // Its sender is gone at once, but it is not told before the loop runs.
        Result<whorl::Listener> listener = whorl::listen(loop, whorl::Address::loopback_v4(0));
        if (!listener) return listener.error();
        return loop
            .submit(whorl::Accept{*listener},
                    [&cancelled](Loop&, whorl::Accept::Done done) {
                        if (done.error == Error::cancelled) ++cancelled;
                    })
            .error();
    });
    ASSERT_TRUE(set) << set.error().name();
    EXPECT_TRUE(set->run_on(1, [](Loop& loop) { loop.stop(); }));
    EXPECT_FALSE(set->join());
    EXPECT_EQ(cancelled.load(), 3) << "handlers are called in the drain";
}

TEST_P(CoreSetTest, its_end_stops_it) {
    std::atomic<int> ran{0};
    {
        Result<CoreSet> set =
            CoreSet::start(options_of(2), [](Loop&, std::uint32_t) -> Error { return {}; });
        ASSERT_TRUE(set);
        EXPECT_TRUE(set->run_on(0, [&ran](Loop&) { ++ran; }));
        EXPECT_TRUE(set->run_on(1, [&ran](Loop&) { ++ran; }));
    }
    EXPECT_EQ(ran.load(), 2);
}

// An accept that has not ended is what a drain without time leaves.
TEST_P(CoreSetTest, one_that_was_moved_from_has_no_loops) {
    const auto nothing = [](Loop&, std::uint32_t) -> Error { return {}; };
    Result<CoreSet> made = CoreSet::start(options_of(2), nothing);
    ASSERT_TRUE(made) << made.error().name();
    CoreSet set(std::move(*made));
    const auto expect_none = [](CoreSet& empty) {
        EXPECT_EQ(empty.size(), 0u);
        empty.stop();
        EXPECT_FALSE(empty.drain(whorl::Nanoseconds::zero()));
        EXPECT_FALSE(empty.join());
    };
    expect_none(*made);
    EXPECT_EQ(set.size(), 2u);
    *made = std::move(set);
    expect_none(set);  // NOLINT(bugprone-use-after-move): what is promised of it
    EXPECT_EQ(made->size(), 2u);
    CoreSet empty(std::move(set));
    *made = std::move(empty);  // what it had ends here
    expect_none(*made);
}

TEST_P(CoreSetTest, one_bound_for_all_drains_or_says_that_it_did_not) {
    const auto run = [](whorl::Nanoseconds of_each, whorl::Nanoseconds of_all, int& cancelled) {
        CoreSetOptions options = options_of(3);
        options.drain_bound = of_each;
        std::atomic<int> ended{0};
        Result<CoreSet> set = CoreSet::start(options, [&](Loop& loop, std::uint32_t) -> Error {
            Result<whorl::Listener> listener = whorl::listen(loop, whorl::Address::loopback_v4(0));
            if (!listener) return listener.error();
            const auto handler = [&ended](Loop&, whorl::Accept::Done done) {
                if (done.error == Error::cancelled) ++ended;
            };
            return loop.submit(whorl::Accept{*listener}, handler).error();
        });
        if (!set) return set.error();
        const Error error = set->drain(of_all);
        EXPECT_EQ(set->join(), error) << "any number of times";
        EXPECT_EQ(set->drain(of_all), error);
        cancelled = ended.load();
        return error;
    };
    const whorl::Nanoseconds none = whorl::Nanoseconds::zero();
    int cancelled = 0;
    EXPECT_FALSE(run(none, std::chrono::hours(1), cancelled));
    EXPECT_EQ(cancelled, 3);
    EXPECT_FALSE(run(none, whorl::Nanoseconds::max(), cancelled)) << "no bound at all";
    EXPECT_EQ(run(std::chrono::hours(1), none, cancelled), Error::drain_incomplete);
}

// Every loop sends to every other; the last message of all stops them.
TEST_P(CoreSetTest, a_mesh_carries_everything_between_threads) {
    constexpr std::uint32_t loops = 4;
    constexpr std::uint32_t each = 2000;
    struct Message {
        std::uint64_t number;
        std::uint64_t rest[4];
    };
    struct Station {
        whorl::MeshPort<Message> port;
        std::uint32_t sent[loops] = {};
        std::uint32_t got[loops] = {};
        std::uint32_t total = 0;
        std::atomic<std::uint32_t>* finished;
        whorl::Remote self;

        void send(Loop& loop, std::uint32_t to) {
            while (sent[to] < each) {
                const Error error = port.to(to).send(Message{sent[to], {}});
                if (error == Error::queue_full) {
                    EXPECT_TRUE(loop.submit(
                        whorl::AwaitSpace{port.to(to)},
                        [this, to](Loop& inner, whorl::AwaitSpace::Done) { send(inner, to); }));
                    return;
                }
                ASSERT_FALSE(error);
                ++sent[to];
            }
        }
        void receive(Loop& loop, std::uint32_t from, whorl::Receive<Message>::Done done) {
            while (const Message* message = done.next()) {
                EXPECT_EQ(message->number, got[from]++);
                if (++total == each * (loops - 1) && finished->fetch_add(1) + 1 == loops)
                    loop.stop();
            }
        }
    };
    std::atomic<std::uint32_t> finished{0};
    std::vector<Station> stations(loops);
    Result<whorl::Mesh<Message>> mesh = whorl::Mesh<Message>::create(loops, 8);
    ASSERT_TRUE(mesh);
    Result<CoreSet> set =
        CoreSet::start(options_of(loops), [&](Loop& loop, std::uint32_t core) -> Error {
            Station& station = stations[core];
            station.finished = &finished;
            Result<whorl::MeshPort<Message>> port = mesh->take(core);
            if (!port) return port.error();
            station.port = std::move(*port);
            const Error refused = station.port.receive(
                loop,
                [&station](Loop& inner, std::uint32_t from, whorl::Receive<Message>::Done done) {
                    station.receive(inner, from, std::move(done));
                });
            if (refused) return refused;
            return loop.post([&station, core](Loop& inner) {
                for (std::uint32_t to = 0; to < loops; ++to) {
                    if (to != core) station.send(inner, to);
                }
            });
        });
    ASSERT_TRUE(set) << set.error().name();
    EXPECT_FALSE(set->join());
    for (const Station& station : stations) EXPECT_EQ(station.total, each * (loops - 1));
}

TEST(Mesh, wiring_is_checked) {
    using IntMesh = whorl::Mesh<int>;
    EXPECT_EQ(IntMesh::create(1, 4).error(), Error::invalid_argument);
    EXPECT_EQ(IntMesh::create(1025, 4).error(), Error::invalid_argument);
    EXPECT_EQ(IntMesh::create(3, 5).error(), Error::invalid_argument);
    Result<IntMesh> mesh = IntMesh::create(3, 4);
    ASSERT_TRUE(mesh);
    EXPECT_TRUE(mesh->take(1));
    EXPECT_EQ(mesh->take(1).error(), Error::invalid_argument) << "taken";
    EXPECT_EQ(mesh->take(3).error(), Error::invalid_argument) << "there is none";
    Result<whorl::MeshPort<int>> port = mesh->take(0);
    ASSERT_TRUE(port);
    EXPECT_EQ(port->to(1).send(5), Error::channel_closed) << "its port was taken and dropped";
    EXPECT_FALSE(port->to(2).send(5));
}

}  // namespace
