// SPDX-License-Identifier: MIT
// Connections, and what is sent on them. The bytes of a stream are a pseudo-random table read from the
// stream's offset modulo a prime, so that a lost, doubled or misplaced piece shows; a datagram has its
// number in front.
#include <whorl/unix.hpp>

#include <cstring>

#include "client.hpp"

namespace latency {

using whorl::Buffer;
using whorl::Bytes;
using whorl::Error;
using whorl::Expired;
using whorl::Instant;
using whorl::Loop;

namespace {

constexpr std::size_t period = 65'521;
constexpr std::chrono::seconds connect_patience{5};

// Lives for ever, since the kernel may read from it to the end; any piece of a message's size is contiguous.
const std::vector<std::byte>& pattern() {
    static const std::vector<std::byte> table = [] {
        std::vector<std::byte> bytes(period + Plan::size_max);
        std::uint64_t state = 0x9E3779B97F4A7C15;
        for (std::size_t index = 0; index < bytes.size(); ++index) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes[index] =
                index < period ? static_cast<std::byte>(state >> 32) : bytes[index - period];
        }
        return bytes;
    }();
    return table;
}

const std::byte* pattern_at(std::uint64_t offset) { return pattern().data() + offset % period; }

}  // namespace

void Client::start() {
    (void)pattern();
    if (plan_.target.kind == Kind::channel) return open_channels();
    for (std::uint32_t index = 0; index < plan_.connections; ++index) {
        if (phase_ != Phase::connecting) return;
        open(index);
    }
}

void Client::open(std::uint32_t index) {
    const whorl::SubmitOptions patience = whorl::within(connect_patience);
    if (plan_.target.kind == Kind::timer) return ready();
    if (plan_.target.kind == Kind::udp) return open_datagrams(index);
    if (plan_.target.kind == Kind::pipe) return open_child(index);
    if (plan_.target.kind == Kind::file) return open_file(index);
    if (plan_.target.kind == Kind::http) return http_open(index);
    const auto connecting =
        plan_.target.kind == Kind::tcp
            ? loop_.submit(whorl::Connect{plan_.target.address}, patience,
                           [this, index](Loop&, whorl::Connect::Done done) {
                               opened(index, done.error, done.socket);
                           })
            : loop_.submit(whorl::ConnectUnix{plan_.target.unix_address}, patience,
                           [this, index](Loop&, whorl::ConnectUnix::Done done) {
                               opened(index, done.error, done.socket);
                           });
    if (!connecting) fail("connect to " + plan_.target.text, connecting.error());
}

void Client::opened(std::uint32_t index, Error error, whorl::Socket socket) {
    links_[index].socket = socket;
    if (phase_ != Phase::connecting) return close_links();
    if (error) return fail("connect to " + plan_.target.text, error);
    receive(index);
    ready();
}

void Client::open_datagrams(std::uint32_t index) {
    const bool v6 = plan_.target.address.is_v6();
    whorl::UdpOptions options;
    options.receive_buffer = 1 << 20;
    const auto socket =
        whorl::open_udp(loop_, v6 ? whorl::Address::any_v6(0) : whorl::Address::any_v4(0), options);
    if (!socket) return fail("open a socket", socket.error());
    links_[index].datagrams = *socket;
    if (Error error = whorl::connect_udp(loop_, *socket, plan_.target.address)) {
        return fail("connect to " + plan_.target.text, error);
    }
    receive(index);
    ready();
}

void Client::open_child(std::uint32_t index) {
    std::vector<const char*> arguments;
    for (const std::string& word : plan_.command) arguments.push_back(word.c_str());
    arguments.push_back(nullptr);
    whorl::Spawn spawn;
    spawn.options.program = arguments[0];
    spawn.options.arguments = arguments.data();
    spawn.options.input = whorl::ChildStream::pipe();
    spawn.options.output = whorl::ChildStream::pipe();
    spawn.options.session = true;  // a terminal's Ctrl-C is for us
    spawn.options.kill_on_close = true;
    const auto made = loop_.submit(std::move(spawn), [this, index](Loop&, whorl::Spawn::Done done) {
        Link& link = links_[index];
        link.child = done.child;
        link.input = done.input;
        link.output = done.output;
        if (phase_ != Phase::connecting) return close_links();
        if (done.error) return fail("start " + plan_.command[0], done.error);
        receive_pipe(index, Buffer::allocate(65536));
        ready();
    });
    if (!made) fail("start " + plan_.command[0], made.error());
}

void Client::ready() {
    if (phase_ == Phase::connecting && ++ready_ == plan_.connections) begin();
}

// ---- in ----

void Client::receive(std::uint32_t index) {
    const Link& link = links_[index];
    const auto receiving =
        plan_.target.kind == Kind::udp
            ? loop_.submit(whorl::RecvFromStream{link.datagrams},
                           [this, index](Loop&, whorl::RecvFromStream::Done done) {
                               received_datagram(index, done.error, done.buffer.bytes());
                           })
            : loop_.submit(whorl::RecvStream{link.socket},
                           [this, index](Loop&, whorl::RecvStream::Done done) {
                               received(index, done.error, done.buffer.bytes(), done.more);
                           });
    if (!receiving) fail("receive", receiving.error());
}

void Client::receive_pipe(std::uint32_t index, Buffer buffer) {
    whorl::Read read{links_[index].output, std::move(buffer)};
    const auto reading =
        loop_.submit(std::move(read), [this, index](Loop&, whorl::Read::Done done) {
            const bool ended = done.error || done.buffer.empty();
            received(index, done.error, done.buffer.bytes(), !ended);
            if (!ended && !finished()) receive_pipe(index, std::move(done.buffer));
        });
    if (!reading) fail("read", reading.error());
}

void Client::received(std::uint32_t index, Error error, Bytes bytes, bool more) {
    if (phase_ == Phase::finished) return;
    const Instant now = clock_(loop_);
    Link& link = links_[index];
    if (link.received + bytes.size > link.issued * plan_.size) {
        return fail("more came back than was sent: is it an echo server?", {});
    }
    for (std::size_t at = 0; at < bytes.size;) {
        const std::size_t piece = std::min<std::size_t>(bytes.size - at, Plan::size_max);
        if (std::memcmp(bytes.data + at, pattern_at(link.received + at), piece) != 0) {
            return fail("other bytes came back than were sent: is it an echo server?", {});
        }
        at += piece;
    }
    link.received += bytes.size;
    while ((link.completed + 1) * plan_.size <= link.received) complete(index, link.completed, now);
    if (error) return fail("receive", error);
    if (!more) return fail("the server closed the connection", {});
    issue_held(index);
    end_if_all_came();
}

void Client::received_datagram(std::uint32_t index, Error error, Bytes bytes) {
    if (phase_ == Phase::finished) return;
    if (error) return fail("receive", error);
    Link& link = links_[index];
    std::uint64_t message = 0;
    if (bytes.size != plan_.size) return fail("a datagram of another size came back", {});
    std::memcpy(&message, bytes.data, sizeof message);
    if (message >= link.issued) return fail("a datagram came back that was not sent", {});
    // One that came twice, or so late that it was given up.
    const bool known = message >= link.expiring && message + plan_.depth >= link.issued;
    if (!known || !link.slots[message % plan_.depth].waiting) return;
    complete(index, message, clock_(loop_));
    issue_held(index);
    end_if_all_came();
}

// ---- out ----

void Client::send(std::uint32_t index, std::uint64_t message) {
    const Link& link = links_[index];
    Buffer buffer = Buffer::of_static(Bytes(pattern_at(message * plan_.size), plan_.size));
    const auto sending =
        plan_.target.kind == Kind::pipe
            ? loop_.submit(whorl::WriteAll{link.input, std::move(buffer)},
                           [this](Loop&, whorl::WriteAll::Done done) { sent(done.error); })
            : loop_.submit(whorl::SendAll{link.socket, std::move(buffer)},
                           [this](Loop&, whorl::SendAll::Done done) { sent(done.error); });
    if (!sending) fail("send", sending.error());
}

void Client::send_datagram(std::uint32_t index, std::uint64_t message) {
    Buffer buffer = loop_.buffer(plan_.size);
    if (!buffer) return fail("send", Error::from_errno(ENOMEM));
    buffer.resize(plan_.size);
    std::memcpy(buffer.data(), pattern_at(message), plan_.size);
    std::memcpy(buffer.data(), &message, sizeof message);
    whorl::SendTo operation{links_[index].datagrams, std::move(buffer)};
    const auto sending = loop_.submit(
        std::move(operation), [this](Loop&, whorl::SendTo::Done done) { sent(done.error); });
    if (!sending) fail("send", sending.error());
}

void Client::sent(Error error) {
    if (error && phase_ != Phase::finished) fail("send", error);
}

void Client::close_links() {
    for (Link& link : links_) {
        if (link.socket) (void)loop_.close(link.socket);
        if (link.datagrams) (void)loop_.close(link.datagrams);
        if (link.file) (void)loop_.close(link.file);
        if (link.input) (void)loop_.close(link.input);
        if (link.output) (void)loop_.close(link.output);
        if (link.child) (void)loop_.close(link.child);
        link.socket = {};
        link.datagrams = {};
        link.input = link.output = {};
        link.child = {};
        link.file = {};
        link.sender.close();
    }
}

// ---- timers: message k of a link is a timer; its answer is that it fires ----

void Client::arm(std::uint32_t index, std::uint64_t message) {
    Link& link = links_[index];
    const Instant due = plan_.closed ? clock_(loop_) + plan_.due(1) : due_of(index, message);
    if (due >= end_) return;
    Slot& slot = link.slots[message % plan_.depth];
    slot = {clock_(loop_), true};
    if (plan_.closed) slot.sent = due;
    link.issued = message + 1;
    ++link.waiting;
    ++under_way_;
    const auto armed = loop_.at(due, [this, index](Loop&, const Expired&) { expired(index); });
    if (!armed) fail("timer", armed.error());
}

// What a timer that was armed too late had left to wait is its own; "from sending" leaves the rest out.
void Client::expired(std::uint32_t index) {
    if (phase_ == Phase::finished) return;
    Link& link = links_[index];
    const std::uint64_t message = link.issued - 1;
    Slot& slot = link.slots[message % plan_.depth];
    if (!plan_.closed) slot.sent = std::max(slot.sent, due_of(index, message));
    complete(index, message, clock_(loop_));
    arm(index, message + 1);
    end_if_all_came();
}

}  // namespace latency
