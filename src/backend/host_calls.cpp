// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/host_calls.hpp"

#include "base/lasting.hpp"

#include <whorl/error.hpp>

#include <netdb.h>
#include <sys/timerfd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace whorl::detail {

namespace {

// What getaddrinfo(3) answers, as one of our errors; negated.
int meaning_of(int answer) noexcept {
    switch (answer) {
        case EAI_NONAME:      // no such host
        case EAI_NODATA:      // it has no address
        case EAI_ADDRFAMILY:  // nor one of this family
            return -Error::name_unknown;
        case EAI_SERVICE:
            return -Error::service_unknown;
        case EAI_AGAIN:
            return -Error::name_not_answered;
        case EAI_FAMILY:
        case EAI_BADFLAGS:
        case EAI_SOCKTYPE:
            return -Error::invalid_argument;
        case EAI_MEMORY:
            return -ENOMEM;
        case EAI_SYSTEM:
            return errno != 0 ? -errno : -EIO;
        default:
            return -Error::name_refused;
    }
}

class RealHostCalls final : public HostCalls {
  public:
    int resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept override {
        if (beyond_ports(question.service)) return -Error::service_unknown;
        addrinfo hints{};
        hints.ai_family = question.family;
        hints.ai_socktype = question.type;
        hints.ai_flags = question.flags;
        addrinfo* list = nullptr;
        const char* host = *question.host == 0 ? nullptr : question.host;
        const char* service = *question.service == 0 ? nullptr : question.service;
        const int answer = ::getaddrinfo(host, service, &hints, &list);
        if (answer != 0) return meaning_of(answer);
        int count = 0;
        for (const addrinfo* each = list; each != nullptr; each = each->ai_next) {
            if (each->ai_addrlen > sizeof found->bytes) continue;  // no family of ours
            if (count < most) {
                std::memcpy(found[count].bytes, each->ai_addr, each->ai_addrlen);
                found[count].length = each->ai_addrlen;
            }
            ++count;
        }
        ::freeaddrinfo(list);
        return count;
    }

    std::int64_t wall_clock_ns() noexcept override {
        timespec now{};
        ::clock_gettime(CLOCK_REALTIME, &now);
        return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
    }
    int wall_timer() noexcept override {
        const int fd = ::timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        return fd < 0 ? -errno : fd;
    }
    int wall_timer_set(int fd, std::int64_t when_ns) noexcept override {
        itimerspec when{};
        if (when_ns <= 0) when_ns = 1;  // zero would disarm it
        when.it_value.tv_sec = when_ns / 1'000'000'000;
        when.it_value.tv_nsec = when_ns % 1'000'000'000;
        const int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
        return ::timerfd_settime(fd, flags, &when, nullptr) < 0 ? -errno : 0;
    }
};

}  // namespace

HostCalls& real_host_calls() noexcept {
    static Lasting<RealHostCalls> calls;
    return *calls;
}

}  // namespace whorl::detail
