// SPDX-License-Identifier: Apache-2.0
// For programs whose tests abandon fibers on purpose. What such a fiber owns is never freed, as the
// library promises, so LeakSanitizer is not asked.

#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
extern "C" [[gnu::used]] inline int __lsan_is_turned_off() { return 1; }
#endif
#endif
