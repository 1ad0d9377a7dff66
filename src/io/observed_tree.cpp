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
    const auto fails = [&](Error error) {
        tell(loop, FileEvent::Kind::failed, parent, name, true, error);
        return Place{};
    };
    if (!path_into(full_, parent, name, From::whole)) return fails(Error::from_errno(ENOMEM));
    constexpr std::uint32_t how = IN_ONLYDIR | IN_DONT_FOLLOW | IN_MASK_ADD;
    const Result<int> number = watch_path(full_.c_str(), parent.changes, how);
    if (!number) {
        const bool gone = number.error() == Error::from_errno(ENOENT) ||
                          number.error() == Error::from_errno(ENOTDIR);
        return gone ? Place{} : fails(number.error());
    }
    ObservedNode* node = node_of(*number);
    if (node == nullptr) {
        node = place_new(number, parent, name);
        if (node == nullptr) return fails(Error::from_errno(ENOMEM));
        return {node, Placed::fresh};
    }
    if (node->parent == nullptr || node->root != parent.root || node == &parent ||
        is_below(parent, *node)) {
        return {};
    }
    if (node->parent == &parent && node->name.view() == name) return {node, Placed::same};
    if (!place_again(*node, parent, name)) return fails(Error::from_errno(ENOMEM));
    return {node, Placed::elsewhere};
}

// Null: no memory; it is not watched either.
ObservedNode* FileObserverState::place_new(const Result<int>& number, ObservedNode& parent,
                                           std::string_view name) noexcept {
    std::unique_ptr<ObservedNode> made(new (std::nothrow) ObservedNode);
    if (made != nullptr) {
        made->number = *number;
        made->parent = &parent;
        made->root = parent.root;
        made->changes = parent.changes;
        made->tree = true;
        if (made->name.assign(name) && nodes_.make_room() && room_for(*made)) {
            return &nodes_.add(std::move(made));
        }
    }
    static_cast<void>(system_.file_calls().inotify_rm_watch(fd_, *number));
    return nullptr;
}

// False: no memory, and it is not observed any more, nor what is below it.
bool FileObserverState::place_again(ObservedNode& node, ObservedNode& parent,
                                    std::string_view name) noexcept {
    node.parent = &parent;
    if (node.name.assign(name) && room_for(node) && room_below(node)) return true;
    drop_below(node);
    drop(node);
    return false;
}

// A directory has come to a tree, or to another place in it.
void FileObserverState::came(Loop& loop, ObservedNode& parent, std::string_view name) {
    const Place found = place(loop, parent, name);
    if (found.how == Placed::fresh) scan_later(loop, *found.node, Finds::news);
    else if (found.node != nullptr) scan_below(loop, *found.node);
}

// --- walking over directories, one at a time

void FileObserverState::scan_later(Loop& loop, ObservedNode& node, Finds finds) noexcept {
    if (node.waits) return;
    ObservedNode* root = &node;
    while (root->parent != nullptr) root = root->parent;
    WHORL_ASSERT(root->root == node.root);
    ++root->scans;
    node.finds = finds;
    nodes_.queue_push(node);
    scan_next(loop);
}

// What came to them while they were sought at their old places is not known.
void FileObserverState::scan_below(Loop& loop, ObservedNode& node) noexcept {
    scan_later(loop, node, Finds::either);
    for (ObservedNode* below = nodes_.first(); below != nullptr; below = nodes_.after(*below)) {
        if (is_below(*below, node)) scan_later(loop, *below, Finds::either);
    }
}

void FileObserverState::scan_all(Loop& loop) noexcept {
    for (ObservedNode* node = nodes_.first(); node != nullptr; node = nodes_.after(*node)) {
        if (node->tree) scan_later(loop, *node, Finds::either);
    }
}

void FileObserverState::scan_next(Loop& loop) noexcept {
    while (!closed_ && !scanning_) {
        ObservedNode* const node = nodes_.queue_pop();
        if (node == nullptr) return;
        if (node->dropped) {
            scan_counted(loop, node->root);
            delete node;
            continue;
        }
        scanning_ = true;
        scan_ = {node->number, node->root, node->finds};
        const bool owed = std::exchange(node->unseen, false);
        if (owed && scan_.finds == Finds::either) scan_.finds = Finds::news;
        scan_refused_ = scan_begin(loop, *node);
        // Not told from in here, or the next one would be refused in here, too.
        if (scan_refused_) wake(loop);
    }
}

Error FileObserverState::scan_begin(Loop& loop, ObservedNode& node) noexcept {
    if (!path_into(full_, node, {}, From::whole)) return Error::from_errno(ENOMEM);
    const int flags = O_RDONLY | O_DIRECTORY | (node.parent == nullptr ? 0 : O_NOFOLLOW);
    auto opened = [self = CountedRef<FileObserverState>(this)](
                      Loop& here, const OpenFile::Done& done) { self->scan_opened(here, done); };
    const Result<Operation> made = loop.submit(OpenFile{full_.view(), flags}, opened);
    if (!made) return made.error();
    operation_ = *made;
    return {};
}

// What waited for wake().
void FileObserverState::scan_go_on(Loop& loop) {
    const Error refused = std::exchange(scan_refused_, Error());
    if (refused) scan_failed(loop, refused);
    else scan_next(loop);
    tell_ready(loop);
}

void FileObserverState::scan_opened(Loop& loop, const OpenFile::Done& done) {
    directory_ = done.file;
    if (closed_ || done.error) return scan_failed(loop, done.error);
    scan_list(loop, loop.buffer(32768));
}

void FileObserverState::scan_list(Loop& loop, Buffer buffer) {
    auto listed = [self = CountedRef<FileObserverState>(this)](Loop& here,
                                                               ListDirectory::Done done) {
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
        ~Again() {
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
    ~Ended() { state.scan_ended(loop); }
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
void FileObserverState::scan_again(Loop& loop) noexcept {
    if (directory_) static_cast<void>(loop.close(directory_));
    directory_ = File();
    scanning_ = false;
    ObservedNode* node = node_of(scan_.number);
    if (node == nullptr || node->waits) {
        if (node != nullptr && scan_.finds == Finds::news) node->finds = Finds::news;
        scan_counted(loop, scan_.root);
    } else {
        node->finds = scan_.finds;
        nodes_.queue_push_front(*node);
    }
    wake(loop);
}

// Calls no handler, so that it may follow one that has thrown.
void FileObserverState::scan_ended(Loop& loop) noexcept {
    if (directory_) static_cast<void>(loop.close(directory_));
    directory_ = File();
    scanning_ = false;
    operation_ = Operation();
    if (closed_) return;
    scan_counted(loop, scan_.root);
    scan_next(loop);
}

void FileObserverState::scan_counted(Loop& loop, std::uint64_t number) noexcept {
    ObservedNode* root = root_of(number);
    if (root != nullptr && --root->scans == 0 && !root->ready) wake(loop);
}

void FileObserverState::tell_ready(Loop& loop) {
    const auto is_ready = [](const ObservedNode& node) {
        return node.tree && node.scans == 0 && !node.ready;
    };
    while (!closed_) {
        ObservedNode* root = nodes_.first();
        while (root != nullptr && root->parent == nullptr && !is_ready(*root))
            root = nodes_.after(*root);
        if (root == nullptr || root->parent != nullptr) return;
        root->ready = true;
        tell(loop, FileEvent::Kind::ready, *root, {}, true);
    }
}

}  // namespace whorl::detail
