// SPDX-License-Identifier: MIT
// Floor: 5
#include "io/tree_state.hpp"

#include "base/hook_containers.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

// The way down and through the directories; the way back up is in tree_back.cpp.

namespace whorl {

namespace detail {

namespace {

using Kind = TreeEvent::Kind;
using Type = DirectoryEntry::Type;

Type type_of(const FileStatus& status) noexcept {
    if (status.is_directory()) return Type::directory;
    if (status.is_link()) return Type::link;
    return status.is_regular() ? Type::regular : Type::other;
}

bool is_gone(Error error) noexcept { return error == Error::from_errno(ENOENT); }

}  // namespace

TreeState::TreeState(std::string_view path, const TreeOptions& options, bool removes,
                     std::unique_ptr<TreeListener> listener)
    : listener_(std::move(listener)), options_(options), removes_(removes), root_(path),
      path_(path), name_(path) {}

// --- what every step uses

void TreeState::ended(Error error) noexcept {
    --under_way_;
    error_ = error;
    if (error == Error::cancelled || error == Error::timed_out) stop_error_ = error;
}

void TreeState::stat(Loop& loop, std::string_view name, bool follow, File directory,
                     TreeStep next) {
    submit(loop, "stat", Stat{name, follow, directory}, next,
           [](TreeState& self, const Stat::Done& done) { self.status_ = done.status; });
}

void TreeState::close(Loop& loop, File& file) noexcept {
    if (!file) return;
    static_cast<void>(loop.close(file));
    file = File();
    --open_;
}

// The path of a name in the present directory; of nothing, its own.
void TreeState::set_path(std::string_view name) {
    told_ = path_;
    if (name.empty() || frames_.empty()) return;
    if (told_.back() != '/') told_ += '/';
    told_ += name;
}

TreeNext TreeState::tell(Loop& loop, TreeEvent& event) {
    event.path = told_;
    event.relative = event.path.substr(std::min(root_.size(), told_.size()));
    if (!event.relative.empty() && event.relative.front() == '/') event.relative.remove_prefix(1);
    const TreeNext next = listener_->event(loop, event);
    if (next == TreeNext::stop) stopped_ = true;
    if (next == TreeNext::pause) paused_ = true;
    return next;
}

void TreeState::tell_found(Loop& loop, Kind kind, std::string_view name, Type type) {
    set_path(name);
    TreeEvent event{kind};
    event.type = type;
    event.depth = static_cast<std::uint32_t>(frames_.size());
    event.directory = frames_.empty() ? File() : here();
    event.name = name;
    ++entries_;
    if (tell(loop, event) == TreeNext::skip) skipped_ = true;
}

void TreeState::fail(Loop& loop, const char* operation, std::string_view name, Error error) {
    if (!frames_.empty()) top().failed = true;
    if (failures_++ == 0) {
        first_error_ = error;
        first_operation_ = operation;
    }
    set_path(name);
    TreeEvent event{Kind::failed};
    event.error = error;
    event.operation = operation;
    event.depth = static_cast<std::uint32_t>(frames_.size());
    static_cast<void>(tell(loop, event));
}

// --- the machine

Error TreeState::begin(Loop& loop) {
    loop.core().check_thread();
    const auto within_limits = [](std::uint32_t value, std::uint32_t least) {
        return value >= least && value <= 1024;
    };
    const bool usable = !root_.empty() && within_limits(options_.descriptors_max, 3) &&
                        within_limits(options_.removals_max, 1);
    if (!usable) return Error::invalid_argument;
    if (listener_ == nullptr) return Error::from_errno(ENOMEM);
    SubmitOptions& submit = options_.submit;
    if (submit.within != Nanoseconds::max()) {
        const Instant end = add_saturating(loop.core().system.now(), submit.within);
        submit.deadline = std::min(submit.deadline, end);
        submit.within = Nanoseconds::max();
    }
    auto seen = [self = shared_from_this()](Loop& here, const Stat::Done& done) {
        self->ended(done.error);
        self->status_ = done.status;
        self->run(here);
    };
    const bool follow = options_.follow && !removes_;
    const Result<Operation> made =
        loop.submit(Stat{root_, follow, options_.directory}, submit, std::move(seen));
    if (!made) return made.error();
    operation_ = *made;
    ++under_way_;
    step_ = TreeStep::looked;
    return {};
}

void TreeState::cancel(Loop& loop) {
    cancelled_ = true;
    stop_error_ = Error::cancelled;
    static_cast<void>(loop.cancel(operation_));
    // When no post is taken the timer that owns it ends it.
    if (paused_ && under_way_ == 0 && go_on(loop)) {
        static_cast<void>(loop.move(waiting_, Nanoseconds::zero()));
    }
    paused_ = false;
}

// While it is paused a timer owns it, and ends it at its deadline.
bool TreeState::pause(Loop& loop) {
    if (under_way_ != 0) return true;
    auto over = [self = shared_from_this()](Loop& here, const Expired&) {
        if (!self->stop_error_) self->stop_error_ = Error::timed_out;
        self->paused_ = false;
        self->run(here);
    };
    const Result<Timer> timer = loop.at(options_.submit.deadline, std::move(over));
    if (timer) waiting_ = *timer;
    else stop_error_ = timer.error();
    return bool(timer);
}

Error TreeState::go_on(Loop& loop) {
    Error error = loop.post([self = shared_from_this()](Loop& here) { self->run(here); });
    if (error) return error;  // as it was: a pause stays one, and its timer the owner
    static_cast<void>(loop.cancel(waiting_));
    paused_ = false;
    return {};
}

// Takes steps until one waits. A handler that throws leaves the rest to a later turn.
void TreeState::run(Loop& loop) {
    struct Rest {
        TreeState& state;
        Loop& loop;
        bool unfinished = true;
        ~Rest() {  // NOLINT(bugprone-exception-escape): only std::bad_alloc
            state.running_ = false;
            if (unfinished) static_cast<void>(state.go_on(loop));
        }
    };
    if (running_ || listener_ == nullptr) return;
    const auto self = shared_from_this();
    Rest rest{*this, loop};
    running_ = true;
    while (listener_ != nullptr) {
        if (stop_error_ || stopped_) step_ = TreeStep::end;
        else if (paused_) {
            rest.unfinished = !pause(loop);
            return;
        }
        const std::uint32_t most = step_ == TreeStep::entries ? options_.removals_max : 1;
        if (under_way_ >= most) break;
        take(loop, step_);
    }
    rest.unfinished = false;
}

void TreeState::take(Loop& loop, TreeStep step) {
    switch (step) {
        case TreeStep::look:
        case TreeStep::looked:
            return looked(loop);
        case TreeStep::enter:
            return enter(loop);
        case TreeStep::open:
            return open(loop);
        case TreeStep::room:
            return room_looked(loop);
        case TreeStep::opened:
            return opened(loop);
        case TreeStep::identify:
            return identified(loop);
        case TreeStep::unopened:
            return unopened(loop);
        case TreeStep::list:
            return list(loop);
        case TreeStep::listed:
            return listed(loop);
        case TreeStep::entries:
            return entries(loop);
        case TreeStep::classify: {
            step_ = TreeStep::entries;
            const bool leads_nowhere = is_gone(error_) || error_ == Error::from_errno(ELOOP);
            if (followed_ && leads_nowhere) return entry(loop, name_, Type::link);
            if (is_gone(error_)) return;
            if (error_) return fail(loop, "stat", name_, error_);
            return entry(loop, name_, type_of(status_));
        }
        default:
            return take_way_back(loop, step);
    }
}

// --- down

void TreeState::looked(Loop& loop) {
    step_ = TreeStep::end;
    if (removes_ && is_gone(error_)) return;
    if (error_) return fail(loop, "stat", {}, error_);
    const Type type = type_of(status_);
    if (type == Type::directory && (removes_ || options_.depth_max != 0)) {
        step_ = TreeStep::enter;
        return;
    }
    if (removes_) return unlink(loop, root_, options_.directory);
    tell_found(loop, Kind::entry, root_, type);
}

void TreeState::enter(Loop& loop) {
    step_ = TreeStep::open;
    if (!removes_) tell_found(loop, Kind::enter, name_, Type::directory);
}

void TreeState::open(Loop& loop) {
    if (std::exchange(skipped_, false)) {
        step_ = TreeStep::after;
        return;
    }
    // One more than this is opened on the way back.
    if (open_ + 1 >= options_.descriptors_max) {
        if (options_.follow && !removes_) {  // behind a link, ".." leads elsewhere
            step_ = TreeStep::after;
            return fail(loop, "open", name_, Error::from_errno(EMFILE));
        }
        const auto is_open = [](const TreeFrame& frame) { return bool(frame.file); };
        const auto first = std::find_if(frames_.begin(), frames_.end(), is_open);
        WHORL_ASSERT(first != frames_.end() && first + 1 != frames_.end());
        room_ = static_cast<std::size_t>(first - frames_.begin());
        if (!first->known) return stat(loop, {}, true, first->file, TreeStep::room);
        return close(loop, first->file);
    }
    const bool root = frames_.empty();
    const int follow = options_.follow && !removes_ ? 0 : O_NOFOLLOW;
    OpenFile directory{root ? std::string_view(root_) : name_, O_RDONLY | O_DIRECTORY | follow};
    directory.directory = here();
    submit(loop, "open", std::move(directory), TreeStep::opened,
           [](TreeState& self, const OpenFile::Done& done) {
               self.file_ = done.file;
               if (done.file) ++self.open_;
           });
}

// Its identity is known, and with it open() closes it. Otherwise there is no room for one more.
void TreeState::room_looked(Loop& loop) {
    if (error_) {
        step_ = TreeStep::after;
        return fail(loop, "stat", name_, error_);
    }
    step_ = TreeStep::open;
    frames_[room_].known = true;
    frames_[room_].device = status_.device;
    frames_[room_].inode = status_.inode;
}

void TreeState::opened(Loop& loop) {
    if (error_) {
        open_error_ = error_;
        step_ = TreeStep::after;
        if (is_gone(error_)) return;
        if (!removes_) return fail(loop, "open", name_below(), error_);
        RemoveDirectory empty{frames_.empty() ? root_ : name_};
        empty.directory = here();
        return submit(loop, "rmdir", std::move(empty), TreeStep::unopened,
                      [](TreeState&, const NameDone&) {});
    }
    set_path(name_);
    path_ = told_;
    frames_.emplace_back();
    top().name = name_;
    top().file = std::exchange(file_, File());
    top().path_size = path_.size();
    step_ = TreeStep::list;
    rewind_ = false;
    if (options_.follow && !removes_) stat(loop, {}, true, top().file, TreeStep::identify);
}

// A directory that is above itself is reached by a symbolic link only.
void TreeState::identified(Loop& loop) {
    step_ = TreeStep::list;
    top().known = !error_;
    top().device = status_.device;
    top().inode = status_.inode;
    const auto same = [this](const TreeFrame& frame) {
        return frame.known && frame.device == status_.device && frame.inode == status_.inode;
    };
    if (error_ || std::find_if(frames_.begin(), frames_.end() - 1, same) == frames_.end() - 1)
        return;
    step_ = TreeStep::pop;
    fail(loop, "open", {}, Error::from_errno(ELOOP));
}

// It could not be read, but may be empty.
void TreeState::unopened(Loop& loop) {
    step_ = TreeStep::after;
    if (is_gone(error_)) return;
    if (error_) return fail(loop, "open", name_below(), open_error_);
    ++entries_;
    if (!frames_.empty()) top().removed = true;
}

// --- through one directory

void TreeState::list(Loop& loop) {
    ListDirectory names{top().file, std::move(buffer_), std::exchange(rewind_, false)};
    if (!names.buffer) names.buffer = loop.buffer(32768);
    submit(
        loop, "list", std::move(names), TreeStep::listed,
        [](TreeState& self, ListDirectory::Done& done) { self.buffer_ = std::move(done.buffer); });
}

void TreeState::listed(Loop& loop) {
    step_ = TreeStep::descend;
    if (is_gone(error_)) return;
    if (error_) return fail(loop, "list", {}, error_);
    if (buffer_.empty()) return;
    batch_ = DirectoryBatch(buffer_);
    step_ = TreeStep::entries;
}

void TreeState::entries(Loop& loop) {
    DirectoryEntry next;
    if (!batch_.next(next)) {
        step_ = TreeStep::list;
        return;
    }
    followed_ = next.type == Type::link && options_.follow && !removes_;
    if (next.type != Type::unknown && !followed_) return entry(loop, next.name, next.type);
    name_ = next.name;
    stat(loop, name_, followed_, here(), TreeStep::classify);
}

void TreeState::entry(Loop& loop, std::string_view name, Type type) {
    if (type == Type::directory && (removes_ || frames_.size() < options_.depth_max)) {
        top().below.emplace_back(name);
        return;
    }
    if (removes_) return unlink(loop, name, here());
    tell_found(loop, Kind::entry, name, type);
}

void TreeState::unlink(Loop& loop, std::string_view name, File directory) {
    Unlink removal{name, directory};
    auto removed = [self = shared_from_this()](Loop& there, const NameDone& done) {
        self->ended(done.error);
        self->unlinked(there, done);
    };
    const Result<Operation> made =
        loop.submit(std::move(removal), options_.submit, std::move(removed));
    if (made) {
        ++under_way_;
        return;
    }
    stop_error_ = made.error();
    fail(loop, "unlink", name, made.error());
}

void TreeState::unlinked(Loop& loop, const NameDone& done) {
    struct Then {
        TreeState& state;
        Loop& loop;
        bool threw = true;
        ~Then() {  // NOLINT(bugprone-exception-escape): only std::bad_alloc
            if (threw) static_cast<void>(state.go_on(loop));
        }
    };
    Then then{*this, loop};
    if (!done.error) ++entries_;
    if (!frames_.empty() && (!done.error || is_gone(done.error))) top().removed = true;
    const bool fails = done.error && !is_gone(done.error) && !stop_error_;
    if (fails) fail(loop, "unlink", done.paths.first(), done.error);
    then.threw = false;
    run(loop);
}

Result<TreeTask> tree_begin(Loop& loop, std::string_view path, const TreeOptions& options,
                            bool removes, std::unique_ptr<TreeListener> listener) {
    const auto state = hook_shared<TreeState>(path, options, removes, std::move(listener));
    if (Error error = state->begin(loop)) return error;
    return TreeTask(state);
}

}  // namespace detail

bool TreeTask::cancel(Loop& loop) const {
    const auto state = task_.lock();
    if (state == nullptr) return false;
    state->cancel(loop);
    return true;
}

Error TreeTask::go_on(Loop& loop) const {
    const auto state = task_.lock();
    return state == nullptr ? Error(Error::stale_handle) : state->go_on(loop);
}

}  // namespace whorl
