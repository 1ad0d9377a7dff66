// SPDX-License-Identifier: MIT
// Goal: a handler may do anything: cancel, close, destroy, submit, its own object included, and it is
// never called from inside a call of the API. Method: handlers that destroy what is ready behind them
// in the same batch, under AddressSanitizer; flags and depths that see an inline call.
#include "conformance/tcp_tools.hpp"

#include <memory>

namespace whorl::conformance {
namespace {

class TcpReentrancy : public TcpTools {};
WHORL_CONFORMANCE(TcpReentrancy);

// One of many connections, as a program would hold it: the object owns the socket.
struct Client {
    Loop& loop;
    Socket socket;
    Operation operation;
    std::unique_ptr<std::string> memory = std::make_unique<std::string>("alive");
    ~Client() { static_cast<void>(loop.close(socket)); }
};

struct Crowd {
    std::vector<std::unique_ptr<Client>> clients;
    std::vector<int> finals;
    int alive_calls = 0;
    int cancelled = 0;
};

template <class Submit>
void first_destroys_the_others(Loop& loop, std::vector<Peer>& peers, Crowd& crowd, Submit submit) {
    const std::size_t count = crowd.clients.size();
    crowd.finals.assign(count, 0);
    for (std::size_t index = 0; index < count; ++index) submit(index);
    EXPECT_FALSE(loop.poll());  // all are with the kernel
    for (Peer& peer : peers) peer.send("x");
}

TEST_P(TcpReentrancy, first_of_many_ready_receives_destroys_all_others) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    constexpr std::size_t count = 50;
    for (int kind = 0; kind < 2; ++kind) {
        Crowd crowd;
        std::vector<Peer> peers;
        for (std::size_t index = 0; index < count; ++index) {
            Pair pair = make_local_pair(loop);
            peers.push_back(std::move(pair.peer));
            crowd.clients.push_back(
                std::unique_ptr<Client>(new Client{loop, pair.socket, Operation()}));
        }
        const auto called = [&crowd](std::size_t index, Error error, bool more) {
            if (!more) ++crowd.finals[index];
            if (crowd.clients[index] == nullptr) {
                if (error == Error::cancelled) ++crowd.cancelled;
                return;
            }
            EXPECT_EQ(*crowd.clients[index]->memory, "alive");
            ++crowd.alive_calls;
            for (auto& client : crowd.clients) client.reset();
        };
        first_destroys_the_others(loop, peers, crowd, [&](std::size_t index) {
            Client& client = *crowd.clients[index];
            if (kind == 0) {
                client.operation = *loop.submit(
                    Recv{client.socket, loop.buffer(100)},
                    [&, index](Loop&, Recv::Done done) { called(index, done.error, false); });
            } else {
                client.operation = *loop.submit(RecvStream{client.socket},
                                                [&, index](Loop&, RecvStream::Done done) {
                                                    called(index, done.error, done.more);
                                                });
            }
        });
        run_until(loop, [&] { return loop.statistics().handles == 0; });
        EXPECT_EQ(crowd.alive_calls, 1);
        for (int finals : crowd.finals) EXPECT_EQ(finals, 1);
        for (Peer& peer : peers) EXPECT_LE(peer.receive(1).size(), 0u);
    }
    expect_clean(loop);
}

TEST_P(TcpReentrancy, first_of_many_ready_sends_and_accepts_destroys_all_others) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    constexpr std::size_t count = 20;
    std::vector<Peer> peers;
    std::vector<std::unique_ptr<Client>> clients;
    std::vector<End> ends(count);
    std::vector<Listener> listeners;
    std::vector<Socket> accepted;
    for (std::size_t index = 0; index < count; ++index) {
        Pair pair = make_local_pair(loop);
        peers.push_back(std::move(pair.peer));
        clients.push_back(std::unique_ptr<Client>(new Client{loop, pair.socket, Operation()}));
        listeners.push_back(listen_here(loop));
    }
    int finals = 0;
    const auto destroy = [&] {
        for (auto& client : clients) client.reset();
        for (Listener listener : listeners) static_cast<void>(loop.close(listener));
    };
    for (std::size_t index = 0; index < count; ++index) {
        EXPECT_TRUE(loop.submit(Accept{listeners[index]}, [&](Loop&, Accept::Done done) {
            ++finals;
            if (done.socket) accepted.push_back(done.socket);
            destroy();
        }));
        EXPECT_TRUE(loop.submit(SendAll{clients[index]->socket, filled(10)},
                                [&](Loop&, SendAll::Done done) {
                                    ++finals;
                                    EXPECT_EQ(done.buffer.size(), 10u);
                                    if (!done.error) {
                                        EXPECT_EQ(done.bytes, 10u);
                                    }
                                    destroy();
                                }));
    }
    std::vector<Peer> connected;
    for (Listener listener : listeners) {
        const Result<Address> address = local_address(loop, listener);
        connected.push_back(Peer::connect_to(address->port()));
    }
    run_until(loop, [&] { return finals == 2 * static_cast<int>(count); });
    close_all(loop, accepted);
    expect_clean(loop);
}

TEST_P(TcpReentrancy, first_cancels_all_others_that_are_ready) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    constexpr std::size_t count = 50;
    std::vector<Socket> sockets;
    std::vector<Peer> peers;
    std::vector<Operation> operations(count);
    std::vector<int> finals(count, 0);
    std::size_t received = 0, cancelled = 0;
    for (std::size_t index = 0; index < count; ++index) {
        Pair pair = make_local_pair(loop);
        sockets.push_back(pair.socket);
        peers.push_back(std::move(pair.peer));
    }
    for (std::size_t index = 0; index < count; ++index) {
        operations[index] = *loop.submit(
            Recv{sockets[index], loop.buffer(100)}, [&, index](Loop& in, Recv::Done done) {
                ++finals[index];
                EXPECT_EQ(in.cancel(operations[index]), Cancelled::not_found) << "free first";
                if (done.error) {
                    EXPECT_EQ(done.error, Error::cancelled);
                    EXPECT_TRUE(done.buffer.empty());
                    ++cancelled;
                } else {
                    EXPECT_EQ(done.buffer.text(), "x");
                    ++received;
                }
                for (Operation operation : operations) static_cast<void>(in.cancel(operation));
            });
    }
    EXPECT_FALSE(loop.poll());
    for (Peer& peer : peers) peer.send("x");
    run_until(loop, [&] { return received + cancelled == count; });
    EXPECT_GE(received, 1u);
    for (int number : finals) EXPECT_EQ(number, 1);
    // What a cancelled receive did not take is still there.
    for (std::size_t index = 0; index < count; ++index) {
        End end;
        const Result<Operation> rest =
            loop.submit(Recv{sockets[index], loop.buffer(10)}, into(end));
        ASSERT_TRUE(rest);
        turns(loop, 3);
        static_cast<void>(loop.cancel(*rest));
        run_until(loop, [&] { return end.finals == 1; });
        received += end.text.size();
    }
    EXPECT_EQ(received, count);
    close_all(loop, sockets);
    expect_clean(loop);
}

// An object on the heap that is its own handler and deletes itself in it.
template <class Op>
struct SelfDeleting {
    Loop& loop;
    Socket socket;
    int& deleted;
    std::string memory = "alive";
    void operator()(Loop& in, typename Op::Done done) {
        if constexpr (HasMore<typename Op::Done>::value) {
            if (done.more) {
                EXPECT_FALSE(in.close(socket));
                return;
            }
        } else {
            static_cast<void>(in.close(socket));
        }
        EXPECT_EQ(memory, "alive");
        ++deleted;
        delete this;
    }
};

TEST_P(TcpReentrancy, handler_object_deletes_itself) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int deleted = 0;
    std::vector<Peer> peers;
    for (int round = 0; round < 5; ++round) {
        const auto pair = [&] {
            Pair made = make_local_pair(loop);
            made.peer.send("text");
            peers.push_back(std::move(made.peer));
            return made.socket;
        };
        Socket s = pair();
        EXPECT_TRUE(loop.submit(Recv{s, loop.buffer(9)}, new SelfDeleting<Recv>{loop, s, deleted}));
        s = pair();
        EXPECT_TRUE(loop.submit(RecvStream{s}, new SelfDeleting<RecvStream>{loop, s, deleted}));
        s = pair();
        EXPECT_TRUE(
            loop.submit(SendAll{s, filled(9)}, new SelfDeleting<SendAll>{loop, s, deleted}));
        s = pair();
        EXPECT_TRUE(loop.submit(Send{s, filled(9)}, new SelfDeleting<Send>{loop, s, deleted}));
        s = pair();
        EXPECT_TRUE(loop.submit(Shutdown{s}, new SelfDeleting<Shutdown>{loop, s, deleted}));
        s = pair();
        EXPECT_TRUE(loop.submit(Nop{}, new SelfDeleting<Nop>{loop, s, deleted}));
        run_until(loop, [&] { return loop.statistics().handles == 0; });
    }
    EXPECT_EQ(deleted, 30);
    expect_clean(loop);
}

// The loop must have destroyed the handler, and what it holds, when that has run for the last time.
TEST_P(TcpReentrancy, handler_is_destroyed_exactly_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto token = std::make_shared<int>(0);
    Pair pair = make_local_pair(loop);
    struct Holder {
        std::shared_ptr<int> token;
        void operator()(Loop&, Recv::Done) { EXPECT_EQ(token.use_count(), 2); }
        void operator()(Loop&, RecvStream::Done) { EXPECT_EQ(token.use_count(), 2); }
        void operator()(Loop&, Nop::Done) { EXPECT_EQ(token.use_count(), 2); }
    };
    ASSERT_TRUE(loop.submit(Nop{}, Holder{token}));
    run_until(loop, [&] { return token.use_count() == 1; });
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, Holder{token}));
    pair.peer.send("some");
    turns(loop, 3);
    EXPECT_EQ(token.use_count(), 2);
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(token.use_count(), 1);
    Holder kept{token};
    Recv recv{pair.socket, loop.buffer(10)};
    EXPECT_FALSE(loop.submit(std::move(recv), std::move(kept)));
    EXPECT_EQ(kept.token, token) << "a refused handler has not been moved from";
    expect_clean(loop);
}

TEST_P(TcpReentrancy, no_handler_runs_inside_a_call) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    bool inside = true;
    std::vector<End> ends(12);
    for (End& end : ends) end.inside = &inside;
    Pair pair = make_pair(loop);
    const Listener listener = listen_here(loop);
    const Address address = *local_address(loop, listener);
    pair.peer.send("ready");
    Peer waiting = Peer::connect_to(address.port());
    // All of these could be answered at once.
    std::vector<Result<Operation>> made;
    made.push_back(loop.submit(Nop{}, into(ends[0])));
    made.push_back(loop.submit(Recv{pair.socket, loop.buffer(2)}, into(ends[1])));
    made.push_back(loop.submit(RecvStream{pair.socket}, into(ends[2])));
    made.push_back(loop.submit(Send{pair.socket, filled(2)}, into(ends[3])));
    made.push_back(loop.submit(SendAll{pair.socket, filled(2)}, into(ends[4])));
    made.push_back(loop.submit(SendAll{pair.socket, Buffer()}, into(ends[5])));
    made.push_back(loop.submit(Accept{listener}, into(ends[6])));
    made.push_back(loop.submit(Connect{address}, into(ends[7])));
    made.push_back(loop.submit(Connect{address}, within(0ns), into(ends[8])));
    made.push_back(loop.submit(Nop{}, within(0ns), into(ends[9])));
    made.push_back(loop.submit(Shutdown{pair.socket}, into(ends[10])));
    made.push_back(loop.submit(Nop{}, into(ends[11])));
    for (const Result<Operation>& result : made) EXPECT_TRUE(result);
    static_cast<void>(loop.cancel(*made[11]));
    inside = false;
    turns(loop, 5);
    inside = true;
    static_cast<void>(loop.cancel(*made[2]));
    EXPECT_FALSE(loop.close(pair.socket, [&](Loop&) { EXPECT_FALSE(inside); }));
    EXPECT_FALSE(loop.close(listener, [&](Loop&) { EXPECT_FALSE(inside); }));
    inside = false;
    const auto all_ended = [&] {
        return std::all_of(ends.begin(), ends.end(), [](End& end) { return end.finals == 1; });
    };
    run_until(loop, all_ended);
    close_all(loop, {ends[6].socket, ends[7].socket});
    expect_clean(loop);
}

// Submits itself again from its own handler; a call inside submit would show as depth.
struct Chain {
    int left;
    int* depth;
    int* done;
    void operator()(Loop& loop, Nop::Done answer) {
        EXPECT_FALSE(answer.error);
        EXPECT_EQ(++*depth, 1);
        ++*done;
        if (--left > 0) {
            EXPECT_TRUE(loop.submit(Nop{}, Chain{left, depth, done}));
        }
        --*depth;
    }
};

TEST_P(TcpReentrancy, hundred_thousand_resubmissions_stay_at_depth_one) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int depth = 0, done = 0;
    constexpr int chains = 20, length = 5'000;
    for (int chain = 0; chain < chains; ++chain) {
        ASSERT_TRUE(loop.submit(Nop{}, Chain{length, &depth, &done}));
    }
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(done, chains * length);
    expect_clean(loop);
}

// Sends and receives that could always be done at once, each from the handler of the one before.
TEST_P(TcpReentrancy, transfers_resubmitted_from_their_handlers_stay_at_depth_one) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    struct Sender {
        Socket socket;
        int left, depth = 0;
        void operator()(Loop& in, SendAll::Done done) {
            EXPECT_FALSE(done.error);
            EXPECT_EQ(++depth, 1);
            if (--left > 0) {
                EXPECT_TRUE(in.submit(SendAll{socket, std::move(done.buffer)}, this));
            }
            --depth;
        }
    } sender{pair.socket, 2'000};
    struct Receiver {
        Socket socket;
        int got = 0, depth = 0;
        void operator()(Loop& in, Recv::Done done) {
            EXPECT_FALSE(done.error);
            EXPECT_EQ(++depth, 1);
            got += static_cast<int>(done.buffer.size());
            if (got < 2'000) {
                EXPECT_TRUE(in.submit(Recv{socket, std::move(done.buffer)}, this));
            }
            --depth;
        }
    } receiver{pair.socket};
    pair.peer.send(std::string(2'000, 'x'));
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(2'000); });
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(1)}, &sender));
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(1)}, &receiver));
    EXPECT_FALSE(loop.run());
    reader.join();
    EXPECT_EQ(sender.left, 0);
    EXPECT_EQ(receiver.got, 2'000);
    EXPECT_EQ(got.size(), 2'000u);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
