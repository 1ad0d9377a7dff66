// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/run_replayer.hpp"

#include "backend/run_record.hpp"
#include "backend/work_calls.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

// What the log answers to the loop, apart from completions (run_replay_driver.cpp).

namespace whorl::detail {

Error RunReplayer::open(const char* path) noexcept {
    system_.reset(make_run_system(real_system(), *this));
    if (system_ == nullptr) return Error::from_errno(ENOMEM);
    if (Error refused = log.open(path, text_, sizeof text_)) return error_ = refused;
    static_cast<void>(log.next());  // there is one, of this kind: open() has looked
    for (std::uint64_t& value : values_) value = log.number();
    if (!log.bad()) return {};
    std::snprintf(text_, sizeof text_, "the log's options are damaged");
    return error_ = Error::run_log_damaged;
}

void RunReplayer::apply(LoopOptions& options) noexcept {
    run_options_load(values_, options);
    options.world = nullptr;
    options.run_log = nullptr;
    options.replay = this;
}

Result<Driver*> RunReplayer::make_driver(const DriverContext& context,
                                         BackendReport& report) noexcept {
    report = BackendReport{};
    const auto chosen = static_cast<Backend>(ask(RunAsk::backend, 0));
    report.chosen = chosen;
    std::snprintf(report.text, sizeof report.text, "replay: of a run on %s",
                  whorl::name_of(chosen));
    return make_replay_driver(context, *this);
}

bool RunReplayer::finished() const noexcept {
    const RunEntry next = log.peek();
    return !over() && (next == RunEntry::none || next == RunEntry::end);
}

void RunReplayer::diverged(const char* format, ...) noexcept {
    if (over()) return;
    error_ = Error::replay_diverged;
    char what[300];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    std::snprintf(text_, sizeof text_,
                  "the replay diverged in turn %llu, after %llu operations (byte %llu of the log): "
                  "%s",
                  static_cast<unsigned long long>(turns),
                  static_cast<unsigned long long>(operations),
                  static_cast<unsigned long long>(log.offset()), what);
}

// What the recorded run did here: the entry that next() has gone to.
const char* RunReplayer::recorded(char* text, std::size_t size) noexcept {
    switch (log.peek()) {
        case RunEntry::wait:
            return "went to wait for completions";
        case RunEntry::cancel:
            return "cancelled an operation";
        case RunEntry::call:
            static_cast<void>(log.next());
            std::snprintf(text, size, "called %s()",
                          detail::name_of(static_cast<RunCall>(log.number())));
            return text;
        case RunEntry::ask:
            static_cast<void>(log.next());
            return text_of(static_cast<RunAsk>(log.number()));
        default:
            return "did something unknown";
    }
}

bool RunReplayer::expect(RunEntry kind, const char* doing) noexcept {
    if (over()) return false;
    const RunEntry next = log.peek();
    if (next == kind) return log.next() == kind;
    if (next == RunEntry::none || next == RunEntry::end) {
        error_ = Error::replay_ended;
        std::snprintf(text_, sizeof text_,
                      "the recorded run ended (%s) in turn %llu, after %llu operations; here the "
                      "program %s",
                      whorl::name_of(log.end()), static_cast<unsigned long long>(turns),
                      static_cast<unsigned long long>(operations), doing);
        return false;
    }
    char text[64];
    diverged("the recorded run %s, the program %s", recorded(text, sizeof text), doing);
    return false;
}

std::int64_t RunReplayer::ask(RunAsk ask, std::int64_t seen) noexcept {
    if (!expect(RunEntry::ask, text_of(ask))) return seen;
    const auto recorded = static_cast<RunAsk>(log.number());
    const std::int64_t value = log.number_signed();
    if (recorded != ask) {
        diverged("the recorded run %s, the program %s", text_of(recorded), text_of(ask));
        return seen;
    }
    if (!log.bad()) return value;
    damaged();
    return seen;
}

void RunReplayer::missed(RunAsk ask, std::int64_t recorded, std::int64_t come) noexcept {
    diverged("the recorded run %s and got %lld, here %lld have come", text_of(ask),
             static_cast<long long>(recorded), static_cast<long long>(come));
}

bool RunReplayer::copy_part(void* data, std::size_t size) noexcept {
    const Bytes part = log.bytes();
    if (log.bad() || part.size != size) {
        damaged();
        return false;
    }
    if (size != 0) std::memcpy(data, part.data, size);
    return true;
}

std::int64_t RunReplayer::answer(RunCall call, const RunOuts& outs) noexcept {
    char doing[64];
    std::snprintf(doing, sizeof doing, "called %s()", detail::name_of(call));
    if (!expect(RunEntry::call, doing)) return answer_over(call);
    const auto recorded = static_cast<RunCall>(log.number());
    if (recorded != call) {
        diverged("the recorded run called %s(), the program called %s()", detail::name_of(recorded),
                 detail::name_of(call));
        return answer_over(call);
    }
    const std::int64_t value = log.number_signed();
    for (const RunOut& out : outs.entries) {
        const std::size_t size = out.used(value);
        if (size != 0 && !copy_part(out.data, size)) return answer_over(call);
    }
    if (log.bad()) damaged();
    if (call == RunCall::now) now_ = value;
    if (call == RunCall::wall_clock) wall_ = value;
    return over() ? answer_over(call) : value;
}

// Time stands still, what is closed is closed, and everything else fails.
std::int64_t RunReplayer::answer_over(RunCall call) const noexcept {
    switch (call) {
        case RunCall::now:
            return now_;
        case RunCall::wall_clock:
            return wall_;
        case RunCall::close:
        case RunCall::signals_close:
            return 0;
        default:
            return -ECANCELED;
    }
}

// Answers that the recorded run had got from the name servers by its present turn.
void RunReplayer::read_names() noexcept {
    const std::uint64_t count = log.number();
    for (std::uint64_t index = 0; index < count && !log.bad(); ++index) {
        const std::uint64_t question = log.number();
        const auto answer = static_cast<int>(log.number_signed());
        names_.push_back({question, answer, log.bytes()});
    }
}

int RunReplayer::resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept {
    if (!run_keeps(question)) return real_system().host_calls().resolve(question, found, most);
    const std::uint64_t digest = run_digest_of(question);
    for (auto name = names_.begin(); name != names_.end(); ++name) {
        if (name->question != digest) continue;
        const int answer = name->answer;
        const std::size_t room = answer > 0 ? static_cast<std::size_t>(std::min(answer, most)) : 0;
        const std::size_t size = std::min(name->found.size, room * sizeof(FoundAddress));
        if (size != 0) std::memcpy(found, name->found.data, size);
        names_.erase(name);
        return answer;
    }
    diverged("the program asked for a name that the recorded run had no answer for");
    return -Error(Error::name_not_answered).value();
}

// The callable runs here and now: no thread is needed to be as late as it was.
void RunReplayer::perform_work(OpRecord& record) noexcept {
    working_ = true;
    static_cast<void>(perform(real_system(), AT_FDCWD, record));
    working_ = false;
}

}  // namespace whorl::detail
