// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/assert.hpp>
#include <whorl/buffer.hpp>
#include <whorl/bytes.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/result.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

// Framing: where the messages in a stream of bytes begin and end. It does no I/O:
//
//   framer.feed(buffer.bytes());
//   while (framer.next(framing, frame)) use(frame);
//   if (framer.error()) close();
//
// A frame that lies whole in the bytes that were fed is a view of them and was not copied. One that
// does not is joined in the framer's own buffer, which never holds more than one frame and its marks.
// However the bytes are cut into pieces, the frames and the error are the same.

namespace whorl {

// The order of a number's bytes: big is the network's.
enum class Endian : std::uint8_t { big, little };

// A number of fixed size that says how long a frame is.
struct LengthPrefix {
    std::uint8_t bytes = 4;       // 1 to 8
    Endian endian = Endian::big;  // of the number
    bool inclusive = false;       // the number counts itself, too
};

// What stands around a frame's bytes when it is sent.
struct FrameEdges {
    char head[24];               // what goes first
    char tail[8];                // what goes last
    std::uint8_t head_size = 0;  // valid bytes of `head`
    std::uint8_t tail_size = 0;  // valid bytes of `tail`
    // What goes before the frame; valid as long as this object is.
    std::string_view before() const noexcept { return {head, head_size}; }
    // What goes after the frame; valid as long as this object is.
    std::string_view after() const noexcept { return {tail, tail_size}; }
};

// How frames are told apart, and how large one may be. `max` counts the frame's bytes without marks
// and prefix. Lifetime: a value of 32 bytes. Thread: as any value.
class Framing {
  public:
    // What the functions below choose between.
    enum class Kind : std::uint8_t { line, crlf, delimiter, length, varint, netstring, fixed };

    // Ends with LF; a CR before it is dropped, too.
    static constexpr Framing line(std::size_t max) noexcept { return {Kind::line, max}; }
    // Ends with CR LF. An LF without a CR before it is frame_malformed: two readers that disagree about
    // it are how requests are smuggled.
    static constexpr Framing crlf(std::size_t max) noexcept { return {Kind::crlf, max}; }
    // Ends with `mark`. Limits: 1 to 8 bytes, asserted.
    WHORL_EXPORT static Framing delimiter(std::string_view mark, std::size_t max) noexcept;
    // Begins with its length. Limits: 1 to 8 bytes, asserted.
    WHORL_EXPORT static Framing length(LengthPrefix prefix, std::size_t max) noexcept;
    // Begins with its length as an LEB128 varint, as in protocol buffers, at most 10 bytes. Longer
    // than needed is frame_malformed.
    static constexpr Framing varint(std::size_t max) noexcept { return {Kind::varint, max}; }
    // "5:hello,": decimal without leading zeros. Source: cr.yp.to/proto/netstrings.txt.
    static constexpr Framing netstring(std::size_t max) noexcept { return {Kind::netstring, max}; }
    // Every frame has this size. Limits: at least 1, asserted.
    WHORL_EXPORT static Framing fixed(std::size_t size) noexcept;

    // Which of the functions has made it.
    Kind kind() const noexcept { return kind_; }
    // The most bytes of a frame, without marks and prefix; of `fixed` the size itself.
    std::size_t max() const noexcept { return max_; }
    // The most that a framer has to join: a whole frame with its marks.
    std::size_t span_max() const noexcept;
    // What ends a frame of `delimiter`; empty for other kinds. Valid as long as this object is.
    std::string_view mark() const noexcept { return {mark_, mark_size_}; }
    // What a frame of `length` begins with; means nothing for other kinds.
    LengthPrefix prefix() const noexcept { return prefix_; }

    // What goes before and after `size` bytes. Errors: frame_too_large (above max, or not the fixed
    //   size, or more than the prefix can say). Cost: no allocation.
    WHORL_EXPORT Result<FrameEdges> edges(std::size_t size) const noexcept;

  private:
    constexpr Framing(Kind kind, std::size_t max) noexcept : kind_(kind), max_(max) {}

    Kind kind_;
    std::uint8_t mark_size_ = 0;
    LengthPrefix prefix_ = {};
    char mark_[8] = {};
    std::size_t max_;
};

// Cuts a stream of bytes into frames.
// Lifetime: owns the buffer in which frames are joined; it is taken when it is first needed, grows to at
// most Framing::span_max(), and is kept. Thread: one at a time.
class WHORL_EXPORT Framer {
  public:
    // The next bytes of the stream. Owns: nothing; they stay where they are until next() has answered
    // false. Limits: all that was fed before must have been used up, asserted.
    void feed(Bytes bytes) noexcept;
    // The next frame. False: more bytes are needed, or error() says what is wrong; then for good.
    // `frame` is valid until the next call, and while the bytes that were fed are.
    // The framing may be another one after every frame, as in protocols that say in a line how many
    // bytes follow. In between it must stay the same.
    // Cost: linear in the bytes, however they are cut; an allocation when the own buffer has to grow.
    bool next(const Framing& framing, Bytes& frame) noexcept;
    // frame_too_large, frame_malformed, or ENOMEM.
    Error error() const noexcept { return error_; }
    // To be asked when the stream has ended: frame_truncated inside a frame, or error().
    Error finish() const noexcept;
    // What was fed and belongs to no frame so far: after a frame, all that follows it. For handing over
    // to another protocol.
    Bytes unread() const noexcept { return input_; }
    // The same, and forgets it.
    Bytes take_unread() noexcept {
        const Bytes rest = input_;
        input_ = {};
        return rest;
    }
    // Bytes of a frame that has begun.
    std::size_t held() const noexcept { return joined_ ? 0 : own_.size(); }
    // These bytes themselves, as held() counts them; valid until next() is called.
    Bytes held_bytes() const noexcept { return joined_ ? Bytes() : own_.bytes(); }

  private:
    bool next_joined(const Framing& framing, Bytes& frame) noexcept;
    bool hold(const Framing& framing, std::size_t count) noexcept;

    Bytes input_;
    Buffer own_;
    bool joined_ = false;  // own_ holds the frame that was last answered
    Error error_;
};

}  // namespace whorl
