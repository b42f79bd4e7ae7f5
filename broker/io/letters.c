/* DLQ.*: asked of the dead-letter actor. SPDX-License-Identifier: MIT

   What the stats count as dead may still be on its way over there. A question waits until all that
   was decided in its topic before it is durable and has been handed over, which the actor takes
   first: an answer is never older than the counts that its asker has seen. A way that is blocked
   (letters wait for a full disk) isn't waited for longer than WAIT_MS. */
#include "router_private.h"

#include <stdlib.h>

#define WAIT_MS 3000 /* less than an asker's 5,000 */

/* Whom an answer is for. */
typedef struct {
    ef_peer_t peer; /* a copy */
    int topic;      /* -1: none that is known */
    uint64_t m;     /* its last letter when it was asked */
    uint64_t lsn;   /* written when it was asked */
    uint64_t until_ms;
} token_t;

/* The index of the topic that is asked about, or -1. */
static int
s_topic (const ef_router_t *self, ef_cursor_t request) {
    ef_span_t name;
    uint32_t items;
    if (ef_get_array (&request, &items) || items < 2 || ef_skip (&request) ||
        ef_get_str (&request, &name)) {
        return -1;
    }
    return ef_core_find_topic (self->core, name.data, name.size);
}

void
router_letters_ask (ef_router_t *self, const ef_peer_t *peer, ef_cursor_t request) {
    token_t *token = calloc (1, sizeof *token);
    ef_assert (token != NULL);
    token->peer = *peer;
    token->topic = s_topic (self, request);
    token->m = token->topic < 0 ? 0 : ef_core_last_move (self->core, (uint32_t)token->topic);
    token->lsn = ef_core_written_lsn (self->core);
    token->until_ms = ef_mono_ms () + WAIT_MS;
    ef_dead_message_t *message = ef_dead_message_new (EF_DEAD_ADMIN, "");
    ef_buf_put (&message->bytes, request.at, ef_cursor_left (&request));
    message->token = token;
    outbox_add (&self->letter_waits, message);
    router_letters_moved (self);
}

/* Hands over the questions that need wait no longer, in order. The stats wake the router every
   second, so none is forgotten. */
void
router_letters_moved (ef_router_t *self) {
    outbox_t *waits = &self->letter_waits;
    uint64_t now = waits->count ? ef_mono_ms () : 0;
    while (waits->count > 0) {
        ef_dead_message_t *message = waits->items[waits->head];
        const token_t *token = message->token;
        bool is_there =
            token->lsn <= ef_core_durable_lsn (self->core) &&
            (token->topic < 0 || ef_core_has_moved (self->core, (uint32_t)token->topic, token->m));
        if (!is_there && now < token->until_ms) {
            return;
        }
        outbox_add (&self->to_dead, message);
        waits->head++;
        waits->count--;
    }
    waits->head = 0;
}

void
router_letters_answer (ef_router_t *self, ef_dead_message_t *message) {
    token_t *token = message->token;
    (void)router_send_frames (self, &token->peer, &message->bytes, NULL); /* it asks again */
    free (token);
    message->token = NULL;
}

void
router_letters_forget (ef_router_t *self) {
    outbox_t *const boxes[] = {&self->letter_waits, &self->to_dead};
    for (unsigned k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < boxes[k]->count; i++) {
            ef_dead_message_t *message = boxes[k]->items[boxes[k]->head + i];
            ef_dead_message_destroy (&message);
        }
        outbox_free (boxes[k]);
    }
}
