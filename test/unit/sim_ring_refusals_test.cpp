// SPDX-License-Identifier: MIT
// Goal: the simulated ring refuses wrong entries, registrations and calls with the errors of Linux.
// Method: tables of what is wrong and how it is refused, asked of the simulated ring; and of the
// machine's own, where that is as new as the simulated one.
#include "unit/sim_ring_bench.hpp"

#include <linux/openat2.h>

#include <functional>

namespace whorl::sim_ring_test {
namespace {

using whorl::detail::System;

// A ring of either kernel, driven by hand.
class Asked {
  public:
    explicit Asked(System& asked, unsigned flags = 0) : system(asked), calls(asked.ring_calls()) {
        io_uring_params params{};
        params.flags = flags;
        made = calls.setup(8, ring, params);
        features = params.features;
        for (unsigned index = 0; made == 0 && index < ring.sq.ring_entries; ++index) {
            ring.sq.array[index] = index;
        }
    }
    Asked(const Asked&) = delete;
    Asked& operator=(const Asked&) = delete;
    ~Asked() {
        for (const int fd : kept_) system.close(fd);
        if (made == 0) calls.exit(ring);
    }

    static constexpr int no_answer = 9999;
    int enter(unsigned submit, unsigned complete) {
        __kernel_timespec time{5, 0};
        io_uring_getevents_arg argument{};
        argument.ts = reinterpret_cast<std::uintptr_t>(&time);
        return calls.enter(fd(), submit, complete, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                           &argument, sizeof argument);
    }
    // The result of one entry that is answered at once.
    int result(const std::function<void(io_uring_sqe&)>& fill, unsigned awaited = 1) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring);
        *sqe = io_uring_sqe{};
        sqe->fd = -1;
        fill(*sqe);
        sqe->user_data = 7;
        io_uring_smp_store_release(ring.sq.ktail, ring.sq.sqe_tail);
        static_cast<void>(enter(1, awaited));
        if (io_uring_cq_ready(&ring) == 0) return no_answer;
        const io_uring_cqe first = ring.cq.cqes[*ring.cq.khead & ring.cq.ring_mask];
        io_uring_cq_advance(&ring, 1);
        if ((first.flags & IORING_CQE_F_MORE) == 0) return first.res;
        // Of memory that was to be sent without a copy: it is free.
        if (io_uring_cq_ready(&ring) == 0) static_cast<void>(enter(0, 1));
        if (io_uring_cq_ready(&ring) != 1) return no_answer;
        io_uring_cq_advance(&ring, 1);
        return first.res;
    }
    int control(unsigned opcode, void* argument, unsigned count) {
        return calls.io_register(fd(), opcode, argument, count);
    }
    unsigned fd() const { return static_cast<unsigned>(ring.ring_fd); }
    int keep(int number) {
        kept_.push_back(number);
        return number;
    }

    System& system;
    RingCalls& calls;
    io_uring ring{};
    int made = -1;
    unsigned features = 0;

  private:
    std::vector<int> kept_;
};

constexpr unsigned features_6_18 = 0x3FFFF;

// Runs the questions in a simulated kernel and, where it is new enough, on the machine's.
void ask(const std::function<void(System&, const char*)>& questions) {
    SimKernel kernel(kind());
    questions(kernel, "simulated");
    System& machine = whorl::detail::real_system();
    const Asked probe(machine);
    if (probe.made == 0 && (probe.features & features_6_18) == features_6_18) {
        questions(machine, "the machine's");
    }
}

struct Entry {
    const char* name;
    int expected;
    std::function<void(io_uring_sqe&)> fill;
};

TEST(SimRingRefusals, entries_that_are_wrong) {
    ask([](System& system, const char* whose) {
        Asked ring(system);
        ASSERT_EQ(ring.made, 0);
        const int event_fd = ring.keep(system.eventfd(0, EFD_NONBLOCK));
        const int socket = ring.keep(system.socket(AF_INET, SOCK_STREAM, 0));
        const int datagrams = ring.keep(system.socket(AF_INET, SOCK_DGRAM, 0));
        static const sockaddr_in here = Bench::loopback(9);
        static char bytes[64];
        static iovec part{bytes, 1};
        static msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        static open_how how{};
        const auto at = [](const void* data) { return reinterpret_cast<std::uintptr_t>(data); };
        const auto on = [](std::uint8_t opcode, int fd) {
            return [opcode, fd](io_uring_sqe& sqe) {
                sqe.opcode = opcode;
                sqe.fd = fd;
                sqe.addr = reinterpret_cast<std::uintptr_t>(bytes);
                sqe.len = opcode == IORING_OP_ACCEPT || opcode == IORING_OP_POLL_ADD ? 0 : 1;
                if (opcode == IORING_OP_ACCEPT || opcode == IORING_OP_POLL_ADD) sqe.addr = 0;
                if (opcode == IORING_OP_CONNECT) {
                    sqe.addr = reinterpret_cast<std::uintptr_t>(&here);
                    sqe.len = 0;
                    sqe.off = sizeof here;
                }
                if (opcode == IORING_OP_SENDMSG || opcode == IORING_OP_RECVMSG)
                    sqe.addr = reinterpret_cast<std::uintptr_t>(&message);
            };
        };
        const auto also = [](const std::function<void(io_uring_sqe&)>& first,
                             const std::function<void(io_uring_sqe&)>& then) {
            return [first, then](io_uring_sqe& sqe) {
                first(sqe);
                then(sqe);
            };
        };
        constexpr std::uint16_t none = 1u << 14;  // of ioprio
        const auto ioprio = [](unsigned bits) {
            return [bits](io_uring_sqe& sqe) { sqe.ioprio = static_cast<std::uint16_t>(bits); };
        };
        const auto flags = [](unsigned bits) {
            return [bits](io_uring_sqe& sqe) { sqe.flags = static_cast<std::uint8_t>(bits); };
        };
        std::vector<Entry> table = {
            {"no such operation", -EINVAL, on(250, -1)},
            {"no such flag", -EINVAL, also(on(IORING_OP_NOP, -1), flags(1u << 7))},
            {"buffers for nothing", -EOPNOTSUPP,
             also(on(IORING_OP_ACCEPT, socket), flags(IOSQE_BUFFER_SELECT))},
            {"cancel in no such way", -EINVAL,
             [](io_uring_sqe& sqe) {
                 sqe.opcode = IORING_OP_ASYNC_CANCEL;
                 sqe.cancel_flags = 1u << 31;
             }},
            {"cancel what is not there", -ENOENT,
             [](io_uring_sqe& sqe) {
                 sqe.opcode = IORING_OP_ASYNC_CANCEL;
                 sqe.addr = 77;
             }},
            {"remove a poll in no such way", -EINVAL,
             [](io_uring_sqe& sqe) {
                 sqe.opcode = IORING_OP_POLL_REMOVE;
                 sqe.len = 1u << 31;
             }},
            {"remove a poll that is not there", -ENOENT,
             [](io_uring_sqe& sqe) {
                 sqe.opcode = IORING_OP_POLL_REMOVE;
                 sqe.addr = 77;
             }},
            {"close none", -EBADF, [](io_uring_sqe& sqe) { sqe.opcode = IORING_OP_CLOSE; }},
            {"shut down none", -EBADF, [](io_uring_sqe& sqe) { sqe.opcode = IORING_OP_SHUTDOWN; }},
            {"shut down what is no socket", -ENOTSOCK,
             [event_fd](io_uring_sqe& sqe) {
                 sqe.opcode = IORING_OP_SHUTDOWN;
                 sqe.fd = event_fd;
             }},
            {"poll with no such flag", -EINVAL,
             also(on(IORING_OP_POLL_ADD, event_fd), [](io_uring_sqe& sqe) { sqe.len = 1u << 31; })},
            {"poll none", -EBADF, on(IORING_OP_POLL_ADD, -1)},
            {"connect to a short address", -EINVAL,
             also(on(IORING_OP_CONNECT, socket), [](io_uring_sqe& sqe) { sqe.off = 4; })},
            {"accept with no such flag", -EINVAL, also(on(IORING_OP_ACCEPT, socket), ioprio(none))},
            {"accept of what does not listen", -EINVAL, on(IORING_OP_ACCEPT, socket)},
            {"receive with no such flag", -EINVAL, also(on(IORING_OP_RECV, socket), ioprio(none))},
            {"receive on and on into one buffer", -EINVAL,
             also(also(on(IORING_OP_RECV, socket), ioprio(IORING_RECV_MULTISHOT)),
                  [](io_uring_sqe& sqe) { sqe.len = 0; })},
            {"receive all on and on", -EINVAL,
             also(also(on(IORING_OP_RECV, socket), ioprio(IORING_RECV_MULTISHOT)),
                  [](io_uring_sqe& sqe) {
                      sqe.len = 0;
                      sqe.flags = IOSQE_BUFFER_SELECT;
                      sqe.msg_flags = MSG_WAITALL;
                  })},
            {"send with no such flag", -EINVAL, also(on(IORING_OP_SEND, socket), ioprio(none))},
            {"send a message with no such flag", -EINVAL,
             also(on(IORING_OP_SENDMSG, socket), ioprio(none))},
            {"send unconnected", -EPIPE,
             also(on(IORING_OP_SEND, socket),
                  [](io_uring_sqe& sqe) { sqe.msg_flags = MSG_NOSIGNAL; })},
            {"receive unconnected", -ENOTCONN, on(IORING_OP_RECV, socket)},
            {"open how", -EINVAL,
             [&at](io_uring_sqe& sqe) {
                 sqe.opcode = IORING_OP_OPENAT2;
                 sqe.fd = AT_FDCWD;
                 sqe.addr = at("/tmp");
                 sqe.off = at(&how);
                 sqe.len = 4;
             }},
            {"read into memory of no table", -EFAULT, on(IORING_OP_READ_FIXED, event_fd)},
            {"receive a message with no such flag", -EINVAL,
             also(on(IORING_OP_RECVMSG, datagrams), ioprio(none))},
            {"receive messages on and on into one buffer", -EINVAL,
             also(on(IORING_OP_RECVMSG, datagrams), ioprio(IORING_RECV_MULTISHOT))},
            {"send a message to nobody", -EDESTADDRREQ, on(IORING_OP_SENDMSG, datagrams)},
            {"send no copy with no such flag", -EINVAL,
             also(on(IORING_OP_SEND_ZC, socket), ioprio(none))},
        };
        for (const int opcode : {IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_SEND,
                                 IORING_OP_CONNECT, IORING_OP_SENDMSG, IORING_OP_SEND_ZC}) {
            const auto number = static_cast<std::uint8_t>(opcode);
            table.push_back({"on what is no socket", -ENOTSOCK, on(number, event_fd)});
            table.push_back({"on none", -EBADF, on(number, 12345)});
        }
        for (const Entry& entry : table) {
            EXPECT_EQ(ring.result(entry.fill), entry.expected) << entry.name << ", " << whose;
        }
    });
}

TEST(SimRingRefusals, calls_that_are_wrong) {
    ask([](System& system, const char* whose) {
        Asked ring(system);
        ASSERT_EQ(ring.made, 0);
        const auto event_fd = static_cast<unsigned>(ring.keep(system.eventfd(0, EFD_NONBLOCK)));
        io_uring_getevents_arg argument{};
        RingCalls& calls = ring.calls;
        const auto enter = [&](unsigned fd, unsigned flags, std::size_t size) {
            return calls.enter(fd, 0, 0, flags, &argument, size);
        };
        EXPECT_EQ(enter(12345, 0, 0), -EBADF) << whose;
        EXPECT_EQ(enter(event_fd, 0, 0), -EOPNOTSUPP) << whose;
        EXPECT_EQ(enter(ring.fd(), 1u << 31, 0), -EINVAL) << whose;
        const unsigned extended = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
        EXPECT_EQ(enter(ring.fd(), extended, sizeof argument - 1), -EINVAL) << whose;
        EXPECT_EQ(enter(ring.fd(), extended, sizeof argument), 0) << whose;
        EXPECT_EQ(enter(16, IORING_ENTER_REGISTERED_RING, 0), -EINVAL) << whose;
        EXPECT_EQ(enter(5, IORING_ENTER_REGISTERED_RING, 0), -EBADF) << whose;
        EXPECT_EQ(calls.io_register(12345, IORING_REGISTER_PROBE, &argument, 1), -EBADF) << whose;
        EXPECT_EQ(calls.io_register(event_fd, IORING_REGISTER_PROBE, &argument, 1), -EOPNOTSUPP)
            << whose;
        EXPECT_EQ(ring.control(200, &argument, 1), -EINVAL) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_ENABLE_RINGS, nullptr, 0), -EBADFD) << whose;
        alignas(io_uring_probe) char
            room[sizeof(io_uring_probe) + 300 * sizeof(io_uring_probe_op)] = {};
        EXPECT_EQ(ring.control(IORING_REGISTER_PROBE, room, 257), -EINVAL) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_PROBE, nullptr, 1), -EINVAL) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_PROBE, room, 256), 0) << whose;
        // An index beyond the entries: counted, and nothing else.
        ring.ring.sq.array[0] = 99;
        EXPECT_EQ(ring.result([](io_uring_sqe& sqe) { sqe.opcode = IORING_OP_NOP; }),
                  Asked::no_answer)
            << whose;
        EXPECT_EQ(*ring.ring.sq.kdropped, 1u) << whose;
    });
}

TEST(SimRingRefusals, event_descriptors) {
    ask([](System& system, const char* whose) {
        Asked ring(system);
        ASSERT_EQ(ring.made, 0);
        int event_fd = ring.keep(system.eventfd(0, EFD_NONBLOCK)), none = 12345;
        int fds[2] = {-1, -1};
        ASSERT_EQ(system.pipe2(fds, O_CLOEXEC), 0);
        ring.keep(fds[0]);
        ring.keep(fds[1]);
        EXPECT_EQ(ring.control(IORING_UNREGISTER_EVENTFD, nullptr, 0), -ENXIO) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_EVENTFD, &event_fd, 2), -EINVAL) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_EVENTFD, &none, 1), -EBADF) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_EVENTFD, &fds[0], 1), -EINVAL) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_EVENTFD, &event_fd, 1), 0) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_EVENTFD, &event_fd, 1), -EBUSY) << whose;
        EXPECT_EQ(ring.control(IORING_UNREGISTER_EVENTFD, nullptr, 0), 0) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_EVENTFD, &event_fd, 1), 0) << whose;
    });
}

TEST(SimRingRefusals, restrictions) {
    ask([](System& system, const char* whose) {
        io_uring_restriction allowed[5] = {};
        allowed[0].opcode = IORING_RESTRICTION_REGISTER_OP;
        allowed[0].register_op = IORING_REGISTER_ENABLE_RINGS;
        allowed[1].opcode = IORING_RESTRICTION_SQE_OP;
        allowed[1].sqe_op = IORING_OP_NOP;
        allowed[2].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
        allowed[2].sqe_flags = IOSQE_CQE_SKIP_SUCCESS;
        allowed[3].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
        allowed[3].sqe_flags = IOSQE_ASYNC;
        allowed[4].opcode = 99;
        Asked open(system);
        ASSERT_EQ(open.made, 0);
        EXPECT_EQ(open.control(IORING_REGISTER_RESTRICTIONS, allowed, 4), -EBADFD) << whose;
        Asked odd(system, IORING_SETUP_R_DISABLED);
        EXPECT_EQ(odd.control(IORING_REGISTER_RESTRICTIONS, allowed, 5), -EINVAL) << whose;
        Asked ring(system, IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER);
        ASSERT_EQ(ring.made, 0);
        EXPECT_EQ(ring.enter(0, 0), -EBADFD) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_RESTRICTIONS, allowed, 4), 0) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_RESTRICTIONS, allowed, 4), -EBUSY) << whose;
        EXPECT_EQ(ring.control(IORING_REGISTER_ENABLE_RINGS, nullptr, 0), 0) << whose;
        int event_fd = ring.keep(system.eventfd(0, EFD_NONBLOCK));
        EXPECT_EQ(ring.control(IORING_REGISTER_EVENTFD, &event_fd, 1), -EACCES) << whose;
        EXPECT_EQ(ring.control(999, &event_fd, 1), -EINVAL) << whose << ": of no kind";
        const auto nop = [&ring](unsigned flags, unsigned opcode = IORING_OP_NOP) {
            const unsigned awaited = (flags & IOSQE_CQE_SKIP_SUCCESS) != 0 ? 0 : 1;
            const auto fill = [flags, opcode](io_uring_sqe& sqe) {
                sqe.opcode = static_cast<std::uint8_t>(opcode);
                sqe.flags = static_cast<std::uint8_t>(flags);
            };
            return ring.result(fill, awaited);
        };
        EXPECT_EQ(nop(IOSQE_ASYNC), 0) << whose;
        EXPECT_EQ(nop(0), -EACCES) << whose << ": lacks a flag that it must have";
        EXPECT_EQ(nop(IOSQE_ASYNC | IOSQE_BUFFER_SELECT), -EOPNOTSUPP) << whose;
        EXPECT_EQ(nop(IOSQE_ASYNC, IORING_OP_CLOSE), -EACCES) << whose;
        EXPECT_EQ(nop(IOSQE_ASYNC | IOSQE_CQE_SKIP_SUCCESS), Asked::no_answer) << whose;
    });
}

TEST(SimRingRefusals, rings_of_buffers) {
    ask([](System& system, const char* whose) {
        Asked ring(system);
        ASSERT_EQ(ring.made, 0);
        void* memory = mmap(nullptr, 8192, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        ASSERT_NE(memory, MAP_FAILED);
        const auto registered = [&](unsigned opcode, unsigned entries, std::uintptr_t skip,
                                    unsigned count, unsigned group) {
            io_uring_buf_reg registration{};
            registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory) + skip;
            registration.ring_entries = entries;
            registration.bgid = static_cast<std::uint16_t>(group);
            return ring.control(opcode, &registration, count);
        };
        constexpr unsigned makes = IORING_REGISTER_PBUF_RING, ends = IORING_UNREGISTER_PBUF_RING;
        EXPECT_EQ(registered(makes, 0, 0, 1, 1), -EINVAL) << whose;
        EXPECT_EQ(registered(makes, 3, 0, 1, 1), -EINVAL) << whose;
        EXPECT_EQ(registered(makes, 65536, 0, 1, 1), -EINVAL) << whose;
        EXPECT_EQ(registered(makes, 8, 8, 1, 1), -EINVAL) << whose << ": not at a page";
        EXPECT_EQ(registered(makes, 8, 0, 2, 1), -EINVAL) << whose;
        EXPECT_EQ(registered(ends, 0, 0, 1, 1), -ENOENT) << whose;
        const auto start = reinterpret_cast<std::uintptr_t>(memory);
        EXPECT_EQ(registered(makes, 8, 0 - start, 1, 1), -EFAULT) << whose << ": nowhere";
        io_uring_buf_reg odd{};
        odd.ring_addr = start;
        odd.ring_entries = 8;
        odd.resv[0] = 1;
        EXPECT_EQ(ring.control(makes, &odd, 1), -EINVAL) << whose << ": reserved for others";
        EXPECT_EQ(registered(makes, 8, 0, 1, 1), 0) << whose;
        EXPECT_EQ(registered(makes, 8, 0, 1, 1), -EEXIST) << whose;
        EXPECT_EQ(registered(makes, 8, 4096, 1, 2), 0) << whose;
        EXPECT_EQ(registered(ends, 0, 0, 2, 1), -EINVAL) << whose;
        EXPECT_EQ(registered(ends, 0, 0, 1, 1), 0) << whose;
        EXPECT_EQ(registered(ends, 0, 0, 1, 1), -ENOENT) << whose;
        EXPECT_EQ(registered(ends, 0, 0, 1, 2), 0) << whose;
        munmap(memory, 8192);
    });
}

TEST(SimRingRefusals, registered_rings) {
    ask([](System& system, const char* whose) {
        Asked ring(system);
        ASSERT_EQ(ring.made, 0);
        const auto at = [&ring](unsigned opcode, std::uint32_t offset, std::int64_t fd) {
            io_uring_rsrc_update update{};
            update.offset = offset;
            update.data = static_cast<std::uint64_t>(fd);
            return ring.control(opcode, &update, 1);
        };
        constexpr unsigned makes = IORING_REGISTER_RING_FDS, ends = IORING_UNREGISTER_RING_FDS;
        EXPECT_EQ(ring.control(makes, nullptr, 0), -EINVAL) << whose;
        EXPECT_EQ(at(makes, UINT32_MAX, 12345), -EBADF) << whose;
        EXPECT_EQ(at(makes, 16, ring.fd()), -EINVAL) << whose;
        EXPECT_EQ(at(makes, 3, ring.fd()), 1) << whose;
        EXPECT_EQ(at(makes, 3, ring.fd()), -EBUSY) << whose;
        int taken = 1;
        while (at(makes, UINT32_MAX, ring.fd()) == 1 && taken < 100) ++taken;
        EXPECT_EQ(taken, 16) << whose;
        EXPECT_EQ(at(makes, UINT32_MAX, ring.fd()), -EBUSY) << whose;
        EXPECT_EQ(at(ends, 16, 0), -EINVAL) << whose;
        for (std::uint32_t index = 0; index < 16; ++index) EXPECT_EQ(at(ends, index, 0), 1);
        EXPECT_EQ(at(ends, 5, 0), 1) << whose << ": of nothing";
    });
}

TEST(SimRingRefusals, registered_memory) {
    ask([](System& system, const char* whose) {
        Asked ring(system);
        ASSERT_EQ(ring.made, 0);
        io_uring_rsrc_register table{};
        table.nr = 4;
        table.flags = IORING_RSRC_REGISTER_SPARSE;
        const auto makes = [&](unsigned size) {
            return ring.control(IORING_REGISTER_BUFFERS2, &table, size);
        };
        char bytes[64] = {};
        iovec part{bytes, sizeof bytes};
        io_uring_rsrc_update2 update{};
        update.data = reinterpret_cast<std::uintptr_t>(&part);
        update.nr = 1;
        const auto updates = [&](unsigned size) {
            return ring.control(IORING_REGISTER_BUFFERS_UPDATE, &update, size);
        };
        EXPECT_EQ(makes(sizeof table - 1), -EINVAL) << whose;
        EXPECT_EQ(updates(sizeof update), -ENXIO) << whose;
        table.nr = 0;
        EXPECT_EQ(makes(sizeof table), -EINVAL) << whose;
        table.nr = (1u << 14) + 1;
        EXPECT_EQ(makes(sizeof table), -EINVAL) << whose;
        table.nr = 4;
        table.data = reinterpret_cast<std::uintptr_t>(&part);
        EXPECT_EQ(makes(sizeof table), -EINVAL) << whose << ": something in a table of nothing";
        table.data = 0;
        table.flags = 1u << 31;
        EXPECT_EQ(makes(sizeof table), -EINVAL) << whose;
        table.flags = IORING_RSRC_REGISTER_SPARSE;
        EXPECT_EQ(makes(sizeof table), 0) << whose;
        EXPECT_EQ(makes(sizeof table), -EBUSY) << whose;
        EXPECT_EQ(updates(sizeof update - 1), -EINVAL) << whose;
        update.offset = 4;
        EXPECT_EQ(updates(sizeof update), -EINVAL) << whose;
        update.offset = 0;
        update.nr = 0;
        EXPECT_EQ(updates(sizeof update), -EINVAL) << whose;
        update.nr = 1;
        EXPECT_EQ(updates(sizeof update), 1) << whose;
        const auto fixed = [&ring](unsigned place, const char* data, unsigned size) {
            return ring.result([place, data, size](io_uring_sqe& sqe) {
                sqe.opcode = IORING_OP_READ_FIXED;
                sqe.fd = 12345;
                sqe.buf_index = static_cast<std::uint16_t>(place);
                sqe.addr = reinterpret_cast<std::uintptr_t>(data);
                sqe.len = size;
            });
        };
        EXPECT_EQ(fixed(0, bytes, 8), -EBADF) << whose;
    });
}

// --- only the simulated one

TEST(SimRingRefusals, registering_from_another_thread) {
    Bench bench(kind(), IORING_SETUP_SINGLE_ISSUER);
    const auto fd = static_cast<unsigned>(bench.ring.ring_fd);
    int event_fd = bench.kernel.eventfd(0, 0), other = 0;
    const auto registers = [&] {
        return bench.calls.io_register(fd, IORING_REGISTER_EVENTFD, &event_fd, 1);
    };
    bench.kernel.join(bench.kernel.spawn([&] { other = registers(); }));
    EXPECT_EQ(other, -EEXIST);
    EXPECT_EQ(registers(), 0);
}

TEST(SimRingRefusals, no_ring_is_made_where_calls_fail) {
    SimulationOptions options = kind();
    options.call_error = 1;
    EXPECT_EQ(Bench(options).made, -EMFILE);
}

TEST(SimRingRefusals, what_an_older_kernel_does_not_know) {
    Bench bench(kind(RingLevel::linux_5_15));
    const auto fd = static_cast<unsigned>(bench.ring.ring_fd);
    io_uring_buf_reg registration{};
    io_uring_rsrc_update update{};
    for (const unsigned opcode :
         {IORING_REGISTER_PBUF_RING, IORING_UNREGISTER_PBUF_RING, IORING_REGISTER_RING_FDS}) {
        void* argument = opcode == IORING_REGISTER_RING_FDS ? static_cast<void*>(&update)
                                                            : static_cast<void*>(&registration);
        EXPECT_EQ(bench.calls.io_register(fd, opcode, argument, 1), -EINVAL) << opcode;
    }
    const auto [first, second] = bench.pair();
    char byte = 0;
    for (const unsigned flag : {IORING_RECV_MULTISHOT, IORING_RECVSEND_POLL_FIRST}) {
        io_uring_sqe* sqe = bench.entry();
        io_uring_prep_recv(sqe, first, &byte, 1, 0);
        sqe->ioprio = static_cast<std::uint16_t>(flag);
        bench.submit();
        EXPECT_EQ(bench.next().result, -EINVAL);
    }
    io_uring_sqe* sqe = bench.entry();
    io_uring_prep_multishot_accept(sqe, second, nullptr, nullptr, 0);
    bench.submit();
    EXPECT_EQ(bench.next().result, -EINVAL);
}

}  // namespace
}  // namespace whorl::sim_ring_test
