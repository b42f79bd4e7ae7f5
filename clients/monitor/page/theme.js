/* Sets the colours before anything is painted. SPDX-License-Identifier: MIT */
'use strict';
try {
    const theme = localStorage.getItem('eventflow.theme');
    if (theme === 'light' || theme === 'dark') {
        document.documentElement.dataset.theme = theme;
    }
} catch {
    // Without storage the system's colours hold.
}
