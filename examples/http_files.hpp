// SPDX-License-Identifier: MIT
// A site of files in a folder, and three paths that show the rest: /hello, /echo gives a body back as it
// comes, /count says how large it was. http_server.cpp makes a program of it.
//
// No name leaves the folder: the kernel resolves it beneath (openat2(2), RESOLVE_BENEATH).
#pragma once

#include <whorl/http_server.hpp>
#include <whorl/whorl.hpp>

#include <fcntl.h>
#include <linux/openat2.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

// "/a%20b" without the first slash and decoded. False: malformed, or it has a zero byte.
inline bool path_decode(std::string_view path, std::string& name) {
    const auto hex = [](char sign) {
        if (sign >= '0' && sign <= '9') return sign - '0';
        const int letter = sign | 0x20;
        return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
    };
    path.remove_prefix(std::min<std::size_t>(1, path.size()));
    for (std::size_t at = 0; at < path.size(); ++at) {
        if (path[at] != '%') {
            name += path[at];
            continue;
        }
        if (path.size() - at < 3) return false;
        const int high = hex(path[at + 1]), low = hex(path[at + 2]);
        if (high < 0 || low < 0 || high + low == 0) return false;
        name += static_cast<char>(high * 16 + low);
        at += 2;
    }
    return true;
}

inline std::string_view content_type(std::string_view name) {
    static constexpr std::string_view types[][2] = {{".html", "text/html; charset=utf-8"},
                                                    {".txt", "text/plain; charset=utf-8"},
                                                    {".css", "text/css"},
                                                    {".js", "text/javascript"},
                                                    {".json", "application/json"},
                                                    {".svg", "image/svg+xml"},
                                                    {".png", "image/png"},
                                                    {".jpg", "image/jpeg"}};
    for (const auto& [suffix, type] : types) {
        if (name.size() >= suffix.size() && name.substr(name.size() - suffix.size()) == suffix) {
            return type;
        }
    }
    return "application/octet-stream";
}

// A piece of a file, as "bytes=2-5", "bytes=2-" or "bytes=-5" ask for it. Source: RFC 9110, 14.
struct Range {
    enum class Kind { all, part, outside };
    Kind kind = Kind::all;
    std::uint64_t first = 0;
    std::uint64_t size = 0;

    static Range of(std::string_view value, std::uint64_t size) {
        const Range all{Kind::all, 0, size};
        if (value.substr(0, 6) != "bytes=") return all;
        value.remove_prefix(6);
        const std::size_t dash = value.find('-');
        std::uint64_t first = 0, last = 0;
        if (dash == std::string_view::npos) return all;
        const bool from = number(value.substr(0, dash), first);
        const bool to = number(value.substr(dash + 1), last);
        if ((!from && dash != 0) || (!to && dash + 1 != value.size())) return all;  // or several
        if (!from && !to) return all;
        if (from && to && last < first) return all;
        if (!from) {
            if (last == 0 || size == 0) return {Kind::outside, 0, 0};
            return {Kind::part, size - std::min(last, size), std::min(last, size)};
        }
        if (first >= size) return {Kind::outside, 0, 0};
        const std::uint64_t end = to ? std::min(last, size - 1) : size - 1;
        return {Kind::part, first, end - first + 1};
    }

  private:
    static bool number(std::string_view text, std::uint64_t& value) {
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        return error == std::errc() && end == text.data() + text.size();
    }
};

// One file on its way to a peer: opened, measured, and read as fast as the peer takes it.
class FileAnswer : public std::enable_shared_from_this<FileAnswer> {
  public:
    FileAnswer(whorl::Loop& loop, whorl::http::Later later)
        : loop_(loop), later_(std::move(later)) {}

    void open(whorl::File folder, std::string name) {
        name_ = std::move(name);
        const auto opened = [self = shared_from_this()](whorl::Loop&, whorl::OpenFile::Done done) {
            if (done.error) return self->refuse(404);
            self->file_ = done.file;
            self->measure();
        };
        const int flags = O_RDONLY | O_NONBLOCK;
        const std::uint64_t beneath = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
        if (!loop_.submit(whorl::OpenFile{name_, flags, 0, beneath, folder}, opened)) refuse(404);
    }
    // The peer takes more.
    void read() {
        if (reading_ || !file_ || left_ == 0) return;
        whorl::Buffer room = loop_.buffer(static_cast<std::size_t>(std::min(left_, chunk)));
        const auto got = [self = shared_from_this()](whorl::Loop&, whorl::ReadAt::Done done) {
            self->got(std::move(done));
        };
        reading_ = bool(loop_.submit(whorl::ReadAt{file_, std::move(room), at_}, got));
        if (!reading_ && later_) later_->abort();
    }
    void close() {
        if (file_) (void)loop_.close(file_);
        file_ = {};
    }

  private:
    static constexpr std::uint64_t chunk = std::uint64_t{64} << 10;

    void refuse(std::uint16_t status) {
        if (later_) later_->respond({status, "text/plain"}, whorl::http::reason_of(status));
        close();
    }
    void measure() {
        const auto measured = [self = shared_from_this()](whorl::Loop&, whorl::Stat::Done done) {
            if (done.error || !done.status.is_regular()) return self->refuse(404);
            self->begin(done.status.size);
        };
        if (!loop_.submit(whorl::Stat{"", true, file_}, measured)) refuse(503);
    }
    void begin(std::uint64_t size) {
        if (!later_) return close();
        const Range range = Range::of(later_->request().find("range"), size);
        const bool part = range.kind == Range::Kind::part;
        char text[64];
        const auto put = [&text](const char* format, auto... numbers) {
            const int length = std::snprintf(text, sizeof(text), format, numbers...);
            return std::string_view(text, static_cast<std::size_t>(length));
        };
        whorl::http::Field fields[] = {{"Accept-Ranges", "bytes"}, {"Content-Range", {}}};
        if (range.kind == Range::Kind::outside) {
            fields[1].value = put("bytes */%llu", static_cast<unsigned long long>(size));
            later_->respond({416, {}, fields, 2});
            return close();
        }
        if (part) {
            fields[1].value =
                put("bytes %llu-%llu/%llu", static_cast<unsigned long long>(range.first),
                    static_cast<unsigned long long>(range.first + range.size - 1),
                    static_cast<unsigned long long>(size));
        }
        at_ = range.first;
        left_ = range.size;
        const std::uint16_t status = part ? 206 : 200;
        later_->begin({status, content_type(name_), fields, part ? 2u : 1u}, left_);
        if (left_ != 0 && !later_->bodiless()) return read();
        later_->end();
        close();
    }
    void got(whorl::ReadAt::Done done) {
        reading_ = false;
        if (!later_) return close();
        if (done.error || done.buffer.empty()) {  // it has become shorter
            later_->abort();
            return close();
        }
        if (done.buffer.size() > left_) done.buffer.resize(static_cast<std::size_t>(left_));
        at_ += done.buffer.size();
        left_ -= done.buffer.size();
        const bool room = later_->write(std::move(done.buffer));
        if (left_ != 0) {
            if (room) read();
            return;
        }
        later_->end();
        close();
    }

    whorl::Loop& loop_;
    whorl::http::Later later_;
    std::string name_;
    whorl::File file_;
    std::uint64_t at_ = 0;
    std::uint64_t left_ = 0;
    bool reading_ = false;
};

// The handler of a connection.
struct FileVisitor {
    whorl::File folder;
    std::shared_ptr<FileAnswer> answer = {};
    std::uint64_t bytes = 0;

    void request(whorl::http::Exchange& exchange) {
        using whorl::http::Method;
        const whorl::http::Message& request = exchange.request();
        bytes = 0;
        if (request.path == "/hello") {
            exchange.respond({200, "text/plain"}, "Hello, world!\n");
        } else if (request.path == "/echo") {
            exchange.begin({200, "application/octet-stream"});
        } else if (request.path != "/count") {
            std::string name;
            const bool reads = request.method == Method::get || request.method == Method::head;
            if (!reads) return (void)exchange.respond({405});
            if (!path_decode(request.path, name)) return (void)exchange.respond({400});
            if (name.empty() || name.back() == '/') name += "index.html";
            answer = std::make_shared<FileAnswer>(exchange.loop(), exchange.later());
            answer->open(folder, std::move(name));
        }
    }
    void body(whorl::http::Exchange& exchange, whorl::Bytes piece) {
        bytes += piece.size;
        if (exchange.request().path != "/echo") return;
        if (!exchange.write(piece.text())) exchange.pause();
    }
    void complete(whorl::http::Exchange& exchange) {
        if (exchange.request().path == "/echo") exchange.end();
        if (exchange.request().path == "/count") {
            exchange.respond({200, "text/plain"}, std::to_string(bytes) + '\n');
        }
    }
    void writable(whorl::http::Exchange& exchange) {
        if (exchange.request().path == "/echo") exchange.resume();
        else if (answer) answer->read();
    }
    void gone(whorl::http::Exchange&) {
        if (answer) answer->close();
        answer.reset();
    }
};

class FileSite {
  public:
    explicit FileSite(std::string folder) : path_(std::move(folder)) {}

    whorl::Error start(whorl::Loop& loop, const whorl::Address& address) {
        const int fd = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) return whorl::Error::from_errno(errno);
        const auto folder = whorl::adopt_file(loop, fd);
        if (!folder) return folder.error();
        whorl::http::ServerOptions options;
        options.limits.body_max = std::uint64_t{1} << 40;
        const auto make = [folder = *folder](const whorl::Accepted&) {
            return FileVisitor{folder};
        };
        const auto acceptor = whorl::http::serve(loop, address, make, options);
        if (!acceptor) return acceptor.error();
        acceptor_ = *acceptor;
        return {};
    }
    whorl::Listener listener() const { return acceptor_->listener(); }

  private:
    std::string path_;
    whorl::Acceptor* acceptor_ = nullptr;
};
