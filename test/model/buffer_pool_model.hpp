// SPDX-License-Identifier: MIT
#pragma once

#include "model/random.hpp"

#include <whorl/buffer_pool.hpp>

#include <cstdint>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

// Piles of addresses beside a BufferPool; each step is a random call on both.

namespace model {

using whorl::Buffer;
using whorl::BufferPool;

inline constexpr std::uint32_t class_count = BufferPool::class_count;
// As in src/structure/buffer_pool.cpp; a change there is repeated here.
inline constexpr std::size_t chunk_bytes[class_count] = {64 << 10, 64 << 10, 64 << 10, 256 << 10,
                                                         256 << 10};
inline constexpr std::size_t held_max = 2000;

class PoolModel {
  public:
    PoolModel(Run& run, Random& random) : run_(run), random_(random) {
        const std::size_t limits[] = {0, 100, 64 << 10, 200 << 10, 1 << 20, 8 << 20};
        bytes_max_ = limits[random_.below(std::size(limits))];
        pool_ = BufferPool::create(bytes_max_);
        run_.expect(pool_ != nullptr, "create");
        if (random_.one_in(2)) pool_->set_thread();
        pool_->set_returned(
            [](void* self, whorl::PoolBlock&) noexcept {
                ++static_cast<PoolModel*>(self)->returned_;
            },
            this);
    }

    // Some pools are closed with blocks out: they must stay good until the last one is dropped.
    ~PoolModel() {
        const bool late = random_.one_in(2);
        while (!late && !held_.empty()) drop(random_.below(held_.size()));
        check();
        pool_->close();
        pool_ = nullptr;
        while (!held_.empty()) drop(random_.below(held_.size()));
    }

    void step() {
        if (random_.one_in(500)) growing_ = !growing_;
        const std::uint64_t dice = random_.below(16);
        if (dice < 10) {
            if ((dice < 7) == growing_ && held_.size() < held_max) take();
            else if (!held_.empty()) drop(random_.below(held_.size()));
        } else if (dice < 12) {
            share();
        } else if (dice < 14) {
            cut();
        }
        if (random_.one_in(256)) check();
    }

    void check() {
        run_.expect(pool_->check(), "check()");
        run_.expect(pool_->blocks_out() == blocks_out_, "blocks_out()");
        run_.expect(pool_->bytes_mapped() == bytes_mapped_, "bytes_mapped()");
        run_.expect(pool_->bytes_mapped() <= bytes_max_, "more is mapped than the limit");
        run_.expect(returned_ == returned_expected_, "the listener missed a return");
        for (Held& held : held_) verify(held);
    }

  private:
    struct Block {
        std::uint64_t stamp;
        std::size_t capacity;
        std::uint32_t size_class;
        std::uint32_t references;
    };
    struct Held {
        Buffer buffer;
        std::byte* base;
    };

    void take() {
        const std::size_t size =
            random_.below(BufferPool::class_size[random_.below(class_count)] + 2);
        const std::uint32_t size_class = BufferPool::class_for(size);
        run_.expect(size_class == class_count || size <= BufferPool::class_size[size_class],
                    "class_for: too small");
        run_.expect(size_class == 0 || size > BufferPool::class_size[size_class - 1],
                    "class_for: larger than needed");
        if (size_class == class_count) return take_from_heap(size);

        std::uint32_t from = size_class;  // where the block must come from
        bool grown = false;
        if (free_[from].empty()) {
            grown = bytes_mapped_ + chunk_bytes[from] <= bytes_max_;
            while (!grown && from < class_count && free_[from].empty()) ++from;
        }
        run_.expect(pool_->available(size_class) == (from < class_count), "available()");
        Buffer buffer = pool_->get(size);
        if (from == class_count) return run_.expect(!buffer, "a block beyond the limit");
        run_.expect(static_cast<bool>(buffer), "no block, though one is free");
        run_.expect(buffer.size() == 0 && buffer.headroom() == 0, "a block is not fresh");
        run_.expect(buffer.capacity() == BufferPool::class_size[from], "a block of another class");
        if (grown) {
            grow(from, buffer.data());
        } else {
            run_.expect(buffer.data() == free_[from].back(), "not the block returned last");
            free_[from].pop_back();
        }
        ++blocks_out_;
        run_.note(from);
        hold(std::move(buffer), from);
    }

    void take_from_heap(std::size_t size) {
        Buffer buffer = pool_->get(size);
        run_.expect(buffer.capacity() == size, "a heap buffer of another size");
        hold(std::move(buffer), class_count);
    }

    // The first block of a new chunk is at its start; the others are free, the lowest next.
    void grow(std::uint32_t size_class, std::byte* start) {
        const std::size_t size = BufferPool::class_size[size_class];
        for (std::size_t at = chunk_bytes[size_class] - size; at > 0; at -= size) {
            free_[size_class].push_back(start + at);
        }
        bytes_mapped_ += chunk_bytes[size_class];
    }

    void hold(Buffer buffer, std::uint32_t size_class) {
        std::byte* base = buffer.data();
        const Block block{random_.next(), buffer.capacity(), size_class, 1};
        run_.expect(blocks_.emplace(base, block).second, "a block in use was given out");
        std::memcpy(base + block.capacity - sizeof block.stamp, &block.stamp, sizeof block.stamp);
        std::memcpy(base, &block.stamp, sizeof block.stamp);
        buffer.resize(buffer.capacity());
        held_.push_back({std::move(buffer), base});
    }

    void share() {
        if (held_.empty() || held_.size() >= held_max) return;
        Held& held = held_[random_.below(held_.size())];
        Buffer other = held.buffer.share();
        run_.expect(other.data() == held.buffer.data(), "shared bytes are elsewhere");
        run_.expect(!other.writable() && !held.buffer.writable(), "shared bytes are writable");
        ++blocks_.at(held.base).references;
        std::byte* base = held.base;
        held_.push_back({std::move(other), base});
    }

    // Moves bytes between a buffer and its headroom; the block behind it does not change.
    void cut() {
        if (held_.empty()) return;
        Held& held = held_[random_.below(held_.size())];
        held.buffer.trim_front(random_.below(held.buffer.size() + 1));
        std::byte* start = held.buffer.prepend(random_.below(held.buffer.headroom() + 1));
        run_.expect(start == held.buffer.data(), "prepend() is not where data() is");
    }

    void verify(Held& held) {
        const Block& block = blocks_.at(held.base);
        std::uint64_t first = 0, last = 0;
        std::memcpy(&first, held.base, sizeof first);
        std::memcpy(&last, held.base + block.capacity - sizeof last, sizeof last);
        run_.expect(first == block.stamp && last == block.stamp, "a held block was overwritten");
        run_.expect(held.buffer.writable() == (block.references == 1), "writable()");
        run_.expect(held.base + held.buffer.headroom() == held.buffer.data(), "headroom()");
        run_.expect(held.buffer.headroom() + held.buffer.capacity() == block.capacity,
                    "capacity()");
    }

    void drop(std::uint64_t index) {
        std::swap(held_[index], held_.back());
        Held& held = held_.back();
        verify(held);
        const auto at = blocks_.find(held.base);
        const std::uint32_t size_class = at->second.size_class;
        if (--at->second.references == 0) {
            blocks_.erase(at);
            if (size_class < class_count) {
                free_[size_class].push_back(held.base);
                --blocks_out_;
                if (pool_ != nullptr) ++returned_expected_;
            }
        }
        held_.pop_back();
        run_.note(size_class);
        run_.expect(returned_ == returned_expected_, "the listener");
    }

    Run& run_;
    Random& random_;
    BufferPool* pool_ = nullptr;
    std::vector<Held> held_;
    std::map<std::byte*, Block> blocks_;         // in use, by first byte
    std::vector<std::byte*> free_[class_count];  // the one to take next last
    std::size_t bytes_max_ = 0;
    std::size_t bytes_mapped_ = 0;
    std::uint32_t blocks_out_ = 0;
    std::uint64_t returned_ = 0;
    std::uint64_t returned_expected_ = 0;
    bool growing_ = true;
};

}  // namespace model
