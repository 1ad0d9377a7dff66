// SPDX-License-Identifier: MIT
// Goal: the libev driver keeps the contract of src/backend/driver.hpp, also when batches are full,
// descriptor numbers are used again and buffers are short. Method: the driver alone, with a slab,
// descriptors and a pool made by hand; loopback and socket pairs; nothing sleeps to synchronise.
#include "backend/driver.hpp"
#include "backend/libev_library.hpp"
#include "backend/payload.hpp"
#include "backend/select.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace whorl::detail {
namespace {

using namespace std::chrono_literals;

class LibevDriverTest : public testing::Test {
  protected:
    void SetUp() override { open(std::size_t{8} << 20); }
    void TearDown() override {
        if (driver_ != nullptr) shut();
    }
    void open(std::size_t pool_bytes) {
        options_.ops_max = 1000;
        options_.handles_max = 1000;
        operations_ = std::make_unique<Slab<OpRecord>>();
        descriptors_ = std::make_unique<Slab<Descriptor>>();
        ASSERT_FALSE(operations_->reserve(options_.ops_max));
        ASSERT_FALSE(descriptors_->reserve(options_.handles_max));
        pool_ = BufferPool::create(pool_bytes);
        BackendReport report;
        Result<Driver*> made = make_libev_driver(
            {*operations_, *descriptors_, *pool_, statistics_, options_, real_system()}, report);
        ASSERT_TRUE(made) << report.failed_step << " " << made.error().text();
        driver_ = *made;
        ASSERT_FALSE(driver_->bind());
    }
    void shut() {
        delete std::exchange(driver_, nullptr);
        for (int fd : fds_) ::close(fd);
        fds_.clear();
        pool_->close();
    }

    int keep(int fd) {
        EXPECT_GE(fd, 0) << std::strerror(errno);
        fds_.push_back(fd);
        return fd;
    }
    Descriptor& descriptor(int fd, DescriptorKind kind = DescriptorKind::socket) {
        Descriptor* made = descriptors_->claim();
        const SlabSlot slot = *made;
        *made = Descriptor{};
        static_cast<SlabSlot&>(*made) = slot;
        made->fd = fd;
        made->kind = kind;
        return *made;
    }
    // A connected pair: one end as a descriptor, the other as a plain number.
    std::pair<Descriptor*, int> pair() {
        int ends[2];
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        return {&descriptor(keep(ends[0])), keep(ends[1])};
    }
    Descriptor& listener(sockaddr_in& address, int backlog = 64) {
        const int fd = keep(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        address = {};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
        EXPECT_EQ(::listen(fd, backlog), 0);
        EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
        return descriptor(fd, DescriptorKind::listener);
    }
    int connected_to(const sockaddr_in& address) {
        const int fd = keep(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        return fd;
    }

    OpRecord& record(OpKind kind, const Descriptor* target = nullptr) {
        OpRecord* made = operations_->claim();
        made->kind = kind;
        made->state = OpState::ended;
        made->flags = 0;
        made->progress = 0;
        made->extra = 0;
        made->descriptor = target == nullptr ? 0 : descriptors_->index_of(target);
        return *made;
    }
    OpRecord& watch(int fd, std::uint64_t bits) {
        OpRecord& made = record(OpKind::watch);
        made.descriptor = static_cast<std::uint32_t>(fd);
        made.extra = bits;
        return made;
    }
    OpRecord& connect_record(const Descriptor& socket, const sockaddr_in& address) {
        OpRecord& made = record(OpKind::connect, &socket);
        ConnectTarget target{};
        std::memcpy(target.address, &address, sizeof address);
        target.length = sizeof address;
        made.store(target);
        return made;
    }
    OpRecord& with_buffer(OpKind kind, const Descriptor& socket, Buffer buffer) {
        OpRecord& made = record(kind, &socket);
        made.store(std::move(buffer));
        return made;
    }
    OpRecord& submit(OpRecord& one) {
        one.state = OpState::listed;
        submissions_.push_back(*operations_, one);
        return one;
    }
    std::uint64_t handle(const OpRecord& one) { return operations_->handle_of(&one); }

    // One wait(); what it brought, also kept by operation in `seen_`.
    std::vector<Completion> wait(Nanoseconds timeout, std::uint32_t capacity = 64) {
        std::vector<Completion> entries(capacity);
        CompletionBatch batch;
        batch.entries = entries.data();
        batch.capacity = capacity;
        EXPECT_FALSE(driver_->wait(submissions_, timeout, batch));
        EXPECT_TRUE(submissions_.empty());
        entries.resize(batch.count);
        for (const Completion& one : entries) {
            OpRecord* ended = operations_->find(one.operation);
            EXPECT_NE(ended, nullptr);
            if ((one.flags & completion_more) == 0) ended->state = OpState::ended;
            ++seen_[one.operation];
        }
        return entries;
    }
    // Waits for the one completion that is due.
    Completion one() {
        const std::vector<Completion> got = wait(5s);
        EXPECT_EQ(got.size(), 1u);
        return got.empty() ? Completion{} : got.front();
    }
    std::int32_t result_of(OpRecord& operation) {
        submit(operation);
        const Completion done = one();
        EXPECT_EQ(done.operation, handle(operation));
        EXPECT_EQ(done.flags, 0u);
        return done.result;
    }
    static std::string text_of(const Completion& received) {
        Buffer buffer = Buffer::from_owner(received.block, received.block->base,
                                           static_cast<std::size_t>(received.result));
        return std::string(buffer.text());
    }
    static void say(int fd, const std::string& text) {
        EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(text.size()));
    }
    static std::string hear(int fd) {
        char bytes[65536];
        const ssize_t count = ::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        return std::string(bytes, count < 0 ? 0 : static_cast<std::size_t>(count));
    }
    static bool readable(int fd, int patience_ms = 0) {
        pollfd asked{fd, POLLIN, 0};
        return ::poll(&asked, 1, patience_ms) == 1;
    }
    static bool becomes_readable(int fd) { return readable(fd, 10'000); }
    static Buffer text(const char* bytes) { return Buffer::copy_of(Bytes(bytes, strlen(bytes))); }

    LoopOptions options_;
    Statistics statistics_;
    std::unique_ptr<Slab<OpRecord>> operations_;
    std::unique_ptr<Slab<Descriptor>> descriptors_;
    BufferPool* pool_ = nullptr;
    Driver* driver_ = nullptr;
    OpList submissions_;
    std::vector<int> fds_;
    std::map<std::uint64_t, int> seen_;
};

TEST(LibevLibrary, missing_library_is_an_error) {
    EXPECT_EQ(load_libev("libwhorl-has-no-such.so.4").error(), Error::libev_missing);
    EXPECT_EQ(load_libev("libc.so.6").error(), Error::libev_missing);  // none of its functions
    Result<LibevLibrary> library = load_libev(libev_name);
    ASSERT_TRUE(library);
    library->close();
}

TEST_F(LibevDriverTest, want_of_descriptors_is_told_as_such) {
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    const int next = dup(0);
    ::close(next);
    for (rlim_t room = 0; room < 3; ++room) {
        rlimit tight = before;
        tight.rlim_cur = static_cast<rlim_t>(next) + room;
        setrlimit(RLIMIT_NOFILE, &tight);
        BackendReport report;
        Result<Driver*> made = make_libev_driver(
            {*operations_, *descriptors_, *pool_, statistics_, options_, real_system()}, report);
        setrlimit(RLIMIT_NOFILE, &before);
        EXPECT_EQ(made.has_value(), room == 2);
        if (made) {
            delete *made;
            continue;
        }
        EXPECT_EQ(made.error(), Error::from_errno(EMFILE)) << made.error().name();
        EXPECT_EQ(report.failed_errno, EMFILE);
        EXPECT_STREQ(report.failed_step, room == 0 ? "timerfd_create" : "ev_loop_new");
    }
}

// --- the operations, in the order of the list

TEST_F(LibevDriverTest, nop_completes) {
    EXPECT_EQ(result_of(record(OpKind::nop)), 0);
    EXPECT_EQ(statistics_.kernel_waits, 0u);
    EXPECT_EQ(statistics_.submissions, 1u);
}

TEST_F(LibevDriverTest, connect_and_accept) {
    sockaddr_in address;
    Descriptor& server = listener(address);
    Descriptor& client = descriptor(keep(socket(AF_INET, SOCK_STREAM, 0)));
    OpRecord& accept = submit(record(OpKind::accept, &server));
    OpRecord& connect = submit(connect_record(client, address));
    while (seen_.size() < 2) {
        for (const Completion& done : wait(5s)) {
            EXPECT_GE(done.result, 0);
            if (done.operation == handle(accept)) {
                keep(done.result);
                EXPECT_EQ(fcntl(done.result, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
                EXPECT_EQ(fcntl(done.result, F_GETFL) & O_NONBLOCK, 0);
            }
        }
    }
    EXPECT_EQ(seen_[handle(connect)], 1);
}

TEST_F(LibevDriverTest, connect_refused) {
    sockaddr_in address;
    ::close(std::exchange(listener(address).fd, -1));
    fds_.clear();
    Descriptor& client = descriptor(keep(socket(AF_INET, SOCK_STREAM, 0)));
    EXPECT_EQ(result_of(connect_record(client, address)), -ECONNREFUSED);
}

TEST_F(LibevDriverTest, accept_stream_delivers_all_and_ends_on_cancel) {
    sockaddr_in address;
    OpRecord& accept = submit(record(OpKind::accept_stream, &listener(address)));
    for (int i = 0; i < 10; ++i) connected_to(address);
    int accepted = 0;
    while (accepted < 10) {
        for (const Completion& done : wait(5s)) {
            EXPECT_EQ(done.flags, completion_more);
            keep(done.result);
            ++accepted;
        }
    }
    EXPECT_TRUE(wait(0ns).empty());
    driver_->cancel(accept);
    driver_->cancel(accept);  // asking twice changes nothing
    const Completion done = one();
    EXPECT_EQ(done.result, -ECANCELED);
    EXPECT_EQ(done.flags, 0u);
    EXPECT_TRUE(wait(0ns).empty());
}

TEST_F(LibevDriverTest, accept_stream_ends_when_descriptors_run_out) {
    sockaddr_in address;
    OpRecord& accept = submit(record(OpKind::accept_stream, &listener(address)));
    const int last = connected_to(address);
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    rlimit tight = before;
    tight.rlim_cur = static_cast<rlim_t>(last) + 1;
    setrlimit(RLIMIT_NOFILE, &tight);
    const Completion done = one();
    setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_EQ(done.result, -EMFILE);
    EXPECT_EQ(done.flags, 0u);
    EXPECT_TRUE(wait(0ns).empty());  // not armed: nobody burns a core
    submit(accept);
    keep(one().result);
}

TEST_F(LibevDriverTest, recv_waits_for_data) {
    auto [socket, peer] = pair();
    OpRecord& recv = submit(with_buffer(OpKind::recv, *socket, Buffer::allocate(100)));
    EXPECT_TRUE(wait(0ns).empty());
    say(peer, "hello");
    EXPECT_EQ(one().result, 5);
    Buffer buffer = recv.take<Buffer>();
    EXPECT_EQ(std::memcmp(buffer.data(), "hello", 5), 0);
}

TEST_F(LibevDriverTest, recv_stream_delivers_until_the_end) {
    auto [socket, peer] = pair();
    submit(record(OpKind::recv_stream, socket));
    for (const char* message : {"one", "two"}) {
        say(peer, message);
        const Completion got = one();
        EXPECT_EQ(got.flags, completion_more);
        EXPECT_EQ(text_of(got), message);
    }
    ::shutdown(peer, SHUT_WR);
    const Completion end = one();
    EXPECT_EQ(end.result, 0);
    EXPECT_EQ(end.flags, 0u);
    EXPECT_EQ(end.block, nullptr);
    EXPECT_EQ(pool_->blocks_out(), 0u);
    EXPECT_TRUE(wait(0ns).empty());
}

TEST_F(LibevDriverTest, recv_stream_takes_a_few_blocks_at_a_time) {
    auto [socket, peer] = pair();
    const int room = 1 << 20;
    setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    say(peer, std::string(6 * options_.recv_buffer_size + 1, 'x'));
    submit(record(OpKind::recv_stream, socket));
    std::size_t bytes = 0;
    for (std::size_t expected : {4u, 3u}) {
        const std::vector<Completion> got = wait(5s);
        EXPECT_EQ(got.size(), expected);
        for (const Completion& part : got) bytes += text_of(part).size();
    }
    EXPECT_EQ(bytes, 6 * options_.recv_buffer_size + 1);
}

TEST_F(LibevDriverTest, recv_stream_without_a_buffer_ends_and_may_come_back) {
    shut();
    open(std::size_t{256} << 10);  // one chunk: 16 blocks of 16 KiB
    auto [socket, peer] = pair();
    std::vector<Buffer> taken;
    while (Buffer buffer = pool_->get(options_.recv_buffer_size)) {
        taken.push_back(std::move(buffer));
    }
    OpRecord& stream = submit(record(OpKind::recv_stream, socket));
    say(peer, "late");
    EXPECT_EQ(one().result, -ENOBUFS);
    EXPECT_TRUE(wait(0ns).empty());
    taken.clear();
    submit(stream);
    EXPECT_EQ(text_of(one()), "late");
}

TEST_F(LibevDriverTest, send_all_in_parts) {
    auto [socket, peer] = pair();
    const int tiny = 1;
    setsockopt(socket->fd, SOL_SOCKET, SO_SNDBUF, &tiny, sizeof tiny);
    std::string sent(300000, 0);
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 7 % 251);
    OpRecord& send = with_buffer(OpKind::send_all, *socket, Buffer::copy_of(Bytes(sent)));
    std::string heard;
    int parts = 0;
    submit(send);
    while (send.progress < sent.size()) {
        for (const Completion& done : wait(send.state == OpState::kernel ? 0ns : 5s)) {
            ASSERT_GT(done.result, 0);
            send.progress += static_cast<std::uint64_t>(done.result);
            ++parts;
            if (send.progress < sent.size()) submit(send);
        }
        heard += hear(peer);
    }
    while (heard.size() < sent.size()) heard += hear(peer);
    EXPECT_GT(parts, 10);
    EXPECT_TRUE(heard == sent);
    static_cast<void>(send.take<Buffer>());
}

TEST_F(LibevDriverTest, send_chain_and_shutdown) {
    auto [socket, peer] = pair();
    GatherFrame frame{};
    frame.parts[0] = {const_cast<char*>("ab"), 2};
    frame.parts[1] = {const_cast<char*>("cd"), 2};
    frame.message.msg_iov = frame.parts;
    frame.message.msg_iovlen = 2;
    OpRecord& send = record(OpKind::send_chain, socket);
    send.store(ChainPayload{BufferChain(), &frame});
    EXPECT_EQ(result_of(send), 4);
    EXPECT_EQ(hear(peer), "abcd");
    OpRecord& shut = record(OpKind::shutdown, socket);
    shut.extra = SHUT_WR;
    EXPECT_EQ(result_of(shut), 0);
    EXPECT_TRUE(readable(peer));
    static_cast<void>(send.take<ChainPayload>());
}

TEST_F(LibevDriverTest, send_to_nobody_is_an_error_without_a_signal) {
    auto [socket, peer] = pair();
    ::shutdown(peer, SHUT_RD);
    OpRecord& send = with_buffer(OpKind::send, *socket, text("x"));
    EXPECT_EQ(result_of(send), -EPIPE);
    static_cast<void>(send.take<Buffer>());
}

TEST_F(LibevDriverTest, both_sides_of_one_descriptor) {
    auto [socket, peer] = pair();
    while (::send(socket->fd, "xxxxxxxx", 8, MSG_DONTWAIT) > 0) {
    }
    OpRecord& send = submit(with_buffer(OpKind::send, *socket, text("end")));
    OpRecord& stream = submit(record(OpKind::recv_stream, socket));
    EXPECT_TRUE(wait(0ns).empty());
    say(peer, "in");
    EXPECT_EQ(text_of(one()), "in");
    while (!hear(peer).empty()) {
    }
    EXPECT_EQ(one().operation, handle(send));
    ::shutdown(peer, SHUT_RDWR);
    const Completion end = one();
    EXPECT_EQ(end.operation, handle(stream));
    EXPECT_EQ(end.result, 0);
    static_cast<void>(send.take<Buffer>());
}

// --- watches

TEST_F(LibevDriverTest, watch_fires_once_for_each_submission) {
    auto [socket, peer] = pair();
    OpRecord& both = watch(socket->fd, POLLIN | POLLOUT);
    EXPECT_EQ(result_of(both), POLLOUT);
    say(peer, "x");
    EXPECT_TRUE(wait(0ns).empty());  // not submitted again
    EXPECT_EQ(result_of(both), POLLIN | POLLOUT);
    both.extra = POLLIN;
    EXPECT_EQ(result_of(both), POLLIN);
    hear(socket->fd);
    submit(both);
    EXPECT_TRUE(wait(0ns).empty());
    ::shutdown(peer, SHUT_RDWR);
    EXPECT_EQ(one().result, POLLIN | POLLHUP);
    driver_->forget_watch(both);
    driver_->forget_watch(both);
    EXPECT_TRUE(wait(0ns).empty());
}

TEST_F(LibevDriverTest, watch_that_is_not_submitted_again_costs_nothing) {
    auto [socket, peer] = pair();
    say(peer, "x");
    EXPECT_EQ(result_of(watch(socket->fd, POLLIN)), POLLIN);
    const std::uint64_t before = statistics_.kernel_waits;
    EXPECT_TRUE(wait(20ms).empty());
    EXPECT_LT(statistics_.kernel_waits - before, 20u);  // it does not even look each millisecond
}

TEST_F(LibevDriverTest, watch_of_what_cannot_be_watched) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    ::close(ends[0]);
    ::close(ends[1]);
    EXPECT_EQ(result_of(watch(ends[0], POLLIN)), -EBADF);
    EXPECT_EQ(result_of(watch(-1, POLLIN)), -EBADF);
    EXPECT_EQ(result_of(watch(keep(::open("/", O_PATH | O_CLOEXEC)), POLLIN)), -EBADF);
    const int file = keep(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(result_of(watch(file, POLLIN)), POLLIN);
    EXPECT_EQ(result_of(watch(file, POLLIN | POLLPRI)), POLLIN);
    EXPECT_EQ(result_of(watch(file, POLLPRI)), -EPERM);
}

// What poll(2) always tells is told, and nothing else.
TEST_F(LibevDriverTest, a_watch_for_nothing_hears_of_the_end) {
    auto [socket, peer] = pair();
    OpRecord& waiting = submit(watch(socket->fd, 0));
    say(peer, "x");
    EXPECT_TRUE(wait(0ns).empty());
    ::shutdown(peer, SHUT_RDWR);
    const Completion done = one();
    EXPECT_EQ(done.operation, handle(waiting));
    EXPECT_EQ(done.result, POLLHUP);
}

// The file lives on under another number, and so in the kernel's set.
TEST_F(LibevDriverTest, a_watched_number_that_was_closed_is_told) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const int peer = keep(ends[1]);
    keep(::dup(ends[0]));
    OpRecord& waiting = submit(watch(ends[0], POLLIN));
    EXPECT_TRUE(wait(0ns).empty());
    ::close(ends[0]);
    say(peer, "x");
    const Completion done = one();
    EXPECT_EQ(done.operation, handle(waiting));
    EXPECT_EQ(done.result, -EBADF);
    driver_->forget_watch(waiting);
    EXPECT_TRUE(wait(0ns).empty());
}

TEST_F(LibevDriverTest, watches_share_a_descriptor) {
    auto [socket, peer] = pair();
    OpRecord& in = submit(watch(socket->fd, POLLIN));
    OpRecord& out = submit(watch(socket->fd, POLLOUT));
    EXPECT_EQ(one().operation, handle(out));
    driver_->forget_watch(out);  // while its ev_io still waits
    auto [third, third_peer] = pair();
    OpRecord& next = submit(watch(third->fd, POLLIN));
    EXPECT_TRUE(wait(0ns).empty());
    say(peer, "x");
    EXPECT_EQ(one().operation, handle(in));
    hear(socket->fd);
    say(third_peer, "x");
    EXPECT_EQ(one().operation, handle(next));
}

TEST_F(LibevDriverTest, watch_of_urgent_data_and_of_a_hang_up_alone) {
    sockaddr_in address;
    OpRecord& accept = record(OpKind::accept, &listener(address));
    const int client = connected_to(address);
    const int served = keep(result_of(accept));
    OpRecord& urgent = submit(watch(served, POLLPRI));
    OpRecord& gone = submit(watch(served, POLLRDHUP));
    EXPECT_TRUE(wait(0ns).empty());
    say(client, "x");
    EXPECT_TRUE(wait(0ns).empty());  // plain data is not what they want
    ASSERT_EQ(::send(client, "!", 1, MSG_OOB), 1);
    const Completion first = one();
    EXPECT_EQ(first.operation, handle(urgent));
    EXPECT_EQ(first.result, POLLPRI);
    EXPECT_EQ(result_of(urgent), POLLPRI);
    ::shutdown(client, SHUT_WR);
    const Completion second = one();
    EXPECT_EQ(second.operation, handle(gone));
    EXPECT_EQ(second.result, POLLRDHUP);
}

// --- cancelling and forgetting

TEST_F(LibevDriverTest, cancel_of_armed_operations) {
    auto [socket, peer] = pair();
    auto [other, other_peer] = pair();
    sockaddr_in address;
    Descriptor& crowded = listener(address, 0);
    connected_to(address);
    std::vector<OpRecord*> armed = {
        &with_buffer(OpKind::recv, *socket, Buffer::allocate(10)),
        &record(OpKind::recv_stream, other), &watch(peer, POLLIN), &watch(other_peer, POLLPRI),
        &connect_record(descriptor(keep(::socket(AF_INET, SOCK_STREAM, 0))), address)};
    for (OpRecord* one : armed) submit(*one);
    EXPECT_TRUE(wait(0ns).empty());
    for (OpRecord* one : armed) driver_->cancel(*one);
    say(peer, "x");
    say(other_peer, "x");
    for (const Completion& done : wait(5s)) EXPECT_EQ(done.result, -ECANCELED);
    EXPECT_EQ(seen_.size(), armed.size());
    EXPECT_TRUE(wait(0ns).empty());
    for (OpRecord* one : {armed[2], armed[3]}) driver_->forget_watch(*one);
    EXPECT_EQ(hear(socket->fd), "x");  // the data is still there
    static_cast<void>(armed[0]->take<Buffer>());
    static_cast<void>(crowded);
}

TEST_F(LibevDriverTest, cancel_of_what_was_not_yet_tried) {
    std::vector<OpRecord*> all;
    for (int i = 0; i < 4; ++i) all.push_back(&submit(record(OpKind::nop)));
    EXPECT_EQ(wait(0ns, 1).front().operation, handle(*all[0]));
    driver_->cancel(*all[2]);
    std::vector<std::pair<std::uint64_t, int>> got;
    for (int i = 0; i < 3; ++i) {
        for (const Completion& done : wait(0ns, 1)) got.emplace_back(done.operation, done.result);
    }
    const std::vector<std::pair<std::uint64_t, int>> expected = {
        {handle(*all[2]), -ECANCELED}, {handle(*all[1]), 0}, {handle(*all[3]), 0}};
    EXPECT_EQ(got, expected);
}

TEST_F(LibevDriverTest, forgotten_descriptor_s_events_do_not_reach_the_next_owner_of_its_number) {
    for (const bool deferred : {false, true}) {
        auto [socket, peer] = pair();
        auto [other, other_peer] = pair();
        OpRecord& first = submit(record(OpKind::recv_stream, socket));
        OpRecord& second = submit(record(OpKind::recv_stream, other));
        EXPECT_TRUE(wait(0ns).empty());
        say(peer, "old");
        say(other_peer, "old");
        OpRecord* ending = &first;
        if (deferred) {  // one of the two does not fit
            const std::vector<Completion> got = wait(5s, 1);
            ASSERT_EQ(got.size(), 1u);
            text_of(got.front());
            ending = got.front().operation == handle(first) ? &second : &first;
        }
        Descriptor& gone = ending == &first ? *socket : *other;
        driver_->cancel(*ending);
        EXPECT_EQ(wait(0ns, 1).front().result, -ECANCELED);
        driver_->forget(gone);
        auto [next, next_peer] = pair();
        const int number = std::exchange(next->fd, gone.fd);
        ASSERT_EQ(dup2(number, gone.fd), gone.fd);  // closes the old, names the new
        OpRecord& fresh = submit(record(OpKind::recv_stream, next));
        for (const Completion& got : wait(0ns)) {
            EXPECT_NE(got.operation, handle(fresh));
            text_of(got);
        }
        say(next_peer, "new");
        const Completion got = one();
        EXPECT_EQ(got.operation, handle(fresh));
        EXPECT_EQ(text_of(got), "new");
    }
}

// --- batches

TEST_F(LibevDriverTest, full_batch_loses_nothing_and_starves_nobody) {
    std::vector<std::pair<Descriptor*, int>> pairs;
    std::map<std::uint64_t, int> peers;
    for (int i = 0; i < 20; ++i) {
        pairs.push_back(pair());
        peers[handle(submit(record(OpKind::recv_stream, pairs.back().first)))] =
            pairs.back().second;
        say(pairs.back().second, "x");
    }
    for (int turn = 0; turn < 50; ++turn) {
        const std::vector<Completion> got = wait(5s, 4);
        EXPECT_EQ(got.size(), 4u);
        for (const Completion& done : got) {
            text_of(done);
            say(peers[done.operation], "x");  // always ready again
        }
    }
    for (const auto& [operation, peer] : peers) EXPECT_NEAR(seen_[operation], 10, 1);
}

TEST_F(LibevDriverTest, event_that_has_lost_its_cause_leaves_the_operation_armed) {
    auto [socket, peer] = pair();
    auto [other, other_peer] = pair();
    const std::uint64_t first = handle(submit(record(OpKind::recv_stream, socket)));
    submit(record(OpKind::recv_stream, other));
    EXPECT_TRUE(wait(0ns).empty());
    say(peer, "x");
    say(other_peer, "x");
    const Completion got = wait(5s, 1).at(0);  // the other event waits for room
    text_of(got);
    const bool first_served = got.operation == first;
    EXPECT_EQ(hear(first_served ? other->fd : socket->fd), "x");
    EXPECT_TRUE(wait(0ns).empty());
    say(first_served ? other_peer : peer, "y");
    EXPECT_EQ(text_of(one()), "y");
}

TEST_F(LibevDriverTest, submissions_beyond_the_batch_keep_their_order) {
    std::vector<std::uint64_t> expected, got;
    for (int i = 0; i < 10; ++i) expected.push_back(handle(submit(record(OpKind::nop))));
    while (got.size() < 10) {
        const std::vector<Completion> part = wait(5s, 3);
        ASSERT_FALSE(part.empty());
        for (const Completion& done : part) got.push_back(done.operation);
    }
    EXPECT_EQ(got, expected);
}

TEST_F(LibevDriverTest, endless_submissions_do_not_starve_readiness) {
    for (const std::uint32_t capacity : {1u, 4u, 64u}) {
        auto [socket, peer] = pair();
        const std::uint64_t stream = handle(submit(record(OpKind::recv_stream, socket)));
        EXPECT_TRUE(wait(0ns).empty());
        say(peer, "x");
        std::vector<OpRecord*> busy;
        for (int i = 0; i < 4; ++i) busy.push_back(&record(OpKind::nop));
        int waits = 0;
        while (seen_[stream] == 0) {
            for (OpRecord* one : busy) {
                if (one->state == OpState::ended) submit(*one);
            }
            for (const Completion& done : wait(0ns, capacity)) {
                if (done.operation == stream) text_of(done);
            }
            ASSERT_LE(++waits, 2);
        }
        while (!wait(0ns).empty()) {
        }
    }
}

TEST_F(LibevDriverTest, echo_asks_the_kernel_once_a_message) {
    auto [socket, peer] = pair();
    submit(record(OpKind::recv_stream, socket));
    EXPECT_TRUE(wait(0ns).empty());
    const std::uint64_t before = statistics_.kernel_waits;
    for (int i = 0; i < 100; ++i) {
        say(peer, "ping");
        const Completion got = one();
        OpRecord& send = with_buffer(OpKind::send_all, *socket, text(text_of(got).c_str()));
        EXPECT_EQ(result_of(send), 4);
        EXPECT_EQ(hear(peer), "ping");
        static_cast<void>(send.take<Buffer>());
    }
    EXPECT_EQ(statistics_.kernel_waits - before, 100u);
}

// --- time, other threads, hosts

TEST_F(LibevDriverTest, timeouts_are_never_early) {
    for (const Nanoseconds timeout : {Nanoseconds(1), Nanoseconds(30us), Nanoseconds(1700us),
                                      Nanoseconds(5ms), Nanoseconds(25ms)}) {
        const Instant start = clock_now();
        EXPECT_TRUE(wait(timeout).empty());
        const Nanoseconds took = clock_now() - start;
        EXPECT_GE(took, timeout);
        EXPECT_LT(took, timeout + 20s);  // a busy machine may be late
    }
    const Instant start = clock_now();
    EXPECT_TRUE(wait(0ns).empty());
    EXPECT_LT(clock_now() - start, 20s);
}

TEST_F(LibevDriverTest, earlier_deadline_that_is_past_does_not_end_a_later_wait) {
    auto [socket, peer] = pair();
    submit(record(OpKind::recv_stream, socket));
    say(peer, "x");
    EXPECT_EQ(text_of(wait(5ms).at(0)), "x");
    const Instant start = clock_now();
    const std::uint64_t before = statistics_.kernel_waits;
    EXPECT_TRUE(wait(30ms).empty());
    EXPECT_GE(clock_now() - start, 30ms);
    EXPECT_LE(statistics_.kernel_waits - before,
              10u);  // woken by the earlier one, once, and by what the machine interrupts
}

TEST_F(LibevDriverTest, wake_ends_a_wait) {
    const int event = keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    ASSERT_FALSE(driver_->watch_wake(event));
    for (int i = 0; i < 20; ++i) {
        std::thread waker([event] { eventfd_write(event, 1); });
        EXPECT_TRUE(wait(Nanoseconds(-1)).empty());
        waker.join();
        EXPECT_FALSE(readable(event));
    }
}

TEST_F(LibevDriverTest, notify_fd_is_readable_while_there_is_something) {
    auto [socket, peer] = pair();
    const Result<int> notify = driver_->notify_fd();
    ASSERT_TRUE(notify);
    const auto settled = [&] {  // a poke or a stale event may need a round or two
        for (int i = 0; i < 4 && readable(*notify); ++i) EXPECT_TRUE(wait(0ns).empty());
        return !readable(*notify);
    };
    OpRecord& stream = submit(record(OpKind::recv_stream, socket));
    EXPECT_TRUE(wait(0ns).empty());
    EXPECT_TRUE(settled());
    say(peer, "x");
    EXPECT_TRUE(becomes_readable(*notify));
    EXPECT_EQ(text_of(wait(0ns).at(0)), "x");
    EXPECT_TRUE(settled());
    driver_->cancel(stream);
    EXPECT_TRUE(becomes_readable(*notify));
    EXPECT_EQ(wait(0ns).size(), 1u);
    EXPECT_TRUE(settled());
    for (int i = 0; i < 3; ++i) submit(record(OpKind::nop));
    EXPECT_EQ(wait(0ns, 2).size(), 2u);
    EXPECT_TRUE(becomes_readable(*notify));  // one is left
    EXPECT_EQ(wait(0ns).size(), 1u);
    EXPECT_TRUE(settled());
}

// The file of a forgotten descriptor lives on (a child process has it), and so does its place in the
// kernel's set; libev makes a new set then, with another descriptor.
TEST_F(LibevDriverTest, file_that_outlives_its_descriptor_is_survived) {
    setenv("LIBEV_FLAGS", "1", 1);  // select, were it obeyed
    shut();
    open(std::size_t{8} << 20);
    unsetenv("LIBEV_FLAGS");
    const Result<int> notify = driver_->notify_fd();
    auto [socket, peer] = pair();
    auto [other, other_peer] = pair();
    OpRecord& stream = submit(record(OpKind::recv_stream, socket));
    submit(record(OpKind::recv_stream, other));
    EXPECT_TRUE(wait(0ns).empty());
    keep(dup(socket->fd));
    driver_->cancel(stream);
    EXPECT_EQ(one().result, -ECANCELED);
    driver_->forget(*socket);
    const int number = socket->fd;
    ::close(number);
    for (int i = 0; i < 5; ++i) {
        say(peer, "x");
        EXPECT_TRUE(wait(0ns).empty());
    }
    say(other_peer, "y");
    EXPECT_TRUE(readable(*notify));
    EXPECT_EQ(text_of(one()), "y");
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(wait(0ns).empty());
    EXPECT_FALSE(readable(*notify));
    fds_.erase(std::find(fds_.begin(), fds_.end(), number));
}

}  // namespace
}  // namespace whorl::detail
