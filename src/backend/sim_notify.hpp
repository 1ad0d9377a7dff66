// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/sim_file.hpp"

#include <cerrno>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

// inotify(7) of a simulated kernel: what happens to the nodes of its disk is told to those who watch
// them, in the order and with the masks of Linux. Opening and reading are not told of; nothing is ever
// unmounted.

namespace whorl::detail {

struct SimNode;
class SimNotify;

// All who watch a disk.
class SimNotices {
  public:
    void add(const std::shared_ptr<SimNotify>& notify) { all_.push_back(notify); }
    bool empty() const noexcept { return all_.empty(); }
    void tell(const SimNode* node, std::uint32_t mask, std::string_view name = {},
              std::uint32_t cookie = 0);
    // Nodes that nobody names any more: their watches end.
    void sweep();
    std::uint32_t cookie() noexcept { return ++cookies_; }
    std::size_t watches() const;

    std::size_t watches_max = 8192;  // fs.inotify.max_user_watches
    std::size_t queued_max = 16384;  // fs.inotify.max_queued_events

  private:
    std::vector<std::weak_ptr<SimNotify>> all_;
    std::uint32_t cookies_ = 0;
};

// What inotify_init1(2) makes.
class SimNotify final : public SimFile {
  public:
    SimNotify(SimKernel& kernel, SimNotices& notices) noexcept
        : SimFile(kernel), notices_(notices) {}

    const char* name() const noexcept override { return "inotify"; }
    unsigned poll_bits() const noexcept override { return queue_.empty() ? 0 : POLLIN; }
    ssize_t read(void* data, std::size_t size, int flags) override;
    ssize_t write(const void*, std::size_t, int) override { return -EBADF; }

    int add(const std::shared_ptr<SimNode>& node, std::uint32_t mask);
    int remove(int number);
    void tell(const SimNode* node, std::uint32_t mask, std::string_view name, std::uint32_t cookie);
    void sweep();
    std::size_t watches() const noexcept { return watches_.size(); }

  private:
    struct Watched {
        std::weak_ptr<SimNode> node;
        const SimNode* address;
        std::uint32_t mask;
    };
    struct Event {
        int number;
        std::uint32_t mask;
        std::uint32_t cookie;
        std::string name;
    };
    void queue(Event event);

    SimNotices& notices_;
    std::map<int, Watched> watches_;
    std::deque<Event> queue_;
    int numbers_ = 0;
};

}  // namespace whorl::detail
