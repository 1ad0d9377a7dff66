// SPDX-License-Identifier: MIT
// Goal: close is a state machine. Everything on the descriptor ends once with `cancelled`, buffers come
// home, the number is given back when the kernel has let go, the close handler runs last, and the peer
// hears of it. Method: operations in every state are closed under; buffers are known by address.
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class TcpClose : public TcpTools {
  protected:
    // Runs until the close handler was called, which writes '.' into `order`.
    static void close_in_order(Loop& loop, Socket socket, std::string& order) {
        bool inside = true;
        ASSERT_FALSE(loop.close(socket, [&](Loop&) {
            EXPECT_FALSE(inside);
            order += '.';
        }));
        inside = false;
        EXPECT_EQ(loop.close(socket), Error::stale_handle);
        run_until(loop, [&] { return order.find('.') != std::string::npos; });
    }
};
WHORL_CONFORMANCE(TcpClose);

// The states an operation can be in when nothing arrives: noted (0 turns) and with the kernel.
constexpr int turns_before[] = {0, 1, 3};

TEST_P(TcpClose, ends_a_receive_once_with_its_buffer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int count : turns_before) {
        Pair pair = make_pair(loop);
        std::string order;
        End end;
        end.order = &order;
        end.name = 'r';
        Buffer buffer = loop.buffer(1000);
        const Place place(buffer);
        ASSERT_TRUE(loop.submit(Recv{pair.socket, std::move(buffer)}, into(end)));
        turns(loop, count);
        close_in_order(loop, pair.socket, order);
        EXPECT_EQ(order, "r.");
        EXPECT_EQ(end.error, Error::cancelled);
        EXPECT_TRUE(place.holds(end.buffer));
        EXPECT_TRUE(end.buffer.empty());
        EXPECT_EQ(pair.peer.receive(1), "");
    }
    expect_clean(loop);
}

TEST_P(TcpClose, ends_a_received_stream_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int count : turns_before) {
        Pair pair = make_pair(loop);
        std::string order;
        End end;
        end.order = &order;
        end.name = 's';
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(end)));
        turns(loop, count);
        close_in_order(loop, pair.socket, order);
        EXPECT_EQ(order, "s.");
        EXPECT_EQ(end.parts, 0);
        EXPECT_EQ(end.error, Error::cancelled);
        EXPECT_TRUE(end.buffer.empty());
        EXPECT_EQ(pair.peer.receive(1), "");
    }
    expect_clean(loop);
}

TEST_P(TcpClose, ends_a_blocked_send_with_the_bytes_really_sent) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int count : {0, 1, 5}) {
        Pair pair = make_narrow_pair(loop);
        std::string order;
        End end;
        end.order = &order;
        end.name = 'w';
        Buffer buffer = filled(blocked_size);
        const Place place(buffer);
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, std::move(buffer)}, into(end)));
        turns(loop, count);
        close_in_order(loop, pair.socket, order);
        EXPECT_EQ(order, "w.");
        EXPECT_EQ(end.error, Error::cancelled);
        EXPECT_TRUE(place.holds(end.buffer));
        EXPECT_EQ(end.buffer.size(), blocked_size);
        EXPECT_LT(end.bytes, blocked_size);
        if (count == 0) {
            EXPECT_EQ(end.bytes, 0u);
        }
        const std::string got = pair.peer.receive(blocked_size);
        EXPECT_EQ(got.size(), end.bytes);
        EXPECT_TRUE(got == pattern(got.size()));
    }
    expect_clean(loop);
}

TEST_P(TcpClose, ends_queued_operations_of_both_sides_in_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int count : turns_before) {
        Pair pair = make_narrow_pair(loop);
        std::string order, receives, sends;
        constexpr int each = 4;
        std::vector<End> ends(2 * each);
        std::vector<Place> places(2 * each);
        for (int index = 0; index < 2 * each; ++index) {
            End& end = ends[static_cast<std::size_t>(index)];
            Place& place = places[static_cast<std::size_t>(index)];
            end.order = index < each ? &receives : &sends;
            end.name = static_cast<char>('0' + index % each);
            Buffer buffer = index < each ? loop.buffer(100) : filled(blocked_size / 4);
            place = Place(buffer);
            if (index < each) {
                ASSERT_TRUE(loop.submit(Recv{pair.socket, std::move(buffer)}, into(end)));
            } else {
                ASSERT_TRUE(loop.submit(SendAll{pair.socket, std::move(buffer)}, into(end)));
            }
        }
        End shut;
        ASSERT_TRUE(loop.submit(Shutdown{pair.socket}, into(shut)));
        turns(loop, count);
        close_in_order(loop, pair.socket, order);
        EXPECT_EQ(receives.size(), static_cast<std::size_t>(each));
        EXPECT_EQ(sends.size(), static_cast<std::size_t>(each));
        EXPECT_EQ(shut.finals, 1);
        EXPECT_EQ(shut.error, Error::cancelled);
        std::uint64_t sent = 0;
        for (std::size_t index = 0; index < ends.size(); ++index) {
            EXPECT_EQ(ends[index].finals, 1);
            EXPECT_EQ(ends[index].error, Error::cancelled);
            EXPECT_TRUE(places[index].holds(ends[index].buffer));
            sent += ends[index].bytes;
        }
        EXPECT_EQ(pair.peer.receive(2 * blocked_size).size(), sent);
    }
    expect_clean(loop);
}

TEST_P(TcpClose, cancelled_connect_leaves_no_socket) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Blackhole hole;
    const std::set<int> before = os::open_descriptors();
    for (int count : turns_before) {
        End end;
        const Result<Operation> operation = loop.submit(Connect{hole.address()}, into(end));
        ASSERT_TRUE(operation);
        EXPECT_EQ(loop.statistics().handles, 1u);
        turns(loop, count);
        EXPECT_EQ(end.finals, 0);
        EXPECT_EQ(loop.cancel(*operation), Cancelled::cancelling);
        run_until(loop, [&] { return end.finals != 0; });
        EXPECT_EQ(end.error, Error::cancelled);
        EXPECT_FALSE(end.socket);
        EXPECT_EQ(loop.statistics().handles, 0u);
        EXPECT_EQ(os::open_descriptors(), before);
    }
    expect_clean(loop);
}

// An armed receive or poll would keep the socket alive in the kernel: no FIN for the peer.
TEST_P(TcpClose, peer_hears_of_it_within_two_turns) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int kind = 0; kind < 4; ++kind) {
        Pair pair = make_pair(loop);
        End end;
        if (kind == 0) {
            ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, into(end)));
        } else if (kind == 1) {
            ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(end)));
        } else if (kind == 2) {
            pair.peer.send("some");
            ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(end)));
            run_until(loop, [&] { return end.text == "some"; });
        }
        turns(loop, 2);
        ASSERT_FALSE(loop.close(pair.socket));
        turns(loop, 2);
        // From here on nobody runs the loop.
        EXPECT_TRUE(pair.peer.readable_within(1000ms)) << "kind " << kind;
        EXPECT_EQ(pair.peer.receive(1), "");
        run_until(loop, [&] { return loop.statistics().handles == 0; });
    }
    expect_clean(loop);
}

TEST_P(TcpClose, port_of_a_listener_is_free_when_the_handler_runs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ListenOptions options;
    options.reuse_address = false;
    Listener listener = listen_here(loop, options);
    const Address address = *local_address(loop, listener);
    for (int round = 0; round < 6; ++round) {
        End end;
        if (round % 2 == 0) {
            ASSERT_TRUE(loop.submit(AcceptStream{listener}, into(end)));
        } else {
            ASSERT_TRUE(loop.submit(Accept{listener}, into(end)));
        }
        turns(loop, round / 2);
        bool closed = false;
        ASSERT_FALSE(loop.close(listener, [&](Loop& in) {
            Result<Listener> again = listen(in, address, options);
            EXPECT_TRUE(again) << again.error().text();
            if (again) listener = *again;
            closed = true;
        }));
        run_until(loop, [&] { return closed; });
        EXPECT_EQ(end.finals, 1);
        EXPECT_EQ(end.error, Error::cancelled);
    }
    Peer peer = Peer::connect_to(address.port());
    End accepted;
    ASSERT_TRUE(loop.submit(Accept{listener}, into(accepted)));
    run_until(loop, [&] { return accepted.finals != 0; });
    EXPECT_FALSE(accepted.error);
    ASSERT_FALSE(loop.close(listener));
    close_and_wait(loop, accepted.socket);
    expect_clean(loop);
}

TEST_P(TcpClose, stale_socket_is_refused_by_everything_and_moves_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_local_pair(loop);
    const Socket closed = pair.socket;
    close_and_wait(loop, closed);
    Pair next = make_local_pair(loop);  // takes the same slot
    EXPECT_EQ(next.socket.index(), closed.index());
    const auto refuse = [](Loop&, auto) { ADD_FAILURE() << "called"; };
    for (Socket stale : {closed, Socket()}) {
        const auto refused = [&](auto operation) {
            const Result<Operation> made = loop.submit(std::move(operation), refuse);
            EXPECT_FALSE(made);
            EXPECT_EQ(made.error(), Error::stale_handle);
        };
        Recv recv{stale, loop.buffer(100)};
        const Place place(recv.buffer);
        EXPECT_EQ(loop.submit(std::move(recv), refuse).error(), Error::stale_handle);
        EXPECT_TRUE(place.holds(recv.buffer)) << "a refused submission has moved nothing";
        SendChain chain{stale, {}};
        ASSERT_TRUE(chain.chain.push_back(filled(10)));
        EXPECT_EQ(loop.submit(std::move(chain), refuse).error(), Error::stale_handle);
        EXPECT_EQ(chain.chain.count(), 1u);
        refused(RecvStream{stale});
        refused(Send{stale, filled(10)});
        refused(SendAll{stale, filled(10)});
        refused(SendAll{stale, Buffer()});
        refused(Shutdown{stale});
        EXPECT_EQ(loop.close(stale), Error::stale_handle);
        EXPECT_EQ(loop.close(stale, [](Loop&) { ADD_FAILURE(); }), Error::stale_handle);
        EXPECT_EQ(set_option(loop, stale, NoDelay{}), Error::stale_handle);
        EXPECT_EQ(get_option<NoDelay>(loop, stale).error(), Error::stale_handle);
        EXPECT_EQ(local_address(loop, stale).error(), Error::stale_handle);
        EXPECT_EQ(peer_address(loop, stale).error(), Error::stale_handle);
        EXPECT_EQ(native_handle(loop, stale).error(), Error::stale_handle);
        EXPECT_EQ(detach(loop, stale).error(), Error::stale_handle);
    }
    EXPECT_EQ(loop.submit(Accept{Listener()}, refuse).error(), Error::stale_handle);
    EXPECT_EQ(loop.submit(AcceptStream{Listener()}, refuse).error(), Error::stale_handle);
    close_and_wait(loop, next.socket);
    expect_clean(loop);
}

TEST_P(TcpClose, handle_is_stale_at_once_and_slot_and_number_are_not_reused_before) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const int fd = fd_of(loop, pair.socket);
    End receive, send;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(receive)));
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(10)}, into(send)));
    turns(loop, 1);
    bool closed = false;
    ASSERT_FALSE(loop.close(pair.socket, [&](Loop&) {
        EXPECT_FALSE(fd_is_open(fd));
        EXPECT_EQ(receive.finals, 1);
        closed = true;
    }));
    EXPECT_EQ(loop.submit(Shutdown{pair.socket}, into(send)).error(), Error::stale_handle);
    EXPECT_TRUE(fd_is_open(fd)) << "the kernel still has a receive on it";
    const Listener other = listen_here(loop);
    EXPECT_NE(other.index(), pair.socket.index());
    EXPECT_NE(*native_handle(loop, other), fd);
    run_until(loop, [&] { return closed; });
    ASSERT_FALSE(loop.close(other));
    run_until(loop, [&] { return loop.statistics().handles == 0; });
    expect_clean(loop);
}

// A stale event of the old owner must not reach the new one of the same number, even though the old
// file lives on in a duplicate, as it does in a child process.
TEST_P(TcpClose, new_owner_of_the_number_gets_no_stale_event) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 20; ++round) {
        Pair first = make_local_pair(loop);
        Pair second = make_local_pair(loop);
        const int number = fd_of(loop, second.socket);
        const Peer duplicate(os::fcntl(number, F_DUPFD_CLOEXEC, 0));
        int fds[2];
        ASSERT_EQ(os::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        End old, fresh;
        Socket adopted;
        // The second is armed and has data when the first one's handler closes it.
        ASSERT_TRUE(loop.submit(RecvStream{second.socket}, into(old)));
        turns(loop, 2);
        struct State {
            Socket socket;
            int fd;
            int number;
            Socket* adopted;
            End* fresh;
        } state{second.socket, fds[0], number, &adopted, &fresh};
        ASSERT_TRUE(loop.submit(Recv{first.socket, loop.buffer(10)}, [&](Loop& in, Recv::Done) {
            EXPECT_FALSE(in.close(state.socket, [&state](Loop& now) {
                ASSERT_EQ(os::dup3(state.fd, state.number, O_CLOEXEC), state.number);
                os::close(state.fd);
                Result<Socket> made = adopt_socket(now, state.number);
                ASSERT_TRUE(made);
                *state.adopted = *made;
                ASSERT_TRUE(now.submit(RecvStream{*made}, into(*state.fresh)));
            }));
        }));
        first.peer.send("x");
        second.peer.send("stale");
        run_until(loop, [&] { return old.finals == 1 && adopted; });
        second.peer.send("more");
        turns(loop, 5);
        EXPECT_EQ(fresh.finals + fresh.parts, 0) << "round " << round;
        Peer peer(fds[1]);
        peer.send("new");
        run_until(loop, [&] { return fresh.text.size() >= 3; });
        EXPECT_EQ(fresh.text, "new");
        close_all(loop, {first.socket, adopted});
        EXPECT_EQ(fresh.finals, 1);
    }
    expect_clean(loop);
}

TEST_P(TcpClose, from_inside_every_handler) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int closed = 0;
    const auto closer = [&closed](Loop&) { ++closed; };
    const auto run = [&](int count) {
        run_until(loop, [&] { return closed == count && loop.statistics().handles == 0; });
        closed = 0;
    };
    const auto on_receive = [&](auto submit_one) {
        Pair pair = make_pair(loop);
        pair.peer.send("text");
        submit_one(pair.socket, [&, socket = pair.socket](Loop& in, auto) {
            static_cast<void>(in.close(socket, closer));
        });
        run(1);
    };
    on_receive([&](Socket s, auto h) { EXPECT_TRUE(loop.submit(Recv{s, loop.buffer(9)}, h)); });
    on_receive([&](Socket s, auto h) { EXPECT_TRUE(loop.submit(RecvStream{s}, h)); });
    on_receive([&](Socket s, auto h) { EXPECT_TRUE(loop.submit(Send{s, filled(5)}, h)); });
    on_receive([&](Socket s, auto h) { EXPECT_TRUE(loop.submit(SendAll{s, filled(5)}, h)); });
    on_receive([&](Socket s, auto h) { EXPECT_TRUE(loop.submit(SendAll{s, Buffer()}, h)); });
    on_receive([&](Socket s, auto h) { EXPECT_TRUE(loop.submit(Shutdown{s}, h)); });
    on_receive([&](Socket, auto h) { EXPECT_TRUE(loop.submit(Nop{}, h)); });
    on_receive([&](Socket, auto h) { EXPECT_TRUE(loop.after(0ns, h)); });
    on_receive(
        [&](Socket, auto h) { EXPECT_FALSE(loop.post([h](Loop& in) mutable { h(in, 0); })); });
    on_receive([&](Socket s, auto h) {
        SendChain chain{s, {}};
        ASSERT_TRUE(chain.chain.push_back(filled(5)));
        EXPECT_TRUE(loop.submit(std::move(chain), h));
    });
    on_receive([&](Socket s, auto h) {  // the stream's end, instead of a part
        EXPECT_TRUE(loop.submit(Shutdown{s, ShutdownSide::receive}, [](Loop&, Shutdown::Done) {}));
        EXPECT_TRUE(loop.submit(RecvStream{s}, [h](Loop& in, RecvStream::Done done) mutable {
            if (!done.more) h(in, 0);
        }));
    });
    // Connect and accept, each closing itself, the listener and the other one.
    const Listener listener = listen_here(loop);
    const Address address = *local_address(loop, listener);
    ASSERT_TRUE(loop.submit(AcceptStream{listener}, [&](Loop& in, AcceptStream::Done done) {
        if (!done.more) return;
        EXPECT_FALSE(in.close(done.socket, closer));
        EXPECT_FALSE(in.close(listener, [&, closer](Loop& now) {
            closer(now);
            EXPECT_EQ(now.close(listener), Error::stale_handle);
        }));
    }));
    ASSERT_TRUE(loop.submit(Connect{address}, [&](Loop& in, Connect::Done done) {
        EXPECT_FALSE(done.error);
        EXPECT_FALSE(in.close(done.socket, closer));
    }));
    run(3);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
