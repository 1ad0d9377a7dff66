// SPDX-License-Identifier: MIT
// Goal: blocks come in their class, the warm one first, within the limit, and outlive close().
// Method: by hand here, at random in test/model/buffer_pool_model.cpp.
#include <whorl/buffer_pool.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace {

using whorl::Buffer;
using whorl::BufferPool;
using whorl::PoolBlock;

constexpr std::size_t plenty = 16u << 20;

class BufferPoolTest : public ::testing::Test {
  protected:
    void make(std::size_t bytes_max) {
        pool_ = BufferPool::create(bytes_max);
        ASSERT_NE(pool_, nullptr);
        ASSERT_TRUE(pool_->check());
    }
    void TearDown() override {
        if (pool_ == nullptr) return;
        EXPECT_TRUE(pool_->check());
        pool_->close();
    }
    BufferPool* pool_ = nullptr;
};

TEST_F(BufferPoolTest, class_for) {
    EXPECT_EQ(BufferPool::class_for(0), 0u);
    for (std::uint32_t index = 0; index < BufferPool::class_count; ++index) {
        EXPECT_EQ(BufferPool::class_for(BufferPool::class_size[index] - 1), index);
        EXPECT_EQ(BufferPool::class_for(BufferPool::class_size[index]), index);
        EXPECT_EQ(BufferPool::class_for(BufferPool::class_size[index] + 1), index + 1);
    }
    EXPECT_EQ(BufferPool::class_for(SIZE_MAX), BufferPool::class_count);
}

TEST_F(BufferPoolTest, a_block_is_found_and_lies_in_its_mapping) {
    make(plenty);
    std::vector<Buffer> buffers;
    std::set<std::uint32_t> numbers;
    std::size_t bytes = 0;
    for (std::size_t size : BufferPool::class_size) {
        for (int count = 0; count < 5; ++count) {
            Buffer buffer = pool_->get(size);
            const PoolBlock* block = pool_->block_of(buffer);
            ASSERT_NE(block, nullptr);
            const whorl::Bytes all = pool_->chunk_of(*block);
            EXPECT_GE(buffer.data(), all.begin());
            EXPECT_LE(buffer.data() + buffer.capacity(), all.end());
            if (numbers.insert(block->chunk).second) bytes += all.size;
            EXPECT_LT(block->chunk, numbers.size()) << "they are numbered from 0 on";
            buffers.push_back(std::move(buffer));
        }
    }
    EXPECT_GE(bytes, pool_->bytes_mapped());
    EXPECT_LE(numbers.size(), pool_->chunks_max());
    BufferPool* other = BufferPool::create(plenty);
    EXPECT_EQ(other->block_of(buffers[0]), nullptr);
    other->close();
    EXPECT_EQ(pool_->block_of(Buffer()), nullptr);
    EXPECT_EQ(pool_->block_of(Buffer::allocate(256)), nullptr);
}

TEST_F(BufferPoolTest, every_class_gives_its_size) {
    make(plenty);
    std::vector<Buffer> buffers;
    for (std::size_t size : BufferPool::class_size) {
        for (int count = 0; count < 300; ++count) {
            Buffer buffer = pool_->get(size);
            ASSERT_EQ(buffer.size(), 0u);
            if (!buffer) break;  // the limit
            ASSERT_EQ(buffer.capacity(), size);
            ASSERT_TRUE(buffer.writable());
            std::memset(buffer.data(), 1, size);
            buffers.push_back(std::move(buffer));
        }
        EXPECT_TRUE(pool_->check());
    }
    EXPECT_EQ(pool_->blocks_out(), buffers.size());
    std::set<std::byte*> starts;
    for (Buffer& buffer : buffers) starts.insert(buffer.data());
    EXPECT_EQ(starts.size(), buffers.size());
    for (auto at = starts.begin(); std::next(at) != starts.end(); ++at) {
        EXPECT_GE(*std::next(at) - *at, 256);
    }
    const auto high = static_cast<std::uint32_t>(buffers.size());
    buffers.clear();
    EXPECT_EQ(pool_->blocks_out(), 0u);
    EXPECT_EQ(pool_->blocks_out_high(), high);
}

TEST_F(BufferPoolTest, last_returned_is_taken_first) {
    make(plenty);
    Buffer a = pool_->get(100), b = pool_->get(100), c = pool_->get(100);
    const std::byte* at[] = {a.data(), b.data(), c.data()};
    b.reset();
    a.reset();
    c.reset();
    EXPECT_EQ((a = pool_->get(1)).data(), at[2]);
    EXPECT_EQ((b = pool_->get(200)).data(), at[0]);
    EXPECT_EQ((c = pool_->get(256)).data(), at[1]);
}

TEST_F(BufferPoolTest, limit_holds_and_passes) {
    make(64 << 10);  // one chunk of the smallest class, and nothing else
    std::vector<Buffer> buffers;
    EXPECT_TRUE(pool_->available(0));
    while (pool_->available(0)) {
        Buffer buffer = pool_->get(256);
        ASSERT_TRUE(buffer);
        buffers.push_back(std::move(buffer));
    }
    EXPECT_EQ(buffers.size(), (64u << 10) / 256);
    EXPECT_FALSE(pool_->get(256));
    EXPECT_FALSE(pool_->get(1024));
    EXPECT_LE(pool_->bytes_mapped(), pool_->bytes_max());
    EXPECT_TRUE(pool_->check());
    buffers.pop_back();
    EXPECT_TRUE(pool_->available(0));
    EXPECT_FALSE(pool_->available(1)) << "a block too small does not do";
    EXPECT_TRUE(pool_->get(256));
}

TEST_F(BufferPoolTest, larger_class_helps_out_at_the_limit) {
    make(64 << 10);
    Buffer first = pool_->get(4096);
    ASSERT_TRUE(first);
    EXPECT_TRUE(pool_->available(0));
    Buffer small = pool_->get(10);
    EXPECT_EQ(small.capacity(), 4096u);
    EXPECT_EQ(pool_->blocks_out(), 2u);
    small.reset();
    Buffer again = pool_->get(4096);
    EXPECT_TRUE(again) << "it went home to its own class";
}

TEST_F(BufferPoolTest, limit_too_small_for_anything) {
    make(100);
    for (std::uint32_t index = 0; index < BufferPool::class_count; ++index) {
        EXPECT_FALSE(pool_->available(index));
        EXPECT_EQ(pool_->take(index), nullptr);
    }
    EXPECT_FALSE(pool_->get(1));
    EXPECT_EQ(pool_->bytes_mapped(), 0u);
}

TEST_F(BufferPoolTest, more_than_a_block_comes_from_the_heap) {
    make(100);
    Buffer buffer = pool_->get(BufferPool::block_size_max + 1);
    EXPECT_EQ(buffer.capacity(), BufferPool::block_size_max + 1);
    EXPECT_EQ(pool_->blocks_out(), 0u);
}

TEST_F(BufferPoolTest, memory_is_reused) {
    make(plenty);
    for (int round = 0; round < 100; ++round) {
        std::vector<Buffer> buffers;
        for (int count = 0; count < 50; ++count) buffers.push_back(pool_->get(1024));
    }
    EXPECT_EQ(pool_->bytes_mapped(), 64u << 10) << "50 blocks of 1 KiB fit the first chunk";
}

TEST_F(BufferPoolTest, listener_hears_of_every_return) {
    make(plenty);
    std::vector<std::uint64_t> tags;
    pool_->set_returned(
        [](void* context, PoolBlock& block) noexcept {
            static_cast<std::vector<std::uint64_t>*>(context)->push_back(block.tag);
        },
        &tags);
    PoolBlock* block = pool_->take(0);
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(block->tag, 0u);
    block->tag = 42;
    Buffer a = Buffer::from_owner(block, block->base, 5);
    Buffer b = a.share();
    a.reset();
    EXPECT_TRUE(tags.empty()) << "one is left";
    b.reset();
    EXPECT_EQ(tags, std::vector<std::uint64_t>{42});
    block = pool_->take(0);
    EXPECT_EQ(block->tag, 0u) << "a tag ends with its owner";
    Buffer::from_owner(block, block->base, 0).reset();
    EXPECT_EQ(tags.size(), 2u);
}

TEST_F(BufferPoolTest, blocks_outlive_close) {
    make(plenty);
    int returns = 0;
    pool_->set_returned([](void* context, PoolBlock&) noexcept { ++*static_cast<int*>(context); },
                        &returns);
    pool_->set_thread();
    Buffer a = pool_->get(100), b = pool_->get(60'000);
    pool_->close();
    pool_ = nullptr;
    a.resize(a.capacity());
    std::memset(a.data(), 1, a.size());
    std::memset(b.data(), 2, b.capacity());
    Buffer c = a.share();
    a.reset();
    b.reset();
    EXPECT_EQ(std::to_integer<int>(c.data()[255]), 1) << "the memory stays for the last one";
    c.reset();  // the pool goes with it: AddressSanitizer's leak check is the other half of this
    EXPECT_EQ(returns, 0) << "after close() there is nobody to tell";
}

using BufferPoolDeathTest = BufferPoolTest;

TEST_F(BufferPoolDeathTest, other_threads_are_asserted) {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    make(plenty);
    pool_->set_thread();
    Buffer buffer = pool_->get(100);
    EXPECT_DEATH(std::thread([&] { buffer.reset(); }).join(), "assertion failed");
    EXPECT_DEATH(std::thread([&] { pool_->take(0); }).join(), "assertion failed");
}

TEST_F(BufferPoolDeathTest, double_release_is_asserted) {
    make(plenty);
    PoolBlock* block = pool_->take(0);
    ASSERT_NE(block, nullptr);
    Buffer right = Buffer::from_owner(block, block->base, 0);
    EXPECT_DEATH(
        {
            Buffer wrong = Buffer::from_owner(block, block->base, 0);  // one reference, two buffers
            right.reset();
            wrong.reset();
        },
        "assertion failed: owner->references > 0");
    EXPECT_DEATH(pool_->take(BufferPool::class_count), "assertion failed");
}

}  // namespace
