/* A program's settings and signals. SPDX-License-Identifier: MIT */
#include "program.h"
#include "../../proto/limits.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct {
    const program_t *program;
    const char *config; /* a file, NULL: none */
    bool is_check;
    char error[512];
} reading_t;

/* The row of a name in which - stands for _; NULL: there is none. */
static const setting_t *
s_find (const program_t *program, const char *name, size_t size, void **base) {
    for (unsigned t = 0; t < program->table_count; t++) {
        const settings_t *settings = program->tables[t].settings;
        for (size_t i = 0; i < settings->count; i++) {
            const char *row = settings->rows[i].name;
            size_t at = 0;
            while (at < size && row[at] &&
                   (row[at] == name[at] || (row[at] == '_' && name[at] == '-'))) {
                at++;
            }
            if (at == size && row[at] == '\0') {
                *base = program->tables[t].base;
                return &settings->rows[i];
            }
        }
    }
    return NULL;
}

/* Says what a name that isn't there may have been meant as, among all there are. */
static int
s_unknown (reading_t *self, const char *name) {
    const program_t *program = self->program;
    size_t count = 0;
    for (unsigned t = 0; t < program->table_count; t++) {
        count += program->tables[t].settings->count;
    }
    setting_t *rows = calloc (count ? count : 1, sizeof *rows);
    ef_assert (rows != NULL);
    count = 0;
    for (unsigned t = 0; t < program->table_count; t++) {
        const settings_t *settings = program->tables[t].settings;
        memcpy (rows + count, settings->rows, settings->count * sizeof *rows);
        count += settings->count;
    }
    const settings_t all = {rows, count};
    int rc = config_set_named (&all, NULL, name, "", self->error); /* no row has this name */
    free (rows);
    return rc;
}

static int
s_load_section (reading_t *self, settings_file_t *file, struct _zconfig_t *parent) {
    for (struct _zconfig_t *node = settings_file_first (file, parent); node;
         node = settings_file_further (file, node)) {
        void *base;
        const char *name = settings_file_name (node);
        const setting_t *row = s_find (self->program, name, strlen (name), &base);
        const settings_t one = {row, 1};
        if (row ? settings_file_set (&one, base, node, self->error) : s_unknown (self, name)) {
            return -1;
        }
    }
    return 0;
}

static int
s_load_file (reading_t *self) {
    settings_file_t file;
    int rc = 0;
    if (self->config == NULL || self->config[0] == 0) {
        return 0;
    }
    if (settings_file_open (&file, self->config, self->error)) {
        return -1;
    }
    for (struct _zconfig_t *node = settings_file_first (&file, file.root); node && rc == 0;
         node = settings_file_further (&file, node)) {
        if (strcmp (settings_file_name (node), self->program->section) == 0) {
            rc = s_load_section (self, &file, node);
        } else {
            settings_file_skip (&file, node);
        }
    }
    if (rc) {
        char text[512];
        memcpy (text, self->error, sizeof text);
        settings_file_blame (&file, self->config, text, self->error);
    }
    settings_file_close (&file);
    return rc;
}

static int
s_read_flag (reading_t *self, char ***word_p) {
    char **word = *word_p;
    void *base;
    const char *name = strncmp (*word, "--", 2) == 0 ? *word + 2 : "";
    size_t size = strcspn (name, "=");
    const setting_t *row = s_find (self->program, name, size, &base);
    if (row == NULL) {
        snprintf (self->error, 512, "unknown %s %.100s; see %s --help", name[0] ? "flag" : "word",
                  *word, self->program->name);
        return -1;
    }
    const char *value = name[size] ? name + size + 1 : NULL;
    bool stands_alone = row->kind == &config_boolean &&
                        (word[1] == NULL || (strcmp (word[1], "0") && strcmp (word[1], "1")));
    if (value == NULL && stands_alone) {
        value = "1";
    } else if (value == NULL && word[1] == NULL) {
        snprintf (self->error, 512, "this needs a value: %.100s", *word);
        return -1;
    } else if (value == NULL) {
        value = *++word;
    }
    *word_p = word + 1;
    return config_set (row, base, value, self->error);
}

static void
s_print_help (const program_t *program) {
    ef_buf_t text = {0};
    printf ("usage: %s [options]\n\n%s\noptions, with their defaults:\n", program->name,
            program->help);
    for (unsigned t = 0; t < program->table_count; t++) {
        const settings_t *settings = program->tables[t].settings;
        for (size_t i = 0; i < settings->count; i++) {
            const setting_t *row = &settings->rows[i];
            char flag[80];
            ef_buf_clear (&text);
            config_print (row, program->tables[t].base, &text);
            snprintf (flag, sizeof flag, "--%s", row->name);
            for (char *at = flag + 2; *at; at++) {
                *at = *at == '_' ? '-' : *at;
            }
            printf ("  %-22s %s%s%s", flag, row->help ? row->help : row->kind->expected,
                    row->choices ? ": " : "", row->choices ? row->choices : "");
            if (text.size > 0 && !(text.size == 2 && memcmp (text.data, "\"\"", 2) == 0)) {
                printf (" (%.*s)", (int)text.size, (const char *)text.data);
            }
            printf ("\n");
        }
    }
    ef_buf_free (&text);
    printf ("  %-22s a file with a section %s ($EVENTFLOW_CONFIG)\n", "--config", program->section);
    printf ("  %-22s say whether these settings would do, and end\n", "--check");
    printf ("\nIn the file an option is written with _ for -. In the environment it is "
            "EVENTFLOW_, %s_ and its name, in capitals.\n"
            "TERM or INT: takes nothing new, answers what is under way, ends.\n",
            program->section);
}

/* What is to be known before anything else is read. -1: go on. */
static int
s_read_first (reading_t *self, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp (argv[i], "--help") == 0 || strcmp (argv[i], "-h") == 0) {
            s_print_help (self->program);
            return 0;
        }
        if (strcmp (argv[i], "--version") == 0) {
            printf ("%s %s\n", self->program->name, EF_PROGRAM_VERSION);
            return 0;
        }
        if (strcmp (argv[i], "--config") == 0 && i + 1 < argc) {
            self->config = argv[i + 1];
        } else if (strncmp (argv[i], "--config=", 9) == 0) {
            self->config = argv[i] + 9;
        }
        self->is_check = self->is_check || strcmp (argv[i], "--check") == 0;
    }
    return -1;
}

static int
s_read_flags (reading_t *self, char **word) {
    while (*word) {
        if (strcmp (*word, "--check") == 0 || strncmp (*word, "--config=", 9) == 0) {
            word++;
        } else if (strcmp (*word, "--config") == 0 && word[1]) {
            word += 2;
        } else if (s_read_flag (self, &word)) {
            return -1;
        }
    }
    return 0;
}

int
program_options (const program_t *self, int argc, char **argv) {
    reading_t reading = {.program = self, .config = getenv ("EVENTFLOW_CONFIG")};
    int status = s_read_first (&reading, argc, argv);
    if (status >= 0) {
        return status;
    }
    int rc = s_load_file (&reading);
    for (unsigned t = 0; t < self->table_count && rc == 0; t++) {
        rc = settings_environment (self->section, "", self->tables[t].settings,
                                   self->tables[t].base, reading.error);
    }
    rc = rc ? rc : s_read_flags (&reading, argv + 1);
    rc = rc == 0 && self->check ? self->check (reading.error) : rc;
    if (rc) {
        fprintf (stderr, "%s: %s\n", self->name, reading.error);
        return 2;
    }
    if (reading.is_check) {
        printf ("%s: these settings would do\n", self->name);
        return 0;
    }
    return -1;
}

static void
s_signals (sigset_t *set) {
    sigemptyset (set);
    sigaddset (set, SIGTERM);
    sigaddset (set, SIGINT);
    sigaddset (set, SIGHUP);
}

void
program_block_signals (void) {
    sigset_t set;
    s_signals (&set);
    (void)pthread_sigmask (SIG_BLOCK, &set, NULL); /* a valid set */
    (void)signal (SIGPIPE, SIG_IGN);
}

/* The next signal within the time, 0: none. */
static int
s_next (uint32_t timeout_ms) {
    sigset_t set;
    s_signals (&set);
    const struct timespec wait = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
    int number = sigtimedwait (&set, NULL, &wait);
    return number > 0 ? number : 0;
}

void
program_wait (void (*each) (void *arg, bool is_hangup), void *arg) {
    for (;;) {
        int number = s_next (1000);
        if (number == SIGTERM || number == SIGINT) {
            return;
        }
        if (each) {
            each (arg, number == SIGHUP);
        }
    }
}

bool
program_is_told (uint32_t timeout_ms) {
    int number = s_next (timeout_ms);
    return number == SIGTERM || number == SIGINT;
}
