/* A command for each event. SPDX-License-Identifier: MIT

   Role: the event is on the command's standard input and in its environment, its exit status is the
   answer. Owns: the commands that run, `concurrency` at a time. One thread. */
#include "child.h"
#include "exec.h"
#include "lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VARIABLES     9 /* that tell of the event */
#define VARIABLE_SIZE 256
#define STATUS_DEAD   65 /* EX_DATAERR of sysexits.h: it will never be right */

typedef struct {
    bool is_used;
    bool is_stopped;
    stop_reason_t reason; /* why */
    uint64_t tag;
    child_t child;
    output_t output;
} slot_t;

struct oneshot_s {
    const exec_way_t *way; /* borrowed */
    output_kind_t output;
    uint32_t count;
    slot_t *slots; /* owned */
};

oneshot_t *
oneshot_new (const exec_way_t *way) {
    oneshot_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->way = way;
    self->output = way->options->keeps_result ? OUTPUT_RESULT
                   : way->options->emits      ? OUTPUT_EVENTS
                                              : OUTPUT_INHERITED;
    self->count = runtime_concurrency (way->runtime);
    self->slots = calloc (self->count, sizeof *self->slots);
    ef_assert (self->slots != NULL);
    return self;
}

static void
s_free_slot (slot_t *slot) {
    child_free (&slot->child);
    output_free (&slot->output);
    slot->is_used = false;
}

void
oneshot_destroy (oneshot_t **self_p) {
    oneshot_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    child_t **children = calloc (self->count, sizeof (child_t *));
    size_t count = 0;
    ef_assert (children != NULL);
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->slots[i].is_used) {
            children[count++] = &self->slots[i].child;
        }
    }
    child_end_all (children, count, 0);
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->slots[i].is_used) {
            s_free_slot (&self->slots[i]);
        }
    }
    free (children);
    free (self->slots);
    free (self);
    *self_p = NULL;
}

static void
s_variable (char text[][VARIABLE_SIZE], size_t *count, const char *name, eventflow_bytes_t value) {
    snprintf (text[(*count)++], VARIABLE_SIZE, "EVENTFLOW_%s=%.*s", name,
              (int)(value.size < 200 ? value.size : 200),
              value.size ? (const char *)value.data : "");
}

static eventflow_bytes_t
s_bytes (const char *text) {
    return (eventflow_bytes_t){text, strlen (text)};
}

/* What the environment tells of the event. */
static size_t
s_tell (const eventflow_delivery_t *delivery, const char *said, char text[][VARIABLE_SIZE]) {
    size_t count = 0;
    char number[24];
    char date[25];
    s_variable (text, &count, "ID", delivery->id);
    s_variable (text, &count, "TOPIC", delivery->topic);
    s_variable (text, &count, "TYPE", delivery->type);
    snprintf (number, sizeof number, "%u", delivery->attempt);
    s_variable (text, &count, "ATTEMPT", s_bytes (number));
    snprintf (number, sizeof number, "%llu", (unsigned long long)delivery->tag);
    s_variable (text, &count, "TAG", s_bytes (number));
    ef_rfc3339 (delivery->deadline_ms ? delivery->deadline_ms : ef_wall_ms () + 30000, date);
    s_variable (text, &count, "DEADLINE", s_bytes (date));
    s_variable (text, &count, "KEY", delivery->key);
    s_variable (text, &count, "USER", delivery->user);
    s_variable (text, &count, "DOWNSTREAM",
                delivery->downstream.data ? delivery->downstream : s_bytes (said ? said : ""));
    return count;
}

static int
s_start (oneshot_t *self, slot_t *slot, const eventflow_delivery_t *delivery) {
    const plan_t *plan = self->way->plan;
    char text[VARIABLES][VARIABLE_SIZE];
    char *list[VARIABLES];
    size_t count = s_tell (delivery, runtime_downstream (self->way->runtime), text);
    for (size_t i = 0; i < count; i++) {
        list[i] = text[i];
    }
    char **environment = plan_environment (plan, list, count);
    int rc = child_start (&slot->child, plan, environment, self->output != OUTPUT_INHERITED,
                          self->way->epoll);
    free (environment);
    return rc;
}

eventflow_result_t
oneshot_handle (oneshot_t *self, const eventflow_delivery_t *delivery) {
    slot_t *slot = NULL;
    ef_buf_t input = {0};
    for (uint32_t i = 0; i < self->count && slot == NULL; i++) {
        slot = self->slots[i].is_used ? NULL : &self->slots[i];
    }
    if (slot == NULL) {
        return EVENTFLOW_RELEASE; /* more than our credit: a cancelled one still ends */
    }
    if (lines_put_plain (&input, self->way->options->is_whole, delivery)) {
        ef_buf_free (&input);
        return exec_explain_unreadable (self->way);
    }
    memset (slot, 0, sizeof *slot);
    int rc = s_start (self, slot, delivery);
    if (rc) {
        ef_buf_free (&input);
        return exec_explain_spawn (self->way, rc);
    }
    slot->child.bytes = input;
    slot->child.ends_input = true;
    child_feed (&slot->child);
    slot->is_used = true;
    slot->tag = delivery->tag;
    return EVENTFLOW_LATER;
}

void
oneshot_stop (oneshot_t *self, uint64_t tag, stop_reason_t reason) {
    for (uint32_t i = 0; i < self->count; i++) {
        slot_t *slot = &self->slots[i];
        if (slot->is_used && slot->tag == tag) {
            slot->is_stopped = true;
            slot->reason = reason;
            child_end (&slot->child, ef_mono_ms ());
        }
    }
}

void
oneshot_lower (const oneshot_t *self, int *timeout_ms) {
    uint64_t now = ef_mono_ms ();
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->slots[i].is_used) {
            child_lower (&self->slots[i].child, now, timeout_ms);
        }
    }
}

/* Keeps standard output, where it is a part of the answer. */
static void
s_gather (const oneshot_t *self, slot_t *slot) {
    char bytes[4096];
    size_t got;
    while ((got = child_read (&slot->child, bytes, sizeof bytes)) > 0) {
        output_add (&slot->output, self->output, bytes, got);
    }
}

static void
s_answer (oneshot_t *self, slot_t *slot, const siginfo_t *ended) {
    const exec_way_t *way = self->way;
    char text[EF_TEXT_MAX] = "";
    char code[32];
    eventflow_answer_t words = {.retry_ms = -1};
    eventflow_result_t result = EVENTFLOW_RETRY;
    child_code (ended, way->options->plan.cpu_ms > 0, code);
    words.code = code;
    if (slot->is_stopped && slot->reason == STOP_TIMEOUT) {
        result = runtime_stop_words (STOP_TIMEOUT, &words);
    } else if (strncmp (code, "EXIT_", 5) == 0) {
        words.code = NULL;
        words.number = ended->si_status;
        result = ended->si_status == 0             ? EVENTFLOW_DONE
                 : ended->si_status == STATUS_DEAD ? EVENTFLOW_DEAD
                                                   : EVENTFLOW_RETRY;
    }
    child_last_line (&slot->child, text, sizeof text); /* it says most; the rest is the trace */
    words.text = text[0] || words.text == NULL ? text : words.text;
    words.trace = slot->child.tail_size ? slot->child.tail : NULL;
    words.downstream = runtime_downstream (way->runtime);
    const char *why =
        result == EVENTFLOW_DONE ? output_say (&slot->output, self->output, &words) : NULL;
    if (why) {
        result = EVENTFLOW_RETRY;
        words.code = "OUTPUT";
        snprintf (text, sizeof text, "standard output: %s", why);
    }
    if (slot->is_stopped && slot->reason != STOP_TIMEOUT && result != EVENTFLOW_DONE) {
        result = EVENTFLOW_RELEASE; /* its failure is ours */
    }
    runtime_answer (way->runtime, slot->tag, result, &words);
}

void
oneshot_step (oneshot_t *self) {
    uint64_t now = ef_mono_ms ();
    for (uint32_t i = 0; i < self->count; i++) {
        slot_t *slot = &self->slots[i];
        siginfo_t ended;
        if (!slot->is_used) {
            continue;
        }
        child_insist (&slot->child, now);
        if (!slot->child.is_ready) {
            continue;
        }
        slot->child.is_ready = false;
        child_feed (&slot->child);
        bool is_over = child_has_ended (&slot->child, &ended);
        child_listen (&slot->child); /* behind the end: all that it said is there */
        s_gather (self, slot);
        if (is_over) {
            s_answer (self, slot, &ended);
            s_free_slot (slot);
        }
    }
}

size_t
oneshot_children (const oneshot_t *self, pid_t *pids, size_t most) {
    size_t count = 0;
    for (uint32_t i = 0; i < self->count && count < most; i++) {
        if (self->slots[i].is_used) {
            pids[count++] = self->slots[i].child.pid;
        }
    }
    return count;
}
