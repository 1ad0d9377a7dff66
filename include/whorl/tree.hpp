// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/export.hpp>
#include <whorl/file.hpp>
#include <whorl/loop.hpp>
#include <whorl/names.hpp>

#include <cstdint>
#include <memory>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

// Whole directory trees: to walk over, and to remove.
//
//   whorl::walk_tree(loop, "/srv", {}, [](whorl::Loop&, const whorl::TreeEvent& event) {
//       if (event.kind == whorl::TreeEvent::Kind::entry) std::puts(event.path.data());
//       return whorl::TreeNext::go_on;
//   });
//
// Every name is looked up in an open directory and none is followed unless asked for, so that whoever
// puts a symbolic link in the place of a directory meanwhile leads nowhere. A tree may be deeper than a
// path is long. What comes or goes meanwhile may be told or not.
//
// Memory: the names of the directories on the way that are still to be entered, and of those that
// lead to the present one.

namespace whorl {

// What a walk has found, or a removal could not remove.
struct TreeEvent {
    // What a handler is told.
    enum class Kind : std::uint8_t {
        entry,   // anything but a directory that is entered
        enter,   // a directory, before what is in it
        leave,   // a directory, after what is in it
        failed,  // `error` came to `operation` on `path`; what is in it is left out
        done,    // the last event, always
    };
    Kind kind;  // which of the fields below mean something
    DirectoryEntry::Type type = DirectoryEntry::Type::unknown;  // of entry, enter and leave
    // As given, and from there on, with a zero byte behind it. Lasts until the handler returns.
    std::string_view path = {};
    std::string_view relative = {};  // its part below what was given; empty: that itself
    std::uint32_t depth = 0;         // 0: what was given
    // Of entry and enter: the directory it is in, for operations on relative names; it is closed when the
    // walk leaves it. Null for what was given, and of other kinds.
    File directory = {};
    std::string_view name = {};  // in that directory

    // Of failed and done. A `done` has the first failure's, or why it ended early: cancelled, timed_out.
    Error error = {};
    const char* operation = "";  // "open", "list", "stat", "unlink", "rmdir", "climb"
    std::uint64_t entries = 0;   // of done: told or removed, directories among them
    std::uint64_t failures = 0;  // of done
};

// What a handler answers. It is of no account after `leave` and `done`, but for stop and pause.
enum class TreeNext : std::uint8_t {
    go_on,  // with what is next
    skip,   // after enter: what is in it, and its leave, are left out
    stop,   // `done` follows, without an error of its own
    pause,  // go on when TreeTask::go_on() is called; meanwhile drain() destroys the handler uncalled
};

// How a tree is walked over or removed.
struct TreeOptions {
    // walk_tree: symbolic links to directories, too. A loop of them is told as ELOOP, and what is deeper
    // than descriptors_max - 2 as EMFILE.
    bool follow = false;
    std::uint32_t depth_max = UINT32_MAX;  // walk_tree: directories so deep are told as entries
    std::uint32_t descriptors_max =
        32;                           // open at a time, 3 to 1024; deeper down the upper ones are
                                      // closed, and found again by ".." on the way back
    std::uint32_t removals_max = 32;  // remove_tree: under way at a time, 1 to 1024
    File directory = {};              // where a relative path begins
    SubmitOptions submit = {};        // of the whole
};

namespace detail {

class TreeState;

class WHORL_EXPORT TreeListener : public Allocated<TreeListener> {
  public:
    TreeListener() = default;
    TreeListener(const TreeListener&) = delete;
    TreeListener& operator=(const TreeListener&) = delete;
    virtual ~TreeListener() = default;
    virtual TreeNext event(Loop& loop, const TreeEvent& event) = 0;
};

template <class Handler>
class TreeHandler final : public TreeListener {
  public:
    explicit TreeHandler(Handler&& handler) : handler_(std::move(handler)) {}
    TreeNext event(Loop& loop, const TreeEvent& event) override { return handler_(loop, event); }

  private:
    Handler handler_;
};

}  // namespace detail

// Names what has been begun. Lifetime: a value that owns nothing; after `done` it names nothing.
// Thread: the loop's.
class TreeTask {
  public:
    TreeTask() noexcept = default;
    // For the library.
    explicit TreeTask(std::weak_ptr<detail::TreeState> task) noexcept : task_(std::move(task)) {}
    // Asks that it end: `done` comes with `cancelled`, after what is under way. False: it has ended.
    WHORL_EXPORT bool cancel(Loop& loop) const;
    // After a pause. Errors: stale_handle (it has ended), queue_full (LoopOptions::posts_max).
    WHORL_EXPORT Error go_on(Loop& loop) const;

  private:
    std::weak_ptr<detail::TreeState> task_;
};

namespace detail {
WHORL_EXPORT Result<TreeTask> tree_begin(Loop& loop, std::string_view path,
                                         const TreeOptions& options, bool removes,
                                         std::unique_ptr<TreeListener> listener);

template <class Handler>
std::unique_ptr<TreeListener> tree_listener(Handler&& handler) {
    using Stored = std::decay_t<Handler>;
    static_assert(
        std::is_invocable_r_v<TreeNext, Stored&, Loop&, const TreeEvent&>,
        "whorl: this handler cannot be called with (Loop&, const TreeEvent&), or does not "
        "answer a TreeNext");
    return std::unique_ptr<TreeListener>(
        new (std::nothrow) TreeHandler<Stored>(Stored(std::forward<Handler>(handler))));
}
}  // namespace detail

// Walks over a tree, one directory at a time, each one's files before the directories in it; in no order
// otherwise.
// Calls: handler(Loop&, const TreeEvent&) -> TreeNext for everything that is found, from the loop's
//   dispatch, and at last with `done`. When the loop is destroyed first, it is destroyed uncalled. After an
//   exception it goes on with the next entry.
// Errors: told as `failed` with the path, and the walk goes on as the handler says: EACCES (a directory that
//   cannot be read), ELOOP (with `follow`), EIO, EMFILE; what vanishes meanwhile is none. ESTALE: a
//   directory was moved to elsewhere while the walk was deep in it, and its way back is lost; `done`
//   follows. When called: invalid_argument (an empty path, limits), ENAMETOOLONG (the path given), and
//   those of Loop::submit.
// Cost: the heap for each directory; of operations an open, two listings or more and a close for each
//   directory, a stat where the file system does not tell types.
template <class Handler>
Result<TreeTask> walk_tree(Loop& loop, std::string_view path, const TreeOptions& options,
                           Handler&& handler) {
    return detail::tree_begin(loop, path, options, false,
                              detail::tree_listener(std::forward<Handler>(handler)));
}

// Removes a tree, or a file, or a symbolic link itself: as rm -rf. What is not there is removed.
// Calls: handler(Loop&, const TreeEvent&) -> TreeNext with `failed` for everything that could not be
//   removed, and at last with `done`.
// Errors: as walk_tree, and those of Unlink and RemoveDirectory. A directory is left when something in it
//   could not be removed; that is told once, of what it was. One that others fill all the time is given up
//   after 100 rounds (ENOTEMPTY).
// Cost: as walk_tree, and an operation for each name, several at once.
template <class Handler>
Result<TreeTask> remove_tree(Loop& loop, std::string_view path, const TreeOptions& options,
                             Handler&& handler) {
    return detail::tree_begin(loop, path, options, true,
                              detail::tree_listener(std::forward<Handler>(handler)));
}

}  // namespace whorl
