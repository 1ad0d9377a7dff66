// SPDX-License-Identifier: MIT
// A pipelined client of the Redis protocol: it sends one command behind the other without waiting, and hands over
// the answers in their order. key_value_client.cpp makes a program of it, and test/world/key_value_client_test.cpp
// tests it.
#pragma once

#include <whorl/whorl.hpp>

#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace key_value_client {

// The words of a line: between spaces, or in quotes with \n, \r, \t, \xHH and \ before any other sign. False: a
// quote does not end, or goes on behind its end.
inline bool words_of(std::string_view line, std::vector<std::string>& words) {
    const auto space = [](char sign) { return sign == ' ' || sign == '\t' || sign == '\r'; };
    const auto digit = [](char sign) {
        if (sign >= '0' && sign <= '9') return sign - '0';
        if (sign >= 'a' && sign <= 'f') return sign - 'a' + 10;
        return sign >= 'A' && sign <= 'F' ? sign - 'A' + 10 : -1;
    };
    for (std::size_t at = 0; at < line.size();) {
        if (space(line[at])) {
            ++at;
            continue;
        }
        std::string& word = words.emplace_back();
        if (line[at] != '"') {
            while (at < line.size() && !space(line[at])) word += line[at++];
            continue;
        }
        for (++at; at < line.size() && line[at] != '"'; ++at) {
            if (line[at] != '\\' || at + 1 == line.size()) {
                word += line[at];
                continue;
            }
            const char sign = line[++at];
            const bool number = sign == 'x' && at + 2 < line.size() && digit(line[at + 1]) >= 0 &&
                                digit(line[at + 2]) >= 0;
            if (number) {
                word += static_cast<char>(digit(line[at + 1]) * 16 + digit(line[at + 2]));
                at += 2;
            } else {
                word += sign == 'n' ? '\n' : sign == 'r' ? '\r' : sign == 't' ? '\t' : sign;
            }
        }
        if (at == line.size()) return false;
        if (++at < line.size() && !space(line[at])) return false;
    }
    return true;
}

// As it is sent.
inline std::string request_of(const std::vector<std::string>& words) {
    std::string text = '*' + std::to_string(words.size()) + "\r\n";
    for (const std::string& word : words) {
        text += '$' + std::to_string(word.size()) + "\r\n" + word + "\r\n";
    }
    return text;
}

// Reads answers from bytes that come in parts.
class Answers {
  public:
    enum class State { whole, more, malformed };

    void feed(std::string_view bytes) {
        if (taken_ > held_.size() / 2) held_.erase(0, std::exchange(taken_, 0));
        held_ += bytes;
    }
    // The next answer, as redis-cli prints it where nobody looks: an error with an empty line behind it, the
    // parts of an array each on its line, nothing for what is not there.
    State next(std::string& printed) {
        printed.clear();
        std::size_t at = taken_;
        const State state = read(at, printed, 0);
        if (state != State::whole) return state;
        printed += '\n';
        taken_ = at;
        return state;
    }
    bool empty() const { return taken_ == held_.size(); }

  private:
    static constexpr std::size_t line_max = 64 << 10, bulk_max = std::size_t{64} << 20;
    static constexpr long long parts_max = 1 << 20;
    static constexpr int depth_max = 8;

    State read(std::size_t& at, std::string& printed, int depth) {
        const std::size_t end = held_.find("\r\n", at);
        if (end == std::string::npos) {
            return held_.size() - at > line_max ? State::malformed : State::more;
        }
        const std::string_view line = std::string_view(held_).substr(at, end - at);
        if (line.empty()) return State::malformed;
        at = end + 2;
        const std::string_view rest = line.substr(1);
        if (line[0] == '+' || line[0] == '-') {
            printed += rest;
            if (line[0] == '-') printed += '\n';
            return State::whole;
        }
        long long number = 0;
        const auto [last, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
        if (failed != std::errc() || last != rest.data() + rest.size()) return State::malformed;
        if (line[0] == ':') {
            printed += rest;
            return State::whole;
        }
        if (line[0] == '$') return read_bulk(at, number, printed);
        return line[0] == '*' ? read_array(at, number, printed, depth) : State::malformed;
    }
    State read_bulk(std::size_t& at, long long size, std::string& printed) {
        if (size == -1) return State::whole;
        if (size < 0 || size > static_cast<long long>(bulk_max)) return State::malformed;
        const auto count = static_cast<std::size_t>(size);
        if (held_.size() - at < count + 2) return State::more;
        if (held_.compare(at + count, 2, "\r\n") != 0) return State::malformed;
        printed.append(held_, at, count);
        at += count + 2;
        return State::whole;
    }
    State read_array(std::size_t& at, long long parts, std::string& printed, int depth) {
        if (parts > parts_max || parts < -1 || depth == depth_max) return State::malformed;
        for (long long part = 0; part < parts; ++part) {
            if (part != 0) printed += '\n';
            if (const State state = read(at, printed, depth + 1); state != State::whole)
                return state;
        }
        return State::whole;
    }

    std::string held_;
    std::size_t taken_ = 0;
};

// What is to be asked, and how far it has come. Print is called with each answer in turn.
template <class Print>
struct Session {
    std::vector<std::string> requests;
    Print print;
    std::size_t sent = 0;
    std::size_t answered = 0;
    whorl::Error error = {};
    bool over = false;

    // How the connection ends is of no account when all has been answered.
    void end(whorl::Error reason) {
        over = true;
        const bool whole = answered == requests.size();
        if (!whole && !reason) reason = whorl::Error::frame_truncated;
        if (!whole || reason == whorl::Error::frame_malformed) error = reason;
    }
};

// The protocol of its stream.
template <class Print>
struct Talk {
    Session<Print>* session;
    Answers answers = {};
    std::string printed = {};

    void opened(whorl::Stream& stream) { send(stream); }
    void writable(whorl::Stream& stream) { send(stream); }
    void received(whorl::Stream& stream, const whorl::Buffer& buffer) {
        answers.feed(buffer.text());
        while (true) {
            const Answers::State state = answers.next(printed);
            if (state == Answers::State::more) break;
            const bool asked = session->answered < session->sent;
            if (state == Answers::State::malformed || !asked) {
                return stream.abort(whorl::Error::frame_malformed);
            }
            ++session->answered;
            session->print(printed);
        }
        if (session->answered == session->requests.size()) stream.close();
    }
    void closed(whorl::Stream&, whorl::Closed why) { session->end(why.error); }

    // As many as the stream takes; the rest when it is writable again.
    void send(whorl::Stream& stream) {
        while (session->sent < session->requests.size()) {
            if (!stream.write(session->requests[session->sent++])) return;
        }
    }
};

// Connects and asks; session->over when that has ended. The session outlives it.
template <class Print>
whorl::Error start(whorl::Loop& loop, const whorl::ResolveQuery& server, Session<Print>& session) {
    whorl::ConnectorOptions options;
    options.total = std::chrono::seconds(10);
    const auto connected = [&session](whorl::Loop& there, const whorl::Connected& result) {
        if (result.error) return session.end(result.error);
        whorl::StreamOptions stream;
        stream.deadlines.idle = std::chrono::seconds(30);
        // A server that waits for us to read its answers reads no more questions: we must not wait for it.
        stream.pause_at_high = false;
        const auto made = whorl::attach(there, result.socket, Talk<Print>{&session}, stream);
        if (made) return;
        (void)there.close(result.socket);
        session.end(made.error());
    };
    return whorl::connect_host(loop, server, options, connected).error();
}

}  // namespace key_value_client
