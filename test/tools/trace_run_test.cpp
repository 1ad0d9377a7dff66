// SPDX-License-Identifier: MIT
// Goal: whorl-trace shows all that a run log holds, as far as it is whole, and believes nothing that a damaged
// one says.
// Method: runs of each backend and of a simulated world are recorded and shown by the tool, whose numbers are
// those of a replay; the logs are then cut everywhere and bent by chance, with and without a right checksum.
#include <sys/stat.h>
#include <whorl/testing.hpp>

#include <cstring>
#include <random>

#include "backend/run_log_file.hpp"
#include "json_check.hpp"
#include "replay/every_operation.hpp"
#include "tool.hpp"
#include "trace/run_log.hpp"

namespace trace_test {
namespace {

using replay_test::TemporaryFile;
using tool_test::run;
using tool_test::Said;
using namespace std::chrono_literals;
using whorl::Backend;
using whorl::Loop;
using whorl::LoopOptions;

Said trace_tool(std::vector<std::string> words) {
    words.insert(words.begin(), WHORL_TRACE);
    return run(std::move(words));
}

bool all(const trace::RunRecord&) { return true; }

// The number behind `name` in JSON.
std::uint64_t number_in(const std::string& text, const std::string& name) {
    const std::size_t at = text.find("\"" + name + "\": ");
    EXPECT_NE(at, std::string::npos) << name;
    return at == std::string::npos ? 0 : std::strtoull(&text[at + name.size() + 4], nullptr, 10);
}

std::size_t lines_with(const std::string& text, const std::string& words) {
    std::size_t count = 0;
    for (std::size_t at = text.find(words); at != std::string::npos;
         at = text.find(words, at + 1)) {
        ++count;
    }
    return count;
}

class TraceRun : public ::testing::TestWithParam<Backend> {};
INSTANTIATE_TEST_SUITE_P(Backends, TraceRun, ::testing::Values(Backend::io_uring, Backend::libev),
                         [](const auto& info) { return whorl::name_of(info.param); });

TEST_P(TraceRun, every_operation_is_understood) {
    LoopOptions options;
    options.backend = GetParam();
    whorl::BackendReport report;
    WHORL_REPLAY_NEEDS(Loop::create(options, report), report.text);
    const TemporaryFile file;
    const TemporaryFile place;
    const std::string folder = std::string(place.path()) + ".d";
    ASSERT_EQ(::mkdir(folder.c_str(), 0700), 0);
    replay_test::record(options, file, [&](Loop& loop) {
        replay_test::Program program(loop, folder, true);
        program.run();
    });
    ASSERT_EQ(::rmdir(folder.c_str()), 0);

    const Said said = trace_tool({file.path()});
    EXPECT_EQ(said.status, 0) << said.text;
    EXPECT_TRUE(said.has(std::string(" of ") + whorl::name_of(GetParam()) + ": ")) << said.text;
    EXPECT_TRUE(said.has(", complete\n")) << said.text;
    EXPECT_EQ(said.text.find("unknown"), std::string::npos) << said.text;
    EXPECT_EQ(said.text.find("NOT UNDERSTOOD"), std::string::npos);

    const Said json = trace_tool({file.path(), "--json"});
    EXPECT_EQ(json.status, 0);
    EXPECT_EQ(JsonCheck(json.text).problem(), "");
    EXPECT_EQ(number_in(json.text, "not_understood"), 0U);
    EXPECT_EQ(number_in(json.text, "records"), lines_with(json.text, "{\"run\": 0,"));
    EXPECT_EQ(number_in(json.text, "ops_max"), options.ops_max);

    const Said summary = trace_tool({file.path(), "--summary", "--json"});
    EXPECT_EQ(summary.status, 0);
    EXPECT_EQ(JsonCheck(summary.text).problem(), "");
    // What the replay of the same log does.
    ASSERT_EQ(::mkdir(folder.c_str(), 0700), 0);
    whorl::testing::Replay replay(file.path());
    {
        auto loop = replay.make_loop();
        ASSERT_TRUE(loop) << replay.text();
        replay_test::Program program(*loop, folder, false);
        program.run();
    }
    ASSERT_EQ(::rmdir(folder.c_str()), 0);
    EXPECT_TRUE(replay.finished()) << replay.text();
    EXPECT_EQ(number_in(summary.text, "turns"), replay.turns());
    EXPECT_EQ(number_in(summary.text, "operations"), replay.operations());
}

// A message and its answer, on a pair of sockets.
void talk(Loop& loop, whorl::Socket near, whorl::Socket far) {
    bool ended = false;
    ASSERT_TRUE(loop.submit(whorl::Recv{far, whorl::Buffer::allocate(64)},
                            [&](Loop&, const whorl::Recv::Done& done) {
                                EXPECT_FALSE(done.error);
                                ended = true;
                            }));
    ASSERT_TRUE(loop.submit(
        whorl::SendAll{near, whorl::Buffer::copy_of(whorl::Bytes(std::string_view("sesame")))},
        [](Loop&, const whorl::SendAll::Done& done) { EXPECT_FALSE(done.error); }));
    while (!ended) ASSERT_FALSE(loop.run_once());
}

void talk_on_pair(Loop& loop) {
    const auto pair = whorl::socket_pair(loop, whorl::UnixKind::stream);
    ASSERT_TRUE(pair) << pair.error().text();
    talk(loop, pair->first, pair->second);
}

// One that is small, of whatever backend there is.
class TraceRunFile : public ::testing::Test {
  protected:
    void SetUp() override {
        LoopOptions options;
        options.ops_max = options.handles_max = 64;
        replay_test::record(options, file_, talk_on_pair);
        whole_ = file_.read();
        ASSERT_GT(whole_.size(), sizeof(whorl::detail::RunLogHeader));
    }
    trace::RunLog read(const std::string& content) {
        file_.write(content);
        trace::RunLog log;
        log.source = file_.path();
        any_ = trace::read_run_log(log, all);
        return log;
    }
    TemporaryFile file_;
    std::string whole_;
    bool any_ = false;
};

TEST(TraceRunWorld, simulated_run) {
    const TemporaryFile file;
    {
        whorl::testing::World world;
        LoopOptions options;
        options.run_log = file.path();
        auto loop = world.make_loop(options);
        ASSERT_TRUE(loop) << loop.error().text();
        talk_on_pair(*loop);
    }
    const Said said = trace_tool({file.path()});
    EXPECT_EQ(said.status, 0) << said.text;
    EXPECT_TRUE(said.has(" of simulator: ")) << said.text;
    EXPECT_TRUE(said.has("6 bytes kept")) << said.text;
    EXPECT_FALSE(said.has("NOT UNDERSTOOD")) << said.text;
    // What came is not shown; who has the log can read it there.
    EXPECT_FALSE(said.has("sesame")) << said.text;
}

TEST_F(TraceRunFile, filters) {
    const std::string path = file_.path();
    const Said submitted = trace_tool({path, "--event", "submit", "--kind", "recv,send_all"});
    EXPECT_EQ(submitted.status, 0) << submitted.text;
    EXPECT_EQ(lines_with(submitted.text, "\n"), 3U) << submitted.text;
    EXPECT_TRUE(submitted.has("submit    recv  ")) << submitted.text;
    const Said last = trace_tool({path, "--last", "1"});
    EXPECT_EQ(lines_with(last.text, "\n"), 2U) << last.text;
    EXPECT_TRUE(last.has("end       complete")) << last.text;
    const Said none = trace_tool({path, "--from", "1e6"});
    EXPECT_EQ(none.status, 0);
    EXPECT_EQ(lines_with(none.text, "\n"), 1U) << none.text;
    const Said late = trace_tool({path, "--from", "-1e-9", "--to", "1e6", "--event", "end"});
    EXPECT_EQ(lines_with(late.text, "\n"), 2U) << late.text;
    const Said summary = trace_tool({path, path, "--summary"});
    EXPECT_EQ(summary.status, 0);
    EXPECT_EQ(lines_with(summary.text, "# run log"), 2U) << summary.text;
    EXPECT_TRUE(summary.has("socketpair")) << summary.text;
    for (const std::vector<std::string>& words :
         std::vector<std::vector<std::string>>{{"--chrome"},
                                               {"--loop", "1"},
                                               {"--event", "handler_begin"},
                                               {"--kind", "nothing"},
                                               {WHORL_TRACE}}) {
        std::vector<std::string> given{path};
        given.insert(given.end(), words.begin(), words.end());
        const Said refused = trace_tool(given);
        EXPECT_EQ(refused.status, 3) << refused.text;
    }
    const Said full = trace_tool({path, "-o", "/dev/full"});
    EXPECT_EQ(full.status, 3) << full.text;
    EXPECT_TRUE(full.has("/dev/full: No space left on device")) << full.text;
}

// What is before the cut is shown.
TEST_F(TraceRunFile, cut_anywhere) {
    const std::uint64_t entries = read(whole_).entries;
    std::uint64_t before = 0;
    for (std::size_t size = 0; size < whole_.size(); ++size) {
        const trace::RunLog log = read(whole_.substr(0, size));
        EXPECT_EQ(any_, log.entries != 0) << size;
        EXPECT_TRUE(any_ || !log.problem.empty()) << size;
        EXPECT_EQ(log.strange, 0U) << size;
        EXPECT_EQ(log.end, whorl::RunEnd::unfinished) << size;
        EXPECT_GE(log.entries, before) << size;
        before = log.entries;
        // With what a writer has made ready for more; the last byte of all is a zero, too.
        if (size + 1 == whole_.size()) break;
        const trace::RunLog ready = read(whole_.substr(0, size) + std::string(9, '\0'));
        EXPECT_EQ(ready.end, whorl::RunEnd::unfinished) << size;
    }
    EXPECT_EQ(before, entries - 1);
    read(whole_.substr(0, whole_.size() - 1));
    const Said said = trace_tool({file_.path()});
    EXPECT_EQ(said.status, 1) << said.text;
    EXPECT_TRUE(said.has("cut off within the entry at byte ")) << said.text;
    EXPECT_TRUE(said.has("6 bytes kept")) << said.text;
    read(whole_.substr(0, 20));
    const Said header = trace_tool({file_.path()});
    EXPECT_EQ(header.status, 2) << header.text;
    EXPECT_TRUE(header.has("cut off within its header")) << header.text;
}

TEST_F(TraceRunFile, what_is_none) {
    const auto refused = [&](std::size_t at, char byte, const char* words) {
        std::string bent = whole_;
        bent[at] = byte;
        file_.write(bent);
        const Said said = trace_tool({file_.path()});
        EXPECT_EQ(said.status, 2) << said.text;
        EXPECT_TRUE(said.has(words)) << said.text;
    };
    refused(0, 'W', "neither a dump");
    refused(8, 1, "its byte order is none");
    refused(12, 99, "another version of whorl");
    refused(16, static_cast<char>(whole_[16] ^ 1), "another version of whorl");
    refused(40, static_cast<char>(whole_[40] ^ 1),
            "damaged at byte 24: an entry has another checksum");
    std::string swapped = whole_;
    std::reverse(swapped.begin() + 8, swapped.begin() + 12);
    file_.write(swapped);
    EXPECT_TRUE(trace_tool({file_.path()}).has("the other byte order"));
}

// The end of a process that was killed while it wrote an entry, and no damage.
TEST_F(TraceRunFile, entry_that_was_being_written) {
    const std::uint64_t entries = read(whole_).entries;
    whorl::detail::RunLogFrame frame{100 | whorl::detail::run_frame_open, 7};
    std::string open = whole_.substr(0, whole_.size() - 10);  // without the mark of the end
    open.append(reinterpret_cast<const char*>(&frame), sizeof frame);
    const trace::RunLog log = read(open + "half of it" + std::string(1000, '\0'));
    EXPECT_EQ(log.problem, "");
    EXPECT_EQ(log.entries, entries - 1);
    EXPECT_EQ(log.end, whorl::RunEnd::unfinished);
}

// A byte of any entry that is another is found, wherever it is.
TEST_F(TraceRunFile, changed_byte_is_found) {
    for (std::size_t at = 0; at < whole_.size(); ++at) {
        std::string bent = whole_;
        bent[at] = static_cast<char>(bent[at] ^ 0x40);
        EXPECT_NE(read(bent).problem, "") << at;
    }
}

// Entries that somebody has made up, with right checksums: nothing is promised but an end.
TEST_F(TraceRunFile, made_up_entries_are_survived) {
    std::mt19937 random(20261122);
    for (int round = 0; round < 2000; ++round) {
        std::string bent = whole_;
        for (unsigned change = 0; change < 1 + random() % 4; ++change) {
            std::size_t at = sizeof(whorl::detail::RunLogHeader);
            whorl::detail::RunLogFrame frame{};
            std::size_t entry = random() % 60;
            for (;; --entry) {
                std::memcpy(&frame, &bent[at], sizeof frame);
                const std::size_t next = at + sizeof frame + frame.size;
                if (entry == 0 || next + sizeof frame >= bent.size()) break;
                at = next;
            }
            char* body = &bent[at + sizeof frame];
            body[random() % frame.size] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
            frame.checksum =
                static_cast<std::uint32_t>(whorl::detail::run_digest(body, frame.size));
            std::memcpy(&bent[at], &frame, sizeof frame);
        }
        std::vector<trace::RunLog> logs(1, read(bent));
        if (!any_) continue;
        std::string text;
        const auto keep = [&text](const std::string& part) {
            text += part;
            return true;
        };
        EXPECT_TRUE(trace::print_runs(logs, {}, {}, keep));
        text.clear();
        EXPECT_TRUE(trace::print_runs(logs, {}, {true, round % 2 == 0}, keep));
        EXPECT_EQ(JsonCheck(text).problem(), "") << round;
    }
}

// A file of a terabyte that is a hole: neither memory nor hours.
TEST_F(TraceRunFile, absurd_sizes) {
    const std::string started = whole_.substr(0, sizeof(whorl::detail::RunLogHeader));
    file_.write(whole_.substr(0, whole_.size() - 10));  // without the mark of the end
    ASSERT_EQ(::truncate(file_.path(), off_t{1} << 40), 0);
    const Said hole = trace_tool({file_.path()});
    EXPECT_EQ(hole.status, 1) << hole.text;
    EXPECT_TRUE(hole.has("there is something behind the last entry")) << hole.text;
    whorl::detail::RunLogFrame frame{0x7fffffff, 0};
    std::string huge = started;
    huge.append(reinterpret_cast<const char*>(&frame), sizeof frame);
    EXPECT_NE(read(huge).problem.find("cut off within the entry at byte 24"), std::string::npos);
    ASSERT_EQ(::truncate(file_.path(), off_t{1} << 40), 0);
    const Said said = trace_tool({file_.path()});
    EXPECT_EQ(said.status, 2) << said.text;
    EXPECT_TRUE(said.has("an entry of over a gigabyte")) << said.text;
}

}  // namespace
}  // namespace trace_test
