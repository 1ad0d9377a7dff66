// SPDX-License-Identifier: MIT
// Goal: the simulated ring answers as Linux does: its queues, io_uring_enter, io_uring_register, each
// operation, each level.
// Method: entries written by liburing's own functions into the simulated queues, and sockets of the
// simulated kernel as peers, in kind worlds.
#include "unit/sim_ring_bench.hpp"

namespace whorl::sim_ring_test {
namespace {

// --- the ring itself

TEST(SimRing, setup_answers_by_level) {
    struct Case {
        RingLevel level;
        unsigned flags;
        int answer;
    };
    const Case cases[] = {
        {RingLevel::linux_5_15, 0, 0},
        {RingLevel::linux_5_15, IORING_SETUP_SUBMIT_ALL, -EINVAL},
        {RingLevel::linux_5_15, deferring, -EINVAL},
        {RingLevel::linux_6_1, deferring, 0},
        {RingLevel::linux_6_1, whorl::detail::setup_no_sqarray, -EINVAL},
        {RingLevel::linux_6_18, deferring, 0},
        {RingLevel::linux_6_18, IORING_SETUP_DEFER_TASKRUN, -EINVAL},
        {RingLevel::linux_6_18, IORING_SETUP_TASKRUN_FLAG, -EINVAL},
        {RingLevel::linux_6_18, 1u << 31, -EINVAL},
    };
    for (const Case& one : cases) {
        const Bench bench(kind(one.level), one.flags);
        EXPECT_EQ(bench.made, one.answer) << "flags " << one.flags;
    }
    EXPECT_EQ(Bench(kind(), 0, 0).made, -EINVAL);
    EXPECT_EQ(Bench(kind(), 0, 40000).made, -EINVAL);
    EXPECT_EQ(Bench(kind(), 0, 8, 4).made, -EINVAL) << "fewer completions than submissions";
    const Bench clamped(kind(), IORING_SETUP_CLAMP, 40000);
    EXPECT_EQ(clamped.ring.sq.ring_entries, 32768u);
    EXPECT_EQ(clamped.ring.cq.ring_entries, 65536u);
    EXPECT_EQ(Bench(kind(RingLevel::linux_5_15)).ring.features, 0x7FFu);
    EXPECT_EQ(Bench(kind(RingLevel::linux_6_1)).ring.features, 0x1FFFu);
    EXPECT_EQ(Bench(kind(RingLevel::linux_6_18)).ring.features, 0x3FFFFu);
}

TEST(SimRing, setup_without_descriptors) {
    SimulationOptions options = kind();
    options.descriptors_max = 3;
    EXPECT_EQ(Bench(options).made, -EMFILE);
}

// What the production layer makes of each level.
TEST(SimRing, ring_opens_at_every_level) {
    for (RingLevel level : levels) {
        SimKernel kernel(kind(level));
        Ring ring(kernel.ring_calls());
        Ring::Failure failure{"", 0};
        ASSERT_FALSE(ring.open({64, 256, true, true, true, RingLimit::none}, failure))
            << failure.step;
        const bool newer = level != RingLevel::linux_5_15;
        EXPECT_EQ(ring.deferred(), newer);
        EXPECT_EQ(ring.registrable(), newer);
        EXPECT_EQ(ring.register_index(), newer);
        EXPECT_EQ(ring.skips_success(), newer);
        EXPECT_EQ(ring.hides_iowait(), level == RingLevel::linux_6_18);
        EXPECT_EQ(ring.opcode_supported(IORING_OP_SOCKET), newer);
        EXPECT_TRUE(ring.opcode_supported(IORING_OP_ACCEPT));
        EXPECT_EQ(!ring.buffers_open(0, 8), newer);
        ring.close();
        EXPECT_TRUE(kernel.open_descriptors().empty());
    }
}

TEST(SimRing, registered_index_belongs_to_its_thread) {
    SimKernel kernel(kind());
    Ring ring(kernel.ring_calls());
    Ring::Failure failure{"", 0};
    ASSERT_FALSE(ring.open({4, 8, false, true, false, RingLimit::none}, failure));
    ASSERT_TRUE(ring.register_index());
    int answer = 0;
    kernel.join(kernel.spawn([&] {
        answer = kernel.ring_calls().enter(0, 0, 0, IORING_ENTER_REGISTERED_RING, nullptr, 0);
    }));
    EXPECT_EQ(answer, -EBADF);
    EXPECT_EQ(kernel.ring_calls().enter(0, 0, 0, IORING_ENTER_REGISTERED_RING, nullptr, 0), 0);
    EXPECT_EQ(kernel.ring_calls().enter(99, 0, 0, 0, nullptr, 0), -EBADF);
}

TEST(SimRing, single_issuer_refuses_other_threads) {
    Bench bench(kind(), deferring);
    int answer = 0;
    bench.kernel.join(bench.kernel.spawn([&] { answer = bench.enter(0); }));
    EXPECT_EQ(answer, -EEXIST);
    EXPECT_EQ(bench.enter(0), 0);
}

TEST(SimRing, nop_and_unknown_entries) {
    Bench bench(kind());
    io_uring_prep_nop(bench.entry());
    bench.ring.sq.sqes[0].user_data = 7;
    EXPECT_EQ(bench.enter(1), 1);
    Answer answer = bench.next();
    EXPECT_EQ(answer.data, 7u);
    EXPECT_EQ(answer.result, 0);
    io_uring_sqe* sqe = bench.entry();
    io_uring_prep_nop(sqe);
    sqe->opcode = 63;
    io_uring_prep_nop(bench.entry());
    EXPECT_EQ(bench.enter(0), 1) << "a wrong entry ends the batch";
    EXPECT_EQ(bench.next().result, -EINVAL);
    EXPECT_EQ(bench.enter(0), 1);
    EXPECT_EQ(bench.next().result, 0);
}

TEST(SimRing, wait_ends_at_its_time) {
    for (unsigned flags : {0u, deferring}) {
        Bench bench(kind(), flags);
        const Instant before = bench.kernel.clock();
        EXPECT_EQ(bench.enter(1, 5ms), -ETIME);
        EXPECT_EQ(bench.kernel.clock() - before, 5ms);
    }
}

TEST(SimRing, full_completion_queue_overflows_and_loses_nothing) {
    for (RingLevel level : levels) {
        Bench bench(kind(level), 0, 4, 4);
        for (unsigned number = 0; number < 12; ++number) {
            io_uring_sqe* sqe = bench.entry();
            io_uring_prep_nop(sqe);
            sqe->user_data = number;
            if (number % 4 == 3 && level != RingLevel::linux_5_15) {
                EXPECT_EQ(bench.enter(0), 4);
            } else if (number % 4 == 3) {
                break;
            }
        }
        if (level == RingLevel::linux_5_15) {
            EXPECT_EQ(bench.enter(0), 4);
            io_uring_sqe* sqe = bench.entry();
            io_uring_prep_nop(sqe);
            sqe->user_data = 4;
            EXPECT_EQ(bench.enter(0), 1);
            io_uring_prep_nop(bench.entry());
            EXPECT_EQ(bench.enter(0), -EBUSY);
            EXPECT_EQ(bench.reap().size(), 4u);
            EXPECT_EQ(bench.enter(0), 1);
            EXPECT_EQ(bench.reap().size(), 2u);
            continue;
        }
        EXPECT_NE(*bench.ring.sq.kflags & IORING_SQ_CQ_OVERFLOW, 0u);
        std::uint64_t expected = 0;
        for (int round = 0; round < 3; ++round) {
            for (const Answer& answer : bench.reap()) EXPECT_EQ(answer.data, expected++);
            EXPECT_EQ(bench.enter(0), 0);
        }
        EXPECT_EQ(expected, 12u);
        EXPECT_EQ(*bench.ring.sq.kflags & IORING_SQ_CQ_OVERFLOW, 0u);
    }
}

TEST(SimRing, deferred_work_runs_only_inside_enter) {
    Bench bench(kind(), deferring);
    const auto [near, far] = bench.pair();
    char byte = 0;
    io_uring_prep_recv(bench.entry(), near, &byte, 1, 0);
    bench.submit();
    ASSERT_EQ(bench.kernel.send(far, "x", 1, 0), 1);
    bench.kernel.advance(1ms);
    EXPECT_EQ(io_uring_cq_ready(&bench.ring), 0u);
    EXPECT_NE(*bench.ring.sq.kflags & IORING_SQ_TASKRUN, 0u);
    pollfd asked{bench.ring.ring_fd, POLLIN, 0};
    EXPECT_EQ(bench.kernel.poll_now(&asked, 1), 1);
    EXPECT_EQ(bench.enter(0), 0);
    EXPECT_EQ(bench.next(0ns).result, 1);
    EXPECT_EQ(*bench.ring.sq.kflags & IORING_SQ_TASKRUN, 0u);
    EXPECT_EQ(byte, 'x');
}

TEST(SimRing, other_rings_complete_without_enter_and_tell_their_eventfd) {
    Bench bench(kind());
    int event = bench.kernel.eventfd(0, EFD_NONBLOCK);
    const auto ring = static_cast<unsigned>(bench.ring.ring_fd);
    EXPECT_EQ(bench.calls.io_register(ring, IORING_REGISTER_EVENTFD, &event, 1), 0);
    EXPECT_EQ(bench.calls.io_register(ring, IORING_REGISTER_EVENTFD, &event, 1), -EBUSY);
    const auto [near, far] = bench.pair();
    char byte = 0;
    io_uring_prep_recv(bench.entry(), near, &byte, 1, 0);
    bench.submit();
    ASSERT_EQ(bench.kernel.send(far, "x", 1, 0), 1);
    std::uint64_t count = 0;
    EXPECT_EQ(bench.kernel.read(event, &count, sizeof count), -EAGAIN);
    bench.kernel.advance(1ms);
    EXPECT_EQ(bench.kernel.read(event, &count, sizeof count), 8);
    ASSERT_EQ(bench.reap().size(), 1u);
}

TEST(SimRing, restrictions_count_from_when_the_ring_is_enabled) {
    Bench bench(kind(), IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL);
    EXPECT_EQ(bench.enter(0), -EBADFD);
    io_uring_restriction allowed[2] = {};
    allowed[0].opcode = IORING_RESTRICTION_SQE_OP;
    allowed[0].sqe_op = IORING_OP_NOP;
    allowed[1].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    const auto ring = static_cast<unsigned>(bench.ring.ring_fd);
    EXPECT_EQ(bench.calls.io_register(ring, IORING_REGISTER_RESTRICTIONS, allowed, 2), 0);
    EXPECT_EQ(bench.calls.io_register(ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0), 0);
    int event = 3;
    EXPECT_EQ(bench.calls.io_register(ring, IORING_REGISTER_EVENTFD, &event, 1), -EACCES);
    io_uring_prep_nop(bench.entry());
    io_uring_prep_poll_add(bench.entry(), bench.ring.ring_fd, POLLIN);
    EXPECT_EQ(bench.enter(2), 2);
    EXPECT_EQ(bench.next().result, 0);
    EXPECT_EQ(bench.next().result, -EACCES);
}

// --- operations

TEST(SimRing, connect_and_accept) {
    Bench bench(kind());
    const int listener = bench.listener();
    const int client = bench.kernel.socket(AF_INET, SOCK_STREAM, 0);
    io_uring_prep_accept(bench.entry(), listener, nullptr, nullptr, SOCK_CLOEXEC);
    io_uring_sqe* sqe = bench.entry();
    io_uring_prep_connect(sqe, client, reinterpret_cast<sockaddr*>(&bench.address),
                          sizeof bench.address);
    sqe->user_data = 1;
    bench.submit();
    int accepted = -1;
    for (int count = 0; count < 2; ++count) {
        const Answer answer = bench.next();
        if (answer.data == 1) EXPECT_EQ(answer.result, 0);
        else accepted = answer.result;
    }
    EXPECT_GE(accepted, 0);
    EXPECT_EQ(bench.kernel.send(accepted, "abc", 3, 0), 3);
    char text[3] = {};
    io_uring_prep_recv(bench.entry(), client, text, 3, 0);
    bench.submit();
    EXPECT_EQ(bench.next().result, 3);
    // Nobody listens there.
    const int other = bench.kernel.socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in nobody = Bench::loopback(1);
    io_uring_prep_connect(bench.entry(), other, reinterpret_cast<sockaddr*>(&nobody),
                          sizeof nobody);
    bench.submit();
    EXPECT_EQ(bench.next().result, -ECONNREFUSED);
}

TEST(SimRing, multishot_accept) {
    Bench bench(kind());
    const int listener = bench.listener();
    io_uring_prep_multishot_accept(bench.entry(), listener, nullptr, nullptr, 0);
    bench.submit();
    for (int count = 0; count < 3; ++count) {
        bench.dial();
        const Answer answer = bench.next();
        EXPECT_GE(answer.result, 0);
        EXPECT_TRUE(answer.more());
    }
    bench.kernel.descriptors_max = static_cast<std::uint32_t>(bench.dial() + 1);
    const Answer last = bench.next();
    EXPECT_EQ(last.result, -EMFILE);
    EXPECT_FALSE(last.more());
    Bench old(kind(RingLevel::linux_5_15));
    io_uring_prep_multishot_accept(old.entry(), old.listener(), nullptr, nullptr, 0);
    old.submit();
    EXPECT_EQ(old.next().result, -EINVAL);
}

TEST(SimRing, receive_waits_peeks_and_fills) {
    for (RingLevel level : levels) {
        Bench bench(kind(level));
        const auto [near, far] = bench.pair();
        char text[8] = {};
        io_uring_prep_recv(bench.entry(), near, text, 8, MSG_DONTWAIT);
        bench.submit();
        EXPECT_EQ(bench.next().result, -EAGAIN);
        bench.kernel.send(far, "abc", 3, 0);
        io_uring_prep_recv(bench.entry(), near, text, 8, MSG_PEEK);
        bench.submit();
        EXPECT_EQ(bench.next().result, 3);
        io_uring_prep_recv(bench.entry(), near, text, 8, MSG_WAITALL);
        bench.submit();
        bench.kernel.send(far, "defgh", 5, 0);
        const bool fills = level != RingLevel::linux_5_15;
        EXPECT_EQ(bench.next().result, fills ? 8 : 3);
        EXPECT_EQ(std::string(text, 3), "abc");
        bench.clear();
        if (!fills) continue;
        EXPECT_EQ(std::string(text, 8), "abcdefgh");
        // A cancel does not hide what came before.
        io_uring_sqe* sqe = bench.entry();
        io_uring_prep_recv(sqe, near, text, 8, MSG_WAITALL);
        sqe->user_data = 5;
        bench.submit();
        bench.kernel.send(far, "ij", 2, 0);
        bench.enter(0);
        io_uring_prep_cancel64(bench.entry(), 5, 0);
        bench.submit();
        EXPECT_EQ(bench.next().result, 0) << "the cancellation";
        EXPECT_EQ(bench.next().result, 2);
    }
}

TEST(SimRing, multishot_receive_takes_buffers) {
    Bench bench(kind(), deferring);
    Buffers buffers(bench, 4, 4);
    ASSERT_EQ(buffers.answer, 0);
    const auto [near, far] = bench.pair();
    const auto receive = [&bench, fd = near] {
        io_uring_sqe* sqe = bench.entry();
        io_uring_prep_recv(sqe, fd, nullptr, 0, 0);
        sqe->ioprio = IORING_RECV_MULTISHOT;
        sqe->flags = IOSQE_BUFFER_SELECT;
        bench.submit();
    };
    receive();
    EXPECT_EQ(bench.next().result, -ENOBUFS) << "the buffer is taken before anything is there";
    buffers.give(2);
    buffers.give(1);
    receive();
    bench.kernel.send(far, "abcdefghij", 10, 0);
    Answer answer = bench.next();
    EXPECT_EQ(buffers.text(answer), "abcd");
    EXPECT_TRUE(answer.more());
    EXPECT_EQ(answer.flags >> IORING_CQE_BUFFER_SHIFT, 2u);
    answer = bench.next();
    EXPECT_EQ(buffers.text(answer), "efgh");
    EXPECT_TRUE(answer.more());
    answer = bench.next();
    EXPECT_EQ(answer.result, -ENOBUFS);
    EXPECT_FALSE(answer.more());
    buffers.give(0);
    buffers.give(3);
    receive();
    answer = bench.next();
    EXPECT_EQ(buffers.text(answer), "ij");
    bench.kernel.close(far);
    for (answer = bench.next(); answer.more();) answer = bench.next();
    EXPECT_EQ(answer.result, 0);
}

TEST(SimRing, send_waits_for_room) {
    for (RingLevel level : levels) {
        SimulationOptions options = kind(level);
        options.send_buffer = options.receive_buffer = 1000;
        Bench bench(options);
        const auto [near, far] = bench.pair();
        const std::string text = pattern(5000);
        iovec parts[3] = {{const_cast<char*>(text.data()), 10},
                          {const_cast<char*>(text.data()) + 10, 3990},
                          {const_cast<char*>(text.data()) + 4000, 1000}};
        msghdr message{};
        message.msg_iov = parts;
        message.msg_iovlen = 3;
        io_uring_prep_sendmsg(bench.entry(), near, &message, MSG_WAITALL);
        bench.submit();
        std::string received;
        while (received.size() < 5000) {
            char some[700];
            const ssize_t got = bench.kernel.recv(far, some, sizeof some, 0);
            if (got > 0) received.append(some, static_cast<std::size_t>(got));
            else bench.enter(0);
            if (got <= 0 && level == RingLevel::linux_5_15) break;
        }
        const int expected = level == RingLevel::linux_5_15 ? 2000 : 5000;
        EXPECT_EQ(bench.next().result, expected);
        EXPECT_EQ(received, text.substr(0, static_cast<std::size_t>(expected)));
    }
}

TEST(SimRing, polls) {
    Bench bench(kind());
    const auto [near, far] = bench.pair();
    io_uring_prep_poll_add(bench.entry(), near, POLLIN);
    bench.submit();
    EXPECT_EQ(bench.next(1ms).data, UINT64_MAX);
    bench.kernel.send(far, "x", 1, 0);
    EXPECT_EQ(bench.next().result, POLLIN);
    // A multishot tells each wake-up, not each moment at which the condition holds.
    const int event = bench.kernel.eventfd(0, EFD_NONBLOCK);
    io_uring_sqe* sqe = bench.entry();
    io_uring_prep_poll_multishot(sqe, event, POLLIN);
    sqe->user_data = 9;
    bench.submit();
    const std::uint64_t one = 1;
    for (int count = 0; count < 3; ++count) {
        bench.kernel.write(event, &one, sizeof one);
        const Answer answer = bench.next();
        EXPECT_EQ(answer.result, POLLIN);
        EXPECT_TRUE(answer.more());
        EXPECT_EQ(bench.next(1ms).data, UINT64_MAX);
    }
    io_uring_prep_poll_remove(bench.entry(), 9);
    bench.submit();
    EXPECT_EQ(bench.next().result, 0);
    EXPECT_EQ(bench.next().result, -ECANCELED);
    io_uring_prep_poll_remove(bench.entry(), 9);
    bench.submit();
    EXPECT_EQ(bench.next().result, -ENOENT);
}

// As on Linux 6.18, a poll for priority data is not woken by it, and finds it when it is there before.
TEST(SimRing, polls_for_priority_data_sleep) {
    Bench bench(kind());
    const auto [near, far] = bench.pair();
    io_uring_prep_poll_add(bench.entry(), near, POLLPRI);
    bench.submit();
    bench.kernel.send(far, "!", 1, MSG_OOB);
    EXPECT_EQ(bench.next(1s).data, UINT64_MAX);
    io_uring_prep_poll_add(bench.entry(), near, POLLPRI);
    bench.submit();
    EXPECT_EQ(bench.next().result, POLLPRI);
}

TEST(SimRing, an_operation_holds_its_file) {
    Bench bench(kind(), deferring);
    const auto [near, far] = bench.pair();
    char text[4] = {};
    io_uring_sqe* sqe = bench.entry();
    io_uring_prep_recv(sqe, near, text, 4, 0);
    sqe->user_data = 1;
    bench.submit();
    bench.kernel.close(near);
    EXPECT_EQ(bench.kernel.socket(AF_INET, SOCK_STREAM, 0), near) << "the number is free";
    EXPECT_EQ(bench.kernel.send(far, "abc", 3, 0), 3);
    EXPECT_EQ(bench.next().result, 3);
    bench.kernel.advance(1ms);
    EXPECT_EQ(bench.kernel.recv(far, text, 4, 0), 0) << "now it has ended";
}

TEST(SimRing, silent_success) {
    Bench bench(kind());
    const auto [near, far] = bench.pair();
    static_cast<void>(far);
    io_uring_sqe* sqe = bench.entry();
    io_uring_prep_send(sqe, near, "x", 1, 0);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe = bench.entry();
    io_uring_prep_cancel64(sqe, 77, 0);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    bench.submit();
    EXPECT_EQ(bench.next().result, -ENOENT);
    EXPECT_EQ(bench.next(1ms).data, UINT64_MAX);
}

TEST(SimRing, close_and_shutdown) {
    Bench bench(kind());
    const auto [near, far] = bench.pair();
    io_uring_prep_shutdown(bench.entry(), near, SHUT_WR);
    io_uring_prep_close(bench.entry(), near);
    io_uring_prep_close(bench.entry(), near);
    bench.submit();
    EXPECT_EQ(bench.next().result, 0);
    EXPECT_EQ(bench.next().result, 0);
    EXPECT_EQ(bench.next().result, -EBADF);
    char byte = 0;
    EXPECT_EQ(bench.kernel.recv(far, &byte, 1, 0), 0);
}

}  // namespace
}  // namespace whorl::sim_ring_test
