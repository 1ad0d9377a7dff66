// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/loop.hpp>

#include <sys/stat.h>

// What adapters share for libraries that replace their socket without saying so: a watch that follows
// the descriptor which a library has at the moment. A closed socket's number is given to the next one
// that is opened, so the number alone does not tell them apart; the socket's inode does.
//
// Owns: the watch, until forget() or the end of this object; never the descriptor. The loop must outlive
// it.
// Thread: the loop's.
// Cost: one fstat(2) each time it is asked to follow.
// Source: fstat(2).

namespace whorl::adapters {

// See above. Neither copied nor moved.
class FollowedSocket {
  public:
    FollowedSocket() noexcept = default;
    FollowedSocket(const FollowedSocket&) = delete;
    FollowedSocket& operator=(const FollowedSocket&) = delete;
    ~FollowedSocket() { forget(); }

    // Watches `fd` for `interest` from now on, in the place of what was watched before, which may be
    // closed by now. Without a descriptor (-1, or a closed one) it watches nothing.
    // Calls: `handler(Loop&, Watched)`, from dispatch. One that is told an error forgets first: that watch
    //   has ended.
    // Errors: those of Loop::watch(); nothing is watched then.
    template <class Handler>
    Error follow(Loop& loop, int fd, Interest interest, Handler handler) noexcept {
        struct stat status = {};
        if (fd < 0 || ::fstat(fd, &status) != 0) {
            forget();
            return {};
        }
        if (loop_ == &loop && fd_ == fd && inode_ == status.st_ino) {
            if (interest == interest_) return {};
            interest_ = interest;
            if (!loop.modify(watch_, interest)) return {};
        }
        forget();
        const Result<Watch> made = loop.watch(fd, interest, handler);
        if (!made) return made.error();
        loop_ = &loop;
        fd_ = fd;
        inode_ = status.st_ino;
        interest_ = interest;
        watch_ = *made;
        return {};
    }

    // Watches nothing any more. Cost: none when it did not.
    void forget() noexcept {
        if (loop_ != nullptr) loop_->cancel(watch_);
        loop_ = nullptr;
    }

    // Whether a descriptor is watched.
    bool follows() const noexcept { return loop_ != nullptr; }

  private:
    Loop* loop_ = nullptr;  // null when nothing is watched
    int fd_ = -1;
    ino_t inode_ = 0;
    Interest interest_ = Interest::none;
    Watch watch_;
};

}  // namespace whorl::adapters
