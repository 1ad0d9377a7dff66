// SPDX-License-Identifier: MIT
// Goal: whorl-trace finds recorders in dumps, core files and processes, and its exit status is what its manual
// page says. Method: it is started as its users do, on files made by hand and on this process.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>

#include "core_file.hpp"
#include "json_check.hpp"
#include "tool.hpp"
#include "trace_recorder.hpp"

namespace trace_test {
namespace {

using tool_test::run;
using tool_test::Said;

Said trace_tool(std::vector<std::string> words,
                const std::function<void()>& prepare = tool_test::prepare_nothing) {
    words.insert(words.begin(), WHORL_TRACE);
    return run(std::move(words), prepare);
}

std::string dump_of_two() {
    std::string all;
    for (const Recorder& recorder : two_loops()) all += text_of(recorder);
    return all;
}

TEST(TraceTool, a_dump) {
    const File file(dump_of_two());
    const Said said = trace_tool({file.name()});
    EXPECT_EQ(said.status, 0) << said.text;
    EXPECT_TRUE(said.has("loop 1 (thread 4712)")) << said.text;
    EXPECT_TRUE(said.has("loop 2 (thread 4713)")) << said.text;
    EXPECT_TRUE(said.has("src/server.cpp:42")) << said.text;
    const Said some = trace_tool({file.name(), "--event", "submit,post", "--kind", "recv,post"});
    EXPECT_EQ(some.status, 0) << some.text;
    EXPECT_TRUE(some.has("submit         recv")) << some.text;
    EXPECT_TRUE(some.has("post           post")) << some.text;
    EXPECT_FALSE(some.has("complete")) << some.text;
    const Said summary = trace_tool({file.name(), "--summary", "--loop", "1"});
    EXPECT_EQ(summary.status, 0) << summary.text;
    EXPECT_TRUE(summary.has("loop 1 of process 4711: 20 records")) << summary.text;
    EXPECT_FALSE(summary.has("loop 2")) << summary.text;
}

TEST(TraceTool, json_of_all_sorts) {
    const File file(dump_of_two());
    for (const std::vector<std::string>& options :
         std::vector<std::vector<std::string>>{{"--json"}, {"--json", "--summary"}, {"--chrome"}}) {
        std::vector<std::string> words{file.name()};
        words.insert(words.end(), options.begin(), options.end());
        const Said said = trace_tool(words);
        EXPECT_EQ(said.status, 0) << said.text;
        EXPECT_EQ(JsonCheck(said.text).problem(), "");
    }
}

// What the viewers take, looked at by a program that knows nothing of this one.
TEST(TraceTool, a_viewers_file) {
    const File file(dump_of_two());
    const File viewed("");
    const Said said = trace_tool({file.name(), "--chrome", "-o", viewed.name()});
    EXPECT_EQ(said.status, 0) << said.text;
    EXPECT_EQ(said.text, "");
    const Said checked = run({WHORL_PYTHON, WHORL_TRACE_CHECK, viewed.name()});
    EXPECT_EQ(checked.status, 0) << checked.text;
    EXPECT_EQ(checked.text, "M:4 X:8 b:4 e:4 f:1 i:2 n:5 s:1\n");
}

TEST(TraceTool, a_core_file) {
    const std::string core = core_of(two_loops()[0], 0x7f0000004000);
    const File file(core);
    const Said said = trace_tool({file.name()});
    EXPECT_EQ(said.status, 0) << said.text;
    EXPECT_TRUE(said.has("20 records\n")) << said.text;
    EXPECT_EQ(said.text.find("# process", 2), std::string::npos) << said.text;  // one of them
    // Cut off in its middle, as by a limit of the core's size: what is there is shown.
    const File cut(core.substr(0, 8192 + sizeof(Header) + 3000));
    const Said half = trace_tool({cut.name()});
    EXPECT_EQ(half.status, 1) << half.text;
    EXPECT_TRUE(half.has("cut off: the end of it is missing")) << half.text;
    EXPECT_TRUE(half.has("src/server.cpp:42")) << half.text;
    const File headers(core.substr(0, 100));
    const Said none = trace_tool({headers.name()});
    EXPECT_EQ(none.status, 2) << none.text;
    EXPECT_TRUE(none.has("cut off within its program headers")) << none.text;
    const File empty(core_of(two_loops()[0], 0x7f0000004000).replace(8192, 4, "none"));
    const Said without = trace_tool({empty.name()});
    EXPECT_EQ(without.status, 2) << without.text;
    EXPECT_TRUE(without.has("a core file without a recorder")) << without.text;
}

// A recorder in this process, where one of a loop would be.
class Mapped {
  public:
    explicit Mapped(Recorder recorder) : size_(recorder.bytes().size) {
        void* memory =
            ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT_NE(memory, MAP_FAILED);
        recorder.header().address = reinterpret_cast<std::uintptr_t>(memory);
        recorder.header().process = ::getpid();
        std::memcpy(memory, recorder.bytes().data, size_);
        memory_ = memory;
    }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;
    ~Mapped() { (void)::munmap(memory_, size_); }

  private:
    void* memory_ = nullptr;
    std::size_t size_;
};

TEST(TraceTool, a_process_that_runs) {
    // Where only a parent may look into its child (Yama), this process allows all.
    (void)::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    const std::string self = std::to_string(::getpid());
    const Said none = trace_tool({"--pid", self});
    if (none.has("ptrace(2)")) GTEST_SKIP() << "no process may look into another here";
    EXPECT_EQ(none.status, 2) << none.text;
    EXPECT_TRUE(none.has("no loop of it has a recorder")) << none.text;
    const Mapped first(two_loops()[0]);
    const Mapped second(two_loops()[1]);
    const Said said = trace_tool({"--pid", self});
    EXPECT_EQ(said.status, 0) << said.text;
    EXPECT_TRUE(said.has("# process " + self + ", loop 1 ")) << said.text;
    EXPECT_TRUE(said.has("# process " + self + ", loop 2 ")) << said.text;
    EXPECT_TRUE(said.has("src/worker.cpp:7")) << said.text;
}

TEST(TraceTool, what_is_none) {
    const auto refused = [](const std::string& content, const char* words) {
        const File file(content);
        const Said said = trace_tool({file.name()});
        EXPECT_EQ(said.status, 2) << said.text;
        EXPECT_TRUE(said.has(file.name() + ": " + words)) << said.text;
    };
    refused("", "empty");
    refused("text", "neither a dump of whorl's flight recorder nor a core file nor a run log");
    refused(
        "\x7f"
        "ELF",
        "cut off within the ELF header");
    refused(std::string(whorl::recorder::magic, sizeof whorl::recorder::magic), "cut off within");
    Recorder swapped = two_loops()[0];
    swapped.header().byte_order = 0x04030201;
    refused(text_of(swapped), "written on a machine of the other byte order");
    const Said program = trace_tool({WHORL_TRACE});
    EXPECT_EQ(program.status, 2);
    EXPECT_TRUE(program.has("an ELF file, but not a core file")) << program.text;
    const Said absent = trace_tool({"/nowhere/at/all"});
    EXPECT_EQ(absent.status, 2);
    EXPECT_TRUE(absent.has("No such file or directory")) << absent.text;
    EXPECT_TRUE(trace_tool({"/tmp"}).has("Is a directory"));
    const Said gone = trace_tool({"--pid", "2147483647"});
    EXPECT_EQ(gone.status, 2);
    EXPECT_TRUE(gone.has("No such process")) << gone.text;
}

// The second of two is damaged, and the last record of the first: the rest is shown.
TEST(TraceTool, a_dump_that_is_damaged) {
    std::vector<Recorder> loops = two_loops();
    loops[1].header().records_max = 3;
    const File half(text_of(loops[0]) + text_of(loops[1]));
    const Said said = trace_tool({half.name()});
    EXPECT_EQ(said.status, 1) << said.text;
    EXPECT_TRUE(said.has("damaged: its number of records is no power of two")) << said.text;
    EXPECT_TRUE(said.has("loop 1 (thread 4712)")) << said.text;
    loops[0].record_at(19).number = 5;
    const File record(text_of(loops[0]));
    const Said one = trace_tool({record.name()});
    EXPECT_EQ(one.status, 1) << one.text;
    EXPECT_TRUE(one.has("1 records are damaged")) << one.text;
    const File cut(text_of(loops[0]).substr(0, loops[0].header().records_at + 100));
    const Said short_one = trace_tool({cut.name()});
    EXPECT_EQ(short_one.status, 1) << short_one.text;
    EXPECT_TRUE(short_one.has("cut off: the end of it is missing")) << short_one.text;
    EXPECT_TRUE(short_one.has("3 records, ")) << short_one.text;
}

TEST(TraceTool, wrong_usage) {
    const File file(dump_of_two());
    for (const std::vector<std::string>& words :
         std::vector<std::vector<std::string>>{{},
                                               {"--nothing"},
                                               {"--pid", "0"},
                                               {"--pid", "1", file.name()},
                                               {file.name(), "--chrome", "--json"},
                                               {file.name(), "--event", "nothing"},
                                               {file.name(), "--kind", "nothing"},
                                               {file.name(), "--last", "some"}}) {
        const Said said = trace_tool(words);
        EXPECT_EQ(said.status, 3) << said.text;
        EXPECT_NE(said.text, "");
    }
    EXPECT_EQ(trace_tool({"--help"}).status, 0);
    EXPECT_EQ(trace_tool({"--version"}).status, 0);
}

TEST(TraceTool, nowhere_to_write_to) {
    const File file(dump_of_two());
    const Said full = trace_tool({file.name(), "-o", "/dev/full"});
    EXPECT_EQ(full.status, 3) << full.text;
    EXPECT_TRUE(full.has("/dev/full: No space left on device")) << full.text;
    const Said unread = trace_tool({file.name()}, [] {
        int numbers[2];
        (void)!::pipe(numbers);
        ::dup2(numbers[1], STDOUT_FILENO);
        ::close(numbers[0]);
        ::close(numbers[1]);
    });
    EXPECT_EQ(unread.status, 3) << unread.text;
    EXPECT_TRUE(unread.has("standard output: Broken pipe")) << unread.text;
    const Said closed = trace_tool({file.name()}, [] { ::close(STDOUT_FILENO); });
    EXPECT_EQ(closed.status, 3) << closed.text;
}

}  // namespace
}  // namespace trace_test
