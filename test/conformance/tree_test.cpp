// SPDX-License-Identifier: MIT
// Goal: a walk tells of everything in a tree and of nothing else, and removing leaves nothing, whatever is
// in the tree: links in a circle, directories that cannot be read, a thousand levels.
// Method: trees built by plain system calls on every backend; on this machine's file system also compared
// with find(1), for 10,000 files.
#include "conformance/observer_tools.hpp"
#include "conformance/support.hpp"

#include <whorl/tree.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace whorl::conformance {
namespace {

using Kind = TreeEvent::Kind;
using Texts = std::vector<std::string>;

// What was told of a tree.
struct Account {
    Texts all;  // "enter a", "entry a/f", "leave a", "failed a open EACCES"
    int dones = 0;
    Error error;
    std::string operation;
    std::uint64_t entries = 0, failures = 0;

    void note(const TreeEvent& event) {
        EXPECT_EQ(dones, 0) << "nothing follows the last one";
        EXPECT_EQ(event.path.data()[event.path.size()], '\0');
        static constexpr const char* kinds[] = {"entry", "enter", "leave", "failed", "done"};
        std::string text = kinds[static_cast<int>(event.kind)];
        if (!event.relative.empty()) text += " " + std::string(event.relative);
        if (event.kind == Kind::failed) {
            text += std::string(" ") + event.operation + " " + event.error.name();
        }
        if (event.kind != Kind::done) {
            all.push_back(text);
            return;
        }
        ++dones;
        error = event.error;
        operation = event.operation;
        entries = event.entries;
        failures = event.failures;
    }
    Texts sorted() const {
        Texts texts = all;
        std::sort(texts.begin(), texts.end());
        return texts;
    }
};

auto noting(Account& told) {
    return [&told](Loop&, const TreeEvent& event) {
        told.note(event);
        return TreeNext::go_on;
    };
}

class Tree : public ObserverTools {
  protected:
    void make_link(const std::string& text, const std::string& name) const {
        ASSERT_EQ(calls().symlinkat(text.c_str(), AT_FDCWD, path(name).c_str()), 0);
    }
    Account walked(Loop& loop, const std::string& name, const TreeOptions& options = {}) const {
        Account told;
        EXPECT_TRUE(walk_tree(loop, path(name), options, noting(told)));
        EXPECT_EQ(told.dones, 0) << "called inline";
        run_until(
            loop, [&] { return told.dones == 1; }, 60s);
        return told;
    }
    Account removed(Loop& loop, const std::string& name, const TreeOptions& options = {}) const {
        Account told;
        EXPECT_TRUE(remove_tree(loop, path(name), options, noting(told)));
        run_until(
            loop, [&] { return told.dones == 1; }, 60s);
        return told;
    }
    void make_small_tree() const {
        for (const char* name : {"t", "t/a", "t/a/b", "t/empty"}) make_dir(name);
        for (const char* name : {"t/f", "t/a/g", "t/a/b/h"}) put(name);
        make_link("nowhere", "t/dangling");
        make_link("..", "t/a/up");
        make_link("b", "t/a/to_b");
    }
    // One in the other, by directory descriptors: the path is longer than any call takes.
    void make_deep(const std::string& name, int levels) const {
        make_dir(name);
        int here = os::open_file(path(name), O_RDONLY | O_DIRECTORY);
        for (int level = 0; level < levels; ++level) {
            ASSERT_EQ(calls().mkdirat(here, "deeper-and-deeper", 0755), 0);
            constexpr auto flags = static_cast<std::uint64_t>(O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            const int next = calls().openat2(here, "deeper-and-deeper", {flags, 0, 0});
            ASSERT_GE(next, 0);
            os::close(here);
            here = next;
        }
        constexpr auto flags = static_cast<std::uint64_t>(O_WRONLY | O_CREAT | O_CLOEXEC);
        os::close(calls().openat2(here, "bottom", {flags, 0644, 0}));
        os::close(here);
    }
    static bool permissions_count() { return os::world() != nullptr || ::geteuid() != 0; }
};
WHORL_CONFORMANCE(Tree);

TEST_P(Tree, a_walk_tells_of_everything_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    make_small_tree();
    const Account told = walked(loop, "t");
    EXPECT_FALSE(told.error);
    EXPECT_EQ(told.sorted(), (Texts{"enter", "enter a", "enter a/b", "enter empty", "entry a/b/h",
                                    "entry a/g", "entry a/to_b", "entry a/up", "entry dangling",
                                    "entry f", "leave", "leave a", "leave a/b", "leave empty"}));
    EXPECT_EQ(told.entries, 10u);
    EXPECT_EQ(told.all.front(), "enter");
    EXPECT_EQ(told.all.back(), "leave");
    const auto place = [&](const char* text) {
        return std::find(told.all.begin(), told.all.end(), text) - told.all.begin();
    };
    EXPECT_LT(place("enter a"), place("enter a/b"));
    EXPECT_LT(place("entry a/b/h"), place("leave a/b"));
    EXPECT_LT(place("leave a/b"), place("leave a"));
    // What is no directory is a tree of one entry; a link is one itself.
    EXPECT_EQ(walked(loop, "t/f").all, Texts{"entry"});
    EXPECT_EQ(walked(loop, "t/a/up").all, Texts{"entry"});
    EXPECT_EQ(walked(loop, "t/none").error, Error::from_errno(ENOENT));
    expect_clean(loop);
}

TEST_P(Tree, the_handler_decides) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    make_small_tree();
    Account told;
    const auto skips = [&](Loop&, const TreeEvent& event) {
        told.note(event);
        return event.relative == "a" ? TreeNext::skip : TreeNext::go_on;
    };
    ASSERT_TRUE(walk_tree(loop, path("t"), {}, skips));
    run_until(loop, [&] { return told.dones == 1; });
    EXPECT_EQ(told.sorted(), (Texts{"enter", "enter a", "enter empty", "entry dangling", "entry f",
                                    "leave", "leave empty"}));
    told = {};
    const auto stops = [&](Loop&, const TreeEvent& event) {
        told.note(event);
        return told.all.size() == 3 ? TreeNext::stop : TreeNext::go_on;
    };
    ASSERT_TRUE(walk_tree(loop, path("t"), {}, stops));
    run_until(loop, [&] { return told.dones == 1; });
    EXPECT_EQ(told.all.size(), 3u);
    EXPECT_FALSE(told.error);
    // Paused at each event; it goes on when it is told to.
    told = {};
    const auto pauses = [&](Loop&, const TreeEvent& event) {
        told.note(event);
        return TreeNext::pause;
    };
    const Result<TreeTask> task = walk_tree(loop, path("t"), {}, pauses);
    ASSERT_TRUE(task);
    for (std::size_t count = 1; count <= 14; ++count) {
        run_until(loop, [&] { return told.all.size() == count; });
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
        ASSERT_EQ(told.all.size(), count);
        EXPECT_FALSE(task->go_on(loop));
    }
    run_until(loop, [&] { return told.dones == 1; });
    EXPECT_FALSE(task->cancel(loop));
    EXPECT_EQ(task->go_on(loop), Error::stale_handle);
    TreeOptions flat;
    flat.depth_max = 1;
    EXPECT_EQ(walked(loop, "t", flat).sorted(),
              (Texts{"enter", "entry a", "entry dangling", "entry empty", "entry f", "leave"}));
    flat.depth_max = 0;
    EXPECT_EQ(walked(loop, "t", flat).all, Texts{"entry"});
    expect_clean(loop);
}

TEST_P(Tree, links_are_followed_where_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    make_small_tree();
    TreeOptions options;
    options.follow = true;
    const Account told = walked(loop, "t", options);
    EXPECT_EQ(told.sorted(), (Texts{"enter", "enter a", "enter a/b", "enter a/to_b", "enter a/up",
                                    "enter empty", "entry a/b/h", "entry a/g", "entry a/to_b/h",
                                    "entry dangling", "entry f", "failed a/up open ELOOP", "leave",
                                    "leave a", "leave a/b", "leave a/to_b", "leave empty"}));
    EXPECT_EQ(told.error, Error::from_errno(ELOOP));
    EXPECT_EQ(told.failures, 1u);
    expect_clean(loop);
}

TEST_P(Tree, everything_is_removed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    make_small_tree();
    make_dir("outside");
    put("outside/kept");
    make_link("../outside", "t/out");
    for (int index = 0; index < 300; ++index) put("t/a/" + std::to_string(index));
    const Account told = removed(loop, "t");
    EXPECT_FALSE(told.error) << told.operation;
    EXPECT_TRUE(told.all.empty());
    EXPECT_EQ(told.entries, 311u);
    EXPECT_FALSE(os::exists(path("t")));
    EXPECT_TRUE(os::exists(path("outside/kept"))) << "a link was followed";
    // Nothing there, a file, and a link itself.
    EXPECT_FALSE(removed(loop, "t").error);
    put("f");
    make_link("outside", "l");
    EXPECT_FALSE(removed(loop, "f").error);
    EXPECT_FALSE(removed(loop, "l").error);
    EXPECT_FALSE(os::exists(path("f")));
    EXPECT_FALSE(os::exists(path("l")));
    EXPECT_TRUE(os::exists(path("outside/kept")));
    expect_clean(loop);
}

TEST_P(Tree, a_thousand_levels) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    // A world finds a name by walking all that is above it.
    const int levels = GetParam().world ? 300 : 1000;
    make_deep("t", levels);
    const auto entries = static_cast<std::uint64_t>(levels) + 2;
    for (const std::uint32_t descriptors : {3u, 32u}) {
        TreeOptions options;
        options.descriptors_max = descriptors;
        const Account told = walked(loop, "t", options);
        EXPECT_FALSE(told.error) << told.error.name() << " " << told.operation;
        EXPECT_EQ(told.entries, entries);
        EXPECT_EQ(told.all.size(), 2 * entries - 1);
        EXPECT_EQ(told.all.back(), "leave");
    }
    TreeOptions few;
    few.descriptors_max = 4;
    const Account told = removed(loop, "t", few);
    EXPECT_FALSE(told.error) << told.error.name() << " " << told.operation;
    EXPECT_EQ(told.entries, entries);
    EXPECT_FALSE(os::exists(path("t")));
    expect_clean(loop);
}

TEST_P(Tree, what_cannot_be_read_or_removed_is_told) {
    WHORL_SKIP_IF_REFUSED();
    if (!permissions_count()) return;
    Loop loop = make_loop();
    make_small_tree();
    for (const char* name : {"t/closed", "t/closed/x", "t/bare", "t/fixed"}) make_dir(name);
    put("t/fixed/f");
    const auto close_it = [&](const char* name, unsigned mode) {
        if (os::world() == nullptr) {
            ASSERT_EQ(::chmod(path(name).c_str(), mode), 0);
            return;
        }
        ASSERT_EQ(calls().unlinkat(AT_FDCWD, path(name).c_str(), AT_REMOVEDIR), 0) << name;
        ASSERT_EQ(calls().mkdirat(AT_FDCWD, path(name).c_str(), mode), 0);
    };
    if (os::world() != nullptr) {  // a world knows no chmod: directories are made as they are
        remove_dir("t/closed/x");
        remove_file("t/fixed/f");
    }
    close_it("t/closed", 0);
    close_it("t/bare", 0);
    Account told = walked(loop, "t");
    EXPECT_EQ(told.failures, 2u);
    EXPECT_EQ(told.error, Error::from_errno(EACCES));
    EXPECT_EQ(told.operation, "open");
    const Texts all = told.sorted();
    EXPECT_TRUE(std::count(all.begin(), all.end(), "failed closed open EACCES"));
    EXPECT_TRUE(std::count(all.begin(), all.end(), "failed bare open EACCES"));
    EXPECT_TRUE(std::count(all.begin(), all.end(), "entry a/b/h")) << "the rest is told";
    told = removed(loop, "t");
    if (os::world() != nullptr) {
        EXPECT_FALSE(told.error) << "what cannot be read can be removed when it is empty";
        EXPECT_FALSE(os::exists(path("t")));
    } else {
        EXPECT_EQ(told.all, Texts{"failed closed open EACCES"});
        EXPECT_EQ(told.failures, 1u) << "those above are left for its sake";
        EXPECT_EQ(os::names_in(path("t")), Texts{"closed"});
        ASSERT_EQ(::chmod(path("t/closed").c_str(), 0700), 0);
    }
    expect_clean(loop);
}

// A file system that fails: told of the file, and once.
TEST_P(Tree, a_failure_is_told_once_with_its_path) {
    WHORL_SKIP_IF_REFUSED();
    if (os::world() == nullptr) return;
    Loop loop = make_loop();
    make_small_tree();
    os::world()->script_fault(detail::OpKind::unlink, EIO, 1);
    const Account told = removed(loop, "t");
    ASSERT_EQ(told.all.size(), 1u);
    EXPECT_NE(told.all[0].find(" unlink EIO"), std::string::npos) << told.all[0];
    EXPECT_EQ(told.error, Error::from_errno(EIO));
    EXPECT_EQ(told.failures, 1u);
    EXPECT_TRUE(os::exists(path("t")));
    EXPECT_FALSE(removed(loop, "t").error);
    EXPECT_FALSE(os::exists(path("t")));
    expect_clean(loop);
}

TEST_P(Tree, misuse_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto refusal = [&](const std::string& name, const TreeOptions& options) {
        const auto never = [](Loop&, const TreeEvent&) {
            ADD_FAILURE();
            return TreeNext::stop;
        };
        return walk_tree(loop, name, options, never).error();
    };
    EXPECT_EQ(refusal("", {}), Error::invalid_argument);
    EXPECT_EQ(refusal(std::string(5000, 'x'), {}), Error::from_errno(ENAMETOOLONG));
    TreeOptions options;
    options.descriptors_max = 2;
    EXPECT_EQ(refusal(directory_, options), Error::invalid_argument);
    options = {};
    options.removals_max = 0;
    EXPECT_EQ(refusal(directory_, options), Error::invalid_argument);
    EXPECT_FALSE(TreeTask().cancel(loop));
    EXPECT_EQ(TreeTask().go_on(loop), Error::stale_handle);
    expect_clean(loop);
}

// At every step of the way.
TEST_P(Tree, cancelled_and_timed_out) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    make_small_tree();
    for (int index = 0; index < 50; ++index) put("t/a/" + std::to_string(index));
    for (const bool removes : {false, true}) {
        for (int turns = 0; turns < 12; ++turns) {
            Account told;
            const Result<TreeTask> task = removes ? remove_tree(loop, path("t"), {}, noting(told))
                                                  : walk_tree(loop, path("t"), {}, noting(told));
            ASSERT_TRUE(task);
            for (int turn = 0; turn < turns; ++turn) EXPECT_FALSE(loop.poll());
            const bool ended = told.dones == 1;
            EXPECT_EQ(task->cancel(loop), !ended);
            EXPECT_EQ(task->cancel(loop), !ended);
            run_until(loop, [&] { return told.dones == 1; });
            EXPECT_EQ(told.error, ended ? Error() : Error(Error::cancelled));
            EXPECT_EQ(told.failures, 0u);
        }
    }
    TreeOptions options;
    options.submit = within(Nanoseconds::zero());
    EXPECT_EQ(walked(loop, "outer", options).error, Error::timed_out);
    // A paused walk is cancelled, too.
    make_dir("p");
    Account told;
    const auto pauses = [&](Loop&, const TreeEvent& event) {
        told.note(event);
        return TreeNext::pause;
    };
    const Result<TreeTask> task = walk_tree(loop, path("p"), {}, pauses);
    ASSERT_TRUE(task);
    run_until(loop, [&] { return told.all.size() == 1; });
    EXPECT_TRUE(task->cancel(loop));
    run_until(loop, [&] { return told.dones == 1; });
    EXPECT_EQ(told.error, Error::cancelled);
    expect_clean(loop);
}

TEST_P(Tree, a_full_queue_of_posts_loses_no_paused_walk) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_max = 1; });
    make_dir("p");
    for (const bool cancels : {false, true}) {
        Account told;
        const auto pauses = [&](Loop&, const TreeEvent& event) {
            told.note(event);
            return event.kind == TreeEvent::Kind::enter ? TreeNext::pause : TreeNext::go_on;
        };
        const Result<TreeTask> task = walk_tree(loop, path("p"), {}, pauses);
        ASSERT_TRUE(task);
        run_until(loop, [&] { return told.all.size() == 1; });
        ASSERT_FALSE(loop.post([](Loop&) {}));
        EXPECT_EQ(task->go_on(loop), Error::queue_full);
        if (cancels) {
            EXPECT_TRUE(task->cancel(loop));
        } else {
            EXPECT_FALSE(loop.poll());
            EXPECT_EQ(told.all, Texts{"enter"}) << "it is still paused";
            EXPECT_FALSE(task->go_on(loop));
        }
        run_until(loop, [&] { return told.dones == 1; });
        EXPECT_EQ(told.error, cancels ? Error(Error::cancelled) : Error());
    }
    expect_clean(loop);
}

TEST_P(Tree, a_loop_is_drained_and_destroyed_under_it) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    make_small_tree();
    for (const bool drains : {true, false}) {
        Loop loop = make_loop();
        int dones = 0;
        const auto count = [&dones, token = witness.copy()](Loop&, const TreeEvent& event) {
            if (event.kind == Kind::done) ++dones;
            return TreeNext::go_on;
        };
        ASSERT_TRUE(walk_tree(loop, path("t"), {}, count));
        ASSERT_TRUE(remove_tree(loop, path("none"), {}, count));
        for (int turn = 0; turn < 4; ++turn) EXPECT_FALSE(loop.poll());
        if (!drains) continue;
        EXPECT_FALSE(loop.drain(10s));
        EXPECT_EQ(dones, 2);
        expect_clean(loop);
    }
    EXPECT_TRUE(witness.alone());
}

#if defined(__cpp_exceptions)
TEST_P(Tree, an_exception_stops_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    make_small_tree();
    Account told;
    const auto throws = [&](Loop&, const TreeEvent& event) -> TreeNext {
        told.note(event);
        throw 1;
    };
    ASSERT_TRUE(walk_tree(loop, path("t"), {}, throws));
    for (int tries = 0; tries < 1000 && told.dones == 0; ++tries) {
        try {
            EXPECT_FALSE(loop.run_once());
        } catch (int) {
        }
    }
    EXPECT_EQ(told.dones, 1);
    EXPECT_EQ(told.all.size(), 14u);
    expect_clean(loop);
}
#endif

// On this machine's file system, beside find(1).
class BigTree : public Tree {
  protected:
    static Texts lines_of(const std::string& command) {
        Texts lines;
        std::FILE* pipe = ::popen(command.c_str(), "r");
        EXPECT_NE(pipe, nullptr);
        char line[8192];
        while (std::fgets(line, sizeof line, pipe) != nullptr) {
            lines.emplace_back(line, std::strlen(line) - 1);
        }
        EXPECT_EQ(::pclose(pipe), 0) << command;
        std::sort(lines.begin(), lines.end());
        return lines;
    }
    // 10,000 files in 110 directories, with links in a circle. Making them takes longest, so a backend has
    // as many once, and a tenth of it with each of its variations.
    void make_big() const {
        const std::string backend = GetParam().name;
        const int files = backend == "io_uring" || backend == "libev" ? 100 : 10;
        make_dir("big");
        for (int upper = 0; upper < 10; ++upper) {
            const std::string above = "big/" + std::to_string(upper);
            make_dir(above);
            for (int lower = 0; lower < 10; ++lower) {
                const std::string here = above + "/" + std::to_string(lower);
                make_dir(here);
                make_link("../..", here + "/circle");
                for (int file = 0; file < files; ++file) put(here + "/" + std::to_string(file), "");
            }
        }
    }
};
WHORL_CONFORMANCE_REAL(BigTree);

TEST_P(BigTree, a_walk_is_find_and_a_removal_is_rm) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    make_big();
    Texts found;
    bool done = false;
    const auto note = [&](Loop&, const TreeEvent& event) {
        if (event.kind == Kind::entry || event.kind == Kind::enter) found.emplace_back(event.path);
        if (event.kind == Kind::done) done = true;
        EXPECT_NE(event.kind, Kind::failed) << event.path << " " << event.error.name();
        return TreeNext::go_on;
    };
    ASSERT_TRUE(walk_tree(loop, path("big"), {}, note));
    run_until(
        loop, [&] { return done; }, 120s);
    std::sort(found.begin(), found.end());
    EXPECT_GE(found.size(), 1'000u);
    EXPECT_TRUE(found == lines_of("find " + path("big")));
    const Account told = removed(loop, "big");
    EXPECT_FALSE(told.error) << told.error.name();
    EXPECT_EQ(told.entries, found.size());
    EXPECT_FALSE(os::exists(path("big")));
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
