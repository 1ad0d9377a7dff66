// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include <cstddef>

#include <whorl/assert.hpp>

// An intrusive, circular, doubly linked list. The head is a node of the same kind, so that neither
// linking nor unlinking has a branch, and a node can leave its list without knowing which list it
// is.
//
// The two pointers of a node stand side by side, and gcc 12 at -O2 merges the two stores that fill
// them into one store of 16 bytes. A list reads one of those pointers again soon, often at once; a
// narrow load from a wider store that is still in the store buffer is forwarded late on several
// processors, and the load stalls for 5 to 6 ns, more than the rest of the insertion. link() keeps
// the stores apart with a compiler barrier on the first of the two. It is a barrier in the code and
// not a flag of the build, because these functions are inlined into the code of users.
//
// Invariants, which check() verifies:
//   1. A node that is in no list has next == prev == nullptr; a linked one has neither.
//   2. For each node n of a list, the head included: n.next->prev == &n and n.prev->next == &n.

namespace whorl {

// A place in at most one List. Derive from it. Copying a linked node is a mistake of the caller.
struct ListNode {
    ListNode* next = nullptr;  // null when it is in no list
    ListNode* prev = nullptr;  // the same
};

static_assert(sizeof(ListNode) == 2 * sizeof(void*), "a node is two pointers");

// Owns: nothing; nodes live where their owners put them and must outlive their time in the list. A
// list may end while nodes are in it: those nodes must then not be removed, only forgotten.
// Thread: one at a time.
class List {
  public:
    List() noexcept : head_{&head_, &head_} {}
    List(const List&) = delete;  // Nodes point at the head, so a list stays where it is.
    List& operator=(const List&) = delete;

    // Whether it is in a list, whichever.
    static bool is_linked(const ListNode& node) noexcept { return node.next != nullptr; }

    bool empty() const noexcept { return head_.next == &head_; }

    // Cost: O(1), all four.
    void push_back(ListNode& node) noexcept { link(node, *head_.prev, head_); }
    // Before all others. Limits: a node that is in no list (asserted).
    void push_front(ListNode& node) noexcept { link(node, head_, *head_.next); }
    static void remove(ListNode& node) noexcept;  // From whichever list it is in.
    ListNode* pop_front() noexcept;               // nullptr when the list is empty.

    // Moves all nodes of other behind the nodes of this list, in their order. Cost: O(1).
    void splice_back(List& other) noexcept;

    // Walk: for (node = list.front(); node != nullptr; node = list.after(*node)).
    // clang's analyzer does not see that remove() has taken a node out that was freed after it.
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDelete)
    ListNode* front() const noexcept { return empty() ? nullptr : head_.next; }
    // The one behind a node of this list; null behind the last.
    ListNode* after(const ListNode& node) const noexcept {
        return node.next == &head_ ? nullptr : node.next;
    }

    // Cost: O(nodes). It ends even on a broken list: as long as invariant 2 held so far, no node
    // was reached from two others, so the walk cannot have entered a circle that leaves out the
    // head.
    bool check() const noexcept;

  private:
    static void link(ListNode& node, ListNode& before, ListNode& after) noexcept;

    ListNode head_;
};

inline void List::link(ListNode& node, ListNode& before, ListNode& after) noexcept {
    WHORL_ASSERT(!is_linked(node));
    WHORL_VERIFY(before.next == &after && after.prev == &before);
    node.next = &after;
    __asm__ volatile("" : "+m"(node.next));  // Two narrow stores, please: see the top of the file.
    node.prev = &before;
    before.next = &node;
    after.prev = &node;
}

inline void List::remove(ListNode& node) noexcept {
    WHORL_ASSERT(is_linked(node));
    WHORL_VERIFY(node.next->prev == &node && node.prev->next == &node);
    ListNode* const next = node.next;
    ListNode* const prev = node.prev;
    prev->next = next;
    next->prev = prev;
    node.next = nullptr;
    node.prev = nullptr;
}

inline ListNode* List::pop_front() noexcept {
    ListNode* const node = front();
    if (node != nullptr) remove(*node);
    WHORL_VERIFY(node == nullptr || !is_linked(*node));
    return node;
}

inline void List::splice_back(List& other) noexcept {
    WHORL_ASSERT(&other != this);
    if (other.empty()) return;
    ListNode* const first = other.head_.next;
    ListNode* const last = other.head_.prev;
    first->prev = head_.prev;
    head_.prev->next = first;
    last->next = &head_;
    head_.prev = last;
    other.head_.next = &other.head_;
    other.head_.prev = &other.head_;
}

inline bool List::check() const noexcept {
    const ListNode* node = &head_;
    do {
        if (node->next == nullptr || node->next->prev != node) return false;
        if (node->prev == nullptr || node->prev->next != node) return false;
        node = node->next;
    } while (node != &head_);
    return true;
}

}  // namespace whorl
