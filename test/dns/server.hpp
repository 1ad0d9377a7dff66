// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/tcp_tools.hpp"

#include <whorl/connector.hpp>
#include <whorl/dns.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

// A small name server, by UDP and TCP on one port of loopback, in the loop of the test: so it does nothing
// behind a test's back, and counts what it is asked.

namespace whorl::dns {

using namespace std::chrono_literals;
using conformance::LoopTest;

enum Type : unsigned { type_a = 1, type_cname = 5, type_txt = 16, type_aaaa = 28, type_srv = 33 };

inline std::string number_16(unsigned value) {
    return {static_cast<char>(value >> 8), static_cast<char>(value)};
}
inline std::string number_32(std::uint32_t value) {
    return number_16(value >> 16) + number_16(value & 0xFFFF);
}
// A name as it is sent.
inline std::string labels(const std::string& name) {
    std::string sent;
    for (std::size_t from = 0; from < name.size();) {
        const std::size_t dot = std::min(name.find('.', from), name.size());
        sent += static_cast<char>(dot - from);
        sent += name.substr(from, dot - from);
        from = dot + 1;
    }
    return sent + '\0';
}

struct Record {
    unsigned type = 0;
    std::string data;  // as it is sent
    std::uint32_t ttl = 3600;
    std::string owner = {};  // another than the name that was asked for
};

inline Record v4(const char* address, std::uint32_t ttl = 3600) {
    Record record{type_a, std::string(4, 0), ttl};
    ::inet_pton(AF_INET, address, record.data.data());
    return record;
}
inline Record v6(const char* address, std::uint32_t ttl = 3600) {
    Record record{type_aaaa, std::string(16, 0), ttl};
    ::inet_pton(AF_INET6, address, record.data.data());
    return record;
}
inline Record service(unsigned priority, unsigned weight, unsigned port, const char* host,
                      std::uint32_t ttl = 3600) {
    return {type_srv, number_16(priority) + number_16(weight) + number_16(port) + labels(host),
            ttl};
}
inline Record text(std::vector<std::string> pieces, std::uint32_t ttl = 3600) {
    Record record{type_txt, {}, ttl};
    for (const std::string& piece : pieces) {
        record.data += static_cast<char>(piece.size());
        record.data += piece;
    }
    return record;
}

// What it does with a question.
enum class Manner {
    answers,
    silent,
    fails,           // SERVFAIL
    refuses,         // REFUSED
    misunderstands,  // FORMERR
    garbage,         // bytes that are no message
    other_id,        // only answers to a question that was not asked
    other_id_first,  // such an answer with another address, then the right one
    malformed,       // the answer says that more follows than does
    truncated,       // by UDP nothing but the word that it is longer
    tcp_ends,        // and the connection ends
};

class DnsServer {
  public:
    explicit DnsServer(Loop& loop) : loop_(loop) {
        for (int attempt = 0; attempt < 100 && tcp_ < 0; ++attempt) open();
        EXPECT_GE(tcp_, 0);
        const Result<Watch> udp =
            loop.watch(udp_, Interest::readable, [this](Loop&, Watched) { serve_udp(); });
        const Result<Watch> tcp =
            loop.watch(tcp_, Interest::readable, [this](Loop&, Watched) { serve_tcp(); });
        EXPECT_TRUE(udp && tcp);
        watches_ = {*udp, *tcp};
    }
    DnsServer(const DnsServer&) = delete;
    DnsServer& operator=(const DnsServer&) = delete;
    ~DnsServer() { stop(); }
    void stop() {
        if (udp_ < 0) return;
        for (const Watch watch : watches_) loop_.cancel(watch);
        for (const auto& each : connections_) {
            loop_.cancel(each->watch);
            ::close(each->fd);
        }
        ::close(udp_);
        ::close(tcp_);
        udp_ = tcp_ = -1;
        watches_.clear();
        connections_.clear();
    }

    Address address() const { return Address::loopback_v4(port_); }
    // Records of a name: a question gets those of its type, and the aliases.
    std::map<std::string, std::vector<Record>> records;
    std::map<std::string, Manner> manners;
    std::map<std::string, int> asked;  // "name/type", and "name/type/tcp"
    int packets = 0;
    int of(const std::string& name, unsigned type) {
        return asked[name + '/' + std::to_string(type)];
    }
    // While they are held, questions pile up.
    bool hold = false;
    std::size_t held() const { return held_.size(); }
    void let_go() {
        hold = false;
        std::vector<Held> all;
        all.swap(held_);
        for (const Held& each : all) answer_udp(each.question, each.from);
    }

  private:
    struct Held {
        std::string question;
        sockaddr_in from;
    };

    void open() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* const plain = reinterpret_cast<sockaddr*>(&address);
        udp_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        EXPECT_EQ(::bind(udp_, plain, size), 0);
        ::getsockname(udp_, plain, &size);
        port_ = ntohs(address.sin_port);
        const int tcp = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (::bind(tcp, plain, size) == 0 && ::listen(tcp, 100) == 0) {
            tcp_ = tcp;
            return;
        }
        ::close(tcp);  // somebody else's port
        ::close(udp_);
    }

    void serve_udp() {
        for (;;) {
            char bytes[2048];
            sockaddr_in from{};
            socklen_t size = sizeof from;
            const ssize_t got =
                ::recvfrom(udp_, bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&from), &size);
            if (got < 12) return;
            ++packets;
            const std::string question(bytes, static_cast<std::size_t>(got));
            if (hold) held_.push_back({question, from});
            else answer_udp(question, from);
        }
    }
    void answer_udp(const std::string& question, const sockaddr_in& from) {
        for (const std::string& answer : answers_of(question, false)) {
            ::sendto(udp_, answer.data(), answer.size(), 0,
                     reinterpret_cast<const sockaddr*>(&from), sizeof from);
        }
    }
    // Questions come in parts.
    struct Connection {
        int fd;
        Watch watch;
        std::string input;
        bool ended;
    };
    void serve_tcp() {
        const int fd = ::accept4(tcp_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) return;
        connections_.push_back(std::make_unique<Connection>(Connection{fd, {}, {}, false}));
        Connection* const made = connections_.back().get();
        const Result<Watch> watch =
            loop_.watch(fd, Interest::readable, [this, made](Loop&, Watched) { read_tcp(*made); });
        ASSERT_TRUE(watch);
        made->watch = *watch;
    }
    void read_tcp(Connection& connection) {
        char bytes[2048];
        const ssize_t got = ::recv(connection.fd, bytes, sizeof bytes, 0);
        if (got > 0) connection.input.append(bytes, static_cast<std::size_t>(got));
        answer_tcp(connection);
        if (got > 0 && !connection.ended) return;
        loop_.cancel(connection.watch);
        ::shutdown(connection.fd, SHUT_RDWR);
    }
    static std::size_t question_size(const std::string& input) {
        return static_cast<unsigned char>(input[0]) * 256u + static_cast<unsigned char>(input[1]);
    }
    void answer_tcp(Connection& connection) {
        std::string& input = connection.input;
        while (input.size() >= 2 && input.size() >= 2 + question_size(input)) {
            const std::size_t size = question_size(input);
            const std::vector<std::string> answers = answers_of(input.substr(2, size), true);
            input.erase(0, 2 + size);
            connection.ended = connection.ended || answers.empty();
            for (const std::string& answer : answers) {
                const std::string sent = number_16(static_cast<unsigned>(answer.size())) + answer;
                EXPECT_EQ(::send(connection.fd, sent.data(), sent.size(), MSG_NOSIGNAL),
                          static_cast<ssize_t>(sent.size()));
            }
        }
    }

    std::vector<std::string> answers_of(const std::string& question, bool tcp) {
        std::string name;
        std::size_t at = 12;
        while (at < question.size() && question[at] != 0) {
            const auto size = static_cast<std::size_t>(question[at]);
            name += (name.empty() ? "" : ".") + question.substr(at + 1, size);
            at += size + 1;
        }
        const unsigned type = static_cast<unsigned char>(question[at + 2]);
        ++asked[name + '/' + std::to_string(type) + (tcp ? "/tcp" : "")];
        const std::string asked_for = question.substr(12, at + 5 - 12);
        const std::string id = question.substr(0, 2);
        std::string other = id;
        other[0] = static_cast<char>(other[0] ^ 0x55);
        const std::string good = message(id, name, type, asked_for, 0x8180);
        switch (manners[name]) {
            case Manner::answers:
                return {good};
            case Manner::silent:
                return {};
            case Manner::fails:
                return {message(id, "", type, asked_for, 0x8182)};
            case Manner::refuses:
                return {message(id, "", type, asked_for, 0x8185)};
            case Manner::misunderstands:
                return {message(id, "", type, asked_for, 0x8181)};
            case Manner::garbage:
                return {"?", std::string(300, '\xFF'), id + std::string(40, '\0')};
            case Manner::other_id:
                return {message(other, name, type, asked_for, 0x8180)};
            case Manner::other_id_first:
                return {message(other, "false." + name, type, asked_for, 0x8180), good};
            case Manner::malformed:
                return {good.substr(0, good.size() - 3)};
            case Manner::truncated:
                return {tcp ? good : message(id, "", type, asked_for, 0x8380)};
            case Manner::tcp_ends:
                if (tcp) return {};
                return {message(id, "", type, asked_for, 0x8380)};
        }
        return {};
    }
    // Of a name that has no records: that there is no such name. Without a name: what `flags` say.
    std::string message(const std::string& id, const std::string& name, unsigned type,
                        const std::string& asked_for, unsigned flags) {
        std::string body;
        unsigned count = 0;
        const auto found = records.find(name);
        if (found == records.end() && !name.empty()) flags |= 3;
        if (found != records.end()) {
            for (const Record& record : found->second) {
                if (record.type != type && record.type != type_cname) {
                    if (record.owner.empty() || record.type != type) continue;
                }
                body += record.owner.empty() ? std::string("\xC0\x0C", 2) : labels(record.owner);
                body += number_16(record.type) + number_16(1) + number_32(record.ttl) +
                        number_16(static_cast<unsigned>(record.data.size())) + record.data;
                ++count;
            }
        }
        return id + number_16(flags) + number_16(1) + number_16(count) + std::string(4, '\0') +
               asked_for + body;
    }

    Loop& loop_;
    int udp_ = -1;
    int tcp_ = -1;
    std::uint16_t port_ = 0;
    std::vector<Watch> watches_;
    std::vector<std::unique_ptr<Connection>> connections_;
    std::vector<Held> held_;
};

// What a handler was told.
struct Told {
    int calls = 0;
    Error error;
    std::vector<std::string> lines;
    bool truncated = false;

    auto host() {
        return [this](Loop&, ResolveDone done) {
            ++calls;
            error = done.error;
            truncated = done.truncated;
            for (const Address& each : done.addresses) lines.emplace_back(each.print().view());
        };
    }
    auto services() {
        return [this](Loop&, FindServices::Done done) {
            ++calls;
            error = done.error;
            for (const Service& each : done.services) {
                lines.push_back(std::string(each.host) + ':' + std::to_string(each.port));
            }
        };
    }
    auto texts() {
        return [this](Loop&, FindTexts::Done done) {
            ++calls;
            error = done.error;
            for (const std::string_view each : done.texts) lines.emplace_back(each);
        };
    }
};
using Lines = std::vector<std::string>;

class DnsTest : public LoopTest {
  protected:
    // A resolver of this server alone, patient.
    static Options options_for(const Address& server) {
        static Address kept;
        kept = server;
        Options options;
        options.servers = &kept;
        options.servers_count = 1;
        options.hosts = Hosts::none;
        options.resolv_conf = "/dev/null";
        options.timeout = 20s;
        return options;
    }
    static Resolver make(Loop& loop, const Options& options) {
        Result<Resolver> made = Resolver::create(loop, options);
        EXPECT_TRUE(made) << made.error().text();
        return std::move(*made);
    }
    static void find(Loop& loop, Resolver& resolver, std::string_view host, Told& told,
                     int family = AF_INET) {
        ResolveQuery query{host, {}, 80};
        query.family = family;
        query.resolver = &resolver;
        const auto made = resolve(loop, query, told.host());
        ASSERT_TRUE(made) << made.error().text();
        EXPECT_EQ(told.calls, 0) << "never inline";
    }
    // Watches that were cancelled end in the next turns.
    static void expect_rest(Loop& loop) {
        run_until(loop, [&] { return loop.statistics().operations == 0; });
        expect_clean(loop);
    }
    static void run_told(Loop& loop, const Told& told) {
        run_until(loop, [&] { return told.calls != 0; });
        EXPECT_EQ(told.calls, 1);
    }
};

}  // namespace whorl::dns
