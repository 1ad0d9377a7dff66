// SPDX-License-Identifier: MIT
// Floor: 6
#include "dns/answer.hpp"

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>

// What c-ares hands over, copied into blocks of our own. It tells no lifetime for records that it has taken
// apart, so that is read from the message here.

namespace whorl::dns::detail {

Answer* answer_share(Answer* answer) noexcept {
    if (answer != nullptr) ++answer->references;
    return answer;
}

void answer_release(Answer* answer) noexcept {
    if (answer == nullptr || --answer->references != 0) return;
    const std::size_t bytes = answer->bytes;
    answer->~Answer();  // what it holds are values
    whorl::detail::object_give(answer, bytes, alignof(Answer));
}

const void* answer_records(const Answer* answer) noexcept {
    return answer == nullptr ? nullptr : answer + 1;
}
std::size_t answer_count(const Answer* answer) noexcept {
    return answer == nullptr ? 0 : answer->count;
}

Error error_of(int status) noexcept {
    switch (status) {
        case ARES_SUCCESS:
            return {};
        case ARES_ENOTFOUND:
            return Error::name_unknown;
        case ARES_ENODATA:
            return Error::name_no_record;
        case ARES_EFORMERR:  // what a server says
        case ARES_ESERVFAIL:
        case ARES_ENOTIMP:
        case ARES_EREFUSED:
            return Error::name_refused;
        case ARES_EBADRESP:
            return Error::name_malformed;
        case ARES_ECONNREFUSED:
        case ARES_ETIMEOUT:
        case ARES_EOF:  // a TCP connection that ended
            return Error::name_not_answered;
        case ARES_ENOMEM:
            return Error::from_errno(ENOMEM);
        case ARES_EFILE:
            return Error::from_errno(ENOENT);
        case ARES_ECANCELLED:
        case ARES_EDESTRUCTION:
            return Error::cancelled;
        default:  // of a name, of options
            return Error::invalid_argument;
    }
}

namespace {

// A block for `count` records and `text` bytes behind them.
template <class Record>
Answer* allocate(std::size_t count, std::size_t text, std::uint32_t ttl_s) noexcept {
    const std::size_t bytes = sizeof(Answer) + count * sizeof(Record) + text;
    void* memory = whorl::detail::object_take(bytes, alignof(Answer));
    if (memory == nullptr) return nullptr;
    auto* answer = ::new (memory) Answer;
    answer->bytes = bytes;
    answer->ttl_s = ttl_s;
    return answer;
}

template <class Record>
void put(Answer& answer, const Record& record) noexcept {
    ::new (static_cast<void*>(answer.records<Record>() + answer.count++)) Record(record);
}

// The texts of an answer, one behind the other.
struct TextEnd {
    char* at;
    std::string_view put(const void* bytes, std::size_t size) noexcept {
        char* const begun = at;
        if (size != 0) std::memcpy(at, bytes, size);
        at += size;
        return {begun, size};
    }
};

unsigned read_16(const unsigned char* at) noexcept { return at[0] * 256u + at[1]; }

// Where the name at `at` ends, or `end`.
const unsigned char* skip_name(const unsigned char* at, const unsigned char* end) noexcept {
    while (at < end) {
        const unsigned size = *at;
        if (size == 0) return at + 1;
        if (size >= 0xC0) return end - at < 2 ? end : at + 2;  // the rest stands elsewhere
        if (static_cast<std::size_t>(end - at) <= size + 1) return end;
        at += size + 1;
    }
    return end;
}

// The shortest lifetime in the answer section, in seconds; 0 when it cannot be read.
// Source: RFC 1035 section 4.1, RFC 2181 section 8.
std::uint32_t ttl_of(const unsigned char* message, int size) noexcept {
    constexpr int header = 12, fixed = 10;
    if (size < header) return 0;
    const unsigned char* const end = message + size;
    const unsigned char* at = message + header;
    for (unsigned left = read_16(message + 4); left != 0; --left) {
        at = skip_name(at, end);
        if (end - at < 4) return 0;
        at += 4;
    }
    std::uint32_t shortest = std::numeric_limits<std::uint32_t>::max();
    for (unsigned left = read_16(message + 6); left != 0; --left) {
        at = skip_name(at, end);
        if (end - at < fixed) return 0;
        const std::uint32_t ttl = read_16(at + 4) << 16 | read_16(at + 6);
        shortest = std::min(shortest, ttl >> 31 != 0 ? 0 : ttl);
        const unsigned data = read_16(at + 8);
        at += fixed;
        if (static_cast<std::size_t>(end - at) < data) return 0;
        at += data;
    }
    return shortest == std::numeric_limits<std::uint32_t>::max() ? 0 : shortest;
}

// A name that is none is the server's here, not that of who has asked.
int parsed(int status) noexcept { return status == ARES_EBADNAME ? ARES_EBADRESP : status; }

std::uint32_t ttl_of(const ares_addrinfo& found) noexcept {
    int shortest = std::numeric_limits<int>::max();
    for (const auto* at = found.nodes; at != nullptr; at = at->ai_next) {
        shortest = std::min(shortest, at->ai_ttl);
    }
    for (const auto* at = found.cnames; at != nullptr; at = at->next) {
        shortest = std::min(shortest, at->ttl);
    }
    return static_cast<std::uint32_t>(std::max(shortest, 0));
}

}  // namespace

Answer* answer_of(Error error) noexcept {
    Answer* answer = allocate<char>(0, 0, 0);
    if (answer != nullptr) answer->error = error;
    return answer;
}

Answer* answer_of_addresses(int status, const ares_addrinfo* found) noexcept {
    if (status == ARES_SUCCESS && found == nullptr) status = ARES_ENODATA;
    if (status != ARES_SUCCESS) return answer_of(error_of(status));
    std::size_t count = 0;
    for (const auto* at = found->nodes; at != nullptr; at = at->ai_next) ++count;
    if (count == 0) return answer_of(Error::name_no_record);
    Answer* answer = allocate<Address>(count, 0, ttl_of(*found));
    if (answer == nullptr) return nullptr;
    for (const auto* at = found->nodes; at != nullptr; at = at->ai_next) {
        const Result<Address> address = Address::from_sockaddr(at->ai_addr, at->ai_addrlen);
        if (address) put(*answer, *address);
    }
    if (answer->count == 0) answer->error = Error::name_no_record;
    return answer;
}

Answer* answer_of_services(int status, const unsigned char* message, int size) noexcept {
    ares_srv_reply* list = nullptr;
    if (status == ARES_SUCCESS) status = parsed(ares_parse_srv_reply(message, size, &list));
    if (status == ARES_SUCCESS && list == nullptr) status = ARES_ENODATA;
    if (status != ARES_SUCCESS) return answer_of(error_of(status));
    std::size_t count = 0, text = 0;
    for (const auto* at = list; at != nullptr; at = at->next) {
        ++count;
        text += std::strlen(at->host);
    }
    Answer* answer = allocate<Service>(count, text, ttl_of(message, size));
    if (answer != nullptr) {
        auto* const first = answer->records<Service>();
        TextEnd end{reinterpret_cast<char*>(first + count)};
        for (const auto* at = list; at != nullptr; at = at->next) {
            const std::string_view host = end.put(at->host, std::strlen(at->host));
            put(*answer, Service{host, at->port, at->priority, at->weight});
        }
        std::sort(first, first + count, [](const Service& a, const Service& b) {
            if (a.priority != b.priority) return a.priority < b.priority;
            if (a.weight != b.weight) return a.weight > b.weight;
            return a.host != b.host ? a.host < b.host : a.port < b.port;
        });
    }
    ares_free_data(list);
    return answer;
}

Answer* answer_of_texts(int status, const unsigned char* message, int size) noexcept {
    ares_txt_ext* list = nullptr;
    if (status == ARES_SUCCESS) status = parsed(ares_parse_txt_reply_ext(message, size, &list));
    if (status == ARES_SUCCESS && list == nullptr) status = ARES_ENODATA;
    if (status != ARES_SUCCESS) return answer_of(error_of(status));
    std::size_t count = 0, text = 0;
    for (const auto* at = list; at != nullptr; at = at->next) {
        count += at->record_start != 0 || at == list ? 1 : 0;
        text += at->length;
    }
    Answer* answer = allocate<std::string_view>(count, text, ttl_of(message, size));
    if (answer != nullptr) {
        auto* const first = answer->records<std::string_view>();
        TextEnd end{reinterpret_cast<char*>(first + count)};
        for (const auto* at = list; at != nullptr;) {
            const char* const begun = end.at;
            do {
                static_cast<void>(end.put(at->txt, at->length));
                at = at->next;
            } while (at != nullptr && at->record_start == 0);
            put(*answer, std::string_view(begun, static_cast<std::size_t>(end.at - begun)));
        }
    }
    ares_free_data(list);
    return answer;
}

}  // namespace whorl::dns::detail
