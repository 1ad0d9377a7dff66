// SPDX-License-Identifier: MIT
// Goal: a tree is observed with every directory that comes to it, however fast things are made there, and
// keeps its paths right when directories move.
// Method: trees are built, moved and removed by plain system calls while the loop runs; a seeded storm is
// compared with what is there at its end.
#include "conformance/observer_tools.hpp"
#include "conformance/support.hpp"

#include <algorithm>
#include <random>
#include <set>

namespace whorl::conformance {
namespace {

class ObserverTree : public ObserverTools {
  protected:
    static constexpr ObserveOptions tree() { return {FileChange::all, true}; }
    FileObserver observing_tree(Loop& loop, Told& told, const std::string& name) {
        const FileObserver observer = observing(loop, told, tree(), name);
        run_until_told(loop, told, "ready");
        told.all.clear();
        return observer;
    }
};
WHORL_CONFORMANCE(ObserverTree);

TEST_P(ObserverTree, what_was_there_and_what_comes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    for (const char* name : {"t", "t/a", "t/a/b", "t/c"}) make_dir(name);
    put("t/a/b/f");
    const FileObserver observer = observing(loop, told, tree(), "t");
    expect_told(loop, told, {"ready"});
    put("t/a/b/f", "new");
    run_until_told(loop, told, "written a/b/f");
    told.all.clear();
    make_dir("t/c/d");
    run_until_told(loop, told, "created c/d/");
    run_until_told(loop, (put("t/c/d/g"), told), "written c/d/g");
    told.all.clear();
    remove_file("t/c/d/g");
    remove_dir("t/c/d");
    run_until_told(loop, told, "removed c/d/");
    EXPECT_TRUE(told.has("removed c/d/g"));
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

// All of it is made before the loop hears of its first directory.
TEST_P(ObserverTree, nothing_made_in_the_gap_is_lost) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    make_dir("t");
    const FileObserver observer = observing_tree(loop, told, "t");
    std::string name = "t", seen;
    std::vector<std::string> expected;
    for (int depth = 0; depth < 10; ++depth) {
        name += "/d" + std::to_string(depth);
        seen += (depth == 0 ? "d" : "/d") + std::to_string(depth);
        make_dir(name);
        put(name + "/f");
        expected.push_back("created " + seen + "/");
        expected.push_back("created " + seen + "/f");
    }
    for (const std::string& text : expected) run_until_told(loop, told, text);
    told.all.clear();
    put(name + "/later");
    run_until_told(loop, told, "written " + seen + "/later");
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverTree, directories_that_move_keep_what_is_in_them) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    for (const char* name : {"t", "t/a", "t/a/b", "t/c", "out", "out/x", "out/x/y"}) make_dir(name);
    const FileObserver observer = observing_tree(loop, told, "t");
    move("t/a", "t/c/z");
    expect_told(loop, told, {"moved a -> c/z/"});
    put("t/c/z/b/f");
    run_until_told(loop, told, "written c/z/b/f");
    told.all.clear();
    // In from outside: what is in it comes with it.
    put("out/x/y/g");
    move("out/x", "t/x");
    for (const char* text : {"moved_here x/", "created x/y/", "created x/y/g"}) {
        run_until_told(loop, told, text);
    }
    told.all.clear();
    // Out: nothing in it is told of any more.
    move("t/c/z", "out/z");
    run_until_told(loop, told, "moved_away c/z/");
    told.all.clear();
    put("out/z/b/f", "unseen");
    put("t/x/y/g", "seen");
    run_until_told(loop, told, "written x/y/g");
    for (const std::string& text : told.all)
        EXPECT_NE(text.find("x/y/g"), std::string::npos) << text;
    // The place of one that moved is taken by another one at once.
    told.all.clear();
    move("t/x", "t/old");
    make_dir("t/x");
    put("t/x/new");
    put("t/old/y/h");
    for (const char* text : {"moved x -> old/", "created x/", "created x/new", "written old/y/h"}) {
        run_until_told(loop, told, text);
    }
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverTree, the_tree_itself_moves_or_goes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    make_dir("t");
    make_dir("t/a");
    const FileObserver observer = observing_tree(loop, told, "t");
    remove_dir("t/a");
    remove_dir("t");
    expect_told(loop, told, {"removed a/", "gone"});
    make_dir("u");
    make_dir("u/b");
    const Result<ObservedFile> second = observer.add(loop, path("u"), tree());
    ASSERT_TRUE(second);
    run_until_told(loop, told, "ready");
    told.all.clear();
    move("u", "v");
    expect_told(loop, told, {"renamed"});
    EXPECT_FALSE(observer.remove(loop, *second)) << "it is not observed any more";
    put("v/b/f");
    for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
    EXPECT_TRUE(told.all.empty()) << told.list();
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverTree, links_are_not_followed_and_files_are_not_trees) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    for (const char* name : {"t", "far"}) make_dir(name);
    ASSERT_EQ(calls().symlinkat("../far", AT_FDCWD, path("t/link").c_str()), 0);
    ASSERT_EQ(calls().symlinkat("..", AT_FDCWD, path("t/up").c_str()), 0);
    const FileObserver observer = observing_tree(loop, told, "t");
    put("far/f");
    put("t/f");
    expect_told(loop, told, {"created f", "modified f", "written f"});
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverTree, closed_while_it_looks_around) {
    WHORL_SKIP_IF_REFUSED();
    for (int turns = 0; turns < 6; ++turns) {
        Loop loop = make_loop();
        const std::string name = "t" + std::to_string(turns);
        make_dir(name);
        for (int index = 0; index < 20; ++index) make_dir(name + "/" + std::to_string(index));
        const Result<FileObserver> observer =
            observe_files(loop, [](Loop&, const FileEvent&) { ADD_FAILURE(); });
        ASSERT_TRUE(observer);
        ASSERT_TRUE(observer->add(loop, path(name), tree()));
        for (int turn = 0; turn < turns; ++turn) EXPECT_FALSE(loop.poll());
        EXPECT_TRUE(observer->close(loop));
        EXPECT_FALSE(loop.run());
        expect_over(loop);
    }
}

// A new directory moves before it was walked over: what is in it is told all the same, by one path or the
// other.
TEST_P(ObserverTree, what_was_in_a_new_directory_is_told_though_it_moves_at_once) {
    WHORL_SKIP_IF_REFUSED();
    for (int turns = 0; turns < 6; ++turns) {
        Loop loop = make_loop();
        Told told;
        const std::string top = "t" + std::to_string(turns);
        make_dir(top);
        const FileObserver observer = observing_tree(loop, told, top);
        make_dir(top + "/a");
        put(top + "/a/f");
        run_until_told(loop, told, "created a/");
        for (int turn = 0; turn < turns; ++turn) EXPECT_FALSE(loop.poll());
        move(top + "/a", top + "/b");
        run_until(loop, [&] { return told.has("created a/f") || told.has("created b/f"); });
        EXPECT_TRUE(told.has("created a/f") || told.has("created b/f")) << told.list();
        EXPECT_TRUE(observer.close(loop));
        expect_over(loop);
    }
}

// Every turn's posts are taken by others, so that nothing of the observer's can be put off by one.
TEST_P(ObserverTree, without_room_for_a_post_it_is_ready_and_tells_of_what_comes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_max = 4; });
    const auto fill = [](Loop& here) {
        while (!here.post([](Loop&) {})) continue;
    };
    const Result<Operation> before = loop.hook(HookPoint::before_wait, fill);
    const Result<Operation> after = loop.hook(HookPoint::after_wait, fill);
    ASSERT_TRUE(before && after);
    Told told;
    for (const char* name : {"t", "t/a", "t/a/b"}) make_dir(name);
    const FileObserver observer = observing_tree(loop, told, "t");
    for (const char* name : {"t/c", "t/c/d"}) make_dir(name);
    put("t/c/d/f");
    run_until_told(loop, told, "created c/d/f");
    EXPECT_TRUE(observer.close(loop));
    loop.cancel(*before);
    loop.cancel(*after);
    expect_over(loop);
}

#if defined(__cpp_exceptions)
// The same, and each event's handler throws the first time that it is told.
TEST_P(ObserverTree, an_exception_without_room_for_a_post_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_max = 4; });
    Told told;
    const Result<FileObserver> observer =
        observe_files(loop, [&told](Loop& here, const FileEvent& event) {
            while (!here.post([](Loop&) {})) continue;
            const std::string text = said(event);
            const bool first = !told.has(text);
            told.all.push_back(text);
            if (first) throw 1;
        });
    ASSERT_TRUE(observer);
    const auto run_until_all = [&](const std::vector<std::string>& expected) {
        const auto is_told = [&told](const std::string& text) { return told.has(text); };
        for (int tries = 0; tries < 2000; ++tries) {
            if (std::all_of(expected.begin(), expected.end(), is_told)) return;
            const Result<Timer> guard = loop.after(10ms, [](Loop&, Expired) {});
            ASSERT_TRUE(guard);
            try {
                EXPECT_FALSE(loop.run_once());
            } catch (int) {
            }
            loop.cancel(*guard);
        }
        ADD_FAILURE() << told.list();
    };
    for (const char* name : {"t", "t/old", "u", "u/x", "u/x/y", "u/z"}) make_dir(name);
    ASSERT_TRUE(observer->add(loop, path("t"), tree()));
    run_until_all({"ready"});
    put("u/x/y/f");
    put("u/z/g");
    move("u", "t/u");
    run_until_all({"moved_here u/", "created u/x/", "created u/x/y/", "created u/x/y/f",
                   "created u/z/", "created u/z/g"});
    put("t/u/x/y/f");
    put("t/u/z/g");
    run_until_all({"written u/x/y/f", "written u/z/g"});
    EXPECT_TRUE(observer->close(loop));
    expect_over(loop);
}
#endif

// Directories are made, moved and removed at random between turns; afterwards a file in each of those
// that are left is heard of by its right path.
TEST_P(ObserverTree, a_storm) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    make_dir("t");
    const FileObserver observer = observing_tree(loop, told, "t");
    std::mt19937 random(
        static_cast<unsigned>(seed_of(*::testing::UnitTest::GetInstance()->current_test_info())));
    std::vector<std::string> there{"t"};
    const auto any = [&] { return there[random() % there.size()]; };
    int names = 0;
    for (int step = 0; step < static_cast<int>(scaled(400)); ++step) {
        const std::string one = any(), other = any();
        const std::string fresh = other + "/" + std::to_string(names++);
        switch (random() % 4) {
            case 0:
            case 1:
                make_dir(fresh);
                there.push_back(fresh);
                break;
            case 2:  // with all that is in it, unless it would go into itself
                if (one == "t" || (other + "/").rfind(one + "/", 0) == 0) break;
                move(one, fresh);
                for (std::string& name : there) {
                    if ((name + "/").rfind(one + "/", 0) == 0)
                        name = fresh + name.substr(one.size());
                }
                break;
            default:
                if (random() % 3 != 0) break;
                EXPECT_FALSE(loop.poll());
                break;
        }
    }
    for (int turn = 0; turn < 10; ++turn) EXPECT_FALSE(loop.poll());
    // Until it has looked everywhere: a new directory is asked for last.
    make_dir("t/last");
    run_until_told(loop, told, "created last/");
    const auto quiet = [&] {
        const std::size_t before = told.all.size();
        for (int turn = 0; turn < 20; ++turn) EXPECT_FALSE(loop.run_for(1ms));
        return told.all.size() == before;
    };
    run_until(loop, quiet);
    for (const std::string& name : there) {
        told.all.clear();
        put(name + "/f");
        const std::string seen = name == "t" ? "f" : name.substr(2) + "/f";
        run_until_told(loop, told, "written " + seen);
        if (HasFatalFailure()) return;
    }
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

}  // namespace
}  // namespace whorl::conformance
