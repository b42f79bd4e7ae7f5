/* What both databases do alike. SPDX-License-Identifier: MIT */
#include "backend.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

short
db_wait (const db_wait_t *self, int file, short events, uint64_t most_ms) {
    struct pollfd items[2] = {{self->wake, POLLIN, 0}, {file, events, 0}};
    uint64_t words;
    int most = most_ms < 60000 ? (int)most_ms : 60000;
    int rc = poll (items, file >= 0 ? 2 : 1, most);
    if (rc > 0 && items[0].revents) {
        (void)!read (self->wake, &words, sizeof words); /* it only wakes */
    }
    return rc > 0 && file >= 0 ? items[1].revents : 0;
}

int
db_blame (db_fault_t *fault, db_verdict_t verdict, const char *code, const char *text) {
    fault->verdict = verdict;
    snprintf (fault->code, sizeof fault->code, "%s", code);
    snprintf (fault->text, sizeof fault->text, "%s", text);
    for (size_t size = strlen (fault->text); size > 0 && fault->text[size - 1] == '\n'; size--) {
        fault->text[size - 1] = 0;
    }
    return -1;
}

void
db_refuse (db_row_t *row, const db_fault_t *fault) {
    row->outcome = DB_ROW_REFUSED;
    if (row->fault == NULL) {
        row->fault = malloc (sizeof *row->fault);
        ef_assert (row->fault != NULL);
    }
    *row->fault = *fault;
}

static bool
s_is_same (const db_batch_t *batch, db_span_t a, db_span_t b) {
    return a.size == b.size && memcmp (db_text_at (batch, a), db_text_at (batch, b), a.size) == 0;
}

bool
db_is_same_key (const db_batch_t *batch, const db_row_t *a, const db_row_t *b) {
    return s_is_same (batch, a->key.id, b->key.id) && s_is_same (batch, a->key.mark, b->key.mark) &&
           s_is_same (batch, a->key.topic, b->key.topic);
}

void
db_settle_repeats (db_batch_t *batch) {
    for (uint32_t i = 0; i < batch->count; i++) {
        const db_row_t *refused = &batch->rows[i];
        for (uint32_t k = i + 1; refused->outcome == DB_ROW_REFUSED && k < batch->count; k++) {
            db_row_t *row = &batch->rows[k];
            if (row->outcome == DB_ROW_REPEATED && db_is_same_key (batch, refused, row)) {
                db_refuse (row, refused->fault);
            }
        }
    }
}
