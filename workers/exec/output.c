/* What a command prints, as a part of the answer. SPDX-License-Identifier: MIT */
#include "output.h"
#include "../../proto/limits.h"

void
output_free (output_t *self) {
    ef_buf_free (&self->text);
    ef_buf_free (&self->value);
}

void
output_add (output_t *self, output_kind_t kind, const void *bytes, size_t size) {
    size_t most = kind == OUTPUT_RESULT ? EF_RESULT_MAX : EF_MESSAGE_MAX;
    if (self->text.size + size > most) {
        self->is_too_large = true;
        return;
    }
    ef_buf_put (&self->text, bytes, size);
}

/* One JSON value, or else the text itself without its last line's end. */
static const char *
s_result (output_t *self) {
    const char *text = (const char *)self->text.data;
    size_t size = self->text.size;
    const char *why;
    if (ef_json_parse (&self->value, text, size, &why) != size) {
        ef_buf_clear (&self->value);
        size -= text[size - 1] == '\n';
        ef_put_strn (&self->value, text, size);
    }
    return self->value.size <= EF_RESULT_MAX ? NULL : "the result is over 64 KiB";
}

static const char *
s_events (output_t *self) {
    const char *why = NULL;
    const char *at = (const char *)self->text.data;
    const char *end = at + self->text.size;
    while (at < end) {
        const char *mark = memchr (at, '\n', (size_t)(end - at));
        size_t size = mark ? (size_t)(mark - at) : (size_t)(end - at);
        size_t blank = 0;
        while (blank < size && strchr (" \t\r", at[blank])) {
            blank++;
        }
        if (blank < size && ef_json_to_event (&self->value, at, size, NULL, NULL, &why)) {
            return why;
        }
        at += size + 1;
    }
    return NULL;
}

const char *
output_say (output_t *self, output_kind_t kind, eventflow_answer_t *words) {
    if (kind == OUTPUT_INHERITED || (self->text.size == 0 && !self->is_too_large)) {
        return NULL;
    }
    if (self->is_too_large) {
        return kind == OUTPUT_RESULT ? "the result is over 64 KiB" : "the events are over 4 MiB";
    }
    const char *why = kind == OUTPUT_RESULT ? s_result (self) : s_events (self);
    self->span = (eventflow_bytes_t){self->value.data, self->value.size};
    if (why == NULL && self->value.size > 0) {
        *(kind == OUTPUT_RESULT ? &words->result : &words->events) = &self->span;
    }
    return why;
}
