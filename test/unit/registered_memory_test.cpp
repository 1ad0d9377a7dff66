// SPDX-License-Identifier: MIT
// Goal: a pool's mappings are registered with a ring once each, whole, when they are used first; what
// the kernel refuses goes the usual way; the io_uring driver uses READ_FIXED and WRITE_FIXED for what is
// registered and for nothing else.
// Method: the ring's calls looked at, and refused, on their way to the machine's kernel and to simulated
// ones; the trace of a simulated kernel whose RLIMIT_MEMLOCK is small.
#include "backend/registered_memory.hpp"

#include "backend/file_calls.hpp"
#include "base/electric.hpp"
#include "unit/sim_ring_bench.hpp"

#include <whorl/whorl.hpp>

#include <fcntl.h>

#include <set>

namespace whorl::detail {
namespace {

// Passes calls on, keeps what is registered, and refuses what it is told to.
class Gate final : public RingCalls {
  public:
    explicit Gate(RingCalls& calls) : calls_(calls) {}
    int setup(unsigned entries, io_uring& ring, io_uring_params& params) noexcept override {
        return calls_.setup(entries, ring, params);
    }
    void exit(io_uring& ring) noexcept override { calls_.exit(ring); }
    int enter(unsigned fd, unsigned submit, unsigned complete, unsigned flags, void* argument,
              std::size_t size) noexcept override {
        return calls_.enter(fd, submit, complete, flags, argument, size);
    }
    int io_register(unsigned fd, unsigned opcode, void* argument,
                    unsigned count) noexcept override {
        if (opcode == IORING_REGISTER_BUFFERS2) {
            places = static_cast<const io_uring_rsrc_register*>(argument)->nr;
            if (refuse_table != 0) return -refuse_table;
        }
        if (opcode == IORING_REGISTER_BUFFERS_UPDATE) {
            const auto& update = *static_cast<const io_uring_rsrc_update2*>(argument);
            tried.push_back(update.offset);
            if (refuse != 0) return -refuse;
            put[update.offset] = *reinterpret_cast<const iovec*>(update.data);
        }
        return calls_.io_register(fd, opcode, argument, count);
    }

    int refuse_table = 0;
    int refuse = 0;
    unsigned places = 0;
    std::vector<unsigned> tried;
    std::map<unsigned, iovec> put;

  private:
    RingCalls& calls_;
};

struct Bench {
    explicit Bench(RingCalls& calls, std::size_t bytes_max = std::size_t{1} << 20)
        : gate(calls), pool(BufferPool::create(bytes_max)) {
        Ring::Failure failure{};
        opened = !ring.open({8, 16, true, true, false, RingLimit::none}, failure);
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;
    ~Bench() {
        ring.close();
        pool->close();
    }

    Gate gate;
    Ring ring{gate};
    BufferPool* pool;
    Statistics statistics;
    RegisteredMemory memory{ring, *pool, statistics};
    bool opened = false;
};

// False when there is nothing more to be seen: this build registers nothing.
bool opens(Bench& bench) {
    const Error error = bench.memory.open();
    if (electric) EXPECT_EQ(error.value(), EOPNOTSUPP);
    else EXPECT_FALSE(error);
    return !error;
}

void expect_each_mapping_once(RingCalls& calls) {
    Bench bench(calls);
    if (!bench.opened) GTEST_SKIP() << "this machine refuses io_uring";
    Buffer before = bench.pool->get(4'096);
    EXPECT_LT(bench.memory.place_of(before), 0) << "there is no table yet";
    if (!opens(bench)) return;
    EXPECT_EQ(bench.gate.places, 16u);
    std::vector<Buffer> buffers;
    std::set<int> places;
    std::uint64_t transfers = 0;
    for (int count = 0; count < 40; ++count) {
        for (const std::size_t size : {256u, 4'096u, 65'536u}) {
            Buffer buffer = bench.pool->get(size);
            if (!buffer) continue;
            const int place = bench.memory.place_of(buffer);
            ASSERT_EQ(bench.memory.place_of(buffer), place);
            ASSERT_GE(place, 0);
            transfers += 2;
            const iovec& all = bench.gate.put[static_cast<unsigned>(place)];
            const auto first = static_cast<std::byte*>(all.iov_base);
            EXPECT_GE(buffer.data(), first);
            EXPECT_LE(buffer.data() + buffer.capacity(), first + all.iov_len);
            places.insert(place);
            buffers.push_back(std::move(buffer));
        }
    }
    EXPECT_GT(places.size(), 3u);
    EXPECT_EQ(bench.gate.tried.size(), places.size()) << "each once";
    EXPECT_EQ(bench.statistics.transfers_registered, transfers);
    EXPECT_EQ(bench.statistics.registrations_refused, 0u);
    std::size_t bytes = 0;
    for (const auto& [place, part] : bench.gate.put) bytes += part.iov_len;
    EXPECT_EQ(bench.statistics.buffer_bytes_registered, bytes);

    // What is not of this pool.
    BufferPool* other = BufferPool::create(1 << 20);
    EXPECT_LT(bench.memory.place_of(other->get(4'096)), 0);
    EXPECT_LT(bench.memory.place_of(Buffer::allocate(4'096)), 0);
    EXPECT_LT(bench.memory.place_of(Buffer()), 0);
    other->close();
    EXPECT_EQ(bench.statistics.transfers_registered, transfers);
}

TEST(RegisteredMemory, each_mapping_once_in_a_world) {
    SimKernel kernel{testing::SimulationOptions()};
    expect_each_mapping_once(kernel.ring_calls());
}

// The limit of locked memory is the machine's: 1 MiB is below every default.
TEST(RegisteredMemory, each_mapping_once_here) { expect_each_mapping_once(real_ring_calls()); }

TEST(RegisteredMemory, without_a_table_nothing_is_registered) {
    for (const int error : {EPERM, ENOMEM, EINVAL, EACCES}) {
        SimKernel kernel{testing::SimulationOptions()};
        Bench bench(kernel.ring_calls());
        bench.gate.refuse_table = error;
        EXPECT_EQ(bench.memory.open().value(), electric ? EOPNOTSUPP : error);
        EXPECT_LT(bench.memory.place_of(bench.pool->get(100)), 0);
        EXPECT_TRUE(bench.gate.tried.empty());
        EXPECT_EQ(bench.statistics.buffer_bytes_registered, 0u);
    }
    testing::SimulationOptions old;
    old.ring_level = testing::RingLevel::linux_5_15;
    SimKernel kernel(old);
    Bench bench(kernel.ring_calls());
    EXPECT_EQ(bench.memory.open().value(), electric ? EOPNOTSUPP : EINVAL);
    Bench empty(kernel.ring_calls(), 1'000);
    EXPECT_TRUE(empty.memory.open());
    EXPECT_EQ(empty.gate.places, 0u);
}

TEST(RegisteredMemory, a_refused_mapping_is_used_as_it_is_and_not_tried_again) {
    for (const int error : {EPERM, ENOMEM, EFAULT}) {
        SimKernel kernel{testing::SimulationOptions()};
        Bench bench(kernel.ring_calls());
        if (!opens(bench)) return;
        const Buffer first = bench.pool->get(256);
        EXPECT_EQ(bench.memory.place_of(first), 0);
        bench.gate.refuse = error;
        const Buffer second = bench.pool->get(1'024);
        for (int tries = 0; tries < 3; ++tries) EXPECT_LT(bench.memory.place_of(second), 0);
        bench.gate.refuse = 0;
        EXPECT_LT(bench.memory.place_of(second), 0);
        EXPECT_EQ(bench.memory.place_of(first), 0);
        EXPECT_EQ(bench.memory.place_of(bench.pool->get(4'096)), 2) << "others are";
        EXPECT_EQ(bench.gate.tried, (std::vector<unsigned>{0, 1, 2}));
        EXPECT_EQ(bench.statistics.registrations_refused, 1u);
    }
}

// The loop moves to another thread, or into a host: the table belongs to the ring.
TEST(RegisteredMemory, a_new_ring_begins_anew) {
    SimKernel kernel{testing::SimulationOptions()};
    Bench bench(kernel.ring_calls());
    if (!opens(bench)) return;
    const Buffer buffer = bench.pool->get(256);
    EXPECT_EQ(bench.memory.place_of(buffer), 0);
    bench.ring.close();
    Ring::Failure failure{};
    ASSERT_FALSE(bench.ring.open({8, 16, true, true, false, RingLimit::none}, failure));
    ASSERT_FALSE(bench.memory.open());
    EXPECT_EQ(bench.statistics.buffer_bytes_registered, 0u);
    EXPECT_EQ(bench.memory.place_of(buffer), 0);
    EXPECT_EQ(bench.gate.tried.size(), 2u);
}

// --- the driver

struct Seen {
    int plain = 0;
    int fixed = 0;
    int wrong = 0;  // what is read is not what was written
    Statistics statistics;
};

// Writes and reads 60 blocks of the pool with a loop in a world.
Seen seen(const testing::SimulationOptions& world, bool registered) {
    constexpr std::size_t size = 4'096;
    Seen found;
    SimKernel kernel(world);
    LoopOptions options;
    options.backend = Backend::io_uring;
    options.world = &kernel;
    options.registered_buffers = registered;
    Result<Loop> loop = Loop::create(options);
    EXPECT_TRUE(loop);
    File file;
    EXPECT_TRUE(loop->submit(OpenFile{"/a", O_RDWR | O_CREAT},
                             [&file](Loop&, OpenFile::Done done) { file = done.file; }));
    while (!file) EXPECT_FALSE(loop->run_once());
    const auto text_of = [](int index) {
        return std::string(size, static_cast<char>('A' + index));
    };
    int left = 60;
    for (int index = 0; index < 60; ++index) {
        Buffer buffer = loop->buffer(size);
        EXPECT_TRUE(buffer.append(Bytes{text_of(index)}));
        const std::uint64_t offset = static_cast<std::uint64_t>(index) * size;
        EXPECT_TRUE(loop->submit(
            WriteAllAt{file, std::move(buffer), offset}, [&, offset](Loop& inner, auto) {
                EXPECT_TRUE(inner.submit(ReadExactAt{file, inner.buffer(size), offset},
                                         [&, offset](Loop&, ReadExactAt::Done done) {
                                             const int here = static_cast<int>(offset / size);
                                             if (done.buffer.text() != text_of(here)) ++found.wrong;
                                             --left;
                                         }));
            }));
    }
    while (left != 0) EXPECT_FALSE(loop->run_once());
    found.statistics = loop->statistics();
    for (const std::string& line : kernel.trace_lines()) {
        const auto told = [&line](int opcode) {
            return line.find("op " + std::to_string(opcode) + " ") != std::string::npos;
        };
        if (told(IORING_OP_READ) || told(IORING_OP_WRITE)) ++found.plain;
        if (told(IORING_OP_READ_FIXED) || told(IORING_OP_WRITE_FIXED)) ++found.fixed;
    }
    return found;
}

TEST(RegisteredMemory, the_driver_uses_what_is_registered) {
    const Seen without = seen({}, false);
    EXPECT_EQ(without.fixed, 0);
    EXPECT_EQ(without.plain, 120);
    EXPECT_EQ(without.wrong, 0);
    const Seen with = seen({}, true);
    EXPECT_EQ(with.fixed, electric ? 0 : 120);
    EXPECT_EQ(with.plain, electric ? 120 : 0);
    EXPECT_EQ(with.wrong, 0);
    EXPECT_EQ(with.statistics.transfers_registered, electric ? 0u : 120u);
    testing::SimulationOptions old;
    old.ring_level = testing::RingLevel::linux_5_15;
    EXPECT_EQ(seen(old, true).plain, 120);
}

// Two mappings of 64 KiB may be locked; the rest is read and written all the same.
TEST(RegisteredMemory, the_driver_does_without_where_memory_must_not_be_locked) {
    testing::SimulationOptions world;
    world.locked_bytes_max = 150'000;
    const Seen some = seen(world, true);
    EXPECT_EQ(some.wrong, 0);
    EXPECT_GT(some.plain, 0);
    EXPECT_EQ(some.plain + some.fixed, 120);
    if (!electric) {
        EXPECT_GT(some.fixed, 0);
        EXPECT_GT(some.statistics.registrations_refused, 0u);
        EXPECT_EQ(some.statistics.buffer_bytes_registered, 131'072u);
    }
    world.locked_bytes_max = 0;
    const Seen none = seen(world, true);
    EXPECT_EQ(none.wrong, 0);
    EXPECT_EQ(none.plain, 120);
    EXPECT_EQ(none.fixed, 0);
}

// --- the simulated ring

TEST(RegisteredMemory, a_simulated_ring_answers_as_linux) {
    sim_ring_test::Bench bench(sim_ring_test::kind());
    const auto put = [&](unsigned place, void* data, std::size_t size) {
        const iovec part{data, size};
        io_uring_rsrc_update2 update{};
        update.offset = place;
        update.nr = 1;
        update.data = reinterpret_cast<std::uintptr_t>(&part);
        return bench.calls.io_register(static_cast<unsigned>(bench.ring.ring_fd),
                                       IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof update);
    };
    char memory[64] = "text";
    EXPECT_EQ(put(0, memory, 64), -ENXIO) << "there is no table";
    io_uring_rsrc_register table{};
    table.nr = 2;
    table.flags = IORING_RSRC_REGISTER_SPARSE;
    const auto make = [&] {
        return bench.calls.io_register(static_cast<unsigned>(bench.ring.ring_fd),
                                       IORING_REGISTER_BUFFERS2, &table, sizeof table);
    };
    EXPECT_EQ(make(), 0);
    EXPECT_EQ(make(), -EBUSY);
    EXPECT_EQ(put(0, memory, 32), 1);
    EXPECT_EQ(put(2, memory, 32), -EINVAL);
    FileCalls& calls = bench.kernel.file_calls();
    OpenHow how{};
    how.flags = O_RDWR | O_CREAT;
    how.mode = 0600;
    const int fd = calls.openat2(AT_FDCWD, "/f", how);
    ASSERT_GE(fd, 0);
    const auto write = [&](void* data, unsigned size, int place) {
        io_uring_prep_write_fixed(bench.entry(), fd, data, size, 0, place);
        bench.submit();
        return bench.next().result;
    };
    EXPECT_EQ(write(memory, 32, 0), 32);
    EXPECT_EQ(write(memory + 31, 1, 0), 1);
    EXPECT_EQ(write(memory + 31, 2, 0), -EFAULT) << "beyond what is registered";
    EXPECT_EQ(write(memory + 40, 2, 0), -EFAULT);
    EXPECT_EQ(write(memory, 2, 1), -EFAULT) << "an empty place";
    EXPECT_EQ(write(memory, 2, 2), -EFAULT) << "no place";
    bench.kernel.close(fd);
}

}  // namespace
}  // namespace whorl::detail
