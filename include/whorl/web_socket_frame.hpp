// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/bytes.hpp>
#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>

// Reading and writing the frames of WebSocket (RFC 6455, 5), without I/O:
//
//   for (;;) switch (reader.next(input)) {
//       case FrameStep::more:    return;                                     // all of `input` was used up
//       case FrameStep::piece:   add(reader.piece()); if (reader.last()) ... break;
//       case FrameStep::control: act(reader.opcode(), reader.piece());       break;
//       case FrameStep::failed:  close(reader.fault().code);                 return;
//   }
//
// However the bytes are cut, the messages, the control frames and the fault are the same; a fault is
// found with the first byte that has it, also inside of a frame and of a sign of UTF-8. No extension is
// known, so reserved bits are faults.

namespace whorl::web_socket {

// What a frame is, as on the wire; other numbers are faults. Source: RFC 6455, 5.2.
enum class Opcode : std::uint8_t {
    more = 0,    // goes on with the message that has begun
    text = 1,    // begins a message of UTF-8
    binary = 2,  // begins a message of bytes
    close = 8,   // control: nothing follows it
    ping = 9,    // control: to be answered by a pong with the same payload
    pong = 10,   // control
};

// Who reads. A client's frames are masked, a server's are not; anything else is a fault.
enum class Role : std::uint8_t {
    client,  // reads what a server has sent
    server,  // reads what a client has sent
};

// Of what is received, without the heads of frames: 1009 beyond it, before a byte of it is taken.
struct FrameLimits {
    std::uint64_t frame_max = std::uint64_t{16} << 20;    // bytes of one frame
    std::uint64_t message_max = std::uint64_t{16} << 20;  // bytes of all frames of one message
};

inline constexpr std::size_t control_max = 125;    // bytes of a control frame
inline constexpr std::size_t reason_max = 123;     // of a close frame's text
inline constexpr std::size_t frame_head_max = 14;  // bytes of a frame's head, with its mask

// Why a connection has to be closed: a code of RFC 6455, 7.4.1, and a sentence.
struct Fault {
    std::uint16_t code = 0;  // 1002, 1007 or 1009
    const char* why = "";    // lives for ever; for a log, and the close frame
    // Whether there is one.
    explicit operator bool() const noexcept { return code != 0; }
};

// What FrameReader::next() has found.
enum class FrameStep : std::uint8_t {
    more,     // the input is used up
    piece,    // a part of a message: piece(), last()
    control,  // a whole control frame: opcode(), piece()
    failed,   // fault(): the connection is to be closed
};

// Bytes that may be written: a payload is unmasked where it lies.
struct FrameInput {
    std::byte* data = nullptr;  // its next byte
    std::size_t size = 0;       // bytes
};

// UTF-8 in pieces. Source: RFC 3629, 4; overlong forms, surrogates and what is above U+10FFFF are
// refused with the first byte that must be one.
class Utf8 {
  public:
    // False: it is none, whatever may follow. Cost: linear; ASCII eight bytes at a time.
    WHORL_EXPORT bool take(Bytes bytes) noexcept;
    // Whether it does not end inside of a sign.
    bool whole() const noexcept { return left_ == 0; }
    // A new text begins.
    void restart() noexcept { left_ = 0; }

  private:
    bool begin(unsigned char byte) noexcept;
    std::uint8_t left_ = 0;  // bytes of the sign that are to come
    std::uint8_t low_ = 0;   // what the next of them may be
    std::uint8_t high_ = 0;
};

// Lifetime: a value; nothing is allocated. Thread: one at a time.
class WHORL_EXPORT FrameReader {
  public:
    // For one side of one connection, at the head of its first frame. `role`: who reads.
    explicit FrameReader(Role role, const FrameLimits& limits = {}) noexcept
        : limits_(limits), role_(role) {}

    // The next thing in `input`, from which it is removed. After `failed`, always failed; after a close
    // frame, always `more`: what follows it is dropped.
    FrameStep next(FrameInput& input) noexcept;

    // After `piece`: a part of a message, where it lies in the input; empty only when the message ends
    // with it. After `control`: the whole payload, until the next call, of a close frame for ever.
    Bytes piece() const noexcept { return piece_; }
    // The message ends with this piece.
    bool last() const noexcept { return last_; }
    // Of the message (text or binary), or of the control frame.
    Opcode opcode() const noexcept { return control_ ? opcode_ : message_; }
    // Bytes of the present frame that are to come.
    std::uint64_t frame_left() const noexcept { return left_; }
    Fault fault() const noexcept { return fault_; }  // after `failed`: why
    // Whether a frame or a message has begun and is not at its end.
    bool inside() const noexcept { return part_ == Part::head ? head_size_ != 0 || open_ : true; }

    // Of a close frame's payload: 1005 without a code.
    std::uint16_t close_code() const noexcept;
    // The text after the code, as it came: UTF-8; empty without one.
    Bytes close_reason() const noexcept;

  private:
    enum class Part : std::uint8_t { head, payload, ended, failed };

    FrameStep fail(std::uint16_t code, const char* why) noexcept;
    bool refuse(const char* why) noexcept;
    bool head_byte(unsigned char byte) noexcept;
    bool first_byte(unsigned char byte) noexcept;
    bool second_byte(unsigned char byte) noexcept;
    bool head_whole() noexcept;
    FrameStep take_message(FrameInput& input) noexcept;
    FrameStep take_control(FrameInput& input) noexcept;
    FrameStep control_whole() noexcept;

    FrameLimits limits_;
    Role role_;
    Part part_ = Part::head;
    // The frame.
    Opcode opcode_ = Opcode::more;
    bool final_ = false;
    bool control_ = false;  // what next() has found is one
    std::uint8_t head_size_ = 0;
    std::uint8_t head_want_ = 2;
    std::uint8_t head_[frame_head_max] = {};
    std::byte mask_[4] = {};
    std::uint8_t mask_at_ = 0;  // which byte of it is next
    std::uint64_t left_ = 0;
    // The message.
    bool open_ = false;
    Opcode message_ = Opcode::more;
    std::uint64_t message_size_ = 0;
    Utf8 utf8_;
    // What next() has found.
    Fault fault_;
    Bytes piece_;
    bool last_ = false;
    std::uint8_t kept_size_ = 0;
    std::byte kept_[control_max] = {};  // of a control frame
};

// The head of a frame that is written.
struct FrameHead {
    std::byte bytes[frame_head_max];  // `size` of them are the head
    std::uint8_t size = 0;            // 2 to frame_head_max
};
// Makes one for a payload of `size` bytes. `last`: the message ends with it. `mask`: four bytes, or null
// (a server's); the payload is masked by apply_mask().
WHORL_EXPORT FrameHead frame_head(Opcode opcode, bool last, std::uint64_t size,
                                  const std::byte* mask) noexcept;

// Masks, or unmasks, in place; the first byte by `mask[at & 3]`. Cost: eight bytes at a time.
WHORL_EXPORT void apply_mask(std::byte* data, std::size_t size, const std::byte* mask,
                             std::size_t at = 0) noexcept;

// Whether a close frame may carry it: 1000 to 1003, 1007 to 1014, 3000 to 4999.
WHORL_EXPORT bool close_code_valid(std::uint16_t code) noexcept;

}  // namespace whorl::web_socket
