// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <algorithm>

// What completes, and the end of a program: each completion is one that the contract allows.

namespace world_test {

using whorl::Buffer;
using whorl::Result;

// --- every handler

void Program::enter(std::uint32_t index) {
    check(calling == 0, "a handler ran inside a call");
    check(depth == 0, "a handler ran inside a handler");
    ++depth;
    const Op& op = ops[index];
    check(op.live, "a handler ran after the end of its operation");
    check(loops[op.loop] != nullptr, "a handler ran after its loop was gone");
}

void Program::leave() {
    if (inside != nullptr && !ending_) inside(*this, inside_context);
    --depth;
}

void Handler::operator()(Loop&) const {
    program->enter(op);
    program->done_plain(op);
    program->leave();
}

namespace {

bool one_of(Error error, std::initializer_list<int> numbers) {
    return std::any_of(numbers.begin(), numbers.end(),
                       [error](int number) { return error == Error::from_errno(number); });
}

}  // namespace

// What an error says about the operation; an error that nothing has asked for fails the world.
End Program::end_of(const Op& op, Error error) const {
    if (error == Error::cancelled) {
        if (op.closed) return End::closed;
        if (op.cancel_asked) return op.cancel_early ? End::cancelled_early : End::cancelled;
        if (op.drained) return End::drained;
        world.fail("an operation was cancelled that nobody cancelled");
        return End::count;
    }
    if (error == Error::timed_out) {
        if (!op.deadline) world.fail("an operation without a deadline timed out");
        if (world.now() < op.due) world.fail("an operation timed out early");
        return End::timed_out;
    }
    if (one_of(error, {ECONNRESET, EPIPE, ENOTCONN})) return End::reset;
    if (one_of(error, {ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL, EADDRINUSE})) {
        return End::refused;
    }
    if (one_of(error, {EMFILE, ENFILE, ENOBUFS, ENOMEM}) || error == Error::slots_exhausted) {
        return End::resource;
    }
    // A listener that is no more, or a connection that is half one.
    if (!one_of(error, {EXDEV, EPERM, EPROTO, ECONNABORTED, EINVAL})) {
        world.fail("an error that no manual page and no fault names");
    }
    return End::unknown;
}

// The final completion of an operation; `good` is what it is without an error.
void Program::ended(std::uint32_t index, Error error, End good) {
    Op& op = ops[index];
    op.live = false;
    if (error) {
        const End end = end_of(op, error);
        const bool asked = error == Error::cancelled || error == Error::timed_out;
        if (!asked) broken(op);
        return table.count(op.kind, end);
    }
    if (op.stream != none && good == End::end) streams[op.stream].ended = true;
    if (op.cancel_asked) table.count(op.kind, End::cancel_lost);
    else if (op.cancel_late) table.count(op.kind, End::cancel_late);
    table.count(op.kind, good);
}

// What was on its way on this connection may be lost, in both directions.
void Program::broken(const Op& op) {
    if (op.stream == none) return;
    for (Stream& stream : streams) {
        if (stream.port == streams[op.stream].port) stream.broken = true;
    }
}

// A ring that sent a part tells its size and not the error that ended it, which the socket then has not
// got any more either: who goes on hears EPIPE, who cancels what is left hears nothing.
void Program::hidden(const Op& op, Error error, std::uint64_t bytes) {
    if (!error || bytes == 0) return;
    if (loop_options[op.loop].backend == whorl::Backend::io_uring) broken(op);
}

// --- each operation's

void Program::adopt(Loop& loop, std::uint8_t index, whorl::Socket socket) {
    Holder holder;
    holder.loop = index;
    holder.socket = socket;
    const Result<whorl::Address> peer = whorl::peer_address(loop, socket);
    holder.port = peer ? peer.value().port() : 0;
    holders.push_back(holder);
}

void Program::done(Loop& loop, std::uint32_t index, whorl::Connect::Done& done) {
    check(static_cast<bool>(done.error) != static_cast<bool>(done.socket),
          "a connect gave both or neither of a socket and an error");
    ended(index, done.error, End::ok);
    if (!done.socket) return;
    adopt(loop, ops[index].loop, done.socket);
    const Result<whorl::Address> local = whorl::local_address(loop, done.socket);
    holders.back().port = local ? local.value().port() : 0;
    holders.back().client = true;
}

void Program::done(Loop& loop, std::uint32_t index, whorl::Accept::Done& done) {
    check(static_cast<bool>(done.error) != static_cast<bool>(done.socket),
          "an accept gave both or neither of a socket and an error");
    ended(index, done.error, End::ok);
    if (done.socket) adopt(loop, ops[index].loop, done.socket);
}

void Program::done(Loop& loop, std::uint32_t index, whorl::AcceptStream::Done& done) {
    if (done.socket) adopt(loop, ops[index].loop, done.socket);
    if (!done.more) return ended(index, done.error, End::ok);
    table.count(Kind::accept_stream, done.error ? end_of(ops[index], done.error) : End::ok);
}

void Program::received(const Op& op, const Buffer& buffer) {
    streams[op.stream].received.append(reinterpret_cast<const char*>(buffer.data()), buffer.size());
}

void Program::done(Loop&, std::uint32_t index, whorl::Recv::Done& done) {
    const Op& op = ops[index];
    check(done.buffer.data() == op.data && done.buffer.capacity() == op.capacity,
          "a receive gave back another buffer");
    const bool peeks = (op.size & MSG_PEEK) != 0;
    if (!peeks) received(op, done.buffer);
    const bool full = done.buffer.size() == done.buffer.capacity();
    ended(index, done.error, full ? End::ok : done.buffer.empty() ? End::end : End::part);
}

void Program::done(Loop&, std::uint32_t index, whorl::RecvStream::Done& done) {
    const Op& op = ops[index];
    if (!done.more) {
        check(done.buffer.empty(), "the end of a stream came with bytes");
        return ended(index, done.error, End::end);
    }
    check(!done.error && !done.buffer.empty(), "a part of a stream without bytes");
    const whorl::LoopOptions& options = loop_options[op.loop];
    check(done.buffer.size() <= std::max(options.recv_buffer_size, options.recv_bulk_buffer_size),
          "a part is too large");
    received(op, done.buffer);
    table.count(Kind::recv_stream, End::ok);
    if (held.size() < hold_max) held.push_back(std::move(done.buffer));
}

void Program::done_send(std::uint32_t index, Error error, std::uint64_t bytes, const void* data,
                        std::size_t capacity) {
    const Op& op = ops[index];
    check(data == op.data && capacity == op.capacity, "a send gave back another buffer");
    check(bytes <= op.size, "more was sent than there was");
    streams[op.stream].sends[op.send].bytes = bytes;
    const bool whole = bytes == op.size;
    check(error || whole || op.kind == Kind::send, "a send of all sent a part");
    if (error && bytes != 0) table.count(op.kind, End::part);
    hidden(op, error, bytes);
    ended(index, error, whole ? End::ok : End::part);
}

void Program::done(Loop&, std::uint32_t index, whorl::SendChain::Done& done) {
    check(done.chain.size() == ops[index].size, "a chain has lost its parts");
    done_send(index, done.error, done.bytes, ops[index].data, ops[index].capacity);
}

void Program::done(Loop&, std::uint32_t index, whorl::Shutdown::Done& done) {
    ended(index, done.error, End::ok);
}
void Program::done(Loop&, std::uint32_t index, whorl::Nop::Done& done) {
    ended(index, done.error, End::ok);
}

void Program::done(Loop&, std::uint32_t index, whorl::Watched& done) {
    if (done.error) return ended(index, done.error, End::ok);
    check(done.readable, "a watch reports what was not asked for");
    std::uint64_t count = 0;
    const ssize_t got = world.state().kernel.read(watched_fd, &count, sizeof count);
    check(got >= 0 || got == -EAGAIN, "the watched descriptor is gone");
    table.count(ops[index].kind, got >= 0 ? End::ok : End::part);  // part: another watch was first
}

void Program::done(Loop&, std::uint32_t index, whorl::Expired& done) {
    Op& op = ops[index];
    check(world.now() >= op.due, "a timer fired early");
    check(done.deadline >= op.due - Nanoseconds(1), "a timer tells another deadline");
    table.count(op.kind, End::ok);
    if (op.kind == Kind::timer) op.live = false;
    else op.due += Nanoseconds(static_cast<std::int64_t>(op.capacity)) * (1 + done.missed);
}

void Program::done_plain(std::uint32_t index) {
    Op& op = ops[index];
    table.count(op.kind, End::ok);
    if (op.kind == Kind::hook) return;
    op.live = false;
    if (op.kind != Kind::close) return;
    for (const Op& other : ops) {
        check(!other.live || other.holder != op.holder, "a close handler came before another");
    }
}

// --- the end

void Program::drain(std::uint32_t index) {
    if (!alive(index)) return;
    for (Op& op : ops) {
        if (!op.live || op.loop != index) continue;
        op.drained = true;
        const bool silent =
            op.kind == Kind::timer || op.kind == Kind::every || op.kind == Kind::watch;
        if (silent) {
            op.live = false;
            table.count(op.kind, End::drained);
        }
    }
    draining = true;
    const Error error = loops[index]->drain(std::chrono::seconds(10));
    draining = false;
    check(!error, "a drain did not end");
    for (Op& op : ops) {
        const bool left = op.live && op.loop == index && op.kind != Kind::hook;
        check(!left, "a drain left an operation without its completion");
    }
    for (Holder& holder : holders) {
        if (holder.loop == index) holder.closed = true;
    }
}

void Program::destroy(std::uint32_t index) {
    if (!alive(index)) return;
    for (Op& op : ops) {
        if (!op.live || op.loop != index) continue;
        op.live = false;  // no handler runs any more
        // How far it came nobody tells.
        if (op.send != none) streams[op.stream].sends[op.send].bytes = op.size;
        broken(op);
        table.count(op.kind, End::destroyed);
    }
    for (Holder& holder : holders) {
        if (holder.loop == index) holder.closed = true;
    }
    Loop* last = std::exchange(loops[index], nullptr);
    world.remove_loop(*last);
    if (index < remotes.size()) check(!remotes[index].alive(), "a remote outlived its loop");
}

bool Program::all_ended() const {
    return std::none_of(ops.begin(), ops.end(), [](const Op& op) { return op.live; });
}

void Program::cancel_all() {
    for (std::uint32_t index = 0; index < ops.size(); ++index) cancel(index);
}

void Program::close_all() {
    for (std::uint32_t index = 0; index < holders.size(); ++index) {
        if (!holders[index].closed) close(index, false);
    }
}

// Every connection is read to its end and half-closed from both sides; nothing is cancelled that could
// end by itself.
void Program::end_by_itself() {
    for (std::uint32_t index = 0; index < ops.size(); ++index) {
        if (ops[index].stream == none && ops[index].kind != Kind::shutdown) cancel(index);
    }
    for (std::uint32_t index = 0; index < holders.size(); ++index) {
        if (holders[index].listens && !holders[index].closed) close(index, false);
    }
    (void)world.run_until([] { return false; }, std::chrono::seconds(1));
    for (auto& [peer, stream] : peers) {
        peer.read_on();
        peer.finish_sending();
    }
    for (std::uint32_t index = 0; index < holders.size(); ++index) {
        if (holders[index].closed || holders[index].listens) continue;
        const bool reads = recv_stream(index) != none;
        if (!reads || shutdown(index) == none) close(index, false);
    }
    (void)world.run_until([this] { return all_ended(); }, std::chrono::seconds(60));
}

// The faults have stopped: everything ends soon.
void Program::settle(Ending ending) {
    const auto silent = [this] { return all_ended(); };
    if (ending == Ending::natural) {
        end_by_itself();
    } else if (ending == Ending::cancel) {
        // What a cancel finds too late goes on and may bring more: asked again.
        for (int round = 0; round < 3; ++round) {
            cancel_all();
            (void)world.run_until(silent, std::chrono::seconds(60));
        }
    } else if (ending == Ending::close) {
        close_all();
        for (std::uint32_t index = 0; index < ops.size(); ++index) {
            if (ops[index].holder == none) cancel(index);
        }
        (void)world.run_until(silent, std::chrono::seconds(60));
    } else {
        for (std::uint32_t index = 0; index < loops.size(); ++index) {
            if (loops[index] == nullptr) continue;
            if (ending == Ending::drain) drain(index);
            else destroy(index);
        }
        cancel_all();  // hooks are not drained
    }
    for (std::uint32_t index = 0; index < ops.size(); ++index) {
        if (!ops[index].live) continue;
        world.note(std::string("left: ") + name_of(ops[index].kind) + ", slot " +
                   std::to_string(static_cast<std::uint32_t>(ops[index].handle)));
    }
    check(all_ended(), "an operation does not end");
}

void Program::check_loop(Loop& loop, const whorl::LoopOptions& options, bool holders_gone) {
    const whorl::Statistics& left = loop.statistics();
    // A ring keeps the buffers that the kernel may choose from.
    const bool ring = loop.backend_report().chosen == whorl::Backend::io_uring;
    const std::uint32_t kept =
        ring ? options.recv_ring_depth_max + options.recv_bulk_ring_depth : 0;
    check(left.operations == 0, "a slot is left");
    check(left.buffers_out <= kept, "a buffer is left");
    check(!holders_gone || left.handles == 0, "a socket is left");
}

void Program::finish(Ending ending) {
    ending_ = true;
    whorl::testing::SimulationOptions& options = world.options();
    options.short_transfer = options.late_completion = options.reordering = options.stream_end = 0;
    options.cancel_loses = options.operation_error = options.call_error = options.ring_refusal = 0;
    // Only when there is something to heal: it looks after what is on its way, and would hide its loss.
    if (world.state().kernel.partitioned) world.heal();
    world.descriptors_unlimited();
    held.clear();
    hold_max = 0;
    settle(ending);
    // Sockets that came after the closing, and peers' ends.
    for (auto& [peer, stream] : peers) peer.read_on();
    close_all();
    check(world.run_idle(std::chrono::hours(1)) || world.failed(),
          "the world does not come to rest");
    for (std::uint32_t index = 0; index < loops.size(); ++index) {
        if (loops[index] == nullptr) continue;
        check_loop(*loops[index], loop_options[index], true);
        const whorl::Statistics& high = loops[index]->statistics();
        check(high.operations_high <= loop_options[index].ops_max, "more slots than there are");
        check(high.handles_high <= loop_options[index].handles_max, "more sockets than allowed");
        check(high.buffer_bytes_mapped <= loop_options[index].buffer_bytes_max, "too much memory");
        destroy(index);
    }
    remotes.clear();
    verify_streams();
    if (watched_fd >= 0) world.state().kernel.close(watched_fd);
    check(world.descriptors() == 0, "a descriptor is left");
}

}  // namespace world_test
