// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/run_log_format.hpp"

#include <whorl/bytes.hpp>
#include <whorl/error.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/run_log.hpp>

#include <cstddef>
#include <cstdint>

// Writing and reading the file of a recorded run (run_log_format.hpp).
//
// The file is mapped and made longer a window at a time, with room for what is written before it is
// written: a full disk is an answer of fallocate(2) and no SIGBUS, an entry costs a copy and no system
// call, and what was written stays although the process is killed in the next instruction.

namespace whorl::detail {

// In the order of run_options_names.
void run_options_store(const LoopOptions& options,
                       std::uint64_t (&values)[run_options_count]) noexcept;
void run_options_load(const std::uint64_t (&values)[run_options_count],
                      LoopOptions& options) noexcept;

// Writes entries. An entry is put together first and then written whole, or not at all.
class RunLogWriter {
  public:
    RunLogWriter() = default;
    RunLogWriter(const RunLogWriter&) = delete;
    RunLogWriter& operator=(const RunLogWriter&) = delete;
    ~RunLogWriter();

    // Makes the file, or cuts it to nothing. Errors: those of open(2), flock(2) (EWOULDBLOCK: another loop
    // writes to it) and fallocate(2); invalid_argument, a limit too small for a window.
    Error open(const char* path, std::uint64_t bytes_max) noexcept;

    void begin(RunEntry kind) noexcept;
    void number(std::uint64_t value) noexcept;
    void number_signed(std::int64_t value) noexcept;
    void bytes(const void* data, std::size_t size) noexcept;
    // False: there was no room for it, now or before; why() says which. Nothing more is written then.
    bool commit() noexcept;
    // Writes the mark of the end, for which there is always room, and closes the file. Again: nothing.
    void finish(RunEnd why) noexcept;

    bool is_open() const noexcept { return fd_ >= 0; }
    RunEnd why() const noexcept { return why_; }
    Error error() const noexcept { return error_; }
    std::uint64_t size() const noexcept { return at_; }

  private:
    bool scratch_room(std::size_t size) noexcept;
    bool file_room(std::uint64_t size) noexcept;
    bool put(const void* data, std::size_t size) noexcept;
    bool window_at(std::uint64_t offset) noexcept;
    void put_frame() noexcept;

    int fd_ = -1;
    std::uint64_t bytes_max_ = 0;
    std::uint64_t allocated_ = 0;
    std::uint64_t at_ = 0;
    unsigned char* window_ = nullptr;
    std::uint64_t window_first_ = 0;
    unsigned char* scratch_ = nullptr;
    std::size_t scratch_size_ = 0;
    std::size_t scratch_used_ = 0;
    RunEnd why_ = RunEnd::complete;
    Error error_;
};

// Reads entries, in order. What it reads has been checked against its checksums by open().
class RunLogReader {
  public:
    RunLogReader() = default;
    RunLogReader(const RunLogReader&) = delete;
    RunLogReader& operator=(const RunLogReader&) = delete;
    ~RunLogReader();

    // Errors: those of open(2) and mmap(2); run_log_damaged. `text` says more, in words.
    Error open(const char* path, char* text, std::size_t text_size) noexcept;

    // The next entry's kind; none at the end. It does not move.
    RunEntry peek() const noexcept;
    // Goes to the next entry, whose parts are read then. None: there is none.
    RunEntry next() noexcept;
    std::uint64_t number() noexcept;
    std::int64_t number_signed() noexcept;
    Bytes bytes() noexcept;
    // An entry had other parts than were read: its checksum is right, so it was made wrong.
    bool bad() const noexcept { return bad_; }
    // Where the present entry begins in the file.
    std::uint64_t offset() const noexcept { return entry_; }

    RunEnd end() const noexcept { return end_; }
    std::uint64_t size() const noexcept { return size_; }

  private:
    Error check(char* text, std::size_t text_size) noexcept;
    Error check_frames(char* text, std::size_t text_size) noexcept;
    bool frame_at(std::uint64_t offset, RunLogFrame& frame) const noexcept;

    const unsigned char* data_ = nullptr;
    std::uint64_t size_ = 0;
    std::uint64_t frames_end_ = 0;
    std::uint64_t next_ = 0;
    std::uint64_t entry_ = 0;
    std::uint64_t part_ = 0;
    std::uint64_t part_end_ = 0;
    RunEnd end_ = RunEnd::unfinished;
    bool bad_ = false;
};

}  // namespace whorl::detail
