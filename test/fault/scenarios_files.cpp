// SPDX-License-Identifier: MIT
#include "fault/scenario_tools.hpp"

#include <whorl/file.hpp>
#include <whorl/names.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>

// A file is copied: opened, looked at, read and written in pieces, made durable, and given its name; the
// directory is made durable and listed. Whatever fails, the file that had the name before is whole.

namespace fault {

namespace {

// A folder with the file to be copied and one that its copy is to replace.
class Folder {
  public:
    static constexpr std::size_t size = 50'000;  // three pieces and a bit
    Folder() noexcept {
        const Pause pause;
        if (::mkdtemp(path_) == nullptr) std::abort();
        directory_ = ::open(path_, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (std::size_t at = 0; at < size; ++at) bytes_[at] = static_cast<char>(byte_at(at));
        put("from", bytes_, size);
        put("to", "old", 3);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() {
        const Pause pause;
        for (const char* name : {"from", "to", "new"}) ::unlinkat(directory_, name, 0);
        ::close(directory_);
        ::rmdir(path_);
    }
    std::string_view path() const noexcept { return path_; }
    // Whether the name has all of the new file, or all of the old one.
    bool is_new() noexcept { return holds(size, bytes_); }
    bool is_old() noexcept { return holds(3, "old"); }

  private:
    void put(const char* name, const char* data, std::size_t count) noexcept {
        const int fd = ::openat(directory_, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (::write(fd, data, count) != static_cast<ssize_t>(count)) std::abort();
        ::close(fd);
    }
    bool holds(std::size_t count, const char* data) noexcept {
        const Pause pause;
        static char there[size + 1];
        const int fd = ::openat(directory_, "to", O_RDONLY | O_CLOEXEC);
        const ssize_t got = ::read(fd, there, sizeof there);
        ::close(fd);
        return got == static_cast<ssize_t>(count) && std::memcmp(there, data, count) == 0;
    }
    char path_[32] = "/tmp/whorl-fault-XXXXXX";
    int directory_ = -1;
    static inline char bytes_[size];
};

struct Copy {
    explicit Copy(World& owner) noexcept : world(owner) {}
    World& world;
    Folder folder;
    File directory;
    File source;
    File target;
    std::uint64_t offset = 0;
    int names = 0;

    template <class Then>
    void open(std::string_view path, int flags, File& file, Then then) noexcept {
        const File within = path.front() == '/' ? File() : directory;
        world.submit(OpenFile{path, flags, 0600, 0, within}, [&, then](OpenFile::Done done) {
            if (world.failed("open", done.error)) return;
            file = done.file;
            then();
        });
    }
    void start() noexcept {
        open(folder.path(), O_RDONLY | O_DIRECTORY, directory,
             [this] { open("from", O_RDONLY, source, [this] { look(); }); });
    }
    void look() noexcept {
        world.submit(Stat{"", true, source}, [this](Stat::Done done) {
            if (world.failed("stat", done.error)) return;
            world.check(done.status.size == Folder::size, "a file's size is wrong");
            open("new", O_WRONLY | O_CREAT | O_EXCL, target, [this] { read(); });
        });
    }
    void read() noexcept {
        Buffer piece = world.loop().buffer(16384);
        if (!piece) return static_cast<void>(world.failed("buffer", Error::from_errno(ENOMEM)));
        world.submit(ReadAt{source, std::move(piece), offset}, [this](ReadAt::Done done) {
            if (world.failed("read", done.error)) return;
            if (done.buffer.empty()) sync();
            else write(std::move(done.buffer));
        });
    }
    void write(Buffer piece) noexcept {
        world.check(holds(piece, offset), "what was read is wrong");
        world.submit(WriteAllAt{target, std::move(piece), offset}, [this](WriteAllAt::Done done) {
            if (world.failed("write", done.error)) return;
            offset += done.bytes;
            read();
        });
    }
    void sync() noexcept {
        world.submit(Sync{target}, [this](Sync::Done done) {
            if (!world.failed("sync", done.error)) rename();
        });
    }
    void rename() noexcept {
        world.submit(Rename{"new", "to", Rename::How::replace, directory},
                     [this](Rename::Done done) {
                         if (world.failed("rename", done.error)) return;
                         world.submit(Sync{directory}, [this](Sync::Done synced) {
                             if (!world.failed("sync directory", synced.error)) list();
                         });
                     });
    }
    void list() noexcept {
        Buffer batch = world.loop().buffer(4096);
        if (!batch) return static_cast<void>(world.failed("buffer", Error::from_errno(ENOMEM)));
        world.submit(ListDirectory{directory, std::move(batch)}, [this](ListDirectory::Done done) {
            if (world.failed("list", done.error)) return;
            DirectoryBatch rest(done.buffer);
            for (DirectoryEntry entry; rest.next(entry);) ++names;
            if (!done.buffer.empty()) return list();
            world.check(names == 2 && folder.is_new(), "the copy is not what it should be");
            for (const File file : {directory, source, target}) {
                if (world.failed("close", world.loop().close(file))) return;
            }
            world.finish();
        });
    }
};

}  // namespace

void run_copy(World& world) {
    Copy copy(world);
    play(copy);
    world.check(copy.folder.is_new() || copy.folder.is_old(), "half a file has the name");
}

}  // namespace fault
