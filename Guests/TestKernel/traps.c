// Interrupt descriptors, the task state, and what happens on a trap.
#include "kernel.h"

struct Frame last;
u64 last_cr2, trap_count;
bool (*hook)(struct Frame *);
struct Gate idt[256] __attribute__((aligned(16)));
struct TaskState task __attribute__((aligned(4096)));
u64 user_stack, user_flags = 2, touched, guard_stack;

static u8 ring0_stack[0x4000] __attribute__((aligned(16)));
static u8 fault_stack[0x2000] __attribute__((aligned(16)));
static u8 ring3_stack[0x4000] __attribute__((aligned(16)));

// type: 0x8e interrupt gate, 0x8f trap gate, with the DPL in bits 5 and 6.
void set_gate(int vector, u64 handler, int ist, int type) {
    idt[vector] = (struct Gate){handler,       KERNEL_CODE,   ist | type << 8,
                                handler >> 16, handler >> 32, 0};
}

void traps_start(void) {
    for (int i = 0; i < 256; i++) set_gate(i, (u64)vectors + 16 * i, 0, 0x8e);
    set_gate(USER_EXIT, (u64)vectors + 16 * USER_EXIT, 0, 0xee);
    set_gate(DOUBLE, (u64)vectors + 16 * DOUBLE, 1, 0x8e);
    task.rsp[0] = (u64)ring0_stack + sizeof ring0_stack;
    task.ist[0] = (u64)fault_stack + sizeof fault_stack;
    task.map = __builtin_offsetof(struct TaskState, bits);
    for (unsigned i = 0; i < sizeof task.bits; i++) task.bits[i] = 0xff;
    user_stack = AS_USER(ring3_stack + sizeof ring3_stack);
    u64 base = (u64)&task, limit = sizeof task - 1;
    gdt[TASK / 8] = 0x0000890000000000 | (base & 0xffffff) << 16 | (base & 0xff000000) << 32
                    | limit;
    gdt[TASK / 8 + 1] = base >> 32;
    struct __attribute__((packed)) {
        u16 limit;
        u64 base;
    } pointer = {sizeof idt - 1, (u64)idt};
    __asm__ volatile("lidt %0" : : "m"(pointer));
    __asm__ volatile("ltr %w0" : : "r"(TASK));
}

void trap(struct Frame *f) {
    u64 cr2 = read_cr2();
    if (hook && hook(f)) return;
    last = *f;
    last_cr2 = cr2;
    trap_count++;
    if (guard_stack) guard_return();
    print("FAIL trap: vector %d error %x at %x:%x flags %x stack %x CR2 %x\n", f->vector, f->error,
          f->cs, f->rip, f->rflags, f->rsp, cr2);
    out32(0xf4, 2);
    for (;;) __asm__ volatile("cli; hlt");
}
