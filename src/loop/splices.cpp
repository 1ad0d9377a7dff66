// SPDX-License-Identifier: MIT
// Floor: 4
#include "backend/payload.hpp"
#include "loop/core.hpp"

#include <cerrno>

// Moving bytes from one descriptor to another. An operation has one side of one descriptor, and this one
// needs two: so it is two records. The operation itself writes; its source, a record of its own, has the
// reading side of the other descriptor until the operation ends, and waits there for something to read.
//
//   source             operation          when
//   queued … kernel    paused             waiting for its turn to read, and for bytes
//   paused             queued … kernel    there are some: they are moved
//   listed … kernel    paused             there were none left; it keeps its turn to write
//
// A source is taken first, so no two operations can wait for each other's sides. Whoever of the two is
// cancelled, by its user or with its descriptor, ends the other.

namespace whorl::detail {

namespace {

// The source has ended inside the loop: with its descriptor, or because its operation has.
void source_thunk(Loop& loop, OpRecord& record, Delivery* delivery) {
    if (delivery != nullptr) loop.core().splice_source_ended(record, delivery->error);
}

// In no list and not with the backend: for as long as the other record has something to do.
void rest(OpRecord& record) noexcept {
    record.state = OpState::paused;
    record.flags &= static_cast<std::uint16_t>(~op_final_seen);
}

}  // namespace

Error LoopCore::splice_open(OpRecord& record, std::uint64_t from, std::uint64_t size) noexcept {
    OpRecord* source = nullptr;
    const SubmitOptions background = [] {
        SubmitOptions options;
        options.background = true;
        return options;
    }();
    if (Error error = claim(OpKind::splice_source, from, &background, source)) return error;
    source->thunk = &source_thunk;
    source->store(std::uint64_t{handle_of(record)});
    record.store(SplicePayload{handle_of(*source), size, source->descriptor});
    rest(record);
    ++apart;
    place(*source);
    return {};
}

// There is something to read, or the end of it.
void LoopCore::advance_splice_source(OpRecord& record, const Completion& completion) {
    OpRecord* operation = operations.find(record.as<std::uint64_t>());
    if (operation == nullptr || completion.result < 0) {
        return splice_source_ended(record, error_of(record, completion.result));
    }
    rest(record);
    if (operation->state != OpState::paused) return;  // it is ending
    operation->state = OpState::ended;
    const std::uint32_t active = descriptors.at(operation->descriptor).write_active;
    if (active == operations.index_of(operation)) list(*operation);
    else place(*operation);
}

void LoopCore::splice_source_ended(OpRecord& record, Error error) noexcept {
    OpRecord* operation = operations.find(record.as<std::uint64_t>());
    record.state = OpState::ended;
    if (operation == nullptr) return release(record);
    // Its descriptor stays as long as the operation names it.
    rest(record);
    if (operation->state == OpState::paused) {
        operation->state = OpState::ended;
        operation->flags |= op_cancelled;
        complete_locally(*operation, error ? error : Error(Error::cancelled));
    } else {
        cancel_record(*operation, op_cancelled);
    }
}

// The operation ends: its source lets go of the reading side.
void LoopCore::splice_end(OpRecord& record) noexcept {
    --apart;
    OpRecord* source = operations.find(record.as<SplicePayload>().source);
    if (source == nullptr) return;
    source->store(std::uint64_t{0});
    if (source->state != OpState::paused) return cancel_record(*source, op_cancelled);
    source->state = OpState::ended;
    release(*source);
}

void LoopCore::advance_splice(OpRecord& record, const Completion& completion) {
    const SplicePayload& payload = record.as<SplicePayload>();
    const bool ending = (record.flags & (op_cancelled | op_timed_out)) != 0;
    if (completion.result > 0) record.progress += static_cast<std::uint64_t>(completion.result);
    if (completion.result == splice_dry) {
        OpRecord* source = operations.find(payload.source);
        if (ending || source == nullptr || source->state != OpState::paused) {
            return finish(record, error_of(record, -ECANCELED), 0);
        }
        rest(record);
        source->state = OpState::ended;
        return list(*source);
    }
    const bool goes_on = completion.result > 0 && record.kind == OpKind::splice;
    if (goes_on && record.progress < payload.size) return stream_resubmit(record);
    finish(record, error_of(record, completion.result), completion.result);
}

}  // namespace whorl::detail
