// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_notify.hpp"

#include "backend/sim_disk.hpp"

#include <sys/inotify.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace whorl::detail {

void SimNotices::tell(const SimNode* node, std::uint32_t mask, std::string_view name,
                      std::uint32_t cookie) {
    for (const auto& entry : all_) {
        if (const auto notify = entry.lock()) notify->tell(node, mask, name, cookie);
    }
}

void SimNotices::sweep() {
    const auto gone = [](const std::weak_ptr<SimNotify>& entry) { return entry.expired(); };
    all_.erase(std::remove_if(all_.begin(), all_.end(), gone), all_.end());
    for (const auto& entry : all_) {
        if (const auto notify = entry.lock()) notify->sweep();
    }
}

std::size_t SimNotices::watches() const {
    std::size_t count = 0;
    for (const auto& entry : all_) {
        if (const auto notify = entry.lock()) count += notify->watches();
    }
    return count;
}

// Only whole events, each with its name padded by zeros to a multiple of the structure's size.
ssize_t SimNotify::read(void* data, std::size_t size, int) {
    if (queue_.empty()) return -EAGAIN;
    std::size_t used = 0;
    while (!queue_.empty()) {
        const Event& event = queue_.front();
        constexpr std::size_t unit = sizeof(inotify_event);
        const std::size_t room =
            event.name.empty() ? 0 : (event.name.size() + 1 + unit - 1) / unit * unit;
        if (unit + room > size - used) break;
        inotify_event head{};
        head.wd = event.number;
        head.mask = event.mask;
        head.cookie = event.cookie;
        head.len = static_cast<std::uint32_t>(room);
        char* out = static_cast<char*>(data) + used;
        std::memcpy(out, &head, unit);
        std::memset(out + unit, 0, room);
        event.name.copy(out + unit, event.name.size());
        used += unit + room;
        queue_.pop_front();
    }
    return used == 0 ? -EINVAL : static_cast<ssize_t>(used);
}

int SimNotify::add(const std::shared_ptr<SimNode>& node, std::uint32_t mask) {
    const std::uint32_t wanted = mask & IN_ALL_EVENTS;
    if (wanted == 0) return -EINVAL;
    if ((node->mode & 0400) == 0) return -EACCES;
    for (auto& [number, watched] : watches_) {
        if (watched.address != node.get() || watched.node.expired()) continue;
        if ((mask & IN_MASK_CREATE) != 0) return -EEXIST;
        watched.mask = (mask & IN_MASK_ADD) != 0 ? watched.mask | wanted : wanted;
        return number;
    }
    if (notices_.watches() >= notices_.watches_max) return -ENOSPC;
    watches_[++numbers_] = {node, node.get(), wanted};
    return numbers_;
}

int SimNotify::remove(int number) {
    if (watches_.erase(number) == 0) return -EINVAL;
    queue({number, IN_IGNORED, 0, {}});
    return 0;
}

void SimNotify::tell(const SimNode* node, std::uint32_t mask, std::string_view name,
                     std::uint32_t cookie) {
    for (const auto& [number, watched] : watches_) {
        if (watched.address != node || watched.node.expired()) continue;
        if ((watched.mask & mask & IN_ALL_EVENTS) == 0) return;
        return queue({number, mask, cookie, std::string(name)});
    }
}

void SimNotify::sweep() {
    for (auto next = watches_.begin(); next != watches_.end();) {
        if (!next->second.node.expired()) {
            ++next;
            continue;
        }
        if ((next->second.mask & IN_DELETE_SELF) != 0) queue({next->first, IN_DELETE_SELF, 0, {}});
        queue({next->first, IN_IGNORED, 0, {}});
        next = watches_.erase(next);
    }
}

// One that says the same as the last is left out; beyond the limit there is one that says so.
void SimNotify::queue(Event event) {
    if (!queue_.empty()) {
        const Event& last = queue_.back();
        const bool same = last.number == event.number && last.mask == event.mask &&
                          last.cookie == event.cookie && last.name == event.name;
        if (same || last.mask == IN_Q_OVERFLOW) return;
    }
    const bool full = queue_.size() >= notices_.queued_max;
    queue_.push_back(full ? Event{-1, IN_Q_OVERFLOW, 0, {}} : std::move(event));
    changed();
}

}  // namespace whorl::detail
