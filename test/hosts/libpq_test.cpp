// SPDX-License-Identifier: MIT
// Goal: libpq works on a whorl loop through everything its connections do, the ugly cases included.
// Method: a private PostgreSQL cluster on a Unix socket, whose processes are killed when a test wants it.
#include "hosts/postgres.hpp"
#include "hosts/server.hpp"

#include <whorl/adapters/libpq.hpp>

#include <sys/un.h>

#include <functional>
#include <map>

namespace whorl::hosts {
namespace {

// A connection whose calls are functions of the test; results are freed when they return.
struct Client {
    adapters::PqConnection connection;
    std::function<void(bool)> connected = [](bool) {};
    std::function<void(PGresult*)> result = [](PGresult*) {};
    std::function<void(const PGnotify&)> notified = [](const PGnotify&) {};
    std::function<void()> copy = [] {};
    std::function<void()> lost = [] { ADD_FAILURE() << "lost"; };

    Error open(Loop& loop, const std::string& where) {
        using adapters::PqConnection;
        adapters::PqCalls calls;
        calls.user = this;
        calls.connected = [](void* self, PqConnection&, bool made) { of(self).connected(made); };
        calls.result = [](void* self, PqConnection&, PGresult* result) {
            of(self).result(result);
            PQclear(result);
        };
        calls.copy = [](void* self, PqConnection&) { of(self).copy(); };
        calls.notified = [](void* self, PqConnection&, const PGnotify& notify) {
            of(self).notified(notify);
        };
        calls.lost = [](void* self, PqConnection&) { of(self).lost(); };
        return connection.open(loop, where.c_str(), calls);
    }
    PGconn* conn() { return connection.handle(); }
    void query(const std::string& text) {
        EXPECT_EQ(PQsendQuery(conn(), text.c_str()), 1) << PQerrorMessage(conn());
    }
    static Client& of(void* self) { return *static_cast<Client*>(self); }
};

std::string value_of(PGresult* result) {
    return PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : PQresultErrorMessage(result);
}

class Libpq : public HostTest {
  protected:
    static void SetUpTestSuite() {
        if (!Postgres::installed()) return;
        postgres = new Postgres;
        postgres->create();
    }
    static void TearDownTestSuite() {
        delete postgres;
        postgres = nullptr;
    }
    void SetUp() override {
        if (postgres == nullptr) GTEST_SKIP() << "no PostgreSQL";
        HostTest::SetUp();
        if (loop == nullptr) return;
        postgres->await();
        if (HasFatalFailure()) return;
        where = postgres->conninfo();
    }
    void TearDown() override {
        if (loop == nullptr) return;
        other.connection.close();
        client.connection.close();
        // A request to cancel may still be with its thread.
        while (left_over() > 0) ASSERT_FALSE(loop->run_once());
    }
    // Connects, and runs until the test calls finish().
    void with(const std::function<void()>& then) {
        client.connected = [&](bool made) {
            ASSERT_TRUE(made) << PQerrorMessage(client.conn());
            then();
        };
        ASSERT_FALSE(client.open(*loop, where));
        run();
    }

    static Postgres* postgres;
    std::string where;
    Client client, other;
};
Postgres* Libpq::postgres = nullptr;
WHORL_HOST_TESTS(Libpq);

TEST_P(Libpq, a_query_is_answered_and_the_loop_ends_with_the_connection) {
    std::vector<std::string> seen;
    client.result = [&](PGresult* result) {
        seen.push_back(result == nullptr ? "end" : value_of(result));
        if (result == nullptr) client.connection.close();  // in its own callback
    };
    with([&] { client.query("select 6 * 7; select 'second'"); });
    EXPECT_EQ(seen, (std::vector<std::string>{"42", "second", "end"}));
    EXPECT_EQ(left_over(), 0u) << "a watch was left";
}

TEST_P(Libpq, queries_travel_in_a_pipeline) {
    int next = 0, syncs = 0;
    client.result = [&](PGresult* result) {
        if (result == nullptr) return;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            if (++syncs == 2) finish();
            return;
        }
        EXPECT_EQ(value_of(result), std::to_string(next++));
    };
    with([&] {
        ASSERT_EQ(PQenterPipelineMode(client.conn()), 1);
        for (int number = 0; number < 1000; ++number) {
            const std::string text = std::to_string(number);
            const char* values[] = {text.c_str()};
            PQsendQueryParams(client.conn(), "select $1::int", 1, nullptr, values, nullptr, nullptr,
                              0);
            if (number == 499) PQpipelineSync(client.conn());
        }
        PQpipelineSync(client.conn());
    });
    EXPECT_EQ(next, 1000);
    EXPECT_EQ(syncs, 2);
}

TEST_P(Libpq, an_error_in_a_pipeline_aborts_what_follows_until_the_sync) {
    std::map<ExecStatusType, int> statuses;
    client.result = [&](PGresult* result) {
        if (result == nullptr) return;
        ++statuses[PQresultStatus(result)];
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) finish();
    };
    with([&] {
        ASSERT_EQ(PQenterPipelineMode(client.conn()), 1);
        for (const char* text : {"select 1", "select 1/0", "select 2", "select 3"}) {
            PQsendQueryParams(client.conn(), text, 0, nullptr, nullptr, nullptr, nullptr, 0);
        }
        PQpipelineSync(client.conn());
    });
    EXPECT_EQ(statuses[PGRES_TUPLES_OK], 1);
    EXPECT_EQ(statuses[PGRES_FATAL_ERROR], 1);
    EXPECT_EQ(statuses[PGRES_PIPELINE_ABORTED], 2);
}

// More than the sockets hold, in both directions at once.
TEST_P(Libpq, megabytes_go_to_and_fro) {
    const std::string large(2 << 20, 'v');
    int whole = 0;
    client.result = [&](PGresult* result) {
        if (result == nullptr) return;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) return finish();
        whole += value_of(result) == large ? 1 : 0;
    };
    with([&] {
        ASSERT_EQ(PQenterPipelineMode(client.conn()), 1);
        const char* values[] = {large.c_str()};
        for (int count = 0; count < 4; ++count) {
            PQsendQueryParams(client.conn(), "select $1::text", 1, nullptr, values, nullptr,
                              nullptr, 0);
        }
        PQpipelineSync(client.conn());
    });
    EXPECT_EQ(whole, 4);
}

TEST_P(Libpq, rows_come_one_by_one) {
    int rows = 0;
    client.result = [&](PGresult* result) {
        if (result == nullptr) return finish();
        if (PQresultStatus(result) != PGRES_SINGLE_TUPLE) return;
        EXPECT_EQ(value_of(result), std::to_string(++rows));
    };
    with([&] {
        client.query("select generate_series(1, 10000)");
        ASSERT_EQ(PQsetSingleRowMode(client.conn()), 1);
    });
    EXPECT_EQ(rows, 10000);
}

TEST_P(Libpq, copy_moves_rows_in_and_out) {
    constexpr int rows_all = 50'000;
    int put = 0, got = 0, queries = 0;
    bool puts = true;
    client.copy = [&] {
        while (puts && put < rows_all) {
            const std::string row = std::to_string(put) + "\n";
            const int taken =
                PQputCopyData(client.conn(), row.c_str(), static_cast<int>(row.size()));
            ASSERT_GE(taken, 0);
            if (taken == 0) return;
            ++put;
        }
        if (puts) {
            puts = PQputCopyEnd(client.conn(), nullptr) == 0;
            return;
        }
        char* row = nullptr;
        while (PQgetCopyData(client.conn(), &row, 1) > 0) {
            EXPECT_EQ(std::string(row), std::to_string(got++) + "\n");
            PQfreemem(row);
        }
    };
    client.result = [&](PGresult* result) {
        if (result != nullptr) {
            EXPECT_NE(PQresultStatus(result), PGRES_FATAL_ERROR) << PQresultErrorMessage(result);
            return;
        }
        if (++queries == 1) return client.query("copy pg_temp.numbers from stdin");
        if (queries == 2) return client.query("copy (select n from numbers order by n) to stdout");
        finish();
    };
    with([&] { client.query("create temp table numbers (n int)"); });
    EXPECT_EQ(put, rows_all);
    EXPECT_EQ(got, rows_all);
    EXPECT_EQ(queries, 3);
}

TEST_P(Libpq, notifications_arrive_while_nothing_is_asked) {
    std::vector<std::string> heard;
    client.notified = [&](const PGnotify& notify) {
        heard.push_back(std::string(notify.relname) + ":" + notify.extra);
        if (heard.size() == 3) finish();
    };
    client.result = [&](PGresult* result) {
        if (result != nullptr) return;
        // It listens: the other one may speak.
        other.connected = [&](bool made) {
            ASSERT_TRUE(made);
            other.query("notify news, 'one'; notify news, 'two'; notify news, 'three'");
        };
        ASSERT_FALSE(other.open(*loop, where));
    };
    with([&] { client.query("listen news"); });
    EXPECT_EQ(heard, (std::vector<std::string>{"news:one", "news:two", "news:three"}));
}

TEST_P(Libpq, a_query_is_cancelled) {
    std::string state;
    client.result = [&](PGresult* result) {
        if (result == nullptr) return finish();
        const char* text = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        state = text != nullptr ? text : "none";
    };
    // Another connection looks whether the server has begun.
    std::string look;
    other.connected = [&](bool made) {
        ASSERT_TRUE(made);
        other.query(look);
    };
    other.result = [&](PGresult* result) {
        if (result == nullptr) return;
        if (value_of(result) != "1") {
            ASSERT_TRUE(loop->after(5ms, [&](Loop&, Expired) {
                other.query(look);
                other.connection.flush();
            }));
            return;
        }
        EXPECT_FALSE(client.connection.cancel());
    };
    with([&] {
        look = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and pid = " +
               std::to_string(PQbackendPID(client.conn()));
        client.query("select pg_sleep(3600)");
        ASSERT_FALSE(other.open(*loop, where));
    });
    EXPECT_EQ(state, "57014");
}

// The first host says that it is starting up; libpq closes that socket and opens the next, which gets the
// same number.
TEST_P(Libpq, the_socket_is_replaced_while_connecting) {
    const std::string folder = postgres->server.folder + "/first";
    std::filesystem::create_directory(folder);
    const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = folder + "/.s.PGSQL.5432";
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listener, 1), 0);
    int first_fd = -1, accepted = -1;
    const Result<Watch> watch =
        loop->watch(listener, Interest::readable, [&](Loop& inner, Watched watched) {
            first_fd = PQsocket(client.conn());
            accepted = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            const char refusal[] = "E\0\0\0\x27SFATAL\0VFATAL\0C57P03\0Mstarting up\0";
            EXPECT_EQ(::write(accepted, refusal, sizeof refusal),
                      static_cast<ssize_t>(sizeof refusal));
            inner.cancel(watched.watch);
        });
    ASSERT_TRUE(watch);
    where = "host=" + folder + "," + postgres->server.folder + " user=whorl dbname=postgres";
    std::string answer;
    client.result = [&](PGresult* result) {
        if (result == nullptr) return finish();
        answer = value_of(result);
    };
    int second_fd = -1;
    with([&] {
        second_fd = PQsocket(client.conn());
        client.query("select 'here'");
    });
    EXPECT_EQ(answer, "here");
    EXPECT_GE(first_fd, 0) << "the first host was not asked";
    EXPECT_EQ(first_fd, second_fd) << "the case that the number cannot tell apart";
    ::close(accepted);
    ::close(listener);
    std::filesystem::remove_all(folder);
}

TEST_P(Libpq, refusals_are_told_from_dispatch) {
    bool inside = true;
    int refusals = 0;
    const auto refused = [&](bool made) {
        EXPECT_FALSE(made);
        EXPECT_FALSE(inside) << "called from inside open()";
        if (++refusals == 3) finish();
    };
    client.connected = other.connected = refused;
    Client third;
    third.connected = refused;
    ASSERT_FALSE(client.open(*loop, "host=/nonexistent"));
    ASSERT_FALSE(other.open(*loop, "no such = 'string"));
    ASSERT_FALSE(third.open(*loop, where + " options=-cwhorl=1"));
    inside = false;
    run();
    EXPECT_EQ(refusals, 3);
    EXPECT_EQ(left_over(), 0u);
}

TEST_P(Libpq, a_connection_ends_itself_in_every_callback) {
    for (const char* at : {"connected", "result", "end", "notified"}) {
        auto one = std::make_unique<Client>();
        const auto end = [&](const char* here) {
            if (here == std::string(at)) one->connection.close();
        };
        one->connected = [&](bool) {
            one->query("listen self; select 1; notify self");
            end("connected");
        };
        one->result = [&](PGresult* result) { end(result == nullptr ? "end" : "result"); };
        one->notified = [&](const PGnotify&) { end("notified"); };
        ASSERT_FALSE(one->open(*loop, where));
        run();
        EXPECT_EQ(one->conn(), nullptr) << at;
        EXPECT_EQ(left_over(), 0u) << at;
    }
}

TEST_P(Libpq, a_server_process_that_is_killed_ends_the_query_and_the_connection) {
    std::vector<std::string> seen;
    client.result = [&](PGresult* result) {
        seen.push_back(result == nullptr ? "end" : PQresStatus(PQresultStatus(result)));
    };
    // The server is up again after a while; until then it refuses.
    const std::function<void(bool)> again = [&](bool made) {
        if (made) {
            seen.push_back("back");
            return finish();
        }
        ASSERT_TRUE(
            loop->after(20ms, [&](Loop&, Expired) { EXPECT_FALSE(client.connection.reset()); }));
    };
    client.lost = [&] {
        EXPECT_FALSE(client.connection.error());
        seen.push_back("lost");
        client.connected = again;
        EXPECT_FALSE(client.connection.reset());
    };
    with([&] {
        client.query("select pg_sleep(3600)");
        ASSERT_EQ(::kill(PQbackendPID(client.conn()), SIGKILL), 0);
    });
    EXPECT_EQ(seen, (std::vector<std::string>{"PGRES_FATAL_ERROR", "end", "lost", "back"}));
    // The server itself may learn of the death later, and begin its recovery then.
    postgres->server.stop(SIGQUIT);
    postgres->start();
}

TEST_P(Libpq, a_server_that_ends_is_lost_and_then_refuses) {
    int lost = 0;
    client.lost = [&] {
        ++lost;
        client.connected = [&](bool made) {
            EXPECT_FALSE(made);
            finish();
        };
        EXPECT_FALSE(client.connection.reset());
    };
    with([&] { postgres->server.stop(SIGQUIT); });
    EXPECT_EQ(lost, 1);
    postgres->start();
}

TEST_P(Libpq, a_loop_without_a_slot_refuses) {
    LoopOptions options;
    options.backend = GetParam();
    options.ops_max = 8;
    Result<Loop> small = Loop::create(options);
    ASSERT_TRUE(small);
    while (small->after(1h, [](Loop&, Expired) {})) {
    }
    EXPECT_EQ(client.open(*small, where), Error::slots_exhausted);
    client.connection.close();
    EXPECT_EQ(client.connection.cancel().value(), ENOTCONN);
}

// With so many slots free, each failure is told in one of the ways that there are, and with enough of them
// there is none.
TEST_P(Libpq, slots_that_run_out_on_the_way_are_told) {
    int made = 0, refused = 0, failed = 0;
    for (std::size_t room = 0; room < 6; ++room) {
        LoopOptions options;
        options.backend = GetParam();
        options.ops_max = 8;
        Result<Loop> small = Loop::create(options);
        ASSERT_TRUE(small);
        std::vector<Timer> timers;
        while (const Result<Timer> timer = small->after(1h, [](Loop&, Expired) {})) {
            timers.push_back(*timer);
        }
        for (std::size_t index = 0; index < room; ++index) small->cancel(timers[index]);
        ASSERT_FALSE(small->poll());
        Client one;
        bool told = false;
        one.lost = [&] {
            EXPECT_EQ(one.connection.error(), Error::slots_exhausted);
            told = ++failed != 0;
        };
        one.connected = [&](bool well) { well ? one.query("select 1") : one.lost(); };
        one.result = [&](PGresult* result) { told = told || (result == nullptr && ++made != 0); };
        if (const Error error = one.open(*small, where)) {
            EXPECT_EQ(error, Error::slots_exhausted);
            told = ++refused != 0;
        }
        for (int turn = 0; !told && turn < 1000; ++turn) ASSERT_FALSE(small->run_for(10ms));
        EXPECT_TRUE(told) << room;
        one.connection.close();
    }
    EXPECT_GT(made, 0);
    EXPECT_GT(refused, 0);
    EXPECT_EQ(made + refused + failed, 6);
}

TEST_P(Libpq, what_nobody_wants_to_hear_is_dropped) {
    adapters::PqConnection silent;
    silent.flush();  // it is not open
    ASSERT_FALSE(silent.open(*loop, where.c_str(), {}));
    int stage = 0;
    const auto step = [&] {
        PGconn* const conn = silent.handle();
        if (stage == 0 && PQstatus(conn) == CONNECTION_OK) {
            ASSERT_EQ(PQsendQuery(conn, "listen me; notify me; select 1; select 2"), 1);
            silent.flush();
            ++stage;
        } else if (stage == 1 && PQtransactionStatus(conn) == PQTRANS_IDLE) {
            ASSERT_EQ(PQsendQuery(conn, "copy (select 7) to stdout"), 1);
            silent.flush();
            ++stage;
        } else if (stage == 2) {
            char* row = nullptr;
            if (PQgetCopyData(conn, &row, 1) <= 0) return;
            EXPECT_STREQ(row, "7\n");
            PQfreemem(row);
            ++stage;
        } else if (stage == 3) {
            char* row = nullptr;
            if (PQgetCopyData(conn, &row, 1) != -1) return;
            ASSERT_EQ(::kill(PQbackendPID(conn), SIGTERM), 0);
            ++stage;
        } else if (stage == 4 && PQstatus(conn) == CONNECTION_BAD) {
            finish();
        }
    };
    const Result<Timer> steps = loop->every(1ms, [&](Loop&, Expired) { step(); });
    ASSERT_TRUE(steps);
    run();
    EXPECT_EQ(stage, 4);
    loop->cancel(*steps);
    silent.close();
    ASSERT_FALSE(silent.open(*loop, "host=/nonexistent", {}));
    while (left_over() != 0) ASSERT_FALSE(loop->run_once());
}

}  // namespace
}  // namespace whorl::hosts
