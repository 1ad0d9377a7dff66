// SPDX-License-Identifier: MIT
// Floor: 4
#include "backend/process_calls.hpp"
#include "loop/core.hpp"

#include <csignal>

// Signals and child processes: what an answer means, and how a child is let go.
//
// A child whose handle is closed before it has ended has nobody else who would wait for it, so the
// loop does, by a wait_child of its own in the background, and keeps the descriptor until then:
//
//   closing   reaping   closed while it runs                    descriptor_close, process_close
//   closing   (free)    it has ended, or the loop ends          descriptor_close, process_close

namespace whorl::detail {

namespace {

// The end of a child that nobody asked for.
void reaped_thunk(Loop& loop, OpRecord& record, Delivery* delivery) {
    if (delivery == nullptr) return;
    static_cast<void>(record.take<Buffer>());
    loop.core().release(record);
}

bool has_reaped(const OpRecord& record, std::int32_t result) noexcept {
    return record.kind == OpKind::wait_child && (result == 0 || result == -ECHILD);
}

}  // namespace

void LoopCore::advance_process(OpRecord& record, const Completion& completion) {
    if (record.kind == OpKind::signal_stream) return advance_signal_stream(record, completion);
    if (record.kind == OpKind::spawn) return advance_spawn(record, completion);
    if (has_reaped(record, completion.result)) {
        descriptors.at(record.descriptor).flags |= child_reaped;
    }
    finish(record, error_of(record, completion.result), completion.result);
}

// One signal each time it is handed over.
void LoopCore::advance_signal_stream(OpRecord& record, const Completion& completion) {
    WHORL_ASSERT((completion.flags & completion_more) == 0);
    const std::int32_t result = completion.result;
    if (result < 0) return finish(record, error_of(record, result), result);
    stream_resubmit(record);
    Delivery delivery;
    delivery.more = true;
    ++statistics.handlers;
    record.thunk(*loop, record, &delivery);
}

void LoopCore::advance_spawn(OpRecord& record, const Completion& completion) {
    Descriptor& descriptor = descriptors.at(record.descriptor);
    const Error error = error_of(record, completion.result);
    if (error) {
        descriptor.state = DescriptorState::closing;
        return finish(record, error, completion.result);
    }
    child_adopt(record);
    descriptor.state = DescriptorState::open;
    finish(record, error, completion.result, descriptors.handle_of(&descriptor));
}

void LoopCore::child_adopt(OpRecord& record) noexcept {
    const SpawnBlock& block = spawn_block_of(record);
    Descriptor& descriptor = descriptors.at(record.descriptor);
    descriptor.fd = block.pidfd;
    descriptor.buffers_out = static_cast<std::uint32_t>(block.pid);
    descriptor.flags = block.kill_on_close ? child_kill_on_close : 0;
}

// Ends what a Spawn holds for its child, and the parent's ends of its pipes when there is no child.
void LoopCore::spawn_settle(OpRecord& record, bool keep_pipes) noexcept {
    SpawnBlock& block = spawn_block_of(record);
    for (int& stream : block.streams) {
        if (stream >= 0) static_cast<void>(system.close(stream));
        stream = stream_null;
    }
    for (std::uint32_t index = 0; index < block.others_count; ++index) {
        int& other = block.others[index].fd;
        if (other >= 0) static_cast<void>(system.close(other));
        other = -1;
    }
    for (std::uint64_t& pipe : block.pipes) {
        // While the loop is destroyed, they may be gone already.
        if (pipe != 0 && !keep_pipes) static_cast<void>(descriptor_shut(pipe, nullptr));
        if (!keep_pipes) pipe = 0;
    }
}

// A completion that nobody hears: the loop is being destroyed.
void LoopCore::process_drop(OpRecord& record, const Completion& completion) noexcept {
    if (has_reaped(record, completion.result)) {
        descriptors.at(record.descriptor).flags |= child_reaped;
    }
    if (record.kind == OpKind::spawn && completion.result == 0) child_adopt(record);
    if (record.kind == OpKind::spawn) {
        descriptors.at(record.descriptor).state = DescriptorState::closing;
    }
}

// Lets go of a set of signals or of a child. False: the child runs, and the loop waits for it.
bool LoopCore::process_close(Descriptor& descriptor) noexcept {
    if (descriptor.fd < 0) return true;  // a child that never was
    ProcessCalls& calls = system.process_calls();
    if (descriptor.kind == DescriptorKind::signals) {
        calls.signals_close(descriptor.fd, descriptor.buffers_out);
        return true;
    }
    if ((descriptor.flags & (child_kill_on_close | child_reaped)) == child_kill_on_close) {
        static_cast<void>(calls.child_signal(descriptor.fd, SIGKILL));
        descriptor.flags = child_killed;
    }
    const bool alive = (descriptor.flags & child_reaped) == 0 &&
                       calls.child_wait(descriptor.fd, nullptr) == -EAGAIN;
    const bool tried = (descriptor.flags & child_left) != 0;
    if (alive && !draining && !tried && child_reap_later(descriptor)) return false;
    if (alive && (descriptor.flags & child_killed) != 0) {
        static_cast<void>(calls.child_settle(descriptor.fd, options.shutdown_bound));
    }
    static_cast<void>(system.close(descriptor.fd));
    return true;
}

// False when no slot is free for it.
bool LoopCore::child_reap_later(Descriptor& descriptor) noexcept {
    OpRecord* record = operations.claim();
    if (record == nullptr) return false;
    record->kind = OpKind::wait_child;
    record->state = OpState::ended;
    record->flags = op_background;
    record->thunk = &reaped_thunk;
    record->progress = 0;
    record->extra = 0;
    record->link_previous = 0;
    record->deadline = 0;
    record->descriptor = descriptors.index_of(&descriptor);
    record->store(Buffer());
    descriptor.flags |= child_left;
    ++descriptor.operations;
    descriptor.read_active = operations.index_of(record);
    list(*record);
    const std::uint32_t close_record = descriptor.close_record;
    descriptor.close_record = 0;
    if (close_record != 0) complete_locally(operations.at(close_record), Error());
    note_work();
    return true;
}

}  // namespace whorl::detail
