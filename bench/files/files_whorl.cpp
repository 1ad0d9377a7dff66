// SPDX-License-Identifier: MIT
// Files with whorl.
#include <whorl/file.hpp>

#include "../loop/whorl_case.hpp"
#include "files.hpp"

namespace {

using bench::check;

class Files {
  public:
    Files(int fd, std::size_t slots) : loop_(bench::make_whorl_loop()), slots_(slots) {
        const whorl::Result<whorl::File> file = whorl::adopt_file(loop_, dup(fd));
        check(file.error());
        file_ = *file;
    }
    Files(const Files&) = delete;
    Files& operator=(const Files&) = delete;
    ~Files() { (void)loop_.drain(std::chrono::seconds(5)); }

    void run(bench::Work& work) {
        work_ = &work;
        for (std::size_t slot = 0; slot != work.slots(); ++slot) {
            slots_[slot] = whorl::adopt(work.buffer(slot), bench::block_size, [](void*) {});
            if (work.next(slot)) begin(slot);
        }
        check(loop_.run(whorl::RunUntil::stopped));
    }

  private:
    void begin(std::size_t slot) {
        const auto offset = static_cast<std::uint64_t>(work_->offset(slot));
        if (work_->writes()) {
            whorl::WriteAllAt write{file_, std::move(slots_[slot]), offset};
            check(loop_
                      .submit(std::move(write),
                              [this, slot](whorl::Loop&, whorl::WriteAllAt::Done done) {
                                  written(slot, std::move(done));
                              })
                      .error());
        } else {
            whorl::ReadAt read{file_, std::move(slots_[slot]), offset};
            check(loop_
                      .submit(std::move(read),
                              [this, slot](whorl::Loop&, whorl::ReadAt::Done done) {
                                  check(done.error);
                                  const auto size = static_cast<long>(done.buffer.size());
                                  slots_[slot] = std::move(done.buffer);
                                  finish(slot, size);
                              })
                      .error());
        }
    }
    void written(std::size_t slot, whorl::WriteAllAt::Done done) {
        check(done.error);
        slots_[slot] = std::move(done.buffer);
        whorl::Sync sync{file_, true};
        check(loop_
                  .submit(std::move(sync),
                          [this, slot](whorl::Loop&, whorl::Sync::Done synced) {
                              check(synced.error);
                              finish(slot, bench::block_size);
                          })
                  .error());
    }
    void finish(std::size_t slot, long size) {
        if (work_->done(slot, size)) loop_.stop();
        else if (work_->next(slot)) begin(slot);
    }

    whorl::Loop loop_;
    std::vector<whorl::Buffer> slots_;  // over the work's memory
    whorl::File file_;
    bench::Work* work_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
    bench::take_backend(argc, argv);
    return bench::files_main<Files>(bench::whorl_case.name.c_str(), argc, argv);
}
