// SPDX-License-Identifier: MIT
// Floor: 4
#include <whorl/live_handles.hpp>

#include "base/symbol.hpp"
#include "base/text.hpp"
#include "loop/core.hpp"
#include "loop/insight.hpp"
#include "loop/live_handles.hpp"

namespace whorl {

namespace detail {

const char* name_of(DescriptorKind kind) noexcept {
    switch (kind) {
        case DescriptorKind::socket:
            return "socket";
        case DescriptorKind::listener:
            return "listener";
        case DescriptorKind::file:
            return "file";
        case DescriptorKind::signals:
            return "signals";
        case DescriptorKind::child:
            return "child";
    }
    return "unknown";
}

const char* name_of(DescriptorState state) noexcept {
    switch (state) {
        case DescriptorState::open:
            return "open";
        case DescriptorState::connecting:
            return "connecting";
        case DescriptorState::closing:
            return "closing";
    }
    return "unknown";
}

namespace {

const char* name_of(OpState state) noexcept {
    switch (state) {
        case OpState::ended:
            return "ended";
        case OpState::linked:
            return "linked";
        case OpState::queued:
            return "queued";
        case OpState::listed:
            return "listed";
        case OpState::kernel:
            return "kernel";
        case OpState::starved:
            return "starved";
        case OpState::paused:
            return "paused";
        case OpState::retrying:
            return "retrying";
        case OpState::ready:
            return "ready";
        case OpState::armed:
            return "armed";
    }
    return "unknown";
}

// The loop's own: what a person asked for is told without them.
bool shown(const OpRecord& record) noexcept {
    return record.kind != OpKind::deadline && record.kind != OpKind::chain;
}

// Whether the operation's `descriptor` is the index of a handle.
bool names_handle(const OpRecord& record) noexcept {
    return record.descriptor != 0 && record.kind != OpKind::watch;
}

class Look {
  public:
    explicit Look(LoopCore& core) noexcept
        : core_(core), now_ns_(core.insight == nullptr ? 0 : core.insight->now_ns()) {}

    LiveHandle of(const Descriptor& descriptor) const noexcept {
        LiveHandle live;
        live.handle = core_.descriptors.handle_of(&descriptor);
        live.fd = descriptor.fd;
        live.kind = name_of(descriptor.kind);
        live.state = name_of(descriptor.state);
        live.operations = descriptor.operations;
        if (descriptor.kind == DescriptorKind::socket) live.buffers_out = descriptor.buffers_out;
        if (core_.insight == nullptr) return live;
        const std::uint32_t index = core_.descriptors.index_of(&descriptor);
        const InsightHandle* known = core_.insight->find(index, descriptor.generation);
        if (known == nullptr) return live;
        live.age = since(known->opened_ns);
        live.bytes_in = known->bytes_in;
        live.bytes_out = known->bytes_out;
        return live;
    }

    LiveOperation of(const OpRecord& record) const noexcept {
        LiveOperation live;
        live.handle = core_.operations.handle_of(&record);
        live.kind = detail::name_of(record.kind);
        // A close handler is in no list; its descriptor has it.
        const bool closes = record.kind == OpKind::close && record.state == OpState::ended;
        live.state = name_of(closes ? OpState::armed : record.state);
        if (record.kind == OpKind::watch) live.fd = static_cast<int>(record.descriptor);
        if (flow_of(record.kind) != ByteFlow::none) live.bytes = record.progress;
        live.background = (record.flags & op_background) != 0;
        live.cancelled = (record.flags & (op_cancelled | op_timed_out)) != 0;
        live.handler = reinterpret_cast<const void*>(record.thunk);
        const InsightEntry* known =
            core_.insight == nullptr ? nullptr : core_.insight->find(live.handle);
        if (known == nullptr) return live;
        live.age = since(known->submitted_ns);
        live.site = known->site();
        live.handler = known->code();
        return live;
    }

  private:
    Nanoseconds since(std::uint64_t time_ns) const noexcept {
        if (time_ns >= now_ns_) return Nanoseconds::zero();
        return Nanoseconds(static_cast<std::int64_t>(now_ns_ - time_ns));
    }

    LoopCore& core_;
    std::uint64_t now_ns_;
};

// The loop is not run from inside a visit, nor destroyed. A guest's host is woken when it is over: it may have
// got something to do.
class Visit {
  public:
    explicit Visit(LoopCore& core) noexcept : core_(core), was_in_turn_(core.in_turn) {
        core.in_turn = true;
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;
    ~Visit() {
        core_.in_turn = was_in_turn_;
        core_.note_work();
    }

  private:
    LoopCore& core_;
    const bool was_in_turn_;
};

class Printer final : public LiveVisitor {
  public:
    Printer(char* out, std::size_t size) noexcept : text_(out, size) {}

    void handle(const LiveHandle& live) override {
        text_.add("%s fd %d %s", live.kind, live.fd, live.state);
        age(live.age);
        if (live.age != age_unknown) {
            text_.add(", %llu bytes in, %llu out", static_cast<unsigned long long>(live.bytes_in),
                      static_cast<unsigned long long>(live.bytes_out));
        }
        if (live.buffers_out != 0) text_.add(", %u buffers out", live.buffers_out);
        text_.add("\n");
    }
    void operation(const LiveHandle* of, const LiveOperation& live) override {
        text_.add("%s%s %s", of != nullptr ? "  " : "", live.kind, live.state);
        if (live.fd >= 0) text_.add(" fd %d", live.fd);
        age(live.age);
        if (live.bytes != 0) {
            text_.add(", %llu bytes", static_cast<unsigned long long>(live.bytes));
        }
        if (live.background) text_.add(", background");
        if (live.cancelled) text_.add(", cancelled");
        if (live.site.file != nullptr) text_.add(", from %s:%u", live.site.file, live.site.line);
        char name[200];
        handler_name(live.handler, name, sizeof name);
        if (name[0] != 0) text_.add(", %s", name);
        text_.add("\n");
    }
    std::size_t length() const noexcept { return text_.length(); }

  private:
    void age(Nanoseconds time) noexcept {
        if (time == age_unknown) return;
        text_.add(", %.3f ms old", static_cast<double>(time.count()) / 1e6);
    }

    Text text_;
};

}  // namespace

}  // namespace detail

LiveVisitor::~LiveVisitor() = default;

void visit_live(Loop& loop, LiveVisitor& visitor) {
    detail::LoopCore& core = loop.core();
    core.check_thread();
    const detail::Visit visit(core);
    const detail::Look look(core);
    core.descriptors.for_each_live([&](detail::Descriptor& descriptor) {
        const LiveHandle live = look.of(descriptor);
        visitor.handle(live);
        // The visitor may have closed it, and opened another one in its place.
        const auto is_there = [&] { return core.descriptors.find(live.handle) == &descriptor; };
        if (!is_there() || descriptor.operations == 0) return;
        const std::uint32_t index = core.descriptors.index_of(&descriptor);
        core.operations.for_each_live([&](detail::OpRecord& record) {
            if (!is_there()) return;
            if (!detail::names_handle(record) || record.descriptor != index) return;
            if (detail::shown(record)) visitor.operation(&live, look.of(record));
        });
    });
    core.operations.for_each_live([&](detail::OpRecord& record) {
        if (!detail::names_handle(record) && detail::shown(record)) {
            visitor.operation(nullptr, look.of(record));
        }
    });
}

std::size_t print_live(Loop& loop, char* out, std::size_t size) {
    detail::Printer printer(out, size);
    visit_live(loop, printer);
    return printer.length();
}

void handler_name(const void* handler, char* text, std::size_t size) noexcept {
    detail::symbol_of(handler, text, size);
}

}  // namespace whorl
