// SPDX-License-Identifier: Apache-2.0
// What the API server answers.

#pragma once

#include <exeunt/http/router.hpp>

#include "crasher.hpp"
#include "tracker.hpp"

namespace service {

/// Both must live as long as requests are answered.
[[nodiscard]] exeunt::http::router api_routes(tracker& events, crasher& crash);

}  // namespace service
