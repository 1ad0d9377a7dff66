// SPDX-License-Identifier: MIT
// Floor: 5
#include "io/tree_state.hpp"

#include <fcntl.h>

#include <cerrno>
#include <utility>

// The way back up. A directory that was closed for want of descriptors is opened again by the ".." of the
// one below, and must be the one it was.

namespace whorl::detail {

void TreeState::take_way_back(Loop& loop, TreeStep step) {
    switch (step) {
        case TreeStep::descend:
            return descend();
        case TreeStep::finish:
            return finish(loop);
        case TreeStep::climbed:
            return climbed(loop);
        case TreeStep::checked:
            return checked(loop);
        case TreeStep::leave:
            return leave(loop);
        case TreeStep::left:
            return left(loop);
        case TreeStep::pop:
            return pop(loop);
        case TreeStep::after:
            step_ = frames_.empty() ? TreeStep::end : TreeStep::descend;
            return;
        default:
            WHORL_ASSERT(step == TreeStep::end);
            return end(loop);
    }
}

void TreeState::descend() {
    TreeFrame& frame = top();
    step_ = TreeStep::finish;
    if (frame.next == frame.below.size()) return;
    name_ = std::move(frame.below[frame.next++]);
    step_ = TreeStep::enter;
}

void TreeState::finish(Loop& loop) {
    step_ = TreeStep::leave;
    if (frames_.size() < 2 || frames_[frames_.size() - 2].file) return;
    OpenFile above{"..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW};
    above.directory = top().file;
    submit(loop, "climb", std::move(above), TreeStep::climbed,
           [](TreeState& self, const OpenFile::Done& done) {
               self.file_ = done.file;
               if (done.file) ++self.open_;
           });
}

void TreeState::climbed(Loop& loop) {
    if (!error_) return stat(loop, {}, true, file_, TreeStep::checked);
    stop_error_ = error_;
    fail(loop, "climb", {}, error_);
}

void TreeState::checked(Loop& loop) {
    TreeFrame& above = frames_[frames_.size() - 2];
    WHORL_ASSERT(above.known && !above.file);
    const bool same = !error_ && above.device == status_.device && above.inode == status_.inode;
    step_ = TreeStep::leave;
    if (same) {
        above.file = std::exchange(file_, File());
        return;
    }
    stop_error_ = error_ ? error_ : Error::from_errno(ESTALE);
    fail(loop, "climb", {}, stop_error_);
}

void TreeState::leave(Loop& loop) {
    step_ = TreeStep::pop;
    if (!removes_) {
        // Its path is the present one, and its depth one less.
        set_path({});
        TreeEvent event{TreeEvent::Kind::leave};
        event.type = DirectoryEntry::Type::directory;
        event.depth = static_cast<std::uint32_t>(frames_.size() - 1);
        event.name = top().name;
        static_cast<void>(tell(loop, event));
        return;
    }
    const bool root = frames_.size() == 1;
    RemoveDirectory removal{root ? root_ : top().name};
    removal.directory = root ? options_.directory : frames_[frames_.size() - 2].file;
    submit(loop, "rmdir", std::move(removal), TreeStep::left, [](TreeState&, const NameDone&) {});
}

// Some file systems leave out names in a listing while others are removed, and others may put new ones
// there: as long as there is something to remove, there is another round.
void TreeState::left(Loop& loop) {
    TreeFrame& frame = top();
    step_ = TreeStep::pop;
    const bool gone = !error_ || error_ == Error::from_errno(ENOENT);
    if (gone) {
        if (!error_) ++entries_;
        if (frames_.size() > 1) frames_[frames_.size() - 2].removed = true;
        return;
    }
    const bool full = error_ == Error::from_errno(ENOTEMPTY) || error_ == Error::from_errno(EEXIST);
    if (full && !frame.failed && frame.removed && ++frame.rounds < rounds_max) {
        frame.removed = false;
        frame.below.clear();
        frame.next = 0;
        rewind_ = true;
        step_ = TreeStep::list;
        return;
    }
    const bool told = full && frame.failed;
    frame.failed = true;
    if (!told) fail(loop, "rmdir", {}, error_);
}

void TreeState::pop(Loop& loop) {
    const bool failed = top().failed;
    close(loop, top().file);
    frames_.pop_back();
    path_.resize(frames_.empty() ? root_.size() : top().path_size);
    if (!frames_.empty() && failed) top().failed = true;
    step_ = TreeStep::after;
}

void TreeState::end(Loop& loop) {
    close(loop, file_);
    for (TreeFrame& frame : frames_) close(loop, frame.file);
    frames_.clear();
    path_ = root_;
    set_path({});
    TreeEvent event{TreeEvent::Kind::done};
    event.error = stop_error_ ? stop_error_ : first_error_;
    event.operation = event.error ? first_operation_ : "";
    event.entries = entries_;
    event.failures = failures_;
    event.path = told_;
    const std::unique_ptr<TreeListener> listener = std::move(listener_);
    static_cast<void>(listener->event(loop, event));
}

}  // namespace whorl::detail
