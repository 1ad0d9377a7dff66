// SPDX-License-Identifier: MIT
// Floor: 4
#include "backend/work_calls.hpp"
#include "loop/core.hpp"
#include "loop/insight.hpp"

#include <whorl/wait.hpp>

#include <algorithm>
#include <new>

// Submission and cancellation: claim a record, list it for the backend, and take it back again.

namespace whorl::detail {

namespace {

// Operations on an open file, as those on paths may or may not name a directory.
constexpr bool names_file(OpKind kind) noexcept {
    return kind >= OpKind::read_at && kind <= OpKind::advise;
}

// Whether an operation of this kind is refused without a descriptor.
bool needs_descriptor(OpKind kind) noexcept {
    if (kind == OpKind::close || names_file(kind)) return true;
    return side_of(kind) != Side::none && !connects(kind);
}

// Whether the loop may hand the record over again after a final answer of the backend.
bool may_go_on(const OpRecord& record) noexcept {
    switch (record.kind) {
        case OpKind::accept_stream:
        case OpKind::recv_stream:
        case OpKind::message_stream:
        case OpKind::signal_stream:
        case OpKind::send_all:
        case OpKind::send_chain:
        case OpKind::send_zero_copy:
        case OpKind::chain_zero_copy:
        case OpKind::write_chain:
        case OpKind::splice:
        case OpKind::send_batch:
        case OpKind::write_all:
        case OpKind::read_exact_at:
        case OpKind::read_chain_at:
        case OpKind::write_all_at:
        case OpKind::write_chain_at:
            return true;
        case OpKind::recv:
            return receives_all(record);
        default:
            return false;
    }
}

inline void begin(OpRecord& record, OpKind kind, std::uint32_t descriptor) noexcept {
    record.progress = 0;
    record.extra = 0;
    record.link_previous = 0;
    record.descriptor = descriptor;
    record.deadline = 0;
    record.kind = kind;
    record.state = OpState::ended;
    record.flags = 0;
}

}  // namespace

// What most submissions come to: claim() without what it has to ask for the others.
Error LoopCore::claim_on(OpKind kind, std::uint64_t target, OpRecord*& claimed) noexcept {
    check_thread();
    if (draining) return Error::loop_closed;
    Descriptor* descriptor = descriptor_find(target);
    if (descriptor == nullptr) return Error::stale_handle;
    OpRecord* record = operations.claim();
    if (record == nullptr) return Error::slots_exhausted;
    begin(*record, kind, static_cast<std::uint32_t>(target));
    ++descriptor->operations;
    ++alive;
    claimed = record;
    return {};
}

Error LoopCore::claim(OpKind kind, std::uint64_t target, const SubmitOptions* options,
                      OpRecord*& claimed) noexcept {
    check_thread();
    if (draining && kind != OpKind::close) return Error::loop_closed;
    Descriptor* descriptor = nullptr;
    if (target != 0 || needs_descriptor(kind)) {
        descriptor = descriptor_find(target);
        if (descriptor == nullptr) return Error::stale_handle;
    }
    if (kind == OpKind::hook && hooks_before_count + hooks_after_count == hooks_max) {
        return Error::slots_exhausted;
    }
    if (kind == OpKind::work && works >= this->options.work_max) return Error::queue_full;
    OpRecord* record = operations.claim();
    if (record == nullptr) return Error::slots_exhausted;
    begin(*record, kind, 0);
    if (options != nullptr) {
        if (Error error = claim_options(*record, *options)) {
            operations.release(record);
            return error;
        }
    }
    if (descriptor != nullptr && kind != OpKind::close) {
        record->descriptor = descriptors.index_of(descriptor);
        ++descriptor->operations;
    }
    if ((record->flags & op_background) == 0) ++alive;
    if (kind == OpKind::work) {
        ++works;
        statistics.works_high = std::max(statistics.works_high, works);
    }
    claimed = record;
    return {};
}

Error LoopCore::claim_options(OpRecord& record, const SubmitOptions& options) noexcept {
    if (options.background) record.flags = op_background;
    const bool limited = options.within != Nanoseconds::max() || options.deadline != instant_never;
    if (limited) {
        if (Error error = claim_deadline(record, options)) return error;
    }
    if (!options.after) return {};
    // What waits inside the program (wait.hpp) cannot wait for its turn to do so.
    const Error error = record.kind == OpKind::wait ? Error(Error::invalid_argument)
                                                    : chain_join(record, options.after.value());
    if (error && record.deadline != 0) deadline_release(record);
    return error;
}

// A deadline is a record of its own in the wheel, so that operations without one stay small.
Error LoopCore::claim_deadline(OpRecord& record, const SubmitOptions& options) noexcept {
    const bool relative = options.within != Nanoseconds::max();
    OpRecord* deadline = operations.claim();
    if (deadline == nullptr) return Error::slots_exhausted;
    deadline->kind = OpKind::deadline;
    deadline->flags = op_background;
    deadline->thunk = nullptr;
    deadline->deadline = 0;
    deadline->descriptor = operations.index_of(&record);
    deadline->progress = record.generation;
    deadline->state = OpState::armed;
    deadline->store(TimerNode{});
    deadline->as<TimerNode>().user = operations.index_of(deadline);
    record.deadline = operations.index_of(deadline);
    // Filed before the next wait: what has passed by then never reaches the backend.
    const Nanoseconds time = relative ? options.within : options.deadline.time_since_epoch();
    deadline->extra = static_cast<std::uint64_t>(time.count());
    deadline->flags |= op_unfiled;
    if (!relative) deadline->flags |= op_absolute;
    unfiled.push_back(operations, *deadline);
    return {};
}

// The usual case: nobody watches, its side is free, and it is new, so that list() would change no flag.
Operation LoopCore::commit(OpRecord& record, Site site) noexcept {
    if (watched) committed(record, site);
    const Side side = side_of(record.kind);
    const bool special = record.state != OpState::ended || side == Side::none ||
                         is_described(record.kind) || nothing_to_send(record);
    if (special) return commit_slowly(record);
    Descriptor& descriptor = descriptors.at(record.descriptor);
    std::uint32_t& active = side == Side::read ? descriptor.read_active : descriptor.write_active;
    if (active != 0) return commit_slowly(record);
    active = operations.index_of(&record);
    list_plain(record);
    return Operation::from_value(handle_of(record));
}

[[gnu::noinline]] Operation LoopCore::commit_slowly(OpRecord& record) noexcept {
    const Operation handle = Operation::from_value(handle_of(record));
    // Else it follows another, or was decided, or armed, while it was being opened.
    if (record.state == OpState::ended) place(record);
    return handle;
}

[[gnu::noinline]] void LoopCore::place_behind(OpRecord& record, OpList& queue) noexcept {
    record.state = OpState::queued;
    queue.push_back(operations, record);
}

[[gnu::noinline]] void LoopCore::release_with_deadline(OpRecord& record) noexcept {
    deadline_release(record);
    release_alone(record);
}

// Ends a record that the backend does not have; its handler runs in the next dispatch.
void LoopCore::complete_locally(OpRecord& record, Error error) noexcept {
    WHORL_ASSERT(record.state != OpState::ready && record.state != OpState::kernel);
    if (record.state == OpState::linked) chain_leave(record);
    record.state = OpState::ready;
    record.extra = static_cast<std::uint32_t>(error.value());
    ready.push_back(operations, record);
    ++ready_count;
    note_work();
}

Cancelled LoopCore::cancel_operation(std::uint64_t handle) noexcept {
    check_thread();
    OpRecord* record = operations.find(handle);
    if (record == nullptr) return Cancelled::not_found;
    if (record->kind == OpKind::hook) return hook_cancel(*record);
    if (record->kind >= OpKind::watch && record->kind != OpKind::wait) return Cancelled::not_found;
    if (record->state == OpState::ready) return Cancelled::already_completing;
    const bool final_seen = (record->flags & op_final_seen) != 0;
    if (final_seen && !may_go_on(*record)) return Cancelled::already_completing;
    cancel_record(*record, op_cancelled);
    return Cancelled::cancelling;
}

// False: what it waits for will end it.
bool LoopCore::wait_leave(OpRecord& record, bool asked) noexcept {
    const WaitKind& kind = *record.as<WaitPayload>().kind;
    if (kind.ask == nullptr) {
        kind.leave(*this, record);
        return true;
    }
    if (!asked) kind.ask(*this, record);
    return false;
}

void LoopCore::cancel_record(OpRecord& record, std::uint16_t reason) noexcept {
    if (record.state == OpState::ready || (record.flags & op_final_seen) != 0) {
        // Too late for what the kernel has said; a stream that would be handed over again ends instead.
        if ((record.flags & (op_cancelled | op_timed_out)) == 0) record.flags |= reason;
        return;
    }
    const bool asked = (record.flags & (op_cancelled | op_timed_out | op_pausing)) != 0;
    if ((record.flags & (op_cancelled | op_timed_out)) == 0) record.flags |= reason;
    if (insight != nullptr && !asked) insight->cancel_asked(record);
    const Error error = error_of(record, -ECANCELED);
    switch (record.state) {
        case OpState::queued: {
            Descriptor& descriptor = descriptors.at(record.descriptor);
            const bool reads = side_of(record.kind) == Side::read;
            (reads ? descriptor.read_queue : descriptor.write_queue).remove(operations, record);
            break;
        }
        case OpState::listed:
            submissions.remove(operations, record);
            break;
        case OpState::starved:
            starved.remove(operations, record);
            break;
        case OpState::retrying:
            wheel.remove(record.as<TimerNode>());
            break;
        case OpState::paused:
            break;
        case OpState::armed:
            WHORL_ASSERT(record.kind == OpKind::wait);
            if (!wait_leave(record, asked)) return;
            break;
        case OpState::linked:
            chain_leave(record);
            break;
        case OpState::kernel:
            if (asked) return;
            ++statistics.cancels;
            driver->cancel(record);
            note_work();
            return;
        default:
            WHORL_ASSERT(record.state == OpState::queued);
            return;
    }
    record.state = OpState::ended;
    complete_locally(record, error);
}

// Destroys what a record owns besides its handler.
void LoopCore::drop_payload(OpRecord& record) noexcept {
    switch (record.kind) {
        case OpKind::recv:
        case OpKind::send:
        case OpKind::send_all:
        case OpKind::send_zero_copy:
        case OpKind::read:
        case OpKind::write:
        case OpKind::write_all:
        case OpKind::wait_child:
            static_cast<void>(record.take<Buffer>());
            break;
        case OpKind::spawn:
            spawn_settle(record, false);
            static_cast<void>(record.take<Buffer>());
            break;
        case OpKind::read_chain_at:
        case OpKind::write_chain_at:
        case OpKind::send_chain:
        case OpKind::chain_zero_copy:
        case OpKind::write_chain: {
            ChainPayload payload = record.take<ChainPayload>();
            payload.frame->next = frames;
            frames = payload.frame;
            break;
        }
        case OpKind::connect_unix:
            message_release(connect_frame(record));
            break;
        case OpKind::recv_message:
        case OpKind::send_message:
            message_release(*record.as<MessagePayload>().frame);
            break;
        case OpKind::work: {
            const Buffer memory = record.take<Buffer>();
            auto& block = *reinterpret_cast<WorkBlock*>(const_cast<std::byte*>(memory.data()));
            block.end(block);
            break;
        }
        case OpKind::wait:
            record.as<WaitPayload>().kind->drop(record);
            break;
        case OpKind::send_batch:
            batch_release(*record.as<BatchPayload>().frame);
            break;
        case OpKind::splice:
        case OpKind::tee:
            splice_end(record);
            break;
        case OpKind::splice_source:
        case OpKind::sync:
        case OpKind::sync_range:
        case OpKind::truncate:
        case OpKind::allocate:
        case OpKind::advise:
            break;
        default:
            if (is_blocking(record.kind)) static_cast<void>(record.take<Buffer>());
            break;
    }
}

// What the system call reads of the operation, written anew for each submission.
void LoopCore::describe(OpRecord& record) noexcept {
    if (has_message(record.kind)) message_fill(record);
    else if (record.kind == OpKind::send_batch) batch_fill(record);
    else frame_fill(record);
}

// Describes what is left of a chain, or its first part, to sendmsg(2), readv(2) or writev(2).
void LoopCore::frame_fill(OpRecord& record) noexcept {
    ChainPayload& payload = record.as<ChainPayload>();
    GatherFrame& frame = *payload.frame;
    std::uint64_t skip = record.progress;
    std::uint64_t total = 0;
    std::uint32_t parts = 0;
    const bool reads = record.kind == OpKind::read_chain_at;
    for (Buffer& buffer : payload.chain) {
        const std::size_t whole = reads ? buffer.capacity() : buffer.size();
        if (skip >= whole) {
            skip -= whole;
            continue;
        }
        if (parts == GatherFrame::parts_max || total >= transfer_max) break;
        const std::size_t rest = whole - static_cast<std::size_t>(skip);
        const std::size_t size = rest < transfer_max - total ? rest : transfer_max - total;
        frame.parts[parts++] = {buffer.data() + skip, size};
        total += size;
        skip = 0;
    }
    frame.message = {};
    frame.message.msg_iov = frame.parts;
    frame.message.msg_iovlen = parts;
}

}  // namespace whorl::detail
