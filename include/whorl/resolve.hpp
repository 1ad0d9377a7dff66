// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/address.hpp>
#include <whorl/allocated.hpp>
#include <whorl/buffer.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

// Addresses of named hosts, as the machine is set up to find them: getaddrinfo(3) on the loop's work pool.
//
//   whorl::resolve(loop, {"example.org", "https"}, [](whorl::Loop&, whorl::ResolveDone done) { … });
//
// getaddrinfo asks what /etc/nsswitch.conf says: /etc/hosts, the name servers of /etc/resolv.conf (by
// default twice each, five seconds a time), a local cache or daemon (nscd, systemd-resolved), LDAP. Each
// question holds a thread of the pool as long as that takes, and nothing can end it earlier; works, and on
// libev files, share the LoopOptions::work_threads. Raise that where many names are asked for.

namespace whorl {

class HostResolver;

// What to ask for.
struct ResolveQuery {
    std::string_view host;          // a name, or numbers; empty: this host
    std::string_view service = {};  // "https", "443"; empty: `port`
    std::uint16_t port = 0;         // of the addresses, when there is no service
    int family = 0;                 // AF_INET, AF_INET6, or both
    int type = 1;                   // SOCK_STREAM or SOCK_DGRAM: what a service's name means
    bool passive = false;     // without a host: the addresses to listen on, not the loopback ones
    bool configured = false;  // only families that this host has an address of (AI_ADDRCONFIG)
    std::uint32_t addresses_max = 32;  // 1 to 1024
    // A deadline; `background` is refused. It takes back a question that no thread has begun.
    SubmitOptions submit = {};
    // Who is asked instead of getaddrinfo(3), for names only; see dns.hpp. It outlives the question.
    HostResolver* resolver = nullptr;
};

// The addresses in the order in which to try them (RFC 6724). Move-only; it owns them.
class AddressList {
  public:
    AddressList() noexcept = default;
    // For resolvers: a buffer that holds nothing but Address objects.
    explicit AddressList(Buffer memory) noexcept : memory_(std::move(memory)) {}
    // The first to try.
    const Address* begin() const noexcept {
        return std::launder(reinterpret_cast<const Address*>(memory_.data()));
    }
    const Address* end() const noexcept { return begin() + size(); }
    std::size_t size() const noexcept { return memory_.size() / sizeof(Address); }  // addresses
    bool empty() const noexcept { return memory_.empty(); }
    // Limits: index < size(), asserted.
    const Address& operator[](std::size_t index) const noexcept {
        WHORL_ASSERT(index < size());
        return begin()[index];
    }

  private:
    Buffer memory_;
};

// What was found.
struct ResolveDone {
    Error error;             // none with addresses; see resolve()
    AddressList addresses;   // at least one exactly when there is no error
    bool truncated = false;  // there were more than addresses_max
};

namespace detail {

class ResolveState;

class WHORL_EXPORT ResolveListener : public Allocated<ResolveListener> {
  public:
    ResolveListener() = default;
    ResolveListener(const ResolveListener&) = delete;
    ResolveListener& operator=(const ResolveListener&) = delete;
    virtual ~ResolveListener() = default;
    virtual void ended(Loop& loop, ResolveDone done) = 0;
};

template <class Handler>
class ResolveHandler final : public ResolveListener {
  public:
    explicit ResolveHandler(Handler&& handler) : handler_(std::move(handler)) {}
    void ended(Loop& loop, ResolveDone done) override {
        handler_call(handler_, loop, std::move(done));
    }

  private:
    Handler handler_;
};

}  // namespace detail

// For modules that find hosts in their own way. `find` takes over the listener, also when it is refused. On
// success the listener's ended() is the handler of the operation that it returns.
class WHORL_EXPORT HostResolver {
  public:
    virtual ~HostResolver();
    // Begins to look for query.host, a name. The texts of the query last for the call. Errors: as resolve().
    virtual Result<Operation> find(Loop& loop, const ResolveQuery& query,
                                   detail::ResolveListener* listener) = 0;

  protected:
    HostResolver() noexcept = default;
    HostResolver(const HostResolver&) noexcept = default;
    HostResolver& operator=(const HostResolver&) noexcept = default;
};

// Names a question that is under way. Lifetime: a value that owns nothing; once the handler has been
// called it names nothing. Thread: the loop's (asserted).
class ResolveTask {
  public:
    ResolveTask() noexcept = default;
    // It ends with `cancelled` in the next turn. A thread that is at it goes on in the background, and what
    // it finds is dropped. False: it has ended.
    WHORL_EXPORT bool cancel(Loop& loop) const noexcept;

  private:
    friend class detail::ResolveState;
    Timer front_;
    detail::ResolveState* state_ = nullptr;  // lives as long as front_ is known to the loop
    Operation operation_;                    // of a HostResolver, instead of these two
};

namespace detail {
// Takes over `listener`, also when it is refused; null stands for memory that was not there.
WHORL_EXPORT Result<ResolveTask> resolve_begin(Loop& loop, const ResolveQuery& query,
                                               ResolveListener* listener);
}  // namespace detail

// Finds the addresses of a host. Numbers, and no host with a port, are answered in the next turn without
// a thread.
// Owns: nothing; the texts are copied.
// Calls: handler(Loop&, ResolveDone) once, from the loop's dispatch. When the loop is destroyed first, it is
//   destroyed uncalled; a thread that is at the question is waited for, as for a Work (work.hpp), also by
//   drain().
// Cancel, deadline: as ResolveTask::cancel says; the error is `cancelled` or `timed_out`. Neither waits for
//   a thread.
// Errors: name_unknown (no such host, or no address of that family), service_unknown, name_not_answered
//   (no server answered in its time), name_refused (a server answered with a failure), EMFILE, ENOMEM and
//   other values of errno (EAI_SYSTEM); EAGAIN (no thread could be made).
//   Of a HostResolver: as it says. When called: invalid_argument (neither host nor service nor port, a zero byte, a host of more than
//   1,024 bytes, family, type, addresses_max), queue_full (LoopOptions::work_max), slots_exhausted,
//   loop_closed, ENOMEM.
// Cost: the heap, for the texts and the answer; a Work. Source: getaddrinfo(3), gai.conf(5).
template <class Handler>
Result<ResolveTask> resolve(Loop& loop, const ResolveQuery& query, Handler&& handler) {
    using Stored = std::decay_t<Handler>;
    static_assert(detail::handler_accepts<Stored, Loop&, ResolveDone>(),
                  "whorl: this handler cannot be called with (Loop&, ResolveDone)");
    return detail::resolve_begin(
        loop, query,
        new (std::nothrow) detail::ResolveHandler<Stored>(Stored(std::forward<Handler>(handler))));
}

}  // namespace whorl
