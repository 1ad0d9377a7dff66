// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include "backend/file_calls.hpp"
#include "base/counted_ref.hpp"
#include "base/hook_text.hpp"
#include "io/observed_nodes.hpp"
#include "loop/core.hpp"

#include <whorl/file.hpp>
#include <whorl/file_observer.hpp>
#include <whorl/names.hpp>

#include <limits.h>
#include <sys/inotify.h>

#include <cstdint>
#include <memory>
#include <string_view>

namespace whorl::detail {

// The first half of a move that waits for the second.
struct HalfMove {
    std::uint32_t cookie = 0;  // 0: none
    int number = -1;
    bool directory = false;
    Instant until{};
    std::size_t size = 0;
    char text[NAME_MAX];

    std::string_view name() const noexcept { return {text, size}; }
};

// Owned by the handlers that lead to it: of the watch and of the timer for as long as the observer is open,
// and of the operation that walks over a directory.
class FileObserverState : public Counted, public Allocated<FileObserverState> {
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
    void end_half_at(Loop& loop, ObservedNode& node, std::string_view name, bool directory);
    void end_halves(Loop& loop);
    void aim(Loop& loop) noexcept;
    void overflow(Loop& loop);
    void tell(Loop& loop, FileEvent::Kind kind, ObservedNode& node, std::string_view name,
              bool directory, Error error = {});
    void tell_lost(Loop& loop);
    void deliver(Loop& loop, FileEvent& event);
    struct Rest;
    void wake(Loop& loop) noexcept;
    void later(Loop& loop);

    // --- nodes
    ObservedNode* node_of(int number) noexcept;
    ObservedNode* root_of(std::uint64_t root) noexcept;
    ObservedNode* child_of(const ObservedNode& parent, std::string_view name) noexcept;
    static bool is_below(const ObservedNode& node, const ObservedNode& above) noexcept;
    enum class From : std::uint8_t { root, whole };
    static std::size_t path_size(const ObservedNode& node, std::string_view name,
                                 From from) noexcept;
    static bool path_into(HookText& path, const ObservedNode& node, std::string_view name,
                          From from = From::root) noexcept;
    bool room_for(const ObservedNode& node) noexcept;
    bool room_below(const ObservedNode& above) noexcept;
    void drop_below(const ObservedNode& above) noexcept;
    void drop(ObservedNode& node) noexcept;
    void drop_child(const ObservedNode& parent, std::string_view name, bool directory) noexcept;
    Result<int> watch_path(const char* path, FileChange changes, std::uint32_t how) noexcept;

    // --- trees (observed_tree.cpp)
    enum class Placed : std::uint8_t { nowhere, same, elsewhere, fresh };
    struct Place {
        ObservedNode* node = nullptr;
        Placed how = Placed::nowhere;
    };
    Place place(Loop& loop, ObservedNode& parent, std::string_view name);
    ObservedNode* place_new(const Result<int>& number, ObservedNode& parent,
                            std::string_view name) noexcept;
    bool place_again(ObservedNode& node, ObservedNode& parent, std::string_view name) noexcept;
    void came(Loop& loop, ObservedNode& parent, std::string_view name);
    struct Scan {
        int number;
        std::uint64_t root;
        Finds finds;
    };
    void scan_later(Loop& loop, ObservedNode& node, Finds finds) noexcept;
    void scan_below(Loop& loop, ObservedNode& node) noexcept;
    void scan_all(Loop& loop) noexcept;
    void scan_next(Loop& loop) noexcept;
    Error scan_begin(Loop& loop, ObservedNode& node) noexcept;
    void scan_go_on(Loop& loop);
    void scan_opened(Loop& loop, const OpenFile::Done& done);
    void scan_list(Loop& loop, Buffer buffer);
    void scan_listed(Loop& loop, ListDirectory::Done done);
    void scan_entries(Loop& loop, const Buffer& buffer);
    void scan_entry(Loop& loop, ObservedNode& node, const DirectoryEntry& entry);
    void scan_failed(Loop& loop, Error error);
    void scan_again(Loop& loop) noexcept;
    void tell_ready(Loop& loop);
    struct Ended;
    void scan_ended(Loop& loop) noexcept;
    void scan_counted(Loop& loop, std::uint64_t number) noexcept;

    static constexpr std::size_t halves_max = 16;

    System& system_;
    std::unique_ptr<FileListener> listener_;
    Nanoseconds pair_wait_;
    int fd_ = -1;
    Watch watch_;
    bool closed_ = false;
    ObservedNodes nodes_;
    std::uint64_t roots_ = 0;

    // What cannot be done at once is done by this timer, which stands for as long as the observer is open:
    // it needs no room when it is needed.
    Timer timer_;
    Instant aimed_ = instant_never;

    std::size_t at_ = 0, size_ = 0;    // of what was read: told up to here
    HalfMove halves_[halves_max + 1];  // one at least is free
    HookText path_, from_, full_;      // with room for each node's path and a name in it

    bool scanning_ = false;
    Scan scan_{};
    Error scan_refused_;  // why it was not begun
    File directory_;
    Operation operation_;

    void close_descriptor() noexcept {
        if (fd_ >= 0) static_cast<void>(system_.close(fd_));
        fd_ = -1;
    }

    alignas(inotify_event) char buffer_[11264];
};
static_assert(sizeof(FileObserverState) <= std::size_t{17} * 1024, "as file_observer.hpp says");

}  // namespace whorl::detail
