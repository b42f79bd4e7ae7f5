/* The monitor's settings. SPDX-License-Identifier: MIT

   Section `monitor` of the file, EVENTFLOW_MONITOR_…, flags; those of its HTTP server stand in the
   same section (web_settings). */
#ifndef EF_MONITOR_OPTIONS_H
#define EF_MONITOR_OPTIONS_H

#include "../../broker/base/settings.h"

#define OPTIONS_PROBE_MS 2000 /* default */

typedef struct {
    uint64_t broker_ms;      /* without stats and without an answer: the broker is down */
    uint64_t gateway_ms;     /* the same of the gateway */
    uint32_t dead;           /* that die within dead_window; 0: no such alert, also below */
    uint64_t dead_window_ms; /* up to an hour */
    uint64_t oldest_ms;
    uint64_t oldest_for_ms;
    uint64_t stall_ms;
    uint64_t no_worker_ms;
    uint64_t breaker_ms;
    uint64_t unhealthy_ms;
    uint64_t crash_loop_ms; /* kept for so long behind the last */
    uint64_t disk_bytes;    /* free */
    uint64_t fsync_ms;      /* that one of a hundred takes */
    uint64_t fsync_for_ms;
    uint64_t clear_ms;
    uint64_t repeat_ms;
    uint32_t reminders;
    char topic[64];     /* that gets them as events; empty: none */
    char webhook[1000]; /* URL */
    char webhook_header[1000];
    uint32_t direct; /* webhook and mail: DIRECT_… */
    char mail_server[256];
    char mail_from[256];
    char mail_to[1000];
    char mail_user[256];
    char mail_password[256];
    uint32_t mail_tls;
} alert_settings_t;

enum { DIRECT_ALL, DIRECT_DOWN }; /* all alerts; those that the broker can't carry */
enum { MAIL_TLS_TRY, MAIL_TLS_REQUIRE, MAIL_TLS_NO };

typedef struct {
    char url[1000]; /* http://127.0.0.1:8086; empty: none */
    char database[200];
    char user[200];
    char password[200];
    char org[200];
    char bucket[200];
    char token[300];
    uint64_t every_ms;
    uint64_t buffer_bytes;
    bool workers; /* a series for each worker too */
} influx_settings_t;

typedef struct {
    char stats[256]; /* endpoints; empty: the environment's or the default */
    char admin[256];
    char front[256];
    char data[1000]; /* file of the history */
    uint64_t data_bytes;
    uint32_t topics;         /* with a history of their own */
    uint32_t metrics_topics; /* with labels of their own */
    char gateway[1000];      /* URL of its health; empty: none */
    uint64_t probe_ms;
    alert_settings_t alert;
    influx_settings_t influx;
} options_t;

extern const settings_t options_settings;
void options_defaults (options_t *self);
EF_MUST_USE int options_check (const options_t *self, char error[512]);
/* Endpoints: what was said, else the environment's, else the default. */
const char *options_endpoint (const char *said, const char *variable, const char *otherwise);

#endif
