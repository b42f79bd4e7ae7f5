/* What an HTTP response means for the event. SPDX-License-Identifier: MIT */
#include "response.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

eventflow_result_t
response_judge (long status) {
    bool is_transient = status == 408 || status == 425 || status == 429 || status >= 500;
    return status >= 200 && status < 300  ? EVENTFLOW_DONE
           : is_transient || status < 200 ? EVENTFLOW_RETRY
                                          : EVENTFLOW_DEAD;
}

int64_t
response_retry_ms (const char *value, uint64_t now_ms) {
    int64_t ms;
    value += strspn (value, " \t");
    size_t digits = strspn (value, "0123456789");
    if (digits > 0 && value[digits + strspn (value + digits, " \t")] == '\0') {
        unsigned long long seconds = digits > 9 ? 999999999 : strtoull (value, NULL, 10);
        ms = (int64_t)seconds * 1000;
    } else {
        time_t date = curl_getdate (value, NULL);
        ms = date < 0 ? -1 : (int64_t)date * 1000 - (int64_t)now_ms;
    }
    return ms <= 0 ? -1 : ms < RESPONSE_RETRY_MAX_MS ? ms : RESPONSE_RETRY_MAX_MS;
}

/* The largest beginning of up to `most` bytes that cuts no character of UTF-8 in two. */
static uint32_t
s_whole_bytes (ef_span_t text, uint32_t most) {
    uint32_t size = text.size < most ? text.size : most;
    if (size == text.size) {
        return size;
    }
    uint32_t end = size;
    for (unsigned back = 0; back < 3 && end > 0 && ((uint8_t)text.data[end] & 0xc0) == 0x80;
         back++) {
        end--;
    }
    return ((uint8_t)text.data[end] & 0xc0) == 0x80 ? size : end;
}

void
response_text (ef_span_t reason, ef_span_t body, char text[RESPONSE_TEXT_BYTES]) {
    uint32_t shown = s_whole_bytes (body, RESPONSE_SHOWN_MAX);
    snprintf (text, RESPONSE_TEXT_BYTES, "%.*s%s%.*s%s",
              (int)(reason.size < 200 ? reason.size : 200), reason.data,
              reason.size && shown ? ": " : "", (int)shown, shown ? body.data : "",
              shown < body.size ? "..." : "");
    ef_text_clean (text);
}

void
response_result (ef_buf_t *out, long status, uint64_t ms, ef_span_t body) {
    const char *why;
    ef_put_map (out, body.size > 0 ? 3 : 2);
    ef_put_key_uint (out, "status", (uint64_t)status);
    ef_put_key_uint (out, "ms", ms);
    if (body.size == 0) {
        return;
    }
    ef_put_str (out, "body");
    size_t mark = out->size;
    if (body.size <= RESPONSE_KEPT_MAX &&
        ef_json_parse (out, body.data, body.size, &why) == body.size &&
        out->size <= EF_RESULT_MAX) {
        return;
    }
    out->size = mark; /* what was parsed of it */
    uint32_t kept = s_whole_bytes (body, RESPONSE_KEPT_MAX);
    if (ef_utf8_is_valid (body.data, kept)) {
        ef_put_strn (out, body.data, kept);
    } else {
        ef_put_bin (out, body.data, body.size < RESPONSE_KEPT_MAX ? body.size : RESPONSE_KEPT_MAX);
    }
}
