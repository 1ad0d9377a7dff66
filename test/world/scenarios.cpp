// SPDX-License-Identifier: MIT
#include "scenarios.hpp"

// The scenarios of single faults: one for each thing that a program does with connections, buffers, time
// and the loop. A fault may end a scenario anywhere, so each goes only as far as it can.

namespace world_test {

namespace {

using namespace std::chrono_literals;

whorl::LoopOptions small() {
    whorl::LoopOptions options;
    options.ops_max = 64;
    options.handles_max = 16;
    options.posts_max = 8;
    options.buffer_bytes_max = 128 << 10;
    options.recv_buffer_size = 256;
    options.recv_ring_depth = 2;
    options.recv_ring_depth_max = 4;
    options.recv_buffers_per_stream = 4;
    return options;
}

// A connection between two loops: holders of its two ends, or none.
struct Pair {
    std::uint32_t listener = none;
    std::uint32_t client = none;
    std::uint32_t server = none;
    bool made() const { return client != none && server != none; }
};

void wait(Program& program, Nanoseconds bound = 100ms) {
    (void)program.world.run_until([] { return false; }, bound);
}

Pair find(Program& program, std::uint32_t listener) {
    Pair pair;
    pair.listener = listener;
    for (std::uint32_t index = 0; index < program.holders.size(); ++index) {
        const Holder& holder = program.holders[index];
        if (holder.listens || holder.closed) continue;
        (holder.client ? pair.client : pair.server) = index;
    }
    return pair;
}

Pair connect(Program& program, const whorl::LoopOptions& options = small()) {
    program.add_loop(options);
    program.add_loop(options);
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return {};
    program.accept(listener);
    program.connect(1, program.listener_port);
    wait(program);
    return find(program, listener);
}

// Everything that can wait at once on a connection does.
void fill(Program& program, const Pair& pair) {
    for (const std::uint32_t end : {pair.client, pair.server}) {
        program.recv_stream(end);
        program.recv(end, 100);
        program.send(Kind::send_all, end, 5000);
        program.send(Kind::send_chain, end, 3000);
        program.send(Kind::send, end, 1000);
        program.shutdown(end);
    }
}

// --- connecting and accepting

void connect_and_close(Program& program) {
    const Pair pair = connect(program);
    if (pair.made()) program.close(pair.client, true);
    wait(program);
}
void connect_refused(Program& program) {
    program.add_loop(small());
    program.connect(0, 9);
    wait(program);
}
void connect_deadline(Program& program) {
    program.add_loop(small());
    program.listen(0);
    program.world.partition();
    program.connect(0, program.listener_port, 5ms);
    program.connect(0, program.listener_port, 0ms);
    wait(program);
}
void connect_cancelled(Program& program) {
    program.add_loop(small());
    program.listen(0);
    const std::uint32_t early = program.connect(0, program.listener_port);
    if (early != none) program.cancel(early);
    const std::uint32_t late = program.connect(0, program.listener_port);
    (void)program.world.run_until([] { return false; }, 0ms);
    if (late != none) program.cancel(late);
    wait(program);
}
void connect_unanswered(Program& program) {
    program.add_loop(small());
    program.listen(0);
    program.world.partition();
    program.connect(0, program.listener_port);
    wait(program, 300s);
}
void accept_many(Program& program) {
    program.add_loop(small());
    program.add_loop(small());
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    program.accept_stream(listener);
    for (int count = 0; count < 4; ++count) program.connect(1, program.listener_port);
    wait(program);
}
void accept_queue(Program& program) {
    program.add_loop(small());
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    for (int count = 0; count < 3; ++count) program.accept(listener);
    for (int count = 0; count < 3; ++count) program.peer(program.listener_port, 10, 1);
    wait(program);
}
void accept_deadline(Program& program) {
    program.add_loop(small());
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    program.accept(listener, 1ms);
    program.accept_stream(listener, 2ms);
    wait(program);
}
void accept_cancelled(Program& program) {
    program.add_loop(small());
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    const std::uint32_t one = program.accept(listener);
    const std::uint32_t stream = program.accept_stream(listener);
    program.peer(program.listener_port, 10, 0);
    (void)program.world.run_until([] { return false; }, 0ms);
    if (one != none) program.cancel(one);
    if (stream != none) program.cancel(stream);
    wait(program);
}
void accept_closed(Program& program) {
    program.add_loop(small());
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    program.accept_stream(listener);
    program.peer(program.listener_port, 10, 0);
    (void)program.world.run_until([] { return false; }, 0ms);
    program.close(listener, true);
    wait(program);
}
void accept_full_backlog(Program& program) {
    program.add_loop(small());
    const std::uint32_t listener = program.listen(0, 1);
    if (listener == none) return;
    for (int count = 0; count < 5; ++count) program.peer(program.listener_port, 10, 1);
    wait(program);
    program.accept_stream(listener);
    wait(program, 10s);
}
void accept_without_descriptors(Program& program) {
    program.add_loop(small());
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    program.accept_stream(listener);
    program.world.descriptors_spare(1);
    for (int count = 0; count < 3; ++count) program.peer(program.listener_port, 10, 1);
    wait(program, 2s);
    program.world.descriptors_unlimited();
    wait(program, 2s);
}
void accept_without_slots(Program& program) {
    whorl::LoopOptions options = small();
    options.handles_max = 2;
    program.add_loop(options);
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    program.accept_stream(listener);
    for (int count = 0; count < 3; ++count) program.peer(program.listener_port, 10, 1);
    wait(program, 2s);
}

// --- bytes

void send_and_recv(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.recv(pair.server, 64);
    program.send(Kind::send, pair.client, 64);
    wait(program);
}
template <Kind kind>
void send_large(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.recv_stream(pair.server);
    program.send(kind, pair.client, 6000);
    wait(program);
}
void recv_whole(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.recv(pair.server, 1000, MSG_WAITALL);
    program.send(Kind::send_all, pair.client, 700);
    wait(program);
    program.send(Kind::send_all, pair.client, 400);
    wait(program);
}
void recv_peeks(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.recv(pair.server, 20, MSG_PEEK);
    program.recv(pair.server, 100);
    program.send(Kind::send_all, pair.client, 50);
    wait(program);
}
void stream_with_held_buffers(Program& program) {
    program.hold_max = 6;
    send_large<Kind::send_all>(program);
    program.held.clear();
    wait(program);
}
void streams_with_few_buffers(Program& program) {
    whorl::LoopOptions options = small();
    options.recv_buffer_size = 16384;
    options.buffer_bytes_max = 256 << 10;
    options.recv_buffers_per_stream = 2;
    program.add_loop(options);
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    program.hold_max = 20;
    program.accept_stream(listener);
    for (int count = 0; count < 6; ++count) program.peer(program.listener_port, 4000, 1);
    wait(program);
    for (std::uint32_t index = 0; index < program.holders.size(); ++index) {
        if (!program.holders[index].listens) program.recv_stream(index);
    }
    wait(program);
    program.held.clear();
    wait(program);
}
void queues_of_recvs_and_sends(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    for (int count = 0; count < 4; ++count) program.recv(pair.server, 100);
    for (int count = 0; count < 3; ++count) program.send(Kind::send_all, pair.client, 90);
    program.send(Kind::send_chain, pair.client, 90);
    wait(program);
}
void echo_both_ways(Program& program) {
    const Pair pair = connect(program);
    if (pair.made()) fill(program, pair);
    wait(program);
}
void blocked_sends(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    for (int count = 0; count < 4; ++count) program.send(Kind::send_all, pair.client, 5000);
    wait(program);
    program.recv_stream(pair.server);
    wait(program);
}

// --- the end of a connection

void half_close(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.recv_stream(pair.server);
    program.recv_stream(pair.client);
    program.shutdown(pair.client);
    wait(program);
    program.send(Kind::send_all, pair.server, 100);
    program.shutdown(pair.server);
    program.send(Kind::send_all, pair.server, 100);
    wait(program);
}
void shutdown_after_sends(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.send(Kind::send_all, pair.client, 3000);
    program.shutdown(pair.client);
    program.recv_stream(pair.server);
    wait(program);
}
template <std::uint64_t bytes>
void reset_after(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    const Holder& client = program.holders[pair.client];
    if (!client.closed) {
        program.world.reset_after(program.loop(client.loop), client.socket, bytes);
    }
    fill(program, pair);
    wait(program);
}
void peers_of_every_kind(Program& program) {
    program.add_loop(small());
    const std::uint32_t listener = program.listen(0);
    if (listener == none) return;
    program.accept_stream(listener);
    for (int ends = 0; ends < 4; ++ends) program.peer(program.listener_port, 300, ends);
    wait(program);
    for (std::uint32_t index = 0; index < program.holders.size(); ++index) {
        if (program.holders[index].listens) continue;
        program.recv_stream(index);
        program.send(Kind::send_all, index, 2000);
    }
    wait(program);
}
void close_under_everything(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    fill(program, pair);
    (void)program.world.run_until([] { return false; }, 0ms);
    program.close(pair.client, true);
    program.close(pair.server, false);
    wait(program);
}
void close_before_the_turn(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    fill(program, pair);
    program.close(pair.client, true);
    program.close(pair.client, true);  // refused
    program.recv(pair.client, 10);     // refused
    wait(program);
}
void close_in_every_handler(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.inside = [](Program& inside, void*) {
        for (std::uint32_t index = 0; index < inside.holders.size(); ++index) {
            const Holder& holder = inside.holders[index];
            if (!holder.closed && !holder.listens) inside.close(index, true);
        }
    };
    fill(program, pair);
    wait(program);
}
void cancel_everything(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    fill(program, pair);
    const auto count = static_cast<std::uint32_t>(program.ops.size());
    for (std::uint32_t index = 0; index < count; index += 2) program.cancel(index);
    (void)program.world.run_until([] { return false; }, 0ms);
    for (std::uint32_t index = 0; index < count; ++index) program.cancel(index);
    wait(program);
}
void cancel_in_every_handler(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.inside = [](Program& inside, void*) {
        const auto count = static_cast<std::uint32_t>(inside.ops.size());
        for (std::uint32_t index = 0; index < count; ++index) inside.cancel(index);
    };
    fill(program, pair);
    wait(program);
}
void deadlines_of_transfers(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.recv(pair.client, 100, 0, 1ms);
    program.recv_stream(pair.client, 2ms);
    program.recv(pair.client, 100, 0, 0ms);
    for (int count = 0; count < 3; ++count) {
        program.send(Kind::send_all, pair.client, 8000, 3ms);
        program.send(Kind::send_chain, pair.client, 8000, 3ms);
        program.send(Kind::send, pair.client, 8000, 3ms);
    }
    program.shutdown(pair.client, 1ms);
    wait(program);
}

// --- the rest

void drained(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    fill(program, pair);
    (void)program.world.run_until([] { return false; }, 0ms);
    program.drain(0);
    wait(program);
}
void destroyed(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    fill(program, pair);
    (void)program.world.run_until([] { return false; }, 0ms);
    program.destroy(0);
    wait(program);
}
void partition_and_heal(Program& program) {
    const Pair pair = connect(program);
    if (!pair.made()) return;
    program.world.partition();
    fill(program, pair);
    wait(program);
    program.world.heal();
    wait(program);
}
void timers(Program& program) {
    program.add_loop(small());
    for (int count = 0; count < 5; ++count) program.timer(0, count * 10us);
    const std::uint32_t moved = program.timer(0, 1s);
    const std::uint32_t gone = program.timer(0, 30us);
    if (gone != none) program.cancel(gone);
    (void)program.world.run_until([] { return false; }, 20us);
    if (moved != none) program.move(moved, 5us);
    wait(program);
}
void periodic_timers(Program& program) {
    program.add_loop(small());
    program.every(0, 100us);
    const std::uint32_t moved = program.every(0, 300us);
    wait(program, 1ms);
    if (moved != none) program.move(moved, 1ms);
    wait(program, 3ms);
    if (moved != none) program.cancel(moved);
    wait(program, 1ms);
}
void posts(Program& program) {
    program.add_loop(small());
    for (int count = 0; count < 10; ++count) program.post(0);
    wait(program);
}
void remote_posts(Program& program) {
    program.add_loop(small());
    program.add_loop(small());
    for (std::uint32_t count = 0; count < 6; ++count) program.remote_post(count % 2);
    wait(program);
    program.destroy(1);
    program.remote_post(0);
    wait(program);
}
void watches(Program& program) {
    program.add_loop(small());
    const std::uint32_t first = program.watch(0);
    program.watch(0);
    wait(program, 1ms);
    program.wake_watches();
    wait(program, 1ms);
    if (first != none) program.cancel(first);
    program.wake_watches();
    wait(program, 1ms);
}
void hooks(Program& program) {
    program.add_loop(small());
    const std::uint32_t hook = program.hook(0);
    program.timer(0, 1ms);
    wait(program);
    if (hook != none) program.cancel(hook);
    program.nop(0);
    wait(program);
}
void nops(Program& program) {
    program.add_loop(small());
    program.nop(0);
    program.nop(0, 0ms);
    const std::uint32_t gone = program.nop(0);
    if (gone != none) program.cancel(gone);
    const std::uint32_t late = program.nop(0, 1ms);
    program.post(0);
    (void)program.world.run_until([] { return false; }, 0ms);
    if (late != none) program.cancel(late);
    wait(program);
}
void slots_exhausted(Program& program) {
    whorl::LoopOptions options = small();
    options.ops_max = 6;
    const Pair pair = connect(program, options);
    if (pair.made()) fill(program, pair);
    wait(program);
}

}  // namespace

#define WORLD_TEST_SCENARIO(function) \
    { #function, function }
const Scenario scenarios[] = {
    WORLD_TEST_SCENARIO(connect_and_close),
    WORLD_TEST_SCENARIO(connect_refused),
    WORLD_TEST_SCENARIO(connect_deadline),
    WORLD_TEST_SCENARIO(connect_cancelled),
    WORLD_TEST_SCENARIO(connect_unanswered),
    WORLD_TEST_SCENARIO(accept_many),
    WORLD_TEST_SCENARIO(accept_queue),
    WORLD_TEST_SCENARIO(accept_deadline),
    WORLD_TEST_SCENARIO(accept_cancelled),
    WORLD_TEST_SCENARIO(accept_closed),
    WORLD_TEST_SCENARIO(accept_full_backlog),
    WORLD_TEST_SCENARIO(accept_without_descriptors),
    WORLD_TEST_SCENARIO(accept_without_slots),
    WORLD_TEST_SCENARIO(send_and_recv),
    WORLD_TEST_SCENARIO(send_large<Kind::send>),
    WORLD_TEST_SCENARIO(send_large<Kind::send_all>),
    WORLD_TEST_SCENARIO(send_large<Kind::send_chain>),
    WORLD_TEST_SCENARIO(recv_whole),
    WORLD_TEST_SCENARIO(recv_peeks),
    WORLD_TEST_SCENARIO(stream_with_held_buffers),
    WORLD_TEST_SCENARIO(streams_with_few_buffers),
    WORLD_TEST_SCENARIO(queues_of_recvs_and_sends),
    WORLD_TEST_SCENARIO(echo_both_ways),
    WORLD_TEST_SCENARIO(blocked_sends),
    WORLD_TEST_SCENARIO(half_close),
    WORLD_TEST_SCENARIO(shutdown_after_sends),
    WORLD_TEST_SCENARIO(reset_after<17>),
    WORLD_TEST_SCENARIO(reset_after<5000>),
    WORLD_TEST_SCENARIO(peers_of_every_kind),
    WORLD_TEST_SCENARIO(close_under_everything),
    WORLD_TEST_SCENARIO(close_before_the_turn),
    WORLD_TEST_SCENARIO(close_in_every_handler),
    WORLD_TEST_SCENARIO(cancel_everything),
    WORLD_TEST_SCENARIO(cancel_in_every_handler),
    WORLD_TEST_SCENARIO(deadlines_of_transfers),
    WORLD_TEST_SCENARIO(drained),
    WORLD_TEST_SCENARIO(destroyed),
    WORLD_TEST_SCENARIO(partition_and_heal),
    WORLD_TEST_SCENARIO(timers),
    WORLD_TEST_SCENARIO(periodic_timers),
    WORLD_TEST_SCENARIO(posts),
    WORLD_TEST_SCENARIO(remote_posts),
    WORLD_TEST_SCENARIO(watches),
    WORLD_TEST_SCENARIO(hooks),
    WORLD_TEST_SCENARIO(nops),
    WORLD_TEST_SCENARIO(slots_exhausted),
};
#undef WORLD_TEST_SCENARIO
const std::size_t scenario_count = sizeof scenarios / sizeof *scenarios;

}  // namespace world_test
