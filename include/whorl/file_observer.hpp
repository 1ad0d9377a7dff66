// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <chrono>
#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

// What happens to files and directories: inotify(7).
//
//   auto observer = whorl::observe_files(loop, [](whorl::Loop&, const whorl::FileEvent& event) { … });
//   observer->add(loop, "/etc/app", {});
//
// One observer has one inotify descriptor and one handler, and any number of files, directories and trees
// observed. The kernel tells of changes made through this machine's system calls, not of those made by
// other machines on a network file system, nor of mmap(2), nor of /proc and /sys.
//
// An observer is a standing thing, as a Watch and a Timer are: it keeps run() going until it is closed,
// after which its handler is never called again.

namespace whorl {

// What to tell of; combine with |. A file that vanishes and lost events are always told of.
enum class FileChange : std::uint8_t {
    created = 1,     // in a directory: a file, directory, link, or a further name of a file
    modified = 2,    // written to, or truncated; once for many writes, when nothing else is between
    written = 4,     // a descriptor open for writing was closed: the file is complete
    attributes = 8,  // mode, owner, times, number of names
    moved = 16,      // renamed
    removed = 32,    // deleted: this name of it
    all = 63,        // each of these
};
// Both kinds of changes.
constexpr FileChange operator|(FileChange a, FileChange b) noexcept {
    return static_cast<FileChange>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}
// Whether `bit`, or any of several, is in `set`.
constexpr bool has(FileChange set, FileChange bit) noexcept {
    return (static_cast<std::uint8_t>(set) & static_cast<std::uint8_t>(bit)) != 0;
}

// Names what one add() observes. Lifetime: a value; it is never reused within its observer.
struct ObservedFile {
    std::uint64_t number = 0;  // 0: none
    friend constexpr bool operator==(ObservedFile a, ObservedFile b) noexcept {
        return a.number == b.number;
    }
};

// Something that has happened. Valid until the handler returns.
struct FileEvent {
    // What has happened: to `path`, to what was given to add(), or to the observer.
    enum class Kind : std::uint8_t {
        created,     // as FileChange::created, and so the next three
        modified,    // by write(2), truncate(2) and the like
        written,     // and closed: complete
        attributes,  // mode, owner, times, number of names
        moved,       // from `from` to `path`, both observed
        moved_away,  // `path` has gone to where nobody observes
        moved_here,  // `path` has come from where nobody observes
        removed,     // `path` is gone
        // Of what was given to add(): `path` is empty.
        gone,       // removed, with the last name and descriptor; it is not observed any more
        renamed,    // it has another name now. A file or directory stays observed, a tree does not
        unmounted,  // its file system went; it is not observed any more
        ready,      // a tree: all directories that were there are observed now
        // Of the observer: `observed` is null.
        overflow,  // events were lost: look yourself. A tree finds its new directories by itself
        failed,    // `error`: a directory of a tree (`path`) cannot be observed; or, with a null
                   // `observed`, the observer itself, which is closed and calls nothing more
    };
    Kind kind;                        // what has happened
    bool directory = false;           // what `path` names is one
    ObservedFile observed = {};       // of which add(); null: of the observer
    std::string_view path = {};       // relative to what was given to add(); empty: that itself
    ObservedFile from_observed = {};  // of `moved`: of which add() `from` is
    std::string_view from = {};       // of `moved`
    Error error = {};                 // of `failed`
};

// What one add() observes.
struct ObserveOptions {
    FileChange changes = FileChange::all;  // none is invalid_argument
    bool tree = false;  // a directory with all directories below it, those that are made later, too
};

// How an observer tells of moves.
struct FileObserverOptions {
    // The kernel tells of the two halves of a move one after the other. When the second is not there yet,
    // the first waits so long for it before it is told as moved_away.
    Nanoseconds pair_wait = std::chrono::milliseconds(10);
};

namespace detail {

class FileObserverState;

class WHORL_EXPORT FileListener : public Allocated<FileListener> {
  public:
    FileListener() = default;
    FileListener(const FileListener&) = delete;
    FileListener& operator=(const FileListener&) = delete;
    virtual ~FileListener() = default;
    virtual void event(Loop& loop, const FileEvent& event) = 0;
};

template <class Handler>
class FileHandler final : public FileListener {
  public:
    explicit FileHandler(Handler&& handler) : handler_(std::move(handler)) {}
    void event(Loop& loop, const FileEvent& event) override { handler_call(handler_, loop, event); }

  private:
    Handler handler_;
};

}  // namespace detail

// Lifetime: a value that owns nothing; once the observer is closed, all calls answer so.
// Thread: the loop's (asserted).
class FileObserver {
  public:
    FileObserver() noexcept = default;

    // Observes a file, or a directory and what is in it, or a tree. A symbolic link is followed. The path
    // is kept for trees; a relative one must mean the same as long as the tree is observed.
    // A tree is walked over in the background (LoopOptions::work_threads), one directory at a time;
    // `ready` says that it is done. For a directory that appears later everything in it is told as
    // created, and may be told again by an event of its own, in either order. Symbolic links in it are not followed.
    // Errors: stale_handle (closed), EEXIST (this observer has it already, maybe by another name),
    //   watches_exhausted, ENOENT, ENOTDIR (a tree of no directory), EACCES (not readable), ELOOP,
    //   ENAMETOOLONG, ENOMEM, invalid_argument (no change is asked for, or a zero byte in the path).
    // Limits: each file, directory and directory of a tree takes one of the user's
    //   fs.inotify.max_user_watches; paths of a tree below 4096 bytes, deeper ones are told as `failed`.
    // Cost: a system call that looks up a path, so that it may wait for a disk, here and for each
    //   directory of a tree; memory for each. Source: inotify_add_watch(2).
    WHORL_EXPORT Result<ObservedFile> add(Loop& loop, std::string_view path,
                                          const ObserveOptions& options) const;
    // No event of it follows. False: it is not observed (any more).
    WHORL_EXPORT bool remove(Loop& loop, ObservedFile observed) const;
    // The handler is never called again; it is destroyed at once, or after it returns when the call comes
    // from inside it. False: it was closed before.
    WHORL_EXPORT bool close(Loop& loop) const noexcept;

  private:
    friend class detail::FileObserverState;
    Watch watch_;
    detail::FileObserverState* state_ = nullptr;  // lives as long as watch_ is known to the loop
};

namespace detail {
// Takes over `listener`, also when it is refused; null stands for memory that was not there.
WHORL_EXPORT Result<FileObserver> file_observer_open(Loop& loop, const FileObserverOptions& options,
                                                     FileListener* listener);
}  // namespace detail

// Makes an observer of nothing yet.
// Calls: handler(Loop&, const FileEvent&) for each event, in the kernel's order, but for the first half
//   of a move, which waits for the second; from the loop's dispatch. The paths of an event last until the
//   handler returns. An exception that leaves the handler loses no event, nor does a full queue of posts.
// Errors: observers_exhausted (fs.inotify.max_user_instances, RLIMIT_NOFILE), ENFILE, slots_exhausted,
//   loop_closed, ENOMEM. To the handler: `failed` with ENOMEM (the descriptor cannot be watched, or there
//   is no memory for a directory that came to a tree: it is left out, and what is in it).
// Limits: between two turns the kernel keeps fs.inotify.max_queued_events (16,384); then `overflow`.
//   Equal events one after the other are told once.
// Cost: the heap, at most 17 KiB; a watch and a timer; a system call a turn with events; no allocation
//   for an event, but for a directory that comes to a tree. The end of a directory that was moved out of a
//   tree costs O(n) of its n directories. Source: inotify(7).
template <class Handler>
Result<FileObserver> observe_files(Loop& loop, const FileObserverOptions& options,
                                   Handler&& handler) {
    using Stored = std::decay_t<Handler>;
    static_assert(detail::handler_accepts<Stored, Loop&, const FileEvent&>(),
                  "whorl: this handler cannot be called with (Loop&, const FileEvent&)");
    return detail::file_observer_open(
        loop, options,
        new (std::nothrow) detail::FileHandler<Stored>(Stored(std::forward<Handler>(handler))));
}
// As above, with the default options.
template <class Handler>
Result<FileObserver> observe_files(Loop& loop, Handler&& handler) {
    return observe_files(loop, FileObserverOptions(), std::forward<Handler>(handler));
}

}  // namespace whorl
