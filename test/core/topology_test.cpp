// SPDX-License-Identifier: MIT
// Goal: what Topology says of a machine, and that CoreSet takes the processors it is given or says which rule
// they break. Method: trees of made-up machines; of the real one only what any has.
#include <whorl/core_set.hpp>
#include <whorl/topology.hpp>
#include <whorl/whorl.hpp>

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace {

using whorl::CoreSet;
using whorl::CoreSetOptions;
using whorl::Error;
using whorl::Loop;
using whorl::Result;
using whorl::Topology;

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
    // Sets of processors as the kernel writes them: "0-3,8".
    void allowed(const std::string& list) const {
        write("/proc/self/status",
              "Name:\tserver\nCpus_allowed:\tff\nCpus_allowed_list:\t" + list + "\n");
    }
    void online(const std::string& list) const {
        write("/sys/devices/system/cpu/online", list + "\n");
    }
    const char* root() const { return root_.c_str(); }

  private:
    std::string root_;
};

std::vector<std::uint32_t> numbers(const Topology& topology) {
    std::vector<std::uint32_t> found;
    for (const whorl::Cpu& cpu : topology) found.push_back(cpu.number);
    return found;
}
using Numbers = std::vector<std::uint32_t>;

// Core numbers begin anew in each package and have gaps; siblings are 8 apart.
TEST(Topology, two_sockets_with_siblings) {
    const FakeMachine machine;
    const int core_ids[4] = {0, 1, 8, 9};
    for (std::uint32_t number = 0; number < 16; ++number) {
        const int package = number % 8 < 4 ? 0 : 1;
        machine.cpu(number, core_ids[number % 4], package, package);
    }
    machine.allowed("0-15");
    machine.online("0-15");
    const Result<Topology> topology = Topology::read(machine.root());
    ASSERT_TRUE(topology);
    EXPECT_EQ(numbers(*topology), (Numbers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
    EXPECT_EQ(topology->cores(), 8u);
    EXPECT_EQ(topology->useful(), 8u);
    for (std::uint32_t index = 0; index < 8; ++index) {
        EXPECT_EQ((*topology)[index].node, index / 4);
        EXPECT_EQ((*topology)[index].package, index / 4);
        EXPECT_EQ((*topology)[index].core, (*topology)[index + 8].core);
    }
    EXPECT_NE((*topology)[0].core, (*topology)[4].core) << "the same number in another package";
    EXPECT_TRUE(topology->has(15));
    EXPECT_FALSE(topology->has(16));
}

// The other habit of numbering: siblings are neighbours, nodes alternate.
TEST(Topology, interleaved_numbers_are_sorted_by_node_and_core) {
    const FakeMachine machine;
    for (std::uint32_t number = 0; number < 8; ++number) {
        const int package = number / 2 % 2;
        machine.cpu(number, static_cast<int>(number / 4), package, package);
    }
    machine.allowed("0-7");
    const Result<Topology> topology = Topology::read(machine.root());
    ASSERT_TRUE(topology);
    EXPECT_EQ(numbers(*topology), (Numbers{0, 4, 2, 6, 1, 5, 3, 7}));
    EXPECT_EQ(topology->cores(), 4u);
}

TEST(Topology, a_container_of_one_and_a_half_processors) {
    const FakeMachine machine;
    for (std::uint32_t number = 0; number < 16; ++number) {
        machine.cpu(number, static_cast<int>(number), 0, 0);
    }
    machine.allowed("2,4-6");  // its cpuset
    machine.write("/proc/self/cgroup", "0::/\n");
    machine.write("/sys/fs/cgroup/cpu.max", "150000 100000\n");
    Result<Topology> topology = Topology::read(machine.root());
    ASSERT_TRUE(topology);
    EXPECT_EQ(numbers(*topology), (Numbers{2, 4, 5, 6}));
    EXPECT_EQ(topology->cores(), 4u);
    EXPECT_EQ(topology->quota(), 2u) << "rounded up";
    EXPECT_EQ(topology->useful(), 2u);
    machine.write("/sys/fs/cgroup/cpu.max", "max 100000\n");
    topology = Topology::read(machine.root());
    EXPECT_EQ(topology->quota(), 0u);
    EXPECT_EQ(topology->useful(), 4u);
}

TEST(Topology, a_quota_of_control_groups_version_one) {
    const FakeMachine machine;
    machine.allowed("0-7");
    machine.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    machine.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(Topology::read(machine.root())->quota(), 0u);
    machine.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n");
    EXPECT_EQ(Topology::read(machine.root())->quota(), 3u);
}

TEST(Topology, what_is_offline_is_left_out) {
    const FakeMachine machine;
    for (const std::uint32_t number : {0u, 2u, 3u, 6u}) {
        machine.cpu(number, static_cast<int>(number / 2), 0, 0);  // the others have no folder
    }
    machine.allowed("0-7");
    machine.online("0,2-3,6");
    const Result<Topology> topology = Topology::read(machine.root());
    ASSERT_TRUE(topology);
    EXPECT_EQ(numbers(*topology), (Numbers{0, 2, 6, 3})) << "3 is a sibling of 2";
    EXPECT_EQ(topology->cores(), 3u);
    EXPECT_FALSE(topology->has(1));
}

TEST(Topology, numbers_beyond_its_limit_are_not_seen) {
    const FakeMachine machine;
    machine.allowed("1022-4000");
    EXPECT_EQ(numbers(*Topology::read(machine.root())), (Numbers{1022, 1023}));
}

TEST(Topology, siblings_come_last_and_nodes_are_kept_together) {
    {
        const FakeMachine machine;
        machine.allowed("0-1");
        machine.cpu(0, 3, 0, 0);
        machine.cpu(1, 3, 0, 0);
        Result<Topology> topology = Topology::read(machine.root());
        ASSERT_TRUE(topology);
        EXPECT_EQ((*topology)[0].core, (*topology)[1].core) << "two threads of one core";
        EXPECT_LT(topology->cores(), topology->count());
    }
    {
        const FakeMachine machine;
        machine.allowed("0-1");
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

// --- the processors that CoreSet is given

Error started(const CoreSetOptions& options) {
    return CoreSet::start(options, [](Loop&, std::uint32_t) -> Error { return {}; }).error();
}

TEST(CoreSetCpus, loops_go_where_they_are_told) {
    const Result<Topology> topology = Topology::read();
    ASSERT_TRUE(topology);
    Numbers chosen = numbers(*topology);
    std::reverse(chosen.begin(), chosen.end());
    chosen.resize(std::min<std::size_t>(chosen.size(), 4));
    CoreSetOptions options;
    options.cpus = chosen.data();
    options.cpus_count = static_cast<std::uint32_t>(chosen.size());
    std::vector<int> ran(chosen.size(), -1);
    Result<CoreSet> set = CoreSet::start(options, [&](Loop&, std::uint32_t core) -> Error {
        cpu_set_t mask;
        if (sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_COUNT(&mask) == 1)
            ran[core] = sched_getcpu();
        return {};
    });
    ASSERT_TRUE(set) << set.error().text();
    ASSERT_EQ(set->size(), chosen.size());
    for (std::uint32_t core = 0; core < set->size(); ++core) {
        EXPECT_EQ(set->cpu(core), static_cast<int>(chosen[core]));
        EXPECT_EQ(ran[core], static_cast<int>(chosen[core]));
    }
}

TEST(CoreSetCpus, what_breaks_a_rule_is_refused_before_there_is_a_thread) {
    const Result<Topology> topology = Topology::read();
    ASSERT_TRUE(topology);
    const std::uint32_t mine = (*topology)[0].number;
    const std::uint32_t one[] = {mine};
    const std::uint32_t twice[] = {mine, mine};
    const std::uint32_t beyond[] = {mine, Topology::cpus_max};
    CoreSetOptions options;
    options.cpus = one;
    options.cpus_count = 1;
    options.loops = 2;
    EXPECT_EQ(started(options), Error::cpus_miscounted);
    options.loops = 1;
    EXPECT_FALSE(started(options));
    options.pin = false;
    EXPECT_EQ(started(options), Error::invalid_argument);
    options.pin = true;
    options.cpus_count = 0;
    EXPECT_EQ(started(options), Error::invalid_argument);
    options.loops = 0;
    options.cpus_count = 2;
    options.cpus = nullptr;
    EXPECT_EQ(started(options), Error::invalid_argument);
    options.cpus = twice;
    EXPECT_EQ(started(options), Error::cpu_repeated);
    options.cpus = beyond;
    EXPECT_EQ(started(options), Error::cpu_unavailable);
    options.loops = 1;
    EXPECT_EQ(started(options), Error::cpus_miscounted) << "more than loops";
}

TEST(CoreSetCpus, one_outside_of_the_affinity_mask_is_unavailable) {
    const Result<Topology> topology = Topology::read();
    ASSERT_TRUE(topology);
    if (topology->count() < 2) GTEST_SKIP() << "needs two processors";
    cpu_set_t before;
    ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    const std::uint32_t other[] = {(*topology)[1].number};
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET((*topology)[0].number, &mask);
    ASSERT_EQ(sched_setaffinity(0, sizeof mask, &mask), 0);
    CoreSetOptions options;
    options.cpus = other;
    options.cpus_count = 1;
    const Error refused = started(options);
    ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
    EXPECT_EQ(refused, Error::cpu_unavailable);
    EXPECT_FALSE(started(options));
}

}  // namespace
