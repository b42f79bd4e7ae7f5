/* Settings as rows of tables, shared by the config_*.c files. SPDX-License-Identifier: MIT

   A setting is a row: its name, its kind, the field it fills, its bounds. A kind knows how a value
   is read and how it is written, so one table serves the file, the environment, flags, what
   TOPIC.INFO shows and what a reload compares. */
#ifndef EF_CONFIG_PRIVATE_H
#define EF_CONFIG_PRIVATE_H

#include "config.h"

#define CONFIG_VALUE_MAX 4000 /* bytes of one value; a file's lines are shorter */

typedef struct config_kind_s config_kind_t;

typedef struct {
    const char *name;
    const config_kind_t *kind;
    size_t offset;
    size_t bytes; /* of the field */
    double least; /* of a number, as it is stored */
    double most;
    const char *choices; /* "a|b|c": stored as text, or as its place where the field is a number */
    bool is_fixed;       /* takes a restart to change */
} setting_t;

/* `base_unit` × times / per is what a suffix stands for. */
typedef struct {
    const char *suffix;
    double times;
    double per;
} unit_t;

struct config_kind_s {
    const char *expected; /* in words */
    /* 0, or -1: the value is wrong; `why` may say more than `expected` does. */
    int (*set) (const setting_t *setting, void *field, const char *value, char why[200]);
    /* Appends the value as text. */
    void (*print) (const setting_t *setting, const void *field, ef_buf_t *out);
    const unit_t *units; /* of a number; the best to write in comes first; ends with NULL */
    bool is_real;        /* a double where the field has 8 bytes; else a whole number */
};

/* config_values.c */
extern const config_kind_t config_text;
extern const config_kind_t config_boolean;
extern const config_kind_t config_number;
extern const config_kind_t config_duration;
extern const config_kind_t config_size;
extern const config_kind_t config_rate;
extern const config_kind_t config_factor;
extern const config_kind_t config_ratio;
extern const config_kind_t config_choice;

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
typedef struct {
    const setting_t *rows;
    size_t count;
} settings_t;
extern const settings_t config_server;      /* of an ef_config_t */
extern const settings_t config_topic_rows;  /* of an ef_config_topic_t */
extern const settings_t config_pool_rows;   /* the same */
extern const settings_t config_route_rows;  /* of an ef_route_t */
extern const settings_t config_policy_rows; /* of an ef_policy_t, as rules name them */

#define FIELD(type, member) offsetof (type, member), sizeof (((type *)0)->member)

EF_MUST_USE int config_set (const setting_t *setting, void *base, const char *value,
                            char error[512]);
/* Finds the setting too. */
EF_MUST_USE int config_set_named (const settings_t *settings, void *base, const char *name,
                                  const char *value, char error[512]);
void config_print (const setting_t *setting, const void *base, ef_buf_t *out);
bool config_is_same (const setting_t *setting, const void *a, const void *b);

ef_config_topic_t *config_topic_require (ef_config_t *self, const char *name);
ef_config_topic_t *config_topic_find (const ef_config_t *self, const char *name);
ef_route_t *config_route_add (ef_config_t *self, const char *name);

#endif
