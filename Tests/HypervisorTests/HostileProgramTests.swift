import Hypervisor
import MachineMemory
import Processor
import Testing
import X86

/// Guest programs that attack a technique, executed by the real processor: each must end as it
/// does on hardware, which is what `bare` is, with memory under the ceiling.
@Suite("Programs that attack the shadow")
struct HostileProgramTests {
    /// What is left of a run, alike under every technique.
    struct Outcome: Equatable, Sendable {
        var exit: Exit
        var retired: UInt64
        var sum: UInt64
        var count: UInt64
        var digest: UInt64
    }

    static let techniques = [
        "traced", "traced,capacity=4096,threshold=4,coalesce=0", "trap", "unsync", "nested",
    ]

    /// Runs a program at 0x10000 in 64-bit mode, on tables at 0x1000 that map 16 MiB to themselves
    /// by 2 MiB pages. There are no handlers: a fault is the end.
    static func run(
        _ program: [UInt8], _ technique: String, shadowPages: UInt64, rbx: UInt64 = 0,
        cr4: UInt64 = 0
    ) throws -> (outcome: Outcome, ledger: Ledger, violations: [Violation]) {
        let technique = try Technique(parsing: technique)
        let memory = try MachineMemory(
            guestBytes: 16 << 20,
            hypervisorBytes: Hypervisor.hypervisorBytes(
                for: technique, shadowBytes: shadowPages << 12, processors: 1))
        func poke(_ guest: UInt64, _ value: UInt64) {
            memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
        }
        poke(0x1000, 0x2007)
        poke(0x1000 + 256 * 8, 0x1007)
        poke(0x2000, 0x3007)
        for page in 0..<8 as Range<UInt64> { poke(0x3000 + page * 8, page << 21 | 0x87) }
        memory.write(program.span, at: memory.machineAddress(of: GuestPhysicalAddress(0x10000)))
        let processor = Processor(
            memory: memory, platform: EmptyPlatform(), model: .penumbraV2, index: 0)
        var registers = BootRegisters()
        registers.rip = 0x10000
        registers.cr0 =
            CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.extensionType
        registers.cr3 = 0x1000
        registers.cr4 = CR4.physicalAddressExtension | cr4
        registers.efer = EFER.longModeEnable | EFER.longModeActive
        registers.code = .init(selector: 0x10, limit: 0xffff_ffff, attributes: 0xa09b)
        registers.data = .init(selector: 0x18, limit: 0xffff_ffff, attributes: 0xc093)
        processor.setBootState(registers)
        processor[.rsp] = 0x80000
        processor[.rbx] = rbx
        let hypervisor = try Hypervisor(
            memory: memory, processors: [processor], technique: technique,
            shadowBytes: shadowPages << 12)
        hypervisor.start()
        var exit = Exit.stopped
        for _ in 0..<8_000_000 {
            exit = processor.run(until: 20_000_000)
            if !hypervisor.handle(exit, processor: 0) { break }
        }
        let outcome = Outcome(
            exit: exit, retired: processor.retired, sum: processor[.rsi], count: processor[.rcx],
            digest: memory.guestDigest())
        if hypervisor.hasPendingRecords {
            _ = hypervisor.handle(.invalidatePage(GuestVirtualAddress(0)), processor: 0)
        }
        return (outcome, hypervisor.ledger, hypervisor.audit())
    }

    /// Runs it under `bare` and under the others, with few and with many shadow pages.
    static func check(_ program: [UInt8], _ exit: Exit, count: UInt64, rbx: UInt64 = 0) throws {
        let bare = try run(program, "bare", shadowPages: 0, rbx: rbx).outcome
        #expect(bare.exit == exit)
        #expect(bare.count == count)
        for technique in techniques {
            for pages in [ShadowMMU.leastPages(processors: 1), 256] {
                let other = try run(program, technique, shadowPages: pages, rbx: rbx)
                #expect(other.outcome == bare, "\(technique), \(pages) pages")
                #expect(other.violations == [], "\(technique), \(pages) pages")
                #expect(other.ledger.shadowPagesPeak < pages)
            }
        }
    }

    @Test("a guest that loads 20,000 times one of 3072 roots, which are every frame it has")
    func manyRoots() throws { try Self.check(Self.roots, .halted, count: 0) }

    @Test(
        "a root where there is no memory ends the guest, and nothing else",
        arguments: [0x100_0000, 0xfee0_0000, 0xff_ffff_f000] as [UInt64])
    func rootOutside(root: UInt64) throws {
        try Self.check(Self.outside, .tripleFault, count: 0, rbx: root)
    }

    @Test("tables that are reached, rewired and unmapped through themselves at every level")
    func selfReference() throws { try Self.check(Self.recursive, .tripleFault, count: 1000) }

    @Test("a page that is a page table, data and code at once, under two names")
    func tableDataAndCode() throws { try Self.check(Self.mixed, .halted, count: 2000) }

    @Test("large pages over the tables that they come from, and that are written through them")
    func largeOverTables() throws { try Self.check(Self.large, .halted, count: 500) }

    @Test(
        "a million loads of CR3, of a million values or of one root's names, end as on hardware",
        arguments: ["traced", "traced,elide=on", "trap", "unsync", "agile", "nested"],
        // Every frame that is free, with 326 PCIDs each; one frame, by 4096 names that differ in
        // bits which mean nothing.
        [(3072, CR4.pcidEnable), (1, 0)] as [(UInt64, UInt64)])
    func millionRoots(technique: String, roots: (count: UInt64, cr4: UInt64)) throws {
        let bare = try (roots.count == 1 ? Self.oneRootBare : Self.manyRootsBare).get()
        #expect(bare.exit == .halted && bare.count == 0)
        let other = try Self.run(
            Self.million, technique, shadowPages: 256, rbx: roots.count, cr4: roots.cr4)
        #expect(other.outcome == bare)
        #expect(other.violations == [])
        #expect(other.ledger.shadowPagesPeak < 256)
        #expect(
            technique == "nested"
                || other.ledger.exits[.rootLoaded] + other.ledger.elided[.rootLoaded] == 1_000_000)
    }

    /// What `million` does on hardware: once for all techniques.
    static let manyRootsBare: Result<Outcome, any Error> = Result {
        try run(million, "bare", shadowPages: 0, rbx: 3072, cr4: CR4.pcidEnable).outcome
    }
    static let oneRootBare: Result<Outcome, any Error> = Result {
        try run(million, "bare", shadowPages: 0, rbx: 1).outcome
    }

    // MARK: The programs

    static let million: [UInt8] = [
        0xbf, 0, 0, 0x40, 0,  // 0: mov edi,0x400000
        0x48, 0xc7, 7, 7, 0x20, 0, 0,  // 5: mov [rdi],0x2007
        0x81, 0xc7, 0, 0x10, 0, 0,  // c: add edi,0x1000
        0x81, 0xff, 0, 0, 0, 1,  // 12: cmp edi,0x1000000
        0x72, 0xeb,  // 18: jb 0x5
        0xb9, 0x40, 0x42, 0x0f, 0,  // 1a: mov ecx,1000000
        0x8d, 0x41, 0xff,  // 1f: lea eax,[rcx-1]
        0x31, 0xd2,  // 22: xor edx,edx
        0xf7, 0xf3,  // 24: div ebx
        0x25, 0xff, 0x0f, 0, 0,  // 26: and eax,0xfff
        0x81, 0xc2, 0, 4, 0, 0,  // 2b: add edx,0x400
        0xc1, 0xe2, 0x0c,  // 31: shl edx,12
        0x09, 0xd0,  // 34: or eax,edx
        0x0f, 0x22, 0xd8,  // 36: mov cr3,rax
        0x48, 3, 0x32,  // 39: add rsi,[rdx]
        0xff, 0xc9,  // 3c: dec ecx
        0x75, 0xdf,  // 3e: jne 0x1f
        0xf4,  // 40: hlt
    ]

    static let roots: [UInt8] = [
        0xbf, 0, 0, 0x40, 0,  // 0: mov edi,0x400000
        0x48, 0xc7, 7, 7, 0x20, 0, 0,  // 5: mov [rdi],0x2007
        0x81, 0xc7, 0, 0x10, 0, 0,  // c: add edi,0x1000
        0x81, 0xff, 0, 0, 0, 1,  // 12: cmp edi,0x1000000
        0x72, 0xeb,  // 18: jb 0x5
        0xb9, 0x20, 0x4e, 0, 0,  // 1a: mov ecx,0x4e20
        0xb8, 1, 0, 0, 0,  // 1f: mov eax,0x1
        0x69, 0xc0, 0x0d, 0x66, 0x19, 0,  // 24: imul eax,eax,0x19660d
        5, 0x5f, 0xf3, 0x6e, 0x3c,  // 2a: add eax,0x3c6ef35f
        0x89, 0xc3,  // 2f: mov ebx,eax
        0xc1, 0xeb, 8,  // 31: shr ebx,0x8
        0x81, 0xe3, 0, 0xf0, 0xff, 0,  // 34: and ebx,0xfff000
        0x81, 0xcb, 0, 0, 0x40, 0,  // 3a: or ebx,0x400000
        0x0f, 0x22, 0xdb,  // 40: mov cr3,rbx
        0x48, 3, 0x33,  // 43: add rsi,[rbx]
        0xff, 0xc9,  // 46: dec ecx
        0x75, 0xda,  // 48: jne 0x24
        0xf4,  // 4a: hlt
    ]

    static let outside: [UInt8] = [
        0x0f, 0x22, 0xdb,  // 0: mov cr3,rbx
        0x48, 0xff, 0xc6,  // 3: inc rsi
        0xf4,  // 6: hlt
    ]

    static let recursive: [UInt8] = [
        0x49, 0xb8, 0, 8, 0x10, 0x20, 0x40, 0x80, 0xff, 0xff,  // 0: movabs r8,0xffff804020100800
        0x49, 0xb9, 0, 0, 0x10, 0x20, 0x40, 0x80, 0xff, 0xff,  // a: movabs r9,0xffff804020100000
        0x49, 0xba, 0, 0, 0, 0x20, 0x40, 0x80, 0xff, 0xff,  // 14: movabs r10,0xffff804020000000
        0x49, 0xbb, 0, 0, 0, 0, 0x40, 0x80, 0xff, 0xff,  // 1e: movabs r11,0xffff804000000000
        0x49, 0xbc, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff,  // 28: movabs r12,0xffff800000000000
        0x49, 0xc7, 0x83, 0, 2, 0, 0, 3, 0, 0x30, 0,  // 32: mov [r11+0x200],0x300003
        0x31, 0xc9,  // 3d: xor ecx,ecx
        0x48, 0x89, 0xc8,  // 3f: mov rax,rcx
        0x25, 0xff, 0, 0, 0,  // 42: and eax,0xff
        0x48, 0xc1, 0xe0, 0x0c,  // 47: shl rax,0xc
        0x48, 5, 3, 0, 0x40, 0,  // 4b: add rax,0x400003
        0x49, 0x89, 0x84, 0x24, 0, 0, 4, 0,  // 51: mov [r12+0x40000],rax
        0xba, 0, 0, 0, 8,  // 59: mov edx,0x8000000
        0x0f, 1, 0x3a,  // 5e: invlpg [rdx]
        0x48, 1, 0x0a,  // 61: add [rdx],rcx
        0x48, 3, 0x32,  // 64: add rsi,[rdx]
        0xf6, 0xc1, 3,  // 67: test cl,0x3
        0x75, 0x22,  // 6a: jne 0x8e
        0x49, 0x8b, 0x83, 0, 2, 0, 0,  // 6c: mov rax,[r11+0x200]
        0x49, 0xc7, 0x83, 0, 2, 0, 0, 3, 0x30, 0, 0,  // 73: mov [r11+0x200],0x3003
        0x0f, 1, 0x3a,  // 7e: invlpg [rdx]
        0x48, 3, 0x32,  // 81: add rsi,[rdx]
        0x49, 0x89, 0x83, 0, 2, 0, 0,  // 84: mov [r11+0x200],rax
        0x0f, 1, 0x3a,  // 8b: invlpg [rdx]
        0xf6, 0xc1, 0x0f,  // 8e: test cl,0xf
        0x75, 0x40,  // 91: jne 0xd3
        0x49, 0x8b, 2,  // 93: mov rax,[r10]
        0x49, 0x89, 0x42, 8,  // 96: mov [r10+0x8],rax
        0x49, 0xc7, 0x42, 8, 3, 0x20, 0, 0,  // 9a: mov [r10+0x8],0x2003
        0x0f, 1, 0x3a,  // a2: invlpg [rdx]
        0xbb, 0, 0, 0, 0x40,  // a5: mov ebx,0x40000000
        0x48, 3, 0x33,  // aa: add rsi,[rbx]
        0x48, 3, 0x73, 8,  // ad: add rsi,[rbx+0x8]
        0x49, 0xc7, 0x42, 8, 0, 0, 0, 0,  // b1: mov [r10+0x8],0x0
        0x0f, 1, 0x3b,  // b9: invlpg [rbx]
        0x49, 0x8b, 1,  // bc: mov rax,[r9]
        0x49, 0xc7, 0x81, 0, 4, 0, 0, 7, 0x10, 0, 0,  // bf: mov [r9+0x400],0x1007
        0x49, 3, 0x30,  // ca: add rsi,[r8]
        0x0f, 0x20, 0xd8,  // cd: mov rax,cr3
        0x0f, 0x22, 0xd8,  // d0: mov cr3,rax
        0xff, 0xc1,  // d3: inc ecx
        0x81, 0xf9, 0xe8, 3, 0, 0,  // d5: cmp ecx,0x3e8
        0x0f, 0x82, 0x5e, 0xff, 0xff, 0xff,  // db: jb 0x3f
        0x49, 0xc7, 0, 0, 0, 0, 0,  // e1: mov [r8],0x0
        0x41, 0x0f, 1, 0x38,  // e8: invlpg [r8]
        0x49, 0x8b, 0,  // ec: mov rax,[r8]
        0xf4,  // ef: hlt
    ]

    static let mixed: [UInt8] = [
        0x48, 0xc7, 4, 0x25, 0, 0x32, 0, 0, 3, 0, 0x30, 0,  // 0: mov 0x3200,0x300003
        0xc7, 4, 0x25, 0, 8, 0x30, 0, 0x48, 0xff, 0xc6, 0xc3,  // c: mov 0x300800,0xc3c6ff48
        0xc6, 4, 0x25, 0x10, 8, 0x30, 0, 0xb8,  // 17: mov 0x300810,0xb8
        0xc6, 4, 0x25, 0x15, 8, 0x30, 0, 0xc3,  // 1f: mov 0x300815,0xc3
        0x31, 0xc9,  // 27: xor ecx,ecx
        0x89, 0x0c, 0x25, 0x11, 8, 0x30, 0,  // 29: mov 0x300811,ecx
        0xbb, 0x10, 8, 0x30, 0,  // 30: mov ebx,0x300810
        0xff, 0xd3,  // 35: call rbx
        0x48, 1, 0xc6,  // 37: add rsi,rax
        0x8d, 0x81, 0, 0, 0x40, 0,  // 3a: lea eax,[rcx+0x400000]
        0x25, 0, 0xf0, 0xff, 0,  // 40: and eax,0xfff000
        0x83, 0xc8, 3,  // 45: or eax,0x3
        0x48, 0x89, 0xcb,  // 48: mov rbx,rcx
        0x83, 0xe3, 7,  // 4b: and ebx,0x7
        0x48, 0x89, 4, 0xdd, 0, 0, 0x30, 0,  // 4e: mov [rbx*8+0x300000],rax
        0x48, 0x89, 0xda,  // 56: mov rdx,rbx
        0x48, 0xc1, 0xe2, 0x0c,  // 59: shl rdx,0xc
        0x48, 0x81, 0xc2, 0, 0, 0, 8,  // 5d: add rdx,0x8000000
        0x0f, 1, 0x3a,  // 64: invlpg [rdx]
        0x48, 3, 0x32,  // 67: add rsi,[rdx]
        0x48, 0xff, 4, 0x25, 0, 0x0f, 0x30, 0,  // 6a: inc 0x300f00
        0xbb, 0, 8, 0x30, 0,  // 72: mov ebx,0x300800
        0xff, 0xd3,  // 77: call rbx
        0xf6, 0xc1, 0x3f,  // 79: test cl,0x3f
        0x75, 0x2b,  // 7c: jne 0xa9
        0x48, 0xc7, 4, 0x25, 0, 0x32, 0, 0, 0, 0, 0, 0,  // 7e: mov 0x3200,0x0
        0x0f, 1, 0x3a,  // 8a: invlpg [rdx]
        0x48, 0xc1, 4, 0x25, 0, 0x0f, 0x30, 0, 3,  // 8d: rol 0x300f00,0x3
        0xfe, 4, 0x25, 0x12, 8, 0x30, 0,  // 96: inc 0x300812
        0x48, 0xc7, 4, 0x25, 0, 0x32, 0, 0, 3, 0, 0x30, 0,  // 9d: mov 0x3200,0x300003
        0x48, 0xc7, 4, 0x25, 0x48, 0, 0x30, 0, 3, 1, 0x30, 0,  // a9: mov 0x300048,0x300103
        0xba, 0, 0x90, 0, 8,  // b5: mov edx,0x8009000
        0x0f, 1, 0x3a,  // ba: invlpg [rdx]
        0x48, 3, 0xb2, 0, 0x0f, 0, 0,  // bd: add rsi,[rdx+0xf00]
        0x48, 0x89, 0x8a, 8, 0x0f, 0, 0,  // c4: mov [rdx+0xf08],rcx
        0x48, 0x8d, 0x9a, 0, 8, 0, 0,  // cb: lea rbx,[rdx+0x800]
        0xff, 0xd3,  // d2: call rbx
        0xff, 0xc1,  // d4: inc ecx
        0x81, 0xf9, 0xd0, 7, 0, 0,  // d6: cmp ecx,0x7d0
        0x0f, 0x82, 0x47, 0xff, 0xff, 0xff,  // dc: jb 0x29
        0xf4,  // e2: hlt
    ]

    static let large: [UInt8] = [
        0x48, 0xc7, 4, 0x25, 0, 0x32, 0, 0, 3, 0, 0x30, 0,  // 0: mov 0x3200,0x300003
        0x31, 0xc9,  // c: xor ecx,ecx
        0x48, 0xc7, 4, 0x25, 8, 0x20, 0, 0, 0x83, 0, 0, 0,  // e: mov 0x2008,0x83
        0xbf, 0, 0, 0, 0x40,  // 1a: mov edi,0x40000000
        0x0f, 1, 0x3f,  // 1f: invlpg [rdi]
        0x48, 0x89, 0xc8,  // 22: mov rax,rcx
        0x25, 0xff, 0, 0, 0,  // 25: and eax,0xff
        0x48, 0xc1, 0xe0, 0x0c,  // 2a: shl rax,0xc
        0x48, 5, 3, 0, 0x40, 0,  // 2e: add rax,0x400003
        0x48, 0x89, 0x87, 0, 0, 0x30, 0,  // 34: mov [rdi+0x300000],rax
        0xba, 0, 0, 0, 8,  // 3b: mov edx,0x8000000
        0x0f, 1, 0x3a,  // 40: invlpg [rdx]
        0x48, 1, 0x0a,  // 43: add [rdx],rcx
        0x48, 3, 0x32,  // 46: add rsi,[rdx]
        0x48, 0xc7, 0x87, 8, 0x20, 0, 0, 3, 0x30, 0, 0,  // 49: mov [rdi+0x2008],0x3003
        0x0f, 1, 0x3f,  // 54: invlpg [rdi]
        0x35, 0, 0x10, 0, 0,  // 57: xor eax,0x1000
        0x48, 0x89, 0x87, 0, 0, 0x30, 0,  // 5c: mov [rdi+0x300000],rax
        0x0f, 1, 0x3a,  // 63: invlpg [rdx]
        0x48, 3, 0x32,  // 66: add rsi,[rdx]
        0x48, 0xc7, 0x87, 0, 0x32, 0, 0, 0x83, 0, 0x20, 0,  // 69: mov [rdi+0x3200],0x200083
        0x0f, 1, 0x3a,  // 74: invlpg [rdx]
        0x48, 3, 0xb2, 0, 0, 0x10, 0,  // 77: add rsi,[rdx+0x100000]
        0x48, 0x35, 0, 0x20, 0, 0,  // 7e: xor rax,0x2000
        0x48, 0x89, 0x82, 0, 0, 0x10, 0,  // 84: mov [rdx+0x100000],rax
        0x48, 0xc7, 4, 0x25, 0, 0x32, 0, 0, 3, 0, 0x30, 0,  // 8b: mov 0x3200,0x300003
        0x0f, 1, 0x3a,  // 97: invlpg [rdx]
        0x48, 3, 0x32,  // 9a: add rsi,[rdx]
        0xff, 0xc1,  // 9d: inc ecx
        0x81, 0xf9, 0xf4, 1, 0, 0,  // 9f: cmp ecx,0x1f4
        0x0f, 0x82, 0x63, 0xff, 0xff, 0xff,  // a5: jb 0xe
        0xf4,  // ab: hlt
    ]
}
