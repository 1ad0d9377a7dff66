// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/zero_copy.hpp>

#include "loop/core.hpp"

#include <whorl/tcp.hpp>

namespace whorl {

Error SendChainZeroCopy::open(Loop& loop, detail::OpRecord& record) noexcept {
    return SendChain::open(loop, record);
}

void SendChainZeroCopy::store(detail::OpRecord& record) noexcept {
    record.extra = static_cast<std::uint32_t>(flags | MSG_ZEROCOPY);
    record.as<detail::ChainPayload>().chain = std::move(chain);
}

SendChainZeroCopy::Done SendChainZeroCopy::finish(detail::OpRecord& record,
                                                  detail::Delivery& delivery) noexcept {
    const bool copied = record.extra >> 63 != 0;
    SendChain::Done done = SendChain::finish(record, delivery);
    return {done.error, done.bytes, std::move(done.chain), copied};
}

}  // namespace whorl
