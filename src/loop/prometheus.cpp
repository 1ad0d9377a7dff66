// SPDX-License-Identifier: MIT
// Floor: 4
#include <whorl/prometheus.hpp>

#include "loop/prometheus_text.hpp"

#include <whorl/assert.hpp>

#include <cstdint>

namespace whorl {

using detail::PrometheusText;

namespace {

struct Metric {
    std::string_view name;  // with _total: it only grows
    std::string_view help;
    std::uint64_t (*value)(const Statistics& statistics) noexcept;
};

#define WHORL_METRIC(field, suffix, help)                                                        \
    {                                                                                            \
#field suffix, help,                                                                     \
            [](const Statistics&                                                                 \
                   statistics) noexcept { return static_cast<std::uint64_t>(statistics.field); } \
    }

// In the order of statistics.hpp; every field of it, which a test counts.
const Metric metrics[] = {
    WHORL_METRIC(turns, "_total", "Rounds of wait and dispatch."),
    WHORL_METRIC(kernel_waits, "_total", "Calls into the kernel to submit, wait or both."),
    WHORL_METRIC(submissions, "_total", "Operations handed to the backend."),
    WHORL_METRIC(completions, "_total", "Records that came back from the backend."),
    WHORL_METRIC(completions_stale, "_total", "Completions of operations that had ended."),
    WHORL_METRIC(handlers, "_total", "Handlers called."),
    WHORL_METRIC(timers_fired, "_total", "Timers fired."),
    WHORL_METRIC(posts_run, "_total", "Posted handlers run."),
    WHORL_METRIC(remote_posts_run, "_total", "Handlers run that other threads posted."),
    WHORL_METRIC(remote_wakes, "_total", "Times the sleeping loop was woken by another thread."),
    WHORL_METRIC(cancels, "_total", "Cancellations asked of the backend."),
    WHORL_METRIC(queue_flushes, "_total", "Times the submission queue was full."),
    WHORL_METRIC(completion_overflows, "_total", "Times the completion queue overflowed."),
    WHORL_METRIC(recv_starved, "_total", "Times a received stream found no buffer."),
    WHORL_METRIC(recv_resized, "_total", "Times a received stream changed its buffers' size."),
    WHORL_METRIC(recv_paused, "_total", "Times a received stream held its share of buffers."),
    WHORL_METRIC(accept_paused, "_total", "Times accepting backed off for want of a descriptor."),
    WHORL_METRIC(accept_aborted, "_total", "Connections gone before they could be accepted."),
    WHORL_METRIC(operations, "", "Operations, timers and watches alive."),
    WHORL_METRIC(operations_high, "", "Most operations, timers and watches alive so far."),
    WHORL_METRIC(handles, "", "Open sockets and listeners."),
    WHORL_METRIC(handles_high, "", "Most open sockets and listeners so far."),
    WHORL_METRIC(posts_high, "", "Most posts waiting so far."),
    WHORL_METRIC(works_high, "", "Most blocking works alive so far."),
    WHORL_METRIC(buffers_out, "", "Buffers of the pool that are in use."),
    WHORL_METRIC(buffers_out_high, "", "Most buffers of the pool in use so far."),
    WHORL_METRIC(completions_batch_high, "", "Most records collected in one turn so far."),
    WHORL_METRIC(buffer_bytes_mapped, "", "Bytes that the buffer pool has mapped."),
    WHORL_METRIC(buffer_bytes_registered, "", "Bytes of the pool registered with the ring."),
    WHORL_METRIC(registrations_refused, "_total", "Mappings of the pool refused registration."),
    WHORL_METRIC(transfers_registered, "_total", "File transfers from registered memory."),
};

#undef WHORL_METRIC

}  // namespace

void detail::print_statistics(PrometheusText& text, const StatisticsOf& statistics,
                              const std::string_view* labels, std::size_t count) noexcept {
    for (const Metric& metric : metrics) {
        text.head(metric.name, metric.help);
        for (std::size_t index = 0; index < count; ++index) {
            text.sample(metric.name, labels[index], {});
            text.add(metric.value(statistics.at(index)));
            text.add("\n");
        }
    }
}

std::size_t print_prometheus(const Statistics* statistics, const std::string_view* labels,
                             std::size_t count, char* out, std::size_t size) noexcept {
    PrometheusText text(out, size);
    detail::print_statistics(text, {statistics, sizeof(Statistics)}, labels, count);
    return text.length();
}

std::size_t prometheus_label(std::string_view name, std::string_view value, char* out,
                             std::size_t size) noexcept {
    WHORL_ASSERT(!name.empty());
    PrometheusText text(out, size);
    text.add(name);
    text.add("=\"");
    for (const char& letter : value) {
        if (letter == '\n') text.add("\\n");
        else if (letter == '"') text.add("\\\"");
        else if (letter == '\\') text.add("\\\\");
        else text.add(std::string_view(&letter, 1));
    }
    text.add("\"");
    return text.length();
}

}  // namespace whorl
