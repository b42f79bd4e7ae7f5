/* Pieces of SQL, and rows as PostgreSQL takes them. SPDX-License-Identifier: MIT */
#ifndef EF_DB_TEXT_H
#define EF_DB_TEXT_H

#include "backend.h"

void db_put (ef_buf_t *out, const char *text);
/* A name as SQL has it; a dot divides a schema from a table where `is_dotted`. */
void db_put_name (ef_buf_t *out, const char *name, bool is_dotted);
/* A table's name as a literal that regclass takes. */
void db_put_literal_name (ef_buf_t *out, const char *name);
/* Columns, from a list with commas. */
void db_put_names (ef_buf_t *out, const char *list);
/* The next name of such a list; NULL: it is over. */
const char *db_next_name (const char *at, char name[DB_NAME_BYTES]);
/* Ends it with a NUL; borrowed until it changes. */
const char *db_finish (ef_buf_t *sql);

/* An array of text in PostgreSQL's binary form (array_send): int32s in network order for one
   dimension, NULLs or none, the type of elements, their number, the first index; then each with its
   length, -1 for NULL. */
void db_array_open (ef_buf_t *array, uint32_t count);
void db_array_put (ef_buf_t *array, const db_batch_t *batch, const db_column_t *column,
                   const db_value_t *value);
void db_array_put_span (ef_buf_t *array, const db_batch_t *batch, db_span_t span);

#endif
