// SPDX-License-Identifier: MIT
// Files with recorders in them, made by hand.
#pragma once

#include <elf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "trace_recorder.hpp"

namespace trace_test {

class File {
  public:
    explicit File(const std::string& content) {
        const int fd = ::mkstemp(name_);
        EXPECT_GE(fd, 0);
        ::close(fd);
        std::ofstream(name_, std::ios::binary) << content;
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() { (void)std::remove(name_); }
    std::string name() const { return name_; }

  private:
    char name_[32] = "/tmp/whorl-trace-test-XXXXXX";
};

inline std::string text_of(const Recorder& recorder) {
    const whorl::Bytes bytes = recorder.bytes();
    return {reinterpret_cast<const char*>(bytes.data), bytes.size};
}

// An ELF core file. Whatever it says is the test's to say: nothing of it need be true.
struct CoreFile {
    std::vector<Elf64_Phdr> segments;
    bool count_in_section = false;  // as where there are too many for the header (PN_XNUM)
    std::uint32_t count_said = 0;   // there; 0: as many as there are
    std::string memory;             // what comes behind the headers, from the next page on

    static Elf64_Phdr load(std::uint64_t address, std::uint64_t at, std::uint64_t size) {
        Elf64_Phdr segment{};
        segment.p_type = PT_LOAD;
        segment.p_vaddr = address;
        segment.p_offset = at;
        segment.p_filesz = segment.p_memsz = size;
        return segment;
    }
    // Where `memory` lies in the file.
    std::uint64_t memory_at() const {
        const std::uint64_t headers =
            sizeof(Elf64_Ehdr) + sizeof(Elf64_Shdr) + segments.size() * sizeof(Elf64_Phdr);
        return (headers + 4095) / 4096 * 4096;
    }
    std::string text() const {
        Elf64_Ehdr elf{};
        std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
        elf.e_ident[EI_CLASS] = ELFCLASS64;
        elf.e_ident[EI_DATA] =
            __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
        elf.e_type = ET_CORE;
        elf.e_shoff = sizeof elf;
        elf.e_phoff = sizeof elf + sizeof(Elf64_Shdr);
        elf.e_phentsize = sizeof(Elf64_Phdr);
        elf.e_phnum = static_cast<Elf64_Half>(count_in_section ? PN_XNUM : segments.size());
        Elf64_Shdr section{};
        section.sh_info = count_said != 0 ? count_said : static_cast<Elf64_Word>(segments.size());
        std::string core(reinterpret_cast<const char*>(&elf), sizeof elf);
        core.append(reinterpret_cast<const char*>(&section), sizeof section);
        core.append(reinterpret_cast<const char*>(segments.data()),
                    segments.size() * sizeof(Elf64_Phdr));
        core.resize(memory_at());
        return core + memory;
    }
};

// `recorder`, as it lies at an address.
inline std::string placed(const Recorder& recorder, std::uint64_t address) {
    Recorder copy = recorder;
    copy.header().address = address;
    return text_of(copy);
}

// An ELF core file of two segments: in the first the recorder lies behind a page of something else, and a copy
// of it in the second.
inline std::string core_of(const Recorder& recorder, std::uint64_t address) {
    const std::string page(4096, 'x');
    const std::string recorded = placed(recorder, address);
    CoreFile core;
    core.segments.resize(3);
    const std::uint64_t size = page.size() + recorded.size();
    core.segments[0].p_type = PT_NOTE;
    core.segments[1] = CoreFile::load(address - page.size(), core.memory_at(), size);
    core.segments[2] = CoreFile::load(address + 0x100000, core.memory_at() + size, size);
    core.memory = page + recorded + page + recorded;
    return core.text();
}

}  // namespace trace_test
