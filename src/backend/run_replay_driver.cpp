// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/run_record.hpp"
#include "backend/run_replayer.hpp"

#include <cerrno>
#include <cstdio>
#include <new>

// The driver that gives back recorded completions. Each wait must hand over what it handed over then;
// the answers, and what came with them, are those of the log.

namespace whorl::detail {

namespace {

// Somebody asked that the record end; counts only once the log answers no more.
constexpr std::uint16_t op_asked_to_end = op_backend_1;

class ReplayDriver final : public Driver {
  public:
    ReplayDriver(const DriverContext& context, RunReplayer& replayer) noexcept
        : context_(context), replayer_(replayer), log_(replayer.log) {}

    Error bind() noexcept override {
        replayer_.bound();
        return Error::from_value(asked(RunAsk::bind));
    }
    Error wait(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept override;
    bool quiet() noexcept override { return asked(RunAsk::quiet) != 0; }
    void cancel(OpRecord& record) noexcept override;
    void flush() noexcept override {}
    void forget(Descriptor&) noexcept override {}
    void forget_watch(OpRecord&) noexcept override {}
    bool buffers_ready() const noexcept override { return asked(RunAsk::buffers_ready) != 0; }
    bool bulk_buffers_ready() const noexcept override {
        return asked(RunAsk::bulk_buffers_ready) != 0;
    }
    Error watch_wake(int) noexcept override { return Error::from_value(asked(RunAsk::watch_wake)); }
    // Its host is not in the log.
    Result<int> notify_fd() noexcept override { return Error::from_errno(EOPNOTSUPP); }
    Instant wakes_at() const noexcept override {
        const std::int64_t never = instant_never.time_since_epoch().count();
        return Instant(Nanoseconds(replayer_.ask(RunAsk::wakes_at, never)));
    }
    std::uint32_t features() const noexcept override {
        return static_cast<std::uint32_t>(asked(RunAsk::features));
    }

  private:
    std::int32_t asked(RunAsk ask) const noexcept {
        return static_cast<std::int32_t>(replayer_.ask(ask, 0));
    }
    void take(OpRecord& record) noexcept;
    void compare(OpRecord* record) noexcept;
    void complete(CompletionBatch& batch) noexcept;
    bool fill(OpRecord& record, Completion& completion) noexcept;
    bool fill_block(OpRecord& record, Completion& completion, std::uint64_t capacity) noexcept;
    Error wait_over(OpList& submissions, CompletionBatch& batch) noexcept;

    DriverContext context_;
    RunReplayer& replayer_;
    RunLogReader& log_;
};

// "recv on slot 3"; an operation without a descriptor: "nop".
void describe(char (&text)[64], std::uint64_t kind, std::uint64_t descriptor) noexcept {
    const char* name = kind < op_kind_count ? name_of(static_cast<OpKind>(kind)) : "unknown";
    if (descriptor == 0) std::snprintf(text, sizeof text, "%s", name);
    else std::snprintf(text, sizeof text, "%s on slot %u", name, static_cast<unsigned>(descriptor));
}

void ReplayDriver::take(OpRecord& record) noexcept {
    record.flags &= static_cast<std::uint16_t>(~op_asked_to_end);
    lend(record);
}

// The next submission of the entry against `record`, what the program hands over; null: it has no more.
void ReplayDriver::compare(OpRecord* record) noexcept {
    const std::uint64_t kind = log_.number();
    const std::uint64_t handle = log_.number();
    const std::uint64_t descriptor = log_.number();
    const std::uint64_t details = log_.number();
    const std::uint64_t bytes = log_.number();
    if (log_.bad()) return replayer_.damaged();
    char then[64];
    char now[64];
    describe(then, kind, descriptor);
    if (record == nullptr) {
        return replayer_.diverged("the recorded run submitted %s, the program nothing more", then);
    }
    const RunSubmission given = run_submission(context_, *record);
    describe(now, static_cast<std::uint64_t>(given.kind), given.descriptor);
    if (static_cast<std::uint64_t>(given.kind) != kind || given.descriptor != descriptor) {
        return replayer_.diverged("the recorded run submitted %s, the program %s", then, now);
    }
    if (given.details != details) {
        return replayer_.diverged(
            "both submitted %s, with another size, offset, flag, address or path", now);
    }
    if (given.bytes != bytes && replayer_.bytes_count) {
        return replayer_.diverged("both submitted %s, with other bytes to send", now);
    }
    if (given.handle != handle) {
        return replayer_.diverged("both submitted %s, in other slots of the loop", now);
    }
    ++replayer_.operations;
}

Error ReplayDriver::wait(OpList& submissions, Nanoseconds, CompletionBatch& batch) noexcept {
    if (!replayer_.expect(RunEntry::wait, "went to wait for completions")) {
        return wait_over(submissions, batch);
    }
    ++replayer_.turns;
    const std::uint64_t count = log_.number();
    for (std::uint64_t index = 0; index < count && !replayer_.over(); ++index) {
        OpRecord* record = submissions.pop_front(context_.operations);
        compare(record);
        if (record != nullptr) take(*record);
    }
    if (!replayer_.over() && !submissions.empty()) {
        OpRecord& more = context_.operations.at(submissions.head);
        char now[64];
        const RunSubmission given = run_submission(context_, more);
        describe(now, static_cast<std::uint64_t>(given.kind), given.descriptor);
        replayer_.diverged("the recorded run submitted nothing more, the program %s", now);
    }
    if (replayer_.over()) return wait_over(submissions, batch);
    replayer_.read_names();
    const auto error = Error::from_value(static_cast<std::int32_t>(log_.number_signed()));
    const std::uint64_t answers = log_.number();
    for (std::uint64_t index = 0; index < answers && !replayer_.over(); ++index) complete(batch);
    if (log_.bad()) replayer_.damaged();
    return replayer_.over() && batch.empty() ? wait_over(submissions, batch) : error;
}

void ReplayDriver::complete(CompletionBatch& batch) noexcept {
    Completion completion{};
    completion.operation = log_.number();
    completion.result = static_cast<std::int32_t>(log_.number_signed());
    completion.flags = static_cast<std::uint32_t>(log_.number());
    const std::uint64_t capacity = log_.number();
    if (log_.bad() || batch.full()) return replayer_.damaged();
    OpRecord* record = context_.operations.find(completion.operation);
    if (record == nullptr) return batch.push(completion);
    const bool ours = record->state == OpState::kernel && (record->flags & op_final_seen) == 0;
    if (!ours) return replayer_.damaged();
    const bool more = (completion.flags & completion_more) != 0;
    if (record->kind == OpKind::work && completion.result == 0) replayer_.perform_work(*record);
    if (!more) give_back(*record);
    const bool filled =
        capacity != 0 ? fill_block(*record, completion, capacity) : fill(*record, completion);
    // Not filled, the replay is over; but the loop hears of an end that was marked.
    if (!filled) completion = {completion.operation, -ECANCELED, 0, nullptr};
    if (filled || !more) batch.push(completion);
}

// What the backend wrote to the record besides.
bool ReplayDriver::fill(OpRecord& record, Completion& completion) noexcept {
    if (sends_zero_copy(record.kind)) {
        record.extra = log_.number() | (record.extra & zero_copy_left_side);
    } else if ((completion.flags & completion_more) == 0) {
        for_each_written(record, completion.result, [this](void* data, std::size_t size) {
            if (!replayer_.over()) static_cast<void>(replayer_.copy_part(data, size));
        });
    }
    if (log_.bad()) replayer_.damaged();
    return !replayer_.over();
}

bool ReplayDriver::fill_block(OpRecord& record, Completion& completion,
                              std::uint64_t capacity) noexcept {
    const auto size = static_cast<std::size_t>(completion.result > 0 ? completion.result : 0);
    const bool fits =
        fills_blocks(record.kind) && size <= capacity && capacity <= BufferPool::block_size_max;
    if (!fits) {
        replayer_.damaged();
        return false;
    }
    completion.block =
        context_.pool.take(BufferPool::class_for(static_cast<std::size_t>(capacity)));
    if (completion.block == nullptr) {
        replayer_.diverged("there is no memory for a received buffer, where there was");
        return false;
    }
    for_each_part(record.kind, completion.block->base, size, [this](void* data, std::size_t part) {
        if (!replayer_.over()) static_cast<void>(replayer_.copy_part(data, part));
    });
    if (!replayer_.over()) return true;
    Buffer::from_owner(completion.block, completion.block->base, 0).reset();
    return false;
}

void ReplayDriver::cancel(OpRecord& record) noexcept {
    record.flags |= op_asked_to_end;
    char doing[96];
    std::snprintf(doing, sizeof doing, "cancelled an operation (%s)", name_of(record.kind));
    if (!replayer_.expect(RunEntry::cancel, doing)) return;
    if (log_.number() == context_.operations.handle_of(&record)) return;
    replayer_.diverged("the recorded run cancelled another operation than the program (%s)",
                       name_of(record.kind));
}

// Nothing happens any more, but what was asked to end ends.
Error ReplayDriver::wait_over(OpList& submissions, CompletionBatch& batch) noexcept {
    while (OpRecord* record = submissions.pop_front(context_.operations)) take(*record);
    context_.operations.for_each_live([&](OpRecord& record) {
        const bool ours = record.state == OpState::kernel && (record.flags & op_final_seen) == 0;
        if (!ours || (record.flags & op_asked_to_end) == 0 || batch.full()) return;
        give_back(record);
        batch.push({context_.operations.handle_of(&record), -ECANCELED, 0, nullptr});
    });
    return batch.empty() ? replayer_.error() : Error();
}

}  // namespace

Result<Driver*> make_replay_driver(const DriverContext& context, RunReplayer& replayer) noexcept {
    auto* driver = new (std::nothrow) ReplayDriver(context, replayer);
    if (driver == nullptr) return Error::from_errno(ENOMEM);
    return static_cast<Driver*>(driver);
}

}  // namespace whorl::detail
