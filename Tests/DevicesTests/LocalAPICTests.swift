import Devices
import Testing
import X86

/// A bus that notes what is sent and delivers nothing.
private final class NotingBus: InterruptMessageBus {
    var messages: [InterruptMessage] = []
    var ended: [UInt8] = []
    func send(_ message: InterruptMessage) -> Bool {
        messages.append(message)
        return true
    }
    func broadcastEndOfInterrupt(_ vector: UInt8) { ended.append(vector) }
}

@Suite struct LocalAPICTests {
    let time = ManualTime()
    let signals = MachineSignals()
    private let bus = NotingBus()
    let apic: LocalAPIC

    init() {
        apic = Self.make(2, time, signals)
        apic.bus = bus
        enable()
    }

    static func make(_ processor: Int, _ time: ManualTime, _ signals: MachineSignals) -> LocalAPIC {
        LocalAPIC(
            processor: processor, time: time, signals: signals,
            tsc: Frequency(hertz: 2_000_000_000), crystal: Frequency(hertz: 25_000_000),
            physicalAddressBits: 40)
    }

    func get(_ offset: UInt32) -> UInt32 { apic.readRegister(offset, size: 4) }
    func set(_ offset: UInt32, _ value: UInt32) {
        apic.writeRegister(offset, size: 4, value: value)
    }
    func enable() { set(0xf0, 0x1ff) }
    func request(_ vector: UInt8, level: Bool = false) -> Bool {
        apic.accept(.fixed, vector: vector, isLevel: level)
    }

    @Test func `without x2APIC its bit of the base register is reserved`() {
        let plain = LocalAPIC(
            processor: 0, time: time, signals: signals, tsc: Frequency(hertz: 1_000_000_000),
            crystal: Frequency(hertz: 25_000_000), physicalAddressBits: 40, hasX2APIC: false)
        #expect(!plain.writeModelSpecific(0x1b, 0xfee0_0d00))
        #expect(plain.writeModelSpecific(0x1b, 0xfee0_0900))
    }

    @Test func `an NMI may be sent to oneself and to all by shorthand`() {
        for shorthand in 1...2 as ClosedRange<UInt32> {
            set(0x300, shorthand << 18 | 4 << 8 | 1 << 14)
        }
        #expect(
            bus.messages == [
                InterruptMessage(
                    destination: .physical(2, wide: true), mode: .nonMaskable, vector: 0),
                InterruptMessage(destination: .all, mode: .nonMaskable, vector: 0),
            ])
    }

    // MARK: Registers

    @Test func `after reset it is disabled by software with every local vector masked`() {
        apic.reset()
        #expect(get(0x20) == 2 << 24)
        #expect(get(0x30) & 0xff == 0x14)
        #expect(get(0x30) >> 16 & 0xff == 5)
        #expect(get(0xe0) == 0xffff_ffff)
        #expect(get(0xf0) == 0xff)
        for offset in stride(from: UInt32(0x320), through: 0x370, by: 16) {
            #expect(get(offset) == 0x10000)
        }
        #expect(!request(0x40))
    }

    @Test func `while disabled by software no local vector can be unmasked`() {
        set(0x350, 0x700)
        #expect(get(0x350) == 0x700)
        set(0xf0, 0xff)
        #expect(get(0x350) == 0x10700)
        set(0x350, 0x700)
        #expect(get(0x350) == 0x10700)
    }

    @Test func `reserved bits and read-only registers are not written`() {
        set(0x320, 0xffff_ffff)
        #expect(get(0x320) == 0x700ff)
        set(0x360, 0xffff_ffff)
        #expect(get(0x360) == 0x1a7ff)
        set(0x20, 0)
        #expect(get(0x20) == 2 << 24)
        apic.writeRegister(0x80, size: 1, value: 0x30)
        apic.writeRegister(0x81, size: 4, value: 0x30)
        #expect(get(0x80) == 0)
        #expect(apic.readRegister(0x23, size: 1) == 2)
    }

    @Test func `touching a register that does not exist is an error, told after ESR is written`() {
        #expect(get(0x3d0) == 0)
        #expect(get(0x280) == 0)
        set(0x280, 0)
        #expect(get(0x280) == 0x80)
        set(0x280, 0)
        #expect(get(0x280) == 0)
    }

    @Test func `an error raises the error interrupt once`() {
        set(0x370, 0xfe)
        _ = get(0x3d0)
        _ = get(0x3d0)
        #expect(apic.acknowledge() == 0xfe)
        #expect(apic.acknowledge() == nil)
    }

    @Test func `an error vector that is an error itself does no harm`() {
        set(0x370, 0x05)
        #expect(!request(0x0f))
        set(0x280, 0)
        #expect(get(0x280) == 0x40)
    }

    // MARK: Priorities

    @Test func `the highest vector is delivered first, and holds back its class`() {
        for vector: UInt8 in [0x31, 0x55, 0x52, 0xff, 0x10] { #expect(request(vector)) }
        #expect(apic.acknowledge() == 0xff)
        #expect(!apic.hasInterrupt)
        #expect(get(0xa0) == 0xf0)
        set(0xb0, 0)
        #expect(apic.acknowledge() == 0x55)
        #expect(!apic.hasInterrupt, "0x52 is of the class in service")
        #expect(request(0x61))
        #expect(apic.acknowledge() == 0x61)
        set(0xb0, 0)
        set(0xb0, 0)
        #expect(apic.acknowledge() == 0x52)
    }

    @Test func `the task priority holds back its class and those below`() {
        #expect(request(0x45))
        set(0x80, 0x40)
        #expect(!apic.hasInterrupt)
        #expect(apic.acknowledge() == nil)
        set(0x80, 0x3f)
        #expect(apic.hasInterrupt)
        #expect(get(0xa0) == 0x3f)
        apic.taskPriorityClass = 4
        #expect(get(0x80) == 0x40)
        #expect(apic.taskPriorityClass == 4)
        apic.taskPriorityClass = 0xff
        #expect(apic.taskPriorityClass == 15)
    }

    @Test func `requests and service show in their registers`() {
        #expect(request(0x45))
        #expect(request(0xe1, level: true))
        #expect(get(0x220) == 1 << 5)
        #expect(get(0x270) == 1 << 1)
        #expect(get(0x1f0) == 1 << 1)
        #expect(apic.acknowledge() == 0xe1)
        #expect(get(0x270) == 0)
        #expect(get(0x170) == 1 << 1)
    }

    @Test func `vectors below 16 are refused`() {
        for vector: UInt8 in 0..<16 { #expect(!request(vector)) }
        #expect(request(16))
        set(0x280, 0)
        #expect(get(0x280) == 0x40)
    }

    @Test func `only the end of a level-triggered interrupt is broadcast, unless suppressed`() {
        #expect(request(0x50))
        #expect(apic.acknowledge() == 0x50)
        set(0xb0, 0)
        #expect(bus.ended.isEmpty)
        #expect(request(0x50, level: true))
        #expect(apic.acknowledge() == 0x50)
        set(0xb0, 0)
        #expect(bus.ended == [0x50])
        set(0xf0, 0x11ff)
        #expect(request(0x50, level: true))
        #expect(apic.acknowledge() == 0x50)
        set(0xb0, 0)
        set(0xb0, 0)
        #expect(bus.ended == [0x50])
    }

    // MARK: IA32_APIC_BASE

    @Test func `the modes change only as the manual's figure allows`() {
        let page: UInt64 = 0xfee0_0000
        let (off, on, extended) = (page, page | 0x800, page | 0xc00)
        func write(_ value: UInt64) -> Bool { apic.writeModelSpecific(MSR.apicBase, value) }
        #expect(apic.readModelSpecific(MSR.apicBase) == on)
        #expect(!write(page | 0x400), "EXTD without EN")
        #expect(write(off))
        #expect(!write(extended), "disabled to x2APIC")
        #expect(write(on))
        #expect(write(extended))
        #expect(write(extended))
        #expect(!write(on), "x2APIC to xAPIC")
        #expect(!write(page | 0x400))
        #expect(write(off))
        #expect(write(on))
    }

    @Test func `reserved bits of the base are refused, and BSP is for reading`() {
        for bit: UInt64 in [0, 7, 9, 40, 63] {
            #expect(!apic.writeModelSpecific(MSR.apicBase, 0xfee0_0800 | 1 << bit))
        }
        #expect(apic.writeModelSpecific(MSR.apicBase, 0xfee0_0900))
        #expect(apic.readModelSpecific(MSR.apicBase) == 0xfee0_0800)
        let first = Self.make(0, time, signals)
        #expect(first.readModelSpecific(MSR.apicBase) == 0xfee0_0900)
    }

    @Test func `the page moves with the base and goes with xAPIC mode`() {
        #expect(apic.registerPage == GuestPhysicalAddress(0xfee0_0000))
        #expect(apic.writeModelSpecific(MSR.apicBase, 0x1_2345_6800))
        #expect(apic.registerPage == GuestPhysicalAddress(0x1_2345_6000))
        #expect(apic.writeModelSpecific(MSR.apicBase, 0x1_2345_6c00))
        #expect(apic.registerPage == nil)
    }

    // MARK: x2APIC

    func extend() { #expect(apic.writeModelSpecific(MSR.apicBase, 0xfee0_0c00)) }

    @Test func `x2APIC registers are #GP outside x2APIC mode`() {
        for register in MSR.x2apicFirst...MSR.x2apicLast {
            #expect(apic.readModelSpecific(register) == nil)
            #expect(!apic.writeModelSpecific(register, 0))
        }
        #expect(apic.readModelSpecific(0x10) == nil)
    }

    @Test func `the x2APIC registers that can be read and written are those of the table`() {
        extend()
        var readable: [UInt32] = [0x802, 0x803, 0x808, 0x80a, 0x80d, 0x80f, 0x828, 0x830]
        readable += Array(0x810...0x827) + Array(0x832...0x839) + [0x83e]
        let writable: [UInt32] =
            [0x808, 0x80b, 0x80f, 0x828, 0x830] + Array(0x832...0x838) + [0x83e, 0x83f]
        for register in MSR.x2apicFirst...MSR.x2apicLast {
            #expect((apic.readModelSpecific(register) != nil) == readable.contains(register))
            let value: UInt64 = register == 0x83f ? 0x20 : 0
            #expect(
                apic.writeModelSpecific(register, value) == writable.contains(register),
                "\(register)")
        }
    }

    @Test func `reserved bits of x2APIC registers are #GP`() {
        extend()
        for (register, value) in [
            (0x808, 0x100), (0x80b, 1), (0x828, 1), (0x80f, 0x800), (0x832, 0x80000),
            (0x835, 0x20000), (0x838, 1 << 32), (0x83e, 4), (0x83f, 0x100), (0x830, 1 << 20),
        ] as [(UInt32, UInt64)] {
            #expect(!apic.writeModelSpecific(register, value), "\(register)")
        }
    }

    @Test func `identity in x2APIC mode`() {
        extend()
        #expect(apic.readModelSpecific(0x802) == 2)
        #expect(apic.readModelSpecific(0x80d) == 4)
    }

    @Test func `the self-interrupt register requests edge-triggered`() {
        extend()
        #expect(apic.writeModelSpecific(0x83f, 0x77))
        #expect(apic.acknowledge() == 0x77)
        #expect(apic.writeModelSpecific(0x80b, 0))
        #expect(bus.ended.isEmpty)
    }

    // MARK: Destinations

    @Test func `physical destinations`() {
        #expect(apic.matches(.physical(2, wide: false)))
        #expect(!apic.matches(.physical(3, wide: false)))
        #expect(apic.matches(.physical(0xff, wide: false)))
        #expect(!apic.matches(.physical(0xff, wide: true)))
        #expect(apic.matches(.physical(.max, wide: true)))
        #expect(apic.matches(.all))
        #expect(apic.matches(.others(than: 1)))
        #expect(!apic.matches(.others(than: 2)))
    }

    @Test func `flat and cluster logical destinations`() {
        #expect(!apic.matches(.logical(0x04, wide: false)))
        set(0xd0, 0x0600_0000)
        #expect(apic.matches(.logical(0x04, wide: false)))
        #expect(!apic.matches(.logical(0x18, wide: false)))
        #expect(apic.matches(.logical(0xff, wide: false)))
        set(0xe0, 0x0fff_ffff)
        set(0xd0, 0x3200_0000)
        #expect(apic.matches(.logical(0x32, wide: false)))
        #expect(!apic.matches(.logical(0x31, wide: false)))
        #expect(!apic.matches(.logical(0x22, wide: false)))
        #expect(apic.matches(.logical(0xf2, wide: false)))
    }

    @Test func `x2APIC logical destinations`() {
        extend()
        #expect(apic.matches(.logical(0x0000_0004, wide: true)))
        #expect(!apic.matches(.logical(0x0000_0008, wide: true)))
        #expect(!apic.matches(.logical(0x0001_0004, wide: true)))
        #expect(apic.matches(.logical(.max, wide: true)))
    }

    // MARK: Commands

    @Test func `the command register sends what it says`() {
        set(0x310, 0x0500_0000)
        set(0x300, 0x0004_0041)
        set(0x300, 0x0008_00fd)
        set(0x300, 0x000c_0041)
        set(0x300, 0x0000_0841)
        set(0x300, 0x0000_c500)
        set(0x300, 0x0000_8500)  // INIT level de-assert
        set(0x300, 0x0000_4608)
        set(0x300, 0x0000_0400)
        #expect(
            bus.messages == [
                InterruptMessage(
                    destination: .physical(2, wide: true), mode: .fixed, vector: 0x41),
                InterruptMessage(destination: .all, mode: .fixed, vector: 0xfd),
                InterruptMessage(destination: .others(than: 2), mode: .fixed, vector: 0x41),
                InterruptMessage(
                    destination: .logical(5, wide: false), mode: .fixed, vector: 0x41),
                InterruptMessage(
                    destination: .physical(5, wide: false), mode: .initialize, vector: 0),
                InterruptMessage(
                    destination: .physical(5, wide: false), mode: .startup, vector: 8),
                InterruptMessage(
                    destination: .physical(5, wide: false), mode: .nonMaskable, vector: 0),
            ])
        #expect(get(0x300) == 0x400)
        #expect(get(0x310) == 0x0500_0000)
    }

    @Test func `in x2APIC mode one write sends to a 32-bit destination`() {
        extend()
        #expect(apic.writeModelSpecific(0x830, 0x0001_0003_0000_0841))
        #expect(
            bus.messages == [
                InterruptMessage(
                    destination: .logical(0x1_0003, wide: true), mode: .fixed, vector: 0x41)
            ])
        #expect(apic.readModelSpecific(0x830) == 0x0001_0003_0000_0841)
    }

    @Test func `in x2APIC mode remote IRR is reserved in local vectors that have none`() {
        extend()
        for register in 0x832...0x837 as ClosedRange<UInt32> {
            let isInput = register == 0x835 || register == 0x836
            #expect(apic.writeModelSpecific(register, 1 << 14 | 1 << 16) == isInput)
        }
    }

    @Test func `illegal commands send nothing`() {
        set(0x300, 0x0005)  // vector 5
        set(0x300, 0x0004_0500)  // INIT to itself by shorthand
        set(0x300, 0x0008_0500)  // INIT to all by shorthand
        set(0x300, 0x0200)  // SMI
        set(0x300, 0x0700)  // ExtINT
        #expect(bus.messages.isEmpty)
        set(0x280, 0)
        #expect(get(0x280) == 0x20)
    }

    @Test func `a start-up interrupt is heard once after INIT`() {
        #expect(apic.accept(.startup, vector: 7, isLevel: false))
        #expect(apic.takeStartup() == .startup(vector: 7))
        #expect(apic.accept(.startup, vector: 8, isLevel: false))
        #expect(apic.takeStartup() == nil)
        #expect(request(0x40))
        #expect(apic.accept(.initialize, vector: 0, isLevel: false))
        #expect(apic.accept(.startup, vector: 9, isLevel: false))
        #expect(apic.accept(.startup, vector: 10, isLevel: false))
        #expect(apic.takeStartup() == .initialize)
        #expect(apic.takeStartup() == .startup(vector: 9))
        #expect(apic.takeStartup() == nil)
        #expect(!apic.hasInterrupt)
        #expect(get(0xf0) == 0xff)
    }

    @Test func `an NMI waits until it is taken`() {
        set(0xf0, 0xff)
        #expect(apic.accept(.nonMaskable, vector: 0, isLevel: false))
        #expect(apic.takeNonMaskable())
        #expect(!apic.takeNonMaskable())
    }

    // MARK: LINT0

    @Test func `the bootstrap processor starts in virtual wire mode`() {
        let first = Self.make(0, time, signals)
        first.setExternalInterrupt(true)
        #expect(first.externalInterruptAsserted)
        first.writeRegister(0xf0, size: 4, value: 0x1ff)
        first.writeRegister(0x350, size: 4, value: 0x10700)
        #expect(!first.externalInterruptAsserted)
        #expect(first.writeModelSpecific(MSR.apicBase, 0xfee0_0000))
        #expect(first.externalInterruptAsserted, "without an APIC the pin is INTR")
    }

    @Test func `LINT0 as a fixed edge, a fixed level and an NMI`() {
        set(0x350, 0x41)
        apic.setExternalInterrupt(true)
        apic.setExternalInterrupt(true)
        #expect(apic.acknowledge() == 0x41)
        set(0xb0, 0)
        #expect(!apic.hasInterrupt)
        set(0x350, 0x8042)
        #expect(get(0x350) == 0xc042)
        #expect(apic.acknowledge() == 0x42)
        set(0xb0, 0)
        #expect(apic.acknowledge() == 0x42, "still asserted")
        apic.setExternalInterrupt(false)
        set(0xb0, 0)
        #expect(!apic.hasInterrupt)
        set(0x350, 0x400)
        apic.setExternalInterrupt(true)
        #expect(apic.takeNonMaskable())
    }
}

@Suite struct VectorSetTests {
    @Test func `a vector is in the set between its insertion and its removal`() {
        for vector in UInt8.min...UInt8.max {
            var set = VectorSet()
            #expect(set.highest == nil)
            set.insert(vector)
            #expect(set.highest == vector && set.contains(vector))
            #expect(set.word(Int(vector) / 32) == 1 << (UInt32(vector) % 32))
            set.insert(0)
            #expect(set.highest == vector)
            set.remove(vector)
            #expect(!set.contains(vector))
        }
    }
}
