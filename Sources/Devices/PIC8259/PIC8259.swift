import Snapshot

/// One 8259A interrupt controller.
///
/// Source: Intel 8259A data sheet (order 231468-003), "Initialization Command Words" and
/// "Operation Command Words". Only the 8086 mode exists: ICW4's µPM bit is taken as set. Trigger
/// modes come from ELCR, one bit an input, as in every PC since EISA; ICW1's LTIM is ignored
/// (Intel 82371AB data sheet, "ELCR1").
package final class PIC8259 {
    /// The input that a slave's output is wired to, as a bit; 0 in a slave.
    private let cascade: UInt8

    /// Interrupt Request, In-Service and Interrupt Mask Registers ("Functional Description").
    private(set) var requests: UInt8 = 0
    private(set) var inService: UInt8 = 0
    private(set) var mask: UInt8 = 0xff
    /// The inputs as they are now.
    private var levels: UInt8 = 0
    /// ELCR: the inputs that are level-triggered.
    private(set) var levelTriggered: UInt8 = 0
    /// The inputs that ELCR may make level-triggered.
    private let levelCapable: UInt8

    private var vectorBase: UInt8
    private let firmwareVectorBase: UInt8
    /// The input of the lowest priority; priorities fall from the one after it ("Specific
    /// Rotation").
    private var lowest: UInt8 = 7
    private var automaticEOI = false
    private var rotatesOnAutomaticEOI = false
    private var specialMask = false
    private var specialFullyNested = false
    private var readsInService = false
    private var polled = false

    /// What the next write to the data port is, after ICW1.
    private enum Initialization: UInt8 { case done, icw2, icw3, icw4 }
    private var initialization = Initialization.done
    private var single = false
    private var expectsICW4 = false

    /// - Parameters:
    ///   - isMaster: whether the slave hangs on input 2.
    ///   - vectorBase: the vector of input 0 that firmware leaves.
    init(isMaster: Bool, vectorBase: UInt8) {
        cascade = isMaster ? 1 << UInt8(PlatformMap.Interrupt.cascade) : 0
        // The 82371AB lets neither the timer, the keyboard, the cascade, the clock nor the FPU be
        // level-triggered.
        levelCapable = isMaster ? 0xf8 : 0xde
        self.vectorBase = vectorBase
        firmwareVectorBase = vectorBase
    }

    /// The state that PC firmware leaves: initialized, everything masked.
    func reset() {
        initialize()
        initialization = .done
        mask = 0xff
        levelTriggered = 0
        requests = 0
        vectorBase = firmwareVectorBase
        automaticEOI = false
        specialFullyNested = false
        rotatesOnAutomaticEOI = false
    }

    // MARK: Inputs and output

    /// Drives input `pin & 7`. An edge-triggered request goes away with its input, as the data
    /// sheet says: the input must stay high until the first INTA.
    func setInput(_ pin: Int, _ asserted: Bool) {
        let bit = UInt8(1) << UInt8(truncatingIfNeeded: pin & 7)
        let rises = asserted && levels & bit == 0
        if asserted { levels |= bit } else { levels &= ~bit }
        if !asserted {
            requests &= ~bit
        } else if rises || isLevel(bit) {
            requests |= bit
        }
    }

    /// The slave's output is wired to an input that follows it: a slave that still has a request
    /// after an INTA gives the master another edge.
    private func isLevel(_ bit: UInt8) -> Bool { (levelTriggered | cascade) & bit != 0 }

    func setLevelTriggered(_ bits: UInt8) {
        levelTriggered = bits & levelCapable
        requests |= levels & levelTriggered
    }

    /// The input to be served next, or nil: the INT output is asserted when there is one.
    var pending: Int? {
        guard let candidate = highest(of: requests & ~mask) else { return nil }
        var blocking = inService
        if specialMask { blocking &= ~mask }
        if specialFullyNested { blocking &= ~cascade }
        if let served = highest(of: blocking), rank(served) <= rank(candidate) { return nil }
        return Int(candidate)
    }

    /// The INTA cycle. Returns the input, or nil: there is none, and the vector is that of input
    /// 7 without its in-service bit ("Interrupt Sequence").
    func acknowledge() -> Int? {
        guard let pin = pending else { return nil }
        let bit = UInt8(1) << UInt8(truncatingIfNeeded: pin)
        if !isLevel(bit) { requests &= ~bit }
        if automaticEOI {
            if rotatesOnAutomaticEOI { lowest = UInt8(truncatingIfNeeded: pin) }
        } else {
            inService |= bit
        }
        return pin
    }

    /// The vector of an input; nil gives the spurious one's.
    func vector(of pin: Int?) -> UInt8 { vectorBase | UInt8(truncatingIfNeeded: pin ?? 7) & 7 }

    /// 0 is the highest priority.
    private func rank(_ pin: UInt8) -> UInt8 { (pin &- lowest &- 1) & 7 }

    private func highest(of bits: UInt8) -> UInt8? {
        guard bits != 0 else { return nil }
        for step in UInt8(1)...8 {
            let pin = (lowest &+ step) & 7
            if bits & (1 << pin) != 0 { return pin }
        }
        return nil
    }

    // MARK: Registers

    func readCommand() -> UInt8 {
        if polled { return poll() }
        return readsInService ? inService : requests
    }

    func readData() -> UInt8 { polled ? poll() : mask }

    /// The poll command makes the next read an INTA cycle ("Poll Command").
    private func poll() -> UInt8 {
        polled = false
        guard let pin = acknowledge() else { return 0 }
        return 0x80 | UInt8(truncatingIfNeeded: pin)
    }

    func writeCommand(_ value: UInt8) {
        if value & 0x10 != 0 {
            writeICW1(value)
        } else if value & 0x08 != 0 {
            writeOCW3(value)
        } else {
            writeOCW2(value)
        }
    }

    func writeData(_ value: UInt8) {
        switch initialization {
        case .done: mask = value  // OCW1
        case .icw2:
            vectorBase = value & 0xf8
            initialization = single ? (expectsICW4 ? .icw4 : .done) : .icw3
        case .icw3:
            // ICW3 says where the slave is; the wiring of a PC is fixed.
            initialization = expectsICW4 ? .icw4 : .done
        case .icw4:
            automaticEOI = value & 0x02 != 0  // AEOI
            specialFullyNested = value & 0x10 != 0  // SFNM
            initialization = .done
        }
    }

    private func writeICW1(_ value: UInt8) {
        initialize()
        single = value & 0x02 != 0  // SNGL
        expectsICW4 = value & 0x01 != 0  // IC4
        if !expectsICW4 {
            automaticEOI = false
            specialFullyNested = false
        }
    }

    /// What ICW1 does by itself ("Initialization Command Words", a…e).
    private func initialize() {
        // The edge-sense circuit is reset: an input must rise again to make a request.
        requests = levels & (levelTriggered | cascade)
        mask = 0
        inService = 0
        lowest = 7
        specialMask = false
        readsInService = false
        polled = false
        initialization = .icw2
    }

    private func writeOCW3(_ value: UInt8) {
        polled = value & 0x04 != 0  // P
        if value & 0x02 != 0 { readsInService = value & 0x01 != 0 }  // RR, RIS
        if value & 0x40 != 0 { specialMask = value & 0x20 != 0 }  // ESMM, SMM
    }

    /// OCW2: bits 7…5 are R, SL and EOI, bits 2…0 the level that SL names.
    private func writeOCW2(_ value: UInt8) {
        let level = value & 7
        switch value >> 5 {
        case 0b000: rotatesOnAutomaticEOI = false
        case 0b100: rotatesOnAutomaticEOI = true
        case 0b001, 0b101:
            // A non-specific EOI ends the highest in service; special mask mode hides masked ones.
            let visible = specialMask ? inService & ~mask : inService
            guard let served = highest(of: visible) else { return }
            inService &= ~(1 << served)
            if value & 0x80 != 0 { lowest = served }
        case 0b011: inService &= ~(1 << level)
        case 0b111:
            inService &= ~(1 << level)
            lowest = level
        case 0b110: lowest = level
        default: break  // 010: no operation
        }
    }
}

// MARK: Saved machines

extension PIC8259 {
    func save(to writer: inout FieldWriter) {
        for register in [requests, inService, mask, levels, levelTriggered, vectorBase, lowest] {
            writer.put(register)
        }
        for flag in [
            automaticEOI, rotatesOnAutomaticEOI, specialMask, specialFullyNested, readsInService,
            polled, single, expectsICW4,
        ] {
            writer.put(flag)
        }
        writer.put(initialization.rawValue)
    }

    func restore(from reader: inout FieldReader) throws(FieldError) {
        requests = try reader.get("IRR")
        inService = try reader.get("ISR")
        mask = try reader.get("IMR")
        levels = try reader.get("8259 inputs")
        levelTriggered = try reader.get("ELCR", mask: levelCapable)
        vectorBase = try reader.get("ICW2", mask: 0xf8)
        lowest = try reader.get("lowest priority", in: 0...7)
        automaticEOI = try reader.flag("AEOI")
        rotatesOnAutomaticEOI = try reader.flag("rotation in AEOI")
        specialMask = try reader.flag("SMM")
        specialFullyNested = try reader.flag("SFNM")
        readsInService = try reader.flag("RIS")
        polled = try reader.flag("poll command")
        single = try reader.flag("SNGL")
        expectsICW4 = try reader.flag("IC4")
        guard let next = Initialization(rawValue: try reader.get("8259 initialization")) else {
            throw .badValue("8259 initialization")
        }
        initialization = next
    }
}
