// CR4.VME (Vol. 3B 20.3): IF is VIF to code below IOPL 3, and INT n may stay in the program.
#include "legacy32.h"

#define VIF 0x80000u
#define VIP 0x100000u
#define EXPECT_VIF(set) CHECK(!(legacy_frame.eflags & 0x200) && !!(legacy_frame.eflags & VIF) == (set))

void virtual_interrupts32(void) {
    u32 a = 1, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(d & 2)) return;
    u32 cr4;
    __asm__ volatile("mov %%cr4, %0; or $1, %0; mov %0, %%cr4" : "=r"(cr4));
    // The redirection bitmap lies below the map of ports, here in its first 32 bytes.
    legacy_tss.map += 32;
    EXPECT86(0, UD, 0, 3, 0xfb, 0x9c, 0x5b, 0x0f, 0x0b);        // sti; pushf; pop bx
    CHECK((legacy_frame.ebx & 0xffff) == 0x3202);
    EXPECT_VIF(1);
    EXPECT86(VIF, UD, 0, 3, 0xfa, 0x9c, 0x5b, 0x0f, 0x0b);      // cli
    CHECK((legacy_frame.ebx & 0xffff) == 0x3002);
    EXPECT_VIF(0);
    EXPECT86(VIP, GP, 0, 0, 0xfb);
    EXPECT86(VIP, UD, 0, 1, 0xfa, 0x0f, 0x0b);
    EXPECT86(VIF | VIP, GP, 0, 0, 0x90);                        // at once
    EXPECT86(0, GP, 0, 0, 0x66, 0x9c);                          // pushfd
    EXPECT86(0, GP, 0, 0, 0x66, 0x9d);
    EXPECT86(0, GP, 0, 0, 0x66, 0xcf);
    EXPECT86(0, UD, 0, 4, 0x68, 0, 2, 0x9d, 0x0f, 0x0b);        // popf with IF
    EXPECT_VIF(1);
    EXPECT86(VIF, UD, 0, 4, 0x68, 0, 0x30, 0x9d, 0x0f, 0x0b);   // and without; IOPL stays
    EXPECT_VIF(0);
    CHECK(!(legacy_frame.eflags & IOPL3));
    EXPECT86(VIP, GP, 0, 3, 0x68, 0, 2, 0x9d);
    EXPECT86(0, GP, 0, 3, 0x68, 0, 1, 0x9d);                    // and with TF
    EXPECT86(0, UD, 0, 9, 0x68, 0, 2, 0x68, 0, 8, 0x6a, 9, 0xcf, 0x0f, 0x0b); // iret
    EXPECT_VIF(1);
    EXPECT86(VIP, GP, 0, 8, 0x68, 0, 2, 0x68, 0, 8, 0x6a, 9, 0xcf);
    EXPECT86(0, GP, 0, 8, 0x68, 0, 1, 0x68, 0, 8, 0x6a, 9, 0xcf);
    EXPECT86(IOPL3, UD, 0, 3, 0xfb, 0x9c, 0x5b, 0x0f, 0x0b);    // with IOPL 3 it is IF itself
    CHECK((legacy_frame.eflags & 0x200) && !(legacy_frame.eflags & VIF));
    // INT n by the redirection bitmap: its bit set, then clear, for each IOPL.
    u32 keep;
    __asm__ volatile("mov 0x100, %0" : "=r"(keep));             // not by a null pointer
    __asm__ volatile("movl $0x08000020, 0x100" : : : "memory");
    ((volatile u8 *)0x8020)[0] = 0x0f, ((volatile u8 *)0x8020)[1] = 0x0b;
    EXPECT86(VIF, GP, 0, 0, 0xcd, 0x40);
    EXPECT86(IOPL3, 0x40, 0, 2, 0xcd, 0x40);
    legacy_tss.bits[0x40 / 8] &= ~1;
    volatile u16 *top = (volatile u16 *)(0x9000 + 0x1000);
    EXPECT86(VIF, UD, 0, 0x20, 0xcd, 0x40);
    EXPECT_VIF(0);
    CHECK(top[-1] == 0x3202 && top[-2] == 0x800 && top[-3] == 2);
    EXPECT86(0, UD, 0, 0x20, 0xcd, 0x40);
    CHECK(top[-1] == 0x3002);
    EXPECT86(IOPL3, UD, 0, 0x20, 0xfb, 0x90, 0xcd, 0x40);
    CHECK(!(legacy_frame.eflags & 0x200) && top[-1] == 0x3202);
    EXPECT86(0, BP, 0, 1, 0xcc);                                // INT3 is never redirected
    __asm__ volatile("mov %0, 0x100" : : "r"(keep) : "memory");
    legacy_tss.bits[0x40 / 8] |= 1;
    // A task that is entered with both flags faults at once.
    prepare_task(legacy_task);
    other.eflags = 2 | VIF | VIP;
    EXPECT_NONE(call_far, TASK1);                               // but not at level 0
    legacy_tss.map -= 32;
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4 & ~1u));
}
