/* GET /openapi.json and /docs, made once from the routes. SPDX-License-Identifier: MIT
   Source: spec.openapis.org/oas/v3.1.0. */
#include "gateway.h"
#include "../../proto/json.h"

#include <ctype.h>
#include <stdio.h>

static void
s_text (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static void
s_string (ef_buf_t *out, const char *text) {
    ef_json_string (out, text, strlen (text));
}

static const char *
s_role (role_t role) {
    return role == ROLE_READ         ? "read"
           : role == ROLE_PUBLISH    ? "publish"
           : role == ROLE_ADMINISTER ? "administer"
                                     : "anybody";
}

/* {"parameters": […]} of the parts of a path and, out of its summary, of its ?name= words. */
static void
s_parameters (ef_buf_t *out, const route_t *route) {
    bool is_first = true;
    s_text (out, "\"parameters\":[");
    for (const char *at = strchr (route->path, '{'); at; at = strchr (at + 1, '{')) {
        size_t size = strcspn (at + 1, "*}");
        s_text (out, is_first ? "" : ",");
        s_text (out,
                "{\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\"},\"name\":");
        ef_json_string (out, at + 1, size);
        s_text (out, "}");
        is_first = false;
    }
    for (const char *at = strpbrk (route->summary, "?& "); at; at = strpbrk (at + 1, "?& ")) {
        size_t size = strspn (at + 1, "abcdefghijklmnopqrstuvwxyz_");
        if (size > 0 && at[1 + size] == '=') {
            s_text (out, is_first ? "" : ",");
            s_text (out, "{\"in\":\"query\",\"schema\":{\"type\":\"string\"},\"name\":");
            ef_json_string (out, at + 1, size);
            s_text (out, "}");
            is_first = false;
        }
    }
    s_text (out, "]");
}

static const char s_event_schema[] =
    "{\"type\":\"object\",\"required\":[\"payload\"],\"properties\":{"
    "\"topic\":{\"type\":\"string\",\"maxLength\":53,\"description\":\"or queue; without one the "
    "broker's routes decide\"},"
    "\"type\":{\"type\":\"string\",\"description\":\"or event_type\"},"
    "\"payload\":{\"description\":\"any JSON value\"},"
    "\"id\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":64,\"description\":\"sent twice it "
    "is "
    "one event\"},"
    "\"key\":{\"type\":\"string\",\"maxLength\":64,\"description\":\"events of one key go one by "
    "one\"},"
    "\"at\":{\"type\":[\"string\",\"integer\"],\"description\":\"not before this date\"},"
    "\"delay\":{\"type\":[\"string\",\"integer\"],\"description\":\"as 5m, or ms\"},"
    "\"ttl\":{\"type\":[\"string\",\"integer\"],\"description\":\"as 1h, or ms\"},"
    "\"user\":{\"type\":\"string\",\"description\":\"or user_id: whom a quota counts by\"},"
    "\"schema\":{\"type\":\"integer\"},\"downstream\":{\"type\":\"string\"},"
    "\"trace\":{\"type\":\"string\"},\"headers\":{\"type\":\"object\"},"
    "\"on_dead\":{\"$ref\":\"#/components/schemas/Event\"},"
    "\"dispatch_date\":{\"type\":\"string\",\"format\":\"date-time\"}}}";

static const char s_problem_schema[] =
    "{\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\"},\"title\":{\"type\":"
    "\"string\"},\"status\":{\"type\":\"integer\"},\"code\":{\"type\":\"string\"},\"detail\":{"
    "\"type\":\"string\"},\"instance\":{\"type\":\"string\"}}}";

static const char s_event_body[] =
    ",\"requestBody\":{\"required\":true,\"content\":{"
    "\"application/json\":{\"schema\":{\"oneOf\":[{\"$ref\":\"#/components/schemas/Event\"},"
    "{\"type\":\"array\",\"items\":{\"$ref\":\"#/components/schemas/Event\"}}]},"
    "\"example\":{\"topic\":\"email\",\"type\":\"USER_NOTIFICATION\",\"payload\":{\"to\":"
    "\"a@example.org\",\"message\":\"hello\"}}},"
    "\"application/x-ndjson\":{},\"application/msgpack\":{},\"application/cloudevents+json\":{},"
    "\"application/cloudevents-batch+json\":{}}}";

static const char s_plain_body[] =
    ",\"requestBody\":{\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\"}}}}";

static void
s_operation (ef_buf_t *out, const route_t *route) {
    bool is_publish = route->run == publish_post;
    for (const char *at = route->method; *at; at++) {
        if (at == route->method) {
            s_text (out, "\"");
        }
        *ef_buf_add (out, 1) = (uint8_t)tolower ((unsigned char)*at);
    }
    s_text (out, "\":{\"summary\":");
    s_string (out, route->summary);
    s_text (out, ",\"x-role\":");
    s_string (out, s_role (route->role));
    s_text (out, ",");
    s_parameters (out, route);
    if (is_publish) {
        s_text (out, s_event_body);
    } else if (strcmp (route->method, "POST") == 0) {
        s_text (out, s_plain_body);
    }
    s_text (out, is_publish ? ",\"responses\":{\"202\":{\"description\":\"accepted: on disk\"},"
                              "\"207\":{\"description\":\"some of a list were refused\"},"
                            : ",\"responses\":{\"2XX\":{\"description\":\"done\"},");
    s_text (out, "\"default\":{\"description\":\"a problem (RFC 9457)\",\"content\":{"
                 "\"application/problem+json\":{\"schema\":{\"$ref\":"
                 "\"#/components/schemas/Problem\"}}}}}}");
}

static void
s_make_json (gateway_t *self, const listener_t *listener) {
    ef_buf_t *out = &self->openapi;
    const route_t *route;
    bool is_first = true;
    s_text (out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"eventflow\",\"version\":");
    s_string (out, EF_PROGRAM_VERSION);
    s_text (out, ",\"description\":\"A durable event broker. Lists are {items, next}; next is the "
                 "cursor of the next page. Problems are application/problem+json with the "
                 "protocol's code.\"},\"servers\":[{\"url\":");
    s_string (out, self->web->base_path[0] ? self->web->base_path : "/");
    s_text (out, "}],\"paths\":{");
    for (size_t i = 0; (route = listener_route (listener, i)) != NULL; i++) {
        bool is_known = route->summary == NULL;
        for (size_t k = 0; k < i && !is_known; k++) {
            const route_t *other = listener_route (listener, k);
            is_known = other->summary && strcmp (other->path, route->path) == 0;
        }
        if (is_known) {
            continue; /* it has been written along with the first of its path */
        }
        s_text (out, is_first ? "" : ",");
        is_first = false;
        s_string (out, route->path);
        s_text (out, ":{");
        const route_t *same = route;
        bool is_second = false;
        for (size_t k = i; (same = listener_route (listener, k)) != NULL; k++) {
            if (same->summary && strcmp (same->path, route->path) == 0) {
                s_text (out, is_second ? "," : "");
                s_operation (out, same);
                is_second = true;
            }
        }
        s_text (out, "}");
    }
    s_text (out, "},\"components\":{\"schemas\":{\"Event\":");
    s_text (out, s_event_schema);
    s_text (out, ",\"Problem\":");
    s_text (out, s_problem_schema);
    s_text (out, "},\"securitySchemes\":{\"token\":{\"type\":\"http\",\"scheme\":\"bearer\"}}},"
                 "\"security\":[{},{\"token\":[]}]}\n");
}

/* ---- /docs ---- */

static void
s_html (ef_buf_t *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '<': s_text (out, "&lt;"); break;
        case '>': s_text (out, "&gt;"); break;
        case '&': s_text (out, "&amp;"); break;
        case '"': s_text (out, "&quot;"); break;
        default: ef_buf_put (out, text, 1);
        }
    }
}

static const char s_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
    "<title>eventflow: HTTP</title><link rel=\"stylesheet\" href=\"docs/style.css\">"
    "<link rel=\"icon\" href=\"data:,\"></head>"
    "<body><main><h1>eventflow over HTTP</h1>"
    "<p>The same as data: <a href=\"openapi.json\">openapi.json</a>.</p>"
    "<h2>Publishing</h2><pre tabindex=\"0\">curl -H 'Content-Type: application/json' \\\n"
    "  -d '{\"topic\":\"email\",\"payload\":{\"to\":\"a@example.org\"}}' \\\n"
    "  http://localhost:8080/api/v1/events</pre>"
    "<p>The answer comes when the event is on disk: 202 with its id. 504: not confirmed in time; "
    "sending it again under the id that the answer names is safe. Lists (an array, or a line each "
    "as application/x-ndjson) get an outcome for each event; 207 where some were refused. "
    "<code>?atomic=true</code>: all or none. <code>Idempotency-Key</code>: a repeat is no second "
    "event.</p>"
    "<h2>Asking</h2><p>Lists are <code>{\"items\": [...], \"next\": cursor}</code>; "
    "<code>?cursor=</code> asks for what follows. Errors are application/problem+json with a "
    "<code>code</code>. On loopback nobody needs a token; elsewhere say "
    "<code>Authorization: Bearer TOKEN</code>.</p>"
    "<table><caption>Endpoints</caption><thead><tr><th scope=\"col\">Method</th>"
    "<th scope=\"col\">Path</th><th scope=\"col\">What it does</th><th scope=\"col\">Who may</th>"
    "</tr></thead><tbody>\n";

static const char s_style[] =
    ":root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d0d7de;--mild:#57606a}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--line:#30363d;"
    "--mild:#9da7b1}a{color:#79b8ff}}"
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}"
    "main{max-width:62rem;margin:0 auto;padding:1rem}"
    "pre{overflow:auto;padding:.75rem;border:1px solid var(--line);border-radius:6px}"
    "table{width:100%;border-collapse:collapse}caption{text-align:left;color:var(--mild)}"
    "th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid "
    "var(--line)}code,pre{font-family:ui-monospace,monospace;font-size:.92em}"
    "@media(max-width:40rem){thead{display:none}tr{display:block;padding:.5rem "
    "0;border-bottom:1px solid var(--line)}td{display:block;border:0;padding:.1rem 0}}\n";

static void
s_make_docs (gateway_t *self, const listener_t *listener) {
    ef_buf_t *out = &self->docs;
    const route_t *route;
    s_text (out, s_head);
    for (size_t i = 0; (route = listener_route (listener, i)) != NULL; i++) {
        if (route->summary == NULL) {
            continue;
        }
        s_text (out, "<tr><td><code>");
        s_html (out, route->method);
        s_text (out, "</code></td><td><code>");
        s_html (out, route->path);
        s_text (out, "</code></td><td>");
        s_html (out, route->summary);
        s_text (out, "</td><td>");
        s_html (out, s_role (route->role));
        s_text (out, "</td></tr>\n");
    }
    s_text (out, "</tbody></table></main></body></html>\n");
}

void
openapi_make (gateway_t *self, const listener_t *listener) {
    s_make_json (self, listener);
    s_make_docs (self, listener);
}

void
openapi_get (void *arg, call_t *call) {
    const face_t *face = arg;
    const ef_buf_t *text = &face->gateway->openapi;
    call_answer_static (call, 200, "application/json", text->data, text->size);
}

void
openapi_docs (void *arg, call_t *call) {
    const face_t *face = arg;
    const ef_buf_t *text = &face->gateway->docs;
    call_answer_static (call, 200, "text/html; charset=utf-8", text->data, text->size);
}

void
openapi_style (void *arg, call_t *call) {
    (void)arg;
    call_answer_static (call, 200, "text/css; charset=utf-8", s_style, sizeof s_style - 1);
}
