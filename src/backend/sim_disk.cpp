// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_disk.hpp"

#include "backend/sim_kernel.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>

namespace whorl::detail {

namespace {

constexpr int links_followed_max = 40;
constexpr std::size_t name_max = 255;

// The parts of a path, put before those that are left.
void prepend(std::deque<std::string>& parts, std::string_view path) {
    std::size_t at = 0;
    while (!path.empty()) {
        const std::size_t end = path.find('/');
        const std::string_view part = path.substr(0, end);
        if (!part.empty()) {
            parts.insert(parts.begin() + static_cast<std::ptrdiff_t>(at++), std::string(part));
        }
        path = end == std::string_view::npos ? std::string_view() : path.substr(end + 1);
    }
}

std::uint32_t directory_bit(const SimNode& node) noexcept {
    return node.kind == SimNode::Kind::directory ? IN_ISDIR : 0;
}

}  // namespace

// --- a node

unsigned SimNode::stat_mode() const noexcept {
    switch (kind) {
        case Kind::directory:
            return S_IFDIR | mode;
        case Kind::link:
            return S_IFLNK | 0777;
        default:
            return S_IFREG | mode;
    }
}

void SimNode::read(std::uint64_t offset, char* data, std::size_t count) const {
    while (count != 0) {
        const std::uint64_t within = offset % page_size;
        const std::size_t part = std::min<std::size_t>(count, page_size - within);
        const auto found = pages.find(offset / page_size);
        if (found == pages.end()) std::memset(data, 0, part);
        else std::memcpy(data, found->second->data() + within, part);
        offset += part;
        data += part;
        count -= part;
    }
}

void SimNode::zero(std::uint64_t offset, std::uint64_t count) {
    const std::uint64_t end = offset + count;
    auto next = pages.lower_bound(offset / page_size);
    while (next != pages.end() && next->first * page_size < end) {
        const std::uint64_t first = next->first * page_size;
        const std::uint64_t from = std::max(first, offset) - first;
        const std::uint64_t to = std::min(first + page_size, end) - first;
        keep(next->first);
        if (to - from == page_size) {
            next = pages.erase(next);
            continue;
        }
        std::memset(next->second->data() + from, 0, static_cast<std::size_t>(to - from));
        ++next;
    }
}

// --- names

SimDisk::SimDisk() : root_(std::make_shared<SimNode>()) {
    root_->kind = SimNode::Kind::directory;
    root_->number = numbers_++;
    root_->mode = 0755;
    root_->links = 2;
    SimNodePtr made;
    static_cast<void>(
        make({root_, "tmp", nullptr, false, false}, SimNode::Kind::directory, 0777, made));
}

int SimDisk::find(const SimNodePtr& start, std::string_view path, bool follow,
                  std::uint64_t resolve, Found& found) const {
    if (path.empty()) return -ENOENT;
    const bool beneath = (resolve & RESOLVE_BENEATH) != 0;
    if (beneath && path.front() == '/') return -EXDEV;
    std::deque<std::string> parts;
    prepend(parts, path);
    SimNodePtr here = path.front() == '/' ? root_ : start;
    found = {here->parent.lock(), "", here, path.back() == '/', false};
    int followed = 0;
    while (!parts.empty()) {
        const std::string part = parts.front();
        parts.pop_front();
        if (part.size() > name_max) return -ENAMETOOLONG;
        if (here == nullptr) return -ENOENT;
        if (here->kind != SimNode::Kind::directory) return -ENOTDIR;
        if ((here->mode & 0100) == 0) return -EACCES;
        if (part == ".") {
            found = {here->parent.lock(), "", here, found.wants_directory, false};
            continue;
        }
        if (part == "..") {
            if (beneath && here == start) return -EXDEV;
            const SimNodePtr up = here->parent.lock();
            here = up != nullptr ? up : root_;
            found = {here->parent.lock(), "", here, found.wants_directory, true};
            continue;
        }
        const auto entry = here->entries.find(part);
        const SimNodePtr next = entry != here->entries.end() ? entry->second : nullptr;
        const bool last = parts.empty();
        const bool is_link = next != nullptr && next->kind == SimNode::Kind::link;
        if (is_link && (!last || follow || found.wants_directory)) {
            if ((resolve & RESOLVE_NO_SYMLINKS) != 0) return -ELOOP;
            if (++followed > links_followed_max) return -ELOOP;
            if (beneath && next->text.front() == '/') return -EXDEV;
            if (next->text.front() == '/') here = root_;
            if (last && next->text.back() == '/') found.wants_directory = true;
            prepend(parts, next->text);
            found = {here->parent.lock(), "", here, found.wants_directory, false};
            continue;
        }
        found = {here, part, next, found.wants_directory, false};
        here = next;
    }
    const bool is_directory = found.node == nullptr || found.node->kind == SimNode::Kind::directory;
    return found.wants_directory && !is_directory ? -ENOTDIR : 0;
}

int SimDisk::make(const Found& where, SimNode::Kind kind, unsigned mode, SimNodePtr& made) {
    if (where.node != nullptr || where.name.empty()) return -EEXIST;
    if ((where.parent->mode & 0200) == 0) return -EACCES;
    if (where.parent->links == 0) return -ENOENT;  // it has been removed
    made = std::make_shared<SimNode>();
    made->kind = kind;
    made->number = numbers_++;
    made->mode = mode;
    made->modified_ns = now_ns;
    made->links = 1;
    if (kind == SimNode::Kind::directory) {
        made->links = 2;
        made->parent = where.parent;
        ++where.parent->links;
    }
    change(where.parent, where.name, made);
    change_ends();
    where.parent->modified_ns = now_ns;
    notices.tell(where.parent.get(), IN_CREATE | directory_bit(*made), where.name);
    return 0;
}

int SimDisk::remove(const Found& where, bool directory) {
    if (const int error = replace(where, directory)) return error;
    change_ends();
    const SimNode& node = *where.node;
    if (!directory) notices.tell(&node, IN_ATTRIB);
    notices.tell(where.parent.get(), IN_DELETE | directory_bit(node), where.name);
    return 0;
}

// Removes without a word of it.
int SimDisk::replace(const Found& where, bool directory) {
    if (where.node == nullptr) return -ENOENT;
    const bool is_directory = where.node->kind == SimNode::Kind::directory;
    if (where.name.empty() && !directory) return -EISDIR;
    if (where.name.empty()) return where.upward ? -ENOTEMPTY : -EINVAL;
    if (directory && !is_directory) return -ENOTDIR;
    if (!directory && is_directory) return -EISDIR;
    if ((where.parent->mode & 0200) == 0) return -EACCES;
    if (!where.node->entries.empty()) return -ENOTEMPTY;
    if (is_directory) {
        where.node->links = 0;
        --where.parent->links;
    } else {
        --where.node->links;
    }
    change(where.parent, where.name, nullptr);
    where.parent->modified_ns = now_ns;
    return 0;
}

int SimDisk::rename(const Found& from, const Found& to, unsigned flags) {
    const unsigned known = RENAME_NOREPLACE | RENAME_EXCHANGE;
    if ((flags & ~known) != 0 || flags == known) return -EINVAL;
    if (from.node == nullptr) return -ENOENT;
    if (from.name.empty() || to.name.empty()) return -EBUSY;
    if ((from.parent->mode & 0200) == 0 || (to.parent->mode & 0200) == 0) return -EACCES;
    for (SimNodePtr up = to.parent; up != nullptr; up = up->parent.lock()) {
        if (up == from.node) return -EINVAL;
    }
    const bool exchanges = (flags & RENAME_EXCHANGE) != 0;
    if (exchanges && to.node == nullptr) return -ENOENT;
    if ((flags & RENAME_NOREPLACE) != 0 && to.node != nullptr) return -EEXIST;
    if (from.node == to.node) return 0;
    const bool is_directory = from.node->kind == SimNode::Kind::directory;
    if (to.wants_directory && !is_directory) return -ENOTDIR;
    if (to.node != nullptr && !exchanges) {
        const bool over = to.node->kind == SimNode::Kind::directory;
        if (is_directory && !over) return -ENOTDIR;
        if (!is_directory && over) return -EISDIR;
        if (const int error = replace(to, over)) return error;
    }
    const auto put = [this](const SimNodePtr& node, const Found& old, const Found& place) {
        change(place.parent, place.name, node);
        if (node->kind != SimNode::Kind::directory) return;
        node->parent = place.parent;
        --old.parent->links;
        ++place.parent->links;
    };
    put(from.node, from, to);
    if (exchanges) put(to.node, to, from);
    else change(from.parent, from.name, nullptr);
    change_ends();
    from.parent->modified_ns = to.parent->modified_ns = now_ns;
    tell_move(from, to, *from.node);
    if (exchanges) tell_move(to, from, *to.node);
    return 0;
}

int SimDisk::link(const Found& from, const Found& to) {
    if (from.node == nullptr) return -ENOENT;
    if (to.node != nullptr || to.name.empty()) return -EEXIST;
    if (from.node->kind == SimNode::Kind::directory) return -EPERM;
    if ((to.parent->mode & 0200) == 0) return -EACCES;
    if (to.parent->links == 0 || to.wants_directory) return -ENOENT;
    change(to.parent, to.name, from.node);
    change_ends();
    ++from.node->links;
    notices.tell(from.node.get(), IN_ATTRIB);
    notices.tell(to.parent.get(), IN_CREATE, to.name);
    return 0;
}

void SimDisk::tell_move(const Found& from, const Found& to, const SimNode& node) {
    const std::uint32_t cookie = notices.cookie();
    const std::uint32_t directory = directory_bit(node);
    notices.tell(from.parent.get(), IN_MOVED_FROM | directory, from.name, cookie);
    notices.tell(to.parent.get(), IN_MOVED_TO | directory, to.name, cookie);
    notices.tell(&node, IN_MOVE_SELF);
}

void SimDisk::tell_change(const SimNodePtr& node, std::uint32_t mask, const SimNodePtr& parent,
                          const std::string& name) {
    if (notices.empty()) return;
    const std::uint32_t all = mask | directory_bit(*node);
    const auto holds = [&node](const auto& entry) { return entry.second == node; };
    SimNodePtr above = parent;
    std::string known = name;
    const auto place =
        above != nullptr ? above->entries.find(name) : decltype(above->entries.end()){};
    if (above == nullptr || place == above->entries.end() || place->second != node) {
        above = nullptr;  // it was moved: look everywhere
        std::deque<SimNodePtr> rest{root_};
        while (above == nullptr && !rest.empty()) {
            const SimNodePtr here = rest.front();
            rest.pop_front();
            const auto found = std::find_if(here->entries.begin(), here->entries.end(), holds);
            if (found != here->entries.end()) {
                above = here;
                known = found->first;
            }
            for (const auto& [below, entry] : here->entries) {
                if (entry->kind == SimNode::Kind::directory) rest.push_back(entry);
            }
        }
    }
    if (above != nullptr) notices.tell(above.get(), all, known);
    notices.tell(node.get(), all);
}

std::string SimDisk::path_of(const SimNodePtr& node) const {
    std::string path;
    for (SimNodePtr here = node; here != root_;) {
        const SimNodePtr up = here->parent.lock();
        const auto is_here = [&here](const auto& entry) { return entry.second == here; };
        if (up == nullptr) return path + " (deleted)";
        const auto found = std::find_if(up->entries.begin(), up->entries.end(), is_here);
        if (found == up->entries.end()) return path + " (deleted)";
        path.insert(0, found->first).insert(0, 1, '/');
        here = up;
    }
    return path.empty() ? "/" : path;
}

// --- space

std::uint64_t SimDisk::pages_in(const SimNodePtr& node) const {
    std::uint64_t count = node->pages.size();
    for (const auto& [name, entry] : node->entries) count += pages_in(entry);
    return count;
}

// Null when the disk is full. What is open and has no name counts for nothing.
SimNode::Page* SimDisk::page_for(SimNode& node, std::uint64_t index) {
    auto& page = node.pages[index];
    if (page != nullptr) return page.get();
    const bool bounded = pages_max < std::uint64_t{1} << 32;
    if (bounded && pages_in(root_) > pages_max) {  // this one's empty place counts already
        node.pages.erase(index);
        return nullptr;
    }
    page = std::make_unique<SimNode::Page>();
    page->fill(0);
    return page.get();
}

ssize_t SimDisk::write(SimNode& node, std::uint64_t offset, const char* data, std::size_t count) {
    if (count == 0) return 0;
    if (offset >= file_size_max) return -EFBIG;
    count = static_cast<std::size_t>(std::min<std::uint64_t>(count, file_size_max - offset));
    std::size_t done = 0;
    while (done < count) {
        const std::uint64_t at = offset + done;
        const std::uint64_t within = at % SimNode::page_size;
        const std::size_t part = std::min<std::size_t>(count - done, SimNode::page_size - within);
        if (journaling) node.keep(at / SimNode::page_size);
        SimNode::Page* page = page_for(node, at / SimNode::page_size);
        if (page == nullptr) break;
        std::memcpy(page->data() + within, data + done, part);
        done += part;
    }
    if (done == 0) return -ENOSPC;
    node.size = std::max(node.size, offset + done);
    node.modified_ns = now_ns;
    return static_cast<ssize_t>(done);
}

int SimDisk::allocate(SimNode& node, std::uint64_t offset, std::uint64_t count) {
    if (offset + count > file_size_max) return -EFBIG;
    const std::uint64_t last = (offset + count - 1) / SimNode::page_size;
    for (std::uint64_t index = offset / SimNode::page_size; index <= last; ++index) {
        if (page_for(node, index) == nullptr) return -ENOSPC;
    }
    return 0;
}

void SimDisk::resize(SimNode& node, std::uint64_t size) {
    if (size < node.size) node.zero(size, UINT64_MAX / 2);
    node.size = size;
    node.modified_ns = now_ns;
}

// --- an open file

bool SimOpenFile::readable() const noexcept {
    return (flags & O_ACCMODE) != O_WRONLY && (flags & O_PATH) == 0;
}
bool SimOpenFile::writable() const noexcept {
    return (flags & O_ACCMODE) != O_RDONLY && (flags & O_PATH) == 0;
}

ssize_t SimOpenFile::read_at(std::uint64_t offset, char* data, std::size_t size) const {
    if (!readable()) return -EBADF;
    if (node->kind == SimNode::Kind::directory) return -EISDIR;
    if (offset >= node->size) return 0;
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(size, node->size - offset));
    node->read(offset, data, part);
    return static_cast<ssize_t>(part);
}

ssize_t SimOpenFile::write_at(std::uint64_t offset, const char* data, std::size_t size) {
    if (!writable()) return -EBADF;
    disk_.now_ns = kernel_.clock().time_since_epoch().count();
    const ssize_t done =
        disk_.write(*node, (flags & O_APPEND) != 0 ? node->size : offset, data, size);
    if (done > 0) tell_change(IN_MODIFY);
    return done;
}

void SimOpenFile::found_at(const SimDisk::Found& where) {
    parent_ = where.parent;
    name_ = where.name;
}

SimOpenFile::~SimOpenFile() {
    if ((flags & O_PATH) == 0) tell_change(writable() ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
    node.reset();
    disk_.notices.sweep();
}

ssize_t SimOpenFile::read(void* data, std::size_t size, int) {
    const ssize_t done = read_at(position, static_cast<char*>(data), size);
    if (done > 0) position += static_cast<std::uint64_t>(done);
    return done;
}

ssize_t SimOpenFile::write(const void* data, std::size_t size, int) {
    const ssize_t done = write_at(position, static_cast<const char*>(data), size);
    if (done > 0) position += static_cast<std::uint64_t>(done);
    return done;
}

}  // namespace whorl::detail
