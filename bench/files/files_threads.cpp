// SPDX-License-Identifier: MIT
// Files with four threads that call pread, or pwrite and fdatasync; a mutex and a vector each way, and an
// eventfd to wake the loop's thread, which takes all that is done at once.
#include <sys/eventfd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "files.hpp"

namespace {

class Threads {
  public:
    Threads(int fd, std::size_t) : fd_(fd), wake_(eventfd(0, EFD_CLOEXEC)) {}
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;
    ~Threads() { (void)close(wake_); }

    void run(bench::Work& work) {
        std::vector<std::thread> threads;
        for (int count = 0; count != 4; ++count) threads.emplace_back([&] { serve(work); });
        for (std::size_t slot = 0; slot != work.slots() && work.next(slot); ++slot) begin(slot);
        std::vector<Done> taken;
        for (bool last = false; !last;) {
            std::uint64_t count = 0;
            (void)!read(wake_, &count, sizeof count);
            {
                const std::lock_guard<std::mutex> lock(mutex_);
                taken.swap(done_);
            }
            for (const Done& one : taken) {
                if (work.done(one.slot, one.result)) last = true;
                else if (work.next(one.slot)) begin(one.slot);
            }
            taken.clear();
        }
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
        }
        given_.notify_all();
        for (std::thread& thread : threads) thread.join();
    }

  private:
    struct Done {
        std::size_t slot;
        long result;
    };
    void begin(std::size_t slot) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            queue_.push_back(slot);
        }
        given_.notify_one();
    }
    void serve(bench::Work& work) {
        std::unique_lock<std::mutex> lock(mutex_);
        while (true) {
            given_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
            if (queue_.empty()) return;
            const std::size_t slot = queue_.front();
            queue_.pop_front();
            lock.unlock();
            const long result = one(work, slot);
            lock.lock();
            done_.push_back({slot, result});
            if (done_.size() != 1) continue;  // the loop has been woken for the first
            const std::uint64_t count = 1;
            (void)!write(wake_, &count, sizeof count);
        }
    }
    long one(bench::Work& work, std::size_t slot) const {
        std::byte* buffer = work.buffer(slot);
        if (!work.writes()) return pread(fd_, buffer, bench::block_size, work.offset(slot));
        const long result = pwrite(fd_, buffer, bench::block_size, work.offset(slot));
        return fdatasync(fd_) == 0 ? result : -1;
    }
    int fd_;
    int wake_;
    std::mutex mutex_;
    std::condition_variable given_;
    std::deque<std::size_t> queue_;
    std::vector<Done> done_;
    bool stopping_ = false;
};

}  // namespace

int main(int argc, char** argv) { return bench::files_main<Threads>("threads", argc, argv); }
