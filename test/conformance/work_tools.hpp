// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/support.hpp"

#include <dirent.h>

#include <condition_variable>
#include <fstream>
#include <mutex>
#include <string>

// What the tests of blocking work share.

namespace whorl::conformance {

// Holds threads of the pool until it is opened. For the machine's own threads: a world has none.
class Gate {
  public:
    // On a pool thread: says that it has come, and waits.
    void pass() {
        std::unique_lock lock(mutex_);
        ++come_;
        changed_.notify_all();
        changed_.wait(lock, [this] { return open_; });
    }
    void open() {
        const std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void shut() {
        const std::lock_guard lock(mutex_);
        open_ = false;
        come_ = 0;
    }
    void await_come(int count) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return come_ >= count; });
    }
    int come() {
        const std::lock_guard lock(mutex_);
        return come_;
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int come_ = 0;
    bool open_ = false;
};

// Threads of this process that bear the pool's name.
inline int pool_threads() {
    int count = 0;
    DIR* tasks = opendir("/proc/self/task");
    while (const dirent* entry = readdir(tasks)) {
        std::ifstream file(std::string("/proc/self/task/") + entry->d_name + "/comm");
        std::string name;
        if (std::getline(file, name) && name == "whorl-work") ++count;
    }
    closedir(tasks);
    return count;
}

inline void turns(Loop& loop, int count) {
    for (int turn = 0; turn < count; ++turn) ASSERT_FALSE(loop.poll());
}

}  // namespace whorl::conformance
