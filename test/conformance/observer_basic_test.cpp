// SPDX-License-Identifier: MIT
// Goal: an observer tells what happens to files and directories, in order, joins the halves of moves, and
// says so when events were lost or a limit is reached.
// Method: plain system calls in a directory of the test's own, and what was told of them, on every backend.
#include "conformance/observer_tools.hpp"
#include "conformance/support.hpp"

namespace whorl::conformance {
namespace {

class ObserverBasic : public ObserverTools {};
WHORL_CONFORMANCE(ObserverBasic);

TEST_P(ObserverBasic, a_directory) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    const FileObserver observer = observing(loop, told);
    put("a", "one");
    expect_told(loop, told, {"created a", "modified a", "written a"});
    const int fd = os::open_file(path("a"), O_WRONLY);
    ASSERT_EQ(os::write(fd, "two", 3), 3);
    expect_told(loop, told, {"modified a"});
    os::close(fd);
    expect_told(loop, told, {"written a"});
    make_dir("d");
    remove_file("a");
    remove_dir("d");
    expect_told(loop, told, {"created d/", "removed a", "removed d/"});
    const int truncated = os::open_file(path("t"), O_WRONLY | O_CREAT);
    ASSERT_EQ(calls().ftruncate(truncated, 100), 0);
    os::close(truncated);
    expect_told(loop, told, {"created t", "modified t", "written t"});
    ASSERT_EQ(calls().linkat(AT_FDCWD, path("t").c_str(), path("u").c_str()), 0);
    run_until_told(loop, told, "created u");
    told.all.clear();
    ASSERT_EQ(calls().symlinkat("t", AT_FDCWD, path("l").c_str()), 0);
    expect_told(loop, told, {"created l"});
    EXPECT_TRUE(observer.close(loop));
    EXPECT_FALSE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverBasic, a_file) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    put("f", "one");
    put("other");
    const FileObserver observer = observing(loop, told, {}, "f");
    put("other", "more");
    const int fd = os::open_file(path("f"), O_WRONLY | O_APPEND);
    ASSERT_EQ(os::write(fd, "two", 3), 3);
    os::close(fd);
    expect_told(loop, told, {"modified", "written"});
    move("f", "g");
    expect_told(loop, told, {"renamed"});
    put("g", "it is still observed");
    run_until_told(loop, told, "written");
    told.all.clear();
    remove_file("g");
    expect_told(loop, told, {"attributes", "gone"});
    put("g");
    put("h");
    for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
    EXPECT_TRUE(told.all.empty()) << "another file has the name now";
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverBasic, moves_are_joined) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    make_dir("a");
    make_dir("b");
    make_dir("unseen");
    put("a/f");
    put("a/leaves");
    put("unseen/comes");
    std::vector<std::uint64_t> from, to;
    Result<FileObserver> observer = observe_files(loop, [&](Loop&, const FileEvent& event) {
        told.all.push_back(said(event));
        if (event.kind != FileEvent::Kind::moved) return;
        from.push_back(event.from_observed.number);
        to.push_back(event.observed.number);
    });
    ASSERT_TRUE(observer);
    const Result<ObservedFile> a = observer->add(loop, path("a"), {}),
                               b = observer->add(loop, path("b"), {});
    ASSERT_TRUE(a && b);
    EXPECT_FALSE(*a == *b);
    move("a/f", "a/g");
    move("a/g", "b/h");
    expect_told(loop, told, {"moved f -> g", "moved g -> h"});
    EXPECT_EQ(from, (std::vector<std::uint64_t>{a->number, a->number}));
    EXPECT_EQ(to, (std::vector<std::uint64_t>{a->number, b->number}));
    move("unseen/comes", "b/came");
    expect_told(loop, told, {"moved_here came"});
    // Only after a while, so what happens next may be told before.
    move("a/leaves", "unseen/left");
    run_until_told(loop, told, "moved_away leaves");
    EXPECT_EQ(told.all.size(), 1u);
    EXPECT_TRUE(observer->close(loop));
    expect_over(loop);
}

// More first halves than are kept: the oldest are told alone, and none is lost.
TEST_P(ObserverBasic, many_that_move_away) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    make_dir("in");
    make_dir("out");
    for (int index = 0; index < 100; ++index) put("in/" + std::to_string(index));
    const FileObserver observer = observing(loop, told, {FileChange::moved}, "in");
    for (int index = 0; index < 100; ++index) {
        const std::string name = std::to_string(index);
        move("in/" + name, "out/" + name);
    }
    run_until(loop, [&] { return told.all.size() >= 100; });
    ASSERT_EQ(told.all.size(), 100u);
    for (int index = 0; index < 100; ++index) {
        EXPECT_EQ(told.all[static_cast<std::size_t>(index)], "moved_away " + std::to_string(index));
    }
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverBasic, only_what_was_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    make_dir("d");
    const FileObserver observer =
        observing(loop, told, {FileChange::removed | FileChange::written}, "d");
    put("d/a");
    move("d/a", "d/b");
    remove_file("d/b");
    expect_told(loop, told, {"written a", "removed b"});
    remove_dir("d");
    expect_told(loop, told, {"gone"});
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverBasic, what_was_removed_from_it_tells_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    make_dir("a");
    make_dir("b");
    Result<FileObserver> observer = observe_files(loop, into(told));
    ASSERT_TRUE(observer);
    const Result<ObservedFile> a = observer->add(loop, path("a"), {});
    ASSERT_TRUE(a && observer->add(loop, path("b"), {}));
    put("a/before");
    EXPECT_TRUE(observer->remove(loop, *a)) << "with events of it on their way";
    EXPECT_FALSE(observer->remove(loop, *a));
    put("a/after");
    put("b/x");
    expect_told(loop, told, {"created x", "modified x", "written x"});
    EXPECT_TRUE(observer->close(loop));
    EXPECT_FALSE(observer->remove(loop, *a));
    expect_over(loop);
}

TEST_P(ObserverBasic, misuse_and_errors_are_told) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    make_dir("d");
    put("f");
    const FileObserver observer = observing(loop, told, {}, "d");
    const auto refused = [&](const std::string& name, const ObserveOptions& options) {
        return observer.add(loop, name, options).error();
    };
    EXPECT_EQ(refused(path("d"), {}), Error::from_errno(EEXIST));
    EXPECT_EQ(refused(path("none"), {}), Error::from_errno(ENOENT));
    EXPECT_EQ(refused(path("f"), {FileChange::all, true}), Error::from_errno(ENOTDIR));
    EXPECT_EQ(refused(path("f/x"), {}), Error::from_errno(ENOTDIR));
    EXPECT_EQ(refused(path(std::string(300, 'x')), {}), Error::from_errno(ENAMETOOLONG));
    EXPECT_EQ(refused(path("f"), {FileChange{}}), Error::invalid_argument);
    EXPECT_EQ(refused(std::string("a\0b", 3), {}), Error::invalid_argument);
    ASSERT_EQ(calls().symlinkat("loop", AT_FDCWD, path("loop").c_str()), 0);
    EXPECT_EQ(refused(path("loop"), {}), Error::from_errno(ELOOP));
    EXPECT_TRUE(observer.close(loop));
    EXPECT_EQ(refused(path("f"), {}), Error::stale_handle);
    EXPECT_FALSE(FileObserver().close(loop));
    EXPECT_EQ(FileObserver().add(loop, path("f"), {}).error(), Error::stale_handle);
    expect_over(loop);
}

// The sysctl is the machine's, so only a world can have another one.
TEST_P(ObserverBasic, the_limit_of_watches) {
    WHORL_SKIP_IF_REFUSED();
    if (os::world() == nullptr) return;
    os::world()->file_watches_max = 2;
    Loop loop = make_loop();
    Told told;
    for (const char* name : {"a", "b", "c", "t", "t/u"}) make_dir(name);
    Result<FileObserver> observer = observe_files(loop, into(told));
    ASSERT_TRUE(observer);
    const Result<ObservedFile> a = observer->add(loop, path("a"), {});
    ASSERT_TRUE(a);
    ASSERT_TRUE(observer->add(loop, path("b"), {}));
    const Error error = observer->add(loop, path("c"), {}).error();
    EXPECT_EQ(error, Error::watches_exhausted);
    EXPECT_NE(std::strstr(error.text(), "fs.inotify.max_user_watches"), nullptr);
    EXPECT_TRUE(observer->remove(loop, *a));
    ASSERT_TRUE(observer->add(loop, path("t"), {FileChange::all, true}));
    expect_told(loop, told, {"failed u/ watches_exhausted", "ready"});
    EXPECT_TRUE(observer->close(loop));
    expect_over(loop);
}

TEST_P(ObserverBasic, lost_events_are_told_of) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    std::size_t most = 16384;  // the usual fs.inotify.max_queued_events
    if (os::world() != nullptr) {
        most = os::world()->file_events_max = 20;
    } else if (std::FILE* limit = std::fopen("/proc/sys/fs/inotify/max_queued_events", "r")) {
        ASSERT_EQ(std::fscanf(limit, "%zu", &most), 1);
        std::fclose(limit);
    }
    make_dir("a");
    const FileObserver observer =
        observing(loop, told, {FileChange::created | FileChange::removed}, "a");
    put("a/f");
    for (std::size_t count = 0; count < most; ++count) {
        const std::string other = count % 2 == 0 ? "a/g" : "a/f";
        ASSERT_EQ(calls().linkat(AT_FDCWD, path(count % 2 == 0 ? "a/f" : "a/g").c_str(),
                                 path(other).c_str()),
                  0);
        remove_file(count % 2 == 0 ? "a/f" : "a/g");
    }
    run_until_told(loop, told, "overflow");
    EXPECT_EQ(told.count("overflow"), 1u);
    EXPECT_EQ(told.all.back(), "overflow");
    EXPECT_GE(told.all.size(), most);
    told.all.clear();
    put("a/after");
    expect_told(loop, told, {"created after"});
    EXPECT_TRUE(observer.close(loop));
    expect_over(loop);
}

TEST_P(ObserverBasic, closed_in_every_way) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    const auto never = [token = witness.copy()](Loop&, const FileEvent&) { ADD_FAILURE(); };
    // Before the first turn, with events there; and after turns, with events there.
    for (const int turns : {0, 3}) {
        const Result<FileObserver> observer = observe_files(loop, never);
        ASSERT_TRUE(observer);
        ASSERT_TRUE(observer->add(loop, directory_, {}));
        for (int turn = 0; turn < turns; ++turn) EXPECT_FALSE(loop.poll());
        put("x" + std::to_string(turns));
        EXPECT_TRUE(observer->close(loop));
        EXPECT_FALSE(observer->add(loop, directory_, {}));
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
    }
    EXPECT_EQ(witness.others(), 1) << "the handlers are destroyed with their observers";
    // From inside its handler, with further events already read.
    int called = 0;
    FileObserver observer;
    observer = *observe_files(loop, [&, token = witness.copy()](Loop& here, const FileEvent&) {
        ++called;
        EXPECT_TRUE(observer.close(here));
        EXPECT_FALSE(observer.close(here));
    });
    ASSERT_TRUE(observer.add(loop, directory_, {}));
    put("y");
    put("z");
    EXPECT_FALSE(loop.run()) << "nothing is left that could call a handler";
    EXPECT_EQ(called, 1);
    EXPECT_EQ(witness.others(), 1);
    // A half of a move waits for the other.
    make_dir("in");
    put("in/f");
    observer = *observe_files(loop, never);
    ASSERT_TRUE(observer.add(loop, path("in"), {FileChange::moved}));
    move("in/f", "f");
    for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
    EXPECT_TRUE(observer.close(loop));
    EXPECT_FALSE(loop.run());
    expect_over(loop);
}

TEST_P(ObserverBasic, a_loop_is_drained_and_destroyed_under_it) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    for (const bool drains : {true, false}) {
        Loop loop = make_loop();
        const auto never = [token = witness.copy()](Loop&, const FileEvent&) {};
        const Result<FileObserver> observer = observe_files(loop, never);
        ASSERT_TRUE(observer);
        make_dir(drains ? "t" : "u");
        ASSERT_TRUE(observer->add(loop, directory_, {FileChange::all, true}));
        EXPECT_FALSE(loop.poll());
        put("x");
        if (!drains) continue;
        EXPECT_FALSE(loop.drain(10s));
        EXPECT_FALSE(observer->close(loop));
        expect_clean(loop);
    }
    EXPECT_TRUE(witness.alone());
}

#if defined(__cpp_exceptions)
TEST_P(ObserverBasic, an_exception_loses_no_event) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Told told;
    const Result<FileObserver> observer = observe_files(loop, [&](Loop&, const FileEvent& event) {
        told.all.push_back(said(event));
        throw 1;
    });
    ASSERT_TRUE(observer);
    make_dir("t");
    make_dir("t/old");
    ASSERT_TRUE(observer->add(loop, path("t"), {FileChange::all, true}));
    const auto run_until_size = [&](std::size_t size) {
        for (int tries = 0; tries < 1000 && told.all.size() < size; ++tries) {
            try {
                EXPECT_FALSE(loop.run_once());
            } catch (int) {
            }
        }
    };
    run_until_size(1);
    EXPECT_EQ(told.all[0], "ready");
    put("t/a");
    put("t/b");
    run_until_size(7);
    EXPECT_EQ(told.list(),
              "ready\ncreated a\nmodified a\nwritten a\ncreated b\nmodified b\nwritten b\n");
    EXPECT_TRUE(observer->close(loop));
    expect_over(loop);
}
#endif

}  // namespace
}  // namespace whorl::conformance
