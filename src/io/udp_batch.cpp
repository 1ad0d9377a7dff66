// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/udp_batch.hpp>

#include "backend/batch.hpp"
#include "loop/core.hpp"

#include <cstring>

namespace whorl {

bool DatagramBatch::push_back(Buffer&& buffer, const Address& address) noexcept {
    static_assert(sizeof(detail::BatchAddress::bytes) == Address::size_max, "every address fits");
    detail::BatchAddress entry{};
    std::memcpy(entry.bytes, address.data(), address.length());
    entry.size = address.length();
    const std::size_t needed = (buffers_.count() + std::size_t{1}) * sizeof entry;
    if (addresses_.capacity() < needed) {
        Buffer larger = Buffer::allocate(needed < 1024 ? 1024 : 2 * needed);
        if (!larger || !larger.append(Bytes{addresses_.data(), addresses_.size()})) return false;
        addresses_ = std::move(larger);
    }
    if (!buffers_.push_back(std::move(buffer))) return false;
    addresses_.resize(needed);
    std::memcpy(addresses_.data() + needed - sizeof entry, &entry, sizeof entry);
    return true;
}

void DatagramBatch::clear() noexcept {
    buffers_.clear();
    if (addresses_) addresses_.resize(0);
}

Error SendBatch::open(Loop& loop, detail::OpRecord& record) noexcept {
    return loop.core().batch_claim(record);
}

void SendBatch::store(detail::OpRecord& record) noexcept {
    detail::BatchFrame& frame = *record.as<detail::BatchPayload>().frame;
    frame.buffers = std::move(batch.buffers_);
    frame.addresses = std::move(batch.addresses_);
}

SendBatch::Done SendBatch::finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
    detail::BatchFrame& frame = *record.as<detail::BatchPayload>().frame;
    Done done{delivery.error, delivery.bytes, {}};
    done.batch.buffers_ = std::move(frame.buffers);
    done.batch.addresses_ = std::move(frame.addresses);
    delivery.core->batch_release(frame);
    return done;
}

}  // namespace whorl
