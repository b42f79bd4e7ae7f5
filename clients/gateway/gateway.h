/* eventflow-gateway's parts. SPDX-License-Identifier: MIT */
#ifndef EF_GATEWAY_H
#define EF_GATEWAY_H

#include "../web/api.h"
#include "../web/prometheus.h"
#include "../web/program.h"
#include "outbox.h"

#include <pthread.h>

typedef struct {
    char front[256];
    char admin[256];
    char schemas[1000]; /* directory; empty: none */
    uint32_t confirm_ms;
    uint64_t outbox_bytes;
    uint32_t linger_us;
    char face_python[64]; /* addresses; empty: off */
    char face_node[64];
    char face_queue[64];
    bool compat;
} gateway_options_t;
extern const settings_t gateway_settings;
void gateway_defaults (gateway_options_t *options);

typedef struct gateway_s gateway_t;

/* A listener's way of answering. */
typedef struct {
    gateway_t *gateway;
    style_t style;
    listener_t *listener;
} face_t;

struct gateway_s {
    const gateway_options_t *options;
    const web_options_t *web;
    access_t *access;
    server_t *server;
    admin_pool_t *admin;
    api_t *api;
    outbox_t *outbox;
    pthread_rwlock_t schemas_lock;
    schemas_t *schemas; /* owned; NULL: none */
    face_t faces[4];
    pthread_mutex_t numbers_lock;
    numbers_t numbers; /* of the broker, as the last scrape found them */
    ef_buf_t openapi;  /* made once */
    ef_buf_t docs;
};

/* publish.c: POST of events, for every face. */
void publish_post (void *arg, call_t *call);
void publish_options (void *arg, call_t *call);

/* faces.c: the routes of each face onto its listener. */
void faces_add (gateway_t *self);

/* metrics.c */
void metrics_get (void *arg, call_t *call);
/* Its own part of the text. */
void metrics_put (gateway_t *self, ef_buf_t *out);

/* openapi.c */
void openapi_make (gateway_t *self, const listener_t *listener);
void openapi_get (void *arg, call_t *call);
void openapi_docs (void *arg, call_t *call);
void openapi_style (void *arg, call_t *call);

#endif
