/* How a command is to be started. SPDX-License-Identifier: MIT */
#include "plan.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUPS_MAX 256 /* as the launcher has it */

extern char **environ;

static int
s_set_variable (const setting_t *setting, void *field, const char *value, char why[200]) {
    plan_options_t *options =
        (plan_options_t *)((char *)field - offsetof (plan_options_t, variables));
    size_t size = strlen (value) + 1;
    uint32_t count = 0;
    (void)setting;
    for (uint32_t i = 0; i < options->variables_size; i++) {
        count += options->variables[i] == 0;
    }
    if (strchr (value, '=') == NULL || value[0] == '=') {
        return -1;
    }
    if (count == PLAN_VARIABLES_MAX || options->variables_size + size > sizeof options->variables) {
        snprintf (why, 200, "there are at most %d of them, of %zu bytes together",
                  PLAN_VARIABLES_MAX, sizeof options->variables);
        return -1;
    }
    memcpy (options->variables + options->variables_size, value, size);
    options->variables_size += (uint32_t)size;
    return 0;
}

static void
s_print_variables (const setting_t *setting, const void *field, ef_buf_t *out) {
    const plan_options_t *options =
        (const plan_options_t *)((const char *)field - offsetof (plan_options_t, variables));
    (void)setting;
    for (uint32_t at = 0; at < options->variables_size;) {
        const char *text = options->variables + at;
        ef_buf_put (out, at ? ", " : "", at ? 2 : 0);
        ef_buf_put (out, text, strlen (text));
        at += (uint32_t)strlen (text) + 1;
    }
}

const config_kind_t plan_variable = {"NAME=VALUE", s_set_variable, s_print_variables, NULL, false};

/* It stands beside our own program. */
static int
s_find_launcher (plan_t *self, char error[512]) {
    char path[1024];
    ssize_t size = readlink ("/proc/self/exe", path, sizeof path - 1);
    path[size > 0 ? size : 0] = 0;
    char *slash = strrchr (path, '/');
    snprintf (self->launcher, sizeof self->launcher, "%.*seventflow-launch",
              slash ? (int)(slash - path + 1) : 0, path);
    if (access (self->launcher, X_OK)) {
        snprintf (error, 512, "%.400s: %s", self->launcher, strerror (errno));
        return -1;
    }
    return 0;
}

/* "UID:GID:GROUP,..." for the launcher, which knows no names; *entry: whose home it is. */
static int
s_find_user (const char *user, char *word, size_t bytes, const struct passwd **entry,
             char error[512]) {
    char name[128];
    gid_t groups[GROUPS_MAX];
    int count = GROUPS_MAX;
    snprintf (name, sizeof name, "%s", user);
    char *group = strchr (name, ':');
    if (group) {
        *group++ = 0;
    }
    *entry = getpwnam (name);
    const struct group *wanted = group ? getgrnam (group) : NULL;
    if (*entry == NULL || (group && wanted == NULL)) {
        snprintf (error, 512, "there is no %s '%s'", *entry ? "group" : "user",
                  *entry ? group : name);
        return -1;
    }
    if (geteuid () != 0) {
        snprintf (error, 512, "only root can run a command as another user ('%s')", user);
        return -1;
    }
    gid_t gid = wanted ? wanted->gr_gid : (*entry)->pw_gid;
    if (getgrouplist (name, gid, groups, &count) < 0) {
        snprintf (error, 512, "user '%s' is in more than %d groups", name, GROUPS_MAX);
        return -1;
    }
    int size = snprintf (word, bytes, "user=%u:%u", (unsigned)(*entry)->pw_uid, (unsigned)gid);
    for (int i = 0; i < count && size < (int)bytes - 16; i++) {
        size += snprintf (word + size, bytes - (size_t)size, "%c%u", i ? ',' : ':',
                          (unsigned)groups[i]);
    }
    return 0;
}

static bool
s_has (char *const *list, size_t count, const char *variable) {
    size_t name = strcspn (variable, "=") + 1;
    for (size_t i = 0; i < count; i++) {
        if (strncmp (list[i], variable, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Copies it; one that was put before it holds. */
static void
s_put_variable (plan_t *self, const char *variable) {
    if (!s_has (self->environment, self->variables, variable)) {
        char *copy = strdup (variable);
        ef_assert (copy != NULL);
        self->environment[self->variables++] = copy;
    }
}

/* What a login would set, for who runs as somebody else. */
static void
s_put_identity (plan_t *self, const struct passwd *entry) {
    const char *const names[] = {"HOME", "USER", "LOGNAME"};
    const char *const values[] = {entry->pw_dir, entry->pw_name, entry->pw_name};
    for (unsigned i = 0; i < 3; i++) {
        char text[1100];
        snprintf (text, sizeof text, "%s=%s", names[i], values[i]);
        s_put_variable (self, text);
    }
}

/* What the worker itself was told in confidence is no command's business. */
static bool
s_is_secret (const char *variable) {
    static const char *const ends[] = {"TOKEN", "SECRET", "PASSWORD"};
    size_t size = strcspn (variable, "=");
    bool is_secret = false;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t length = strlen (ends[i]);
        is_secret = is_secret || (size > length && strncmp (variable, "EVENTFLOW_", 10) == 0 &&
                                  strncmp (variable + size - length, ends[i], length) == 0);
    }
    return is_secret;
}

static void
s_make_environment (plan_t *self, const plan_options_t *options, const struct passwd *entry) {
    size_t inherited = 0;
    while (environ[inherited]) {
        inherited++;
    }
    self->environment = calloc (inherited + PLAN_VARIABLES_MAX + 4, sizeof *self->environment);
    ef_assert (self->environment != NULL);
    for (uint32_t end = options->variables_size; end > 0;) { /* the last word on a name holds */
        uint32_t at = end - 1;
        while (at > 0 && options->variables[at - 1]) {
            at--;
        }
        s_put_variable (self, options->variables + at);
        end = at;
    }
    if (entry) {
        s_put_identity (self, entry);
    }
    for (size_t i = 0; i < inherited && !options->clears_environment; i++) {
        if (!s_is_secret (environ[i])) {
            s_put_variable (self, environ[i]);
        }
    }
}

static void
s_add_word (plan_t *self, size_t *at, char *word) {
    self->arguments[(*at)++] = word;
}

static void
s_make_arguments (plan_t *self, const plan_options_t *options) {
    static char shell[] = "/bin/sh";
    static char flag[] = "-c";
    static char mark[] = "--";
    size_t count = 0;
    size_t at = 0;
    while (options->words && options->words[count]) {
        count++;
    }
    self->arguments = calloc (count + 16, sizeof *self->arguments);
    ef_assert (self->arguments != NULL);
    s_add_word (self, &at, self->launcher);
    snprintf (self->parent, sizeof self->parent, "%d", (int)getpid ());
    s_add_word (self, &at, self->parent);
    for (unsigned i = 0; i < PLAN_WORDS; i++) {
        if (self->words[i][0]) {
            s_add_word (self, &at, self->words[i]);
        }
    }
    s_add_word (self, &at, mark);
    if (count == 0) {
        s_add_word (self, &at, shell);
        s_add_word (self, &at, flag);
        s_add_word (self, &at, (char *)options->command);
    }
    for (size_t i = 0; i < count; i++) {
        s_add_word (self, &at, options->words[i]);
    }
}

plan_t *
plan_new (const plan_options_t *options, char error[512]) {
    plan_t *self = calloc (1, sizeof *self);
    const struct passwd *entry = NULL;
    ef_assert (self != NULL);
    if (s_find_launcher (self, error) ||
        (options->user[0] &&
         s_find_user (options->user, self->words[0], sizeof self->words[0], &entry, error))) {
        plan_destroy (&self);
        return NULL;
    }
    if (options->directory[0]) {
        snprintf (self->words[1], sizeof self->words[1], "chdir=%s", options->directory);
    }
    if (options->cpu_ms) { /* the kernel counts whole seconds */
        snprintf (self->words[2], sizeof self->words[2], "cpu=%u", (options->cpu_ms + 999) / 1000);
    }
    if (options->memory_bytes) {
        snprintf (self->words[3], sizeof self->words[3], "memory=%llu",
                  (unsigned long long)options->memory_bytes);
    }
    if (options->files) {
        snprintf (self->words[4], sizeof self->words[4], "files=%u", options->files);
    }
    if (options->nice) {
        snprintf (self->words[5], sizeof self->words[5], "nice=%u", options->nice);
    }
    s_make_arguments (self, options);
    s_make_environment (self, options, entry);
    return self;
}

void
plan_destroy (plan_t **self_p) {
    plan_t *self = *self_p;
    if (self) {
        for (size_t i = 0; i < self->variables; i++) {
            free (self->environment[i]);
        }
        free (self->environment);
        free (self->arguments);
        free (self);
        *self_p = NULL;
    }
}

char **
plan_environment (const plan_t *self, char *const *more, size_t count) {
    char **list = calloc (self->variables + count + 1, sizeof *list);
    size_t size = count;
    ef_assert (list != NULL);
    for (size_t i = 0; i < count; i++) {
        list[i] = more[i];
    }
    for (size_t i = 0; i < self->variables; i++) {
        if (!s_has (list, count, self->environment[i])) {
            list[size++] = self->environment[i];
        }
    }
    return list;
}
