// SPDX-License-Identifier: MIT
// Floor: 6
#include "dns/state.hpp"

#include <whorl/assert.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <new>

// Questions: who asks joins one that is there, or makes one; c-ares answers it; all who wait are told.

namespace whorl::dns::detail {

namespace {

// Types and class of records. Source: RFC 1035 section 3.2, RFC 2782.
constexpr int class_internet = 1, type_texts = 16, type_services = 33;

void addresses_found(void* asked, int status, int, ares_addrinfo* found) {
    auto& entry = *static_cast<Entry*>(asked);
    Answer* answer = answer_of_addresses(status, found);
    if (found != nullptr) ares_freeaddrinfo(found);
    entry.state->answered(entry, answer);
}

void records_found(void* asked, int status, int, unsigned char* message, int size) {
    auto& entry = *static_cast<Entry*>(asked);
    entry.state->answered(entry, entry.kind == Kind::services
                                     ? answer_of_services(status, message, size)
                                     : answer_of_texts(status, message, size));
}

}  // namespace

Entry::Entry(State& of) noexcept
    : state(&of), queue(
                      [](void* self) noexcept {
                          auto& entry = *static_cast<Entry*>(self);
                          entry.state->left(entry);
                      },
                      this) {}

Error name_check(std::string_view name) noexcept {
    constexpr std::size_t name_max = 253, label_max = 63;
    if (!name.empty() && name.back() == '.') name.remove_suffix(1);  // as it is, without a search
    if (name.empty() || name.size() > name_max) return Error::invalid_argument;
    std::size_t label = 0;
    for (const char sign : name) {
        const bool printable = sign > ' ' && sign <= '~' && sign != '\\';  // c-ares reads escapes
        const bool label_ends = sign == '.';
        if (!printable || (label_ends && label == 0)) return Error::invalid_argument;
        label = label_ends ? 0 : label + 1;
        if (label > label_max) return Error::invalid_argument;
    }
    return label != 0 ? Error() : Error(Error::invalid_argument);
}

Error State::ask(whorl::detail::OpRecord& record, const Question& question) noexcept {
    if (Error error = name_check(question.name)) return error;
    auto* ticket = new (std::nothrow) Ticket;
    if (ticket == nullptr) return Error::from_errno(ENOMEM);
    const std::uint64_t hash = hash_of(question);
    Entry* entry = find(question, hash);
    if (entry != nullptr && entry->stage == Stage::kept && loop->now() >= entry->expires) {
        drop(*entry);
        entry = nullptr;
    }
    if (entry != nullptr && entry->stage == Stage::kept) {
        ++statistics.kept;
        use(*entry);
        ticket->answer = answer_share(entry->answer);
        whorl::detail::WaitQueue::pass(*loop, record, entry->answer->error, ticket);
        return {};
    }
    if (entry != nullptr) {
        ++statistics.joined;
        if (entry->stage == Stage::asked && entry->queue.empty()) --abandoned;
    } else {
        entry = make(question, hash);
        if (entry == nullptr) {
            delete ticket;
            return Error::from_errno(ENOMEM);
        }
    }
    entry->queue.join(*loop, record, 0, ticket);
    pump();
    channel->update();
    return {};
}

// Begins what is pending, as far as it may. What c-ares answers at once ends inside of this loop.
void State::pump() noexcept {
    if (pumping) return;
    pumping = true;
    while (statistics.under_way < options.under_way_max) {
        ListNode* node = pending.pop_front();
        if (node == nullptr) break;
        give_to_cares(static_cast<Entry&>(*node));
    }
    pumping = false;
}

void State::give_to_cares(Entry& entry) noexcept {
    entry.stage = Stage::asked;
    ++statistics.under_way;
    ++statistics.asked;
    if (entry.kind != Kind::addresses) {
        const int type = entry.kind == Kind::services ? type_services : type_texts;
        ares_query(channel->channel(), entry.name(), class_internet, type, &records_found, &entry);
        return;
    }
    ares_addrinfo_hints hints{};
    hints.ai_family = entry.family;
    hints.ai_socktype = SOCK_STREAM;  // each address once
    if (options.hosts == Hosts::environment) hints.ai_flags |= ARES_AI_ENVHOSTS;
    ares_getaddrinfo(channel->channel(), entry.name(), nullptr, &hints, &addresses_found, &entry);
}

// From inside of c-ares. Takes over the answer; null: no memory.
void State::answered(Entry& entry, Answer* answer) noexcept {
    WHORL_ASSERT(entry.stage == Stage::asked && statistics.under_way != 0);
    --statistics.under_way;
    if (entry.queue.empty()) --abandoned;
    const Error error = answer != nullptr ? answer->error : Error::from_errno(ENOMEM);
    while (!entry.queue.empty()) {
        auto* ticket = static_cast<Ticket*>(entry.queue.take_front());
        ticket->answer = answer_share(answer);
        entry.queue.end_front(error, ticket);
    }
    Nanoseconds time{0};
    if (answer != nullptr && !error) {
        time = std::clamp<Nanoseconds>(std::chrono::seconds(answer->ttl_s), options.ttl_min,
                                       options.ttl_max);
    } else if (error == Error::name_unknown || error == Error::name_no_record) {
        time = options.negative_ttl;
    }
    if (time > Nanoseconds::zero() && options.cache_max != 0) {
        keep(entry, answer, time);
    } else {
        answer_release(answer);
        drop(entry);
    }
    pump();
}

// One who waited was cancelled; never from inside of c-ares. The last that this does to the entry may be
// its end.
void State::left(Entry& entry) noexcept {
    if (!entry.queue.empty()) return;
    if (entry.stage == Stage::pending) return drop(entry);
    ++abandoned;
    if (abandoned != statistics.under_way) return;
    pumping = true;
    ares_cancel(channel->channel());
    pumping = false;
    pump();
    channel->update();
}

State::~State() {
    pumping = true;
    channel.reset();  // answers all that it was asked
    while (ListNode* node = pending.pop_front()) drop(static_cast<Entry&>(*node));
    if (buckets) clear();
}

}  // namespace whorl::dns::detail
