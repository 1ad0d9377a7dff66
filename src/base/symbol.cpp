// SPDX-License-Identifier: MIT
// Floor: 1
#include "base/symbol.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace whorl::detail {

namespace {

using Header = ElfW(Ehdr);
using Section = ElfW(Shdr);
using Symbol = ElfW(Sym);

// A file in memory, for as long as its symbols are read.
class Mapped {
  public:
    explicit Mapped(const char* path) noexcept {
        const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return;
        struct stat status {};
        if (::fstat(fd, &status) == 0 && status.st_size > static_cast<off_t>(sizeof(Header))) {
            size_ = static_cast<std::size_t>(status.st_size);
            void* start = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
            if (start != MAP_FAILED) start_ = static_cast<const char*>(start);
        }
        ::close(fd);
    }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;
    ~Mapped() {
        if (start_ != nullptr) ::munmap(const_cast<char*>(start_), size_);
    }

    // `count` things of a type, if they lie inside.
    template <class T>
    const T* at(std::uint64_t offset, std::uint64_t count = 1) const noexcept {
        if (start_ == nullptr || offset > size_ || count > (size_ - offset) / sizeof(T)) {
            return nullptr;
        }
        return reinterpret_cast<const T*>(start_ + offset);
    }

  private:
    const char* start_ = nullptr;
    std::size_t size_ = 0;
};

// The function of one symbol table that contains the address `offset` of its file.
const char* name_in(const Mapped& file, const Section* sections, std::uint32_t sections_count,
                    const Section& table, std::uint64_t offset) noexcept {
    if (table.sh_link >= sections_count || table.sh_entsize != sizeof(Symbol)) return nullptr;
    const Section& strings = sections[table.sh_link];
    const char* text = file.at<char>(strings.sh_offset, strings.sh_size);
    const std::uint64_t count = table.sh_size / sizeof(Symbol);
    const auto* symbols = file.at<Symbol>(table.sh_offset, count);
    if (text == nullptr || symbols == nullptr || strings.sh_size == 0) return nullptr;
    if (text[strings.sh_size - 1] != 0) return nullptr;
    for (std::uint64_t index = 0; index < count; ++index) {
        const Symbol& symbol = symbols[index];
        if ((symbol.st_info & 0xF) != STT_FUNC || symbol.st_name >= strings.sh_size) continue;
        if (offset < symbol.st_value || offset - symbol.st_value >= symbol.st_size) continue;
        return text + symbol.st_name;
    }
    return nullptr;
}

const char* name_in_file(const Mapped& file, std::uint64_t offset) noexcept {
    const auto* header = file.at<Header>(0);
    if (header == nullptr || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return nullptr;
    if (header->e_shentsize != sizeof(Section)) return nullptr;
    const auto* sections = file.at<Section>(header->e_shoff, header->e_shnum);
    if (sections == nullptr) return nullptr;
    for (std::uint32_t index = 0; index < header->e_shnum; ++index) {
        if (sections[index].sh_type != SHT_SYMTAB) continue;
        const char* name = name_in(file, sections, header->e_shnum, sections[index], offset);
        if (name != nullptr) return name;
    }
    return nullptr;
}

// Of "void whorl::Loop::operation_thunk<A, B>(whorl::Loop&, …)" it is "A, B" that tells something.
void without_thunk(char* name) noexcept {
    static constexpr char opening[] = "_thunk<";
    char* begin = std::strstr(name, opening);
    if (begin == nullptr || std::strstr(name, "whorl::Loop::") == nullptr) return;
    begin += sizeof opening - 1;
    char* end = nullptr;
    for (char* next = begin; (next = std::strstr(next, ">(whorl::Loop&,")) != nullptr; ++next) {
        end = next;
    }
    if (end == nullptr) return;
    const auto size = static_cast<std::size_t>(end - begin);
    std::memmove(name, begin, size);
    name[size] = 0;
}

void demangled(const char* name, char* text, std::size_t size) noexcept {
    int status = 0;
    char* plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
    if (plain != nullptr) without_thunk(plain);
    std::snprintf(text, size, "%s", plain != nullptr ? plain : name);
    std::free(plain);  // NOLINT(cppcoreguidelines-no-malloc)
}

}  // namespace

CodePlace code_place(const void* code) noexcept {
    Dl_info info{};
    link_map* map = nullptr;
    if (::dladdr1(code, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0) return {};
    CodePlace place;
    place.module = info.dli_fname != nullptr ? info.dli_fname : "";
    place.offset =
        reinterpret_cast<std::uintptr_t>(code) - static_cast<std::uintptr_t>(map->l_addr);
    return place;
}

void symbol_of(const void* code, char* text, std::size_t size) noexcept {
    text[0] = 0;
    Dl_info info{};
    void* found = nullptr;
    if (::dladdr1(code, &info, &found, RTLD_DL_SYMENT) != 0 && info.dli_sname != nullptr) {
        const auto* symbol = static_cast<const Symbol*>(found);
        const auto address = reinterpret_cast<std::uintptr_t>(code);
        const auto begin = reinterpret_cast<std::uintptr_t>(info.dli_saddr);
        if (symbol != nullptr && address - begin < symbol->st_size) {
            return demangled(info.dli_sname, text, size);
        }
    }
    const CodePlace place = code_place(code);
    if (place.module[0] == 0) return;
    // The program itself may have been started by a name that leads nowhere from here.
    link_map* map = nullptr;
    ::dladdr1(code, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP);
    const bool program = map != nullptr && map->l_name[0] == 0;
    const Mapped file(program ? "/proc/self/exe" : place.module);
    const char* name = name_in_file(file, place.offset);
    if (name != nullptr) demangled(name, text, size);
}

}  // namespace whorl::detail
