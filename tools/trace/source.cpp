// SPDX-License-Identifier: MIT
// A core file is an ELF file whose segments are the process's memory; a process's memory is read from
// /proc/PID/mem. In both a recorder begins on a page with its magic, and its header says at which address: a
// copy that lies somewhere else, as of a dump that was just being written, is not one.
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
constexpr std::uint64_t recorder_most = std::uint64_t{1} << 30;  // bytes that are read of one

class Descriptor {
  public:
    explicit Descriptor(const std::string& path)
        : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
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
    bool is_folder() const {
        struct stat status {};
        return ::fstat(fd_, &status) == 0 && S_ISDIR(status.st_mode);
    }

  private:
    int fd_;
};

// A stretch of memory, and where in the descriptor its bytes are.
struct Stretch {
    std::uint64_t address, size, at;
};

void note(std::string& problems, const std::string& what) {
    if (!problems.empty()) problems += "; ";
    problems += what;
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

// Reads the recorder at `at`, of which at most `most` bytes can be there. Empty: it was read.
std::string read_recorder(const Descriptor& from, std::uint64_t at, std::uint64_t most, bool memory,
                          const std::string& source, Dumps& dumps, Header& header) {
    std::string why;
    std::vector<std::byte> bytes(std::min<std::uint64_t>(most, sizeof(Header)));
    bytes.resize(from.read(at, bytes.data(), bytes.size()));
    if (!read_header(Bytes(bytes.data(), bytes.size()), header, why)) return why;
    if (header.total_bytes > recorder_most) return "damaged: it says to be over a gigabyte";
    Copy copy;
    copy.memory = memory;
    copy.written_before = header.written;
    bytes.resize(std::min(most, header.total_bytes));
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

// Looks at the beginnings of pages.
void search(const Descriptor& from, const Stretch& stretch, const std::string& source, Dumps& dumps,
            std::string& problems) {
    std::vector<std::byte> bytes(block);
    for (std::uint64_t begin = 0; begin < stretch.size; begin += block) {
        const std::uint64_t wanted = std::min(block, stretch.size - begin);
        const std::uint64_t got = from.read(stretch.at + begin, bytes.data(), wanted);
        for (std::uint64_t at = 0; at + sizeof whorl::recorder::magic <= got; at += page) {
            const Bytes found(bytes.data() + at, sizeof whorl::recorder::magic);
            if (magic_at(found) == Magic::none) continue;
            const std::uint64_t offset = begin + at;
            const std::uint64_t address = stretch.address + offset;
            std::uint64_t said = 0;
            (void)from.read(stretch.at + offset + offsetof(Header, address), &said, sizeof said);
            if (said != address) continue;
            Header header{};
            const std::string why = read_recorder(from, stretch.at + offset, stretch.size - offset,
                                                  true, source, dumps, header);
            if (!why.empty())
                note(problems, "the recorder at " + hexadecimal(address) + ": " + why);
        }
        if (got < wanted) break;  // not in the file, or not to be read
    }
}

// --- Dumps

std::string read_dumps(const Descriptor& file, const std::string& path, Dumps& dumps) {
    std::string problems;
    const std::uint64_t size = file.size();
    std::uint64_t at = 0;
    while (at < size) {
        Header header{};
        const std::string why = read_recorder(file, at, size - at, false, path, dumps, header);
        if (!why.empty())
            note(problems, at == 0 ? why : "at byte " + std::to_string(at) + ": " + why);
        if (dumps.empty() || !why.empty()) break;
        at += header.total_bytes;
    }
    return problems;
}

// --- Core files

std::string core_stretches(const Descriptor& file, std::vector<Stretch>& stretches) {
    Elf64_Ehdr elf{};
    if (file.read(0, &elf, sizeof elf) != sizeof elf) return "cut off within the ELF header";
    if (elf.e_ident[EI_CLASS] != ELFCLASS64) return "an ELF file of 32 bits: whorl has 64";
    const unsigned char order =
        __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    if (elf.e_ident[EI_DATA] != order) return "an ELF file of the other byte order";
    if (elf.e_type != ET_CORE) return "an ELF file, but not a core file";
    if (elf.e_phentsize != sizeof(Elf64_Phdr)) return "a core file with unknown program headers";
    std::uint64_t count = elf.e_phnum;
    if (count == PN_XNUM) {
        // More than fit there: the first section header has them.
        Elf64_Shdr section{};
        if (file.read(elf.e_shoff, &section, sizeof section) != sizeof section) {
            return "a core file without the number of its segments";
        }
        count = section.sh_info;
    }
    for (std::uint64_t index = 0; index < count; ++index) {
        Elf64_Phdr segment{};
        const std::uint64_t at = elf.e_phoff + index * sizeof segment;
        if (file.read(at, &segment, sizeof segment) != sizeof segment) {
            return "a core file that is cut off within its program headers";
        }
        const std::uint64_t size = file.size();
        if (segment.p_type != PT_LOAD || segment.p_filesz == 0 || segment.p_offset >= size)
            continue;
        const std::uint64_t there =
            std::min<std::uint64_t>(segment.p_filesz, size - segment.p_offset);
        stretches.push_back({segment.p_vaddr, there, segment.p_offset});
    }
    return {};
}

std::string read_core(const Descriptor& file, const std::string& path, Dumps& dumps) {
    std::vector<Stretch> stretches;
    std::string problems = core_stretches(file, stretches);
    for (const Stretch& stretch : stretches) search(file, stretch, path, dumps, problems);
    if (dumps.empty() && problems.empty()) {
        problems =
            "a core file without a recorder: the loop had none (LoopOptions::recorder_events), or "
            "the "
            "core leaves private memory out (/proc/PID/coredump_filter)";
    }
    return problems;
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
    if (file.is_folder()) return std::strerror(EISDIR);
    std::byte start[sizeof whorl::recorder::magic] = {};
    const std::uint64_t got = file.read(0, start, sizeof start);
    if (got == 0) return "empty";
    if (got >= SELFMAG && std::memcmp(start, ELFMAG, SELFMAG) == 0) {
        return read_core(file, path, dumps);
    }
    if (magic_at(Bytes(start, got)) == Magic::none) {
        return "neither a dump of whorl's flight recorder nor a core file";
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
    for (const Stretch& stretch : stretches) search(memory, stretch, source, dumps, problems);
    if (dumps.empty() && problems.empty()) {
        problems = "no loop of it has a recorder (LoopOptions::recorder_events)";
    }
    return problems;
}

}  // namespace trace
