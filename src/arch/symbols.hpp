// SPDX-License-Identifier: Apache-2.0
//
// Names for code addresses: by the symbol table of the binary's file, which also holds what a
// program does not export, else by the dynamic linker.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace exeunt::arch {

/// Where an address lies.
struct symbol_place {
  std::string name;              ///< as the linker spells it; empty if unknown
  std::uintptr_t start = 0;      ///< the function's first byte
  std::string binary;            ///< path of the program or library; empty if unknown
  std::uintptr_t load_base = 0;  ///< what to subtract for an address that addr2line understands
};

/// Looks addresses up; keeps files mapped for its own life.
/// Threads: one at a time; not for signal handlers.
class symbol_files {
 public:
  symbol_files();
  ~symbol_files();
  symbol_files(const symbol_files&) = delete;
  symbol_files& operator=(const symbol_files&) = delete;

  [[nodiscard]] symbol_place find(std::uintptr_t address);

 private:
  struct file;
  std::unique_ptr<file> files_;  // a list, one per binary met
};

}  // namespace exeunt::arch
