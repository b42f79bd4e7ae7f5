/* What this machine has left: processor time and memory. SPDX-License-Identifier: MIT

   Role: reads /proc and the control groups that we are in, version 2 or 1, and says how much is
   free by the strictest of them. Owns nothing. What can't be read bounds nothing. The root of the
   files is a parameter, so that tests show it machines of every kind. */
#ifndef EF_MACHINE_H
#define EF_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    double load;           /* processes that run or want to, on average over a minute */
    double cores;          /* that we may use; a share of one counts as that */
    uint64_t memory_bytes; /* that we may use; 0: not known */
    uint64_t free_bytes;   /* of them; pages that can be had back at once count as free */
} ef_machine_t;

/* `root` is "" but in tests. */
void ef_machine_read (ef_machine_t *self, const char *root);

/* `least`: a share where it is up to 1, else bytes; 0: no bound. */
bool ef_machine_is_short (const ef_machine_t *self, double least);
/* `most`: load for each core; 0: no bound. */
bool ef_machine_is_loaded (const ef_machine_t *self, double most);

/* Resident bytes of a process; 0: it is gone. */
uint64_t ef_machine_rss (pid_t pid);

#endif
