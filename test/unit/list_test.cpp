// SPDX-License-Identifier: MIT
// Goal: List keeps order and links through every call. Method: small lists, checked after each
// call.

#include <gtest/gtest.h>

#include <vector>

#include <whorl/list.hpp>

namespace {

using whorl::List;
using whorl::ListNode;

std::vector<const ListNode*> walk(const List& list) {
    std::vector<const ListNode*> nodes;
    for (const ListNode* node = list.front(); node != nullptr; node = list.after(*node)) {
        nodes.push_back(node);
    }
    return nodes;
}

using Nodes = std::vector<const ListNode*>;

TEST(List, list_empty) {
    List list;
    EXPECT_TRUE(list.empty());
    EXPECT_EQ(list.front(), nullptr);
    EXPECT_EQ(list.pop_front(), nullptr);
    EXPECT_TRUE(list.check());
}

TEST(List, list_push_keeps_order) {
    List list;
    ListNode a, b, c;
    list.push_back(b);
    list.push_back(c);
    list.push_front(a);
    EXPECT_EQ(walk(list), (Nodes{&a, &b, &c}));
    EXPECT_TRUE(list.check());
    EXPECT_TRUE(List::is_linked(a));
}

TEST(List, list_pop_front_unlinks) {
    List list;
    ListNode a, b;
    list.push_back(a);
    list.push_back(b);
    EXPECT_EQ(list.pop_front(), &a);
    EXPECT_FALSE(List::is_linked(a));
    EXPECT_EQ(a.prev, nullptr);
    EXPECT_EQ(list.pop_front(), &b);
    EXPECT_TRUE(list.empty());
    EXPECT_TRUE(list.check());
}

TEST(List, list_remove_anywhere) {
    for (int victim = 0; victim != 3; ++victim) {
        List list;
        ListNode nodes[3];
        Nodes expected;
        for (ListNode& node : nodes) list.push_back(node);
        List::remove(nodes[victim]);
        for (const ListNode& node : nodes) {
            if (&node != &nodes[victim]) expected.push_back(&node);
        }
        EXPECT_EQ(walk(list), expected);
        EXPECT_FALSE(List::is_linked(nodes[victim]));
        EXPECT_TRUE(list.check());
        list.push_back(nodes[victim]);
        expected.push_back(&nodes[victim]);
        EXPECT_EQ(walk(list), expected);
    }
}

TEST(List, list_splice_back) {
    for (int here = 0; here != 3; ++here) {
        for (int there = 0; there != 3; ++there) {
            List list, other;
            ListNode nodes[4];
            Nodes expected;
            for (int i = 0; i != here + there; ++i) {
                (i < here ? list : other).push_back(nodes[i]);
                expected.push_back(&nodes[i]);
            }
            list.splice_back(other);
            EXPECT_EQ(walk(list), expected);
            EXPECT_TRUE(other.empty());
            EXPECT_TRUE(list.check());
            EXPECT_TRUE(other.check());
        }
    }
}

TEST(List, list_check_finds_broken_links) {
    List list;
    ListNode a, b, c;
    list.push_back(a);
    list.push_back(b);
    list.push_back(c);
    c.next = &a;  // A circle without the head.
    EXPECT_FALSE(list.check());
    b.prev = nullptr;
    EXPECT_FALSE(list.check());
}

TEST(ListDeathTest, list_push_linked_node) {
    List list;
    ListNode a;
    list.push_back(a);
    EXPECT_DEATH(list.push_back(a), "is_linked");
}

TEST(ListDeathTest, list_remove_unlinked_node) {
    ListNode a;
    EXPECT_DEATH(List::remove(a), "is_linked");
}

}  // namespace
