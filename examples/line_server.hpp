// SPDX-License-Identifier: MIT
// A line-based protocol: a store of words, for one connection after the other and many at once.
//
//   PUT name value   →  OK                 GET name   →  value, or NONE
//   QUIT             →  BYE, then the end  all else   →  ERROR, then the end
//
// A line ends with \n and has at most 128 bytes. A connection that says nothing for 30 s is closed.
// docs/testing-your-protocol.md tests it in a simulated world.
#pragma once

#include <whorl/whorl.hpp>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

class LineServer {
  public:
    static constexpr std::size_t line_max = 128;
    static constexpr std::chrono::seconds idle_max{30};

    whorl::Error start(whorl::Loop& loop, const whorl::Address& address) {
        whorl::Result<whorl::Listener> made = whorl::listen(loop, address);
        if (!made) return made.error();
        listener_ = *made;
        return loop.submit(whorl::AcceptStream{listener_}, this).error();
    }
    void stop(whorl::Loop& loop) { (void)loop.close(listener_); }
    void operator()(whorl::Loop& loop, whorl::AcceptStream::Done done) {
        if (!done.socket) return;
        auto made = std::make_unique<Connection>(*this, done.socket);
        Connection* const connection = made.get();
        open_.emplace(connection, std::move(made));
        connection->start(loop);
    }
    std::size_t connections() const { return open_.size(); }
    const std::map<std::string, std::string>& words() const { return words_; }

  private:
    // One connection. It goes when its socket has been closed, and each handler may ask for that.
    class Connection {
      public:
        Connection(LineServer& server, whorl::Socket socket) : server_(server), socket_(socket) {}

        void start(whorl::Loop& loop) {
            const whorl::Result<whorl::Timer> timer =
                loop.after(idle_max, [this](whorl::Loop& late, whorl::Expired) { finish(late); });
            if (timer) idle_ = *timer;
            if (!timer || !loop.submit(whorl::RecvStream{socket_}, this)) finish(loop);
        }
        void operator()(whorl::Loop& loop, whorl::RecvStream::Done done) {
            if (!done.more)
                return finish(loop);  // the end, or an error: what is unanswered is lost
            if (leaving_) return;
            if (loop.move(idle_, idle_max)) return finish(loop);
            line_ += done.buffer.text();
            for (std::size_t end = 0; !leaving_ && (end = line_.find('\n')) != line_.npos;) {
                answer(loop, std::string_view(line_).substr(0, end));
                line_.erase(0, end + 1);
            }
            if (!leaving_ && line_.size() > line_max) reply(loop, "ERROR\n", true);
        }
        void operator()(whorl::Loop& loop, whorl::SendAll::Done done) {
            if (done.error) finish(loop);
        }
        void operator()(whorl::Loop& loop, whorl::Shutdown::Done) { finish(loop); }

      private:
        void answer(whorl::Loop& loop, std::string_view line) {
            const std::size_t first = line.find(' ');
            const std::string_view verb = line.substr(0, first);
            const std::string_view rest =
                first == line.npos ? std::string_view() : line.substr(first + 1);
            const std::size_t second = rest.find(' ');
            if (verb == "PUT" && second != rest.npos && line.size() <= line_max) {
                server_.words_[std::string(rest.substr(0, second))] = rest.substr(second + 1);
                reply(loop, "OK\n", false);
            } else if (verb == "GET" && !rest.empty() && second == rest.npos) {
                const auto found = server_.words_.find(std::string(rest));
                reply(loop, found != server_.words_.end() ? found->second + '\n' : "NONE\n", false);
            } else {
                reply(loop, line == "QUIT" ? "BYE\n" : "ERROR\n", true);
            }
        }
        void reply(whorl::Loop& loop, std::string text, bool last) {
            leaving_ = leaving_ || last;
            if (!loop.submit(whorl::SendAll{socket_, whorl::adopt(std::move(text))}, this) ||
                (last && !loop.submit(whorl::Shutdown{socket_}, this))) {
                finish(loop);
            }
        }
        void finish(whorl::Loop& loop) {
            leaving_ = true;
            (void)loop.cancel(idle_);
            (void)loop.close(socket_, [this](whorl::Loop&) { server_.open_.erase(this); });
        }

        LineServer& server_;
        whorl::Socket socket_;
        whorl::Timer idle_;
        std::string line_;
        bool leaving_ = false;  // the last reply is on its way
    };

    whorl::Listener listener_;
    std::map<std::string, std::string> words_;
    std::map<Connection*, std::unique_ptr<Connection>> open_;
};
