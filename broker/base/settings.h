/* Settings as rows of tables. SPDX-License-Identifier: MIT

   A setting is a row: its name, its kind, the field it fills, its bounds. A kind knows how a value
   is read and how it is written, so one table serves a file, the environment, flags and help. */
#ifndef EF_BASE_SETTINGS_H
#define EF_BASE_SETTINGS_H

#include "../../proto/assert.h"
#include "../../proto/buf.h"

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
    const char *help;    /* in a few words; NULL: none */
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
    bool is_secret;      /* no value is shown, neither in help nor where it is wrong */
};

extern const config_kind_t config_text;
extern const config_kind_t config_secret; /* text that is never shown */
extern const config_kind_t config_boolean;
extern const config_kind_t config_number;
extern const config_kind_t config_duration;
extern const config_kind_t config_size;
extern const config_kind_t config_rate;
extern const config_kind_t config_factor;
extern const config_kind_t config_ratio;
extern const config_kind_t config_room; /* bytes; up to 1 a share of all */
extern const config_kind_t config_choice;

typedef struct {
    const setting_t *rows;
    size_t count;
} settings_t;

#define FIELD(type, member) offsetof (type, member), sizeof (((type *)0)->member)

EF_MUST_USE int config_set (const setting_t *setting, void *base, const char *value,
                            char error[512]);
/* Finds the setting too. */
EF_MUST_USE int config_set_named (const settings_t *settings, void *base, const char *name,
                                  const char *value, char error[512]);
void config_print (const setting_t *setting, const void *base, ef_buf_t *out);
bool config_is_same (const setting_t *setting, const void *a, const void *b);

/* A file in ZPL (settings_file.c). Walking it in order keeps the number of the line. */
struct _zconfig_t;
typedef struct {
    struct _zconfig_t *root; /* owned */
    int *numbers;            /* owned; of the lines that hold a node: zconfig makes one of each */
    size_t count;
    size_t next; /* of the node under way */
    int line;
} settings_file_t;
EF_MUST_USE int settings_file_open (settings_file_t *self, const char *path, char error[512]);
void settings_file_close (settings_file_t *self);
/* The first node in another one, the one behind it; NULL: there is none. */
struct _zconfig_t *settings_file_first (settings_file_t *self, struct _zconfig_t *parent);
struct _zconfig_t *settings_file_further (settings_file_t *self, struct _zconfig_t *node);
const char *settings_file_name (struct _zconfig_t *node);
EF_MUST_USE int settings_file_set (const settings_t *settings, void *base, struct _zconfig_t *node,
                                   char error[512]);
/* Passes over what is in a node. */
void settings_file_skip (settings_file_t *self, struct _zconfig_t *node);
/* Puts file and line before an error. */
void settings_file_blame (const settings_file_t *self, const char *path, const char *text,
                          char error[512]);

/* EVENTFLOW_SECTION_OF_KEY in capitals for every row; `of` may be empty. */
EF_MUST_USE int settings_environment (const char *section, const char *of,
                                      const settings_t *settings, void *base, char error[512]);
/* The value of one, NULL: it isn't set; its name is put into `name`. */
const char *settings_variable (const char *section, const char *of, const char *key,
                               char name[160]);

#endif
