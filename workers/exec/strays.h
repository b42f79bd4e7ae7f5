/* Children that a process came by. SPDX-License-Identifier: MIT

   Role: finds the children of this process that it didn't start itself: what a command left behind
   comes to the nearest subreaper, a launcher or the worker. Ends and reaps them. */
#ifndef EF_STRAYS_H
#define EF_STRAYS_H

#include <stddef.h>
#include <sys/types.h>

/* Kills every child but the `count` ones in `known`, and reaps what has ended. Returns how many are
   still there: their own children come next, so it is called until none is. */
unsigned strays_end (const pid_t *known, size_t count);

#endif
