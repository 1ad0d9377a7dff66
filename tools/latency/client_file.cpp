// SPDX-License-Identifier: MIT
// Reads of a file: message k reads the k-th piece of it, and after the last whole one the first again. They
// end in any order.
#include <whorl/file.hpp>

#include <fcntl.h>

#include "client.hpp"

namespace latency {

using whorl::Buffer;
using whorl::Loop;

void Client::open_file(std::uint32_t index) {
    whorl::OpenFile opening{plan_.target.path, O_RDONLY};
    const auto submitted =
        loop_.submit(std::move(opening), [this, index](Loop&, whorl::OpenFile::Done done) {
            links_[index].file = done.file;
            if (phase_ != Phase::connecting) return close_links();
            if (done.error) return fail("open " + plan_.target.path, done.error);
            measure_file(index);
        });
    if (!submitted) fail("open " + plan_.target.path, submitted.error());
}

void Client::measure_file(std::uint32_t index) {
    whorl::Stat asking{{}, true, links_[index].file};
    const auto submitted =
        loop_.submit(std::move(asking), [this, index](Loop&, whorl::Stat::Done done) {
            if (phase_ != Phase::connecting) return;
            if (done.error) return fail("stat " + plan_.target.path, done.error);
            links_[index].pieces = done.status.size / plan_.size;
            if (links_[index].pieces == 0) {
                return fail(plan_.target.path + " is shorter than one message", {});
            }
            ready();
        });
    if (!submitted) fail("stat " + plan_.target.path, submitted.error());
}

void Client::read_file(std::uint32_t index, std::uint64_t message) {
    const Link& link = links_[index];
    Buffer buffer = Buffer::allocate(plan_.size);
    if (!buffer) return fail("read", whorl::Error::from_errno(ENOMEM));
    whorl::ReadAt reading{link.file, std::move(buffer), message % link.pieces * plan_.size};
    const auto submitted =
        loop_.submit(std::move(reading), [this, index, message](Loop&, whorl::ReadAt::Done done) {
            if (phase_ == Phase::finished) return;
            if (done.error) return fail("read " + plan_.target.path, done.error);
            if (done.buffer.empty()) return fail(plan_.target.path + " has become shorter", {});
            complete(index, message, clock_(loop_));
            issue_held(index);
            end_if_all_came();
        });
    if (!submitted) fail("read " + plan_.target.path, submitted.error());
}

}  // namespace latency
