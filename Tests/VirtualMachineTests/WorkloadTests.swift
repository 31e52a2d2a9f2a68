import Hypervisor
import Testing
import VirtualMachine

/// The workloads of the default guest (Guests/Workloads), each in a region of its own.
@Suite struct WorkloadTests {
    /// Each workload with a small size, in the order of their regions.
    static let workloads = [
        "fork 40", "exec 20", "cow 64", "map 60", "protect 40", "touch 400", "switch 60",
        "syscall 500", "random 16", "stream 8", "read 1", "compile 2",
    ]

    static func boot(
        _ technique: String, _ workloads: [String], processors: Int = 1
    ) throws -> LinuxTests.Run {
        try LinuxTests.boot(
            technique, task: "penumbra.workload=\"\(workloads.joined(separator: "; "))\"",
            processors: processors)
    }

    static func region(_ number: Int, _ run: LinuxTests.Run) throws -> LedgerBreakdown.Part {
        try #require(run.breakdown.parts.first { $0.region.number == UInt16(number) })
    }

    /// Every workload ended well, and the parts of the ledger sum up to the whole.
    static func check(_ run: LinuxTests.Run, _ workloads: [String]) throws {
        #expect(run.outcome == .poweredOff)
        #expect(run.console.contains("WORKLOADS-OK"), "\(run.console)")
        for workload in workloads {
            let words = workload.split(separator: " ")
            #expect(run.console.contains("workload \(words[0]) \(words[1]) "))
        }
        let parts = run.breakdown.parts
        func sum(_ count: (LedgerBreakdown.Part) -> UInt64) -> UInt64 {
            parts.reduce(0) { $0 + count($1) }
        }
        #expect(sum { $0.region.ledger.instructions } == run.ledger.instructions)
        #expect(sum { $0.region.ledger.walkReferences } == run.ledger.walkReferences)
        #expect(sum { $0.region.ledger.recordsWritten } == run.ledger.recordsWritten)
        for part in parts {
            let exits = part.region.ledger.exits.sum
            #expect(part.code.reduce(0) { $0 + $1.exits.sum } == exits)
            #expect(part.processes.reduce(0) { $0 + $1.exits.sum } == exits)
        }
    }

    @Test("every workload runs alike under bare, trap, nested and traced, its region counted apart")
    func workloads() async throws {
        async let firstRuns = Task {
            (try Self.boot("bare", Self.workloads), try Self.boot("trap", Self.workloads))
        }.value
        async let secondRuns = Task {
            (try Self.boot("traced", Self.workloads), try Self.boot("nested", Self.workloads))
        }.value
        let ((bare, trap), (traced, nested)) = try await (firstRuns, secondRuns)
        for run in [bare, trap, traced, nested] {
            try Self.check(run, Self.workloads)
            #expect(run.digest == bare.digest)
            #expect(run.console == bare.console)
            for number in Self.workloads.indices.map({ $0 + 1 }) {
                let (part, reference) = try (Self.region(number, run), Self.region(number, bare))
                #expect(part.region.begun == 1)
                #expect(part.region.ledger.instructions == reference.region.ledger.instructions)
                #expect(part.region.ledger.instructions > 1000)
            }
        }
        // Under bare nothing of paging exits, under nested only memory that is met first.
        #expect(bare.ledger.exits.sum == 0)
        #expect(nested.ledger.exits.sum == nested.ledger.exits[.secondDimensionFault])
        // Paging workloads write page tables: exits under trap, records under traced.
        for number in 1...6 {
            let (writes, records) = try (Self.region(number, trap), Self.region(number, traced))
            #expect(writes.region.ledger.exits[.tableWrite] >= 100, "region \(number)")
            #expect(records.region.ledger.recordsWritten >= 100, "region \(number)")
            #expect(records.region.ledger.exits[.tableWrite] == 0)
            #expect(writes.processes.count >= (number < 4 ? 2 : 1))
        }
        // A process for each fork, at least of a page table of each level.
        let fork = try Self.region(1, trap).region.ledger.tableWrites
        #expect(fork[.table] > 40 * 5 && fork[.pml4] >= 40)
        // Each change of 16 pages' rights is seen.
        #expect(try Self.region(5, trap).region.ledger.tableWrites[.table] >= 40 * 2 * 16)
        // What is written to a new table before it is first used is not noticed, and needs not be.
        #expect(try Self.region(6, trap).region.ledger.tableWrites[.table] > 390)
        // Two switches a round trip.
        #expect(try Self.region(7, traced).region.ledger.exits[.rootLoaded] >= 120)
        // What touches no mapping is the cheap case of every technique.
        #expect(try Self.region(8, trap).region.ledger.exits.sum < 100)
        // 16 MiB are more than the modelled TLB holds, and so are 8: random reads mostly miss, and
        // streaming does once a page in each direction.
        let random = try Self.region(9, bare).region.ledger
        let stream = try Self.region(10, bare).region.ledger
        #expect(random.tlbMisses > 16 << 10 && stream.tlbMisses >= 2 * 8 * 256)
        let walks = try Self.region(9, nested).region.ledger
        #expect(walks.walkReferences > 2 * random.walkReferences)
    }

    @Test("on two processors a worker on each runs alike under bare and under traced")
    func allProcessors() async throws {
        let workloads = [
            "fork 20 all", "cow 32 all", "map 20 all", "protect 20 all", "touch 200 all",
            "switch 20 all",
        ]
        async let bareRun = Task { try Self.boot("bare", workloads, processors: 2) }.value
        async let tracedRun = Task { try Self.boot("traced", workloads, processors: 2) }.value
        let (bare, traced) = try await (bareRun, tracedRun)
        for run in [bare, traced] {
            try Self.check(run, workloads)
            #expect(run.console.contains("workload touch 200 workers 2 checksum"))
        }
        #expect(traced.digest == bare.digest)
        #expect(traced.console == bare.console)
        for number in [1, 3, 4, 5, 6, 7] {
            let part = try Self.region(number, traced).region
            #expect(part.begun == 1)
            #expect(part.ledger.recordsWritten >= 40)
            #expect(
                try part.ledger.instructions
                    == Self.region(number, bare).region.ledger.instructions)
        }
        // What one thread unmaps or protects, another's processor has to be told of.
        #expect(try Self.region(5, traced).region.ledger.interrupts > 20)
    }

    @Test("a workload that fails names the system call, and the guest names the workload")
    func failure() throws {
        // 1 TiB is more than the kernel maps; the other worker must not wait for ever.
        let run = try Self.boot("bare", ["touch 268435456 all", "fork 1"], processors: 2)
        #expect(run.outcome == .poweredOff)
        #expect(run.console.contains("workload: mmap failed: error 12"))
        #expect(run.console.contains("GUEST-FAILED: workload 'touch 268435456 all'"))
        #expect(!run.console.contains("workload fork 1 "))
        #expect(!run.console.contains("WORKLOADS-OK"))
    }
}
