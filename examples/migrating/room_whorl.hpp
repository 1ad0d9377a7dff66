// SPDX-License-Identifier: MIT
// The chat's room after the connections have moved: members are streams. Used by steps 2 and 3.
#pragma once

#include "chat.hpp"

#include <whorl/whorl.hpp>

#include <map>

// [room]
class Room {
  public:
    int join(whorl::Stream& stream) {
        const int number = ++last_;
        members_[number] = &stream;
        stream.write(welcome(number));
        say(joined(number), number);
        return number;
    }
    void leave(int number) {
        members_.erase(number);
        say(left(number), number);
    }
    // No call of a stream calls back, so the map does not change meanwhile; a member whose queue is full
    // has its closed() later.
    void say(const std::string& text, int speaker) {
        for (const auto& [number, stream] : members_) {
            if (number != speaker) stream->write(text);
        }
    }

  private:
    int last_ = 0;
    std::map<int, whorl::Stream*> members_;
};

struct Member {
    whorl::Framing framing = whorl::Framing::line(line_max);
    Room* room;
    int number = 0;

    explicit Member(Room& joins) : room(&joins) {}
    void opened(whorl::Stream& stream) { number = room->join(stream); }
    void frame(whorl::Stream& stream, whorl::Bytes line) {
        if (line.text() == "quit") return stream.close();
        room->say(said(number, line.text()), number);
    }
    void closed(whorl::Stream&, whorl::Closed) {
        if (number != 0) room->leave(number);  // whatever the reason was
    }
};

inline whorl::Result<whorl::Acceptor*> open_room(whorl::Loop& loop, const Words& given,
                                                 Room& room) {
    whorl::AcceptorOptions options;
    options.stream.deadlines.read = std::chrono::milliseconds(given.idle_ms);
    options.stream.queue_max = queue_max;  // beyond it the stream ends with write_overflow
    options.stream.high = queue_max / 2;
    options.stream.pause_at_high = false;
    const auto port = static_cast<std::uint16_t>(given.port);
    return whorl::serve(
        loop, whorl::Address::loopback_v4(port),
        [&room](const whorl::Accepted&) { return Member(room); }, options);
}
// [end]
