/* Settings: a file in ZPL, the environment, flags. SPDX-License-Identifier: MIT

   Read in this order: config_table.c (every setting, a row each), config_values.c and
   config_rules.c (how values are read and written), config_zone.c, config_load.c, config_check.c,
   config_change.c. config_load.c alone needs czmq. Nothing here is safe from two threads at once.
 */
#ifndef EF_CONFIG_H
#define EF_CONFIG_H

#include "base/log.h"
#include "core/core.h"

#define EF_POOL_COMMAND_MAX 1024
#define EF_WORKERS_CEILING                                                                         \
    1000 /* processes; each costs a descriptor and a look four times a second */

/* The worker processes of a topic that the broker starts itself. */
typedef struct {
    char command[EF_POOL_COMMAND_MAX]; /* run by /bin/sh -c; empty: no pool */
    uint32_t min;
    uint32_t max;
    uint32_t credit;         /* told to each worker as EVENTFLOW_CREDIT; 0: it has its own */
    uint32_t idle_ms;        /* a worker above min that is idle so long goes */
    uint32_t cooldown_ms;    /* between two changes */
    uint64_t recycle_events; /* a worker that has answered so many is replaced; 0: never */
    uint64_t recycle_rss;    /* the same of one whose process has so many bytes in memory */
} ef_pool_config_t;

/* What all pools together may take of the machine. */
typedef struct {
    uint32_t workers_max; /* processes */
    double load_max; /* for each core; past it pools of three or more don't grow; 0: no bound */
    double memory_free_min; /* bytes, or up to 1 a share; below it pools don't grow past min */
} ef_config_machine_t;

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
    double publisher_rate;    /* events a second of one publisher; 0: no bound */
    uint32_t publisher_burst; /* that may come at once after a pause */
    uint64_t retention_ms;    /* how long processed events can be looked at; 0: not at all */
    uint64_t retention_bytes; /* of the journal that are kept for that at the most */
    ef_config_machine_t machine;
    ef_config_topic_t defaults;
    ef_config_topic_t *topics; /* owned */
    uint32_t topic_count;
    ef_route_t *routes; /* owned; the first that fits is taken */
    uint32_t route_count;
} ef_config_t;

/* Defaults, with the topics api, db and email and routes to them. */
void ef_config_init (ef_config_t *self);
void ef_config_copy (ef_config_t *self, const ef_config_t *from);
void ef_config_free (ef_config_t *self);

/* Reads a file over what is set already. 0, or -1 and `error` names file, line and what was
 * expected. */
EF_MUST_USE int ef_config_load (ef_config_t *self, const char *path, char error[512]);

/* EVENTFLOW_<SECTION>_<KEY>, as in EVENTFLOW_SERVER_FRONT, EVENTFLOW_TOPIC_EMAIL_LEASE,
   EVENTFLOW_POOL_EMAIL_MIN, EVENTFLOW_ROUTE_REST_TO. */
EF_MUST_USE int ef_config_environment (ef_config_t *self, char error[512]);

/* One setting of the server section by name, as a flag gives it. */
EF_MUST_USE int ef_config_set (ef_config_t *self, const char *key, const char *value,
                               char error[512]);

/* Once all is set: fills in what rules leave to their topic, then judges what can only be judged as
   a whole: addresses, relations between limits, topics that others name. */
EF_MUST_USE int ef_config_check (ef_config_t *self, char error[512]);

/* Every setting of a topic by its name in the file, with its value as the file would write it: a
   MessagePack map. */
void ef_config_print_topic (const ef_topic_config_t *topic, ef_buf_t *out);

#define EF_SETTING_NAME_BYTES 96 /* topic/NAME/pool/KEY */
typedef struct {
    char (*items)[EF_SETTING_NAME_BYTES]; /* owned */
    uint32_t count;
} ef_setting_names_t;

/* What a reload did. */
typedef struct {
    ef_setting_names_t changed;
    ef_setting_names_t needs_restart; /* differ, and stay as they were */
    uint32_t *topics;                 /* owned: places of those in the config that changed */
    uint32_t topic_count;
    bool has_routes; /* they changed */
} ef_config_changes_t;

/* Takes over what can change in a running broker from `fresh` (checked), and says what that was and
   what can't. A topic that is no longer named stays as it is. */
void ef_config_update (ef_config_t *self, const ef_config_t *fresh, ef_config_changes_t *changes);
void ef_config_changes_free (ef_config_changes_t *self);

/* config_zone.c: the midnights of a time zone of the system, kept for the life of the process. NULL
   and `why`: there is no such zone. Runs this program anew as `--zone NAME`, since libc has one
   zone a process and other threads may be about. */
const ef_zone_t *ef_zone_find (const char *name, char why[200]);
/* What that process does: writes the midnights to standard output. Returns an exit code. */
EF_MUST_USE int ef_zone_write (void);

#endif
