// SPDX-License-Identifier: MIT
// Files with libuv, which has them done by its pool of four threads.
#include <uv.h>

#include "files.hpp"

namespace {

class Libuv {
  public:
    Libuv(int fd, std::size_t slots) : fd_(fd), requests_(slots) { (void)uv_loop_init(&loop_); }
    Libuv(const Libuv&) = delete;
    Libuv& operator=(const Libuv&) = delete;
    ~Libuv() { (void)uv_loop_close(&loop_); }

    void run(bench::Work& work) {
        work_ = &work;
        for (std::size_t slot = 0; slot != work.slots() && work.next(slot); ++slot) begin(slot);
        (void)uv_run(&loop_, UV_RUN_DEFAULT);
    }

  private:
    void begin(std::size_t slot) {
        uv_fs_t* request = &requests_[slot];
        request->data = this;
        const uv_buf_t piece =
            uv_buf_init(reinterpret_cast<char*>(work_->buffer(slot)), bench::block_size);
        if (work_->writes()) {
            (void)uv_fs_write(&loop_, request, fd_, &piece, 1, work_->offset(slot), on_written);
        } else {
            (void)uv_fs_read(&loop_, request, fd_, &piece, 1, work_->offset(slot), on_done);
        }
    }
    static void on_written(uv_fs_t* request) {
        auto* self = static_cast<Libuv*>(request->data);
        if (request->result != static_cast<ssize_t>(bench::block_size)) return on_done(request);
        uv_fs_req_cleanup(request);
        (void)uv_fs_fdatasync(&self->loop_, request, self->fd_, on_done);
    }
    static void on_done(uv_fs_t* request) {
        auto* self = static_cast<Libuv*>(request->data);
        const auto slot = static_cast<std::size_t>(request - self->requests_.data());
        const long result = self->work_->writes() && request->result == 0
                                ? long{bench::block_size}
                                : static_cast<long>(request->result);
        uv_fs_req_cleanup(request);
        if (!self->work_->done(slot, result) && self->work_->next(slot)) self->begin(slot);
    }
    int fd_;
    uv_loop_t loop_{};
    std::vector<uv_fs_t> requests_;
    bench::Work* work_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) { return bench::files_main<Libuv>("libuv", argc, argv); }
