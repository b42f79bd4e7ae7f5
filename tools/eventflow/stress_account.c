/* eventflow stress: what the broker says became of our events. SPDX-License-Identifier: MIT

   Live, the topics' totals tell, and others who publish are in them too. The account at the end
   goes by the broker's list of events instead, from which ours are picked by their ids: it is
   exact. One that isn't listed is asked for by its id; one that isn't there either has ended longer
   ago than `retention`, if the totals leave a place for it, or is lost. */
#include "stress.h"

#include <stdlib.h>
#include <zmq.h>

#define LOOK_MS     250        /* between two looks at the watch's numbers while draining */
#define ACCOUNT_MS  1000       /* between two accounts, at the least */
#define PAGE_BYTES  (4u << 20) /* of a page of the list, about */
#define SLACK_MS    60000u     /* by which others may have been accepted before the first */
#define FIRST_TRIES 10u        /* events asked for their date, the first ones confirmed */
#define ASKED_MAX   1000u      /* events asked for one by one */

/* ---- totals ---- */

const stress_topic_t *
stress_topic_find (const stress_topics_t *topics, const char *name) {
    for (uint32_t i = 0; i < topics->count; i++) {
        if (strcmp (topics->items[i].topic, name) == 0) {
            return &topics->items[i];
        }
    }
    return NULL;
}

typedef struct {
    const stress_t *self;
    stress_topics_t *topics;
} reading_t;

static void
s_read_topic (void *arg, ef_cursor_t item) {
    reading_t *reading = arg;
    stress_topics_t *topics = reading->topics;
    stress_topic_t topic = {.accepted = ef_map_uint (item, "accepted"),
                            .done = ef_map_uint (item, "done"),
                            .dead = ef_map_uint (item, "dead")};
    ef_map_text (item, "topic", topic.topic, sizeof topic.topic);
    if (reading->self->topic && strcmp (reading->self->topic, topic.topic) != 0) {
        return;
    }
    topic.removed = ef_map_uint (item, "archived") + ef_map_uint (item, "purged");
    topic.waiting = ef_map_uint (item, "ready") + ef_map_uint (item, "leased") +
                    ef_map_uint (item, "scheduled") + ef_map_uint (item, "retrying") +
                    ef_map_uint (item, "parked");
    topics->items = realloc (topics->items, (topics->count + 1) * sizeof *topics->items);
    ef_assert (topics->items != NULL);
    topics->items[topics->count++] = topic;
}

int
stress_ask_topics (const stress_t *self, eventflow_admin_t *admin, int timeout_ms,
                   stress_topics_t *topics) {
    char code[32];
    char text[512];
    ef_buf_t request = {0};
    eventflow_bytes_t value;
    reading_t reading = {self, topics};
    cli_request (&request, "TOPICS", NULL, 0);
    int rc = eventflow_admin_call (admin, (eventflow_bytes_t){request.data, request.size},
                                   timeout_ms, &value, code, text);
    ef_buf_free (&request);
    if (rc == EVENTFLOW_OK) {
        topics->count = 0;
        (void)cli_each (ef_cursor (value.data, value.size), "items", s_read_topic, &reading);
    }
    return rc;
}

int
stress_account_begin (stress_t *self) {
    self->admin = eventflow_admin_new (self->cli->admin);
    int rc = stress_ask_topics (self, self->admin, self->cli->timeout_ms, &self->before);
    if (rc) {
        return cli_fail (CLI_UNREACHABLE, "no broker answers at %s within %d ms (--admin)",
                         self->cli->admin ? self->cli->admin : "the admin endpoint",
                         self->cli->timeout_ms);
    }
    return CLI_OK;
}

/* What a topic's total has grown by; `at` is the place of the total in the struct. */
static uint64_t
s_growth (const stress_t *self, const stress_topic_t *now, size_t at) {
    const stress_topic_t *before = stress_topic_find (&self->before, now->topic);
    uint64_t from;
    uint64_t to;
    memcpy (&to, (const char *)now + at, sizeof to);
    memcpy (&from, before ? (const char *)before + at : (const char *)&(uint64_t){0}, sizeof from);
    return to > from ? to - from : 0;
}

uint64_t
stress_accepted (const stress_t *self, const char *topic) {
    const stress_topic_t *found = stress_topic_find (&self->after, topic);
    return found ? s_growth (self, found, offsetof (stress_topic_t, accepted)) : 0;
}

stress_sums_t
stress_sums (const stress_t *self) {
    stress_sums_t sums = {0};
    for (uint32_t i = 0; i < self->now.count; i++) {
        const stress_topic_t *topic = &self->now.items[i];
        sums.done += s_growth (self, topic, offsetof (stress_topic_t, done));
        sums.dead += s_growth (self, topic, offsetof (stress_topic_t, dead));
        sums.waiting += s_growth (self, topic, offsetof (stress_topic_t, waiting));
    }
    return sums;
}

/* ---- the account ---- */

fate_t
stress_fate (ef_cursor_t item) {
    char state[24];
    ef_map_text (item, "state", state, sizeof state);
    return strcmp (state, "done") == 0               ? FATE_DONE
           : strcmp (state, "dead") == 0             ? FATE_DEAD
           : cli_is_among (state, "archived purged") ? FATE_REMOVED
                                                     : FATE_WAITING;
}

/* Where what is ours in a topic is counted. */
static stress_topic_t *
s_own_topic (stress_t *self, const char *name) {
    const stress_topic_t *found = stress_topic_find (&self->own, name);
    if (found == NULL) {
        self->own.items =
            realloc (self->own.items, (self->own.count + 1) * sizeof *self->own.items);
        ef_assert (self->own.items != NULL);
        stress_topic_t *topic = &self->own.items[self->own.count++];
        memset (topic, 0, sizeof *topic);
        snprintf (topic->topic, sizeof topic->topic, "%s", name);
        return topic;
    }
    return &self->own.items[found - self->own.items];
}

/* An item of the list, or of EVENT.SHOW: one of ours? */
static void
s_take (void *arg, ef_cursor_t item) {
    stress_t *self = arg;
    char id[96];
    char name[64];
    char *end;
    ef_map_text (item, "id", id, sizeof id);
    size_t size = strlen (self->prefix);
    if (strncmp (id, self->prefix, size) != 0 || id[size] < '0' || id[size] > '9') {
        return;
    }
    uint64_t n = strtoull (id + size, &end, 10);
    if (*end || n >= self->sent) {
        return;
    }
    fate_t fate = stress_fate (item);
    stress_event_t *event = &self->events[n];
    event->fate = fate > event->fate ? fate : event->fate;
    ef_map_text (item, "topic", name, sizeof name);
    stress_topic_t *topic = s_own_topic (self, name);
    topic->own++;
    topic->own_ended += fate != FATE_WAITING;
}

static void
s_first_date (void *arg, ef_cursor_t item) {
    stress_t *self = arg;
    uint64_t accepted = ef_map_uint (item, "accepted");
    if (accepted > SLACK_MS && (self->since_ms == 0 || accepted < self->since_ms)) {
        self->since_ms = accepted;
    }
}

int
stress_show (stress_t *self, uint64_t n, const stress_show_t *how) {
    char id[64];
    char code[32];
    char text[512];
    ef_buf_t request = {0};
    eventflow_bytes_t value;
    stress_id (self, n, id);
    cli_request (&request, "EVENT.SHOW", NULL, self->topic ? 2 : 1);
    ef_put_str (&request, id);
    if (self->topic) {
        ef_put_map (&request, 1);
        ef_put_key_str (&request, "topic", self->topic);
    }
    int rc = eventflow_admin_call (how->admin, (eventflow_bytes_t){request.data, request.size},
                                   how->timeout_ms, &value, code, text);
    ef_buf_free (&request);
    if (rc == EVENTFLOW_OK) {
        (void)cli_each (ef_cursor (value.data, value.size), "items", how->each, how->arg);
    }
    return rc == EVENTFLOW_REFUSED && strcmp (code, "NOT_FOUND") == 0 ? EVENTFLOW_OK : rc;
}

/* When the list is to begin, by the broker's clock: it may be another than ours. */
static int
s_find_since (stress_t *self) {
    int rc = EVENTFLOW_OK;
    uint32_t tries = 0;
    for (uint64_t n = 0; n < self->sent && tries < FIRST_TRIES && rc == 0 && !self->since_ms; n++) {
        if (self->events[n].outcome == OUTCOME_CONFIRMED) {
            const stress_show_t how = {self->admin, self->cli->timeout_ms, s_first_date, self};
            rc = stress_show (self, n, &how);
            tries++;
        }
    }
    if (rc == EVENTFLOW_OK) {
        uint64_t slack = SLACK_MS + (uint64_t)self->cli->timeout_ms;
        uint64_t date = self->since_ms ? self->since_ms : self->start_wall_ms;
        self->since_ms = date > slack ? date - slack : 1;
    }
    return rc;
}

/* A page of the list; `cursor` is where it begins, then where the next one does; empty: the end. */
static int
s_page (stress_t *self, ef_buf_t *cursor) {
    char code[32];
    char text[512];
    ef_cursor_t next;
    ef_buf_t request = {0};
    eventflow_bytes_t value;
    uint64_t limit = PAGE_BYTES / (self->size + 256);
    cli_request (&request, "EVENTS", NULL, 1);
    ef_put_map (&request, 2u + (self->topic != NULL) + (cursor->size > 0));
    ef_put_key_uint (&request, "since", self->since_ms);
    ef_put_key_uint (&request, "limit", limit < CLI_PAGE ? limit : CLI_PAGE);
    if (self->topic) {
        ef_put_key_str (&request, "topic", self->topic);
    }
    if (cursor->size > 0) {
        ef_put_str (&request, "after");
        ef_buf_put (&request, cursor->data, cursor->size);
    }
    int rc = eventflow_admin_call (self->admin, (eventflow_bytes_t){request.data, request.size},
                                   self->cli->timeout_ms, &value, code, text);
    ef_buf_free (&request);
    ef_buf_clear (cursor);
    if (rc == EVENTFLOW_REFUSED && cli_is_among (code, "NOT_FOUND UNKNOWN_TOPIC")) {
        return EVENTFLOW_OK; /* a topic that isn't there has no events */
    }
    if (rc) {
        return rc;
    }
    ef_cursor_t root = ef_cursor (value.data, value.size);
    (void)cli_each (root, "items", s_take, self);
    if (ef_map_find (root, "next", &next) && ef_peek (&next) != EF_TYPE_NIL) {
        const uint8_t *start = next.at;
        rc = ef_skip (&next) ? EVENTFLOW_INVALID : EVENTFLOW_OK;
        ef_buf_put (cursor, start, (size_t)(next.at - start));
    }
    return rc;
}

/* Counts what the events' outcomes and fates come to. */
static void
s_count (stress_t *self) {
    memset (self->fates, 0, sizeof self->fates);
    self->asked = self->asked_dead = self->asked_done = self->late = self->refused_there = 0;
    for (uint64_t n = 0; n < self->sent; n++) {
        const stress_event_t *event = &self->events[n];
        if (event->outcome == OUTCOME_CONFIRMED) {
            self->fates[event->fate]++;
        } else {
            self->late += event->outcome == OUTCOME_UNKNOWN && event->fate;
            self->refused_there += event->outcome == OUTCOME_REFUSED && event->fate;
        }
        if (event->outcome == OUTCOME_CONFIRMED && stress_is_to_fail (self, n)) {
            self->asked++;
            self->asked_dead += event->fate == FATE_DEAD;
            self->asked_done += event->fate == FATE_DONE;
        }
    }
}

/* Events that ended and that neither ours nor the list show: there may be so many of ours. */
static uint64_t
s_unlisted (const stress_t *self) {
    uint64_t ended = 0;
    for (uint32_t i = 0; i < self->after.count; i++) {
        const stress_topic_t *topic = &self->after.items[i];
        const stress_topic_t *own = stress_topic_find (&self->own, topic->topic);
        uint64_t listed = own ? own->own_ended : 0;
        uint64_t growth = s_growth (self, topic, offsetof (stress_topic_t, done)) +
                          s_growth (self, topic, offsetof (stress_topic_t, dead)) +
                          s_growth (self, topic, offsetof (stress_topic_t, removed));
        ended += growth > listed ? growth - listed : 0;
    }
    return ended;
}

/* One look at everything. An EVENTFLOW_ code. */
static int
s_look (stress_t *self) {
    ef_buf_t cursor = {0};
    int rc = self->since_ms ? EVENTFLOW_OK : s_find_since (self);
    self->own.count = 0;
    for (uint64_t n = 0; n < self->sent; n++) {
        self->events[n].fate = FATE_NONE;
    }
    while (rc == EVENTFLOW_OK) {
        rc = s_page (self, &cursor);
        stress_progress (self, "counting");
        if (cursor.size == 0) {
            break;
        }
    }
    uint32_t asked = 0;
    for (uint64_t n = 0; rc == EVENTFLOW_OK && n < self->sent && asked < ASKED_MAX; n++) {
        const stress_event_t *event = &self->events[n];
        if (event->outcome == OUTCOME_CONFIRMED && event->fate == FATE_NONE) {
            const stress_show_t how = {self->admin, self->cli->timeout_ms, s_take, self};
            rc = stress_show (self, n, &how);
            asked++;
        }
    }
    ef_buf_free (&cursor);
    /* Behind the list: what is listed as ended is in the totals by then. */
    rc = rc ? rc : stress_ask_topics (self, self->admin, self->cli->timeout_ms, &self->after);
    s_count (self);
    uint64_t gone = self->fates[FATE_NONE];
    uint64_t unlisted = s_unlisted (self);
    self->lost = gone > unlisted ? gone - unlisted : 0;
    return rc;
}

/* Do the totals say that no topic has more waiting than before? */
static bool
s_is_idle (stress_t *self) {
    pthread_mutex_lock (&self->lock);
    bool is_idle = self->now.count > 0 && stress_sums (self).waiting == 0;
    pthread_mutex_unlock (&self->lock);
    return is_idle;
}

int
stress_account (stress_t *self) {
    uint64_t begin = ef_mono_ms ();
    uint64_t deadline = begin + self->drain_ms;
    uint64_t due = begin + ACCOUNT_MS;
    int rc = EVENTFLOW_TIMEOUT;
    bool is_last = false;
    while (!is_last) {
        uint64_t now = ef_mono_ms ();
        is_last = now >= deadline || stress_stops () > 1;
        if (is_last || now >= due || s_is_idle (self)) {
            rc = s_look (self);
            self->drained_ms = now - begin;
            uint64_t took = ef_mono_ms () - now;
            due = now + took + (5 * took > ACCOUNT_MS ? 5 * took : ACCOUNT_MS);
            is_last = is_last ||
                      (rc == EVENTFLOW_OK && self->fates[FATE_WAITING] == 0 && self->lost == 0);
        }
        if (!is_last) {
            stress_progress (self, "draining");
            (void)zmq_poll (NULL, 0, LOOK_MS);
        }
    }
    return rc == EVENTFLOW_OK
               ? CLI_OK
               : cli_fail (CLI_UNREACHABLE, "the broker doesn't say what became of the events");
}
