// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/file_tools.hpp"

#include <unistd.h>

#include <csignal>
#include <functional>

// What the tests of the headers' error tables share: everything that opens something, and every
// operation on a name.

namespace whorl::conformance {

inline Error errno_of(int number) { return Error::from_errno(number); }
template <class Value>
Error error_of(const Result<Value>& made) {
    return made ? Error() : made.error();
}

class ErrorTables : public FileTools {
  protected:
    // The error that an operation is refused or ends with.
    template <class Op>
    static Error error_in(Loop& loop, Op operation) {
        using Done = typename Op::Done;
        std::optional<Error> error;
        const Result<Operation> made =
            loop.submit(std::move(operation), [&error](Loop&, Done done) { error = done.error; });
        if (!made) return made.error();
        run_until(loop, [&] { return error.has_value(); });
        return error.value_or(Error());
    }
    static UnixAddress abstract_name() {
        static int count = 0;
        return *UnixAddress::abstract("whorl-errors-" + std::to_string(::getpid()) + "-" +
                                      std::to_string(++count));
    }
    static UdpSocket udp(Loop& loop, const Address& address = Address::loopback_v4(0)) {
        const Result<UdpSocket> made = open_udp(loop, address);
        EXPECT_TRUE(made) << made.error().name();
        return made ? *made : UdpSocket();
    }
    // Handles are closed with the loop: here it ends.
    static void end_of(Loop& loop) {
        EXPECT_FALSE(loop.drain(10s));
        expect_clean(loop);
    }

    // Everything that makes a handle or a standing thing.
    struct Opener {
        const char* name;
        bool takes_descriptor;
        std::function<Error(Loop&)> open;
    };
    static std::vector<Opener> openers(int fd, int file) {
        const auto no_event = [](Loop&, const FileEvent&) {};
        const auto no_call = [](Loop&, const WallExpired&) {};
        const auto no_answer = [](Loop&, const ResolveDone&) {};
        const auto here = [] { return Address::loopback_v4(0); };
        return {
            {"open_udp", true, [=](Loop& loop) { return error_of(open_udp(loop, here())); }},
            {"listen_unix", true,
             [](Loop& loop) { return error_of(listen_unix(loop, abstract_name())); }},
            {"socket_pair", true, [](Loop& loop) { return error_of(socket_pair(loop)); }},
            {"open_unix_datagram", true,
             [](Loop& loop) { return error_of(open_unix_datagram(loop)); }},
            {"ConnectUnix", true,
             [](Loop& loop) { return error_in(loop, ConnectUnix{abstract_name()}); }},
            {"make_pipe", true, [](Loop& loop) { return error_of(make_pipe(loop)); }},
            {"duplicate_pipe", true,
             [fd](Loop& loop) { return error_of(duplicate_pipe(loop, fd)); }},
            {"adopt_pipe", false, [fd](Loop& loop) { return error_of(adopt_pipe(loop, fd)); }},
            {"adopt_file", false, [file](Loop& loop) { return error_of(adopt_file(loop, file)); }},
            {"open_signals", true,
             [](Loop& loop) { return error_of(open_signals(loop, {SIGUSR2})); }},
            {"observe_files", true,
             [=](Loop& loop) { return error_of(observe_files(loop, no_event)); }},
            {"at_wall_clock", true,
             [=](Loop& loop) {
                 return error_of(at_wall_clock(loop, wall_now(loop) + 1h, {}, no_call));
             }},
            {"resolve", false,
             [=](Loop& loop) {
                 return error_of(resolve(loop, {"127.0.0.1", {}, 1}, no_answer));
             }},
        };
    }

    // Every operation on a name, on this one.
    struct Named {
        const char* name;
        Error error;
    };
    std::vector<Named> on_name(Loop& loop, const std::string& name, int flags = O_RDWR) const {
        const std::string at = path(name), other = path("other"), file = path("file");
        return {
            {"OpenFile", error_in(loop, OpenFile{at, flags})},
            {"Rename from", error_in(loop, Rename{at, other})},
            {"Rename to", error_in(loop, Rename{file, at})},
            {"Link to", error_in(loop, Link{file, at})},
            {"Symlink", error_in(loop, Symlink{"text", at})},
            {"Unlink", error_in(loop, Unlink{at})},
            {"MakeDirectory", error_in(loop, MakeDirectory{at})},
            {"RemoveDirectory", error_in(loop, RemoveDirectory{at})},
        };
    }
    std::vector<Named> on_old_name(Loop& loop, const std::string& name) const {
        std::vector<Named> all = on_name(loop, name);
        all.push_back({"Stat", error_in(loop, Stat{path(name)})});
        all.push_back({"Link from", error_in(loop, Link{path(name), path("other")})});
        all.push_back({"ReadLink", error_in(loop, ReadLink{path(name)})});
        return all;
    }
    // For a child, which cannot tell of a failed test: "" or what differs.
    static std::string differing(const std::vector<Named>& all, int wanted) {
        std::string told;
        for (const Named& each : all) {
            if (each.error == errno_of(wanted)) continue;
            told += std::string(each.name) + " " + each.error.name() + ", not " +
                    errno_of(wanted).name() + "; ";
        }
        return told;
    }
};

}  // namespace whorl::conformance
