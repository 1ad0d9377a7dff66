// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/assert.hpp>
#include <whorl/loop.hpp>

#include <curl/curl.h>

#include <chrono>
#include <cstdint>

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
// Errors: open(), once (asserted), is false without memory; add() and remove() answer as libcurl does, and
// add() CURLM_OUT_OF_MEMORY when the loop has no timer for it. A connection that the loop refuses to watch
// (slots_exhausted) is looked at every 10 ms instead, as long as libcurl has it.
// Cost: one watch for each connection that libcurl has open, and a timer while transfers run.
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
    CURLMcode add(CURL* easy) noexcept {
        if (!has_timer()) return CURLM_OUT_OF_MEMORY;
        changed_ = true;
        const CURLMcode code = curl_multi_add_handle(multi_, easy);
        wait(0);
        return code;
    }
    // Ends a transfer that is under way; `done` is not called for it.
    CURLMcode remove(CURL* easy) noexcept {
        changed_ = true;
        const CURLMcode code = curl_multi_remove_handle(multi_, easy);
        wait(0);
        return code;
    }
    // For options of libcurl's own, such as CURLMOPT_MAX_TOTAL_CONNECTIONS.
    CURLM* handle() noexcept { return multi_; }

  private:
    static constexpr Nanoseconds far = std::chrono::hours(1);
    static constexpr long unwatched_ms = 10;

    // libcurl keeps the watch of each socket for us as a pointer. A watch that was refused is a stale one.
    static constexpr Watch refused = Watch(1, 0);
    static Watch watch_of(void* known) noexcept {
        return Watch::from_value(reinterpret_cast<std::uintptr_t>(known));
    }
    void keep(curl_socket_t fd, Watch watch) noexcept {
        static_assert(sizeof(void*) == sizeof(std::uint64_t), "a pointer holds a handle");
        void* const known = reinterpret_cast<void*>(watch.value());  // NOLINT(*-no-int-to-ptr)
        curl_multi_assign(multi_, fd, known);
    }

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

    // From inside libcurl, which must not be called back here but with curl_multi_assign(). It takes no for an
    // answer (-1) as the end of all its transfers, some of which it then forgets, so there is none.
    static int on_socket(CURL*, curl_socket_t fd, int what, void* self, void* known) {
        auto& multi = *static_cast<CurlMulti*>(self);
        const Watch before = watch_of(known);
        if (what == CURL_POLL_REMOVE) {
            if (before == refused) --multi.unwatched_;
            multi.loop_->cancel(before);
            return 0;
        }
        if (!multi.loop_->modify(before, interest_of(what))) return 0;
        const Result<Watch> made =
            multi.loop_->watch(fd, interest_of(what), [&multi, fd](Loop&, Watched watched) {
                const int flags = (watched.readable ? CURL_CSELECT_IN : 0) |
                                  (watched.writable ? CURL_CSELECT_OUT : 0) |
                                  (watched.error ? CURL_CSELECT_ERR : 0);
                multi.act(fd, flags);  // may end this watch
            });
        const Watch now = made ? *made : refused;
        multi.unwatched_ += (now == refused) - (before == refused);
        multi.keep(fd, now);
        return 0;
    }

    static int on_timer(CURLM*, long ms, void* self) {
        static_cast<CurlMulti*>(self)->wait(ms);
        return 0;
    }

    // The timer lives while transfers run, so that it need not be asked for when there may be none.
    bool has_timer() noexcept {
        if (loop_->deadline(timer_)) return true;
        const Result<Timer> made =
            loop_->every(far, [this](Loop&, Expired) { act(CURL_SOCKET_TIMEOUT, 0); });
        if (made) timer_ = *made;
        return made.has_value();
    }
    // Zero, too, waits for the loop: libcurl asks for it from inside its own functions. Below zero: for no time.
    void wait(long ms) noexcept {
        if (unwatched_ != 0 && (ms < 0 || ms > unwatched_ms)) ms = unwatched_ms;
        static_cast<void>(loop_->move(timer_, ms < 0 ? far : std::chrono::milliseconds(ms)));
    }

    void act(curl_socket_t fd, int flags) {
        int running = 0, left = 0;
        long ms = -1;
        changed_ = false;
        if (unwatched_ != 0) look_at_all(running);
        else curl_multi_socket_action(multi_, fd, flags, &running);
        while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
            if (message->msg != CURLMSG_DONE) continue;
            CURL* easy = message->easy_handle;
            const CURLcode result = message->data.result;
            curl_multi_remove_handle(multi_, easy);  // `message` is gone
            done_(user_, easy, result);
        }
        if (changed_) {
            wait(0);  // the count is not the last one
        } else if (running == 0) {
            loop_->cancel(timer_);
        } else if (fd == CURL_SOCKET_TIMEOUT || unwatched_ != 0) {
            curl_multi_timeout(multi_, &ms);
            wait(ms);
        }
    }
    // libcurl would have programs do without it, and has nothing else for sockets that nobody watches.
    void look_at_all(int& running) noexcept {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        curl_multi_socket_all(multi_, &running);
#pragma GCC diagnostic pop
    }

    Loop* loop_ = nullptr;
    CURLM* multi_ = nullptr;
    Done done_ = nullptr;
    void* user_ = nullptr;
    Timer timer_;
    int unwatched_ = 0;     // sockets whose watch was refused
    bool changed_ = false;  // a transfer has come or gone since libcurl has counted them
};

}  // namespace whorl::adapters
