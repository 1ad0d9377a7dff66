// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/insight.hpp"

#include "base/probe.hpp"
#include "loop/core.hpp"
#include "loop/latency.hpp"
#include "loop/meter.hpp"
#include "loop/post_queue.hpp"
#include "loop/slow_watch.hpp"

#include <whorl/allocated.hpp>
#include <whorl/remote.hpp>

#include <new>

namespace whorl::detail {

namespace {
using Event = recorder::Event;
}  // namespace

// --- life

__thread Insight* insight_here = nullptr;

namespace {

void panicked() noexcept {
    Insight* here = insight_here;
    if (here != nullptr && here->recorder != nullptr) {
        here->recorder->record(Event::panic, 0, here->now_ns(), 0, 0);
    }
    Recorder::dump_all();
}

}  // namespace

Insight::Insight(LoopCore& owner) noexcept : core(owner) {}

Insight::~Insight() {
    if (slow != nullptr) slow->give_back();
    delete latency;
    delete recorder;
}

Error Insight::open() noexcept {
    simulated = core.options.world != nullptr;
    if (simulated) clock.ignore_counter();  // the world's clock is not the processor's
    for (unsigned kind = 0; kind < 256; ++kind) {
        kind_names[kind] = name_of_kind(static_cast<std::uint8_t>(kind));
    }
    if (Error error = entries.reserve(core.options.ops_max)) return error;
    if (Error error = handles.reserve(core.options.handles_max)) return error;
    if (core.options.operation_latency) {
        latency = new (std::nothrow) LatencyTable;
        if (latency == nullptr) return Error::from_errno(ENOMEM);
    }
    if (core.options.recorder_events != 0) {
        if (Error error = open_recorder()) return error;
    }
    const Nanoseconds zero = Nanoseconds::zero();
    const bool watches = core.options.slow_handler != zero || core.options.stuck_handler != zero;
    timed = watches || latency != nullptr || recorder != nullptr;
    thunk = watches ? &called<Watched> : timed ? &called<Timed> : &called<Untimed>;
    if (!watches) return {};
    Result<SlowWatch*> made = SlowWatch::create(core.options, recorder);
    if (made) slow = *made;
    return made.error();
}

Error Insight::open_recorder() noexcept {
    Result<Recorder*> made = Recorder::create(core.options, name_of(core.report.chosen));
    if (!made) return made.error();
    recorder = *made;
    const char* source = clock.scale() != 0 ? "tsc" : "monotonic";
    recorder->describe_clock(simulated ? "simulated" : source, simulated ? 0 : clock.scale(),
                             now_ns());
    panic_hook_set(&panicked);
    return {};
}

Error Insight::bind() noexcept {
    if (recorder != nullptr) recorder->belongs_to(core.thread_id);
    return slow == nullptr ? Error() : slow->start(core.thread_id);
}

std::uint64_t Insight::slow_clock_ns() const noexcept {
    if (!simulated) return FastClock::monotonic_ns();
    return static_cast<std::uint64_t>(system_for(core.options).now().time_since_epoch().count());
}

// --- the points

namespace {

std::uint8_t kind_of(const OpRecord& record) noexcept {
    return static_cast<std::uint8_t>(record.kind);
}

std::int64_t between(std::uint64_t from_ns, std::uint64_t to_ns) noexcept {
    return from_ns == 0 || to_ns < from_ns ? 0 : static_cast<std::int64_t>(to_ns - from_ns);
}

}  // namespace

namespace {

// flow_of() as a table, for what is asked of every completion.
struct Flows {
    ByteFlow of[256] = {};
    constexpr Flows() noexcept {
        for (unsigned kind = 0; kind <= op_kind_count; ++kind) {
            of[kind] = flow_of(static_cast<OpKind>(kind));
        }
    }
};
constexpr Flows flows;

// What happened on a descriptor: an answer, and the bytes that moved where its result counts bytes.
void count_answer(InsightHandle& handle, OpKind kind, std::int32_t result) noexcept {
    ++handle.completions;
    if (result <= 0) return;
    const ByteFlow bytes = flows.of[static_cast<std::uint8_t>(kind)];
    if (bytes == ByteFlow::none) return;
    (bytes == ByteFlow::in ? handle.bytes_in : handle.bytes_out) +=
        static_cast<std::uint32_t>(result);
}

}  // namespace

void Insight::opened(const Descriptor& descriptor) noexcept {
    InsightHandle* handle = handles.claim(core.descriptors.index_of(&descriptor));
    if (handle != nullptr) *handle = {now_ns(), 0, 0, 0, 0, descriptor.generation, 0};
}

void LoopCore::committed(OpRecord& record, Site site) noexcept {
    note_work();
    if (meter != nullptr) meter->submitted(record.kind);
    if (insight != nullptr) insight->submitted(record, site);
}

void Insight::submitted(OpRecord& record, Site site) noexcept {
    const std::uint64_t time_ns = now_ns();
    const std::uint64_t handle = core.handle_of(record);
    const Thunk own = record.thunk;
    WHORL_PROBE6(submit, &core, handle, kind_names[kind_of(record)], site.file, site.line, own);
    const bool watch = record.kind == OpKind::watch;  // `descriptor` is a number, not an index
    const Descriptor* descriptor = nullptr;
    if (!watch && record.descriptor != 0) descriptor = &core.descriptors.at(record.descriptor);
    std::uint32_t place = 0;
    if (recorder != nullptr) {
        place = recorder->place(site, reinterpret_cast<const void*>(own));
        std::int64_t fd = watch ? static_cast<std::int64_t>(record.descriptor) : -1;
        if (descriptor != nullptr) fd = descriptor->fd;
        recorder->record(Event::submit, kind_of(record), time_ns, handle, fd, place);
    }
    InsightEntry* entry = entries.claim(core.operations.index_of(&record));
    if (entry == nullptr) return;
    InsightHandle* counts =
        descriptor == nullptr ? nullptr : find(record.descriptor, descriptor->generation);
    *entry = {own, handle, site.file, site.line, place, time_ns, 0, 0, counts};
    record.thunk = thunk;
}

void Insight::posted(Site site) noexcept {
    const std::uint64_t time_ns = now_ns();
    const std::uint64_t number = post_sites.push(site, time_ns);
    WHORL_PROBE4(post, &core, number, site.file, site.line);
    if (recorder == nullptr) return;
    recorder->record(Event::post, kind_post, time_ns, number, 0, recorder->place(site, nullptr));
}

Error Insight::wait(Nanoseconds timeout) noexcept {
    const std::uint32_t count = core.submissions.empty() ? 0 : handed(core.submissions);
    wait_begins(count, timeout);
    const Error error = core.driver->wait(core.submissions, timeout, core.batch);
    wait_ends(core.batch);
    return error;
}

// One stamp for all that go in one call. What is handed over again keeps its first.
std::uint32_t Insight::handed(const OpList& submissions) noexcept {
    const std::uint64_t time_ns = now_ns();
    std::uint32_t count = 0;
    for (std::uint32_t index = submissions.head; index != 0;) {
        const OpRecord& record = core.operations.at(index);
        const std::uint64_t handle = core.handle_of(record);
        index = record.link;
        ++count;
        WHORL_PROBE3(hand_over, &core, handle, kind_names[kind_of(record)]);
        if (recorder != nullptr) {
            recorder->record(Event::hand_over, kind_of(record), time_ns, handle, 0);
        }
        InsightEntry* entry = find(handle);
        if (entry != nullptr && entry->handed_ns == 0) entry->handed_ns = time_ns;
    }
    return count;
}

void Insight::wait_begins(std::uint32_t handed_count, Nanoseconds timeout) noexcept {
    latest_ns = 0;
    if (slow != nullptr) slow->waits();
    WHORL_PROBE3(wait_begin, &core, handed_count, timeout.count());
    if (recorder == nullptr) return;
    const std::int64_t timeout_us = timeout < Nanoseconds::zero() ? -1 : timeout.count() / 1000;
    recorder->record(Event::wait_begin, 0, now_ns(), handed_count, timeout_us);
}

inline void Insight::completed(const Completion& completion, std::uint64_t time_ns) noexcept {
    const OpRecord* record = core.operations.find(completion.operation);
    if (record == nullptr) return;
    WHORL_PROBE4(complete, &core, completion.operation, kind_names[kind_of(*record)],
                 completion.result);
    InsightEntry* entry = find(completion.operation);
    if (entry != nullptr) {
        entry->completed_ns = time_ns;
        if (entry->counts != nullptr) {
            count_answer(*entry->counts, record->kind, completion.result);
        }
    }
    if (recorder == nullptr) return;
    const bool more = (completion.flags & completion_more) != 0;
    recorder->record(Event::complete, kind_of(*record), time_ns, completion.operation,
                     completion.result, 0, more);
}

void Insight::wait_ends(const CompletionBatch& batch) noexcept {
    if (slow != nullptr) slow->works();
    WHORL_PROBE2(wait_end, &core, batch.count - batch.taken);
    if (batch.empty() && recorder == nullptr) return;
    const std::uint64_t time_ns = now_ns();
    if (!batch.empty()) collected_ns = latest_ns = time_ns;
    if (recorder != nullptr) {
        recorder->record(Event::wait_end, 0, time_ns, 0, batch.count - batch.taken);
    }
    for (std::uint32_t next = batch.taken; next < batch.count; ++next) {
        completed(batch.entries[next], time_ns);
    }
}

// A simulated world has a time of its own, and a handler is real work.
std::uint64_t Insight::watch_ns(std::uint64_t time_ns) const noexcept {
    return simulated ? FastClock::monotonic_ns() : time_ns;
}

// Of what the backend answered, a handler begins where the one before it ended. Others wait for more than
// that: a wheel of timers that turns, a queue of another thread.
inline std::uint64_t Insight::begin_of(std::uint64_t completed_ns) const noexcept {
    const bool follows = completed_ns == collected_ns && latest_ns != 0;
    return follows ? latest_ns : now_ns();
}

void Insight::handler_begins(HandlerRun& run) noexcept {
    WHORL_PROBE4(handler_begin, &core, run.of.handle, kind_names[run.kind], run.of.code());
    if (!timed) return;
    run.begun_ns = begin_of(run.of.completed_ns);
    if (slow != nullptr) watch_begins(run);
    if (latency != nullptr) {
        run.latency = latency->begins(run.kind, run.of, collected_ns, run.begun_ns);
    }
    if (recorder == nullptr) return;
    recorder->record(Event::handler_begin, run.kind, run.begun_ns, run.of.handle,
                     between(run.of.completed_ns, run.begun_ns), run.of.place, !run.last);
}

void Insight::handler_ends(const HandlerRun& run) noexcept {
    WHORL_PROBE3(handler_end, &core, run.of.handle, kind_names[run.kind]);
    if (!timed) return;
    const std::uint64_t time_ns = now_ns();
    latest_ns = time_ns;
    if (slow != nullptr) watch_ends(run, time_ns);
    if (run.latency != nullptr) run.latency->count(run.begun_ns, time_ns);
    if (recorder == nullptr) return;
    recorder->record(Event::handler_end, run.kind, time_ns, run.of.handle,
                     between(run.begun_ns, time_ns), run.of.place, !run.last);
}

void Insight::watch_begins(HandlerRun& run) noexcept {
    run.outer = running;
    running = &run;
    run.inner_ns = 0;
    run.watched_ns = watch_ns(run.begun_ns);
    slow->handler_begins(run, run.watched_ns);
}

// A report takes time that is not the next handler's, and an outer one's own time does not count that of
// the inner one.
void Insight::watch_ends(const HandlerRun& run, std::uint64_t time_ns) noexcept {
    const std::uint64_t end_ns = watch_ns(time_ns);
    running = run.outer;
    const std::uint64_t ran_ns = slow->handler_ends(end_ns);
    if (ran_ns != 0) latest_ns = 0;
    if (ran_ns != 0 && core.meter != nullptr) {
        core.meter->slow_handler(run, ran_ns, time_ns, slow->counts());
    }
    if (running == nullptr) return;
    running->inner_ns += end_ns - run.watched_ns;
    slow->handler_begins(*running, running->watched_ns + running->inner_ns);
}

void Insight::dropped(const OpRecord& record) noexcept {
    WHORL_PROBE3(drop, &core, core.handle_of(record), kind_names[kind_of(record)]);
    if (recorder == nullptr) return;
    recorder->record(Event::drop, kind_of(record), now_ns(), core.handle_of(record), 0);
}

void Insight::cancel_asked(const OpRecord& record) noexcept {
    WHORL_PROBE3(cancel, &core, core.handle_of(record), kind_names[kind_of(record)]);
    if (recorder == nullptr) return;
    recorder->record(Event::cancel, kind_of(record), now_ns(), core.handle_of(record), 0);
}

void Insight::remote_sent(const RemotePost& post) noexcept {
    WHORL_PROBE2(remote_send, &core, &post);
    if (recorder == nullptr) return;
    recorder->record(Event::remote_send, kind_remote_post, now_ns(),
                     reinterpret_cast<std::uintptr_t>(&post), 0);
}

void Insight::turn_begins() noexcept {
    clock.sync();
    outer = insight_here;
    insight_here = this;
    latest_ns = 0;
    if (slow != nullptr) slow->works();
}

void Insight::turn_ends() noexcept {
    if (slow != nullptr) slow->waits();
    insight_here = outer;
}

namespace {

// From the begin of a handler to its end, however it ends.
struct HandlerSpan {
    HandlerSpan(Insight& owner, HandlerRun& begins) noexcept : insight(owner), run(begins) {
        insight.handler_begins(run);
    }
    HandlerSpan(const HandlerSpan&) = delete;
    HandlerSpan& operator=(const HandlerSpan&) = delete;
    ~HandlerSpan() { insight.handler_ends(run); }
    Insight& insight;
    HandlerRun& run;
};

}  // namespace

// Nobody but a probe asks when it begins and ends.
struct Insight::Untimed {
    Insight& insight;
    std::uint64_t handle;
    std::uint8_t kind;

    Untimed(Insight& owner, const InsightEntry& entry, std::uint8_t of, bool) noexcept
        : insight(owner), handle(entry.handle), kind(of) {
        WHORL_PROBE4(handler_begin, &insight.core, handle, insight.kind_names[kind], entry.code());
    }
    ~Untimed() { WHORL_PROBE3(handler_end, &insight.core, handle, insight.kind_names[kind]); }
    Untimed(const Untimed&) = delete;
    Untimed& operator=(const Untimed&) = delete;
};

// Without looking for slow ones: the usual, in which little has to outlast the handler.
struct Insight::Timed {
    Insight& insight;
    std::uint64_t handle;
    std::uint64_t begun_ns;
    PhaseCounts* latency = nullptr;
    std::uint32_t place;
    std::uint8_t kind;
    bool more;

    [[gnu::always_inline]] Timed(Insight& owner, const InsightEntry& entry, std::uint8_t of,
                                 bool further) noexcept
        : insight(owner), handle(entry.handle), begun_ns(owner.begin_of(entry.completed_ns)),
          place(entry.place), kind(of), more(further) {
        WHORL_PROBE4(handler_begin, &insight.core, handle, insight.kind_names[kind], entry.code());
        if (insight.latency != nullptr) {
            latency = insight.latency->begins(kind, entry, insight.collected_ns, begun_ns);
        }
        if (insight.recorder == nullptr) return;
        insight.recorder->record(Event::handler_begin, kind, begun_ns, handle,
                                 between(entry.completed_ns, begun_ns), place, more);
    }
    [[gnu::always_inline]] ~Timed() {
        WHORL_PROBE3(handler_end, &insight.core, handle, insight.kind_names[kind]);
        const std::uint64_t time_ns = insight.now_ns();
        insight.latest_ns = time_ns;
        if (latency != nullptr) latency->count(begun_ns, time_ns);
        if (insight.recorder == nullptr) return;
        insight.recorder->record(Event::handler_end, kind, time_ns, handle,
                                 between(begun_ns, time_ns), place, more);
    }
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;
};

struct Insight::Watched {
    HandlerRun run;  // begin and end say the rest: to clear it all costs more than it does
    HandlerSpan span;

    Watched(Insight& owner, const InsightEntry& entry, std::uint8_t kind, bool more) noexcept
        : run(described(entry, kind, more)), span(owner, run) {}

    static HandlerRun described(const InsightEntry& entry, std::uint8_t kind, bool more) noexcept {
        HandlerRun run{};
        run.of = entry;
        run.kind = kind;
        run.last = !more;
        return run;
    }
};

template <class How>
void Insight::called(Loop& loop, OpRecord& record, Delivery* delivery) {
    Insight& insight = *loop.core().insight;
    // It has one: this is called for no other.
    const InsightEntry& entry = insight.entries.at(insight.core.operations.index_of(&record));
    const Thunk own = entry.thunk;
    if (delivery == nullptr) {
        insight.dropped(record);
        return own(loop, record, nullptr);
    }
    const How how(insight, entry, kind_of(record), delivery->more);
    own(loop, record, delivery);
}

namespace {
// Only its address is used, to name it; the type in between is the one that any function may be cast to.
template <class Function>
Thunk named_as_thunk(Function* function) noexcept {
    return reinterpret_cast<Thunk>(reinterpret_cast<void (*)()>(function));
}
}  // namespace

void Insight::run_post(PostSlot& slot) {
    const PostSites::Entry entry = post_sites.pop();
    if (core.dropping) return slot.run(*core.loop, slot.closure, false);
    HandlerRun run{};
    run.kind = kind_post;
    run.last = true;
    run.of.thunk = named_as_thunk(slot.run);
    run.of.handle = entry.number;
    run.of.file = entry.site.file;
    run.of.line = entry.site.line;
    run.of.submitted_ns = entry.posted_ns;
    if (recorder != nullptr) run.of.place = recorder->place(entry.site, run.of.code());
    const HandlerSpan span(*this, run);
    slot.run(*core.loop, slot.closure, true);
}

void Insight::run_remote(RemotePost& post) {
    if (core.dropping) return post.run(nullptr, &post);
    WHORL_PROBE2(remote_take, &core, &post);
    HandlerRun run{};
    run.kind = kind_remote_post;
    run.last = true;
    run.of.thunk = named_as_thunk(post.run);
    run.of.handle = reinterpret_cast<std::uintptr_t>(&post);
    if (recorder != nullptr) {
        run.of.place = recorder->place({}, run.of.code());
        recorder->record(Event::remote_take, kind_remote_post, now_ns(), run.of.handle, 0);
    }
    const HandlerSpan span(*this, run);
    post.run(core.loop, &post);
}

}  // namespace whorl::detail
