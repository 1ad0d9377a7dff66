// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include <whorl/address.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/handle.hpp>
#include <whorl/loop.hpp>
#include <whorl/result.hpp>
#include <whorl/simulation_options.hpp>
#include <whorl/time.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// Tests of programs that use whorl, in a simulated world: the program's own handlers run on loops whose
// kernel, network and clock are simulated. There are no sockets, no sleeps and no threads; a day passes
// in milliseconds; everything that a real kernel and network may choose is drawn from a seed, and the
// same seed gives the same run, byte for byte, on every machine. docs/testing-your-protocol.md shows how.
//
// whorl.hpp does not include this header: it is for tests, and brings in <string>, <vector> and <memory>.

namespace whorl::testing {

class World;
class Peer;
struct WorldState;
struct PeerState;

// A callable of any size on the heap, for scripts and conditions; move-only. (std::function is too heavy
// a header, and cannot hold what cannot be copied.)
template <class Signature>
class Script;
template <class Returned, class... Arguments>
class Script<Returned(Arguments...)> {
  public:
    Script() noexcept = default;
    // Moves the callable to the heap. Implicit: lambdas are given where scripts are taken.
    template <class Callable,
              class = std::enable_if_t<!std::is_same_v<std::decay_t<Callable>, Script>>>
    Script(Callable&& callable)  // NOLINT(google-explicit-constructor)
        : held_(new Held<std::decay_t<Callable>>(std::forward<Callable>(callable))) {}

    // Calls it. Limits: there is one.
    Returned operator()(Arguments... arguments) const {
        return held_->call(std::forward<Arguments>(arguments)...);
    }
    // Whether there is one.
    explicit operator bool() const noexcept { return held_ != nullptr; }

  private:
    struct Base {
        virtual ~Base() = default;
        virtual Returned call(Arguments... arguments) = 0;
    };
    template <class Callable>
    struct Held final : Base {
        explicit Held(Callable given) : callable(std::move(given)) {}
        Returned call(Arguments... arguments) override {
            return static_cast<Returned>(callable(std::forward<Arguments>(arguments)...));
        }
        Callable callable;
    };
    std::unique_ptr<Base> held_;
};

// What went wrong in a world, and how to see it again.
struct Failure {
    std::string what;                // World::fail()'s text, or the invariant's name
    std::uint64_t seed = 0;          // of the world
    Instant time{};                  // by the world's clock
    std::vector<std::string> trace;  // the last lines before it

    // All of it, for printing.
    WHORL_EXPORT std::string text() const;
};

// The other end of a connection, written by hand: it says what the test lets it say, and never blocks.
// Lifetime: a cheap handle, copies are the same peer, and the last one closes it (one of accept() once it
// has been connected); when its world is gone it keeps what it received. Thread: that of the world.
// Limits: it comes from World::connect() or accept(); one made without them can only be assigned (panics).
class WHORL_EXPORT Peer {
  public:
    Peer() noexcept = default;

    // Sends, however long the other side does not read: what does not fit waits in an unbounded outbox.
    // Cost: as it is, a copy. After close(), reset() or an error nothing is sent.
    // Limits: not after finish_sending() (panics).
    Peer& send(std::string_view bytes);
    // The end of its side, after everything given to send(): a half-close.
    Peer& finish_sending();
    // Closes: a FIN, or a RST when received bytes have not been read, as in Linux. The outbox is lost. One
    // of accept() that nobody has connected to takes no connection any more; its port stays open.
    void close();
    // A RST, now.
    void reset();
    // The connection is reset when it has sent `bytes` more.
    void reset_after(std::uint64_t bytes);
    // Reads nothing more until read_on(): the other side's sends pile up and stop.
    void stop_reading();
    // Undoes stop_reading().
    void read_on();

    // All that has arrived, from the beginning or since take().
    const std::string& received() const noexcept;
    // The same, and received() begins anew.
    std::string take();
    bool connected() const noexcept;  // it was connected once
    bool ended() const noexcept;      // the other side has ended its direction in order
    bool was_reset() const noexcept;  // the connection broke
    bool sent_all() const noexcept;   // the outbox is empty
    Error error() const noexcept;     // why connecting or the connection failed
    // What it waits at, after accept(): with the port that was chosen; or has connected to.
    Address address() const noexcept;

  private:
    friend class World;
    explicit Peer(std::shared_ptr<PeerState> state) noexcept : state_(std::move(state)) {}
    std::shared_ptr<PeerState> state_;
};

// One side of a connection that a loop of the world has, for fault scripts. Lifetime: a weak handle;
// when the connection is gone its calls do nothing. Thread: that of the world.
class WHORL_EXPORT Connection {
  public:
    Connection() noexcept = default;
    // Whether it is there and connected.
    bool alive() const noexcept;
    // This side's address; null when it is gone.
    Address local() const noexcept;
    // The other side's; null when it is gone.
    Address peer() const noexcept;
    std::uint64_t bytes_sent() const noexcept;  // given to the kernel so far
    // Breaks it for both sides.
    void reset();
    // Breaks it for both sides when this side has sent `bytes` more: reset_after(17).
    void reset_after(std::uint64_t bytes);
    // Nothing that this side has sent arrives before release(); nothing is lost. A stalled link.
    void hold();
    // Ends hold(): what was held arrives, and what comes later as usual. By the handle that held it also
    // when this side has closed since.
    void release();

  private:
    friend class World;
    explicit Connection(std::weak_ptr<void> socket) noexcept : socket_(std::move(socket)) {}
    std::weak_ptr<void> socket_;  // of the simulated kernel
    std::weak_ptr<void> held_;    // what hold() stopped; it is there after the socket
};

// What a child of the world does, since nothing is executed there.
struct ChildScript {
    Nanoseconds lifetime{};    // from its start to its end; Nanoseconds::max(): until it is killed
    int status = 0;            // what it returns
    std::string output;        // what it writes to its standard output when it starts
    bool copies = false;       // as cat(1): its input to its output, and it ends with its input
    std::vector<int> ignored;  // signals that do not end it
    Error error;               // an errno value: it cannot be run
};

// A simulated world: a clock, a network, and the loops in it.
// Lifetime: it outlives every loop made for it, and every Remote of those (asserted for loops).
// Thread: all on one. The world must not be run from inside a handler of one of its loops, except that
// scripts, fault calls and questions are allowed there.
// When the library asserts inside a world, the message names the seed.
class WHORL_EXPORT World {
  public:
    // A world with these options; without any a kind one.
    explicit World(const SimulationOptions& options = {});
    // A harsh world: SimulationOptions::harsh(seed).
    explicit World(std::uint64_t seed);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    // --- Loops

    // A loop that belongs to the world and is run by run_until() and its kin. Backend::io_uring runs
    // the production io_uring driver on a simulated ring; otherwise it is the simulator.
    // Limits: as Loop::create; a refusal is an assertion. Do not move it.
    Loop& add_loop(const LoopOptions& options = {});
    // Destroys it, with everything in flight, as ~Loop does. Limits: not from one of its own handlers
    // (panics); from a script, or a handler of another loop, it may be called.
    void remove_loop(Loop& loop);
    // A loop that belongs to the caller, who runs it: run(), run_once() and run_for() let the world go
    // on while they wait, but no added loop is run then: what one of those is to answer does not come.
    // A run() that waits for what can never happen ends the program, and says so. Errors: as Loop::create.
    Result<Loop> make_loop(LoopOptions options = {});

    // --- Time. Nothing happens, and the clock stands still, outside of these calls and of the waiting
    // of loops that the caller runs.

    Instant now() const noexcept;    // simulated time
    Instant epoch() const noexcept;  // the clock's first reading
    // Runs all added loops, in turns whose order is drawn from the seed, until `done` holds. When there
    // is nothing to do at this instant the clock jumps to the next thing that happens.
    // Returns false when `bound` of simulated time has passed, when nothing can ever happen again, or
    // when the world has failed (failure()): also when there is no end of work at one instant.
    template <class Done>
    bool run_until(Done&& done, Nanoseconds bound = std::chrono::hours(1)) {
        return run(Script<bool()>(std::forward<Done>(done)), bound);
    }
    // The same until nothing can ever happen again. True then.
    bool run_idle(Nanoseconds bound = std::chrono::hours(1));
    // Lets exactly so much time pass, with everything that happens in it in the order of its time. All
    // the time there is (Nanoseconds::max()): until nothing can ever happen again, where the clock stays.
    void advance(Nanoseconds time);
    // The same up to an instant; one that has passed changes nothing.
    void advance_to(Instant when);
    // When the next thing happens: an arrival, a timer, a script. Not after now() while something can
    // be done at once; instant_never when nothing can ever happen.
    Instant next_event() noexcept;
    // How many timers, arrivals, late completions and scripts are to come.
    std::size_t pending() const noexcept;
    // `idle(next)` is called whenever nothing is left to do at this instant, before the clock jumps to
    // `next` (instant_never: it will not). It may submit, script and send.
    void on_idle(Script<void(Instant next)> idle);
    // Nothing is called any more.
    void clear_on_idle() noexcept;
    bool has_on_idle() const noexcept;  // something is

    // --- Scripts: what is to happen at a time; in order of time, and first come, first served.

    // Runs `script` at this time; a time that has passed is now. Returns its number for cancel_script().
    std::uint64_t at(Instant when, Script<void()> script);
    // The same, so long from now.
    std::uint64_t after(Nanoseconds delay, Script<void()> script);
    // It does not run; one that has run or is unknown changes nothing.
    void cancel_script(std::uint64_t number) noexcept;

    // --- Faults. options() may be changed at any time; what it says from then on counts.

    // The world's own, to be read and changed. Buffers are those of sockets that are made later; the seed,
    // time_start and power_loss count when the world is made.
    SimulationOptions& options() noexcept;
    // A connection that `socket` of an added or made loop has.
    Connection connection(Loop& loop, Socket socket);
    // All with a port at either end, both sides of each, oldest first.
    std::vector<Connection> connections(std::uint16_t port);
    // Breaks it for both sides.
    void reset(Loop& loop, Socket socket) { connection(loop, socket).reset(); }
    // Breaks it for both sides when this side has sent `bytes` more.
    void reset_after(Loop& loop, Socket socket, std::uint64_t bytes) {
        connection(loop, socket).reset_after(bytes);
    }
    // Nothing arrives anywhere, and nobody answers a connect, until heal(). Nothing that connections carry
    // is lost, their ends and resets neither; datagrams are. What hold() holds is another matter: each
    // ends for itself. Fault calls pass: reset() and reset_after() of a connection.
    void partition();
    // Undoes partition(): what was sent meanwhile arrives.
    void heal();
    // RLIMIT_NOFILE of the world: beyond it EMFILE. `spare` more than are open now.
    void descriptors_spare(std::uint32_t spare) noexcept;
    // Undoes descriptors_spare(); SimulationOptions::descriptors_max counts again.
    void descriptors_unlimited() noexcept;

    // The machine loses power and comes up again: the world's loops are destroyed, no handler is called,
    // and those of make_loop() must be gone. Files are then as a disk may have them: what was synced is
    // there; what was written since may be old, new or torn between sectors; the last changes of names
    // may be gone if no directory was synced after them. When every choice is zero, nothing is lost.
    // Limits: SimulationOptions::power_loss, set when the world was made (panics).
    void lose_power();

    // --- The machine's names and clock

    // What resolve() finds for a host, after `delay`; the ports are of no account. Without it only
    // numbers and localhost are known.
    void name(std::string_view host, const std::vector<Address>& addresses,
              Nanoseconds delay = Nanoseconds::zero());
    // It fails instead: Error::name_not_answered, for example.
    void name_fails(std::string_view host, Error error, Nanoseconds delay = Nanoseconds::zero());
    // Sets the wall clock, in nanoseconds since 1970, as an administrator would.
    void set_wall_clock(Nanoseconds since_1970);

    // --- Peers

    // Connects to an address of the world, 127.0.0.1:port for the short form. Each connection takes one of
    // the ports 32768 to 60999; beyond them Peer::error() is EADDRNOTAVAIL.
    Peer connect(const Address& address);
    // To 127.0.0.1 and this port.
    Peer connect(std::uint16_t port) { return connect(Address::loopback_v4(port)); }
    // Takes the next connection to this address; port 0 chooses one: peer.address().
    // Limits: nobody else listens there (asserted).
    Peer accept(const Address& address);
    // At 127.0.0.1 and this port.
    Peer accept(std::uint16_t port = 0) { return accept(Address::loopback_v4(port)); }

    // --- Signals and children

    // Sends a signal to the process that the world is. False: no loop has it in an open set of signals,
    // and nothing happens.
    bool raise(int number);
    // What children that run the program of this name do; a name that is not known is ENOENT.
    void program(std::string name, const ChildScript& script);
    // Children that run, and those that have ended and were not reaped.
    std::uint32_t children_alive() const noexcept;
    std::uint32_t zombies() const noexcept;  // ended and not reaped

    // --- Choices of the test itself: part of the seed, and shrunk with it

    // From 0 to bound - 1; zero is the one that shrinking prefers. Limits: bound above 0 (asserted).
    std::uint32_t draw(std::uint32_t bound);

    // --- What must hold

    // Checked after every turn of a loop and every jump of the clock; false fails the world.
    void invariant(std::string name, Script<bool()> holds);
    // Fails the world: run_until() and its kin return false at once. The first failure counts.
    void fail(std::string_view what);
    // Fails the world unless `holds`.
    void check(bool holds, std::string_view what) {
        if (!holds) fail(what);
    }
    bool failed() const noexcept;             // by fail(), check() or an invariant
    const Failure& failure() const noexcept;  // `what` is empty when nothing failed

    // --- What happened

    std::uint64_t seed() const noexcept;         // of SimulationOptions
    std::uint64_t events() const noexcept;       // things that happened
    std::uint64_t faults() const noexcept;       // unkind choices among them
    std::uint64_t steps() const noexcept;        // turns of added loops
    std::uint32_t descriptors() const noexcept;  // open now, the peers' too
    // A line of the test's own in the trace.
    void note(std::string_view line);
    // Of all lines so far: equal for equal runs.
    std::uint64_t trace_hash() const noexcept;
    // The last lines, at most 4096.
    std::vector<std::string> trace(std::size_t lines_max = 4096) const;
    // Every further line goes there as well; null ends it.
    void trace_to(std::FILE* stream) noexcept;

    // For whorl's own tests.
    WorldState& state() noexcept { return *state_; }

  private:
    friend struct Explorer;
    World(const SimulationOptions& options, const std::vector<std::uint32_t>* tape);
    bool run(Script<bool()> done, Nanoseconds bound);

    std::unique_ptr<WorldState> state_;
};

// How explore() goes about.
struct Exploration {
    // The environment's WHORL_SEED replaces both by one seed, WHORL_SEEDS replaces the count: decimal
    // numbers (panics).
    std::uint64_t first_seed = 1;
    std::uint64_t count = 1000;  // seeds that are tried: first_seed and those that follow
    // The world of a seed; what it says of the seed itself is of no account.
    SimulationOptions (*options)(std::uint64_t seed) noexcept = &SimulationOptions::harsh;
    // How many runs making a failure short may take; 0 leaves it as it is.
    std::uint32_t shrink_runs = 2000;
    // Prints a failure on stderr.
    bool print = true;
};

// What explore() found.
struct Found {
    bool failed = false;              // a seed has; it was the last that was run
    std::uint64_t seeds = 0;          // run
    std::uint64_t faults = 0;         // in all of them
    std::uint64_t events = 0;         // things that happened, in all of them
    std::uint64_t seed = 0;           // that failed
    Failure failure;                  // of the shortened run
    std::size_t choices = 0;          // that the failing run made
    std::size_t choices_left = 0;     // of these, not the kind one in the shortened run
    std::vector<std::uint32_t> tape;  // the shortened run's; for replay()

    // What explore() prints of it: the failure, and how far it was shortened.
    WHORL_EXPORT std::string text() const;
};

// Runs `scenario(World&)` in a new world for each of many seeds, until one fails. A run fails by
// World::fail(), check() or an invariant. The failing run's choices are recorded, cut at the end and
// put to the kind one wherever it fails all the same, so that a short trace is left. Each hundredth
// seed is run twice, and unequal traces are a failure: something in the test or the program depends on
// more than the seed (an address, a real clock, an uninitialized value).
// To see one seed again: WHORL_SEED=17 and the same command.
WHORL_EXPORT Found explore(const Script<void(World&)>& scenario,
                           const Exploration& exploration = {});
// Runs it once with the choices of a tape.
WHORL_EXPORT Failure replay(const Script<void(World&)>& scenario, const SimulationOptions& options,
                            const std::vector<std::uint32_t>& tape);

}  // namespace whorl::testing
