// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include "backend/message.hpp"

#include <whorl/buffer.hpp>
#include <whorl/bytes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

// What the operations that move messages share.

namespace whorl::detail {

// A receiving operation: the message goes into the whole capacity of `buffer`, its control data into
// `control_room` bytes of the frame. A descriptor that comes with it is close-on-exec from the start.
inline void store_receive(OpRecord& record, Buffer&& buffer, int flags,
                          std::size_t control_room) noexcept {
    MessageFrame& frame = *record.as<MessagePayload>().frame;
    record.extra = static_cast<std::uint32_t>(flags | MSG_CMSG_CLOEXEC);
    frame.buffer = std::move(buffer);
    frame.buffer.resize(0);
    frame.control_size = static_cast<std::uint32_t>(control_room);
}

// What lies before the bytes of a message that a stream has delivered (message.hpp of floor 3).
class ReceivedMessage {
  public:
    explicit ReceivedMessage(const Buffer& buffer) noexcept
        : block_(buffer.data() - message_payload_at) {}

    Bytes address() const noexcept {
        return {block_ + message_address_at,
                std::min<std::size_t>(header().address_size, message_address_room)};
    }
    Bytes control() const noexcept {
        return {block_ + message_control_at,
                std::min<std::size_t>(header().control_size, message_control_room)};
    }
    int flags() const noexcept { return static_cast<int>(header().flags); }

  private:
    const MessageHeader& header() const noexcept {
        return *reinterpret_cast<const MessageHeader*>(block_);
    }
    const std::byte* block_;
};

}  // namespace whorl::detail
