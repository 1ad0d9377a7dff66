// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/export.hpp>
#include <whorl/handler.hpp>
#include <whorl/inherited.hpp>
#include <whorl/loop.hpp>
#include <whorl/unix.hpp>

#include <chrono>
#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

// Hot restart: a new process takes over the listeners of the one that serves, and no connection is refused.
// The descriptors themselves are passed, so what waits in a backlog stays there: with listeners of its own
// on the same port (SO_REUSEPORT) the new process would leave the old one's backlog to be reset.
//
//   the one that serves                         its successor
//   offer_restart(loop, listen_restart(…))      take_over(loop, path)
//        ──── listeners, with their names ────▶ adopts them, prepares, begins to accept
//        ◀─── ready ───────────────────────────  succession.ready()
//   stops accepting, drains    ──── released ─▶ offers them to its own successor
//
// Until `ready` nothing changes for the one that serves: a successor that dies, says nonsense or takes too
// long is forgotten, and the next one is answered. Both ends check that the other is the same user, or root.
// See docs/hot-restart.md.

namespace whorl {

class RestartOffer;

namespace detail {
class OfferState;
class SuccessionState;

// What is called at the end; destroyed then, or with the loop.
template <class Done>
class RestartListener : public Allocated<RestartListener<Done>> {
  public:
    RestartListener() = default;
    RestartListener(const RestartListener&) = delete;
    RestartListener& operator=(const RestartListener&) = delete;
    virtual ~RestartListener() = default;
    virtual void ended(Loop& loop, Done done) = 0;
};

template <class Done, class Handler>
class RestartHandler final : public RestartListener<Done> {
  public:
    explicit RestartHandler(Handler&& handler) : handler_(std::move(handler)) {}
    void ended(Loop& loop, Done done) override { handler_call(handler_, loop, std::move(done)); }

  private:
    Handler handler_;
};

template <class Done, class Handler>
RestartListener<Done>* restart_listener(Handler&& handler) noexcept {
    using Stored = std::decay_t<Handler>;
    static_assert(handler_accepts<Stored, Loop&, Done>(),
                  "whorl: this handler cannot be called with (Loop&, Done) of the operation");
    return new (std::nothrow) RestartHandler<Done, Stored>(Stored(std::forward<Handler>(handler)));
}
}  // namespace detail

// Opens the socket at which a successor asks: seqpacket, its file for this user alone (0600); a file that a
// crash has left behind is replaced. Only who found nobody with take_over() opens one; of two that do so at the
// same time both may succeed, so let the service manager start one. Errors: as listen_unix.
WHORL_EXPORT Result<Listener> listen_restart(Loop& loop, const UnixAddress& address) noexcept;

// --- the process that serves

// How an offer is made.
struct RestartOfferOptions {
    // How long a successor may take from its first word to ready(), 1 ns or more.
    Nanoseconds ready_within = std::chrono::seconds(30);
};

// How the offer ended.
struct Succeeded {
    Error error;                // none: the successor serves
    PeerCredentials successor;  // its process, for service::main_process()
};

// Counted since offer_restart().
struct RestartOfferStatistics {
    std::uint32_t offered = 0;        // successors that were given the listeners
    std::uint32_t busy = 0;           // refused: another one had them
    std::uint32_t other_user = 0;     // refused
    std::uint32_t other_version = 0;  // refused: another version of this protocol
    std::uint32_t malformed = 0;      // what came was no word of this protocol
    std::uint32_t failed = 0;         // of those offered: ended before they were ready, or too late
    Error last_error;                 // why one failed or could not ask; stays
};

// Lifetime: the loop's. A pointer to it is valid until its handler has returned, or close() has.
// Thread: loop thread only (asserted).
class WHORL_EXPORT RestartOffer {
  public:
    RestartOffer(const RestartOffer&) = delete;
    RestartOffer& operator=(const RestartOffer&) = delete;

    // Offers a listener or datagram socket, too, from the next successor on. It stays the loop's; once it is
    // closed no successor is offered anything (ECONNABORTED there), so close() first.
    // Errors: invalid_argument (an empty name, more than 255 bytes, more than 4,096 sockets), ENOMEM.
    template <class Tag>
    Error add(std::string_view name, Handle<Tag> handle) noexcept {
        return add_handle(name, handle.value());
    }
    // Offers no more, closes the restart socket and removes its file. The handler is destroyed uncalled.
    void close() noexcept;
    // Valid as long as the offer is. Cost: none.
    const RestartOfferStatistics& statistics() const noexcept;

  protected:
    RestartOffer() noexcept = default;
    ~RestartOffer() = default;

  private:
    Error add_handle(std::string_view name, std::uint64_t handle) noexcept;
};

namespace detail {
// Takes over `listener`, also when it is refused; null stands for memory that was not there.
WHORL_EXPORT Result<RestartOffer*> offer_begin(Loop& loop, Listener listener,
                                               const RestartOfferOptions& options,
                                               RestartListener<Succeeded>* handler) noexcept;
}  // namespace detail

// Waits for a successor at a restart socket.
// Owns: the restart socket, on success.
// Calls: handler(Loop&, Succeeded) once, from dispatch. Without an error the successor accepts already: stop
//   accepting here, and let what is served come to its end (Acceptor::retire). The successor is told when
//   the handler has returned. Destroyed uncalled by close(), drain() and the loop's end.
// Errors: stale_handle, invalid_argument (ready_within), slots_exhausted, loop_closed, ENOMEM; in the
//   handler those that end an AcceptStream.
// Cost: two allocations; a few system calls for a successor.
template <class Handler>
Result<RestartOffer*> offer_restart(Loop& loop, Listener listener,
                                    const RestartOfferOptions& options,
                                    Handler&& handler) noexcept {
    return detail::offer_begin(loop, listener, options,
                               detail::restart_listener<Succeeded>(std::forward<Handler>(handler)));
}

// --- its successor

// How ready() ended.
struct Released {
    Error error;                    // none: serve
    bool predecessor_died = false;  // and did not say so
};

// What a successor has until it is ready. Lifetime: a value that owns its part of the connection; dropped
// without ready() or close(), the predecessor forgets it after its ready_within. Thread: the loop's.
class Succession {
  public:
    Succession() noexcept = default;
    Succession(Succession&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Succession& operator=(Succession&& other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    Succession(const Succession&) = delete;
    Succession& operator=(const Succession&) = delete;
    WHORL_EXPORT ~Succession();

    // Says that this process accepts on what it was given. handler(Loop&, Released) is called once, from
    // dispatch: without an error the predecessor has stopped accepting, or has died; it is time to
    // offer_restart(). With an error it still serves, and this process should end.
    // Errors: invalid_argument (called before, or nothing was taken over), ENOMEM, slots_exhausted,
    //   loop_closed, queue_full. In Released: timed_out (later than its ready_within), ECONNABORTED,
    //   frame_malformed.
    template <class Handler>
    Error ready(Loop& loop, Handler&& handler) noexcept {
        return say_ready(loop, detail::restart_listener<Released>(std::forward<Handler>(handler)));
    }
    // Gives up: the predecessor goes on as if nothing had been.
    WHORL_EXPORT void close(Loop& loop) noexcept;

  private:
    friend class detail::SuccessionState;
    WHORL_EXPORT Error say_ready(Loop& loop, detail::RestartListener<Released>* handler) noexcept;

    detail::SuccessionState* state_ = nullptr;
};

// What was taken over. With an error everything else is empty.
struct TakenOver {
    Error error;                       // none, or why nothing was taken over
    InheritedDescriptors descriptors;  // with the names they were offered under, in that order
    Listener restart;                  // the restart socket, for offer_restart()
    PeerCredentials predecessor;       // who serves until ready()
    Succession succession;             // of this process, to be kept until ready()
};

// How long to wait for the predecessor.
struct TakeOverOptions {
    // From the call to the last descriptor; 1 ns or more.
    Nanoseconds within = std::chrono::seconds(10);
};

namespace detail {
WHORL_EXPORT Error take_over_begin(Loop& loop, const UnixAddress& address,
                                   const TakeOverOptions& options,
                                   RestartListener<TakenOver>* handler) noexcept;
}  // namespace detail

// Asks the process that serves for its listeners.
// Calls: handler(Loop&, TakenOver) once, from dispatch; destroyed uncalled with the loop.
// Errors: invalid_argument, slots_exhausted, loop_closed, ENOMEM. In TakenOver: ENOENT or ECONNREFUSED
//   (nobody serves: open the listeners and listen_restart()), EBUSY (another successor has them), EPERM (the
//   other end is another user), EPROTONOSUPPORT (it speaks another version), ECONNRESET (it ended midway, or
//   is asked by too many: ask again; so, too, where one was killed, whose ring, and the sockets in it, the
//   kernel ends a moment later), ECONNABORTED (it cannot offer what it has), EMFILE (not all found room here),
//   frame_malformed, timed_out, EACCES, and others of ConnectUnix.
template <class Handler>
Error take_over(Loop& loop, const UnixAddress& address, const TakeOverOptions& options,
                Handler&& handler) noexcept {
    return detail::take_over_begin(
        loop, address, options,
        detail::restart_listener<TakenOver>(std::forward<Handler>(handler)));
}

}  // namespace whorl
