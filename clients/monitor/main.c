/* eventflow-monitor: shows, keeps and tells what a broker does. SPDX-License-Identifier: MIT */
#include "../../broker/base/log.h"
#include "../web/api.h"
#include "../web/program.h"
#include "collector.h"

#include <stdio.h>

#define ADMIN_CONNECTIONS 8
#define ADMIN_TIMEOUT_MS  5000
#define QUIET_MS          2000

static options_t s_options;
static web_options_t s_web;

static const char s_help[] =
    "Subscribes to a broker's stats, keeps a bounded history, shows a dashboard, raises alerts,\n"
    "and is read by Prometheus (/metrics) and writes to InfluxDB. It takes no part in delivery.\n"
    "\n"
    "  eventflow-monitor                                  the broker on this machine; then open\n"
    "                                                     http://127.0.0.1:8082\n"
    "  eventflow-monitor --config eventflow.cfg           settings: its section monitor\n"
    "  eventflow-monitor --gateway http://127.0.0.1:8080 --alert-webhook "
    "https://chat.example/hook\n"
    "  eventflow-monitor --mail-server smtp://127.0.0.1 --mail-from eventflow@example.org \\\n"
    "                    --mail-to ops@example.org --alert-direct down\n"
    "  eventflow-monitor --influx http://127.0.0.1:8086 --influx-database eventflow\n"
    "  curl http://127.0.0.1:8082/metrics\n"
    "  curl 'http://127.0.0.1:8082/metrics/detailed?topic=email'\n"
    "  curl 'http://127.0.0.1:8082/api/v1/history?topic=email&series=in,done&step=10'\n"
    "  curl -N http://127.0.0.1:8082/api/v1/live\n";

static int
s_check (char error[512]) {
    return options_check (&s_options, error);
}

typedef struct {
    access_t *access;
    server_t *server;
    admin_pool_t *admin;
    api_t *api;
    collector_t *collector;
} parts_t;

static int
s_start (parts_t *self, char error[512]) {
    const char *admin =
        options_endpoint (s_options.admin, "EVENTFLOW_ADMIN", "tcp://127.0.0.1:5553");
    const char *front =
        options_endpoint (s_options.front, "EVENTFLOW_FRONT", "tcp://127.0.0.1:5551");
    self->access = access_new (&s_web.access, error);
    self->collector = self->access ? collector_new (&s_options, error) : NULL;
    self->server = self->collector ? server_new (&s_web, self->access) : NULL;
    if (self->server == NULL) {
        return -1;
    }
    self->admin = admin_pool_new (admin, ADMIN_CONNECTIONS, ADMIN_TIMEOUT_MS);
    self->api = api_new (self->admin, front);
    listener_t *listener = server_listener (self->server, "main", s_web.listen);
    collector_routes (self->collector, listener, &s_web);
    api_on_health (self->api, collector_health, self->collector);
    api_routes (self->api, listener);
    return server_start (self->server, error);
}

static void
s_stop (parts_t *self) {
    if (self->collector) {
        collector_close (self->collector);
    }
    if (self->server) {
        server_drain (self->server);
        (void)server_is_quiet (self->server, QUIET_MS); /* who is slower is cut off */
    }
    server_destroy (&self->server);
    api_destroy (&self->api);
    admin_pool_destroy (&self->admin);
    collector_destroy (&self->collector);
    access_destroy (&self->access);
}

int
main (int argc, char **argv) {
    const program_table_t tables[] = {{&options_settings, &s_options}, {&web_settings, &s_web}};
    const program_t program = {"eventflow-monitor", "monitor", s_help, tables, 2, s_check};
    char error[512] = "";
    parts_t parts = {0};
    options_defaults (&s_options);
    web_defaults (&s_web, "127.0.0.1:8082");
    int status = program_options (&program, argc, argv);
    if (status >= 0) {
        return status;
    }
    program_block_signals ();
    status = s_start (&parts, error) ? 2 : 0;
    if (status) {
        fprintf (stderr, "eventflow-monitor: %s\n", error);
    } else {
        program_wait (NULL, NULL);
    }
    s_stop (&parts);
    return status;
}
