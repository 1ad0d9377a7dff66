// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/assert.hpp>
#include <whorl/protocol.hpp>

#include <nghttp2/nghttp2.h>

// An HTTP/2 session of nghttp2, of a client or a server, over a whorl stream: plain, or under TLS when the
// stream has a layer.
//
//   nghttp2_session* session = …;                        // with the program's callbacks
//   nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, nullptr, 0);
//   whorl::adapters::Nghttp2Stream stream;
//   if (whorl::Error error = stream.attach(loop, socket, session, calls)) …
//   loop.run();
//
// Owns: the session and the connection, from attach() on; destroying this object aborts the connection
// and frees both. The loop may end before it.
// Calls: nghttp2 and so its callbacks, from the loop's dispatch; they may submit, and call every function
// of this object. `ended` once, last of all, also from dispatch; it may destroy this object. nghttp2's own
// callbacks may destroy it too, but then must answer NGHTTP2_ERR_CALLBACK_FAILURE, so that nghttp2 goes no
// further; the session is freed when it has returned.
// Thread: the loop's.
// Limits: what is to be sent is taken from nghttp2 as far as the stream's high watermark; reading goes on
// meanwhile, since two sides that both wait for the other to read would wait for ever.
// Cost: one copy of what is sent.
// Source: nghttp2.org/documentation, "nghttp2_session_mem_recv", "nghttp2_session_mem_send".

namespace whorl::adapters {

class Nghttp2Stream;

// What a connection calls.
struct Nghttp2Calls {
    void* user = nullptr;  // the program's; handed to `ended` as it is
    // The connection has ended; the session is still there, until the object is destroyed.
    // `closed.error`: none in order; frame_malformed (the peer does not speak HTTP/2), cancelled (a
    // callback failed), ENOMEM, or that of the stream.
    void (*ended)(void* user, Nghttp2Stream& stream, Closed closed) = nullptr;
};

// One connection and its session; the contract stands above. Not to be moved.
class Nghttp2Stream {
  public:
    Nghttp2Stream() noexcept = default;
    Nghttp2Stream(const Nghttp2Stream&) = delete;
    Nghttp2Stream& operator=(const Nghttp2Stream&) = delete;
    ~Nghttp2Stream() {
        if (gone_ != nullptr) *gone_ = true;
        if (stream_ != nullptr) {
            link_->owner = nullptr;
            stream_->abort();
        }
        if (gone_ == nullptr) nghttp2_session_del(session_);  // else who runs it frees it
    }

    // Once (asserted). Owns: on failure, nothing.
    // Errors: those of whorl::attach().
    Error attach(Loop& loop, Socket socket, nghttp2_session* session, const Nghttp2Calls& calls,
                 StreamOptions options = {}) noexcept {
        WHORL_ASSERT(session_ == nullptr && session != nullptr);
        options.pause_at_high = false;
        const Result<Stream*> made = whorl::attach(loop, socket, Link(*this), options);
        if (!made) return made.error();
        session_ = session;
        calls_ = calls;
        stream_ = *made;
        return {};
    }

    // To be called after nghttp2_submit_…() and nghttp2_session_resume_data() outside of nghttp2's
    // callbacks.
    void flush() noexcept {
        if (stream_ != nullptr && opened_ && gone_ == nullptr) pump();
    }

    // Null before attach().
    nghttp2_session* session() noexcept { return session_; }
    // Null before attach() and after the end.
    Stream* stream() noexcept { return stream_; }

  private:
    // The protocol of the stream. It moves until it lies where the stream keeps it.
    struct Link {
        Nghttp2Stream* owner;

        explicit Link(Nghttp2Stream& of) noexcept : owner(&of) { of.link_ = this; }
        Link(Link&& from) noexcept : owner(from.owner) {
            if (owner != nullptr) owner->link_ = this;
            from.owner = nullptr;
        }
        Link& operator=(Link&&) = delete;
        ~Link() {
            if (owner != nullptr) owner->stream_ = nullptr;  // the loop has ended
        }
        void opened(Stream&) {
            if (owner == nullptr) return;
            owner->opened_ = true;
            owner->pump();
        }
        void received(Stream&, Buffer buffer) {
            if (owner != nullptr) owner->take(buffer);
        }
        void writable(Stream&) {
            if (owner != nullptr) owner->pump();
        }
        void closed(Stream&, Closed closed) {
            if (owner == nullptr) return;
            Nghttp2Stream& ending = *owner;
            owner = nullptr;
            ending.stream_ = nullptr;
            if (ending.calls_.ended != nullptr)
                ending.calls_.ended(ending.calls_.user, ending, closed);
        }
    };

    static Error error_of(ssize_t code) noexcept {
        if (code == NGHTTP2_ERR_NOMEM) return Error::from_errno(ENOMEM);
        if (code == NGHTTP2_ERR_CALLBACK_FAILURE) return Error::cancelled;
        return Error::frame_malformed;
    }

    // Whether this object is still there after a call of nghttp2; if not, frees what that needed.
    bool returned(bool gone, nghttp2_session* session) noexcept {
        if (gone) nghttp2_session_del(session);
        else gone_ = nullptr;
        return !gone;
    }

    void take(const Buffer& buffer) {
        bool gone = false;
        gone_ = &gone;
        nghttp2_session* session = session_;
        const ssize_t taken = nghttp2_session_mem_recv(
            session, reinterpret_cast<const std::uint8_t*>(buffer.data()), buffer.size());
        if (!returned(gone, session)) return;
        if (taken < 0 && stream_ != nullptr) stream_->close(error_of(taken));
        pump();
    }

    // Moves what nghttp2 has to say into the stream's queue, and ends the stream after the last word.
    void pump() {
        bool gone = false;
        nghttp2_session* session = session_;
        while (stream_ != nullptr && !stream_->closing()) {
            const std::uint8_t* bytes = nullptr;
            gone_ = &gone;
            const ssize_t size = nghttp2_session_mem_send(session, &bytes);
            if (!returned(gone, session)) return;
            if (size < 0) return stream_->close(error_of(size));
            if (size == 0) break;
            if (!stream_->write(Bytes(bytes, static_cast<std::size_t>(size)))) return;
        }
        if (stream_ == nullptr) return;
        if (nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0)
            stream_->close();
    }

    nghttp2_session* session_ = nullptr;
    Stream* stream_ = nullptr;  // until it has ended
    Link* link_ = nullptr;
    bool opened_ = false;
    Nghttp2Calls calls_;
    bool* gone_ = nullptr;  // a flag of the function that runs nghttp2
};

}  // namespace whorl::adapters
