// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/splice.hpp>

#include "backend/pipe_transfer.hpp"
#include "loop/core.hpp"

#include <whorl/pipe.hpp>
#include <whorl/tcp.hpp>

#include <cerrno>

namespace whorl {

namespace {

Error open_splice(Loop& loop, detail::OpRecord& record, Pipe from, std::uint64_t size) noexcept {
    detail::LoopCore& core = loop.core();
    if (record.state == detail::OpState::linked) return Error::invalid_argument;
    const detail::Descriptor* source = core.descriptor_find(from.value());
    if (source == nullptr) return Error::stale_handle;
    if ((source->flags & detail::pipe_unreadable) != 0) return Error::from_errno(EBADF);
    if (Error error = detail::pipe_usable(loop, record)) return error;
    return core.splice_open(record, from.value(), size);
}

}  // namespace

Error Splice::open(Loop& loop, detail::OpRecord& record) const noexcept {
    return open_splice(loop, record, from, size);
}

Splice::Done Splice::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    delivery.core->splice_end(record);
    return {delivery.error, delivery.bytes};
}

Error Tee::open(Loop& loop, detail::OpRecord& record) const noexcept {
    return open_splice(loop, record, from, size);
}

Tee::Done Tee::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    delivery.core->splice_end(record);
    return {delivery.error, delivery.bytes};
}

Error WriteChain::open(Loop& loop, detail::OpRecord& record) noexcept {
    if (Error error = detail::pipe_usable(loop, record)) return error;
    return SendChain::open(loop, record);
}

void WriteChain::store(detail::OpRecord& record) noexcept {
    record.as<detail::ChainPayload>().chain = std::move(chain);
}

WriteChain::Done WriteChain::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    SendChain::Done done = SendChain::finish(record, delivery);
    return {done.error, done.bytes, std::move(done.chain)};
}

}  // namespace whorl
