// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/client_state.hpp"
#include "http/text.hpp"

#include <algorithm>

// A connection: one question at a time, and none while it is kept.

namespace whorl::http::detail {

Link::Link(ClientState& of, const ClientOptions& options) noexcept
    : client(&of), parser(options.limits) {
    of.links.push_back(*this);
}

Link::~Link() {
    if (List::is_linked(*this)) List::remove(*this);
}

void Link::ask(FetchOwner asked) noexcept {
    fetch = std::move(asked);
    fetch->link = this;
    fetch->connector = nullptr;
    const std::string_view target = fetch->url.target;
    if (!calling) {
        parser.restart();
        parser.expect_head(fetch->method == Method::head);
    }
    stream->set_deadlines({});
    stream->write(name_of(fetch->method));
    stream->write(target.empty() || target.front() != '/' ? " /" : " ");
    stream->write(target);
    stream->write(" HTTP/1.1\r\nHost: ");
    stream->write(fetch->url.authority);
    stream->write("\r\n");
    stream->write(fetch->fields.bytes());
    stream->write("\r\n");
    // It may have to be sent once more.
    if (!fetch->body.empty()) stream->write(fetch->body.share());
}

void Link::received(Buffer&& buffer) {
    Bytes input = buffer.bytes();
    // An answer that nobody asked for must not be taken for the next one.
    if (!fetch) return stream->abort(Error::frame_malformed);
    while (fetch && !stream->closing() && step(input, buffer)) {
    }
    if (!input.empty() && !stream->closing()) stream->abort(Error::frame_malformed);
}

// The next thing in `input`. False: there is none.
bool Link::step(Bytes& input, Buffer& buffer) {
    switch (parser.next(input)) {
        case Step::more:
            return false;
        case Step::head:
            head = parser.joined() ? Buffer() : buffer.share();
            return true;
        case Step::body:
            if (take(parser.piece())) return true;
            fetch->why = Error::from_errno(ENOMEM);
            stream->abort();
            return false;
        case Step::end:
            if (parser.message().status < 200 && parser.message().status != 101) {
                parser.restart();  // interim: the answer is still to come
                return true;
            }
            answered(parser.message().keep_alive && input.empty());
            return false;
        default:
            fetch->why = error_of(parser.fault());
            stream->abort(fetch->why);
            return false;
    }
}

bool Link::take(Bytes piece) noexcept {
    const std::size_t size = body.size() + piece.size;
    if (size > body.capacity()) {
        Buffer larger = Buffer::allocate(std::max({size, body.capacity() * 2, std::size_t{4096}}));
        if (!larger || !larger.append(body.bytes())) return false;
        body = std::move(larger);
    }
    return body.append(piece);
}

// Aims the question at where the answer points to. False: the answer is for the handler.
bool Link::redirect(Fetch& asked) noexcept {
    const Message& message = parser.message();
    const std::uint16_t status = message.status;
    const bool points =
        status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    const bool safe = asked.method == Method::get || asked.method == Method::head;
    if (!points || !safe || !asked.body.empty() || client == nullptr) return false;
    if (asked.redirects >= client->options.redirects_max) return false;
    const std::string_view where = message.find("location");
    const bool path = where.size() > 1 ? where[0] == '/' && where[1] != '/' : where == "/";
    // "http://host" of the present URL stands before a path.
    const char* const host_end = asked.url.authority.data() + asked.url.authority.size();
    const auto base = static_cast<std::size_t>(host_end - asked.text.text().data());
    const Error error =
        fetch_aim(asked, path ? asked.text.text().substr(0, base) : std::string_view(), where);
    if (error) {
        // What cannot be asked is an answer; what only failed is not.
        if (error != Error::invalid_argument) asked.why = error;
        return false;
    }
    ++asked.redirects;
    // What was meant for one host, a password perhaps, is not told another.
    if (!equal_caseless(asked.url.authority, key.text())) asked.fields.resize(0);
    return true;
}

// All of the answer is there.
void Link::answered(bool reusable) {
    const FetchOwner asked = std::move(fetch);
    asked->link = nullptr;
    Buffer gathered = std::move(body);
    reusable = reusable && client != nullptr && parser.message().status != 101;
    if (redirect(*asked)) {
        rest(reusable);
        if (Error error = fetch_go(asked)) fetch_end(asked, error);
        return;
    }
    if (asked->why) {
        rest(reusable);
        return fetch_end(asked, asked->why);
    }
    // The handler may ask again at once, on this connection too; its message stays until it returns.
    calling = true;
    if (!reusable) stream->close();
    fetch_end(asked, {}, &parser.message(), std::move(gathered));
    calling = false;
    rest(reusable);
}

// Nothing is asked any more, or already the next.
void Link::rest(bool reusable) noexcept {
    head.reset();
    if (parser.at_end()) parser.restart();
    if (fetch) return parser.expect_head(fetch->method == Method::head);
    if (!reusable || client == nullptr || client->idle() > client->options.idle_max) {
        return stream->close();
    }
    StreamDeadlines deadlines;
    deadlines.idle = client->options.idle;
    stream->set_deadlines(deadlines);
}

void Link::peer_closed() {
    if (!fetch) return stream->close();
    const Step step = parser.finish();
    if (step == Step::end) answered(false);
    if (step == Step::failed) fetch->why = Error::frame_truncated;
    if (!stream->closing()) stream->close();
}

void Link::closed(Closed why) {
    if (!fetch) return;
    const FetchOwner asked = std::move(fetch);
    asked->link = nullptr;
    const bool untouched = !parser.inside() && !asked->why;
    const bool again = asked->reused && untouched && client != nullptr &&
                       (asked->method == Method::get || asked->method == Method::head);
    if (List::is_linked(*this)) List::remove(*this);  // it is not to be asked again
    if (again && !fetch_go(asked)) return;
    Error error = asked->why ? asked->why : why.error;
    if (!error) error = Error::frame_truncated;
    fetch_end(asked, error);
}

}  // namespace whorl::http::detail
