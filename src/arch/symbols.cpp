// SPDX-License-Identifier: Apache-2.0
// Names for code addresses, read from the ELF files of the running program; no state between uses.
// Tests: throw_trace_test.cpp, the lines of format_trace().

#include "arch/symbols.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <utility>

namespace exeunt::arch {

// One mapped binary. Its contents are checked as they are read: a file that was replaced since it
// was loaded must give no name or a wrong one, not a fault.
struct symbol_files::file {
  std::string path;
  const std::byte* data = nullptr;
  std::size_t size = 0;
  std::unique_ptr<file> next;

  explicit file(std::string name) : path(std::move(name)) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    struct stat status{};
    if (::fstat(fd, &status) == 0 && status.st_size > 0) {
      void* const map =
          ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
      if (map != MAP_FAILED) {
        data = static_cast<const std::byte*>(map);
        size = static_cast<std::size_t>(status.st_size);
      }
    }
    ::close(fd);
  }
  ~file() {
    if (data != nullptr) ::munmap(const_cast<std::byte*>(data), size);
  }
  file(const file&) = delete;
  file& operator=(const file&) = delete;

  /// Copies out the `index`-th T of a table at `offset`; false if the file ends before.
  template <typename T>
  bool read(std::uint64_t offset, std::uint64_t index, T& out) const {
    if (offset > size || index > (size - offset) / sizeof(T)) return false;
    const std::uint64_t at = offset + index * sizeof(T);
    if (size - at < sizeof(T)) return false;
    std::memcpy(&out, data + at, sizeof(T));
    return true;
  }

  /// Fills in the function of .symtab that covers `address`, given relative to the load base.
  void find(std::uintptr_t address, symbol_place& place) const {
    ElfW(Ehdr) header;
    if (data == nullptr || !read(0, 0, header)) return;
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return;
    for (unsigned s = 0; s < header.e_shnum; ++s) {
      ElfW(Shdr) symbols;
      ElfW(Shdr) strings;
      if (!read(header.e_shoff, s, symbols)) return;
      if (symbols.sh_type != SHT_SYMTAB) continue;
      if (!read(header.e_shoff, symbols.sh_link, strings)) return;
      const std::uint64_t count = symbols.sh_size / sizeof(ElfW(Sym));
      for (std::uint64_t i = 0; i < count; ++i) {
        ElfW(Sym) symbol;
        if (!read(symbols.sh_offset, i, symbol)) return;
        if ((symbol.st_info & 0xf) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
        if (address < symbol.st_value || address - symbol.st_value >= symbol.st_size) continue;
        const std::uint64_t at = strings.sh_offset + symbol.st_name;
        if (at >= size) return;
        const auto* const name = reinterpret_cast<const char*>(data + at);
        place.name.assign(name, ::strnlen(name, size - at));
        place.start = place.load_base + symbol.st_value;
        return;
      }
    }
  }
};

symbol_files::symbol_files() = default;
symbol_files::~symbol_files() = default;

namespace {

// The loaded program or library that an address lies in. Unlike dladdr() this also knows a program
// that was linked statically.
struct object_search {
  std::uintptr_t address;
  bool found = false;
  bool main_program = false;
  std::uintptr_t load_base = 0;
  const char* name = "";
  int seen = 0;
};

int check_object(dl_phdr_info* info, std::size_t /*size*/, void* arg) {
  auto& search = *static_cast<object_search*>(arg);
  const bool first = search.seen++ == 0;  // the program itself comes first
  for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const std::uintptr_t start = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type != PT_LOAD || search.address - start >= segment.p_memsz) continue;
    search.found = true;
    search.main_program = first;
    search.load_base = info->dlpi_addr;
    search.name = info->dlpi_name;
    return 1;
  }
  return 0;
}

std::string program_path() {
  char path[4096];
  const auto n = ::readlink("/proc/self/exe", path, sizeof path);
  return n > 0 ? std::string(path, static_cast<std::size_t>(n)) : std::string();
}

}  // namespace

symbol_place symbol_files::find(std::uintptr_t address) {
  symbol_place place;
  object_search search{.address = address};
  ::dl_iterate_phdr(check_object, &search);
  if (!search.found) return place;
  place.binary = search.main_program ? program_path() : search.name;
  // Of a program that is not position-independent this is 0: addresses are those of the file.
  place.load_base = search.load_base;
  // By the kernel's link the program is found even if its file was moved since.
  const std::string path = search.main_program ? "/proc/self/exe" : place.binary;
  file* found = files_.get();
  while (found != nullptr && found->path != path) found = found->next.get();
  if (found == nullptr) {
    auto fresh = std::make_unique<file>(path);
    fresh->next = std::move(files_);
    files_ = std::move(fresh);
    found = files_.get();
  }
  found->find(address - place.load_base, place);
  if (!place.name.empty()) return place;
  // Libraries are mostly stripped of all names but those for the dynamic linker.
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(address), &info) != 0 && info.dli_sname != nullptr) {
    place.name = info.dli_sname;
    place.start = reinterpret_cast<std::uintptr_t>(info.dli_saddr);
  }
  return place;
}

}  // namespace exeunt::arch
