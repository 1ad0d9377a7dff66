// SPDX-License-Identifier: MIT
// Floor: 5
#include "io/file_observer_state.hpp"

#include "base/hook_containers.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

// Events as they come from the kernel, and what they mean. The loop watches the descriptor; what is read
// is told event by event, and what a handler's exception leaves over is told in a later turn.

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
    const auto state = hook_shared<FileObserverState>(loop, options, std::move(listener));
    const int fd = core.system.file_calls().inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd == -EMFILE) return Error::observers_exhausted;
    if (fd < 0) return Error::from_errno(fd);
    state->fd_ = fd;
    const auto handler = [state](Loop& here, const Watched& watched) {
        state->readable(here, watched);
    };
    const Result<Watch> watch = loop.watch(fd, Interest::readable, handler);
    if (!watch) return watch.error();
    state->watch_ = *watch;
    FileObserver observer;
    observer.watch_ = *watch;
    observer.state_ = state.get();
    return observer;
}

void FileObserverState::close(Loop& loop) noexcept {
    const auto self = weak_from_this().lock();
    closed_ = true;
    static_cast<void>(loop.cancel(watch_));
    static_cast<void>(loop.cancel(halves_timer_));
    static_cast<void>(loop.cancel(operation_));
    close_descriptor();
}

// The watch cannot go on: it is gone already.
void FileObserverState::fail(Loop& loop, Error error) {
    FileEvent event{FileEvent::Kind::failed};
    event.error = error;
    closed_ = true;
    static_cast<void>(loop.cancel(halves_timer_));
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
    ObservedNode node;
    node.name = path;
    const std::uint32_t how = IN_MASK_CREATE | (options.tree ? IN_ONLYDIR : 0);
    const Result<int> number = watch_path(node.name.c_str(), options.changes, how);
    if (!number) return number.error();
    node.number = *number;
    node.root = ++roots_;
    node.changes = options.changes;
    node.tree = options.tree;
    ObservedNode& kept = nodes_[*number] = std::move(node);
    if (options.tree) scan_later(loop, kept, Finds::old);
    return ObservedFile{kept.root};
}

bool FileObserverState::remove(Loop&, ObservedFile observed) {
    ObservedNode* root = root_of(observed.number);
    if (root == nullptr) return false;
    const int number = root->number;
    drop_below(*root);
    drop(number);
    return true;
}

// --- nodes

ObservedNode* FileObserverState::node_of(int number) noexcept {
    const auto found = nodes_.find(number);
    return found == nodes_.end() ? nullptr : &found->second;
}

ObservedNode* FileObserverState::root_of(std::uint64_t root) noexcept {
    for (auto& [number, node] : nodes_) {
        if (node.root == root && node.parent == nullptr) return &node;
    }
    return nullptr;
}

ObservedNode* FileObserverState::child_of(const ObservedNode& parent,
                                          std::string_view name) noexcept {
    for (auto& [number, node] : nodes_) {
        if (node.parent == &parent && node.name == name) return &node;
    }
    return nullptr;
}

bool FileObserverState::is_below(const ObservedNode& node, const ObservedNode& above) noexcept {
    for (const ObservedNode* up = node.parent; up != nullptr; up = up->parent) {
        if (up == &above) return true;
    }
    return false;
}

// The path of `name` in `node`, from the root on.
void FileObserverState::path_into(HookString& path, const ObservedNode& node,
                                  std::string_view name) {
    path.clear();
    std::size_t size = name.size();
    for (const ObservedNode* up = &node; up->parent != nullptr; up = up->parent) {
        size += up->name.size() + 1;
    }
    path.resize(size);
    std::size_t end = size - name.size();
    name.copy(path.data() + end, name.size());
    for (const ObservedNode* up = &node; up->parent != nullptr; up = up->parent) {
        path[--end] = '/';
        end -= up->name.size();
        up->name.copy(path.data() + end, up->name.size());
    }
    if (name.empty() && !path.empty()) path.pop_back();
}

void FileObserverState::full_path_into(HookString& path, const ObservedNode& node,
                                       std::string_view name) {
    path_into(path, node, name);
    const ObservedNode* root = &node;
    while (root->parent != nullptr) root = root->parent;
    if (!path.empty()) path.insert(0, 1, '/');
    path.insert(0, root->name);
}

// Forgets all nodes in a directory that is not reached any more.
void FileObserverState::drop_below(const ObservedNode& above) {
    HookDeque<int> numbers;
    for (const auto& [number, node] : nodes_) {
        if (is_below(node, above)) numbers.push_back(number);
    }
    for (const int number : numbers) {
        static_cast<void>(system_.file_calls().inotify_rm_watch(fd_, number));
    }
    for (const int number : numbers) nodes_.erase(number);
}

void FileObserverState::drop(int number) {
    static_cast<void>(system_.file_calls().inotify_rm_watch(fd_, number));
    nodes_.erase(number);
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

// Tells what was read. A handler that throws leaves the rest to a later turn.
void FileObserverState::pump(Loop& loop) {
    struct Rest {
        FileObserverState& state;
        Loop& loop;
        bool unfinished = true;
        ~Rest() {
            if (unfinished && !state.closed_) state.go_on_later(loop);
        }
    };
    const auto self = shared_from_this();
    {
        Rest rest{*this, loop};
        while (!closed_ && at_ != size_) {
            const auto* raw = reinterpret_cast<const inotify_event*>(buffer_ + at_);
            at_ += sizeof(inotify_event) + raw->len;
            WHORL_ASSERT(at_ <= size_);
            const char* name = raw->len != 0 ? reinterpret_cast<const char*>(raw + 1) : "";
            translate(loop, *raw, name);
        }
        end_halves(loop, false);
        rest.unfinished = false;
    }
    if (!closed_) arm_halves(loop);
}

// Without room for a post the rest is told with the next events.
void FileObserverState::go_on_later(Loop& loop) {
    if (posted_) return;
    const Error refused = loop.post([self = weak_from_this().lock()](Loop& here) {
        self->posted_ = false;
        if (!self->closed_) self->pump(here);
    });
    posted_ = !refused;
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
            drop(node.number);
        }
        deliver(loop, event);
    } else if (ends) {
        const int number = node.number;
        if (node.tree) drop_below(node);
        nodes_.erase(number);
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
    HalfMove* place = nullptr;
    for (HalfMove& half : halves_) {
        if (half.cookie == 0) place = &half;
    }
    HalfMove oldest;
    if (place == nullptr) {
        place = std::min_element(
            std::begin(halves_), std::end(halves_),
            [](const HalfMove& a, const HalfMove& b) { return a.until < b.until; });
        oldest = std::move(*place);
    }
    place->cookie = raw.cookie;
    place->number = raw.wd;
    place->directory = (raw.mask & IN_ISDIR) != 0;
    place->name = name;
    place->until = add_saturating(system_.now(), pair_wait_);
    if (oldest.cookie != 0) end_half(loop, oldest);
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
        path_into(from_, *old, half->name);
        event.from = from_;
        wanted = wanted || has(old->changes, FileChange::moved);
        // It leaves its old tree when its new place is in none, or in another.
        const bool leaves = !node.tree || node.root != old->root;
        if (leaves) drop_child(*old, half->name, event.directory);
    }
    const int number = node.number;
    if (event.directory && node.tree) came(loop, node, name);  // may tell of a failure
    const ObservedNode* still = closed_ ? nullptr : node_of(number);
    if (still == nullptr || !wanted) return;
    path_into(path_, *still, name);
    event.path = path_;
    deliver(loop, event);
}

// A directory that is in a tree no more.
void FileObserverState::drop_child(const ObservedNode& parent, std::string_view name,
                                   bool directory) {
    const ObservedNode* child = directory && parent.tree ? child_of(parent, name) : nullptr;
    if (child == nullptr) return;
    drop_below(*child);
    drop(child->number);
}

void FileObserverState::end_half(Loop& loop, HalfMove& half) {
    half.cookie = 0;
    ObservedNode* node = node_of(half.number);
    if (node == nullptr) return;
    drop_child(*node, half.name, half.directory);
    if (!has(node->changes, FileChange::moved)) return;
    tell(loop, FileEvent::Kind::moved_away, *node, half.name, half.directory);
}

// Tells of the halves whose time is over, the oldest first.
void FileObserverState::end_halves(Loop& loop, bool all) {
    const Instant now = system_.now();
    while (!closed_) {
        HalfMove* oldest = nullptr;
        for (HalfMove& half : halves_) {
            if (half.cookie == 0 || (!all && half.until > now)) continue;
            if (oldest == nullptr || half.until < oldest->until) oldest = &half;
        }
        if (oldest == nullptr) return;
        end_half(loop, *oldest);
    }
}

void FileObserverState::arm_halves(Loop& loop) {
    Instant first = instant_never;
    for (const HalfMove& half : halves_) {
        if (half.cookie != 0) first = std::min(first, half.until);
    }
    if (first == instant_never || halves_timer_) return;
    const auto due = [self = shared_from_this()](Loop& here, const Expired&) {
        self->halves_timer_ = Timer();
        if (self->closed_) return;
        self->pump(here);
    };
    const Result<Timer> timer = loop.at(first, due);
    if (timer) halves_timer_ = *timer;
    else go_on_later(loop);  // no slot for a timer: look again in each turn
}

// --- telling

void FileObserverState::tell(Loop& loop, FileEvent::Kind kind, ObservedNode& node,
                             std::string_view name, bool directory, Error error) {
    FileEvent event{kind};
    event.directory = directory;
    event.observed = {node.root};
    path_into(path_, node, name);
    event.path = path_;
    event.error = error;
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
