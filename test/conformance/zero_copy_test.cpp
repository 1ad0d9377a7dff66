// SPDX-License-Identifier: MIT
// Goal: a zero-copy send is a SendAll whose buffer comes home only when the kernel has let go of it,
// whatever ends it; where there is no zero copy it is sent all the same.
// Method: every handler changes its buffer at once, which a simulated kernel finds out before it has told
// its notification; the notification comes late or early, and errors come with one or without.
#include "conformance/contract.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <whorl/zero_copy.hpp>

#include <cstring>

namespace whorl::conformance {
namespace {

class ZeroCopy : public TcpTools {
  protected:
    static void spoil(Buffer& buffer) {
        if (!buffer.empty()) std::memset(buffer.data(), 0x5A, buffer.size());
    }
    // Sends `size` bytes that are pattern(size, offset).
    struct Sent {
        bool ended = false;
        Error error;
        std::uint64_t bytes = 0;
    };
    static Operation send(Loop& loop, Socket socket, std::size_t size, std::uint64_t offset,
                          Sent& sent, SubmitOptions options = {}) {
        Buffer buffer = filled(size, offset);
        const Place place(buffer);
        const Result<Operation> made =
            loop.submit(SendZeroCopy{socket, std::move(buffer)}, options,
                        [place, &sent](Loop&, SendZeroCopy::Done done) {
                            EXPECT_FALSE(sent.ended) << "nothing follows the final completion";
                            EXPECT_TRUE(place.holds(done.buffer));
                            spoil(done.buffer);
                            sent = {true, done.error, done.bytes};
                        });
        EXPECT_TRUE(made) << made.error().text();
        return made ? *made : Operation();
    }
    // Narrow where time passes at will: acknowledgements of small windows take their time.
    static Pair make_tight_pair(Loop& loop) {
        return GetParam().world ? make_narrow_pair(loop) : make_pair(loop);
    }
    // How much arrives until the end of the connection, orderly or not.
    static std::size_t received(Peer& peer) { return peer.receive(100'000).size(); }
    // No completion was told for an operation that had ended: each notification was waited for.
    static void expect_no_stale(Loop& loop) {
        EXPECT_EQ(loop.statistics().completions_stale, 0u);
        expect_clean(loop);
    }
};
WHORL_CONFORMANCE(ZeroCopy);

TEST_P(ZeroCopy, sends_every_size_whole) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    for (const std::size_t size : {1u, 100u, 4096u, 16'384u, 100'000u, 1u << 20, 3u << 20}) {
        Sent sent;
        send(loop, pair.socket, size, 0, sent);
        EXPECT_FALSE(sent.ended) << "called inline";
        std::string got;
        os::Thread reader([&] { got = pair.peer.receive(size); });
        run_until(loop, [&] { return sent.ended; });
        reader.join();
        EXPECT_FALSE(sent.error) << sent.error.text();
        EXPECT_EQ(sent.bytes, size);
        EXPECT_TRUE(got == pattern(size)) << size;
    }
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(pair.peer.receive(1), "");
    expect_no_stale(loop);
}

TEST_P(ZeroCopy, nothing_to_send) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End end;
    ASSERT_TRUE(loop.submit(SendZeroCopy{pair.socket, Buffer()}, into(end)));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_FALSE(end.error);
    EXPECT_EQ(end.bytes, 0u);
    close_and_wait(loop, pair.socket);
    expect_no_stale(loop);
}

TEST_P(ZeroCopy, many_queued_keep_their_order_among_other_sends) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_tight_pair(loop);
    constexpr int count = 20;
    constexpr std::size_t size = 7'001;
    std::vector<Sent> sent(count);
    int plain = 0;
    for (int index = 0; index < count; ++index) {
        const std::uint64_t offset = static_cast<std::uint64_t>(index) * size;
        if (index % 4 != 3) {
            send(loop, pair.socket, size, offset, sent[static_cast<std::size_t>(index)]);
            continue;
        }
        sent[static_cast<std::size_t>(index)].ended = true;
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(size, offset)},
                                [&](Loop&, const SendAll::Done& done) {
                                    EXPECT_FALSE(done.error);
                                    ++plain;
                                }));
    }
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(count * size); });
    run_until(loop, [&] {
        return plain == count / 4 &&
               std::all_of(sent.begin(), sent.end(), [](const Sent& one) { return one.ended; });
    });
    reader.join();
    EXPECT_TRUE(got == pattern(count * size));
    close_and_wait(loop, pair.socket);
    expect_no_stale(loop);
}

TEST_P(ZeroCopy, chains) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_tight_pair(loop);
    for (const std::uint32_t parts : {1u, 3u, 64u, 65u, 200u}) {
        constexpr std::size_t size = 1'001;
        SendChainZeroCopy chain{pair.socket, {}};
        for (std::uint32_t index = 0; index < parts; ++index) {
            ASSERT_TRUE(chain.chain.push_back(filled(size, index * size)));
        }
        bool ended = false;
        ASSERT_TRUE(loop.submit(std::move(chain), [&](Loop&, SendChainZeroCopy::Done done) {
            EXPECT_FALSE(done.error) << done.error.text();
            EXPECT_EQ(done.bytes, parts * size);
            EXPECT_EQ(done.chain.count(), parts);
            for (Buffer& buffer : done.chain) spoil(buffer);
            ended = true;
        }));
        std::string got;
        os::Thread reader([&] { got = pair.peer.receive(parts * size); });
        run_until(loop, [&] { return ended; });
        reader.join();
        EXPECT_TRUE(got == pattern(parts * size)) << parts;
    }
    close_and_wait(loop, pair.socket);
    expect_no_stale(loop);
}

// There is no zero copy to a Unix socket: it says so, and the bytes are sent.
TEST_P(ZeroCopy, copies_where_it_must) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_local_pair(loop);
    bool ended = false;
    ASSERT_TRUE(loop.submit(SendZeroCopy{pair.socket, filled(100'000)},
                            [&](Loop&, const SendZeroCopy::Done& done) {
                                EXPECT_FALSE(done.error) << done.error.text();
                                EXPECT_EQ(done.bytes, 100'000u);
                                EXPECT_TRUE(done.copied);
                                ended = true;
                            }));
    SendChainZeroCopy chain{pair.socket, {}};
    ASSERT_TRUE(chain.chain.push_back(filled(1'000, 100'000)));
    bool chained = false;
    ASSERT_TRUE(loop.submit(std::move(chain), [&](Loop&, const SendChainZeroCopy::Done& done) {
        EXPECT_FALSE(done.error) << done.error.text();
        EXPECT_TRUE(done.copied);
        chained = true;
    }));
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(101'000); });
    run_until(loop, [&] { return ended && chained; });
    reader.join();
    EXPECT_TRUE(got == pattern(101'000));
    close_and_wait(loop, pair.socket);
    expect_no_stale(loop);
}

// Somebody else has made the socket non-blocking: it is waited for all the same. Each round waits for the
// peer's acknowledgement, so there are few.
TEST_P(ZeroCopy, waits_on_a_non_blocking_socket) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    constexpr std::size_t size = 20'000;
    const int fd = fd_of(loop, pair.socket);
    ASSERT_EQ(os::fcntl(fd, F_SETFL, os::fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
    Sent sent;
    send(loop, pair.socket, size, 0, sent);
    turns(loop, 3);
    EXPECT_FALSE(sent.ended);
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(size); });
    run_until(loop, [&] { return sent.ended; });
    reader.join();
    EXPECT_FALSE(sent.error) << sent.error.text();
    EXPECT_EQ(sent.bytes, size);
    EXPECT_TRUE(got == pattern(size));
    close_and_wait(loop, pair.socket);
    expect_no_stale(loop);
}

TEST_P(ZeroCopy, reset_by_the_peer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    Sent sent;
    send(loop, pair.socket, blocked_size, 0, sent);
    turns(loop, 2);
    pair.peer.reset();
    run_until(loop, [&] { return sent.ended; });
    EXPECT_TRUE(sent.error.value() == ECONNRESET || sent.error.value() == EPIPE)
        << sent.error.text();
    EXPECT_LT(sent.bytes, blocked_size);
    Sent late;
    send(loop, pair.socket, 100, 0, late);
    run_until(loop, [&] { return late.ended; });
    EXPECT_EQ(late.error, Error::from_errno(EPIPE));
    close_and_wait(loop, pair.socket);
    expect_no_stale(loop);
}

// Each ends its connection, so each has one of its own.
TEST_P(ZeroCopy, cancelled_and_timed_out) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::vector<Pair> pairs;
    const auto make = [&] {
        pairs.push_back(make_narrow_pair(loop));
        return SendZeroCopy{pairs.back().socket, filled(blocked_size)};
    };
    Contract(loop, make).cancelled_in_every_way();
    for (const Pair& pair : pairs) close_and_wait(loop, pair.socket);
    expect_no_stale(loop);
}

// At each of the first turns: in the kernel, answered, with its notification due, or complete.
TEST_P(ZeroCopy, cancelled_at_any_time_it_ends_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 24; ++round) {
        Pair pair = make_pair(loop);
        Sent sent[3];
        Operation operations[3];
        for (std::size_t index = 0; index < 3; ++index) {
            operations[index] = send(loop, pair.socket, 20'000, index * 20'000, sent[index]);
        }
        for (int turn = 0; turn < round % 6; ++turn) ASSERT_FALSE(loop.poll());
        for (const Operation operation : operations) {
            static_cast<void>(loop.cancel(operation));
            static_cast<void>(loop.cancel(operation));
        }
        std::uint64_t total = 0;
        run_until(loop, [&] { return sent[0].ended && sent[1].ended && sent[2].ended; });
        for (const Sent& one : sent) {
            if (one.error) {
                EXPECT_EQ(one.error, Error::cancelled);
            } else {
                EXPECT_EQ(one.bytes, 20'000u);
            }
            total += one.bytes;
        }
        close_and_wait(loop, pair.socket);
        // What was told as sent has arrived.
        EXPECT_GE(received(pair.peer), total);
    }
    expect_no_stale(loop);
}

TEST_P(ZeroCopy, closed_under) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    Contract(loop, [&] {
        return SendZeroCopy{pair.socket, filled(blocked_size)};
    }).closed_under(pair.socket);
    for (int round = 0; round < 12; ++round) {
        Pair other = make_pair(loop);
        Sent sent;
        send(loop, other.socket, 20'000, 0, sent);
        for (int turn = 0; turn < round % 4; ++turn) ASSERT_FALSE(loop.poll());
        bool closed = false;
        ASSERT_FALSE(loop.close(other.socket, [&](Loop&) {
            EXPECT_TRUE(sent.ended) << "closed before it ended";
            closed = true;
        }));
        run_until(loop, [&] { return closed; });
        EXPECT_GE(received(other.peer), sent.bytes);
    }
    expect_no_stale(loop);
}

TEST_P(ZeroCopy, destroyed_and_drained_under) {
    WHORL_SKIP_IF_REFUSED();
    const Witness witness;
    for (int round = 0; round < 8; ++round) {
        Loop loop = make_loop();
        Pair pair = make_narrow_pair(loop);
        if (round % 2 == 0) {
            Contract(loop, [&] {
                return SendZeroCopy{pair.socket, filled(blocked_size)};
            }).left_pending(witness.copy());
            continue;
        }
        Sent sent;
        send(loop, pair.socket, round == 1 ? blocked_size : 2'000, 0, sent);
        for (int turn = 0; turn < round / 2; ++turn) ASSERT_FALSE(loop.poll());
        ASSERT_FALSE(loop.drain(60s));
        EXPECT_TRUE(sent.ended);
        expect_no_stale(loop);
    }
    EXPECT_TRUE(witness.alone());
}

TEST_P(ZeroCopy, refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<Operation> made =
        loop.submit(SendZeroCopy{Socket(), filled(10)}, [](Loop&, const SendZeroCopy::Done&) {
            ADD_FAILURE() << "a refused operation was called";
        });
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error(), Error::stale_handle);
    expect_no_stale(loop);
}

}  // namespace
}  // namespace whorl::conformance
