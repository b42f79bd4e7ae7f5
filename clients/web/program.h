/* What a program with a server does from its command line to its end. SPDX-License-Identifier: MIT
 */
#ifndef EF_WEB_PROGRAM_H
#define EF_WEB_PROGRAM_H

#include "../../broker/base/settings.h"

/* Rows of one section that fill one struct; a section may have several. */
typedef struct {
    const settings_t *settings;
    void *base;
} program_table_t;

typedef struct {
    const char *name;    /* "eventflow-gateway" */
    const char *section; /* of the file, and of the environment: "gateway", EVENTFLOW_GATEWAY_… */
    const char *help;    /* what it is, with examples; the options are printed from the rows */
    const program_table_t *tables;
    unsigned table_count;
    int (*check) (char error[512]); /* of all together; NULL: none */
} program_t;

/* Reads the file ($EVENTFLOW_CONFIG, --config FILE), the environment, the flags. -1: go on; else
   the exit status: 0 after --help, --version, --check, or 2, what is wrong being said. */
int program_options (const program_t *self, int argc, char **argv);

/* Blocks the signals that program_wait takes; before the first thread. */
void program_block_signals (void);
/* Waits for TERM or INT, calling `each` (NULL: none) every second and at HUP. */
void program_wait (void (*each) (void *arg, bool is_hangup), void *arg);
/* True where TERM or INT came (again) within `timeout_ms`. */
bool program_is_told (uint32_t timeout_ms);

#endif
