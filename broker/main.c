/* eventflowd: settings, signals, start and stop order. SPDX-License-Identifier: MIT */
#include "actors/spawn.h"
#include "../proto/limits.h"
#include "io/router.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <poll.h>
#include <zmq.h>

#define GRACE_MS  10000
#define KILLED_MS 3000 /* for what was killed to be gone, with what it left behind */

/* Exit codes as in sysexits.h. */
enum { EXIT_IO = 74, EXIT_TEMPORARY = 75, EXIT_CONFIGURATION = 78 };

static const char s_help[] =
    "usage: eventflowd [--config FILE] [--KEY VALUE]... [--check] [--insecure]\n"
    "\n"
    "The eventflow broker. Settings come from the defaults, then the file, then the environment\n"
    "(EVENTFLOW_SERVER_DATA=...), then flags; the keys are those of the file's server section.\n"
    "\n"
    "examples:\n"
    "  eventflowd                                   defaults: topics api, db, email; "
    "./eventflow-data\n"
    "  eventflowd --config eventflow.cfg --check    judge a configuration and say what is wrong\n"
    "  eventflowd --data /var/lib/eventflow --front tcp://127.0.0.1:6551\n"
    "\n"
    "signals: TERM, INT: finish what is in flight (10 s), then end; a second one: end now\n"
    "         HUP: read the settings again; what can't change while running is reported\n"
    "exit: 0 ended cleanly, 2 wrong usage, 74 disk failed or damaged, 75 another broker has the "
    "data,\n"
    "      78 wrong configuration\n";

typedef struct {
    int argc; /* the flags, which count again at each reload */
    char **argv;
    char *file;         /* owned: absolute path of the configuration; NULL: none */
    ef_config_t config; /* as it was at the start */
    bool checks_only;
    bool wants_reload; /* told so while the journal was read */
    void *context;
    ef_waker_t waker;
    ef_storage_t *storage;
    ef_journal_t journal;
    ef_reader_t reader;
    ef_finder_t finder;
    ef_spares_t spares;
    ef_upkeep_t upkeep;
    int signals;          /* signalfd */
    uint64_t progress_ms; /* when the replay was last logged */
    ef_retry_t retry;
    ef_dead_letters_t *dead;
    ef_monitor_t *monitor;
    ef_scaler_t *scaler;
    ef_router_t *router;
    pthread_t router_thread;
    bool has_router; /* the thread runs */
    int router_status;
    uint32_t grace_ms; /* what workers get at the end */
} broker_t;

static int
s_read_flags (broker_t *self, ef_config_t *config, char error[512]) {
    for (int i = 1; i < self->argc; i++) {
        const char *flag = self->argv[i];
        const char *value = i + 1 < self->argc ? self->argv[i + 1] : NULL;
        char key[64];
        if (strcmp (flag, "--insecure") == 0) {
            config->insecure = true;
        } else if (strcmp (flag, "--check") == 0) {
            self->checks_only = true;
        } else if (strncmp (flag, "--", 2) != 0 || value == NULL || strlen (flag) >= sizeof key) {
            snprintf (error, 512, "%.100s: expected a flag with a value; see --help", flag);
            return 2;
        } else if (strcmp (flag, "--config") == 0) {
            i++; /* read before everything else */
        } else {
            snprintf (key, sizeof key, "%s", flag + 2);
            for (char *at = key; *at; at++) {
                *at = *at == '-' ? '_' : *at;
            }
            if (ef_config_set (config, key, value, error)) {
                return 2;
            }
            i++;
        }
    }
    return 0;
}

/* The last file that was named; NULL: none was. */
static const char *
s_file (const broker_t *self) {
    const char *file = NULL;
    for (int i = 1; i + 1 < self->argc; i++) {
        file = strcmp (self->argv[i], "--config") == 0 ? self->argv[i + 1] : file;
    }
    return file;
}

/* The same for workers, which may run elsewhere. */
static const char *
s_absolute_file (broker_t *self) {
    const char *file = s_file (self);
    free (self->file);
    self->file = file ? realpath (file, NULL) : NULL;
    return self->file;
}

static int
s_configure (broker_t *self, ef_config_t *config, char error[512]) {
    const char *file = s_file (self);
    ef_config_init (config);
    if (file && ef_config_load (config, file, error)) {
        return EXIT_CONFIGURATION;
    }
    if (ef_config_environment (config, error)) {
        return EXIT_CONFIGURATION;
    }
    int rc = s_read_flags (self, config, error);
    if (rc == 0 && ef_config_check (config, error)) {
        rc = EXIT_CONFIGURATION;
    }
    return rc;
}

static int
s_replay (void *arg, const ef_record_t *record) {
    return ef_core_replay (arg, record);
}

static void
s_replay_dead (void *arg, const char *topic, uint64_t m) {
    ef_core_replay_dead (arg, topic, m);
}

static int
s_restore (void *arg, const ef_record_t *record) {
    return ef_core_restore (arg, record);
}

static void
s_progress (void *arg, uint64_t done, uint64_t total) {
    broker_t *self = arg;
    ef_router_progress (self->router, done, total);
    uint64_t now = ef_mono_ms ();
    if (now >= self->progress_ms + 1000) {
        self->progress_ms = now;
        ef_log (EF_LOG_INFO, "journal.replay", "bytes=%llu of=%llu", (unsigned long long)done,
                (unsigned long long)total);
    }
    struct signalfd_siginfo info;
    struct pollfd item = {self->signals, POLLIN, 0};
    if (poll (&item, 1, 0) != 1 || read (self->signals, &info, sizeof info) != sizeof info) {
        return;
    }
    self->wants_reload = self->wants_reload || info.ssi_signo == SIGHUP;
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
        ef_log (EF_LOG_INFO, "broker.end", "status=0 during=replay");
        _exit (0); /* reading changes nothing that a next start wouldn't do again */
    }
}

/* Reads the log into the core: from the newest checkpoint that fits, else from the beginning. */
static int
s_recover (broker_t *self, ef_wal_options_t *options, ef_wal_report_t *report) {
    ef_checkpoint_info_t info;
    for (uint32_t below = 0; ef_checkpoint_find (self->storage, below, &info);
         below = info.segment) {
        ef_core_t *core = ef_router_core (self->router);
        options->from_segment = info.segment;
        options->from_seq = info.first_seq;
        options->from_chain = info.chain;
        if (ef_checkpoint_read (self->storage, &info, s_restore, core) == 0) {
            self->journal.wal = ef_wal_open (self->storage, options, s_replay, core, report);
        }
        if (self->journal.wal) {
            ef_log (EF_LOG_INFO, "journal.checkpoint", "segment=%u bytes=%llu", info.segment,
                    (unsigned long long)info.bytes);
            return 0;
        }
        ef_log (EF_LOG_WARNING, "journal.checkpoint", "segment=%u unused=\"%s\"", info.segment,
                report->text);
        ef_router_renew_core (self->router);
    }
    options->from_segment = 0;
    self->journal.wal =
        ef_wal_open (self->storage, options, s_replay, ef_router_core (self->router), report);
    return self->journal.wal ? 0 : -1;
}

static bool
s_keeps_dropped (const broker_t *self) {
    return self->config.retention_ms > 0 && self->config.retention_bytes > 0;
}

/* What the core must know of the log, and the reserve for a full disk. */
static int
s_begin (broker_t *self, const ef_wal_report_t *report, char error[512]) {
    ef_core_log_t log = {.epoch = ef_wal_epoch (self->journal.wal),
                         .oldest_segment = ef_wal_oldest (self->journal.wal),
                         .replayed_bytes = report->bytes};
    log.sizes = ef_wal_sizes (self->journal.wal, &log.size_count);
    self->upkeep.storage = self->storage;
    self->upkeep.spares = &self->spares;
    self->upkeep.wanted = EF_SPARES_WANTED;
    self->upkeep.groups = &self->journal.groups;
    self->upkeep.log_oldest = &self->journal.oldest;
    self->finder.groups = &self->journal.groups;
    self->journal.storage = s_keeps_dropped (self) ? NULL : self->storage;
    atomic_store (&self->journal.oldest, ef_wal_oldest (self->journal.wal));
    ef_finder_durable (&self->finder, ef_wal_newest (self->journal.wal), UINT32_MAX);
    int rc = ef_kept_init (&self->upkeep.kept, self->storage,
                           s_keeps_dropped (self) ? self->config.retention_ms : 0,
                           self->config.retention_bytes, ef_mono_ms ());
    rc = rc ? rc : ef_upkeep_reserve (&self->upkeep);
    if (rc && (report->is_new || !ef_storage_is_full (rc))) {
        snprintf (error, 512,
                  "%.200s: can't reserve space for the journal: %s; it needs %llu MiB to begin",
                  self->config.data, strerror (-rc),
                  (unsigned long long)(EF_SPARES_WANTED + 1) * self->spares.bytes >> 20);
        return EXIT_IO;
    }
    ef_core_start (ef_router_core (self->router), &log);
    return 0;
}

static int
s_open_journal (broker_t *self, char error[512]) {
    char path[1200];
    int rc;
    snprintf (path, sizeof path, "%s/journal", self->config.data);
    self->storage = ef_storage_new (path, &rc);
    if (self->storage == NULL) {
        snprintf (error, 512, "%.300s: %s", path, strerror (rc));
        return EXIT_IO;
    }
    ef_wal_options_t options = {.segment_bytes = self->config.segment_bytes +
                                                 ef_router_segment_slack (&self->config),
                                .wall_ms = ef_wall_ms (),
                                .random = {ef_random (), ef_random ()},
                                .skips_sync = strcmp (self->config.durability, "os") == 0,
                                .spares = &self->spares,
                                .keeps_dropped = s_keeps_dropped (self),
                                .progress = s_progress,
                                .progress_arg = self};
    ef_wal_report_t report = {.error = 0};
    uint64_t start = ef_mono_ms ();
    rc = ef_spares_init (&self->spares, self->storage, options.segment_bytes);
    if (rc) {
        snprintf (error, 512, "%.300s: %s", path, strerror (-rc));
        return EXIT_IO;
    }
    if (s_recover (self, &options, &report)) {
        bool is_many = ef_core_topic_count (ef_router_core (self->router)) >= EF_TOPICS_MAX;
        snprintf (error, 512, "%.180s: %.320s", path,
                  is_many
                      ? "the journal and the configuration name more than 4096 topics: take some "
                        "out of the configuration"
                      : report.text);
        return EXIT_IO;
    }
    if (report.torn_bytes) {
        ef_log (EF_LOG_WARNING, "journal.torn", "segment=%u offset=%u bytes=%llu confirmed=0",
                report.torn_segment, report.torn_offset, (unsigned long long)report.torn_bytes);
    }
    snprintf (path, sizeof path, "%s/dead", self->config.data);
    self->dead = ef_dead_letters_new (path, s_replay_dead, ef_router_core (self->router), error);
    if (self->dead == NULL) {
        return EXIT_IO;
    }
    ef_log (EF_LOG_INFO, "journal.replayed", "segments=%u records=%llu bytes=%llu ms=%llu epoch=%u",
            report.segments, (unsigned long long)report.records, (unsigned long long)report.bytes,
            (unsigned long long)(ef_mono_ms () - start), ef_wal_epoch (self->journal.wal));
    return s_begin (self, &report, error);
}

static void *
s_run_router (void *arg) {
    broker_t *self = arg;
    self->router_status = ef_router_run (self->router);
    (void)kill (getpid (), SIGUSR2); /* wakes main, which waits for signals alone */
    return NULL;
}

static int
s_start_actors (broker_t *self) {
    ef_router_set_dead (self->router, self->dead);
    int rc = ef_journal_start (&self->journal, self->journal.wal, &self->waker);
    rc = rc ? rc : ef_reader_start (&self->reader, self->storage, &self->waker);
    rc = rc ? rc : ef_finder_start (&self->finder, &self->waker);
    rc = rc ? rc : ef_upkeep_start (&self->upkeep, self->storage, &self->spares, &self->waker);
    rc = rc ? rc : ef_retry_start (&self->retry, &self->waker);
    rc = rc ? rc : ef_dead_letters_start (self->dead, &self->waker);
    rc = rc ? rc : ef_monitor_start (self->monitor, &self->waker);
    return rc ? rc : ef_scaler_start (self->scaler, &self->waker);
}

/* Binds, then reads the journal while the router's thread says how far that is. */
static int
s_start (broker_t *self, char error[512]) {
    int rc = ef_waker_init (&self->waker);
    ef_assert (rc == 0);
    rc = ef_storage_lock (self->config.data);
    if (rc) {
        snprintf (error, 512,
                  rc == -EWOULDBLOCK ? "%.300s: another broker works on this directory"
                                     : "%.300s: can't be locked",
                  self->config.data);
        return rc == -EWOULDBLOCK ? EXIT_TEMPORARY : EXIT_IO;
    }
    self->context = zmq_ctx_new ();
    self->monitor = ef_monitor_new (self->context, self->config.stats);
    if (self->monitor == NULL) {
        snprintf (error, 512, "can't bind %.300s: %s", self->config.stats, zmq_strerror (errno));
        return EXIT_IO;
    }
    self->scaler = ef_scaler_new (&self->config, s_absolute_file (self));
    ef_router_parts_t parts = {.config = &self->config,
                               .context = self->context,
                               .journal = &self->journal,
                               .reader = &self->reader,
                               .finder = &self->finder,
                               .upkeep = &self->upkeep,
                               .spares = &self->spares,
                               .retry = &self->retry,
                               .monitor = self->monitor,
                               .scaler = self->scaler,
                               .waker = &self->waker};
    self->router = ef_router_new (&parts);
    if (ef_router_bind (self->router, error)) {
        return EXIT_IO;
    }
    char back[300];
    ef_router_back (self->router, back);
    ef_scaler_set_back (self->scaler, back);
    rc = -pthread_create (&self->router_thread, NULL, s_run_router, self);
    self->has_router = rc == 0;
    if (rc == 0 && (rc = s_open_journal (self, error)) != 0) {
        return rc;
    }
    if (rc == 0 && (rc = ef_finder_open (&self->finder, self->storage)) != 0) {
        snprintf (error, 512, "%.300s: the journal's sidecars can't be read: %s", self->config.data,
                  strerror (-rc));
        return EXIT_IO;
    }
    rc = rc ? rc : s_start_actors (self);
    if (rc) {
        snprintf (error, 512, "can't start a thread: %s", strerror (-rc));
        return EXIT_TEMPORARY;
    }
    ef_router_ready (self->router);
    return 0;
}

/* Reads the settings anew, from where they came from, and hands them to the router, which has the
   old ones and knows what may change. */
static void
s_reload (broker_t *self) {
    ef_reload_t *reload = calloc (1, sizeof *reload);
    ef_assert (reload != NULL);
    reload->asked = ef_router_reload_asked (self->router);
    reload->config = calloc (1, sizeof *reload->config);
    ef_assert (reload->config != NULL);
    if (s_configure (self, reload->config, reload->error)) {
        ef_config_free (reload->config);
        free (reload->config);
        reload->config = NULL;
    }
    ef_router_reload (self->router, reload);
}

/* Waits until the router has ended, passing signals on. */
static void
s_wait (broker_t *self) {
    bool is_told = false;
    if (self->wants_reload) {
        s_reload (self);
    }
    for (;;) {
        struct signalfd_siginfo info;
        ssize_t got = read (self->signals, &info, sizeof info);
        if (got != (ssize_t)sizeof info) {
            continue;
        }
        if (info.ssi_signo == SIGUSR2 && info.ssi_pid == (uint32_t)getpid ()) {
            return;
        }
        if (info.ssi_signo == SIGHUP) {
            s_reload (self);
        }
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            self->grace_ms = is_told ? 0 : GRACE_MS;
            ef_router_stop (self->router, self->grace_ms);
            is_told = true;
        }
    }
}

/* Waits for the worker processes. A second TERM shortens that too. */
static void
s_stop_workers (broker_t *self) {
    uint32_t grace = self->router_status ? 0 : self->grace_ms;
    uint64_t deadline = ef_mono_ms () + grace + KILLED_MS;
    ef_scaler_stop_workers (self->scaler, grace);
    while (!ef_scaler_is_empty (self->scaler) && ef_mono_ms () < deadline) {
        struct signalfd_siginfo info;
        struct pollfd item = {self->signals, POLLIN, 0};
        if (poll (&item, 1, 10) == 1 && read (self->signals, &info, sizeof info) == sizeof info &&
            (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)) {
            ef_scaler_stop_workers (self->scaler, 0);
            deadline = ef_mono_ms () + KILLED_MS;
        }
    }
}

/* The reverse of the start; each part tolerates never having been started. */
static void
s_end (broker_t *self) {
    if (self->has_router) {
        ef_router_stop (self->router, 0);               /* where it hasn't ended by itself */
        (void)pthread_join (self->router_thread, NULL); /* a thread of our own */
    }
    if (self->scaler) {
        s_stop_workers (self);
    }
    ef_scaler_destroy (&self->scaler);
    ef_monitor_destroy (&self->monitor);
    ef_dead_letters_destroy (&self->dead);
    ef_retry_stop (&self->retry);
    ef_upkeep_stop (&self->upkeep);
    ef_reader_stop (&self->reader);
    ef_finder_stop (&self->finder);
    ef_journal_stop (&self->journal);
    ef_router_destroy (&self->router);
    ef_spares_free (&self->spares);
    if (self->storage) {
        self->storage->destroy (&self->storage);
    }
    if (self->context) {
        zmq_ctx_term (self->context);
    }
    ef_waker_free (&self->waker);
    ef_config_free (&self->config);
    free (self->file);
}

/* As many descriptors as we may have: connections and dead-letter journals take one each. */
static void
s_raise_limit (void) {
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit (RLIMIT_NOFILE, &limit); /* else what there is has to do */
    }
}

int
main (int argc, char **argv) {
    if (argc == 4 && strcmp (argv[1], "--launch") == 0) {
        ef_launch (argv[2], argv[3]);
    }
    if (argc == 2 && strcmp (argv[1], "--zone") == 0) {
        return ef_zone_write ();
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp (argv[i], "--help") == 0 || strcmp (argv[i], "-h") == 0) {
            fputs (s_help, stdout);
            return 0;
        }
        if (strcmp (argv[i], "--version") == 0) {
            printf ("eventflowd %s, protocol %d, journal format %d\n", EF_PROGRAM_VERSION,
                    EF_PROTOCOL_VERSION, EF_RECORD_VERSION);
            return 0;
        }
    }
    static broker_t broker = {.grace_ms = GRACE_MS};
    broker.argc = argc;
    broker.argv = argv;
    char error[512] = "";
    sigset_t all;
    sigfillset (&all);
    (void)pthread_sigmask (SIG_BLOCK, &all, NULL); /* before the first thread; can't fail */
    broker.signals = signalfd (-1, &all, SFD_CLOEXEC);
    int status = s_configure (&broker, &broker.config, error);
    if (status || broker.checks_only) {
        fprintf (status ? stderr : stdout, "%s\n", status ? error : "the configuration is good");
        ef_config_free (&broker.config);
        return status;
    }
    s_raise_limit ();
    ef_log_setup (broker.config.log_level, broker.config.log_json);
    status = s_start (&broker, error);
    if (status == 0) {
        ef_log (EF_LOG_INFO, "broker.ready", "front=%s ingress=%s back=%s admin=%s stats=%s",
                broker.config.front, broker.config.ingress, broker.config.back, broker.config.admin,
                broker.config.stats);
        s_wait (&broker);
        (void)pthread_join (broker.router_thread, NULL); /* a thread of our own */
        broker.has_router = false;
        status = broker.router_status;
        ef_log (EF_LOG_INFO, "broker.end", "status=%d", status);
    } else {
        ef_log (EF_LOG_ERROR, "broker.refused", "reason=\"%s\"", error);
    }
    s_end (&broker);
    return status;
}
