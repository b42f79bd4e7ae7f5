/* eventflow-worker: runs a handler for events of a topic. SPDX-License-Identifier: MIT */
#include "db/db.h"
#include "exec/exec.h"
#include "options.h"

#include <stdio.h>
#include <string.h>

static const handler_t *const s_handlers[] = {&handler_api, &handler_db, &handler_email,
                                              &handler_exec};
#define HANDLERS (sizeof s_handlers / sizeof s_handlers[0])

static void
s_print_help (FILE *out) {
    fprintf (out, "usage: eventflow-worker HANDLER [--topic NAME]... [options]\n\n"
                  "Takes events of a topic from the broker and does what the handler is for:\n");
    for (size_t i = 0; i < HANDLERS; i++) {
        fprintf (out, "  %-8s %s\n", s_handlers[i]->name, s_handlers[i]->summary);
    }
    fprintf (out, "\neventflow-worker HANDLER --help tells its options, with examples.\n");
}

static int
s_run (const handler_t *handler, char *const *words) {
    char error[512] = "";
    options_t options;
    runtime_hold_signals ();
    int rc = options_read (&options, handler, words, error);
    runtime_t *runtime = NULL;
    if (rc == 0 && !options.is_check) {
        runtime = runtime_new (handler, &options.common, options.own, error);
        rc = runtime ? runtime_run (runtime) : -1;
        runtime_destroy (&runtime);
    }
    options_free (&options);
    if (rc < 0) {
        fprintf (stderr, "eventflow-worker: %s\n", error);
    }
    return rc < 0 ? 2 : rc == 1 ? 0 : rc;
}

int
main (int argc, char **argv) {
    if (argc < 2 || strcmp (argv[1], "--help") == 0 || strcmp (argv[1], "-h") == 0) {
        s_print_help (argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (strcmp (argv[1], "--version") == 0) {
        printf ("eventflow-worker %s\n", EF_PROGRAM_VERSION);
        return 0;
    }
    for (size_t i = 0; i < HANDLERS; i++) {
        if (strcmp (argv[1], s_handlers[i]->name) == 0) {
            return s_run (s_handlers[i], argv + 2);
        }
    }
    fprintf (stderr, "eventflow-worker: expected a handler, one of:");
    for (size_t i = 0; i < HANDLERS; i++) {
        fprintf (stderr, " %s", s_handlers[i]->name);
    }
    fprintf (stderr, "; not %s\n", argv[1]);
    return 2;
}
