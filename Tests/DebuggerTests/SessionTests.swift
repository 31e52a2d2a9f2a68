import Debugger
import Processor
import Testing
import VirtualMachine
import X86

@Suite struct SessionTests {
    private typealias Place = Bench.Place

    private func address(_ place: UInt64) -> String { String(Bench.entry + place, radix: 16) }

    private static let kinds: [(String, Engine)] =
        [("bare", .interpreter), ("traced", .interpreter), ("trap", .interpreter)]
        + (Engine.translatorLack == nil ? [("traced", .translator)] : [])

    @Test("a breakpoint stops before its instruction, and is not in memory", arguments: kinds)
    func breakpoint(technique: String, engine: Engine) throws {
        for kind in ["0", "1"] {
            let bench = try Bench(technique, engine: engine)
            let code = bench.ask("m\(address(Place.load)),6")
            #expect(bench.ask("Z\(kind),\(address(Place.load)),1") == ["OK"])
            #expect(
                try bench.resume()
                    == .debugStop(processor: 0, .instruction(Bench.entry + Place.load)))
            #expect(bench.value(.rip) == Bench.entry + Place.load)
            // The store before it has been made, the load has not.
            #expect(bench.value(.general(.rbx)) != 1)
            #expect(bench.ask("m\(String(Bench.cell, radix: 16)),4") == ["01000000"])
            #expect(bench.ask("m\(address(Place.load)),6") == code)
            #expect(bench.machine.retired == 2)
        }
    }

    @Test("without its breakpoint the machine goes on to its end", arguments: kinds)
    func removal(technique: String, engine: Engine) throws {
        let bench = try Bench(technique, engine: engine)
        _ = bench.ask("Z0,\(address(Place.loop)),1")
        for _ in 0..<3 {
            #expect(
                try bench.resume()
                    == .debugStop(processor: 0, .instruction(Bench.entry + Place.loop)))
            // As a debugger does: one step without the breakpoint.
            _ = bench.ask("z0,\(address(Place.loop)),1")
            #expect(try bench.resume("vCont;s:1") == .debugStop(processor: 0, .stepped))
            _ = bench.ask("Z0,\(address(Place.loop)),1")
        }
        #expect(bench.value(.general(.rcx)) == 3)
        _ = bench.ask("z0,\(address(Place.loop)),1")
        #expect(try bench.resume() == .debugExit(status: 7))
    }

    @Test("watchpoints stop after the access that they are for", arguments: kinds)
    func watchpoints(technique: String, engine: Engine) throws {
        let cell = String(Bench.cell, radix: 16)
        for (type, name, place) in [
            ("2", "watch", Place.load), ("3", "rwatch", Place.increment),
            ("4", "awatch", Place.load),
        ] {
            let bench = try Bench(technique, engine: engine)
            #expect(bench.ask("Z\(type),\(cell),4") == ["OK"])
            guard case .debugStop(0, .access(let watch)) = try bench.resume() else {
                Issue.record("no stop for \(name)")
                continue
            }
            #expect(watch.address == Bench.cell)
            #expect(bench.value(.rip) == Bench.entry + place)
            #expect(bench.ask("?") == ["T05\(name):\(cell);thread:1;"])
        }
    }

    @Test(
        "a watchpoint meets parts of accesses, and each iteration of a REP", arguments: kinds)
    func watchedString(technique: String, engine: Engine) throws {
        let bench = try Bench(technique, engine: engine)
        // One byte of the third double word that is filled.
        #expect(bench.ask("Z2,20100a,1") == ["OK"])
        guard case .debugStop(0, .access) = try bench.resume() else {
            Issue.record("no stop")
            return
        }
        #expect(bench.value(.rip) == Bench.entry + 60)
        #expect(bench.value(.general(.rcx)) == 5)
        // The bytes beside it are nobody's business.
        #expect(bench.ask("z2,20100a,1") == ["OK"])
        #expect(bench.ask("Z2,201020,4") == ["OK"])
        #expect(try bench.resume() == .debugExit(status: 7))
    }

    @Test("a step retires exactly one instruction", arguments: kinds)
    func steps(technique: String, engine: Engine) throws {
        let bench = try Bench(technique, engine: engine)
        for count in 1...60 as ClosedRange<UInt64> {
            #expect(try bench.resume("vCont;s:1;c") == .debugStop(processor: 0, .stepped))
            #expect(bench.machine.retired == count)
        }
    }

    @Test(
        "stopping, stepping and looking leave digest and ledger as they are", arguments: kinds)
    func sameRun(technique: String, engine: Engine) throws {
        let plain = try Bench(technique, engine: engine)
        #expect(plain.machine.run() == .debugExit(status: 7))
        let bench = try Bench(technique, engine: engine)
        _ = bench.ask("Z0,\(address(Place.paged)),1")
        _ = bench.ask("Z2,201000,4")
        _ = bench.ask("Z3,201004,4")
        var stops = 0
        while case .debugStop = try bench.resume(stops % 3 == 0 ? "vCont;s:1" : "vCont;c") {
            stops += 1
            _ = bench.ask("z0,\(address(Place.paged)),1")
            _ = bench.ask("g")
            _ = bench.ask("m0,1000")
            _ = bench.ask("m\(String(Bench.alias, radix: 16)),1000")
            _ = bench.ask("mfee00000,100")
            for topic in ["tlb", "mem", "shadow", "trace", "registers"] {
                _ = bench.monitor("info \(topic)")
            }
            if stops == 200 { _ = bench.ask("z2,201000,4") }
        }
        #expect(stops >= 200)
        #expect(bench.machine.digest() == plain.machine.digest())
        #expect(bench.machine.ledger == plain.machine.ledger)
    }

    @Test("memory is read through the guest's tables, and no A bit is set", arguments: kinds)
    func linearMemory(technique: String, engine: Engine) throws {
        let bench = try Bench(technique, engine: engine)
        let alias = String(Bench.alias + Bench.cell, radix: 16)
        // Without paging a linear address is a physical one, and the second 4 MiB are other memory.
        #expect(bench.ask("m\(alias),4") == ["00000000"])
        _ = bench.ask("Z0,\(address(Place.loop)),1")
        _ = try bench.resume()
        #expect(bench.ask("m\(alias),4") == ["01000000"])
        #expect(bench.ask("m800000,4") == ["E0e"])
        // What is readable of a range that ends in unmapped memory.
        #expect(bench.ask("m7ffffe,4") == ["0000"])
        #expect(bench.ask("M\(alias),2:beef") == ["OK"])
        #expect(bench.ask("m\(String(Bench.cell, radix: 16)),4") == ["beef0000"])
        #expect(bench.ask("M7ffffe,4:01020304") == ["E0e"])
        #expect(bench.ask("m7ffffe,2") == ["0000"])
        let directory = bench.machine.debugTarget.readPhysical(Bench.directory, count: 8)
        #expect(directory[4] == 0x83)
        // The guest has executed through the first.
        #expect(directory[0] & 0x20 != 0)
        #expect(bench.ask("qqemu.PhyMemMode") == ["0"])
        #expect(bench.ask("Qqemu.PhyMemMode:1") == ["OK"])
        #expect(bench.ask("m800000,4") == ["00000000"])
        #expect(bench.ask("m\(String(Bench.cell, radix: 16)),2") == ["beef"])
        #expect(bench.ask("mfee00000,4") == ["E0e"])
        #expect(bench.ask("mfffffffffffffff8,10") == ["E0e"])
    }

    @Test("code that the debugger writes is what is executed", arguments: kinds)
    func writtenCode(technique: String, engine: Engine) throws {
        let bench = try Bench(technique, engine: engine)
        _ = bench.ask("Z0,\(address(Place.loop + 1)),1")
        _ = try bench.resume()
        _ = bench.ask("z0,\(address(Place.loop + 1)),1")
        // The loop has been decoded: now it counts by two.
        #expect(bench.ask("M\(address(Place.loop)),3:414190") == ["OK"])
        #expect(try bench.resume("s\(address(Place.loop))") == .debugStop(processor: 0, .stepped))
        #expect(try bench.resume("s") == .debugStop(processor: 0, .stepped))
        #expect(bench.value(.general(.rcx)) == 3)
    }

    @Test("registers are read and written by number and all at once")
    func registers() throws {
        let bench = try Bench()
        #expect(bench.ask("P3=8877665544332211") == ["OK"])
        #expect(bench.value(.general(.rdx)) == 0x1122_3344_5566_7788)
        #expect(bench.ask("p3") == ["8877665544332211"])
        #expect(bench.ask("p10") == ["6000100000000000"])
        let all = try #require(bench.ask("g").first)
        #expect(bench.ask("G\(all)") == ["OK"])
        #expect(bench.ask("g") == [all])
        let changed = "0102030405060708" + all.dropFirst(16)
        #expect(bench.ask("G\(changed)") == ["OK"])
        #expect(bench.value(.general(.rax)) == 0x0807_0605_0403_0201)
        // XMM0 is behind 24 general registers and 16 of the x87.
        let xmm = String(16 + 2 + 6 + 16, radix: 16)
        #expect(bench.ask("P\(xmm)=000102030405060708090a0b0c0d0e0f") == ["OK"])
        #expect(bench.ask("p\(xmm)") == ["000102030405060708090a0b0c0d0e0f"])
        // Selectors belong to their descriptors, CR0 to the hypervisor too.
        #expect(bench.ask("P12=00000000") == ["E16"])
        #expect(bench.ask("p1000") == ["E16"])
        #expect(bench.ask("P3=88") == ["E16"])
    }

    @Test("the description names each register that there are bytes of")
    func description() throws {
        let bench = try Bench()
        var text = ""
        while true {
            let part = try #require(
                bench.ask(
                    "qXfer:features:read:target.xml:\(String(text.utf8.count, radix: 16)),400"
                )
                .first)
            text += part.dropFirst()
            if part.hasPrefix("l") { break }
            #expect(part.hasPrefix("m"))
        }
        #expect(text == RegisterLayout.description)
        var bits = 0
        for piece in text.split(separator: "bitsize=\"").dropFirst() {
            bits += Int(piece.prefix { $0.isNumber }) ?? 0
        }
        #expect(try #require(bench.ask("g").first).count == bits / 4)
        for name in ["rax", "rip", "cr3", "efer", "k_gs_base", "fs_base", "xmm15", "mxcsr"] {
            #expect(text.contains("name=\"\(name)\""))
        }
        #expect(bench.ask("qXfer:features:read:other.xml:0,400") == ["E00"])
    }

    @Test("processors are threads that can be told apart")
    func threads() throws {
        let bench = try Bench(processors: 3)
        #expect(bench.ask("qfThreadInfo") == ["m1,2,3"])
        #expect(bench.ask("qsThreadInfo") == ["l"])
        #expect(bench.ask("qC") == ["QC1"])
        #expect(bench.ask("T3") == ["OK"])
        #expect(bench.ask("T4") == ["E16"])
        #expect(bench.ask("Hg2") == ["OK"])
        #expect(bench.ask("qC") == ["QC2"])
        #expect(bench.ask("p10") != ["6000100000000000"])
        #expect(bench.ask("Hg1") == ["OK"])
        #expect(bench.ask("p10") == ["6000100000000000"])
        #expect(bench.ask("Hg4") == ["E16"])
        // One that waits is never done with its step: the others go on to the end.
        #expect(try bench.resume("vCont;s:2;c") == .debugExit(status: 7))
    }

    @Test("the kind of a breakpoint is told to a debugger that knows of it")
    func breakKinds() throws {
        for (features, kind, reason) in [
            ("swbreak+;hwbreak+", "0", "swbreak:;"), ("swbreak+;hwbreak+", "1", "hwbreak:;"),
            ("xmlRegisters=i386", "0", ""),
        ] {
            let bench = try Bench()
            #expect(try #require(bench.ask("qSupported:\(features)").first).contains("PacketSize="))
            _ = bench.ask("Z\(kind),\(address(Place.store)),1")
            _ = try bench.resume()
            #expect(bench.ask("?") == ["T05\(reason)thread:1;"])
        }
    }

    @Test(
        "any commands at all leave the machine able to go on", arguments: [1, 2, 3, 4] as [UInt64])
    func fuzz(seed: UInt64) throws {
        let bench = try Bench()
        var random = SplitMix64(seed: seed)
        let starts = [
            "m", "M", "X", "p", "P", "G", "Z", "z", "H", "T", "q", "Q", "v", "qRcmd,", "c", "s",
            "qXfer:features:read:", "vCont;", "qThreadExtraInfo,", "C", "",
        ]
        let alphabet = Array("0123456789abcdef,;:=-xcsp".utf8) + [0, 255]
        for _ in 0..<20_000 {
            var payload = Array(starts[Int(random.next() % UInt64(starts.count))].utf8)
            for _ in 0..<random.next() % 24 {
                payload.append(alphabet[Int(random.next() % UInt64(alphabet.count))])
            }
            if case .replies(let replies) = bench.session.perform(Command(payload)) {
                #expect(replies.reduce(0) { $0 + $1.count } < 1 << 20)
            }
        }
        // Whatever it was told to stop at.
        bench.machine.debugTarget.release()
        _ = bench.machine.debugTarget.set(.rip, to: UInt128(Bench.entry + 71), processor: 0)
        bench.machine.pausePoint = bench.machine.retired + 1000
        switch bench.machine.run() {
        case .debugExit, .paused, .tripleFault, .stopped: break
        case let other: Issue.record("ended with \(other)")
        }
    }
}
