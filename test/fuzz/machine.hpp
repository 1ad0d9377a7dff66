// SPDX-License-Identifier: MIT
#pragma once

#include "fuzz/ground.hpp"
#include "model/random.hpp"

#include <whorl/whorl.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// A machine whose instructions are calls of the API: bytes say which, with what, and also what handlers
// do when they are called. Beside everything submitted stands a ticket that says what may still happen
// to it. The oracle is the contract (docs/CONTRACTS.md):
//
//   1. Every accepted submission ends once; nothing comes after its end. A refused one has moved nothing.
//   2. The buffer that comes back is the one that went in.
//   3. No handler runs inside a call, or inside another handler, or after its timer, watch or hook was
//      cancelled. Each handler object is destroyed once.
//   4. Stale and invented handles reach nothing.
//   5. No timer is early.
//   6. The close handler comes last. After drain() nothing is left, no descriptor, slot or buffer.
//   7. What arrives is a beginning of what was sent.

namespace fuzz {

class Machine;

// One thing submitted.
struct Ticket {
    enum class Kind : std::uint8_t { operation, timer, watch, hook, post, close };
    Kind kind;
    std::uint64_t handle = 0;
    std::uint32_t socket = 0;  // index of its socket, when it has one
    bool has_socket = false;
    bool connects = false;
    bool ended = false;         // its last call was made, or it was cancelled for good
    bool handler_gone = false;  // the handler object was destroyed
    bool running = false;       // its handler is on the stack
    const std::byte* data = nullptr;
    std::size_t capacity = 0;
    std::uint64_t bytes = 0;  // of a send
    whorl::Instant not_before{};
    whorl::Nanoseconds interval{0};
};

// What a handler object holds. Destroying it tells the machine.
class Token {
  public:
    Token(Machine* machine, std::uint32_t ticket) : machine_(machine), ticket_(ticket) {}
    Token(Token&& other) noexcept
        : machine_(std::exchange(other.machine_, nullptr)), ticket_(other.ticket_) {}
    Token& operator=(Token&&) = delete;
    ~Token();

    Machine& machine() const { return *machine_; }
    bool moved_from() const { return machine_ == nullptr; }
    std::uint32_t ticket() const { return ticket_; }

  private:
    Machine* machine_;
    std::uint32_t ticket_;
};

class Machine {
  public:
    Machine(model::Run& run, model::Random& random, Ground& ground);
    ~Machine();
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    // One instruction from outside all handlers.
    void step();
    // The end: by drain() or by destroying the loop, as bytes say.
    void finish();

    // --- from handlers (machine_events.cpp)
    template <class Done>
    void completed(std::uint32_t ticket, Done& done);
    void fired(std::uint32_t ticket, const whorl::Expired& expired);
    void watched(std::uint32_t ticket, const whorl::Watched& event);
    void called(std::uint32_t ticket);
    void token_gone(std::uint32_t ticket);

  private:
    static constexpr std::uint32_t sockets_max = 24;
    static constexpr std::uint32_t tickets_max = 400;

    struct Socket {
        std::uint64_t handle = 0;
        bool listener = false;
        bool closed = false;
        std::uint32_t operations = 0;
        std::uint32_t peer = UINT32_MAX;  // the other end, when that is known
        std::string sent;
        std::string received;
        bool exact = true;  // all that was sent and received is known
    };
    struct Pair {  // descriptors of the machine's own, one of them watched
        int watched = -1;
        int other = -1;
    };
    // Guards a call: no handler may run inside it.
    struct Call {
        Machine& machine;
        explicit Call(Machine& owner) : machine(owner) { machine.in_call_ = true; }
        ~Call() { machine.in_call_ = false; }
    };
    struct Running;

    // --- instructions (machine.cpp)
    void make_loop();
    void act();
    void act_on_stream(std::uint64_t code);
    void act_on_rest(std::uint64_t code);
    void turn();
    void run_turn(std::uint64_t code);
    void replace_loop();
    void drain();
    void destroy();
    void expect_nothing_left();
    whorl::SubmitOptions options();
    std::uint32_t ticket(Ticket::Kind kind);
    std::uint32_t add_socket(std::uint64_t handle, bool listener);
    std::uint32_t any_socket(bool listener);
    bool any_ticket(Ticket::Kind kind, std::uint32_t& index);
    whorl::Buffer some_buffer(std::size_t capacity_max);
    std::string some_text();
    template <class Op>
    void submit(Op& op, std::uint32_t socket, const whorl::Buffer* buffer);
    void listen();
    void connect();
    void receive(std::uint64_t code);
    void send(std::uint64_t code);
    void send_chain();
    void cancel_operation();
    void invent_handle();
    void close();
    void detach();
    void adopt_pair();
    void arm();
    void cancel_timer();
    void move_timer();
    void post(bool remote);
    void watch();
    void change_watch();
    void poke_pair();
    void hook();
    void cancel_hook();

    // --- events (machine_events.cpp)
    void begin(Ticket& ticket);
    void end_operation(Ticket& ticket);
    void check(Ticket& ticket, whorl::Connect::Done& done);
    void check(Ticket& ticket, whorl::Accept::Done& done);
    void check(Ticket& ticket, whorl::AcceptStream::Done& done);
    void check(Ticket& ticket, whorl::Recv::Done& done);
    void check(Ticket& ticket, whorl::RecvStream::Done& done);
    void check(Ticket& ticket, whorl::Send::Done& done);
    void check(Ticket& ticket, whorl::SendAll::Done& done);
    void check(Ticket& ticket, whorl::SendChain::Done& done);
    void check(Ticket& ticket, whorl::Shutdown::Done& done);
    void check(Ticket& ticket, whorl::Nop::Done& done);
    void new_socket(whorl::Error error, whorl::Socket socket);
    void came_back(const Ticket& ticket, const whorl::Buffer& buffer);
    void sent(Ticket& ticket, std::uint64_t bytes, std::string_view text);
    void after_handler();
    static bool throws(const std::function<void()>& body);
    void expect(bool condition, const char* what) { run_.expect(condition, what); }

    model::Run& run_;
    model::Random& random_;
    Ground& ground_;
    whorl::LoopOptions loop_options_;
    std::optional<whorl::Loop> loop_;
    std::optional<whorl::Remote> remote_;
    std::vector<Ticket> tickets_;
    std::vector<Socket> sockets_;
    std::vector<Pair> pairs_;
    std::vector<whorl::Buffer> held_;
    std::uint32_t steps_in_handlers_ = 0;
    std::uint32_t text_next_ = 0;
    bool in_call_ = false;
    bool in_handler_ = false;
    bool draining_ = false;
    bool guest_ = false;
};

template <class Done>
struct OperationHandler {
    Token token;
    void operator()(whorl::Loop&, Done done) {
#ifdef WHORL_FUZZ_CANARY  // as if the loop lost the end of every shutdown
        if (std::is_same_v<Done, whorl::Shutdown::Done>) return;
#endif
        token.machine().completed(token.ticket(), done);
    }
};
struct TimerHandler {
    Token token;
    void operator()(whorl::Loop&, whorl::Expired expired) {
        token.machine().fired(token.ticket(), expired);
    }
};
struct WatchHandler {
    Token token;
    void operator()(whorl::Loop&, whorl::Watched event) {
        token.machine().watched(token.ticket(), event);
    }
};
struct PlainHandler {  // a hook, a post, a close handler
    Token token;
    void operator()(whorl::Loop&) { token.machine().called(token.ticket()); }
};

inline Token::~Token() {
    if (machine_ != nullptr) machine_->token_gone(ticket_);
}

}  // namespace fuzz
