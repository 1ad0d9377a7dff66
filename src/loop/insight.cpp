// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/insight.hpp"

#include "loop/core.hpp"
#include "loop/latency.hpp"
#include "loop/meter.hpp"
#include "loop/post_queue.hpp"

#include <whorl/remote.hpp>

#include <algorithm>
#include <new>

namespace whorl::detail {

namespace {
constexpr std::size_t entries_step = std::size_t{64} * 1024;
}

// --- where posts were made

bool PostSites::grow() noexcept {
    const std::uint64_t capacity = capacity_ == 0 ? 64 : capacity_ * 2;
    auto* entries = new (std::nothrow) Entry[capacity];
    if (entries == nullptr) return false;
    for (std::uint64_t number = first_; number != next_; ++number) {
        entries[number & (capacity - 1)] = entries_[number & (capacity_ - 1)];
    }
    delete[] entries_;
    entries_ = entries;
    capacity_ = capacity;
    return true;
}

void PostSites::push(Site site, std::uint64_t posted_ns) noexcept {
    const std::uint64_t number = next_;
    const bool room = next_ - first_ < capacity_ || grow();
    ++next_;
    if (room) entries_[number & (capacity_ - 1)] = {site, posted_ns, number};
}

PostSites::Entry PostSites::pop() noexcept {
    WHORL_ASSERT(first_ != next_);
    const std::uint64_t number = first_++;
    if (capacity_ == 0) return {};
    const Entry& entry = entries_[number & (capacity_ - 1)];
    return entry.number == number ? entry : Entry{};
}

// --- life

Insight::Insight(LoopCore& owner) noexcept : core(owner) {}

Insight::~Insight() {
    delete latency;
    if (entries != nullptr) address_release(entries, entries_bytes);
}

Error Insight::open() noexcept {
    simulated = core.options.world != nullptr;
    const std::size_t bytes = (std::size_t{core.options.ops_max} + 1) * sizeof(InsightEntry);
    entries_bytes = (bytes + entries_step - 1) / entries_step * entries_step;
    entries = static_cast<InsightEntry*>(address_reserve(entries_bytes));
    if (core.options.operation_latency) latency = new (std::nothrow) LatencyTable;
    const bool all = entries != nullptr && (latency != nullptr || !core.options.operation_latency);
    return all ? Error() : Error::from_errno(ENOMEM);
}

std::uint64_t Insight::now_ns() noexcept {
    if (!simulated) return clock.now_ns();
    return static_cast<std::uint64_t>(core.system.now().time_since_epoch().count());
}

// The entry of a slot; null when there is no memory for it.
InsightEntry* Insight::claim(std::uint32_t index) noexcept {
    const std::size_t end = (std::size_t{index} + 1) * sizeof(InsightEntry);
    while (end > entries_committed) {
        auto* start = reinterpret_cast<std::byte*>(entries) + entries_committed;
        if (!address_commit(start, entries_step)) return nullptr;
        entries_committed += entries_step;
    }
    return entries + index;
}

const InsightEntry* Insight::find(const OpRecord& record) const noexcept {
    const std::uint32_t index = core.operations.index_of(&record);
    if ((std::size_t{index} + 1) * sizeof(InsightEntry) > entries_committed) return nullptr;
    return entries[index].generation == record.generation ? entries + index : nullptr;
}

// --- the points

void LoopCore::committed(OpRecord& record, Site site) noexcept {
    note_work();
    if (meter != nullptr) meter->submitted(record.kind);
    if (insight != nullptr) insight->submitted(record, site);
}

void Insight::submitted(OpRecord& record, Site site) noexcept {
    InsightEntry* entry = claim(core.operations.index_of(&record));
    if (entry == nullptr) return;
    *entry = {record.thunk, site.file, site.line, record.generation, now_ns(), 0, 0, {}};
    record.thunk = &Insight::thunk;
}

void Insight::posted(Site site) noexcept { post_sites.push(site, now_ns()); }

Error Insight::wait(Nanoseconds timeout) noexcept {
    if (!core.submissions.empty()) handed(core.submissions);
    wait_begins();
    const Error error = core.driver->wait(core.submissions, timeout, core.batch);
    wait_ends(core.batch);
    return error;
}

// One stamp for all that go in one call. What is handed over again keeps its first.
void Insight::handed(const OpList& submissions) noexcept {
    const std::uint64_t time_ns = now_ns();
    for (std::uint32_t index = submissions.head; index != 0;) {
        const OpRecord& record = core.operations.at(index);
        index = record.link;
        const InsightEntry* known = find(record);
        if (known == nullptr) continue;
        InsightEntry& entry = entries[known - entries];
        if (entry.handed_ns == 0) entry.handed_ns = time_ns;
    }
}

void Insight::wait_begins() noexcept {}

void Insight::wait_ends(const CompletionBatch& batch) noexcept {
    if (batch.empty()) return;
    const std::uint64_t time_ns = now_ns();
    collected_ns = time_ns;
    for (std::uint32_t next = batch.taken; next < batch.count; ++next) {
        const OpRecord* record = core.operations.find(batch.entries[next].operation);
        const InsightEntry* known = record == nullptr ? nullptr : find(*record);
        if (known != nullptr) entries[known - entries].completed_ns = time_ns;
    }
}

// The slot may be free and taken by another operation before the handler ends: nothing of it is used
// after this.
void Insight::handler_begins(const HandlerRun& run) noexcept {
    running = run;
    running.begun_ns = now_ns();
    in_handler = true;
}

void Insight::handler_ends() noexcept {
    in_handler = false;
    if (latency != nullptr) latency->record(running, collected_ns, now_ns());
}

void Insight::dropped(const OpRecord&, const InsightEntry&) noexcept {}

void Insight::cancel_asked(const OpRecord&) noexcept {}

void Insight::turn_begins() noexcept { clock.sync(); }

void Insight::turn_ends() noexcept {}

// What every operation that was committed is called through.
void Insight::thunk(Loop& loop, OpRecord& record, Delivery* delivery) {
    LoopCore& core = loop.core();
    Insight& insight = *core.insight;
    const InsightEntry& entry = insight.entries[core.operations.index_of(&record)];
    WHORL_ASSERT(entry.generation == record.generation);
    const Thunk own = entry.thunk;
    if (delivery == nullptr) {
        insight.dropped(record, entry);
        return own(loop, record, nullptr);
    }
    HandlerRun run;
    run.kind = static_cast<std::uint8_t>(record.kind);
    run.last = !delivery->more;
    run.handle = core.handle_of(record);
    run.code = reinterpret_cast<const void*>(own);
    run.site.file = entry.file;
    run.site.line = entry.line;
    run.submitted_ns = entry.submitted_ns;
    run.handed_ns = entry.handed_ns;
    run.completed_ns = entry.completed_ns;
    const HandlerSpan span(insight, run);
    own(loop, record, delivery);
}

void Insight::run_post(PostSlot& slot) {
    const PostSites::Entry entry = post_sites.pop();
    if (core.dropping) return slot.run(*core.loop, slot.closure, false);
    HandlerRun run;
    run.kind = kind_post;
    run.last = true;
    run.code = reinterpret_cast<const void*>(slot.run);
    run.site = entry.site;
    run.submitted_ns = entry.posted_ns;
    const HandlerSpan span(*this, run);
    slot.run(*core.loop, slot.closure, true);
}

void Insight::run_remote(RemotePost& post) {
    if (core.dropping) return post.run(nullptr, &post);
    HandlerRun run;
    run.kind = kind_remote_post;
    run.last = true;
    run.code = reinterpret_cast<const void*>(post.run);
    const HandlerSpan span(*this, run);
    post.run(core.loop, &post);
}

}  // namespace whorl::detail
