/* A worker's settings, from where they are said. SPDX-License-Identifier: MIT */
#include "options.h"
#include "../proto/limits.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    options_t *options;
    const char *config;  /* a file, NULL: none */
    const char *section; /* of worker in it */
    bool has_topics;     /* flags have begun a list of their own */
    char *error;
} reading_t;

/* A row of the common settings or of the handler's; NULL: there is none. */
static const setting_t *
s_find (const reading_t *self, const char *name, size_t size, void **base) {
    const settings_t *tables[] = {self->options->handler->settings, &runtime_settings};
    void *bases[] = {self->options->own, &self->options->common};
    for (unsigned i = 0; i < 2; i++) {
        for (size_t k = 0; tables[i] && k < tables[i]->count; k++) {
            const char *row = tables[i]->rows[k].name;
            size_t at = 0;
            while (at < size && row[at] &&
                   (row[at] == name[at] || (row[at] == '_' && name[at] == '-'))) {
                at++;
            }
            if (at == size && row[at] == '\0') {
                *base = bases[i];
                return &tables[i]->rows[k];
            }
        }
    }
    return NULL;
}

/* --topic may be said several times: the names are gathered. */
static int
s_add_topic (reading_t *self, const char *value) {
    runtime_options_t *common = &self->options->common;
    size_t used = self->has_topics ? strlen (common->topics) : 0;
    if (used + strlen (value) + 2 > sizeof common->topics) {
        snprintf (self->error, 512, "--topic: expected up to %u names", RUNTIME_TOPICS_MAX);
        return -1;
    }
    snprintf (common->topics + used, sizeof common->topics - used, "%s%s", used ? "," : "", value);
    self->has_topics = true;
    return 0;
}

static int
s_flag (reading_t *self, const setting_t *row, void *base, const char *value) {
    if (base == &self->options->common && strcmp (row->name, "topic") == 0) {
        return s_add_topic (self, value);
    }
    return config_set (row, base, value, self->error);
}

/* Reads flags up to `--`. Returns what lies behind it, or the end; NULL: an error. */
static char *const *
s_read_flags (reading_t *self, char *const *word) {
    for (; *word && strcmp (*word, "--") != 0; word++) {
        void *base;
        const char *name = strncmp (*word, "--", 2) == 0 ? *word + 2 : "";
        size_t size = strcspn (name, "=");
        const setting_t *row = s_find (self, name, size, &base);
        if (row == NULL) {
            snprintf (self->error, 512, "unknown %s %.100s; see eventflow-worker %s --help",
                      name[0] ? "flag" : "word", *word, self->options->handler->name);
            return NULL;
        }
        const char *value = name[size] ? name + size + 1 : NULL;
        bool stands_alone =
            row->kind == &config_boolean &&
            (word[1] == NULL || (strcmp (word[1], "0") != 0 && strcmp (word[1], "1") != 0));
        if (value == NULL && stands_alone) {
            value = "1";
        } else if (value == NULL && word[1] == NULL) {
            snprintf (self->error, 512, "this needs a value: %.100s", *word);
            return NULL;
        } else if (value == NULL) {
            value = *++word;
        }
        if (s_flag (self, row, base, value)) {
            return NULL;
        }
    }
    return word;
}

/* What is to be known before anything else is read: --config FILE, --section NAME, --check. */
static int
s_read_first (reading_t *self, char *const *words, char ***rest) {
    size_t count = 0;
    while (words[count]) {
        count++;
    }
    *rest = calloc (count + 1, sizeof **rest);
    ef_assert (*rest != NULL);
    size_t kept = 0;
    bool is_over = false;
    for (size_t i = 0; i < count; i++) {
        is_over = is_over || strcmp (words[i], "--") == 0;
        bool is_config = strcmp (words[i], "--config") == 0;
        if (!is_over && strcmp (words[i], "--check") == 0) {
            self->options->is_check = true;
        } else if (!is_over && (is_config || strcmp (words[i], "--section") == 0)) {
            if (i + 1 == count) {
                snprintf (self->error, 512, "this needs a value: %s", words[i]);
                return -1;
            }
            *(is_config ? &self->config : &self->section) = words[++i];
        } else {
            (*rest)[kept++] = words[i];
        }
    }
    return 0;
}

/* Says what a name that isn't there may have been meant as, among all there are. */
static int
s_unknown (reading_t *self, const char *name) {
    const settings_t *own = self->options->handler->settings;
    size_t count = own ? own->count : 0;
    setting_t *rows = calloc (count + runtime_settings.count, sizeof *rows);
    ef_assert (rows != NULL);
    for (size_t i = 0; i < count; i++) {
        rows[i] = own->rows[i];
    }
    memcpy (rows + count, runtime_settings.rows, runtime_settings.count * sizeof *rows);
    const settings_t all = {rows, count + runtime_settings.count};
    int rc = config_set_named (&all, NULL, name, "", self->error); /* no row has this name */
    free (rows);
    return rc;
}

/* One section of worker: common settings and the handler's own. */
static int
s_load_section (reading_t *self, settings_file_t *file, struct _zconfig_t *parent) {
    for (struct _zconfig_t *node = settings_file_first (file, parent); node;
         node = settings_file_further (file, node)) {
        void *base;
        const char *name = settings_file_name (node);
        const setting_t *row = s_find (self, name, strlen (name), &base);
        const settings_t one = {row, 1};
        if (row ? settings_file_set (&one, base, node, self->error) : s_unknown (self, name)) {
            return -1;
        }
    }
    return 0;
}

static int
s_load_workers (reading_t *self, settings_file_t *file, struct _zconfig_t *parent) {
    int rc = 0;
    bool is_found = false;
    for (struct _zconfig_t *node = settings_file_first (file, parent); node && rc == 0;
         node = settings_file_further (file, node)) {
        const char *name = settings_file_name (node);
        bool is_ours = strcmp (name, self->section) == 0;
        if (is_ours || strcmp (name, "defaults") == 0) {
            is_found = is_found || is_ours;
            rc = s_load_section (self, file, node);
        } else {
            settings_file_skip (file, node);
        }
    }
    if (rc == 0 && !is_found && strcmp (self->section, self->options->handler->name) != 0) {
        snprintf (self->error, 512, "expected a section worker/%.60s", self->section);
        rc = -1;
    }
    return rc;
}

static int
s_load_file (reading_t *self, char error[512]) {
    settings_file_t file;
    int rc = 0;
    if (settings_file_open (&file, self->config, error)) {
        return -1;
    }
    for (struct _zconfig_t *node = settings_file_first (&file, file.root); node && rc == 0;
         node = settings_file_further (&file, node)) {
        if (strcmp (settings_file_name (node), "worker") == 0) {
            rc = s_load_workers (self, &file, node);
        } else {
            settings_file_skip (&file, node);
        }
    }
    if (rc) {
        char text[512];
        memcpy (text, self->error, sizeof text);
        settings_file_blame (&file, self->config, text, error);
    }
    settings_file_close (&file);
    return rc;
}

static void
s_print_rows (const settings_t *settings, const void *base) {
    ef_buf_t text = {0};
    for (size_t i = 0; settings && i < settings->count; i++) {
        const setting_t *row = &settings->rows[i];
        char flag[80];
        ef_buf_clear (&text);
        config_print (row, base, &text);
        snprintf (flag, sizeof flag, "--%s", row->name);
        for (char *at = flag + 2; *at; at++) {
            *at = *at == '_' ? '-' : *at;
        }
        printf ("  %-22s %s%s%s", flag, row->help ? row->help : row->kind->expected,
                row->choices ? ": " : "", row->choices ? row->choices : "");
        if (text.size > 0) {
            printf (" (%.*s)", (int)text.size, (const char *)text.data);
        }
        printf ("\n");
    }
    ef_buf_free (&text);
}

static void
s_print_help (const options_t *self) {
    const handler_t *handler = self->handler;
    char capitals[16];
    snprintf (capitals, sizeof capitals, "%s", handler->name);
    for (char *at = capitals; *at; at++) {
        *at = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
    }
    printf (
        "usage: eventflow-worker %s [--topic NAME]... [options]%s\n\n%s\n\n%s\noptions of %s, with "
        "their defaults:\n",
        handler->name, handler->words ? " -- COMMAND [ARGUMENT]..." : "", handler->summary,
        handler->help, handler->name);
    s_print_rows (handler->settings, self->own);
    printf ("\noptions of every worker:\n");
    s_print_rows (&runtime_settings, &self->common);
    printf ("  %-22s %s\n", "--config",
            "a file with sections worker/defaults and worker/NAME ($EVENTFLOW_CONFIG)");
    printf ("  %-22s %s (%s)\n", "--section", "whose NAME that is", handler->name);
    printf ("  %-22s %s\n", "--check", "say whether these settings would do, and end");
    printf ("\nIn the file an option is written with _ for -, as in worker/%s: timeout = 30s. The "
            "environment\n"
            "has them as EVENTFLOW_WORKER_TIMEOUT, and those of %s as EVENTFLOW_%s_OPTION.\n"
            "TERM or INT: what is in hand may finish within the grace; a second one: it goes back "
            "at once.\n",
            handler->name, handler->name, capitals);
}

/* What the broker told the process that it started. */
static int
s_read_credit (runtime_options_t *common, char error[512]) {
    const char *credit = getenv ("EVENTFLOW_CREDIT");
    char text[512];
    if (credit && config_set_named (&runtime_settings, common, "concurrency", credit, text)) {
        snprintf (error, 512, "environment EVENTFLOW_CREDIT: %.400s", text);
        return -1;
    }
    return 0;
}

static int
s_settle (options_t *self, char error[512]) {
    runtime_options_t *common = &self->common;
    if (common->concurrency == 0 && s_read_credit (common, error)) { /* left open behind it */
        return -1;
    }
    if (common->concurrency == 0) {
        common->concurrency = self->handler->concurrency ? self->handler->concurrency : 5;
    }
    if (common->topics[0] == '\0') {
        const char *topic = getenv ("EVENTFLOW_TOPIC");
        snprintf (common->topics, sizeof common->topics, "%s",
                  topic                  ? topic
                  : self->handler->words ? ""
                                         : self->handler->name);
    }
    if (common->topics[0] == '\0') {
        snprintf (error, 512, "expected --topic, or EVENTFLOW_TOPIC");
        return -1;
    }
    return self->handler->check ? self->handler->check (self->own, error) : 0;
}

static int
s_read_broker (runtime_options_t *common, char error[512]) {
    const char *downstream = getenv ("EVENTFLOW_DOWNSTREAM");
    int rc = s_read_credit (common, error);
    if (rc == 0 && downstream) {
        rc = config_set_named (&runtime_settings, common, "downstream", downstream, error);
    }
    return rc;
}

int
options_read (options_t *self, const handler_t *handler, char *const *words, char error[512]) {
    memset (self, 0, sizeof *self);
    self->handler = handler;
    self->own = calloc (1, handler->options_bytes ? handler->options_bytes : 1);
    ef_assert (self->own != NULL);
    runtime_defaults (&self->common);
    if (handler->defaults) {
        handler->defaults (self->own);
    }
    if (words[0] && (strcmp (words[0], "--help") == 0 || strcmp (words[0], "-h") == 0)) {
        s_print_help (self);
        return 1;
    }
    reading_t reading = {.options = self,
                         .config = getenv ("EVENTFLOW_CONFIG"),
                         .section = handler->name,
                         .error = error};
    char **rest;
    int rc = s_read_first (&reading, words, &rest);
    rc = rc ? rc : s_read_broker (&self->common, error);
    rc = rc || reading.config == NULL || reading.config[0] == '\0' ? rc
                                                                   : s_load_file (&reading, error);
    rc = rc ? rc : settings_environment ("WORKER", "", &runtime_settings, &self->common, error);
    if (rc == 0 && handler->settings) {
        rc = settings_environment (handler->name, "", handler->settings, self->own, error);
    }
    char *const *behind = rc ? NULL : s_read_flags (&reading, rest);
    rc = behind ? 0 : -1;
    if (rc == 0 && handler->words) {
        while (*words && strcmp (*words, "--") != 0) {
            words++;
        }
        rc = handler->words (self->own, *words ? words + 1 : words, error);
    } else if (rc == 0 && *behind) {
        snprintf (error, 512, "the handler %s takes no command", handler->name);
        rc = -1;
    }
    free (rest);
    return rc ? rc : s_settle (self, error);
}

void
options_free (options_t *self) {
    free (self->own);
    self->own = NULL;
}
