// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/connector.hpp>

#include <whorl/allocated.hpp>

#include "stream/hub.hpp"

#include <algorithm>
#include <new>

// Racing: one timer, which means whatever comes next: the next address, the next round. The handler is
// called once the race is decided; the machine goes when the last attempt has come back.

namespace whorl {

namespace detail {

struct ConnectorState final : Connector, HubEntry {
    struct Attempt {
        Address address;
        Operation operation;
    };

    ConnectorState(LoopCore& loop_core, const ConnectorOptions& given) noexcept
        : HubEntry(loop_core), options(given) {}
    ~ConnectorState() override;
    void settle() override;
    void drain() override;

    void sort(const Address* addresses) noexcept;
    Error take(const Address* addresses, std::size_t number) noexcept;
    Error begin() noexcept;
    Error ask(const ResolveQuery& query);
    void answered(const ResolveDone& event);
    void go_on();
    void attempt() noexcept;
    void attempted(std::size_t index, Connect::Done event);
    void wait(Nanoseconds time) noexcept;
    Nanoseconds back_off() noexcept;
    void decide(Error error, Socket socket, const Address& address) noexcept;
    std::uint64_t draw() noexcept;

    ConnectorOptions options;
    ConnectorDone done;
    Attempt* attempts = nullptr;
    std::size_t count = 0;
    std::size_t next = 0;       // address to be tried
    std::size_t under_way = 0;  // attempts, and the question for the host
    ResolveTask question;
    std::uint32_t round = 1;
    std::uint64_t random = 0;
    Error last_error;
    Timer timer;  // the next address, or round
    Timer total;
    bool decided = false;
    bool called = false;
    Connected result;
};

ConnectorState::~ConnectorState() {
    drop_array(attempts);
    if (done.object != nullptr) done.destroy(done.object);
}

// Families take turns, beginning with that of the first address.
void ConnectorState::sort(const Address* addresses) noexcept {
    const bool first_is_v6 = addresses[0].is_v6();
    std::size_t same = 0, other = 0;
    for (std::size_t at = 0; at < count; ++at) {
        const bool want_same = at % 2 == 0;
        const auto find = [&](std::size_t& from, bool same_family) {
            while (from < count && (addresses[from].is_v6() == first_is_v6) != same_family) ++from;
            return from < count;
        };
        const bool take_same = want_same ? find(same, true) : !find(other, false);
        if (take_same) static_cast<void>(find(same, true));
        else static_cast<void>(find(other, false));
        attempts[at].address = addresses[take_same ? same++ : other++];
    }
}

Error ConnectorState::take(const Address* addresses, std::size_t number) noexcept {
    attempts = make_array<Attempt>(number);
    if (attempts == nullptr) return Error::from_errno(ENOMEM);
    count = number;
    sort(addresses);
    return {};
}

Error ConnectorState::begin() noexcept {
    random = options.seed ^ static_cast<std::uint64_t>(loop().now().time_since_epoch().count());
    if (options.total > Nanoseconds::zero()) {
        const Result<Timer> made = loop().after(options.total, [this](Loop&, Expired) {
            total = {};
            decide(Error::timed_out, {}, {});
        });
        if (!made) return made.error();
        total = *made;
    }
    mark();
    return {};
}

Error ConnectorState::ask(const ResolveQuery& query) {
    const Result<ResolveTask> made =
        resolve(loop(), query, [this](Loop&, const ResolveDone& event) { answered(event); });
    if (!made) return made.error();
    question = *made;
    ++under_way;
    return {};
}

void ConnectorState::answered(const ResolveDone& event) {
    --under_way;
    question = {};
    Error error = event.error;
    if (!error && !decided) error = take(event.addresses.begin(), event.addresses.size());
    if (error) decide(error, {}, {});
    mark();
}

void ConnectorState::settle() {
    if (!decided) go_on();
    if (!decided) return;
    if (!called) {
        called = true;
        const ConnectorDone call = std::exchange(done, {});
        struct End {
            const ConnectorDone& call;
            ConnectorState* state;
            ~End() {
                call.destroy(call.object);
                if (state->under_way == 0) delete state;
            }
        };
        const End end{call, this};
        call.call(call.object, loop(), result);
        return;
    }
    if (under_way == 0) delete this;
}

void ConnectorState::drain() {
    decide(Error::loop_closed, {}, {});
    settle();
}

// What the race needs now: another attempt, a wait, the next round, or its end.
void ConnectorState::go_on() {
    if (timer) return;
    if (next < count) {
        attempt();
        if (next < count && under_way != 0) wait(options.stagger);
        else if (under_way == 0) mark();
        return;
    }
    if (under_way != 0) return;
    if (round == options.rounds) return decide(last_error, {}, {});
    ++round;
    next = 0;
    wait(back_off());
}

void ConnectorState::attempt() noexcept {
    const std::size_t index = next++;
    ++result.attempts;
    SubmitOptions bound;
    if (options.attempt > Nanoseconds::zero()) bound = within(options.attempt);
    const Result<Operation> made =
        loop().submit(Connect{attempts[index].address, options.connect}, bound,
                      [this, index](Loop&, Connect::Done event) { attempted(index, event); });
    if (!made) {
        last_error = made.error();
        return;
    }
    attempts[index].operation = *made;
    ++under_way;
}

void ConnectorState::attempted(std::size_t index, Connect::Done event) {
    --under_way;
    attempts[index].operation = {};
    if (event.error) {
        last_error = event.error;
        if (timer && !decided && next < count) {  // the next one at once
            static_cast<void>(loop().cancel(timer));
            timer = {};
        }
    } else if (decided) {
        static_cast<void>(loop().close(event.socket));
    } else {
        decide({}, event.socket, attempts[index].address);
    }
    mark();
}

void ConnectorState::wait(Nanoseconds time) noexcept {
    const Result<Timer> made = loop().after(time, [this](Loop&, Expired) {
        timer = {};
        mark();
    });
    if (!made) return decide(made.error(), {}, {});
    timer = *made;
}

std::uint64_t ConnectorState::draw() noexcept {  // splitmix64
    std::uint64_t z = random += 0x9E37'79B9'7F4A'7C15;
    z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9;
    z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EB;
    return z ^ (z >> 31);
}

Nanoseconds ConnectorState::back_off() noexcept {
    Nanoseconds time = std::max(options.backoff, Nanoseconds(1));
    for (std::uint32_t step = 2; step < round && time < options.backoff_max; ++step) time *= 2;
    time = std::min(time, std::max(options.backoff_max, Nanoseconds(1)));
    const auto half = static_cast<std::uint64_t>(time.count()) / 2;
    return time - Nanoseconds(static_cast<std::int64_t>(draw() % (half + 1)));
}

void ConnectorState::decide(Error error, Socket socket, const Address& address) noexcept {
    if (decided) return;
    decided = true;
    result.error = error;
    result.socket = socket;
    result.address = address;
    for (Timer* each : {&timer, &total}) {
        if (*each) static_cast<void>(loop().cancel(*each));
        *each = {};
    }
    static_cast<void>(question.cancel(loop()));
    for (std::size_t index = 0; index < count; ++index) {
        if (attempts[index].operation) {
            static_cast<void>(loop().cancel(attempts[index].operation));
        }
    }
    mark();
}

namespace {

// `prepare(state)` gives it its addresses, or asks for them.
template <class Prepare>
Result<Connector*> start(Loop& loop, const ConnectorOptions& options, const ConnectorDone& done,
                         Prepare prepare) {
    const Result<StreamHub*> hub = StreamHub::of(loop);
    if (!hub) return hub.error();
    auto* state = new (std::nothrow) ConnectorState(loop.core(), options);
    if (state == nullptr) return Error::from_errno(ENOMEM);
    (*hub)->add(*state);
    Error error = state->begin();
    if (!error) error = prepare(*state);
    if (error) {
        if (state->total) static_cast<void>(loop.cancel(state->total));
        delete state;
        return error;
    }
    state->done = done;
    return static_cast<Connector*>(state);
}

}  // namespace

Result<Connector*> connector_start(Loop& loop, const Address* addresses, std::size_t count,
                                   const ConnectorOptions& options,
                                   const ConnectorDone& done) noexcept {
    bool sane = count != 0 && options.rounds != 0;
    for (std::size_t index = 0; sane && index < count; ++index) {
        sane = static_cast<bool>(addresses[index]);
    }
    if (!sane) return Error::invalid_argument;
    return start(loop, options, done,
                 [&](ConnectorState& state) noexcept { return state.take(addresses, count); });
}

Result<Connector*> connector_start(Loop& loop, const ResolveQuery& query,
                                   const ConnectorOptions& options, const ConnectorDone& done) {
    if (options.rounds == 0) return Error::invalid_argument;
    return start(loop, options, done, [&](ConnectorState& state) { return state.ask(query); });
}

}  // namespace detail

void Connector::cancel() noexcept {
    auto& state = static_cast<detail::ConnectorState&>(*this);
    state.core->check_thread();
    state.decide(Error::cancelled, {}, {});
}

}  // namespace whorl
