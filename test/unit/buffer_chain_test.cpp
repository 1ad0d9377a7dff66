// SPDX-License-Identifier: MIT
// Goal: a chain owns its buffers in order and keeps its room. Method: buffers that count their ends.
// Exhausted memory is in buffer_test.cpp, beside the operator new that fails.
#include <whorl/buffer_chain.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>

namespace {

using whorl::Buffer;
using whorl::BufferChain;
using whorl::Bytes;

Buffer counted(int& drops) {
    static char memory[4] = "abc";
    return whorl::adopt(memory, 3, [&drops](void*) { ++drops; });
}

std::string text_of(BufferChain& chain) {
    std::string text;
    for (const Buffer& buffer : chain) text += buffer.text();
    return text;
}

TEST(BufferChain, starts_empty) {
    BufferChain chain;
    EXPECT_TRUE(chain.empty());
    EXPECT_EQ(chain.count(), 0u);
    EXPECT_EQ(chain.size(), 0u);
    EXPECT_EQ(chain.begin(), chain.end());
    chain.clear();
}

TEST(BufferChain, keeps_order_while_it_grows) {
    BufferChain chain;
    std::string expected;
    for (std::uint32_t index = 0; index < 100; ++index) {
        const std::string text = std::to_string(index) + ' ';
        Buffer buffer = Buffer::copy_of(Bytes(text));
        ASSERT_TRUE(chain.push_back(std::move(buffer)));
        EXPECT_FALSE(buffer);
        expected += text;
        EXPECT_EQ(chain.count(), index + 1);
        EXPECT_EQ(chain.size(), expected.size());
    }
    EXPECT_EQ(text_of(chain), expected);
    EXPECT_EQ(chain[42].text(), "42 ");
}

TEST(BufferChain, takes_null_buffers_as_empty_parts) {
    BufferChain chain;
    EXPECT_TRUE(chain.push_back(Buffer()));
    EXPECT_EQ(chain.count(), 1u);
    EXPECT_EQ(chain.size(), 0u);
}

TEST(BufferChain, takes_one_of_its_own_parts) {
    BufferChain chain;
    for (int round = 0; round < 20; ++round) {  // with and without growing
        ASSERT_TRUE(chain.push_back(Buffer::copy_of(Bytes("x"))));
        ASSERT_TRUE(chain.push_back(std::move(chain[chain.count() - 1])));
        EXPECT_EQ(chain[chain.count() - 1].text(), "x");
        EXPECT_FALSE(chain[chain.count() - 2]);
    }
}

TEST(BufferChain, gives_back_on_clear_and_keeps_its_room) {
    int drops = 0;
    BufferChain chain;
    for (int round = 1; round <= 3; ++round) {
        for (int index = 0; index < 8; ++index) ASSERT_TRUE(chain.push_back(counted(drops)));
        Buffer* room = chain.begin();
        chain.clear();
        EXPECT_EQ(drops, round * 8);
        EXPECT_TRUE(chain.empty());
        EXPECT_EQ(chain.size(), 0u);
        EXPECT_EQ(chain.begin(), room);
    }
}

TEST(BufferChain, gives_back_at_its_end) {
    int drops = 0;
    {
        BufferChain chain;
        for (int index = 0; index < 9; ++index) ASSERT_TRUE(chain.push_back(counted(drops)));
        Buffer kept = std::move(chain[3]);
        EXPECT_EQ(drops, 0);
    }
    EXPECT_EQ(drops, 9);
}

TEST(BufferChain, move_leaves_empty) {
    int drops = 0;
    BufferChain a;
    ASSERT_TRUE(a.push_back(counted(drops)));
    BufferChain b = std::move(a);
    EXPECT_TRUE(a.empty());
    EXPECT_EQ(b.count(), 1u);
    BufferChain c;
    ASSERT_TRUE(c.push_back(counted(drops)));
    c = std::move(b);
    EXPECT_EQ(drops, 1) << "what the target held goes at once";
    EXPECT_TRUE(b.empty());
    EXPECT_EQ(c.size(), 3u);
    BufferChain& same = c;
    c = std::move(same);
    EXPECT_EQ(c.count(), 1u);
    ASSERT_TRUE(b.push_back(counted(drops))) << "a chain moved from can be used again";
    EXPECT_EQ(b.count(), 1u);
}

TEST(BufferChainDeathTest, index_is_asserted) {
    BufferChain chain;
    EXPECT_DEATH(static_cast<void>(chain[0]), "assertion failed");
}

}  // namespace
