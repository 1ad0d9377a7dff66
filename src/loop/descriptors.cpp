// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"
#include "loop/insight.hpp"

// Descriptors and the close state machine.
//
//   from         to          when                                     by
//   (free)       open        listen, accept, open, adopt              descriptor_claim
//   (free)       connecting  connect; becomes open when it succeeds   Connect::open, advance_connect
//   open         closing     close(handle), drain, destroy            descriptor_shut
//   connecting   closing     the connect failed or was cancelled      advance_connect
//   closing      (free)      the last operation has been dispatched   descriptor_close

namespace whorl::detail {

Result<Descriptor*> LoopCore::descriptor_claim(int fd, DescriptorKind kind) noexcept {
    Descriptor* descriptor = descriptors.claim();
    if (descriptor == nullptr) return Error::slots_exhausted;
    descriptor->fd = fd;
    descriptor->kind = kind;
    descriptor->state = DescriptorState::open;
    descriptor->family = 0;
    descriptor->flags = 0;
    descriptor->read_queue = {};
    descriptor->write_queue = {};
    descriptor->read_active = 0;
    descriptor->write_active = 0;
    descriptor->operations = 0;
    descriptor->buffers_out = 0;
    descriptor->close_record = 0;
    descriptor->backend = nullptr;
    if (insight != nullptr) insight->opened(*descriptor);
    return descriptor;
}

Error LoopCore::descriptor_shut(std::uint64_t handle, OpRecord* close_record) noexcept {
    check_thread();
    Descriptor* descriptor = descriptors.find(handle);
    if (descriptor == nullptr || descriptor->state == DescriptorState::closing) {
        WHORL_ASSERT(close_record == nullptr);  // claim() has looked already
        return Error::stale_handle;
    }
    descriptor->state = DescriptorState::closing;
    if (close_record != nullptr) descriptor->close_record = operations.index_of(close_record);
    // While the loop is destroyed, everything is cancelled anyway.
    const bool is_file = descriptor->kind == DescriptorKind::file;
    if (is_file && descriptor->operations != 0 && !dropping) cancel_on_file(*descriptor);
    for (OpList* queue : {&descriptor->read_queue, &descriptor->write_queue}) {
        while (!queue->empty()) cancel_record(operations.at(queue->head), op_cancelled);
    }
    for (std::uint32_t active : {descriptor->read_active, descriptor->write_active}) {
        if (active != 0) cancel_record(operations.at(active), op_cancelled);
    }
    if (apart != 0 && descriptor->operations != 0) cancel_apart_on(*descriptor);
    if (descriptor->operations == 0) descriptor_close(*descriptor);
    return {};
}

void LoopCore::descriptor_shut_all() noexcept {
    descriptors.for_each_live([this](Descriptor& descriptor) {
        static_cast<void>(descriptor_shut(descriptors.handle_of(&descriptor), nullptr));
    });
}

// No operation names it any more: give the number back and let the close handler run.
void LoopCore::descriptor_close(Descriptor& descriptor) noexcept {
    WHORL_ASSERT(descriptor.operations == 0);
    WHORL_ASSERT(descriptor.read_active == 0 && descriptor.write_active == 0);
    driver->forget(descriptor);
    if (descriptor.kind >= DescriptorKind::signals) {
        if (!process_close(descriptor)) return;  // until its child has ended
    } else if (descriptor.fd >= 0) {
        // EINTR and EIO leave the number free on Linux; a second close could hit somebody else's.
        static_cast<void>(system.close(descriptor.fd));
    }
    const std::uint32_t close_record = descriptor.close_record;
    descriptors.release(&descriptor);
    if (close_record != 0) complete_locally(operations.at(close_record), Error());
}

// An operation has left it, and others wait for that: the next on its side, or its close.
[[gnu::noinline]] void LoopCore::descriptor_settle(Descriptor& descriptor) noexcept {
    side_leave(descriptor.read_active, descriptor.read_queue, 0);
    side_leave(descriptor.write_active, descriptor.write_queue, 0);
    if (descriptor.operations != 0) return;
    WHORL_ASSERT(descriptor.state == DescriptorState::closing);  // who waits for a side is counted
    descriptor_close(descriptor);
}

// Its place on its side is taken by the next one that waits for it.
void LoopCore::side_advance(std::uint32_t& active, OpList& queue) noexcept {
    OpRecord* next = queue.pop_front(operations);
    WHORL_ASSERT(next != nullptr);
    active = operations.index_of(next);
    start(*next);
}

}  // namespace whorl::detail
