// SPDX-License-Identifier: MIT
// Goal: the simulated kernel's files, directories and names answer and refuse as those of Linux do.
// Method: the same calls to the machine's file system and to a simulated disk, in a directory of the
// test's own, and by a user who is not root.
#include "conformance/os_files.hpp"
#include "unit/kernel_pair.hpp"

#include <linux/falloc.h>
#include <linux/openat2.h>
#include <sys/fsuid.h>
#include <sys/inotify.h>

#include <climits>

namespace whorl::kernel_pair {
namespace {

// An empty directory, and calls with paths in it.
class Place {
  public:
    explicit Place(Notes& notes) : notes_(notes), files(notes.files) {
        path_ = os::make_directory();
        fd = notes.made("open", os_open(path_, O_RDONLY | O_DIRECTORY));
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() { os::remove_tree(path_); }

    std::string path(const std::string& name) const { return path_ + "/" + name; }
    int os_open(const std::string& name, int flags) {
        return files.openat2(AT_FDCWD, name.c_str(),
                             {static_cast<std::uint64_t>(flags | O_CLOEXEC), 0, 0});
    }
    int open(const std::string& name, int flags, unsigned mode = 0, std::uint64_t resolve = 0) {
        return notes_.made(
            "open " + name,
            files.openat2(fd, name.c_str(),
                          {static_cast<std::uint64_t>(flags | O_CLOEXEC), mode, resolve}));
    }
    void put(const std::string& name, std::string_view text) { os::put_file(path(name), text); }
    void mkdir(const std::string& name, unsigned mode = 0755) {
        notes_.tell("mkdir " + name, files.mkdirat(fd, name.c_str(), mode));
    }
    void symlink(const std::string& text, const std::string& name) {
        notes_.tell("symlink " + name, files.symlinkat(text.c_str(), fd, name.c_str()));
    }
    void rename(const std::string& from, const std::string& to, unsigned flags = 0) {
        notes_.tell("rename " + from + " to " + to,
                    files.renameat2(fd, from.c_str(), to.c_str(), flags));
    }
    void link(const std::string& from, const std::string& to) {
        notes_.tell("link " + from + " to " + to, files.linkat(fd, from.c_str(), to.c_str()));
    }
    void unlink(const std::string& name, int flags = 0) {
        notes_.tell("unlink " + name, files.unlinkat(fd, name.c_str(), flags));
    }
    // What statx(2) tells that does not depend on the file system.
    void stat(const std::string& name, int flags = 0) {
        struct statx status {};
        const int answer = files.statx(fd, name.c_str(), flags, STATX_BASIC_STATS, status);
        if (notes_.tell("stat '" + name + "'", answer) < 0) return;
        const bool directory = S_ISDIR(status.stx_mode);
        notes_.tell("mode", status.stx_mode);
        if (!directory) notes_.tell("size", static_cast<std::int64_t>(status.stx_size));
        if (!directory) notes_.tell("links", status.stx_nlink);
    }
    void readlink(const std::string& name, std::size_t room = 64) {
        char text[64] = {};
        const ssize_t size = files.readlinkat(fd, name.c_str(), text, room);
        notes_.tell("readlink " + name, size);
        notes_.text("text", std::string_view(text, size < 0 ? 0 : static_cast<std::size_t>(size)));
    }

    int fd = -1;

  private:
    Notes& notes_;

  public:
    detail::FileCalls& files;

  private:
    std::string path_;
};

// Root may do everything; nobody may not. For this thread only, as long as this lives.
class Nobody {
  public:
    Nobody() : user_(static_cast<uid_t>(setfsuid(static_cast<uid_t>(-1)))) {
        if (user_ == 0) setfsuid(65534);
    }
    Nobody(const Nobody&) = delete;
    Nobody& operator=(const Nobody&) = delete;
    ~Nobody() { setfsuid(user_); }

  private:
    uid_t user_;
};

// Every call on an open file, to a descriptor that may be none.
void all_calls(Notes& notes, int fd) {
    detail::FileCalls& files = notes.files;
    char byte = 'x';
    alignas(8) char entries[256];
    const iovec part{&byte, 1}, none{&byte, 0};
    struct statx status {};
    notes.tell("preadv", files.preadv(fd, &part, 1, 0));
    notes.tell("preadv nothing", files.preadv(fd, &none, 1, 0));
    notes.tell("pwritev2", files.pwritev2(fd, &part, 1, 0, 0));
    notes.tell("pwritev2 nothing", files.pwritev2(fd, &none, 1, 0, 0));
    notes.tell("fsync", files.fsync(fd, false));
    notes.tell("fdatasync", files.fsync(fd, true));
    notes.tell("sync_file_range", files.sync_file_range(fd, 0, 0, 0));
    notes.tell("ftruncate", files.ftruncate(fd, 0));
    notes.tell("fallocate", files.fallocate(fd, 0, 0, 100));
    notes.tell("fadvise", files.fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
    notes.tell("fadvise of no kind", files.fadvise(fd, 0, 0, 99));
    notes.tell("lseek", files.lseek(fd, 0, SEEK_SET));
    notes.tell("statx below", files.statx(fd, "name", 0, STATX_BASIC_STATS, status));
    notes.tell("inotify_add_watch", files.inotify_add_watch(fd, "/tmp", IN_CREATE));
    notes.tell("inotify_rm_watch", files.inotify_rm_watch(fd, 1));
    notes.made("open below", files.openat2(fd, "name", {O_RDONLY | O_CLOEXEC, 0, 0}));
    notes.tell("read", notes.system.read(fd, &byte, 1));
    notes.tell("write", notes.system.write_quietly(fd, &byte, 1));
    notes.tell("getdents64", std::min<ssize_t>(files.getdents64(fd, entries, sizeof entries), 0));
}

TEST(KernelFiles, calls_on_every_kind_of_descriptor) {
    compare([](Notes& notes) {
        Place place(notes);
        all_calls(notes, -1);
        all_calls(notes, 12345);
        place.put("file", "0123456789");
        place.mkdir("folder");
        place.symlink("file", "link");
        all_calls(notes, place.open("file", O_RDONLY));
        all_calls(notes, place.open("file", O_WRONLY));
        all_calls(notes, place.open("file", O_RDWR));
        all_calls(notes, place.open("file", O_PATH));
        all_calls(notes, place.open("link", O_PATH | O_NOFOLLOW));
        all_calls(notes, place.open("folder", O_PATH));
        all_calls(notes, place.open("folder", O_RDONLY));
        int fds[2] = {-1, -1};
        notes.tell("pipe2", notes.system.pipe2(fds, O_NONBLOCK | O_CLOEXEC));
        all_calls(notes, notes.made("reader", fds[0]));
        all_calls(notes, notes.made("writer", fds[1]));
        notes.tell("pair", notes.system.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
        all_calls(notes, notes.made("first", fds[0]));
        notes.made("second", fds[1]);
    });
}

TEST(KernelFiles, opening) {
    compare([](Notes& notes) {
        Place place(notes);
        place.put("file", "0123456789");
        place.mkdir("folder");
        place.symlink("file", "link");
        place.symlink("nothing", "broken");
        place.symlink("made", "maker");
        place.symlink("round", "round");
        place.symlink("folder/", "slashed");
        place.symlink("/", "root");
        place.open("", O_RDONLY);
        place.open(std::string(256, 'n'), O_RDONLY);
        place.open(std::string(4096, 'n'), O_RDONLY);
        place.open("nothing", O_RDONLY);
        place.open("nothing/deeper", O_RDONLY);
        place.open("nothing/", O_CREAT | O_WRONLY, 0644);
        place.open("file/", O_RDONLY);
        place.open("file/deeper", O_RDONLY);
        place.open("file", O_RDONLY, 0644);
        place.open("file", O_RDONLY | O_DIRECTORY);
        place.open("file", O_CREAT | O_EXCL | O_WRONLY, 0644);
        place.open("link", O_CREAT | O_EXCL | O_WRONLY, 0644);
        place.open("broken", O_CREAT | O_EXCL | O_WRONLY, 0644);
        place.open("broken", O_RDONLY);
        place.open("maker", O_CREAT | O_WRONLY, 0600);
        place.stat("made");
        place.open("link", O_RDONLY | O_NOFOLLOW);
        place.open("link", O_PATH | O_NOFOLLOW | O_DIRECTORY);
        place.open("link/", O_RDONLY);
        place.open("round", O_RDONLY);
        place.open("slashed", O_RDONLY);
        place.open("slashed", O_RDONLY | O_NOFOLLOW);
        place.open("slashed/", O_RDONLY | O_NOFOLLOW);
        place.open("folder", O_WRONLY);
        place.open("folder", O_RDONLY | O_CREAT, 0644);
        place.open("folder", O_RDWR | O_TRUNC);
        place.open("folder", O_RDONLY | O_TRUNC);
        place.open("file", O_RDONLY | O_TRUNC | O_NOFOLLOW);
        place.stat("file");
        place.put("file", "0123456789");
        place.open("/", O_RDONLY | O_DIRECTORY);
        place.open("folder/../../../../../../../../../../..", O_RDONLY);
        place.open("root", O_RDONLY);
        place.open("root/tmp", O_RDONLY);
        place.open("folder/.", O_RDONLY);
        place.open("folder/..", O_RDONLY);
        place.open("folder/../file", O_RDONLY);
        place.open("folder/new", O_CREAT | O_RDONLY | O_DIRECTORY, 0644);
        place.open("file", O_TMPFILE | O_RDWR, 0600);
        place.open("nothing", O_TMPFILE | O_RDWR, 0600);
        place.open("file", O_WRONLY | O_TRUNC);
        place.stat("file");
    });
}

TEST(KernelFiles, resolving_within_bounds) {
    compare([](Notes& notes) {
        Place place(notes);
        place.put("file", "0123456789");
        place.mkdir("folder");
        place.symlink("folder", "link");
        place.symlink("/tmp", "outside");
        place.symlink("../file", "folder/up");
        place.symlink("../../", "folder/out");
        for (const std::uint64_t resolve : {RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS}) {
            place.open("file", O_RDONLY, 0, resolve);
            place.open("link", O_RDONLY, 0, resolve);
            place.open("outside", O_RDONLY, 0, resolve);
            place.open("folder/up", O_RDONLY, 0, resolve);
            place.open("folder/out", O_RDONLY, 0, resolve);
            place.open("folder/..", O_RDONLY, 0, resolve);
            place.open("..", O_RDONLY, 0, resolve);
            place.open("folder/../..", O_RDONLY, 0, resolve);
            place.open("/tmp", O_RDONLY, 0, resolve);
            place.open(".", O_RDONLY, 0, resolve);
        }
    });
}

TEST(KernelFiles, permissions_of_one_who_is_not_root) {
    const Nobody nobody;
    compare([](Notes& notes) {
        Place place(notes);
        place.mkdir("closed");
        notes.made("within", notes.files.openat2(place.fd, "closed/file",
                                                 {O_CREAT | O_WRONLY | O_CLOEXEC, 0644, 0}));
        place.open("secret", O_CREAT | O_WRONLY, 0000);
        place.open("secret", O_RDONLY);
        place.open("secret", O_WRONLY);
        place.open("fixed", O_CREAT | O_WRONLY, 0400);
        place.open("fixed", O_RDONLY);
        place.open("fixed", O_WRONLY);
        place.open("fixed", O_RDWR);
        place.open("fixed", O_RDONLY | O_TRUNC);
        place.open("letter box", O_CREAT | O_WRONLY, 0200);
        place.open("letter box", O_RDONLY);
        place.open("letter box", O_WRONLY);
        place.open("letter box", O_PATH);
        place.mkdir("sealed", 0500);
        place.open("sealed/new", O_CREAT | O_WRONLY, 0644);
        place.mkdir("sealed/new");
        place.symlink("x", "sealed/new");
        place.put("file", "x");
        place.link("file", "sealed/file");
        place.rename("file", "sealed/file");
        place.mkdir("shut", 0600);
        place.open("shut/new", O_RDONLY);
        place.mkdir("blind", 0300);
        place.open("blind", O_RDONLY | O_DIRECTORY);
        place.open("blind/new", O_CREAT | O_WRONLY, 0644);
        const int watch = notes.made("inotify", notes.files.inotify_init1(IN_NONBLOCK));
        const std::string blind = place.path("blind");
        notes.tell("watch", notes.files.inotify_add_watch(watch, blind.c_str(), IN_CREATE));
        place.unlink("blind/new");
        place.unlink("blind", AT_REMOVEDIR);
        place.unlink("secret");
    });
}

TEST(KernelFiles, renaming_and_linking) {
    compare([](Notes& notes) {
        Place place(notes);
        place.put("file", "file");
        place.put("other", "other one");
        place.mkdir("folder");
        place.mkdir("folder/inner");
        place.mkdir("empty");
        place.symlink("file", "link");
        place.rename("nothing", "new");
        place.rename("file", "nothing/new");
        place.rename("file", "folder");
        place.rename("folder", "file");
        place.rename("folder", "folder/inner/below");
        place.rename("folder/inner", "folder");
        place.rename("empty", "folder");
        place.rename("file", "new/");
        place.rename("file/", "new");
        place.rename(".", "new");
        place.rename("file", ".");
        place.rename("file", "folder/inner/");
        place.rename("folder/..", "new");
        place.rename("file", "other", RENAME_NOREPLACE);
        place.rename("file", "nothing", RENAME_EXCHANGE);
        place.rename("file", "other", RENAME_EXCHANGE);
        place.stat("file");
        place.rename("file", "folder", RENAME_EXCHANGE);
        place.stat("folder");
        place.rename("file", "folder", RENAME_EXCHANGE);
        place.rename("file", "other", RENAME_EXCHANGE | RENAME_NOREPLACE);
        place.rename("file", "other", 1u << 20);
        place.link("file", "second");
        place.rename("file", "second");
        place.stat("file");
        place.stat("second");
        place.rename("empty", "folder/inner");
        place.rename("folder/inner", "moved");
        place.stat("empty");
        place.rename("link", "elsewhere");
        place.readlink("elsewhere");
        place.link("nothing", "third");
        place.link("file", "other");
        place.link("folder", "third");
        place.link("file", "third/");
        place.link("file", "nothing/third");
        place.link("elsewhere", "third");
        place.stat("third", AT_SYMLINK_NOFOLLOW);
        place.link("file", ".");
        place.symlink("x", ".");
        place.rename("second", "file/");
        place.rename("folder", "made/");
        place.stat("made");
    });
}

TEST(KernelFiles, making_and_removing) {
    compare([](Notes& notes) {
        Place place(notes);
        place.put("file", "file");
        place.mkdir("folder//");
        place.mkdir("folder");
        place.mkdir("file");
        place.mkdir("nothing/new");
        place.mkdir("file/new");
        place.mkdir(".");
        place.mkdir("/");
        place.mkdir("");
        place.symlink("file", "link");
        place.symlink("file", "file");
        place.symlink("", "empty");
        place.symlink("file", "new/");
        place.symlink("file", "");
        place.readlink("link");
        place.readlink("link", 2);
        place.readlink("file");
        place.readlink("nothing");
        place.readlink("nothing/deeper");
        place.readlink("/proc/self/fd/12345");
        place.unlink("nothing");
        place.unlink("folder");
        place.unlink("file", AT_REMOVEDIR);
        place.unlink("file/");
        place.unlink("link/");
        place.unlink(".");
        place.unlink(".", AT_REMOVEDIR);
        place.unlink("folder/..", AT_REMOVEDIR);
        place.unlink("");
        place.mkdir("folder/inner");
        place.unlink("folder", AT_REMOVEDIR);
        const int inner = place.open("folder/inner", O_RDONLY | O_DIRECTORY);
        place.unlink("folder/inner/", AT_REMOVEDIR);
        alignas(8) char entries[256];
        notes.tell("list what is gone", notes.files.getdents64(inner, entries, sizeof entries));
        notes.made("make in what is gone",
                   notes.files.openat2(inner, "new", {O_CREAT | O_WRONLY | O_CLOEXEC, 0644, 0}));
        notes.tell("mkdir in it", notes.files.mkdirat(inner, "new", 0755));
        notes.tell("symlink in it", notes.files.symlinkat("x", inner, "new"));
        place.stat("", 0);
        place.stat("", AT_EMPTY_PATH);
        place.stat("nothing");
        place.stat("link", AT_SYMLINK_NOFOLLOW);
        place.stat("link");
        place.stat("file/");
        place.stat(".");
        const int only = place.open("file", O_RDONLY);
        place.unlink("file");
        struct statx status {};
        notes.tell("stat what is gone",
                   notes.files.statx(only, "", AT_EMPTY_PATH, STATX_BASIC_STATS, status));
        notes.tell("links", status.stx_nlink);
        place.stat("link");
    });
}

TEST(KernelFiles, listing_in_small_pieces) {
    compare([](Notes& notes) {
        Place place(notes);
        place.mkdir("folder");
        place.put("folder/a", "");
        place.put("folder/b", "");
        const int fd = place.open("folder", O_RDONLY | O_DIRECTORY);
        alignas(8) char entries[256];
        notes.tell("no room", notes.files.getdents64(fd, entries, 8));
        // The order of entries is the file system's own; how many there are is not.
        int count = 0;
        for (int step = 0; step < 10; ++step) {
            const ssize_t got = notes.files.getdents64(fd, entries, 24);
            if (got <= 0) break;
            notes.tell("piece", got);
            ++count;
        }
        notes.tell("pieces", count);
        notes.tell("the end", notes.files.getdents64(fd, entries, sizeof entries));
        notes.tell("again", notes.files.lseek(fd, 0, SEEK_SET));
        notes.tell("all", notes.files.getdents64(fd, entries, sizeof entries));
    });
}

TEST(KernelFiles, positions_and_sizes) {
    compare([](Notes& notes) {
        Place place(notes);
        place.put("file", "0123456789");
        const int fd = place.open("file", O_RDWR);
        detail::FileCalls& files = notes.files;
        char bytes[16] = {};
        notes.tell("seek", files.lseek(fd, 4, SEEK_SET));
        notes.tell("on", files.lseek(fd, 2, SEEK_CUR));
        notes.tell("back", files.lseek(fd, -20, SEEK_CUR));
        notes.tell("to the end", files.lseek(fd, 0, SEEK_END));
        notes.tell("beyond", files.lseek(fd, 5, SEEK_END));
        notes.tell("read there", notes.system.read(fd, bytes, 4));
        notes.tell("before the start", files.lseek(fd, -11, SEEK_END));
        notes.tell("no way", files.lseek(fd, 0, 99));
        notes.tell("write", notes.system.write(fd, "x", 1));
        place.stat("file");
        notes.tell("write nothing", notes.system.write(fd, "x", 0));
        notes.tell("truncate", files.ftruncate(fd, 3));
        notes.tell("extend", files.ftruncate(fd, 5000));
        const iovec parts[] = {{bytes, 2}, {bytes + 2, 0}, {bytes + 2, 8}};
        notes.tell("read in parts", files.preadv(fd, parts, 3, 2));
        notes.text("what", std::string_view(bytes, 2));
        notes.tell("read at the end", files.preadv(fd, parts, 3, 4995));
        notes.tell("read beyond", files.preadv(fd, parts, 3, 6000));
        notes.tell("write in parts", files.pwritev2(fd, parts, 3, 10, 0));
        notes.tell("append", files.pwritev2(fd, parts, 1, 0, RWF_APPEND));
        place.stat("file");
        const int end = place.open("file", O_WRONLY | O_APPEND);
        notes.tell("write at the end", notes.system.write(end, "yz", 2));
        notes.tell("wherever", files.pwritev2(end, parts, 1, 0, 0));
        place.stat("file");
        notes.tell("range flags", files.sync_file_range(fd, 0, 10, 1u << 10));
        notes.tell("allocate nothing", files.fallocate(fd, 0, 0, 0));
        notes.tell("allocate", files.fallocate(fd, 0, 0, 9000));
        notes.tell("allocate beyond", files.fallocate(fd, FALLOC_FL_KEEP_SIZE, 9000, 100));
        place.stat("file");
        notes.tell("hole without care", files.fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
        notes.tell("hole", files.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 4));
        notes.tell("both", files.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE, 2, 4));
        notes.tell("of no kind", files.fallocate(fd, 1 << 20, 0, 10));
        notes.tell("read it", files.preadv(fd, parts, 3, 0));
        notes.text("what", std::string_view(bytes, 10));
    });
}

TEST(KernelFiles, watching) {
    compare([](Notes& notes) {
        Place place(notes);
        detail::FileCalls& files = notes.files;
        place.put("file", "0123456789");
        place.symlink("file", "link");
        place.mkdir("folder");
        const int watch = notes.made("inotify", files.inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
        const auto add = [&](const std::string& name, std::uint32_t mask) {
            return static_cast<int>(notes.tell(
                "watch " + name, files.inotify_add_watch(watch, place.path(name).c_str(), mask)));
        };
        alignas(8) char events[512];
        add("nothing", IN_CREATE);
        add("file", IN_ONLYDIR | IN_CREATE);
        add("file", 0);
        add("", IN_CREATE);
        add("link", IN_DONT_FOLLOW | IN_ATTRIB);
        const int file = add("file", IN_MODIFY);
        add("link", IN_CLOSE_WRITE | IN_MASK_ADD);
        const int folder = add("folder", IN_CREATE | IN_DELETE);
        notes.tell("nothing yet", notes.system.read(watch, events, sizeof events));
        place.put("folder/new", "text");
        notes.tell("no room", notes.system.read(watch, events, 8));
        notes.tell("no room for a name", notes.system.read(watch, events, 20));
        notes.tell("created", notes.system.read(watch, events, sizeof events));
        place.put("file", "text");
        notes.tell("modified and closed", notes.system.read(watch, events, sizeof events));
        place.unlink("folder/new");
        place.put("file", "text");
        notes.tell("the first only", notes.system.read(watch, events, 40));
        notes.tell("the others", notes.system.read(watch, events, sizeof events));
        notes.tell("forget", files.inotify_rm_watch(watch, file));
        notes.tell("twice", files.inotify_rm_watch(watch, file));
        notes.tell("of none", files.inotify_rm_watch(watch, 99));
        notes.tell("says so", notes.system.read(watch, events, sizeof events));
        notes.tell("write", notes.system.write(watch, events, 1));
        notes.tell("forget", files.inotify_rm_watch(watch, folder));
    });
}

}  // namespace
}  // namespace whorl::kernel_pair
