import Snapshot

/// ACPI's fixed hardware: the PM1a event and control blocks and the power-management timer.
///
/// Source: ACPI Specification 6.4, section 4.8.3, "ACPI Register Model". The machine is always in
/// ACPI mode (the FADT names no SMI command port), so SCI_EN reads 1. The only sleep state is
/// soft-off: SLP_EN with any SLP_TYP enters it.
package final class PowerManagement: PortDevice {
    /// The power-management timer's clock (4.8.3.3).
    package static let timer = Frequency(hertz: 3_579_545)
    /// Bits of the timer's value: TMR_VAL_EXT is clear in the FADT.
    private static let timerBits: UInt64 = 24

    /// PM1 status and enable bits (4.8.3.1.1, 4.8.3.1.2).
    private enum Event {
        static let timer: UInt16 = 1 << 0  // TMR_STS, TMR_EN
        static let global: UInt16 = 1 << 5  // GBL_STS, GBL_EN
        static let powerButton: UInt16 = 1 << 8  // PWRBTN_STS, PWRBTN_EN
        static let sleepButton: UInt16 = 1 << 9  // SLPBTN_STS, SLPBTN_EN
        static let clock: UInt16 = 1 << 10  // RTC_STS, RTC_EN
        static let all: UInt16 = timer | global | powerButton | sleepButton | clock
    }

    /// PM1 control bits (4.8.3.2.1).
    private enum Control {
        static let interruptEnable: UInt16 = 1 << 0  // SCI_EN
        static let busMasterReload: UInt16 = 1 << 1  // BM_RLD
        static let sleepType: UInt16 = 7 << 10  // SLP_TYPx
        static let sleepEnable: UInt16 = 1 << 13  // SLP_EN, write only
    }

    private let time: any TimeSource
    private let signals: MachineSignals
    private let interrupt: Line
    private var status: UInt16 = 0
    private var enable: UInt16 = 0
    private var control: UInt16 = 0
    /// The timer's ticks when TMR_STS was last brought up to date.
    private var settled: UInt64 = 0
    private var asserted = false

    /// When the timer next raises the SCI, in nanoseconds; nil if it will not.
    package private(set) var nextEvent: UInt64?

    /// - Parameter interrupt: the system control interrupt, a level.
    package init(time: any TimeSource, signals: MachineSignals, interrupt: @escaping Line) {
        self.time = time
        self.signals = signals
        self.interrupt = interrupt
    }

    package func reset() {
        status = 0
        enable = 0
        control = 0
        settled = ticks
        update()
    }

    private var ticks: UInt64 { Self.timer.ticks(at: time.now) }

    /// Raises the SCI if the timer's turn has come.
    package func advance() {
        guard let next = nextEvent, next <= time.now else { return }
        settle()
        update()
    }

    /// TMR_STS is set whenever the timer's highest bit changes.
    private func settle() {
        let now = ticks
        if now >> (Self.timerBits - 1) != settled >> (Self.timerBits - 1) { status |= Event.timer }
        settled = now
    }

    private func update() {
        let pending = status & enable != 0
        if pending != asserted {
            asserted = pending
            interrupt(pending)
        }
        var next: UInt64?
        if !pending && enable & Event.timer != 0 {
            let half = (ticks >> (Self.timerBits - 1)) &+ 1
            next = Self.timer.time(ofTick: half << (Self.timerBits - 1))
        }
        if next != nextEvent {
            nextEvent = next
            signals.interruptsChanged = true
        }
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        settle()
        var value: UInt32 = 0
        for index in 0..<UInt16(size & 7) {
            value |= UInt32(readByte(port &+ index)) << UInt32(8 * index)
        }
        return value
    }

    private func readByte(_ port: UInt16) -> UInt8 {
        let (register, high) = (port & ~1, port & 1 != 0)
        let value: UInt16
        switch register {
        case PlatformMap.Port.pm1aEvent: value = status
        case PlatformMap.Port.pm1aEvent + 2: value = enable
        case PlatformMap.Port.pm1aControl: value = control | Control.interruptEnable
        case PlatformMap.Port.pmTimer: value = UInt16(truncatingIfNeeded: ticks)
        case PlatformMap.Port.pmTimer + 2: value = UInt16(truncatingIfNeeded: ticks >> 16 & 0xff)
        default: value = 0
        }
        return UInt8(truncatingIfNeeded: high ? value >> 8 : value)
    }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        settle()
        for index in 0..<UInt16(size & 7) {
            let byte = UInt8(truncatingIfNeeded: value >> UInt32(8 * index))
            writeByte(port &+ index, byte)
        }
        update()
    }

    private func writeByte(_ port: UInt16, _ byte: UInt8) {
        let shift = 8 * (port & 1)
        let value = UInt16(byte) << shift
        let kept = ~(UInt16(0xff) << shift)
        switch port & ~1 {
        case PlatformMap.Port.pm1aEvent: status &= ~value  // a 1 clears
        case PlatformMap.Port.pm1aEvent + 2: enable = (enable & kept | value) & Event.all
        case PlatformMap.Port.pm1aControl:
            control = (control & kept | value) & (Control.sleepType | Control.busMasterReload)
            if value & Control.sleepEnable != 0 { signals.raise(.powerOff) }
        default: break
        }
    }
}

// MARK: Saved machines

extension PowerManagement {
    package func save(to writer: inout FieldWriter) {
        writer.put(status)
        writer.put(enable)
        writer.put(control)
        writer.put(settled)
        writer.put(asserted)
        writer.put(optional: nextEvent)
    }

    /// Takes on a saved state. The line is not driven: what it leads to has been saved too.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        status = try reader.get("PM1 status", mask: Event.all)
        enable = try reader.get("PM1 enable", mask: Event.all)
        control = try reader.get("PM1 control", mask: Control.sleepType | Control.busMasterReload)
        settled = try reader.get("PM timer", in: 0...ticks)
        asserted = try reader.flag("system control interrupt line")
        nextEvent = try reader.optional("next PM timer interrupt")
    }
}
