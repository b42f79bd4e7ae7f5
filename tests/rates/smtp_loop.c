/* Sends the same mail again and again by bare libcurl, as fast as that goes: what the worker email
   is measured against. SPDX-License-Identifier: MIT

   usage: smtp_loop multi|threads URL CONNECTIONS MAILS BYTES; prints mails a second. `multi`: all
   on one multi handle; `threads`: an easy handle each, in threads. */
#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    const char *text;
    size_t bytes;
    size_t read;
} upload_t;

static size_t
s_read (char *buffer, size_t size, size_t count, void *arg) {
    upload_t *upload = arg;
    size_t left = upload->bytes - upload->read;
    size_t take = left < size * count ? left : size * count;
    memcpy (buffer, upload->text + upload->read, take);
    upload->read += take;
    return take;
}

static void
s_set (CURL *easy, const char *url, upload_t *upload, struct curl_slist *to) {
    upload->read = 0;
    curl_easy_reset (easy);
    curl_easy_setopt (easy, CURLOPT_URL, url);
    curl_easy_setopt (easy, CURLOPT_MAIL_FROM, "shop@example.org");
    curl_easy_setopt (easy, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt (easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt (easy, CURLOPT_READFUNCTION, s_read);
    curl_easy_setopt (easy, CURLOPT_READDATA, upload);
    curl_easy_setopt (easy, CURLOPT_PRIVATE, upload);
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
}

static void
s_begin (CURLM *multi, CURL *easy, const char *url, upload_t *upload, struct curl_slist *to) {
    s_set (easy, url, upload, to);
    curl_multi_add_handle (multi, easy);
}

static double
s_seconds (void) {
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The mail that the worker makes of such a payload, in its length and its lines. */
static char *
s_text (size_t bytes) {
    static const char head[] =
        "From: shop@example.org\r\nTo: ann@example.org\r\nSubject: Notification\r\n"
        "Date: Sat, 21 Nov 2026 19:58:41 +0000\r\n"
        "Message-ID: <01a1ffb0-890d-7b68-8ffc-8c0bc8520000@example.org>\r\n"
        "X-Eventflow-Id: 01a1ffb0-890d-7b68-8ffc-8c0bc8520000\r\nX-Eventflow-Attempt: 1\r\n"
        "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n";
    char *text = malloc (sizeof head + 2 * bytes + 3);
    if (text) {
        char *at = stpcpy (text, head);
        for (size_t i = 0; i < bytes; i++) {
            *at++ = 'x';
            if (i % 70 == 69) {
                at = stpcpy (at, "\r\n");
            }
        }
        strcpy (at, "\r\n");
    }
    return text;
}

static int
s_run (const char *url, long connections, long mails, size_t bytes) {
    CURLM *multi = curl_multi_init ();
    struct curl_slist *to = curl_slist_append (NULL, "ann@example.org");
    upload_t *uploads = calloc ((size_t)connections, sizeof *uploads);
    char *text = s_text (bytes);
    long begun = 0;
    long failed = 0;
    int running = 1;
    double start = s_seconds ();
    if (multi == NULL || uploads == NULL || text == NULL) {
        return 1;
    }
    curl_multi_setopt (multi, CURLMOPT_MAXCONNECTS, connections);
    for (; begun < connections && begun < mails; begun++) {
        uploads[begun] = (upload_t){.text = text, .bytes = strlen (text)};
        s_begin (multi, curl_easy_init (), url, &uploads[begun], to);
    }
    while (running) {
        int left;
        CURLMsg *message;
        curl_multi_perform (multi, &running);
        while ((message = curl_multi_info_read (multi, &left)) != NULL) {
            CURL *easy = message->easy_handle;
            upload_t *upload;
            failed += message->data.result != CURLE_OK;
            curl_easy_getinfo (easy, CURLINFO_PRIVATE, (char **)&upload);
            curl_multi_remove_handle (multi, easy);
            if (begun < mails) {
                s_begin (multi, easy, url, upload, to);
                begun++;
                running = 1;
            } else {
                curl_easy_cleanup (easy);
            }
        }
        if (running) {
            curl_multi_poll (multi, NULL, 0, 1000, NULL);
        }
    }
    printf ("%.0f\n", (double)(mails - failed) / (s_seconds () - start));
    curl_multi_cleanup (multi);
    curl_slist_free_all (to);
    free (uploads);
    free (text);
    return failed > 0;
}

typedef struct {
    const char *url;
    const char *text;
    long mails;
    long failed;
    pthread_t thread;
} share_t;

static void *
s_thread (void *arg) {
    share_t *share = arg;
    CURL *easy = curl_easy_init ();
    struct curl_slist *to = curl_slist_append (NULL, "ann@example.org");
    upload_t upload = {.text = share->text, .bytes = strlen (share->text)};
    for (long i = 0; i < share->mails; i++) {
        s_set (easy, share->url, &upload, to);
        share->failed += curl_easy_perform (easy) != CURLE_OK;
    }
    curl_easy_cleanup (easy);
    curl_slist_free_all (to);
    return NULL;
}

static int
s_run_threads (const char *url, long connections, long mails, size_t bytes) {
    share_t *shares = calloc ((size_t)connections, sizeof *shares);
    char *text = s_text (bytes);
    long failed = 0;
    double start = s_seconds ();
    if (shares == NULL || text == NULL) {
        return 1;
    }
    for (long i = 0; i < connections; i++) {
        shares[i] = (share_t){.url = url, .text = text, .mails = mails / connections};
        if (pthread_create (&shares[i].thread, NULL, s_thread, &shares[i])) {
            return 1;
        }
    }
    for (long i = 0; i < connections; i++) {
        pthread_join (shares[i].thread, NULL);
        failed += shares[i].failed;
    }
    mails = mails / connections * connections;
    printf ("%.0f\n", (double)(mails - failed) / (s_seconds () - start));
    free (shares);
    free (text);
    return failed > 0;
}

int
main (int argc, char **argv) {
    if (argc != 6) {
        fprintf (stderr, "usage: smtp_loop multi|threads URL CONNECTIONS MAILS BYTES\n");
        return 2;
    }
    curl_global_init (CURL_GLOBAL_DEFAULT);
    bool is_multi = strcmp (argv[1], "multi") == 0;
    return (is_multi ? s_run : s_run_threads) (argv[2], strtol (argv[3], NULL, 10),
                                               strtol (argv[4], NULL, 10),
                                               strtoul (argv[5], NULL, 10));
}
