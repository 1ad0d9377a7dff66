// SPDX-License-Identifier: MIT
// Goal: in electric mode a kernel that still writes into memory that was given back answers -EFAULT,
// and nothing is destroyed. Method: a ring of the test's own, and a release that is broken on purpose:
// the buffer goes while the receive has its address.
#include <gtest/gtest.h>
#include <whorl/buffer.hpp>
#include <whorl/buffer_pool.hpp>

#include <liburing.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

namespace whorl {
namespace {

class Electric : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_), 0);
        ring_made_ = io_uring_queue_init(4, &ring_, 0) == 0;
    }
    void TearDown() override {
        if (ring_made_) io_uring_queue_exit(&ring_);
        for (int end : ends_) ::close(end);
    }
    // A receive that the kernel has now.
    void begin_receive(void* into, std::size_t size) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        io_uring_prep_recv(sqe, ends_[0], into, size, 0);
        ASSERT_EQ(io_uring_submit(&ring_), 1);
        ASSERT_EQ(io_uring_cq_ready(&ring_), 0u);
    }
    int end_receive() {
        EXPECT_EQ(::write(ends_[1], "hello", 5), 5);
        io_uring_cqe* cqe = nullptr;
        EXPECT_EQ(io_uring_wait_cqe(&ring_, &cqe), 0);
        const int result = cqe->res;
        io_uring_cqe_seen(&ring_, cqe);
        return result;
    }
    // recv(2) into memory, past what a sanitizer would say of it.
    int receive(void* into, std::size_t size) {
        EXPECT_EQ(::write(ends_[1], "hello", 5), 5);
        const long got = ::syscall(SYS_recvfrom, ends_[0], into, size, MSG_DONTWAIT, 0L, 0L);
        return got < 0 ? -errno : static_cast<int>(got);
    }

    int ends_[2] = {-1, -1};
    io_uring ring_{};
    bool ring_made_ = false;
};

#define SKIP_WITHOUT_RING() \
    if (!ring_made_) GTEST_SKIP() << "this machine refuses io_uring"

TEST_F(Electric, kernel_cannot_write_into_a_heap_buffer_that_went) {
    SKIP_WITHOUT_RING();
    for (const std::size_t size : {1u, 100u, 4096u, 100000u}) {
        Buffer buffer = Buffer::allocate(size);
        begin_receive(buffer.data(), size);
        buffer.reset();  // the mistake
        EXPECT_EQ(end_receive(), -EFAULT) << size;
        TearDown();
        SetUp();
    }
}

TEST_F(Electric, kernel_cannot_write_into_a_pool_buffer_that_went) {
    SKIP_WITHOUT_RING();
    BufferPool* pool = BufferPool::create(std::size_t{4} << 20);
    for (const std::size_t size : BufferPool::class_size) {
        Buffer buffer = pool->get(size);
        begin_receive(buffer.data(), size);
        buffer.reset();  // the mistake
        const Buffer other = pool->get(size);
        EXPECT_EQ(end_receive(), -EFAULT) << size;
        TearDown();
        SetUp();
    }
    EXPECT_TRUE(pool->check());
    pool->close();
}

TEST_F(Electric, kernel_writes_into_a_buffer_that_is_still_there) {
    SKIP_WITHOUT_RING();
    BufferPool* pool = BufferPool::create(std::size_t{4} << 20);
    for (const bool pooled : {false, true}) {
        Buffer buffer = pooled ? pool->get(256) : Buffer::allocate(256);
        begin_receive(buffer.data(), buffer.capacity());
        ASSERT_EQ(end_receive(), 5);
        EXPECT_EQ(std::memcmp(buffer.data(), "hello", 5), 0);
    }
    pool->close();
}

TEST_F(Electric, nobody_writes_beyond_the_end) {
    BufferPool* pool = BufferPool::create(std::size_t{4} << 20);
    for (const bool pooled : {false, true}) {
        Buffer buffer = pooled ? pool->get(1024) : Buffer::allocate(1024);
        ASSERT_EQ(receive(buffer.data() + buffer.capacity() - 5, 5), 5);
        ASSERT_EQ(receive(buffer.data() + buffer.capacity(), 5), -EFAULT);
        ASSERT_EQ(receive(buffer.data(), 5), 5);  // what was not delivered is still there
    }
    pool->close();
}

TEST_F(Electric, a_free_block_is_used_again_as_late_as_possible) {
    BufferPool* pool = BufferPool::create(std::size_t{1} << 20);
    const std::byte* first = nullptr;
    std::set<const std::byte*> seen;
    for (int round = 0; round < 64; ++round) {  // 64 KiB are 64 blocks of this class
        Buffer buffer = pool->get(1024);
        std::memset(buffer.data(), round, buffer.capacity());
        if (first == nullptr) first = buffer.data();
        EXPECT_TRUE(seen.insert(buffer.data()).second) << round;
    }
    EXPECT_EQ(pool->get(1024).data(), first);
    EXPECT_EQ(pool->bytes_mapped(), 65536u);
    EXPECT_TRUE(pool->check());
    pool->close();
}

TEST_F(Electric, the_limit_of_the_pool_is_the_same) {
    BufferPool* pool = BufferPool::create(65536);
    std::vector<Buffer> buffers;
    for (;;) {
        Buffer buffer = pool->get(4096);
        if (!buffer) break;
        buffers.push_back(std::move(buffer));
    }
    EXPECT_EQ(buffers.size(), 16u);
    buffers.erase(buffers.begin());
    EXPECT_TRUE(pool->get(4096));
    buffers.clear();
    EXPECT_TRUE(pool->check());
    pool->close();
}

TEST_F(Electric, thousands_of_buffers_come_and_go) {
    for (int round = 0; round < 20000; ++round) {
        const Buffer buffer = Buffer::allocate(64);
        ASSERT_TRUE(buffer) << round;
    }
}

}  // namespace
}  // namespace whorl
