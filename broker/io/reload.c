/* Settings that change while the broker runs. SPDX-License-Identifier: MIT

   Main reads them, since a file may be slow and a zone takes a process: SIGHUP tells it to, from
   outside or from here for RELOAD. What it read comes as one pointer; the settings that are in use
   are the router's own copy, so nobody else's pointers into a configuration ever move. */
#include "router_private.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WAITING_MAX 64 /* operators who wait for an answer to RELOAD */

typedef struct {
    ef_peer_t peer; /* a copy */
    uint64_t number;
} reload_wait_t;

uint64_t
ef_router_reload_asked (const ef_router_t *self) {
    return atomic_load (&self->reload_asked);
}

static void
s_free (ef_reload_t *reload) {
    if (reload && reload->config) {
        ef_config_free (reload->config);
        free (reload->config);
    }
    free (reload);
}

void
ef_router_reload (ef_router_t *self, ef_reload_t *reload) {
    s_free (atomic_exchange (&self->reload, reload)); /* one that wasn't taken is out of date */
    ef_waker_wake (self->parts.waker);
}

/* False: too many wait. */
bool
router_ask_reload (ef_router_t *self, const ef_peer_t *peer) {
    if (self->reload_waits.count >= WAITING_MAX) {
        return false;
    }
    reload_wait_t *wait = calloc (1, sizeof *wait);
    ef_assert (wait != NULL);
    wait->peer = *peer;
    wait->number = atomic_fetch_add (&self->reload_asked, 1) + 1;
    outbox_add (&self->reload_waits, wait);
    (void)kill (getpid (), SIGHUP); /* to ourselves it can't fail */
    return true;
}

/* Answers those who asked before the reading began. */
static void
s_answer (ef_router_t *self, uint64_t asked, const ef_buf_t *answer) {
    while (self->reload_waits.count > 0) {
        reload_wait_t *wait = self->reload_waits.items[self->reload_waits.head];
        if (wait->number > asked) {
            return;
        }
        (void)router_send_frames (self, &wait->peer, answer, NULL); /* it asks again */
        self->reload_waits.head++;
        self->reload_waits.count--;
        free (wait);
    }
    self->reload_waits.head = 0;
}

static void
s_refuse (ef_router_t *self, const ef_effects_t *effects, const ef_reload_t *reload,
          const char *why) {
    ef_buf_t answer = {0};
    char text[560];
    self->is_config_refused = true;
    snprintf (text, sizeof text, "nothing changed: %s", why);
    ef_log (EF_LOG_WARNING, "config.refused", "reason=\"%s\"", why);
    effects->notify (effects->arg, "reload", "", text);
    ef_put_array (&answer, 3);
    ef_put_str (&answer, "ERROR");
    ef_put_str (&answer, ef_status_name (EF_BAD_COMMAND));
    ef_put_str (&answer, text);
    s_answer (self, reload->asked, &answer);
    ef_buf_free (&answer);
}

static void
s_put_names (ef_buf_t *out, const char *key, const ef_setting_names_t *names) {
    ef_put_str (out, key);
    ef_put_array (out, names->count);
    for (uint32_t i = 0; i < names->count; i++) {
        ef_put_str (out, names->items[i]);
    }
}

/* The first few names, for people. */
static size_t
s_list (char *text, size_t used, size_t bytes, const char *what, const ef_setting_names_t *names) {
    used += (size_t)snprintf (text + used, bytes - used, "%s%u %s", used ? "; " : "", names->count,
                              what);
    for (uint32_t i = 0; i < names->count && i < 8 && used + EF_SETTING_NAME_BYTES + 8 < bytes;
         i++) {
        used +=
            (size_t)snprintf (text + used, bytes - used, "%s%s", i ? ", " : ": ", names->items[i]);
    }
    return used;
}

static void
s_report (ef_router_t *self, const ef_effects_t *effects, const ef_reload_t *reload,
          const ef_config_changes_t *changes) {
    ef_buf_t answer = {0};
    char text[1024];
    size_t used = s_list (text, 0, sizeof text / 2, "changed", &changes->changed);
    (void)s_list (text, used, sizeof text, "need a restart", &changes->needs_restart);
    effects->notify (effects->arg, "reload", "", text);
    ef_put_array (&answer, 2);
    ef_put_str (&answer, "OK");
    ef_put_map (&answer, 2);
    s_put_names (&answer, "changed", &changes->changed);
    s_put_names (&answer, "needs_restart", &changes->needs_restart);
    s_answer (self, reload->asked, &answer);
    ef_buf_free (&answer);
}

/* True: the core has no place for all the topics that are new to it. */
static bool
s_is_too_much (const ef_router_t *self, const ef_config_t *fresh) {
    uint32_t count = ef_core_topic_count (self->core);
    for (uint32_t i = 0; i < fresh->topic_count; i++) {
        const char *name = fresh->topics[i].topic.name;
        count += ef_core_find_topic (self->core, name, strlen (name)) < 0;
    }
    return count > EF_TOPICS_MAX;
}

static void
s_apply (ef_router_t *self, const ef_config_changes_t *changes) {
    const ef_config_t *settings = &self->settings;
    ef_core_config_t core;
    router_core_config (self, &core);
    ef_core_configure (self->core, &core);
    ef_log_setup (settings->log_level, settings->log_json);
    for (uint32_t i = 0; i < changes->topic_count; i++) {
        const ef_config_topic_t *topic = &settings->topics[changes->topics[i]];
        int rc = ef_core_configure_topic (self->core, &topic->topic);
        ef_assert (rc == 0); /* they were counted */
        router_tell_pool (self, topic);
    }
    router_tell_bounds (self);
    if (changes->has_routes) { /* behind the topics that they name */
        ef_core_set_routes (self->core, settings->routes, settings->route_count);
    }
}

/* True: there was something. */
bool
router_take_reload (ef_router_t *self, const ef_effects_t *effects) {
    ef_reload_t *reload = atomic_exchange (&self->reload, NULL);
    if (reload == NULL) {
        return false;
    }
    if (reload->config == NULL) {
        s_refuse (self, effects, reload, reload->error);
    } else if (s_is_too_much (self, reload->config)) {
        s_refuse (self, effects, reload, "more topics than a broker has: expected 4096 in all");
    } else {
        ef_config_changes_t changes;
        ef_config_update (&self->settings, reload->config, &changes);
        self->is_config_refused = false;
        self->config_ms = ef_wall_ms ();
        s_apply (self, &changes);
        s_report (self, effects, reload, &changes);
        ef_config_changes_free (&changes);
    }
    s_free (reload);
    return true;
}

void
router_forget_reload (ef_router_t *self) {
    for (uint32_t i = 0; i < self->reload_waits.count; i++) {
        free (self->reload_waits.items[self->reload_waits.head + i]);
    }
    outbox_free (&self->reload_waits);
    s_free (atomic_exchange (&self->reload, NULL));
    ef_config_free (&self->settings);
}
