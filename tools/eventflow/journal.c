/* eventflow journal: which journals, under which lock. SPDX-License-Identifier: MIT */
#include "journal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
s_is_directory (const char *path) {
    struct stat status;
    return stat (path, &status) == 0 && S_ISDIR (status.st_mode);
}

static bool
s_ends_with (const char *text, const char *end) {
    size_t size = strlen (text);
    size_t tail = strlen (end);
    return size > tail && strcmp (text + size - tail, end) == 0;
}

static const char *
s_base (const char *path) {
    const char *slash = strrchr (path, '/');
    return slash ? slash + 1 : path;
}

static bool
s_has_segments (const char *path) {
    DIR *listing = opendir (path);
    struct dirent *entry;
    bool has = false;
    while (listing && !has && (entry = readdir (listing)) != NULL) {
        uint32_t id;
        has = ef_scan_is_segment (entry->d_name, &id);
    }
    if (listing) {
        closedir (listing);
    }
    return has;
}

static int
s_add_place (journal_t *self, const char *path, const char *label, bool is_dead) {
    if (self->kind && (strcmp (self->kind, "dead") == 0) != is_dead) {
        return CLI_OK;
    }
    if (strlen (path) >= sizeof self->places->path) {
        return cli_fail (CLI_USAGE, "%s: the path is too long", path);
    }
    self->places = realloc (self->places, (self->place_count + 1) * sizeof *self->places);
    ef_assert (self->places != NULL);
    place_t *place = &self->places[self->place_count++];
    memset (place, 0, sizeof *place);
    snprintf (place->path, sizeof place->path, "%s", path);
    snprintf (place->label, sizeof place->label, "%s", label);
    place->is_dead = is_dead;
    size_t name = strlen (s_base (path));
    if (is_dead && s_ends_with (path, DEAD_SUFFIX) &&
        name - strlen (DEAD_SUFFIX) < sizeof place->topic) {
        memcpy (place->topic, s_base (path), name - strlen (DEAD_SUFFIX));
    }
    return CLI_OK;
}

static int
s_by_label (const void *a, const void *b) {
    const place_t *x = a;
    const place_t *y = b;
    return x->is_dead != y->is_dead ? x->is_dead - y->is_dead : strcmp (x->label, y->label);
}

static int
s_find_in_data (journal_t *self) {
    char path[PATH_MAX];
    char label[NAME_MAX + 8];
    snprintf (path, sizeof path, "%s/journal", self->directory);
    int rc = s_is_directory (path) ? s_add_place (self, path, "journal", false) : CLI_OK;
    char dead[PATH_MAX / 2];
    snprintf (dead, sizeof dead, "%.2000s/dead", self->directory);
    DIR *listing = opendir (dead);
    struct dirent *entry;
    while (rc == CLI_OK && listing && (entry = readdir (listing)) != NULL) {
        snprintf (path, sizeof path, "%s/%s", dead, entry->d_name);
        snprintf (label, sizeof label, "dead/%s", entry->d_name);
        if (s_ends_with (entry->d_name, DEAD_SUFFIX) && s_is_directory (path)) {
            rc = s_add_place (self, path, label, true);
        }
    }
    if (listing) {
        closedir (listing);
    }
    if (self->place_count > 0) {
        qsort (self->places, self->place_count, sizeof *self->places, s_by_label);
    }
    return rc;
}

/* Types above those of the dead letters are the main journal's; a STATE is short, an ATTEMPT, which
   has its number there, isn't. */
static int
s_judge_kind (void *arg, const ef_record_t *record, uint64_t seq) {
    int *kind = arg;
    (void)seq;
    if (record->type > DEAD_STATE) {
        *kind = 1;
    } else if (record->type == DEAD_STATE && record->header_bytes < EF_ATTEMPT_HEADER) {
        *kind = 2;
    }
    return *kind != 0;
}

static int
s_find_alone (journal_t *self) {
    char real[PATH_MAX];
    const char *path = realpath (self->directory, real) ? real : self->directory;
    int kind = self->kind ? strcmp (self->kind, "dead") == 0 ? 2 : 1 : 0;
    if (kind == 0 && s_ends_with (path, DEAD_SUFFIX)) {
        kind = 2;
    } else if (kind == 0 && strcmp (s_base (path), "journal") == 0) {
        kind = 1;
    } else if (kind == 0) {
        int error;
        ef_storage_t *storage = ef_storage_read_new (path, &error);
        ef_scan_t scan = {.record = s_judge_kind, .arg = &kind};
        ef_scan_report_t report;
        if (storage == NULL || ef_scan (storage, &scan, &report)) {
            kind = 0;
        }
        if (storage) {
            storage->destroy (&storage);
        }
    }
    if (kind == 0) {
        return cli_fail (CLI_USAGE,
                         "%s: its records don't tell what it is; say --kind main or --kind dead",
                         self->directory);
    }
    return s_add_place (self, path, s_base (path), kind == 2);
}

static int
s_find_places (journal_t *self) {
    char path[PATH_MAX];
    char dead[PATH_MAX];
    snprintf (path, sizeof path, "%s/journal", self->directory);
    snprintf (dead, sizeof dead, "%s/dead", self->directory);
    if (!s_is_directory (self->directory)) {
        return cli_fail (CLI_NOT_FOUND, "%s: %s", self->directory,
                         errno == ENOENT ? "there is no such directory"
                                         : "expected a directory that may be read");
    }
    self->is_data = s_is_directory (path) || s_is_directory (dead);
    if (!self->is_data && !s_has_segments (self->directory)) {
        return cli_fail (CLI_NOT_FOUND,
                         "%s: expected a broker's data directory (with journal/ in it) or a "
                         "directory of segments (*.seg)",
                         self->directory);
    }
    int rc = self->is_data ? s_find_in_data (self) : s_find_alone (self);
    if (rc == CLI_OK && self->place_count == 0) {
        rc = cli_fail (CLI_NOT_FOUND, "%s: no %s journal is in it", self->directory,
                       self->kind ? self->kind : "readable");
    }
    return rc;
}

/* The data directory's lock file lies beside journal/ and dead/. */
static bool
s_find_lock (const journal_t *self, char root[PATH_MAX]) {
    struct stat status;
    char file[PATH_MAX + 8];
    if (realpath (self->directory, root) == NULL) {
        return false;
    }
    for (int up = 0; up < 3; up++) {
        snprintf (file, sizeof file, "%s/lock", root);
        if (stat (file, &status) == 0 && S_ISREG (status.st_mode)) {
            return true;
        }
        char *slash = strrchr (root, '/');
        bool is_inside = up == 0 ? !self->is_data : up == 1 && strcmp (s_base (root), "dead") == 0;
        if (slash == NULL || slash == root || !is_inside) {
            return false;
        }
        *slash = 0;
    }
    return false;
}

/* Reading goes on without the lock; what must be right doesn't, unless forced. */
static int
s_lock (const journal_t *self, bool is_needed) {
    char root[PATH_MAX];
    int rc = s_find_lock (self, root) ? ef_storage_lock (root) : 0;
    if (rc == 0) {
        return CLI_OK;
    }
    bool is_held = rc == -EWOULDBLOCK;
    if (is_needed && !self->is_forced) {
        return cli_fail (CLI_REFUSED, "%s: %s", root,
                         is_held ? "a broker works on this directory; stop it first, or say --force"
                                 : "its lock can't be taken; say --force if no broker runs on it");
    }
    fprintf (stderr, "eventflow: %s: %s\n", root,
             is_held ? "a broker works on this directory: what it writes or removes meanwhile may "
                       "show as damage"
                     : "its lock can't be taken: a broker may be working on it");
    return CLI_OK;
}

void
journal_progress (void *arg, uint64_t done, uint64_t total) {
    journal_t *self = arg;
    uint64_t now = ef_mono_ms ();
    if (self->has_progress && now >= self->told_ms + 500) {
        self->told_ms = now;
        fprintf (stderr, "%s: %.1f of %.1f MB\n", self->progress_label, (double)done / 1e6,
                 (double)total / 1e6);
    }
}

ef_storage_t *
journal_storage (const place_t *place) {
    int error;
    ef_storage_t *storage = ef_storage_read_new (place->path, &error);
    if (storage == NULL) {
        (void)cli_fail (CLI_FAILED, "%s: %s", place->path, strerror (error));
    }
    return storage;
}

/* Which flags a verb takes beside --json, --kind and --force; a flag that would do nothing is an
   error. */
static int
s_check_flags (const journal_t *self, const char *verb) {
    const struct {
        const char *name;
        bool is_set;
        const char *verbs;
    } flags[] = {
        {"from", self->from != NULL, "inspect"},
        {"type", self->types != NULL, "inspect"},
        {"limit", self->limit != NULL, "inspect"},
        {"events", self->has_events, "inspect"},
        {"state", self->states != NULL, "export"},
        {"output", self->output != NULL, "export"},
        {"quiet", self->is_quiet, "verify salvage"},
        {"topic", self->topic != NULL, "inspect export"},
        {"force", self->is_forced, "export salvage"},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (flags[i].is_set && strstr (flags[i].verbs, verb) == NULL) {
            return cli_fail (CLI_USAGE, "journal %s: --%s is for journal %s", verb, flags[i].name,
                             flags[i].verbs);
        }
    }
    if (self->kind && strcmp (self->kind, "main") != 0 && strcmp (self->kind, "dead") != 0) {
        return cli_fail (CLI_USAGE, "--kind %s: expected main or dead", self->kind);
    }
    return CLI_OK;
}

static int
s_run (journal_t *self, const char *verb) {
    bool is_salvage = strcmp (verb, "salvage") == 0;
    int words = is_salvage ? 3 : 2;
    if (self->cli->argc != words) {
        return cli_fail (CLI_USAGE, "journal %s: expected %s", verb,
                         is_salvage ? "DIR and NEW_DIR" : "one DIR");
    }
    self->directory = self->cli->argv[1];
    int rc = s_check_flags (self, verb);
    rc = rc ? rc : s_find_places (self);
    rc = rc ? rc : s_lock (self, is_salvage || strcmp (verb, "export") == 0);
    if (rc) {
        return rc;
    }
    self->has_progress = self->has_progress || isatty (STDERR_FILENO);
    if (is_salvage) {
        return journal_salvage (self, self->cli->argv[2]);
    }
    return strcmp (verb, "verify") == 0    ? journal_verify (self)
           : strcmp (verb, "inspect") == 0 ? journal_inspect (self)
                                           : journal_export (self);
}

int
cli_journal (cli_t *cli) {
    journal_t self = {.cli = cli};
    const cli_flag_t flags[] = {
        {"kind", &self.kind, NULL},
        {"from", &self.from, NULL},
        {"type", &self.types, NULL},
        {"topic", &self.topic, NULL},
        {"limit", &self.limit, NULL},
        {"state", &self.states, NULL},
        {"output", &self.output, NULL},
        {"quiet", NULL, &self.is_quiet},
        {"progress", NULL, &self.has_progress},
        {"events", NULL, &self.has_events},
        {"force", NULL, &self.is_forced},
    };
    static const char *const verbs[] = {"verify", "inspect", "export", "salvage"};
    int rc = cli_flags (cli, flags, sizeof flags / sizeof flags[0]);
    if (rc) {
        return rc;
    }
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    bool is_known = false;
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        is_known = is_known || strcmp (verb, verbs[i]) == 0;
    }
    rc = is_known
             ? s_run (&self, verb)
             : cli_fail (CLI_USAGE, "journal: expected verify, inspect, export or salvage, and a "
                                    "directory; see eventflow journal --help");
    free (self.places);
    if (fflush (stdout) || ferror (stdout)) {
        rc = cli_fail (CLI_FAILED, "standard output can't be written: %s", strerror (errno));
    }
    return rc;
}
