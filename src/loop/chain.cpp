// SPDX-License-Identifier: MIT
// Floor: 4
#include "backend/message.hpp"
#include "backend/payload.hpp"
#include "backend/zero_copy.hpp"
#include "loop/core.hpp"

// Operations that follow another: following() in events.hpp.
//
// An operation that is followed has a record of kind `chain`, found by way of `deadline` and before
// the deadline's own record. Its followers are linked to it in a ring through `link` and
// `link_previous`, in which it stands itself: so one of them leaves without knowing whom it followed.
//
// The kernel's links (IOSQE_IO_LINK) are not used: docs/decisions/0018-chains-in-the-loop.md.

namespace whorl::detail {

namespace {

// Whether the operation moved all that was asked of it. What receives, or reads a pipe, takes what
// there is, unless it was to wait for all.
bool moved_all(OpRecord& record) noexcept {
    switch (record.kind) {
        case OpKind::send:
        case OpKind::write:
        case OpKind::write_at:
        case OpKind::append:
            return record.progress == record.as<Buffer>().size();
        case OpKind::send_message:
            return record.progress == record.as<MessagePayload>().frame->buffer.size();
        case OpKind::recv:
            return !receives_all(record) || record.progress == record.as<Buffer>().capacity();
        case OpKind::splice:
            return record.progress == record.as<SplicePayload>().size;
        case OpKind::read_at:
        case OpKind::read_chain_at:
            return record.progress == read_size(record);
        default:
            return true;
    }
}

}  // namespace

// Lets a record that is being claimed wait for the end of `before`.
Error LoopCore::chain_join(OpRecord& record, std::uint64_t before) noexcept {
    OpRecord* followed = operations.find(before);
    if (followed == nullptr || followed == &record) return Error::stale_handle;
    if (followed->kind >= OpKind::watch) return Error::stale_handle;
    const bool is_first =
        followed->deadline == 0 || operations.at(followed->deadline).kind != OpKind::chain;
    if (is_first) {
        OpRecord* head = operations.claim();
        if (head == nullptr) return Error::slots_exhausted;
        head->kind = OpKind::chain;
        head->state = OpState::armed;
        head->flags = op_background;
        head->thunk = nullptr;
        head->descriptor = 0;
        head->link = head->link_previous = operations.index_of(head);
        head->deadline = followed->deadline;
        followed->deadline = operations.index_of(head);
    }
    OpRecord& head = operations.at(followed->deadline);
    const std::uint32_t index = operations.index_of(&record);
    record.link = operations.index_of(&head);
    record.link_previous = head.link_previous;
    operations.at(head.link_previous).link = index;
    head.link_previous = index;
    record.state = OpState::linked;
    ++apart;
    return {};
}

// It begins, or ends without having begun.
void LoopCore::chain_leave(OpRecord& record) noexcept {
    WHORL_ASSERT(record.state == OpState::linked && apart > 0);
    operations.at(record.link_previous).link = record.link;
    operations.at(record.link).link_previous = record.link_previous;
    record.link = 0;
    record.link_previous = 0;
    record.state = OpState::ended;
    --apart;
}

void LoopCore::chain_start(OpRecord& record) noexcept {
    chain_leave(record);
    place(record);
}

// An operation is about to tell its final completion: those that follow it begin, or end as well.
void LoopCore::chain_settle(OpRecord& record, Error error) noexcept {
    OpRecord& head = operations.at(record.deadline);
    if (head.kind != OpKind::chain) return;
    const std::uint32_t end = operations.index_of(&head);
    const bool succeeded = !error && moved_all(record);
    if (!succeeded) return chain_end(head);
    while (head.link != end) chain_start(operations.at(head.link));
}

void LoopCore::chain_end(OpRecord& head) noexcept {
    const std::uint32_t end = operations.index_of(&head);
    while (head.link != end) {
        OpRecord& next = operations.at(head.link);
        chain_leave(next);
        next.flags |= op_cancelled;
        complete_locally(next, Error::cancelled);
    }
}

// The operation's slot is about to be free. It was dropped without a word if somebody still follows.
void LoopCore::chain_release(OpRecord& record) noexcept {
    OpRecord& head = operations.at(record.deadline);
    WHORL_ASSERT(head.kind == OpKind::chain);
    chain_end(head);
    record.deadline = head.deadline;
    head.state = OpState::ended;
    operations.release(&head);
}

// What waits for its turn in a chain, for its zero-copy buffer or for the source of a splice is in no list
// of its descriptor.
void LoopCore::cancel_apart_on(const Descriptor& descriptor) noexcept {
    const std::uint32_t index = descriptors.index_of(&descriptor);
    operations.for_each_live([this, index](OpRecord& record) {
        const bool lent = record.state == OpState::kernel && sends_zero_copy(record.kind);
        const bool spliced = record.kind == OpKind::splice || record.kind == OpKind::tee;
        const bool waits = record.state == OpState::linked || lent || spliced;
        if (waits && record.descriptor == index) cancel_record(record, op_cancelled);
    });
}

}  // namespace whorl::detail
