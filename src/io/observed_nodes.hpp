// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include "base/hook_text.hpp"

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/file_observer.hpp>
#include <whorl/list.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace whorl::detail {

// What a walk over a directory tells of.
enum class Finds : std::uint8_t {
    old,    // what was there when the tree was added: nothing is told
    news,   // what came with its directory: all is told
    either  // after a move, or lost events: what is in directories not known before is told
};

// What the kernel watches under one number. Nodes of a tree know the directory they are in; the paths of
// events are put together from there, so that moving a directory is one change.
struct ObservedNode : ListNode, Allocated<ObservedNode> {
    int number = -1;
    ObservedNode* parent = nullptr;  // null: it was given to add()
    HookText name;                   // in the parent; of a root the path that was given
    std::uint64_t root = 0;
    FileChange changes = FileChange::all;
    bool tree = false;
    bool dropped = false;     // it is in the queue only
    bool waits = false;       // in the queue, for its turn to be walked over
    bool unseen = false;      // a walk was to tell of all that is in it, and did not find it
    bool ready = false;       // of a tree's root: told
    bool doomed = false;      // drop_below() has chosen it
    Finds finds{};            // while it waits
    std::uint32_t scans = 0;  // of a tree's root: directories that wait to be walked over

    ObservedNode* bucket_next = nullptr;
    ObservedNode* queue_next = nullptr;
};

// All nodes by their numbers, and the queue of those that wait. Only make_room() asks for memory; without
// more of it the table grows on with longer buckets.
// Owns: its nodes. One that is removed while it waits lives on until it is taken from the queue.
class ObservedNodes {
  public:
    ObservedNodes() noexcept = default;
    ObservedNodes(const ObservedNodes&) = delete;
    ObservedNodes& operator=(const ObservedNodes&) = delete;
    ~ObservedNodes() {
        while (ObservedNode* node = queue_pop()) {
            if (node->dropped) delete node;
        }
        while (ListNode* node = all_.pop_front()) delete static_cast<ObservedNode*>(node);
        drop_array(buckets_);
    }

    // Room for one more. False: no memory, and not even one bucket.
    bool make_room() noexcept {
        if (count_ < buckets_count_) return true;
        const std::size_t more = buckets_count_ == 0 ? 16 : 2 * buckets_count_;
        auto** const buckets = make_zeros<ObservedNode*>(more);
        if (buckets == nullptr) return buckets_ != nullptr;
        drop_array(buckets_);
        buckets_ = buckets;
        buckets_count_ = more;
        for (ObservedNode* node = first(); node != nullptr; node = after(*node)) link(*node);
        return true;
    }
    // Behind a make_room(). Roots stand in front of all others.
    ObservedNode& add(std::unique_ptr<ObservedNode> made) noexcept {
        WHORL_ASSERT(buckets_ != nullptr && find(made->number) == nullptr);
        ObservedNode& node = *made.release();
        if (node.parent == nullptr) all_.push_front(node);
        else all_.push_back(node);
        ++count_;
        link(node);
        return node;
    }
    void remove(ObservedNode& node) noexcept {
        ObservedNode** at = bucket_of(node.number);
        while (*at != &node) at = &(*at)->bucket_next;
        *at = node.bucket_next;
        List::remove(node);
        --count_;
        node.dropped = true;
        if (!node.waits) delete &node;
    }
    ObservedNode* find(int number) const noexcept {
        ObservedNode* node = buckets_ != nullptr ? *bucket_of(number) : nullptr;
        while (node != nullptr && node->number != number) node = node->bucket_next;
        return node;
    }

    // Walk: for (node = first(); node != nullptr; node = after(*node)).
    ObservedNode* first() const noexcept { return static_cast<ObservedNode*>(all_.front()); }
    ObservedNode* after(const ObservedNode& node) const noexcept {
        return static_cast<ObservedNode*>(all_.after(node));
    }

    void queue_push(ObservedNode& node) noexcept {
        WHORL_ASSERT(!node.waits && node.queue_next == nullptr);
        node.waits = true;
        *queue_end_ = &node;
        queue_end_ = &node.queue_next;
    }
    void queue_push_front(ObservedNode& node) noexcept {
        WHORL_ASSERT(!node.waits && node.queue_next == nullptr);
        node.waits = true;
        node.queue_next = queue_;
        if (queue_ == nullptr) queue_end_ = &node.queue_next;
        queue_ = &node;
    }
    // Null: nobody waits. Whoever takes one that is `dropped` deletes it.
    ObservedNode* queue_pop() noexcept {
        ObservedNode* node = queue_;
        if (node == nullptr) return nullptr;
        queue_ = node->queue_next;
        if (queue_ == nullptr) queue_end_ = &queue_;
        node->queue_next = nullptr;
        node->waits = false;
        return node;
    }

  private:
    ObservedNode** bucket_of(int number) const noexcept {
        return buckets_ + (static_cast<std::size_t>(number) & (buckets_count_ - 1));
    }
    void link(ObservedNode& node) noexcept {
        ObservedNode** const bucket = bucket_of(node.number);
        node.bucket_next = *bucket;
        *bucket = &node;
    }

    List all_;
    ObservedNode** buckets_ = nullptr;
    std::size_t buckets_count_ = 0;  // a power of two
    std::size_t count_ = 0;
    ObservedNode* queue_ = nullptr;
    ObservedNode** queue_end_ = &queue_;
};

}  // namespace whorl::detail
