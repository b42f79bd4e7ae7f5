/* Publishers' sessions: what was decided, and telling it. SPDX-License-Identifier: MIT

   Invariants: outcomes are kept for the PUBLISHes (last - count, last]; `confirmed` <= `decided` <=
   `last`; outcomes' lsns don't fall. An outcome's extra bytes: number of refused items (u32),
   number of ids (u32), the items and then the ids as MessagePack, as CONFIRM has them. */
#include "core_private.h"

static const void *
s_session_key (const void *item, size_t *size) {
    *size = 16;
    return ((const session_t *)item)->id;
}

session_t *
session_find (ef_core_t *self, const uint8_t id[16]) {
    return ef_hash_find (&self->sessions, id, 16);
}

/* Past the limit the longest unconnected one goes. */
static void
s_make_room (ef_core_t *self) {
    session_t *oldest = NULL;
    session_t *session;
    uint32_t position = 0;
    while ((session = ef_hash_next (&self->sessions, &position)) != NULL) {
        if (session->peer == PEER_NONE && (!oldest || session->left_ms < oldest->left_ms)) {
            oldest = session;
        }
    }
    if (oldest) {
        session_forget (self, oldest);
    }
}

session_t *
session_require (ef_core_t *self, const uint8_t id[16]) {
    session_t *session = session_find (self, id);
    if (session) {
        return session;
    }
    if (self->sessions.capacity == 0) {
        ef_hash_init (&self->sessions, self->key, s_session_key);
    }
    if (self->sessions.count >= EF_SESSIONS_MAX) {
        s_make_room (self);
        if (self->sessions.count >= EF_SESSIONS_MAX) {
            return NULL;
        }
    }
    session = calloc (1, sizeof *session);
    ef_assert (session != NULL);
    memcpy (session->id, id, 16);
    session->peer = PEER_NONE;
    session->left_ms = self->now;
    ef_hash_insert (&self->sessions, session);
    return session;
}

static outcome_t *
s_outcome (const session_t *self, uint64_t seq) {
    ef_assert (seq <= self->last && self->last - seq < self->count);
    uint32_t place = self->count - 1 - (uint32_t)(self->last - seq);
    return &self->outcomes[(self->head + place) & (self->capacity - 1)];
}

static void
s_drop_first (session_t *self) {
    outcome_t *first = &self->outcomes[self->head];
    self->kept_events -= first->events;
    self->kept_bytes -= EF_OUTCOME_ITEM + first->extra_bytes;
    free (first->extra);
    self->head = (self->head + 1) & (self->capacity - 1);
    self->count--;
}

/* Appends the outcome of the next seq. Keeps those of a window, and all that aren't decided. */
static void
s_push (session_t *self, outcome_t outcome, uint32_t window) {
    if (self->count == self->capacity) {
        uint32_t capacity = self->capacity ? 2 * self->capacity : 16;
        outcome_t *ring = malloc (capacity * sizeof *ring);
        ef_assert (ring != NULL);
        for (uint32_t i = 0; i < self->count; i++) {
            ring[i] = self->outcomes[(self->head + i) & (self->capacity - 1)];
        }
        free (self->outcomes);
        self->outcomes = ring;
        self->head = 0;
        self->capacity = capacity;
    }
    self->outcomes[(self->head + self->count++) & (self->capacity - 1)] = outcome;
    self->last++;
    self->kept_events += outcome.events;
    self->kept_bytes += EF_OUTCOME_ITEM + outcome.extra_bytes;
    while (self->count > 1 && self->kept_events - self->outcomes[self->head].events >= window &&
           self->last - self->count + 1 <= self->confirmed) {
        s_drop_first (self);
    }
}

/* Goes on from a seq that lies past all that is known. */
void
session_jump (session_t *session, uint64_t seq) {
    while (session->count > 0) {
        s_drop_first (session);
    }
    session->last = session->decided = session->confirmed = seq;
    session->unconfirmed = 0;
}

/* A PUBLISH was taken; it is decided once what was written for it is durable. */
void
session_note (ef_core_t *self, session_t *session, outcome_t outcome) {
    s_push (session, outcome, self->config.window);
    session->unconfirmed += outcome.events;
    uint64_t lsn = self->batch ? self->batch->lsn : self->next_lsn - 1;
    s_outcome (session, session->last)->lsn = lsn;
    if (session->queued_lsn != lsn || session->queued == 0) {
        session->queued_lsn = lsn;
        session->queued++;
        batch_after (self, (after_t){.kind = AFTER_SESSION, .peer = PEER_NONE, .pointer = session});
    }
}

void
session_decide (ef_core_t *self, session_t *session) {
    while (session->decided < session->last) {
        const outcome_t *outcome = s_outcome (session, session->decided + 1);
        if (outcome->lsn > self->durable_lsn) {
            break;
        }
        session->unconfirmed -= outcome->events;
        session->decided++;
    }
    if (!session->is_forgotten) {
        session_confirm (self, session);
    }
}

/* The advice in CONFIRM, PONG and WINDOW: half and then nothing as the disk falls behind. */
uint32_t
session_window (const ef_core_t *self) {
    if (self->is_draining || ef_core_is_behind (self)) {
        return 0;
    }
    return self->behind > self->config.behind_bytes / 2 ? self->config.window / 2
                                                        : self->config.window;
}

typedef struct {
    uint64_t accepted;
    uint64_t duplicates;
    uint32_t refused_count;
    uint32_t id_count;
    ef_buf_t refused;
    ef_buf_t ids;
} confirm_t;

static void
s_put_unknown (ef_buf_t *buf, uint64_t seq) {
    ef_put_array (buf, 4);
    ef_put_uint (buf, seq);
    ef_put_nil (buf);
    ef_put_str (buf, "SEQ");
    ef_put_str (buf, "not stored; send again under a new seq");
}

static void
s_gather (confirm_t *confirm, const outcome_t *outcome, uint64_t seq) {
    confirm->accepted += outcome->accepted;
    confirm->duplicates += outcome->duplicates;
    if (outcome->is_unknown) {
        s_put_unknown (&confirm->refused, seq);
        confirm->refused_count++;
    } else if (outcome->extra) {
        uint32_t refused = ef_le32 (outcome->extra);
        ef_cursor_t cursor = ef_cursor (outcome->extra + 8, outcome->extra_bytes - 8);
        const uint8_t *start = cursor.at;
        for (uint32_t i = 0; i < refused; i++) {
            int rc = ef_skip (&cursor);
            ef_assert (rc == 0);
        }
        ef_buf_put (&confirm->refused, start, (size_t)(cursor.at - start));
        ef_buf_put (&confirm->ids, cursor.at, ef_cursor_left (&cursor));
        confirm->refused_count += refused;
        confirm->id_count += ef_le32 (outcome->extra + 4);
    }
}

static int
s_send_confirm (ef_core_t *self, session_t *session, uint64_t seq, const confirm_t *confirm) {
    ef_buf_t *header = &self->header;
    uint32_t window = session_window (self);
    ef_buf_clear (header);
    ef_put_array (header, 3);
    ef_put_str (header, "CONFIRM");
    ef_put_uint (header, seq);
    ef_put_map (header, 4u + (confirm->refused_count > 0) + (confirm->id_count > 0));
    ef_put_key_uint (header, "accepted", confirm->accepted);
    ef_put_key_uint (header, "duplicates", confirm->duplicates);
    if (confirm->refused_count) {
        ef_put_str (header, "refused");
        ef_put_array (header, confirm->refused_count);
        ef_buf_put (header, confirm->refused.data, confirm->refused.size);
    }
    if (confirm->id_count) {
        ef_put_str (header, "ids");
        ef_put_array (header, confirm->id_count);
        ef_buf_put (header, confirm->ids.data, confirm->ids.size);
    }
    ef_put_key_uint (header, "window", window);
    ef_put_key_str (header, "durability", self->config.durability);
    session->window_told = window;
    return peer_send (self, session->peer, NULL);
}

/* Tells what was decided since the last CONFIRM that was sent. What can't be sent is built anew. */
void
session_confirm (ef_core_t *self, session_t *session) {
    while (session->peer != PEER_NONE && session->confirmed < session->decided) {
        confirm_t confirm = {0};
        uint64_t seq = session->confirmed;
        uint64_t kept_from = session->last - session->count + 1;
        while (seq < session->decided &&
               confirm.refused_count + confirm.id_count <=
                   EF_CONFIRM_ITEMS_MAX - EF_REFUSED_ITEMS_MAX - EF_IDS_MAX) {
            static const outcome_t unknown = {.is_unknown = true};
            seq++;
            s_gather (&confirm, seq < kept_from ? &unknown : s_outcome (session, seq), seq);
        }
        int rc = s_send_confirm (self, session, seq, &confirm);
        ef_buf_free (&confirm.refused);
        ef_buf_free (&confirm.ids);
        if (rc) {
            break;
        }
        session->confirmed = seq;
    }
}

void
session_leave (ef_core_t *self, session_t *session) {
    session->peer = PEER_NONE;
    session->left_ms = self->now;
}

/* Frees it once nothing in the queue points to it. */
void
session_release (session_t **self_p) {
    session_t *self = *self_p;
    if (self->is_forgotten && self->queued == 0) {
        while (self->count > 0) {
            s_drop_first (self);
        }
        free (self->outcomes);
        free (self);
    }
    *self_p = NULL;
}

void
session_forget (ef_core_t *self, session_t *session) {
    ef_hash_remove (&self->sessions, session);
    session->is_forgotten = true;
    session->peer = PEER_NONE;
    if (!self->is_replaying) {
        ef_buf_t *buf = batch_buf (self);
        size_t mark = ef_record_begin (buf, EF_LOG_SESSION_END, 0, 16);
        memcpy (buf->data + mark + EF_RECORD_HEAD, session->id, 16);
        ef_record_end (buf, mark);
    }
    session_release (&session);
}

void
sessions_sweep (ef_core_t *self) {
    session_t *session;
    uint32_t position = 0;
    uint64_t kept_bytes = 0;
    while ((session = ef_hash_next (&self->sessions, &position)) != NULL) {
        kept_bytes += session->kept_bytes;
        if (session->peer != PEER_NONE) {
            session_confirm (self, session); /* where one couldn't be sent */
        } else if (self->now - session->left_ms > EF_SESSION_IDLE_MS &&
                   session->decided == session->last) {
            session_forget (self, session);
            position = 0; /* the table has changed */
            kept_bytes = 0;
        }
    }
    if (kept_bytes > EF_OUTCOME_BYTES) {
        s_make_room (self); /* the longest unconnected one; the next sweep looks again */
    }
}

/* Replay: the outcome that stands in the first record of a PUBLISH. */
void
session_replay (ef_core_t *self, const uint8_t *outcome, uint32_t bytes, uint32_t events) {
    session_t *session = session_require (self, outcome);
    uint64_t seq = ef_le64 (outcome + 16);
    if (session == NULL || seq <= session->last) {
        return;
    }
    if (seq - session->last > self->config.window) {
        session_jump (session, seq - 1); /* nobody can ask any more for what was before */
    }
    while (session->last + 1 < seq) {
        s_push (session, (outcome_t){.events = 1, .is_unknown = true}, self->config.window);
    }
    outcome_t known = {
        .events = events, .accepted = ef_le32 (outcome + 24), .duplicates = ef_le32 (outcome + 28)};
    if (bytes > EF_OUTCOME_HEAD + 8) {
        known.extra_bytes = bytes - EF_OUTCOME_HEAD;
        known.extra = malloc (known.extra_bytes);
        ef_assert (known.extra != NULL);
        memcpy (known.extra, outcome + EF_OUTCOME_HEAD, known.extra_bytes);
    }
    session->decided = session->confirmed = session->last; /* nothing older is held back */
    s_push (session, known, self->config.window);
    session->decided = session->confirmed = session->last;
}

static const outcome_t *
s_held (const session_t *session, uint32_t i) {
    return &session->outcomes[(session->head + i) & (session->capacity - 1)];
}

static bool
s_is_like (const outcome_t *a, const outcome_t *b) {
    return a->events == b->events && a->accepted == b->accepted && a->duplicates == b->duplicates &&
           a->is_unknown == b->is_unknown && a->extra_bytes == 0 && b->extra_bytes == 0;
}

/* The absolute value: last seq and the outcomes that are kept. */
void
session_write (const session_t *session, ef_buf_t *buf) {
    size_t mark = ef_record_begin (buf, EF_LOG_SESSION, 0, EF_SESSION_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    memcpy (header, session->id, 16);
    ef_le64_put (header + 16, session->last);
    ef_le32_put (header + 24, session->count);
    ef_le32_put (header + 28, EF_OUTCOME_ITEM);
    for (uint32_t i = 0; i < session->count;) {
        const outcome_t *outcome = s_held (session, i);
        uint32_t repeats = 1; /* a publisher of single events has many that are alike */
        while (i + repeats < session->count && s_is_like (outcome, s_held (session, i + repeats))) {
            repeats++;
        }
        uint8_t *item = ef_buf_add (buf, EF_OUTCOME_ITEM);
        ef_le32_put (item, outcome->events | (outcome->is_unknown ? 1u << 31 : 0));
        ef_le32_put (item + 4, outcome->accepted);
        ef_le32_put (item + 8, outcome->duplicates);
        ef_le32_put (item + 12, outcome->extra_bytes);
        ef_le32_put (item + 16, repeats);
        ef_le32_put (item + 20, 0);
        ef_buf_put (buf, outcome->extra, outcome->extra_bytes);
        i += repeats;
    }
    ef_record_end (buf, mark);
}

void
session_replay_absolute (ef_core_t *self, const ef_record_t *record) {
    session_t *session = session_require (self, record->body);
    uint64_t last = ef_le64 (record->body + 16);
    uint32_t count = ef_le32 (record->body + 24);
    if (session == NULL || last < count) {
        return;
    }
    while (session->count > 0) {
        s_drop_first (session);
    }
    session->last = session->decided = session->confirmed = last - count;
    const uint8_t *at = record->body + record->header_bytes;
    const uint8_t *end = record->body + record->body_bytes;
    uint32_t item = ef_le32 (record->body + 28);
    item = item ? item : EF_OUTCOME_ITEM_1;
    while (item >= EF_OUTCOME_ITEM_1 && (size_t)(end - at) >= item && session->last < last) {
        outcome_t outcome = {.events = ef_le32 (at) & ~(1u << 31),
                             .is_unknown = ef_le32 (at) >> 31,
                             .accepted = ef_le32 (at + 4),
                             .duplicates = ef_le32 (at + 8),
                             .extra_bytes = ef_le32 (at + 12)};
        uint32_t repeats = item >= EF_OUTCOME_ITEM ? ef_le32 (at + 16) : 1;
        at += item;
        if (outcome.extra_bytes > (size_t)(end - at)) {
            break;
        }
        if (outcome.extra_bytes) {
            outcome.extra = malloc (outcome.extra_bytes);
            ef_assert (outcome.extra != NULL);
            memcpy (outcome.extra, at, outcome.extra_bytes);
            at += outcome.extra_bytes;
            repeats = 1;
        }
        for (; repeats > 0 && session->last < last; repeats--) {
            s_push (session, outcome, self->config.window);
            session->decided = session->confirmed = session->last;
        }
    }
}
