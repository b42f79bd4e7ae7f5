/* Texts with places for values: {{field}}. SPDX-License-Identifier: MIT

   {{name}}, {{user.name}} and {{items.0}} are fields of the payload as field.h finds them;
   {{event.id}}, {{event.type}}, {{event.topic}} and {{event.time}} tell of the event itself.
   {{name|friend}} stands for "friend" where the field is absent; without that an absent field is an
   error that names it. White space around the name doesn't count. In HTML the five characters
   & < > " ' of a value are escaped. */
#ifndef EF_TEMPLATE_H
#define EF_TEMPLATE_H

#include "../proto/buf.h"
#include "../proto/cursor.h"

#define TEMPLATE_NAME_MAX 200 /* bytes of a field's path: it is told in errors whole */

typedef struct template_s template_t;

/* What the places are filled with. Borrowed. */
typedef struct {
    ef_span_t payload;
    ef_span_t id;
    ef_span_t type;
    ef_span_t topic;
    uint64_t time_ms; /* since 1970 */
} template_values_t;

/* Copies the text. NULL: `error` says where it is wrong. */
template_t *template_new (const char *text, size_t size, char error[256]);
void template_destroy (template_t **self_p);

/* Appends the text with its values. 0, or -1: the field named in `missing` is absent. */
EF_MUST_USE int template_render (const template_t *self, const template_values_t *values,
                                 bool is_html, ef_buf_t *out, char missing[TEMPLATE_NAME_MAX + 1]);

#endif
