// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/stream_tools.hpp"

#include <whorl/acceptor.hpp>
#include <whorl/connection_pool.hpp>

#include <string>
#include <vector>

// What the tests of pooled connections share: servers in the same loop whose connections the test sees, and
// clients that take and give back.

namespace whorl::conformance {

struct Site {
    std::vector<Stream*> open;
    int accepted = 0;
    Acceptor* acceptor = nullptr;
    std::uint16_t port = 0;
};

// Answers what it gets.
struct Echo {
    Site* site;
    void opened(Stream& stream) const {
        ++site->accepted;
        site->open.push_back(&stream);
    }
    static void received(Stream& stream, Buffer buffer) { stream.write(std::move(buffer)); }
    void closed(Stream& stream, Closed) const {
        site->open.erase(std::find(site->open.begin(), site->open.end(), &stream));
    }
};

struct Taken {
    int calls = 0;
    Error error;
    Stream* stream = nullptr;
    bool reused = false;
    auto handler() {
        return [this](Loop&, TakeConnection::Done done) {
            ++calls;
            error = done.error;
            stream = done.stream;
            reused = done.reused;
            EXPECT_EQ(!error, stream != nullptr);
        };
    }
};

// Asks one question, and writes down the answer.
struct Asker {
    std::string* answer;
    void opened(Stream& stream) const { stream.write("question"); }
    void received(Stream&, const Buffer& buffer) const { *answer += buffer.text(); }
};

class PoolTools : public StreamTools {
  protected:
    static void serve_site(Loop& loop, Site& site) {
        const auto made =
            serve(loop, Address::loopback_v4(0), [&site](const Accepted&) { return Echo{&site}; });
        ASSERT_TRUE(made);
        site.acceptor = *made;
        site.port = local_address(loop, site.acceptor->listener())->port();
    }
    static ConnectionPool make_pool(Loop& loop, const PoolOptions& options = {}) {
        Result<ConnectionPool> made = ConnectionPool::create(loop, options);
        EXPECT_TRUE(made);
        return std::move(*made);
    }
    static Operation take(Loop& loop, ConnectionPool& pool, std::uint16_t port, Taken& taken) {
        const auto made = loop.submit(TakeConnection{pool, "127.0.0.1", port}, taken.handler());
        EXPECT_TRUE(made) << made.error().name();
        EXPECT_EQ(taken.calls, 0) << "never inline";
        return *made;
    }
    static Stream& taken_now(Loop& loop, ConnectionPool& pool, std::uint16_t port, Taken& taken) {
        take(loop, pool, port, taken);
        run_until(loop, [&] { return taken.calls == 1; });
        EXPECT_FALSE(taken.error) << taken.error.text();
        if (taken.error) std::abort();
        return *taken.stream;
    }
    static void ask(Loop& loop, Stream& stream) {
        std::string answer;
        ASSERT_FALSE(stream.replace(Asker{&answer}));
        run_until(loop, [&] { return answer == "question"; });
    }
    // The pool is gone; so is everything else.
    static void expect_nothing_left(Loop& loop, std::initializer_list<Site*> sites) {
        for (Site* site : sites) site->acceptor->close();
        run_until(loop, [&] {
            return stream_statistics(loop).streams == 0 && loop.statistics().operations == 0;
        });
        expect_clean(loop);
    }
};
}  // namespace whorl::conformance
