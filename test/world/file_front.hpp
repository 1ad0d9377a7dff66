// SPDX-License-Identifier: MIT
#pragma once

#include "backend/file_calls.hpp"
#include "backend/sim_kernel.hpp"
#include "conformance/os.hpp"
#include "conformance/os_files.hpp"

#include <gtest/gtest.h>
#include <whorl/whorl.hpp>

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

// Somebody who stands in front of a world's files: the calls of a loop are counted, and one of them is
// refused, or something happens just before it. So a program is run again for each call that it makes.

namespace whorl {

inline void PrintTo(Error error, std::ostream* out) { *out << error.name(); }

namespace world_files {

namespace os = conformance::os;
using namespace std::chrono_literals;

// Called before the chosen call; answers 0 for going on with it, or a negated errno value.
using Act = std::function<int(const char* call)>;

class FrontFileCalls final : public detail::FileCalls {
  public:
    explicit FrontFileCalls(std::unique_ptr<detail::FileCalls> files) : files_(std::move(files)) {}

    // From now on: before the `number`-th call, from 1, and before those that follow it when `on` is set.
    void arm(std::uint32_t number, Act act, bool on = false) {
        seen_ = 0;
        number_ = number;
        on_ = on;
        act_ = std::move(act);
        acted_ = false;
        armed_ = true;
    }
    // The test's own calls are none of the program's.
    void disarm() { armed_ = false; }
    bool acted() const { return acted_; }
    // What `deed` does is the test's, and none of the program's.
    template <class Deed>
    void aside(Deed deed) {
        const bool armed = std::exchange(armed_, false);
        deed();
        armed_ = armed;
    }
    // What the file system tells of types, as some do: nothing.
    bool hides_types = false;
    // Where what the test writes is read as inotify's events. Watches are numbered from 1 on.
    int notices = -1;

    int openat2(int directory, const char* path, const detail::OpenHow& how) noexcept override {
        const int error = ask("openat2");
        return error != 0 ? error : files_->openat2(directory, path, how);
    }
    ssize_t preadv(int fd, const iovec* parts, int count, std::uint64_t offset) noexcept override {
        const int error = ask("preadv");
        return error != 0 ? error : files_->preadv(fd, parts, count, offset);
    }
    ssize_t pwritev2(int fd, const iovec* parts, int count, std::uint64_t offset,
                     int flags) noexcept override {
        const int error = ask("pwritev2");
        return error != 0 ? error : files_->pwritev2(fd, parts, count, offset, flags);
    }
    int fsync(int fd, bool data_only) noexcept override {
        const int error = ask("fsync");
        return error != 0 ? error : files_->fsync(fd, data_only);
    }
    int sync_file_range(int fd, std::uint64_t offset, std::uint64_t length,
                        unsigned flags) noexcept override {
        return files_->sync_file_range(fd, offset, length, flags);
    }
    int ftruncate(int fd, std::uint64_t size) noexcept override {
        return files_->ftruncate(fd, size);
    }
    int fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t length) noexcept override {
        return files_->fallocate(fd, mode, offset, length);
    }
    int fadvise(int fd, std::uint64_t offset, std::uint64_t length, int advice) noexcept override {
        return files_->fadvise(fd, offset, length, advice);
    }
    int statx(int directory, const char* path, int flags, unsigned mask,
              struct statx& status) noexcept override {
        const int error = ask("statx");
        return error != 0 ? error : files_->statx(directory, path, flags, mask, status);
    }
    int renameat2(int directory, const char* from, const char* to,
                  unsigned flags) noexcept override {
        const int error = ask("renameat2");
        return error != 0 ? error : files_->renameat2(directory, from, to, flags);
    }
    int linkat(int directory, const char* from, const char* to) noexcept override {
        return files_->linkat(directory, from, to);
    }
    int symlinkat(const char* text, int directory, const char* path) noexcept override {
        return files_->symlinkat(text, directory, path);
    }
    int unlinkat(int directory, const char* path, int flags) noexcept override {
        const int error = ask("unlinkat");
        return error != 0 ? error : files_->unlinkat(directory, path, flags);
    }
    int mkdirat(int directory, const char* path, unsigned mode) noexcept override {
        return files_->mkdirat(directory, path, mode);
    }
    ssize_t readlinkat(int directory, const char* path, char* text,
                       std::size_t size) noexcept override {
        return files_->readlinkat(directory, path, text, size);
    }
    ssize_t getdents64(int fd, void* entries, std::size_t size) noexcept override {
        const int error = ask("getdents64");
        if (error != 0) return error;
        const ssize_t got = files_->getdents64(fd, entries, size);
        if (hides_types && got > 0) hide_types(static_cast<char*>(entries), got);
        return got;
    }
    // The library asks it of a file that it has opened, and needs no answer.
    std::int64_t lseek(int fd, std::int64_t offset, int whence) noexcept override {
        return files_->lseek(fd, offset, whence);
    }
    int inotify_init1(int flags) noexcept override {
        const int error = ask("inotify_init1");
        if (error != 0) return error;
        return notices >= 0 ? notices : files_->inotify_init1(flags);
    }
    int inotify_add_watch(int fd, const char* path, std::uint32_t mask) noexcept override {
        const int error = ask("inotify_add_watch");
        if (error != 0) return error;
        return notices >= 0 ? ++watches_ : files_->inotify_add_watch(fd, path, mask);
    }
    int inotify_rm_watch(int fd, int number) noexcept override {
        return notices >= 0 ? 0 : files_->inotify_rm_watch(fd, number);
    }

  private:
    int ask(const char* call) noexcept {
        if (!armed_ || ++seen_ < number_ || (seen_ > number_ && !on_)) return 0;
        acted_ = true;
        armed_ = false;  // what is done now is the test's
        const int error = act_(call);
        armed_ = true;
        return error;
    }
    // getdents64(2): a record's length is at 16, its type at 18.
    static void hide_types(char* entries, ssize_t size) noexcept {
        for (ssize_t at = 0; at < size;) {
            std::uint16_t length = 0;
            std::memcpy(&length, entries + at + 16, sizeof length);
            entries[at + 18] = 0;
            at += length;
        }
    }

    std::unique_ptr<detail::FileCalls> files_;
    Act act_;
    std::uint32_t number_ = 0;
    std::uint32_t seen_ = 0;
    int watches_ = 0;
    bool on_ = false;
    bool armed_ = false;
    bool acted_ = false;
};

// A world with such a one, and a directory in it. On the simulator, and on the io_uring driver.
class FileWorld : public ::testing::TestWithParam<Backend> {
  protected:
    void SetUp() override {
        testing::SimulationOptions options;
        options.time_per_call = std::chrono::microseconds(1);
        os::enter_world(options);
        os::world()->file_calls_through([this](std::unique_ptr<detail::FileCalls> files) {
            auto made = std::make_unique<FrontFileCalls>(std::move(files));
            front_ = made.get();
            return made;
        });
        descriptors_before_ = os::open_descriptors();
        directory_ = os::make_directory();
    }
    void TearDown() override {
        front_->disarm();
        os::remove_tree(directory_);
        EXPECT_EQ(os::open_descriptors(), descriptors_before_) << "a descriptor was left open";
        if (HasFailure()) os::print_trace(20);
        os::leave_world();
    }

    template <class Change>
    Loop make_loop(Change change) const {
        LoopOptions options;
        options.world = os::world();
        options.backend = GetParam();
        change(options);
        Result<Loop> made = Loop::create(options);
        if (!made) std::abort();
        return std::move(*made);
    }
    Loop make_loop() const {
        return make_loop([](LoopOptions&) {});
    }
    // The world goes on until `done()`, or the test fails.
    template <class Done>
    static void run_until(Loop& loop, Done done) {
        const Instant end = os::now() + 30s;
        while (!done()) {
            ASSERT_LT(os::now(), end) << "not reached";
            Result<Timer> guard = loop.after(1s, [](Loop&, Expired) {});
            ASSERT_TRUE(guard);
            ASSERT_FALSE(loop.run_once());
            loop.cancel(*guard);
        }
    }
    static void expect_clean(Loop& loop) {
        run_until(loop, [&] { return loop.statistics().operations == 0; });
        EXPECT_EQ(loop.statistics().handles, 0u);
    }

    detail::FileCalls& calls() const { return os::world()->file_calls(); }
    std::string path(const std::string& name) const { return directory_ + "/" + name; }
    void make_dir(const std::string& name) const {
        ASSERT_EQ(calls().mkdirat(AT_FDCWD, path(name).c_str(), 0755), 0) << name;
    }
    void make_link(const std::string& text, const std::string& name) const {
        ASSERT_EQ(calls().symlinkat(text.c_str(), AT_FDCWD, path(name).c_str()), 0) << name;
    }
    void put(const std::string& name, std::string_view text = "x") const {
        os::put_file(path(name), text);
    }
    // False: there is nothing of this name.
    bool move(const std::string& from, const std::string& to) const {
        return calls().renameat2(AT_FDCWD, path(from).c_str(), path(to).c_str(), 0) == 0;
    }

    // `once(number)` for each call on files that it makes from front_->arm(number, …) on, and a last time in
    // which nothing is done.
    template <class Once>
    void sweep(Once once) {
        for (std::uint32_t number = 1;; ++number) {
            ASSERT_LT(number, 1000u) << "it comes to an end";
            SCOPED_TRACE("call " + std::to_string(number));
            once(number);
            if (!front_->acted() || HasFatalFailure()) break;
        }
    }
    // The same with the call refused by each of `errors`.
    template <class Errors, class Once>
    void sweep_errors(const Errors& errors, Once once) {
        for (const int error : errors) {
            SCOPED_TRACE(Error::from_errno(error).name());
            sweep([&](std::uint32_t number) {
                const auto act = [this, error](const char* call) {
                    refused_ = call;
                    return -error;
                };
                refused_.clear();
                once(error, number, Act(act));
            });
        }
    }

    FrontFileCalls* front_ = nullptr;
    std::string directory_;
    std::string refused_;  // the call that was

  private:
    std::set<int> descriptors_before_;
};

inline std::string backend_of(const ::testing::TestParamInfo<Backend>& info) {
    return info.param == Backend::simulator ? "simulator" : "simulated_ring";
}
#define WHORL_FILE_WORLD(Fixture)                                                      \
    INSTANTIATE_TEST_SUITE_P(all, Fixture,                                             \
                             ::testing::Values(Backend::simulator, Backend::io_uring), \
                             ::whorl::world_files::backend_of)

}  // namespace world_files
}  // namespace whorl
