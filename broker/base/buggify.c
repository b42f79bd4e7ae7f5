/* Fault points in production code, for the simulator. SPDX-License-Identifier: MIT */
#include "buggify.h"

bool (*ef_buggify_hook) (uint32_t one_in);
