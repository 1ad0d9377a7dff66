// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <algorithm>
#include <cstring>

// The calls of a program: each is made, noted, and refused only for a reason that the contract names.

namespace world_test {

using whorl::Buffer;
using whorl::Result;

namespace {

constexpr std::uint32_t pattern_size = 16384;
constexpr std::uint32_t text_max = 8192;

const unsigned char* pattern() {
    static const auto made = [] {
        std::vector<unsigned char> bytes(pattern_size);
        std::uint32_t state = 1;
        for (unsigned char& byte : bytes) {
            state = state * 1664525u + 1013904223u;
            byte = static_cast<unsigned char>(state >> 24);
        }
        return bytes;
    }();
    return made.data();
}

}  // namespace

const char* name_of(Kind kind) {
    static const char* const names[] = {
#define WORLD_TEST_KIND(name) #name,
        WORLD_TEST_KINDS(WORLD_TEST_KIND)
#undef WORLD_TEST_KIND
    };
    return names[static_cast<int>(kind)];
}
const char* name_of(End end) {
    static const char* const names[] = {
#define WORLD_TEST_END(name) #name,
        WORLD_TEST_ENDS(WORLD_TEST_END)
#undef WORLD_TEST_END
    };
    return names[static_cast<int>(end)];
}

std::uint32_t Program::add_loop(const whorl::LoopOptions& options) {
    // A loop that is refused is no program.
    const double chance = std::exchange(world.options().call_error, 0);
    loops.push_back(&world.add_loop(options));
    world.options().call_error = chance;
    loop_options.push_back(options);
    return static_cast<std::uint32_t>(loops.size() - 1);
}

std::uint32_t Program::begin(Kind kind, std::uint32_t loop, std::uint32_t holder,
                             Nanoseconds within) {
    Op op{};
    op.kind = kind;
    op.loop = static_cast<std::uint8_t>(loop);
    op.holder = holder;
    op.stream = op.send = none;
    op.deadline = within != never;
    op.turn = loops[loop]->statistics().turns;
    op.due = world.now();
    ops.push_back(op);
    return static_cast<std::uint32_t>(ops.size() - 1);
}

// Whether it was taken; if so, the operation has its handle.
template <class Handle>
bool Program::taken(std::uint32_t index, const Result<Handle>& made) {
    if (!made) {
        refused(index, made.error());
        return false;
    }
    ops[index].handle = made->value();
    ops[index].live = true;
    return true;
}

template <class Operation>
bool Program::submit(std::uint32_t index, Operation&& operation, Nanoseconds within) {
    whorl::SubmitOptions options;
    options.within = within;
    ++calling;
    Loop& target = *loops[ops[index].loop];
    Result<whorl::Operation> made =
        target.submit(std::forward<Operation>(operation), options, Handler{this, index});
    --calling;
    return taken(index, made);
}

// A refusal has a reason.
void Program::refused(std::uint32_t index, Error error) {
    const Op& op = ops[index];
    const bool stale = op.holder != none && holders[op.holder].closed;
    const bool world_error = world.options().call_error > 0;
    const bool good = (error == Error::stale_handle && stale) || error == Error::slots_exhausted ||
                      (error == Error::loop_closed && draining) ||
                      (error == Error::queue_full && op.kind == Kind::post) ||
                      (error.is_errno() && (world_error || error == Error::from_errno(EMFILE)));
    check(good, "a submission was refused without a reason");
    table.count(op.kind, End::not_taken);
}

std::uint32_t Program::listen(std::uint32_t index, int backlog) {
    whorl::ListenOptions options;
    options.backlog = backlog;
    if (!alive(index)) return none;
    Loop& target = *loops[index];
    Result<whorl::Listener> made = whorl::listen(target, whorl::Address::loopback_v4(0), options);
    if (!made) return none;
    Holder holder;
    holder.loop = static_cast<std::uint8_t>(index);
    holder.listens = true;
    holder.listener = *made;
    holders.push_back(holder);
    listener_holder = static_cast<std::uint32_t>(holders.size() - 1);
    const Result<whorl::Address> address = whorl::local_address(target, *made);
    listener_port = address ? address.value().port() : 0;
    return listener_holder;
}

std::uint32_t Program::connect(std::uint32_t loop, std::uint16_t port, Nanoseconds within) {
    if (!alive(loop)) return none;
    const std::uint32_t op = begin(Kind::connect, loop, none, within);
    return submit(op, whorl::Connect{whorl::Address::loopback_v4(port)}, within) ? op : none;
}
std::uint32_t Program::accept(std::uint32_t holder, Nanoseconds within) {
    if (!alive(holders[holder].loop)) return none;
    const std::uint32_t op = begin(Kind::accept, holders[holder].loop, holder, within);
    return submit(op, whorl::Accept{holders[holder].listener}, within) ? op : none;
}
std::uint32_t Program::accept_stream(std::uint32_t holder, Nanoseconds within) {
    if (!alive(holders[holder].loop)) return none;
    const std::uint32_t op = begin(Kind::accept_stream, holders[holder].loop, holder, within);
    return submit(op, whorl::AcceptStream{holders[holder].listener}, within) ? op : none;
}

std::uint32_t Program::recv(std::uint32_t holder, std::size_t size, int flags, Nanoseconds within) {
    const Holder& from = holders[holder];
    if (!alive(from.loop)) return none;
    const std::uint32_t index = begin(Kind::recv, from.loop, holder, within);
    Op& op = ops[index];
    op.stream = stream_of(from.port, !from.client);
    op.size = static_cast<std::uint32_t>(flags);
    whorl::Recv operation{from.socket, loops[from.loop]->buffer(size), flags};
    if (!operation.buffer) operation.buffer = Buffer::allocate(size);  // the pool is empty
    op.data = operation.buffer.data();
    op.capacity = operation.buffer.capacity();
    if (submit(index, std::move(operation), within)) return index;
    check(operation.buffer.data() == ops[index].data, "a refused receive has moved its buffer");
    return none;
}

std::uint32_t Program::recv_stream(std::uint32_t holder, Nanoseconds within) {
    const Holder& from = holders[holder];
    if (!alive(from.loop)) return none;
    const std::uint32_t index = begin(Kind::recv_stream, from.loop, holder, within);
    ops[index].stream = stream_of(from.port, !from.client);
    return submit(index, whorl::RecvStream{from.socket}, within) ? index : none;
}

std::uint32_t Program::send(Kind kind, std::uint32_t holder, std::uint32_t size,
                            Nanoseconds within) {
    const Holder& to = holders[holder];
    if (!alive(to.loop)) return none;
    const std::uint32_t index = begin(kind, to.loop, holder, within);
    const std::uint32_t text = text_next = (text_next * 5 + 257) % (pattern_size - text_max);
    const auto* bytes = reinterpret_cast<const std::byte*>(pattern() + text);
    Buffer buffer = Buffer::of_static({bytes, size});
    Op& op = ops[index];
    op.size = size;
    op.data = buffer.data();
    op.capacity = buffer.capacity();
    op.stream = stream_of(to.port, to.client);
    Stream& stream = streams[op.stream];
    op.send = static_cast<std::uint32_t>(stream.sends.size());
    stream.sends.push_back({text, size, 0});
    bool taken = false;
    if (kind == Kind::send) {
        taken = submit(index, whorl::Send{to.socket, std::move(buffer)}, within);
    } else if (kind == Kind::send_all) {
        taken = submit(index, whorl::SendAll{to.socket, std::move(buffer)}, within);
    } else {
        whorl::BufferChain chain;
        const std::uint32_t cut = size / 3;
        check(chain.push_back(Buffer::of_static({bytes, cut})) &&
                  chain.push_back(Buffer::of_static({bytes + cut, size - cut})),
              "no memory for a chain");
        taken = submit(index, whorl::SendChain{to.socket, std::move(chain)}, within);
    }
    return taken ? index : none;
}

std::uint32_t Program::shutdown(std::uint32_t holder, Nanoseconds within) {
    if (!alive(holders[holder].loop)) return none;
    const std::uint32_t op = begin(Kind::shutdown, holders[holder].loop, holder, within);
    return submit(op, whorl::Shutdown{holders[holder].socket}, within) ? op : none;
}
std::uint32_t Program::nop(std::uint32_t loop, Nanoseconds within) {
    if (!alive(loop)) return none;
    const std::uint32_t op = begin(Kind::nop, loop, none, within);
    return submit(op, whorl::Nop{}, within) ? op : none;
}

std::uint32_t Program::watch(std::uint32_t loop) {
    if (watched_fd < 0) {
        whorl::testing::SimulationOptions& options = world.options();
        const double chance = std::exchange(options.call_error, 0);
        watched_fd = world.state().kernel.eventfd(0, 0);
        options.call_error = chance;
        if (watched_fd < 0) return none;
    }
    if (!alive(loop)) return none;
    const std::uint32_t index = begin(Kind::watch, loop, none, never);
    ++calling;
    Result<whorl::Watch> made =
        loops[loop]->watch(watched_fd, whorl::Interest::readable, Handler{this, index});
    --calling;
    return taken(index, made) ? index : none;
}

void Program::wake_watches() {
    const std::uint64_t one = 1;
    if (watched_fd >= 0) world.state().kernel.write(watched_fd, &one, sizeof one);
}

std::uint32_t Program::timer(std::uint32_t loop, Nanoseconds delay) {
    if (!alive(loop)) return none;
    const std::uint32_t index = begin(Kind::timer, loop, none, never);
    Result<whorl::Timer> made = loops[loop]->after(delay, Handler{this, index});
    ops[index].due = world.now() + delay;
    return taken(index, made) ? index : none;
}

std::uint32_t Program::every(std::uint32_t loop, Nanoseconds interval) {
    if (!alive(loop)) return none;
    const std::uint32_t index = begin(Kind::every, loop, none, never);
    Result<whorl::Timer> made = loops[loop]->every(interval, Handler{this, index});
    ops[index].due = world.now() + interval;
    ops[index].capacity = static_cast<std::size_t>(interval.count());
    return taken(index, made) ? index : none;
}

std::uint32_t Program::post(std::uint32_t loop) {
    if (!alive(loop)) return none;
    const std::uint32_t index = begin(Kind::post, loop, none, never);
    ++calling;
    const Error error = loops[loop]->post(Handler{this, index});
    --calling;
    if (error) {
        refused(index, error);
        return none;
    }
    ops[index].live = true;
    return index;
}

// As from another thread: the world has only this one, and chooses when the loop hears of it.
std::uint32_t Program::remote_post(std::uint32_t loop) {
    if (!alive(loop)) return none;
    const std::uint32_t index = begin(Kind::remote, loop, none, never);
    remotes.resize(std::max<std::size_t>(remotes.size(), loop + 1));
    if (!remotes[loop].alive()) {
        Result<whorl::Remote> made = loops[loop]->remote();
        if (!made) {
            refused(index, made.error());
            return none;
        }
        remotes[loop] = std::move(made).value();
    }
    ++calling;
    ops[index].live = remotes[loop].post(Handler{this, index});
    --calling;
    check(ops[index].live, "a live loop refused a post");
    return index;
}

std::uint32_t Program::hook(std::uint32_t loop) {
    if (!alive(loop)) return none;
    const std::uint32_t index = begin(Kind::hook, loop, none, never);
    Result<whorl::Operation> made =
        loops[loop]->hook(whorl::HookPoint::after_wait, Handler{this, index});
    return taken(index, made) ? index : none;
}

std::uint32_t Program::close(std::uint32_t holder, bool with_handler) {
    Holder& closing = holders[holder];
    if (!alive(closing.loop)) return none;
    const std::uint32_t index = begin(Kind::close, closing.loop, holder, never);
    Loop& target = *loops[closing.loop];
    ++calling;
    Error error;
    if (closing.listens) {
        error = with_handler ? target.close(closing.listener, Handler{this, index})
                             : target.close(closing.listener);
    } else {
        error = with_handler ? target.close(closing.socket, Handler{this, index})
                             : target.close(closing.socket);
    }
    --calling;
    if (error) {
        refused(index, error);
        return none;
    }
    check(!closing.closed, "a descriptor was closed twice");
    closing.closed = true;
    for (Op& op : ops) {
        if (op.live && op.holder == holder) op.closed = true;
    }
    if (!with_handler) return none;
    ops[index].live = true;
    return index;
}

void Program::cancel(std::uint32_t index) {
    Op& op = ops[index];
    const bool silent = op.kind == Kind::post || op.kind == Kind::remote || op.kind == Kind::close;
    if (!op.live || silent) return;
    Loop& target = *loops[op.loop];
    ++calling;
    if (op.kind == Kind::timer || op.kind == Kind::every || op.kind == Kind::watch) {
        const bool gone = op.kind == Kind::watch
                              ? target.cancel(whorl::Watch::from_value(op.handle))
                              : target.cancel(whorl::Timer::from_value(op.handle));
        check(gone, "a live timer or watch was not found by cancel");
        op.live = false;
        table.count(op.kind, End::cancelled);
    } else {
        const whorl::Cancelled answer = target.cancel(whorl::Operation::from_value(op.handle));
        check(answer != whorl::Cancelled::not_found, "a live operation was not found by cancel");
        if (op.kind == Kind::hook) {
            op.live = false;
            table.count(op.kind, End::cancelled);
        } else if (answer == whorl::Cancelled::already_completing) {
            op.cancel_late = !op.cancel_asked && !op.closed;
        } else if (!op.cancel_asked) {
            op.cancel_asked = true;
            op.cancel_early = op.turn == target.statistics().turns;
        }
    }
    --calling;
}

void Program::move(std::uint32_t index, Nanoseconds delay) {
    Op& op = ops[index];
    if (!op.live || (op.kind != Kind::timer && op.kind != Kind::every)) return;
    const Error error = loops[op.loop]->move(whorl::Timer::from_value(op.handle), delay);
    check(!error, "a live timer could not be moved");
    op.due = world.now() + delay;
}

// Handles that are gone, or of something else, are answered and reach nothing.
void Program::misuse(std::uint32_t holder) {
    if (!alive(holders[holder].loop)) return;
    Loop& target = *loops[holders[holder].loop];
    check(target.cancel(whorl::Operation()) == whorl::Cancelled::not_found, "null was found");
    check(!target.cancel(whorl::Timer()), "a null timer was found");
    whorl::Recv nothing{holders[holder].socket, Buffer(), 0};
    const auto refused = target.submit(std::move(nothing), [](Loop&, whorl::Recv::Done) {});
    check(!refused, "a receive without a buffer was taken");
    for (const Op& op : ops) {
        if (op.live || op.handle == 0 || op.loop != holders[holder].loop) continue;
        // Cancelled in its own handler, it goes when that returns.
        if (op.kind == Kind::watch || op.kind == Kind::every || op.kind == Kind::hook) continue;
        const auto handle = whorl::Operation::from_value(op.handle);
        check(!target.alive(handle), "an ended operation is alive");
        check(target.cancel(handle) == whorl::Cancelled::not_found, "a stale handle was found");
    }
}

void Program::peer(std::uint16_t port, std::uint32_t size, int ends) {
    whorl::testing::Peer made = world.connect(port);
    const std::uint16_t own = made.address().port();
    const std::uint32_t text = text_next = (text_next * 5 + 257) % (pattern_size - text_max);
    Stream& stream = streams[stream_of(own, true)];
    stream.sends.push_back({text, size, size});
    made.send({reinterpret_cast<const char*>(pattern() + text), size});
    if (ends == 1) made.finish_sending();
    if (ends == 2) made.reset_after(size / 2 + 1);
    if (ends == 3) made.stop_reading();
    peers.emplace_back(std::move(made), stream_of(own, false));
}

std::uint32_t Program::stream_of(std::uint16_t port, bool from_client) {
    for (std::size_t index = 0; index < streams.size(); ++index) {
        const Stream& stream = streams[index];
        if (stream.port == port && stream.from_client == from_client) {
            return static_cast<std::uint32_t>(index);
        }
    }
    streams.emplace_back();
    streams.back().port = port;
    streams.back().from_client = from_client;
    return static_cast<std::uint32_t>(streams.size() - 1);
}

// What was received is the beginning of what the sends, one after the other, say has gone out.
void Program::verify_streams() {
    for (auto& [peer, stream] : peers) streams[stream].received = peer.received();
    for (const Stream& stream : streams) {
        if (stream.port == 0) continue;  // broken before it was accepted: nobody knows whose it was
        std::size_t at = 0;
        for (const Stream::Send& send : stream.sends) {
            const std::size_t size = std::min<std::size_t>(send.bytes, stream.received.size() - at);
            const bool same =
                std::memcmp(stream.received.data() + at, pattern() + send.text, size) == 0;
            check(same, "other bytes were received than were sent");
            at += size;
        }
        check(at == stream.received.size(), "more was received than was sent");
        std::uint64_t sent = 0;
        for (const Stream::Send& send : stream.sends) sent += send.bytes;
        const bool whole = stream.ended && !stream.broken && !scripted_breaks;
        if (!whole || at == sent) continue;
        world.note((stream.from_client ? "from port " : "to port ") + std::to_string(stream.port) +
                   ": " + std::to_string(at) + " of " + std::to_string(sent));
        check(false, "the end came before the last byte");
    }
}

}  // namespace world_test
