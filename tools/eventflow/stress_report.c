/* eventflow stress: the live line and the summary. SPDX-License-Identifier: MIT */
#include "stress.h"

#include <unistd.h>

#define REDRAW_MS 200  /* on a terminal */
#define LINE_MS   1000 /* elsewhere */

typedef unsigned long long count_t;

static struct {
    uint64_t due_ms; /* when the next line is */
    bool is_drawn;   /* a line stands that has no end */
} s_live;

static void
s_milliseconds (uint64_t us, char text[32]) {
    snprintf (text, 32, us < 100000 ? "%.1f ms" : "%.0f ms", (double)us / 1000);
}

void
stress_progress (stress_t *self, const char *phase) {
    uint64_t now = ef_mono_ms ();
    bool is_terminal = isatty (STDERR_FILENO);
    char p99[32];
    if (now < s_live.due_ms) {
        return;
    }
    s_live.due_ms = now + (is_terminal ? REDRAW_MS : LINE_MS);
    pthread_mutex_lock (&self->lock);
    stress_sums_t sums = stress_sums (self);
    count_t confirmed = self->outcomes[OUTCOME_CONFIRMED];
    count_t refused = self->outcomes[OUTCOME_REFUSED];
    s_milliseconds (stress_quantile (&self->confirm, 0.99), p99);
    pthread_mutex_unlock (&self->lock);
    fprintf (
        stderr,
        "%s%4llu s  %s: sent %llu  confirmed %llu  refused %llu  done %llu  dead %llu  waiting "
        "%llu  p99 %s%s",
        is_terminal ? "\r" : "", (count_t)((ef_mono_ns () / 1000 - self->start_us) / 1000000),
        phase, (count_t)self->sent, confirmed, refused, (count_t)sums.done, (count_t)sums.dead,
        (count_t)sums.waiting, p99, is_terminal ? "\x1b[K" : "\n");
    s_live.is_drawn = is_terminal;
}

void
stress_progress_end (void) {
    if (s_live.is_drawn) {
        fprintf (stderr, "\n");
        s_live.is_drawn = false;
    }
}

/* ---- judging ---- */

static bool
s_wrong (const char *what, uint64_t count) {
    if (count > 0) {
        fprintf (stderr, "eventflow: the numbers don't add up: %llu event%s %s\n", (count_t)count,
                 cli_s (count), what);
    }
    return count > 0;
}

static uint64_t
s_others (const stress_t *self, const stress_topic_t *own) {
    uint64_t grown = stress_accepted (self, own->topic);
    return grown > own->own ? grown - own->own : 0;
}

/* Says everything that is wrong. */
static bool
s_adds_up (const stress_t *self) {
    const uint64_t *outcomes = self->outcomes;
    uint64_t decided =
        outcomes[OUTCOME_CONFIRMED] + outcomes[OUTCOME_REFUSED] + outcomes[OUTCOME_UNKNOWN];
    uint64_t there = 0;
    for (unsigned i = FATE_NONE; i < FATES; i++) {
        there += self->fates[i];
    }
    bool is_wrong = s_wrong ("had two outcomes", self->twice);
    is_wrong |= s_wrong ("were sent and have no outcome", self->sent - decided);
    is_wrong |= s_wrong ("were confirmed and have no fate", outcomes[OUTCOME_CONFIRMED] - there);
    is_wrong |= s_wrong ("were confirmed and are lost", self->lost);
    is_wrong |= s_wrong ("were refused and are there all the same", self->refused_there);
    uint64_t listed = there - self->fates[FATE_NONE] + self->late + self->refused_there;
    uint64_t counted = 0;
    for (uint32_t i = 0; i < self->after.count; i++) {
        counted += stress_accepted (self, self->after.items[i].topic);
    }
    is_wrong |=
        s_wrong ("are there that no topic has counted", listed > counted ? listed - counted : 0);
    return !is_wrong;
}

/* ---- the summary ---- */

static void
s_json_times (const char *name, const stress_times_t *times) {
    printf (",\"%s\":{\"count\":%llu,\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,\"p999\":%llu,"
            "\"max\":%llu}",
            name, (count_t)times->count, (count_t)stress_quantile (times, 0.5),
            (count_t)stress_quantile (times, 0.9), (count_t)stress_quantile (times, 0.99),
            (count_t)stress_quantile (times, 0.999), (count_t)times->most);
}

static void
s_json (const stress_t *self, bool adds_up, double per_second) {
    printf ("{\"via\":\"%s\",\"prefix\":\"%s\",\"wanted_per_second\":%.1f,\"per_second\":%.1f,"
            "\"seconds\":%.3f,\"cut_short\":%s",
            self->sender->name, self->prefix, self->per_second, per_second,
            (double)self->sending_us / 1e6, self->is_cut_short ? "true" : "false");
    printf (",\"sent\":%llu,\"confirmed\":%llu,\"refused\":%llu,\"unknown\":%llu,\"codes\":{",
            (count_t)self->sent, (count_t)self->outcomes[OUTCOME_CONFIRMED],
            (count_t)self->outcomes[OUTCOME_REFUSED], (count_t)self->outcomes[OUTCOME_UNKNOWN]);
    for (uint32_t i = 0; i < self->code_count; i++) {
        ef_buf_t code = {0};
        ef_json_string (&code, self->codes[i].code, strlen (self->codes[i].code));
        printf ("%s%.*s:%llu", i ? "," : "", (int)code.size, (const char *)code.data,
                (count_t)self->codes[i].count);
        ef_buf_free (&code);
    }
    printf ("},\"done\":%llu,\"dead\":%llu,\"removed\":%llu,\"waiting\":%llu,\"gone\":%llu,"
            "\"lost\":%llu,\"unknown_there\":%llu,\"asked_to_fail\":%llu,\"asked_dead\":%llu,"
            "\"asked_done\":%llu,\"drained_ms\":%llu",
            (count_t)self->fates[FATE_DONE], (count_t)self->fates[FATE_DEAD],
            (count_t)self->fates[FATE_REMOVED], (count_t)self->fates[FATE_WAITING],
            (count_t)(self->fates[FATE_NONE] - self->lost), (count_t)self->lost,
            (count_t)self->late, (count_t)self->asked, (count_t)self->asked_dead,
            (count_t)self->asked_done, (count_t)self->drained_ms);
    s_json_times ("confirm_us", &self->confirm);
    s_json_times ("done_us", &self->done_us);
    printf (",\"topics\":[");
    for (uint32_t i = 0; i < self->own.count; i++) {
        const stress_topic_t *topic = &self->own.items[i];
        printf ("%s{\"topic\":\"%s\",\"own\":%llu,\"others\":%llu}", i ? "," : "", topic->topic,
                (count_t)topic->own, (count_t)s_others (self, topic));
    }
    printf ("],\"adds_up\":%s}\n", adds_up ? "true" : "false");
}

static void
s_print_times (const char *what, const stress_times_t *times) {
    static const double shares[] = {0.5, 0.9, 0.99, 0.999};
    static const char *const names[] = {"p50", "p90", "p99", "p99.9"};
    char text[32];
    if (times->count == 0) {
        return;
    }
    printf ("%-20s", what);
    for (unsigned i = 0; i < 4; i++) {
        s_milliseconds (stress_quantile (times, shares[i]), text);
        printf (" %s %s,", names[i], text);
    }
    s_milliseconds (times->most, text);
    printf (" at the most %s\n", text);
}

static void
s_print (const stress_t *self, double per_second) {
    const uint64_t *fates = self->fates;
    printf ("sent %llu in %.1f s (%.1f/s of %.1f/s) by %s, ids %s0 and on%s\n", (count_t)self->sent,
            (double)self->sending_us / 1e6, per_second, self->per_second, self->sender->name,
            self->prefix, self->is_cut_short ? "; cut short" : "");
    printf ("  = %llu confirmed + %llu refused + %llu unknown",
            (count_t)self->outcomes[OUTCOME_CONFIRMED], (count_t)self->outcomes[OUTCOME_REFUSED],
            (count_t)self->outcomes[OUTCOME_UNKNOWN]);
    if (self->late > 0) {
        printf (" (%llu of them are there)", (count_t)self->late);
    }
    for (uint32_t i = 0; i < self->code_count; i++) {
        printf ("%s%s %llu", i ? ", " : "; refused: ", self->codes[i].code,
                (count_t)self->codes[i].count);
    }
    printf ("\nconfirmed %llu\n  = %llu done + %llu dead + %llu still waiting",
            (count_t)self->outcomes[OUTCOME_CONFIRMED], (count_t)fates[FATE_DONE],
            (count_t)fates[FATE_DEAD], (count_t)fates[FATE_WAITING]);
    if (fates[FATE_REMOVED] > 0) {
        printf (" + %llu purged", (count_t)fates[FATE_REMOVED]);
    }
    if (fates[FATE_NONE] > self->lost) {
        printf (" + %llu ended and no longer kept", (count_t)(fates[FATE_NONE] - self->lost));
    }
    if (self->lost > 0) {
        printf (" + %llu LOST", (count_t)self->lost);
    }
    printf (", %.1f s after the last was confirmed\n", (double)self->drained_ms / 1000);
    if (self->asked > 0) {
        printf ("asked to fail %llu: %llu dead, %llu done\n", (count_t)self->asked,
                (count_t)self->asked_dead, (count_t)self->asked_done);
    }
    s_print_times ("due to confirmed", &self->confirm);
    s_print_times ("confirmed to done*", &self->done_us);
    if (self->done_us.count > 0) {
        printf ("  * of a sample of %llu\n", (count_t)self->done_us.count);
    }
    for (uint32_t i = 0; i < self->own.count; i++) {
        const stress_topic_t *topic = &self->own.items[i];
        printf ("topic %s: %llu of these events", topic->topic, (count_t)topic->own);
        if (s_others (self, topic) > 0) {
            printf (", and %llu of others meanwhile", (count_t)s_others (self, topic));
        }
        printf ("\n");
    }
}

bool
stress_report (stress_t *self) {
    double seconds = (double)self->sending_us / 1e6;
    double per_second = seconds > 0 ? (double)self->sent / seconds : 0;
    bool adds_up = s_adds_up (self);
    if (self->cli->json) {
        s_json (self, adds_up, per_second);
    } else {
        s_print (self, per_second);
    }
    return adds_up;
}
