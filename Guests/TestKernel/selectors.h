// Selectors of the GDT in start.S, and vectors; for C and assembler alike.
#pragma once
#define BOOT_CODE 0x08
#define FLAT_DATA 0x10
#define KERNEL_CODE 0x18
#define KERNEL_DATA 0x20
#define USER_CODE32 0x2b
#define USER_DATA 0x33
#define USER_CODE 0x3b
#define CONFORMING_CODE 0x48
#define CODE16 0x50
#define DATA16 0x58
#define CODE32 0x60
#define TASK 0x80
#define LOCAL_TABLE 0x90
#define SCRATCH 0xa0
#define USER_EXIT 0x40
