/* What an event carries beside its payload, as flags say it. SPDX-License-Identifier: MIT */
#include "publish.h"

bool
publish_has_meta (const meta_words_t *self) {
    const meta_words_t none = {.type = NULL};
    return memcmp (self, &none, sizeof none) != 0; /* pointers alone, without gaps */
}

static int
s_put_duration (ef_buf_t *out, uint32_t *pairs, const char *key, const char *text) {
    int64_t ms = text ? cli_duration_ms (text) : 0;
    if (ms < 0) {
        return cli_fail (CLI_USAGE, "--%s %s: expected a duration such as 5s", key, text);
    }
    if (text) {
        ef_put_key_uint (out, key, (uint64_t)ms);
        ++*pairs;
    }
    return CLI_OK;
}

static int
s_put_json (ef_buf_t *out, uint32_t *pairs, const char *key, const char *text) {
    const char *why = "one value";
    if (text == NULL) {
        return CLI_OK;
    }
    ef_put_str (out, key);
    size_t start = out->size;
    size_t used = ef_json_parse (out, text, strlen (text), &why);
    ef_cursor_t value = ef_cursor (out->data + start, out->size - start);
    if (used != strlen (text) || ef_peek (&value) != EF_TYPE_MAP) {
        return cli_fail (CLI_USAGE, "--%s %s: expected a JSON object%s%s", key, text,
                         used ? "" : ": ", used ? "" : why);
    }
    ++*pairs;
    return CLI_OK;
}

static int
s_put_event (ef_buf_t *out, uint32_t *pairs, const char *key, const char *text) {
    const char *why = NULL;
    if (text == NULL) {
        return CLI_OK;
    }
    ef_put_str (out, key);
    if (ef_json_to_event (out, text, strlen (text), NULL, NULL, &why)) {
        return cli_fail (CLI_USAGE, "--on-dead: expected %s", why);
    }
    ++*pairs;
    return CLI_OK;
}

int
publish_put_meta (const meta_words_t *self, ef_buf_t *out, uint32_t *pairs) {
    const struct {
        const char *key;
        const char *value;
    } texts[] = {{"type", self->type},
                 {"key", self->key},
                 {"user", self->user},
                 {"downstream", self->downstream},
                 {"trace", self->trace}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].value) {
            ef_put_key_str (out, texts[i].key, texts[i].value);
            ++*pairs;
        }
    }
    int64_t at;
    if (self->at && cli_moment ("--at", self->at, 1, &at)) {
        return CLI_USAGE;
    }
    if (self->at) {
        ef_put_key_uint (out, "at", (uint64_t)at);
        ++*pairs;
    }
    uint64_t schema;
    if (self->schema && cli_count ("--schema", self->schema, &schema)) {
        return CLI_USAGE;
    }
    if (self->schema) {
        ef_put_key_uint (out, "schema", schema);
        ++*pairs;
    }
    return s_put_duration (out, pairs, "delay", self->delay) ||
                   s_put_duration (out, pairs, "ttl", self->ttl) ||
                   s_put_json (out, pairs, "headers", self->headers) ||
                   s_put_event (out, pairs, "on_dead", self->on_dead)
               ? CLI_USAGE
               : CLI_OK;
}
