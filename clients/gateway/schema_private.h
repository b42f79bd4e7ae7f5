/* A schema once it is read. SPDX-License-Identifier: MIT */
#ifndef EF_GATEWAY_SCHEMA_PRIVATE_H
#define EF_GATEWAY_SCHEMA_PRIVATE_H

#include "schema.h"

/* Types, as bits. A number is an integer too where it has no fraction. */
enum {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_NUMBER = 8,
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64
};

extern const char *const schema_type_names[7];

typedef struct {
    ef_span_t name;      /* into the schema's text */
    struct node_s *node; /* owned; NULL: only required */
    bool is_required;
} property_t;

typedef struct node_s {
    unsigned types;         /* 0: all */
    bool is_nothing;        /* the schema `false` */
    property_t *properties; /* owned */
    uint32_t property_count;
    struct node_s *others; /* owned: additionalProperties; NULL: all are taken */
    struct node_s *items;  /* owned; NULL: all are taken */
    ef_span_t choices;     /* enum: an array; data NULL: none */
    ef_span_t constant;
    double least; /* -INFINITY: none */
    double most;
    double above;
    double below;
    uint64_t sizes[3][2]; /* of string, array, object: least and most */
} node_t;

struct schema_s {
    node_t *root;  /* owned */
    ef_buf_t text; /* as MessagePack; spans point into it */
};

/* Any of MessagePack's numbers as one. 0 or -1. */
EF_MUST_USE int schema_number (ef_cursor_t value, double *number);
/* One of a name; NULL: there is none. */
property_t *schema_property (const node_t *node, ef_span_t name);

#endif
