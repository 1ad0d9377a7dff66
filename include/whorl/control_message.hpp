// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/address.hpp>
#include <whorl/bytes.hpp>
#include <whorl/export.hpp>
#include <whorl/time.hpp>

#include <cstddef>
#include <cstdint>

// Control messages: what travels beside the bytes of a message. The typed forms below are what the
// operations take and give; reader and builder are for what those do not name. Source: cmsg(3).

namespace whorl {

// One control message. `data` names bytes that are somebody else's.
struct ControlMessage {
    int level = 0;  // SOL_SOCKET, IPPROTO_IP, …
    int type = 0;   // SCM_RIGHTS, IP_PKTINFO, …
    Bytes data;     // without header and padding
};

// Reads the control messages out of bytes, whatever they hold: every length is checked, and no byte
// outside is looked at. Lifetime: names bytes that are somebody else's. Cost: no allocation.
class ControlReader {
  public:
    // Of msg_control, as far as msg_controllen says. Any alignment will do.
    explicit ControlReader(Bytes bytes) noexcept : rest_(bytes) {}

    // The next message; false at the end, and where a length makes no sense.
    WHORL_EXPORT bool next(ControlMessage& message) noexcept;
    // Whether the reading ended before the bytes did: a length was wrong or the bytes are cut.
    bool malformed() const noexcept { return malformed_; }

  private:
    Bytes rest_;
    bool malformed_ = false;
};

// Writes control messages into memory of the caller's. Cost: no allocation.
class ControlBuilder {
  public:
    // `data` stays the caller's, and need not be aligned.
    ControlBuilder(void* data, std::size_t capacity) noexcept
        : data_(static_cast<unsigned char*>(data)), capacity_(capacity) {}

    // Returns false, and changes nothing, when there is no room.
    WHORL_EXPORT bool add(int level, int type, const void* data, std::size_t size) noexcept;
    // The bytes of a trivially copyable value, such as an int or an in_pktinfo.
    template <class Value>
    bool add(int level, int type, const Value& value) noexcept {
        return add(level, type, &value, sizeof value);
    }
    std::size_t size() const noexcept { return size_; }  // for msg_controllen
    // The bytes that a message with `size` bytes of data takes.
    WHORL_EXPORT static std::size_t space(std::size_t size) noexcept;

  private:
    unsigned char* data_;
    std::size_t capacity_;
    std::size_t size_ = 0;
};

// What came with a datagram, as far as its socket was opened to ask for it (UdpOptions).
struct DatagramInfo {
    Address destination;                // where it was sent to, port 0 (packet_info)
    std::uint32_t interface_index = 0;  // by which it came (packet_info); 0: not known
    std::uint16_t segment_size = 0;   // gro: the bytes hold datagrams of this size, the last may be
                                      // smaller; 0: they are one datagram
    std::int16_t traffic_class = -1;  // the byte with DSCP and, in its two lowest bits, ECN
    Nanoseconds timestamp{0};         // since 1970, when the kernel received it; 0: not known
    bool truncated = false;           // not all control messages had room

    // ECN: 0 not capable, 1 or 2 capable, 3 congestion experienced, -1 not known. Source: RFC 3168.
    int ecn() const noexcept { return traffic_class < 0 ? -1 : traffic_class & 3; }
};

// What a datagram is sent with. A field at its default leaves the socket's own value.
struct DatagramControl {
    Address source;  // the sender's address, port ignored: answers go out as asked
    std::uint32_t interface_index = 0;  // to send by
    std::uint16_t segment_size = 0;   // GSO: the kernel cuts the bytes into datagrams of this size
    std::int16_t traffic_class = -1;  // 0 to 255
};

// Reads what is known of a received message's control bytes; what is not known is passed over.
WHORL_EXPORT DatagramInfo parse_datagram_info(Bytes control) noexcept;
// Writes `control` for a socket of `family` (AF_INET or AF_INET6).
// Returns false when there is no room; 128 bytes are enough.
WHORL_EXPORT bool build_datagram_control(ControlBuilder& builder, const DatagramControl& control,
                                         int family) noexcept;

}  // namespace whorl
