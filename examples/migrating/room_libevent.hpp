// SPDX-License-Identifier: MIT
// The chat's room as it was: members are bufferevents. Used by steps 0 and 1.
#pragma once

#include "chat.hpp"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include <map>
#include <vector>

// [room]
class Room {
  public:
    Room(event_base* base, int idle_ms) : base_(base), idle_ms_(idle_ms) {}
    ~Room() {
        for (auto& [number, member] : members_) bufferevent_free(member.connection);
    }

    // Takes over a connected, non-blocking descriptor.
    void join(evutil_socket_t fd) {
        const int number = ++last_;
        Member& member = members_[number];
        member = {this, number, bufferevent_socket_new(base_, fd, BEV_OPT_CLOSE_ON_FREE)};
        bufferevent_setcb(member.connection, &readable, nullptr, &ended, &member);
        const timeval idle{idle_ms_ / 1000, idle_ms_ % 1000 * 1000};
        bufferevent_set_timeouts(member.connection, &idle, nullptr);
        bufferevent_setwatermark(member.connection, EV_READ, 0, 4 * line_max);
        bufferevent_enable(member.connection, EV_READ | EV_WRITE);
        write(member, welcome(number));
        say(joined(number), number);
    }

  private:
    struct Member {
        Room* room;
        int number;
        bufferevent* connection;
    };

    static void readable(bufferevent* connection, void* context) {
        auto& member = *static_cast<Member*>(context);
        evbuffer* input = bufferevent_get_input(connection);
        std::size_t size = 0;
        while (char* line = evbuffer_readln(input, &size, EVBUFFER_EOL_LF)) {
            const std::string text(line, size);
            std::free(line);
            // It is freed in here: nothing of it may be used afterwards.
            if (text == "quit" || size > line_max) return member.room->leave(member.number);
            member.room->say(said(member.number, text), member.number);
        }
        if (evbuffer_get_length(input) > line_max) member.room->leave(member.number);
    }
    static void ended(bufferevent*, short, void* context) {
        const auto& member = *static_cast<Member*>(context);
        member.room->leave(member.number);
    }
    static void write(const Member& member, const std::string& text) {
        bufferevent_write(member.connection, text.data(), text.size());
    }
    static std::size_t queued(const Member& member) {
        return evbuffer_get_length(bufferevent_get_output(member.connection));
    }

    void leave(int number) {
        const auto found = members_.find(number);
        bufferevent_free(found->second.connection);
        members_.erase(found);
        say(left(number), number);
    }
    void say(const std::string& text, int speaker) {
        std::vector<int> full;
        for (auto& [number, member] : members_) {
            if (number == speaker) continue;
            write(member, text);
            if (queued(member) > queue_max) full.push_back(number);
        }
        for (const int number : full) {
            if (members_.count(number) != 0) leave(number);
        }
    }

    event_base* base_;
    int idle_ms_;
    int last_ = 0;
    std::map<int, Member> members_;
};
// [end]
