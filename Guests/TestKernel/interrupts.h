// What the tests of interrupts and timers share.
#pragma once
#include "kernel.h"

extern volatile u64 arrived[256];           // interrupts by vector since forget()
extern void (*volatile acknowledge)(void);  // called in the handler
void forget(void);
void settle(void);                          // lets about a millisecond go by
u32 apic_read(u32 r);                       // by the register's offset, in either mode
void apic_write(u32 r, u32 v);
void apic_done(void);
void apic_on(bool x2);
void pic_start(u8 base, u8 masks);
#define enable() __asm__ volatile("sti; nop" : : : "memory")
#define disable() __asm__ volatile("cli" : : : "memory")
// Waits with interrupts on; STI's shadow covers HLT, so that nothing is missed.
#define wait() __asm__ volatile("sti; hlt; cli" : : : "memory")
static inline void pause_for(u64 n) { for (volatile u64 i = 0; i < n; i++) {} }
extern volatile u64 stopped_at;             // RIP of the interrupted instruction
bool has_x2apic(void);
void send_self(u8 vector);
bool in_bits(u32 base, u8 vector);          // of IRR, ISR or TMR
void pit_rate(u8 mode, u16 count);
u32 io_read(u32 r);
void io_write(u32 r, u32 v);
void extended_apic(void), legacy_apic(void), coprocessor(void); // apics.c
