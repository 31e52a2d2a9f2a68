// The other processors of the machine, each of which does what it is asked to.
#pragma once
#include "kernel.h"

enum { MOST = 16 };
int processor_count(void);
void processors_start(void);                // starts all others, which then wait for work
void processors_stop(void);                 // INIT: they wait for a start-up IPI again
// Has processor n call fn(a, b), which returns nothing, and waits for it; n may be 0, the caller.
void on(int n, void *fn, u64 a, u64 b);
// Has all processors, the caller too, call fn(n, argument) at once, and waits for all.
void on_all(void (*fn)(u64 n, u64 argument), u64 argument);
// Sends what the low half of ICR says to processor n.
void send(int n, u32 command);
