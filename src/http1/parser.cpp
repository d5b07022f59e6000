// SPDX-License-Identifier: Apache-2.0
// The request parser: bytes in, events out.
//
// A head is read in three passes, each with one concern. The *scan* runs over new bytes as they
// come, cuts them into lines and refuses bytes and line ends that no head may hold. When the empty
// line is there, llhttp cuts the lines into names and values. Then the *meaning* of the few fields
// that frame the message is read. The scan is ours because llhttp 8.1 takes lone line feeds, folded
// lines and blanks in names; the request line is ours because llhttp knows a fixed set of methods
// and versions; the chunked coding is ours because llhttp is lax about its line ends.
//
// Invariants:
//   I1  The sequence of events, with body data joined, is a function of the bytes alone: every
//       check happens at a byte that all cuts of the input agree on, in order of the offset.
//   I2  In state `head`, nothing of the head is consumed, and its first scanned_ bytes are good.
//   I3  No event consumes a byte of the next message.
//   I4  A head whose framing llhttp and this file read differently is refused.
//   I5  No byte at or past the end of the input is read.
// Locks, wake-ups: none, nothing here is shared or waits.
// Tests: tests/http1/cases_test.cpp (I1 and I5 for each case, I3 by pipelines), parser_test.cpp
//   (I2, limits), corpus_test.cpp and http1_fuzz.cpp (I1, I3, I5), parser_death_test.cpp.

#include <exeunt/http1/parser.hpp>

#include <algorithm>
#include <limits>

#include <llhttp.h>

#include <exeunt/base/assert.hpp>

#include "http1/chars.hpp"

namespace exeunt::http1 {

namespace {

// What a request line holds besides its target: a method, two blanks and "HTTP/1.1".
constexpr std::size_t method_bytes_max = 32;
constexpr std::size_t request_line_rest = method_bytes_max + 2 + 8;

// Sixteen hex digits fill the 64 bits of a size.
constexpr std::uint8_t size_digits_max = 16;
// One chunk line with its extension. Nobody is known to use extensions; signatures fit.
constexpr std::uint32_t chunk_line_bytes_max = 1024;
// A sender may waste this much on framing beyond 16 bytes a chunk and twice its data. It stops a
// body of one-byte chunks with long extensions, which costs much to read and counts for little.
constexpr std::uint64_t chunk_excess_max = 16 * 1024;

constexpr wire_error fine{};

constexpr bool failed(const wire_error& error) noexcept { return error.status != 0; }

constexpr wire_error bad(std::string_view reason, std::uint64_t where) noexcept {
  return {400, reason, where};
}

// An IPv6 literal or an address with a zone, without brackets.
bool is_address_text(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is(text[i], hex_char) || text[i] == ':' || text[i] == '.') continue;
    // A zone id comes last, escaped: "%25eth0".
    return text.substr(i).starts_with("%25") && i + 3 < text.size() &&
           find_not(text.substr(i + 3), host_char) == text.size() - i - 3;
  }
  return !text.empty();
}

bool is_port(std::string_view text) noexcept { return find_not(text, digit_char) == text.size(); }

bool is_registered_name(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is(text[i], host_char)) continue;
    if (text[i] != '%' || text.size() - i < 3) return false;
    if (!is(text[i + 1], hex_char) || !is(text[i + 2], hex_char)) return false;
    i += 2;
  }
  return true;
}

// uri-host [ ":" port ]; an empty one is allowed, and a bare IPv6 address is tolerated.
bool is_host(std::string_view text) noexcept {
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos || !is_address_text(text.substr(1, close - 1)))
      return false;
    const std::string_view rest = text.substr(close + 1);
    return rest.empty() || (rest.front() == ':' && is_port(rest.substr(1)));
  }
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return is_registered_name(text);
  if (text.find(':', colon + 1) != std::string_view::npos) return is_address_text(text);
  return is_registered_name(text.substr(0, colon)) && is_port(text.substr(colon + 1));
}

// host ":" port, both there: the target of CONNECT.
bool is_host_and_port(std::string_view text) noexcept {
  const std::size_t colon = text.rfind(':');
  if (colon == 0 || colon == std::string_view::npos || colon + 1 == text.size()) return false;
  const std::string_view host = text.substr(0, colon);
  if (host.find(':') != std::string_view::npos && !host.ends_with(']')) return false;
  return is_host(text);
}

// Calls `visit` with each element of a comma-separated list, blanks around it removed.
template <typename Visit>
void for_each_element(std::string_view list, Visit visit) {
  for (;;) {
    const std::size_t comma = list.find(',');
    visit(trim_blanks(list.substr(0, comma)));
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

bool read_length(std::string_view text, std::uint64_t& value) noexcept {
  if (text.empty()) return false;
  value = 0;
  for (const char c : text) {
    if (!is(c, digit_char)) return false;
    const auto digit = static_cast<std::uint64_t>(c - '0');
    constexpr std::uint64_t max = std::numeric_limits<std::int64_t>::max();
    if (value > (max - digit) / 10) return false;
    value = value * 10 + digit;
  }
  return true;
}

// The codings of all Transfer-Encoding fields of a head, in order.
class transfer_codings {
 public:
  void add(std::string_view list) noexcept {
    for_each_element(list, [this](std::string_view element) {
      const std::size_t semicolon = element.find(';');
      const std::string_view name = trim_blanks(element.substr(0, semicolon));
      const bool is_chunked = equals_lower(name, "chunked");
      if (!is_token(name)) malformed_ = true;
      // chunked takes no parameters, comes last and is applied once.
      if (is_chunked && semicolon != std::string_view::npos) malformed_ = true;
      if (chunked_) malformed_ = true;
      if (!is_chunked) others_ = true;
      chunked_ = chunked_ || is_chunked;
    });
  }

  [[nodiscard]] wire_error judge(std::uint64_t where) const noexcept {
    if (malformed_) return bad("malformed Transfer-Encoding", where);
    if (others_) return {501, "transfer coding not supported", where};
    return fine;
  }

 private:
  bool malformed_ = false;
  bool others_ = false;
  bool chunked_ = false;
};

// What llhttp makes of a head's lines.
struct lexer {
  llhttp_t base;
  std::span<field> slots;
  std::size_t count = 0;
  bool complete = false;
  bool chunked = false;
  std::uint64_t content_length = 0;
};

lexer& lexer_of(llhttp_t* parser) noexcept { return *static_cast<lexer*>(parser->data); }

int on_name(llhttp_t* parser, const char* at, std::size_t size) noexcept {
  lexer& self = lexer_of(parser);
  if (self.count == self.slots.size()) return -1;
  self.slots[self.count++] = {{at, size}, {}};
  return 0;
}

int on_value(llhttp_t* parser, const char* at, std::size_t size) noexcept {
  lexer& self = lexer_of(parser);
  if (self.count == 0) return -1;
  std::string_view& value = self.slots[self.count - 1].value;
  // A value may come in pieces, which are adjacent.
  const char* const begin = value.empty() ? at : value.data();
  value = {begin, static_cast<std::size_t>(at + size - begin)};
  return 0;
}

int on_complete(llhttp_t* parser) noexcept {
  lexer& self = lexer_of(parser);
  self.complete = true;
  self.chunked = (parser->flags & F_CHUNKED) != 0;
  self.content_length = parser->content_length;
  return 0;
}

const llhttp_settings_t& lexer_settings() noexcept {
  static const llhttp_settings_t settings = [] {
    llhttp_settings_t made;
    llhttp_settings_init(&made);
    made.on_header_field = on_name;
    made.on_header_value = on_value;
    made.on_headers_complete = on_complete;
    return made;
  }();
  return settings;
}

// Runs llhttp over the pieces of one head; an empty piece is left out.
llhttp_errno_t lex(lexer& self, std::span<field> slots, std::string_view request_line,
                   std::string_view before, std::string_view after) noexcept {
  self.slots = slots;
  self.count = 0;
  self.complete = false;
  llhttp_init(&self.base, HTTP_REQUEST, &lexer_settings());
  self.base.data = &self;
  for (const std::string_view piece : {request_line, before, after}) {
    if (piece.empty()) continue;
    const llhttp_errno_t outcome = llhttp_execute(&self.base, piece.data(), piece.size());
    if (outcome != HPE_OK) return outcome;
  }
  return HPE_OK;
}

// llhttp is shown the true request line where it is sure to know it, and a stand-in otherwise.
bool lexer_knows(std::string_view method) noexcept {
  return method == "GET" || method == "POST" || method == "HEAD" || method == "PUT" ||
         method == "DELETE" || method == "PATCH" || method == "OPTIONS";
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return to_lower(x) == to_lower(y);
         });
}

const field* request_head::find(std::string_view name) const noexcept {
  for (const field& f : fields) {
    if (equal_ignoring_case(f.name, name)) return &f;
  }
  return nullptr;
}

request_parser::request_parser(std::span<field> slots, const limits& bounds) noexcept
    : slots_{slots.first(std::min<std::size_t>(slots.size(), bounds.fields))}, bounds_{bounds} {}

step request_parser::parse(std::span<const char> input) noexcept {
  switch (state_) {
    case state::head:
      return parse_head(input);
    case state::fixed_body:
      return parse_fixed(input);
    case state::failed:
      return refuse(error_);
    default:
      return parse_chunked(input);
  }
}

phase request_parser::where() const noexcept {
  if (state_ == state::head) return scanned_ == 0 ? phase::idle : phase::head;
  return state_ == state::failed ? phase::failed : phase::body;
}

step request_parser::refuse(const wire_error& error) noexcept {
  error_ = error;
  state_ = state::failed;
  remaining_ = 0;
  step out;
  out.what = event::error;
  out.error = error;
  return out;
}

step request_parser::end_of_message(std::size_t consumed) noexcept {
  step out;
  out.what = event::end;
  out.consumed = consumed;
  out.trailers = trailer_count_;
  state_ = state::head;
  scanned_ = line_start_ = line_count_ = request_line_bytes_ = skipped_ = 0;
  return out;
}

step request_parser::parse_head(std::span<const char> input) noexcept {
  step out;
  std::string_view bytes{input.data(), input.size()};
  if (scanned_ == 0) {
    // Some clients end a body with a line end that is not part of it.
    while (bytes.starts_with("\r\n")) {
      bytes.remove_prefix(2);
      out.consumed += 2;
      skipped_ += 2;
      if (skipped_ > bounds_.head_bytes) return refuse(bad("too many empty lines", 0));
    }
    head_ = {};
  }
  EXEUNT_ASSERT(bytes.size() >= scanned_, "bytes of an incomplete head must be given again");

  std::size_t head_bytes = 0;
  const wire_error scanned = scan_head(bytes, head_bytes);
  if (failed(scanned)) return refuse(scanned);
  if (head_bytes == 0) return out;

  const std::string_view head = bytes.substr(0, head_bytes);
  wire_error error = read_request_line(head.substr(0, request_line_bytes_));
  if (!failed(error)) error = read_fields(head);
  if (failed(error)) return refuse(error);

  head_.bytes = static_cast<std::uint32_t>(head_bytes);
  out.what = event::head;
  out.consumed += head_bytes;
  offset_ = head_bytes;
  remaining_ = head_.content_length;
  trailer_bytes_ = trailer_count_ = 0;
  body_seen_ = chunk_excess_ = 0;
  begin_chunk_line();
  state_ = head_.body == body_framing::chunked ? state::chunk_size : state::fixed_body;
  return out;
}

// Cuts new bytes into lines. Sets `head_bytes` when the empty line that ends the head is there.
wire_error request_parser::scan_head(std::string_view bytes, std::size_t& head_bytes) noexcept {
  const std::size_t head_end = std::min<std::size_t>(bytes.size(), bounds_.head_bytes);
  const std::size_t line_max = std::size_t{bounds_.target_bytes} + request_line_rest + 2;
  const char* const base = bytes.data();
  std::size_t at = scanned_;
  for (;;) {
    const std::size_t end = line_count_ == 0 ? std::min(head_end, line_max) : head_end;
    if (at == line_start_ && at < end && is_blank(base[at])) {
      return bad(line_count_ == 0 ? "blank before the method" : "folded field line", at);
    }
    at = static_cast<std::size_t>(find_control(base + at, base + end) - base);
    if (at == end) break;
    if (base[at] == '\t') {
      ++at;
      continue;
    }
    if (base[at] == '\n') return bad("line feed without carriage return", at);
    if (base[at] != '\r') return bad("control character in the head", at);
    if (at + 1 == end) break;
    if (base[at + 1] != '\n') return bad("carriage return without line feed", at);
    if (at == line_start_) {
      head_bytes = at + 2;
      return fine;
    }
    if (line_count_++ == 0) {
      request_line_bytes_ = static_cast<std::uint32_t>(at);
    } else if (line_count_ - 1 > slots_.size()) {
      return {431, "too many fields", line_start_};
    }
    at += 2;
    line_start_ = static_cast<std::uint32_t>(at);
  }
  scanned_ = static_cast<std::uint32_t>(at);
  const std::size_t first_max = std::min<std::size_t>(line_max, bounds_.head_bytes);
  if (line_count_ == 0 && bytes.size() >= first_max) {
    return {414, "request line too long", first_max};
  }
  if (bytes.size() >= bounds_.head_bytes) return {431, "head too large", bounds_.head_bytes};
  return fine;
}

wire_error request_parser::read_request_line(std::string_view line) noexcept {
  const std::size_t method_end = line.find(' ');
  const std::string_view method = line.substr(0, method_end);
  if (!is_token(method)) return bad("malformed method", find_not(method, token_char));
  if (method_end == std::string_view::npos) return bad("malformed request line", line.size());
  if (method.size() > method_bytes_max) return {501, "method too long", method_bytes_max};

  const std::string_view rest = line.substr(method_end + 1);
  const std::size_t target_end = rest.find(' ');
  if (target_end == std::string_view::npos) return bad("request line without version", line.size());
  const std::string_view target = rest.substr(0, target_end);
  const std::string_view version = rest.substr(target_end + 1);
  const std::size_t version_at = line.size() - version.size();
  if (version.size() != 8 || !version.starts_with("HTTP/") || !is(version[5], digit_char) ||
      version[6] != '.' || !is(version[7], digit_char)) {
    return bad("malformed version", version_at);
  }
  head_.method = method;
  head_.target = target;
  if (version[5] != '1') return {505, "HTTP version not supported", version_at};
  head_.http_minor = version[7] == '0' ? 0 : 1;
  return read_target(method_end + 1);
}

wire_error request_parser::read_target(std::uint64_t where) noexcept {
  const std::string_view target = head_.target;
  if (target.size() > bounds_.target_bytes) return {414, "request target too long", where};
  const std::size_t bad_at = find_not(target, target_char);
  if (target.empty() || bad_at != target.size()) {
    return bad("malformed request target", where + bad_at);
  }

  if (head_.method == "CONNECT") {
    if (!is_host_and_port(target)) return bad("CONNECT needs host and port", where);
    head_.form = target_form::authority;
    head_.host = target;
    return fine;
  }
  if (target == "*") {
    if (head_.method != "OPTIONS") return bad("target * is for OPTIONS only", where);
    head_.form = target_form::asterisk;
    head_.path = target;
    return fine;
  }

  std::string_view rest = target;
  if (target.front() != '/') {
    const std::size_t scheme_end = target.find("://");
    const std::string_view scheme = target.substr(0, scheme_end);
    if (scheme_end == std::string_view::npos ||
        !(equals_lower(scheme, "http") || equals_lower(scheme, "https"))) {
      return bad("malformed request target", where);
    }
    rest.remove_prefix(scheme_end + 3);
    const std::string_view authority = rest.substr(0, rest.find_first_of("/?"));
    if (authority.empty() || authority.front() == ':' || !is_host(authority)) {
      return bad("malformed host in the request target", where + scheme_end + 3);
    }
    head_.form = target_form::absolute;
    head_.host = authority;
    rest.remove_prefix(authority.size());
  }
  const std::size_t question = rest.find('?');
  head_.path = rest.substr(0, question);
  if (head_.path.empty()) head_.path = "/";
  if (question != std::string_view::npos) {
    head_.has_query = true;
    head_.query = rest.substr(question + 1);
  }
  return fine;
}

// Has llhttp cut the field lines, and checks what it cut.
wire_error request_parser::read_fields(std::string_view head) noexcept {
  const std::size_t line_bytes = request_line_bytes_ + std::size_t{2};
  const bool known = lexer_knows(head_.method) && head[line_bytes - 3] <= '1';
  const std::string_view stand_in =
      head_.http_minor == 0 ? "GET / HTTP/1.0\r\n" : "GET / HTTP/1.1\r\n";
  const std::string_view first = known ? std::string_view{} : stand_in;
  std::string_view before = known ? head : head.substr(line_bytes);
  std::size_t field_count = line_count_ - std::size_t{1};

  lexer lexed;
  llhttp_errno_t outcome = lex(lexed, slots_, first, before, {});
  if (outcome == HPE_UNEXPECTED_CONTENT_LENGTH && lexed.count > 0) {
    // llhttp refuses any second Content-Length. One that says the same is harmless, and clients
    // behind careless proxies send it: lex again without that line.
    const field& last = lexed.slots[lexed.count - 1];
    const auto is_length = [](const field& f) { return equals_lower(f.name, "content-length"); };
    const field* const first_field = slots_.data();
    const field* const earlier = std::find_if(first_field, &last, is_length);
    const auto line = static_cast<std::size_t>(last.name.data() - before.data());
    const std::size_t line_end = before.find("\r\n", line);
    const std::size_t value_at = line + last.name.size() + 1;
    if (earlier != &last && is_length(last) && value_at <= line_end &&
        trim_blanks(before.substr(value_at, line_end - value_at)) == trim_blanks(earlier->value)) {
      --field_count;
      outcome = lex(lexed, slots_, first, before.substr(0, line), before.substr(line_end + 2));
    }
  }
  if (outcome == HPE_INVALID_CONTENT_LENGTH && lexed.count > 0) {
    // llhttp takes no other blank than spaces after the digits, so a tab is kept from it.
    const auto name_at =
        static_cast<std::size_t>(lexed.slots[lexed.count - 1].name.data() - before.data());
    const std::size_t line_end = before.find("\r\n", name_at);
    const std::size_t digits_end = before.find_last_not_of(" \t", line_end - 1) + 1;
    if (digits_end < line_end) {
      outcome = lex(lexed, slots_, first, before.substr(0, digits_end), before.substr(line_end));
    }
  }
  if (!lexed.complete || lexed.count != field_count) return explain(head);

  head_.fields = slots_.first(lexed.count);
  for (field& f : slots_.first(lexed.count)) {
    const auto where = static_cast<std::uint64_t>(f.name.data() - head.data());
    // A colon follows the name at once; the line's end keeps this within the head.
    if (!is_token(f.name) || f.name.data()[f.name.size()] != ':') {
      return bad("malformed field name", where + find_not(f.name, token_char));
    }
    f.value = trim_blanks(f.value);
  }
  const wire_error error = read_meaning(head);
  if (failed(error)) return error;
  // Two readers that disagree about where this message ends are what a smuggler looks for.
  if (lexed.chunked != (head_.body == body_framing::chunked) ||
      lexed.content_length != head_.content_length) {
    return bad("ambiguous message length", line_bytes);
  }
  if (head_.content_length > bounds_.body_bytes) {
    return {413, "body too large", static_cast<std::uint64_t>(head.size())};
  }
  return fine;
}

// Why llhttp refuses this head, in our words: they must not change with its version or its mode.
wire_error request_parser::explain(std::string_view head) noexcept {
  const std::size_t fields_at = request_line_bytes_ + std::size_t{2};
  std::size_t count = 0;
  for (std::size_t at = fields_at; at + 2 < head.size() && count < slots_.size();) {
    const std::string_view line = head.substr(at, head.find("\r\n", at) - at);
    const std::size_t colon = line.find(':');
    const std::string_view name = line.substr(0, colon);
    if (!is_token(name)) return bad("malformed field name", at + find_not(name, token_char));
    if (colon == std::string_view::npos) return bad("field line without colon", at + line.size());
    slots_[count++] = {name, trim_blanks(line.substr(colon + 1))};
    at += line.size() + 2;
  }
  head_.fields = slots_.first(count);
  const wire_error error = read_meaning(head);
  return failed(error) ? error : bad("malformed field line", fields_at);
}

// Reads the fields that say how the message is framed and what becomes of the connection.
wire_error request_parser::read_meaning(std::string_view head) noexcept {
  const std::uint64_t end = head.size();
  const bool is_11 = head_.http_minor >= 1;
  transfer_codings codings;
  std::uint64_t codings_at = 0;
  bool has_codings = false, has_host = false, has_length = false;
  bool close = false, keep_alive = false, upgrade = false;
  std::string_view upgrade_to;

  for (const field& f : head_.fields) {
    const auto where = static_cast<std::uint64_t>(f.name.data() - head.data());
    switch (f.name.size()) {
      case 4:
        if (!equals_lower(f.name, "host")) break;
        if (has_host) return bad("more than one Host", where);
        if (!is_host(f.value)) return bad("malformed Host", where);
        has_host = true;
        // A target with an authority overrides the field.
        if (head_.form == target_form::origin || head_.form == target_form::asterisk) {
          head_.host = f.value;
        }
        break;
      case 6:
        if (!is_11 || !equals_lower(f.name, "expect")) break;
        if (equals_lower(f.value, "100-continue")) {
          head_.expects_continue = true;
        } else if (!f.value.empty()) {
          head_.expects_other = true;
        }
        break;
      case 7:
        if (equals_lower(f.name, "upgrade")) upgrade_to = f.value;
        break;
      case 10:
        if (!equals_lower(f.name, "connection")) break;
        for_each_element(f.value, [&](std::string_view option) {
          if (equals_lower(option, "close")) close = true;
          if (equals_lower(option, "keep-alive")) keep_alive = true;
          if (equals_lower(option, "upgrade")) upgrade = true;
        });
        break;
      case 14:
        if (!equals_lower(f.name, "content-length")) break;
        if (has_length) return bad("more than one Content-Length", where);
        if (!read_length(f.value, head_.content_length)) {
          return bad("malformed Content-Length", where);
        }
        has_length = true;
        break;
      case 17:
        if (!equals_lower(f.name, "transfer-encoding")) break;
        codings.add(f.value);
        codings_at = where;
        has_codings = true;
        break;
      default:
        break;
    }
  }

  if (is_11 && !has_host && head_.form != target_form::authority) return bad("no Host", end);
  if (has_codings) {
    if (has_length) return bad("Transfer-Encoding with Content-Length", codings_at);
    if (!is_11) return bad("Transfer-Encoding in HTTP/1.0", codings_at);
    const wire_error error = codings.judge(codings_at);
    if (failed(error)) return error;
    head_.body = body_framing::chunked;
  } else if (has_length) {
    head_.body = body_framing::length;
  }
  head_.keep_alive = !close && (is_11 || keep_alive);
  if (is_11 && upgrade) head_.upgrade = upgrade_to;
  // Nobody waits before sending nothing.
  if (head_.body == body_framing::none || (has_length && head_.content_length == 0)) {
    head_.expects_continue = false;
  }
  return fine;
}

step request_parser::parse_fixed(std::span<const char> input) noexcept {
  if (remaining_ == 0) return end_of_message(0);
  step out;
  if (input.empty()) return out;
  out.what = event::body;
  out.consumed = static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, input.size()));
  out.body = input.first(out.consumed);
  remaining_ -= out.consumed;
  offset_ += out.consumed;
  return out;
}

void request_parser::begin_chunk_line() noexcept {
  state_ = state::chunk_size;
  chunk_line_bytes_ = 0;
  size_digits_ = 0;
  if (head_.body == body_framing::chunked) remaining_ = 0;
}

// Judges a complete chunk line; remaining_ holds the size it gave.
wire_error request_parser::begin_chunk(std::uint64_t where) noexcept {
  if (remaining_ > bounds_.body_bytes - body_seen_) return {413, "body too large", where};
  body_seen_ += remaining_;
  const std::uint64_t justified = 16 + 2 * remaining_;
  chunk_excess_ += chunk_line_bytes_;
  chunk_excess_ = chunk_excess_ > justified ? chunk_excess_ - justified : 0;
  if (chunk_excess_ > chunk_excess_max) return bad("too much chunk framing", where);
  return fine;
}

step request_parser::parse_chunked(std::span<const char> input) noexcept {
  step out;
  for (std::size_t i = 0; i < input.size(); ++i) {
    const char c = input[i];
    const std::uint64_t where = offset_ + i;
    const bool in_line = state_ <= state::chunk_size_lf;
    if (in_line && ++chunk_line_bytes_ > chunk_line_bytes_max) {
      return refuse(bad("chunk line too long", where));
    }
    const bool in_trailer = state_ >= state::trailer_start && state_ <= state::trailer_lf;
    if (in_trailer && ++trailer_bytes_ > bounds_.trailer_bytes) {
      return refuse({431, "trailer too large", where});
    }

    switch (state_) {
      case state::chunk_size:
        if (is(c, hex_char)) {
          if (++size_digits_ > size_digits_max) return refuse(bad("chunk size too large", where));
          const int digit = is(c, digit_char) ? c - '0' : to_lower(c) - 'a' + 10;
          remaining_ = remaining_ * 16 + static_cast<std::uint64_t>(digit);
          break;
        }
        if (size_digits_ == 0) return refuse(bad("malformed chunk size", where));
        [[fallthrough]];
      case state::chunk_blank:
        if (c == ';') {
          state_ = state::chunk_extension;
        } else if (is_blank(c)) {
          state_ = state::chunk_blank;  // Only an extension may follow.
        } else if (c == '\r' && state_ == state::chunk_size) {
          state_ = state::chunk_size_lf;
        } else {
          return refuse(bad("malformed chunk size", where));
        }
        break;
      case state::chunk_extension:
        if (c == '\r') {
          state_ = state::chunk_size_lf;
        } else if (is_control(c) && c != '\t') {
          return refuse(bad("malformed chunk extension", where));
        }
        break;
      case state::chunk_size_lf: {
        if (c != '\n') return refuse(bad("carriage return without line feed", where));
        const wire_error error = begin_chunk(where);
        if (failed(error)) return refuse(error);
        state_ = remaining_ == 0 ? state::trailer_start : state::chunk_data;
        break;
      }
      case state::chunk_data: {
        const std::size_t size =
            static_cast<std::size_t>(std::min<std::uint64_t>(remaining_, input.size() - i));
        remaining_ -= size;
        if (remaining_ == 0) state_ = state::chunk_data_cr;
        out.what = event::body;
        out.body = input.subspan(i, size);
        out.consumed = i + size;
        offset_ += out.consumed;
        return out;
      }
      case state::chunk_data_cr:
        if (c != '\r') return refuse(bad("chunk longer than its size", where));
        state_ = state::chunk_data_lf;
        break;
      case state::chunk_data_lf:
        if (c != '\n') return refuse(bad("carriage return without line feed", where));
        begin_chunk_line();
        break;
      case state::trailer_start:
        if (c == '\r') {
          state_ = state::final_lf;
          break;
        }
        if (!is(c, token_char)) return refuse(bad("malformed trailer field", where));
        if (++trailer_count_ > slots_.size()) return refuse({431, "too many fields", where});
        state_ = state::trailer_name;
        break;
      case state::trailer_name:
        if (c == ':') {
          state_ = state::trailer_value;
        } else if (!is(c, token_char)) {
          return refuse(bad("malformed trailer field", where));
        }
        break;
      case state::trailer_value:
        if (c == '\r') {
          state_ = state::trailer_lf;
        } else if (is_control(c) && c != '\t') {
          return refuse(bad("malformed trailer field", where));
        }
        break;
      case state::trailer_lf:
        if (c != '\n') return refuse(bad("carriage return without line feed", where));
        state_ = state::trailer_start;
        break;
      case state::final_lf:
        if (c != '\n') return refuse(bad("carriage return without line feed", where));
        return end_of_message(i + 1);
      case state::head:
      case state::fixed_body:
      case state::failed:
        EXEUNT_UNREACHABLE("not a state of the chunked coding");
    }
  }
  out.consumed = input.size();
  offset_ += out.consumed;
  return out;
}

}  // namespace exeunt::http1
