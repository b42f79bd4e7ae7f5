/* Settings: a file in ZPL, the environment, flags. SPDX-License-Identifier: MIT */
#ifndef EF_CONFIG_H
#define EF_CONFIG_H

#include "base/log.h"
#include "core/core.h"

#define EF_POOL_COMMAND_MAX 1024

/* The worker processes of a topic that the broker starts itself. */
typedef struct {
    char command[EF_POOL_COMMAND_MAX]; /* run by /bin/sh -c; empty: no pool */
    uint32_t min;
    uint32_t max;
    uint32_t credit;      /* told to each worker as EVENTFLOW_CREDIT */
    uint32_t idle_ms;     /* a worker above min that is idle so long goes */
    uint32_t cooldown_ms; /* between two changes */
} ef_pool_config_t;

typedef struct {
    ef_topic_config_t topic;
    ef_pool_config_t pool;
} ef_config_topic_t;

typedef struct {
    char name[64];
    char data[1024]; /* directory */
    char ingress[256];
    char front[256];
    char back[256];
    char admin[256];
    char stats[256];
    char durability[16]; /* sync or os */
    bool insecure;       /* may bind addresses that aren't loopback without CURVE */
    bool log_json;
    ef_log_level_t log_level;
    uint32_t max_event;
    uint32_t max_message;
    uint64_t segment_bytes;
    uint64_t cache_bytes;
    uint32_t heartbeat_ms;
    bool auto_create;
    ef_config_topic_t defaults;
    ef_config_topic_t *topics; /* owned */
    uint32_t topic_count;
} ef_config_t;

/* Defaults, with the topics api, db and email. */
void ef_config_init (ef_config_t *self);
void ef_config_free (ef_config_t *self);

/* Reads a file over what is set already. 0, or -1 and `error` names file, line and what was
 * expected. */
EF_MUST_USE int ef_config_load (ef_config_t *self, const char *path, char error[512]);

/* EVENTFLOW_<SECTION>_<KEY>, as in EVENTFLOW_SERVER_FRONT. */
EF_MUST_USE int ef_config_environment (ef_config_t *self, char error[512]);

/* One setting of the server section by name, as a flag gives it. */
EF_MUST_USE int ef_config_set (ef_config_t *self, const char *key, const char *value,
                               char error[512]);

/* What can only be judged as a whole: addresses, relations between limits. */
EF_MUST_USE int ef_config_check (const ef_config_t *self, char error[512]);

#endif
