// SPDX-License-Identifier: MIT
// Goal: memory goes back once, when its last buffer goes, whatever its source; and nothing is taken
// when memory is exhausted. Method: every source through the same life; counting deleters; an operator
// new that fails on demand (run under AddressSanitizer as well).
#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/buffer_pool.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace {
bool exhausted = false;
}

// Only these two are replaced, and on top of the ordinary ones, so that the sanitizers' still match.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return exhausted ? nullptr : operator new(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return exhausted ? nullptr : operator new[](size);
}

namespace {

using whorl::adopt;
using whorl::Buffer;
using whorl::BufferPool;
using whorl::Bytes;
using whorl::reclaim;

struct Exhausted {
    Exhausted() { exhausted = true; }
    ~Exhausted() { exhausted = false; }
};

// Asked through the library: Valgrind puts an operator new of its own in the place of ours there.
bool can_exhaust() {
    const Exhausted now;
    BufferPool* pool = BufferPool::create(0);
    if (pool != nullptr) pool->close();
    return pool == nullptr;
}

// The buffer's address leaves the compiler's sight: it may leave out an allocation, and with it the
// failure, of a buffer that nobody else sees.
[[gnu::noinline]] bool refused(Buffer buffer) {
    asm volatile("" : : "r"(&buffer) : "memory");
    return !buffer;
}

const std::string long_text(100, 'x');  // too long for a string's own room

void expect_null(Buffer& buffer) {
    EXPECT_FALSE(buffer);
    EXPECT_TRUE(buffer.empty());
    EXPECT_FALSE(buffer.writable());
    EXPECT_EQ(buffer.data(), nullptr);
    EXPECT_EQ(buffer.size(), 0u);
    EXPECT_EQ(buffer.capacity(), 0u);
    EXPECT_EQ(buffer.headroom(), 0u);
    EXPECT_EQ(buffer.owner(), nullptr);
    EXPECT_EQ(buffer.text(), "");
    EXPECT_FALSE(buffer.share());
    buffer.reset();
    buffer.resize(0);
    buffer.trim_front(0);
    EXPECT_FALSE(buffer.append(Bytes("x")));
    EXPECT_TRUE(buffer.append(Bytes(""))) << "nothing always fits";
}

TEST(Buffer, default_is_null) {
    Buffer buffer;
    expect_null(buffer);
}

TEST(Buffer, allocate) {
    for (std::size_t capacity : {1u, 63u, 64u, 65u, 4096u, 1'000'000u}) {
        Buffer buffer = Buffer::allocate(capacity);
        ASSERT_TRUE(buffer);
        EXPECT_EQ(buffer.size(), 0u);
        EXPECT_EQ(buffer.capacity(), capacity);
        EXPECT_EQ(buffer.headroom(), 0u);
        EXPECT_TRUE(buffer.writable());
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
        std::memset(buffer.data(), 1, capacity);
    }
    EXPECT_FALSE(Buffer::allocate(0));
    EXPECT_FALSE(Buffer::allocate(SIZE_MAX));
    EXPECT_FALSE(Buffer::allocate(SIZE_MAX - 64));
    EXPECT_FALSE(Buffer::allocate(SIZE_MAX - 127));
}

TEST(Buffer, copy_of) {
    std::string text = "hello";
    Buffer buffer = Buffer::copy_of(Bytes(text));
    text = "other";
    EXPECT_EQ(buffer.text(), "hello");
    EXPECT_TRUE(buffer.writable());
    EXPECT_FALSE(Buffer::copy_of(Bytes("")));
}

TEST(Buffer, of_static_is_read_only) {
    static const char text[] = "hello";
    Buffer buffer = Buffer::of_static(Bytes(text));
    ASSERT_TRUE(buffer);
    EXPECT_FALSE(buffer.writable());
    EXPECT_EQ(static_cast<const void*>(buffer.data()), text);
    EXPECT_EQ(buffer.text(), "hello");
    EXPECT_EQ(buffer.capacity(), 5u);
    Buffer other = buffer.share();
    buffer.trim_front(2);
    EXPECT_EQ(buffer.text(), "llo");
    EXPECT_EQ(buffer.headroom(), 0u) << "what lies before static bytes is nobody's";
    buffer.reset();
    EXPECT_EQ(other.text(), "hello");
}

TEST(Buffer, unsafe_view_writes_through) {
    char memory[8] = "abc";
    {
        Buffer view = Buffer::unsafe_view(memory, 3, sizeof memory);
        EXPECT_TRUE(view.writable());
        EXPECT_EQ(view.text(), "abc");
        EXPECT_TRUE(view.append(Bytes("de")));
        EXPECT_FALSE(view.append(Bytes("too long")));
    }
    EXPECT_STREQ(memory, "abcde");
}

TEST(Buffer, move_leaves_null) {
    Buffer a = Buffer::copy_of(Bytes("hello"));
    Buffer b = std::move(a);
    expect_null(a);
    EXPECT_EQ(b.text(), "hello");
    Buffer c = Buffer::copy_of(Bytes("gone"));
    c = std::move(b);
    expect_null(b);
    EXPECT_EQ(c.text(), "hello");
    Buffer& same = c;
    c = std::move(same);
    EXPECT_EQ(c.text(), "hello");
    c = Buffer();
    expect_null(c);
}

TEST(Buffer, append_fills_to_the_last_byte) {
    Buffer buffer = Buffer::allocate(5);
    EXPECT_TRUE(buffer.append(Bytes("abc")));
    EXPECT_FALSE(buffer.append(Bytes("def")));
    EXPECT_EQ(buffer.text(), "abc") << "a refused append changes nothing";
    EXPECT_TRUE(buffer.append(Bytes("de")));
    EXPECT_EQ(buffer.text(), "abcde");
    EXPECT_TRUE(buffer.append(Bytes("")));
}

TEST(Buffer, header_goes_before_payload) {
    Buffer buffer = Buffer::allocate(16);
    buffer.resize(4);
    buffer.trim_front(4);
    EXPECT_EQ(buffer.headroom(), 4u);
    EXPECT_EQ(buffer.capacity(), 12u);
    EXPECT_TRUE(buffer.append(Bytes("payload")));
    std::memcpy(buffer.prepend(3), "HD:", 3);
    EXPECT_EQ(buffer.text(), "HD:payload");
    EXPECT_EQ(buffer.headroom(), 1u);
    EXPECT_EQ(buffer.capacity(), 15u);
    buffer.trim_front(10);
    EXPECT_TRUE(buffer.empty());
    EXPECT_EQ(buffer.headroom(), 11u);
    EXPECT_EQ(std::memcmp(buffer.prepend(11) + 1, "HD:payload", 10), 0);
}

TEST(Buffer, shared_memory_is_read_only_until_one_is_left) {
    int drops = 0;
    char memory[6] = "hello";
    Buffer a = adopt(memory, 5, [&drops](void*) { ++drops; });
    EXPECT_TRUE(a.writable());
    Buffer b = a.share();
    EXPECT_EQ(b.data(), a.data());
    EXPECT_FALSE(a.writable());
    EXPECT_FALSE(b.writable());
    b.trim_front(2);
    EXPECT_EQ(a.text(), "hello") << "each has a place of its own in the bytes";
    EXPECT_EQ(b.text(), "llo");
    Buffer c = b.share();
    EXPECT_EQ(c.headroom(), 2u);
    a.reset();
    EXPECT_FALSE(b.writable());
    b = Buffer();
    EXPECT_TRUE(c.writable());
    EXPECT_EQ(drops, 0);
    c.reset();
    EXPECT_EQ(drops, 1);
}

TEST(Buffer, adopts_a_string) {
    for (const std::string& text : {std::string("short"), long_text}) {
        std::string source = text;
        const void* bytes = source.data();
        Buffer buffer = adopt(std::move(source));
        ASSERT_TRUE(buffer);
        EXPECT_EQ(buffer.text(), text);
        EXPECT_EQ(buffer.capacity(), text.size());
        EXPECT_TRUE(buffer.writable());
        if (text == long_text) {
            EXPECT_EQ(static_cast<void*>(buffer.data()), bytes);
        }
        Buffer moved = std::move(buffer);
        EXPECT_EQ(moved.text(), text);
        std::string back;
        EXPECT_TRUE(reclaim(moved, back));
        EXPECT_EQ(back, text);
        expect_null(moved);
    }
}

TEST(Buffer, adopts_a_vector_and_an_array) {
    Buffer numbers = adopt(std::vector<std::uint32_t>{1, 2, 3});
    EXPECT_EQ(numbers.size(), 12u);
    std::vector<std::uint32_t> back;
    EXPECT_TRUE(reclaim(numbers, back));
    EXPECT_EQ(back, (std::vector<std::uint32_t>{1, 2, 3}));

    Buffer array = adopt(std::array<char, 4>{'a', 'b', 'c', 'd'});
    EXPECT_EQ(array.text(), "abcd");
}

TEST(Buffer, adopts_an_empty_container) {
    Buffer buffer = adopt(std::vector<char>());
    EXPECT_TRUE(buffer) << "it owns the container, though there are no bytes";
    EXPECT_EQ(buffer.capacity(), 0u);
    EXPECT_EQ(buffer.headroom(), 0u);
    EXPECT_FALSE(buffer.append(Bytes("x")));
}

TEST(Buffer, adopts_a_unique_ptr) {
    auto chars = std::make_unique<char[]>(10);
    const void* bytes = chars.get();
    Buffer buffer = adopt(std::move(chars), 10);
    EXPECT_EQ(static_cast<void*>(buffer.data()), bytes);
    EXPECT_EQ(buffer.size(), 10u);
    Buffer wide = adopt(std::make_unique<std::uint64_t[]>(10), 10);
    EXPECT_EQ(wide.size(), 80u);
}

TEST(Buffer, adopts_a_pointer_with_its_deleter) {
    int drops = 0;
    void* memory = std::malloc(10);
    {
        Buffer buffer = adopt(memory, 10, [&drops, memory](void* pointer) {
            EXPECT_EQ(pointer, memory);
            ++drops;
            std::free(pointer);
        });
        EXPECT_EQ(buffer.size(), 10u);
        EXPECT_EQ(drops, 0);
    }
    EXPECT_EQ(drops, 1);
    Buffer with_function = adopt(std::malloc(10), 10, &std::free);
    EXPECT_EQ(with_function.capacity(), 10u);
    Buffer owning_deleter =
        adopt(std::malloc(10), 10, [held = std::make_unique<int>(1)](void* p) { std::free(p); });
    EXPECT_TRUE(owning_deleter);
}

TEST(Buffer, reclaim_refuses_what_is_not_there) {
    std::string into = "kept";
    Buffer null;
    EXPECT_FALSE(reclaim(null, into));
    Buffer heap = Buffer::copy_of(Bytes("heap"));
    EXPECT_FALSE(reclaim(heap, into));
    EXPECT_EQ(heap.text(), "heap");
    Buffer still = Buffer::of_static(Bytes("static"));
    EXPECT_FALSE(reclaim(still, into));
    Buffer vector = adopt(std::vector<char>{'v'});
    EXPECT_FALSE(reclaim(vector, into)) << "another container";
    EXPECT_EQ(vector.text(), "v");
    Buffer a = adopt(std::string(long_text));
    Buffer b = a.share();
    EXPECT_FALSE(reclaim(a, into)) << "shared";
    EXPECT_EQ(into, "kept");
    b.reset();
    EXPECT_TRUE(reclaim(a, into));
    EXPECT_EQ(into, long_text);
}

TEST(Buffer, comes_from_a_pool) {
    BufferPool* pool = BufferPool::create(1 << 20);
    ASSERT_NE(pool, nullptr);
    Buffer buffer = pool->get(1000);
    EXPECT_EQ(buffer.capacity(), 1024u);
    EXPECT_EQ(buffer.size(), 0u);
    Buffer other = buffer.share();
    buffer.reset();
    EXPECT_EQ(pool->blocks_out(), 1u);
    other.reset();
    EXPECT_EQ(pool->blocks_out(), 0u);
    pool->close();
}

TEST(Buffer, takes_nothing_when_memory_is_exhausted) {
    if (!can_exhaust()) GTEST_SKIP() << "operator new cannot be replaced here";
    std::string text = long_text;
    std::vector<char> vector(50, 'v');
    auto pointer = std::make_unique<char[]>(10);
    bool deleted = false;
    {
        const Exhausted now;
        EXPECT_TRUE(refused(adopt(std::move(text))));
        EXPECT_TRUE(refused(adopt(std::move(vector))));
        EXPECT_TRUE(refused(adopt(std::move(pointer), 10)));
        EXPECT_TRUE(
            refused(adopt(text.data(), text.size(), [&deleted](void*) { deleted = true; })));
        EXPECT_EQ(BufferPool::create(1 << 20), nullptr);
    }
    EXPECT_EQ(text, long_text);
    EXPECT_EQ(vector.size(), 50u);
    EXPECT_NE(pointer, nullptr);
    EXPECT_FALSE(deleted);
}

TEST(Buffer, pool_and_chain_survive_exhausted_memory) {
    if (!can_exhaust()) GTEST_SKIP() << "operator new cannot be replaced here";
    BufferPool* pool = BufferPool::create(1 << 20);
    whorl::BufferChain chain;
    Buffer buffer = Buffer::copy_of(Bytes("kept"));
    {
        const Exhausted now;
        EXPECT_FALSE(pool->get(100));
        EXPECT_TRUE(pool->check());
        EXPECT_FALSE(chain.push_back(std::move(buffer)));
    }
    EXPECT_EQ(buffer.text(), "kept") << "a refused buffer has not been moved from";
    EXPECT_TRUE(chain.empty());
    EXPECT_TRUE(chain.push_back(std::move(buffer)));
    EXPECT_TRUE(pool->get(100));
    pool->close();
}

TEST(BufferDeathTest, limits_are_asserted) {
    Buffer buffer = Buffer::allocate(8);
    buffer.resize(4);
    EXPECT_DEATH(buffer.resize(9), "at most");
    EXPECT_DEATH(buffer.trim_front(5), "at most");
    EXPECT_DEATH(buffer.prepend(1), "at most");
    Buffer shared = buffer.share();
    EXPECT_DEATH(buffer.append(Bytes("x")), "assertion failed: .*writable");
    char byte = 0;
    EXPECT_DEATH(Buffer::unsafe_view(&byte, 2, 1), "assertion failed");
}

}  // namespace
