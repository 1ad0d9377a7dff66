// SPDX-License-Identifier: MIT
// Goal: an observer that meets an error says so once, loses nothing outside of the directory concerned, and
// goes on; however its handler and the tree behave, it ends up knowing the tree as it is.
// Method: the same events in a world, again for each call on files that the observer makes, with that call
// refused; again for each event, at which the handler closes, removes, throws or takes every slot; and
// directories that change places faster than the observer looks.
#include "world/file_front.hpp"

#include <whorl/file_observer.hpp>

#include <sys/inotify.h>

#include <algorithm>
#include <string>
#include <vector>

namespace whorl::world_files {
namespace {

using Kind = FileEvent::Kind;
using Texts = std::vector<std::string>;

// What was told, in order: "created x/y", with a slash behind a directory.
struct Told {
    Texts all;
    std::vector<Error> failed;
    Texts failed_paths;
    int readies = 0, overflows = 0;
    ObservedFile last;

    void note(const FileEvent& event) {
        static constexpr const char* kinds[] = {"created", "modified",   "written",    "attributes",
                                                "moved",   "moved_away", "moved_here", "removed",
                                                "gone",    "renamed",    "unmounted"};
        last = event.observed;
        if (event.kind == Kind::ready) {
            ++readies;
        } else if (event.kind == Kind::overflow) {
            ++overflows;
        } else if (event.kind == Kind::failed) {
            failed.push_back(event.error);
            failed_paths.emplace_back(event.path);
        } else {
            all.push_back(std::string(kinds[static_cast<int>(event.kind)]) + " " +
                          std::string(event.path) + (event.directory ? "/" : ""));
        }
    }
    std::size_t count() const { return all.size() + failed.size() + readies + overflows; }
    bool has(const std::string& text) const {
        return std::find(all.begin(), all.end(), text) != all.end();
    }
};

class ObserverFaults : public FileWorld {
  protected:
    static constexpr ObserveOptions tree{FileChange::all, true};

    void make_tree() const {
        for (const char* name : {"d", "d/old", "d/old/inner", "outside"}) make_dir(name);
        put("d/old/f");
    }
    void remove_all() const {
        for (const char* name : {"d", "outside"}) os::remove_tree(path(name));
    }
    // One thing after the other, each told before the next.
    void things_happen(Loop& loop) {
        const auto then = [&](auto deed) {
            front_->aside(deed);
            for (int turn = 0; turn < 100; ++turn) turn_once(loop);
        };
        then([&] {
            for (const char* name : {"d/x", "d/x/y"}) make_dir(name);
            put("d/x/y/f");
        });
        then([&] { EXPECT_TRUE(move("d/x", "d/old/z")); });
        then([&] { make_dir("d/old/z/y/n"); });
        then([&] { EXPECT_TRUE(move("d/old/inner", "outside/inner")); });
        then([&] { EXPECT_TRUE(move("outside/inner", "d/back")); });
        then([&] { put("d/back/file"); });
        then([&] { os::remove_tree(path("d/old/z")); });
    }
    // A turn of at most a millisecond, beyond which a handler's exception does not get.
    static void turn_once(Loop& loop) {
        bool over = false;
        const auto bound = loop.after(1ms, [&over](Loop&, Expired) { over = true; });
        do {
#if defined(__cpp_exceptions)
            try {
                EXPECT_FALSE(loop.run_once());
            } catch (int) {
            }
#else
            EXPECT_FALSE(loop.run_once());
#endif
        } while (bound && !over);
    }
    // What is observed is what is there: something in `name` is told.
    void expect_told_in(Loop& loop, const Told& told, const std::string& name) const {
        const std::string made = name.empty() ? "last" : name + "/last";
        put("d/" + made);
        for (int turn = 0; turn < 50 && !told.has("written " + made); ++turn) turn_once(loop);
        EXPECT_TRUE(told.has("created " + made)) << made;
        EXPECT_EQ(calls().unlinkat(AT_FDCWD, path("d/" + made).c_str(), 0), 0);
        for (int turn = 0; turn < 50 && !told.has("removed " + made); ++turn) turn_once(loop);
    }
};
WHORL_FILE_WORLD(ObserverFaults);

Error meaning_of(int error, const std::string& call) {
    if (error == ENOSPC && call == "inotify_add_watch") return Error::watches_exhausted;
    if (error == EMFILE && call == "inotify_init1") return Error::observers_exhausted;
    return Error::from_errno(error);
}

// `told` is all of `everything`, but for what is in the directory that could not be observed.
void expect_nothing_else_missing(const Told& told, const Told& everything) {
    for (const std::string& text : everything.all) {
        if (told.has(text)) continue;
        const std::string name = text.substr(text.find(' ') + 1);
        const bool below =
            !told.failed_paths.empty() && name.find(told.failed_paths[0]) != std::string::npos;
        // What was moved from there is told by where it goes.
        EXPECT_TRUE(below || name.find("z/") != std::string::npos) << text << " is missing";
    }
}

TEST_P(ObserverFaults, each_refused_call_is_told_and_costs_its_directory_only) {
    Loop loop = make_loop();
    Told everything;
    // The error that it was refused with, or none.
    const auto observed = [&](Told& told, std::uint32_t number, Act act) {
        make_tree();
        front_->arm(number, std::move(act));
        Error refused;
        const auto observer =
            observe_files(loop, [&told](Loop&, const FileEvent& event) { told.note(event); });
        if (!observer) refused = observer.error();
        if (observer) {
            const auto added = observer->add(loop, path("d"), tree);
            if (!added) refused = added.error();
            for (int turn = 0; turn < 100 && added; ++turn) turn_once(loop);
            if (added) things_happen(loop);
            front_->disarm();
            if (added) expect_told_in(loop, told, "");
            EXPECT_TRUE(observer->close(loop));
        }
        front_->disarm();
        expect_clean(loop);
        remove_all();
        return refused;
    };
    EXPECT_FALSE(observed(everything, UINT32_MAX, Act()));
    EXPECT_EQ(everything.readies, 1);
    constexpr int errors[] = {EACCES, ENOSPC, EMFILE, ENOMEM, ENOENT, ENOTDIR, EIO};
    for (const bool hides : {false, true}) {
        front_->hides_types = hides;
        sweep_errors(errors, [&](int error, std::uint32_t number, Act act) {
            Told told;
            const Error refused = observed(told, number, std::move(act));
            if (refused) {
                EXPECT_EQ(refused, meaning_of(error, refused_));
                return;
            }
            EXPECT_EQ(told.readies, 1);
            EXPECT_EQ(told.overflows, 0);
            const bool gone = error == ENOENT || error == ENOTDIR;
            EXPECT_EQ(told.failed.size(), front_->acted() && !gone ? 1u : 0u) << refused_;
            for (const Error each : told.failed) EXPECT_EQ(each, meaning_of(error, refused_));
            if (!gone) expect_nothing_else_missing(told, everything);
        });
    }
    EXPECT_TRUE(everything.has("created back/file"));
}

// At the first event, the second, and so on.
TEST_P(ObserverFaults, whatever_its_handler_does_at_an_event) {
    enum class Does { closes, removes, throws, closes_and_throws, takes_slots };
    for (const Does does :
         {Does::closes, Does::removes, Does::throws, Does::closes_and_throws, Does::takes_slots}) {
        const bool closes = does == Does::closes || does == Does::closes_and_throws;
        SCOPED_TRACE(static_cast<int>(does));
        bool reached = true;
        for (std::size_t number = 1; reached; ++number) {
            SCOPED_TRACE("event " + std::to_string(number));
            Loop loop = make_loop([](LoopOptions& options) { options.ops_max = 64; });
            make_tree();
            Told told;
            std::vector<Timer> taken;
            bool acted = false, idle = false;
            Result<FileObserver> observer = Error::stale_handle;
            Result<ObservedFile> added = Error::stale_handle;
            const auto handler = [&](Loop& here, const FileEvent& event) {
                told.note(event);
                EXPECT_TRUE((!closes && does != Does::removes) || !acted)
                    << "told of what is not observed any more";
                if (told.count() != number || idle) return;
                acted = true;
                EXPECT_TRUE(!closes || observer->close(here));
                EXPECT_TRUE(does != Does::removes || observer->remove(here, *added));
#if defined(__cpp_exceptions)
                if (does == Does::throws || does == Does::closes_and_throws) throw 1;
#endif
                if (does != Does::takes_slots) return;
                while (const auto timer = here.after(24h, [](Loop&, Expired) {}))
                    taken.push_back(*timer);
            };
            observer = observe_files(loop, handler);
            ASSERT_TRUE(observer);
            added = observer->add(loop, path("d"), tree);
            ASSERT_TRUE(added);
            for (int turn = 0; turn < 100; ++turn) turn_once(loop);
            if (does == Does::takes_slots) {
                front_->aside([&] {
                    for (const char* name : {"d/p", "d/p/q", "d/r"}) make_dir(name);
                });
                for (int turn = 0; turn < 20; ++turn) {
                    const auto bound = loop.after(1ms, [](Loop&, Expired) {});
                    ASSERT_FALSE(bound ? loop.run_once() : loop.poll());
                }
                for (const Error error : told.failed) EXPECT_EQ(error, Error::slots_exhausted);
                idle = true;
                for (const Timer timer : taken) EXPECT_TRUE(loop.cancel(timer));
                os::remove_tree(path("d/p"));
                os::remove_tree(path("d/r"));
                for (int turn = 0; turn < 100; ++turn) turn_once(loop);
            }
            things_happen(loop);
            EXPECT_EQ(told.readies, 1);
            idle = true;
            if (!acted || does == Does::throws || does == Does::takes_slots) {
                expect_told_in(loop, told, "");
            }
            reached = acted;
            EXPECT_EQ(observer->close(loop), !(acted && closes));
            expect_clean(loop);
            remove_all();
        }
    }
}

TEST_P(ObserverFaults, each_limit_of_watches) {
    Loop loop = make_loop();
    const std::size_t before = os::world()->file_watches_max;
    for (std::size_t limit = 0; limit < 8; ++limit) {
        SCOPED_TRACE("watches " + std::to_string(limit));
        make_tree();
        os::world()->file_watches_max = limit;
        Told told;
        const auto observer =
            observe_files(loop, [&told](Loop&, const FileEvent& event) { told.note(event); });
        ASSERT_TRUE(observer);
        const auto added = observer->add(loop, path("d"), tree);
        EXPECT_EQ(bool(added), limit != 0);
        if (!added) {
            EXPECT_EQ(added.error(), Error::watches_exhausted);
        } else {
            for (int turn = 0; turn < 100; ++turn) turn_once(loop);
            EXPECT_EQ(told.readies, 1);
            EXPECT_EQ(told.failed.size(), limit < 3 ? 1u : 0u);
            things_happen(loop);
            for (const Error error : told.failed) EXPECT_EQ(error, Error::watches_exhausted);
            EXPECT_EQ(told.failed.empty(), limit > 5);
            expect_told_in(loop, told, "");
        }
        EXPECT_TRUE(observer->close(loop));
        expect_clean(loop);
        remove_all();
    }
    os::world()->file_watches_max = before;
}

// The kernel forgets what there is no room for, and the tree finds its directories by itself.
TEST_P(ObserverFaults, lost_events_of_a_tree) {
    const std::size_t before = os::world()->file_events_max;
    for (std::size_t room = 1; room < 12; ++room) {
        SCOPED_TRACE("room for " + std::to_string(room));
        Loop loop = make_loop();
        make_tree();
        Told told;
        const auto observer =
            observe_files(loop, [&told](Loop&, const FileEvent& event) { told.note(event); });
        ASSERT_TRUE(observer);
        ASSERT_TRUE(observer->add(loop, path("d"), tree));
        for (int turn = 0; turn < 100; ++turn) turn_once(loop);
        os::world()->file_events_max = room;
        EXPECT_TRUE(move("d/old/inner", "d/inner"));
        for (const char* name : {"d/inner/k", "d/m", "d/m/n", "d/m/n/o", "d/old/p"}) make_dir(name);
        for (int turn = 0; turn < 100; ++turn) turn_once(loop);
        os::world()->file_events_max = before;
        EXPECT_GE(told.overflows, room < 6 ? 1 : 0);
        for (const char* name : {"", "inner", "inner/k", "m/n/o", "old/p"}) {
            expect_told_in(loop, told, name);
        }
        EXPECT_TRUE(observer->close(loop));
        expect_clean(loop);
        remove_all();
    }
}

// A directory belongs to whoever has it first.
TEST_P(ObserverFaults, trees_in_each_other) {
    Loop loop = make_loop();
    make_tree();
    Told told;
    const auto observer =
        observe_files(loop, [&told](Loop&, const FileEvent& event) { told.note(event); });
    ASSERT_TRUE(observer);
    const auto inner = observer->add(loop, path("d/old"), tree);
    ASSERT_TRUE(inner);
    for (int turn = 0; turn < 50; ++turn) turn_once(loop);
    const auto outer = observer->add(loop, path("d"), tree);
    ASSERT_TRUE(outer);
    for (int turn = 0; turn < 50; ++turn) turn_once(loop);
    EXPECT_EQ(told.readies, 2);
    EXPECT_EQ(observer->add(loop, path("d/old"), {}).error(), Error::from_errno(EEXIST));
    put("d/old/inner/new");
    for (int turn = 0; turn < 50; ++turn) turn_once(loop);
    EXPECT_TRUE(told.has("created inner/new"));
    EXPECT_TRUE(told.last == *inner);
    EXPECT_FALSE(told.has("created old/inner/new")) << "it is told once";
    // What was the inner tree's stays its own when it comes to the outer one.
    EXPECT_TRUE(move("d/old/inner", "d/came"));
    for (int turn = 0; turn < 50; ++turn) turn_once(loop);
    EXPECT_TRUE(told.has("moved came/"));
    expect_told_in(loop, told, "came");
    EXPECT_TRUE(observer->remove(loop, *inner));
    EXPECT_FALSE(observer->remove(loop, *inner));
    expect_told_in(loop, told, "");
    EXPECT_TRUE(observer->close(loop));
    expect_clean(loop);
}

// Directories change places, and the observer looks now and then: after each of the steps whose bit is set.
TEST_P(ObserverFaults, directories_that_change_places) {
    const std::pair<const char*, const char*> steps[] = {
        {"d/x/y/z", "d/z"}, {"d/x", "d/z/x"}, {"d/z/x/y", "d/y"},
        {"d/z", "d/y/z"},   {"d/y", "d/x"},   {"d/x/z/x", "d/x/y"},
    };
    for (unsigned looks = 0; looks < 1u << std::size(steps); ++looks) {
        SCOPED_TRACE(looks);
        Loop loop = make_loop();
        make_tree();
        for (const char* name : {"d/x", "d/x/y", "d/x/y/z"}) make_dir(name);
        Told told;
        const auto observer =
            observe_files(loop, [&told](Loop&, const FileEvent& event) { told.note(event); });
        ASSERT_TRUE(observer);
        ASSERT_TRUE(observer->add(loop, path("d"), tree));
        for (int turn = 0; turn < 50; ++turn) turn_once(loop);
        for (std::size_t step = 0; step < std::size(steps); ++step) {
            ASSERT_TRUE(move(steps[step].first, steps[step].second)) << step;
            ASSERT_FALSE((looks >> step & 1) != 0 && loop.poll());
        }
        for (int turn = 0; turn < 100; ++turn) turn_once(loop);
        EXPECT_TRUE(told.failed.empty());
        for (const char* name : {"", "x", "x/y", "x/z"}) expect_told_in(loop, told, name);
        EXPECT_TRUE(observer->close(loop));
        expect_clean(loop);
        remove_all();
    }
}

// The descriptor cannot be watched any more: the observer is closed, and says why.
TEST_P(ObserverFaults, without_its_watch_it_is_closed) {
    Loop loop = make_loop();
    make_tree();
    Told told;
    const auto observer =
        observe_files(loop, [&told](Loop&, const FileEvent& event) { told.note(event); });
    ASSERT_TRUE(observer);
    os::world()->script_fault(detail::OpKind::watch, ENOMEM, UINT32_MAX);
    ASSERT_TRUE(observer->add(loop, path("d"), tree));
    for (int turn = 0; turn < 50; ++turn) turn_once(loop);
    ASSERT_EQ(told.failed.size(), 1u);
    EXPECT_EQ(told.failed[0], Error::from_errno(ENOMEM));
    EXPECT_TRUE(told.last == ObservedFile());
    EXPECT_FALSE(observer->close(loop));
    EXPECT_EQ(observer->add(loop, path("d"), {}).error(), Error::stale_handle);
    expect_clean(loop);
}

TEST_P(ObserverFaults, without_memory_or_slots_it_is_refused) {
    for (const std::uint32_t slots : {1u, 2u, 3u}) {
        Loop loop = make_loop([&](LoopOptions& options) { options.ops_max = slots; });
        const auto taken = loop.after(24h, [](Loop&, Expired) {});
        ASSERT_TRUE(taken);
        const auto made = observe_files(loop, [](Loop&, const FileEvent&) {});
        EXPECT_EQ(bool(made), slots == 3);
        EXPECT_EQ(made ? Error(Error::slots_exhausted) : made.error(), Error::slots_exhausted);
        EXPECT_TRUE(loop.cancel(*taken));
        EXPECT_TRUE(!made || made->close(loop));
        for (int turn = 0; turn < 10; ++turn) EXPECT_FALSE(loop.poll());
        EXPECT_EQ(loop.statistics().operations, 0u);
    }
    Loop loop = make_loop();
    EXPECT_EQ(detail::file_observer_open(loop, {}, nullptr).error(), Error::from_errno(ENOMEM));
    expect_clean(loop);
}

// Events as the kernel may give them, written by hand.
class WrittenNotices : public ObserverFaults {
  protected:
    void SetUp() override {
        ObserverFaults::SetUp();
        int ends[2];
        ASSERT_EQ(os::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
        front_->notices = ends[0];  // the observer closes it
        writer_ = ends[1];
    }
    void TearDown() override {
        os::close(writer_);
        ObserverFaults::TearDown();
    }
    void write(int watch, std::uint32_t mask, std::uint32_t cookie = 0,
               const std::string& name = "") const {
        alignas(inotify_event) char bytes[1024] = {};
        inotify_event event{};
        event.wd = watch;
        event.mask = mask;
        event.cookie = cookie;
        event.len = name.empty() ? 0 : static_cast<std::uint32_t>((name.size() + 8) / 8 * 8);
        std::memcpy(bytes, &event, sizeof event);
        name.copy(bytes + sizeof event, name.size());
        const auto size = static_cast<ssize_t>(sizeof event + event.len);
        EXPECT_EQ(os::write(writer_, bytes, static_cast<std::size_t>(size)), size);
    }
    int writer_ = -1;
};
WHORL_FILE_WORLD(WrittenNotices);

TEST_P(WrittenNotices, are_told_as_the_manual_page_says) {
    Loop loop = make_loop();
    make_tree();
    Told told;
    const auto observer =
        observe_files(loop, [&told](Loop&, const FileEvent& event) { told.note(event); });
    ASSERT_TRUE(observer);
    for (int one = 1; one <= 2; ++one) ASSERT_TRUE(observer->add(loop, path("d"), {}));
    ObserveOptions some;
    some.changes = FileChange::created;
    ASSERT_TRUE(observer->add(loop, path("d"), some));  // the third
    const std::string longest(300, 'n');                // than NAME_MAX, as some file systems have
    const auto settle = [&] {
        for (int turn = 0; turn < 50; ++turn) turn_once(loop);
        Texts all;
        all.swap(told.all);
        return all;
    };
    write(99, IN_MODIFY, 0, "nobody's");
    write(1, IN_DELETE, 0, longest);
    EXPECT_EQ(settle(), Texts{"removed " + longest});
    write(1, IN_MOVED_FROM, 5, longest);
    write(2, IN_MOVED_TO, 5, "short");
    EXPECT_EQ(settle(), (Texts{"moved_away " + longest, "moved_here short"}));
    write(1, IN_MOVED_FROM, 6, "a");
    write(2, IN_MOVED_TO, 6, longest);
    EXPECT_EQ(settle(), Texts{"moved " + longest});
    write(2, IN_MOVED_TO, 0, "without a cookie");
    EXPECT_EQ(settle(), Texts{"moved_here without a cookie"});
    // Who did not ask for moves hears of one when the other side did.
    write(3, IN_MOVED_FROM, 7, "b");
    write(3, IN_MOVED_TO, 7, "c");
    write(3, IN_MOVED_FROM, 8, "e");
    EXPECT_EQ(settle(), Texts());
    write(1, IN_MOVED_FROM, 9, "b");
    write(3, IN_MOVED_TO, 9, "c");
    EXPECT_EQ(settle(), Texts{"moved c"});
    // The first half's watch is gone when its time is over.
    write(2, IN_MOVED_FROM, 10, "gone");
    write(2, IN_IGNORED);
    write(2, IN_MODIFY, 0, "f");
    EXPECT_EQ(settle(), Texts());
    write(1, IN_OPEN, 0, "not asked for");
    write(1, IN_UNMOUNT | IN_ISDIR);
    write(1, IN_IGNORED);
    EXPECT_EQ(settle(), Texts{"unmounted /"});
    EXPECT_TRUE(told.failed.empty());
    EXPECT_EQ(told.overflows, 0);
    EXPECT_TRUE(observer->close(loop));
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::world_files
