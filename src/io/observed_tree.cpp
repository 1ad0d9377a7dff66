// SPDX-License-Identifier: MIT
// Floor: 5
#include "io/file_observer_state.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

// Trees. The kernel watches single directories, so a new one is watched as soon as it is heard of, and
// then walked over for what was made in it before. What the kernel tells may be older than what is found:
// a directory is known by its watch's number, which the kernel gives again for the same directory, and
// its place is where it was found last.

namespace whorl::detail {

// Watches a directory in `parent`, or learns that it is known. Nowhere: there is none (any more), or it
// is observed on its own, or what is known of its parent is so old that an event about that must follow.
FileObserverState::Place FileObserverState::place(Loop& loop, ObservedNode& parent,
                                                  std::string_view name) {
    full_path_into(full_, parent, name);
    constexpr std::uint32_t how = IN_ONLYDIR | IN_DONT_FOLLOW | IN_MASK_ADD;
    const Result<int> number = watch_path(full_.c_str(), parent.changes, how);
    if (!number) {
        const bool gone = number.error() == Error::from_errno(ENOENT) ||
                          number.error() == Error::from_errno(ENOTDIR);
        if (!gone) tell(loop, FileEvent::Kind::failed, parent, name, true, number.error());
        return {};
    }
    const auto [entry, fresh] = nodes_.try_emplace(*number);
    ObservedNode& node = entry->second;
    if (fresh) {
        node.number = *number;
        node.root = parent.root;
        node.changes = parent.changes;
        node.tree = true;
    } else if (node.parent == nullptr || node.root != parent.root || &node == &parent ||
               is_below(parent, node)) {
        return {};
    }
    if (node.parent == &parent && node.name == name) return {&node, Placed::same};
    node.parent = &parent;
    node.name = name;
    return {&node, fresh ? Placed::fresh : Placed::elsewhere};
}

// A directory has come to a tree, or to another place in it.
void FileObserverState::came(Loop& loop, ObservedNode& parent, std::string_view name) {
    const Place found = place(loop, parent, name);
    if (found.how == Placed::fresh) scan_later(loop, *found.node, Finds::news);
    else if (found.node != nullptr) scan_below(loop, *found.node);
}

// --- walking over directories, one at a time

void FileObserverState::scan_later(Loop& loop, ObservedNode& node, Finds finds) {
    if (node.waits) return;
    node.waits = true;
    ObservedNode* root = root_of(node.root);
    WHORL_ASSERT(root != nullptr);
    scans_.push_back({node.number, node.root, finds});
    ++root->scans;
    scan_next(loop);
}

// What came to them while they were sought at their old places is not known.
void FileObserverState::scan_below(Loop& loop, ObservedNode& node) {
    scan_later(loop, node, Finds::either);
    for (auto& [number, below] : nodes_) {
        if (is_below(below, node)) scan_later(loop, below, Finds::either);
    }
}

void FileObserverState::scan_all(Loop& loop) {
    for (auto& [number, node] : nodes_) {
        if (node.tree) scan_later(loop, node, Finds::either);
    }
}

void FileObserverState::scan_next(Loop& loop) {
    if (closed_ || scanning_ || scans_.empty()) return;
    scanning_ = true;
    scan_ = scans_.front();
    scans_.pop_front();
    ObservedNode* node = node_of(scan_.number);
    full_.clear();
    if (node != nullptr) {
        node->waits = false;
        const bool owed = std::exchange(node->unseen, false);
        if (owed && scan_.finds == Finds::either) scan_.finds = Finds::news;
        full_path_into(full_, *node, {});
    }
    const bool root = node != nullptr && node->parent == nullptr;
    const int flags = O_RDONLY | O_DIRECTORY | (root ? 0 : O_NOFOLLOW);
    auto opened = [self = shared_from_this()](Loop& here, const OpenFile::Done& done) {
        self->scan_opened(here, done);
    };
    const Result<Operation> made =
        loop.submit(OpenFile{full_.empty() ? "." : full_, flags}, opened);
    if (made) {
        operation_ = *made;
        return;
    }
    // Not from in here, or the next one would be refused in here, too.
    auto refused = [self = shared_from_this(), error = made.error()](Loop& here) {
        self->scan_failed(here, error);
    };
    static_cast<void>(loop.post(std::move(refused)));
}

void FileObserverState::scan_opened(Loop& loop, const OpenFile::Done& done) {
    directory_ = done.file;
    if (closed_ || done.error) return scan_failed(loop, done.error);
    scan_list(loop, loop.buffer(32768));
}

void FileObserverState::scan_list(Loop& loop, Buffer buffer) {
    auto listed = [self = shared_from_this()](Loop& here, ListDirectory::Done done) {
        self->scan_listed(here, std::move(done));
    };
    const Result<Operation> made =
        loop.submit(ListDirectory{directory_, std::move(buffer)}, std::move(listed));
    if (made) operation_ = *made;
    else scan_failed(loop, made.error());
}

void FileObserverState::scan_listed(Loop& loop, ListDirectory::Done done) {
    if (closed_ || done.error) return scan_failed(loop, done.error);
    if (done.buffer.empty()) return scan_ended(loop);
    // A handler that throws leaves the directory to be walked over again.
    struct Again {
        FileObserverState& state;
        Loop& loop;
        bool unfinished = true;
        ~Again() {  // NOLINT(bugprone-exception-escape): only std::bad_alloc
            if (unfinished) state.scan_again(loop);
        }
    };
    Again again{*this, loop};
    scan_entries(loop, done.buffer);
    again.unfinished = false;
    if (closed_ || node_of(scan_.number) == nullptr) return scan_ended(loop);
    scan_list(loop, std::move(done.buffer));
}

void FileObserverState::scan_entries(Loop& loop, const Buffer& buffer) {
    DirectoryBatch batch(buffer);
    DirectoryEntry entry;
    while (batch.next(entry)) {
        ObservedNode* node = closed_ ? nullptr : node_of(scan_.number);
        if (node == nullptr) return;
        scan_entry(loop, *node, entry);
    }
}

void FileObserverState::scan_entry(Loop& loop, ObservedNode& node, const DirectoryEntry& entry) {
    using Type = DirectoryEntry::Type;
    bool directory = entry.type == Type::directory;
    Placed how = Placed::nowhere;
    if (directory || entry.type == Type::unknown) {
        const Place found = place(loop, node, entry.name);
        how = found.how;
        directory = directory || found.node != nullptr;
        const Finds next = scan_.finds == Finds::old ? Finds::old : Finds::news;
        if (how == Placed::fresh) scan_later(loop, *found.node, next);
        else if (how == Placed::elsewhere) scan_below(loop, *found.node);
    }
    ObservedNode* still = closed_ ? nullptr : node_of(scan_.number);
    if (still == nullptr || !has(still->changes, FileChange::created)) return;
    const bool tells =
        scan_.finds == Finds::news || (scan_.finds == Finds::either && how == Placed::fresh);
    if (tells) tell(loop, FileEvent::Kind::created, *still, entry.name, directory);
}

struct FileObserverState::Ended {
    FileObserverState& state;
    Loop& loop;
    ~Ended() { state.scan_ended(loop); }  // NOLINT(bugprone-exception-escape): only std::bad_alloc
};

// What has vanished is told by events; what is elsewhere is walked over when it is found there. Anything
// else is told, and the directory left out.
void FileObserverState::scan_failed(Loop& loop, Error error) {
    ObservedNode* node = closed_ ? nullptr : node_of(scan_.number);
    const bool gone = !error || error == Error::cancelled || error == Error::from_errno(ENOENT) ||
                      error == Error::from_errno(ENOTDIR) || error == Error::from_errno(ELOOP);
    const Ended ended{*this, loop};
    if (node != nullptr && gone && scan_.finds == Finds::news) node->unseen = true;
    if (node != nullptr && !gone) tell(loop, FileEvent::Kind::failed, *node, {}, true, error);
}

// Once more, in a later turn.
void FileObserverState::scan_again(Loop& loop) {
    ObservedNode* node = node_of(scan_.number);
    if (node != nullptr) node->waits = true;
    scans_.push_front(scan_);
    scanning_ = false;
    if (directory_) static_cast<void>(loop.close(directory_));
    directory_ = File();
    static_cast<void>(
        loop.post([self = shared_from_this()](Loop& here) { self->scan_next(here); }));
}

// Calls no handler, so that it may follow one that has thrown.
void FileObserverState::scan_ended(Loop& loop) {
    if (directory_) static_cast<void>(loop.close(directory_));
    directory_ = File();
    scanning_ = false;
    operation_ = Operation();
    if (closed_) return;
    ObservedNode* root = root_of(scan_.root);
    if (root != nullptr && --root->scans == 0 && !root->ready) {
        static_cast<void>(
            loop.post([self = shared_from_this()](Loop& here) { self->tell_ready(here); }));
    }
    scan_next(loop);
}

void FileObserverState::tell_ready(Loop& loop) {
    const auto is_ready = [](const auto& entry) {
        const ObservedNode& node = entry.second;
        return node.tree && node.parent == nullptr && node.scans == 0 && !node.ready;
    };
    while (!closed_) {
        const auto found = std::find_if(nodes_.begin(), nodes_.end(), is_ready);
        if (found == nodes_.end()) return;
        found->second.ready = true;
        tell(loop, FileEvent::Kind::ready, found->second, {}, true);
    }
}

}  // namespace whorl::detail
