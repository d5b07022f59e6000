// SPDX-License-Identifier: Apache-2.0
// Symbol visibility: the library is built with hidden visibility, what is public says so.

#pragma once

/// Marks what a shared build of the library exports: public functions, classes and exception types.
#define EXEUNT_API __attribute__((visibility("default")))
