// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_choices.hpp"
#include "backend/sim_disk.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

// What a disk has after its machine has lost power. Of a file that was synced, its content then is
// certain; of what was written since, each page is the new one, the old one, or torn between two sectors,
// and the size is the new one or the old one. Names are kept by a journal, as file systems do: some of
// the last changes are gone, a change is never half there, and none is there without those before it.
// Syncing a directory writes the journal; syncing a file does not, so that who forgets the directory is
// found out.

namespace whorl::detail {

namespace {

constexpr std::size_t sector_size = 512;
constexpr std::size_t sectors = SimNode::page_size / sector_size;

// The page that is found after the crash: `fresh` was there, `old` would be without what was written
// since. Null for zeros.
std::unique_ptr<SimNode::Page> survivor(std::unique_ptr<SimNode::Page> fresh,
                                        std::unique_ptr<SimNode::Page> old, SimChoices& choices) {
    switch (choices.below(3)) {
        case 0:
            return fresh;
        case 1:
            return old;
        default:
            break;
    }
    const std::size_t kept = (1 + choices.below(sectors - 1)) * sector_size;
    auto torn = std::make_unique<SimNode::Page>();
    torn->fill(0);
    if (old != nullptr) *torn = *old;
    if (fresh != nullptr) std::memcpy(torn->data(), fresh->data(), kept);
    else std::memset(torn->data(), 0, kept);
    return torn;
}

}  // namespace

void SimNode::keep(std::uint64_t index) {
    if (before.find(index) != before.end()) return;
    const auto found = pages.find(index);
    before[index] = found != pages.end() && found->second != nullptr
                        ? std::make_unique<Page>(*found->second)
                        : nullptr;
}

void SimNode::synced() noexcept {
    before.clear();
    size_durable = size;
}

void SimNode::crash(SimChoices& choices) {
    for (auto& [index, old] : before) {
        const auto found = pages.find(index);
        std::unique_ptr<Page> fresh = found != pages.end() ? std::move(found->second) : nullptr;
        std::unique_ptr<Page> left = survivor(std::move(fresh), std::move(old), choices);
        if (left != nullptr) pages[index] = std::move(left);
        else pages.erase(index);
    }
    before.clear();
    if (size != size_durable && choices.below(2) != 0) {
        const bool is_cut = size_durable < size;
        size = size_durable;
        if (is_cut) zero(size, UINT64_MAX / 2);
    }
    synced();
}

void SimDisk::change(const SimNodePtr& directory, const std::string& name, const SimNodePtr& node) {
    const auto found = directory->entries.find(name);
    changes_.push_back(
        {directory, name, found != directory->entries.end() ? found->second : nullptr});
    if (node != nullptr) directory->entries[name] = node;
    else directory->entries.erase(name);
}

void SimDisk::change_ends() {
    if (!journaling) return changes_.clear();
    journal_.push_back(std::exchange(changes_, {}));
    if (journal_.size() > journal_max) journal_.pop_front();
}

void SimDisk::sync(SimNode& node) noexcept {
    if (node.kind == SimNode::Kind::directory) journal_.clear();
    else node.synced();
}

void SimDisk::crash(SimChoices& choices) {
    auto lost = choices.below(static_cast<std::uint32_t>(journal_.size()) + 1);
    for (; lost != 0; --lost) {
        std::vector<Change>& last = journal_.back();
        for (auto at = last.rbegin(); at != last.rend(); ++at) {
            if (at->before != nullptr) at->directory->entries[at->name] = at->before;
            else at->directory->entries.erase(at->name);
        }
        journal_.pop_back();
    }
    journal_.clear();
    count_links();
    std::deque<SimNodePtr> rest{root_};
    std::vector<const SimNode*> done;  // a file may have several names
    while (!rest.empty()) {
        const SimNodePtr here = rest.front();
        rest.pop_front();
        for (const auto& [name, entry] : here->entries) {
            if (entry->kind == SimNode::Kind::directory) {
                rest.push_back(entry);
            } else if (std::find(done.begin(), done.end(), entry.get()) == done.end()) {
                done.push_back(entry.get());
                entry->crash(choices);
            }
        }
    }
}

// As the names say, which may have come back.
void SimDisk::count_links() {
    root_->links = 2;
    std::vector<SimNodePtr> directories{root_};
    for (std::size_t next = 0; next < directories.size(); ++next) {
        const SimNodePtr here = directories[next];
        for (const auto& [name, entry] : here->entries) {
            entry->links = 0;
            if (entry->kind == SimNode::Kind::directory) {
                entry->parent = here;
                directories.push_back(entry);
            }
        }
    }
    for (const SimNodePtr& here : directories) {
        for (const auto& [name, entry] : here->entries) {
            if (entry->kind == SimNode::Kind::directory) {
                entry->links = 2;
                for (const auto& [below, child] : entry->entries) {
                    if (child->kind == SimNode::Kind::directory) ++entry->links;
                }
                continue;
            }
            ++entry->links;
        }
    }
    for (const auto& [name, entry] : root_->entries) {
        if (entry->kind == SimNode::Kind::directory) ++root_->links;
    }
}

}  // namespace whorl::detail
