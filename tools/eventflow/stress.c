/* eventflow stress: a load on a system that runs. SPDX-License-Identifier: MIT */
#include "stress.h"

#include "../../proto/limits.h"

#include <signal.h>
#include <stdlib.h>

#define STEP_MS    20    /* between two looks at the clock, at the most */
#define SEND_BURST 1000u /* events between two looks for outcomes */

static volatile sig_atomic_t s_stops;

static void
s_stop (int number) {
    (void)number;
    s_stops = s_stops + 1;
}

unsigned
stress_stops (void) {
    return (unsigned)s_stops;
}

/* ---- the command line ---- */

typedef struct {
    const char *rate;
    const char *types;
    const char *fail;
    const char *duration;
    const char *drain;
    const char *size;
    const char *connections;
    const char *payload;
    const char *fail_payload;
} words_t;

/* Members of every payload: a JSON object's pairs. */
static int
s_read_extra (const char *flag, const char *text, ef_buf_t *pairs, uint32_t *count) {
    const char *why = "an object";
    ef_buf_t value = {0};
    ef_cursor_t at;
    bool is_good = text == NULL;
    if (text && ef_json_parse (&value, text, strlen (text), &why) == strlen (text)) {
        at = cli_root (&value);
        is_good = ef_get_map (&at, count) == 0;
        why = "an object";
    }
    if (text && is_good) {
        static const char *const own[] = {"n", "fail", "pad"};
        ef_cursor_t found;
        ef_buf_put (pairs, at.at, ef_cursor_left (&at));
        for (unsigned i = 0; i < 3; i++) {
            if (ef_map_find (cli_root (&value), own[i], &found)) {
                is_good = false;
                why = "an object without n, fail and pad, which it gets";
            }
        }
    }
    ef_buf_free (&value);
    return is_good ? CLI_OK : cli_fail (CLI_USAGE, "--%s: expected %s", flag, why);
}

/* Cuts the list at its commas, in place. */
static int
s_read_types (stress_t *self, char *list) {
    for (char *at = list; at;) {
        char *end = strchr (at, ',');
        if (end) {
            *end++ = 0;
        }
        if (at[0] == 0 || strlen (at) > 255 || self->type_count == STRESS_TYPES_MAX) {
            return cli_fail (CLI_USAGE, "--types: expected 1 to %u names with commas between",
                             STRESS_TYPES_MAX);
        }
        self->types[self->type_count++] = at;
        at = end;
    }
    return CLI_OK;
}

static int
s_read_span (const char *flag, const char *text, uint64_t *ms) {
    int64_t span = cli_duration_ms (text);
    *ms = span > 0 ? (uint64_t)span : 0;
    return span >= 0 ? CLI_OK
                     : cli_fail (CLI_USAGE, "--%s %s: expected a duration such as 1m", flag, text);
}

/* "0.1" or "10%". */
static int
s_read_share (stress_t *self, const char *text) {
    char *end;
    double share = strtod (text, &end);
    bool is_good = end != text && (*end == 0 || strcmp (end, "%") == 0);
    share = *end == '%' ? share / 100 : share;
    self->fail_share = share;
    return is_good && share >= 0 && share <= 1
               ? CLI_OK
               : cli_fail (CLI_USAGE, "--fail %s: expected a share such as 0.02 or 2%%", text);
}

static int
s_judge (stress_t *self, const words_t *words) {
    self->per_second = cli_rate (words->rate);
    if (self->per_second < 0) {
        return cli_fail (CLI_USAGE, "--rate %s: expected a rate such as 500/s", words->rate);
    }
    if (s_read_span ("for", words->duration, &self->for_ms) ||
        s_read_span ("drain", words->drain, &self->drain_ms) || s_read_share (self, words->fail) ||
        cli_count ("--size", words->size, &self->size) ||
        cli_count ("--connections", words->connections, &self->connections)) {
        return CLI_USAGE;
    }
    if (self->topic == NULL && words->types == NULL) {
        return cli_fail (CLI_USAGE, "stress needs --topic, or --types for the broker's routes");
    }
    if (self->topic && strlen (self->topic) > EF_TOPIC_MAX) {
        return cli_fail (CLI_USAGE, "--topic: expected a name of up to %d bytes", EF_TOPIC_MAX);
    }
    double total = self->per_second * (double)self->for_ms / 1000;
    if (total < 1 || total > STRESS_EVENTS_MAX) {
        return cli_fail (CLI_USAGE, "--rate %s --for %s are %.0f events: expected 1 to %u",
                         words->rate, words->duration, total, STRESS_EVENTS_MAX);
    }
    self->total = (uint64_t)total;
    if (self->size > STRESS_SIZE_MAX || self->connections == 0 ||
        self->connections > STRESS_CONNECTIONS_MAX) {
        return cli_fail (CLI_USAGE, "expected --size to %u, --connections 1 to %u", STRESS_SIZE_MAX,
                         STRESS_CONNECTIONS_MAX);
    }
    if (self->url && strncmp (self->url, "http://", 7) != 0 &&
        strncmp (self->url, "https://", 8) != 0) {
        return cli_fail (CLI_USAGE, "--http %s: expected a gateway such as http://127.0.0.1:8080",
                         self->url);
    }
    const char *fail_payload = words->fail_payload ? words->fail_payload : words->payload;
    return s_read_extra ("payload", words->payload, &self->extra, &self->extra_pairs) ||
                   s_read_extra ("fail-payload", fail_payload, &self->fail_extra,
                                 &self->fail_extra_pairs)
               ? CLI_USAGE
               : CLI_OK;
}

static int
s_read_flags (stress_t *self, char **types) {
    words_t words = {.rate = "100/s",
                     .fail = "0",
                     .duration = "10s",
                     .drain = "30s",
                     .size = "128",
                     .connections = "16"};
    const char *front = self->cli->front;
    const cli_flag_t flags[] = {
        {"http", &self->url, NULL},
        {"topic", &self->topic, NULL},
        {"rate", &words.rate, NULL},
        {"types", &words.types, NULL},
        {"fail", &words.fail, NULL},
        {"for", &words.duration, NULL},
        {"drain", &words.drain, NULL},
        {"size", &words.size, NULL},
        {"connections", &words.connections, NULL},
        {"payload", &words.payload, NULL},
        {"fail-payload", &words.fail_payload, NULL},
    };
    int rc = cli_flags (self->cli, flags, sizeof flags / sizeof flags[0]);
    if (rc == CLI_OK && self->cli->argc > 0) {
        rc = cli_fail (CLI_USAGE, "stress takes flags alone, not %s", self->cli->argv[0]);
    }
    if (rc == CLI_OK && self->url && self->cli->front != front) {
        rc = cli_fail (CLI_USAGE, "--http and --front are two ways in: one of them");
    }
    rc = rc ? rc : s_judge (self, &words);
    if (rc == CLI_OK && words.types) {
        *types = strdup (words.types);
        ef_assert (*types != NULL);
        rc = s_read_types (self, *types);
    }
    return rc;
}

/* ---- the run ---- */

/* No outcome within the time-out, though some are awaited: nobody is there. */
static bool
s_is_deaf (stress_t *self, uint64_t now_us) {
    if (now_us < self->start_us + (uint64_t)self->cli->timeout_ms * 1000) {
        return false;
    }
    pthread_mutex_lock (&self->lock);
    bool is_deaf = self->outcomes[OUTCOME_CONFIRMED] + self->outcomes[OUTCOME_REFUSED] == 0;
    pthread_mutex_unlock (&self->lock);
    return is_deaf && self->sent > 0;
}

/* Sends each event when it is due, until the time is over. CLI_UNREACHABLE: nobody takes them. */
static int
s_send_all (stress_t *self) {
    uint64_t end_us = self->start_us + self->for_ms * 1000;
    uint64_t now_us = self->start_us;
    int rc = CLI_OK;
    bool is_over = false;
    while (rc == CLI_OK && !is_over && self->sent < self->total) {
        bool has_room = true;
        is_over = now_us >= end_us || s_stops > 0; /* what is due by then is still sent */
        for (unsigned i = 0; i < SEND_BURST && has_room && s_stops == 0 &&
                             self->sent < self->total && stress_due_us (self, self->sent) <= now_us;
             i++) {
            has_room = self->sender->send (self, self->sent);
            self->sent += has_room;
        }
        now_us = ef_mono_ns () / 1000;
        uint64_t due_us = stress_due_us (self, self->sent);
        uint64_t wait_ms = due_us > now_us ? (due_us - now_us + 999) / 1000 : !has_room;
        self->sender->step (self, (int)(wait_ms < STEP_MS ? wait_ms : STEP_MS));
        stress_progress (self, "sending");
        now_us = ef_mono_ns () / 1000;
        rc = s_is_deaf (self, now_us) ? CLI_UNREACHABLE : CLI_OK;
    }
    self->sending_us = now_us - self->start_us;
    self->is_cut_short = rc != CLI_OK || s_stops > 0;
    return rc;
}

/* Waits until everything that was sent has an outcome. */
static void
s_confirm_all (stress_t *self) {
    uint64_t deadline = ef_mono_ms () + (uint64_t)self->cli->timeout_ms;
    uint64_t decided = 0;
    while (decided < self->sent && ef_mono_ms () < deadline && s_stops < 2) {
        self->sender->step (self, STEP_MS);
        stress_progress (self, "confirming");
        pthread_mutex_lock (&self->lock);
        decided = self->outcomes[OUTCOME_CONFIRMED] + self->outcomes[OUTCOME_REFUSED] +
                  self->outcomes[OUTCOME_UNKNOWN];
        pthread_mutex_unlock (&self->lock);
    }
}

static int
s_run (stress_t *self) {
    self->events = calloc (self->total, sizeof *self->events);
    ef_assert (self->events != NULL);
    int rc = stress_account_begin (self);
    rc = rc ? rc : self->sender->open (self);
    rc = rc ? rc : stress_watch_start (self);
    if (rc) {
        return rc;
    }
    self->start_wall_ms = ef_wall_ms ();
    self->start_us = ef_mono_ns () / 1000;
    rc = s_send_all (self);
    if (rc == CLI_OK) {
        s_confirm_all (self);
    }
    self->sender->close (self);
    stress_decide_rest (self);
    if (self->outcomes[OUTCOME_CONFIRMED] + self->outcomes[OUTCOME_REFUSED] == 0) {
        stress_progress_end ();
        return cli_fail (CLI_UNREACHABLE, "nobody takes events by %s within %d ms",
                         self->sender->name, self->cli->timeout_ms);
    }
    rc = stress_account (self);
    stress_watch_stop (self);
    stress_progress_end ();
    return rc ? rc : stress_report (self) ? CLI_OK : CLI_FAILED;
}

int
cli_stress (cli_t *cli) {
    stress_t *self = calloc (1, sizeof *self);
    char *types = NULL;
    ef_assert (self != NULL);
    self->cli = cli;
    int rc = s_read_flags (self, &types);
    if (rc == CLI_OK) {
        const struct sigaction stop = {.sa_handler = s_stop};
        (void)sigaction (SIGINT, &stop, NULL); /* these can't fail */
        (void)sigaction (SIGTERM, &stop, NULL);
        pthread_mutex_init (&self->lock, NULL);
        self->sender = self->url ? &stress_http : &stress_front;
        snprintf (self->prefix, sizeof self->prefix, "stress-%012llx-",
                  (unsigned long long)(ef_random () >> 16));
        rc = s_run (self);
        stress_watch_stop (self);
        if (self->link) {
            self->sender->close (self);
        }
        pthread_mutex_destroy (&self->lock);
    }
    eventflow_admin_destroy (&self->admin);
    ef_buf_free (&self->extra);
    ef_buf_free (&self->fail_extra);
    ef_buf_free (&self->payload);
    free (self->before.items);
    free (self->now.items);
    free (self->own.items);
    free (self->after.items);
    free (self->events);
    free (types);
    free (self);
    return rc;
}
