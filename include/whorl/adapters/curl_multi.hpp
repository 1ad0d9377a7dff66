// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/loop.hpp>

#include <curl/curl.h>

#include <new>

// libcurl's multi interface on a whorl loop: any number of transfers, driven by watches and one timer.
//
//   whorl::adapters::CurlMulti multi;
//   if (!multi.open(loop, &finished, user)) …
//   multi.add(easy);
//   loop.run();
//
// Owns: the CURLM, until destroyed; easy handles stay the program's, and are taken out with remove()
// or when they have finished. The loop must outlive this object.
// Calls: `done` once for each transfer that ends by itself, from the loop's dispatch and never from
// inside a call of libcurl, so that it may add, remove and clean up handles; it must not destroy this
// object. Not for what remove() ended.
// Thread: the loop's. libcurl resolves names in threads of its own, or with c-ares.
// Errors: open(), once (asserted), is false without memory; add() and remove() answer as libcurl does.
// Cost: one watch and one small allocation for each connection that libcurl has open.
// Source: libcurl-multi(3), curl_multi_socket_action(3).

namespace whorl::adapters {

// See above. Not movable: libcurl keeps its address.
class CurlMulti {
  public:
    // A transfer has ended with `result`; `easy` has been taken out. `user` is that of open().
    using Done = void (*)(void* user, CURL* easy, CURLcode result);

    CurlMulti() noexcept = default;
    CurlMulti(const CurlMulti&) = delete;
    CurlMulti& operator=(const CurlMulti&) = delete;
    ~CurlMulti() {
        if (multi_ == nullptr) return;
        curl_multi_cleanup(multi_);  // asks for every socket to be removed
        loop_->cancel(timer_);
    }

    // Once, before anything else. False: no memory.
    bool open(Loop& loop, Done done, void* user) noexcept {
        WHORL_ASSERT(multi_ == nullptr);
        loop_ = &loop;
        done_ = done;
        user_ = user;
        multi_ = curl_multi_init();
        if (multi_ == nullptr) return false;
        curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &on_socket);
        curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &on_timer);
        curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
        return true;
    }

    // Begins a transfer, from dispatch. `easy` stays the program's and lives until `done` or remove().
    CURLMcode add(CURL* easy) noexcept { return curl_multi_add_handle(multi_, easy); }
    // Ends a transfer that is under way; `done` is not called for it.
    CURLMcode remove(CURL* easy) noexcept { return curl_multi_remove_handle(multi_, easy); }
    // For options of libcurl's own, such as CURLMOPT_MAX_TOTAL_CONNECTIONS.
    CURLM* handle() noexcept { return multi_; }

  private:
    struct Socket : detail::Allocated<Socket> {
        CurlMulti* multi;
        curl_socket_t fd;
        Watch watch;
    };

    static Interest interest_of(int what) noexcept {
        switch (what) {
            case CURL_POLL_IN:
                return Interest::readable;
            case CURL_POLL_OUT:
                return Interest::writable;
            case CURL_POLL_INOUT:
                return Interest::readable | Interest::writable;
            default:
                return Interest::none;
        }
    }

    // From inside libcurl, which must not be called back here.
    static int on_socket(CURL*, curl_socket_t fd, int what, void* self, void* known) {
        auto& multi = *static_cast<CurlMulti*>(self);
        auto* socket = static_cast<Socket*>(known);
        if (what == CURL_POLL_REMOVE) {
            if (socket == nullptr) return 0;
            multi.loop_->cancel(socket->watch);
            delete socket;
            return 0;
        }
        if (socket == nullptr) {
            socket = new (std::nothrow) Socket{{}, &multi, fd, {}};
            if (socket == nullptr) return -1;
            curl_multi_assign(multi.multi_, fd, socket);
        }
        if (!multi.loop_->modify(socket->watch, interest_of(what))) return 0;
        const Result<Watch> made =
            multi.loop_->watch(fd, interest_of(what), [socket](Loop&, Watched watched) {
                const int flags = (watched.readable ? CURL_CSELECT_IN : 0) |
                                  (watched.writable ? CURL_CSELECT_OUT : 0) |
                                  (watched.error ? CURL_CSELECT_ERR : 0);
                socket->multi->act(socket->fd, flags);  // may free `socket`
            });
        if (!made) return -1;  // libcurl fails the transfers
        socket->watch = *made;
        return 0;
    }

    static int on_timer(CURLM*, long ms, void* self) {
        auto& multi = *static_cast<CurlMulti*>(self);
        multi.loop_->cancel(multi.timer_);
        if (ms < 0) return 0;
        // Zero, too, waits for the loop: libcurl asks for it from inside its own functions.
        const Result<Timer> made =
            multi.loop_->after(std::chrono::milliseconds(ms),
                               [&multi](Loop&, Expired) { multi.act(CURL_SOCKET_TIMEOUT, 0); });
        if (!made) return -1;
        multi.timer_ = *made;
        return 0;
    }

    void act(curl_socket_t fd, int flags) {
        int running = 0, left = 0;
        curl_multi_socket_action(multi_, fd, flags, &running);
        while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
            if (message->msg != CURLMSG_DONE) continue;
            CURL* easy = message->easy_handle;
            const CURLcode result = message->data.result;
            curl_multi_remove_handle(multi_, easy);  // `message` is gone
            done_(user_, easy, result);
        }
    }

    Loop* loop_ = nullptr;
    CURLM* multi_ = nullptr;
    Done done_ = nullptr;
    void* user_ = nullptr;
    Timer timer_;
};

}  // namespace whorl::adapters
