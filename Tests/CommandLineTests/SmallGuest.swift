/// Multiboot kernels of a few instructions, assembled by hand, that end or talk in a known way.
enum SmallGuest {
    /// Prints `ready`, then sends back each byte that it receives; `q` writes 3 to the debug-exit
    /// port 0xF4, which is status 7.
    static let echo = elf(
        printReady
            + [
                0xB2, 0xFD,  // wait: mov dl, 0xfd
                0xEC,  // in al, dx
                0xA8, 0x01,  // test al, 1
                0x74, 0xF9,  // jz wait
                0xB2, 0xF8,  // mov dl, 0xf8
                0xEC,  // in al, dx
                0x3C, 0x71,  // cmp al, 'q'
                0x74, 0x03,  // je quit
                0xEE,  // out dx, al
                0xEB, 0xEF,  // jmp wait
                0xB0, 0x03,  // quit: mov al, 3
                0xE6, 0xF4,  // out 0xf4, al
                0xF4, 0xEB, 0xFD,  // halt: hlt; jmp halt
            ])

    /// Begins region 9, reads a line and then writes 3 to the debug-exit port 0xF4, which is status 7. Of the line's
    /// letters `b` is a store and 10 million instructions of work, `r` stores the time-stamp counter in memory,
    /// `t` is a triple fault and `l` a loop without end; others do nothing.
    static let worker = elf(
        printReady
            + [
                0xB8, 0x01, 0x00, 0x00, 0x40,  // mov eax, 0x40000001
                0xB9, 0x09, 0x00, 0x00, 0x00,  // mov ecx, 9
                0x0F, 0xA2,  // cpuid
                0xBA, 0xF8, 0x03, 0x00, 0x00,  // wait: mov edx, 0x3f8
                0xB2, 0xFD,  // mov dl, 0xfd
                0xEC,  // in al, dx
                0xA8, 0x01,  // test al, 1
                0x74, 0xF4,  // jz wait
                0xB2, 0xF8,  // mov dl, 0xf8
                0xEC,  // in al, dx
                0x3C, 0x74,  // cmp al, 't'
                0x74, 0x31,  // je triple
                0x3C, 0x72,  // cmp al, 'r'
                0x74, 0x13,  // je stamp
                0x3C, 0x62,  // cmp al, 'b'
                0x74, 0x18,  // je busy
                0x3C, 0x6C,  // cmp al, 'l'
                0x74, 0x23,  // je ever
                0x3C, 0x0A,  // cmp al, '\n'
                0x75, 0xDD,  // jne wait
                0xB0, 0x03,  // mov al, 3
                0xE6, 0xF4,  // out 0xf4, al
                0xF4,  // halt: hlt
                0xEB, 0xFD,  // jmp halt
                0x0F, 0x31,  // stamp: rdtsc
                0xA3, 0x00, 0x00, 0x20, 0x00,  // mov [0x200000], eax
                0xEB, 0xCD,  // jmp wait
                0xA3, 0x00, 0x00, 0x20, 0x00,  // busy: mov [0x200000], eax
                0xB9, 0x40, 0x4B, 0x4C, 0x00,  // mov ecx, 5000000
                0x49,  // again: dec ecx
                0x75, 0xFD,  // jnz again
                0xEB, 0xBE,  // jmp wait
                0xEB, 0xFE,  // ever: jmp ever
                0x0F, 0x01, 0x1D, 0xD3, 0x00, 0x10, 0x00,  // triple: lidt [zeros]
                0x0F, 0x0B,  // ud2
                0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // zeros
            ])

    /// Prints `ready`, and then does nothing for ever.
    static let deaf = elf(printReady + [0xEB, 0xFE])  // jmp to itself

    /// Prints `A` for ever.
    static let flood = elf([
        0xBA, 0xF8, 0x03, 0x00, 0x00,  // mov edx, 0x3f8
        0xB0, 0x41,  // mov al, 'A'
        0xEE, 0xEB, 0xFD,  // again: out dx, al; jmp again
    ])

    /// Loads an empty interrupt table and executes an undefined instruction.
    static let tripleFault = elf([
        0x0F, 0x01, 0x1D, 0x69, 0x00, 0x10, 0x00,  // lidt [0x100069]: the zeros below
        0x0F, 0x0B,  // ud2
        0, 0, 0, 0, 0, 0,
    ])

    /// Begins region 9, and writes 3 to the debug-exit port 0xF4, which is status 7.
    static let marker = elf([
        0xB8, 0x01, 0x00, 0x00, 0x40,  // mov eax, 0x40000001
        0xB9, 0x09, 0x00, 0x00, 0x00,  // mov ecx, 9
        0x0F, 0xA2,  // cpuid
        0xB0, 0x03,  // mov al, 3
        0xE6, 0xF4,  // out 0xf4, al
    ])

    private static let printReady: [UInt8] =
        [0xBA, 0xF8, 0x03, 0x00, 0x00]  // mov edx, 0x3f8
        + "ready\r\n".utf8.flatMap { [0xB0, $0, 0xEE] }  // mov al, c; out dx, al

    private static let base: UInt32 = 0x10_0000
    private static let codeOffset: UInt32 = 52 + 32 + 12

    /// An ELF32 file of one segment, loaded whole at 1 MiB, with a multiboot 1 header and then code.
    private static func elf(_ code: [UInt8]) -> [UInt8] {
        func word(_ value: UInt32) -> [UInt8] {
            [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value >> $0) }
        }
        func half(_ value: UInt16) -> [UInt8] { [UInt8(value & 0xFF), UInt8(value >> 8)] }
        let size = codeOffset + UInt32(code.count)
        var file: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        file += half(2) + half(3) + word(1)  // executable, i386, version 1
        file += word(base + codeOffset) + word(52) + word(0) + word(0)  // entry, headers, flags
        file += half(52) + half(32) + half(1) + half(40) + half(0) + half(0)
        file += word(1) + word(0) + word(base) + word(base)  // PT_LOAD from offset 0
        file += word(size) + word(size) + word(7) + word(4096)
        file += word(0x1BAD_B002) + word(0) + word(0 &- 0x1BAD_B002)
        return file + code
    }
}
