// SPDX-License-Identifier: MIT
// Goal: a limited ring does what whorl asks of it and nothing else, and a level has nothing newer than
// its kernel. Method: rings alone, without a loop; submissions and registrations that whorl never makes,
// and those of a newer level, are answered with EACCES by the kernel.
#include "backend/ring_limit.hpp"
#include "backend/ring.hpp"

#include <gtest/gtest.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace whorl::detail {
namespace {

constexpr RingLimit limits[] = {RingLimit::used, RingLimit::linux_5_15, RingLimit::linux_6_1,
                                RingLimit::linux_6_18};

class RingLimited : public testing::TestWithParam<RingLimit> {
  protected:
    void SetUp() override {
        if (!open(GetParam())) GTEST_SKIP() << "this machine refuses io_uring";
    }
    bool open(RingLimit limit) {
        Ring::Setup setup{};
        setup.entries = 8;
        setup.completion_entries = 16;
        setup.defer_taskrun = !ring_limit_older(limit, RingLimit::linux_6_1);
        setup.registered = setup.defer_taskrun;
        setup.limit = limit;
        Ring::Failure failure{"", 0};
        const Error error = ring_.open(setup, failure);
        EXPECT_TRUE(!error || std::getenv("WHORL_TEST_NO_SKIP") == nullptr) << failure.step;
        return !error;
    }
    // What the kernel answers to one submission, which `prepare` writes.
    template <class Prepare>
    int answer(Prepare prepare) {
        io_uring_sqe* sqe = ring_.entry();
        prepare(sqe);
        sqe->user_data = 7;
        EXPECT_FALSE(ring_.enter(1, std::chrono::seconds(5)));
        if (ring_.completions() == 0) return -ETIME;
        EXPECT_EQ(ring_.completion(0).user_data, 7u);
        const int result = ring_.completion(0).res;
        ring_.pop(1);
        return result;
    }
    static bool at_least(RingLimit level) { return !ring_limit_older(GetParam(), level); }

    Ring ring_{real_ring_calls()};
};

TEST_P(RingLimited, does_what_whorl_uses) {
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_nop(sqe); }), 0);
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_poll_add(sqe, -1, POLLIN); }), -EBADF);
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_cancel64(sqe, 99, 0); }), -ENOENT);
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_connect(sqe, -1, nullptr, 0); }),
              -EBADF);
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_accept(sqe, -1, nullptr, nullptr, 0); }),
              -EBADF);
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_send(sqe, -1, nullptr, 0, 0); }),
              -EBADF);
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_recv(sqe, -1, nullptr, 0, 0); }),
              -EBADF);
    // Linux 6.0.
    const auto zero_copy = [](io_uring_sqe* sqe) {
        io_uring_prep_send(sqe, -1, nullptr, 0, 0);
        sqe->opcode = IORING_OP_SEND_ZC;
    };
    const bool has_zero_copy = GetParam() != RingLimit::linux_5_15;
    EXPECT_EQ(answer(zero_copy), has_zero_copy ? -EBADF : -EACCES);
    EXPECT_FALSE(ring_.probe_refused());
}

TEST_P(RingLimited, opens_reads_and_writes_no_file_when_sealed) {
    char byte = 0;
    const auto open = [](io_uring_sqe* sqe) {
        io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
    };
    // A level has them, for whorl's operations on files.
    const bool sealed = GetParam() == RingLimit::used;
    const auto read = [&](io_uring_sqe* sqe) { io_uring_prep_read(sqe, -1, &byte, 1, 0); };
    const auto write = [&](io_uring_sqe* sqe) { io_uring_prep_write(sqe, -1, &byte, 1, 0); };
    const auto unlink = [](io_uring_sqe* sqe) { io_uring_prep_unlink(sqe, "/nowhere", 0); };
    EXPECT_EQ(answer(read), sealed ? -EACCES : -EBADF);
    EXPECT_EQ(answer(write), sealed ? -EACCES : -EBADF);
    EXPECT_EQ(answer(unlink), sealed ? -EACCES : -ENOENT);
    EXPECT_EQ(answer(open), -EACCES);
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_close(sqe, 1000); }), -EACCES);
    // Registered memory.
    const bool registers = !sealed && at_least(RingLimit::linux_6_1);
    const auto fixed = [&](io_uring_sqe* sqe) {
        io_uring_prep_read_fixed(sqe, -1, &byte, 1, 0, 0);
    };
    EXPECT_EQ(answer(fixed) == -EACCES, !registers);
    EXPECT_EQ(ring_.memory_open(4).value(), registers ? 0 : EACCES);
    EXPECT_EQ(ring_.memory_put(0, &byte, 1).value(), registers ? 0 : EACCES);
}

TEST_P(RingLimited, opens_no_socket_and_sends_to_no_ring) {
    EXPECT_EQ(
        answer([](io_uring_sqe* sqe) { io_uring_prep_socket(sqe, AF_INET, SOCK_STREAM, 0, 0); }),
        -EACCES);
    EXPECT_EQ(answer([](io_uring_sqe* sqe) { io_uring_prep_msg_ring(sqe, 0, 0, 0, 0); }), -EACCES);
}

TEST_P(RingLimited, knows_only_the_flags_of_its_level) {
    const int newer = at_least(RingLimit::linux_6_1) ? 0 : -EACCES;
    EXPECT_EQ(ring_.skips_success(), newer == 0);
    // A no-op that fails, so that there is an answer even when success is skipped.
    const auto skipping = [](io_uring_sqe* sqe) {
        io_uring_prep_poll_add(sqe, -1, POLLIN);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    };
    EXPECT_EQ(answer(skipping), newer == 0 ? -EBADF : -EACCES);
    const auto fixed = [](io_uring_sqe* sqe) {
        io_uring_prep_nop(sqe);
        sqe->flags |= IOSQE_FIXED_FILE;
    };
    EXPECT_EQ(answer(fixed), -EACCES);
    const auto punted = [](io_uring_sqe* sqe) {
        io_uring_prep_nop(sqe);
        sqe->flags |= IOSQE_ASYNC;
    };
    EXPECT_EQ(answer(punted), -EACCES);
}

TEST_P(RingLimited, registers_only_what_its_level_has) {
    EXPECT_EQ(ring_.registrable(), at_least(RingLimit::linux_6_1));
    EXPECT_EQ(ring_.register_index(), at_least(RingLimit::linux_6_1));
    const Error error = ring_.buffers_open(0, 2);
    if (at_least(RingLimit::linux_6_1)) EXPECT_FALSE(error);
    else EXPECT_EQ(error.value(), EACCES);
    EXPECT_EQ(ring_.register_event_fd(-1).value(), EBADF) << "allowed, and no descriptor";
}

// The descriptor of this process that is a ring.
int ring_descriptor() {
    DIR* directory = opendir("/proc/self/fd");
    int found = -1;
    while (const dirent* entry = readdir(directory)) {
        char target[64] = {};
        const std::string path = std::string("/proc/self/fd/") + entry->d_name;
        if (readlink(path.c_str(), target, sizeof target - 1) > 0 &&
            std::string(target) == "anon_inode:[io_uring]") {
            found = std::atoi(entry->d_name);
        }
    }
    closedir(directory);
    return found;
}

TEST_P(RingLimited, registers_no_buffers_files_or_new_limits) {
    const int fd = ring_descriptor();
    ASSERT_GE(fd, 0);
    const auto answer_to = [fd](unsigned what, const void* argument, unsigned count) {
        return io_uring_register(static_cast<unsigned>(fd), what, argument, count);
    };
    char byte = 0;
    const iovec part{&byte, 1};
    EXPECT_EQ(answer_to(IORING_REGISTER_BUFFERS, &part, 1), -EACCES);
    EXPECT_EQ(answer_to(IORING_REGISTER_FILES, &fd, 1), -EACCES);
    EXPECT_EQ(answer_to(IORING_REGISTER_PERSONALITY, nullptr, 0), -EACCES);
    io_uring_restriction list[ring_limit_entries_max];
    const unsigned count = ring_limit_list(RingLimit::used, false, list);
    EXPECT_LT(answer_to(IORING_REGISTER_RESTRICTIONS, list, count), 0);
}

std::string limit_name(const testing::TestParamInfo<RingLimit>& info) {
    const char* names[] = {"none", "used", "linux_5_15", "linux_6_1", "linux_6_18"};
    return names[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(all, RingLimited, testing::ValuesIn(limits), limit_name);

TEST(RingLimitLevels, contain_the_older_ones) {
    for (unsigned newer = 0; newer < 4; ++newer) {
        for (unsigned older = 1; older <= newer; ++older) {
            io_uring_restriction list[2][ring_limit_entries_max];
            const unsigned count = ring_limit_list(limits[newer], true, list[0]);
            EXPECT_LE(ring_limit_list(limits[older], true, list[1]), count);
            const std::uint32_t features = ring_limit_features(limits[newer]);
            EXPECT_EQ(ring_limit_features(limits[older]) & ~features, 0u);
        }
    }
    EXPECT_EQ(ring_limit_features(RingLimit::none), 0xFFFFFFFFu);
    EXPECT_EQ(ring_limit_features(RingLimit::used), 0xFFFFFFFFu);
}

}  // namespace
}  // namespace whorl::detail
