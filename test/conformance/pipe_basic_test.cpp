// SPDX-License-Identifier: MIT
// Goal: pipes and other descriptors are read and written whole and in order, blocking ones without
// blocking the loop, and every way that an operation on them may end is the contract's.
// Method: both ends in one loop, or one of them the test's own; full pipes; ends that are gone.
#include "conformance/contract.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <csignal>

namespace whorl::conformance {
namespace {

class PipeBasic : public TcpTools {
  protected:
    static Pipe adopt(Loop& loop, Fd& fd) {
        const Result<Pipe> made = adopt_pipe(loop, fd.get());
        EXPECT_TRUE(made) << made.error().text();
        if (made) fd.release();
        return made ? *made : Pipe();
    }
    static Fd blocking(Fd fd) {
        const int flags = os::fcntl(fd.get(), F_GETFL);
        EXPECT_EQ(os::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK), 0);
        return fd;
    }
    static Buffer bytes(const std::string& text) {
        return Buffer::copy_of(Bytes{text.data(), text.size()});
    }
    static Error write_all(Loop& loop, Pipe pipe, const std::string& text) {
        End end;
        EXPECT_TRUE(loop.submit(WriteAll{pipe, bytes(text)}, into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(end.buffer.size(), text.size());
        if (!end.error) {
            EXPECT_EQ(end.bytes, text.size());
        }
        return end.error;
    }
    // Reads until `size` bytes are there or the end.
    static std::string read(Loop& loop, Pipe pipe, std::size_t size) {
        std::string text;
        while (text.size() < size) {
            End end;
            EXPECT_TRUE(loop.submit(Read{pipe, Buffer::allocate(size - text.size())}, into(end)));
            run_until(loop, [&] { return end.finals == 1; });
            EXPECT_FALSE(end.error) << end.error.text();
            if (end.error || end.text.empty()) break;
            text += end.text;
        }
        return text;
    }
    static void close_one(Loop& loop, Pipe pipe) {
        bool closed = false;
        EXPECT_FALSE(loop.close(pipe, [&](Loop&) { closed = true; }));
        run_until(loop, [&] { return closed; });
    }
};
WHORL_CONFORMANCE(PipeBasic);

TEST_P(PipeBasic, bytes_go_through_whole_and_then_the_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const std::size_t size : {1u, 4096u, 4097u, 65'536u, 65'537u, 1'000'000u}) {
        const Result<PipeEnds> ends = make_pipe(loop);
        ASSERT_TRUE(ends);
        const std::string text = pattern(size);
        End sent;
        ASSERT_TRUE(loop.submit(WriteAll{ends->writing, bytes(text)}, into(sent)));
        EXPECT_TRUE(read(loop, ends->reading, size) == text) << size;
        run_until(loop, [&] { return sent.finals == 1; });
        EXPECT_EQ(sent.bytes, size);
        EXPECT_FALSE(sent.error);
        close_one(loop, ends->writing);
        EXPECT_EQ(read(loop, ends->reading, 1), "") << "the end";
        close_one(loop, ends->reading);
    }
    expect_clean(loop);
}

// A pipe whose file status flags are the usual ones: a call could block the whole loop.
TEST_P(PipeBasic, blocking_ones_do_not_block_the_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    Fd in = blocking(std::move(ends.in)), out = blocking(std::move(ends.out));
    const Pipe reading = adopt(loop, in), writing = adopt(loop, out);
    const std::string text = pattern(300'000);
    End received, sent;
    ASSERT_TRUE(loop.submit(Read{reading, Buffer::allocate(10)}, into(received)));
    turns(loop, 3);
    EXPECT_EQ(received.finals, 0);
    ASSERT_TRUE(loop.submit(WriteAll{writing, bytes(text)}, into(sent)));
    turns(loop, 10);
    EXPECT_EQ(sent.finals, 0) << "more than a pipe holds";
    run_until(loop, [&] { return received.finals == 1; });
    const std::string first = received.text;
    EXPECT_TRUE(first + read(loop, reading, text.size() - first.size()) == text);
    run_until(loop, [&] { return sent.finals == 1; });
    EXPECT_FALSE(sent.error);
    const int flags = os::fcntl(*native_handle(loop, reading), F_GETFL);
    EXPECT_EQ(flags & O_NONBLOCK, 0) << "its flags are as they were";
    close_one(loop, reading);
    close_one(loop, writing);
    expect_clean(loop);
}

TEST_P(PipeBasic, a_write_once_tells_how_far_it_came) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const PipeEnds ends = *make_pipe(loop);
    const std::string text = pattern(1'000'000);
    End end;
    ASSERT_TRUE(loop.submit(Write{ends.writing, bytes(text)}, into(end)));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_GT(end.bytes, 0u);
    EXPECT_LT(end.bytes, text.size());
    EXPECT_TRUE(read(loop, ends.reading, end.bytes) == text.substr(0, end.bytes));
    End nothing;
    ASSERT_TRUE(loop.submit(Write{ends.writing, Buffer()}, into(nothing)));
    run_until(loop, [&] { return nothing.finals == 1; });
    EXPECT_FALSE(nothing.error);
    EXPECT_EQ(nothing.bytes, 0u);
    close_one(loop, ends.reading);
    close_one(loop, ends.writing);
    expect_clean(loop);
}

// SIGPIPE has its default action here: it would end the test.
TEST_P(PipeBasic, nobody_reads_is_an_error_without_a_signal) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct sigaction before {
    }, usual{};
    usual.sa_handler = SIG_DFL;
    ASSERT_EQ(sigaction(SIGPIPE, &usual, &before), 0);
    for (const bool full : {false, true}) {
        const PipeEnds ends = *make_pipe(loop);
        End waiting;
        if (full) {
            ASSERT_TRUE(
                loop.submit(WriteAll{ends.writing, bytes(pattern(500'000))}, into(waiting)));
            turns(loop, 20);
            EXPECT_EQ(waiting.finals, 0);
        }
        close_one(loop, ends.reading);
        EXPECT_EQ(write_all(loop, ends.writing, "x"), Error::from_errno(EPIPE));
        if (full) {
            EXPECT_EQ(waiting.error, Error::from_errno(EPIPE));
            EXPECT_GT(waiting.bytes, 0u);
        }
        close_one(loop, ends.writing);
    }
    sigset_t pending;
    sigemptyset(&pending);
    ASSERT_EQ(sigpending(&pending), 0);
    EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
    sigaction(SIGPIPE, &before, nullptr);
    expect_clean(loop);
}

TEST_P(PipeBasic, misuse_is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_EQ(adopt_pipe(loop, 1'000'000).error(), Error::from_errno(EBADF));
    EXPECT_EQ(duplicate_pipe(loop, 1'000'000).error(), Error::from_errno(EBADF));
    const PipeEnds ends = *make_pipe(loop);
    const auto wrong = loop.submit(Write{ends.reading, bytes("x")}, [](Loop&, Write::Done) {});
    EXPECT_EQ(wrong.error(), Error::from_errno(EBADF));
    const auto other =
        loop.submit(Read{ends.writing, Buffer::allocate(1)}, [](Loop&, Read::Done) {});
    EXPECT_EQ(other.error(), Error::from_errno(EBADF));
    const Result<Operation> no_room =
        loop.submit(Read{ends.reading, Buffer()}, [](Loop&, Read::Done) {});
    EXPECT_EQ(no_room.error(), Error::invalid_argument);
    close_one(loop, ends.reading);
    close_one(loop, ends.writing);
    EXPECT_EQ(
        loop.submit(Read{ends.reading, Buffer::allocate(1)}, [](Loop&, Read::Done) {}).error(),
        Error::stale_handle);
    expect_clean(loop);
}

// What is always ready: standard input here is a null device or a file, as it may be for any program.
TEST_P(PipeBasic, a_file_and_a_duplicate) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Fd file(os::regular_file());
    const Result<Pipe> copy = duplicate_pipe(loop, file.get());
    ASSERT_TRUE(copy);
    EXPECT_FALSE(write_all(loop, *copy, pattern(100'000)));
    EXPECT_EQ(read(loop, *copy, 10), "") << "its end";
    close_one(loop, *copy);
    EXPECT_TRUE(os::fcntl(file.get(), F_GETFD) >= 0) << "the original stays the caller's";
    if (os::world() == nullptr) {
        ASSERT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
        const Pipe again = adopt(loop, file);
        EXPECT_TRUE(read(loop, again, 200'000) == pattern(100'000));
        close_one(loop, again);
    }
    expect_clean(loop);
}

TEST_P(PipeBasic, operations_wait_in_line) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const PipeEnds ends = *make_pipe(loop);
    std::string sent, order;
    End writes[20];
    for (int index = 0; index < 20; ++index) {
        const std::string part = pattern(10'000, sent.size());
        sent += part;
        ASSERT_TRUE(loop.submit(WriteAll{ends.writing, bytes(part)}, into(writes[index])));
    }
    EXPECT_TRUE(read(loop, ends.reading, sent.size()) == sent);
    run_until(loop, [&] { return writes[19].finals == 1; });
    for (const End& end : writes) EXPECT_FALSE(end.error);
    close_one(loop, ends.reading);
    close_one(loop, ends.writing);
    expect_clean(loop);
}

TEST_P(PipeBasic, the_operations_keep_the_contract) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    PipeEnds ends = *make_pipe(loop);
    const auto reading = [&] { return Read{ends.reading, Buffer::allocate(9)}; };
    Contract(loop, reading).cancelled_in_every_way();
    EXPECT_FALSE(write_all(loop, ends.writing, "kept"));
    EXPECT_EQ(read(loop, ends.reading, 4), "kept");
    Contract(loop, reading).closed_under(ends.reading);
    close_one(loop, ends.writing);
    ends = *make_pipe(loop);
    const auto writing = [&] { return WriteAll{ends.writing, bytes(pattern(200'000))}; };
    End full;
    ASSERT_TRUE(loop.submit(writing(), within(20ms), into(full)));
    run_until(loop, [&] { return full.finals == 1; });
    EXPECT_EQ(full.error, Error::timed_out);
    EXPECT_GT(full.bytes, 0u);
    Contract(loop, writing).cancelled_in_every_way();
    const auto once = [&] { return Write{ends.writing, bytes("x")}; };
    Contract(loop, once).cancelled_before_the_turn();
    Contract(loop, writing).closed_under(ends.writing);
    close_one(loop, ends.reading);
    expect_clean(loop);
}

TEST_P(PipeBasic, a_loop_is_destroyed_under_them) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    {
        Loop loop = make_loop();
        const PipeEnds ends = *make_pipe(loop), full = *make_pipe(loop);
        const auto reading = [&] { return Read{ends.reading, Buffer::allocate(9)}; };
        const auto writing = [&] { return WriteAll{full.writing, bytes(pattern(500'000))}; };
        Contract(loop, reading).left_pending(witness.copy());
        Contract(loop, writing).left_pending(witness.copy());
    }
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
