import Devices
import Testing
import X86

/// Random accesses of a guest that means harm, interleaved with time, input and acknowledgements.
@Suite struct HostileAccessTests {
    /// Ports that something answers, so that few accesses go to waste.
    static let ports: [UInt16] =
        Array(0x20...0x21) + Array(0x40...0x43) + [0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92]
        + Array(0xa0...0xa1) + Array(0xf4...0xf7) + Array(0x3f8...0x3ff) + [0x4d0, 0x4d1]
        + Array(0x510...0x511) + Array(0x600...0x60b) + Array(0xcf8...0xcff) + [0xffff]

    /// Runs a machine for `steps` random actions and returns a digest of all that it answered.
    func run(seed: UInt64, steps: Int) -> UInt64 {
        var random = Seeded(seed)
        let time = ManualTime()
        var digest: UInt64 = 0xcbf2_9ce4_8422_2325
        func note(_ value: UInt64) { digest = (digest ^ value) &* 0x100_0000_01b3 }
        var configuration = ChipsetConfiguration(
            processors: 1 + Int(random.below(16)), memoryBytes: random.next(),
            startTime: random.next(), tscFrequency: 1 + random.below(5_000_000_000))
        configuration.debugExitPort = 0xf4
        configuration.debugExitSize = 4
        let printed = Recorder<UInt8>()
        let chipset = Chipset(
            configuration: configuration, time: time, console: { printed.append($0) })
        var waited = 0
        for _ in 0..<steps {
            let processor = Int(random.below(UInt64(configuration.processors)))
            let size = [1, 2, 4][Int(random.below(3))]
            // Mostly bytes whose bits are random, sometimes the extremes.
            let value = [random.next(), 0, .max, random.next() & 0xff][Int(random.below(4))]
            let port = Self.ports[Int(random.below(UInt64(Self.ports.count)))]
            switch random.below(14) {
            case 0, 1: note(UInt64(chipset.readPort(port, size: size)))
            case 2, 3, 4:
                chipset.writePort(port, size: size, value: UInt32(truncatingIfNeeded: value))
            case 5, 6:
                let address = hostileAddress(&random)
                let width = 1 + Int(random.below(8))
                note(chipset.readMemory(address, size: width, processor: processor))
            case 7, 8:
                chipset.writeMemory(
                    hostileAddress(&random), size: 4, value: value, processor: processor)
            case 9:
                note(chipset.readAPICRegister(hostileMSR(&random), processor: processor) ?? 1)
            case 10:
                let register = hostileMSR(&random)
                let base = 0xfee0_0000 | random.below(4) << 10
                let accepted = chipset.writeAPICRegister(
                    register, value: register == MSR.apicBase ? base : value, processor: processor)
                note(accepted ? 1 : 0)
            case 11:
                // Time passes: to the next event, a little, or a leap.
                let leaps = [
                    chipset.nextEvent ?? 0, time.now &+ random.below(100_000),
                    time.now &+ random.below(1 << 44),
                ]
                time.now = max(time.now, min(leaps[Int(random.below(3))], 1 << 62))
                chipset.advance()
                waited += 1
            case 12:
                if chipset.canReceive { chipset.receive(UInt8(truncatingIfNeeded: value)) }
                chipset.setTaskPriority(UInt8(truncatingIfNeeded: value), processor: processor)
            default:
                note(UInt64(chipset.acknowledgeInterrupt(processor: processor) ?? 0))
                note(chipset.takeNMI(processor: processor) ? 1 : 0)
                if case .startup(let vector)? = chipset.takeStartup(processor: processor) {
                    note(UInt64(vector))
                }
                if chipset.event != nil { chipset.event = nil }
                if random.below(50) == 0 { chipset.reset() }
            }
            // What the board relies on.
            if chipset.hasInterrupt(processor: processor) { note(2) }
            chipset.interruptsChanged = false
        }
        for byte in printed.take() { note(UInt64(byte)) }
        #expect(waited > 0)
        return digest
    }

    func hostileAddress(_ random: inout Seeded) -> GuestPhysicalAddress {
        switch random.below(5) {
        case 0: GuestPhysicalAddress(0xfec0_0000 + random.below(0x50))
        case 1: GuestPhysicalAddress(0xfec0_0000 + random.below(2) * 0x10)
        case 2: GuestPhysicalAddress(0xfee0_0000 + random.below(0x1000))
        case 3: GuestPhysicalAddress(0xfee0_0000 + random.below(0x100) * 0x10)
        default: GuestPhysicalAddress(random.next())
        }
    }

    func hostileMSR(_ random: inout Seeded) -> UInt32 {
        switch random.below(4) {
        case 0: MSR.apicBase
        case 1: MSR.tscDeadline
        case 2: MSR.x2apicFirst + UInt32(random.below(0x40))
        default: UInt32(truncatingIfNeeded: random.next())
        }
    }

    @Test(arguments: UInt64(1)...12)
    func `random accesses neither trap nor depend on anything but the seed`(seed: UInt64) {
        let first = run(seed: seed, steps: 20_000)
        #expect(first == run(seed: seed, steps: 20_000))
        #expect(first != run(seed: seed + 100, steps: 20_000))
    }

    /// However a guest sets its timers, following `nextEvent` must get on: a timer that is always
    /// due would hold the machine still.
    @Test(arguments: UInt64(1)...12)
    func `following the timers always makes time pass`(seed: UInt64) throws {
        var random = Seeded(seed)
        let time = ManualTime()
        let chipset = Chipset(
            configuration: ChipsetConfiguration(memoryBytes: 1 << 30, startTime: 0), time: time,
            console: { _ in })
        let timers: [UInt16] = [0x40, 0x43, 0x70, 0x71, 0x602]
        for _ in 0..<300 {
            for _ in 0..<20 {
                chipset.output(
                    timers[Int(random.below(5))], UInt8(truncatingIfNeeded: random.next()))
            }
            for offset: UInt64 in [0xf0, 0x320, 0x3e0, 0x380] {
                chipset.writeMemory(
                    GuestPhysicalAddress(0xfee0_0000 + offset), size: 4,
                    value: offset == 0xf0 ? 0x1ff : random.below(0x80000), processor: 0)
            }
            _ = chipset.writeAPICRegister(
                MSR.tscDeadline, value: random.next() >> random.below(64), processor: 0)
            let start = time.now
            var events = 0
            while let next = chipset.nextEvent, events < 200, next < 1 << 62 {
                time.now = max(time.now, next)
                chipset.advance()
                if let after = chipset.nextEvent {
                    try #require(after > time.now, "an event that stays due")
                }
                events += 1
            }
            // Four timers, none faster than one microsecond (the 8254: two of its ticks).
            #expect(time.now - start >= UInt64(max(events - 8, 0) / 4) * 1000)
        }
    }
}
