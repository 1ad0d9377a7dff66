// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/resolve.hpp>

#include "backend/host_calls.hpp"
#include "base/counted_ref.hpp"
#include "loop/core.hpp"

#include <whorl/allocated.hpp>
#include <whorl/work.hpp>

#include <netdb.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

// A question to a thread cannot be taken back, so it is not the question that the handler waits for: in
// front of it stands a timer, which keeps run() going, is the deadline, and brings a cancellation to
// dispatch. Whichever of the two comes first ends it; the work goes on in the background and its answer
// finds nobody.

namespace whorl {

namespace detail {

namespace {

constexpr std::size_t text_max = 1024;

// What the thread works with. It may outlive who asked.
struct Asked : Counted, Allocated<Asked> {
    std::unique_ptr<char[], ArrayDrop> text;  // the question's
    NameQuestion question;
    HostCalls* calls = nullptr;
    std::unique_ptr<FoundAddress[], ArrayDrop> found;
    int most = 0;
    int answer = 0;  // how many there are, or a negated error

    void ask(int more_flags) noexcept {
        NameQuestion changed = question;
        changed.flags |= more_flags;
        answer = calls->resolve(changed, found.get(), most);
    }
};

bool has_zero(std::string_view text) noexcept { return text.find('\0') != std::string_view::npos; }

Error query_check(const ResolveQuery& query) noexcept {
    const bool asks = !query.host.empty() || !query.service.empty() || query.port != 0;
    if (!asks || has_zero(query.host) || has_zero(query.service)) return Error::invalid_argument;
    if (query.host.size() > text_max || query.service.size() > text_max) {
        return Error::invalid_argument;
    }
    const bool family =
        query.family == AF_UNSPEC || query.family == AF_INET || query.family == AF_INET6;
    const bool type = query.type == SOCK_STREAM || query.type == SOCK_DGRAM;
    const bool count = query.addresses_max >= 1 && query.addresses_max <= 1024;
    const bool usable = family && type && count && !query.submit.background;
    return usable ? Error() : Error(Error::invalid_argument);
}

}  // namespace

class ResolveState : public Counted, public Allocated<ResolveState> {
  public:
    explicit ResolveState(std::unique_ptr<ResolveListener> listener) noexcept
        : listener_(std::move(listener)) {}

    static Result<ResolveTask> begin(Loop& loop, const ResolveQuery& query,
                                     std::unique_ptr<ResolveListener> listener);
    void cancel(Loop& loop) noexcept;

  private:
    Error set_question(Loop& loop, const ResolveQuery& query) noexcept;
    bool known() const noexcept { return asked_->answer >= 0; }
    Error start(Loop& loop, const SubmitOptions& options);
    Error start_work(Loop& loop);
    void front_fired(Loop& loop);
    void answered(Loop& loop, Error error);
    void end(Loop& loop, Error error);
    AddressList take_addresses(Loop& loop) const;

    std::unique_ptr<ResolveListener> listener_;  // null: it has ended
    CountedRef<Asked> asked_;
    Timer front_;
    Operation work_;
    bool cancelled_ = false;
};

Result<ResolveTask> ResolveState::begin(Loop& loop, const ResolveQuery& query,
                                        std::unique_ptr<ResolveListener> listener) {
    loop.core().check_thread();
    if (Error error = query_check(query)) return error;
    if (listener == nullptr) return Error::from_errno(ENOMEM);
    const CountedRef<ResolveState> state(new (std::nothrow) ResolveState(std::move(listener)));
    if (state.get() == nullptr) return Error::from_errno(ENOMEM);
    if (Error error = state->set_question(loop, query)) return error;
    ResolveTask task;
    if (query.resolver != nullptr && !state->known() && !query.host.empty()) {
        const Result<Operation> made =
            query.resolver->find(loop, query, state->listener_.release());
        if (!made) return made.error();
        task.operation_ = *made;
        return task;
    }
    if (Error error = state->start(loop, query.submit)) return error;
    task.front_ = state->front_;
    task.state_ = state.get();
    return task;
}

Error ResolveState::set_question(Loop& loop, const ResolveQuery& query) noexcept {
    asked_ = CountedRef<Asked>(new (std::nothrow) Asked);
    if (asked_.get() == nullptr) return Error::from_errno(ENOMEM);
    Asked& asked = *asked_.get();
    asked.calls = &loop.core().system.host_calls();
    char number[8];
    std::snprintf(number, sizeof number, "%u", unsigned{query.port});
    const bool named = !query.service.empty();
    const std::string_view service = named ? query.service : std::string_view(number);
    if (!named) asked.question.flags = AI_NUMERICSERV;
    asked.text.reset(make_zeros<char>(query.host.size() + 1 + service.size() + 1));
    asked.found.reset(make_array<FoundAddress>(query.addresses_max));
    if (asked.text == nullptr || asked.found == nullptr) return Error::from_errno(ENOMEM);
    char* const behind = std::copy(query.host.begin(), query.host.end(), asked.text.get()) + 1;
    std::copy(service.begin(), service.end(), behind);
    asked.question.host = asked.text.get();
    asked.question.service = behind;
    asked.question.family = query.family;
    asked.question.type = query.type;
    if (query.passive) asked.question.flags |= AI_PASSIVE;
    if (query.configured) asked.question.flags |= AI_ADDRCONFIG;
    asked.most = static_cast<int>(query.addresses_max);
    asked.ask(AI_NUMERICHOST | AI_NUMERICSERV);  // numbers need neither a file nor a network
    return {};
}

Error ResolveState::start(Loop& loop, const SubmitOptions& options) {
    Instant deadline = options.deadline;
    if (options.within != Nanoseconds::max()) {
        deadline = std::min(deadline, add_saturating(loop.core().system.now(), options.within));
    }
    const auto fired = [self = CountedRef<ResolveState>(this)](Loop& here, const Expired&) {
        self->front_fired(here);
    };
    const Result<Timer> front = loop.at(deadline, fired);
    if (!front) return front.error();
    front_ = *front;
    const auto now = [self = CountedRef<ResolveState>(this)](Loop& here) {
        self->answered(here, Error());
    };
    const Error error = known() ? loop.post(now) : start_work(loop);
    if (error) loop.cancel(front_);
    return error;
}

Error ResolveState::start_work(Loop& loop) {
    SubmitOptions options;
    options.background = true;
    auto ask = [asked = asked_]() noexcept { asked->ask(0); };
    auto done = [self = CountedRef<ResolveState>(this)](Loop& here,
                                                        const WorkDone<NoResult>& work) {
        self->answered(here, work.error);
    };
    const Result<Operation> made = loop.submit(Work(std::move(ask)), options, std::move(done));
    if (made) work_ = *made;
    return made ? Error() : made.error();
}

void ResolveState::cancel(Loop& loop) noexcept {
    cancelled_ = true;
    static_cast<void>(loop.move(front_, Nanoseconds::zero()));
    static_cast<void>(loop.cancel(work_));
}

void ResolveState::front_fired(Loop& loop) {
    if (listener_ == nullptr) return;
    static_cast<void>(loop.cancel(work_));
    end(loop, cancelled_ ? Error::cancelled : Error::timed_out);
}

void ResolveState::answered(Loop& loop, Error error) {
    if (listener_ == nullptr) return;
    static_cast<void>(loop.cancel(front_));
    if (cancelled_ && !error) error = Error::cancelled;
    if (!error && asked_->answer < 0) error = Error::from_value(-asked_->answer);
    end(loop, error);
}

AddressList ResolveState::take_addresses(Loop& loop) const {
    const int count = std::min(asked_->answer, asked_->most);
    Buffer memory = loop.buffer(static_cast<std::size_t>(count) * sizeof(Address));
    if (!memory) return {};
    std::size_t used = 0;
    for (int index = 0; index < count; ++index) {
        const FoundAddress& found = asked_->found[static_cast<std::size_t>(index)];
        const Result<Address> address = Address::from_sockaddr(found.bytes, found.length);
        if (!address) continue;
        ::new (static_cast<void*>(memory.data() + used)) Address(*address);
        used += sizeof(Address);
    }
    memory.resize(used);
    return AddressList(std::move(memory));
}

void ResolveState::end(Loop& loop, Error error) {
    ResolveDone done;
    if (!error) {
        done.addresses = take_addresses(loop);
        done.truncated = asked_->answer > asked_->most;
        if (done.addresses.empty()) error = Error::from_errno(ENOMEM);
    }
    done.error = error;
    const std::unique_ptr<ResolveListener> listener = std::move(listener_);
    listener->ended(loop, std::move(done));
}

Result<ResolveTask> resolve_begin(Loop& loop, const ResolveQuery& query,
                                  ResolveListener* listener) {
    return ResolveState::begin(loop, query, std::unique_ptr<ResolveListener>(listener));
}

}  // namespace detail

HostResolver::~HostResolver() = default;

bool ResolveTask::cancel(Loop& loop) const noexcept {
    if (operation_) return loop.cancel(operation_) == Cancelled::cancelling;
    if (loop.core().timer_find(front_.value()) == nullptr) return false;
    state_->cancel(loop);
    return true;
}

}  // namespace whorl
