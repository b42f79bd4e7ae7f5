/* The handler `db`: a row for every event. SPDX-License-Identifier: MIT */
#ifndef EF_DB_H
#define EF_DB_H

#include "../handler.h"

extern const handler_t handler_db;

#endif
