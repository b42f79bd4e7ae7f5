/* A command per event. SPDX-License-Identifier: MIT

   The handler exec runs a command for each event, with the event on its standard input, and turns
   its end into an answer: 0 done, 75 retry, 65 dead, anything else retry with the code and the end
   of standard error. */
#ifndef EF_EXEC_H
#define EF_EXEC_H

#include "handler.h"

/* The short life between our own program and the command: killed when the worker is. */
_Noreturn void exec_launch (const char *parent, char *const *command);

#endif
