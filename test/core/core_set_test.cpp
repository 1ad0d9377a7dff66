// SPDX-License-Identifier: MIT
// Goal: a loop a core, on the thread and processor that were asked for, all or none, and the first error
// of any is the one that is returned. Method: real threads on both backends; Topology on a made-up machine.
#include <whorl/core_set.hpp>
#include <whorl/mesh.hpp>
#include <whorl/tcp.hpp>
#include <whorl/whorl.hpp>

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <set>
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

// --- Topology

class FakeMachine {
  public:
    FakeMachine() {
        char name[] = "/tmp/whorl-topology-XXXXXX";
        root_ = mkdtemp(name);
    }
    ~FakeMachine() { static_cast<void>(std::system(("rm -r '" + root_ + "'").c_str())); }
    void write(const std::string& path, const std::string& text) const {
        for (std::size_t at = 1; (at = path.find('/', at)) != std::string::npos; ++at) {
            mkdir((root_ + path.substr(0, at)).c_str(), 0755);
        }
        std::ofstream(root_ + path) << text;
    }
    void cpu(std::uint32_t number, int core, int package, int node) const {
        const std::string base = "/sys/devices/system/cpu/cpu" + std::to_string(number);
        write(base + "/topology/core_id", std::to_string(core) + "\n");
        write(base + "/topology/physical_package_id", std::to_string(package) + "\n");
        write(base + "/node" + std::to_string(node) + "/here", "");
    }
    const char* root() const { return root_.c_str(); }

  private:
    std::string root_;
};

// The affinity mask is the machine's own: these describe its first two processors.
bool two_processors() {
    Result<Topology> real = Topology::read();
    return real && real->count() >= 2 && (*real)[0].number == 0 && (*real)[1].number == 1;
}

TEST(Topology, siblings_come_last_and_nodes_are_kept_together) {
    if (!two_processors()) GTEST_SKIP() << "needs processors 0 and 1";
    {
        const FakeMachine machine;
        machine.cpu(0, 3, 0, 0);
        machine.cpu(1, 3, 0, 0);
        Result<Topology> topology = Topology::read(machine.root());
        ASSERT_TRUE(topology);
        EXPECT_EQ((*topology)[0].core, (*topology)[1].core) << "two threads of one core";
        EXPECT_LT(topology->cores(), topology->count());
    }
    {
        const FakeMachine machine;
        machine.cpu(0, 3, 0, 1);
        machine.cpu(1, 3, 1, 0);
        Result<Topology> topology = Topology::read(machine.root());
        ASSERT_TRUE(topology);
        EXPECT_NE((*topology)[0].core, (*topology)[1].core) << "the same number in another package";
        std::vector<std::uint32_t> nodes;
        for (const whorl::Cpu& cpu : *topology) nodes.push_back(cpu.node);
        EXPECT_TRUE(std::is_sorted(nodes.begin(), nodes.end()));
        EXPECT_EQ(nodes.back(), 1u);
    }
}

TEST(Topology, without_sysfs_every_processor_is_a_core) {
    const FakeMachine machine;
    Result<Topology> topology = Topology::read(machine.root());
    ASSERT_TRUE(topology);
    EXPECT_EQ(topology->cores(), topology->count());
    EXPECT_EQ(topology->quota(), 0u);
    EXPECT_EQ(topology->useful(), topology->count());
}

TEST(Topology, the_smallest_quota_of_our_control_groups_counts) {
    const FakeMachine machine;
    machine.write("/proc/self/cgroup", "0::/service/worker\n");
    machine.write("/sys/fs/cgroup/service/worker/cpu.max", "max 100000\n");
    Result<Topology> topology = Topology::read(machine.root());
    ASSERT_TRUE(topology);
    EXPECT_EQ(topology->quota(), 0u);
    machine.write("/sys/fs/cgroup/service/cpu.max", "150000 100000\n");
    topology = Topology::read(machine.root());
    EXPECT_EQ(topology->quota(), 2u);
    machine.write("/sys/fs/cgroup/service/worker/cpu.max", "10000 100000\n");
    topology = Topology::read(machine.root());
    EXPECT_EQ(topology->quota(), 1u);
    EXPECT_EQ(topology->useful(), 1u);
}

TEST(Topology, the_affinity_mask_counts) {
    cpu_set_t before;
    ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    Result<Topology> topology = Topology::read();
    ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
    ASSERT_TRUE(topology);
    EXPECT_EQ(topology->count(), 1u);
}

}  // namespace
