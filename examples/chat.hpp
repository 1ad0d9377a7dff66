// SPDX-License-Identifier: MIT
// A chat room for lines: the first line of a member is its name, each further one goes to all others as
// "name: line". chat_server.cpp makes a program of it, and test/world/streams_test.cpp tests it in a
// simulated world.
#pragma once

#include <whorl/whorl.hpp>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

class ChatRoom {
  public:
    static constexpr std::size_t line_max = 512;

    whorl::Error start(whorl::Loop& loop, const whorl::Address& address) {
        whorl::AcceptorOptions options;
        options.connections_max = 1000;
        options.stream.deadlines.idle = std::chrono::minutes(10);
        options.stream.deadlines.write = std::chrono::seconds(30);
        // Nobody waits for a member who does not read: its queue fills, and it is dropped.
        options.stream.pause_at_high = false;
        options.stream.high = options.stream.low = 64 << 10;
        options.stream.queue_max = 256 << 10;
        const auto make = [this](const whorl::Accepted&) { return Member{this}; };
        const auto acceptor = whorl::serve(loop, address, make, options);
        if (!acceptor) return acceptor.error();
        acceptor_ = *acceptor;
        return {};
    }
    whorl::Listener listener() const { return acceptor_->listener(); }
    std::size_t members() const { return members_.size(); }

  private:
    struct Member {
        ChatRoom* room;
        std::string name = {};
        whorl::Framing framing = whorl::Framing::line(line_max);

        void opened(whorl::Stream& stream) { stream.write("name?\n"); }
        void frame(whorl::Stream& stream, whorl::Bytes line) {
            if (name.empty()) {
                if (line.empty()) return stream.close();
                name = line.text();
                room->members_.push_back(&stream);
                room->say(&stream, name + " is here\n");
            } else {
                room->say(&stream, name + ": " + std::string(line.text()) + "\n");
            }
        }
        void closed(whorl::Stream& stream, whorl::Closed) {
            if (name.empty()) return;
            auto& members = room->members_;
            members.erase(std::find(members.begin(), members.end(), &stream));
            room->say(&stream, name + " has left\n");
        }
    };

    void say(whorl::Stream* speaker, std::string text) {
        whorl::Buffer shared = whorl::adopt(std::move(text));  // one text, however many members
        for (whorl::Stream* member : members_) {
            if (member != speaker) member->write(shared.share());
        }
    }

    whorl::Acceptor* acceptor_ = nullptr;
    std::vector<whorl::Stream*> members_;  // in the order in which they came
};
