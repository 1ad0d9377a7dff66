// SPDX-License-Identifier: MIT
// A core file is an ELF file whose segments are the process's memory; a process's memory is read from
// /proc/PID/mem. In both a recorder begins on a page with its magic, and its header says at which address: a
// copy that lies somewhere else, as of a dump that was just being written, is not one.
//
// A file may lie about everything. Each byte of it is looked for recorders once, holes are passed over, and what is
// read and kept of recorders has a limit for all of them together.
#include "source.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>

namespace trace {

using whorl::Bytes;

namespace {

constexpr std::uint64_t page = 4096;
// No recorder lies in a larger one: such are reservations, as of AddressSanitizer, which take hours to read.
constexpr std::uint64_t stretch_max = std::uint64_t{64} << 30;
constexpr std::uint64_t block = std::uint64_t{1} << 20;
constexpr std::uint64_t recorder_most = std::uint64_t{1} << 30;   // bytes that are read of one
constexpr std::uint64_t recorders_most = std::uint64_t{4} << 30;  // and of all
constexpr std::uint64_t segments_most = std::uint64_t{1}
                                        << 22;  // of a core; a process has 65530 as a rule
constexpr std::size_t problems_most = 1000;     // bytes, after which no more is said

class Descriptor {
  public:
    explicit Descriptor(const std::string& path)
        : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}  // a FIFO would wait
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (fd_ >= 0) (void)::close(fd_);
    }
    explicit operator bool() const { return fd_ >= 0; }

    // As many of the bytes as are there.
    std::uint64_t read(std::uint64_t at, void* into, std::uint64_t size) const {
        std::uint64_t done = 0;
        while (done < size) {
            const ssize_t got = ::pread(fd_, static_cast<char*>(into) + done, size - done,
                                        static_cast<off_t>(at + done));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) break;
            done += static_cast<std::uint64_t>(got);
        }
        return done;
    }
    std::uint64_t size() const {
        struct stat status {};
        return ::fstat(fd_, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
    }
    mode_t type() const {
        struct stat status {};
        return ::fstat(fd_, &status) == 0 ? status.st_mode & S_IFMT : 0;
    }
    // Where from `at` on there is something else than a hole; `end`: nowhere before it.
    std::uint64_t next_data(std::uint64_t at, std::uint64_t end) const {
        const off_t data = ::lseek(fd_, static_cast<off_t>(at), SEEK_DATA);
        if (data >= 0) return std::min(static_cast<std::uint64_t>(data), end);
        return errno == ENXIO ? end : at;  // others know of no holes
    }

  private:
    int fd_;
};

// A stretch of memory, and where in the descriptor its bytes are.
struct Stretch {
    std::uint64_t address, size, at;
};

void note(std::string& problems, const std::string& what) {
    if (problems.size() > problems_most) return;
    if (!problems.empty()) problems += "; ";
    problems += what;
    if (problems.size() > problems_most) problems += "; and more";
}

std::string hexadecimal(std::uint64_t number) {
    char text[24];
    (void)std::snprintf(text, sizeof text, "%#" PRIx64, number);
    return text;
}

std::uint64_t written_of(const Descriptor& from, std::uint64_t at) {
    std::uint64_t written = 0;
    (void)from.read(at + offsetof(Header, written), &written, sizeof written);
    return written;
}

// What all recorders of a source may take.
struct Budget {
    std::uint64_t left = recorders_most;
};

// Reads the recorder at `at`, of which at most `most` bytes can be there. Empty: it was read. What was read is
// pushed to `dumps`, be it damaged or not.
std::string read_recorder(const Descriptor& from, std::uint64_t at, std::uint64_t most, bool memory,
                          const std::string& source, Dumps& dumps, Header& header, Budget& budget) {
    std::string why;
    std::vector<std::byte> bytes(std::min<std::uint64_t>(most, sizeof(Header)));
    bytes.resize(from.read(at, bytes.data(), bytes.size()));
    if (!read_header(Bytes(bytes.data(), bytes.size()), header, why)) return why;
    if (header.total_bytes > recorder_most) return "damaged: it says to be over a gigabyte";
    const std::uint64_t size = std::min(most, header.total_bytes);
    if (size > budget.left) {
        budget.left = 0;
        return "more than four gigabytes of recorders: this one and the rest are left out";
    }
    budget.left -= size;
    Copy copy;
    copy.memory = memory;
    copy.written_before = header.written;
    bytes.resize(size);
    bytes.resize(from.read(at, bytes.data(), bytes.size()));
    copy.bytes = Bytes(bytes.data(), bytes.size());
    copy.written_after = written_of(from, at);
    auto dump = std::make_unique<Dump>();
    dump->source = source;
    if (!decode(copy, *dump, why)) return why;
    if (copy.bytes.size < header.total_bytes) why = "cut off: the end of it is missing";
    else if (dump->damaged != 0) why = std::to_string(dump->damaged) + " records are damaged";
    dumps.push_back(std::move(dump));
    return why;
}

// Finds recorders in the memory of a process, or in a file that has it.
class Search {
  public:
    Search(const Descriptor& from, std::string source, Dumps& dumps, std::string& problems)
        : from_(from), source_(std::move(source)), dumps_(dumps), problems_(problems) {}

    // Looks at the beginnings of pages.
    void look(const Stretch& stretch) {
        std::uint64_t begin = 0;
        while (begin < stretch.size && budget_.left != 0) {
            const std::uint64_t data =
                from_.next_data(stretch.at + begin, stretch.at + stretch.size) - stretch.at;
            begin = std::max(begin, data / page * page);
            if (begin >= stretch.size) return;
            const std::uint64_t wanted = std::min(block, stretch.size - begin);
            const std::uint64_t got = from_.read(stretch.at + begin, bytes_.data(), wanted);
            std::uint64_t at = 0;
            while (at + sizeof whorl::recorder::magic <= got && budget_.left != 0) {
                const Bytes found(bytes_.data() + at, sizeof whorl::recorder::magic);
                if (magic_at(found) == Magic::none) at += page;
                else at += found_at(stretch, begin + at);
            }
            if (got < wanted) return;  // not in the file, or not to be read
            begin += std::max(at, wanted);
        }
    }

  private:
    // A magic is there. Answers how far to go on from it: nothing lies within a recorder.
    std::uint64_t found_at(const Stretch& stretch, std::uint64_t offset) {
        const std::uint64_t address = stretch.address + offset;
        std::uint64_t said = 0;
        (void)from_.read(stretch.at + offset + offsetof(Header, address), &said, sizeof said);
        if (said != address) return page;
        Header header{};
        const std::size_t before = dumps_.size();
        const std::string why = read_recorder(from_, stretch.at + offset, stretch.size - offset,
                                              true, source_, dumps_, header, budget_);
        if (!why.empty()) {
            note(problems_, "the recorder at " + hexadecimal(address) + ": " + why);
        }
        if (dumps_.size() == before) return page;
        return (header.total_bytes + page - 1) / page * page;
    }

    const Descriptor& from_;
    const std::string source_;
    Dumps& dumps_;
    std::string& problems_;
    Budget budget_;
    std::vector<std::byte> bytes_ = std::vector<std::byte>(block);
};

// --- Dumps

std::string read_dumps(const Descriptor& file, const std::string& path, Dumps& dumps) {
    std::string problems;
    const std::uint64_t size = file.size();
    std::uint64_t at = 0;
    Budget budget;
    while (at < size) {
        Header header{};
        const std::string why =
            read_recorder(file, at, size - at, false, path, dumps, header, budget);
        if (!why.empty())
            note(problems, at == 0 ? why : "at byte " + std::to_string(at) + ": " + why);
        if (dumps.empty() || !why.empty()) break;
        at += header.total_bytes;
    }
    return problems;
}

// --- Core files

// What a core says of itself, beside where its memory lies.
struct Core {
    std::uint64_t segments_at = 0, segments_count = 0;
    std::vector<Stretch> stretches;
    std::uint64_t missing = 0;  // segments that are not in the file, or not whole
};

std::string read_elf(const Descriptor& file, Core& core) {
    Elf64_Ehdr elf{};
    if (file.read(0, &elf, sizeof elf) != sizeof elf) return "cut off within the ELF header";
    if (elf.e_ident[EI_CLASS] != ELFCLASS64) return "an ELF file of 32 bits: whorl has 64";
    const unsigned char order =
        __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    if (elf.e_ident[EI_DATA] != order) return "an ELF file of the other byte order";
    if (elf.e_type != ET_CORE) return "an ELF file, but not a core file";
    if (elf.e_phentsize != sizeof(Elf64_Phdr)) return "a core file with unknown program headers";
    core.segments_at = elf.e_phoff;
    core.segments_count = elf.e_phnum;
    if (elf.e_phnum != PN_XNUM) return {};
    // More than fit there: the first section header has them.
    Elf64_Shdr section{};
    if (file.read(elf.e_shoff, &section, sizeof section) != sizeof section) {
        return "a core file without the number of its segments";
    }
    core.segments_count = section.sh_info;
    return {};
}

// The memory of a segment, as far as it is in the file.
void add_segment(const Elf64_Phdr& segment, std::uint64_t file_size, Core& core) {
    if (segment.p_type != PT_LOAD || segment.p_filesz == 0) return;
    const std::uint64_t room = file_size - std::min<std::uint64_t>(file_size, segment.p_offset);
    const std::uint64_t there = std::min<std::uint64_t>(segment.p_filesz, room);
    if (there < segment.p_filesz) ++core.missing;
    if (there != 0) core.stretches.push_back({segment.p_vaddr, there, segment.p_offset});
}

std::string read_segments(const Descriptor& file, Core& core) {
    const std::uint64_t file_size = file.size();
    const std::uint64_t count = std::min(core.segments_count, segments_most);
    std::vector<Elf64_Phdr> segments(1024);
    for (std::uint64_t index = 0; index < count; index += segments.size()) {
        const std::uint64_t wanted = std::min<std::uint64_t>(segments.size(), count - index);
        const std::uint64_t at = core.segments_at + index * sizeof(Elf64_Phdr);
        const std::uint64_t got =
            file.read(at, segments.data(), wanted * sizeof(Elf64_Phdr)) / sizeof(Elf64_Phdr);
        for (std::uint64_t here = 0; here < got; ++here) {
            add_segment(segments[here], file_size, core);
        }
        if (got < wanted) return "a core file that is cut off within its program headers";
    }
    if (core.segments_count == count) return {};
    return "a core file of over four million segments: the rest is left out";
}

// Of what lies in several segments, only the first is kept: no process's memory does.
void part_stretches(std::vector<Stretch>& stretches) {
    std::stable_sort(stretches.begin(), stretches.end(),
                     [](const Stretch& a, const Stretch& b) { return a.at < b.at; });
    std::uint64_t end = 0;
    for (Stretch& stretch : stretches) {
        const std::uint64_t over = end - std::min(end, stretch.at);
        const std::uint64_t skip = std::min(stretch.size, (over + page - 1) / page * page);
        stretch.address += skip;
        stretch.at += skip;
        stretch.size -= skip;
        end = std::max(end, stretch.at + stretch.size);
    }
}

std::string read_core(const Descriptor& file, const std::string& path, Dumps& dumps) {
    Core core;
    std::string problems = read_elf(file, core);
    if (!problems.empty()) return problems;
    problems = read_segments(file, core);
    part_stretches(core.stretches);
    Search search(file, path, dumps, problems);
    for (const Stretch& stretch : core.stretches) search.look(stretch);
    if (!dumps.empty() || !problems.empty()) return problems;
    if (core.missing != 0) {
        return "a core file that is cut off, and no recorder in what is there: " +
               std::to_string(core.missing) +
               " segments are missing; let it be larger (ulimit -c unlimited, room on the disk)";
    }
    return "a core file without a recorder: the loop had none (LoopOptions::recorder_events), or "
           "the "
           "core leaves private memory out (/proc/PID/coredump_filter)";
}

// --- Processes

// The private memory that can be read and written: that named after the recorder alone, where the kernel has
// names.
std::string process_stretches(int process, std::vector<Stretch>& stretches) {
    std::ifstream maps("/proc/" + std::to_string(process) + "/maps");
    if (!maps) return std::strerror(errno == ENOENT ? ESRCH : errno);
    std::vector<Stretch> all;
    for (std::string line; std::getline(maps, line);) {
        std::uint64_t begin = 0, end = 0;
        char rights[8] = "";
        if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %7s", &begin, &end, rights) != 3) {
            continue;
        }
        if (std::strcmp(rights, "rw-p") != 0 || end <= begin) continue;
        if (end - begin > stretch_max) continue;
        const Stretch stretch{begin, end - begin, begin};
        if (line.find("whorl-recorder") != std::string::npos) stretches.push_back(stretch);
        else all.push_back(stretch);
    }
    if (stretches.empty()) stretches = std::move(all);
    return {};
}

}  // namespace

std::string read_file(const std::string& path, Dumps& dumps) {
    const Descriptor file(path);
    if (!file) return std::strerror(errno);
    if (file.type() == S_IFDIR) return std::strerror(EISDIR);
    if (file.type() != S_IFREG) return "no regular file: copy it into one";
    std::byte start[sizeof whorl::recorder::magic] = {};
    const std::uint64_t got = file.read(0, start, sizeof start);
    if (got == 0) return "empty";
    if (got >= SELFMAG && std::memcmp(start, ELFMAG, SELFMAG) == 0) {
        return read_core(file, path, dumps);
    }
    if (magic_at(Bytes(start, got)) == Magic::none) {
        return "neither a dump of whorl's flight recorder nor a core file nor a run log";
    }
    return read_dumps(file, path, dumps);
}

std::string read_process(int process, Dumps& dumps) {
    std::vector<Stretch> stretches;
    std::string problems = process_stretches(process, stretches);
    if (!problems.empty()) return problems;
    const std::string name = "/proc/" + std::to_string(process) + "/mem";
    const Descriptor memory(name);
    if (!memory) {
        const int error = errno;
        const bool denied = error == EACCES || error == EPERM;
        return std::string(std::strerror(error)) +
               (denied ? ": reading another's memory takes the rights of ptrace(2)" : "");
    }
    const std::string source = "process " + std::to_string(process);
    Search search(memory, source, dumps, problems);
    for (const Stretch& stretch : stretches) search.look(stretch);
    if (dumps.empty() && problems.empty()) {
        problems = "no loop of it has a recorder (LoopOptions::recorder_events)";
    }
    return problems;
}

}  // namespace trace
