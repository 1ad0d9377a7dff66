// SPDX-License-Identifier: MIT
#pragma once

#include "backend/file_calls.hpp"
#include "backend/sim_kernel.hpp"
#include "conformance/file_tools.hpp"

#include <whorl/file_observer.hpp>

#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

// What the tests of observed files share: a directory of the test's own in which things happen by plain
// system calls, and what an observer has told of them.

namespace whorl::conformance {

class ObserverTools : public FileTools {
  protected:
    static detail::FileCalls& calls() {
        return os::world() != nullptr ? os::world()->file_calls() : detail::real_file_calls();
    }
    void make_dir(const std::string& name) const {
        ASSERT_EQ(calls().mkdirat(AT_FDCWD, path(name).c_str(), 0755), 0) << name;
    }
    void move(const std::string& from, const std::string& to) const {
        ASSERT_EQ(calls().renameat2(AT_FDCWD, path(from).c_str(), path(to).c_str(), 0), 0) << from;
    }
    void remove_file(const std::string& name) const {
        ASSERT_EQ(calls().unlinkat(AT_FDCWD, path(name).c_str(), 0), 0) << name;
    }
    void remove_dir(const std::string& name) const {
        ASSERT_EQ(calls().unlinkat(AT_FDCWD, path(name).c_str(), AT_REMOVEDIR), 0) << name;
    }
    void put(const std::string& name, std::string_view text = "x") const {
        os::put_file(path(name), text);
    }

    static const char* kind_name(FileEvent::Kind kind) {
        static constexpr const char* names[] = {
            "created", "modified", "written", "attributes", "moved", "moved_away", "moved_here",
            "removed", "gone",     "renamed", "unmounted",  "ready", "overflow",   "failed"};
        return names[static_cast<int>(kind)];
    }
    // "created a/b", "moved c -> d", with a slash behind a directory.
    static std::string said(const FileEvent& event) {
        std::string text = kind_name(event.kind);
        if (event.kind == FileEvent::Kind::moved) text += " " + std::string(event.from) + " ->";
        if (!event.path.empty()) text += " " + std::string(event.path);
        if (event.directory && !event.path.empty()) text += "/";
        if (event.error) text += std::string(" ") + event.error.name();
        return text;
    }

    // Everything that was told, in order.
    struct Told {
        std::vector<std::string> all;
        bool has(const std::string& text) const { return count(text) != 0; }
        std::size_t count(const std::string& text) const {
            std::size_t found = 0;
            for (const std::string& line : all) found += line == text ? 1 : 0;
            return found;
        }
        std::string list() const {
            std::string text;
            for (const std::string& line : all) text += line + "\n";
            return text;
        }
    };
    static auto into(Told& told) {
        return [&told](Loop&, const FileEvent& event) { told.all.push_back(said(event)); };
    }
    // Runs the loop until the last of these has been told, and looks whether nothing else was.
    static void expect_told(Loop& loop, Told& told, const std::vector<std::string>& expected) {
        run_until(loop, [&] { return told.all.size() >= expected.size(); });
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
        EXPECT_EQ(told.all, expected);
        told.all.clear();
    }
    static void run_until_told(Loop& loop, const Told& told, const std::string& text) {
        run_until(loop, [&] { return told.has(text); });
        ASSERT_TRUE(told.has(text)) << text << " is not among\n" << told.list();
    }
    // Nothing is left that could call a handler, and after a further turn nothing at all.
    static void expect_over(Loop& loop) {
        EXPECT_FALSE(loop.run());
        run_until(loop, [&] { return loop.statistics().operations == 0; });
        expect_clean(loop);
    }
    FileObserver observing(Loop& loop, Told& told, const ObserveOptions& options = {},
                           const std::string& name = "") {
        Result<FileObserver> made = observe_files(loop, into(told));
        EXPECT_TRUE(made) << made.error().name();
        if (!made) std::abort();
        const Result<ObservedFile> added =
            made->add(loop, name.empty() ? directory_ : path(name), options);
        EXPECT_TRUE(added) << added.error().name();
        return *made;
    }
};

}  // namespace whorl::conformance
