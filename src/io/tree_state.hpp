// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include "base/hook_containers.hpp"
#include "loop/core.hpp"

#include <whorl/tree.hpp>

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

namespace whorl::detail {

// A walk is a machine whose steps are taken by run() until one of them waits for an operation. `step_` says
// what is next before a handler is called or an operation submitted, so that the walk goes on there
// whatever becomes of either.
//
//   step         does                                     next
//   look         stat of what was given                   looked
//   looked       a directory, or a single entry           enter, end
//   enter        tells of a directory                     open
//   open         makes room, opens it                     room, opened
//   room         closes the uppermost one                 open, after
//   opened       the directory is the present one         identify, list, unopened, after
//   identify     compares it with those above (follow)    list, pop
//   unopened     removes what could not be opened         after
//   list         a batch of names                         listed
//   listed       is there one                             entries, descend
//   entries      each name of it                          classify, list
//   classify     the type of one that is not told         entries
//   descend      the next directory in the present one    enter, finish
//   finish       opens the one above again                climbed, leave
//   climbed      is it the one                            checked
//   checked      yes                                      leave
//   leave        tells, or removes                        left, pop
//   left         is it removed                            list (again), pop
//   pop          the one above is the present one         after
//   after        what follows a directory                 descend, end
//   end          tells that it is done
enum class TreeStep : std::uint8_t {
    look,
    looked,
    enter,
    open,
    room,
    opened,
    identify,
    unopened,
    list,
    listed,
    entries,
    classify,
    descend,
    finish,
    climbed,
    checked,
    leave,
    left,
    pop,
    after,
    end,
};

// A directory from the root to the present one.
struct TreeFrame {
    HookString name;
    File file;  // null: closed for want of descriptors
    std::uint64_t device = 0, inode = 0;
    bool known = false;            // the two above are
    HookVector<HookString> below;  // directories in it that are to be entered
    std::size_t next = 0;          // of them
    bool failed = false;           // something in it is left
    bool removed = false;          // something in it was removed in this round
    std::uint32_t rounds = 0;
    std::size_t path_size = 0;  // of the path that ends with it
};

class TreeState : public std::enable_shared_from_this<TreeState> {
  public:
    TreeState(std::string_view path, const TreeOptions& options, bool removes,
              std::unique_ptr<TreeListener> listener);

    Error begin(Loop& loop);
    void cancel(Loop& loop);
    Error go_on(Loop& loop);

  private:
    void run(Loop& loop);
    bool pause(Loop& loop);
    void take(Loop& loop, TreeStep step);
    void take_way_back(Loop& loop, TreeStep step);

    void looked(Loop& loop);
    void enter(Loop& loop);
    void open(Loop& loop);
    void room_looked(Loop& loop);
    void opened(Loop& loop);
    void identified(Loop& loop);
    void unopened(Loop& loop);
    void list(Loop& loop);
    void listed(Loop& loop);
    void entries(Loop& loop);
    void entry(Loop& loop, std::string_view name, DirectoryEntry::Type type);
    void descend();
    void finish(Loop& loop);
    void climbed(Loop& loop);
    void checked(Loop& loop);
    void leave(Loop& loop);
    void left(Loop& loop);
    void pop(Loop& loop);
    void end(Loop& loop);

    template <class Op, class Keep>
    void submit(Loop& loop, const char* name, Op&& operation, TreeStep next, Keep keep);
    void stat(Loop& loop, std::string_view name, bool follow, File directory, TreeStep next);
    void unlink(Loop& loop, std::string_view name, File directory);
    void unlinked(Loop& loop, const NameDone& done);
    void ended(Error error) noexcept;
    void fail(Loop& loop, const char* operation, std::string_view name, Error error);
    TreeNext tell(Loop& loop, TreeEvent& event);
    void tell_found(Loop& loop, TreeEvent::Kind kind, std::string_view name,
                    DirectoryEntry::Type type);
    void set_path(std::string_view name);
    void close(Loop& loop, File& file) noexcept;
    TreeFrame& top() noexcept { return frames_.back(); }
    // What was given has no name in it.
    std::string_view name_below() const noexcept {
        return frames_.empty() ? std::string_view() : std::string_view(name_);
    }
    File here() const noexcept {
        return frames_.empty() ? options_.directory : frames_.back().file;
    }

    static constexpr std::uint32_t rounds_max = 100;

    std::unique_ptr<TreeListener> listener_;  // null: done
    TreeOptions options_;
    bool removes_;
    HookString root_;
    HookString path_;  // of the present directory
    HookString told_;  // of what is told
    HookString name_;  // of what is looked at
    HookVector<TreeFrame> frames_;
    std::uint32_t open_ = 0;  // of the frames

    TreeStep step_ = TreeStep::look;
    std::uint32_t under_way_ = 0;
    Operation operation_;
    bool paused_ = false;
    Timer waiting_;  // owns it while it is paused
    bool stopped_ = false;
    bool skipped_ = false;
    bool followed_ = false;  // what is looked at is what a link leads to
    bool cancelled_ = false;
    bool running_ = false;

    // What the last operation answered.
    Error error_;
    FileStatus status_;
    File file_;
    std::size_t room_ = 0;
    Error open_error_;
    Buffer buffer_;
    DirectoryBatch batch_{Buffer()};
    bool rewind_ = false;

    // For the end.
    Error first_error_, stop_error_;
    const char* first_operation_ = "";
    std::uint64_t entries_ = 0, failures_ = 0;
};

// Submits an operation; what it answers is kept, and the walk goes on with `next`.
template <class Op, class Keep>
void TreeState::submit(Loop& loop, const char* name, Op&& operation, TreeStep next, Keep keep) {
    using Done = typename std::decay_t<Op>::Done;
    step_ = next;
    error_ = Error();
    auto handler = [self = shared_from_this(), keep](Loop& here, Done done) {
        self->ended(done.error);
        keep(*self, done);
        self->run(here);
    };
    const Result<Operation> made =
        loop.submit(std::forward<Op>(operation), options_.submit, std::move(handler));
    if (made) {
        operation_ = *made;
        ++under_way_;
        return;
    }
    stop_error_ = made.error();
    fail(loop, name, {}, made.error());
}

}  // namespace whorl::detail
