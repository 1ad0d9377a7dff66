// SPDX-License-Identifier: MIT
// Floor: 4
#include "backend/work_calls.hpp"
#include "backend/zero_copy.hpp"
#include "loop/core.hpp"

#include <unistd.h>

#include <utility>

// What a kernel's answer means for an operation: the end, a part, or another round. One function for
// each kind that needs one, in the order of the operation list.

namespace whorl::detail {

namespace {

constexpr std::int64_t accept_pause_first_ns = 10'000'000;
constexpr std::int64_t accept_pause_max_ns = 500'000'000;
// After an aborted connection: long enough that an error that stays does not burn a core.
constexpr std::int64_t accept_pause_aborted_ns = 1'000'000;

// accept(2) reports the network's trouble with a connection that is gone already. The listener is fine.
bool accept_aborted(std::int32_t result) noexcept {
    switch (-result) {
        case ECONNABORTED:
        case EPROTO:
        case ENOPROTOOPT:
        case ENETDOWN:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENONET:
        case ETIMEDOUT:
        case EPERM:  // a firewall rule forbids this connection
            return true;
        default:
            return false;
    }
}

// The system is short of something that comes back: trying again at once would only burn time.
bool accept_exhausted(std::int32_t result) noexcept {
    return result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM;
}

}  // namespace

// nop, send, shutdown: the kernel's answer is the operation's.
[[gnu::noinline]] void LoopCore::advance_plain(OpRecord& record, const Completion& completion) {
    const std::int32_t bytes = completion.result > 0 ? completion.result : 0;
    record.progress = static_cast<std::uint64_t>(bytes);
    finish(record, error_of(record, completion.result), completion.result);
}

[[gnu::noinline]] void LoopCore::advance_connect(OpRecord& record, const Completion& completion) {
    Descriptor& descriptor = descriptors.at(record.descriptor);
    const Error error = error_of(record, completion.result);
    descriptor.state = error ? DescriptorState::closing : DescriptorState::open;
    finish(record, error, completion.result, error ? 0 : descriptors.handle_of(&descriptor));
}

// Takes over an accepted descriptor; false when no slot is free: the connection is closed then.
bool LoopCore::accept_descriptor(int fd, std::uint64_t& handle) noexcept {
    Result<Descriptor*> claimed = descriptor_claim(fd, DescriptorKind::socket);
    if (claimed) {
        handle = descriptors.handle_of(*claimed);
        return true;
    }
    static_cast<void>(system.close(fd));
    return false;
}

[[gnu::noinline]] void LoopCore::advance_accept(OpRecord& record, const Completion& completion) {
    if (accept_aborted(completion.result)) {
        ++statistics.accept_aborted;
        return accept_pause(record, Error());
    }
    std::uint64_t handle = 0;
    Error error = error_of(record, completion.result);
    if (!error && !accept_descriptor(completion.result, handle)) error = Error::slots_exhausted;
    finish(record, error, completion.result, handle);
}

void LoopCore::advance_accept_stream(OpRecord& record, const Completion& completion) {
    const bool more = (completion.flags & completion_more) != 0;
    const bool ending = (record.flags & (op_cancelled | op_timed_out)) != 0;
    const std::int32_t result = completion.result;
    if (accept_aborted(result)) {
        ++statistics.accept_aborted;
        if (!more) accept_pause(record, Error());
        return;
    }
    if (accept_exhausted(result) && !more) return accept_pause(record, Error::from_errno(result));
    if (result == -ECANCELED && (record.flags & op_pausing) != 0 && !ending) {
        return accept_pause(record, Error::slots_exhausted);
    }
    if (result < 0) return finish(record, error_of(record, result), result);
    Delivery delivery;
    if (!accept_descriptor(result, delivery.handle)) return accept_withdraw(record, more);
    record.flags &= static_cast<std::uint16_t>(~op_told);
    record.progress = 0;
    if (!more) stream_resubmit(record);
    delivery.more = true;
    ++statistics.handlers;
    record.thunk(*loop, record, &delivery);
}

// No slot is free for more connections: take the operation back from the kernel and pause.
void LoopCore::accept_withdraw(OpRecord& record, bool more) {
    if (!more) return accept_pause(record, Error::slots_exhausted);
    constexpr std::uint16_t leaving = op_pausing | op_cancelled | op_timed_out | op_final_seen;
    const bool leaves = (record.flags & leaving) != 0;
    record.flags |= op_pausing;
    if (!leaves) driver->cancel(record);
}

// Backs off: 10 ms, doubling to 500 ms; the handler hears of it once until a connection is accepted.
void LoopCore::accept_pause(OpRecord& record, Error error) {
    if ((record.flags & (op_cancelled | op_timed_out)) != 0) return stream_resubmit(record);
    std::int64_t pause = static_cast<std::int64_t>(record.progress) * 2;
    if (pause < accept_pause_first_ns) pause = accept_pause_first_ns;
    if (pause > accept_pause_max_ns) pause = accept_pause_max_ns;
    record.progress = static_cast<std::uint64_t>(pause);
    record.state = OpState::retrying;
    record.flags &= static_cast<std::uint16_t>(~(op_final_seen | op_pausing));
    record.store(TimerNode{});
    record.as<TimerNode>().user = operations.index_of(&record);
    const std::int64_t deadline =
        system.now().time_since_epoch().count() + (error ? pause : accept_pause_aborted_ns);
    wheel.insert(record.as<TimerNode>(), tick_at_or_after(deadline));
    if (!error) {
        record.progress = 0;
        return;
    }
    ++statistics.accept_paused;
    if ((record.flags & op_told) != 0) return;
    record.flags |= op_told;
    Delivery delivery;
    delivery.error = error;
    delivery.more = true;
    ++statistics.handlers;
    record.thunk(*loop, record, &delivery);
}

// A multishot has left the backend but not ended for its user: hand it over again, or end it now when
// that was asked for meanwhile.
void LoopCore::stream_resubmit(OpRecord& record) noexcept {
    const bool ending = (record.flags & (op_cancelled | op_timed_out)) != 0;
    record.state = OpState::ended;
    if (ending) complete_locally(record, error_of(record, -ECANCELED));
    else list(record);
}

// With MSG_WAITALL the receive goes on until its buffer is full, whatever the backend makes of the flag
// (a non-blocking call ignores it); so what had arrived is told together with the reason, too.
[[gnu::noinline]] void LoopCore::advance_recv(OpRecord& record, const Completion& completion) {
    Buffer& buffer = record.as<Buffer>();
    if (completion.result > 0) {
        record.progress += static_cast<std::uint64_t>(completion.result);
        WHORL_ASSERT(record.progress <= buffer.capacity());
        if (receives_all(record) && record.progress < buffer.capacity()) {
            return stream_resubmit(record);
        }
    }
    buffer.resize(static_cast<std::size_t>(record.progress));
    finish(record, error_of(record, completion.result), completion.result);
}

[[gnu::noinline]] void LoopCore::advance_recv_stream(OpRecord& record,
                                                     const Completion& completion) {
    if (completion.block == nullptr) return advance_stream_bare(record, completion);
    const bool large = static_cast<std::uint32_t>(completion.result) >= options.recv_buffer_size;
    const bool fits = large == ((record.flags & op_bulk) != 0);
    // What is decided stays decided while the backend is asked for the stream.
    if (fits && (record.flags & op_pausing) == 0) {
        record.extra = static_cast<std::uint32_t>(record.extra);
    }
    const bool resize = !fits && stream_misfits(record);
    advance_block(record, completion, 0, resize);
}

// A block of the pool holds what arrived, behind `head` bytes of the backend's.
inline void LoopCore::advance_block(OpRecord& record, const Completion& completion,
                                    std::size_t head, bool resize) {
    const std::size_t size = static_cast<std::size_t>(completion.result) - head;
    const bool more = (completion.flags & completion_more) != 0;
    Descriptor& descriptor = descriptors.at(record.descriptor);
    completion.block->tag = std::uint64_t{descriptor.generation} << 32 | record.descriptor;
    ++descriptor.buffers_out;
    record.flags |= op_fed;
    record.progress += size;
    const bool share_taken = descriptor.buffers_out >= stream_share(record);
    if (!more || share_taken || resize) stream_rearm(record, more, share_taken);
    Delivery delivery;
    delivery.more = true;
    delivery.result = completion.result;
    delivery.bytes = record.progress;
    delivery.received = completion.block;
    delivery.received_data = completion.block->base + head;
    delivery.received_size = size;
    ++statistics.handlers;
    record.thunk(*loop, record, &delivery);
}

// An answer without bytes: the end, an error, or a pause.
[[gnu::noinline]] void LoopCore::advance_stream_bare(OpRecord& record,
                                                     const Completion& completion) {
    WHORL_ASSERT((completion.flags & completion_more) == 0);
    const Descriptor& descriptor = descriptors.at(record.descriptor);
    const bool ending = (record.flags & (op_cancelled | op_timed_out)) != 0;
    const bool paused = (record.flags & op_pausing) != 0;
    record.flags &= static_cast<std::uint16_t>(~(op_pausing | op_final_seen));
    if (completion.result == -ENOBUFS && !ending) {
        if (descriptor.buffers_out >= stream_share(record)) {
            record.state = OpState::paused;  // it may not take another one anyway
            return;
        }
        if (recv_hopeless()) return finish(record, Error::from_errno(ENOMEM), -ENOMEM);
        ++statistics.recv_starved;
        record.state = OpState::starved;
        starved.push_back(operations, record);
        return;
    }
    if (completion.result == -ECANCELED && paused && !ending) {
        if (descriptor.buffers_out <= stream_share(record) / 2) return stream_list(record);
        record.state = OpState::paused;
        return;
    }
    if (completion.result == -ENOBUFS) return finish(record, error_of(record, -ECANCELED), 0);
    finish(record, error_of(record, completion.result), completion.result);
}

// The backend has let go of the stream, or the stream holds its share of the buffers, or it is to go on
// with buffers of the other size.
void LoopCore::stream_rearm(OpRecord& record, bool more, bool share_taken) noexcept {
    // With its final record seen, the backend does not have it any more.
    constexpr std::uint16_t leaving = op_pausing | op_cancelled | op_timed_out | op_final_seen;
    if (share_taken && (record.flags & op_pausing) == 0) ++statistics.recv_paused;
    if (!more && share_taken && (record.flags & (op_cancelled | op_timed_out)) == 0) {
        record.flags &= static_cast<std::uint16_t>(~(op_pausing | op_final_seen));
        record.state = OpState::paused;
    } else if (!more) {
        stream_resize(record);
        stream_resubmit(record);
    } else if ((record.flags & leaving) == 0) {
        record.flags |= op_pausing;
        driver->cancel(record);
    }
}

// What the network reports of messages sent before ends no stream.
[[gnu::noinline]] void LoopCore::advance_message_stream(OpRecord& record,
                                                        const Completion& completion) {
    if (completion.block != nullptr)
        return advance_block(record, completion, message_payload_at, false);
    const bool ending = (record.flags & (op_cancelled | op_timed_out)) != 0;
    if (ending || !passes_by(completion.result)) return advance_stream_bare(record, completion);
    stream_resubmit(record);
    Delivery delivery;
    delivery.more = true;
    delivery.error = Error::from_errno(completion.result);
    ++statistics.handlers;
    record.thunk(*loop, record, &delivery);
}

[[gnu::noinline]] void LoopCore::advance_send_all(OpRecord& record, const Completion& completion) {
    if (completion.result < 0) {
        return finish(record, error_of(record, completion.result), completion.result);
    }
    record.progress += static_cast<std::uint64_t>(completion.result);
    const std::uint64_t size = send_size(record);
    WHORL_ASSERT(record.progress <= size);
    if (record.progress == size) return finish(record, Error(), completion.result);
    stream_resubmit(record);  // keeps its place: it still has the descriptor's side
}

// The first answer tells that the kernel has the bytes: with the last of them the next operation on this
// side may begin, although this one has not got its buffer back. It is in no list of its descriptor then.
[[gnu::noinline]] void LoopCore::advance_zero_copy(OpRecord& record, const Completion& completion) {
    if ((completion.flags & completion_more) == 0) {
        if ((record.extra & zero_copy_left_side) != 0) --apart;
        record.extra &= ~zero_copy_left_side;
        return advance_send_all(record, completion);
    }
    const std::uint64_t reached = record.progress + static_cast<std::uint64_t>(completion.result);
    if (reached != send_size(record)) return;
    record.extra |= zero_copy_left_side;
    ++apart;
    Descriptor& descriptor = descriptors.at(record.descriptor);
    side_leave(descriptor.write_active, descriptor.write_queue, operations.index_of(&record));
}

void LoopCore::dispatch_completion(const Completion& completion) {
    OpRecord* found = operations.find(completion.operation);
    if (found == nullptr || dropping) return drop_completion(found, completion);
    OpRecord& record = *found;
    if ((completion.flags & completion_more) == 0) record.state = OpState::ended;
    switch (record.kind) {
        case OpKind::connect:
            return advance_connect(record, completion);
        case OpKind::accept:
            return advance_accept(record, completion);
        case OpKind::accept_stream:
            return advance_accept_stream(record, completion);
        case OpKind::recv:
        case OpKind::read:
            return advance_recv(record, completion);
        case OpKind::recv_stream:
            return advance_recv_stream(record, completion);
        case OpKind::message_stream:
            return advance_message_stream(record, completion);
        case OpKind::recv_message:
            return advance_message(record, completion);
        case OpKind::connect_unix:
            return advance_connect_unix(record, completion);
        case OpKind::send_all:
        case OpKind::send_chain:
        case OpKind::write_all:
        case OpKind::write_chain:
            return advance_send_all(record, completion);
        case OpKind::wait_signal:
        case OpKind::signal_stream:
        case OpKind::wait_child:
        case OpKind::spawn:
            return advance_process(record, completion);
        case OpKind::send_batch:
            return advance_batch(record, completion);
        case OpKind::splice_source:
            return advance_splice_source(record, completion);
        case OpKind::splice:
        case OpKind::tee:
            return advance_splice(record, completion);
        case OpKind::send_zero_copy:
        case OpKind::chain_zero_copy:
            return advance_zero_copy(record, completion);
        case OpKind::watch:
            return advance_watch(record, completion);
        default:
            if (is_blocking(record.kind)) return advance_file(record, completion);
            return advance_plain(record, completion);
    }
}

}  // namespace whorl::detail
