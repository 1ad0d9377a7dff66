// SPDX-License-Identifier: MIT
// Goal: splice, tee and gathered writes move every byte once and in order, wait at both ends, and every way
// that they may end is the contract's.
// Method: pipes and connections with the test at one end or at neither; full, empty and ended ones.
#include "conformance/contract.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <whorl/splice.hpp>

namespace whorl::conformance {
namespace {

class SpliceTest : public TcpTools {
  protected:
    static Buffer bytes(const std::string& text) {
        return Buffer::copy_of(Bytes{text.data(), text.size()});
    }
    static void write_all(Loop& loop, Pipe pipe, const std::string& text) {
        End end;
        ASSERT_TRUE(loop.submit(WriteAll{pipe, bytes(text)}, into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_FALSE(end.error) << end.error.text();
    }
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
    static void close_pipes(Loop& loop, const std::vector<Pipe>& pipes) {
        for (const Pipe pipe : pipes) static_cast<void>(loop.close(pipe));
        run_until(loop, [&] { return loop.statistics().handles == 0; });
    }
};
WHORL_CONFORMANCE(SpliceTest);

TEST_P(SpliceTest, moves_from_pipe_to_pipe) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const PipeEnds a = *make_pipe(loop), b = *make_pipe(loop);
    const std::string text = pattern(300'000);
    End written, moved;
    ASSERT_TRUE(loop.submit(WriteAll{a.writing, bytes(text)}, into(written)));
    ASSERT_TRUE(loop.submit(Splice{a.reading, b.writing, text.size()}, into(moved)));
    EXPECT_TRUE(read(loop, b.reading, text.size()) == text);
    run_until(loop, [&] { return moved.finals == 1 && written.finals == 1; });
    EXPECT_FALSE(moved.error) << moved.error.text();
    EXPECT_EQ(moved.bytes, text.size());
    close_pipes(loop, {a.reading, a.writing, b.reading, b.writing});
    expect_clean(loop);
}

// No byte more than asked, and the rest stays for who reads next.
TEST_P(SpliceTest, keeps_its_turn_at_both_ends) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const PipeEnds a = *make_pipe(loop), b = *make_pipe(loop);
    End first, moved, again, last, before, after;
    ASSERT_TRUE(loop.submit(Read{a.reading, Buffer::allocate(3)}, into(first)));
    ASSERT_TRUE(loop.submit(Splice{a.reading, b.writing, 4}, into(moved)));
    ASSERT_TRUE(loop.submit(Splice{a.reading, b.writing, 2}, into(again)));
    ASSERT_TRUE(loop.submit(Read{a.reading, Buffer::allocate(10)}, into(last)));
    turns(loop, 3);
    EXPECT_EQ(first.finals + moved.finals + again.finals + last.finals, 0);
    ASSERT_TRUE(loop.submit(WriteAll{a.writing, bytes("abcdefghijk")}, into(before)));
    run_until(loop, [&] { return last.finals == 1; });
    EXPECT_EQ(first.text, "abc");
    EXPECT_EQ(moved.bytes, 4u);
    EXPECT_EQ(again.bytes, 2u);
    EXPECT_EQ(last.text, "jk");
    ASSERT_TRUE(loop.submit(WriteAll{b.writing, bytes("!")}, into(after)));
    EXPECT_EQ(read(loop, b.reading, 7), "defghi!");
    close_pipes(loop, {a.reading, a.writing, b.reading, b.writing});
    expect_clean(loop);
}

TEST_P(SpliceTest, ends_with_its_source) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const PipeEnds a = *make_pipe(loop), b = *make_pipe(loop);
    End moved, next;
    const auto made = loop.submit(Splice{a.reading, b.writing, 1'000}, into(moved));
    ASSERT_TRUE(made);
    ASSERT_TRUE(loop.submit(Nop{}, following(*made), into(next)));
    write_all(loop, a.writing, "some");
    ASSERT_FALSE(loop.close(a.writing));
    run_until(loop, [&] { return moved.finals == 1 && next.finals == 1; });
    EXPECT_FALSE(moved.error) << moved.error.text();
    EXPECT_EQ(moved.bytes, 4u);
    EXPECT_EQ(next.error, Error::cancelled) << "it moved less than was asked";
    EXPECT_EQ(read(loop, b.reading, 4), "some");
    close_pipes(loop, {a.reading, b.reading, b.writing});
    expect_clean(loop);
}

TEST_P(SpliceTest, between_pipes_and_sockets) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const PipeEnds a = *make_pipe(loop), b = *make_pipe(loop);
    const std::string text = pattern(200'000);
    End written, out, in;
    ASSERT_TRUE(loop.submit(WriteAll{a.writing, bytes(text)}, into(written)));
    ASSERT_TRUE(loop.submit(Splice{a.reading, as_pipe(pair.socket), text.size()}, into(out)));
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(text.size()); });
    run_until(loop, [&] { return out.finals == 1; });
    reader.join();
    EXPECT_FALSE(out.error) << out.error.text();
    EXPECT_TRUE(got == text);
    ASSERT_TRUE(loop.submit(Splice{as_pipe(pair.socket), b.writing, 50'000}, into(in)));
    pair.peer.send(text.substr(0, 50'000));
    EXPECT_TRUE(read(loop, b.reading, 50'000) == text.substr(0, 50'000));
    run_until(loop, [&] { return in.finals == 1; });
    EXPECT_EQ(in.bytes, 50'000u);
    close_pipes(loop, {a.reading, a.writing, b.reading, b.writing, as_pipe(pair.socket)});
    expect_clean(loop);
}

TEST_P(SpliceTest, tee_leaves_what_it_copies) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const PipeEnds a = *make_pipe(loop), b = *make_pipe(loop);
    End copied, end;
    ASSERT_TRUE(loop.submit(Tee{a.reading, b.writing, 100}, into(copied)));
    turns(loop, 2);
    EXPECT_EQ(copied.finals, 0);
    write_all(loop, a.writing, "text");
    run_until(loop, [&] { return copied.finals == 1; });
    EXPECT_FALSE(copied.error) << copied.error.text();
    ASSERT_GE(copied.bytes, 1u);
    const std::string part = std::string("text").substr(0, copied.bytes);
    EXPECT_EQ(read(loop, b.reading, copied.bytes), part);
    EXPECT_EQ(read(loop, a.reading, 4), "text");
    ASSERT_FALSE(loop.close(a.writing));
    ASSERT_TRUE(loop.submit(Tee{a.reading, b.writing, 100}, into(end)));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_FALSE(end.error);
    EXPECT_EQ(end.bytes, 0u);
    close_pipes(loop, {a.reading, b.reading, b.writing});
    expect_clean(loop);
}

TEST_P(SpliceTest, refused_and_failed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const PipeEnds a = *make_pipe(loop), b = *make_pipe(loop);
    Pair pair = make_pair(loop);
    Pair other = make_pair(loop);
    const auto refusal = [&](auto operation) {
        const auto made = loop.submit(std::move(operation), [](Loop&, auto) {
            ADD_FAILURE() << "a refused operation was called";
        });
        return made ? Error() : made.error();
    };
    EXPECT_EQ(refusal(Splice{a.reading, b.writing, 0}), Error::invalid_argument);
    EXPECT_EQ(refusal(Splice{a.writing, b.writing, 1}), Error::from_errno(EBADF));
    EXPECT_EQ(refusal(Splice{a.reading, b.reading, 1}), Error::from_errno(EBADF));
    EXPECT_EQ(refusal(Splice{Pipe(), b.writing, 1}), Error::stale_handle);
    EXPECT_EQ(refusal(Tee{a.reading, Pipe(), 1}), Error::stale_handle);
    End nop;
    const auto before = loop.submit(Nop{}, into(nop));
    ASSERT_TRUE(before);
    const auto linked = loop.submit(Splice{a.reading, b.writing, 1}, following(*before),
                                    [](Loop&, Splice::Done) {});
    ASSERT_FALSE(linked);
    EXPECT_EQ(linked.error(), Error::invalid_argument);
    // Neither is a pipe.
    End wrong;
    pair.peer.send("x");
    ASSERT_TRUE(loop.submit(Splice{as_pipe(pair.socket), as_pipe(other.socket), 1}, into(wrong)));
    run_until(loop, [&] { return wrong.finals == 1 && nop.finals == 1; });
    EXPECT_EQ(wrong.error, Error::from_errno(EINVAL));
    // Nobody reads.
    End broken;
    ASSERT_FALSE(loop.close(b.reading));
    write_all(loop, a.writing, "x");
    ASSERT_TRUE(loop.submit(Splice{a.reading, b.writing, 1}, into(broken)));
    run_until(loop, [&] { return broken.finals == 1; });
    EXPECT_EQ(broken.error, Error::from_errno(EPIPE));
    close_pipes(loop,
                {a.reading, a.writing, b.writing, as_pipe(pair.socket), as_pipe(other.socket)});
    expect_clean(loop);
}

TEST_P(SpliceTest, gathered_writes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const bool blocks : {false, true}) {
        Ends ends = Ends::pipe();
        if (blocks) {
            const int flags = os::fcntl(ends.out.get(), F_GETFL);
            ASSERT_EQ(os::fcntl(ends.out.get(), F_SETFL, flags & ~O_NONBLOCK), 0);
        }
        const Pipe reading = *adopt_pipe(loop, ends.in.release());
        const Pipe writing = *adopt_pipe(loop, ends.out.release());
        for (const std::uint32_t parts : {0u, 1u, 3u, 64u, 65u, 200u}) {
            constexpr std::size_t size = 1'001;
            WriteChain chain{writing, {}};
            for (std::uint32_t index = 0; index < parts; ++index) {
                ASSERT_TRUE(chain.chain.push_back(filled(size, index * size)));
            }
            End end;
            ASSERT_TRUE(loop.submit(std::move(chain), into(end)));
            EXPECT_TRUE(read(loop, reading, parts * size) == pattern(parts * size)) << parts;
            run_until(loop, [&] { return end.finals == 1; });
            EXPECT_FALSE(end.error) << end.error.text();
            EXPECT_EQ(end.bytes, parts * size);
            EXPECT_EQ(end.chain.count(), parts);
        }
        close_pipes(loop, {reading, writing});
    }
    expect_clean(loop);
}

TEST_P(SpliceTest, the_operations_keep_the_contract) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    PipeEnds a = *make_pipe(loop), b = *make_pipe(loop);
    const auto empty = [&] { return Splice{a.reading, b.writing, 10}; };
    const auto copy = [&] { return Tee{a.reading, b.writing, 10}; };
    Contract(loop, empty).cancelled_in_every_way();
    Contract(loop, copy).cancelled_in_every_way();
    Contract(loop, empty).closed_under(a.reading);
    ASSERT_FALSE(loop.close(a.writing));
    a = *make_pipe(loop);
    Contract(loop, copy).closed_under(b.writing);
    close_pipes(loop, {a.reading, a.writing, b.reading});
    // There is something to move, and no room for it.
    a = *make_pipe(loop);
    b = *make_pipe(loop);
    End full;
    const std::string text = pattern(200'000);
    ASSERT_TRUE(loop.submit(WriteAll{b.writing, bytes(text)}, within(20ms), into(full)));
    run_until(loop, [&] { return full.finals == 1; });
    write_all(loop, a.writing, "text");
    Contract(loop, empty).cancelled_in_every_way();
    Contract(loop, copy).cancelled_in_every_way();
    const auto gathered = [&] {
        WriteChain chain{b.writing, {}};
        EXPECT_TRUE(chain.chain.push_back(filled(200'000)));
        return chain;
    };
    Contract(loop, gathered).cancelled_in_every_way();
    Contract(loop, empty).closed_under(a.reading);
    EXPECT_TRUE(read(loop, b.reading, full.bytes) == text.substr(0, full.bytes));
    close_pipes(loop, {a.writing, b.reading, b.writing});
    expect_clean(loop);
}

TEST_P(SpliceTest, drained_and_destroyed_at_any_time) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    for (int round = 0; round < 8; ++round) {
        Loop loop = make_loop();
        const PipeEnds a = *make_pipe(loop), b = *make_pipe(loop);
        End moved[4];
        for (End& end : moved) {
            if (round % 2 == 0) {
                ASSERT_TRUE(loop.submit(Splice{a.reading, b.writing, 40'000}, into(end)));
            } else {
                ASSERT_TRUE(loop.submit(Splice{a.reading, b.writing, 40'000},
                                        [copy = witness.copy()](Loop&, Splice::Done) {}));
            }
        }
        End written;
        ASSERT_TRUE(loop.submit(WriteAll{a.writing, filled(100'000)}, into(written)));
        for (int turn = 0; turn < round; ++turn) ASSERT_FALSE(loop.poll());
        if (round % 2 != 0) continue;
        ASSERT_FALSE(loop.drain(60s));
        for (const End& end : moved) EXPECT_EQ(end.finals, 1);
        expect_clean(loop);
    }
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
