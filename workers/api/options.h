/* The settings of the handler api. SPDX-License-Identifier: MIT */
#ifndef EF_API_OPTIONS_H
#define EF_API_OPTIONS_H

#include "../../broker/base/settings.h"

#define API_NAME_BYTES 64

typedef struct {
    char url[2048];
    uint32_t request; /* payload, settings */
    uint32_t method;
    uint32_t mode;
    char source[256];
    char headers[8192]; /* lines "Name: value" */
    char header_file[1024];
    char secret[CONFIG_VALUE_MAX];
    char secret_file[1024];
    uint32_t signature; /* hex, standard */
    char signature_header[API_NAME_BYTES];
    char timestamp_header[API_NAME_BYTES];
    char idempotency_header[API_NAME_BYTES];
    char allow[4000];
    uint32_t connect_ms;
    uint32_t request_ms;
    uint32_t redirects;
    uint32_t connections; /* to one host */
    uint64_t response_bytes;
    uint32_t keep; /* call_keep_t */
    char ca_file[1024];
    char proxy[1024];
    char probe_url[2048];
} api_options_t;

extern const settings_t api_settings;
extern const char api_help[];

void api_defaults (void *options);
EF_MUST_USE int api_check (const void *options, char error[512]);

/* What the two files of secrets hold. Appends the text; 0, or -1 and `error`. */
EF_MUST_USE int api_read_file (const char *path, ef_buf_t *out, char error[512]);

/* The names of the headers that a signature goes into. */
const char *api_signature_header (const api_options_t *options);
const char *api_timestamp_header (const api_options_t *options);

#endif
