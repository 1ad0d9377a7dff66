// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/sim_file.hpp"
#include "backend/sim_notify.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

// The file system of a simulated kernel: one, in memory, empty at first but for its root and /tmp. A
// node lives as long as a name or an open file names it, as in Linux. Permissions are those of a user
// without privilege who owns everything. Times are the world's clock.

namespace whorl::detail {

class SimChoices;
struct SimNode;
using SimNodePtr = std::shared_ptr<SimNode>;

struct SimNode {
    enum class Kind { file, directory, link };
    static constexpr std::size_t page_size = 4096;
    using Page = std::array<char, page_size>;

    Kind kind = Kind::file;
    std::uint64_t number = 0;
    unsigned mode = 0;  // permissions
    std::uint32_t links = 0;
    std::int64_t modified_ns = 0;
    std::uint64_t size = 0;
    std::map<std::uint64_t, std::unique_ptr<Page>> pages;  // what is not there reads as zeros
    std::map<std::string, SimNodePtr> entries;             // of a directory
    std::weak_ptr<SimNode> parent;                         // of a directory
    std::string text;                                      // of a link

    // What a crash may bring back (sim_crash.cpp): the pages as they were when the file was synced last,
    // of those that have changed since; null for one that was not there.
    std::map<std::uint64_t, std::unique_ptr<Page>> before;
    std::uint64_t size_durable = 0;
    void keep(std::uint64_t index);  // before the page changes
    void synced() noexcept;
    void crash(SimChoices& choices);

    void read(std::uint64_t offset, char* data, std::size_t count) const;
    void zero(std::uint64_t offset, std::uint64_t count);  // pages that become empty are given back
    unsigned stat_mode() const noexcept;
};

class SimDisk {
  public:
    static constexpr std::uint64_t file_size_max = std::uint64_t{1} << 44;

    SimDisk();

    // Where a path leads.
    struct Found {
        SimNodePtr parent;             // the directory that has, or would have, the last name
        std::string name;              // empty: the path ends in ".", ".." or is the root
        SimNodePtr node;               // null: there is no such name
        bool wants_directory = false;  // it ends in a slash
        bool upward = false;           // it ends in ".."
    };
    // 0 or a negated errno value. `resolve` has the RESOLVE_ bits of openat2(2).
    int find(const SimNodePtr& start, std::string_view path, bool follow, std::uint64_t resolve,
             Found& found) const;

    // Each 0, or a negated errno value.
    int make(const Found& where, SimNode::Kind kind, unsigned mode, SimNodePtr& made);
    int remove(const Found& where, bool directory);
    int rename(const Found& from, const Found& to, unsigned flags);
    int link(const Found& from, const Found& to);

    // The bytes written, as many as there is space for, or -ENOSPC.
    ssize_t write(SimNode& node, std::uint64_t offset, const char* data, std::size_t count);
    int allocate(SimNode& node, std::uint64_t offset, std::uint64_t count);
    void resize(SimNode& node, std::uint64_t size);

    std::string path_of(const SimNodePtr& node) const;

    bool journaling = false;  // what follows is asked for: set before the first call
    // What the node is now survives a crash (sim_crash.cpp). Nothing may be open when that comes.
    void sync(SimNode& node) noexcept;
    void crash(SimChoices& choices);

    const SimNodePtr& root() const noexcept { return root_; }
    std::uint64_t pages_max = std::uint64_t{1} << 32;  // beyond it ENOSPC
    std::int64_t now_ns = 0;                           // set by who calls

    SimNotices notices;
    // Tells those who watch the file, or its directory, what has happened to its content. `parent` and
    // `name` say where it was found, if it is there still.
    void tell_change(const SimNodePtr& node, std::uint32_t mask, const SimNodePtr& parent,
                     const std::string& name);

  private:
    // One name of a change, and what it stood for before.
    struct Change {
        SimNodePtr directory;
        std::string name;
        SimNodePtr before;
    };
    static constexpr std::size_t journal_max = 1024;  // then the oldest change is written

    void change(const SimNodePtr& directory, const std::string& name, const SimNodePtr& node);
    void change_ends();
    void count_links();
    SimNode::Page* page_for(SimNode& node, std::uint64_t index);
    std::uint64_t pages_in(const SimNodePtr& node) const;
    int replace(const Found& where, bool directory);
    void tell_move(const Found& from, const Found& to, const SimNode& node);

    SimNodePtr root_;
    std::uint64_t numbers_ = 1;
    std::vector<Change> changes_;              // of the call under way
    std::deque<std::vector<Change>> journal_;  // of each call since the last sync of a directory
};

// A file or directory that is open.
class SimOpenFile final : public SimFile {
  public:
    SimOpenFile(SimKernel& kernel, SimDisk& disk, SimNodePtr opened, int opened_flags,
                std::string opened_path) noexcept
        : SimFile(kernel), node(std::move(opened)), flags(opened_flags),
          path(std::move(opened_path)), disk_(disk) {}
    ~SimOpenFile() override;

    const char* name() const noexcept override { return "file"; }
    unsigned poll_bits() const noexcept override { return POLLIN | POLLOUT; }
    int access() const noexcept override { return flags & O_ACCMODE; }
    ssize_t read(void* data, std::size_t size, int message_flags) override;
    ssize_t write(const void* data, std::size_t size, int message_flags) override;

    bool readable() const noexcept;
    bool writable() const noexcept;
    ssize_t read_at(std::uint64_t offset, char* data, std::size_t size) const;
    ssize_t write_at(std::uint64_t offset, const char* data, std::size_t size);
    void found_at(const SimDisk::Found& where);
    void tell_change(std::uint32_t mask) { disk_.tell_change(node, mask, parent_.lock(), name_); }

    SimNodePtr node;
    int flags;  // as given to open
    std::string path;
    std::uint64_t position = 0;  // a directory: how many entries have been told

  private:
    SimDisk& disk_;
    std::weak_ptr<SimNode> parent_;
    std::string name_;
};

}  // namespace whorl::detail
