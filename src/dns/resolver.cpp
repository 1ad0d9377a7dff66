// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/dns.hpp>

#include "dns/state.hpp"

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

// What programs see: making a resolver of options, and the operations.

namespace whorl::dns {

namespace detail {

namespace {

Error options_check(const Options& options) noexcept {
    const bool times =
        options.timeout >= std::chrono::milliseconds(1) &&
        options.timeout <= std::chrono::hours(1) && options.ttl_min >= Nanoseconds::zero() &&
        options.ttl_max >= options.ttl_min && options.negative_ttl >= Nanoseconds::zero();
    const bool counts = options.tries >= 1 && options.tries <= 100 && options.under_way_max >= 1 &&
                        options.servers_count <= 100;
    for (std::size_t index = 0; counts && index < options.servers_count; ++index) {
        const Address& server = options.servers[index];
        if (!server || server.scope_id() != 0) return Error::invalid_argument;
    }
    return times && counts ? Error() : Error(Error::invalid_argument);
}

Error set_servers(ares_channel channel, const Options& options) noexcept {
    const std::size_t count = options.servers_count;
    const std::unique_ptr<ares_addr_port_node[], whorl::detail::ArrayDrop> nodes(
        whorl::detail::make_zeros<ares_addr_port_node>(count));
    if (!nodes) return Error::from_errno(ENOMEM);
    for (std::size_t index = 0; index < count; ++index) {
        const Address& server = options.servers[index];
        ares_addr_port_node& node = nodes[index];
        node.next = index + 1 < count ? &nodes[index + 1] : nullptr;
        node.family = server.family();
        node.udp_port = server.port() != 0 ? server.port() : 53;
        node.tcp_port = node.udp_port;
        const auto* bytes = reinterpret_cast<const unsigned char*>(server.data());
        // Behind family, port and, for IPv6, flow label.
        if (server.is_v4()) std::memcpy(&node.addr.addr4, bytes + 4, sizeof node.addr.addr4);
        else std::memcpy(&node.addr.addr6, bytes + 8, sizeof node.addr.addr6);
    }
    return error_of(ares_set_servers_ports(channel, nodes.get()));
}

// c-ares counts its users without a lock; one for the whole process is enough.
int library_init() noexcept {
    static const int status = ares_library_init(ARES_LIB_INIT_ALL);
    return status;
}

// For the addresses of hosts.
struct FindAddresses {
    struct Done {
        Error error;
        Records<Address> addresses;
    };
    State* state;
    Question question;

    static constexpr whorl::detail::OpKind kind = whorl::detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, whorl::detail::OpRecord& record) const noexcept {
        WHORL_ASSERT(state != nullptr && state->loop == &loop);
        return state->ask(record, question);
    }
    static void store(whorl::detail::OpRecord&) noexcept {}
    static Done finish(whorl::detail::OpRecord& record,
                       whorl::detail::Delivery& delivery) noexcept {
        Records<Address> addresses(name_finish(record, delivery));
        return {delivery.error, std::move(addresses)};
    }
};

// Errors: service_unknown.
Result<std::uint16_t> port_of(const ResolveQuery& query) noexcept {
    const std::string_view service = query.service;
    if (service.empty()) return std::uint16_t{query.port};
    std::uint16_t port = 0;
    const auto [end, failed] =
        std::from_chars(service.data(), service.data() + service.size(), port);
    const bool digit = service.front() >= '0' && service.front() <= '9';
    if (digit && failed == std::errc() && end == service.data() + service.size()) return port;
    char name[64] = {};
    char memory[1024];
    servent entry{};
    servent* found = nullptr;
    if (digit || service.size() >= sizeof name) return Error::service_unknown;
    std::memcpy(name, service.data(), service.size());
    const char* const protocol = query.type == SOCK_DGRAM ? "udp" : "tcp";
    if (getservbyname_r(name, protocol, &entry, memory, sizeof memory, &found) != 0 ||
        found == nullptr) {
        return Error::service_unknown;
    }
    return ntohs(static_cast<std::uint16_t>(found->s_port));
}

ResolveDone list_of(Error error, const Records<Address>& found, std::uint16_t port,
                    std::size_t most) noexcept {
    ResolveDone done;
    done.error = error;
    if (error) return done;
    const std::size_t count = std::min(found.size(), most);
    Buffer memory = Buffer::allocate(count * sizeof(Address));
    if (!memory) {
        done.error = Error::from_errno(ENOMEM);
        return done;
    }
    for (std::size_t index = 0; index < count; ++index) {
        Address address = found.begin()[index];
        address.set_port(port);
        ::new (static_cast<void*>(memory.data() + index * sizeof(Address))) Address(address);
    }
    memory.resize(count * sizeof(Address));
    done.addresses = AddressList(std::move(memory));
    done.truncated = found.size() > most;
    return done;
}

}  // namespace

Error State::open() noexcept {
    if (Error error = options_check(options)) return error;
    if (Error error = table_open()) return error;
    if (library_init() != ARES_SUCCESS) return Error::from_errno(ENOMEM);
    ares_options given{};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS;
    given.timeout = static_cast<int>(options.timeout / std::chrono::milliseconds(1));
    given.tries = static_cast<int>(options.tries);
    char lookups_all[] = "fb", lookups_servers[] = "b";
    given.lookups = options.hosts == Hosts::none ? lookups_servers : lookups_all;
    if (options.servers_count == 1) {  // nobody else to ask: its failure is the answer
        given.flags = ARES_FLAG_NOCHECKRESP;
        mask |= ARES_OPT_FLAGS;
    }
    if (options.resolv_conf != nullptr) {
        given.resolvconf_path = const_cast<char*>(options.resolv_conf);  // NOLINT
        mask |= ARES_OPT_RESOLVCONF;
    }
    channel.emplace();
    if (Error error = error_of(channel->open(*loop, given, mask))) return error;
    if (options.servers_count != 0) {
        if (Error error = set_servers(channel->channel(), options)) return error;
    }
    options.servers = nullptr;  // the caller's, as are these
    options.resolv_conf = nullptr;
    return {};
}

Error name_open(Loop& loop, whorl::detail::OpRecord& record, State* state, Kind kind,
                std::string_view name) noexcept {
    WHORL_ASSERT(state != nullptr && state->loop == &loop);
    return state->ask(record, {kind, 0, name});
}

Answer* name_finish(whorl::detail::OpRecord& record, whorl::detail::Delivery& delivery) noexcept {
    const std::unique_ptr<Ticket> ticket(
        static_cast<Ticket*>(whorl::detail::WaitQueue::take(record)));
    if (delivery.error || ticket == nullptr) return nullptr;
    return answer_share(ticket->answer);
}

}  // namespace detail

Result<Resolver> Resolver::create(Loop& loop, const Options& options) noexcept {
    std::unique_ptr<detail::State> state(new (std::nothrow) detail::State(loop, options));
    if (!state) return Error::from_errno(ENOMEM);
    if (Error error = state->open()) return error;
    return Resolver(state.release());
}

Resolver::~Resolver() { delete state_; }

Result<Operation> Resolver::find(Loop& loop, const ResolveQuery& query,
                                 whorl::detail::ResolveListener* listener) {
    std::unique_ptr<whorl::detail::ResolveListener> taken(listener);
    const Result<std::uint16_t> port = detail::port_of(query);
    if (!port) return port.error();
    auto found = [port = *port, most = query.addresses_max, taken = std::move(taken)](
                     Loop& here, detail::FindAddresses::Done done) {
        taken->ended(here, detail::list_of(done.error, done.addresses, port, most));
    };
    return loop.submit(
        detail::FindAddresses{state_, {detail::Kind::addresses, query.family, query.host}},
        query.submit, std::move(found));
}

void Resolver::clear() noexcept { state_->clear(); }
const Statistics& Resolver::statistics() const noexcept { return state_->statistics; }

}  // namespace whorl::dns
