// SPDX-License-Identifier: MIT
// What was measured, and what is to be thought of it.
#pragma once

#include <whorl/histogram.hpp>
#include <whorl/time.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "plan.hpp"

namespace latency {

// A stretch of the run, by the times at which its messages were due. Latencies are those from the intended
// times.
struct Window {
    double start_s;  // since the warm-up's end
    whorl::Histogram latencies;
};

enum class Verdict : std::uint8_t { stable, unstable, client_bound };
const char* name_of(Verdict verdict);

struct Judgement {
    Verdict verdict = Verdict::stable;
    std::vector<std::string> reasons;  // whole sentences; for a stable run what could not be judged
    std::vector<std::size_t> outliers;  // windows
};

// A value of all windows: its middle and half the width of a 95 % interval, by the windows' spread.
struct Spread {
    double middle = 0;
    double half_width = 0;
    std::size_t windows = 0;
};

struct Outcome {
    explicit Outcome(const Plan& of);

    // A message was answered. `at`: when it was due, since the warm-up's end; before it nothing counts.
    void answer(whorl::Nanoseconds at, whorl::Nanoseconds from_intended,
                whorl::Nanoseconds from_sending);
    // The answer was a refusal, which may be as quick as it likes: it is in no percentile but its own.
    void refusal(whorl::Nanoseconds at, whorl::Nanoseconds from_intended);
    // HTTP: answers with a status of 400 or more.
    std::uint64_t refused() const { return refusals.count(); }
    // More than one in a thousand: what was measured is not what was asked for.
    bool refuses() const;
    // It was due and not answered when the measurement ended; `waited` is the least it can be.
    void unanswered_message(whorl::Nanoseconds at, whorl::Nanoseconds waited, bool was_sent,
                            whorl::Nanoseconds since_sending);
    // It was sent so late although nothing held it.
    void sent_late(whorl::Nanoseconds at, whorl::Nanoseconds by);

    Judgement judge() const;
    Spread spread(double percent) const;
    double rate_answered() const;

    Plan plan;
    whorl::Histogram intended;  // the headline: answered - intended
    whorl::Histogram sent;      // answered - sent
    whorl::Histogram late;      // sent - intended, of messages that nothing held
    whorl::Histogram refusals;  // refused - intended
    std::vector<Window> windows;
    whorl::Nanoseconds window_length{};
    std::uint64_t answered = 0;     // measured, that is after the warm-up
    std::uint64_t unanswered = 0;   // counted with the time they had waited
    std::uint64_t lost = 0;         // datagrams; counted nowhere else
    whorl::Nanoseconds measured{};  // from the warm-up's end to the end of the schedule
    bool interrupted = false;
    bool busy_poll = false;
    double cpu_share = 0;                             // of the client's thread; 0: not known
    std::map<std::uint16_t, std::uint64_t> statuses;  // HTTP: of measured answers
    std::uint64_t reconnects = 0;  // HTTP: connections beyond the first ones, warm-up included
    std::string backend;
    std::string failure;  // why it ended early
};

// Fewer than ten values lie beyond it: one more run may say something else.
bool few_samples(const whorl::Histogram& histogram, double percent);

// Known to 1/2^bits.
whorl::Histogram make_histogram(std::uint32_t bits);

}  // namespace latency
