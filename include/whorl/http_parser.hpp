// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/bytes.hpp>
#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

// Reading HTTP/1.1 (RFC 9112 and 9110), without I/O:
//
//   Bytes input = buffer.bytes();
//   for (;;) switch (parser.next(input)) {
//       case Step::more:   return;                       // all of `input` was used up
//       case Step::head:   use(parser.message());  break;
//       case Step::body:   use(parser.piece());    break;
//       case Step::end:    parser.restart();       break; // the next message may follow in `input`
//       case Step::failed: answer(parser.fault()); return;
//   }
//
// The parser is strict: what two readers might understand differently is refused, since that is how
// requests are smuggled past a proxy. However the bytes are cut into pieces, the result is the same.
// A head that lies whole in the bytes that were given is read there; one that does not is joined in the
// parser's own buffer, which never holds more than `head_max`. Nothing else is allocated.

namespace whorl::http {

// The methods of RFC 9110 section 9, and PATCH of RFC 5789.
enum class Method : std::uint8_t {
    get,      // GET
    head,     // HEAD: GET without the body
    post,     // POST
    put,      // PUT
    patch,    // PATCH
    remove,   // DELETE
    options,  // OPTIONS
    trace,    // TRACE
    connect,  // CONNECT
    other     // whatever else is sent: Message::method_text has it
};

// What a message may be at most. Bytes, with line ends. A head has room for 65535 bytes and for
// Message::fields_room fields: larger limits count as these, so that what is beyond them is refused as any
// message that is too large.
struct Limits {
    std::uint32_t line_max = 8192;                    // the request or status line; within head_max
    std::uint32_t head_max = 16384;                   // all of the head
    std::uint16_t fields_max = 64;                    // lines of the head behind the first
    std::uint64_t body_max = std::uint64_t{1} << 20;  // of one message, without its framing
    std::uint32_t trailer_max = 4096;                 // what follows the last chunk
};

// A line of a head.
struct Field {
    std::string_view name;   // as it was sent; compare with equal_caseless()
    std::string_view value;  // without white space around it
};

// The head of a request or a response. Lifetime: views of the bytes that were given, or of the parser's
// own, until the parser is restarted or destroyed.
struct Message {
    // Fields that a message has room for.
    static constexpr std::uint16_t fields_room = 96;

    Method method = Method::other;  // of requests, up to `host`
    std::string_view method_text;   // as it was sent, of requests
    std::string_view target;        // as it was sent
    std::string_view path;   // of it, still encoded: "/a%20b"; "*" and "host:port" as they are
    std::string_view query;  // what follows '?', else empty
    std::string_view host;   // empty: HTTP/1.0 without one

    std::uint16_t status = 0;  // of responses
    std::string_view reason;   // of responses; may be empty

    std::uint8_t minor = 1;        // HTTP/1.minor: 0 or 1
    bool keep_alive = true;        // as version and Connection say
    bool upgrade = false;          // Connection: upgrade
    bool expect_continue = false;  // Expect: 100-continue
    bool chunked = false;          // Transfer-Encoding: chunked
    bool has_length = false;       // Content-Length was given
    bool has_body = false;         // a body follows, and be it an empty one in chunks
    std::uint64_t length = 0;      // with has_length

    std::uint16_t fields = 0;  // how many there are
    // A field by its place, from 0; an empty one from `fields` on. Lifetime: as of the message.
    WHORL_EXPORT Field field(std::uint16_t index) const noexcept;
    // The value of the first field of this name, in any case; empty without one. Cost: linear.
    WHORL_EXPORT std::string_view find(std::string_view name) const noexcept;

    // Where the fields stand, from `base` on.
    struct Span {
        std::uint16_t name_at,  // bytes from `base` on
            name_size,          // bytes
            value_at,           // bytes from `base` on
            value_size;         // bytes, without white space around it
    };
    const char* base = nullptr;  // of the head
    Span spans[fields_room];     // the first `fields` of them
};

// What next() has found: see above. After `more` it wants more bytes, after `failed` none.
enum class Step : std::uint8_t { more, head, body, end, failed };

// What is wrong with a message: the status with which a server answers it, and why.
struct Fault {
    std::uint16_t status = 0;  // 400, 413, 414, 417, 431, 500, 501 or 505
    const char* why = "";      // a sentence in English; static
    // Whether something is wrong.
    explicit operator bool() const noexcept { return status != 0; }
};

// Lifetime: owns the buffer in which a head is joined. Thread: one at a time.
class WHORL_EXPORT Parser {
  public:
    // The next thing in `input`, from which it is removed. After `failed`, always failed.
    // Cost: linear in the bytes, however they are cut.
    Step next(Bytes& input) noexcept;
    // The peer has ended its side. `end`: a body that ends with the connection is whole. `more`:
    // nothing had begun. `failed`: inside of a message.
    Step finish() noexcept;
    // From Step::head on, until restart().
    const Message& message() const noexcept { return message_; }
    // After Step::body, until the next call.
    Bytes piece() const noexcept { return piece_; }
    // After Step::failed; else nothing is wrong.
    Fault fault() const noexcept { return fault_; }
    // Whether a message has begun and is not at its end.
    bool inside() const noexcept { return part_ != Part::head || lines_ != 0 || line_size_ != 0; }
    // Whether all of the message has been read, and Step::end is next or was the last.
    bool at_end() const noexcept { return part_ == Part::ended; }
    // Whether the head was joined in the parser's own buffer.
    bool joined() const noexcept { return !own_.empty(); }
    // Bytes of the body so far, without what frames them.
    std::uint64_t body_bytes() const noexcept { return body_bytes_; }
    // After Step::end: for the next message.
    void restart() noexcept;

  protected:
    // What it reads.
    enum class Role : std::uint8_t { request, response };
    // For the two below.
    Parser(Role role, const Limits& limits) noexcept;
    bool to_head_ = false;  // of responses: the answer to a HEAD request, without a body

  private:
    enum class Part : std::uint8_t { head, counted, chunked, until_close, ended, failed };
    // Of the chunked coding: where the next byte stands.
    enum class Chunk : std::uint8_t {
        size_first,
        size,
        extension,
        size_lf,
        data,
        data_cr,
        data_lf,
        line,
        name,
        value,
        value_lf,
        last_lf
    };
    enum class Scan : std::uint8_t { more, whole, failed };

    Step fail(std::uint16_t status, const char* why) noexcept;
    bool refuse(std::uint16_t status, const char* why) noexcept;

    // parser.cpp: where the head ends, and its first line
    Step next_head(Bytes& input) noexcept;
    Scan scan(std::string_view text, std::size_t& used) noexcept;
    bool line_ends(std::size_t size, bool returned) noexcept;
    bool within(std::size_t line) noexcept;
    bool join(Bytes bytes) noexcept;
    bool read_head(std::string_view head) noexcept;
    bool read_request_line(std::string_view line) noexcept;
    bool read_target() noexcept;
    bool read_status_line(std::string_view line) noexcept;
    bool read_version(std::string_view version) noexcept;

    // fields.cpp: the fields, and what they say about the body
    bool read_field(std::string_view line, std::size_t at) noexcept;
    bool read_known(Field field) noexcept;
    bool read_host(std::string_view value) noexcept;
    bool read_length(std::string_view value) noexcept;
    bool read_coding(std::string_view value) noexcept;
    bool read_connection(std::string_view value) noexcept;
    bool settle() noexcept;
    bool settle_request() noexcept;
    Part body_of() noexcept;

    // body.cpp
    Step next_counted(Bytes& input) noexcept;
    Step next_chunked(Bytes& input) noexcept;
    bool chunk_line(unsigned char byte) noexcept;
    bool chunk_trailer(unsigned char byte) noexcept;
    bool chunk_begins() noexcept;
    Step give(Bytes& input, std::uint64_t most) noexcept;

    Limits limits_;
    Role role_;
    Part part_ = Part::head;
    Chunk chunk_ = Chunk::size_first;
    // The head so far.
    bool blank_ = false;       // an empty line came before it
    bool returned_ = false;    // the last byte was a CR
    std::uint16_t lines_ = 0;  // whole ones
    std::uint32_t head_size_ = 0;
    std::uint32_t line_size_ = 0;
    // Fields that may stand once.
    bool has_host_ = false;
    bool close_ = false;
    bool keep_ = false;
    std::string_view authority_;  // of a target in absolute form
    // The body.
    std::uint64_t left_ = 0;  // of it, or of the chunk
    std::uint64_t body_bytes_ = 0;
    std::uint32_t extra_ = 0;  // bytes of a chunk's line, or of the trailer
    Fault fault_;
    Bytes piece_;
    Buffer own_;
    Message message_;
};

// Reads requests, as a server does.
class WHORL_EXPORT RequestParser final : public Parser {
  public:
    // Cost: no allocation.
    explicit RequestParser(const Limits& limits = {}) noexcept : Parser(Role::request, limits) {}
};

// Interim responses (1xx) are messages of their own, without a body.
class WHORL_EXPORT ResponseParser final : public Parser {
  public:
    // Cost: no allocation.
    explicit ResponseParser(const Limits& limits = {}) noexcept : Parser(Role::response, limits) {}
    // What is read next answers a HEAD request.
    void expect_head(bool head) noexcept { to_head_ = head; }
};

// Whether `list`, a value such as "gzip, chunked", names `token`, in any case.
WHORL_EXPORT bool list_has(std::string_view list, std::string_view token) noexcept;
// Of bytes in any case. Cost: linear.
WHORL_EXPORT bool equal_caseless(std::string_view a, std::string_view b) noexcept;
// What may stand in a field that is sent: a token, and a value without control characters.
WHORL_EXPORT bool valid_name(std::string_view name) noexcept;
// Of the value alone. Both: cost linear.
WHORL_EXPORT bool valid_value(std::string_view value) noexcept;
// "Not Found" for 404; never null.
WHORL_EXPORT const char* reason_of(std::uint16_t status) noexcept;
// Of a name as it is sent, in capitals; `other` for what is not in Method.
WHORL_EXPORT Method method_of(std::string_view name) noexcept;
// As it is sent: "GET"; "?" for `other`.
WHORL_EXPORT std::string_view name_of(Method method) noexcept;

}  // namespace whorl::http
