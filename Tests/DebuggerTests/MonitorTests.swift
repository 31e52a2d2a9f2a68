import Debugger
import Testing
import VirtualMachine

@Suite struct MonitorTests {
    /// A machine in its loop, with paging.
    private func bench(_ technique: String) throws -> Bench {
        let bench = try Bench(technique)
        _ = bench.ask("Z0,\(String(Bench.entry + Bench.Place.fill, radix: 16)),1")
        _ = try bench.resume()
        return bench
    }

    @Test("the registers of each processor are listed, system registers with them")
    func registers() throws {
        let text = try bench("bare").monitor("info registers")
        #expect(text.contains("rip  0000000000100091"), "\(text)")
        #expect(text.contains("cr3  0000000000300000"), "\(text)")
        #expect(text.contains("32-bit"), "\(text)")
        for name in ["gdt", "idt", "efer", "dr7", "lstr", "xcr0"] { #expect(text.contains(name)) }
    }

    @Test(
        "the modelled TLB's entries are listed with what they lead to",
        arguments: ["bare", "nested"])
    func translations(technique: String) throws {
        let text = try bench(technique).monitor("info tlb")
        let lines = text.split(separator: "\n")
        // The code, and nothing that the debugger has read.
        #expect(lines.count == 2, "\(text)")
        #expect(
            text.contains("pcid 000  0000000000000000  guest 0000000000  2M of 4M  srwx---"),
            "\(text)")
    }

    @Test("the guest's mapped memory is listed, neighbours in one line")
    func mapped() throws {
        #expect(try Bench("traced").monitor("info mem") == "processor 0: no paging\n")
        let text = try bench("traced").monitor("info mem")
        #expect(text == "0000000000000000-00000000007fffff  800000        srwx\n", "\(text)")
    }

    @Test("shadow pages are listed by what they stand for")
    func shadow() throws {
        let text = try bench("traced").monitor("info shadow")
        #expect(text.contains("registers"), "\(text)")
        #expect(text.contains("root of 0"), "\(text)")
        #expect(text.contains("table     twoLevel part 0 guest 0000300000"), "\(text)")
        #expect(text.contains("traced"), "\(text)")
        #expect(try bench("bare").monitor("info shadow").contains(": 0 shadow pages"))
    }

    @Test("write buffers are listed with the pages that are traced")
    func trace() throws {
        let text = try bench("traced").monitor("info trace")
        #expect(text.contains("processor 0: on, indication entry, record address"), "\(text)")
        #expect(text.contains("1 guest frames traced\n  0000300000\n"), "\(text)")
        #expect(try bench("trap").monitor("info trace").contains("no guest write buffer"))
    }

    @Test("physical memory is printed in the units that are asked for")
    func physical() throws {
        let bench = try bench("traced")
        #expect(bench.monitor("xp /2xw 0x200000") == "0000000000200000: 0x00000001 0x00000000\n")
        #expect(bench.monitor("xp/1b 0x200000").hasPrefix("there is no command"))
        #expect(bench.monitor("xp /1b 2097152") == "0000000000200000: 0x01\n")
        #expect(bench.monitor("xp 0xfee00000") == "no memory at 00000000fee00000\n")
        for wrong in ["xp", "xp /0 0", "xp /1025 0", "xp /1q 0", "xp 0x", "xp /4 1 2"] {
            #expect(bench.monitor(wrong).hasPrefix("xp [/COUNT"), "\(wrong)")
        }
    }

    @Test("an unknown command is answered with those there are")
    func unknown() throws {
        let bench = try Bench("bare")
        for line in ["", "help", "info", "info nothing", "quit", "info tlb 0 0"] {
            #expect(bench.monitor(line).contains("info shadow"), "\(line)")
        }
        #expect(bench.monitor("info tlb 1") == "there is no processor 1: 0 to 0\n")
    }
}
