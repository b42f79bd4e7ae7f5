/* Assertions that stay on in release builds. SPDX-License-Identifier: MIT */
#ifndef EF_ASSERT_H
#define EF_ASSERT_H

/* Prints what failed and where, then aborts. */
_Noreturn void ef_assert_failed (const char *expression, const char *file, int line);

/* Our own pointers, states and counters only; bytes from a peer or a file are validated instead.
   The expression has no side effects. */
#define ef_assert(expression)                                                                      \
    do {                                                                                           \
        if (__builtin_expect (!(expression), 0)) {                                                 \
            ef_assert_failed (#expression, __FILE__, __LINE__);                                    \
        }                                                                                          \
    } while (0)

#define EF_MUST_USE          __attribute__ ((warn_unused_result))
#define EF_PRINTF(at, first) __attribute__ ((format (printf, at, first)))

#endif
