// SPDX-License-Identifier: MIT
// The parts of key_value.cpp: what loops say to each other, one loop's share of the keys, and a connection.
#pragma once

#include "key_value_store.hpp"

#include <whorl/mesh.hpp>
#include <whorl/whorl.hpp>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace key_value {

// From the loop that has the connection to the loop that has the key, and back with the answer.
struct Message {
    std::uint64_t connection = 0;  // of the asking loop
    std::uint64_t place = 0;       // among the connection's answers
    bool answer = false;
    Request request;
    std::string text;  // the answer, ready to be sent
};

struct Mesh : whorl::Mesh<Message> {
    using Port = whorl::MeshPort<Message>;
    explicit Mesh(whorl::Mesh<Message>&& made) : whorl::Mesh<Message>(std::move(made)) {}
    static whorl::Result<Mesh> create(std::uint32_t loops, std::uint32_t capacity) {
        auto made = whorl::Mesh<Message>::create(loops, capacity);
        if (!made) return made.error();
        return Mesh(std::move(*made));
    }
};

class Shard;

// Reads requests, and sends answers in the order of the requests, however late some of them come. It owns
// itself: the close handler deletes it.
class Connection {
  public:
    Connection(Shard& shard, std::uint64_t number, whorl::Socket socket)
        : shard_(shard), number_(number), socket_(socket) {}

    void receive(whorl::Loop& loop) {
        receiving_ = true;
        if (!loop.submit(whorl::Recv{socket_, loop.buffer(16 << 10)}, this)) close(loop);
    }
    void operator()(whorl::Loop& loop, whorl::Recv::Done done);
    void operator()(whorl::Loop& loop, whorl::SendAll::Done done) {
        sending_ = false;
        if (done.error) return close(loop);
        go_on(loop);
    }
    void answer(std::uint64_t place, std::string text) {
        answers_[static_cast<std::size_t>(place - first_)] = std::move(text);
    }
    // Sends what can be sent, and reads on when not too much is open.
    void go_on(whorl::Loop& loop);

  private:
    static constexpr std::size_t open_max = 1024;  // requests without an answer
    void close(whorl::Loop& loop);

    Shard& shard_;
    std::uint64_t number_;
    whorl::Socket socket_;
    Parser parser_;
    std::deque<std::optional<std::string>> answers_;
    std::uint64_t first_ = 0;  // the place of the first of them
    bool receiving_ = false;
    bool sending_ = false;
    bool ended_ = false;  // the peer has said all
};

// What one loop has: its keys, its connections, its ends of the mesh.
class Shard {
  public:
    Shard(whorl::Loop& loop, std::uint32_t loops, Mesh::Port port)
        : loop_(loop), loops_(loops), port_(std::move(port)), waiting_(port_.size()) {}

    whorl::Error start(whorl::Listener listener) {
        const auto arrived = [this](whorl::Loop&, std::uint32_t from,
                                    whorl::Receive<Message>::Done done) {
            while (Message* message = done.next()) take(from, std::move(*message));
            flush();
        };
        if (whorl::Error error = port_.receive(loop_, arrived)) return error;
        return loop_.submit(whorl::AcceptStream{listener}, this).error();
    }
    void operator()(whorl::Loop& loop, whorl::AcceptStream::Done done) {
        if (!done.socket) return;
        auto* connection = new Connection(*this, ++last_connection_, done.socket);
        connections_.emplace(last_connection_, connection);
        connection->receive(loop);
    }

    // Answers at once, or asks the loop that has the key. The answer comes to Connection::answer().
    void ask(Connection& connection, std::uint64_t number, std::uint64_t place, Request&& request) {
        const std::uint32_t owner =
            request.keyed()
                ? static_cast<std::uint32_t>(std::hash<std::string>{}(request.key) % loops_)
                : port_.core();
        if (owner == port_.core()) {
            return connection.answer(place, store_.serve(request, loop_.now()));
        }
        ++asked_;
        send(owner, Message{number, place, false, std::move(request), {}});
    }
    void forget(std::uint64_t number) { connections_.erase(number); }
    // What was written to others in this turn of a handler becomes visible to them.
    void flush() {
        for (std::uint32_t to = 0; to < loops_; ++to) {
            if (to != port_.core()) port_.to(to).flush();
        }
    }
    std::size_t keys() const { return store_.size(); }
    std::uint64_t asked() const { return asked_; }

  private:
    void take(std::uint32_t from, Message&& message) {
        if (!message.answer) {
            std::string text = store_.serve(message.request, loop_.now());
            return send(from,
                        Message{message.connection, message.place, true, {}, std::move(text)});
        }
        const auto found = connections_.find(message.connection);
        if (found == connections_.end()) return;  // it has closed meanwhile
        found->second->answer(message.place, std::move(message.text));
        found->second->go_on(loop_);
    }
    // In order, behind what there was no room for.
    void send(std::uint32_t to, Message&& message) {
        std::deque<Message>& queue = waiting_[to];
        if (queue.empty() && !port_.to(to).write(std::move(message))) return;
        queue.push_back(std::move(message));
        if (queue.size() == 1) await_space(to);
    }
    void await_space(std::uint32_t to) {
        port_.to(to).flush();
        (void)loop_.submit(whorl::AwaitSpace{port_.to(to)},
                           [this, to](whorl::Loop&, whorl::AwaitSpace::Done done) {
                               if (!done.error) send_waiting(to);
                           });
    }
    void send_waiting(std::uint32_t to) {
        std::deque<Message>& queue = waiting_[to];
        while (!queue.empty() && !port_.to(to).write(std::move(queue.front()))) queue.pop_front();
        port_.to(to).flush();
        if (!queue.empty()) await_space(to);
    }

    whorl::Loop& loop_;
    std::uint32_t loops_;
    Mesh::Port port_;
    Store store_;
    std::vector<std::deque<Message>> waiting_;  // by the loop they go to
    std::unordered_map<std::uint64_t, Connection*> connections_;
    std::uint64_t last_connection_ = 0;
    std::uint64_t asked_ = 0;
};

inline void Connection::operator()(whorl::Loop& loop, whorl::Recv::Done done) {
    receiving_ = false;
    if (done.error) return close(loop);
    ended_ = done.buffer.empty();
    parser_.add(done.buffer.text());
    while (std::optional<Request> request = parser_.next()) {
        answers_.emplace_back();
        shard_.ask(*this, number_, first_ + answers_.size() - 1, std::move(*request));
    }
    if (parser_.broken()) return close(loop);
    shard_.flush();
    go_on(loop);
}

inline void Connection::go_on(whorl::Loop& loop) {
    if (!sending_ && !answers_.empty() && answers_.front()) {
        std::string text;
        while (!answers_.empty() && answers_.front()) {
            text += *answers_.front();
            answers_.pop_front();
            ++first_;
        }
        sending_ = true;
        if (!loop.submit(whorl::SendAll{socket_, whorl::adopt(std::move(text))}, this)) close(loop);
    }
    if (ended_ && answers_.empty() && !sending_) return close(loop);
    if (!receiving_ && !ended_ && answers_.size() < open_max) receive(loop);
}

inline void Connection::close(whorl::Loop& loop) {
    shard_.forget(number_);
    (void)loop.close(socket_, [this](whorl::Loop&) { delete this; });
}

}  // namespace key_value
