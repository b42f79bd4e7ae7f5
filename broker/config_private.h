/* The broker's settings as rows of tables, shared by the config_*.c files.
   SPDX-License-Identifier: MIT

   One table serves the file, the environment, flags, what TOPIC.INFO shows and what a reload
   compares (base/settings.h). */
#ifndef EF_CONFIG_PRIVATE_H
#define EF_CONFIG_PRIVATE_H

#include "base/settings.h"
#include "config.h"

/* config_rules.c */
extern const config_kind_t config_retry_on; /* of an ef_topic_config_t */
extern const config_kind_t config_dead_on;  /* the same */
/* What a rule leaves open is as its topic has it; called once all settings are known. */
void config_settle_rules (ef_topic_config_t *topic);

/* config_lists.c */
extern const config_kind_t config_schemas; /* of an ef_topic_config_t */
extern const config_kind_t config_quota;   /* of an ef_quota_config_t */
extern const config_kind_t config_zone;    /* of a const ef_zone_t * */
extern const config_kind_t config_topic;   /* a name or nothing */
extern const config_kind_t config_pattern; /* or nothing */
extern const config_kind_t config_header;  /* of an ef_route_t: one more condition */
extern const config_kind_t config_targets; /* of an ef_route_t */

/* Copies without the spaces around; false: it doesn't fit. */
bool config_trim (const char *from, size_t size, char *to, size_t bytes);
/* The beginning of a list; NULL: it is empty. */
const char *config_list (const char *value);
/* Takes its next part into `item`. 1: there was one; 0: the list is over; -1: it is empty or too
   long. */
int config_next (const char **at, char separator, char *item, size_t bytes, char why[200]);

/* config_table.c */
extern const settings_t config_server;      /* of an ef_config_t */
extern const settings_t config_topic_rows;  /* of an ef_config_topic_t */
extern const settings_t config_pool_rows;   /* the same */
extern const settings_t config_route_rows;  /* of an ef_route_t */
extern const settings_t config_policy_rows; /* of an ef_policy_t, as rules name them */

ef_config_topic_t *config_topic_require (ef_config_t *self, const char *name);
ef_config_topic_t *config_topic_find (const ef_config_t *self, const char *name);
ef_route_t *config_route_add (ef_config_t *self, const char *name);

#endif
