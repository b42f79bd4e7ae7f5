/* eventflow-gateway: eventflow over HTTP. SPDX-License-Identifier: MIT */
#include "gateway.h"
#include "../../broker/base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define DRAIN_MS   10000 /* for what is under way when it is told to end */

#define OF(member) FIELD (gateway_options_t, member)

static const setting_t s_rows[] = {
    {"front", &config_text, OF (front), 0, 0, NULL, true,
     "the broker's endpoint for publishing ($EVENTFLOW_FRONT, tcp://127.0.0.1:5551)"},
    {"admin", &config_text, OF (admin), 0, 0, NULL, true,
     "the broker's endpoint for operators ($EVENTFLOW_ADMIN, tcp://127.0.0.1:5553)"},
    {"schemas", &config_text, OF (schemas), 0, 0, NULL, true,
     "directory of JSON Schemas, TYPE.json or TYPE@VERSION.json; read again on HUP"},
    {"confirm_timeout", &config_duration, OF (confirm_ms), 10, 3600000, NULL, true,
     "without a CONFIRM for so long: 504"},
    {"outbox", &config_size, OF (outbox_bytes), 1 << 20, (double)(1ull << 40), NULL, true,
     "events without CONFIRM; past it 503"},
    {"linger_us", &config_number, OF (linger_us), 1, 1000000, NULL, true,
     "how long events are gathered, at the most, while others are on their way"},
    {"face_python", &config_text, OF (face_python), 0, 0, NULL, true,
     "answers as the notification service did (POST /api/v1/events with user_id), as 8000; empty: "
     "off"},
    {"face_node", &config_text, OF (face_node), 0, 0, NULL, true,
     "answers as the stream processor did (POST /events, /metrics as JSON), as 3000; empty: off"},
    {"face_queue", &config_text, OF (face_queue), 0, 0, NULL, true,
     "answers as the task queue did (POST /task), as 8085; empty: off"},
    {"compat", &config_boolean, OF (compat), 0, 1, NULL, true,
     "opens these three on 8000, 3000 and 8085"},
};
const settings_t gateway_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

static const char s_help[] =
    "Takes events by HTTP and hands them to the broker; answers once they are on disk. Shows and\n"
    "administers the broker as JSON. What it answers is described at /docs and /openapi.json.\n\n"
    "  curl -d '{\"topic\":\"email\",\"payload\":{\"to\":\"a@example.org\"}}' "
    "localhost:8080/api/v1/events\n"
    "  curl localhost:8080/api/v1/topics\n"
    "  curl -X POST localhost:8080/api/v1/topics/email/pause\n"
    "  curl localhost:8080/health\n\n"
    "On loopback nobody needs a token. Any other address needs a file of tokens and TLS:\n"
    "  eventflow-gateway --listen 0.0.0.0:8443 --tokens tokens --tls-certificate c.pem --tls-key "
    "k.pem\n";

void
gateway_defaults (gateway_options_t *options) {
    *options =
        (gateway_options_t){.confirm_ms = 10000, .outbox_bytes = 64u << 20, .linger_us = 1000};
}

static int
s_load_schemas (gateway_t *self, char error[512]) {
    if (self->options->schemas[0] == 0) {
        return 0;
    }
    schemas_t *fresh = schemas_new (self->options->schemas, error);
    if (fresh == NULL) {
        return -1;
    }
    pthread_rwlock_wrlock (&self->schemas_lock);
    schemas_t *old = self->schemas;
    self->schemas = fresh;
    pthread_rwlock_unlock (&self->schemas_lock);
    schemas_destroy (&old);
    return 0;
}

/* Members of /health, and whether events can be taken. */
static bool
s_health (void *arg, ef_buf_t *members) {
    gateway_t *self = arg;
    outbox_numbers_t numbers;
    char text[200];
    outbox_numbers (self->outbox, &numbers);
    pthread_rwlock_rdlock (&self->schemas_lock); /* a HUP may be replacing them */
    unsigned schemas = self->schemas ? schemas_count (self->schemas) : 0;
    pthread_rwlock_unlock (&self->schemas_lock);
    int size = snprintf (text, sizeof text, "\"unconfirmed_events\":%llu,\"schemas\":%u",
                         (unsigned long long)numbers.waiting, schemas);
    ef_buf_put (members, text, (size_t)size);
    return true;
}

static void
s_each_second (void *arg, bool is_hangup) {
    gateway_t *self = arg;
    char error[512];
    char durability[16];
    api_durability (self->api, durability);
    outbox_durability (self->outbox, durability);
    if (is_hangup && s_load_schemas (self, error)) {
        ef_log (EF_LOG_ERROR, "schemas.refused", "why=\"%s\"", error);
    }
}

static int
s_start (gateway_t *self, char error[512]) {
    const gateway_options_t *options = self->options;
    const char *front = options->front[0] ? options->front : NULL;
    self->access = access_new (&self->web->access, error);
    if (self->access == NULL || s_load_schemas (self, error)) {
        return -1;
    }
    self->server = server_new (self->web, self->access);
    self->admin =
        admin_pool_new (options->admin[0] ? options->admin : NULL, self->web->helpers + 2, 5000);
    self->api = api_new (self->admin, front);
    const outbox_options_t outbox = {front, options->confirm_ms, options->outbox_bytes,
                                     options->linger_us};
    self->outbox = outbox_new (&outbox);
    server_on_turn (self->server, outbox_flush, self->outbox);
    api_on_health (self->api, s_health, self);
    faces_add (self);
    return server_start (self->server, error);
}

static void
s_stop (gateway_t *self) {
    if (self->server) {
        server_drain (self->server);
        uint32_t waited = 0;
        while (waited < DRAIN_MS && !server_is_quiet (self->server, 100) && !program_is_told (0)) {
            waited += 100;
        }
    }
    if (self->outbox) {
        outbox_stop (self->outbox);
    }
    server_destroy (&self->server);
    outbox_destroy (&self->outbox);
    api_destroy (&self->api);
    admin_pool_destroy (&self->admin);
    access_destroy (&self->access);
    schemas_destroy (&self->schemas);
    numbers_free (&self->numbers);
    pthread_mutex_destroy (&self->numbers_lock);
    pthread_rwlock_destroy (&self->schemas_lock);
    ef_buf_free (&self->openapi);
    ef_buf_free (&self->docs);
}

int
main (int argc, char **argv) {
    static gateway_options_t options;
    static web_options_t web;
    const program_table_t tables[] = {{&gateway_settings, &options}, {&web_settings, &web}};
    const program_t program = {"eventflow-gateway", "gateway", s_help, tables, 2, NULL};
    gateway_t gateway = {.options = &options, .web = &web};
    char error[512] = "";
    gateway_defaults (&options);
    web_defaults (&web, "127.0.0.1:8080");
    web.header_bytes = 8u << 10; /* the library clears as much for every request */
    int status = program_options (&program, argc, argv);
    if (status >= 0) {
        return status;
    }
    program_block_signals ();
    pthread_rwlock_init (&gateway.schemas_lock, NULL);
    pthread_mutex_init (&gateway.numbers_lock, NULL);
    numbers_init (&gateway.numbers);
    int rc = s_start (&gateway, error);
    if (rc) {
        fprintf (stderr, "eventflow-gateway: %s\n", error);
    } else {
        program_wait (s_each_second, &gateway);
    }
    s_stop (&gateway);
    return rc ? 2 : 0;
}
