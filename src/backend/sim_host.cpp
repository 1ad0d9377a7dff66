// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/host_calls.hpp"
#include "backend/sim_kernel.hpp"

#include <whorl/error.hpp>

#include <arpa/inet.h>
#include <netdb.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>

// The names and the wall clock of a simulated kernel: what was scripted, localhost, and numbers.

namespace whorl::detail {

namespace {

// A timerfd of the wall clock.
class SimWallTimer final : public SimFile {
  public:
    explicit SimWallTimer(SimKernel& kernel) noexcept : SimFile(kernel) {}

    const char* name() const noexcept override { return "timerfd"; }
    unsigned poll_bits() const noexcept override { return expired_ || clock_set_ ? POLLIN : 0; }
    ssize_t read(void* data, std::size_t size, int) override {
        if (size < sizeof(std::uint64_t)) return -EINVAL;
        if (std::exchange(clock_set_, false)) return -ECANCELED;
        if (!std::exchange(expired_, false)) return -EAGAIN;
        const std::uint64_t one = 1;
        std::memcpy(data, &one, sizeof one);
        return sizeof one;
    }
    void arm(std::int64_t when_ns, std::int64_t offset_ns) {
        when_ns_ = when_ns;
        expired_ = clock_set_ = false;
        aim(offset_ns);
    }
    void clock_was_set(std::int64_t offset_ns) {
        if (when_ns_ == 0) return;
        clock_set_ = true;
        changed();
        if (!expired_) aim(offset_ns);
    }

  private:
    void aim(std::int64_t offset_ns) {
        const std::uint64_t turn = ++turn_;
        const Instant due{Nanoseconds(std::max<std::int64_t>(when_ns_ - offset_ns, 0))};
        const std::weak_ptr<SimFile> self = weak_from_this();
        kernel_.at(due, [self, turn] {
            const auto file = std::static_pointer_cast<SimWallTimer>(self.lock());
            if (file == nullptr || file->turn_ != turn) return;
            file->expired_ = true;
            file->changed();
        });
    }

    std::int64_t when_ns_ = 0;
    std::uint64_t turn_ = 0;  // of arming
    bool expired_ = false;
    bool clock_set_ = false;
};

std::string canonical(std::string_view host) {
    std::string name(host);
    if (!name.empty() && name.back() == '.') name.pop_back();
    std::transform(name.begin(), name.end(), name.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 'a' - 'A') : letter;
    });
    return name;
}

FoundAddress found_v4(const in_addr& address) {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_addr = address;
    FoundAddress found;
    std::memcpy(found.bytes, &made, sizeof made);
    found.length = sizeof made;
    return found;
}

FoundAddress found_v6(const in6_addr& address) {
    sockaddr_in6 made{};
    made.sin6_family = AF_INET6;
    made.sin6_addr = address;
    FoundAddress found;
    std::memcpy(found.bytes, &made, sizeof made);
    found.length = sizeof made;
    return found;
}

int family_of(const FoundAddress& address) {
    return address.length == sizeof(sockaddr_in) ? AF_INET : AF_INET6;
}

class SimHostCalls final : public SimHost {
  public:
    explicit SimHostCalls(SimKernel& kernel) : kernel_(kernel) {
        names_["localhost"].addresses = {found_v6(in6addr_loopback), loopback_v4()};
    }

    int resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept override;
    std::int64_t wall_clock_ns() noexcept override {
        return kernel_.now().time_since_epoch().count() + offset_ns_;
    }
    int wall_timer() noexcept override {
        const auto gone = [](const auto& entry) { return entry.expired(); };
        timers_.erase(std::remove_if(timers_.begin(), timers_.end(), gone), timers_.end());
        const auto made = std::make_shared<SimWallTimer>(kernel_);
        timers_.push_back(made);
        return kernel_.install(made);
    }
    int wall_timer_set(int fd, std::int64_t when_ns) noexcept override {
        const SimFilePtr file = kernel_.file(fd);
        if (file == nullptr) return -EBADF;
        if (std::strcmp(file->name(), "timerfd") != 0) return -EINVAL;
        static_cast<SimWallTimer&>(*file).arm(std::max<std::int64_t>(when_ns, 1), offset_ns_);
        return 0;
    }
    void set_name(std::string_view host, Name name) override {
        names_[canonical(host)] = std::move(name);
    }
    void set_wall_clock(std::int64_t now_ns) override {
        offset_ns_ = now_ns - kernel_.clock().time_since_epoch().count();
        for (const auto& entry : timers_) {
            if (const auto timer = entry.lock()) timer->clock_was_set(offset_ns_);
        }
    }

  private:
    static FoundAddress loopback_v4() {
        in_addr address{};
        address.s_addr = htonl(INADDR_LOOPBACK);
        return found_v4(address);
    }
    static int port_of(const NameQuestion& question);
    int look_up(const NameQuestion& question, std::vector<FoundAddress>& all);

    SimKernel& kernel_;
    std::map<std::string, Name> names_;
    std::int64_t offset_ns_ = 1'700'000'000'000'000'000;
    std::vector<std::weak_ptr<SimWallTimer>> timers_;
};

// A number, or one of a few names that every machine knows.
int SimHostCalls::port_of(const NameQuestion& question) {
    const std::string_view service(question.service);
    if (service.empty()) return 0;
    if (service.find_first_not_of("0123456789") == std::string_view::npos) {
        if (beyond_ports(question.service)) return -Error::service_unknown;
        return static_cast<int>(std::strtol(question.service, nullptr, 10));
    }
    if ((question.flags & AI_NUMERICSERV) != 0) return -Error::name_unknown;
    static constexpr struct {
        const char* name;
        int port;
    } known[] = {{"domain", 53}, {"http", 80}, {"https", 443}, {"ssh", 22}};
    for (const auto& each : known) {
        if (service == each.name) return each.port;
    }
    return -Error::service_unknown;
}

int SimHostCalls::look_up(const NameQuestion& question, std::vector<FoundAddress>& all) {
    in_addr v4{};
    in6_addr v6{};
    if (*question.host == 0) {
        const bool passive = (question.flags & AI_PASSIVE) != 0;
        all.push_back(passive ? found_v4(v4) : loopback_v4());
        all.push_back(found_v6(passive ? in6addr_any : in6addr_loopback));
    } else if (::inet_pton(AF_INET, question.host, &v4) == 1) {
        all.push_back(found_v4(v4));
    } else if (::inet_pton(AF_INET6, question.host, &v6) == 1) {
        all.push_back(found_v6(v6));
    } else if ((question.flags & AI_NUMERICHOST) != 0) {
        return -Error::name_unknown;
    } else {
        const auto found = names_.find(canonical(question.host));
        if (found == names_.end()) return -Error::name_unknown;
        kernel_.work_takes += Nanoseconds(found->second.delay_ns);
        if (found->second.error != 0) return found->second.error;
        all = found->second.addresses;
    }
    const auto other = [&question](const FoundAddress& address) {
        return question.family != AF_UNSPEC && question.family != family_of(address);
    };
    all.erase(std::remove_if(all.begin(), all.end(), other), all.end());
    return all.empty() ? -Error::name_unknown : 0;
}

int SimHostCalls::resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept {
    if (*question.host == 0 && *question.service == 0) return -Error::name_unknown;
    const int port = port_of(question);
    if (port < 0) return port;
    std::vector<FoundAddress> all;
    if (const int error = look_up(question, all)) return error;
    const std::uint16_t network_port = htons(static_cast<std::uint16_t>(port));
    int count = 0;
    for (FoundAddress& address : all) {
        // Of both families the port stands at the same place.
        std::memcpy(address.bytes + offsetof(sockaddr_in, sin_port), &network_port, 2);
        if (count < most) found[count] = address;
        ++count;
    }
    return count;
}

}  // namespace

std::unique_ptr<SimHost> make_sim_host(SimKernel& kernel) {
    return std::make_unique<SimHostCalls>(kernel);
}

SimHost& SimKernel::host_calls() noexcept {
    if (host_calls_ == nullptr) host_calls_ = make_sim_host(*this);
    return *host_calls_;
}

}  // namespace whorl::detail
