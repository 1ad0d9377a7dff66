// SPDX-License-Identifier: MIT
// Goal: what c-ares says becomes an answer: each of its words an error, records in their order, the shortest
// lifetime of all that was needed. A message that is cut or changed anywhere is malformed or an answer, and
// nothing behind its end is read. Method: c-ares's structures and DNS messages by hand, in memory of just
// their size.
#include "dns/answer.hpp"

#include "dns/server.hpp"

#include <sys/un.h>

#include <memory>
#include <set>

namespace whorl::dns {
namespace {

using detail::Answer;

struct Drop {
    void operator()(Answer* answer) const { detail::answer_release(answer); }
};
using Owned = std::unique_ptr<Answer, Drop>;

// A message with one question; each of `records` about the name that was asked for.
std::string message_of(unsigned type, const std::vector<Record>& records,
                       const std::string& owner = "\xC0\x0C") {
    std::string message = number_16(7) + number_16(0x8180) + number_16(1) +
                          number_16(static_cast<unsigned>(records.size())) + number_32(0) +
                          labels("one.test") + number_16(type) + number_16(1);
    for (const Record& record : records) {
        message += owner + number_16(record.type) + number_16(1) + number_32(record.ttl) +
                   number_16(static_cast<unsigned>(record.data.size())) + record.data;
    }
    return message;
}
// In memory that ends where the message does.
Owned read(unsigned type, const std::string& message) {
    const std::unique_ptr<unsigned char[]> bytes(new unsigned char[message.size()]);
    std::copy(message.begin(), message.end(), bytes.get());
    const int size = static_cast<int>(message.size());
    return Owned(type == type_srv ? detail::answer_of_services(ARES_SUCCESS, bytes.get(), size)
                                  : detail::answer_of_texts(ARES_SUCCESS, bytes.get(), size));
}

TEST(DnsAnswer, each_status_has_its_error) {
    const struct {
        int status;
        Error error;
    } cases[] = {
        {ARES_SUCCESS, Error()},
        {ARES_ENOTFOUND, Error::name_unknown},
        {ARES_ENODATA, Error::name_no_record},
        {ARES_EFORMERR, Error::name_refused},
        {ARES_ESERVFAIL, Error::name_refused},
        {ARES_ENOTIMP, Error::name_refused},
        {ARES_EREFUSED, Error::name_refused},
        {ARES_EBADRESP, Error::name_malformed},
        {ARES_ECONNREFUSED, Error::name_not_answered},
        {ARES_ETIMEOUT, Error::name_not_answered},
        {ARES_EOF, Error::name_not_answered},
        {ARES_ENOMEM, Error::from_errno(ENOMEM)},
        {ARES_EFILE, Error::from_errno(ENOENT)},
        {ARES_ECANCELLED, Error::cancelled},
        {ARES_EDESTRUCTION, Error::cancelled},
        {ARES_EBADNAME, Error::invalid_argument},
        {ARES_EBADQUERY, Error::invalid_argument},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(detail::error_of(each.status), each.error) << ares_strerror(each.status);
        if (each.status == ARES_SUCCESS) continue;
        for (const Owned& answer : {Owned(detail::answer_of_addresses(each.status, nullptr)),
                                    Owned(detail::answer_of_services(each.status, nullptr, 0)),
                                    Owned(detail::answer_of_texts(each.status, nullptr, 0))}) {
            EXPECT_EQ(answer->error, each.error);
            EXPECT_EQ(answer->count, 0u);
        }
    }
    EXPECT_EQ(detail::answer_count(nullptr), 0u);
    EXPECT_EQ(detail::answer_records(nullptr), nullptr);
    EXPECT_EQ(detail::answer_share(nullptr), nullptr);
}

TEST(DnsAnswer, addresses_and_the_aliases_they_were_found_by) {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_un other{};
    other.sun_family = AF_UNIX;
    ares_addrinfo_node strange{};
    strange.ai_ttl = 50;
    strange.ai_family = AF_UNIX;
    strange.ai_addr = reinterpret_cast<sockaddr*>(&other);
    strange.ai_addrlen = sizeof other;
    ares_addrinfo_node known = strange;
    known.ai_ttl = 30;
    known.ai_family = AF_INET;
    known.ai_addr = reinterpret_cast<sockaddr*>(&four);
    known.ai_addrlen = sizeof four;
    ares_addrinfo_cname alias{};
    alias.ttl = 20;
    ares_addrinfo found{};
    const auto of = [&] { return Owned(detail::answer_of_addresses(ARES_SUCCESS, &found)); };

    EXPECT_EQ(Owned(detail::answer_of_addresses(ARES_SUCCESS, nullptr))->error,
              Error::name_no_record);
    found.cnames = &alias;
    EXPECT_EQ(of()->error, Error::name_no_record) << "an alias of nothing";
    found.nodes = &strange;
    EXPECT_EQ(of()->error, Error::name_no_record) << "a family that is none of ours";
    strange.ai_next = &known;
    Owned answer = of();
    EXPECT_FALSE(answer->error);
    ASSERT_EQ(answer->count, 1u);
    EXPECT_EQ(answer->records<Address>()->port(), 0);
    EXPECT_EQ(answer->ttl_s, 20u);
    alias.ttl = 40;
    EXPECT_EQ(of()->ttl_s, 30u);
    alias.ttl = -1;
    EXPECT_EQ(of()->ttl_s, 0u);
}

TEST(DnsAnswer, lives_as_long_as_its_shortest_record) {
    const Record first = service(1, 1, 1, "a.test", 100), second = service(2, 1, 1, "b.test", 70);
    const Record alias{type_cname, labels("one.test"), 40};
    EXPECT_EQ(read(type_srv, message_of(type_srv, {first, second}))->ttl_s, 70u);
    EXPECT_EQ(read(type_srv, message_of(type_srv, {first, second}, labels("one.test")))->ttl_s,
              70u);
    EXPECT_EQ(read(type_srv, message_of(type_srv, {alias, first}))->ttl_s, 40u);
    EXPECT_EQ(read(type_txt, message_of(type_txt, {text({"a"}, 9), text({"b"}, 8)}))->ttl_s, 8u);
    // RFC 2181 section 8: with the highest bit set it is zero.
    EXPECT_EQ(read(type_txt, message_of(type_txt, {text({"a"}, 0x80000000)}))->ttl_s, 0u);
    for (const unsigned type : {unsigned{type_srv}, unsigned{type_txt}}) {
        const Owned none = read(type, message_of(type, {v4("127.0.0.1")}));
        EXPECT_EQ(none->error, Error::name_no_record);
        EXPECT_EQ(none->count, 0u);
    }
}

TEST(DnsAnswer, services_are_in_one_order) {
    const std::vector<Record> records = {
        service(2, 9, 1, "a.test"), service(1, 1, 2, "b.test"), service(1, 1, 1, "b.test"),
        service(1, 1, 3, "a.test"), service(1, 5, 1, "z.test"),
    };
    const Owned answer = read(type_srv, message_of(type_srv, records));
    std::string order;
    for (std::size_t index = 0; index < answer->count; ++index) {
        const Service& one = answer->records<Service>()[index];
        order += std::string(one.host) + ':' + std::to_string(one.port) + ' ';
    }
    EXPECT_EQ(order, "z.test:1 a.test:3 b.test:1 b.test:2 a.test:1 ");
}

// What there is of an answer lies in its own memory.
void expect_sane(const Owned& answer, unsigned type) {
    ASSERT_TRUE(answer);
    EXPECT_TRUE(!answer->error || answer->count == 0);
    const char* const begin = reinterpret_cast<const char*>(answer.get());
    for (std::size_t index = 0; index < answer->count; ++index) {
        const std::string_view text = type == type_srv ? answer->records<Service>()[index].host
                                                       : answer->records<std::string_view>()[index];
        EXPECT_GE(text.data(), begin + sizeof(Answer));
        EXPECT_LE(text.data() + text.size(), begin + answer->bytes);
    }
}

TEST(DnsAnswer, a_message_that_is_cut_or_changed_anywhere) {
    const std::string services =
        message_of(type_srv, {service(1, 1, 1, "a.test", 1), service(1, 2, 1, "b.test", 2)});
    const std::string texts = message_of(type_txt, {text({"one", "two"}, 1), text({"", "x"}, 2)});
    for (const auto& [type, message] :
         {std::pair{type_srv, services}, std::pair{type_txt, texts}}) {
        ASSERT_FALSE(read(type, message)->error);
        // c-ares has compared the question with the one that was asked.
        const std::size_t question = 12 + labels("one.test").size() + 4;
        for (std::size_t size = question; size < message.size(); ++size) {
            const Owned answer = read(type, message.substr(0, size));
            EXPECT_EQ(answer->error, Error::name_malformed) << size;
        }
        std::set<std::string> ends;
        for (std::size_t place = 0; place < message.size(); ++place) {
            for (const int flip : {0x01, 0x02, 0x15, 0x80, 0xFF}) {
                std::string changed = message;
                changed[place] = static_cast<char>(changed[place] ^ flip);
                const Owned answer = read(type, changed);
                expect_sane(answer, type);
                ends.insert(answer->error.name());
            }
        }
        EXPECT_GE(ends.size(), 3u) << "malformed, without a record, and answers";
    }
}

}  // namespace
}  // namespace whorl::dns
