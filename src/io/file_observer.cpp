// SPDX-License-Identifier: MIT
// Floor: 5
#include "io/file_observer_state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

// Events as they come from the kernel, and what they mean. The loop watches the descriptor; what is read
// is told event by event, and what a handler's exception leaves over is told in a later turn.
//
// Memory is asked for where it can be refused with an error: for the observer, and for each file or
// directory it knows, with the room that the paths of its events need. Only a name longer than NAME_MAX,
// which some file systems have, asks for more; without it the event is told as lost (`overflow`).

namespace whorl {

namespace detail {

namespace {

std::uint32_t mask_of(FileChange changes, bool tree) noexcept {
    std::uint32_t mask = IN_DELETE_SELF | IN_MOVE_SELF;
    if (has(changes, FileChange::created)) mask |= IN_CREATE;
    if (has(changes, FileChange::modified)) mask |= IN_MODIFY;
    if (has(changes, FileChange::written)) mask |= IN_CLOSE_WRITE;
    if (has(changes, FileChange::attributes)) mask |= IN_ATTRIB;
    if (has(changes, FileChange::moved)) mask |= IN_MOVE;
    if (has(changes, FileChange::removed)) mask |= IN_DELETE;
    if (tree) mask |= IN_CREATE | IN_MOVE;
    return mask;
}

Error meaning_of(int answer) noexcept {
    if (answer == -ENOSPC) return Error::watches_exhausted;
    return Error::from_errno(answer);
}

}  // namespace

// --- open and close

Result<FileObserver> FileObserverState::open(Loop& loop, const FileObserverOptions& options,
                                             std::unique_ptr<FileListener> listener) {
    LoopCore& core = loop.core();
    core.check_thread();
    if (listener == nullptr) return Error::from_errno(ENOMEM);
    const CountedRef<FileObserverState> state(
        new (std::nothrow) FileObserverState(loop, options, std::move(listener)));
    if (state.get() == nullptr) return Error::from_errno(ENOMEM);
    const int fd = core.system.file_calls().inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd == -EMFILE) return Error::observers_exhausted;
    if (fd < 0) return Error::from_errno(fd);
    state->fd_ = fd;
    const auto due = [state](Loop& here, const Expired&) { state->later(here); };
    const Result<Timer> timer = loop.every(Nanoseconds::max(), due);
    if (!timer) return timer.error();
    state->timer_ = *timer;
    const auto handler = [state](Loop& here, const Watched& watched) {
        state->readable(here, watched);
    };
    const Result<Watch> watch = loop.watch(fd, Interest::readable, handler);
    if (!watch) {
        static_cast<void>(loop.cancel(state->timer_));
        return watch.error();
    }
    state->watch_ = *watch;
    FileObserver observer;
    observer.watch_ = *watch;
    observer.state_ = state.get();
    return observer;
}

void FileObserverState::close(Loop& loop) noexcept {
    const CountedRef<FileObserverState> self(this);
    closed_ = true;
    static_cast<void>(loop.cancel(watch_));
    static_cast<void>(loop.cancel(timer_));
    static_cast<void>(loop.cancel(operation_));
    close_descriptor();
}

// The watch cannot go on: it is gone already.
void FileObserverState::fail(Loop& loop, Error error) {
    FileEvent event{FileEvent::Kind::failed};
    event.error = error;
    closed_ = true;
    static_cast<void>(loop.cancel(timer_));
    static_cast<void>(loop.cancel(operation_));
    close_descriptor();
    listener_->event(loop, event);
}

Result<int> FileObserverState::watch_path(const char* path, FileChange changes,
                                          std::uint32_t how) noexcept {
    const bool tree = (how & IN_ONLYDIR) != 0;
    const int number =
        system_.file_calls().inotify_add_watch(fd_, path, mask_of(changes, tree) | how);
    if (number < 0) return meaning_of(number);
    return int{number};
}

Result<ObservedFile> FileObserverState::add(Loop& loop, std::string_view path,
                                            const ObserveOptions& options) {
    const auto changes = static_cast<std::uint8_t>(options.changes);
    if (changes == 0 || path.find('\0') != std::string_view::npos) return Error::invalid_argument;
    std::unique_ptr<ObservedNode> made(new (std::nothrow) ObservedNode);
    const bool room =
        made != nullptr && made->name.assign(path) && nodes_.make_room() && room_for(*made);
    if (!room) return Error::from_errno(ENOMEM);
    const std::uint32_t how = IN_MASK_CREATE | (options.tree ? IN_ONLYDIR : 0);
    const Result<int> number = watch_path(made->name.c_str(), options.changes, how);
    if (!number) return number.error();
    made->number = *number;
    made->root = ++roots_;
    made->changes = options.changes;
    made->tree = options.tree;
    ObservedNode& node = nodes_.add(std::move(made));
    if (options.tree) scan_later(loop, node, Finds::old);
    return ObservedFile{node.root};
}

bool FileObserverState::remove(Loop&, ObservedFile observed) {
    ObservedNode* root = root_of(observed.number);
    if (root == nullptr) return false;
    drop_below(*root);
    drop(*root);
    return true;
}

// --- nodes

ObservedNode* FileObserverState::node_of(int number) noexcept { return nodes_.find(number); }

// Roots stand in front.
ObservedNode* FileObserverState::root_of(std::uint64_t root) noexcept {
    ObservedNode* node = nodes_.first();
    while (node != nullptr && node->parent == nullptr && node->root != root)
        node = nodes_.after(*node);
    return node != nullptr && node->parent == nullptr ? node : nullptr;
}

ObservedNode* FileObserverState::child_of(const ObservedNode& parent,
                                          std::string_view name) noexcept {
    for (ObservedNode* node = nodes_.first(); node != nullptr; node = nodes_.after(*node)) {
        if (node->parent == &parent && node->name.view() == name) return node;
    }
    return nullptr;
}

bool FileObserverState::is_below(const ObservedNode& node, const ObservedNode& above) noexcept {
    for (const ObservedNode* up = node.parent; up != nullptr; up = up->parent) {
        if (up == &above) return true;
    }
    return false;
}

// Of the path of `name` in `node`: from the root on, or with what was given to add() in front.
std::size_t FileObserverState::path_size(const ObservedNode& node, std::string_view name,
                                         From from) noexcept {
    std::size_t size = name.size();
    for (const ObservedNode* up = &node; up != nullptr; up = up->parent) {
        if (up->parent == nullptr && from == From::root) break;
        size += up->name.size() + (size != 0 ? 1 : 0);
    }
    return size;
}

bool FileObserverState::path_into(HookText& path, const ObservedNode& node, std::string_view name,
                                  From from) noexcept {
    if (!path.resize(path_size(node, name, from))) return false;
    char* at = path.data() + path.size() - name.size();
    name.copy(at, name.size());
    for (const ObservedNode* up = &node; up != nullptr; up = up->parent) {
        if (up->parent == nullptr && from == From::root) break;
        if (at != path.data() + path.size()) *--at = '/';
        at -= up->name.size();
        up->name.view().copy(at, up->name.size());
    }
    WHORL_ASSERT(at == path.data());
    return true;
}

// Room for the paths of all that happens in it.
bool FileObserverState::room_for(const ObservedNode& node) noexcept {
    const std::size_t size = path_size(node, {}, From::whole) + 1 + NAME_MAX;
    return path_.reserve(size) && from_.reserve(size) && full_.reserve(size);
}

bool FileObserverState::room_below(const ObservedNode& above) noexcept {
    const ObservedNode* node = nodes_.first();
    while (node != nullptr && (!is_below(*node, above) || room_for(*node)))
        node = nodes_.after(*node);
    return node == nullptr;
}

// Forgets all nodes in a directory that is not reached any more.
void FileObserverState::drop_below(const ObservedNode& above) noexcept {
    for (ObservedNode* node = nodes_.first(); node != nullptr; node = nodes_.after(*node)) {
        node->doomed = is_below(*node, above);
    }
    for (ObservedNode* node = nodes_.first(); node != nullptr;) {
        ObservedNode* const next = nodes_.after(*node);
        if (node->doomed) drop(*node);
        node = next;
    }
}

void FileObserverState::drop(ObservedNode& node) noexcept {
    static_cast<void>(system_.file_calls().inotify_rm_watch(fd_, node.number));
    nodes_.remove(node);
}

// --- reading

void FileObserverState::readable(Loop& loop, const Watched& watched) {
    if (watched.error) return fail(loop, watched.error);
    if (at_ == size_) {
        ssize_t got = -EINTR;
        while (got == -EINTR) got = system_.read(fd_, buffer_, sizeof buffer_);
        if (got == -EAGAIN) return;
        if (got < 0) {
            static_cast<void>(loop.cancel(watch_));
            return fail(loop, Error::from_errno(static_cast<int>(got)));
        }
        at_ = 0;
        size_ = static_cast<std::size_t>(got);
    }
    pump(loop);
}

// A handler that throws leaves the rest to a later turn.
struct FileObserverState::Rest {
    FileObserverState& state;
    Loop& loop;
    bool unfinished = true;
    ~Rest() {
        if (unfinished) state.wake(loop);
    }
};

// Tells what was read.
void FileObserverState::pump(Loop& loop) {
    const CountedRef<FileObserverState> self(this);
    {
        Rest rest{*this, loop};
        while (!closed_ && at_ != size_) {
            const auto* raw = reinterpret_cast<const inotify_event*>(buffer_ + at_);
            at_ += sizeof(inotify_event) + raw->len;
            WHORL_ASSERT(at_ <= size_);
            const char* name = raw->len != 0 ? reinterpret_cast<const char*>(raw + 1) : "";
            translate(loop, *raw, name);
        }
        end_halves(loop);
        rest.unfinished = false;
    }
    if (!closed_) aim(loop);
}

// later() comes with the next turns, unless the loop is drained, which has ended the timer and the watch.
void FileObserverState::wake(Loop& loop) noexcept {
    if (closed_) return;
    aimed_ = Instant::min();
    static_cast<void>(loop.move(timer_, Nanoseconds::zero()));
}

void FileObserverState::later(Loop& loop) {
    const CountedRef<FileObserverState> self(this);
    aimed_ = instant_never;
    Rest rest{*this, loop};
    pump(loop);
    if (!closed_) scan_go_on(loop);
    rest.unfinished = false;
}

// --- what they mean

void FileObserverState::translate(Loop& loop, const inotify_event& raw, std::string_view name) {
    if ((raw.mask & IN_Q_OVERFLOW) != 0) return overflow(loop);
    ObservedNode* node = node_of(raw.wd);
    if (node == nullptr) return;  // removed meanwhile
    constexpr std::uint32_t self = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED;
    if ((raw.mask & self) != 0) return translate_self(loop, *node, raw.mask);
    if ((raw.mask & IN_MOVED_FROM) != 0) return move_away(loop, raw, name);
    if ((raw.mask & IN_MOVED_TO) != 0) return move_here(loop, *node, raw, name);
    translate_change(loop, *node, raw.mask, name);
}

// Of a directory in a tree, the one that it is in tells.
void FileObserverState::translate_self(Loop& loop, ObservedNode& node, std::uint32_t mask) {
    const bool root = node.parent == nullptr;
    const bool ends = (mask & IN_IGNORED) != 0;
    if (root && (mask & IN_DELETE_SELF) != 0) {
        tell(loop, FileEvent::Kind::gone, node, {}, (mask & IN_ISDIR) != 0);
    } else if (root && (mask & IN_UNMOUNT) != 0) {
        tell(loop, FileEvent::Kind::unmounted, node, {}, (mask & IN_ISDIR) != 0);
    } else if (root && (mask & IN_MOVE_SELF) != 0) {
        FileEvent event{FileEvent::Kind::renamed};
        event.directory = node.tree || (mask & IN_ISDIR) != 0;
        event.observed = {node.root};
        if (node.tree) {
            drop_below(node);
            drop(node);
        }
        deliver(loop, event);
    } else if (ends) {
        if (node.tree) drop_below(node);
        nodes_.remove(node);
    }
}

void FileObserverState::translate_change(Loop& loop, ObservedNode& node, std::uint32_t mask,
                                         std::string_view name) {
    const bool directory = (mask & IN_ISDIR) != 0;
    const int number = node.number;
    using Kind = FileEvent::Kind;
    if ((mask & IN_CREATE) != 0) {
        if (directory && node.tree) came(loop, node, name);  // may tell of a failure
        ObservedNode* still = closed_ ? nullptr : node_of(number);
        if (still == nullptr || !has(still->changes, FileChange::created)) return;
        return tell(loop, Kind::created, *still, name, directory);
    }
    // Of a directory in a tree the one above has told already.
    if (name.empty() && node.parent != nullptr) return;
    if ((mask & IN_MODIFY) != 0) return tell(loop, Kind::modified, node, name, directory);
    if ((mask & IN_CLOSE_WRITE) != 0) return tell(loop, Kind::written, node, name, directory);
    if ((mask & IN_ATTRIB) != 0) return tell(loop, Kind::attributes, node, name, directory);
    if ((mask & IN_DELETE) != 0) return tell(loop, Kind::removed, node, name, directory);
}

// Events were lost, so nothing is known of halves, and trees look for themselves.
void FileObserverState::overflow(Loop& loop) {
    for (HalfMove& half : halves_) half.until = Instant::min();
    scan_all(loop);
    FileEvent event{FileEvent::Kind::overflow};
    deliver(loop, event);
}

// --- moves

void FileObserverState::move_away(Loop& loop, const inotify_event& raw, std::string_view name) {
    const bool directory = (raw.mask & IN_ISDIR) != 0;
    if (name.size() > NAME_MAX) {  // no room to keep it: it does not wait
        ObservedNode* node = node_of(raw.wd);
        return end_half_at(loop, *node, name, directory);
    }
    HalfMove* place = nullptr;
    HalfMove* oldest = nullptr;
    std::size_t waiting = 0;
    for (HalfMove& half : halves_) {
        if (half.cookie == 0) {
            place = &half;
            continue;
        }
        ++waiting;
        if (oldest == nullptr || half.until < oldest->until) oldest = &half;
    }
    WHORL_ASSERT(place != nullptr);
    place->cookie = raw.cookie;
    place->number = raw.wd;
    place->directory = directory;
    place->size = name.copy(place->text, sizeof place->text);
    place->until = add_saturating(system_.now(), pair_wait_);
    if (waiting == halves_max) end_half(loop, *oldest);
}

void FileObserverState::move_here(Loop& loop, ObservedNode& node, const inotify_event& raw,
                                  std::string_view name) {
    const auto pairs = [&raw](const HalfMove& half) { return half.cookie == raw.cookie; };
    HalfMove* half = std::find_if(std::begin(halves_), std::end(halves_), pairs);
    const bool paired = half != std::end(halves_) && raw.cookie != 0;
    ObservedNode* old = paired ? node_of(half->number) : nullptr;
    if (paired) half->cookie = 0;
    FileEvent event{FileEvent::Kind::moved_here};
    event.directory = (raw.mask & IN_ISDIR) != 0;
    event.observed = {node.root};
    bool wanted = has(node.changes, FileChange::moved);
    if (old != nullptr) {
        event.kind = FileEvent::Kind::moved;
        event.from_observed = {old->root};
        if (!path_into(from_, *old, half->name())) return tell_lost(loop);
        event.from = from_.view();
        wanted = wanted || has(old->changes, FileChange::moved);
        // It leaves its old tree when its new place is in none, or in another.
        const bool leaves = !node.tree || node.root != old->root;
        if (leaves) drop_child(*old, half->name(), event.directory);
    }
    const int number = node.number;
    if (event.directory && node.tree) came(loop, node, name);  // may tell of a failure
    const ObservedNode* still = closed_ ? nullptr : node_of(number);
    if (still == nullptr || !wanted) return;
    if (!path_into(path_, *still, name)) return tell_lost(loop);
    event.path = path_.view();
    deliver(loop, event);
}

// A directory that is in a tree no more.
void FileObserverState::drop_child(const ObservedNode& parent, std::string_view name,
                                   bool directory) noexcept {
    ObservedNode* child = directory && parent.tree ? child_of(parent, name) : nullptr;
    if (child == nullptr) return;
    drop_below(*child);
    drop(*child);
}

void FileObserverState::end_half(Loop& loop, HalfMove& half) {
    half.cookie = 0;
    ObservedNode* node = node_of(half.number);
    if (node != nullptr) end_half_at(loop, *node, half.name(), half.directory);
}

void FileObserverState::end_half_at(Loop& loop, ObservedNode& node, std::string_view name,
                                    bool directory) {
    drop_child(node, name, directory);
    if (!has(node.changes, FileChange::moved)) return;
    tell(loop, FileEvent::Kind::moved_away, node, name, directory);
}

// Tells of the halves whose time is over, the oldest first.
void FileObserverState::end_halves(Loop& loop) {
    const Instant now = system_.now();
    while (!closed_) {
        HalfMove* oldest = nullptr;
        for (HalfMove& half : halves_) {
            if (half.cookie == 0 || half.until > now) continue;
            if (oldest == nullptr || half.until < oldest->until) oldest = &half;
        }
        if (oldest == nullptr) return;
        end_half(loop, *oldest);
    }
}

// At the first half whose time will be over.
void FileObserverState::aim(Loop& loop) noexcept {
    Instant first = instant_never;
    for (const HalfMove& half : halves_) {
        if (half.cookie != 0) first = std::min(first, half.until);
    }
    if (first >= aimed_) return;
    aimed_ = first;
    const Nanoseconds left = std::max(first - system_.now(), Nanoseconds::zero());
    static_cast<void>(loop.move(timer_, left));
}

// --- telling

void FileObserverState::tell(Loop& loop, FileEvent::Kind kind, ObservedNode& node,
                             std::string_view name, bool directory, Error error) {
    FileEvent event{kind};
    event.directory = directory;
    event.observed = {node.root};
    if (!path_into(path_, node, name)) return tell_lost(loop);
    event.path = path_.view();
    event.error = error;
    deliver(loop, event);
}

// There was no memory for a path.
void FileObserverState::tell_lost(Loop& loop) {
    FileEvent event{FileEvent::Kind::overflow};
    deliver(loop, event);
}

void FileObserverState::deliver(Loop& loop, FileEvent& event) { listener_->event(loop, event); }

Result<FileObserver> file_observer_open(Loop& loop, const FileObserverOptions& options,
                                        FileListener* listener) {
    return FileObserverState::open(loop, options, std::unique_ptr<FileListener>(listener));
}

}  // namespace detail

Result<ObservedFile> FileObserver::add(Loop& loop, std::string_view path,
                                       const ObserveOptions& options) const {
    if (loop.core().watch_find(watch_.value()) == nullptr) return Error::stale_handle;
    return state_->add(loop, path, options);
}

bool FileObserver::remove(Loop& loop, ObservedFile observed) const {
    if (loop.core().watch_find(watch_.value()) == nullptr) return false;
    return state_->remove(loop, observed);
}

bool FileObserver::close(Loop& loop) const noexcept {
    if (loop.core().watch_find(watch_.value()) == nullptr) return false;
    state_->close(loop);
    return true;
}

}  // namespace whorl
