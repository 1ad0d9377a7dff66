// SPDX-License-Identifier: MIT
#pragma once

#include "backend/sim_kernel.hpp"
#include "core/world_state.hpp"

#include <whorl/testing.hpp>
#include <whorl/whorl.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

// A program of operations in a simulated world that knows, at every moment, what the contract allows to
// happen next. Random schedules and the scenarios of single faults are made of its calls; whatever breaks
// the contract fails the world.
//
// What it checks: exactly one final completion for each operation, and nothing after it; handlers run from
// dispatch only, at depth one; buffers come back once, the same memory with the same room; what was
// received is the beginning of what the sends say has gone out; `cancelled` and `timed_out` only where
// somebody asked for them; timers never early; a close handler after all operations of its descriptor;
// at the end nothing is left of descriptors, slots, buffers, and nothing is still to come.

namespace world_test {

using whorl::Error;
using whorl::Loop;
using whorl::Nanoseconds;
using whorl::testing::World;

#define WORLD_TEST_KINDS(X) \
    X(nop)                  \
    X(connect)              \
    X(accept)               \
    X(accept_stream)        \
    X(recv)                 \
    X(recv_stream)          \
    X(send)                 \
    X(send_all)             \
    X(send_chain)           \
    X(shutdown)             \
    X(watch)                \
    X(timer)                \
    X(every)                \
    X(post)                 \
    X(remote)               \
    X(hook)                 \
    X(close)
enum class Kind : std::uint8_t {
#define WORLD_TEST_KIND(name) name,
    WORLD_TEST_KINDS(WORLD_TEST_KIND)
#undef WORLD_TEST_KIND
        count
};

// How an operation may end, as its handler and its canceller see it.
#define WORLD_TEST_ENDS(X)                                                                \
    X(ok)              /* all of it */                                                    \
    X(part)            /* without error, less than was asked for */                       \
    X(end)             /* the peer has ended its side */                                  \
    X(reset)           /* ECONNRESET, EPIPE, ENOTCONN: the connection is gone */          \
    X(refused)         /* ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDR…: nobody there */ \
    X(resource)        /* EMFILE, ENFILE, ENOBUFS, ENOMEM, slots_exhausted */             \
    X(unknown)         /* an errno that no manual page names is passed on */              \
    X(timed_out)       /* its deadline */                                                 \
    X(cancelled_early) /* cancelled in the turn of its submission */                      \
    X(cancelled)       /* cancelled while it waited */                                    \
    X(cancel_lost)     /* the cancel was too late, and said cancelling */                 \
    X(cancel_late)     /* the cancel was too late, and said so */                         \
    X(closed)          /* its descriptor was closed */                                    \
    X(drained)         /* by Loop::drain */                                               \
    X(destroyed)       /* with its loop: no handler was called */                         \
    X(not_taken)       /* submit refused it and has moved nothing */
enum class End : std::uint8_t {
#define WORLD_TEST_END(name) name,
    WORLD_TEST_ENDS(WORLD_TEST_END)
#undef WORLD_TEST_END
        count
};

const char* name_of(Kind kind);
const char* name_of(End end);

struct Table {
    std::uint64_t hits[static_cast<int>(Kind::count)][static_cast<int>(End::count)] = {};
    void count(Kind kind, End end) { ++hits[static_cast<int>(kind)][static_cast<int>(end)]; }
};

constexpr std::uint32_t none = UINT32_MAX;

// One direction of a connection, named by the connecting side's port.
struct Stream {
    struct Send {
        std::uint32_t text;  // where in the pattern its bytes begin
        std::uint32_t size;
        std::uint64_t bytes;  // that its completion told
    };
    std::uint16_t port = 0;
    bool from_client = false;
    std::vector<Send> sends;
    std::string received;
    bool ended = false;   // its receiver has seen the end
    bool broken = false;  // something went wrong on the connection: bytes may be lost
};

// A socket or a listener of one of the loops.
struct Holder {
    std::uint8_t loop = 0;
    bool listens = false;
    bool closed = false;
    whorl::Socket socket;
    whorl::Listener listener;
    std::uint16_t port = 0;  // of the connecting side
    bool client = false;
};

struct Op {
    Kind kind;
    std::uint8_t loop;
    bool live;
    bool cancel_asked;
    bool cancel_early;
    bool cancel_late;
    bool closed;
    bool deadline;
    bool drained;
    std::uint32_t holder;  // none: no descriptor
    std::uint32_t stream;
    std::uint32_t send;  // of the stream
    std::uint64_t handle;
    const void* data;
    std::size_t capacity;
    std::uint32_t size;
    std::uint64_t turn;
    whorl::Instant due;
};

class Program;

// Whatever completes, with the operation's number.
struct Handler {
    Program* program;
    std::uint32_t op;
    template <class Done>
    void operator()(Loop& loop, Done done) const;
    void operator()(Loop& loop) const;
};

class Program {
  public:
    Program(World& world, Table& table) : world(world), table(table) {
        ops.reserve(256);
        streams.reserve(32);
    }
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    // --- what it does; an index of ops, or none when it was not taken
    std::uint32_t add_loop(const whorl::LoopOptions& options);
    std::uint32_t listen(std::uint32_t loop, int backlog = 16);  // a holder
    std::uint32_t connect(std::uint32_t loop, std::uint16_t port, Nanoseconds within = never);
    std::uint32_t accept(std::uint32_t holder, Nanoseconds within = never);
    std::uint32_t accept_stream(std::uint32_t holder, Nanoseconds within = never);
    std::uint32_t recv(std::uint32_t holder, std::size_t size, int flags = 0,
                       Nanoseconds within = never);
    std::uint32_t recv_stream(std::uint32_t holder, Nanoseconds within = never);
    // Kind::send, send_all or send_chain
    std::uint32_t send(Kind kind, std::uint32_t holder, std::uint32_t size,
                       Nanoseconds within = never);
    std::uint32_t shutdown(std::uint32_t holder, Nanoseconds within = never);
    std::uint32_t nop(std::uint32_t loop, Nanoseconds within = never);
    std::uint32_t watch(std::uint32_t loop);
    std::uint32_t timer(std::uint32_t loop, Nanoseconds delay);
    std::uint32_t every(std::uint32_t loop, Nanoseconds interval);
    std::uint32_t post(std::uint32_t loop);
    std::uint32_t remote_post(std::uint32_t loop);
    std::uint32_t hook(std::uint32_t loop);
    std::uint32_t close(std::uint32_t holder, bool with_handler);
    void cancel(std::uint32_t op);
    void move(std::uint32_t op, Nanoseconds delay);
    void wake_watches();  // makes the watched descriptor ready
    void misuse(std::uint32_t holder);
    void drain(std::uint32_t loop);
    void destroy(std::uint32_t loop);
    void peer(std::uint16_t port, std::uint32_t size, int ends);

    // --- the end
    enum class Ending { cancel, close, drain, destroy, natural };
    static constexpr std::uint32_t endings = 5;
    void finish(Ending ending);

    Loop& loop(std::uint32_t index) { return *loops[index]; }
    bool alive(std::uint32_t index) const {
        return index < loops.size() && loops[index] != nullptr;
    }
    bool in_handler() const { return depth != 0; }
    void check(bool holds, const char* what) {
        if (!holds) world.fail(what);
    }

    static constexpr Nanoseconds never = Nanoseconds::max();
    World& world;
    Table& table;
    std::vector<Op> ops;
    std::vector<Holder> holders;
    std::vector<Stream> streams;
    std::vector<whorl::Buffer> held;  // received buffers that the program keeps for a while
    std::uint32_t hold_max = 0;
    bool scripted_breaks = false;  // connections break without an error of their own
    bool canary = false;  // takes no notice of a completion now and then: must be found out
    void (*inside)(Program&, void*) = nullptr;  // runs in handlers
    void* inside_context = nullptr;
    std::uint32_t listener_holder = none;
    std::uint16_t listener_port = 0;

  private:
    friend struct Handler;
    std::uint32_t begin(Kind kind, std::uint32_t loop, std::uint32_t holder, Nanoseconds within);
    template <class Handle>
    bool taken(std::uint32_t index, const whorl::Result<Handle>& made);
    template <class Operation>
    bool submit(std::uint32_t index, Operation&& operation, Nanoseconds within);
    void refused(std::uint32_t index, Error error);
    End end_of(const Op& op, Error error) const;

    void ended(std::uint32_t index, Error error, End good);
    bool loses(std::uint32_t index) const { return canary && index % 32 == 31; }
    void enter(std::uint32_t index);
    void leave();

    void done(Loop& loop, std::uint32_t index, whorl::Connect::Done& done);
    void done(Loop& loop, std::uint32_t index, whorl::Accept::Done& done);
    void done(Loop& loop, std::uint32_t index, whorl::AcceptStream::Done& done);
    void done(Loop& loop, std::uint32_t index, whorl::Recv::Done& done);
    void done(Loop& loop, std::uint32_t index, whorl::RecvStream::Done& done);
    void done_send(std::uint32_t index, Error error, std::uint64_t bytes, const void* data,
                   std::size_t capacity);
    void done(Loop&, std::uint32_t index, whorl::Send::Done& done) {
        done_send(index, done.error, done.bytes, done.buffer.data(), done.buffer.capacity());
    }
    void done(Loop&, std::uint32_t index, whorl::SendAll::Done& done) {
        done_send(index, done.error, done.bytes, done.buffer.data(), done.buffer.capacity());
    }
    void done(Loop&, std::uint32_t index, whorl::SendChain::Done& done);
    void done(Loop&, std::uint32_t index, whorl::Shutdown::Done& done);
    void done(Loop&, std::uint32_t index, whorl::Nop::Done& done);
    void done(Loop&, std::uint32_t index, whorl::Watched& done);
    void done(Loop&, std::uint32_t index, whorl::Expired& done);
    void done_plain(std::uint32_t index);

    void adopt(Loop& loop, std::uint8_t index, whorl::Socket socket);
    std::uint32_t stream_of(std::uint16_t port, bool from_client);
    void received(const Op& op, const whorl::Buffer& buffer);
    void verify_streams();
    void settle(Ending ending);
    void cancel_all();
    void close_all();
    void end_by_itself();
    void broken(const Op& op);
    void hidden(const Op& op, Error error, std::uint64_t bytes);
    bool all_ended() const;
    void check_loop(Loop& loop, const whorl::LoopOptions& options, bool holders_gone);

    std::vector<Loop*> loops;
    std::vector<whorl::LoopOptions> loop_options;
    std::vector<std::pair<whorl::testing::Peer, std::uint32_t>> peers;  // and the stream it reads
    std::vector<whorl::Remote> remotes;
    int watched_fd = -1;
    int depth = 0;
    int calling = 0;
    bool draining = false;
    bool ending_ = false;
    std::uint32_t text_next = 0;
};

template <class Done>
void Handler::operator()(Loop& loop, Done done) const {
    if (program->loses(op)) return;
    program->enter(op);
    program->done(loop, op, done);
    program->leave();
}

}  // namespace world_test
