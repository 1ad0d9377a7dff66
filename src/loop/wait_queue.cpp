// SPDX-License-Identifier: MIT
// Floor: 4
#include <whorl/wait.hpp>

#include "loop/core.hpp"

#include <utility>

namespace whorl::detail {

const WaitKind WaitQueue::kind{&WaitQueue::leave, &WaitQueue::drop};

void WaitQueue::join(Loop& loop, OpRecord& record, std::uint64_t number,
                     Carried* brought) noexcept {
    LoopCore& core = loop.core();
    WHORL_ASSERT(head_ == 0 || core_ == &core);
    core_ = &core;
    wait_arm(record, {&kind, this, brought, number});
    OpList list{head_, tail_};
    list.push_back(core.operations, record);
    head_ = list.head;
    tail_ = list.tail;
}

void WaitQueue::pass(Loop& loop, OpRecord& record, Error error, Carried* message) noexcept {
    wait_arm(record, {&kind, nullptr, message, 0});
    record.state = OpState::ended;
    loop.core().complete_locally(record, error);
}

std::uint64_t WaitQueue::front_number() noexcept {
    WHORL_ASSERT(head_ != 0);
    return core_->operations.at(head_).as<WaitPayload>().number;
}

Carried* WaitQueue::take_front() noexcept {
    WHORL_ASSERT(head_ != 0);
    return take(core_->operations.at(head_));
}

void WaitQueue::end_front(Error error, Carried* message) noexcept {
    WHORL_ASSERT(head_ != 0);
    OpRecord& record = core_->operations.at(head_);
    if (message != nullptr) {
        WHORL_ASSERT(record.as<WaitPayload>().extra == nullptr);
        record.as<WaitPayload>().extra = message;
    }
    remove(record);
    core_->complete_locally(record, error);
}

void WaitQueue::end_all(Error error) noexcept {
    while (head_ != 0) end_front(error);
}

void WaitQueue::remove(OpRecord& record) noexcept {
    OpList list{head_, tail_};
    list.remove(core_->operations, record);
    head_ = list.head;
    tail_ = list.tail;
    record.state = OpState::ended;
}

// Its cancellation goes on with the record as it was.
void WaitQueue::leave(LoopCore&, OpRecord& record) noexcept {
    auto& queue = *static_cast<WaitQueue*>(record.as<WaitPayload>().object);
    queue.remove(record);
    if (queue.left_ != nullptr) queue.left_(queue.owner_);
}

void WaitQueue::drop(OpRecord& record) noexcept {
    if (Carried* message = take(record)) message->drop(message);
}

Carried* WaitQueue::take(OpRecord& record) noexcept {
    return static_cast<Carried*>(std::exchange(record.as<WaitPayload>().extra, nullptr));
}

}  // namespace whorl::detail
