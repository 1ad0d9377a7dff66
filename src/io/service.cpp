// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/service.hpp>

#include "backend/system.hpp"

#include <whorl/control_message.hpp>

#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

// A manager is the machine's, so all of this asks the real system, whatever world a loop is in.

namespace whorl::service {

namespace {

constexpr int first_passed = 3;  // SD_LISTEN_FDS_START
constexpr std::size_t text_max = 1000;

// The whole text, as a number.
bool parse(std::string_view text, std::uint64_t& value) noexcept {
    const char* const end = text.data() + text.size();
    const std::from_chars_result read = std::from_chars(text.data(), end, value);
    return read.ec == std::errc() && read.ptr == end;
}

// A variable that names a process names this one, or is not there at all.
Error meant_for_us(const char* variable, bool& ours) noexcept {
    std::uint64_t pid = 0;
    ours = true;
    if (variable == nullptr) return {};
    if (!parse(variable, pid) || pid == 0) return Error::invalid_argument;
    ours = pid == static_cast<std::uint64_t>(::getpid());
    return {};
}

// The next of the names, up to ':' or the end; false when there was none.
bool next_name(std::string_view& rest, bool& more, std::string_view& name) noexcept {
    if (!more) return false;
    const std::size_t colon = rest.find(':');
    name = rest.substr(0, colon);
    more = colon != std::string_view::npos;
    if (more) rest.remove_prefix(colon + 1);
    return true;
}

Error check_names(std::string_view names, std::uint64_t count) noexcept {
    bool more = true;
    std::string_view name;
    std::uint64_t found = 0;
    while (next_name(names, more, name)) {
        ++found;
        if (name.size() > InheritedDescriptors::name_max) return Error::invalid_argument;
    }
    return found == count ? Error() : Error(Error::invalid_argument);
}

// All or none: nothing is owned before everything has been looked at.
Result<InheritedDescriptors> passed() noexcept {
    const char* const listen_pid = std::getenv("LISTEN_PID");
    const char* const listen_fds = std::getenv("LISTEN_FDS");
    const char* const listen_names = std::getenv("LISTEN_FDNAMES");
    InheritedDescriptors none;
    if (listen_pid == nullptr || listen_fds == nullptr) return none;
    bool ours = false;
    if (Error error = meant_for_us(listen_pid, ours)) return error;
    if (!ours) return none;
    std::uint64_t count = 0;
    if (!parse(listen_fds, count) || count == 0) return Error::invalid_argument;
    if (count > InheritedDescriptors::count_max) return Error::invalid_argument;
    if (listen_names != nullptr) {
        if (Error error = check_names(listen_names, count)) return error;
    }
    const int end = first_passed + static_cast<int>(count);
    for (int fd = first_passed; fd < end; ++fd) {
        const int flags = ::fcntl(fd, F_GETFD);
        if (flags < 0 || ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0)
            return Error::from_errno(errno);
    }
    InheritedDescriptors found;
    if (Error error = found.reserve(static_cast<std::uint32_t>(count), detail::real_system())) {
        return error;
    }
    bool more = listen_names != nullptr;
    std::string_view rest = more ? listen_names : "";
    for (int fd = first_passed; fd < end; ++fd) {
        std::string_view name = "unknown";
        static_cast<void>(next_name(rest, more, name));
        found.add(fd, name);
    }
    return found;
}

// The manager's address, as NOTIFY_SOCKET writes it.
Result<UnixAddress> manager(std::string_view name) noexcept {
    if (name[0] == '/') return UnixAddress::file(name);
    if (name[0] == '@' && name.size() > 1) return UnixAddress::abstract(name.substr(1));
    return Error::from_errno(EAFNOSUPPORT);
}

Error tell(std::string_view state, const int* descriptors, std::uint32_t count) noexcept {
    if (state.empty() || state.find('\0') != std::string_view::npos) return Error::invalid_argument;
    const char* const where = std::getenv("NOTIFY_SOCKET");
    if (where == nullptr || where[0] == 0) return {};
    const Result<UnixAddress> address = manager(where);
    if (!address) return address.error();

    iovec part{const_cast<char*>(state.data()), state.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * descriptors_per_message_max)];
    ControlBuilder builder(control, sizeof control);
    msghdr message{};
    message.msg_name = const_cast<sockaddr*>(address->data());
    message.msg_namelen = address->length();
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count != 0) {
        const bool fits = builder.add(SOL_SOCKET, SCM_RIGHTS, descriptors, count * sizeof(int));
        WHORL_ASSERT(fits);
        message.msg_control = control;
        message.msg_controllen = builder.size();
    }
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return Error::from_errno(errno);
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    const Error error = sent < 0 ? Error::from_errno(errno) : Error();
    ::close(fd);
    return error;
}

bool printable(std::string_view text) noexcept {
    for (const char each : text) {
        if (each < ' ' || each == 127) return false;
    }
    return true;
}

}  // namespace

Result<InheritedDescriptors> inherited_descriptors(Environment then) noexcept {
    Result<InheritedDescriptors> found = passed();
    if (then == Environment::remove) {
        for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
    }
    return found;
}

Error notify(std::string_view state) noexcept { return tell(state, nullptr, 0); }

Error ready() noexcept { return notify("READY=1"); }

Error reloading() noexcept {
    char text[64];
    const long long microseconds = detail::real_system().now().time_since_epoch().count() / 1000;
    std::snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", microseconds);
    return notify(text);
}

Error stopping() noexcept { return notify("STOPPING=1"); }

Error status(std::string_view text) noexcept {
    const bool one_line = text.find_first_of(std::string_view("\n\0", 2)) == std::string_view::npos;
    if (text.size() > text_max || !one_line) return Error::invalid_argument;
    char line[text_max + 16];
    const int size =
        std::snprintf(line, sizeof line, "STATUS=%.*s", static_cast<int>(text.size()), text.data());
    return notify({line, static_cast<std::size_t>(size)});
}

Error main_process(std::int32_t pid) noexcept {
    if (pid <= 0) return Error::invalid_argument;
    char text[32];
    std::snprintf(text, sizeof text, "MAINPID=%d", pid);
    return notify(text);
}

Error alive() noexcept { return notify("WATCHDOG=1"); }

Result<Nanoseconds> watchdog_interval() noexcept {
    const char* const text = std::getenv("WATCHDOG_USEC");
    if (text == nullptr) return Nanoseconds(0);
    std::uint64_t microseconds = 0;
    constexpr std::uint64_t most = static_cast<std::uint64_t>(Nanoseconds::max().count()) / 1000;
    if (!parse(text, microseconds) || microseconds == 0 || microseconds > most) {
        return Error::invalid_argument;
    }
    bool ours = false;
    if (Error error = meant_for_us(std::getenv("WATCHDOG_PID"), ours)) return error;
    return ours ? Nanoseconds(static_cast<std::int64_t>(microseconds) * 1000) : Nanoseconds(0);
}

Error store(std::string_view name, const int* descriptors, std::uint32_t count) noexcept {
    const bool counted = count >= 1 && count <= descriptors_per_message_max;
    const bool named = !name.empty() && name.size() <= InheritedDescriptors::name_max;
    if (!counted || !named || !printable(name) || name.find(':') != std::string_view::npos) {
        return Error::invalid_argument;
    }
    char text[InheritedDescriptors::name_max + 32];
    const int size = std::snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%.*s",
                                   static_cast<int>(name.size()), name.data());
    return tell({text, static_cast<std::size_t>(size)}, descriptors, count);
}

}  // namespace whorl::service
