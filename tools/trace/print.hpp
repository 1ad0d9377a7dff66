// SPDX-License-Identifier: MIT
// What is shown of recorders.
#pragma once

#include <string>
#include <vector>

#include "dump.hpp"

namespace trace {

// A line for each recorder, each begun by '#', and one for each record.
std::string text_of(const Dumps& dumps, const std::vector<Entry>& entries);
// {"recorders": [...], "records": [...]}
std::string json_of(const Dumps& dumps, const std::vector<Entry>& entries);

// Per loop: what it has done by kind of operation, and the handlers that took longest.
std::string summary_text(const Dumps& dumps, const std::vector<Entry>& entries);
std::string summary_json(const Dumps& dumps, const std::vector<Entry>& entries);

// For chrome://tracing and ui.perfetto.dev (chrome.cpp).
std::string chrome_of(const Dumps& dumps, const std::vector<Entry>& entries);

// "server.cpp:42"; empty for none
std::string place_text(const Entry& entry);
// "recv", "event 30"
std::string event_text(const Entry& entry);
std::string kind_text(const Entry& entry);
void add_json_recorders(std::string& out, const Dumps& dumps);

}  // namespace trace
