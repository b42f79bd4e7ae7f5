/* Starting processes: workers, and this program for what wants one of its own.
   SPDX-License-Identifier: MIT

   A process is started by posix_spawn of this very program as a launcher (`eventflowd --launch
   COMMAND`), which asks the kernel for a SIGTERM on its parent's death before it becomes the
   command, so that no worker outlives its broker, whatever ended it. */
#ifndef EF_SPAWN_H
#define EF_SPAWN_H

#include "../../proto/assert.h"

#include <sys/types.h>

/* Starts a shell command in a session of its own with this environment. Returns a pidfd, or a
   negative errno; `*pid` is its process group too. */
EF_MUST_USE int ef_spawn (const char *command, char *const environment[], pid_t *pid);

/* Runs this very program with one flag and this environment, and gathers what it writes to standard
   output, `size` bytes at the most. Returns how many came, or a negative errno, also where it
   failed. Waits for its end. */
EF_MUST_USE int ef_spawn_self (const char *flag, char *const environment[], void *bytes,
                               size_t size);

/* The launcher: never returns. `parent` is the pid that must still be the parent. */
_Noreturn void ef_launch (const char *parent, const char *command);

#endif
