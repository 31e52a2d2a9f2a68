// What the 64-bit code and the 32-bit code of the page-table form tests share. Pointers are 32-bit
// numbers, and nothing in it is aligned differently in the two worlds.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "selectors.h"

#define FORM_PAGES 64
struct FormTests {
    uint32_t pae;                           // which form
    uint32_t seed;
    uint32_t count;                         // random cases for each kind of page
    uint32_t physical_bits;
    uint32_t has_pse36, has_nx, has_pge, has_smep, has_smap;
    uint32_t high_ram;                      // in 4 MiB units: RAM above 4 GiB that may be written
    uint32_t pages[FORM_PAGES];             // zeroed pages, one after the other
    uint32_t checks, failures;
    struct {
        uint32_t text, arguments[6];
    } first[8];                             // the first failures: a format of print, and numbers
};
extern struct FormTests form_tests;
