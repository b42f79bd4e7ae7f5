/* Texts with places for values: {{field}}. SPDX-License-Identifier: MIT */
#include "template.h"

#include "../proto/event.h"
#include "field.h"

#include <stdio.h>
#include <stdlib.h>

/* One piece: text as it stands, or a place. Offsets are of the template's text. */
typedef struct {
    uint32_t from;
    uint32_t size;
    uint32_t other_from; /* what stands there where the field is absent */
    uint32_t other_size;
    bool is_place;
    bool has_other;
} piece_t;

struct template_s {
    char *text;      /* owned */
    piece_t *pieces; /* owned */
    uint32_t count;
};

static void
s_add (template_t *self, const piece_t *piece) {
    if ((self->count & (self->count - 1)) == 0) { /* a power of two: it is full */
        size_t room = self->count ? 2u * self->count : 1;
        self->pieces = realloc (self->pieces, room * sizeof *self->pieces);
        ef_assert (self->pieces != NULL);
    }
    self->pieces[self->count++] = *piece;
}

static bool
s_is_space (char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* A name without the spaces around it; false: it is none. */
static bool
s_place (const char *text, uint32_t from, uint32_t to, piece_t *place) {
    const char *bar = memchr (text + from, '|', to - from);
    *place = (piece_t){.is_place = true, .has_other = bar != NULL};
    if (bar) {
        place->other_from = (uint32_t)(bar + 1 - text);
        place->other_size = to - place->other_from;
        to = (uint32_t)(bar - text);
    }
    while (from < to && s_is_space (text[from])) {
        from++;
    }
    while (from < to && s_is_space (text[to - 1])) {
        to--;
    }
    place->from = from;
    place->size = to - from;
    for (uint32_t i = from; i < to; i++) {
        if (s_is_space (text[i]) || text[i] == '{' || text[i] == '}' || text[i] == 0) {
            return false;
        }
    }
    return place->size > 0 && place->size <= TEMPLATE_NAME_MAX;
}

static unsigned
s_line (const char *text, size_t at) {
    unsigned line = 1;
    for (size_t i = 0; i < at; i++) {
        line += text[i] == '\n';
    }
    return line;
}

template_t *
template_new (const char *text, size_t size, char error[256]) {
    template_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL && size < UINT32_MAX);
    self->text = malloc (size + 1);
    ef_assert (self->text != NULL);
    if (size) {
        memcpy (self->text, text, size);
    }
    self->text[size] = 0;
    size_t at = 0;
    while (at < size) {
        const char *open = memmem (self->text + at, size - at, "{{", 2);
        size_t to = open ? (size_t)(open - self->text) : size;
        if (to > at) {
            s_add (self, &(piece_t){.from = (uint32_t)at, .size = (uint32_t)(to - at)});
        }
        if (open == NULL) {
            break;
        }
        const char *close = memmem (open + 2, size - to - 2, "}}", 2);
        piece_t place;
        if (close == NULL ||
            !s_place (self->text, (uint32_t)to + 2, (uint32_t)(close - self->text), &place)) {
            snprintf (error, 256, "line %u: expected {{field}} or {{field|text without it}}",
                      s_line (self->text, to));
            template_destroy (&self);
            return NULL;
        }
        s_add (self, &place);
        at = (size_t)(close - self->text) + 2;
    }
    return self;
}

void
template_destroy (template_t **self_p) {
    if (*self_p) {
        free ((*self_p)->text);
        free ((*self_p)->pieces);
        free (*self_p);
        *self_p = NULL;
    }
}

static void
s_put_html (ef_buf_t *out, const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        const char *other = text[i] == '&'    ? "&amp;"
                            : text[i] == '<'  ? "&lt;"
                            : text[i] == '>'  ? "&gt;"
                            : text[i] == '"'  ? "&quot;"
                            : text[i] == '\'' ? "&#39;"
                                              : NULL;
        ef_buf_put (out, other ? other : text + i, other ? strlen (other) : 1);
    }
}

/* Appends one of the event's own values. */
static bool
s_put_own (const template_values_t *values, const char *name, size_t size, ef_buf_t *out) {
    ef_span_t asked = {name, (uint32_t)size};
    ef_span_t found = {NULL, 0};
    char date[25];
    if (ef_span_is (asked, "event.time")) {
        ef_rfc3339 (values->time_ms, date);
        found = (ef_span_t){date, 24};
    } else {
        found = ef_span_is (asked, "event.id")      ? values->id
                : ef_span_is (asked, "event.type")  ? values->type
                : ef_span_is (asked, "event.topic") ? values->topic
                                                    : found;
    }
    ef_buf_put (out, found.data, found.size);
    return found.data != NULL;
}

/* Appends what stands at a place; false: the field is absent. */
static bool
s_put_value (const template_values_t *values, const char *name, size_t size, ef_buf_t *out) {
    ef_span_t value;
    if (size > 6 && memcmp (name, "event.", 6) == 0 && s_put_own (values, name, size, out)) {
        return true;
    }
    return field_find (values->payload, name, size, &value) && field_print (out, value) == 0;
}

int
template_render (const template_t *self, const template_values_t *values, bool is_html,
                 ef_buf_t *out, char missing[TEMPLATE_NAME_MAX + 1]) {
    ef_buf_t value = {0};
    int rc = 0;
    for (uint32_t i = 0; i < self->count && rc == 0; i++) {
        const piece_t *piece = &self->pieces[i];
        const char *text = self->text + piece->from;
        if (!piece->is_place) {
            ef_buf_put (out, text, piece->size);
            continue;
        }
        ef_buf_t *to = is_html ? &value : out;
        ef_buf_clear (&value);
        if (s_put_value (values, text, piece->size, to)) {
            if (is_html) {
                s_put_html (out, (char *)value.data, value.size);
            }
        } else if (piece->has_other) {
            ef_buf_put (out, self->text + piece->other_from, piece->other_size);
        } else {
            snprintf (missing, TEMPLATE_NAME_MAX + 1, "%.*s", (int)piece->size, text);
            rc = -1;
        }
    }
    ef_buf_free (&value);
    return rc;
}
