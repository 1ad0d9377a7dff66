// SPDX-License-Identifier: MIT
// Requests over HTTP/1.1. Connections are kept as long as the server keeps them; one that it ends is made
// anew when there is something to ask, and what it has not answered is asked again: a request's latency
// goes on counting. A server that ends a connection without having answered anything on it is a failure.
#include <whorl/http_parser.hpp>

#include <deque>

#include "client.hpp"

namespace latency {

using whorl::Bytes;
using whorl::Error;
using whorl::Loop;

#ifdef WHORL_LATENCY_HTTP

namespace {

constexpr std::chrono::seconds connect_patience{5};

whorl::http::Limits limits() {
    whorl::http::Limits limits;
    limits.head_max = 65535;
    limits.fields_max = whorl::http::Message::fields_room;
    limits.body_max = ~std::uint64_t{0};  // it is thrown away as it comes
    return limits;
}

bool names(const std::string& field, std::string_view name) {
    return whorl::http::equal_caseless(std::string_view(field).substr(0, field.find(':')), name);
}

// Lives for ever, since the kernel may read from it to the end.
const std::string& request_of(const Plan& plan) {
    static std::deque<std::string> kept;
    bool host = false;
    std::string request = plan.ask.method + " " + plan.target.path + " HTTP/1.1\r\n";
    for (const std::string& field : plan.ask.fields) {
        host = host || names(field, "Host");
        request += field + "\r\n";
    }
    if (!host) request += "Host: " + plan.target.authority + "\r\n";
    if (!plan.ask.body.empty()) {
        request += "Content-Length: " + std::to_string(plan.ask.body.size()) + "\r\n";
    }
    return kept.emplace_back(request + "\r\n" + plan.ask.body);
}

}  // namespace

struct Client::Http {
    const std::string* request = nullptr;
    whorl::http::ResponseParser parser{limits()};
    std::uint64_t round = 0;  // of the connection: what is said of an earlier one is stale
    std::uint64_t asked = 0;  // messages before this one were sent on this connection, or answered
    bool is_head = false;
    bool connecting = false;
    bool open = false;
    bool answered = false;  // something, on this connection
    bool kept = true;       // the server keeps the connection, as its last answer says
};

void Client::FreeHttp::operator()(Http* http) const noexcept { delete http; }

void Client::http_open(std::uint32_t index) {
    Link& link = links_[index];
    link.http.reset(new Http);
    link.http->request = index == 0 ? &request_of(plan_) : links_[0].http->request;
    link.http->is_head = plan_.ask.method == "HEAD";
    http_connect(index);
}

void Client::http_connect(std::uint32_t index) {
    links_[index].http->connecting = true;
    const auto connecting =
        loop_.submit(whorl::Connect{plan_.target.address}, whorl::within(connect_patience),
                     [this, index](Loop&, whorl::Connect::Done done) {
                         links_[index].socket = done.socket;
                         if (phase_ == Phase::finished) return close_links();
                         if (done.error) return fail("connect to " + plan_.target.text, done.error);
                         http_opened(index);
                     });
    if (!connecting) fail("connect to " + plan_.target.text, connecting.error());
}

void Client::http_opened(std::uint32_t index) {
    Link& link = links_[index];
    Http& http = *link.http;
    const bool first = http.round == 0;
    if (!first) ++outcome_.reconnects;
    ++http.round;
    http.connecting = false;
    http.open = http.kept = true;
    http.answered = false;
    http.asked = link.completed;
    http.parser = whorl::http::ResponseParser(limits());
    http.parser.expect_head(http.is_head);
    http_receive(index);
    if (phase_ == Phase::finished) return;
    if (first) ready();
    else http_send(index);
}

void Client::http_receive(std::uint32_t index) {
    const Link& link = links_[index];
    const auto receiving =
        loop_.submit(whorl::RecvStream{link.socket},
                     [this, index, round = link.http->round](Loop&, whorl::RecvStream::Done done) {
                         if (phase_ == Phase::finished || links_[index].http->round != round)
                             return;
                         if (!links_[index].http->open) return;
                         http_received(index, done.error, done.buffer.bytes(), done.more);
                     });
    if (!receiving) fail("receive", receiving.error());
}

void Client::http_received(std::uint32_t index, Error error, Bytes bytes, bool more) {
    Http& http = *links_[index].http;
    if (!http_read(index, bytes)) return;
    if (error || !more || !http.kept) {
        // A body that ends with the connection is whole when the server has ended it in order.
        if (!error && http.kept && http.parser.finish() == whorl::http::Step::end) {
            if (!http_answered(index)) return;
        }
        http_closed(index, error);
    }
    if (phase_ == Phase::finished) return;
    issue_held(index);
    end_if_all_came();
}

// False: it has failed.
bool Client::http_read(std::uint32_t index, Bytes bytes) {
    Http& http = *links_[index].http;
    while (http.kept) {
        switch (http.parser.next(bytes)) {
            case whorl::http::Step::more:
                return true;
            case whorl::http::Step::head:
                if (links_[index].completed == http.asked) {
                    fail("the server sent an answer that was not asked for", {});
                    return false;
                }
                break;
            case whorl::http::Step::body:
                break;
            case whorl::http::Step::end:
                if (!http_answered(index)) return false;
                break;
            case whorl::http::Step::failed:
                fail(std::string("the answer is not HTTP/1.1: ") + http.parser.fault().why, {});
                return false;
        }
    }
    return true;
}

// One whole answer. False: it has failed.
bool Client::http_answered(std::uint32_t index) {
    Link& link = links_[index];
    Http& http = *link.http;
    const whorl::http::Message& message = http.parser.message();
    const std::uint16_t status = message.status;
    if (status == 101) {
        fail("the server changes to another protocol", {});
        return false;
    }
    const bool keep = message.keep_alive;
    http.parser.restart();
    http.parser.expect_head(http.is_head);
    if (status < 200) return true;  // the answer itself follows
    http.kept = keep;
    http.answered = true;
    if (complete(index, link.completed, clock_(loop_), status >= 400)) ++outcome_.statuses[status];
    return true;
}

void Client::http_closed(std::uint32_t index, Error error) {
    Link& link = links_[index];
    Http& http = *link.http;
    const bool waits = link.issued > link.completed;
    if (phase_ == Phase::connecting || (waits && !http.answered)) {
        return fail("the server closed the connection without an answer", error);
    }
    http_forget(index);
    if (waits) http_connect(index);
}

void Client::http_forget(std::uint32_t index) {
    Link& link = links_[index];
    link.http->open = false;
    if (link.socket) (void)loop_.close(link.socket);
    link.socket = {};
}

// Sends what was issued and has not been sent on this connection; without one it is sent when there is one.
void Client::http_send(std::uint32_t index) {
    Link& link = links_[index];
    Http& http = *link.http;
    if (!http.open) {
        if (!http.connecting) http_connect(index);
        return;
    }
    for (; http.asked < link.issued && phase_ != Phase::finished; ++http.asked) {
        const Bytes bytes(http.request->data(), http.request->size());
        // What goes wrong shows on the side that receives: the connection may have been ended in order.
        const auto sending =
            loop_.submit(whorl::SendAll{link.socket, whorl::Buffer::of_static(bytes)},
                         [](Loop&, whorl::SendAll::Done) {});
        if (!sending) return fail("send", sending.error());
    }
}

#else

struct Client::Http {};
void Client::FreeHttp::operator()(Http* http) const noexcept { delete http; }
void Client::http_open(std::uint32_t) { fail("HTTP is not built", {}); }
void Client::http_send(std::uint32_t) {}

#endif

}  // namespace latency
