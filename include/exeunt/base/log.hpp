// SPDX-License-Identifier: Apache-2.0
// One line per record to one sink. Used for reports of the library and by the service.

#pragma once

#include <string_view>

#include <exeunt/base/export.hpp>

namespace exeunt {

/// Receives finished text, one or more whole lines with their line ends. Called from any thread,
/// never concurrently with itself. It is called under the log's lock: it must not log, and must not
/// park a fiber (wait for a channel, a mutex or a socket of this library, or sleep). It may block
/// the thread, as write(2) does; whoever logs meanwhile blocks as well.
using log_sink = void (*)(std::string_view text) noexcept;

/// Sends reports to `sink`; null is stderr, which is the default.
EXEUNT_API void set_log_sink(log_sink sink) noexcept;

/// Writes `text` as one record; a line end is added if it has none.
///
/// Blocks:  never parks; may block the thread for the time of the sink's call, or of a write(2) to
///          stderr, and of those before it.
/// Threads: any.
EXEUNT_API void log_line(std::string_view text) noexcept;

}  // namespace exeunt
