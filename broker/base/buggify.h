/* Fault points in production code, for the simulator. SPDX-License-Identifier: MIT

   EF_BUGGIFY (n) is false unless a simulator has set the hook; then it is true about once in n, by
   the simulator's seed. It stands where something rare but legal may happen, so that it happens
   often in simulation: an early roll, a part given up, a fetch put off. It never changes what is
   right, only when (FoundationDB's buggify). Threads: the hook is set before any of them. */
#ifndef EF_BUGGIFY_H
#define EF_BUGGIFY_H

#include <stdbool.h>
#include <stdint.h>

extern bool (*ef_buggify_hook) (uint32_t one_in);

#define EF_BUGGIFY(one_in) (__builtin_expect (ef_buggify_hook != 0, 0) && ef_buggify_hook (one_in))

#endif
