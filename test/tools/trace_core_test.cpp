// SPDX-License-Identifier: MIT
// Goal: a core file may say anything: whorl-trace finds the recorders in one of any size, and no lie in it costs
// more than reading the file once, or memory beyond what the file has.
// Method: core files made by hand whose segments overlap, lie nowhere, are terabytes long and more than fit into
// the header; one that is whole is cut at every byte of its headers and bent by chance. What would be endless is
// ended by the test's limit.
#include <fcntl.h>
#include <sys/stat.h>

#include <random>

#include "core_file.hpp"
#include "json_check.hpp"
#include "tool.hpp"
#include "trace/print.hpp"
#include "trace/source.hpp"

namespace trace_test {
namespace {

using trace::Dumps;

constexpr std::uint64_t somewhere = 0x7f0000004000;

struct Read {
    Dumps dumps;
    std::string problem;
    bool has(const char* words) const { return problem.find(words) != std::string::npos; }
};

Read read(const File& file) {
    Read read;
    read.problem = trace::read_file(file.name(), read.dumps);
    return read;
}

Recorder one_loop() { return two_loops()[0]; }

void print_all(const Dumps& dumps) {
    const auto entries = entries_of(dumps, {});
    (void)text_of(dumps, entries);
    (void)summary_text(dumps, entries);
    EXPECT_EQ(JsonCheck(json_of(dumps, entries)).problem(), "");
    EXPECT_EQ(JsonCheck(summary_json(dumps, entries)).problem(), "");
    EXPECT_EQ(JsonCheck(chrome_of(dumps, entries)).problem(), "");
}

TEST(TraceCore, more_segments_than_the_header_counts) {
    CoreFile core;
    core.count_in_section = true;
    core.memory = placed(one_loop(), somewhere);
    core.segments.resize(70'000, CoreFile::load(0x1000, 0, 0));
    core.segments.back() = CoreFile::load(somewhere, core.memory_at(), core.memory.size());
    const Read good = read(File(core.text()));
    EXPECT_EQ(good.problem, "");
    ASSERT_EQ(good.dumps.size(), 1U);
    EXPECT_EQ(good.dumps[0]->records.size(), 20U);

    core.count_said = 0xffffffff;
    const Read absurd = read(File(core.text()));
    EXPECT_TRUE(absurd.has("cut off within its program headers")) << absurd.problem;
    EXPECT_EQ(absurd.dumps.size(), 1U);  // what can be read is
    // The same, with room for all of them: the rest is a hole.
    const File hole(core.text());
    ASSERT_EQ(::truncate(hole.name().c_str(), off_t{1} << 40), 0);
    const Read more = read(hole);
    EXPECT_TRUE(more.has("segments: the rest is left out")) << more.problem;
    EXPECT_EQ(more.dumps.size(), 1U);

    std::string without = core.text();
    Elf64_Ehdr elf{};
    std::memcpy(&elf, without.data(), sizeof elf);
    elf.e_shoff = without.size() - 4;
    std::memcpy(without.data(), &elf, sizeof elf);
    EXPECT_TRUE(read(File(without)).has("without the number of its segments"));
}

// 70'000 times eight megabytes: each byte is looked at once.
TEST(TraceCore, segments_that_overlap) {
    CoreFile core;
    core.count_in_section = true;
    const std::string recorded = placed(one_loop(), somewhere);
    core.memory = recorded + std::string(8 << 20, 'x');
    core.segments.resize(70'000);
    const std::uint64_t at = core.memory_at();
    for (std::size_t index = 0; index < core.segments.size(); ++index) {
        core.segments[index] = CoreFile::load(somewhere, at + index % 3, core.memory.size());
    }
    const Read all = read(File(core.text()));
    EXPECT_EQ(all.problem, "");
    ASSERT_EQ(all.dumps.size(), 1U);
    EXPECT_EQ(all.dumps[0]->records.size(), 20U);
}

TEST(TraceCore, segments_that_lie_nowhere) {
    const std::uint64_t last = ~std::uint64_t{0};
    CoreFile core;
    core.segments = {CoreFile::load(0, last, last),
                     CoreFile::load(last, last - 4095, 4096),
                     CoreFile::load(last - 4095, 0, last),
                     CoreFile::load(somewhere, std::uint64_t{1} << 62, std::uint64_t{1} << 62),
                     {}};
    core.memory = placed(one_loop(), somewhere);
    core.segments[4] = CoreFile::load(somewhere, core.memory_at(), last);
    core.segments[2].p_offset = core.memory_at() + core.memory.size() - 100;
    const Read found = read(File(core.text()));
    EXPECT_EQ(found.dumps.size(), 1U) << found.problem;
    for (Elf64_Phdr& segment : core.segments) segment.p_offset = std::uint64_t{1} << 50;
    const Read none = read(File(core.text()));
    EXPECT_TRUE(none.dumps.empty());
    EXPECT_TRUE(none.has("cut off")) << none.problem;
    EXPECT_TRUE(none.has("ulimit -c")) << none.problem;
}

// As of a program under AddressSanitizer: nearly all of it is a hole.
TEST(TraceCore, terabytes) {
    CoreFile core;
    core.segments.resize(2);
    const std::uint64_t at = core.memory_at(), far = at + (std::uint64_t{1} << 42);
    const std::string recorded = placed(one_loop(), somewhere);
    core.segments[0] = CoreFile::load(0x7fff8000, at, far - at);
    core.segments[1] = CoreFile::load(somewhere, far, recorded.size());
    const File file(core.text());
    const int fd = ::open(file.name().c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::pwrite(fd, recorded.data(), recorded.size(), static_cast<off_t>(far)),
              static_cast<ssize_t>(recorded.size()));
    ::close(fd);
    const Read found = read(file);
    EXPECT_EQ(found.problem, "");
    ASSERT_EQ(found.dumps.size(), 1U);
    EXPECT_EQ(found.dumps[0]->records.size(), 20U);
}

// Each page says that a recorder of a gigabyte begins there.
TEST(TraceCore, recorders_within_recorders) {
    Recorder recorder(1);
    CoreFile core;
    for (std::uint64_t page = 0; page < 4096; page += 2) {
        recorder.header().written = page % 4 == 0 ? 64 : ~std::uint64_t{0};
        recorder.header().places_max = recorder.header().places_count = 4'000'000;
        recorder.header().records_at = recorder.header().places_at;
        recorder.header().total_bytes = std::uint64_t{1} << 30;
        core.memory += placed(recorder, somewhere + page * 4096).substr(0, 4096 * 2);
    }
    core.segments.resize(1);
    core.segments[0] = CoreFile::load(somewhere, core.memory_at(), std::uint64_t{1} << 31);
    const File file(core.text());
    ASSERT_EQ(::truncate(file.name().c_str(), off_t{1} << 32), 0);
    const Read found = read(file);
    EXPECT_NE(found.problem, "");
    EXPECT_LT(found.problem.size(), 4096U);
    std::uint64_t kept = 0;
    for (const auto& dump : found.dumps) kept += dump->places.size() * sizeof(Place);
    EXPECT_LT(kept, std::uint64_t{1} << 30);
}

TEST(TraceCore, cut_anywhere) {
    const std::string whole = core_of(one_loop(), somewhere);
    const std::size_t recorder_at = whole.find(whorl::recorder::magic);
    std::vector<std::size_t> sizes;
    for (std::size_t size = 0; size < 600; ++size) sizes.push_back(size);
    for (std::size_t at = 4090; at < whole.size(); ++at) {
        if (at < recorder_at + 20 || at % 64 == 0) sizes.push_back(at);
    }
    for (const std::size_t size : sizes) {
        const File file(whole.substr(0, size));
        const Read cut = read(file);
        EXPECT_EQ(cut.dumps.empty(), size < recorder_at + sizeof(Header)) << size;
        // The last page is of the copy, which is none.
        EXPECT_FALSE(cut.dumps.empty() && cut.problem.empty()) << size;
        print_all(cut.dumps);
    }
    const File nothing(whole.substr(0, recorder_at));
    const Read said = read(nothing);
    EXPECT_TRUE(said.has("cut off")) << said.problem;
    EXPECT_TRUE(said.has("ulimit -c")) << said.problem;
}

TEST(TraceCore, bent_by_chance) {
    const std::string whole = core_of(one_loop(), somewhere);
    const std::size_t recorder_at = whole.find(whorl::recorder::magic);
    constexpr std::size_t header = offsetof(Header, event_names);
    std::mt19937_64 random(9);
    for (int round = 0; round < 2000; ++round) {
        std::string bent = whole;
        for (std::uint64_t change = 0; change < 1 + random() % 4; ++change) {
            const std::uint64_t where = random() % 4;
            const std::size_t at = where == 0   ? random() % 300
                                   : where == 1 ? recorder_at + random() % header
                                                : random() % bent.size();
            if (where == 3 && at + 8 <= bent.size()) {
                const std::uint64_t word = random() >> random() % 64;
                std::memcpy(&bent[at & ~std::size_t{7}], &word, sizeof word);
            } else {
                bent[at] = static_cast<char>(random());
            }
        }
        const Read found = read(File(bent));
        EXPECT_FALSE(found.dumps.empty() && found.problem.empty()) << round;
        print_all(found.dumps);
    }
}

// Nobody writes to it: it is refused and not waited for.
TEST(TraceCore, no_regular_file) {
    const File file("");
    const std::string fifo = file.name() + ".fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    const tool_test::Said said = tool_test::run({WHORL_TRACE, fifo});
    EXPECT_EQ(::unlink(fifo.c_str()), 0);
    EXPECT_EQ(said.status, 2) << said.text;
    EXPECT_TRUE(said.has("no regular file")) << said.text;
    const tool_test::Said null = tool_test::run({WHORL_TRACE, "/dev/zero"});
    EXPECT_EQ(null.status, 2) << null.text;
    EXPECT_TRUE(null.has("no regular file")) << null.text;
}

}  // namespace
}  // namespace trace_test
