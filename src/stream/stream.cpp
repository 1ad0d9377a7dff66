// SPDX-License-Identifier: MIT
// Floor: 6
#include "stream/stream_state.hpp"

#include <new>

namespace whorl {

namespace detail {

StreamState::StreamState(LoopCore& loop_core, const StreamOptions& given) noexcept
    : HubEntry(loop_core), options(given), read_bucket(given.read_rate),
      write_bucket(given.write_rate), attached_at(loop_core.clock()), received_at(attached_at),
      sent_at(attached_at) {}

StreamState::~StreamState() {
    for (OwnerLink* link : {&in_owner, &in_bucket}) {
        if (List::is_linked(*link)) List::remove(*link);
    }
    drop_retired();
    if (object != nullptr) table->destroy(object);
    if (detaching()) detach.destroy(detach.object);
    delete filter;
}

// Everything that may be due, in this order. Each step may abort or detach the stream, which ends the rest.
void StreamState::settle() {
    if (ended) {
        if (pending == 0) finish();
        return;
    }
    if (detaching()) return settle_detach();
    if (filter != nullptr && !filter->begun) begin_filter();
    if (going() && owes_opened && !handshaking()) call_opened();
    if (going()) tell_writable();
    if (going()) deliver();
    if (going() && filter != nullptr) seal();
    if (going()) send();
    if (going()) shut();
    if (going()) read();
    if (going() && (!owes_opened || handshaking())) end_orderly();
    if (going()) arm();
}

void StreamState::drain() {
    if (!ended) fail(ClosedBy::loop, Error::loop_closed, false);
    if (pending == 0) finish();
}

void StreamState::start(const ProtocolTable& with, void* with_object) noexcept {
    if (object != nullptr) {
        drop_retired();  // replaced twice in one callback: only the first is in use
        if (calling && retired == nullptr) {
            retired = object;
            retired_table = table;
        } else {
            table->destroy(object);
        }
    }
    table = &with;
    object = with_object;
    owes_opened = true;
    frame_open = false;
    mark();
}

void StreamState::drop_retired() noexcept {
    if (retired == nullptr || calling) return;
    void* const gone = retired;
    retired = nullptr;
    retired_table->destroy(gone);
}

void StreamState::call_opened() {
    owes_opened = false;
    if (table->opened != nullptr) call([this] { table->opened(object, *this); });
}

Result<Stream*> stream_make_on(Loop& loop, StreamState*& made,
                               const StreamOptions& options) noexcept {
    const bool sane = options.low <= options.high && options.high <= options.queue_max;
    if (!sane || options.high == 0) return Error::invalid_argument;
    Result<StreamHub*> hub = StreamHub::of(loop);
    if (!hub) return hub.error();
    made = new (std::nothrow) StreamState(loop.core(), options);
    if (made == nullptr) return Error::from_errno(ENOMEM);
    if (options.layer != nullptr) {
        if (Error error = made->set_filter(*options.layer)) {
            delete made;
            return error;
        }
    }
    (*hub)->add(*made);
    StreamStatistics& statistics = (*hub)->statistics;
    ++statistics.opened;
    if (++statistics.streams > statistics.streams_high) {
        statistics.streams_high = statistics.streams;
    }
    return static_cast<Stream*>(made);
}

Result<Stream*> stream_make(Loop& loop, Socket socket, const StreamOptions& options) noexcept {
    loop.core().check_thread();
    if (loop.core().descriptor_find(socket.value()) == nullptr) return Error::stale_handle;
    StreamState* made = nullptr;
    Result<Stream*> stream = stream_make_on(loop, made, options);
    if (stream) made->descriptor = socket;
    return stream;
}

Result<Stream*> stream_make(Loop& loop, const PipeEnds& pipes,
                            const StreamOptions& options) noexcept {
    loop.core().check_thread();
    bool sane = pipes.reading || pipes.writing;
    for (const Pipe pipe : {pipes.reading, pipes.writing}) {
        if (pipe && loop.core().descriptor_find(pipe.value()) == nullptr) sane = false;
    }
    if (!sane) return Error::stale_handle;
    StreamState* made = nullptr;
    Result<Stream*> stream = stream_make_on(loop, made, options);
    if (!stream) return stream;
    made->pipes = true;
    made->in = pipes.reading;
    made->out = pipes.writing;
    // A direction that is not there has ended.
    made->peer_ended = !pipes.reading;
    made->peer_told = !pipes.reading;
    made->ending = made->shutting = made->shut_done = !pipes.writing;
    return stream;
}

void stream_unmake(Stream& stream) noexcept {
    auto& state = static_cast<StreamState&>(stream);
    --state.hub().statistics.streams;
    --state.hub().statistics.opened;
    delete &state;
}

void stream_start(Stream& stream, const ProtocolTable& table, void* object) noexcept {
    static_cast<StreamState&>(stream).start(table, object);
}

Error stream_replaceable(const Stream& stream) noexcept {
    const auto& state = static_cast<const StreamState&>(stream);
    return state.ended ? Error(Error::stale_handle) : Error();
}

bool stream_detaching(const Stream& stream) noexcept {
    return static_cast<const StreamState&>(stream).detaching();
}

void stream_pause_at_high(Stream& stream, bool pause) noexcept {
    static_cast<StreamState&>(stream).options.pause_at_high = pause;
}

const void* stream_object(const Stream& stream) noexcept {
    return static_cast<const StreamState&>(stream).object;
}

StreamFilter* stream_filter(const Stream& stream) noexcept {
    return static_cast<const StreamState&>(stream).filter;
}

void stream_frame_open(Stream& stream, bool open) noexcept {
    auto& state = static_cast<StreamState&>(stream);
    if (open && !state.frame_open) state.frame_at = state.core->clock();
    state.frame_open = open;
}

}  // namespace detail

detail::StreamState& Stream::state() noexcept { return static_cast<detail::StreamState&>(*this); }
const detail::StreamState& Stream::state() const noexcept {
    return static_cast<const detail::StreamState&>(*this);
}

bool Stream::write(Buffer&& buffer) noexcept {
    state().core->check_thread();
    Buffer taken = std::move(buffer);
    return state().queue(std::move(taken));
}
bool Stream::write(Bytes bytes) noexcept {
    state().core->check_thread();
    return state().queue_copy(bytes);
}

void Stream::end() noexcept {
    detail::StreamState& stream = state();
    stream.core->check_thread();
    if (stream.ended || stream.ending) return;
    stream.ending = true;
    stream.mark();
}

void Stream::close(Error reason) noexcept {
    detail::StreamState& stream = state();
    stream.core->check_thread();
    if (stream.ended || stream.closes) return;
    const bool peer = stream.reason.by == ClosedBy::peer && !reason;
    stream.reason = {peer ? ClosedBy::peer : ClosedBy::us, reason};
    stream.closes = true;
    stream.ending = true;
    const Nanoseconds bound = stream.options.deadlines.close;
    if (bound > Nanoseconds::zero()) {
        stream.close_at = add_saturating(stream.core->clock(), bound);
    }
    stream.mark();
}

void Stream::abort(Error reason) noexcept {
    state().core->check_thread();
    state().fail(ClosedBy::us, reason);
}

void Stream::pause() noexcept {
    state().core->check_thread();
    state().user_paused = true;
}
void Stream::resume() noexcept {
    detail::StreamState& stream = state();
    stream.core->check_thread();
    if (!stream.user_paused) return;
    stream.user_paused = false;
    stream.mark();
}

void Stream::unread(Buffer&& buffer) noexcept {
    detail::StreamState& stream = state();
    stream.core->check_thread();
    Buffer taken = std::move(buffer);
    if (taken.empty() || stream.ended || stream.closes) return;
    stream.hold(std::move(taken), true);
    stream.mark();
}

Error Stream::secure(StreamLayer& layer) noexcept {
    detail::StreamState& stream = state();
    stream.core->check_thread();
    if (stream.ended) return Error::stale_handle;
    if (stream.filter != nullptr || stream.ending || stream.detaching()) {
        return Error::invalid_argument;
    }
    return stream.set_filter(layer);
}

void Stream::set_deadlines(const StreamDeadlines& deadlines) noexcept {
    detail::StreamState& stream = state();
    stream.core->check_thread();
    stream.options.deadlines = deadlines;
    if (!stream.ended) stream.mark();
}

Loop& Stream::loop() noexcept { return state().HubEntry::loop(); }
Socket Stream::socket() const noexcept { return state().descriptor; }
bool Stream::paused() const noexcept { return state().user_paused; }
bool Stream::closing() const noexcept { return state().closes || state().ended; }
std::size_t Stream::queued() const noexcept { return state().queued_bytes; }
const StreamCounters& Stream::counters() const noexcept { return state().counts; }

}  // namespace whorl
