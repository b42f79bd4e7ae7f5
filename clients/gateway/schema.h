/* Payloads checked by JSON Schema. SPDX-License-Identifier: MIT

   A directory has a file TYPE.json for each type, TYPE@VERSION.json for one version of it (an
   event's meta `schema`). Of JSON Schema 2020-12: type, enum, const, required, properties,
   additionalProperties, minProperties, maxProperties, items, minItems, maxItems, minLength,
   maxLength, minimum, maximum, exclusiveMinimum, exclusiveMaximum; annotations are passed over.
   Another keyword is refused when the directory is read: a check that isn't made must not look as
   if it were. A payload whose type has no file is taken. */
#ifndef EF_GATEWAY_SCHEMA_H
#define EF_GATEWAY_SCHEMA_H

#include "../../proto/event.h"

typedef struct schema_s schema_t;
typedef struct schemas_s schemas_t;

/* One schema from its text. NULL: `error`. */
schema_t *schema_new (const char *text, size_t size, char error[512]);
void schema_destroy (schema_t **self_p);
/* True where the value fits. Else `pointer` (RFC 6901, cut to fit) says where it doesn't, `why`
   what was expected. */
bool schema_fits (const schema_t *self, ef_cursor_t value, char pointer[200], char why[200]);

/* All of a directory. NULL: `error`. */
schemas_t *schemas_new (const char *directory, char error[512]);
void schemas_destroy (schemas_t **self_p);
/* The one of a type and a version (negative: none said). NULL: there is none. */
const schema_t *schemas_find (const schemas_t *self, ef_span_t type, int64_t version);
uint32_t schemas_count (const schemas_t *self);

#endif
