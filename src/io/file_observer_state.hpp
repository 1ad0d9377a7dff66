// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include "backend/file_calls.hpp"
#include "base/hook_containers.hpp"
#include "loop/core.hpp"

#include <whorl/file.hpp>
#include <whorl/file_observer.hpp>
#include <whorl/names.hpp>

#include <sys/inotify.h>

#include <cstdint>
#include <memory>

namespace whorl::detail {

// What the kernel watches under one number. Nodes of a tree know the directory they are in; the paths of
// events are put together from there, so that moving a directory is one change.
struct ObservedNode {
    int number = -1;
    ObservedNode* parent = nullptr;  // null: it was given to add()
    HookString name;                 // in the parent; of a root the path that was given
    std::uint64_t root = 0;
    FileChange changes = FileChange::all;
    bool tree = false;
    bool waits = false;       // for its turn to be walked over
    bool unseen = false;      // a walk was to tell of all that is in it, and did not find it
    bool ready = false;       // of a tree's root: told
    std::uint32_t scans = 0;  // of a tree's root: directories that wait to be walked over
};

// The first half of a move that waits for the second.
struct HalfMove {
    std::uint32_t cookie = 0;  // 0: none
    int number = -1;
    bool directory = false;
    Instant until{};
    HookString name;
};

// Owned by the handlers that lead to it: of the watch for as long as the observer is open, of the timer of
// half moves, and of the operation that walks over a directory.
class FileObserverState : public std::enable_shared_from_this<FileObserverState> {
  public:
    static Result<FileObserver> open(Loop& loop, const FileObserverOptions& options,
                                     std::unique_ptr<FileListener> listener);
    FileObserverState(Loop& loop, const FileObserverOptions& options,
                      std::unique_ptr<FileListener> listener) noexcept
        : system_(loop.core().system), listener_(std::move(listener)),
          pair_wait_(options.pair_wait) {}
    ~FileObserverState() { close_descriptor(); }
    FileObserverState(const FileObserverState&) = delete;
    FileObserverState& operator=(const FileObserverState&) = delete;

    Result<ObservedFile> add(Loop& loop, std::string_view path, const ObserveOptions& options);
    bool remove(Loop& loop, ObservedFile observed);
    void close(Loop& loop) noexcept;

  private:
    // --- events (file_observer.cpp)
    void readable(Loop& loop, const Watched& watched);
    void fail(Loop& loop, Error error);
    void pump(Loop& loop);
    void translate(Loop& loop, const inotify_event& raw, std::string_view name);
    void translate_self(Loop& loop, ObservedNode& node, std::uint32_t mask);
    void translate_change(Loop& loop, ObservedNode& node, std::uint32_t mask,
                          std::string_view name);
    void move_away(Loop& loop, const inotify_event& raw, std::string_view name);
    void move_here(Loop& loop, ObservedNode& node, const inotify_event& raw, std::string_view name);
    void end_half(Loop& loop, HalfMove& half);
    void end_halves(Loop& loop, bool all);
    void arm_halves(Loop& loop);
    void overflow(Loop& loop);
    void tell(Loop& loop, FileEvent::Kind kind, ObservedNode& node, std::string_view name,
              bool directory, Error error = {});
    void deliver(Loop& loop, FileEvent& event);
    void go_on_later(Loop& loop);

    // --- nodes
    ObservedNode* node_of(int number) noexcept;
    ObservedNode* root_of(std::uint64_t root) noexcept;
    ObservedNode* child_of(const ObservedNode& parent, std::string_view name) noexcept;
    static bool is_below(const ObservedNode& node, const ObservedNode& above) noexcept;
    static void path_into(HookString& path, const ObservedNode& node, std::string_view name);
    void full_path_into(HookString& path, const ObservedNode& node, std::string_view name);
    void drop_below(const ObservedNode& above);
    void drop(int number);
    void drop_child(const ObservedNode& parent, std::string_view name, bool directory);
    Result<int> watch_path(const char* path, FileChange changes, std::uint32_t how) noexcept;

    // --- trees (observed_tree.cpp)
    enum class Placed : std::uint8_t { nowhere, same, elsewhere, fresh };
    struct Place {
        ObservedNode* node = nullptr;
        Placed how = Placed::nowhere;
    };
    Place place(Loop& loop, ObservedNode& parent, std::string_view name);
    void came(Loop& loop, ObservedNode& parent, std::string_view name);
    enum class Finds : std::uint8_t {
        old,    // what was there when the tree was added: nothing is told
        news,   // what came with its directory: all is told
        either  // after a move, or lost events: what is in directories not known before is told
    };
    struct Scan {
        int number;
        std::uint64_t root;
        Finds finds;
    };
    void scan_later(Loop& loop, ObservedNode& node, Finds finds);
    void scan_below(Loop& loop, ObservedNode& node);
    void scan_all(Loop& loop);
    void scan_next(Loop& loop);
    void scan_opened(Loop& loop, const OpenFile::Done& done);
    void scan_list(Loop& loop, Buffer buffer);
    void scan_listed(Loop& loop, ListDirectory::Done done);
    void scan_entries(Loop& loop, const Buffer& buffer);
    void scan_entry(Loop& loop, ObservedNode& node, const DirectoryEntry& entry);
    void scan_failed(Loop& loop, Error error);
    void scan_again(Loop& loop);
    void tell_ready(Loop& loop);
    struct Ended;
    void scan_ended(Loop& loop);

    static constexpr std::size_t halves_max = 16;

    System& system_;
    std::unique_ptr<FileListener> listener_;
    Nanoseconds pair_wait_;
    int fd_ = -1;
    Watch watch_;
    bool closed_ = false;
    HookMap<int, ObservedNode> nodes_;
    std::uint64_t roots_ = 0;

    std::size_t at_ = 0, size_ = 0;  // of what was read: told up to here
    bool posted_ = false;            // go_on_later() will run
    HalfMove halves_[halves_max];
    Timer halves_timer_;
    HookString path_, from_, full_;  // kept for their memory

    HookDeque<Scan> scans_;
    bool scanning_ = false;
    Scan scan_{};
    File directory_;
    Operation operation_;

    void close_descriptor() noexcept {
        if (fd_ >= 0) static_cast<void>(system_.close(fd_));
        fd_ = -1;
    }

    alignas(inotify_event) char buffer_[16384];
};

}  // namespace whorl::detail
