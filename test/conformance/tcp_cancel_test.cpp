// SPDX-License-Identifier: MIT
// Goal: cancel has one meaning. It answers as documented in every state, the operation still ends once,
// and neither bytes nor connections are lost. Method: every kind of operation is cancelled in every
// state it can be in; what was transferred is counted on both sides.
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class TcpCancel : public TcpTools {
  protected:
    // Cancels an operation that cannot complete by itself, twice, and afterwards.
    static void cancel_pending(Loop& loop, Operation operation, End& end) {
        EXPECT_TRUE(loop.alive(operation));
        bool inside = true;
        end.inside = &inside;
        EXPECT_EQ(loop.cancel(operation), Cancelled::cancelling);
        EXPECT_NE(loop.cancel(operation), Cancelled::not_found);
        EXPECT_EQ(end.finals, 0);
        inside = false;
        run_until(loop, [&] { return end.finals != 0; });
        EXPECT_EQ(end.error, Error::cancelled);
        EXPECT_EQ(loop.cancel(operation), Cancelled::not_found);
        EXPECT_FALSE(loop.alive(operation));
        turns(loop, 3);
        EXPECT_EQ(end.finals, 1);
    }
};
WHORL_CONFORMANCE(TcpCancel);

constexpr int turns_before[] = {0, 1, 3};

TEST_P(TcpCancel, every_pending_kind_when_listed_and_with_the_kernel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Blackhole hole;
    const Listener listener = listen_here(loop);
    Pair pair = make_narrow_pair(loop);
    End blocker;  // keeps the sending side busy for what is queued behind it
    for (int count : turns_before) {
        const auto check = [&](auto operation) {
            End end;
            const Result<Operation> made = loop.submit(std::move(operation), into(end));
            ASSERT_TRUE(made);
            turns(loop, count);
            cancel_pending(loop, *made, end);
        };
        check(Connect{hole.address()});
        check(Accept{listener});
        check(AcceptStream{listener});
        check(Recv{pair.socket, loop.buffer(100)});
        check(RecvStream{pair.socket});
    }
    const Result<Operation> blocking =
        loop.submit(SendAll{pair.socket, filled(blocked_size)}, into(blocker));
    ASSERT_TRUE(blocking);
    for (int count : turns_before) {
        const auto check_queued = [&](auto operation) {
            End end;
            const Result<Operation> made = loop.submit(std::move(operation), into(end));
            ASSERT_TRUE(made);
            turns(loop, count);
            cancel_pending(loop, *made, end);
        };
        check_queued(Send{pair.socket, filled(10)});
        check_queued(SendAll{pair.socket, filled(10)});
        check_queued(Shutdown{pair.socket});
        SendChain chain{pair.socket, {}};
        ASSERT_TRUE(chain.chain.push_back(filled(10)));
        check_queued(std::move(chain));
    }
    cancel_pending(loop, *blocking, blocker);
    ASSERT_FALSE(loop.close(listener));
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(pair.peer.receive(blocked_size).size(), blocker.bytes)
        << "nothing of what was cancelled in the queue was sent";
    expect_clean(loop);
}

TEST_P(TcpCancel, queued_receives_keep_their_order_around_a_cancelled_one) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    std::string order;
    std::vector<End> ends(5);
    std::vector<Operation> operations;
    for (std::size_t index = 0; index < ends.size(); ++index) {
        ends[index].order = &order;
        ends[index].name = static_cast<char>('0' + index);
        Recv four{pair.socket, Buffer::allocate(4), MSG_WAITALL};
        operations.push_back(*loop.submit(std::move(four), into(ends[index])));
    }
    turns(loop, 1);
    EXPECT_EQ(loop.cancel(operations[2]), Cancelled::cancelling);
    run_until(loop, [&] { return !order.empty(); });
    EXPECT_EQ(order, "2");
    EXPECT_EQ(loop.cancel(operations[0]), Cancelled::cancelling);
    run_until(loop, [&] { return order.size() == 2; });
    EXPECT_EQ(order, "20");
    pair.peer.send("aaaabbbbcccc");
    run_until(loop, [&] { return order.size() == 5; });
    EXPECT_EQ(order, "20134");
    const std::string text = ends[1].text + ends[3].text + ends[4].text;
    EXPECT_EQ(text, std::string("aaaabbbbcccc").substr(0, text.size()));
    if (exact()) {
        EXPECT_EQ(text.size(), 12u);
    }
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpCancel, already_completing_changes_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    End first, second;
    Operation other;
    Cancelled answer = Cancelled::not_found;
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop& in, Nop::Done) {
        ++first.finals;
        answer = in.cancel(other);  // its record is in the same batch
        EXPECT_EQ(in.cancel(other), answer);
    }));
    other = *loop.submit(Nop{}, into(second));
    run_until(loop, [&] { return first.finals + second.finals == 2; });
    EXPECT_EQ(answer, Cancelled::already_completing);
    EXPECT_FALSE(second.error) << "unchanged by the call";
    EXPECT_EQ(loop.cancel(other), Cancelled::not_found);

    // What was decided inside the loop: an empty send, and a deadline that has passed.
    Pair pair = make_local_pair(loop);
    End empty;
    const Result<Operation> nothing = loop.submit(SendAll{pair.socket, Buffer()}, into(empty));
    ASSERT_TRUE(nothing);
    EXPECT_EQ(loop.cancel(*nothing), Cancelled::already_completing);
    run_until(loop, [&] { return empty.finals != 0; });
    EXPECT_FALSE(empty.error);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpCancel, null_foreign_and_old_handles_are_not_found) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_EQ(loop.cancel(Operation()), Cancelled::not_found);
    EXPECT_EQ(loop.cancel(Operation(1, 1)), Cancelled::not_found);
    EXPECT_EQ(loop.cancel(Operation(0xFFFFFFFFu, 3)), Cancelled::not_found);
    End end, next_end;
    const Operation old = *loop.submit(Nop{}, into(end));
    run_until(loop, [&] { return end.finals == 1; });
    Pair pair = make_local_pair(loop);
    std::vector<End> others(8);
    std::vector<Operation> operations;  // one of them lives in the old one's slot
    for (End& other : others) {
        operations.push_back(*loop.submit(Recv{pair.socket, loop.buffer(1)}, into(other)));
    }
    bool reused = false;
    for (Operation operation : operations) reused = reused || operation.index() == old.index();
    EXPECT_TRUE(reused);
    EXPECT_EQ(loop.cancel(old), Cancelled::not_found);
    turns(loop, 2);
    for (End& other : others) EXPECT_EQ(other.finals, 0);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpCancel, blocked_send_reports_what_the_peer_gets) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 8; ++round) {
        Pair pair = make_narrow_pair(loop);
        End end;
        Result<Operation> made = Error::cancelled;
        if (round % 2 == 0) {
            made = loop.submit(SendAll{pair.socket, filled(blocked_size)}, into(end));
        } else {
            SendChain chain{pair.socket, {}};
            for (std::size_t part = 0; part < 64; ++part) {
                ASSERT_TRUE(
                    chain.chain.push_back(filled(blocked_size / 64, part * (blocked_size / 64))));
            }
            made = loop.submit(std::move(chain), into(end));
        }
        ASSERT_TRUE(made);
        turns(loop, 3);
        // The peer takes a part, so that the send goes on for a while before it is cancelled.
        std::string got = receive_now(pair.peer, static_cast<std::size_t>(round) * 1500);
        turns(loop, round);
        EXPECT_EQ(loop.cancel(*made), Cancelled::cancelling);
        run_until(loop, [&] { return end.finals != 0; });
        EXPECT_EQ(end.error, Error::cancelled);
        EXPECT_GE(end.bytes, got.size());
        EXPECT_LT(end.bytes, blocked_size);
        if (round % 2 != 0) {
            EXPECT_EQ(end.chain.count(), 64u);
        }
        close_and_wait(loop, pair.socket);
        got += pair.peer.receive(blocked_size);
        EXPECT_EQ(got.size(), end.bytes);
        EXPECT_TRUE(got == pattern(got.size()));
    }
    expect_clean(loop);
}

// Cancelled before the connection, after it and in between: the socket is delivered, or stays in the
// backlog; it is never lost in between.
TEST_P(TcpCancel, accept_at_every_point_leaks_no_connection) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    const std::uint16_t port = port_of(loop, listener);
    const std::set<int> before = os::open_descriptors();
    for (int point = 0; point < 40; ++point) {
        const bool stream = point % 2 != 0;
        const int early = point / 2 % 3, late = point / 6 % 3;
        End end;
        const Result<Operation> made = stream ? loop.submit(AcceptStream{listener}, into(end))
                                              : loop.submit(Accept{listener}, into(end));
        ASSERT_TRUE(made);
        turns(loop, early);
        std::vector<Peer> peers;
        for (int connection = 0; connection < 3; ++connection) {
            peers.push_back(Peer::connect_to(port));
        }
        turns(loop, late);
        const Cancelled answer = loop.cancel(*made);
        EXPECT_EQ(answer == Cancelled::not_found, end.finals != 0);
        run_until(loop, [&] { return end.finals != 0; });
        EXPECT_EQ(loop.statistics().handles, 1 + end.sockets.size());
        // The rest is in the backlog: every connection is there exactly once.
        std::size_t total = end.sockets.size();
        while (total < peers.size()) {
            End rest;
            ASSERT_TRUE(loop.submit(Accept{listener}, into(rest)));
            run_until(loop, [&] { return rest.finals != 0; });
            ASSERT_FALSE(rest.error);
            end.sockets.push_back(rest.socket);
            ++total;
        }
        for (Socket socket : end.sockets) EXPECT_FALSE(loop.close(socket));
        run_until(loop, [&] { return loop.statistics().handles == 1; });
        for (Peer& peer : peers) EXPECT_EQ(peer.receive(1), "");
    }
    EXPECT_EQ(os::open_descriptors(), before);
    ASSERT_FALSE(loop.close(listener));
    run_until(loop, [&] { return loop.statistics().handles == 0; });
    expect_clean(loop);
}

// Received by the stream before the cancel, and by plain receives after it: together all that was sent.
TEST_P(TcpCancel, received_stream_loses_no_byte) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::string text = pattern(1'500'000);
    for (int round = 0; round < 6; ++round) {
        Pair pair = make_pair(loop);
        // The end of the stream comes after the cancellation: a stream that had already reached it
        // would rightly complete with it.
        os::Thread writer([&] { pair.peer.send(text); });
        std::string got;
        const std::size_t enough = static_cast<std::size_t>(round) * 100'000;
        Operation stream;
        int finals = 0;
        Error error;
        stream = *loop.submit(RecvStream{pair.socket}, [&](Loop& in, RecvStream::Done done) {
            got += done.buffer.text();
            if (!done.more) {
                ++finals;
                error = done.error;
            } else if (round % 2 == 0 && got.size() >= enough) {
                static_cast<void>(in.cancel(stream));
            }
        });
        if (round % 2 != 0) {
            run_until(loop, [&] { return got.size() >= enough; });
            EXPECT_EQ(loop.cancel(stream), Cancelled::cancelling);
        }
        run_until(loop, [&] { return finals == 1; });
        EXPECT_EQ(error, Error::cancelled);
        while (got.size() < text.size()) {
            End end;
            ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(65536)}, into(end)));
            run_until(loop, [&] { return end.finals == 1; });
            ASSERT_FALSE(end.error);
            ASSERT_FALSE(end.text.empty());
            got += end.text;
        }
        writer.join();
        pair.peer.finish_sending();
        End end;
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(65536)}, into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_FALSE(end.error);
        EXPECT_TRUE(end.text.empty());
        EXPECT_EQ(got.size(), text.size());
        EXPECT_TRUE(got == text);
        close_and_wait(loop, pair.socket);
    }
    expect_clean(loop);
}

// A receive that is cancelled while its byte arrives has it or leaves it to the next one.
TEST_P(TcpCancel, receive_loses_no_byte) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const std::string text = pattern(2'000);
    std::string got;
    std::size_t cancelled = 0;
    os::Thread writer([&] {
        for (char letter : text) pair.peer.send(std::string(1, letter));
        pair.peer.finish_sending();
    });
    bool ended = false;
    for (int round = 0; !ended; ++round) {
        End end;
        const Result<Operation> made =
            loop.submit(Recv{pair.socket, Buffer::allocate(3)}, into(end));
        ASSERT_TRUE(made);
        turns(loop, round % 3);
        if (got.size() < text.size()) static_cast<void>(loop.cancel(*made));
        run_until(loop, [&] { return end.finals == 1; });
        if (end.error) {
            EXPECT_EQ(end.error, Error::cancelled);
            EXPECT_TRUE(end.text.empty());
            ++cancelled;
            continue;
        }
        got += end.text;
        ended = end.text.empty();
    }
    writer.join();
    EXPECT_TRUE(got == text);
    EXPECT_GT(cancelled, 0u);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpCancel, connect_in_its_race_with_success_gives_one_answer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    const Address address = *local_address(loop, listener);
    End accepted;
    const Result<Operation> accepting = loop.submit(AcceptStream{listener}, into(accepted));
    ASSERT_TRUE(accepting);
    std::vector<Socket> connected;
    for (int round = 0; round < 30; ++round) {
        End end;
        const Result<Operation> made = loop.submit(Connect{address}, into(end));
        ASSERT_TRUE(made);
        turns(loop, round % 3);
        static_cast<void>(loop.cancel(*made));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(static_cast<bool>(end.error), !end.socket);
        if (end.socket) connected.push_back(end.socket);
    }
    EXPECT_EQ(loop.cancel(*accepting), Cancelled::cancelling);
    run_until(loop, [&] { return accepted.finals == 1; });
    ASSERT_FALSE(loop.close(listener));
    connected.insert(connected.end(), accepted.sockets.begin(), accepted.sockets.end());
    close_all(loop, connected);
    expect_clean(loop);
}

// What the backend has answered may be a part only, or one event of many: there is still something to
// cancel, although the operation is not with the kernel at that moment.
TEST_P(TcpCancel, between_two_rounds_there_is_something_to_cancel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair sending = make_narrow_pair(loop);
    Pair receiving = make_pair(loop);
    receiving.peer.send("hello");
    Operation send;
    Operation receive;
    Cancelled answers[2] = {Cancelled::not_found, Cancelled::not_found};
    // Completes in the same batch as the first rounds of the others, and before them.
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop& inner, Nop::Done) {
        answers[0] = inner.cancel(send);
        answers[1] = inner.cancel(receive);
    }));
    End sent;
    End received;
    const Result<Operation> submitted =
        loop.submit(SendAll{sending.socket, filled(blocked_size)}, into(sent));
    ASSERT_TRUE(submitted);
    send = *submitted;
    const Result<Operation> stream = loop.submit(RecvStream{receiving.socket}, into(received));
    ASSERT_TRUE(stream);
    receive = *stream;
    run_until(loop, [&] { return sent.finals == 1 && received.finals == 1; });
    EXPECT_EQ(answers[0], Cancelled::cancelling);
    EXPECT_EQ(answers[1], Cancelled::cancelling);
    EXPECT_EQ(sent.error, Error::cancelled);
    EXPECT_EQ(received.error, Error::cancelled);
    close_all(loop, {sending.socket, receiving.socket});
    EXPECT_EQ(sending.peer.receive(blocked_size).size(), sent.bytes);
    expect_clean(loop);
}

TEST_P(TcpCancel, with_the_kernel_every_kind_gets_its_memory_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair receiving = make_pair(loop);
    Pair sending = make_narrow_pair(loop);
    Pair chaining = make_narrow_pair(loop);
    Buffer into_this = Buffer::allocate(100);
    Buffer all = filled(blocked_size);
    Buffer part = filled(blocked_size);
    const Place places[] = {Place(into_this), Place(all), Place(part)};
    BufferChain chain;
    ASSERT_TRUE(chain.push_back(std::move(part)));
    End received;
    End sent;
    End chained;
    const Result<Operation> operations[] = {
        loop.submit(Recv{receiving.socket, std::move(into_this)}, into(received)),
        loop.submit(SendAll{sending.socket, std::move(all)}, into(sent)),
        loop.submit(SendChain{chaining.socket, std::move(chain)}, into(chained))};
    turns(loop, 5);
    for (const Result<Operation>& operation : operations) {
        ASSERT_TRUE(operation);
        EXPECT_EQ(loop.cancel(*operation), Cancelled::cancelling);
    }
    run_until(loop, [&] { return received.finals + sent.finals + chained.finals == 3; });
    for (const End* end : {&received, &sent, &chained}) EXPECT_EQ(end->error, Error::cancelled);
    EXPECT_TRUE(places[0].holds(received.buffer));
    EXPECT_TRUE(places[1].holds(sent.buffer));
    ASSERT_EQ(chained.chain.count(), 1u);
    EXPECT_TRUE(places[2].holds(*chained.chain.begin()));
    close_all(loop, {receiving.socket, sending.socket, chaining.socket});
}

TEST_P(TcpCancel, asking_again_asks_the_backend_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End end;
    const Result<Operation> receive =
        loop.submit(Recv{pair.socket, Buffer::allocate(10)}, into(end));
    ASSERT_TRUE(receive);
    turns(loop, 2);
    const std::uint64_t before = loop.statistics().cancels;
    for (int count = 0; count < 5; ++count) {
        EXPECT_EQ(loop.cancel(*receive), Cancelled::cancelling);
    }
    EXPECT_EQ(loop.statistics().cancels - before, 1u);
    run_until(loop, [&] { return end.finals == 1; });
    close_and_wait(loop, pair.socket);
}

}  // namespace
}  // namespace whorl::conformance
