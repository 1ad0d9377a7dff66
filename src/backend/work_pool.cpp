// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/work_pool.hpp"

#include "backend/sim_kernel.hpp"
#include "backend/work_calls.hpp"

#include <whorl/allocated.hpp>
#include <whorl/hooks.hpp>

#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <new>

// The pool of a real loop: a queue, first in, first out, and threads that take from it.
//
// A job is in one of these places, and only under the mutex:
//   queued     in queue_
//   running    a thread has it
//   done       in done_
//
// Invariants:
//   1. Jobs are claimed and released by the loop's thread.
//   2. The eventfd is written to whenever done_ stops being empty.
//   3. A thread is made when a job finds none idle, as long as there are fewer than allowed. They stay.

namespace whorl::detail {

namespace {

class ThreadPool final : public WorkPool {
  public:
    explicit ThreadPool(const DriverContext& context) noexcept : system_(context.system) {
        threads_max_ = context.options.work_threads;
    }
    ~ThreadPool() override;

    Error open(std::uint32_t jobs_max) noexcept;
    Error submit(OpRecord& record, int fd) noexcept override;
    bool cancel(OpRecord& record) noexcept override;
    bool take(Finished& finished) noexcept override;
    int event_fd() const noexcept override { return event_fd_; }

  private:
    enum class Place : std::uint8_t { queued, running, done };
    struct Job : SlabSlot {  // `link`: the next in its list
        OpRecord* record;
        std::uint32_t previous;
        std::int32_t result;
        int fd;
        Place place;
    };
    struct JobList {
        std::uint32_t head = 0;
        std::uint32_t tail = 0;
    };

    Error thread_start() noexcept;
    static void* thread_body(void* pool) noexcept;
    void serve() noexcept;
    bool serve_one(std::unique_lock<std::mutex>& lock) noexcept;
    void push(JobList& list, Job& job) noexcept;
    void remove(JobList& list, Job& job) noexcept;

    System& system_;
    int event_fd_ = -1;
    std::uint32_t threads_max_;
    pthread_t* threads_ = nullptr;

    std::mutex mutex_;
    std::condition_variable wanted_;
    Slab<Job> jobs_;
    JobList queue_;
    JobList done_;
    std::uint32_t queued_ = 0;
    std::uint32_t idle_ = 0;
    std::uint32_t begun_ = 0;  // threads that have numbered themselves
    std::uint32_t thread_count_ = 0;
    bool ending_ = false;
};

Error ThreadPool::open(std::uint32_t jobs_max) noexcept {
    if (jobs_.reserve(jobs_max)) return Error::from_errno(ENOMEM);
    threads_ = make_array<pthread_t>(threads_max_);
    if (threads_ == nullptr) return Error::from_errno(ENOMEM);
    event_fd_ = system_.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return event_fd_ < 0 ? Error::from_errno(event_fd_) : Error();
}

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard lock(mutex_);
        WHORL_ASSERT(queued_ == 0);
        ending_ = true;
    }
    wanted_.notify_all();
    for (std::uint32_t index = 0; index < thread_count_; ++index) {
        pthread_join(threads_[index], nullptr);
    }
    drop_array(threads_);
    if (event_fd_ >= 0) static_cast<void>(system_.close(event_fd_));
}

void ThreadPool::push(JobList& list, Job& job) noexcept {
    const std::uint32_t index = jobs_.index_of(&job);
    job.link = 0;
    job.previous = list.tail;
    if (list.tail != 0) jobs_.at(list.tail).link = index;
    else list.head = index;
    list.tail = index;
}

void ThreadPool::remove(JobList& list, Job& job) noexcept {
    if (job.previous != 0) jobs_.at(job.previous).link = job.link;
    else list.head = job.link;
    if (job.link != 0) jobs_.at(job.link).previous = job.previous;
    else list.tail = job.previous;
}

Error ThreadPool::submit(OpRecord& record, int fd) noexcept {
    {
        const std::lock_guard lock(mutex_);
        if (queued_ >= idle_ && thread_count_ < threads_max_) {
            const Error refused = thread_start();
            if (refused && thread_count_ == 0) return refused;
        }
        Job* job = jobs_.claim();
        if (job == nullptr) return Error::from_errno(ENOMEM);
        job->record = &record;
        job->fd = fd;
        job->place = Place::queued;
        record.link = jobs_.index_of(job);
        push(queue_, *job);
        ++queued_;
    }
    wanted_.notify_one();
    return {};
}

bool ThreadPool::cancel(OpRecord& record) noexcept {
    const std::lock_guard lock(mutex_);
    Job& job = jobs_.at(record.link);
    WHORL_ASSERT(job.record == &record);
    if (job.place != Place::queued) return false;
    remove(queue_, job);
    --queued_;
    jobs_.release(&job);
    return true;
}

bool ThreadPool::take(Finished& finished) noexcept {
    const std::lock_guard lock(mutex_);
    if (done_.head == 0) return false;
    Job& job = jobs_.at(done_.head);
    remove(done_, job);
    finished = {job.record, job.result};
    jobs_.release(&job);
    return true;
}

// Signals are for the program's own threads, but those that a thread causes itself reach the program's
// handler from here, too: blocked, they would end the process past it. Called with the mutex held.
Error ThreadPool::thread_start() noexcept {
    sigset_t others;
    sigset_t before;
    sigfillset(&others);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) {
        sigdelset(&others, own);
    }
    pthread_sigmask(SIG_SETMASK, &others, &before);
    const int refused = pthread_create(&threads_[thread_count_], nullptr, &thread_body, this);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (refused != 0) return Error::from_errno(refused);
    ++thread_count_;
    return {};
}

void* ThreadPool::thread_body(void* pool) noexcept {
    pthread_setname_np(pthread_self(), "whorl-work");
    static_cast<ThreadPool*>(pool)->serve();
    return nullptr;
}

void ThreadPool::serve() noexcept {
    std::unique_lock lock(mutex_);
    const std::uint32_t index = begun_++;
    lock.unlock();
    thread_begun(ThreadRole::work, index);
    lock.lock();
    while (serve_one(lock)) {
    }
    lock.unlock();
    thread_ended(ThreadRole::work, index);
}

// Waits for a job and does it; false at the pool's end.
bool ThreadPool::serve_one(std::unique_lock<std::mutex>& lock) noexcept {
    ++idle_;
    wanted_.wait(lock, [this] { return queue_.head != 0 || ending_; });
    --idle_;
    if (queue_.head == 0) return false;
    Job& job = jobs_.at(queue_.head);
    remove(queue_, job);
    --queued_;
    job.place = Place::running;
    lock.unlock();
    const std::int32_t result = perform(system_, job.fd, *job.record);
    lock.lock();
    job.result = result;
    job.place = Place::done;
    const bool news = done_.head == 0;
    push(done_, job);
    if (!news) return true;
    // With the mutex held: once the loop has taken the last job, it may close the descriptor.
    eventfd_raise(system_, event_fd_);
    return true;
}

}  // namespace

Result<WorkPool*> make_work_pool(const DriverContext& context) noexcept {
    if (sim_kernel_of(context.options) != nullptr) return make_sim_work_pool(context);
    auto* pool = new (std::nothrow) ThreadPool(context);
    if (pool == nullptr) return Error::from_errno(ENOMEM);
    if (Error error = pool->open(context.options.ops_max)) {
        delete pool;
        return error;
    }
    return static_cast<WorkPool*>(pool);
}

}  // namespace whorl::detail
