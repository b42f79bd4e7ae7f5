/* The numbers written to InfluxDB. SPDX-License-Identifier: MIT

   Role: makes a batch of lines of a round (lines.h), keeps batches until the database has taken
   them, and hands one at a time to the sender: POST /write?db= (version 1) or /api/v2/write?org=&
   bucket= (version 2, where an organisation is set). Owns: the batches. Invariants: they are
   written in order; their bytes are bounded, past it the oldest is lost and counted. On failure: no
   answer, 5xx, 401, 404 and 429 are tried again for ever, since a database comes back and a setting
   is mended; what it finds wrong in a batch (400, 413, 422) loses that batch. */
#ifndef EF_MONITOR_INFLUX_H
#define EF_MONITOR_INFLUX_H

#include "options.h"
#include "samples.h"
#include "sender.h"

typedef struct influx_s influx_t;

/* `settings` and `sender` are borrowed. NULL: no database is set. */
influx_t *influx_new (const influx_settings_t *settings, sender_t *sender);
/* After the sender's end. */
void influx_destroy (influx_t **self_p);

/* A round is complete; makes a batch where it is time for one. One thread. */
void influx_take (influx_t *self, const numbers_t *numbers, const samples_t *samples,
                  uint64_t now_ms, uint64_t wall_ms);
/* Sends what waits, where it is time; also while there is no round. */
void influx_step (influx_t *self);

typedef struct {
    uint64_t batches; /* taken by the database */
    uint64_t lost;    /* batches */
    uint64_t waiting_bytes;
    uint32_t waiting;
    bool is_failing;
    char error[200];
} influx_numbers_t;
void influx_numbers (influx_t *self, influx_numbers_t *numbers);

/* Pure, for tests. */
void influx_put_lines (ef_buf_t *out, const numbers_t *numbers, const samples_t *samples,
                       bool with_workers, uint64_t wall_ms);
void influx_put_url (ef_buf_t *out, const influx_settings_t *settings); /* with a NUL */

#endif
