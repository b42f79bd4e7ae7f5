/* Choosing among dead letters. SPDX-License-Identifier: MIT

   The broker filters by reason; what else a filter says is looked at here, page by page. */
#include "api_private.h"

#include <fnmatch.h>
#include <stdio.h>

#define LETTERS_PAGE 500

/* Does one of the texts have the words, whatever their case? */
static bool
s_has (ef_span_t text, const char *words) {
    return text.data && memmem (text.data, text.size, words, strlen (words)) != NULL;
}

static bool
s_is_like (ef_span_t text, const char *pattern) {
    char copy[256];
    ef_span_copy (text, copy, sizeof copy);
    return text.data && fnmatch (pattern, copy, 0) == 0;
}

/* A str or bin as it is; a number as its digits in `scratch`. */
static ef_span_t
s_as_text (ef_cursor_t value, char scratch[32]) {
    ef_span_t text = {NULL, 0};
    int64_t number;
    if (ef_get_bytes (&value, &text) == 0) {
        return text;
    }
    if (ef_get_int (&value, &number) == 0) {
        int size = snprintf (scratch, 32, "%lld", (long long)number);
        return (ef_span_t){scratch, (uint32_t)size};
    }
    return (ef_span_t){NULL, 0};
}

/* The last error's code and text. */
static void
s_error (ef_cursor_t item, char scratch[32], ef_span_t *code, ef_span_t *text) {
    ef_cursor_t error;
    uint32_t fields;
    *code = *text = (ef_span_t){NULL, 0};
    if (ef_map_find (item, "error", &error) && ef_peek (&error) == EF_TYPE_ARRAY &&
        ef_get_array (&error, &fields) == 0 && fields >= 2) {
        *code = s_as_text (error, scratch);
        if (ef_skip (&error) == 0 && ef_get_str (&error, text)) {
            text->data = NULL;
        }
    }
}

bool
letters_fit (const letters_filter_t *filter, ef_cursor_t item) {
    char scratch[32];
    ef_span_t code;
    ef_span_t text;
    int64_t dead = (int64_t)ef_map_uint (item, "dead");
    if ((filter->since_ms >= 0 && dead < filter->since_ms) ||
        (filter->until_ms >= 0 && dead > filter->until_ms)) {
        return false;
    }
    if (filter->reason[0] && !ef_span_is (ef_map_str (item, "reason"), filter->reason)) {
        return false;
    }
    if (filter->type[0] && !s_is_like (ef_map_str (item, "type"), filter->type)) {
        return false;
    }
    s_error (item, scratch, &code, &text);
    return filter->error[0] == 0 || s_is_like (code, filter->error) || s_has (text, filter->error);
}

bool
letters_may_go (ef_cursor_t item, bool is_discard) {
    ef_cursor_t value;
    return is_discard || !ef_map_find (item, "superseded", &value);
}

const char *
letters_show (admin_pool_t *admin, const char *topic, uint64_t n, ef_buf_t *value, char *text) {
    ef_buf_t request = {0};
    api_request (&request, 3, "DLQ.SHOW", topic);
    ef_put_uint (&request, n);
    const char *code = admin_pool_call (admin, &request, value, text);
    ef_buf_free (&request);
    return code;
}

/* Words may stand anywhere in what the item tells, or in the event. */
static bool
s_has_words (admin_pool_t *admin, const char *topic, const char *words, ef_cursor_t item) {
    char scratch[32];
    char text[512];
    ef_span_t code;
    ef_span_t told;
    ef_cursor_t value;
    ef_buf_t whole = {0};
    ef_buf_t json = {0};
    s_error (item, scratch, &code, &told);
    bool is_found = s_has (ef_map_str (item, "id"), words) ||
                    s_has (ef_map_str (item, "type"), words) || s_has (code, words) ||
                    s_has (told, words);
    if (!is_found && !letters_show (admin, topic, ef_map_uint (item, "n"), &whole, text) &&
        ef_map_find (ef_cursor (whole.data, whole.size), "event", &value) &&
        ef_json_print (&json, &value) == 0) {
        is_found = s_has ((ef_span_t){(const char *)json.data, (uint32_t)json.size}, words);
    }
    ef_buf_free (&whole);
    ef_buf_free (&json);
    return is_found;
}

static void
s_request (const letters_page_t *page, const char *topic, ef_buf_t *request) {
    const char *reason = page->filter->reason;
    api_request (request, 3, "DLQ.LIST", topic);
    ef_put_map (request, reason[0] ? 3 : 2);
    ef_put_key_uint (request, "limit", page->limit ? page->limit : LETTERS_PAGE);
    ef_put_key_uint (request, "after", page->after);
    if (reason[0]) {
        ef_put_key_str (request, "reason", reason);
    }
}

const char *
letters_page (admin_pool_t *admin, const char *topic, letters_page_t *page, char *text) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    ef_cursor_t items;
    uint32_t count = 0;
    s_request (page, topic, &request);
    const char *code = admin_pool_call (admin, &request, &value, text);
    ef_cursor_t root = ef_cursor (value.data, value.size);
    page->after = 0;
    if (code == NULL && ef_map_find (root, "items", &items) && ef_get_array (&items, &count) == 0) {
        page->after = ef_map_uint (root, "next");
        for (uint32_t i = 0; i < count; i++) {
            uint64_t m = ef_map_uint (items, "m");
            bool fits = letters_fit (page->filter, items) &&
                        (page->filter->words[0] == 0 ||
                         s_has_words (admin, topic, page->filter->words, items));
            if (fits && !page->each (page->arg, items, m)) {
                page->after = i + 1 < count || page->after ? m : 0;
                page->is_stopped = true;
                break;
            }
            if (ef_skip (&items)) {
                break;
            }
        }
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return code;
}

const char *
letters_topics (admin_pool_t *admin, const letters_filter_t *filter, ef_buf_t *names, char *text) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    ef_cursor_t items;
    uint32_t count = 0;
    api_request (&request, 1, "TOPICS", NULL);
    const char *code = admin_pool_call (admin, &request, &value, text);
    bool is_known = filter->topic[0] == 0;
    if (code == NULL && ef_map_find (ef_cursor (value.data, value.size), "items", &items) &&
        ef_get_array (&items, &count) == 0) {
        for (uint32_t i = 0; i < count; i++) {
            ef_span_t name = ef_map_str (items, "topic");
            bool is_meant = filter->topic[0] == 0 ? ef_map_uint (items, "dead") > 0
                                                  : ef_span_is (name, filter->topic);
            if (is_meant && name.data) {
                ef_buf_put (names, name.data, name.size);
                ef_buf_put (names, "", 1);
            }
            is_known = is_known || is_meant;
            if (ef_skip (&items)) {
                break;
            }
        }
    }
    if (code == NULL && !is_known) {
        snprintf (text, 512, "topic: there is none called %s", filter->topic);
        code = "UNKNOWN_TOPIC";
    }
    ef_buf_put (names, "", 1);
    ef_buf_free (&request);
    ef_buf_free (&value);
    return code;
}
