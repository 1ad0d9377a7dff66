// SPDX-License-Identifier: MIT
#include "run_log.hpp"

#include <whorl/bytes.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/process_info.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "backend/driver.hpp"
#include "backend/message.hpp"
#include "backend/run_log_format.hpp"
#include "backend/zero_copy.hpp"

// How an entry is taken apart follows run_record.hpp and run_recorder.cpp. What came with a completion depends
// on its operation, so the kinds of those that are under way are kept.

namespace trace {

using whorl::detail::OpKind;
using whorl::detail::RunAsk;
using whorl::detail::RunCall;
using whorl::detail::RunEntry;
using whorl::detail::RunLogFrame;
using whorl::detail::RunLogHeader;

static_assert(whorl::detail::run_options_count == 16, "RunLog::options");

namespace {

constexpr std::size_t under_way_most = std::size_t{1}
                                       << 22;  // operations, LoopOptions::ops_max at most
constexpr std::uint64_t rest_most = std::uint64_t{1} << 20;  // a writer's window is smaller

const char* name_of_kind(std::uint64_t kind) {
    return kind < whorl::detail::op_kind_count ? whorl::detail::name_of(static_cast<OpKind>(kind))
                                               : "unknown";
}

constexpr const char* call_names[] = {
#define TRACE_CALL(name) #name,
    WHORL_RUN_CALLS(TRACE_CALL)
#undef TRACE_CALL
};
constexpr const char* ask_names[] = {
#define TRACE_ASK(name, text) #name,
    WHORL_RUN_ASKS(TRACE_ASK)
#undef TRACE_ASK
};

constexpr const char* event_names[] = {
#define TRACE_EVENT(name) #name,
    TRACE_RUN_EVENTS(TRACE_EVENT)
#undef TRACE_EVENT
};

template <std::size_t count>
const char* name_in(const char* const (&names)[count], std::uint64_t index) {
    return index < count ? names[index] : "unknown";
}

struct FileCloser {
    void operator()(std::FILE* file) const { (void)std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

// Empty: `file` is a regular file, and open.
std::string open_file(const std::string& path, File& file, std::uint64_t& size) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO would wait
    if (fd < 0) return std::strerror(errno);
    struct stat status {};
    const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    if (regular) file.reset(::fdopen(fd, "r"));
    if (file == nullptr) {
        (void)::close(fd);
        return regular ? std::strerror(errno) : "no regular file";
    }
    size = static_cast<std::uint64_t>(status.st_size);
    return {};
}

// The parts of one entry.
class Parts {
  public:
    Parts(const unsigned char* data, std::size_t size) : data_(data), end_(data + size) {}
    std::uint64_t number() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64 && data_ != end_; shift += 7) {
            const unsigned char byte = *data_++;
            value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
            if (byte < 0x80) return value;
        }
        bad_ = true;
        return 0;
    }
    std::int64_t number_signed() {
        const std::uint64_t bits = number();
        return static_cast<std::int64_t>(bits >> 1 ^ ((bits & 1) != 0 ? ~std::uint64_t{0} : 0));
    }
    // A byte string's size; the string itself is passed over.
    std::uint64_t bytes() {
        const std::uint64_t size = number();
        if (size > left()) bad_ = true;
        if (bad_) return 0;
        data_ += size;
        return size;
    }
    // The next byte; 0 at the end.
    unsigned next() const { return data_ != end_ ? *data_ : 0; }
    std::uint64_t left() const { return static_cast<std::uint64_t>(end_ - data_); }
    bool bad() const { return bad_; }

  private:
    const unsigned char* data_;
    const unsigned char* end_;
    bool bad_ = false;
};

class Reading {
  public:
    Reading(RunLog& log, const RunVisit& visit) : log_(log), visit_(visit) {
        now_ = log.first_ns;
        const std::string source = log.source;
        log = RunLog();
        log.source = source;
    }
    bool read();

  private:
    struct UnderWay {
        OpKind kind;
        std::uint32_t slot;
    };

    bool refused(const std::string& why) {
        log_.problem = why;
        return log_.entries != 0;
    }
    std::string read_header();
    bool read_frames();
    bool rest_is_empty();
    std::string damage(const std::string& why) const {
        return "damaged at byte " + std::to_string(at_) + ": " + why;
    }
    bool tell(RunRecord& record);
    void entry(RunEntry kind, Parts& parts);
    void options(Parts& parts);
    void call(Parts& parts);
    void ask(Parts& parts);
    void cancel(Parts& parts);
    void wait(Parts& parts);
    void submission(Parts& parts);
    void completion(Parts& parts);
    static std::uint64_t came_with(Parts& parts, OpKind kind, std::int64_t result, bool more,
                                   bool block);

    RunLog& log_;
    const RunVisit& visit_;
    File file_;
    std::uint64_t at_ = 0;
    std::uint64_t now_ = 0;
    bool timed_ = false;
    bool stopped_ = false;
    std::unordered_map<std::uint64_t, UnderWay> under_way_;
};

bool Reading::tell(RunRecord& record) {
    record.at = at_;
    record.turn = log_.turns;
    record.time_ns = now_;
    ++log_.records;
    if (!stopped_ && !visit_(record)) stopped_ = true;
    return !stopped_;
}

std::string Reading::read_header() {
    RunLogHeader header{};
    const std::size_t got = std::fread(&header, 1, sizeof header, file_.get());
    const std::size_t magic = std::min(got, sizeof header.magic);
    if (got == 0) return "empty";
    if (std::memcmp(header.magic, whorl::detail::run_log_magic, magic) != 0) return "no run log";
    if (got < sizeof header) return "a run log that is cut off within its header";
    if (header.order == __builtin_bswap32(whorl::detail::run_log_order)) {
        return "a run log of a machine of the other byte order; read it on one like that";
    }
    if (header.order != whorl::detail::run_log_order) return "damaged: its byte order is none";
    const bool same = header.version == whorl::detail::run_log_version &&
                      header.operations == whorl::detail::run_log_operations();
    return same ? ""
                : "a run log of another version of whorl; read it with the whorl-trace of that one";
}

bool Reading::read() {
    if (std::string why = open_file(log_.source, file_, log_.size); !why.empty()) {
        return refused(why);
    }
    if (std::string why = read_header(); !why.empty()) return refused(why);
    at_ = sizeof(RunLogHeader);
    return read_frames();
}

// As far as it is whole. A length of 0 and an open frame are where a process was killed, or where one writes that
// goes on.
bool Reading::read_frames() {
    std::vector<unsigned char> body;
    while (!stopped_) {
        RunLogFrame frame{};
        const std::size_t got = std::fread(&frame, 1, sizeof frame, file_.get());
        if (got == sizeof frame && frame.size == 0) break;
        const bool open = got == sizeof frame && (frame.size & whorl::detail::run_frame_open) != 0;
        if (got == 0 || open) return log_.entries != 0 || refused("a run log without an entry");
        const std::uint64_t room = log_.size - std::min(log_.size, at_ + sizeof frame);
        if (got < sizeof frame || frame.size > room) {
            return refused("cut off within the entry at byte " + std::to_string(at_));
        }
        if (frame.size > whorl::detail::run_entry_max) {
            return refused(damage("an entry of over a gigabyte"));
        }
        body.resize(frame.size);
        if (std::fread(body.data(), 1, frame.size, file_.get()) != frame.size) {
            return refused("cut off within the entry at byte " + std::to_string(at_));
        }
        const auto sum =
            static_cast<std::uint32_t>(whorl::detail::run_digest(body.data(), frame.size));
        if (sum != frame.checksum) {
            return refused(damage("an entry has another checksum than it says"));
        }
        if (body[0] == 0 || body[0] >= static_cast<unsigned char>(RunEntry::count)) {
            return refused(damage("an entry of unknown kind"));
        }
        const auto kind = static_cast<RunEntry>(body[0]);
        if ((kind == RunEntry::options) != (log_.entries == 0)) {
            return refused(damage("the loop's options are not at its beginning"));
        }
        ++log_.entries;
        Parts parts(body.data() + 1, body.size() - 1);
        entry(kind, parts);
        if (parts.bad() || parts.left() != 0) ++log_.strange;
        if (kind == RunEntry::end) return true;
        at_ += sizeof frame + frame.size;
    }
    if (stopped_ || rest_is_empty())
        return log_.entries != 0 || refused("a run log without an entry");
    return refused(damage("there is something behind the last entry"));
}

// What was made ready for more is clear, and not long.
bool Reading::rest_is_empty() {
    if (log_.size > at_ && log_.size - at_ > rest_most) return false;
    for (int byte = std::getc(file_.get()); byte != EOF; byte = std::getc(file_.get())) {
        if (byte != 0) return false;
    }
    return true;
}

void Reading::entry(RunEntry kind, Parts& parts) {
    switch (kind) {
        case RunEntry::options:
            return options(parts);
        case RunEntry::call:
            return call(parts);
        case RunEntry::ask:
            return ask(parts);
        case RunEntry::cancel:
            return cancel(parts);
        case RunEntry::wait:
            return wait(parts);
        case RunEntry::end: {
            RunRecord record;
            record.value = static_cast<std::int64_t>(parts.number());
            const bool known = record.value < static_cast<std::int64_t>(whorl::RunEnd::unfinished);
            log_.end = known ? static_cast<whorl::RunEnd>(record.value) : whorl::RunEnd::unfinished;
            record.kind = whorl::name_of(log_.end);
            (void)tell(record);
            return;
        }
        case RunEntry::none:
        case RunEntry::count:
            return;
    }
}

void Reading::options(Parts& parts) {
    for (std::uint64_t& value : log_.options) value = parts.number();
    RunRecord record;
    record.event = RunEvent::options;
    (void)tell(record);
}

void Reading::call(Parts& parts) {
    const std::uint64_t call = parts.number();
    RunRecord record;
    record.event = RunEvent::call;
    record.kind = name_in(call_names, call);
    record.value = parts.number_signed();
    while (!parts.bad() && parts.left() != 0) record.bytes += parts.bytes();
    if (call == static_cast<std::uint64_t>(RunCall::now)) {
        now_ = static_cast<std::uint64_t>(record.value);
        if (!timed_) log_.first_ns = now_;
        timed_ = true;
        log_.last_ns = now_;
    }
    (void)tell(record);
}

void Reading::ask(Parts& parts) {
    const std::uint64_t ask = parts.number();
    RunRecord record;
    record.event = RunEvent::ask;
    record.kind = name_in(ask_names, ask);
    record.value = parts.number_signed();
    if (ask == static_cast<std::uint64_t>(RunAsk::backend) && record.value >= 0) {
        log_.backend = whorl::name_of(static_cast<whorl::Backend>(record.value));
    }
    (void)tell(record);
}

void Reading::cancel(Parts& parts) {
    RunRecord record;
    record.event = RunEvent::cancel;
    record.handle = parts.number();
    const auto found = under_way_.find(record.handle);
    if (found != under_way_.end()) {
        record.kind = name_of_kind(static_cast<std::uint64_t>(found->second.kind));
        record.slot = found->second.slot;
    }
    (void)tell(record);
}

void Reading::wait(Parts& parts) {
    ++log_.turns;
    RunRecord record;
    record.event = RunEvent::wait;
    record.handed = parts.number();
    for (std::uint64_t index = 0; index < record.handed && !parts.bad(); ++index) submission(parts);
    const std::uint64_t names = parts.number();
    std::vector<RunRecord> answered;
    for (std::uint64_t index = 0; index < names && !parts.bad(); ++index) {
        RunRecord name;
        name.event = RunEvent::name;
        (void)parts.number();
        name.value = parts.number_signed();
        name.bytes = parts.bytes();
        answered.push_back(name);
    }
    const std::int64_t error = parts.number_signed();
    const std::uint64_t completions = parts.number();
    record.value = error != 0 ? -error : static_cast<std::int64_t>(completions);
    if (!parts.bad()) (void)tell(record);
    for (RunRecord& name : answered) (void)tell(name);
    for (std::uint64_t index = 0; index < completions && !parts.bad(); ++index) completion(parts);
}

void Reading::submission(Parts& parts) {
    const std::uint64_t kind = parts.number();
    RunRecord record;
    record.event = RunEvent::submit;
    record.kind = name_of_kind(kind);
    record.handle = parts.number();
    record.slot = static_cast<std::uint32_t>(parts.number());
    (void)parts.number();  // the details,
    (void)parts.number();  // and what is sent: digests
    if (parts.bad()) return;
    ++log_.operations;
    if (under_way_.size() < under_way_most && kind < whorl::detail::op_kind_count) {
        under_way_[record.handle] = {static_cast<OpKind>(kind), record.slot};
    }
    (void)tell(record);
}

void Reading::completion(Parts& parts) {
    RunRecord record;
    record.event = RunEvent::complete;
    record.handle = parts.number();
    record.value = parts.number_signed();
    record.more = (parts.number() & whorl::detail::completion_more) != 0;
    const bool block = parts.number() != 0;
    if (parts.bad()) return;
    // One that has ended before is unknown, and brings nothing.
    const auto found = under_way_.find(record.handle);
    if (found != under_way_.end()) {
        const UnderWay operation = found->second;
        record.kind = name_of_kind(static_cast<std::uint64_t>(operation.kind));
        record.slot = operation.slot;
        record.bytes = came_with(parts, operation.kind, record.value, record.more, block);
        if (!record.more) under_way_.erase(found);
    }
    (void)tell(record);
}

// Passes over what a backend wrote besides, and answers how many bytes it was.
std::uint64_t Reading::came_with(Parts& parts, OpKind kind, std::int64_t result, bool more,
                                 bool block) {
    std::uint64_t sum = 0;
    const auto take = [&](unsigned count) {
        while (count-- != 0) sum += parts.bytes();
    };
    const auto moved = static_cast<std::uint64_t>(std::max<std::int64_t>(result, 0));
    if (block) {
        const bool message =
            kind == OpKind::message_stream && moved >= whorl::detail::message_payload_at;
        take(message ? 4 : 1);  // header, address, control messages, payload
        return sum;
    }
    if (whorl::detail::sends_zero_copy(kind)) {
        (void)parts.number();
        return 0;
    }
    if (more) return 0;
    switch (kind) {
        case OpKind::recv:
        case OpKind::read:
        case OpKind::read_at:
        case OpKind::read_exact_at:
        case OpKind::list_directory:
            take(1);
            break;
        case OpKind::read_chain_at:
            while (sum < moved && !parts.bad()) take(1);
            break;
        case OpKind::recv_message:
            if (result >= 0) take(6);
            break;
        case OpKind::wait_signal:
        case OpKind::signal_stream:
        case OpKind::stat:
            if (result == 0) take(1);
            break;
        case OpKind::wait_child:
            // One of the loop's own has no room for it; no handle is as small a number.
            if (result == 0 && parts.next() == sizeof(whorl::ChildExit)) take(1);
            break;
        case OpKind::spawn:
            take(3);
            break;
        case OpKind::read_link:
            if (moved != 0) take(1);
            break;
        default:
            break;
    }
    return sum;
}

}  // namespace

const char* name_of(RunEvent event) { return event_names[static_cast<unsigned>(event)]; }

bool is_run_event(std::string_view name) {
    return std::find(std::begin(event_names), std::end(event_names), name) != std::end(event_names);
}

bool is_run_log(const std::string& path) {
    File file;
    std::uint64_t size = 0;
    if (!open_file(path, file, size).empty()) return false;
    char start[sizeof whorl::detail::run_log_magic] = {};
    const std::size_t got = std::fread(start, 1, sizeof start, file.get());
    // "whorl" alone begins a dump, too.
    return got > 5 && std::memcmp(start, whorl::detail::run_log_magic, got) == 0;
}

bool is_run_kind(std::string_view name) {
    const auto is = [name](const char* one) { return name == one; };
    bool known = std::any_of(std::begin(call_names), std::end(call_names), is) ||
                 std::any_of(std::begin(ask_names), std::end(ask_names), is);
    for (std::uint32_t kind = 0; kind < whorl::detail::op_kind_count; ++kind) {
        known = known || is(name_of_kind(kind));
    }
    return known;
}

bool read_run_log(RunLog& log, const RunVisit& visit) { return Reading(log, visit).read(); }

}  // namespace trace
