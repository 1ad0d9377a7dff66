// SPDX-License-Identifier: MIT
// Goal: whatever goes wrong with one file of a tree, the rest is told or removed, the failure is told once,
// and nothing outside is ever touched. Method: walks and removals in a world, run again for each call on
// files that they make, with that call refused by each error that matters, or with a name vanishing,
// moving, coming, or turned into a link just before it.
#include "world/file_front.hpp"

#include <whorl/tree.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace whorl::world_files {
namespace {

using Kind = TreeEvent::Kind;
using Texts = std::vector<std::string>;

// What was told of a tree.
struct Account {
    Texts all;                // "enter a", "entry a/f", "leave a"
    Texts failed;             // "open", …
    std::string failed_path;  // the first one's
    int dones = 0;
    Error error;
    std::uint64_t failures = 0;

    void note(const TreeEvent& event) {
        EXPECT_EQ(dones, 0) << "nothing follows the last one";
        static constexpr const char* kinds[] = {"entry ", "enter ", "leave "};
        if (event.kind == Kind::done) {
            ++dones;
            error = event.error;
            failures = event.failures;
            EXPECT_EQ(*event.operation != '\0', event.failures != 0);
        } else if (event.kind == Kind::failed) {
            if (failed.empty()) failed_path = event.relative;
            failed.emplace_back(event.operation);
        } else {
            all.push_back(kinds[static_cast<int>(event.kind)] + std::string(event.relative));
        }
    }
    Texts sorted() const {
        Texts texts = all;
        std::sort(texts.begin(), texts.end());
        return texts;
    }
    bool has(const std::string& text) const {
        return std::find(all.begin(), all.end(), text) != all.end();
    }
};

// What of `all` is not in `some`.
Texts less(const Texts& all, const Texts& some) {
    Texts left;
    std::set_difference(all.begin(), all.end(), some.begin(), some.end(), std::back_inserter(left));
    return left;
}

class TreeFaults : public FileWorld {
  protected:
    void make_tree() const {
        for (const char* name : {"t", "t/a", "t/a/b", "t/a/b/c", "t/empty"}) make_dir(name);
        for (const char* name : {"t/f", "t/a/g", "t/a/b/h", "t/a/b/c/i"}) put(name);
        make_link("nowhere", "t/dangling");
        make_link("f", "t/to_f");
    }
    void make_outside() const {
        make_dir("outside");
        put("outside/kept");
    }
    Account told_of(Loop& loop, bool removes, const TreeOptions& options) const {
        Account told;
        const auto note = [&told](Loop&, const TreeEvent& event) {
            told.note(event);
            return TreeNext::go_on;
        };
        const auto made = removes ? remove_tree(loop, path("t"), options, note)
                                  : walk_tree(loop, path("t"), options, note);
        EXPECT_TRUE(made);
        run_until(loop, [&] { return told.dones == 1; });
        front_->disarm();
        EXPECT_EQ(told.failures, told.failed.size());
        EXPECT_EQ(bool(told.error), told.failures != 0);
        expect_clean(loop);
        return told;
    }
    Account walked(Loop& loop, const TreeOptions& options) const {
        return told_of(loop, false, options);
    }
    Account removed(Loop& loop, const TreeOptions& options) const {
        return told_of(loop, true, options);
    }
    // All ways to walk that differ in the calls that they make.
    template <class Each>
    void each_walk(Each each) {
        for (const bool hides : {false, true}) {
            for (const bool follow : {false, true}) {
                for (const std::uint32_t descriptors : {32u, 3u}) {
                    if (follow && descriptors == 3) continue;  // it would not get far
                    SCOPED_TRACE(std::string(hides ? "types hidden, " : "") +
                                 (follow ? "follows, " : "") + std::to_string(descriptors));
                    TreeOptions options;
                    options.follow = follow;
                    options.descriptors_max = descriptors;
                    front_->hides_types = hides;
                    each(options);
                    if (HasFatalFailure()) return;
                }
            }
        }
        front_->hides_types = false;
    }
};
WHORL_FILE_WORLD(TreeFaults);

constexpr int errors[] = {EACCES, EIO, ENOENT, ELOOP, EMFILE, ENOTDIR};

// Nothing is missing without a word, and nothing else than what the word is about.
void expect_told(const Account& told, const Texts& all, int error) {
    EXPECT_TRUE(less(told.sorted(), all).empty()) << "something was told that is not there";
    const Texts missing = less(all, told.sorted());
    if (told.failures == 0) {
        EXPECT_TRUE(error == ENOENT || missing.empty()) << missing[0];
        return;
    }
    EXPECT_EQ(told.failures, 1u);
    EXPECT_EQ(told.error, Error::from_errno(error));
    if (told.failed[0] == "climb") return;  // it is the end of the walk
    for (const std::string& text : missing) {
        const std::string name = text.substr(6);
        EXPECT_EQ(name.find(told.failed_path), 0u) << text << " is missing";
    }
}

TEST_P(TreeFaults, a_walk_goes_on_behind_each_refused_call) {
    Loop loop = make_loop();
    make_tree();
    each_walk([&](const TreeOptions& options) {
        const Texts all = walked(loop, options).sorted();
        std::set<std::string> failed;
        sweep_errors(errors, [&](int error, std::uint32_t number, Act act) {
            front_->arm(number, std::move(act));
            const Account told = walked(loop, options);
            expect_told(told, all, error);
            if (told.failures != 0) failed.insert(told.failed[0]);
            EXPECT_TRUE(front_->acted() || told.sorted() == all);
        });
        EXPECT_TRUE(failed.count("stat") && failed.count("open") && failed.count("list"));
    });
}

TEST_P(TreeFaults, a_removal_goes_on_behind_each_refused_call) {
    Loop loop = make_loop();
    constexpr int more[] = {EACCES, EIO, ENOENT, EMFILE, EBUSY, ENOTEMPTY, EEXIST};
    each_walk([&](const TreeOptions& options) {
        sweep_errors(more, [&](int error, std::uint32_t number, Act act) {
            make_tree();
            front_->arm(number, std::move(act));
            const Account told = removed(loop, options);
            // Who is told of no file has none to remove.
            EXPECT_TRUE(told.error || error == ENOENT || !os::exists(path("t")));
            if (told.error) {
                EXPECT_TRUE(told.error == Error::from_errno(error) ||
                            told.error == Error::from_errno(ENOTEMPTY))
                    << told.error.name();
                EXPECT_EQ(told.failures, 1u) << refused_ << ": it is told once";
            }
            EXPECT_FALSE(removed(loop, options).error);
            EXPECT_FALSE(os::exists(path("t")));
        });
    });
}

// What others do to the tree meanwhile.
TEST_P(TreeFaults, whatever_happens_meanwhile_nothing_outside_is_told_or_removed) {
    Loop loop = make_loop();
    struct Deed {
        const char* name;
        std::function<int(const char* call)> act;
    };
    const auto vanishes = [&] {
        if (os::exists(path("t/a"))) os::remove_tree(path("t/a"));
        return 0;
    };
    const Deed deeds[] = {
        {"a vanishes", [&](const char*) { return vanishes(); }},
        {"a vanishes as it is refused",
         [&](const char* call) {
             vanishes();
             return std::string_view(call) == "openat2" ? -EACCES : 0;
         }},
        {"a moves out", [&](const char*) { return static_cast<void>(move("t/a", "moved")), 0; }},
        {"b moves out", [&](const char*) { return static_cast<void>(move("t/a/b", "moved")), 0; }},
        {"c moves up",
         [&](const char*) { return static_cast<void>(move("t/a/b/c", "t/moved")), 0; }},
        {"a becomes a link",
         [&](const char*) {
             if (move("t/a", "moved")) make_link("../outside", "t/a");
             return 0;
         }},
        {"a file comes to a",
         [&](const char*) {
             if (os::exists(path("t/a"))) put("t/a/new");
             return 0;
         }},
    };
    make_outside();
    for (const bool removes : {false, true}) {
        each_walk([&](TreeOptions options) {
            make_tree();
            const Texts all = walked(loop, options).sorted();
            options.removals_max = 2;
            for (const Deed& deed : deeds) {
                SCOPED_TRACE(deed.name);
                sweep([&](std::uint32_t number) {
                    if (!os::exists(path("t"))) make_tree();
                    front_->arm(number, deed.act);
                    const Account told = told_of(loop, removes, options);
                    EXPECT_FALSE(told.has("entry a/kept") && !options.follow);
                    if (!front_->acted()) {
                        EXPECT_TRUE(!told.error && (removes || told.sorted() == all));
                    }
                    EXPECT_TRUE(os::exists(path("outside/kept")));
                    const bool lost = told.error == Error::from_errno(ESTALE) ||
                                      told.error == Error::from_errno(EACCES) ||
                                      told.error == Error::from_errno(ENOTDIR);
                    EXPECT_TRUE(!told.error || lost) << told.error.name();
                    EXPECT_LE(told.failures, 2u);
                    if (os::exists(path("moved"))) os::remove_tree(path("moved"));
                    EXPECT_FALSE(removed(loop, options).error);
                });
            }
        });
    }
}

// Somebody takes every slot that is left, after the first event, the second, and so on.
TEST_P(TreeFaults, without_a_slot_for_its_next_step_it_ends_and_says_so) {
    Loop loop = make_loop([](LoopOptions& options) { options.ops_max = 64; });
    bool reached = true;
    std::size_t refused = 0;
    for (std::size_t number = 0; reached; ++number) {
        make_tree();
        Account told;
        std::vector<Timer> taken;
        const auto take_all = [&](Loop& here) {
            while (const auto timer = here.after(24h, [](Loop&, Expired) {})) {
                taken.push_back(*timer);
            }
        };
        const auto note = [&](Loop& here, const TreeEvent& event) {
            told.note(event);
            if (told.all.size() == number && taken.empty()) take_all(here);
            return TreeNext::go_on;
        };
        ASSERT_TRUE(walk_tree(loop, path("t"), {}, note));
        if (number == 0) take_all(loop);
        for (int turn = 0; turn < 1000 && told.dones == 0; ++turn) ASSERT_FALSE(loop.run_once());
        ASSERT_EQ(told.dones, 1);
        reached = !taken.empty();
        for (const Timer timer : taken) EXPECT_TRUE(loop.cancel(timer));
        EXPECT_EQ(told.failures, told.error ? 1u : 0u);
        EXPECT_TRUE(!told.error || told.error == Error::slots_exhausted) << told.error.name();
        if (told.error) ++refused;
        // A removal has several under way, and the names are known before there are slots for them.
        EXPECT_FALSE(removed(loop, {}).error);
    }
    EXPECT_GT(refused, 3u);
}

TEST_P(TreeFaults, a_removal_needs_slots_for_all_that_is_under_way) {
    Loop loop = make_loop([](LoopOptions& options) { options.ops_max = 4; });
    make_tree();
    for (int file = 0; file < 20; ++file) put("t/a/" + std::to_string(file));
    Account told;
    const auto note = [&told](Loop&, const TreeEvent& event) {
        told.note(event);
        return TreeNext::go_on;
    };
    ASSERT_TRUE(remove_tree(loop, path("t"), {}, note));
    for (int turn = 0; turn < 1000 && told.dones == 0; ++turn) ASSERT_FALSE(loop.run_once());
    EXPECT_EQ(told.failed, Texts{"unlink"});
    EXPECT_EQ(told.error, Error::slots_exhausted);
    TreeOptions one;
    one.removals_max = 1;
    EXPECT_FALSE(removed(loop, one).error);
    EXPECT_FALSE(os::exists(path("t")));
}

// It is paused at a failure, with other removals under way.
TEST_P(TreeFaults, a_paused_removal_goes_on_or_ends) {
    enum class How { goes_on, cancelled, timed_out };
    Loop loop = make_loop();
    for (const How how : {How::goes_on, How::cancelled, How::timed_out}) {
        SCOPED_TRACE(static_cast<int>(how));
        constexpr int busy[] = {EBUSY};
        sweep_errors(busy, [&](int, std::uint32_t number, Act act) {
            make_tree();
            for (int file = 0; file < 5; ++file) put("t/a/" + std::to_string(file));
            Account told;
            bool paused = false;
            const auto note = [&](Loop&, const TreeEvent& event) {
                told.note(event);
                paused = event.kind == Kind::failed;
                return paused ? TreeNext::pause : TreeNext::go_on;
            };
            TreeOptions options;
            if (how == How::timed_out) options.submit = within(5s);
            front_->arm(number, std::move(act));
            const Result<TreeTask> task = remove_tree(loop, path("t"), options, note);
            ASSERT_TRUE(task);
            run_until(loop, [&] { return told.dones == 1 || paused; });
            front_->disarm();
            if (told.dones == 0) {
                const Instant before = os::now();
                EXPECT_FALSE(loop.run_for(1s));
                EXPECT_EQ(told.dones, 0) << "it is paused";
                for (int twice = 0; twice < 2 && how == How::goes_on; ++twice) {
                    EXPECT_FALSE(task->go_on(loop));
                }
                if (how == How::cancelled) static_cast<void>(task->cancel(loop));
                run_until(loop, [&] { return told.dones == 1; });
                EXPECT_EQ(os::now() - before > 3s, how == How::timed_out);
                const Error ends[] = {Error::from_errno(EBUSY), Error::cancelled, Error::timed_out};
                EXPECT_EQ(told.error, ends[static_cast<int>(how)]);
                EXPECT_EQ(told.failures, 1u);
            }
            expect_clean(loop);
            EXPECT_FALSE(removed(loop, {}).error);
        });
    }
}

#if defined(__cpp_exceptions)
TEST_P(TreeFaults, an_exception_stops_no_removal) {
    Loop loop = make_loop();
    constexpr int busy[] = {EBUSY};
    sweep_errors(busy, [&](int, std::uint32_t number, Act act) {
        make_tree();
        Account told;
        const auto throws = [&](Loop&, const TreeEvent& event) -> TreeNext {
            told.note(event);
            throw 1;
        };
        front_->arm(number, std::move(act));
        ASSERT_TRUE(remove_tree(loop, path("t"), {}, throws));
        for (int tries = 0; tries < 1000 && told.dones == 0; ++tries) {
            try {
                EXPECT_FALSE(loop.run_once());
            } catch (int) {
            }
        }
        front_->disarm();
        EXPECT_EQ(told.dones, 1);
        EXPECT_EQ(told.failures, told.failed.size());
        EXPECT_FALSE(removed(loop, {}).error);
        expect_clean(loop);
    });
}
#endif

TEST_P(TreeFaults, a_directory_that_others_fill_all_the_time_is_given_up) {
    Loop loop = make_loop();
    make_tree();
    int came = 0;
    const auto comes = [&](const char* call) {
        if (std::string_view(call) == "getdents64" && os::exists(path("t/empty"))) {
            put("t/empty/" + std::to_string(came++));
        }
        return 0;
    };
    front_->arm(1, comes, true);
    const Account told = removed(loop, {});
    EXPECT_EQ(told.error, Error::from_errno(ENOTEMPTY));
    EXPECT_EQ(told.failed, Texts{"rmdir"});
    EXPECT_EQ(told.failed_path, "empty");
    EXPECT_GE(came, 100);
    EXPECT_LE(came, 300);
    EXPECT_EQ(os::names_in(path("t")), Texts{"empty"});
    EXPECT_FALSE(removed(loop, {}).error);
}

TEST_P(TreeFaults, without_memory_for_its_handler_it_is_refused) {
    Loop loop = make_loop();
    make_tree();
    EXPECT_EQ(detail::tree_begin(loop, path("t"), {}, true, nullptr).error(),
              Error::from_errno(ENOMEM));
    EXPECT_TRUE(os::exists(path("t/f")));
    expect_clean(loop);
}

// Behind a link ".." leads elsewhere, so that nothing is closed on the way down.
TEST_P(TreeFaults, links_are_followed_as_deep_as_there_are_descriptors) {
    Loop loop = make_loop();
    make_tree();
    TreeOptions options;
    options.follow = true;
    options.descriptors_max = 3;
    const Account told = walked(loop, options);
    EXPECT_EQ(told.error, Error::from_errno(EMFILE));
    EXPECT_EQ(told.failed, Texts{"open"});
    EXPECT_EQ(told.failed_path, "a/b");
    EXPECT_TRUE(told.has("entry a/g") && told.has("leave a") && told.has("leave empty"));
}

TEST_P(TreeFaults, a_path_with_a_slash_at_its_end) {
    Loop loop = make_loop();
    make_tree();
    Account told;
    Texts paths;
    const auto note = [&](Loop&, const TreeEvent& event) {
        told.note(event);
        if (event.kind == Kind::enter) paths.emplace_back(event.path.substr(directory_.size()));
        return TreeNext::go_on;
    };
    ASSERT_TRUE(walk_tree(loop, path("t/"), {}, note));
    run_until(loop, [&] { return told.dones == 1; });
    EXPECT_EQ(told.sorted(), walked(loop, {}).sorted());
    std::sort(paths.begin(), paths.end());
    EXPECT_EQ(paths, (Texts{"/t/", "/t/a", "/t/a/b", "/t/a/b/c", "/t/empty"}));
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::world_files
