// SPDX-License-Identifier: MIT
// Floor: 6
#include "dns/state.hpp"

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>

#include <algorithm>
#include <cerrno>
#include <new>

// Where questions and answers are found: a table of chains, and the order of use.

namespace whorl::dns::detail {

namespace {

constexpr std::size_t buckets_min = 64;
constexpr std::size_t buckets_max = std::size_t{1} << 20;

char lower(char sign) noexcept {
    return sign >= 'A' && sign <= 'Z' ? static_cast<char>(sign + ('a' - 'A')) : sign;
}

std::size_t bytes_of(const Entry& entry) noexcept {
    return sizeof(Entry) + entry.name_size + 1 + entry.answer->bytes;
}

}  // namespace

std::uint64_t hash_of(const Question& question) noexcept {  // FNV-1a
    std::uint64_t hash = 14695981039346656037u + static_cast<std::uint64_t>(question.family) * 8 +
                         static_cast<std::uint64_t>(question.kind);
    for (const char sign : question.name) {
        hash = (hash ^ static_cast<unsigned char>(lower(sign))) * 1099511628211u;
    }
    return hash;
}

Error State::table_open() noexcept {
    std::size_t count = buckets_min;
    while (count < options.cache_max && count < buckets_max) count *= 2;
    buckets.reset(whorl::detail::make_zeros<Entry*>(count));
    if (!buckets) return Error::from_errno(ENOMEM);
    bucket_mask = count - 1;
    return {};
}

Entry* State::find(const Question& question, std::uint64_t hash) noexcept {
    const auto same = [&](Entry& entry) {
        return entry.hash == hash && entry.kind == question.kind &&
               entry.family == question.family && entry.name_size == question.name.size() &&
               std::equal(question.name.begin(), question.name.end(), entry.name(),
                          [](char asked, char known) { return lower(asked) == known; });
    };
    Entry* at = buckets[hash & bucket_mask];
    while (at != nullptr && !same(*at)) at = at->next_in_bucket;
    return at;
}

// The last of those that are pending. Null: no memory.
Entry* State::make(const Question& question, std::uint64_t hash) noexcept {
    const std::size_t size = question.name.size();
    void* memory = whorl::detail::object_take(sizeof(Entry) + size + 1, alignof(Entry));
    if (memory == nullptr) return nullptr;
    auto* entry = ::new (memory) Entry(*this);
    std::transform(question.name.begin(), question.name.end(), entry->name(), lower);
    entry->name()[size] = 0;
    entry->name_size = static_cast<std::uint32_t>(size);
    entry->hash = hash;
    entry->kind = question.kind;
    entry->family = question.family;
    Entry*& bucket = buckets[hash & bucket_mask];
    entry->next_in_bucket = bucket;
    bucket = entry;
    pending.push_back(*entry);
    return entry;
}

// Takes over the answer.
void State::keep(Entry& entry, Answer* answer, Nanoseconds time) noexcept {
    entry.stage = Stage::kept;
    entry.answer = answer;
    entry.expires = loop->now() + time;
    kept.push_back(entry);
    ++statistics.entries;
    statistics.bytes += bytes_of(entry);
    while (statistics.entries > options.cache_max || statistics.bytes > options.cache_bytes_max) {
        ++statistics.evicted;
        drop(static_cast<Entry&>(*kept.pop_front()));
    }
}

void State::use(Entry& entry) noexcept {
    List::remove(entry);
    kept.push_back(entry);
}

void State::drop(Entry& entry) noexcept {
    Entry** at = &buckets[entry.hash & bucket_mask];
    while (*at != &entry) at = &(*at)->next_in_bucket;
    *at = entry.next_in_bucket;
    if (List::is_linked(entry)) List::remove(entry);
    if (entry.stage == Stage::kept) {
        --statistics.entries;
        statistics.bytes -= bytes_of(entry);
    }
    answer_release(entry.answer);
    const std::size_t size = sizeof(Entry) + entry.name_size + 1;
    entry.~Entry();
    whorl::detail::object_give(&entry, size, alignof(Entry));
}

void State::clear() noexcept {
    while (ListNode* node = kept.pop_front()) drop(static_cast<Entry&>(*node));
    WHORL_ASSERT(statistics.entries == 0 && statistics.bytes == 0);
}

}  // namespace whorl::dns::detail
