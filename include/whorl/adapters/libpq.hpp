// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/adapters/followed_socket.hpp>
#include <whorl/assert.hpp>
#include <whorl/loop.hpp>
#include <whorl/work.hpp>

#include <libpq-fe.h>

#include <memory>

// A connection to PostgreSQL on a whorl loop: made, used and made again without blocking.
//
//   whorl::adapters::PqConnection connection;
//   if (whorl::Error error = connection.open(loop, "host=/run/postgresql dbname=shop", calls)) …
//   … in calls.connected: PQsendQuery(connection.handle(), "select …"); connection.flush();
//   loop.run();
//
// Owns: the PGconn, until close() or destroyed. The loop must outlive this object.
// Calls: the functions of PqCalls, from the loop's dispatch and never from inside a call of this object.
// They may call everything of libpq that does not block, and every function of this object; they may
// destroy it.
// Thread: the loop's.
// Limits: as long as a connection is open, run() goes on. libpq looks host names up before open()
// returns; give hostaddr where that must not block. connect_timeout of the connection string does
// nothing here: close() by a timer. Do not mix in PQexec() and its kin, which take results away.
// Cost: one watch; no allocation but libpq's own.
// Source: the PostgreSQL manual, "libpq – C Library": "Asynchronous Command Processing", "Pipeline Mode".

namespace whorl::adapters {

class PqConnection;

// What a connection calls; null for what is of no interest.
struct PqCalls {
    void* user = nullptr;  // the program's; handed to each call as it is
    // Once after each open() and reset(). Not made: error(), or PQerrorMessage(), tells why.
    void (*connected)(void* user, PqConnection& connection, bool made) = nullptr;
    // Each result, the program's to PQclear(), and null at the end of each query. In pipeline mode a
    // PGRES_PIPELINE_SYNC stands alone, without a null behind it.
    void (*result)(void* user, PqConnection& connection, PGresult* result) = nullptr;
    // COPY: after its result, and then whenever something can be moved, until the program has ended it
    // by PQgetCopyData() or PQputCopyEnd().
    void (*copy)(void* user, PqConnection& connection) = nullptr;
    // What LISTEN brings.
    void (*notified)(void* user, PqConnection& connection, const PGnotify& notify) = nullptr;
    // The connection has ended by itself, after the results of what was under way.
    void (*lost)(void* user, PqConnection& connection) = nullptr;
};

// One connection; the contract stands above. Not to be moved.
class PqConnection {
  public:
    PqConnection() noexcept = default;
    PqConnection(const PqConnection&) = delete;
    PqConnection& operator=(const PqConnection&) = delete;
    ~PqConnection() { close(); }

    // Begins to connect; what was open is closed. `conninfo` as for PQconnectdb().
    // Errors: ENOMEM, slots_exhausted, loop_closed; everything else is told by `connected`.
    Error open(Loop& loop, const char* conninfo, const PqCalls& calls) noexcept {
        close();
        conn_ = PQconnectStart(conninfo);
        if (conn_ == nullptr) return Error::from_errno(ENOMEM);
        loop_ = &loop;
        calls_ = calls;
        return begin(&PQconnectPoll, PQstatus(conn_) != CONNECTION_BAD);
    }
    // Connects again, with the parameters of open(); what was under way is dropped. Errors: as open().
    Error reset() noexcept {
        WHORL_ASSERT(conn_ != nullptr);
        let_go();
        return begin(&PQresetPoll, PQresetStart(conn_) != 0);
    }
    // Nothing is called afterwards, and the loop may go.
    void close() noexcept {
        let_go();
        if (conn_ != nullptr) PQfinish(conn_);
        conn_ = nullptr;
        loop_ = nullptr;
    }
    // To be called after PQsend…() outside of this object's calls: sends what libpq has queued.
    void flush() noexcept {
        if (conn_ != nullptr && poll_ == nullptr && socket_.follows()) static_cast<void>(aim());
    }
    // Asks the server to end the query under way; it ends with a result, by SQLSTATE 57014 if the request
    // came in time. PQcancel() blocks, so a thread of the loop's pool calls it.
    // Errors: ENOTCONN, those of Work.
    Error cancel() noexcept {
        Cancel request(PQgetCancel(conn_));
        if (request == nullptr) return Error::from_errno(ENOTCONN);
        Work work{[held = std::move(request)] {
            char why[256];
            return PQcancel(held.get(), why, sizeof why) == 1;
        }};
        const auto sent = loop_->submit(std::move(work), [](Loop&, WorkDone<bool>) {});
        return sent ? Error{} : sent.error();
    }

    // Null before open() and after close().
    PGconn* handle() noexcept { return conn_; }
    // Why the loop could not watch the connection, if that is why it was not made or was lost.
    Error error() const noexcept { return error_; }

  private:
    struct CancelFree {
        void operator()(PGcancel* cancel) const noexcept { PQfreeCancel(cancel); }
    };
    using Cancel = std::unique_ptr<PGcancel, CancelFree>;
    using Poll = PostgresPollingStatusType (*)(PGconn*);

    // Whatever runs of this object above it on the stack must not go on.
    void let_go() noexcept {
        if (gone_ != nullptr) *gone_ = true;
        gone_ = nullptr;
        socket_.forget();
        if (loop_ != nullptr) loop_->cancel(refused_);
        poll_ = nullptr;
        in_query_ = copying_ = false;
        error_ = {};
    }

    Error begin(Poll poll, bool begun) noexcept {
        poll_ = poll;
        if (begun) return watch(Interest::writable);
        const Result<Timer> told =
            loop_->after(Nanoseconds::zero(), [this](Loop&, Expired) { opened(false); });
        if (!told) return told.error();
        refused_ = *told;
        return {};
    }

    Error watch(Interest interest) noexcept {
        return socket_.follow(*loop_, PQsocket(conn_), interest, [this](Loop&, Watched watched) {
            if (watched.error) socket_.forget();
            if (poll_ != nullptr) connect(watched.error);
            else serve(watched.error);
        });
    }
    // Reading always; writing as long as libpq could not send everything.
    Error aim() noexcept {
        const bool sent = PQflush(conn_) == 0;  // a failure is told by the next serve()
        return watch(sent ? Interest::readable : Interest::readable | Interest::writable);
    }

    void connect(Error failure) {
        // libpq may close the socket now and open another, for the next host or without encryption.
        socket_.forget();
        const PostgresPollingStatusType next = failure ? PGRES_POLLING_FAILED : poll_(conn_);
        if (next == PGRES_POLLING_READING) failure = watch(Interest::readable);
        if (next == PGRES_POLLING_WRITING) failure = watch(Interest::writable);
        if (next == PGRES_POLLING_OK) {
            PQsetnonblocking(conn_, 1);
            poll_ = nullptr;
            failure = watch(Interest::readable);
        }
        error_ = failure;
        if (failure || next == PGRES_POLLING_FAILED) return opened(false);
        if (next == PGRES_POLLING_OK) opened(true);
    }

    void opened(bool made) {
        poll_ = nullptr;
        bool gone = false;
        gone_ = &gone;
        if (calls_.connected != nullptr) calls_.connected(calls_.user, *this, made);
        if (gone) return;
        gone_ = nullptr;
        if (made) flush();
    }

    // Each call may end this object.
    void serve(Error failure) {
        bool gone = false;
        gone_ = &gone;
        bool lost = failure || PQflush(conn_) < 0 || PQconsumeInput(conn_) == 0;
        if (copying_ && calls_.copy != nullptr) calls_.copy(calls_.user, *this);
        if (!gone) collect(gone);
        if (!gone) notify(gone);
        if (gone) return;
        // libpq also notices the end while it parses.
        lost = lost || PQstatus(conn_) == CONNECTION_BAD;
        if (!lost) failure = aim();
        if (!lost && !failure) {
            gone_ = nullptr;
            return;
        }
        socket_.forget();
        error_ = failure;
        gone_ = nullptr;
        if (calls_.lost != nullptr) calls_.lost(calls_.user, *this);
    }

    static bool copies(ExecStatusType status) noexcept {
        return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
    }

    // Every result that is there. Without a connection libpq does not wait for those that are not.
    void collect(const bool& gone) {
        while (!gone && (PQstatus(conn_) == CONNECTION_BAD || PQisBusy(conn_) == 0)) {
            PGresult* result = PQgetResult(conn_);
            if (result == nullptr && !in_query_) return;  // nothing is under way
            const ExecStatusType status = PQresultStatus(result);
            const bool again = copying_ && copies(status);
            copying_ = copies(status);
            in_query_ = result != nullptr && status != PGRES_PIPELINE_SYNC;
            if (again) return PQclear(result);  // libpq says so until the COPY has ended
            if (calls_.result == nullptr) PQclear(result);
            else calls_.result(calls_.user, *this, result);
            if (!gone && copying_ && calls_.copy != nullptr) calls_.copy(calls_.user, *this);
        }
    }

    void notify(const bool& gone) {
        while (!gone) {
            PGnotify* notify = PQnotifies(conn_);
            if (notify == nullptr) return;
            if (calls_.notified != nullptr) calls_.notified(calls_.user, *this, *notify);
            PQfreemem(notify);
        }
    }

    Loop* loop_ = nullptr;
    PGconn* conn_ = nullptr;
    PqCalls calls_;
    Poll poll_ = nullptr;  // while it connects
    bool in_query_ = false;
    bool copying_ = false;
    bool* gone_ = nullptr;  // a flag of the function that runs
    FollowedSocket socket_;
    Timer refused_;
    Error error_;
};

}  // namespace whorl::adapters
