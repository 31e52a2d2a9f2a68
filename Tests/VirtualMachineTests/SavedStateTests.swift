import Devices
import Processor
import Testing
import VirtualMachine
import X86

/// Every stored property of what makes up a machine is saved, or is on a list that says why not. A
/// new one fails here until it is put on one of the two; putting it under `saved` goes with writing
/// it in the type's `save` and `restore`.
@Suite struct SavedStateTests {
    /// The properties of one type.
    struct Expected {
        var saved: [String]
        /// Fixed when the machine is made, wiring, caches, or derived from what is saved.
        var others: [String] = []
    }

    private static func labels(_ value: Any) -> [String] {
        Mirror(reflecting: value).children.compactMap(\.label)
    }

    private static func part(_ value: Any, _ name: String) throws -> Any {
        var mirror: Mirror? = Mirror(reflecting: value)
        while let present = mirror {
            if let child = present.children.first(where: { $0.label == name }) {
                // An optional's own value.
                let inner = Mirror(reflecting: child.value)
                if inner.displayStyle == .optional, let some = inner.children.first {
                    return some.value
                }
                return child.value
            }
            mirror = present.superclassMirror
        }
        return try #require(nil as Any?, "no property \(name)")
    }

    private static func check(
        _ value: Any, _ expected: Expected, location: SourceLocation = #_sourceLocation
    ) {
        #expect(
            labels(value).sorted() == (expected.saved + expected.others).sorted(),
            "\(type(of: value))", sourceLocation: location)
    }

    private static func machine() throws -> VirtualMachine {
        var configuration = MachineConfiguration(kernel: Guest.path("testkernel.elf"))
        configuration.memoryBytes = 64 << 20
        configuration.hasTestDevice = true
        return try VirtualMachine(configuration, console: RecordingConsole())
    }

    @Test("each field of a processor is saved, or known not to need it")
    func processor() throws {
        let processor = try Self.machine().processors[0]
        Self.check(
            processor.reflectedState,
            Expected(
                saved: [
                    "registers", "flagResult", "flagCarry", "flagAux", "systemFlags", "rip",
                    "retired", "segments", "ldtr", "taskRegister", "gdtr", "idtr", "cr0", "cr2",
                    "cr3", "cr4", "pointers", "efer", "xcr0", "keyRights", "debugAddresses", "dr6",
                    "dr7", "cpl",
                    "interruptShadow", "debugShadow", "nmiBlocked", "isHalted", "waitsForStartup",
                    "debugConditions", "star", "longSTAR", "compatibilitySTAR",
                    "systemCallFlagMask", "kernelGSBase", "sysenterCS", "sysenterESP",
                    "sysenterEIP", "pat", "tscAux", "tscOffset", "tscAdjust",
                    "miscEnable",
                    "speculationControl", "latched", "taskEntry", "isShutDown", "stepRule",
                    "resumeFlagLoaded", "randomState", "debugControl", "typeRanges",
                ],
                others: [
                    // Of the running block or instruction.
                    "blockEnd", "blockStart", "currentOp", "pending", "pendingVector",
                    "pendingError", "pendingAddress", "pendingNonCanonical", "pendingExit",
                    // Of the software TLB, which starts empty.
                    "bank", "supervisorBank",
                    // Translated code's, within one run.
                    "remaining", "runLimit", "masks", "undone", "chainSite", "chainTarget",
                    "callHost", "callTarget", "shadowedOp", "xmmAbsent", "x87Absent",
                    // From CR0, EFER, CS and EFLAGS.
                    "mode",
                    // The host's.
                    "isObserved",
                ]))
        Self.check(
            processor,
            Expected(
                saved: [
                    "core", "vector", "stopRequested", "exceptionsInPlace", "lastExceptionRetired",
                    "standsStill", "interface",
                ],
                others: [
                    // Fixed or wiring.
                    "model", "index", "memory", "platform", "stateBlock", "codeWatch",
                    "storableBits", "mostPhysicalAddressBits", "hasGigabytePages",
                    "hasLargeAddresses",
                    "translationAssemblers",
                    // Caches.
                    "blocks", "caches",
                    // The hypervisor's; what was completed is in memory.
                    "recentRecords", "lastConsumer",
                    // Within one instruction.
                    "lastNote", "lastIsGlobal", "faultedAccess",
                    // The host's.
                    "instructionObserver", "observer", "hasObserver", "retiredBefore",
                    "translationObserver", "debugState",
                ]))
        // Saved: the injection of `control`, and the two requests.
        let interface = try Self.part(processor, "interface")
        #expect("\(type(of: interface))".contains("Interface"))
    }

    @Test("each field of the board is saved, or known not to need it")
    func board() throws {
        let machine = try Self.machine()
        Self.check(
            machine,
            Expected(
                saved: ["configuration", "memory", "clock", "board", "processors", "tap", "turn"],
                others: [
                    "stopFlag", "pauseFlag", "pausePoint", "stopRegion", "console", "hypervisor",
                    "oracle", "onLeniency", "series", "breakFlag", "isDebugged", "nextPoll",
                ]))
        Self.check(
            try Self.part(machine, "turn"),
            Expected(
                saved: ["processor", "end", "idleTurns"], others: ["count", "quantum", "seed"]))
        // Time is saved as what it shows.
        Self.check(
            try Self.part(machine, "clock"),
            Expected(
                saved: ["skipped", "hostStart"], others: ["kind", "retired", "retiredByOthers"]))
        Self.check(
            try Self.part(machine, "tap"), Expected(saved: ["hash"], others: ["console"]))
        Self.check(
            machine.configuration,
            Expected(
                saved: [
                    "memoryBytes", "processors", "quantum", "interleaving", "processorModel",
                    "clock", "debugExitPort", "debugExitSize", "debugConsolePort", "hasTestDevice",
                    "seed", "startTime",
                ],
                others: [
                    // Free where a machine is restored.
                    "kernel", "isFirmware", "initrd", "commandLine", "lastText", "hardware",
                    "technique", "rebootAllowed",
                    "shadowMemoryBytes", "verification", "engine", "sampleInterval", "countsPlaces",
                ]))
    }

    @Test("each field of each chip is saved, or known not to need it")
    func chips() throws {
        let board = try Self.part(try Self.machine(), "board")
        let chipset = try Self.part(board, "chipset")
        Self.check(
            chipset,
            Expected(
                saved: [
                    "signals", "fabric", "serial", "timer", "clock", "power", "resets", "firmware",
                    "coprocessor", "testDevice", "testMemory",
                ], others: ["time", "ports", "memory"]))
        func check(_ chip: String, of parent: Any, saved: String, others: String) throws {
            func words(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }
            Self.check(
                try Self.part(parent, chip),
                Expected(saved: words(saved), others: words(others)))
        }
        try check(
            "signals", of: chipset, saved: "event interruptsChanged", others: "")
        try check(
            "serial", of: chipset,
            saved: """
                enables lineControl modemControl lineErrors modemDeltas scratch divisor \
                fifoEnabled trigger received transmitPending asserted
                """, others: "sink interrupt")
        try check(
            "timer", of: chipset, saved: "counters output nextEdge control nextEvent",
            others: "time signals interrupt")
        let counters = try Self.part(try Self.part(chipset, "timer"), "counters")
        let counter = try #require(Mirror(reflecting: counters).children.first).value
        #expect(
            Self.labels(counter).sorted() == [
                "access", "count", "firstByte", "gate", "isBCD", "latchedCount", "latchedStatus",
                "mode", "nullCount", "origin", "readsHigh", "stopped", "successor",
            ])
        try check(
            "clock", of: chipset, saved: "index bytes epoch settled asserted nextEvent",
            others: "time signals interrupt")
        try check(
            "power", of: chipset, saved: "status enable control settled asserted nextEvent",
            others: "time signals interrupt")
        try check(
            "coprocessor", of: chipset, saved: "isPending isIgnored", others: "interrupt")
        try check("resets", of: chipset, saved: "control", others: "signals")
        try check(
            "firmware", of: chipset, saved: "item position", others: "memoryBytes processors")
        try check("testDevice", of: chipset, saved: "data", others: "setLine")
        let fabric = try Self.part(chipset, "fabric")
        Self.check(fabric, Expected(saved: ["pics", "ioAPIC", "localAPICs"]))
        try check("pics", of: fabric, saved: "master slave asserted", others: "output")
        try check(
            "master", of: try Self.part(fabric, "pics"),
            saved: """
                requests inService mask levels levelTriggered vectorBase lowest automaticEOI \
                rotatesOnAutomaticEOI specialMask specialFullyNested readsInService polled \
                initialization single expectsICW4
                """, others: "cascade levelCapable firmwareVectorBase")
        try check(
            "ioAPIC", of: fabric, saved: "id selected entries levels", others: "bus initialID")
        let apics = try Self.part(fabric, "localAPICs")
        // `nextEvent` follows from the timer's registers.
        Self.check(
            try #require(Mirror(reflecting: apics).children.first).value,
            Expected(
                saved: [
                    "base", "priority", "logicalDestination", "destinationFormat", "spurious",
                    "inService", "requests", "triggerMode", "errorStatus", "errorsSince", "command",
                    "localVectors", "initialCount", "divideConfiguration", "expiry", "deadline",
                    "timeStampOffset",
                    "externalLevel", "nonMaskablePending", "initializePending", "startupPending",
                    "waitsForStartup",
                ],
                others: [
                    "processor", "isBootstrap", "time", "signals", "tsc", "crystal", "reservedBase",
                    "bus", "nextEvent",
                ]))
    }
}
